//! From octets to a segment with a four-tuple: every check that needs no connection.
#![forbid(unsafe_code)]

use core::net::SocketAddr;

use crate::base::{AddrPair, DropReason, FlowKey, Seq};
use crate::tcp::{IcmpMeaning, Segment};
use crate::wire::ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use crate::wire::{
    CE, EthernetView, IcmpError, IcmpKind, IpView, Ipv4View, Ipv6View, Mac, PROTOCOL_ICMP, PROTOCOL_ICMPV6,
    PROTOCOL_TCP, TcpOptions, TcpView, checksum, icmp, ip,
};

/// Where a frame came from, on the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub mac: Mac,
    pub vlan: Option<u16>,
}

/// A frame that concerns a flow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packet<'a> {
    Tcp(TcpPacket<'a>),
    Icmp { key: FlowKey, meaning: IcmpMeaning, seq: Seq },
}

/// A segment, whose it is and where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpPacket<'a> {
    pub link: Link,
    pub key: FlowKey,
    pub seg: Segment<'a>,
}

/// Octets of headers between the MTU and TCP's text and options.
pub(super) const fn header_octets(v4: bool) -> u16 {
    if v4 { 20 + 20 } else { 40 + 20 }
}

/// Reads one frame, header by header.
///
/// # Errors
///
/// Why it goes no further.
pub(super) fn parse(frame: &[u8], verify_checksums: bool) -> Result<Packet<'_>, DropReason> {
    let eth = EthernetView::parse(frame)?;
    let link = Link { mac: eth.src, vlan: eth.vlan };
    // Apart for each version, so that the compiler knows which addresses it works with.
    match eth.ether_type {
        ETHER_TYPE_IPV4 => {
            let ip = Ipv4View::parse(eth.payload)?;
            let addrs = AddrPair::V4 { local: ip.dst, remote: ip.src };
            if ip.protocol == PROTOCOL_TCP {
                return parse_tcp(link, addrs, ip.header.ecn() == CE, ip.payload, verify_checksums);
            }
        }
        ETHER_TYPE_IPV6 => {
            let ip = Ipv6View::parse(eth.payload)?;
            let addrs = AddrPair::V6 { local: ip.dst, remote: ip.src };
            if ip.protocol == PROTOCOL_TCP {
                return parse_tcp(link, addrs, ip.header.ecn() == CE, ip.payload, verify_checksums);
            }
        }
        _ => return Err(DropReason::NotIp),
    }
    parse_icmp(&ip::parse(eth.ether_type, eth.payload)?)
}

fn parse_tcp(
    link: Link,
    addrs: AddrPair,
    ce: bool,
    payload: &[u8],
    verify: bool,
) -> Result<Packet<'_>, DropReason> {
    let tcp = TcpView::parse(payload)?;
    if verify && !checksum::verify(&addrs, PROTOCOL_TCP, payload) {
        return Err(DropReason::TcpChecksum);
    }
    let seg = Segment {
        seq: tcp.header.seq(),
        ack: tcp.header.ack(),
        ctl: tcp.header.ctl(),
        wnd: tcp.header.wnd(),
        up: tcp.header.urg(),
        ce,
        stamps: TcpOptions::timestamps(tcp.options),
        options: tcp.options,
        text: tcp.payload,
    };
    let key = FlowKey { addrs, local_port: tcp.header.dst_port(), remote_port: tcp.header.src_port() };
    Ok(Packet::Tcp(TcpPacket { link, key, seg }))
}

/// An ICMP error, or something that is no concern of TCP.
#[cold]
fn parse_icmp<'a>(ip: &IpView<'a>) -> Result<Packet<'a>, DropReason> {
    let error = match (ip.protocol, ip.addrs) {
        (PROTOCOL_ICMP, AddrPair::V4 { .. }) => icmp::parse_v4(ip.payload)?,
        (PROTOCOL_ICMPV6, AddrPair::V6 { .. }) => icmp::parse_v6(ip.payload, &ip.addrs)?,
        _ => return Err(DropReason::NotTcp),
    };
    let quoted = error.quoted;
    let local = SocketAddr::new(quoted.src, quoted.src_port);
    let remote = SocketAddr::new(quoted.dst, quoted.dst_port);
    let key = FlowKey::new(local, remote).ok_or(DropReason::IcmpMalformed)?;
    // An error about our packet is sent to whoever sent it.
    if quoted.src != ip.addrs.local() {
        return Err(DropReason::IcmpUnmatched);
    }
    let meaning = meaning(&error, key.is_ipv4())?;
    Ok(Packet::Icmp { key, meaning, seq: quoted.seq })
}

/// What an ICMP error means to TCP (RFC 9293 §3.9.2.2).
fn meaning(error: &IcmpError, v4: bool) -> Result<IcmpMeaning, DropReason> {
    Ok(match error.kind {
        IcmpKind::PortUnreachable | IcmpKind::ProtocolUnreachable => {
            IcmpMeaning::Refused { icmp_type: error.icmp_type, code: error.code }
        }
        // A router that does not say its MTU (RFC 1191 §5) leaves us the least that IPv4 must carry.
        IcmpKind::PacketTooBig { mtu } => {
            // RFC 8201 §4: every IPv6 link carries 1280 octets, so who says less is not believed.
            if !v4 && mtu < 1_280 {
                return Err(DropReason::IcmpIgnored);
            }
            let mtu = u16::try_from(mtu).unwrap_or(u16::MAX);
            let mtu = if mtu == 0 { 576 } else { mtu };
            IcmpMeaning::TooBig { mss: mtu.saturating_sub(header_octets(v4)) }
        }
        // MUST-55.
        IcmpKind::SourceQuench => return Err(DropReason::IcmpIgnored),
        IcmpKind::HostUnreachable
        | IcmpKind::AdminProhibited
        | IcmpKind::TimeExceeded
        | IcmpKind::ParameterProblem => IcmpMeaning::Soft { icmp_type: error.icmp_type, code: error.code },
    })
}
