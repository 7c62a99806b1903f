//! How much may be in flight, learned from losses: for now, and for long.
#![forbid(unsafe_code)]

use super::Sample;

/// No bound.
pub(super) const NONE: u32 = u32::MAX;
/// No bound of a rate.
const NO_RATE: u64 = u64::MAX;

/// What congestion has taught.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// `bw_latest`, octets a second, and `inflight_latest`: the most in the last round trip.
    latest_rate: u64,
    latest: u32,
    /// `loss_round_delivered`: the round trip after a loss ends with the first segment that left after so much had
    /// arrived.
    loss_round_end: u32,
    /// It has ended with this acknowledgment.
    pub(super) loss_round_start: bool,
    loss_in_round: bool,
    /// Acknowledgments in this round trip that showed losses.
    pub(super) loss_events: u8,
    /// `bw_shortterm` and `inflight_shortterm`: until the next probe.
    pub(super) rate_lo: u64,
    pub(super) lo: u32,
    /// `inflight_longterm`: until a probe shows that there is room for more.
    pub(super) hi: u32,
    /// The three before the last loss.
    undo: (u64, u32, u32),
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            latest_rate: 0,
            latest: 0,
            loss_round_end: 0,
            loss_round_start: false,
            loss_in_round: false,
            loss_events: 0,
            rate_lo: NO_RATE,
            lo: NONE,
            hi: NONE,
            undo: (NO_RATE, NONE, NONE),
        }
    }
}

impl Bounds {
    /// `UpdateLatestDeliverySignals`; in all `delivered` octets have arrived.
    pub(super) fn update(&mut self, sample: Option<&Sample>, delivered: u32) {
        self.loss_round_start = false;
        let Some(sample) = sample else { return };
        self.latest_rate = self.latest_rate.max(sample.rate.unwrap_or(0));
        self.latest = self.latest.max(sample.delivered);
        if is_at_or_after(sample.prior, self.loss_round_end) {
            self.loss_round_end = delivered;
            self.loss_round_start = true;
        }
    }

    /// `AdvanceLatestDeliverySignals`.
    pub(super) fn advance(&mut self, sample: Option<&Sample>) {
        if let Some(sample) = sample.filter(|_| self.loss_round_start) {
            self.latest_rate = sample.rate.unwrap_or(0);
            self.latest = sample.delivered;
        }
        if self.loss_round_start {
            self.loss_events = 0;
        }
    }

    /// `NoteLoss`: octets were lost when `delivered` had arrived.
    pub(super) fn lost(&mut self, delivered: u32) {
        self.loss_events = self.loss_events.saturating_add(1);
        if !self.loss_in_round {
            self.loss_round_end = delivered;
            self.undo = (self.rate_lo, self.lo, self.hi);
        }
        self.loss_in_round = true;
    }

    /// `AdaptLowerBoundsFromCongestion`, at the end of a round trip, unless the path is being probed: what arrived in
    /// it, and not less than 0.7 of the bound before.
    pub(super) fn adapt(&mut self, probing: bool, max_rate: u64, cwnd: u32) {
        if !self.loss_round_start {
            return;
        }
        if self.loss_in_round && !probing {
            let (rate, octets) = (self.rate_lo.min(max_rate), if self.lo == NONE { cwnd } else { self.lo });
            self.rate_lo = self.latest_rate.max(beta(rate));
            self.lo = self.latest.max(u32::try_from(beta(octets.into())).expect("a part of a u32"));
        }
        self.loss_in_round = false;
    }

    /// `ResetCongestionSignals`.
    pub(super) fn reset_signals(&mut self) {
        (self.loss_in_round, self.latest_rate, self.latest) = (false, 0, 0);
    }

    /// `ResetShortTermModel`.
    pub(super) fn reset_short_term(&mut self) {
        (self.rate_lo, self.lo) = (NO_RATE, NONE);
    }

    /// Whether congestion keeps the rate below what was measured.
    pub(super) const fn is_slowed(&self) -> bool {
        self.rate_lo != NO_RATE
    }

    /// What was lost was not: no bound is lower than it was before.
    pub(super) fn undo(&mut self) {
        let (rate_lo, lo, hi) = self.undo;
        self.loss_in_round = false;
        self.rate_lo = self.rate_lo.max(rate_lo);
        self.lo = self.lo.max(lo);
        self.hi = self.hi.max(hi);
    }

    /// `InflightWithHeadroom`: 0.85 of the long-term bound, room for others.
    pub(super) fn with_headroom(&self, mss: u32, least: u32) -> u32 {
        if self.hi == NONE {
            return NONE;
        }
        let headroom = (self.hi / 20 * 3).max(mss);
        self.hi.saturating_sub(headroom).max(least)
    }

    /// What arrived at most in the last round trip, octets.
    pub(super) const fn latest(&self) -> u32 {
        self.latest
    }
}

/// `Beta`, 0.7.
pub(super) const fn beta(of: u64) -> u64 {
    of / 10 * 7 + of % 10 * 7 / 10
}

/// `IsInflightTooHigh`: more than 2 % of what was in flight was lost.
pub(super) fn is_too_much(sample: &Sample) -> bool {
    u64::from(sample.lost) * 50 > u64::from(sample.in_flight)
}

/// Whether a count modulo 2^32 has reached another.
pub(super) const fn is_at_or_after(count: u32, other: u32) -> bool {
    count.wrapping_sub(other) < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::*;

    /// At the end of a round trip in which `rate` octets a second and `octets` octets arrived.
    fn after(rate: u64, octets: u32) -> Bounds {
        Bounds { loss_round_start: true, latest_rate: rate, latest: octets, ..Bounds::default() }
    }

    #[test]
    fn losses_lower_the_bounds_to_what_arrived_and_by_0_3_at_most() {
        for (mut bounds, want) in [
            (after(500, 50_000), (700, 70_000)),
            (after(500, 90_000), (700, 90_000)),
            (after(900, 0), (900, 70_000)),
        ] {
            bounds.lost(1);
            bounds.adapt(false, 1_000, 100_000);
            assert_eq!((bounds.rate_lo, bounds.lo), want);
        }
        let mut twice = after(0, 0);
        for (rate, octets) in [(700, 70_000), (490, 49_000)] {
            twice.lost(1);
            twice.adapt(false, 1_000, 100_000);
            assert_eq!((twice.rate_lo, twice.lo), (rate, octets));
        }
    }

    #[test]
    fn bounds_stay_while_probing_without_losses_and_within_a_round_trip() {
        let mut probing = after(500, 50_000);
        probing.lost(1);
        probing.adapt(true, 1_000, 100_000);
        assert!(!probing.is_slowed() && probing.lo == NONE);
        probing.adapt(false, 1_000, 100_000);
        assert!(!probing.is_slowed(), "that loss is over");

        let mut within = Bounds { loss_round_start: false, ..after(500, 50_000) };
        within.lost(1);
        within.adapt(false, 1_000, 100_000);
        assert!(!within.is_slowed());
        within.loss_round_start = true;
        within.adapt(false, 1_000, 100_000);
        assert!(within.is_slowed(), "now it counts");
    }
}
