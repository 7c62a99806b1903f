//! The Internet checksum (RFC 1071): in 64-bit words with carry.
#![forbid(unsafe_code)]

use crate::base::AddrPair;

/// A running sum, in ones' complement, of octets taken as 16-bit words.
///
/// Words are added in the machine's own byte order, which RFC 1071 §2 (B) shows to be the same sum with
/// its octets swapped; they are swapped back once, in [`Sum::finish`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sum {
    total: u64,
    /// An odd number of octets has been added, so the next one is the second half of its word.
    odd: bool,
}

impl Sum {
    /// The sum of nothing.
    pub const fn new() -> Self {
        Self { total: 0, odd: false }
    }

    /// The sum of some 32-bit words of a header, each in the byte order of the wire.
    #[inline]
    pub fn of_words<const N: usize>(words: [u32; N]) -> Self {
        Self { total: words.iter().map(|&word| u64::from(word)).sum(), odd: false }
    }

    /// Both sums, as if the octets of `other` followed.
    ///
    /// # Panics
    ///
    /// In debug builds, if an odd number of octets was added here before.
    #[inline]
    pub fn join(&mut self, other: Self) {
        debug_assert!(!self.odd, "what is joined begins at a whole word");
        *self = Self { total: self.total + other.total, odd: other.odd };
    }

    /// Adds `octets`, which follow directly on those added before.
    #[inline(always)]
    pub fn add(&mut self, octets: &[u8]) {
        let (blocks, rest) = octets.as_chunks::<BLOCK>();
        let mut lanes = Lanes::default();
        for block in blocks {
            lanes.add(block);
        }
        let (words, tail) = rest.as_chunks::<8>();
        let sum = words.iter().fold(lanes.sum(), |sum, word| with_carry(sum, u64::from_ne_bytes(*word)));
        self.take(with_carry(sum, last_word(tail)), octets.len());
    }

    /// Copies `src` to `dst` and adds it.
    ///
    /// # Panics
    ///
    /// If the two differ in length.
    #[inline(always)]
    pub fn copy(&mut self, dst: &mut [u8], src: &[u8]) {
        /// From here on vectors copy faster, though what they copied is then read again, from the nearest cache.
        const LONG: usize = 128;
        if src.len() >= LONG {
            dst.copy_from_slice(src);
            return self.add(src);
        }
        assert_eq!(dst.len(), src.len(), "both ends of a copy have one length");
        let (to_words, to_tail) = dst.as_chunks_mut::<8>();
        let (words, tail) = src.as_chunks::<8>();
        let mut sum = 0;
        for (to, word) in to_words.iter_mut().zip(words) {
            *to = *word;
            sum = with_carry(sum, u64::from_ne_bytes(*word));
        }
        // At most seven octets: a call of memcpy costs more than the whole of a short sum.
        for (to, octet) in to_tail.iter_mut().zip(tail) {
            *to = *octet;
        }
        self.take(with_carry(sum, last_word(tail)), src.len());
    }

    /// The checksum for a header field: a number whose octets go out most significant first.
    #[inline]
    pub const fn finish(self) -> u16 {
        u16::from_be(!fold(self.total))
    }

    /// Whether what was added, a checksum field included, is intact.
    #[inline]
    pub const fn verify(self) -> bool {
        self.finish() == 0
    }

    /// Accounts for `len` octets whose words, counted from the first of them, add up to `sum`.
    #[inline]
    fn take(&mut self, sum: u64, len: usize) {
        // At an odd offset every octet is in the other half of its word (RFC 1071 §2 (B)).
        self.total +=
            if self.odd { u64::from(fold(sum).swap_bytes()) } else { (sum >> 32) + (sum & 0xffff_ffff) };
        self.odd ^= len % 2 == 1;
    }
}

/// Octets that are added in one step of a loop.
const BLOCK: usize = 32;

/// Sums side by side of 64-bit words. What overflows is kept above them, not brought round at once, so that
/// no addition waits for another.
#[derive(Default)]
struct Lanes(u128, u128, u128, u128);

impl Lanes {
    #[inline]
    fn add(&mut self, block: &[u8; BLOCK]) {
        let [a, b, c, d]: [[u8; 8]; 4] = zerocopy::transmute!(*block);
        self.0 += u128::from(u64::from_ne_bytes(a));
        self.1 += u128::from(u64::from_ne_bytes(b));
        self.2 += u128::from(u64::from_ne_bytes(c));
        self.3 += u128::from(u64::from_ne_bytes(d));
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a number")]
    const fn sum(&self) -> u64 {
        let sum = self.0 + self.1 + self.2 + self.3;
        with_carry(sum as u64, (sum >> 64) as u64)
    }
}

/// Ones' complement addition: what overflows comes back at the other end.
#[inline]
const fn with_carry(sum: u64, word: u64) -> u64 {
    let (sum, carry) = sum.overflowing_add(word);
    sum + carry as u64
}

/// The sum of the pseudo-header of RFC 9293 §3.1 (IPv4) or RFC 8200 §8.1 (IPv6).
///
/// `len` is the length in octets of what follows it. Which of the addresses is the source makes no
/// difference.
///
/// # Panics
///
/// If `len` is 4 GiB or more, which no packet can be.
#[inline]
pub fn pseudo_header(addrs: &AddrPair, protocol: u8, len: usize) -> Sum {
    let len = u32::try_from(len).expect("an IP payload is shorter than 4 GiB");
    // The length has two octets in IPv4 and four in IPv6; the leading zeroes change no sum.
    let mut sum = Sum::of_words([u32::from(protocol).to_be(), len.to_be()]);
    match addrs {
        AddrPair::V4 { local, remote } => {
            sum.join(Sum::of_words([local.octets(), remote.octets()].map(u32::from_ne_bytes)));
        }
        AddrPair::V6 { local, remote } => {
            sum.add(&local.octets());
            sum.add(&remote.octets());
        }
    }
    sum
}

/// Whether `segment`, with its checksum field, is intact under its pseudo-header.
#[inline]
pub fn verify(addrs: &AddrPair, protocol: u8, segment: &[u8]) -> bool {
    let mut sum = pseudo_header(addrs, protocol, segment.len());
    sum.add(segment);
    sum.verify()
}

/// Up to seven octets at the end, as the word that they begin.
#[inline]
fn last_word(tail: &[u8]) -> u64 {
    let (sum, tail) = match tail.split_first_chunk::<4>() {
        Some((word, tail)) => (u64::from(u32::from_ne_bytes(*word)), tail),
        None => (0, tail),
    };
    let word = match *tail {
        [a, b, c, ..] => [a, b, c, 0],
        [a, b] => [a, b, 0, 0],
        [a] => [a, 0, 0, 0],
        [] => return sum,
    };
    sum + u64::from(u32::from_ne_bytes(word))
}

/// The sum in sixteen bits. A number added to itself with its halves exchanged has the sum of the halves, with
/// the carry come round, in its upper half.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    /// RFC 1071 to the letter: big-endian words, one at a time.
    fn naive(octets: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in octets.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    fn of(octets: &[u8]) -> u16 {
        let mut sum = Sum::new();
        sum.add(octets);
        sum.finish()
    }

    /// Octets that are neither constant nor periodic in a power of two.
    fn pattern(len: usize) -> Vec<u8> {
        (0..len).map(|i| u8::try_from(i * 151 % 253).unwrap()).collect()
    }

    #[test]
    fn every_alignment_and_length_sums_as_the_naive_loop() {
        let octets = pattern(16 + 300);
        for start in 0..16 {
            for len in 0..300 {
                let part = &octets[start..start + len];
                assert_eq!(of(part), naive(part), "start {start}, length {len}");
                let (mut sum, mut copied) = (Sum::new(), vec![0; len]);
                sum.copy(&mut copied, part);
                assert_eq!((sum.finish(), copied.as_slice()), (naive(part), part));
            }
        }
    }

    #[test]
    fn all_ones_carry_to_the_last() {
        for len in [1, 2, 3, 4, 7, 8, 63, 64, 1460, 65_535] {
            let octets = vec![0xff; len];
            assert_eq!(of(&octets), naive(&octets), "length {len}");
        }
    }

    #[test]
    fn the_example_of_rfc_1071_section_3_holds() {
        assert_eq!(of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }

    #[test]
    fn the_pseudo_header_is_that_of_the_family() {
        let v4_pair = AddrPair::V4 { local: [192, 0, 2, 1].into(), remote: [198, 51, 100, 7].into() };
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0x05, 0xb4];
        assert_eq!(pseudo_header(&v4_pair, 6, 1460).finish(), naive(&v4));

        let (local, remote): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "fe80::2:3".parse().unwrap());
        let v6 = [&local.octets()[..], &remote.octets(), &[0, 1, 0, 2, 0, 0, 0, 58]].concat();
        assert_eq!(pseudo_header(&AddrPair::V6 { local, remote }, 58, 0x1_0002).finish(), naive(&v6));
    }

    fn pieces() -> impl Strategy<Value = Vec<Vec<u8>>> {
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..70), 0..8)
    }

    proptest! {
        /// Also where a piece of odd length comes before others.
        #[test]
        fn pieces_sum_as_the_whole(pieces in pieces()) {
            let whole = pieces.concat();
            let (mut added, mut copied) = (Sum::new(), Sum::new());
            for piece in &pieces {
                let mut dst = vec![0; piece.len()];
                added.add(piece);
                copied.copy(&mut dst, piece);
                prop_assert_eq!(&dst, piece);
            }
            prop_assert_eq!(added.finish(), naive(&whole));
            prop_assert_eq!(copied.finish(), naive(&whole));
        }

        #[test]
        fn a_segment_with_its_checksum_verifies_and_with_a_changed_octet_does_not(
            mut segment in prop::collection::vec(any::<u8>(), 2..200), at: prop::sample::Index, flip in 1u8..255,
        ) {
            let addrs = AddrPair::V4 { local: [192, 0, 2, 1].into(), remote: [192, 0, 2, 2].into() };
            segment[..2].fill(0);
            let mut sum = pseudo_header(&addrs, 6, segment.len());
            sum.add(&segment);
            segment[..2].copy_from_slice(&sum.finish().to_be_bytes());
            prop_assert!(verify(&addrs, 6, &segment));
            let at = at.index(segment.len());
            segment[at] ^= flip;
            prop_assert!(!verify(&addrs, 6, &segment));
        }
    }

    #[test]
    fn folding_reaches_sixteen_bits_from_any_sum() {
        for sum in [0, 1, 0xffff, 0x1_0000, 0xffff_ffff, 1 << 32, 0xffff_0000_ffff, u64::MAX - 1, u64::MAX] {
            let want = if sum == 0 { 0 } else { u16::try_from((sum - 1) % 0xffff + 1).unwrap() };
            assert_eq!(fold(sum), want, "{sum:#x}");
        }
    }
}
