//! A small seeded generator for jitter, port choice and simulations. Never for secrets.
#![forbid(unsafe_code)]

/// SplitMix64: one addition and three mixing steps a number, every seed valid.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator whose whole output follows from `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub const fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, by multiplication, so without the bias that matters here.
    ///
    /// # Panics
    ///
    /// When `bound` is zero: there is no such number.
    pub const fn below(&mut self, bound: u32) -> u32 {
        assert!(bound > 0, "no number is below zero");
        (((self.next_u64() >> 32) * bound as u64) >> 32) as u32
    }

    /// True with probability `per_million / 1_000_000`.
    pub const fn chance(&mut self, per_million: u32) -> bool {
        self.below(1_000_000) < per_million
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn below_reaches_every_value_and_no_other() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 7];
        for _ in 0..7_000 {
            seen[rng.below(7) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (800..1_200).contains(&n)), "{seen:?}");
    }

    #[test]
    fn the_seed_decides_everything() {
        let (mut a, mut b, mut c) = (Rng::new(9), Rng::new(9), Rng::new(10));
        let a: [u64; 8] = core::array::from_fn(|_| a.next_u64());
        let b: [u64; 8] = core::array::from_fn(|_| b.next_u64());
        let c: [u64; 8] = core::array::from_fn(|_| c.next_u64());
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
