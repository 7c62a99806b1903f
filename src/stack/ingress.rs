//! From octets to a segment with a four-tuple: every check that needs no connection.
#![forbid(unsafe_code)]

use core::net::IpAddr;

use crate::base::{DropReason, FlowKey, Seq};
use crate::tcp::{IcmpMeaning, Segment};
use crate::wire::{
    IcmpError, IcmpKind, IpView, Mac, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, TcpOptions, TcpView,
    checksum, ethernet, icmp, ip,
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
    Tcp { link: Link, key: FlowKey, seg: Segment<'a> },
    Icmp { key: FlowKey, meaning: IcmpMeaning, seq: Seq },
}

/// Octets of headers between the MTU and TCP's text and options.
pub(super) const fn header_octets(v4: bool) -> u16 {
    if v4 { 20 + 20 } else { 40 + 20 }
}

/// Reads one frame.
///
/// # Errors
///
/// Why it goes no further.
pub(super) fn parse(frame: &[u8], verify_checksums: bool) -> Result<Packet<'_>, DropReason> {
    let eth = ethernet::EthernetView::parse(frame)?;
    let ip = ip::parse(eth.ether_type, eth.payload)?;
    match ip.protocol {
        PROTOCOL_TCP => {
            let (key, seg) = parse_tcp(&ip, verify_checksums)?;
            Ok(Packet::Tcp { link: Link { mac: eth.src, vlan: eth.vlan }, key, seg })
        }
        PROTOCOL_ICMP | PROTOCOL_ICMPV6 => parse_icmp(&ip),
        _ => Err(DropReason::NotTcp),
    }
}

fn parse_tcp<'a>(ip: &IpView<'a>, verify: bool) -> Result<(FlowKey, Segment<'a>), DropReason> {
    let tcp = TcpView::parse(ip.payload)?;
    if verify && !checksum::verify(ip.src, ip.dst, PROTOCOL_TCP, ip.payload) {
        return Err(DropReason::TcpChecksum);
    }
    let key = FlowKey {
        local: ip.dst,
        remote: ip.src,
        local_port: tcp.header.dst_port(),
        remote_port: tcp.header.src_port(),
    };
    let seg = Segment {
        seq: tcp.header.seq(),
        ack: tcp.header.ack(),
        ctl: tcp.header.ctl(),
        wnd: tcp.header.wnd(),
        up: tcp.header.urg(),
        options: TcpOptions::parse(tcp.options),
        text: tcp.payload,
    };
    Ok((key, seg))
}

fn parse_icmp<'a>(ip: &IpView<'a>) -> Result<Packet<'a>, DropReason> {
    let error = match (ip.protocol, ip.src, ip.dst) {
        (PROTOCOL_ICMP, IpAddr::V4(_), IpAddr::V4(_)) => icmp::parse_v4(ip.payload)?,
        (PROTOCOL_ICMPV6, IpAddr::V6(src), IpAddr::V6(dst)) => icmp::parse_v6(ip.payload, src, dst)?,
        _ => return Err(DropReason::IcmpIgnored),
    };
    let quoted = error.quoted;
    let key = FlowKey {
        local: quoted.src,
        remote: quoted.dst,
        local_port: quoted.src_port,
        remote_port: quoted.dst_port,
    };
    // An error about our packet is sent to whoever sent it.
    if quoted.src != ip.dst {
        return Err(DropReason::IcmpUnmatched);
    }
    let meaning = meaning(&error, quoted.dst.is_ipv4())?;
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
