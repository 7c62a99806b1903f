//! Ports shared with the kernel: held where we listen, chosen apart where we connect.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::ops::RangeInclusive;
use std::os::fd::{AsRawFd, OwnedFd};
use std::string::String;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use super::RunError;

/// Ports below this are for well-known services.
const FIRST_PORT: u16 = 1_024;

/// The socket `addr` and `port` as the kernel wants it named: a link-local address means nothing without
/// the `index` of its interface.
pub(super) fn scoped(addr: IpAddr, port: u16, index: u32) -> SocketAddr {
    match addr {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => SocketAddrV6::new(v6, port, 0, index).into(),
        _ => SocketAddr::new(addr, port),
    }
}

/// Binds a kernel socket to `addr` and does not listen: no other program can have the port meanwhile, and
/// the kernel answers nothing there. A link-local `addr` needs its scope.
///
/// # Errors
///
/// [`RunError::PortTaken`] where a program has it, [`RunError::PortPrivileged`] where only root may,
/// [`RunError::Hold`] for anything else.
pub(super) fn hold(addr: SocketAddr) -> Result<OwnedFd, RunError> {
    let try_bind = |reuse: bool| -> Result<OwnedFd, Errno> {
        let family = if addr.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &reuse)?;
        if addr.is_ipv6() {
            setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
        }
        bind(fd.as_raw_fd(), &SockaddrStorage::from(addr))?;
        setsockopt(&fd, sockopt::ReuseAddr, &false)?;
        Ok(fd)
    };
    // The second try gets past connections of a former owner that are still in the kernel's TIME-WAIT.
    try_bind(false).or_else(|_| try_bind(true)).map_err(|errno| match errno {
        Errno::EADDRINUSE => RunError::PortTaken { addr },
        Errno::EACCES => RunError::PortPrivileged { addr },
        errno => RunError::Hold { addr, source: io::Error::from(errno) },
    })
}

/// Those of an interface's `addresses`, each with its prefix, from which the kernel may send without being told
/// to: the first of each family and of each prefix, and those that routes prefer.
///
/// An IPv4 address that is its own prefix is in no destination's way. An IPv6 one may be nearest to some
/// destination (RFC 6724 §5, rule 8).
pub(super) fn chosen_by_kernel(
    addresses: &[(IpAddr, u8)],
    preferred: impl IntoIterator<Item = IpAddr>,
) -> BTreeSet<IpAddr> {
    let mut prefixes: BTreeSet<(bool, u128, u8)> = BTreeSet::new();
    let mut chosen: BTreeSet<IpAddr> = preferred.into_iter().collect();
    for &(addr, len) in addresses {
        let is_first_of_family = !prefixes.iter().any(|&(v4, ..)| v4 == addr.is_ipv4());
        let is_first_of_prefix = prefixes.insert((addr.is_ipv4(), network(addr, len), len));
        let alone = addr.is_ipv4() && len >= 32;
        if is_first_of_family || is_first_of_prefix && !alone {
            chosen.insert(addr);
        }
    }
    chosen
}

/// The first `len` bits of `addr`.
fn network(addr: IpAddr, len: u8) -> u128 {
    let (bits, width) = match addr {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    bits.checked_shr(width - u32::from(len).min(width)).unwrap_or(0)
}

/// The source ports of active opens: `wanted` if the kernel has no use for any of them, else the widest run
/// of ports that it has no use for.
///
/// `exclusive` says that the kernel does not choose these addresses for its own connections, so that its
/// ephemeral range does not matter.
///
/// # Errors
///
/// [`RunError::SourcePorts`] or [`RunError::NoSourcePorts`].
pub(super) fn source_ports(
    wanted: Option<&RangeInclusive<u16>>,
    exclusive: bool,
    sources: &[IpAddr],
) -> Result<RangeInclusive<u16>, RunError> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let ephemeral =
        if exclusive { None } else { parse_range(&read("/proc/sys/net/ipv4/ip_local_port_range")) };
    let sockets = read("/proc/thread-self/net/tcp") + &read("/proc/thread-self/net/tcp6");
    choose(wanted, ephemeral.as_ref(), &bound_ports(&sockets, sources))
}

fn choose(
    wanted: Option<&RangeInclusive<u16>>,
    ephemeral: Option<&RangeInclusive<u16>>,
    bound: &BTreeSet<u16>,
) -> Result<RangeInclusive<u16>, RunError> {
    let is_kernels = |port: &u16| ephemeral.is_some_and(|range| range.contains(port)) || bound.contains(port);
    if let Some(range) = wanted {
        return match range.clone().find(is_kernels) {
            None => Ok(range.clone()),
            Some(taken) => Err(RunError::SourcePorts { first: *range.start(), last: *range.end(), taken }),
        };
    }
    let mut best: Option<RangeInclusive<u16>> = None;
    let mut run: Option<RangeInclusive<u16>> = None;
    for port in FIRST_PORT..=u16::MAX {
        run = match run {
            _ if is_kernels(&port) => None,
            Some(run) => Some(*run.start()..=port),
            None => Some(port..=port),
        };
        if let Some(run) = &run
            && best.as_ref().is_none_or(|best| run.len() > best.len())
        {
            best = Some(run.clone());
        }
    }
    best.ok_or(RunError::NoSourcePorts)
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(|number| number.parse().ok());
    Some(numbers.next()??..=numbers.next()??)
}

/// The local ports in the kernel's table of TCP sockets that are bound to one of `addrs`, or to all.
fn bound_ports(table: &str, addrs: &[IpAddr]) -> BTreeSet<u16> {
    /// TIME-WAIT: nobody's any more, and not in the way of another address pair.
    const TIME_WAIT: &str = "06";
    let locals: BTreeSet<String> = addrs.iter().map(|&addr| table_form(addr)).collect();
    let entry = |line: &str| -> Option<u16> {
        let mut fields = line.split_whitespace().skip(1);
        let (addr, port) = fields.next()?.split_once(':')?;
        let state = fields.nth(1)?;
        let mine = addr.bytes().all(|digit| digit == b'0') || locals.contains(addr);
        (mine && state != TIME_WAIT).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().filter_map(entry).collect()
}

/// An address as `/proc/net/tcp` prints it: 32-bit words in the machine's byte order.
fn table_form(addr: IpAddr) -> String {
    let word = |octets: &[u8]| {
        let octets = <[u8; 4]>::try_from(octets).expect("four octets");
        std::format!("{:08X}", u32::from_ne_bytes(octets))
    };
    match addr {
        IpAddr::V4(v4) => word(&v4.octets()),
        IpAddr::V6(v6) => v6.octets().chunks(4).map(word).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    #[test]
    fn source_ports_are_the_widest_run_that_the_kernel_leaves() {
        let bound = BTreeSet::from([8_080]);
        for (ephemeral, want) in [
            (Some(32_768..=60_999), 8_081..=32_767),
            (Some(1_024..=65_000), 65_001..=65_535),
            (None, 8_081..=65_535),
        ] {
            let got = choose(None, ephemeral.as_ref(), &bound).expect("a run");
            assert_eq!(got, want, "{ephemeral:?}");
        }
        let all = FIRST_PORT..=u16::MAX;
        assert!(matches!(choose(None, Some(&all), &bound), Err(RunError::NoSourcePorts)));
    }

    #[test]
    fn the_kernel_sends_from_the_first_address_of_a_prefix_and_where_routes_say() {
        let addresses = [
            ("10.0.0.1", 24, true, "the first of all"),
            ("10.0.0.2", 24, false, "the second of its prefix"),
            ("10.1.0.1", 24, true, "the nearest to its own prefix"),
            ("10.2.0.1", 32, false, "nothing is nearest to it"),
            ("10.2.0.2", 32, true, "a route prefers it"),
            ("fd00::1", 64, true, "the first of its family"),
            ("fd00::2", 64, false, "the second of its prefix"),
            ("fd00::3", 128, true, "the nearest to its neighbours"),
            ("fe80::1", 64, true, "link-local, for link-local destinations"),
            ("fe80::2", 64, false, "the second of those"),
        ]
        .map(|(addr, len, want, why)| (addr.parse::<IpAddr>().expect("an address"), len, want, why));
        let own = addresses.map(|(addr, len, ..)| (addr, len));
        let chosen = chosen_by_kernel(&own, [addresses[4].0]);
        for (addr, _, want, why) in addresses {
            assert_eq!(chosen.contains(&addr), want, "{addr}: {why}");
        }
        assert_eq!(network(addresses[5].0, 0), 0, "a prefix of no bits is one prefix");
    }

    #[test]
    fn only_link_local_addresses_get_a_scope() {
        for (addr, want) in
            [("10.0.0.1", "10.0.0.1:80"), ("fd00::1", "[fd00::1]:80"), ("fe80::1", "[fe80::1%7]:80")]
        {
            let addr = addr.parse().expect("an address");
            assert_eq!(std::format!("{}", scoped(addr, 80, 7)), want);
        }
    }

    #[test]
    fn wanted_ports_are_refused_where_the_kernel_has_one() {
        let (ephemeral, bound) = (32_768..=60_999, BTreeSet::from([8_080]));
        for (wanted, want) in
            [(10_000..=20_000, None), (8_000..=8_100, Some(8_080)), (30_000..=40_000, Some(32_768))]
        {
            let taken = match choose(Some(&wanted), Some(&ephemeral), &bound) {
                Ok(range) => {
                    assert_eq!(range, wanted);
                    None
                }
                Err(RunError::SourcePorts { taken, .. }) => Some(taken),
                Err(error) => panic!("{error}"),
            };
            assert_eq!(taken, want, "{wanted:?}");
        }
    }

    #[test]
    fn bound_ports_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:1F90 00000000:0000 0A\n   \
                     1: 00000000:0016 00000000:0000 0A\n   2: 0200000A:0050 00000000:0000 0A\n   \
                     3: 0100007F:1F91 0200000A:0050 06\n";
        let mine = [IpAddr::V4(Ipv4Addr::LOCALHOST)];
        assert_eq!(bound_ports(table, &mine), BTreeSet::from([8_080, 22]));
    }

    #[test]
    fn a_held_port_is_nobody_elses_and_a_taken_one_is_refused() {
        let held = hold("127.0.0.1:0".parse().expect("address")).expect("any port");
        let addr: SockaddrStorage =
            nix::sys::socket::getsockname(held.as_raw_fd()).expect("a bound socket has a name");
        let port = addr.as_sockaddr_in().expect("IPv4").port();
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        assert!(TcpListener::bind(addr).is_err());
        drop(held);
        let listener = TcpListener::bind(addr).expect("free again");
        assert!(matches!(hold(addr), Err(RunError::PortTaken { .. })));
        drop(listener);
    }
}
