//! What names a connection: the four-tuple on the wire, a generation-checked handle inside.
#![forbid(unsafe_code)]

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The two addresses of a connection, from our point of view: of one family, by construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddrPair {
    /// Both are IPv4, in the order of a packet that arrives: so they are read and written at once.
    V4 {
        /// The peer's address.
        remote: Ipv4Addr,
        /// Our address.
        local: Ipv4Addr,
    },
    /// Both are IPv6.
    V6 {
        /// Our address.
        local: Ipv6Addr,
        /// The peer's address.
        remote: Ipv6Addr,
    },
}

impl AddrPair {
    /// The pair of `local` and `remote`; `None` where their families differ.
    pub const fn new(local: IpAddr, remote: IpAddr) -> Option<Self> {
        match (local, remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => Some(Self::V4 { local, remote }),
            (IpAddr::V6(local), IpAddr::V6(remote)) => Some(Self::V6 { local, remote }),
            _ => None,
        }
    }

    /// Whether `addr` is our address.
    pub fn has_local(&self, addr: &IpAddr) -> bool {
        match (self, addr) {
            (Self::V4 { local, .. }, IpAddr::V4(addr)) => local == addr,
            (Self::V6 { local, .. }, IpAddr::V6(addr)) => local == addr,
            _ => false,
        }
    }

    /// Whether both are the same.
    pub fn are_one(&self) -> bool {
        match self {
            Self::V4 { local, remote } => local == remote,
            Self::V6 { local, remote } => local == remote,
        }
    }

    /// Our address.
    pub const fn local(&self) -> IpAddr {
        match *self {
            Self::V4 { local, .. } => IpAddr::V4(local),
            Self::V6 { local, .. } => IpAddr::V6(local),
        }
    }

    /// The peer's address.
    pub const fn remote(&self) -> IpAddr {
        match *self {
            Self::V4 { remote, .. } => IpAddr::V4(remote),
            Self::V6 { remote, .. } => IpAddr::V6(remote),
        }
    }
}

/// A connection's local and remote socket (RFC 9293 §3.4.1), from our point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Both addresses.
    pub addrs: AddrPair,
    /// Our port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
}

impl FlowKey {
    /// The key of two sockets; `None` where their families differ.
    pub const fn new(local: SocketAddr, remote: SocketAddr) -> Option<Self> {
        match AddrPair::new(local.ip(), remote.ip()) {
            Some(addrs) => Some(Self { addrs, local_port: local.port(), remote_port: remote.port() }),
            None => None,
        }
    }

    /// Our address.
    pub const fn local(&self) -> IpAddr {
        self.addrs.local()
    }

    /// The peer's address.
    pub const fn remote(&self) -> IpAddr {
        self.addrs.remote()
    }

    /// Whether it is a connection over IPv4.
    pub const fn is_ipv4(&self) -> bool {
        matches!(self.addrs, AddrPair::V4 { .. })
    }

    /// Whether both sockets are the same.
    pub fn is_to_itself(&self) -> bool {
        self.local_port == self.remote_port && self.addrs.are_one()
    }

    /// Our socket.
    pub const fn local_addr(&self) -> SocketAddr {
        SocketAddr::new(self.local(), self.local_port)
    }

    /// The peer's socket.
    pub const fn remote_addr(&self) -> SocketAddr {
        SocketAddr::new(self.remote(), self.remote_port)
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
