//! What names a connection: the four-tuple on the wire, a generation-checked handle inside.
#![forbid(unsafe_code)]

use core::net::{IpAddr, SocketAddr};

/// A connection's local and remote socket (RFC 9293 §3.4.1), from our point of view.
///
/// Both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Our address.
    pub local: IpAddr,
    /// The peer's address.
    pub remote: IpAddr,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl FlowKey {
    /// Our socket.
    pub const fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.local, self.local_port)
    }

    /// The peer's socket.
    pub const fn remote_addr(&self) -> SocketAddr {
        SocketAddr::new(self.remote, self.remote_port)
    }
}

/// A handle to a connection: a slot and the slot's generation.
///
/// A handle that outlived its connection is told apart from the slot's next user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl FlowId {
    /// The slot, below `Limits::flows_max`: small enough to index an application's own table.
    pub const fn index(self) -> u32 {
        self.index
    }
}
