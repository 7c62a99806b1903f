//! A peer without memory: it answers segments from what they carry, so that only the engine remembers.
//!
//! It writes its frames octet by octet (RFC 9293 §3.1, RFC 791, RFC 8200, RFC 7323), as Linux would lay
//! them out.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::pair::mac;

/// Which version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    Ipv4,
    Ipv6,
}

impl Family {
    /// The engine's address.
    pub const fn server(self) -> IpAddr {
        match self {
            Self::Ipv4 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)),
            Self::Ipv6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2)),
        }
    }

    const fn header_len(self) -> usize {
        match self {
            Self::Ipv4 => 20,
            Self::Ipv6 => 40,
        }
    }
}

/// The engine's port.
pub const PORT: u16 = 80;

/// Connections of one peer's address, each from a port of its own.
const PORTS: u32 = 60_000;
const ETHERNET_LEN: usize = 14;
const TCP_LEN: usize = 20;
const FIN: u8 = 1;
const SYN: u8 = 2;
const ACK: u8 = 16;
/// The peer's timestamp clock, which may stand still.
const CLOCK: u32 = 1_000;

/// One end's socket.
type Socket = (IpAddr, u16);

/// A segment without text.
struct Segment {
    from: Socket,
    to: Socket,
    seq: u32,
    ack: u32,
    ctl: u8,
    /// The timestamp to echo.
    echo: u32,
}

/// Writes the SYN of connection `nth` to the engine into `frame`; returns its length.
pub fn syn(family: Family, nth: u32, frame: &mut [u8]) -> usize {
    let (host, port) = (nth / PORTS, nth % PORTS);
    let address = match family {
        Family::Ipv4 => IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes([10, 128, 0, 0]) + host)),
        Family::Ipv6 => IpAddr::V6(Ipv6Addr::from_bits(0xfd00_0000_0000_0001 << 64 | u128::from(host))),
    };
    let port = 1_024 + u16::try_from(port).expect("60,000 fit");
    // An ISN that differs from connection to connection, as peers' do.
    let seq = nth.wrapping_mul(0x9e37_79b9);
    let to = (family.server(), PORT);
    write(frame, &Segment { from: (address, port), to, seq, ack: 0, ctl: SYN, echo: 0 })
}

/// Writes what a peer answers to `heard`, if it answers: an ACK to a SYN-ACK, and a FIN to a FIN.
pub fn answer(heard: &[u8], frame: &mut [u8]) -> Option<usize> {
    let heard = read(heard);
    let ctl = match heard.ctl {
        ctl if ctl & SYN != 0 => ACK,
        ctl if ctl & FIN != 0 => ACK | FIN,
        _ => return None,
    };
    let Segment { from, to, seq, ack, echo, .. } = heard;
    // The engine sends no text here, so its SYN or FIN is all that there is to acknowledge.
    Some(write(frame, &Segment { from: to, to: from, seq: ack, ack: seq.wrapping_add(1), ctl, echo }))
}

fn write(frame: &mut [u8], segment: &Segment) -> usize {
    let options = options(segment);
    let tcp_len = TCP_LEN + options.len();
    let ip_len = network_header(frame, segment, tcp_len);
    let tcp = &mut frame[ETHERNET_LEN + ip_len..][..tcp_len];
    tcp[..2].copy_from_slice(&segment.from.1.to_be_bytes());
    tcp[2..4].copy_from_slice(&segment.to.1.to_be_bytes());
    tcp[4..8].copy_from_slice(&segment.seq.to_be_bytes());
    tcp[8..12].copy_from_slice(&segment.ack.to_be_bytes());
    tcp[12] = u8::try_from(tcp_len / 4).expect("at most 15 words") << 4;
    tcp[13] = segment.ctl;
    tcp[14..16].copy_from_slice(&29_200u16.to_be_bytes());
    tcp[16..20].fill(0);
    tcp[TCP_LEN..].copy_from_slice(&options);
    let pseudo =
        [octets(segment.from.0), octets(segment.to.0), vec![0, 6], length(tcp_len).to_vec()].concat();
    let checksum = checksum(&[&pseudo, tcp]);
    tcp[16..18].copy_from_slice(&checksum);
    ETHERNET_LEN + ip_len + tcp_len
}

/// Link and network header; returns the length of the latter.
fn network_header(frame: &mut [u8], segment: &Segment, tcp_len: usize) -> usize {
    frame[..6].copy_from_slice(&mac(segment.to.0).0);
    frame[6..12].copy_from_slice(&mac(segment.from.0).0);
    let (ethernet, ip) = frame.split_at_mut(ETHERNET_LEN);
    if segment.from.0.is_ipv4() {
        ethernet[12..].copy_from_slice(&[0x08, 0x00]);
        // Version and header length, identification, don't fragment, TTL, TCP.
        ip[..12].copy_from_slice(&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0]);
        ip[2..4].copy_from_slice(&length(20 + tcp_len));
        ip[12..16].copy_from_slice(&octets(segment.from.0));
        ip[16..20].copy_from_slice(&octets(segment.to.0));
        let checksum = checksum(&[&ip[..20]]);
        ip[10..12].copy_from_slice(&checksum);
        20
    } else {
        ethernet[12..].copy_from_slice(&[0x86, 0xdd]);
        // Version, payload length, TCP, hop limit.
        ip[..8].copy_from_slice(&[0x60, 0, 0, 0, 0, 0, 6, 64]);
        ip[4..6].copy_from_slice(&length(tcp_len));
        ip[8..24].copy_from_slice(&octets(segment.from.0));
        ip[24..40].copy_from_slice(&octets(segment.to.0));
        40
    }
}

/// On a SYN: MSS, SACK-permitted, timestamps, window scale. Later: timestamps.
fn options(segment: &Segment) -> Vec<u8> {
    let stamps = [CLOCK.to_be_bytes(), segment.echo.to_be_bytes()].concat();
    if segment.ctl & SYN == 0 {
        return [&[1, 1, 8, 10][..], &stamps].concat();
    }
    let mss: u16 = if segment.from.0.is_ipv4() { 1_460 } else { 1_440 };
    let [high, low] = mss.to_be_bytes();
    [&[2, 4, high, low, 4, 2, 8, 10][..], &stamps, &[1, 3, 3, 7]].concat()
}

/// Reads what the engine wrote, which is well-formed.
fn read(frame: &[u8]) -> Segment {
    let ip = &frame[ETHERNET_LEN..];
    let family = if ip[0] >> 4 == 4 { Family::Ipv4 } else { Family::Ipv6 };
    let (from, to) = match family {
        Family::Ipv4 => (v4(&ip[12..16]), v4(&ip[16..20])),
        Family::Ipv6 => (v6(&ip[8..24]), v6(&ip[24..40])),
    };
    let tcp = &ip[family.header_len()..];
    let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
    let options = &tcp[TCP_LEN..usize::from(tcp[12] >> 4) * 4];
    Segment {
        from: (from, port(0)),
        to: (to, port(2)),
        seq: word(&tcp[4..]),
        ack: word(&tcp[8..]),
        ctl: tcp[13],
        echo: timestamp(options),
    }
}

/// TSval; zero when there is none.
fn timestamp(mut options: &[u8]) -> u32 {
    while let Some((&kind, rest)) = options.split_first() {
        options = match kind {
            0 => return 0,
            1 => rest,
            8 => return word(&rest[1..]),
            _ => &rest[usize::from(rest[0]) - 1..],
        };
    }
    0
}

fn word(octets: &[u8]) -> u32 {
    u32::from_be_bytes([octets[0], octets[1], octets[2], octets[3]])
}

fn v4(octets: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 4]>::try_from(octets).expect("four octets"))
}

fn v6(octets: &[u8]) -> IpAddr {
    IpAddr::from(<[u8; 16]>::try_from(octets).expect("sixteen octets"))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn length(len: usize) -> [u8; 2] {
    u16::try_from(len).expect("a packet's length").to_be_bytes()
}

/// The Internet checksum (RFC 1071) of parts of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let words = parts.iter().flat_map(|part| part.chunks_exact(2));
    let mut sum: u32 = words.map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn a_syn_ack_is_acknowledged_and_a_fin_answered_by_a_fin() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut frame = [0; 128];
            let len = syn(family, 61_234, &mut frame);
            let syn = read(&frame[..len]);
            let (from, to) = (syn.to, syn.from);
            for (ctl, want) in
                [(SYN | ACK, Some(ACK)), (FIN | ACK, Some(FIN | ACK)), (ACK, None), (4 | ACK, None)]
            {
                let mut theirs = [0; 128];
                let segment = Segment { from, to, seq: u32::MAX, ack: 9, ctl, echo: 0 };
                let len = write(&mut theirs, &segment);
                let answered = answer(&theirs[..len], &mut frame).map(|len| read(&frame[..len]));
                assert_eq!(answered.as_ref().map(|answer| answer.ctl), want, "{family:?} {ctl}");
                if let Some(answer) = answered {
                    assert_eq!((answer.seq, answer.ack, answer.echo), (9, 0, CLOCK), "{family:?} {ctl}");
                    assert_eq!((answer.from, answer.to), (to, from), "{family:?} {ctl}");
                }
            }
        }
    }

    #[test]
    fn each_connection_has_a_socket_of_its_own() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut frame = [0; 128];
            let mut seen = HashSet::new();
            for nth in (0..1_000_000).step_by(999).chain([59_999, 60_000, 60_001]) {
                let len = syn(family, nth, &mut frame);
                assert!(seen.insert(read(&frame[..len]).from), "{family:?} {nth}");
            }
        }
    }

    #[test]
    fn the_checksum_is_that_of_rfc_1071() {
        // The example of RFC 1071 §3.
        assert_eq!(checksum(&[&[0x00, 0x01, 0xf2, 0x03], &[0xf4, 0xf5, 0xf6, 0xf7]]), [0x22, 0x0d]);
    }
}
