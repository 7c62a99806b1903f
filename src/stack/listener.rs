//! LISTEN: which SYNs are welcome, and how many at a time.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;
use core::net::IpAddr;
use core::ops::RangeInclusive;

use crate::base::FlowKey;
use crate::tcp::{FlowOptions, SettingsId};

/// What to listen on.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The local address; an unspecified one (`0.0.0.0`, `::`) means each of the interface's of that family.
    pub address: IpAddr,
    /// The local ports.
    pub ports: RangeInclusive<u16>,
    /// Half-open connections at a time: beyond it SYNs are dropped.
    pub half_open_max: u32,
    /// Established connections that wait while accepting is paused: beyond it they stay half-open.
    pub backlog: u32,
    /// Settings of the connections accepted.
    pub options: FlowOptions,
}

impl Listen {
    /// A listener on one socket with customary limits.
    pub fn new(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            ports: port..=port,
            half_open_max: 4_096,
            backlog: 4_096,
            options: FlowOptions::default(),
        }
    }
}

/// A handle to a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(super) u16);

/// Why a listener could not be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenError {
    /// Another listener has one of these sockets.
    InUse,
    /// `Limits::listeners_max` is reached.
    TooMany,
    /// Connections use as many different sets of options as there may be; raise `Limits::options_max`.
    TooManyOptions,
}

/// A listener's state.
#[derive(Debug)]
pub(super) struct Listener {
    pub listen: Listen,
    /// Those of `listen.options`.
    pub settings: SettingsId,
    pub half_open: u32,
    /// Established and not yet announced to the application.
    pub waiting: VecDeque<u32>,
    pub paused: bool,
    pub draining: bool,
}

impl Listener {
    pub fn new(listen: &Listen, settings: SettingsId) -> Self {
        let waiting = VecDeque::with_capacity(listen.backlog as usize);
        Self { listen: listen.clone(), settings, half_open: 0, waiting, paused: false, draining: false }
    }

    /// Whether a SYN of this tuple is for this listener.
    pub fn covers(&self, key: &FlowKey) -> bool {
        let mine = &self.listen.address;
        let same = key.addrs.has_local(mine) || (mine.is_unspecified() && mine.is_ipv4() == key.is_ipv4());
        same && self.listen.ports.contains(&key.local_port)
    }

    /// Whether some socket would belong to both.
    pub fn overlaps(&self, other: &Listen) -> bool {
        let (a, b) = (&self.listen.ports, &other.ports);
        let addresses = self.covers_address(other.address);
        addresses && a.start() <= b.end() && b.start() <= a.end()
    }

    fn covers_address(&self, other: IpAddr) -> bool {
        let mine = self.listen.address;
        mine.is_ipv4() == other.is_ipv4()
            && (mine == other || mine.is_unspecified() || other.is_unspecified())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    fn listener(listen: &Listen) -> Listener {
        let settings = crate::tcp::SettingsTable::new(1).intern(&listen.options).expect("there is room");
        Listener::new(listen, settings)
    }

    fn listen(address: &str, ports: RangeInclusive<u16>) -> Listen {
        Listen { ports, ..Listen::new(address.parse().expect("address"), 0) }
    }

    #[test]
    fn a_listener_covers_its_sockets_and_no_other() {
        for (address, ports, to, port, want) in [
            ("10.0.0.1", 80..=80, "10.0.0.1", 80, true),
            ("10.0.0.1", 80..=80, "10.0.0.1", 81, false),
            ("10.0.0.1", 80..=80, "10.0.0.2", 80, false),
            ("0.0.0.0", 80..=90, "10.0.0.2", 90, true),
            ("0.0.0.0", 80..=90, "fd00::1", 85, false),
            ("::", 80..=90, "fd00::1", 85, true),
        ] {
            let listener = listener(&listen(address, ports.clone()));
            let socket = SocketAddr::new(to.parse().expect("address"), port);
            let key = FlowKey::new(socket, socket).expect("one family");
            assert_eq!(listener.covers(&key), want, "{address} {ports:?} {to}");
        }
    }

    #[test]
    fn overlapping_sockets_are_seen() {
        let listener = listener(&listen("10.0.0.1", 80..=90));
        for (address, ports, want) in [
            ("10.0.0.1", 90..=91, true),
            ("10.0.0.1", 91..=92, false),
            ("0.0.0.0", 85..=85, true),
            ("10.0.0.2", 85..=85, false),
            ("::", 85..=85, false),
        ] {
            assert_eq!(listener.overlaps(&listen(address, ports.clone())), want, "{address} {ports:?}");
        }
    }
}
