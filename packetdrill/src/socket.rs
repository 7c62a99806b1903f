//! One socket: what its owner has set, and what it stands for.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use ringroad::tcp::{FlowOptions, KeepAlive};

use crate::errno::{Outcome, fail};
use crate::flags::Flags;
use crate::table::{ConnId, QueueId};

/// What a socket stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Nothing yet.
    Fresh,
    /// A listener and its queue.
    Listening(QueueId),
    /// A connection, from SYN-SENT on, even after it is over.
    Connected(ConnId),
}

/// One socket.
#[derive(Clone, Debug)]
pub struct Sock {
    /// It was made for IPv6, so that IPv4 addresses are mapped.
    pub v6: bool,
    /// IPV6_V6ONLY.
    pub v6_only: bool,
    /// O_NONBLOCK.
    pub nonblocking: bool,
    /// SO_REUSEADDR.
    pub reuse: bool,
    /// The local socket; mapped addresses as IPv4.
    pub bound: Option<SocketAddr>,
    /// What it stands for.
    pub role: Role,
    /// The engine's settings.
    pub options: FlowOptions,
    /// SO_KEEPALIVE's times, also while it is off.
    pub keep: KeepAlive,
    /// SO_LINGER.
    pub linger: Option<Duration>,
    /// SO_RCVTIMEO and SO_SNDTIMEO.
    pub timeouts: [Option<Duration>; 2],
    /// `shutdown` for reading.
    pub shut_read: bool,
    /// `shutdown` for writing.
    pub shut_write: bool,
    /// `connect` has told how it went.
    pub told: bool,
    /// Settings that the engine's listener does not have, as they came later.
    pub late_options: bool,
}

impl Sock {
    /// A new one.
    pub const fn new(v6: bool, nonblocking: bool, flags: &Flags) -> Self {
        Self {
            v6,
            v6_only: false,
            nonblocking,
            reuse: false,
            bound: None,
            role: Role::Fresh,
            options: flags.options,
            keep: flags.keep,
            linger: None,
            timeouts: [None; 2],
            shut_read: false,
            shut_write: false,
            told: false,
            late_options: false,
        }
    }

    /// One that `accept` returns: settings are the listener's.
    pub fn accepted(&self, conn: ConnId) -> Self {
        Self { role: Role::Connected(conn), nonblocking: false, timeouts: self.timeouts, ..self.clone() }
    }

    /// Whether it is shown as one of IPv6.
    pub fn is_wide(&self) -> bool {
        self.bound.map_or(self.v6, |addr| addr.is_ipv6())
    }

    /// An address that the owner gives, mapped ones as IPv4.
    pub fn inward(&self, addr: SocketAddr) -> Outcome<SocketAddr> {
        if addr.is_ipv6() != self.v6 {
            return fail(libc::EAFNOSUPPORT);
        }
        match addr.ip().to_canonical() {
            IpAddr::V4(_) if self.v6 && self.v6_only => fail(libc::ENETUNREACH),
            ip => Ok(SocketAddr::new(ip, addr.port())),
        }
    }

    /// An address as the owner sees it.
    pub fn outward(&self, addr: SocketAddr) -> SocketAddr {
        match addr.ip() {
            IpAddr::V4(ip) if self.v6 => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
            _ => addr,
        }
    }

    /// Every local address of its family.
    pub fn unspecified(&self) -> IpAddr {
        if self.v6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
    }
}
