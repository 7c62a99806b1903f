//! IPv6 headers and their extension headers (RFC 8200); packets that are fragments are refused.
#![forbid(unsafe_code)]

use core::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::base::DropReason;

/// Octets of a header without extension headers.
pub const HEADER_LEN: usize = size_of::<Ipv6Header>();

/// RFC 8200 §4.1 recommends an order with seven extension headers, none of them usual with TCP.
const EXTENSIONS_MAX: usize = 8;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// The fixed header, exactly as on the wire (RFC 8200 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    version_class_flow: U32,
    payload_len: U16,
    next_header: u8,
    hop_limit: u8,
    src: [u8; 16],
    dst: [u8; 16],
}

const _: () = assert!(HEADER_LEN == 40);

impl Ipv6Header {
    /// Whether it is a header of version 6 at all.
    pub(super) fn is_version_6(&self) -> bool {
        self.version_class_flow.get() >> 28 == 6
    }

    /// Traffic class: code point in the upper six bits, congestion notification in the lower two.
    pub fn traffic_class(&self) -> u8 {
        let [high, low, ..] = self.version_class_flow.to_bytes();
        high << 4 | low >> 4
    }

    /// Explicit congestion notification, two bits (RFC 3168).
    pub fn ecn(&self) -> u8 {
        self.traffic_class() & 3
    }

    /// Flow label, twenty bits (RFC 6437).
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0xf_ffff
    }

    /// Length in octets of what follows this header.
    pub fn payload_len(&self) -> usize {
        self.payload_len.get().into()
    }

    /// Protocol of what follows this header, maybe an extension header.
    pub const fn next_header(&self) -> u8 {
        self.next_header
    }

    /// Hop limit.
    pub const fn hop_limit(&self) -> u8 {
        self.hop_limit
    }

    /// Source address.
    pub fn src(&self) -> Ipv6Addr {
        self.src.into()
    }

    /// Destination address.
    pub fn dst(&self) -> Ipv6Addr {
        self.dst.into()
    }
}

/// A packet whose headers and lengths have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6View<'a> {
    /// The fixed header.
    pub header: &'a Ipv6Header,
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Protocol of the payload: the first next header that is not an extension header known here.
    pub protocol: u8,
    /// What follows the extension headers, without the frame's padding.
    pub payload: &'a [u8],
}

impl<'a> Ipv6View<'a> {
    /// Reads the headers of the packet at the start of `bytes`.
    ///
    /// # Errors
    ///
    /// [`DropReason::Ipv6Truncated`], [`DropReason::Ipv6Header`] (jumbograms are among them),
    /// [`DropReason::Fragment`], [`DropReason::BadSource`] and, where the destination is not one host,
    /// [`DropReason::NotOurAddress`].
    #[inline]
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = Ipv6Header::ref_from_prefix(bytes).map_err(|_| DropReason::Ipv6Truncated)?;
        let len = header.payload_len();
        // RFC 2675 §3: no length, and a hop-by-hop option that has it, is a jumbogram.
        if !header.is_version_6() || (len == 0 && header.next_header == HOP_BY_HOP) {
            return Err(DropReason::Ipv6Header);
        }
        let rest = rest.get(..len).ok_or(DropReason::Ipv6Truncated)?;
        let upper = UpperLayer::find(header.next_header, rest)?;
        if upper.more_fragments {
            return Err(DropReason::Fragment);
        }
        let (src, dst) = (header.src(), header.dst());
        // RFC 9293 MUST-63.
        if src.is_multicast() || src.is_unspecified() {
            return Err(DropReason::BadSource);
        }
        // RFC 9293 MUST-57.
        if dst.is_multicast() || dst.is_unspecified() {
            return Err(DropReason::NotOurAddress);
        }
        Ok(Self { header, src, dst, protocol: upper.protocol, payload: upper.payload })
    }
}

/// What [`emit`] puts into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Fields {
    /// Source address.
    pub src: Ipv6Addr,
    /// Destination address.
    pub dst: Ipv6Addr,
    /// Traffic class: code point in the upper six bits, congestion notification in the lower two.
    pub traffic_class: u8,
    /// Flow label, twenty bits.
    pub flow_label: u32,
    /// Hop limit.
    pub hop_limit: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Octets of the payload.
    pub payload_len: u16,
}

/// Writes a header without extension headers; returns its length, 40 octets.
///
/// # Panics
///
/// If `out` is shorter than that.
#[inline]
pub fn emit(out: &mut [u8], fields: &Ipv6Fields) -> usize {
    let word = 6 << 28 | u32::from(fields.traffic_class) << 20 | fields.flow_label & 0xf_ffff;
    let header = Ipv6Header {
        version_class_flow: word.into(),
        payload_len: fields.payload_len.into(),
        next_header: fields.protocol,
        hop_limit: fields.hop_limit,
        src: fields.src.octets(),
        dst: fields.dst.octets(),
    };
    header.write_to_prefix(out).expect("the caller leaves room for an IPv6 header");
    HEADER_LEN
}

/// What is behind the extension headers.
pub(super) struct UpperLayer<'a> {
    pub(super) protocol: u8,
    pub(super) payload: &'a [u8],
    /// The packet is the first of several fragments.
    pub(super) more_fragments: bool,
}

impl<'a> UpperLayer<'a> {
    /// Walks the extension headers at the start of `payload`, the first of which is a `protocol`.
    ///
    /// Headers that hide what follows, such as ESP, count as the upper layer.
    #[inline]
    pub(super) fn find(protocol: u8, payload: &'a [u8]) -> Result<Self, DropReason> {
        let mut upper = Self { protocol, payload, more_fragments: false };
        // RFC 8200 §4.3: anywhere but here a hop-by-hop header is not recognized.
        if upper.protocol == HOP_BY_HOP {
            upper.skip_options()?;
        }
        for _ in 0..EXTENSIONS_MAX {
            match upper.protocol {
                DESTINATION_OPTIONS => upper.skip_options()?,
                ROUTING => upper.skip_routing()?,
                FRAGMENT => upper.skip_fragment()?,
                _ => return Ok(upper),
            }
        }
        Err(DropReason::Ipv6Header)
    }

    /// Steps over a header of options (RFC 8200 §4.2), if each may be ignored.
    fn skip_options(&mut self) -> Result<(), DropReason> {
        let mut options = self.next()?;
        while let [kind, rest @ ..] = options {
            // Pad1 is one octet; all others have a length.
            if *kind == 0 {
                options = rest;
                continue;
            }
            // The two highest bits say what to do with an unknown option: 0 is to skip it.
            if kind >> 6 != 0 {
                return Err(DropReason::Ipv6Header);
            }
            options = rest
                .split_first()
                .and_then(|(len, rest)| rest.get(usize::from(*len)..))
                .ok_or(DropReason::Ipv6Header)?;
        }
        Ok(())
    }

    /// Steps over a routing header (RFC 8200 §4.4) that has been used up.
    fn skip_routing(&mut self) -> Result<(), DropReason> {
        match self.next()? {
            [_, 0, ..] => Ok(()),
            _ => Err(DropReason::Ipv6Header),
        }
    }

    /// Steps over a fragment header (RFC 8200 §4.5), unless its packet begins elsewhere.
    fn skip_fragment(&mut self) -> Result<(), DropReason> {
        let ([next, _, high, low, _, _, _, _], payload) =
            self.payload.split_first_chunk().ok_or(DropReason::Ipv6Truncated)?;
        let offset_flags = u16::from_be_bytes([*high, *low]);
        if offset_flags >> 3 != 0 {
            return Err(DropReason::Fragment);
        }
        self.more_fragments |= offset_flags & 1 != 0;
        (self.protocol, self.payload) = (*next, payload);
        Ok(())
    }

    /// Steps over a header in the usual form and returns what it has after its first two octets.
    fn next(&mut self) -> Result<&'a [u8], DropReason> {
        let [next, units, ..] = *self.payload else { return Err(DropReason::Ipv6Truncated) };
        let len = (usize::from(units) + 1) * 8;
        let (header, payload) = self.payload.split_at_checked(len).ok_or(DropReason::Ipv6Truncated)?;
        (self.protocol, self.payload) = (next, payload);
        Ok(&header[2..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const SRC: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
    const DST: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

    fn packet(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let fields = Ipv6Fields {
            src: SRC,
            dst: DST,
            traffic_class: 0,
            flow_label: 0,
            hop_limit: 64,
            protocol,
            payload_len: u16::try_from(payload.len()).unwrap(),
        };
        let mut octets = vec![0; HEADER_LEN];
        emit(&mut octets, &fields);
        octets.extend(payload);
        octets
    }

    #[test]
    fn headers_are_checked() {
        type Change = fn(&mut Vec<u8>);
        let cases: [(Change, Result<usize, DropReason>, &str); 11] = [
            (|_| (), Ok(4), "as emitted"),
            (|o| o.push(0), Ok(4), "padding of the frame is cut off"),
            (|o| o[5] = 0, Ok(0), "no payload"),
            (|o| o[6] = 50, Ok(4), "ESP is for the layer above to refuse"),
            (|o| o.truncate(39), Err(DropReason::Ipv6Truncated), "shorter than a header"),
            (|o| o[0] = 0x45, Err(DropReason::Ipv6Header), "version 4"),
            (|o| o[5] = 5, Err(DropReason::Ipv6Truncated), "payload past the frame"),
            (|o| (o[5], o[6]) = (0, 0), Err(DropReason::Ipv6Header), "jumbogram"),
            (|o| o[8] = 0xff, Err(DropReason::BadSource), "multicast source"),
            (|o| o[8..24].fill(0), Err(DropReason::BadSource), "no source"),
            (|o| o[24] = 0xff, Err(DropReason::NotOurAddress), "multicast destination"),
        ];
        for (change, want, why) in cases {
            let mut packet = packet(6, &[1, 2, 3, 4]);
            change(&mut packet);
            assert_eq!(Ipv6View::parse(&packet).map(|v| v.payload.len()), want, "{why}");
        }
    }

    #[test]
    fn a_destination_of_zeroes_is_nobodys() {
        let mut packet = packet(6, &[]);
        packet[24..40].fill(0);
        assert_eq!(Ipv6View::parse(&packet), Err(DropReason::NotOurAddress));
    }

    #[test]
    fn extension_headers_are_walked() {
        const PAD: [u8; 6] = [1, 4, 0, 0, 0, 0];
        let ext = |next: u8, body: [u8; 6]| [&[next, 0][..], &body].concat();
        let fragment = |next: u8, offset_flags: u8| vec![next, 0, 0, offset_flags, 0, 0, 0, 9];
        let text = vec![7, 7];
        let refused = Err(DropReason::Ipv6Header);
        let truncated = Err(DropReason::Ipv6Truncated);
        for (first, parts, want, why) in [
            (0, vec![ext(6, PAD), text.clone()], Ok(6), "hop-by-hop options"),
            (60, vec![ext(6, PAD), text.clone()], Ok(6), "destination options"),
            (60, vec![ext(60, PAD), ext(6, PAD), text.clone()], Ok(6), "two headers of options"),
            (60, vec![ext(0, PAD), text.clone()], Ok(0), "a late hop-by-hop header is not looked into"),
            (60, vec![ext(6, [0; 6]), text.clone()], Ok(6), "padding by single octets"),
            (60, vec![ext(6, [0x1e, 4, 9, 9, 9, 9]), text.clone()], Ok(6), "an option to skip if unknown"),
            (60, vec![ext(6, [0x5e, 4, 9, 9, 9, 9]), text.clone()], refused, "an option to discard for"),
            (0, vec![ext(6, [0xc2, 4, 0, 1, 0, 0]), text.clone()], refused, "a jumbogram with a length"),
            (60, vec![ext(6, [1, 5, 0, 0, 0, 0]), text.clone()], refused, "an option past its header"),
            (60, vec![ext(6, [1, 3, 0, 0, 0, 1]), text.clone()], refused, "an option without a length"),
            (43, vec![ext(6, [2, 0, 0, 0, 0, 0]), text.clone()], Ok(6), "a used-up routing header"),
            (43, vec![ext(6, [2, 1, 0, 0, 0, 0]), text.clone()], refused, "a route that goes on"),
            (44, vec![fragment(6, 0), text.clone()], Ok(6), "an atomic fragment"),
            (44, vec![fragment(6, 6), text.clone()], Ok(6), "reserved bits mean nothing"),
            (44, vec![fragment(6, 1), text.clone()], Err(DropReason::Fragment), "the first fragment"),
            (44, vec![fragment(6, 8), text.clone()], Err(DropReason::Fragment), "the last fragment"),
            (44, vec![vec![6, 0, 0, 0, 0, 0, 0]], truncated, "seven octets of a fragment header"),
            (60, vec![vec![6]], truncated, "one octet of an extension header"),
            (60, vec![vec![6, 1, 1, 4, 0, 0, 0, 0]], truncated, "an extension header past the packet"),
            (51, vec![ext(6, PAD), text.clone()], Ok(51), "AH ends the walk"),
            (59, vec![text.clone()], Ok(59), "no next header"),
        ] {
            let packet = packet(first, &parts.concat());
            assert_eq!(Ipv6View::parse(&packet).map(|v| v.protocol), want, "{why}");
        }
    }

    #[test]
    fn the_walk_ends_after_as_many_headers_as_make_sense() {
        let chain = |headers: usize| {
            let mut octets = [60, 0, 1, 4, 0, 0, 0, 0].repeat(headers);
            octets[(headers - 1) * 8] = 6;
            packet(60, &octets)
        };
        assert_eq!(Ipv6View::parse(&chain(EXTENSIONS_MAX - 1)).map(|v| v.protocol), Ok(6));
        assert_eq!(Ipv6View::parse(&chain(EXTENSIONS_MAX)), Err(DropReason::Ipv6Header));
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            src in 1u128..0xff << 120, dst in 1u128..0xff << 120, traffic_class: u8,
            flow_label in 0u32..1 << 20, hop_limit: u8,
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let fields = Ipv6Fields {
                src: src.into(), dst: dst.into(), traffic_class, flow_label, hop_limit, protocol: 6,
                payload_len: u16::try_from(payload.len()).unwrap(),
            };
            let mut out = vec![0xaa; HEADER_LEN];
            prop_assert_eq!(emit(&mut out, &fields), HEADER_LEN);
            out.extend(&payload);
            let view = Ipv6View::parse(&out).unwrap();
            prop_assert_eq!((view.src, view.dst, view.protocol), (fields.src, fields.dst, 6));
            prop_assert_eq!(view.header.traffic_class(), traffic_class);
            prop_assert_eq!(view.header.ecn(), traffic_class & 3);
            prop_assert_eq!(view.header.flow_label(), flow_label);
            prop_assert_eq!((view.header.hop_limit(), view.header.next_header()), (hop_limit, 6));
            prop_assert_eq!(view.payload, &payload);
        }
    }
}
