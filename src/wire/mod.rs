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
//! | [`tcp`] | [`TcpView`], [`Control`] | RFC 9293 §3.1 |
//! | `tcp_options` | [`TcpOptions`] | RFC 9293 §3.2, RFC 7323, RFC 2018 |
//! | [`checksum`] | [`Sum`], pseudo-headers | RFC 1071 |
#![forbid(unsafe_code)]

pub mod checksum;
pub mod ethernet;
pub mod tcp;
mod tcp_options;

pub use checksum::Sum;
pub use ethernet::{EthernetView, Mac};
pub use tcp::{Control, TcpFields, TcpHeader, TcpView};
pub use tcp_options::{SackBlocks, TcpOptions, Timestamps};
