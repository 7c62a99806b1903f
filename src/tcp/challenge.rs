//! The rate limit of challenge ACKs (RFC 5961 §7).
#![forbid(unsafe_code)]

use crate::base::{HashKey, Instant};

/// How many challenge ACKs are left in the current second.
///
/// Nobody outside can know how many a second has: who could would count what is left of them on a connection of his own,
/// and learn whether his guesses about another's were answered ("Off-Path TCP Exploits: Global Rate Limit Considered
/// Dangerous", Cao et al., USENIX Security 2016; CVE-2016-5696).
#[derive(Clone, Copy, Debug)]
pub struct ChallengeLimit {
    key: HashKey,
    /// The last one in which any were asked for.
    second: u64,
    left: u32,
}

impl ChallengeLimit {
    /// A limit whose seconds differ as `key` says, which nobody else may know.
    pub const fn new(key: HashKey) -> Self {
        Self { key, second: u64::MAX, left: 0 }
    }

    /// Whether one more may be sent at `now`, when a second has `per_second` of them on average: from half as many to one and a
    /// half times as many.
    pub fn allow(&mut self, now: Instant, per_second: u32) -> bool {
        let second = now.as_millis() / 1_000;
        if second != self.second {
            (self.second, self.left) = (second, self.share(second, per_second));
        }
        let allowed = self.left > 0;
        self.left -= u32::from(allowed);
        allowed
    }

    /// What a second has.
    fn share(&self, second: u64, per_second: u32) -> u32 {
        let part = ((self.key.word(second) >> 32) * u64::from(per_second)) >> 32;
        per_second.div_ceil(2).saturating_add(u32::try_from(part).expect("less than `per_second`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn limit(key: u64) -> ChallengeLimit {
        ChallengeLimit::new(HashKey::new(key, 2))
    }

    /// How many of 50 are allowed.
    fn allowed(limit: &mut ChallengeLimit, ms: u64, per_second: u32) -> u32 {
        (0..50).map(|_| u32::from(limit.allow(Instant::from_millis(ms), per_second))).sum()
    }

    #[test]
    fn a_second_has_its_share_and_no_more() {
        for (per_second, least, most) in
            [(0, 0, 0), (1, 1, 1), (2, 1, 2), (3, 2, 4), (10, 5, 14), (20, 10, 29)]
        {
            let mut limit = limit(1);
            let mut shares = BTreeSet::new();
            for second in 0..1_000 {
                shares.insert(allowed(&mut limit, 1_000 * second, per_second));
                assert_eq!(allowed(&mut limit, 1_000 * second + 999, per_second), 0);
            }
            assert_eq!(shares, (least..=most).collect(), "{per_second}");
        }
        assert!(limit(1).allow(Instant::ZERO, u32::MAX), "the largest there is");
    }

    #[test]
    fn shares_follow_from_the_secret() {
        let shares = |key| {
            let mut limit = limit(key);
            let mut second = 0;
            [0; 20].map(|_| {
                second += 1;
                allowed(&mut limit, 1_000 * second, 20)
            })
        };
        assert_eq!(shares(1), shares(1));
        assert_ne!(shares(1), shares(2));
    }
}
