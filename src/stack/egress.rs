//! From a segment to octets: headers, text copied once, checksums.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::ingress::Link;
use crate::base::{AddrPair, FlowKey};
use crate::tcp::{ChunkPool, Outgoing, Shared, Tcb};
use crate::wire::tcp::{self, TcpFields};
use crate::wire::{Ipv4Fields, Mac, PROTOCOL_TCP, Sum, checksum, ethernet, ipv4, ipv6};

/// What every packet of a flow has in its link and network headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub link: Link,
    pub ttl: u8,
    pub dscp: u8,
}

/// Where a segment's text lies.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub tcb: &'a mut Tcb,
    pub pool: &'a ChunkPool,
    pub shared: &'a mut Shared,
}

/// Writes one segment into `frame`; returns the frame's length.
///
/// `frame` holds at least the MTU and the link header, as the MSS supposes.
#[inline(always)]
pub(super) fn write(
    frame: &mut [u8],
    ours: Mac,
    path: &Path,
    key: &FlowKey,
    out: &Outgoing,
    text: Option<Text<'_>>,
) -> usize {
    let options_len = out.options.len();
    let tcp_len = tcp::HEADER_LEN + options_len + out.text_len as usize;
    let network = match (key.addrs, frame.first_chunk_mut()) {
        // Nearly every frame: with an array the compiler knows where each header lies.
        (AddrPair::V4 { local, remote }, Some(head)) if path.link.vlan.is_none() => {
            write_plain(head, ours, path, local, remote, tcp_len)
        }
        _ => write_network(frame, ours, path, key, tcp_len),
    };
    write_segment(&mut frame[network..network + tcp_len], options_len, key, out, text);
    network + tcp_len
}

#[inline(always)]
fn write_segment(
    segment: &mut [u8],
    options_len: usize,
    key: &FlowKey,
    out: &Outgoing,
    text: Option<Text<'_>>,
) {
    let tcp_len = segment.len();
    let (header, rest) =
        segment.split_first_chunk_mut::<{ tcp::HEADER_LEN }>().expect("a segment has a header");
    let (options, room) = rest.split_at_mut(options_len);
    let fields = TcpFields {
        src_port: key.local_port,
        dst_port: key.remote_port,
        seq: out.seq,
        ack: out.ack,
        ctl: out.ctl,
        wnd: out.wnd,
        urg: 0,
    };
    let mut sum = tcp::emit(header, &fields, options_len);
    sum.join(checksum::pseudo_header(&key.addrs, PROTOCOL_TCP, tcp_len));
    sum.join(out.options.emit(options));
    if let Some(text) = text {
        copy_text(room, out, text, &mut sum);
    }
    tcp::set_checksum(header, sum.finish());
}

/// The one copy on the way out, summed as it goes.
#[inline(always)]
fn copy_text(room: &mut [u8], out: &Outgoing, text: Text<'_>, sum: &mut Sum) {
    let mut at = 0;
    text.tcb.text(out, text.pool, text.shared, |slice| {
        sum.copy(&mut room[at..at + slice.len()], slice);
        at += slice.len();
    });
}

/// Link and network header of an untagged frame over IPv4; returns their length.
#[inline(always)]
fn write_plain(
    head: &mut [u8; ethernet::HEADER_LEN + ipv4::HEADER_LEN],
    ours: Mac,
    path: &Path,
    src: Ipv4Addr,
    dst: Ipv4Addr,
    tcp_len: usize,
) -> usize {
    let (link, network) = head.split_at_mut(ethernet::HEADER_LEN);
    ethernet::emit(link, path.link.mac, ours, None, ethernet::ETHER_TYPE_IPV4)
        + ipv4::emit(network, &ipv4_fields(path, src, dst, tcp_len))
}

fn ipv4_fields(path: &Path, src: Ipv4Addr, dst: Ipv4Addr, tcp_len: usize) -> Ipv4Fields {
    let payload_len = u16::try_from(tcp_len).expect("the MSS bounds a segment");
    Ipv4Fields { src, dst, dscp: path.dscp, ecn: 0, ttl: path.ttl, protocol: PROTOCOL_TCP, payload_len }
}

/// Link and network header; returns their length.
fn write_network(frame: &mut [u8], ours: Mac, path: &Path, key: &FlowKey, tcp_len: usize) -> usize {
    match key.addrs {
        AddrPair::V4 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.link.mac, ours, path.link.vlan, ethernet::ETHER_TYPE_IPV4);
            at + ipv4::emit(&mut frame[at..], &ipv4_fields(path, src, dst, tcp_len))
        }
        AddrPair::V6 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.link.mac, ours, path.link.vlan, ethernet::ETHER_TYPE_IPV6);
            let fields = ipv6::Ipv6Fields {
                src,
                dst,
                traffic_class: path.dscp << 2,
                flow_label: 0,
                hop_limit: path.ttl,
                protocol: PROTOCOL_TCP,
                payload_len: u16::try_from(tcp_len).expect("the MSS bounds a segment"),
            };
            at + ipv6::emit(&mut frame[at..], &fields)
        }
    }
}
