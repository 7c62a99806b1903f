//! The frame that nearly all frames are, read in one go: Ethernet, IPv4 without options, TCP.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use super::ingress::{Link, TcpPacket};
use crate::base::{AddrPair, FlowKey, Seq};
use crate::tcp::Segment;
use crate::wire::{CE, Control, Mac, PROTOCOL_TCP, Sum, TcpOptions, ethernet, ipv4, tcp};

const IP: usize = ethernet::HEADER_LEN;
const TCP: usize = IP + ipv4::HEADER_LEN;
/// Octets of headers up to TCP's options.
const HEADERS: usize = TCP + tcp::HEADER_LEN;

/// Whose segment a frame of this kind may be; nothing is verified.
pub(super) fn key(frame: &[u8]) -> Option<FlowKey> {
    let head = frame.first_chunk::<HEADERS>()?;
    let is_plain = head[12..IP + 1] == [8, 0, 0x45] && head[IP + 9] == PROTOCOL_TCP;
    is_plain.then(|| key_of(head))
}

#[inline(always)]
fn key_of(head: &[u8; HEADERS]) -> FlowKey {
    let addr = |at: usize| Ipv4Addr::new(head[at], head[at + 1], head[at + 2], head[at + 3]);
    let addrs = AddrPair::V4 { local: addr(IP + 16), remote: addr(IP + 12) };
    FlowKey { addrs, local_port: half(head, TCP + 2), remote_port: half(head, TCP) }
}

#[inline(always)]
const fn half(head: &[u8; HEADERS], at: usize) -> u16 {
    u16::from_be_bytes([head[at], head[at + 1]])
}

#[inline(always)]
const fn word(head: &[u8; HEADERS], at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

/// Whether the address of these bits names a single host, and is none of those after the groups, which hardly
/// anybody has.
#[inline(always)]
const fn is_below_groups(bits: u32) -> bool {
    matches!(bits, 1..0xe000_0000)
}

/// A frame of this kind that has nothing wrong with it.
///
/// What it says is put together by [`Plain::packet`], where it stays: out of an `Option` it would be copied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plain<'a> {
    head: &'a [u8; HEADERS],
    options: &'a [u8],
    text: &'a [u8],
}

impl<'a> Plain<'a> {
    /// `None` for every other frame: whatever is right or wrong about those is found out header by header. All is
    /// read at offsets known here, which takes a third of the instructions.
    #[inline(always)]
    pub fn parse(frame: &'a [u8], verify_checksums: bool) -> Option<Self> {
        let head = frame.first_chunk::<HEADERS>()?;
        let raw = |at: usize| word(head, at).to_be();

        let is_ipv4 = half(head, 12) == ethernet::ETHER_TYPE_IPV4 && head[IP] == 0x45;
        // Don't Fragment and the reserved bit are nobody's concern here.
        let is_whole_tcp = half(head, IP + 6) & 0x3fff == 0 && head[IP + 9] == PROTOCOL_TCP;
        let header = Sum::of_words([raw(IP), raw(IP + 4), raw(IP + 8), raw(IP + 12), raw(IP + 16)]);
        let (src, dst) = (word(head, IP + 12), word(head, IP + 16));
        if !is_ipv4 || !is_whole_tcp || !header.verify() || !is_below_groups(src) || !is_below_groups(dst) {
            return None;
        }
        let segment = frame.get(TCP..IP + usize::from(half(head, IP + 2)))?;
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
        Some(Self { head, options, text })
    }

    /// All that it says.
    #[inline(always)]
    pub fn packet(self) -> TcpPacket<'a> {
        let Self { head, options, text } = self;
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *head;
        TcpPacket {
            link: Link { mac: Mac([a, b, c, d, e, f]), vlan: None },
            key: key_of(head),
            seg: Segment {
                seq: Seq::new(word(head, TCP + 4)),
                ack: Seq::new(word(head, TCP + 8)),
                ctl: Control::from_bits(head[TCP + 13]),
                wnd: half(head, TCP + 14),
                up: half(head, TCP + 18),
                ce: head[IP + 1] & CE == CE,
                stamps: TcpOptions::timestamps(options),
                options,
                text,
            },
        }
    }
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
            // Other frames that are valid, tagged, with IP options or of the highest addresses, are left to the parsers.
            let is_of_this_kind = octets.get(12..15) == Some(&[8, 0, 0x45])
                && [IP + 12, IP + 16].iter().all(|&at| octets.get(at).is_some_and(|&first| first < 0xf0));
            let packet = Plain::parse(&octets, verify).map(Plain::packet);
            prop_assert_eq!(packet, each.filter(|_| is_of_this_kind));
            prop_assert!(packet.is_none_or(|packet| key(&octets) == Some(packet.key)));
        }
    }
}
