//! TCP options: parsed once, written in the customary layouts.
#![forbid(unsafe_code)]

use zerocopy::IntoBytes;

use super::checksum::Sum;
use super::tcp::OPTIONS_LEN_MAX;
use crate::base::Seq;

const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
const SACK: u8 = 5;
const TIMESTAMPS: u8 = 8;

/// RFC 7323 §2.3: a window is below 2^30.
const WINDOW_SCALE_MAX: u8 = 14;
/// How the timestamps option begins in the layout of RFC 7323 appendix A.
const ALIGNED_TIMESTAMPS: [u8; 4] = [NOP, NOP, TIMESTAMPS, 10];

/// The timestamps option (RFC 7323 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub val: u32,
    /// TSecr: the echo; meaningful with ACK.
    pub ecr: u32,
}

/// Up to four SACK blocks (RFC 2018), each from its left edge to one past its right edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    /// The first `len` are meant.
    pub blocks: [(Seq, Seq); 4],
    /// How many there are.
    pub len: u8,
}

impl SackBlocks {
    /// The blocks.
    pub fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.len)]
    }

    /// Adds the octets from `left` to before `right`, unless there are four blocks already.
    pub fn push(&mut self, left: Seq, right: Seq) {
        if let Some(block) = self.blocks.get_mut(usize::from(self.len)) {
            *block = (left, right);
            self.len += 1;
        }
    }
}

/// The options of one segment that mean something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size; on a SYN only.
    pub mss: Option<u16>,
    /// Window scale shift, clamped to 14 (RFC 7323 §2.3); on a SYN only.
    pub window_scale: Option<u8>,
    /// SACK-permitted; on a SYN only.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgments.
    pub sack: SackBlocks,
}

impl TcpOptions {
    /// Reads the options of a segment; of an option that comes twice, the first.
    ///
    /// Every octet string means something, maybe nothing: unknown options are stepped over (RFC 9293
    /// MUST-6), and a length that is not possible ends the matter, not the segment (MUST-7).
    pub fn parse(bytes: &[u8]) -> Self {
        if let Some(options) = Self::parse_linux_syn(bytes) {
            return options;
        }
        let mut options = Self::default();
        for_each(bytes, |kind, value| options.take(kind, value));
        options
    }

    /// Reads only the timestamps among the options of a segment, as [`TcpOptions::parse`] does.
    #[inline(always)]
    pub fn timestamps(bytes: &[u8]) -> Option<Timestamps> {
        match bytes.split_first_chunk() {
            Some((&ALIGNED_TIMESTAMPS, values)) if bytes.len() == Timestamps::ALIGNED_LEN => {
                Timestamps::parse(values)
            }
            None => None,
            _ => Self::parse_timestamps(bytes).map(Timestamps::from_bits),
        }
    }

    /// The options of nearly every SYN, as Linux lays them out and so do we.
    fn parse_linux_syn(bytes: &[u8]) -> Option<Self> {
        let &[
            MSS,
            4,
            high,
            low,
            SACK_PERMITTED,
            2,
            TIMESTAMPS,
            10,
            ref stamps @ ..,
            NOP,
            WINDOW_SCALE,
            3,
            shift,
        ] = <&[u8; 20]>::try_from(bytes).ok()?
        else {
            return None;
        };
        let mss = u16::from_be_bytes([high, low]);
        Some(Self {
            mss: (mss != 0).then_some(mss),
            window_scale: Some(shift.min(WINDOW_SCALE_MAX)),
            sack_permitted: true,
            timestamps: Timestamps::parse(stamps),
            sack: SackBlocks::default(),
        })
    }

    /// [`Timestamps::to_bits`] of them: that comes back in a register. From memory both halves would be read at once
    /// right after each was written, which the processor waits for.
    fn parse_timestamps(bytes: &[u8]) -> Option<u64> {
        if let Some(options) = Self::parse_linux_syn(bytes) {
            return options.timestamps.map(Timestamps::to_bits);
        }
        let mut found = None;
        for_each(bytes, |kind, value| {
            if kind == TIMESTAMPS {
                found = found.or_else(|| Timestamps::parse(value));
            }
        });
        found.map(Timestamps::to_bits)
    }

    /// How many octets [`TcpOptions::emit`] writes: a multiple of four, at most 40.
    #[inline]
    pub fn len(&self) -> usize {
        if self.is_plain() {
            return if self.timestamps.is_some() { Timestamps::ALIGNED_LEN } else { 0 };
        }
        let len = self.len_without_sack();
        match self.sack_that_fits(len) {
            [] => len,
            blocks => len + 4 + 8 * blocks.len(),
        }
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Writes the options as Linux lays them out, since nothing on any path stumbles over that; returns
    /// their sum.
    ///
    /// On a SYN: MSS, SACK-permitted and timestamps, window scale. Later: timestamps, and as many SACK
    /// blocks as there is room for, which is three with timestamps and four without.
    ///
    /// # Panics
    ///
    /// If the length of `out` is not [`TcpOptions::len`].
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> Sum {
        // Only SACK-permitted with timestamps is as long.
        match self.timestamps {
            Some(stamps) if out.len() == Timestamps::ALIGNED_LEN && !self.sack_permitted => stamps.emit(out),
            None if out.is_empty() => Sum::new(),
            _ => self.emit_each(out),
        }
    }

    /// Whether there is nothing but maybe timestamps: nearly every segment after the handshake.
    #[inline]
    const fn is_plain(&self) -> bool {
        self.mss.is_none() && self.window_scale.is_none() && !self.sack_permitted && self.sack.len == 0
    }

    fn emit_each(&self, out: &mut [u8]) -> Sum {
        if let (
            Self {
                mss: Some(mss),
                window_scale: Some(shift),
                sack_permitted: true,
                timestamps: Some(ts),
                ..
            },
            Ok(out),
        ) = (self, <&mut [u8; 20]>::try_from(&mut *out))
        {
            return emit_linux_syn(out, *mss, *shift, *ts);
        }
        let mut out = Writer { out, len: 0 };
        if let Some(mss) = self.mss {
            let [high, low] = mss.to_be_bytes();
            out.put([MSS, 4, high, low]);
        }
        match (self.sack_permitted, self.timestamps.is_some()) {
            // SACK-permitted is as long as the padding that would align the timestamps.
            (true, true) => out.put([SACK_PERMITTED, 2, TIMESTAMPS, 10]),
            (false, true) => out.put(ALIGNED_TIMESTAMPS),
            (true, false) => out.put([NOP, NOP, SACK_PERMITTED, 2]),
            (false, false) => (),
        }
        if let Some(Timestamps { val, ecr }) = self.timestamps {
            out.put(val.to_be_bytes());
            out.put(ecr.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            out.put([NOP, WINDOW_SCALE, 3, shift]);
        }
        let blocks = self.sack_that_fits(out.len);
        if !blocks.is_empty() {
            #[expect(clippy::cast_possible_truncation, reason = "there are at most four")]
            let count = blocks.len() as u8;
            out.put([NOP, NOP, SACK, 2 + 8 * count]);
        }
        for (left, right) in blocks {
            out.put(left.raw().to_be_bytes());
            out.put(right.raw().to_be_bytes());
        }
        let mut sum = Sum::new();
        sum.add(&out.out[..out.len]);
        sum
    }

    /// Takes one option. One whose length is not that of its kind is as good as unknown.
    fn take(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            // An MSS of 0 would leave no room for text, so it says nothing.
            (MSS, &[high, low]) => {
                let mss = u16::from_be_bytes([high, low]);
                self.mss = self.mss.or((mss != 0).then_some(mss));
            }
            (WINDOW_SCALE, &[shift]) => {
                self.window_scale = self.window_scale.or(Some(shift.min(WINDOW_SCALE_MAX)));
            }
            (SACK_PERMITTED, []) => self.sack_permitted = true,
            (TIMESTAMPS, value) => self.timestamps = self.timestamps.or_else(|| Timestamps::parse(value)),
            (SACK, value) if self.sack.len == 0 => self.sack = SackBlocks::parse(value),
            _ => (),
        }
    }

    fn len_without_sack(&self) -> usize {
        let mss = if self.mss.is_some() { 4 } else { 0 };
        let timestamps_or_permitted = match (self.timestamps.is_some(), self.sack_permitted) {
            (true, _) => Timestamps::ALIGNED_LEN,
            (false, true) => 4,
            (false, false) => 0,
        };
        let window_scale = if self.window_scale.is_some() { 4 } else { 0 };
        mss + timestamps_or_permitted + window_scale
    }

    /// The SACK blocks for which there is room after `len` octets; the first ones matter most (RFC 2018 §4).
    fn sack_that_fits(&self, len: usize) -> &[(Seq, Seq)] {
        let room = (OPTIONS_LEN_MAX - len).saturating_sub(4) / 8;
        let blocks = self.sack.as_slice();
        &blocks[..blocks.len().min(room)]
    }
}

impl Timestamps {
    /// Octets of the option in the layout of RFC 7323 appendix A.
    pub const ALIGNED_LEN: usize = 12;

    /// Writes the option in that layout; returns its sum.
    ///
    /// # Panics
    ///
    /// If `out` is shorter than that.
    #[inline]
    pub fn emit(self, out: &mut [u8]) -> Sum {
        let words = [u32::from_ne_bytes(ALIGNED_TIMESTAMPS), self.val.to_be(), self.ecr.to_be()];
        words.write_to_prefix(out).expect("the caller leaves room for the options");
        Sum::of_words(words)
    }

    fn to_bits(self) -> u64 {
        u64::from(self.val) << 32 | u64::from(self.ecr)
    }

    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a number")]
    #[inline(always)]
    const fn from_bits(bits: u64) -> Self {
        Self { val: (bits >> 32) as u32, ecr: bits as u32 }
    }

    /// Reads the value of the option, which has one possible length.
    #[inline(always)]
    fn parse(value: &[u8]) -> Option<Self> {
        let &[a, b, c, d, e, f, g, h] = value else { return None };
        Some(Self { val: u32::from_be_bytes([a, b, c, d]), ecr: u32::from_be_bytes([e, f, g, h]) })
    }
}

impl SackBlocks {
    /// Reads the value of the option; none if its length is not that of whole blocks.
    fn parse(value: &[u8]) -> Self {
        let mut sack = Self::default();
        if let (edges, []) = value.as_chunks::<8>() {
            for &[a, b, c, d, e, f, g, h] in edges {
                let (left, right) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
                sack.push(Seq::new(left), Seq::new(right));
            }
        }
        sack
    }
}

/// Writes the options of nearly every SYN; returns their sum.
fn emit_linux_syn(out: &mut [u8; 20], mss: u16, shift: u8, ts: Timestamps) -> Sum {
    let words = [
        u32::from_be_bytes([MSS, 4, 0, 0]) | u32::from(mss),
        u32::from_be_bytes([SACK_PERMITTED, 2, TIMESTAMPS, 10]),
        ts.val,
        ts.ecr,
        u32::from_be_bytes([NOP, WINDOW_SCALE, 3, shift]),
    ]
    .map(u32::to_be);
    *out = zerocopy::transmute!(words);
    Sum::of_words(words)
}

/// Walks over options in whatever layout, as far as their lengths are possible.
#[inline]
fn for_each(mut bytes: &[u8], mut take: impl FnMut(u8, &[u8])) {
    loop {
        match *bytes {
            [] | [END, ..] => return,
            [NOP, ref rest @ ..] => bytes = rest,
            [kind, len, ..] => {
                let Some((option, rest)) = bytes.split_at_checked(len.into()) else { return };
                // A length below two is not possible: it does not cover kind and length.
                let [_, _, value @ ..] = option else { return };
                take(kind, value);
                bytes = rest;
            }
            [_] => return,
        }
    }
}

/// Where the next octets go.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    #[inline]
    fn put<const N: usize>(&mut self, octets: [u8; N]) {
        self.out[self.len..][..N].copy_from_slice(&octets);
        self.len += N;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const TS: Timestamps = Timestamps { val: 0x0102_0304, ecr: 0x0506_0708 };
    const NONE: TcpOptions = TcpOptions {
        mss: None,
        window_scale: None,
        sack_permitted: false,
        timestamps: None,
        sack: SackBlocks { blocks: [(Seq::new(0), Seq::new(0)); 4], len: 0 },
    };

    fn sack(count: u8) -> SackBlocks {
        let mut sack = SackBlocks::default();
        for n in 0..u32::from(count) {
            sack.push(Seq::new(n * 10), Seq::new(n * 10 + 5));
        }
        sack
    }

    fn emitted(options: &TcpOptions) -> Vec<u8> {
        let mut out = [0xaa; 44];
        let len = options.len();
        let sum = options.emit(&mut out[..len]);
        let mut want = Sum::new();
        want.add(&out[..len]);
        assert_eq!(sum.finish(), want.finish(), "{options:?}");
        assert!(out[len..].iter().all(|octet| *octet == 0xaa), "nothing is written past the length");
        out[..len].to_vec()
    }

    /// RFC 9293 MUST-69: each fills whole words, so no header needs padding.
    #[test]
    fn the_layouts_are_those_of_linux() {
        let ts = [1, 2, 3, 4, 5, 6, 7, 8];
        let syn = TcpOptions { mss: Some(1460), window_scale: Some(7), sack_permitted: true, ..NONE };
        let mss = [2, 4, 0x05, 0xb4];
        for (options, want, why) in [
            (NONE, vec![], "nothing"),
            (
                TcpOptions { timestamps: Some(TS), ..syn },
                [&mss[..], &[4, 2, 8, 10], &ts, &[1, 3, 3, 7]].concat(),
                "a SYN with everything",
            ),
            (syn, [&mss[..], &[1, 1, 4, 2], &[1, 3, 3, 7]].concat(), "a SYN without timestamps"),
            (
                TcpOptions { sack_permitted: false, timestamps: Some(TS), ..syn },
                [&mss[..], &[1, 1, 8, 10], &ts, &[1, 3, 3, 7]].concat(),
                "a SYN without SACK-permitted",
            ),
            (TcpOptions { mss: Some(1460), ..NONE }, mss.to_vec(), "a SYN with an MSS"),
            (TcpOptions { timestamps: Some(TS), ..NONE }, [&[1, 1, 8, 10][..], &ts].concat(), "an ACK"),
            (
                TcpOptions { timestamps: Some(TS), sack: sack(1), ..NONE },
                [&[1, 1, 8, 10][..], &ts, &[1, 1, 5, 10, 0, 0, 0, 0, 0, 0, 0, 5]].concat(),
                "an ACK with a SACK block",
            ),
        ] {
            assert_eq!(emitted(&options), want, "{why}");
        }
    }

    #[test]
    fn as_many_sack_blocks_are_written_as_fit() {
        let with_ts = TcpOptions { timestamps: Some(TS), ..NONE };
        for (base, count, want_len, why) in [
            (NONE, 4, 36, "four without timestamps"),
            (with_ts, 3, 40, "three with timestamps"),
            (with_ts, 4, 40, "the fourth does not fit"),
            (TcpOptions { mss: Some(1), window_scale: Some(1), ..with_ts }, 4, 40, "two after all of a SYN"),
        ] {
            let options = TcpOptions { sack: sack(count), ..base };
            let out = emitted(&options);
            assert_eq!(out.len(), want_len, "{why}");
            let got = TcpOptions::parse(&out).sack;
            assert_eq!(got.as_slice(), &sack(count).as_slice()[..got.as_slice().len()], "{why}");
        }
    }

    #[test]
    fn a_fifth_block_is_not_taken() {
        assert_eq!(sack(5), sack(4));
    }

    /// RFC 9293 MUST-4, MUST-5, MUST-6, MUST-7, MUST-68.
    #[test]
    fn odd_options_are_survived() {
        let mss = |mss| TcpOptions { mss: Some(mss), ..NONE };
        let scale = |shift| TcpOptions { window_scale: Some(shift), ..NONE };
        for (octets, want, why) in [
            (&[][..], NONE, "no options"),
            (&[1, 1, 1], NONE, "padding alone"),
            (&[0, 2, 4, 5, 180], NONE, "the end is the end"),
            (&[1, 2, 4, 5, 180, 0], mss(1460), "options begin at any octet"),
            (&[253, 6, 1, 2, 3, 4, 2, 4, 5, 180], mss(1460), "an unknown option is stepped over"),
            (&[253, 2, 2, 4, 5, 180], mss(1460), "an unknown option without a value"),
            (&[2, 4, 5, 180, 253, 0, 3, 3, 7], mss(1460), "length 0 ends it"),
            (&[2, 4, 5, 180, 253, 1, 3, 3, 7], mss(1460), "length 1 ends it"),
            (&[2, 4, 5, 180, 8, 10, 0, 0], mss(1460), "length past the end"),
            (&[2, 4, 5, 180, 3], mss(1460), "no length"),
            (&[2, 4, 0, 0], NONE, "an MSS of zero"),
            (&[2, 4, 5, 180, 2, 4, 1, 1], mss(1460), "the first MSS counts"),
            (&[3, 3, 2, 3, 3, 9], scale(2), "the first scale counts"),
            (&[3, 3, 14], scale(14), "the largest scale"),
            (&[3, 3, 15], scale(14), "a scale that is too large"),
            (&[3, 3, 255], scale(14), "a scale that is much too large"),
            (&[2, 3, 5, 3, 3, 1], scale(1), "an MSS of three octets"),
            (&[4, 3, 0, 3, 3, 1], scale(1), "SACK-permitted with a value"),
            (&[5, 9, 0, 0, 0, 0, 0, 0, 0, 3, 3, 1], scale(1), "SACK with most of a block"),
            (&[4, 2], TcpOptions { sack_permitted: true, ..NONE }, "SACK-permitted"),
            (
                &[5, 10, 0, 0, 0, 0, 0, 0, 0, 5, 5, 10, 9, 9, 9, 9, 9, 9, 9, 9],
                TcpOptions { sack: sack(1), ..NONE },
                "the first SACK counts",
            ),
            (
                &[8, 10, 1, 2, 3, 4, 5, 6, 7, 8, 8, 10, 9, 9, 9, 9, 9, 9, 9, 9],
                TcpOptions { timestamps: Some(TS), ..NONE },
                "timestamps without padding, and the first count",
            ),
            (&[1, 1, 8, 9, 1, 2, 3, 4, 5, 6, 7, 8], NONE, "timestamps of nine octets"),
            (&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7], NONE, "timestamps that are cut off"),
        ] {
            assert_eq!(TcpOptions::parse(octets), want, "{why}");
        }
    }

    fn any_options() -> impl Strategy<Value = TcpOptions> {
        let timestamps = any::<(u32, u32)>().prop_map(|(val, ecr)| Timestamps { val, ecr });
        (
            prop::option::of(1u16..),
            prop::option::of(0u8..=14),
            any::<bool>(),
            prop::option::of(timestamps),
            0u8..=4,
        )
            .prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| TcpOptions {
                mss,
                window_scale,
                sack_permitted,
                timestamps,
                sack: sack(blocks),
            })
    }

    proptest! {
        #[test]
        fn what_is_emitted_is_parsed(options in any_options()) {
            let out = emitted(&options);
            prop_assert!(out.len().is_multiple_of(4) && out.len() <= OPTIONS_LEN_MAX);
            prop_assert_eq!(options.is_empty(), out.is_empty());
            let fits = options.sack_that_fits(options.len_without_sack()).len();
            let got = TcpOptions::parse(&out);
            prop_assert_eq!(got.sack.as_slice(), &options.sack.as_slice()[..fits]);
            prop_assert_eq!(TcpOptions { sack: options.sack, ..got }, options);
        }

        #[test]
        fn the_short_cuts_lead_to_the_same(
            head in prop_oneof![Just([1u8, 1, 8, 10]), any::<[u8; 4]>()],
            tail in prop::collection::vec(any::<u8>(), 0..16),
        ) {
            let octets = [&head[..], &tail].concat();
            prop_assert_eq!(TcpOptions::timestamps(&octets), TcpOptions::parse(&octets).timestamps);
        }

        #[test]
        fn the_short_cut_for_a_syn_reads_what_is_there(
            mss: [u8; 2], stamps: [u8; 8], shift: u8, change in prop::option::of((0usize..20, any::<u8>())),
        ) {
            let mut octets = [2, 4, mss[0], mss[1], 4, 2, 8, 10, 0, 0, 0, 0, 0, 0, 0, 0, 1, 3, 3, shift];
            octets[8..16].copy_from_slice(&stamps);
            if let Some((at, octet)) = change {
                octets[at] = octet;
            }
            let mut each = TcpOptions::default();
            for_each(&octets, |kind, value| each.take(kind, value));
            prop_assert_eq!(TcpOptions::parse(&octets), each);
            prop_assert_eq!(TcpOptions::timestamps(&octets), each.timestamps);
        }
    }
}
