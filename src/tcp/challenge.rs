//! The rate limit of challenge ACKs (RFC 5961 §7).
#![forbid(unsafe_code)]

use crate::base::{HashKey, Instant};

/// How many challenge ACKs are left in the current second.
///
/// A second's number is not known outside: who knew it would count what is left of it on a connection of his own, and learn of
/// each guess about another's whether it was answered ("Off-Path TCP Exploits: Global Rate Limit Considered Dangerous", Cao et
/// al., USENIX Security 2016; CVE-2016-5696). What he can do still is to repeat one guess as often as half of a second's ACKs
/// and more: that is as many times dearer, and not impossible, since there is no limit for each connection.
#[derive(Clone, Copy, Debug)]
pub struct ChallengeLimit {
    key: HashKey,
    /// The last one in which any were asked for.
    second: u64,
    left: u32,
}

impl ChallengeLimit {
    /// A limit whose seconds differ as `key` says, which nobody else may know, for a worker that began at `start`.
    ///
    /// The key may be one for all workers of all processes: what the connections of one of them can count says nothing of the others.
    pub const fn new(key: &HashKey, worker: u16, start: Instant) -> Self {
        Self { key: key.derive(worker as u64).derive(start.as_nanos()), second: u64::MAX, left: 0 }
    }

    /// Whether one more may be sent at `now`, when a second has about `per_second` of them: from half as many to one and a
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
        per_second.div_ceil(2).saturating_add(u32::try_from(part).expect("not more than `per_second`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn limit(key: u64) -> ChallengeLimit {
        ChallengeLimit::new(&HashKey::new(key, 2), 0, Instant::ZERO)
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
    fn shares_follow_from_the_secret_the_worker_and_its_start() {
        let shares = |mut limit: ChallengeLimit| {
            let mut second = 0;
            [0; 20].map(|_| {
                second += 1;
                allowed(&mut limit, 1_000 * second, 20)
            })
        };
        let key = HashKey::new(1, 2);
        assert_eq!(shares(limit(1)), shares(limit(1)));
        for other in [
            limit(2),
            ChallengeLimit::new(&key, 1, Instant::ZERO),
            ChallengeLimit::new(&key, 0, Instant::from_nanos(1)),
        ] {
            assert_ne!(shares(limit(1)), shares(other));
        }
    }
}
