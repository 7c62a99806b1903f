//! Either version of IP as one type, so that the layers above see addresses and a payload.
#![forbid(unsafe_code)]

use super::ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use super::ipv4::Ipv4View;
use super::ipv6::Ipv6View;
use crate::base::{AddrPair, DropReason};

/// Protocol number of ICMP for IPv4.
pub const PROTOCOL_ICMP: u8 = 1;
/// Protocol number of TCP.
pub const PROTOCOL_TCP: u8 = 6;
/// The ECN field of packets whose transport knows what marks mean (RFC 3168 §5): ECT(0).
pub const ECT_0: u8 = 0b10;
/// The ECN field of packets that experienced congestion (RFC 3168 §5).
pub const CE: u8 = 0b11;
/// Protocol number of ICMP for IPv6.
pub const PROTOCOL_ICMPV6: u8 = 58;

/// A packet whose headers and lengths have been checked; both addresses are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpView<'a> {
    /// The addresses as whoever receives it sees them: the source is the remote one.
    pub addrs: AddrPair,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Explicit congestion notification, two bits (RFC 3168).
    pub ecn: u8,
    /// What follows the headers, without the frame's padding.
    pub payload: &'a [u8],
}

/// Reads the packet that a frame with this EtherType carries.
///
/// # Errors
///
/// [`DropReason::NotIp`] and those of [`Ipv4View::parse`] and [`Ipv6View::parse`].
#[inline]
pub fn parse(ether_type: u16, payload: &[u8]) -> Result<IpView<'_>, DropReason> {
    match ether_type {
        ETHER_TYPE_IPV4 => Ipv4View::parse(payload).map(|view| IpView {
            addrs: AddrPair::V4 { local: view.dst, remote: view.src },
            protocol: view.protocol,
            ecn: view.header.ecn(),
            payload: view.payload,
        }),
        ETHER_TYPE_IPV6 => Ipv6View::parse(payload).map(|view| IpView {
            addrs: AddrPair::V6 { local: view.dst, remote: view.src },
            protocol: view.protocol,
            ecn: view.header.ecn(),
            payload: view.payload,
        }),
        _ => Err(DropReason::NotIp),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::ethernet::ETHER_TYPE_ARP;
    use crate::wire::{ipv4, ipv6};

    #[test]
    fn the_ether_type_chooses_the_version() {
        let mut v4 = [7; ipv4::HEADER_LEN + 3];
        let (src, dst) = ([192, 0, 2, 1], [192, 0, 2, 2]);
        let fields = ipv4::Ipv4Fields {
            src: src.into(),
            dst: dst.into(),
            dscp: 0,
            ecn: 1,
            ttl: 64,
            protocol: PROTOCOL_TCP,
            payload_len: 3,
        };
        ipv4::emit(&mut v4, &fields);
        let addrs = AddrPair::V4 { local: dst.into(), remote: src.into() };
        let view = IpView { addrs, protocol: PROTOCOL_TCP, ecn: 1, payload: &[7; 3] };
        assert_eq!(parse(ETHER_TYPE_IPV4, &v4), Ok(view));
        assert_eq!(parse(ETHER_TYPE_ARP, &v4), Err(DropReason::NotIp));

        let mut v6 = [7; ipv6::HEADER_LEN + 3];
        let (src, dst) = ([0x20; 16], [0x21; 16]);
        let fields = ipv6::Ipv6Fields {
            src: src.into(),
            dst: dst.into(),
            traffic_class: 0xfe,
            flow_label: 0,
            hop_limit: 64,
            protocol: PROTOCOL_ICMPV6,
            payload_len: 3,
        };
        ipv6::emit(&mut v6, &fields);
        let addrs = AddrPair::V6 { local: dst.into(), remote: src.into() };
        let view = IpView { addrs, protocol: PROTOCOL_ICMPV6, ecn: 2, payload: &[7; 3] };
        assert_eq!(parse(ETHER_TYPE_IPV6, &v6), Ok(view));
        assert_eq!(parse(ETHER_TYPE_IPV4, &v6), Err(DropReason::Ipv4Header));
    }
}
