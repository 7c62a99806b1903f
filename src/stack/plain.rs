//! The frame that nearly all frames are, read in one go: Ethernet, IPv4 without options, TCP.
#![forbid(unsafe_code)]

use super::ingress::{Link, TcpPacket};
use crate::base::{AddrPair, FlowKey, Seq};
use crate::tcp::Segment;
use crate::wire::{Control, Mac, PROTOCOL_TCP, Sum, TcpOptions, ethernet, ipv4, tcp};

const IP: usize = ethernet::HEADER_LEN;
const TCP: usize = IP + ipv4::HEADER_LEN;
/// Octets of headers up to TCP's options.
const HEADERS: usize = TCP + tcp::HEADER_LEN;

/// Whose segment a frame of this kind may be; nothing is verified.
pub(super) fn key(frame: &[u8]) -> Option<FlowKey> {
    let head = frame.first_chunk::<HEADERS>()?;
    let is_plain = head[12..IP + 1] == [8, 0, 0x45] && head[IP + 9] == PROTOCOL_TCP;
    let [src, dst] = [IP + 12, IP + 16].map(|at| [head[at], head[at + 1], head[at + 2], head[at + 3]].into());
    let [remote_port, local_port] = [TCP, TCP + 2].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
    is_plain.then_some(FlowKey { addrs: AddrPair::V4 { local: dst, remote: src }, local_port, remote_port })
}

/// Reads a frame of this kind that has nothing wrong with it.
///
/// `None` for every other: whatever is right or wrong about those is found out header by header. All is
/// read at offsets known here, which takes a third of the instructions.
#[inline(always)]
pub(super) fn parse(frame: &[u8], verify_checksums: bool) -> Option<TcpPacket<'_>> {
    let head = frame.first_chunk::<HEADERS>()?;
    let half = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let raw = |at: usize| word(at).to_be();

    let is_ipv4 = half(12) == ethernet::ETHER_TYPE_IPV4 && head[IP] == 0x45;
    // Don't Fragment and the reserved bit are nobody's concern here.
    let is_whole_tcp = half(IP + 6) & 0x3fff == 0 && head[IP + 9] == PROTOCOL_TCP;
    let header = Sum::of_words([raw(IP), raw(IP + 4), raw(IP + 8), raw(IP + 12), raw(IP + 16)]);
    let (src, dst) = (word(IP + 12), word(IP + 16));
    if !is_ipv4 || !is_whole_tcp || !header.verify() || !ipv4::is_one_host(src) || !ipv4::is_one_host(dst) {
        return None;
    }
    let segment = frame.get(TCP..IP + usize::from(half(IP + 2)))?;
    let (headers, text) = segment.split_at_checked(usize::from(head[TCP + 12] >> 4) * 4)?;
    let options = headers.get(tcp::HEADER_LEN..)?;
    if verify_checksums {
        #[expect(clippy::cast_possible_truncation, reason = "the total length is a 16-bit field")]
        let len = segment.len() as u32;
        let pseudo = [raw(IP + 12), raw(IP + 16), u32::from(PROTOCOL_TCP).to_be(), len.to_be()];
        let mut sum = Sum::of_words(pseudo);
        sum.add(segment);
        if !sum.verify() {
            return None;
        }
    }
    let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *head;
    let addrs = AddrPair::V4 { local: dst.into(), remote: src.into() };
    Some(TcpPacket {
        link: Link { mac: Mac([a, b, c, d, e, f]), vlan: None },
        key: FlowKey { addrs, local_port: half(TCP + 2), remote_port: half(TCP) },
        seg: Segment {
            seq: Seq::new(word(TCP + 4)),
            ack: Seq::new(word(TCP + 8)),
            ctl: Control::from_bits(head[TCP + 13]),
            wnd: half(TCP + 14),
            up: half(TCP + 18),
            ce: false,
            stamps: TcpOptions::timestamps(options),
            options,
            text,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stack::ingress::{self, Packet};
    use crate::wire::ipv4::Ipv4Fields;
    use crate::wire::tcp::TcpFields;
    use crate::wire::{Timestamps, checksum};
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    fn frame(stamps: Option<Timestamps>, text: &[u8]) -> Vec<u8> {
        let (src, dst) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        let options = TcpOptions { timestamps: stamps, ..TcpOptions::default() };
        let tcp_len = tcp::HEADER_LEN + options.len() + text.len();
        let mut frame = vec![0; TCP + tcp_len];
        ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), None, ethernet::ETHER_TYPE_IPV4);
        let payload_len = u16::try_from(tcp_len).expect("short");
        let ip = Ipv4Fields { src, dst, dscp: 0, ecn: 0, ttl: 64, protocol: PROTOCOL_TCP, payload_len };
        ipv4::emit(&mut frame[IP..], &ip);
        let fields = TcpFields {
            src_port: 80,
            dst_port: 4660,
            seq: Seq::new(7),
            ack: Seq::new(9),
            ctl: Control::ACK,
            wnd: 512,
            urg: 3,
        };
        tcp::emit(&mut frame[TCP..], &fields, options.len());
        options.emit(&mut frame[HEADERS..][..options.len()]);
        frame[HEADERS + options.len()..].copy_from_slice(text);
        let mut sum =
            checksum::pseudo_header(&AddrPair::V4 { local: dst, remote: src }, PROTOCOL_TCP, tcp_len);
        sum.add(&frame[TCP..]);
        tcp::set_checksum(&mut frame[TCP..], sum.finish());
        frame
    }

    fn repair_header(frame: &mut [u8]) {
        let Some(header) = frame.get_mut(IP..TCP) else { return };
        header[10..12].fill(0);
        let mut sum = Sum::new();
        sum.add(header);
        header[10..12].copy_from_slice(&sum.finish().to_be_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn whoever_reads_in_one_go_reads_what_the_parsers_read(
            stamps in prop::option::of((any::<u32>(), any::<u32>())),
            text in prop::collection::vec(any::<u8>(), 0..40),
            changes in prop::collection::vec((0usize..80, any::<u8>()), 0..3),
            padding in 0usize..4,
            cut in prop::option::of(0usize..120),
            repair: bool,
            verify: bool,
        ) {
            let mut octets = frame(stamps.map(|(val, ecr)| Timestamps { val, ecr }), &text);
            octets.extend(vec![0; padding]);
            for (at, octet) in changes {
                if let Some(old) = octets.get_mut(at) {
                    *old = octet;
                }
            }
            octets.truncate(cut.unwrap_or(octets.len()));
            if repair {
                repair_header(&mut octets);
            }
            let each = match ingress::parse(&octets, verify) {
                Ok(Packet::Tcp(packet)) => Some(packet),
                _ => None,
            };
            // Other frames that are valid, tagged or with IP options, are left to the parsers.
            let is_of_this_kind = octets.get(12..15) == Some(&[8, 0, 0x45]);
            let packet = parse(&octets, verify);
            prop_assert_eq!(packet, each.filter(|_| is_of_this_kind));
            prop_assert!(packet.is_none_or(|packet| key(&octets) == Some(packet.key)));
        }
    }
}
