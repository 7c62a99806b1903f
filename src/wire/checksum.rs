//! The Internet checksum (RFC 1071), in 32-bit words that the compiler adds several at a time.
#![forbid(unsafe_code)]

use core::net::IpAddr;

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

    /// Adds `octets`, which follow directly on those added before.
    #[inline]
    pub fn add(&mut self, octets: &[u8]) {
        let (words, tail) = octets.as_chunks::<4>();
        let sum = words.iter().fold(0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word)));
        self.take(sum + last_word(tail), octets.len());
    }

    /// Copies `src` to `dst` and adds it, in one pass over memory.
    ///
    /// # Panics
    ///
    /// If the two differ in length.
    #[inline]
    pub fn copy(&mut self, dst: &mut [u8], src: &[u8]) {
        assert_eq!(dst.len(), src.len(), "both ends of a copy have one length");
        let (to_words, to_tail) = dst.as_chunks_mut::<4>();
        let (words, tail) = src.as_chunks::<4>();
        let mut sum = 0;
        for (to, word) in to_words.iter_mut().zip(words) {
            *to = *word;
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        // At most three octets: a call of memcpy costs more than the whole of a short sum.
        for (to, octet) in to_tail.iter_mut().zip(tail) {
            *to = *octet;
        }
        self.take(sum + last_word(tail), src.len());
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

/// The sum of the pseudo-header of RFC 9293 §3.1 (IPv4) or RFC 8200 §8.1 (IPv6).
///
/// `len` is the length in octets of what follows it. Both addresses are of one family.
#[inline]
pub fn pseudo_header(src: IpAddr, dst: IpAddr, protocol: u8, len: usize) -> Sum {
    let mut sum = Sum::new();
    for addr in [src, dst] {
        match addr {
            IpAddr::V4(addr) => sum.add(&addr.octets()),
            IpAddr::V6(addr) => sum.add(&addr.octets()),
        }
    }
    let len = u32::try_from(len).expect("an IP payload is shorter than 4 GiB");
    sum.add(&u32::from(protocol).to_be_bytes());
    // The length has two octets in IPv4 and four in IPv6; the leading zeroes change no sum.
    sum.add(&len.to_be_bytes());
    sum
}

/// Whether `segment`, with its checksum field, is intact under its pseudo-header.
#[inline]
pub fn verify(src: IpAddr, dst: IpAddr, protocol: u8, segment: &[u8]) -> bool {
    let mut sum = pseudo_header(src, dst, protocol, segment.len());
    sum.add(segment);
    sum.verify()
}

/// Up to three octets as a word that is filled up with zeroes.
#[inline]
fn last_word(tail: &[u8]) -> u64 {
    let word = match *tail {
        [a, b, c, ..] => [a, b, c, 0],
        [a, b] => [a, b, 0, 0],
        [a] => [a, 0, 0, 0],
        [] => return 0,
    };
    u64::from(u32::from_ne_bytes(word))
}

/// Adds the carries back in until sixteen bits are left.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum >> 32) + (sum & 0xffff_ffff);
    let sum = (sum >> 16 & 0xffff) + (sum & 0xffff) + (sum >> 32);
    let sum = (sum >> 16) + (sum & 0xffff);
    let sum = (sum >> 16) + (sum & 0xffff);
    #[expect(clippy::cast_possible_truncation, reason = "four additions leave at most 0xffff")]
    return sum as u16;
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let (a4, b4): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "198.51.100.7".parse().unwrap());
        let v4 = [192, 0, 2, 1, 198, 51, 100, 7, 0, 6, 0x05, 0xb4];
        assert_eq!(pseudo_header(a4, b4, 6, 1460).finish(), naive(&v4));

        let (a6, b6): (IpAddr, IpAddr) = ("2001:db8::1".parse().unwrap(), "fe80::2:3".parse().unwrap());
        let mut v6 = Vec::new();
        for addr in [a6, b6] {
            let IpAddr::V6(addr) = addr else { unreachable!() };
            v6.extend(addr.octets());
        }
        v6.extend([0, 1, 0, 2, 0, 0, 0, 58]);
        assert_eq!(pseudo_header(a6, b6, 58, 0x1_0002).finish(), naive(&v6));
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
            let (src, dst) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
            segment[..2].fill(0);
            let mut sum = pseudo_header(src, dst, 6, segment.len());
            sum.add(&segment);
            segment[..2].copy_from_slice(&sum.finish().to_be_bytes());
            prop_assert!(verify(src, dst, 6, &segment));
            let at = at.index(segment.len());
            segment[at] ^= flip;
            prop_assert!(!verify(src, dst, 6, &segment));
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
