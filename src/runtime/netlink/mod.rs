//! Links, addresses, routes and neighbours: read from the kernel, and set in it, over rtnetlink (RFC 3549).
//!
//! | file | what |
//! | --- | --- |
//! | `connection` | one socket: a request, and all messages of its answer |
//! | `query` | [`interface`], [`routes`], [`neighbours`], [`resolve`]: what the stack needs to know |
//! | `monitor` | [`NeighbourMonitor`]: what changes while it runs |
//! | `link` | [`create_veth`] and friends: what a lab is made of |
//!
//! Every function works in the network namespace of the calling thread.
#![forbid(unsafe_code)]

mod connection;
mod link;
mod monitor;
mod query;

pub use connection::NetlinkError;
pub use link::{Veth, VethEnd, add_address, create_veth, delete_link, set_up};
pub use monitor::{NeighbourChange, NeighbourMonitor};
pub use query::{Interface, Route, interface, neighbours, resolve, routes};
