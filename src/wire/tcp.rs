//! TCP headers (RFC 9293 §3.1); the options have a file of their own.
#![forbid(unsafe_code)]

use core::fmt;
use core::mem::offset_of;
use core::ops::{BitOr, BitOrAssign, Deref};

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::checksum::Sum;
use crate::base::{DropReason, Seq};

/// Octets of a header without options.
pub const HEADER_LEN: usize = size_of::<TcpHeader>();
/// Octets of options that a header can have.
pub const OPTIONS_LEN_MAX: usize = 40;

/// A set of control bits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Control(u8);

impl Control {
    /// None of them.
    pub const EMPTY: Self = Self(0);
    /// The sender has no more text.
    pub const FIN: Self = Self(1);
    /// Sequence numbers are to be synchronized.
    pub const SYN: Self = Self(2);
    /// The connection is reset.
    pub const RST: Self = Self(4);
    /// The text is to be delivered without waiting for more.
    pub const PSH: Self = Self(8);
    /// The acknowledgment number means something.
    pub const ACK: Self = Self(16);
    /// The urgent pointer means something.
    pub const URG: Self = Self(32);
    /// Congestion was experienced (RFC 3168).
    pub const ECE: Self = Self(64);
    /// The congestion window was reduced (RFC 3168).
    pub const CWR: Self = Self(128);

    /// The set whose bits on the wire are these.
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// The bits on the wire.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `others` are set.
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// Whether any of `others` is set.
    pub const fn intersects(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    /// These bits, less `others`.
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

impl BitOr for Control {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl BitOrAssign for Control {
    fn bitor_assign(&mut self, others: Self) {
        *self = *self | others;
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = ["FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"];
        let set = names.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 == 1);
        let mut separator = "";
        f.write_str("<")?;
        for (_, name) in set {
            write!(f, "{separator}{name}")?;
            separator = ",";
        }
        f.write_str(">")
    }
}

/// The fixed part of a header, exactly as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    src_port: U16,
    dst_port: U16,
    seq: U32,
    ack: U32,
    /// Data offset in the upper half; the lower is reserved.
    offset: u8,
    ctl: u8,
    wnd: U16,
    checksum: U16,
    urg: U16,
}

const _: () = assert!(HEADER_LEN == 20);

impl TcpHeader {
    /// Source port.
    pub const fn src_port(&self) -> u16 {
        self.src_port.get()
    }

    /// Destination port.
    pub const fn dst_port(&self) -> u16 {
        self.dst_port.get()
    }

    /// SEG.SEQ.
    pub const fn seq(&self) -> Seq {
        Seq::new(self.seq.get())
    }

    /// SEG.ACK; means something with [`Control::ACK`].
    pub const fn ack(&self) -> Seq {
        Seq::new(self.ack.get())
    }

    /// The control bits.
    pub const fn ctl(&self) -> Control {
        Control(self.ctl)
    }

    /// SEG.WND before scaling.
    pub const fn wnd(&self) -> u16 {
        self.wnd.get()
    }

    /// The checksum field.
    pub const fn checksum(&self) -> u16 {
        self.checksum.get()
    }

    /// SEG.UP, octets from SEG.SEQ; means something with [`Control::URG`].
    pub const fn urg(&self) -> u16 {
        self.urg.get()
    }

    /// Length in octets of header and options, as the header has it.
    pub const fn data_offset(&self) -> usize {
        (self.offset >> 4) as usize * 4
    }
}

/// A segment whose lengths have been checked; its checksum has not.
///
/// It has the accessors of its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpView<'a> {
    /// The fixed part of the header.
    pub header: &'a TcpHeader,
    /// The options, for [`TcpOptions::parse`](super::TcpOptions::parse).
    pub options: &'a [u8],
    /// The text.
    pub payload: &'a [u8],
}

impl<'a> TcpView<'a> {
    /// Reads the header of `segment`, the whole payload of an IP packet.
    ///
    /// # Errors
    ///
    /// [`DropReason::TcpTruncated`] and [`DropReason::TcpDataOffset`].
    #[inline]
    pub fn parse(segment: &'a [u8]) -> Result<Self, DropReason> {
        let (header, rest) = TcpHeader::ref_from_prefix(segment).map_err(|_| DropReason::TcpTruncated)?;
        let (options, payload) = header
            .data_offset()
            .checked_sub(HEADER_LEN)
            .and_then(|options_len| rest.split_at_checked(options_len))
            .ok_or(DropReason::TcpDataOffset)?;
        Ok(Self { header, options, payload })
    }
}

impl Deref for TcpView<'_> {
    type Target = TcpHeader;

    fn deref(&self) -> &TcpHeader {
        self.header
    }
}

/// What [`emit`] puts into a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFields {
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; zero without [`Control::ACK`].
    pub ack: Seq,
    /// The control bits.
    pub ctl: Control,
    /// SEG.WND, already scaled.
    pub wnd: u16,
    /// SEG.UP; zero without [`Control::URG`].
    pub urg: u16,
}

/// Writes the fixed part of a header, 20 octets, with a checksum of zero; returns its sum.
///
/// `options_len` octets of options are to follow. Once they and the text are there and summed, the
/// checksum goes in by [`set_checksum`].
///
/// # Panics
///
/// If `out` is shorter than that, or the length of the options is not one that a header can have.
#[inline]
pub fn emit(out: &mut [u8], fields: &TcpFields, options_len: usize) -> Sum {
    assert!(
        options_len <= OPTIONS_LEN_MAX && options_len.is_multiple_of(4),
        "options are up to ten whole words"
    );
    #[expect(clippy::cast_possible_truncation, reason = "at most 15 words, as was just asserted")]
    let offset = ((HEADER_LEN + options_len) / 4) as u32;
    let words = [
        u32::from(fields.src_port) << 16 | u32::from(fields.dst_port),
        fields.seq.raw(),
        fields.ack.raw(),
        offset << 28 | u32::from(fields.ctl.0) << 16 | u32::from(fields.wnd),
        u32::from(fields.urg),
    ]
    .map(u32::to_be);
    words.write_to_prefix(out).expect("the caller leaves room for a TCP header");
    Sum::of_words(words)
}

/// Puts the result of [`Sum::finish`](super::checksum::Sum::finish) into a segment's header.
///
/// # Panics
///
/// If `segment` is shorter than a header.
#[inline]
pub fn set_checksum(segment: &mut [u8], checksum: u16) {
    const AT: usize = offset_of!(TcpHeader, checksum);
    segment[AT..AT + 2].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::AddrPair;
    use crate::wire::checksum;
    use proptest::prelude::*;
    use std::format;
    use std::vec;
    use std::vec::Vec;

    fn segment(offset_words: u8, len: usize) -> Vec<u8> {
        let mut octets = vec![0; len];
        octets[12] = offset_words << 4 | 0xf;
        octets
    }

    #[test]
    fn the_data_offset_is_within_the_segment_and_past_the_header() {
        for (words, len, want, why) in [
            (5, 20, Ok((0, 0)), "a header and nothing else; reserved bits mean nothing"),
            (5, 25, Ok((0, 5)), "text"),
            (8, 32, Ok((12, 0)), "options"),
            (15, 61, Ok((40, 1)), "as many options as can be"),
            (5, 19, Err(DropReason::TcpTruncated), "shorter than a header"),
            (4, 40, Err(DropReason::TcpDataOffset), "within the header"),
            (0, 40, Err(DropReason::TcpDataOffset), "nothing"),
            (6, 23, Err(DropReason::TcpDataOffset), "past the segment"),
        ] {
            let segment = segment(words, len);
            let got = TcpView::parse(&segment).map(|view| (view.options.len(), view.payload.len()));
            assert_eq!(got, want, "{why}");
        }
    }

    #[test]
    fn control_bits_are_a_set() {
        let mut set = Control::SYN | Control::ACK;
        assert!(set.contains(Control::SYN) && set.contains(Control::SYN | Control::ACK));
        assert!(!set.contains(Control::SYN | Control::FIN) && set.intersects(Control::SYN | Control::FIN));
        assert!(!set.intersects(Control::RST) && set.contains(Control::EMPTY));
        set |= Control::FIN;
        assert_eq!(format!("{set:?} {:?}", Control::EMPTY), "<FIN,SYN,ACK> <>");
    }

    #[test]
    #[should_panic(expected = "whole words")]
    fn options_that_are_no_whole_words_are_the_callers_bug() {
        let fields = TcpFields {
            src_port: 1,
            dst_port: 2,
            seq: Seq::new(0),
            ack: Seq::new(0),
            ctl: Control::ACK,
            wnd: 0,
            urg: 0,
        };
        emit(&mut [0; 60], &fields, 10);
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(
            ports: (u16, u16), numbers: (u32, u32), bits: u8, wnd: u16, urg: u16, words in 0usize..=10,
            payload in prop::collection::vec(any::<u8>(), 0..9),
        ) {
            let fields = TcpFields {
                src_port: ports.0, dst_port: ports.1, seq: Seq::new(numbers.0), ack: Seq::new(numbers.1),
                ctl: Control::from_bits(bits), wnd, urg,
            };
            let options = vec![1; words * 4];
            let mut out = vec![0xaa; HEADER_LEN];
            let mut sum = emit(&mut out, &fields, options.len());
            prop_assert_eq!(out[12] & 0xf, 0, "reserved bits are sent as zero");
            out.extend(&options);
            out.extend(&payload);
            let (local, remote) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
            let addrs = AddrPair::V6 { local, remote };
            sum.join(checksum::pseudo_header(&addrs, 6, out.len()));
            sum.add(&out[HEADER_LEN..]);
            set_checksum(&mut out, sum.finish());
            prop_assert!(checksum::verify(&addrs, 6, &out));

            let view = TcpView::parse(&out).unwrap();
            let got = TcpFields {
                src_port: view.src_port(), dst_port: view.dst_port(), seq: view.seq(), ack: view.ack(),
                ctl: view.ctl(), wnd: view.wnd(), urg: view.urg(),
            };
            prop_assert_eq!(got, fields);
            prop_assert_eq!((view.options, view.payload), (&options[..], &payload[..]));
            prop_assert_eq!(view.checksum(), sum.finish());
        }
    }
}
