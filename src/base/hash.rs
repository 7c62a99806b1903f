//! The keyed hashes behind flow tables, ISNs and timestamp offsets.
#![forbid(unsafe_code)]

use core::net::Ipv6Addr;

use super::{AddrPair, FlowKey};

/// A 128-bit secret drawn at start; whoever does not know it cannot build collisions or guess ISNs.
#[derive(Clone, Copy)]
pub struct HashKey {
    k0: u64,
    k1: u64,
}

impl HashKey {
    /// The key made of these two halves; they come from the operating system's generator, or a test's seed.
    pub const fn new(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// A key for another purpose, so that no output of one table says anything of another.
    pub const fn derive(&self, purpose: u64) -> Self {
        Self::new(self.sip([purpose, 0], 0, 16), self.sip([purpose, 1], 0, 16))
    }

    /// SipHash-1-3 of the four-tuple: local address, remote address, local port, remote port, as on the wire.
    #[inline(always)]
    pub fn flow(&self, key: &FlowKey) -> u64 {
        let ports = u64::from(key.local_port.to_be()) | u64::from(key.remote_port.to_be()) << 16;
        match key.addrs {
            AddrPair::V4 { local, remote } => {
                let (local, remote) =
                    (u32::from_le_bytes(local.octets()), u32::from_le_bytes(remote.octets()));
                self.sip([u64::from(local) | u64::from(remote) << 32], ports, 12)
            }
            AddrPair::V6 { local, remote } => self.wide(local, remote, ports),
        }
    }

    /// SipHash-1-3 of one word.
    pub const fn word(&self, word: u64) -> u64 {
        self.sip([word], 0, 8)
    }

    #[inline(never)]
    fn wide(&self, local: Ipv6Addr, remote: Ipv6Addr, ports: u64) -> u64 {
        let ([a, b], [c, d]) = (halves(local.octets()), halves(remote.octets()));
        self.sip([a, b, c, d], ports, 36)
    }

    /// SipHash-1-3 of whole words and a `tail` of less than a word, `len` octets in all.
    ///
    /// Written out here because it is called for every connection, and every length is known when this is
    /// compiled: some 90 instructions, where a hasher for any input takes 150.
    #[inline(always)]
    const fn sip<const N: usize>(&self, words: [u64; N], tail: u64, len: u64) -> u64 {
        let mut state = Sip {
            v0: self.k0 ^ 0x736f_6d65_7073_6575,
            v1: self.k1 ^ 0x646f_7261_6e64_6f6d,
            v2: self.k0 ^ 0x6c79_6765_6e65_7261,
            v3: self.k1 ^ 0x7465_6462_7974_6573,
        };
        let mut i = 0;
        while i < N {
            state = state.absorb(words[i]);
            i += 1;
        }
        state.absorb(tail | len << 56).finish()
    }
}

/// The state of SipHash ("SipHash: a fast short-input PRF", Aumasson and Bernstein, 2012).
struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    #[inline(always)]
    const fn absorb(self, word: u64) -> Self {
        let mixed = Self { v3: self.v3 ^ word, ..self }.round();
        Self { v0: mixed.v0 ^ word, ..mixed }
    }

    #[inline(always)]
    const fn finish(self) -> u64 {
        let Self { v0, v1, v2, v3 } = Self { v2: self.v2 ^ 0xff, ..self }.round().round().round();
        v0 ^ v1 ^ v2 ^ v3
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let Self { mut v0, mut v1, mut v2, mut v3 } = self;
        v0 = v0.wrapping_add(v1);
        v1 = v1.rotate_left(13) ^ v0;
        v0 = v0.rotate_left(32);
        v2 = v2.wrapping_add(v3);
        v3 = v3.rotate_left(16) ^ v2;
        v0 = v0.wrapping_add(v3);
        v3 = v3.rotate_left(21) ^ v0;
        v2 = v2.wrapping_add(v1);
        v1 = v1.rotate_left(17) ^ v2;
        v2 = v2.rotate_left(32);
        Self { v0, v1, v2, v3 }
    }
}

/// The keyed hash of a flow table: NH (RFC 4418 §5.2.2, with words of 64 bits), then mixed.
///
/// Nobody sees its output, so it need not be a cipher: two tuples chosen without the key have one sum in NH
/// with a probability of 2^-64. It takes a tenth of SipHash's instructions, for every frame.
#[derive(Clone, Copy)]
pub struct TableHash {
    words: [u64; 6],
    mix: [u64; 2],
}

impl TableHash {
    /// The hash made from this key, which serves nothing else.
    pub const fn new(key: &HashKey) -> Self {
        Self {
            words: [key.word(0), key.word(1), key.word(2), key.word(3), key.word(4), key.word(5)],
            mix: [key.word(6), key.word(7)],
        }
    }

    /// The hash of a four-tuple.
    #[inline(always)]
    pub fn flow(&self, key: &FlowKey) -> u64 {
        let ports = u64::from(key.local_port) | u64::from(key.remote_port) << 16;
        let [a, b, ..] = self.words;
        match key.addrs {
            AddrPair::V4 { local, remote } => {
                let (local, remote) =
                    (u32::from_ne_bytes(local.octets()), u32::from_ne_bytes(remote.octets()));
                let addrs = u64::from(local) | u64::from(remote) << 32;
                self.mixed(product(addrs.wrapping_add(a), ports.wrapping_add(b)))
            }
            AddrPair::V6 { local, remote } => self.wide(local, remote, ports),
        }
    }

    #[inline(never)]
    fn wide(&self, local: Ipv6Addr, remote: Ipv6Addr, ports: u64) -> u64 {
        let ([a, b], [c, d]) = (halves(local.octets()), halves(remote.octets()));
        let sums: [u64; 6] = core::array::from_fn(|i| [a, b, c, d, ports, 0][i].wrapping_add(self.words[i]));
        let [a, b, c, d, e, f] = sums;
        self.mixed(product(a, b).wrapping_add(product(c, d)).wrapping_add(product(e, f)))
    }

    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of a number")]
    const fn mixed(&self, sum: u128) -> u64 {
        let [a, b] = self.mix;
        let product = product(sum as u64 ^ a, (sum >> 64) as u64 ^ b);
        product as u64 ^ (product >> 64) as u64
    }
}

const fn product(a: u64, b: u64) -> u128 {
    a as u128 * b as u128
}

fn halves(octets: [u8; 16]) -> [u64; 2] {
    let bits = u128::from_le_bytes(octets);
    #[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
    [bits as u64, (bits >> 64) as u64]
}

impl core::fmt::Debug for HashKey {
    /// Never prints the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

impl core::fmt::Debug for TableHash {
    /// Never prints the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("TableHash(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::hash::Hasher;
    use core::net::SocketAddr;
    use siphasher::sip::SipHasher13;
    use std::format;

    fn key(local: &str, remote: &str, local_port: u16, remote_port: u16) -> FlowKey {
        let socket = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port);
        FlowKey::new(socket(local, local_port), socket(remote, remote_port)).expect("one family")
    }

    #[test]
    fn every_part_of_the_tuple_and_of_the_key_counts() {
        let hash = HashKey::new(1, 2);
        for (a, b) in [
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.3", "10.0.0.2", 1, 2)),
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.1", "10.0.0.3", 1, 2)),
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.1", "10.0.0.2", 3, 2)),
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.1", "10.0.0.2", 1, 3)),
            (key("fd00::1", "fd00::2", 1, 2), key("fd00::1", "fd00::2", 2, 1)),
            (key("fd00::1", "fd00::2", 1, 2), key("fd00::2", "fd00::1", 1, 2)),
        ] {
            assert_ne!(hash.flow(&a), hash.flow(&b), "{a:?} {b:?}");
            assert_ne!(hash.flow(&a), HashKey::new(1, 3).flow(&a));
            assert_ne!(hash.flow(&a), hash.derive(1).flow(&a));
            assert_eq!(hash.flow(&a), HashKey::new(1, 2).flow(&a));
            let table = TableHash::new(&hash);
            assert_ne!(table.flow(&a), table.flow(&b), "{a:?} {b:?}");
            assert_ne!(table.flow(&a), TableHash::new(&HashKey::new(1, 3)).flow(&a));
            assert_eq!(table.flow(&a), TableHash::new(&hash).flow(&a));
        }
    }

    /// What a peer can choose freely, it chooses in sequence: ports, and IPv6 addresses.
    #[test]
    fn tuples_that_differ_by_little_are_spread_like_random_ones() {
        const BUCKETS: usize = 1 << 10;
        const EACH: usize = 32;
        for n in 0..20 {
            let table = TableHash::new(&HashKey::new(n, 7));
            let ports = |i: u16| key("10.0.0.1", "10.0.0.2", 80, i);
            let hosts = |i: u16| {
                let [a, b] = i.to_be_bytes();
                key("fd00::1", &format!("fd00::{a:x}:0:{b:x}"), 80, 7)
            };
            let makers: [&dyn Fn(u16) -> FlowKey; 2] = [&ports, &hosts];
            for maker in makers {
                for shift in [54, 0] {
                    let mut counts = [0_usize; BUCKETS];
                    for i in 0..u16::try_from(BUCKETS * EACH).expect("short") {
                        let near = (table.flow(&maker(i)) >> shift) % BUCKETS as u64;
                        counts[usize::try_from(near).expect("small")] += 1;
                    }
                    // Of 1,024 numbers of a Poisson distribution around 32 none is beyond 7 deviations.
                    let most = counts.iter().max().expect("buckets");
                    assert!(*most < EACH * 9 / 4, "key {n}, shift {shift}: {most}");
                    let square: usize = counts.iter().map(|count| count.abs_diff(EACH).pow(2)).sum();
                    assert!(square < BUCKETS * EACH * 3 / 2, "key {n}, shift {shift}: {square}");
                }
            }
        }
    }

    #[test]
    fn it_is_siphash_of_the_octets_on_the_wire() {
        let mut hasher = SipHasher13::new_with_keys(1, 2);
        hasher.write(&[10, 0, 0, 1, 10, 0, 0, 2, 0x12, 0x34, 0, 80]);
        let v4 = key("10.0.0.1", "10.0.0.2", 0x1234, 80);
        assert_eq!(HashKey::new(1, 2).flow(&v4), hasher.finish());

        let mut octets = [0; 36];
        (octets[0], octets[15], octets[16], octets[31]) = (0xfd, 1, 0xfd, 2);
        octets[32..].copy_from_slice(&[0x12, 0x34, 0, 80]);
        let v6 = key("fd00::1", "fd00::2", 0x1234, 80);
        assert_eq!(HashKey::new(1, 2).flow(&v6), SipHasher13::new_with_keys(1, 2).hash(&octets));
        let word = [1, 2, 3, 4, 5, 6, 7, 8];
        let sip = HashKey::new(1, 2).word(u64::from_le_bytes(word));
        assert_eq!(sip, SipHasher13::new_with_keys(1, 2).hash(&word));
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        assert_eq!(format!("{:?}", HashKey::new(11, 22)), "HashKey(..)");
        assert_eq!(format!("{:?}", TableHash::new(&HashKey::new(11, 22))), "TableHash(..)");
    }
}
