//! Values on the command line that are more than a number or a word.
#![forbid(unsafe_code)]

use std::format;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use clap::ValueEnum;

use crate::io::link::{Mark, QueueLimit};
use crate::tcp::CongestionAlgorithm;

/// Whose TCP carries the connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// ringroad's own stack on AF_XDP.
    Xdp,
    /// The kernel's stack, over epoll.
    Kernel,
}

/// Congestion control, by the names that `--cc` knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Congestion {
    /// RFC 9438, with the slow start of RFC 9406.
    Cubic,
    /// RFC 5681 with RFC 6582.
    #[value(name = "newreno", alias = "new-reno")]
    NewReno,
    /// Version 3 of BBR (draft-ietf-ccwg-bbr), paced.
    Bbr,
}

impl From<Congestion> for CongestionAlgorithm {
    fn from(named: Congestion) -> Self {
        match named {
            Congestion::Cubic => Self::Cubic,
            Congestion::NewReno => Self::NewReno,
            Congestion::Bbr => Self::Bbr,
        }
    }
}

/// Addresses that one `--source` may stand for.
const SOURCES_MAX: u32 = 65_536;
/// CPUs that one list may name; no machine has more.
const CPUS_MAX: usize = 8_192;

/// A list that clap takes as one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct List<T>(pub Vec<T>);

/// `64`, `4k`, `1m`, `2g`: octets, in powers of 1024.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let lower = text.to_ascii_lowercase();
    let (digits, unit) = match lower.find(|c: char| !c.is_ascii_digit()) {
        Some(at) => lower.split_at(at),
        None => (lower.as_str(), ""),
    };
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        _ => return Err(format!("{unit:?} is not a unit; use k, m or g, as in 4k")),
    };
    let number: u64 = digits.parse().map_err(|_| "a size is a number such as 64, 4k or 1m".to_string())?;
    number.checked_mul(1 << shift).ok_or_else(|| format!("{text} is more than 64 bits hold"))
}

/// Seconds, with a fraction where wanted.
pub(super) fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let value: f64 =
        number.parse().map_err(|_| "a time is a number of seconds such as 5 or 0.5".to_string())?;
    if !(0.0..=1e6).contains(&value) {
        return Err("a time is between 0 and 1000000 seconds".to_string());
    }
    Ok(Duration::from_secs_f64(value))
}

/// A number with a unit, of those that `units` has with what they stand for.
fn number(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (digits, unit) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic() || c == '%')?);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    let is_decimal = digits.starts_with(|c: char| c.is_ascii_digit());
    digits.parse::<f64>().ok().filter(|_| is_decimal).map(|number| number * factor)
}

/// `20ms`, `500us`, `1.5s`; a minute at most.
pub(super) fn delay(text: &str) -> Result<Duration, String> {
    const MICROS_MAX: f64 = 60e6;
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let micros = number(text, &units).ok_or("a time is a number with a unit, such as 20ms, 500us or 1.5s")?;
    if micros > MICROS_MAX {
        return Err("a link delays by 60s at most".to_string());
    }
    Ok(Duration::from_micros(rounded(micros)))
}

/// `10mbit`, `1gbit`: bits a second, in powers of 1000.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    let units = [("bit", 1.0), ("kbit", 1e3), ("mbit", 1e6), ("gbit", 1e9)];
    let bits =
        number(text, &units).ok_or("a rate is a number with a unit, such as 100kbit, 10mbit or 1gbit")?;
    if !(1e3..=1e12).contains(&bits) {
        return Err("a rate is between 1kbit and 1000gbit".to_string());
    }
    Ok(rounded(bits))
}

/// `0.1%`: parts per million.
pub(super) fn share(text: &str) -> Result<u32, String> {
    let share = number(text, &[("%", 1e4)]).ok_or("a share is a percentage, such as 0.1%")?;
    match u32::try_from(rounded(share)) {
        Ok(share) if share <= 1_000_000 => Ok(share),
        _ => Err("a share is 100% at most".to_string()),
    }
}

/// Packets, or octets where there is a unit.
pub(super) fn queue(text: &str) -> Result<QueueLimit, String> {
    if let Ok(packets) = text.parse() {
        return Ok(QueueLimit::Packets(packets));
    }
    let octets = size(text).ok().filter(|&octets| octets <= 1 << 32);
    octets
        .map(QueueLimit::Octets)
        .ok_or("a queue is a number of packets such as 100, or of octets such as 64k".into())
}

/// A share, or packets that wait.
pub(super) fn mark(text: &str) -> Result<Mark, String> {
    if text.ends_with('%') {
        return share(text).map(Mark::Share);
    }
    text.parse()
        .map(Mark::Above)
        .map_err(|_| "marks are for a share such as 1%, or above a queue such as 20".into())
}

/// To the nearest whole number; the callers have checked the range.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "saturates, which the callers refuse"
)]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// `IP:PORT` or `IP:FIRST-LAST`.
pub(super) fn targets(text: &str) -> Result<List<SocketAddr>, String> {
    let usage = "a target is IP:PORT or IP:FIRST-LAST, with brackets round an IPv6 address";
    let (ip, ports) = text.rsplit_once(':').ok_or(usage)?;
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let ip = format!("{ip}:{first}").parse::<SocketAddr>().map_err(|_| usage)?.ip();
    let port = |digits: &str| digits.parse::<u16>().map_err(|_| usage);
    let (first, last) = (port(first)?, port(last)?);
    if first == 0 || first > last {
        return Err(format!("{ports} is not a range of ports: it begins at 1 and does not run backwards"));
    }
    Ok(List((first..=last).map(|port| SocketAddr::new(ip, port)).collect()))
}

/// As [`targets`]; a single port may also be 0, for one that the kernel chooses.
pub(super) fn listen(text: &str) -> Result<List<SocketAddr>, String> {
    match text.parse() {
        Ok(addr) => Ok(List(Vec::from([addr]))),
        Err(_) => targets(text),
    }
}

/// `FIRST-LAST`.
pub(super) fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let usage = || format!("{text:?} is not a range of ports such as 10000-19999");
    let (first, last) = text.split_once('-').ok_or_else(usage)?;
    let (first, last): (u16, u16) = (first.parse().map_err(|_| usage())?, last.parse().map_err(|_| usage())?);
    if first == 0 || first > last {
        return Err(usage());
    }
    Ok(first..=last)
}

/// `A,B` or `PREFIX/LEN`, or both mixed.
pub(super) fn sources(text: &str) -> Result<List<IpAddr>, String> {
    let mut all = Vec::new();
    for part in text.split(',') {
        match part.split_once('/') {
            None => all.push(part.parse().map_err(|_| format!("{part:?} is not an IP address"))?),
            Some((ip, len)) => prefix(part, ip, len, &mut all)?,
        }
    }
    if all.iter().any(IpAddr::is_ipv4) && all.iter().any(IpAddr::is_ipv6) {
        return Err("source addresses are all IPv4 or all IPv6".to_string());
    }
    Ok(List(all))
}

/// Every host of a prefix; of an IPv4 one without its network and broadcast addresses.
fn prefix(text: &str, ip: &str, len: &str, all: &mut Vec<IpAddr>) -> Result<(), String> {
    let usage = format!("{text:?} is not a prefix such as 10.0.0.0/28");
    let ip: IpAddr = ip.parse().map_err(|_| usage.clone())?;
    let len: u32 = len.parse().map_err(|_| usage.clone())?;
    let bits = if ip.is_ipv4() { 32u32 } else { 128 };
    let host_bits = bits.checked_sub(len).ok_or(usage)?;
    if host_bits > SOURCES_MAX.ilog2() {
        return Err(format!("{text} has more than {SOURCES_MAX} addresses; use a longer prefix"));
    }
    let count = 1u128 << host_bits;
    let edges = u128::from(ip.is_ipv4() && host_bits >= 2);
    for host in edges..count - edges {
        all.push(match ip {
            IpAddr::V4(ip) => {
                let host = u32::try_from(host).expect("at most 16 bits");
                let net = ip.to_bits() >> host_bits.min(31) << host_bits.min(31);
                Ipv4Addr::from_bits(net | host).into()
            }
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !(count - 1) | host).into(),
        });
    }
    Ok(())
}

/// `0,2-3`.
pub(super) fn cpus(text: &str) -> Result<List<usize>, String> {
    let usage = || format!("{text:?} is not a list of CPUs such as 0,2-3");
    let mut all = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) =
            (first.parse().map_err(|_| usage())?, last.parse().map_err(|_| usage())?);
        if first > last || last >= CPUS_MAX {
            return Err(usage());
        }
        all.extend(first..=last);
    }
    Ok(List(all))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, octets) in
            [("64", Some(64)), ("4k", Some(4096)), ("1M", Some(1 << 20)), ("2GiB", Some(2 << 30))]
                .into_iter()
                .chain(["", "k", "-1", "1x", "1.5k", "99999999999g"].map(|text| (text, None)))
        {
            assert_eq!(size(text).ok(), octets, "{text}");
        }
    }

    #[test]
    fn targets_are_a_socket_or_a_range_of_ports() {
        for (text, first_last_count) in [
            ("10.0.0.1:80", Some(("10.0.0.1:80", "10.0.0.1:80", 1))),
            ("10.0.0.1:8000-8015", Some(("10.0.0.1:8000", "10.0.0.1:8015", 16))),
            ("[fd00::1]:1-65535", Some(("[fd00::1]:1", "[fd00::1]:65535", 65_535))),
            ("10.0.0.1", None),
            ("10.0.0.1:0", None),
            ("10.0.0.1:9-8", None),
            ("10.0.0.1:1-70000", None),
            ("fd00::1:80", None),
            ("host:80", None),
        ] {
            let got = targets(text)
                .ok()
                .map(|list| (list.0[0].to_string(), list.0[list.0.len() - 1].to_string(), list.0.len()));
            let want = first_last_count.map(|(a, b, n)| (a.to_string(), b.to_string(), n));
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn sources_are_lists_and_prefixes() {
        for (text, first_last_count) in [
            ("10.0.0.1", Some(("10.0.0.1", "10.0.0.1", 1))),
            ("10.0.0.1,10.0.0.9", Some(("10.0.0.1", "10.0.0.9", 2))),
            ("10.0.0.21/28", Some(("10.0.0.17", "10.0.0.30", 14))),
            ("10.0.0.4/31", Some(("10.0.0.4", "10.0.0.5", 2))),
            ("10.0.0.4/32", Some(("10.0.0.4", "10.0.0.4", 1))),
            ("fd00::10/124", Some(("fd00::10", "fd00::1f", 16))),
            ("10.0.0.0/8", None),
            ("10.0.0.0/33", None),
            ("10.0.0.1,fd00::1", None),
            ("", None),
        ] {
            let got = sources(text)
                .ok()
                .map(|list| (list.0[0].to_string(), list.0[list.0.len() - 1].to_string(), list.0.len()));
            let want = first_last_count.map(|(a, b, n)| (a.to_string(), b.to_string(), n));
            assert_eq!(got, want, "{text}");
        }
    }

    #[test]
    fn cpu_lists_have_ranges() {
        assert_eq!(cpus("0,2-3"), Ok(List(Vec::from([0, 2, 3]))));
        for bad in ["", "a", "3-2", "0,,1", "0-99999999"] {
            assert!(cpus(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_describes_a_link_has_units() {
        let us = |text| delay(text).ok().map(|time| time.as_micros());
        for (text, want) in [
            ("20ms", Some(20_000)),
            ("1.5s", Some(1_500_000)),
            ("250us", Some(250)),
            ("0ms", Some(0)),
            ("60s", Some(60_000_000)),
            ("61s", None),
            ("20", None),
            ("ms", None),
            ("-1ms", None),
            ("1e3ms", None),
            ("infs", None),
        ] {
            assert_eq!(us(text), want, "{text}");
        }
        for (text, want) in [
            ("1gbit", Some(1_000_000_000)),
            ("2.5Mbit", Some(2_500_000)),
            ("1000bit", Some(1_000)),
            ("999bit", None),
            ("1001gbit", None),
            ("1g", None),
            ("NaNgbit", None),
        ] {
            assert_eq!(rate(text).ok(), want, "{text}");
        }
        for (text, want) in [
            ("0.1%", Some(1_000)),
            ("100%", Some(1_000_000)),
            ("0%", Some(0)),
            ("100.1%", None),
            ("0.1", None),
            ("%", None),
        ] {
            assert_eq!(share(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn a_queue_is_packets_or_octets_and_marks_are_a_share_or_a_length() {
        for (text, want) in [
            ("100", Some(QueueLimit::Packets(100))),
            ("64k", Some(QueueLimit::Octets(65_536))),
            ("1500b", Some(QueueLimit::Octets(1_500))),
            ("8g", None),
            ("-1", None),
            ("many", None),
        ] {
            assert_eq!(queue(text).ok(), want, "{text}");
        }
        for (text, want) in
            [("20", Some(Mark::Above(20))), ("1%", Some(Mark::Share(10_000))), ("200%", None), ("k", None)]
        {
            assert_eq!(mark(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn times_are_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("5s"), Ok(Duration::from_secs(5)));
        for bad in ["-1", "x", "inf", "NaN", "1e9"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
