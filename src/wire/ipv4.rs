//! IPv4 headers (RFC 791); packets that are fragments are refused.
#![forbid(unsafe_code)]

use core::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Sum;
use crate::base::DropReason;

/// Octets of a header without options.
pub const HEADER_LEN: usize = size_of::<Ipv4Header>();

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The fixed part of a header, exactly as on the wire (RFC 791 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    version_ihl: u8,
    tos: u8,
    total_len: U16,
    id: U16,
    flags_offset: U16,
    ttl: u8,
    protocol: u8,
    checksum: U16,
    src: [u8; 4],
    dst: [u8; 4],
}

const _: () = assert!(HEADER_LEN == 20);

impl Ipv4Header {
    /// The header's length in octets, if version and length are possible ones.
    pub(super) const fn header_len(&self) -> Option<usize> {
        match self.version_ihl {
            version_ihl @ 0x45..=0x4f => Some((version_ihl & 0xf) as usize * 4),
            _ => None,
        }
    }

    /// Length in octets of header and payload, as the header has it.
    pub fn total_len(&self) -> usize {
        self.total_len.get().into()
    }

    /// Differentiated services code point, six bits (RFC 2474).
    pub const fn dscp(&self) -> u8 {
        self.tos >> 2
    }

    /// Explicit congestion notification, two bits (RFC 3168).
    pub const fn ecn(&self) -> u8 {
        self.tos & 3
    }

    /// Time to live, in hops.
    pub const fn ttl(&self) -> u8 {
        self.ttl
    }

    /// Protocol of the payload.
    pub const fn protocol(&self) -> u8 {
        self.protocol
    }

    /// Source address.
    pub fn src(&self) -> Ipv4Addr {
        self.src.into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv4Addr {
        self.dst.into()
    }

    /// Its five words, in the byte order of the wire.
    fn words(&self) -> [u32; 5] {
        zerocopy::transmute!(*self)
    }

    /// Whether routers are told not to fragment.
    pub fn dont_fragment(&self) -> bool {
        self.flags_offset.get() & DONT_FRAGMENT != 0
    }

    /// Whether it is a fragment, the first one included.
    pub(super) fn is_fragment(&self) -> bool {
        self.flags_offset.get() & (MORE_FRAGMENTS | OFFSET_MASK) != 0
    }

    /// Whether it is a fragment other than the first, hence without a header of its protocol.
    pub(super) fn is_later_fragment(&self) -> bool {
        self.flags_offset.get() & OFFSET_MASK != 0
    }
}

/// A packet whose header and lengths have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4View<'a> {
    /// The header without its options, which mean nothing here (RFC 9293 MUST-50).
    pub header: &'a Ipv4Header,
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Protocol of the payload.
    pub protocol: u8,
    /// What follows the header and its options, without the frame's padding.
    pub payload: &'a [u8],
}

impl<'a> Ipv4View<'a> {
    /// Reads the header of the packet at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DropReason::Ipv4Truncated`], [`DropReason::Ipv4Header`], [`DropReason::Ipv4Checksum`],
    /// [`DropReason::Fragment`], [`DropReason::BadSource`] and, where the destination is not one host,
    /// [`DropReason::NotOurAddress`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = Ipv4Header::ref_from_prefix(bytes).map_err(|_| DropReason::Ipv4Truncated)?;
        let options_len = header.header_len().ok_or(DropReason::Ipv4Header)? - HEADER_LEN;
        // What the total length does not cover is padding of the frame.
        let (options, payload) = header
            .total_len()
            .checked_sub(HEADER_LEN)
            .and_then(|len| rest.get(..len))
            .and_then(|rest| rest.split_at_checked(options_len))
            .ok_or(DropReason::Ipv4Truncated)?;

        let mut sum = Sum::of_words(header.words());
        if !options.is_empty() {
            sum.add(options);
        }
        if !sum.verify() {
            return Err(DropReason::Ipv4Checksum);
        }
        if header.is_fragment() {
            return Err(DropReason::Fragment);
        }
        let (src, dst) = (header.src(), header.dst());
        // RFC 9293 MUST-63.
        if !is_one_host(src.to_bits()) {
            return Err(DropReason::BadSource);
        }
        // RFC 9293 MUST-57.
        if !is_one_host(dst.to_bits()) {
            return Err(DropReason::NotOurAddress);
        }
        Ok(Self { header, src, dst, protocol: header.protocol, payload })
    }
}

/// What [`emit`] puts into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv4Fields {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// Differentiated services code point, six bits.
    pub dscp: u8,
    /// Explicit congestion notification, two bits.
    pub ecn: u8,
    /// Time to live, in hops.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Octets of the payload, at most 65 515.
    pub payload_len: u16,
}

/// Writes a header without options, its checksum included; returns its length, 20 octets.
///
/// The packet may not be fragmented, so RFC 6864 §4.1 lets its identification be zero.
///
/// # Panics
///
/// If `out` is shorter than that, or the payload longer than a packet can be.
#[inline]
pub fn emit(out: &mut [u8], fields: &Ipv4Fields) -> usize {
    let total_len = fields.payload_len.checked_add(20).expect("the caller's payload fits a packet");
    let (src, dst) = (u32::from_ne_bytes(fields.src.octets()), u32::from_ne_bytes(fields.dst.octets()));
    let first = u32::from_be_bytes([0x45, fields.dscp << 2 | fields.ecn & 3, 0, 0]) | u32::from(total_len);
    let hops = u32::from_be_bytes([fields.ttl, fields.protocol, 0, 0]);
    let (first, flags) = (first.to_be(), u32::from(DONT_FRAGMENT).to_be());
    let checksum = Sum::of_words([first, flags, hops.to_be(), src, dst]).finish();
    let words = [first, flags, (hops | u32::from(checksum)).to_be(), src, dst];
    words.write_to_prefix(out).expect("the caller leaves room for an IPv4 header");
    HEADER_LEN
}

/// Whether the address of these bits may name a single host: neither group, nor all hosts, nor nobody.
#[inline]
pub const fn is_one_host(bits: u32) -> bool {
    matches!(bits, 1..=0xdfff_ffff | 0xf000_0000..=0xffff_fffe)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const SRC: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const DST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
    const FIELDS: Ipv4Fields =
        Ipv4Fields { src: SRC, dst: DST, dscp: 0, ecn: 0, ttl: 64, protocol: 6, payload_len: 4 };

    /// A packet of 24 octets, changed by `change`, its checksum then made right.
    fn packet(change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let mut octets = vec![0; 24];
        emit(&mut octets, &FIELDS);
        change(&mut octets);
        octets[10..12].fill(0);
        let mut sum = Sum::new();
        let header_len = usize::from(octets[0] & 0xf) * 4;
        sum.add(&octets[..header_len.min(octets.len())]);
        octets[10..12].copy_from_slice(&sum.finish().to_be_bytes());
        octets
    }

    #[test]
    fn headers_are_checked() {
        type Change = fn(&mut Vec<u8>);
        let cases: [(Change, Result<usize, DropReason>, &str); 18] = [
            (|_| (), Ok(4), "as emitted"),
            (|o| o.extend([0; 22]), Ok(4), "padding of a short frame is cut off"),
            (|o| o[0] = 0x46, Ok(0), "options are skipped"),
            (|o| o[3] = 20, Ok(0), "no payload"),
            (|o| o[6] = 0x80, Ok(4), "the reserved flag means nothing, nor does a missing DF"),
            (|o| o.truncate(19), Err(DropReason::Ipv4Truncated), "shorter than a header"),
            (|o| o[0] = 0x65, Err(DropReason::Ipv4Header), "version 6"),
            (|o| o[0] = 0x44, Err(DropReason::Ipv4Header), "header of 16 octets"),
            (|o| o[0] = 0x47, Err(DropReason::Ipv4Truncated), "header of 28 octets in 24"),
            (|o| o[3] = 25, Err(DropReason::Ipv4Truncated), "total length past the frame"),
            (|o| o[3] = 19, Err(DropReason::Ipv4Truncated), "total length within the header"),
            (|o| o[6] = 0x20, Err(DropReason::Fragment), "first fragment"),
            (|o| o[7] = 1, Err(DropReason::Fragment), "last fragment"),
            (|o| o[12] = 224, Err(DropReason::BadSource), "multicast source"),
            (|o| o[12..16].fill(255), Err(DropReason::BadSource), "broadcast source"),
            (|o| o[12..16].fill(0), Err(DropReason::BadSource), "no source"),
            (|o| o[16] = 239, Err(DropReason::NotOurAddress), "multicast destination"),
            (|o| o[16..20].fill(255), Err(DropReason::NotOurAddress), "broadcast destination"),
        ];
        for (change, want, why) in cases {
            assert_eq!(Ipv4View::parse(&packet(change)).map(|v| v.payload.len()), want, "{why}");
        }
    }

    #[test]
    fn a_destination_of_zeroes_is_nobodys() {
        let packet = packet(|octets| octets[16..20].fill(0));
        assert_eq!(Ipv4View::parse(&packet), Err(DropReason::NotOurAddress));
    }

    #[test]
    fn every_bit_of_the_header_is_under_the_checksum() {
        for bit in 0..160 {
            let mut packet = packet(|_| ());
            packet[bit / 8] ^= 1 << (bit % 8);
            assert!(Ipv4View::parse(&packet).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn an_option_is_under_the_checksum() {
        let mut packet = packet(|octets| octets[0] = 0x46);
        packet[22] ^= 1;
        assert_eq!(Ipv4View::parse(&packet), Err(DropReason::Ipv4Checksum));
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            src in 1u32..0xe000_0000, dst in 1u32..0xe000_0000, dscp in 0u8..64, ecn in 0u8..4, ttl: u8,
            protocol: u8, payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let fields = Ipv4Fields {
                src: src.into(), dst: dst.into(), dscp, ecn, ttl, protocol,
                payload_len: u16::try_from(payload.len()).unwrap(),
            };
            let mut out = vec![0xaa; HEADER_LEN];
            prop_assert_eq!(emit(&mut out, &fields), HEADER_LEN);
            out.extend(&payload);
            let view = Ipv4View::parse(&out).unwrap();
            prop_assert_eq!((view.src, view.dst, view.protocol), (fields.src, fields.dst, protocol));
            prop_assert_eq!((view.header.dscp(), view.header.ecn(), view.header.ttl()), (dscp, ecn, ttl));
            prop_assert_eq!(view.payload, &payload);
            prop_assert!(view.header.dont_fragment());
        }
    }
}
