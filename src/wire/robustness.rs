//! No octets make a parser panic, and what a parser accepts lies within what it was given.
#![forbid(unsafe_code)]

use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::format;
use std::vec;
use std::vec::Vec;

use super::*;
use crate::base::{AddrPair, Seq};

const MACS: (Mac, Mac) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
const V4: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
const V6: (Ipv6Addr, Ipv6Addr) =
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2));
const V6_ADDRS: AddrPair = AddrPair::V6 { local: V6.1, remote: V6.0 };

fn len16(octets: &[u8]) -> u16 {
    u16::try_from(octets.len()).unwrap()
}

/// A segment with every option and some text.
fn segment() -> Vec<u8> {
    let mut options = TcpOptions {
        mss: Some(1460),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some(Timestamps { val: 1, ecr: 2 }),
        sack: SackBlocks::default(),
    };
    options.sack.push(Seq::new(5), Seq::new(9));
    let fields = TcpFields {
        src_port: 80,
        dst_port: 4660,
        seq: Seq::new(u32::MAX),
        ack: Seq::new(7),
        ctl: Control::ACK | Control::PSH,
        wnd: 512,
        urg: 0,
    };
    let mut out = vec![0; 60];
    tcp::emit(&mut out, &fields, options.len());
    options.emit(&mut out[tcp::HEADER_LEN..][..options.len()]);
    out.truncate(tcp::HEADER_LEN + options.len());
    out.extend(b"GET / HTTP/1.1");
    out
}

fn ipv4_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ipv4::HEADER_LEN];
    let (src, dst) = V4;
    let fields = Ipv4Fields { src, dst, dscp: 0, ecn: 0, ttl: 64, protocol, payload_len: len16(payload) };
    ipv4::emit(&mut out, &fields);
    out.extend(payload);
    out
}

fn ipv6_packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; ipv6::HEADER_LEN];
    let (src, dst) = V6;
    let fields = Ipv6Fields {
        src,
        dst,
        traffic_class: 0,
        flow_label: 0,
        hop_limit: 64,
        protocol,
        payload_len: len16(payload),
    };
    ipv6::emit(&mut out, &fields);
    out.extend(payload);
    out
}

fn icmp_message(head: [u8; 8], quote: &[u8], mut sum: Sum) -> Vec<u8> {
    let mut out = [&head[..], quote].concat();
    sum.add(&out);
    out[2..4].copy_from_slice(&sum.finish().to_be_bytes());
    out
}

fn frame(vlan: Option<u16>, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; 18];
    let len = ethernet::emit(&mut out, MACS.0, MACS.1, vlan, ether_type);
    out.truncate(len);
    out.extend(payload);
    out
}

/// One frame of each sort that is of use to the stack.
fn valid_frames() -> Vec<Vec<u8>> {
    let chain = [&[60, 0, 1, 4, 0, 0, 0, 0, 43, 0, 5, 2, 0, 0, 1, 0][..], &[44, 0, 2, 0, 0, 0, 0, 0]];
    let walked = [&chain.concat()[..], &[6, 0, 0, 0, 0, 0, 0, 1], &segment()].concat();
    let icmp4 = icmp_message([3, 4, 0, 0, 0, 0, 5, 0], &ipv4_packet(6, &segment()), Sum::new());
    let quote = ipv6_packet(6, &segment());
    let sum = checksum::pseudo_header(&V6_ADDRS, PROTOCOL_ICMPV6, 8 + quote.len());
    let icmp6 = icmp_message([2, 0, 0, 0, 0, 0, 5, 0], &quote, sum);
    vec![
        frame(None, ethernet::ETHER_TYPE_IPV4, &ipv4_packet(PROTOCOL_TCP, &segment())),
        frame(Some(7), ethernet::ETHER_TYPE_IPV4, &ipv4_packet(PROTOCOL_ICMP, &icmp4)),
        frame(Some(7), ethernet::ETHER_TYPE_IPV6, &ipv6_packet(PROTOCOL_TCP, &segment())),
        frame(None, ethernet::ETHER_TYPE_IPV6, &ipv6_packet(0, &walked)),
        frame(None, ethernet::ETHER_TYPE_IPV6, &ipv6_packet(PROTOCOL_ICMPV6, &icmp6)),
    ]
}

/// Whether `part` is a part of `whole` and not of anything else.
fn lies_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Gives `octets` to every parser, each accepted view to all its accessors.
fn read_as_everything(octets: &[u8]) {
    if let Ok(view) = EthernetView::parse(octets) {
        assert!(lies_within(view.payload, octets) && view.vlan.is_none_or(|vid| vid < 4096));
    }
    if let Ok(view) = Ipv4View::parse(octets) {
        assert!(lies_within(view.payload, octets));
        assert!(view.header.dscp() < 64 && view.header.ecn() < 4 && view.header.total_len() <= octets.len());
        assert!(view.header.header_len().is_some_and(|len| len + view.payload.len() <= octets.len()));
    }
    if let Ok(view) = Ipv6View::parse(octets) {
        assert!(lies_within(view.payload, octets) && view.header.flow_label() < 1 << 20);
        assert!(view.payload.len() <= view.header.payload_len());
    }
    if let Ok(view) = TcpView::parse(octets) {
        assert!(lies_within(view.options, octets) && lies_within(view.payload, octets));
        assert_eq!(view.data_offset() + view.payload.len(), octets.len());
        read_as_options(view.options);
        assert!(!format!("{view:?} {:?}", view.ctl()).is_empty());
    }
    read_as_options(octets);
    for error in [icmp::parse_v4(octets), icmp::parse_v6(octets, &V6_ADDRS)].into_iter().flatten() {
        assert_eq!(error.quoted.src.is_ipv4(), error.quoted.dst.is_ipv4());
    }
}

/// Whatever was read can be written, and then reads the same.
fn read_as_options(octets: &[u8]) {
    let options = TcpOptions::parse(octets);
    assert_eq!(TcpOptions::timestamps(octets), options.timestamps);
    let mut out = [0; tcp::OPTIONS_LEN_MAX];
    options.emit(&mut out[..options.len()]);
    let again = TcpOptions::parse(&out[..options.len()]);
    assert_eq!(TcpOptions { sack: options.sack, ..again }, options);
    assert!(options.sack.as_slice().starts_with(again.sack.as_slice()));
}

/// Goes up the layers as the stack does; what the topmost parser said.
fn read_upwards(frame: &[u8]) -> Result<&'static str, crate::base::DropReason> {
    let link = EthernetView::parse(frame)?;
    let packet = ip::parse(link.ether_type, link.payload)?;
    match packet.protocol {
        PROTOCOL_TCP => TcpView::parse(packet.payload).map(|_| "tcp"),
        PROTOCOL_ICMP => icmp::parse_v4(packet.payload).map(|_| "icmp"),
        PROTOCOL_ICMPV6 => icmp::parse_v6(packet.payload, &packet.addrs).map(|_| "icmpv6"),
        _ => Ok("other"),
    }
}

#[test]
fn the_frames_to_be_mutated_are_valid() {
    let read: Vec<_> = valid_frames().iter().map(|frame| read_upwards(frame)).collect();
    assert_eq!(read, [Ok("tcp"), Ok("icmp"), Ok("tcp"), Ok("tcp"), Ok("icmpv6")]);
}

proptest! {
    #[test]
    fn random_octets_are_survived(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        read_as_everything(&octets);
        let _: Result<_, _> = read_upwards(&octets);
    }

    /// A mutated frame is near the boundaries that random octets never reach. It is read from every
    /// header on, since a checksum further down would stop most of them.
    #[test]
    fn mutated_frames_are_survived(
        which: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: prop::sample::Index,
    ) {
        let mut frame = which.get(&valid_frames()).clone();
        for (at, octet) in changes {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        let whole = frame.len();
        frame.truncate(cut.index(whole * 2));
        let _: Result<_, _> = read_upwards(&frame);
        for start in 0..frame.len().min(100) {
            read_as_everything(&frame[start..]);
        }
    }
}
