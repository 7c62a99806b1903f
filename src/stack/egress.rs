//! From a segment to octets: headers, text copied once, checksums.
#![forbid(unsafe_code)]

use super::ingress::Link;
use crate::base::{AddrPair, FlowKey};
use crate::tcp::{ChunkPool, Outgoing, Tcb};
use crate::wire::tcp::{self, TcpFields};
use crate::wire::{Mac, PROTOCOL_TCP, Sum, checksum, ethernet, ipv4, ipv6};

/// What every packet of a flow has in its link and network headers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub link: Link,
    pub ttl: u8,
    pub dscp: u8,
    /// IPv6 scope of a link-local peer; not on the wire, but part of its socket's name.
    pub scope_id: u32,
}

/// Where a segment's text lies.
#[derive(Debug)]
pub(super) struct Text<'a> {
    pub tcb: &'a mut Tcb,
    pub pool: &'a ChunkPool,
}

/// Writes one segment into `frame`; returns the frame's length.
///
/// `frame` holds at least the MTU and the link header, as the MSS supposes.
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
    let network = write_network(frame, ours, path, key, tcp_len);

    let segment = &mut frame[network..network + tcp_len];
    let fields = TcpFields {
        src_port: key.local_port,
        dst_port: key.remote_port,
        seq: out.seq,
        ack: out.ack,
        ctl: out.ctl,
        wnd: out.wnd,
        urg: 0,
    };
    let mut sum = tcp::emit(segment, &fields, options_len);
    sum.join(checksum::pseudo_header(&key.addrs, PROTOCOL_TCP, tcp_len));
    let (headers, room) = segment.split_at_mut(tcp::HEADER_LEN + options_len);
    sum.join(out.options.emit(&mut headers[tcp::HEADER_LEN..]));
    if let Some(text) = text {
        copy_text(room, out, text, &mut sum);
    }
    tcp::set_checksum(headers, sum.finish());
    network + tcp_len
}

/// The one copy on the way out, summed as it goes.
fn copy_text(room: &mut [u8], out: &Outgoing, text: Text<'_>, sum: &mut Sum) {
    let mut at = 0;
    text.tcb.send_buf().slices(text.pool, out.text_offset, out.text_len, |slice| {
        sum.copy(&mut room[at..at + slice.len()], slice);
        at += slice.len();
    });
}

/// Link and network header; returns their length.
fn write_network(frame: &mut [u8], ours: Mac, path: &Path, key: &FlowKey, tcp_len: usize) -> usize {
    let payload_len = u16::try_from(tcp_len).expect("the MSS bounds a segment");
    match key.addrs {
        AddrPair::V4 { local: src, remote: dst } => {
            let at = ethernet::emit(frame, path.link.mac, ours, path.link.vlan, ethernet::ETHER_TYPE_IPV4);
            let fields = ipv4::Ipv4Fields {
                src,
                dst,
                dscp: path.dscp,
                ecn: 0,
                ttl: path.ttl,
                protocol: PROTOCOL_TCP,
                payload_len,
            };
            at + ipv4::emit(&mut frame[at..], &fields)
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
                payload_len,
            };
            at + ipv6::emit(&mut frame[at..], &fields)
        }
    }
}
