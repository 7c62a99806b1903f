//! Packets of the scripted peer, over either version of IP: built from fields, and taken apart again.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringroad::base::{AddrPair, Seq};
use ringroad::wire::{
    Control, EthernetView, Ipv4Fields, Ipv6Fields, Mac, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, Sum,
    TcpFields, TcpView, checksum, ethernet, ip, ipv4, ipv6, tcp,
};

/// The link addresses: ours and the peer's.
pub const OUR_MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);
pub const PEER_MAC: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// The ports of the one connection that scripts are about.
pub const OUR_PORT: u16 = 80;
pub const PEER_PORT: u16 = 50_000;

/// A version of IP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V4,
    V6,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

impl Version {
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The address of host `n` on the link.
    pub fn host(self, n: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::from([192, 0, 2, n]),
            Self::V6 => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)]),
        }
    }

    /// Our socket.
    pub fn ours(self) -> SocketAddr {
        SocketAddr::new(self.host(1), OUR_PORT)
    }

    /// The peer's socket.
    pub fn peers(self) -> SocketAddr {
        SocketAddr::new(self.host(2), PEER_PORT)
    }

    /// An address with a name: what no connection may be with. `None` where this version has none.
    pub fn named(self, name: &str) -> Option<IpAddr> {
        Some(match (name, self) {
            ("multicast", Self::V4) => IpAddr::from([224, 0, 0, 1]),
            ("multicast", Self::V6) => IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 1]),
            ("unspecified", Self::V4) => IpAddr::from([0, 0, 0, 0]),
            ("unspecified", Self::V6) => IpAddr::from([0; 8]),
            ("broadcast", Self::V4) => Ipv4Addr::BROADCAST.into(),
            ("stranger", _) => self.host(9),
            ("ourselves", _) => self.host(1),
            _ => return None,
        })
    }

    /// Octets of the headers of a segment without options.
    pub fn header_octets(self) -> u16 {
        match self {
            Self::V4 => 40,
            Self::V6 => 60,
        }
    }
}

/// One segment in numbers as they are on the wire, and what of its IP header matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub ctl: Control,
    pub seq: u32,
    pub ack: u32,
    pub wnd: u16,
    pub urg: u16,
    pub options: Vec<u8>,
    pub text: Vec<u8>,
    pub ttl: u8,
    pub dscp: u8,
    /// The ECN field (RFC 3168 §5).
    pub ecn: u8,
    /// Whether the checksum is what it should be.
    pub intact: bool,
    /// Octets of options in the IPv4 header, a multiple of four.
    pub ip_options: Vec<u8>,
}

impl Packet {
    /// A segment of the peer with nothing in it.
    pub fn of_peer(version: Version) -> Self {
        Self {
            from: version.peers(),
            to: version.ours(),
            ctl: Control::EMPTY,
            seq: 0,
            ack: 0,
            wnd: 65_535,
            urg: 0,
            options: Vec::new(),
            text: Vec::new(),
            ttl: 64,
            dscp: 0,
            ecn: 0,
            intact: true,
            ip_options: Vec::new(),
        }
    }

    /// SEG.LEN.
    pub fn len(&self) -> u32 {
        let text = u32::try_from(self.text.len()).expect("a packet's text");
        text + u32::from(self.has(Control::SYN)) + u32::from(self.has(Control::FIN))
    }

    pub fn has(&self, bits: Control) -> bool {
        self.ctl.intersects(bits)
    }

    /// The value of the first option of this kind.
    pub fn option(&self, kind: u8) -> Option<&[u8]> {
        let mut rest = self.options.as_slice();
        loop {
            rest = match rest {
                [] | [0, ..] => return None,
                [1, after @ ..] => after,
                [found, len, ..] if *found == kind => return rest.get(2..usize::from(*len)),
                [_, len, ..] if *len >= 2 => rest.get(usize::from(*len)..)?,
                _ => return None,
            }
        }
    }

    /// TSval and TSecr.
    pub fn timestamps(&self) -> Option<(u32, u32)> {
        let (val, ecr) = self.option(8)?.split_at_checked(4)?;
        Some((u32::from_be_bytes(val.try_into().ok()?), u32::from_be_bytes(ecr.try_into().ok()?)))
    }

    /// The octets of the frame.
    pub fn frame(&self) -> Vec<u8> {
        let fields = TcpFields {
            src_port: self.from.port(),
            dst_port: self.to.port(),
            seq: Seq::new(self.seq),
            ack: Seq::new(self.ack),
            ctl: self.ctl,
            wnd: self.wnd,
            urg: self.urg,
        };
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let mut segment = vec![0; tcp::HEADER_LEN];
        segment.resize(tcp::HEADER_LEN + options.len(), 0);
        tcp::emit(&mut segment, &fields, options.len());
        segment[tcp::HEADER_LEN..].copy_from_slice(&options);
        segment.extend(&self.text);
        let addrs = AddrPair::new(self.to.ip(), self.from.ip()).expect("one version");
        let mut sum = checksum::pseudo_header(&addrs, PROTOCOL_TCP, segment.len());
        sum.add(&segment);
        tcp::set_checksum(&mut segment, sum.finish() ^ u16::from(!self.intact));
        let mut frame =
            packet(self.from.ip(), self.to.ip(), PROTOCOL_TCP, &segment, self.dscp << 2 | self.ecn);
        if !self.ip_options.is_empty() {
            add_ip_options(&mut frame, &self.ip_options);
        }
        frame
    }

    /// Takes a frame apart.
    pub fn parse(frame: &[u8]) -> Self {
        let eth = EthernetView::parse(frame).expect("Ethernet");
        assert_eq!((eth.src, eth.dst), (OUR_MAC, PEER_MAC), "link addresses");
        let ip = ip::parse(eth.ether_type, eth.payload).expect("IP");
        let view = TcpView::parse(ip.payload).expect("TCP");
        let (ttl, dscp) = match ip.addrs {
            AddrPair::V4 { .. } => (eth.payload[8], eth.payload[1] >> 2),
            AddrPair::V6 { .. } => (eth.payload[7], (eth.payload[0] << 4 | eth.payload[1] >> 4) >> 2),
        };
        Self {
            from: SocketAddr::new(ip.addrs.remote(), view.src_port()),
            to: SocketAddr::new(ip.addrs.local(), view.dst_port()),
            ctl: view.ctl(),
            seq: view.seq().raw(),
            ack: view.ack().raw(),
            wnd: view.wnd(),
            urg: view.urg(),
            options: view.options.to_vec(),
            text: view.payload.to_vec(),
            ttl,
            dscp,
            ecn: ip.ecn,
            intact: checksum::verify(&ip.addrs, PROTOCOL_TCP, ip.payload),
            ip_options: Vec::new(),
        }
    }
}

/// A frame with an IP packet around `payload`.
fn packet(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8], class: u8) -> Vec<u8> {
    let payload_len = u16::try_from(payload.len()).expect("a packet's payload");
    let (header_len, ether_type) = match from {
        IpAddr::V4(_) => (ipv4::HEADER_LEN, ethernet::ETHER_TYPE_IPV4),
        IpAddr::V6(_) => (ipv6::HEADER_LEN, ethernet::ETHER_TYPE_IPV6),
    };
    let mut frame = vec![0; ethernet::HEADER_LEN + header_len];
    let at = ethernet::emit(&mut frame, OUR_MAC, PEER_MAC, None, ether_type);
    match (from, to) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let fields =
                Ipv4Fields { src, dst, dscp: class >> 2, ecn: class & 3, ttl: 64, protocol, payload_len };
            ipv4::emit(&mut frame[at..], &fields);
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let fields = Ipv6Fields {
                src,
                dst,
                traffic_class: class,
                flow_label: 0,
                hop_limit: 64,
                protocol,
                payload_len,
            };
            ipv6::emit(&mut frame[at..], &fields);
        }
        _ => unreachable!("both addresses are of one version"),
    }
    frame.extend_from_slice(payload);
    frame
}

/// Puts options into the IPv4 header of a frame that has none.
fn add_ip_options(frame: &mut Vec<u8>, options: &[u8]) {
    let (start, end) = (ethernet::HEADER_LEN, ethernet::HEADER_LEN + ipv4::HEADER_LEN);
    frame.splice(end..end, options.iter().copied());
    let header = &mut frame[start..end + options.len()];
    let added = u8::try_from(options.len()).expect("forty octets at most");
    header[0] += added / 4;
    let total = u16::from_be_bytes([header[2], header[3]]) + u16::from(added);
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[10..12].fill(0);
    let mut sum = Sum::new();
    sum.add(header);
    let sum = sum.finish().to_be_bytes();
    header[10..12].copy_from_slice(&sum);
}

/// What an ICMP error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpKind {
    HostUnreachable,
    PortUnreachable,
    ProtocolUnreachable,
    AdminProhibited,
    TooBig,
    TimeExceeded,
    ParameterProblem,
    SourceQuench,
}

impl IcmpKind {
    pub const ALL: [(&str, Self); 8] = [
        ("host-unreachable", Self::HostUnreachable),
        ("port-unreachable", Self::PortUnreachable),
        ("protocol-unreachable", Self::ProtocolUnreachable),
        ("admin-prohibited", Self::AdminProhibited),
        ("too-big", Self::TooBig),
        ("time-exceeded", Self::TimeExceeded),
        ("parameter-problem", Self::ParameterProblem),
        ("source-quench", Self::SourceQuench),
    ];

    /// Type and code; `None` where this version has no such error.
    pub fn type_and_code(self, version: Version) -> Option<(u8, u8)> {
        use IcmpKind::*;
        Some(match (version, self) {
            (Version::V4, HostUnreachable) => (3, 1),
            (Version::V4, ProtocolUnreachable) => (3, 2),
            (Version::V4, PortUnreachable) => (3, 3),
            (Version::V4, TooBig) => (3, 4),
            (Version::V4, AdminProhibited) => (3, 13),
            (Version::V4, SourceQuench) => (4, 0),
            (Version::V4, TimeExceeded) => (11, 0),
            (Version::V4, ParameterProblem) => (12, 0),
            (Version::V6, HostUnreachable) => (1, 3),
            (Version::V6, AdminProhibited) => (1, 1),
            (Version::V6, PortUnreachable) => (1, 4),
            (Version::V6, TooBig) => (2, 0),
            (Version::V6, TimeExceeded) => (3, 0),
            (Version::V6, ParameterProblem) => (4, 0),
            (Version::V6, SourceQuench | ProtocolUnreachable) => return None,
        })
    }
}

/// The frame of an ICMP error about a segment of ours that began at `seq`, from the peer.
pub fn icmp(version: Version, (icmp_type, code): (u8, u8), seq: u32, mtu: u32) -> Vec<u8> {
    let (ours, peers) = (version.ours(), version.peers());
    let mut segment = [ours.port().to_be_bytes(), peers.port().to_be_bytes()].concat();
    segment.extend(seq.to_be_bytes());
    let quoted = packet(ours.ip(), peers.ip(), PROTOCOL_TCP, &segment, 0);
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&quoted[ethernet::HEADER_LEN..]);
    let (protocol, mut sum) = match version {
        Version::V4 => (PROTOCOL_ICMP, Sum::new()),
        Version::V6 => {
            let addrs = AddrPair::new(ours.ip(), peers.ip()).expect("one version");
            (PROTOCOL_ICMPV6, checksum::pseudo_header(&addrs, PROTOCOL_ICMPV6, message.len()))
        }
    };
    sum.add(&message);
    message[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    packet(peers.ip(), ours.ip(), protocol, &message, 0)
}
