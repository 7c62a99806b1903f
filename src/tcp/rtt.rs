//! Round-trip time and the retransmission timeout (RFC 6298).
#![forbid(unsafe_code)]

use core::time::Duration;

/// SRTT, RTTVAR and RTO, in microseconds.
///
/// SRTT is kept times 8 and RTTVAR times 4, or a round trip of 3 us would drown in rounding.
#[derive(Clone, Copy, Debug, Default)]
pub struct RttEstimator {
    /// Zero until the first measurement: a measurement is at least one microsecond.
    srtt_x8: u32,
    rttvar_x4: u32,
    rto_us: u32,
}

/// The bounds of the retransmission timeout, microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtoBounds {
    /// Before the first measurement: one second (RFC 6298 (2.1)).
    pub initial_us: u32,
    /// Least: 200 ms, below the second of RFC 6298 (2.4) and above any peer's delayed ACK.
    pub min_us: u32,
    /// Most: 60 s, the least that RFC 6298 (2.5) allows as a maximum.
    pub max_us: u32,
}

impl Default for RtoBounds {
    fn default() -> Self {
        Self { initial_us: 1_000_000, min_us: 200_000, max_us: 60_000_000 }
    }
}

impl RttEstimator {
    /// A timestamp may be wrong by a millisecond, and its echo late by as much.
    const GRAIN_US: u32 = 2_000;

    /// Before any measurement.
    pub const fn new(bounds: &RtoBounds) -> Self {
        Self { srtt_x8: 0, rttvar_x4: 0, rto_us: bounds.initial_us }
    }

    /// Takes one measurement, of a segment that was sent once or whose echo says which one it was (Karn; RFC 6298 §3).
    pub fn sample(&mut self, rtt_us: u32, bounds: &RtoBounds) {
        // Longer than four minutes is no round trip, and twice as long would overflow the scaling below.
        let rtt_us = rtt_us.clamp(1, 1 << 28);
        if self.srtt_x8 == 0 {
            // RFC 6298 (2.2).
            self.srtt_x8 = rtt_us * 8;
            self.rttvar_x4 = rtt_us * 2;
        } else {
            // RFC 6298 (2.3), alpha 1/8 and beta 1/4: RTTVAR first, from the old SRTT.
            let error = (self.srtt_x8 / 8).abs_diff(rtt_us);
            self.rttvar_x4 = self.rttvar_x4 - self.rttvar_x4 / 4 + error;
            self.srtt_x8 = (self.srtt_x8 - self.srtt_x8 / 8 + rtt_us).max(1);
        }
        // RFC 6298 (2.3) adds G at least. Where round trips are longer than the least RTO and all alike, that would be
        // sooner than a delayed acknowledgment.
        let srtt_us = self.srtt_x8 / 8;
        let margin_us = self.rttvar_x4.max(srtt_us.min(bounds.min_us));
        self.rto_us = srtt_us.saturating_add(margin_us).clamp(bounds.min_us, bounds.max_us);
    }

    /// Takes a measurement beside that of the segment being timed, if SRTT has to learn of it before that: it has changed
    /// by an eighth, as when slow start fills a queue, which doubles it sooner than one measurement in a round trip
    /// would tell.
    pub fn sample_news(&mut self, rtt_us: u32, bounds: &RtoBounds) {
        let srtt_us = self.srtt_us();
        if rtt_us.abs_diff(srtt_us) > srtt_us / 8 + Self::GRAIN_US {
            self.sample(rtt_us, bounds);
        }
    }

    /// RFC 6298 (5.5), RFC 9293 MUST-19: the timer expired, so back it off.
    pub fn back_off(&mut self, bounds: &RtoBounds) {
        self.rto_us = self.rto_us.saturating_mul(2).min(bounds.max_us);
    }

    /// RFC 6298 (5.7): the SYN was retransmitted, and nothing measured, when text begins to flow.
    pub fn after_lost_syn(&mut self) {
        if self.srtt_x8 == 0 {
            self.rto_us = self.rto_us.max(3_000_000);
        }
    }

    /// The timeout now, microseconds.
    pub const fn rto_us(&self) -> u32 {
        self.rto_us
    }

    /// The smoothed round-trip time, microseconds; zero until the first measurement.
    pub const fn srtt_us(&self) -> u32 {
        self.srtt_x8 / 8
    }

    /// The smoothed round-trip time; `None` until the first measurement.
    pub const fn srtt(&self) -> Option<Duration> {
        match self.srtt_x8 {
            0 => None,
            srtt_x8 => Some(Duration::from_nanos(srtt_x8 as u64 * 125)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    /// RFC 6298 (2.3): G, here the time by which the peer may delay an acknowledgment.
    #[test]
    fn rto_stays_above_long_round_trips_that_are_all_alike() {
        for (rtt_ms, want_ms) in [(1, 200), (100, 200), (150, 300), (200, 400), (300, 500), (1_000, 1_200)] {
            let bounds = RtoBounds::default();
            let mut rtt = RttEstimator::new(&bounds);
            (0..100).for_each(|_| rtt.sample(rtt_ms * 1_000, &bounds));
            assert_eq!(rtt.rto_us() / 1_000, want_ms, "{rtt_ms} ms");
        }
    }

    #[test]
    fn rto_follows_rfc6298() {
        let bounds = RtoBounds { min_us: 1, ..RtoBounds::default() };
        // (samples in us, RTO in us, why), worked by hand from (2.2) and (2.3).
        for (samples, want, why) in [
            (vec![], 1_000_000, "(2.1): one second before any sample"),
            (vec![1_000], 3_000, "(2.2): R + 4 * R/2"),
            (vec![1_000, 1_000], 2_500, "(2.3): RTTVAR 375, SRTT 1000"),
            (vec![1_000, 3_000], 1_250 + 3_500, "(2.3): RTTVAR 875 from the old SRTT, SRTT 1250"),
            (vec![3], 9, "three microseconds do not vanish"),
        ] {
            let mut rtt = RttEstimator::new(&bounds);
            samples.iter().for_each(|&us| rtt.sample(us, &bounds));
            assert_eq!(rtt.rto_us(), want, "{why}");
        }
    }

    #[test]
    fn rto_stays_within_its_bounds() {
        let bounds = RtoBounds::default();
        let mut rtt = RttEstimator::new(&bounds);
        rtt.sample(3, &bounds);
        assert_eq!(rtt.rto_us(), bounds.min_us);
        for _ in 0..40 {
            rtt.back_off(&bounds);
        }
        assert_eq!(rtt.rto_us(), bounds.max_us);
        rtt.sample(u32::MAX, &bounds);
        assert_eq!(rtt.rto_us(), bounds.max_us);
        rtt.sample(0, &bounds);
        assert!(rtt.srtt().is_some());
    }

    #[test]
    fn a_lost_syn_makes_the_first_timeout_careful() {
        let bounds = RtoBounds::default();
        let mut unmeasured = RttEstimator::new(&bounds);
        unmeasured.after_lost_syn();
        assert_eq!(unmeasured.rto_us(), 3_000_000);
        let mut measured = RttEstimator::new(&bounds);
        measured.sample(10, &bounds);
        measured.after_lost_syn();
        assert_eq!(measured.rto_us(), bounds.min_us);
    }
}
