//! Which neighbour a packet goes to, and from which of our addresses.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::base::FlowKey;

/// One route of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// Network.
    pub destination: IpAddr,
    /// Bits of `destination` that must match.
    pub prefix_len: u8,
    /// The router; `None` when the network is on the link.
    pub gateway: Option<IpAddr>,
    /// The address to send from; `None` leaves it to the interface's first of that family.
    pub source: Option<IpAddr>,
}

/// The interface's own addresses and its routes, as the kernel has them.
#[derive(Clone, Debug, Default)]
pub struct Routes {
    /// Our addresses.
    pub addresses: Vec<IpAddr>,
    /// In any order: the longest prefix wins.
    pub routes: Vec<Route>,
}

/// Where a packet goes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop<'a> {
    /// The neighbour: the router, or the destination itself.
    pub neighbour: &'a IpAddr,
    /// Our address towards it; `None` when we have none of that family.
    pub source: Option<IpAddr>,
}

impl Routes {
    /// Whether `addr` is one of ours.
    pub fn is_local(&self, addr: IpAddr) -> bool {
        self.addresses.contains(&addr)
    }

    /// Whether our end of `key` is at one of our addresses.
    pub fn is_ours(&self, key: &FlowKey) -> bool {
        self.addresses.iter().any(|addr| key.addrs.has_local(addr))
    }

    /// The next hop towards `to`; `None` when no route leads there.
    pub fn next_hop<'a>(&'a self, to: &'a IpAddr) -> Option<NextHop<'a>> {
        let matching = self.routes.iter().filter(|route| covers(&route.destination, route.prefix_len, to));
        let route = matching.max_by_key(|route| route.prefix_len)?;
        let first = || self.addresses.iter().copied().find(|addr| addr.is_ipv4() == to.is_ipv4());
        Some(NextHop { neighbour: route.gateway.as_ref().unwrap_or(to), source: route.source.or_else(first) })
    }
}

/// Whether the first `prefix_len` bits of `network` and `addr` are the same, in one family.
fn covers(network: &IpAddr, prefix_len: u8, addr: &IpAddr) -> bool {
    let same = |difference: u128, bits: u8| {
        let host_bits = u32::from(bits.saturating_sub(prefix_len));
        difference.checked_shr(host_bits).unwrap_or(0) == 0
    };
    match (network, addr) {
        (IpAddr::V4(a), IpAddr::V4(b)) => same(u128::from(a.to_bits() ^ b.to_bits()), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => same(a.to_bits() ^ b.to_bits(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    fn ip(s: &str) -> IpAddr {
        s.parse().expect("address")
    }

    fn route(destination: &str, prefix_len: u8, gateway: Option<&str>) -> Route {
        Route { destination: ip(destination), prefix_len, gateway: gateway.map(ip), source: None }
    }

    #[test]
    fn the_longest_prefix_of_the_family_wins() {
        let routes = Routes {
            addresses: vec![ip("10.0.0.1"), ip("fd00::1")],
            routes: vec![
                route("0.0.0.0", 0, Some("10.0.0.254")),
                route("10.0.0.0", 24, None),
                route("10.0.0.64", 26, Some("10.0.0.253")),
                route("fd00::", 64, None),
            ],
        };
        for (to, neighbour, source) in [
            ("10.0.0.7", "10.0.0.7", "10.0.0.1"),
            ("10.0.0.65", "10.0.0.253", "10.0.0.1"),
            ("8.8.8.8", "10.0.0.254", "10.0.0.1"),
            ("fd00::9", "fd00::9", "fd00::1"),
        ] {
            let want = NextHop { neighbour: &ip(neighbour), source: Some(ip(source)) };
            assert_eq!(routes.next_hop(&ip(to)), Some(want), "{to}");
        }
        assert_eq!(routes.next_hop(&ip("fd01::1")), None);
        assert!(routes.is_local(ip("fd00::1")) && !routes.is_local(ip("10.0.0.2")));
    }
}
