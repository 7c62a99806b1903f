//! From a segment to octets: headers, text copied once, checksums.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::ingress::Link;
use crate::base::{AddrPair, FlowKey};
use crate::tcp::{MoreOptions, Outgoing, RecvPools, Shared, Tcb};
use crate::wire::tcp::{self, TcpFields};
use crate::wire::{Ipv4Fields, Mac, PROTOCOL_TCP, Sum, Timestamps, checksum, ethernet, ipv4, ipv6};

/// What every packet of a flow has in its link and network headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub link: Link,
    pub ttl: u8,
    pub dscp: u8,
}

/// Where a segment's text and its SACK blocks lie.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub tcb: &'a mut Tcb,
    pub recv: &'a RecvPools,
    pub shared: &'a mut Shared,
}

/// Octets of headers without options over untagged Ethernet and IPv4.
const PLAIN: usize = ethernet::HEADER_LEN + ipv4::HEADER_LEN + tcp::HEADER_LEN;

/// Writes a segment of the kind that nearly all are into `frame`, and any other like [`write_any`].
///
/// What it is written from is in registers, and stays there: only where that fails is a copy made for others to read.
#[inline(always)]
pub(super) fn write(
    frame: &mut [u8],
    ours: Mac,
    path: &Path,
    key: &FlowKey,
    out: &Outgoing,
    source: Source<'_>,
) -> usize {
    // Nearly every frame: with an array the compiler knows where each header lies.
    if let (AddrPair::V4 { .. }, None, MoreOptions::None) = (key.addrs, path.link.vlan, out.more)
        && let Some((head, room)) = frame.split_first_chunk_mut()
    {
        return PLAIN + write_plain(head, room, ours, path, key, out, source);
    }
    let (path, key, out) = (*path, *key, *out);
    write_any(frame, ours, &path, &key, &out, Some(source))
}

/// Writes the headers that nearly every frame has, and what follows; returns the length of what follows.
#[inline(always)]
fn write_plain(
    head: &mut [u8; PLAIN],
    room: &mut [u8],
    ours: Mac,
    path: &Path,
    key: &FlowKey,
    out: &Outgoing,
    source: Source<'_>,
) -> usize {
    let options_len = if out.stamps.is_some() { Timestamps::ALIGNED_LEN } else { 0 };
    let text_len = out.text_len as usize;
    let (link, rest) = head.split_at_mut(ethernet::HEADER_LEN);
    let (network, header) = rest.split_at_mut(ipv4::HEADER_LEN);
    ethernet::emit(link, path.link.mac, ours, None, ethernet::ETHER_TYPE_IPV4);
    let AddrPair::V4 { local: src, remote: dst } = key.addrs else { unreachable!("the caller has looked") };
    let tcp_len = tcp::HEADER_LEN + options_len + text_len;
    ipv4::emit(network, &ipv4_fields(path, out.ecn, src, dst, tcp_len));
    let mut sum = tcp::emit(header, &fields(key, out), options_len);
    sum.join(checksum::pseudo_header(&key.addrs, PROTOCOL_TCP, tcp_len));
    let mut room = room;
    if let Some(stamps) = out.stamps {
        let (options, rest) = room.split_at_mut(options_len);
        sum.join(stamps.emit(options));
        room = rest;
    }
    if text_len > 0 {
        copy_text(&mut room[..text_len], out, source, &mut sum);
    }
    tcp::set_checksum(header, sum.finish());
    options_len + text_len
}

/// Writes a segment of any kind into `frame`, header by header; returns the frame's length.
///
/// `frame` holds at least the MTU and the link header, as the MSS supposes. Without a `source` the segment has
/// neither text nor SACK blocks.
#[inline(never)]
pub(super) fn write_any(
    frame: &mut [u8],
    ours: Mac,
    path: &Path,
    key: &FlowKey,
    out: &Outgoing,
    mut source: Option<Source<'_>>,
) -> usize {
    let sack = source.as_mut().map(|from| from.tcb.sack_blocks(out, from.recv, from.shared));
    let options = out.options(sack.unwrap_or_default());
    let options_len = options.len();
    let tcp_len = tcp::HEADER_LEN + options_len + out.text_len as usize;
    let network = write_network(frame, ours, path, out.ecn, key, tcp_len);
    let segment = &mut frame[network..network + tcp_len];
    let (header, room) = segment.split_at_mut(tcp::HEADER_LEN);
    let (for_options, room) = room.split_at_mut(options_len);
    let mut sum = tcp::emit(header, &fields(key, out), options_len);
    sum.join(checksum::pseudo_header(&key.addrs, PROTOCOL_TCP, tcp_len));
    sum.join(options.emit(for_options));
    if let Some(source) = source
        && out.text_len > 0
    {
        copy_text(room, out, source, &mut sum);
    }
    tcp::set_checksum(header, sum.finish());
    network + tcp_len
}

#[inline(always)]
const fn fields(key: &FlowKey, out: &Outgoing) -> TcpFields {
    TcpFields {
        src_port: key.local_port,
        dst_port: key.remote_port,
        seq: out.seq,
        ack: out.ack,
        ctl: out.ctl,
        wnd: out.wnd,
        urg: 0,
    }
}

/// The one copy on the way out, summed as it goes.
#[inline(always)]
fn copy_text(room: &mut [u8], out: &Outgoing, source: Source<'_>, sum: &mut Sum) {
    let mut at = 0;
    source.tcb.text(out, source.shared, |slice| {
        sum.copy(&mut room[at..at + slice.len()], slice);
        at += slice.len();
    });
}

#[inline(always)]
fn ipv4_fields(path: &Path, ecn: u8, src: Ipv4Addr, dst: Ipv4Addr, tcp_len: usize) -> Ipv4Fields {
    let payload_len = u16::try_from(tcp_len).expect("the MSS bounds a segment");
    Ipv4Fields { src, dst, dscp: path.dscp, ecn, ttl: path.ttl, protocol: PROTOCOL_TCP, payload_len }
}

/// Link and network header; returns their length.
fn write_network(frame: &mut [u8], ours: Mac, path: &Path, ecn: u8, key: &FlowKey, tcp_len: usize) -> usize {
    match key.addrs {
        AddrPair::V4 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.link.mac, ours, path.link.vlan, ethernet::ETHER_TYPE_IPV4);
            at + ipv4::emit(&mut frame[at..], &ipv4_fields(path, ecn, src, dst, tcp_len))
        }
        AddrPair::V6 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.link.mac, ours, path.link.vlan, ethernet::ETHER_TYPE_IPV6);
            let fields = ipv6::Ipv6Fields {
                src,
                dst,
                traffic_class: path.dscp << 2 | ecn,
                flow_label: 0,
                hop_limit: path.ttl,
                protocol: PROTOCOL_TCP,
                payload_len: u16::try_from(tcp_len).expect("the MSS bounds a segment"),
            };
            at + ipv6::emit(&mut frame[at..], &fields)
        }
    }
}
