//! ICMP errors that quote a TCP segment (RFC 792, RFC 4443); what they mean is decided by the caller.
#![forbid(unsafe_code)]

use core::net::IpAddr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::checksum::{self, Sum};
use super::ip::{PROTOCOL_ICMPV6, PROTOCOL_TCP};
use super::ipv4::{self, Ipv4Header};
use super::ipv6::{Ipv6Header, UpperLayer};
use crate::base::{AddrPair, DropReason, Seq};

/// What went wrong, for both versions of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    /// Nobody is at the port.
    PortUnreachable,
    /// The host does not speak TCP.
    ProtocolUnreachable,
    /// Network or host cannot be reached now, for whatever reason.
    HostUnreachable,
    /// A filter or a policy forbids it.
    AdminProhibited,
    /// The packet is too large for the path and may not be fragmented.
    PacketTooBig {
        /// MTU of the next hop, in octets; 0 from a router older than RFC 1191.
        mtu: u32,
    },
    /// The hop limit was used up.
    TimeExceeded,
    /// A router or the host could not make sense of a header.
    ParameterProblem,
    /// To be discarded silently (RFC 9293 MUST-55).
    SourceQuench,
}

/// What the quoted packet tells about the flow that it belongs to, from its sender's point of view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Who sent the packet: we, if the error is for us.
    pub src: IpAddr,
    /// Where it was going.
    pub dst: IpAddr,
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ, by which to tell a real error from a guess (RFC 5927 §4.1).
    pub seq: Seq,
}

/// An ICMP error that quotes the beginning of a TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// What went wrong.
    pub kind: IcmpKind,
    /// What the segment was.
    pub quoted: Quoted,
    /// The message's type.
    pub icmp_type: u8,
    /// The message's code.
    pub code: u8,
}

/// Reads an ICMP message that came in an IPv4 packet.
///
/// # Errors
///
/// [`DropReason::IcmpIgnored`] for what is no error, [`DropReason::IcmpMalformed`] for one that is cut
/// off or corrupted, or quotes something else than the beginning of a TCP segment.
pub fn parse_v4(payload: &[u8]) -> Result<IcmpError, DropReason> {
    let (header, quote) = Header::ref_from_prefix(payload).map_err(|_| DropReason::IcmpMalformed)?;
    let kind = header.kind_v4().ok_or(DropReason::IcmpIgnored)?;
    let mut sum = Sum::new();
    sum.add(payload);
    header.error(kind, sum, Quoted::parse_v4(quote))
}

/// Reads an ICMP message that came in an IPv6 packet between these addresses.
///
/// # Errors
///
/// Those of [`parse_v4`].
pub fn parse_v6(payload: &[u8], addrs: &AddrPair) -> Result<IcmpError, DropReason> {
    let (header, quote) = Header::ref_from_prefix(payload).map_err(|_| DropReason::IcmpMalformed)?;
    let kind = header.kind_v6().ok_or(DropReason::IcmpIgnored)?;
    let mut sum = checksum::pseudo_header(addrs, PROTOCOL_ICMPV6, payload.len());
    sum.add(payload);
    header.error(kind, sum, Quoted::parse_v6(quote))
}

/// What every error begins with (RFC 792, RFC 1191 §4, RFC 4443 §2.1).
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Header {
    icmp_type: u8,
    code: u8,
    /// Read where it is summed up.
    _checksum: U16,
    /// The MTU of a packet too big, of which IPv4 has only the lower half.
    mtu: U32,
}

impl Header {
    /// `None` for what is no error, or none that concerns a flow.
    fn kind_v4(&self) -> Option<IcmpKind> {
        Some(match (self.icmp_type, self.code) {
            (3, 2) => IcmpKind::ProtocolUnreachable,
            (3, 3) => IcmpKind::PortUnreachable,
            (3, 4) => IcmpKind::PacketTooBig { mtu: self.mtu.get() & 0xffff },
            // RFC 1812 §5.2.7.1 adds 13 to the two of RFC 1122.
            (3, 9 | 10 | 13) => IcmpKind::AdminProhibited,
            (3, _) => IcmpKind::HostUnreachable,
            (4, _) => IcmpKind::SourceQuench,
            (11, _) => IcmpKind::TimeExceeded,
            (12, _) => IcmpKind::ParameterProblem,
            _ => return None,
        })
    }

    /// `None` for what is no error, or none that is known.
    fn kind_v6(&self) -> Option<IcmpKind> {
        Some(match (self.icmp_type, self.code) {
            // RFC 4443 §3.1: 5 and 6 say more precisely what 1 says.
            (1, 1 | 5 | 6) => IcmpKind::AdminProhibited,
            (1, 4) => IcmpKind::PortUnreachable,
            (1, _) => IcmpKind::HostUnreachable,
            (2, _) => IcmpKind::PacketTooBig { mtu: self.mtu.get() },
            (3, _) => IcmpKind::TimeExceeded,
            (4, _) => IcmpKind::ParameterProblem,
            _ => return None,
        })
    }

    /// The error, if it is intact and its quote is of use.
    fn error(&self, kind: IcmpKind, sum: Sum, quoted: Option<Quoted>) -> Result<IcmpError, DropReason> {
        let quoted = quoted.filter(|_| sum.verify()).ok_or(DropReason::IcmpMalformed)?;
        Ok(IcmpError { kind, quoted, icmp_type: self.icmp_type, code: self.code })
    }
}

/// The part of a TCP header that every quote has.
#[derive(FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Ports {
    src_port: U16,
    dst_port: U16,
    seq: U32,
}

impl Quoted {
    /// Reads a quoted IPv4 packet. Routers change its header and cut it off, so neither its checksum nor
    /// its total length is looked at.
    fn parse_v4(quote: &[u8]) -> Option<Self> {
        let (header, rest) = Ipv4Header::ref_from_prefix(quote).ok()?;
        let rest = rest.get(header.header_len()? - ipv4::HEADER_LEN..)?;
        if header.protocol() != PROTOCOL_TCP || header.is_later_fragment() {
            return None;
        }
        Self::with_ports(header.src().into(), header.dst().into(), rest)
    }

    /// Reads a quoted IPv6 packet, which may be cut off.
    fn parse_v6(quote: &[u8]) -> Option<Self> {
        let (header, rest) = Ipv6Header::ref_from_prefix(quote).ok()?;
        let upper = UpperLayer::find(header.next_header(), rest).ok()?;
        if !header.is_version_6() || upper.protocol != PROTOCOL_TCP {
            return None;
        }
        Self::with_ports(header.src().into(), header.dst().into(), upper.payload)
    }

    fn with_ports(src: IpAddr, dst: IpAddr, segment: &[u8]) -> Option<Self> {
        let (ports, _) = Ports::ref_from_prefix(segment).ok()?;
        let (src_port, dst_port) = (ports.src_port.get(), ports.dst_port.get());
        Some(Self { src, dst, src_port, dst_port, seq: Seq::new(ports.seq.get()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ipv4::Ipv4Fields;
    use crate::wire::ipv6::{self, Ipv6Fields};
    use core::net::Ipv6Addr;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const ROUTER: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xff);
    const OURS: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const ADDRS: AddrPair = AddrPair::V6 { local: OURS, remote: ROUTER };
    /// Ports 80 and 4660, sequence number 0x01020304.
    const SEGMENT: [u8; 8] = [0, 80, 0x12, 0x34, 1, 2, 3, 4];

    fn quoted(src: impl Into<IpAddr>, dst: impl Into<IpAddr>) -> Quoted {
        let seq = Seq::new(0x0102_0304);
        Quoted { src: src.into(), dst: dst.into(), src_port: 80, dst_port: 0x1234, seq }
    }

    fn quote_v4(src: [u8; 4], dst: [u8; 4], segment: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; ipv4::HEADER_LEN];
        // The total length is that of the packet, of which only a part is quoted.
        let (src, dst) = (src.into(), dst.into());
        let fields = Ipv4Fields { src, dst, dscp: 0, ecn: 0, ttl: 1, protocol: 6, payload_len: 1480 };
        ipv4::emit(&mut octets, &fields);
        octets.extend(segment);
        octets
    }

    fn quote_v6(protocol: u8, src: Ipv6Addr, dst: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![0; ipv6::HEADER_LEN];
        let fields = Ipv6Fields {
            src,
            dst,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 1,
            protocol,
            payload_len: 1440,
        };
        ipv6::emit(&mut octets, &fields);
        octets.extend(payload);
        octets
    }

    fn message(icmp_type: u8, code: u8, word: u32, quote: &[u8], mut sum: Sum) -> Vec<u8> {
        let mut octets = vec![icmp_type, code, 0, 0];
        octets.extend(word.to_be_bytes());
        octets.extend(quote);
        sum.add(&octets);
        octets[2..4].copy_from_slice(&sum.finish().to_be_bytes());
        octets
    }

    fn v4(icmp_type: u8, code: u8, word: u32, quote: &[u8]) -> Result<IcmpError, DropReason> {
        parse_v4(&message(icmp_type, code, word, quote, Sum::new()))
    }

    fn v6(icmp_type: u8, code: u8, word: u32, quote: &[u8]) -> Result<IcmpError, DropReason> {
        let sum = checksum::pseudo_header(&ADDRS, 58, 8 + quote.len());
        parse_v6(&message(icmp_type, code, word, quote, sum), &ADDRS)
    }

    #[test]
    fn types_and_codes_of_ipv4_have_their_kinds() {
        let quote = quote_v4([192, 0, 2, 1], [192, 0, 2, 2], &SEGMENT);
        for (icmp_type, code, want) in [
            (3, 0, Ok(IcmpKind::HostUnreachable)),
            (3, 1, Ok(IcmpKind::HostUnreachable)),
            (3, 2, Ok(IcmpKind::ProtocolUnreachable)),
            (3, 3, Ok(IcmpKind::PortUnreachable)),
            (3, 4, Ok(IcmpKind::PacketTooBig { mtu: 1400 })),
            (3, 5, Ok(IcmpKind::HostUnreachable)),
            (3, 9, Ok(IcmpKind::AdminProhibited)),
            (3, 10, Ok(IcmpKind::AdminProhibited)),
            (3, 13, Ok(IcmpKind::AdminProhibited)),
            (3, 15, Ok(IcmpKind::HostUnreachable)),
            (4, 0, Ok(IcmpKind::SourceQuench)),
            (11, 0, Ok(IcmpKind::TimeExceeded)),
            (12, 0, Ok(IcmpKind::ParameterProblem)),
            (0, 0, Err(DropReason::IcmpIgnored)),
            (5, 1, Err(DropReason::IcmpIgnored)),
            (8, 0, Err(DropReason::IcmpIgnored)),
        ] {
            let quoted = quoted([192, 0, 2, 1], [192, 0, 2, 2]);
            let want = want.map(|kind| IcmpError { kind, quoted, icmp_type, code });
            // The upper half of the word is not part of the MTU.
            assert_eq!(v4(icmp_type, code, 0xabcd_0578, &quote), want, "type {icmp_type}, code {code}");
        }
    }

    #[test]
    fn types_and_codes_of_ipv6_have_their_kinds() {
        let quote = quote_v6(6, OURS, ROUTER, &SEGMENT);
        for (icmp_type, code, want) in [
            (1, 0, Ok(IcmpKind::HostUnreachable)),
            (1, 1, Ok(IcmpKind::AdminProhibited)),
            (1, 3, Ok(IcmpKind::HostUnreachable)),
            (1, 4, Ok(IcmpKind::PortUnreachable)),
            (1, 5, Ok(IcmpKind::AdminProhibited)),
            (1, 6, Ok(IcmpKind::AdminProhibited)),
            (2, 0, Ok(IcmpKind::PacketTooBig { mtu: 0x1_0500 })),
            (3, 0, Ok(IcmpKind::TimeExceeded)),
            (4, 1, Ok(IcmpKind::ParameterProblem)),
            (100, 0, Err(DropReason::IcmpIgnored)),
            (128, 0, Err(DropReason::IcmpIgnored)),
            (135, 0, Err(DropReason::IcmpIgnored)),
        ] {
            let want = want.map(|kind| IcmpError { kind, quoted: quoted(OURS, ROUTER), icmp_type, code });
            assert_eq!(v6(icmp_type, code, 0x1_0500, &quote), want, "type {icmp_type}, code {code}");
        }
    }

    #[test]
    fn quotes_of_ipv4_have_at_least_eight_octets_of_tcp() {
        type Change = fn(&mut Vec<u8>);
        let malformed = Some(DropReason::IcmpMalformed);
        let cases: [(Change, Option<DropReason>, &str); 11] = [
            (|_| (), None, "eight octets"),
            (|q| q.extend([0; 100]), None, "more than eight"),
            (|q| q[6] = 0x20, None, "the first fragment"),
            (|q| q[10] ^= 1, None, "a header checksum that somebody broke"),
            (|q| (q[0], q[27]) = (0x46, 0), malformed, "options take the place of TCP"),
            (|q| q.truncate(27), malformed, "seven octets"),
            (|q| q.truncate(19), malformed, "most of an IP header"),
            (|q| q[9] = 17, malformed, "UDP"),
            (|q| q[7] = 1, malformed, "a later fragment"),
            (|q| q[0] = 0x65, malformed, "another version"),
            (|q| q[0] = 0x44, malformed, "an impossible header"),
        ];
        for (change, want, why) in cases {
            let mut quote = quote_v4([192, 0, 2, 1], [192, 0, 2, 2], &SEGMENT);
            change(&mut quote);
            assert_eq!(v4(3, 3, 0, &quote).err(), want, "{why}");
        }
    }

    #[test]
    fn options_of_a_quoted_packet_are_skipped() {
        let mut quote = quote_v4([192, 0, 2, 1], [192, 0, 2, 2], &[&[1; 4], &SEGMENT[..]].concat());
        quote[0] = 0x46;
        assert_eq!(v4(3, 3, 0, &quote).map(|error| error.quoted), Ok(quoted([192, 0, 2, 1], [192, 0, 2, 2])));
    }

    #[test]
    fn quotes_of_ipv6_are_walked() {
        let with = |header: &[u8]| [header, &SEGMENT].concat();
        let malformed = Some(DropReason::IcmpMalformed);
        for (protocol, payload, want, why) in [
            (6, SEGMENT.to_vec(), None, "no extension header"),
            (60, with(&[6, 0, 1, 4, 0, 0, 0, 0]), None, "destination options"),
            (44, with(&[6, 0, 0, 1, 0, 0, 0, 0]), None, "the first fragment"),
            (44, with(&[6, 0, 0, 8, 0, 0, 0, 0]), malformed, "a later fragment"),
            (6, SEGMENT[..7].to_vec(), malformed, "seven octets of TCP"),
            (60, vec![6, 1, 1, 4, 0, 0, 0, 0], malformed, "cut off in an extension header"),
            (17, SEGMENT.to_vec(), malformed, "UDP"),
        ] {
            let got = v6(1, 4, 0, &quote_v6(protocol, OURS, ROUTER, &payload));
            assert_eq!(got.err(), want, "{why}");
        }
        let mut quote = quote_v6(6, OURS, ROUTER, &SEGMENT);
        quote[0] = 0x40;
        assert_eq!(v6(1, 4, 0, &quote).err(), malformed, "another version");
    }

    #[test]
    fn a_changed_octet_is_noticed() {
        let quote = quote_v4([192, 0, 2, 1], [192, 0, 2, 2], &SEGMENT);
        let mut octets = message(3, 3, 0, &quote, Sum::new());
        octets[30] ^= 4;
        assert_eq!(parse_v4(&octets), Err(DropReason::IcmpMalformed));
        assert_eq!(parse_v4(&octets[..7]), Err(DropReason::IcmpMalformed));

        let quote = quote_v6(6, OURS, ROUTER, &SEGMENT);
        let sum = checksum::pseudo_header(&ADDRS, 58, 8 + quote.len());
        let octets = message(1, 4, 0, &quote, sum);
        assert!(parse_v6(&octets, &ADDRS).is_ok());
        let others = AddrPair::V6 { local: Ipv6Addr::LOCALHOST, remote: ROUTER };
        assert_eq!(parse_v6(&octets, &others), Err(DropReason::IcmpMalformed));
    }

    proptest! {
        #[test]
        fn what_was_sent_is_found_in_the_quote(
            src4: [u8; 4], dst4: [u8; 4], src6: [u8; 16], dst6: [u8; 16], ports: (u16, u16), seq: u32,
        ) {
            let (src_port, dst_port) = ports;
            let mut segment = src_port.to_be_bytes().to_vec();
            segment.extend(dst_port.to_be_bytes());
            segment.extend(seq.to_be_bytes());
            let seq = Seq::new(seq);

            let error = v4(11, 0, 0, &quote_v4(src4, dst4, &segment)).unwrap();
            let want = Quoted { src: src4.into(), dst: dst4.into(), src_port, dst_port, seq };
            prop_assert_eq!(error.quoted, want);

            let error = v6(3, 0, 0, &quote_v6(6, src6.into(), dst6.into(), &segment)).unwrap();
            let want = Quoted { src: src6.into(), dst: dst6.into(), src_port, dst_port, seq };
            prop_assert_eq!(error.quoted, want);
        }
    }
}
