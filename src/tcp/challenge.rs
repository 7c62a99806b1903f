//! The rate limit of challenge ACKs (RFC 5961 §7).
#![forbid(unsafe_code)]

use crate::base::Instant;

/// How many challenge ACKs are left in the current second.
#[derive(Clone, Copy, Debug, Default)]
pub struct ChallengeLimit {
    second: u64,
    sent: u32,
}

impl ChallengeLimit {
    /// Whether one more may be sent at `now`, when `per_second` are allowed.
    pub const fn allow(&mut self, now: Instant, per_second: u32) -> bool {
        let second = now.as_millis() / 1_000;
        if second != self.second {
            *self = Self { second, sent: 0 };
        }
        let allowed = self.sent < per_second;
        if allowed {
            self.sent += 1;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_its_share_and_no_more() {
        let mut limit = ChallengeLimit::default();
        let allowed = |limit: &mut ChallengeLimit, ms| {
            (0..5).filter(|_| limit.allow(Instant::from_millis(ms), 2)).count()
        };
        assert_eq!(allowed(&mut limit, 100), 2);
        assert_eq!(allowed(&mut limit, 999), 0);
        assert_eq!(allowed(&mut limit, 1_000), 2);
    }
}
