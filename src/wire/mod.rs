//! Header views and checksums; knows octets, not connections.
//!
//! A view is a borrow of octets whose lengths were checked once, by its `parse`: no accessor of a view
//! fails afterwards. `parse` says why something is of no use as a [`DropReason`](crate::base::DropReason);
//! no octets make it panic. `emit` writes a header at the start of a buffer and returns its length; it
//! panics if the buffer is too short, which is the caller's bug.
//!
//! | file | what | source |
//! | --- | --- | --- |
//! | [`ethernet`] | [`Mac`], [`EthernetView`]: Ethernet II, one VLAN tag | IEEE 802.3, 802.1Q |
//! | [`ip`] | [`IpView`]: either of the next two | |
//! | [`ipv4`] | [`Ipv4View`] | RFC 791 |
//! | [`ipv6`] | [`Ipv6View`], extension headers | RFC 8200 |
//! | [`icmp`] | [`IcmpError`]: errors that quote TCP | RFC 792, RFC 4443 |
//! | [`tcp`] | [`TcpView`], [`Control`] | RFC 9293 §3.1 |
//! | `tcp_options` | [`TcpOptions`] | RFC 9293 §3.2, RFC 7323, RFC 2018 |
//! | [`checksum`] | [`Sum`], pseudo-headers | RFC 1071 |
#![forbid(unsafe_code)]

pub mod checksum;
pub mod ethernet;
pub mod icmp;
pub mod ip;
pub mod ipv4;
pub mod ipv6;
#[cfg(test)]
mod robustness;
pub mod tcp;
mod tcp_options;

pub use checksum::Sum;
pub use ethernet::{EthernetView, Mac};
pub use icmp::{IcmpError, IcmpKind, Quoted};
pub use ip::{CE, ECT_0, IpView, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP};
pub use ipv4::{Ipv4Fields, Ipv4Header, Ipv4View};
pub use ipv6::{Ipv6Fields, Ipv6Header, Ipv6View};
pub use tcp::{Control, TcpFields, TcpHeader, TcpView};
pub use tcp_options::{SackBlocks, TcpOptions, Timestamps};
