//! HyStart++ (RFC 9406): the first slow start ends when round trips grow longer, not when something is lost.
#![forbid(unsafe_code)]

use super::Acked;

/// What slow start remembers of round trips.
#[derive(Clone, Copy, Debug)]
pub struct HyStart {
    /// Octets to be acknowledged until the round ends: RFC 9406 `windowEnd`, counted down.
    round_left: u32,
    /// `lastRoundMinRTT`, microseconds; [`HyStart::UNKNOWN`] where nothing was measured.
    last_us: u32,
    /// `currentRoundMinRTT`, likewise.
    current_us: u32,
    /// `cssBaselineMinRtt`, likewise.
    baseline_us: u32,
    /// Round trips measured in this round.
    samples: u8,
    /// Rounds of conservative slow start, this one included; zero in slow start.
    css_rounds: u8,
}

/// What an acknowledgment means to slow start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// By how many octets the window grows.
    pub octets: u32,
    /// Whether slow start ends with it.
    pub last: bool,
}

impl HyStart {
    const UNKNOWN: u32 = u32::MAX;
    // RFC 9406 §4.3.
    const MIN_RTT_THRESH_US: u32 = 4_000;
    const MAX_RTT_THRESH_US: u32 = 16_000;
    const MIN_RTT_DIVISOR: u32 = 8;
    const N_RTT_SAMPLE: u8 = 8;
    const CSS_GROWTH_DIVISOR: u32 = 4;
    const CSS_ROUNDS: u8 = 5;
    /// Segments, for a sender that does not pace.
    const L: u32 = 8;

    /// The first round ends when all of `flight` is acknowledged.
    pub(super) const fn new(flight: u32) -> Self {
        Self {
            round_left: flight,
            last_us: Self::UNKNOWN,
            current_us: Self::UNKNOWN,
            baseline_us: Self::UNKNOWN,
            samples: 0,
            css_rounds: 0,
        }
    }

    /// RFC 9406 §4.2.
    pub(super) fn on_ack(&mut self, acked: &Acked) -> Step {
        let octets = acked.octets.min(Self::L * acked.mss);
        let octets = if self.css_rounds > 0 { octets / Self::CSS_GROWTH_DIVISOR } else { octets };
        if let Some(rtt_us) = acked.rtt_us {
            self.current_us = self.current_us.min(rtt_us);
            self.samples = self.samples.saturating_add(1);
            self.judge();
        }
        let ends = self.round_left <= acked.octets;
        let last = ends && (self.css_rounds >= Self::CSS_ROUNDS || self.has_a_queue_for_sure());
        if ends {
            self.begin_round(acked.flight.saturating_sub(acked.octets));
        } else {
            self.round_left -= acked.octets;
        }
        Step { octets, last }
    }

    /// Changes between slow start and its conservative form, if this round has been measured often enough.
    fn judge(&mut self) {
        if self.samples < Self::N_RTT_SAMPLE {
            return;
        }
        if self.css_rounds > 0 {
            if self.current_us < self.baseline_us {
                // What looked like a queue has gone.
                self.baseline_us = Self::UNKNOWN;
                self.css_rounds = 0;
            }
            return;
        }
        if self.last_us == Self::UNKNOWN {
            return;
        }
        if Self::is_longer(self.current_us, self.last_us) {
            self.baseline_us = self.current_us;
            self.css_rounds = 1;
        }
    }

    /// Whether a round trip has grown by RttThresh.
    fn is_longer(rtt_us: u32, before_us: u32) -> bool {
        let threshold_us =
            (before_us / Self::MIN_RTT_DIVISOR).clamp(Self::MIN_RTT_THRESH_US, Self::MAX_RTT_THRESH_US);
        rtt_us >= before_us.saturating_add(threshold_us)
    }

    /// Whether a whole round of conservative slow start has found round trips longer once more: then no more rounds need
    /// confirm it, of which there are five at most (RFC 9406 §4.2). In five the window grows threefold, and where the
    /// queue has room for as much, it overshoots what the path carries by that.
    fn has_a_queue_for_sure(&self) -> bool {
        self.css_rounds > 0
            && self.samples >= Self::N_RTT_SAMPLE
            && Self::is_longer(self.current_us, self.baseline_us)
    }

    /// `flight` octets are what the next round waits for.
    const fn begin_round(&mut self, flight: u32) {
        self.round_left = flight;
        self.last_us = self.current_us;
        self.current_us = Self::UNKNOWN;
        self.samples = 0;
        if self.css_rounds > 0 {
            self.css_rounds += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Micros32;

    const MSS: u32 = 1_000;
    const FLIGHT: u32 = 10 * MSS;

    /// An acknowledgment of `octets`, measured as `rtt_us`.
    fn acked(octets: u32, rtt_us: Option<u32>) -> Acked {
        let now = Micros32::default();
        Acked { octets, flight: FLIGHT, window_limited: true, mss: MSS, now, rtt_us, srtt_us: 0 }
    }

    /// One round: ten acknowledgments of a segment each, measured as `rtt_us`; what they did.
    fn round(hystart: &mut HyStart, rtt_us: Option<u32>) -> [Step; 10] {
        // After the tenth, all that is in flight was sent in this round.
        let flight = |n| FLIGHT + MSS * u32::from(n == 9);
        core::array::from_fn(|n| hystart.on_ack(&Acked { flight: flight(n), ..acked(MSS, rtt_us) }))
    }

    const FULL: Step = Step { octets: MSS, last: false };
    const QUARTER: Step = Step { octets: MSS / 4, last: false };

    /// RFC 9406 §4.2: thresholds of an eighth, between 4 and 16 ms.
    #[test]
    fn slow_start_turns_conservative_when_round_trips_grow_by_the_threshold() {
        for (last_us, current_us, turns, why) in [
            (10_000, 13_999, false, "less than 4 ms"),
            (10_000, 14_000, true, "4 ms are the least"),
            (64_000, 71_999, false, "less than an eighth"),
            (64_000, 72_000, true, "an eighth"),
            (400_000, 415_999, false, "less than 16 ms"),
            (400_000, 416_000, true, "16 ms are the most"),
            (64_000, 20_000, false, "shorter"),
        ] {
            let mut hystart = HyStart::new(FLIGHT);
            assert_eq!(round(&mut hystart, Some(last_us)), [FULL; 10], "{why}");
            let steps = round(&mut hystart, Some(current_us));
            assert_eq!(steps[..8], [FULL; 8], "{why}: the eighth measurement decides");
            assert_eq!(steps[8..], if turns { [QUARTER; 2] } else { [FULL; 2] }, "{why}");
        }
    }

    #[test]
    fn a_round_of_few_measurements_decides_nothing() {
        let mut hystart = HyStart::new(FLIGHT);
        round(&mut hystart, Some(10_000));
        round(&mut hystart, None);
        assert_eq!(round(&mut hystart, Some(90_000)), [FULL; 10], "the round before measured nothing");
        hystart.on_ack(&acked(4 * MSS, None));
        let steps = round(&mut hystart, Some(500_000));
        assert_eq!(steps, [FULL; 10], "six in the rest of a round, four in the next");
    }

    /// RFC 9406 §4.2: five rounds, the one in which it begins included.
    #[test]
    fn conservative_slow_start_ends_slow_start_after_five_rounds() {
        let mut hystart = HyStart::new(FLIGHT);
        round(&mut hystart, Some(10_000));
        round(&mut hystart, Some(20_000));
        for n in 2..5 {
            assert_eq!(round(&mut hystart, Some(20_000)), [QUARTER; 10], "round {n}");
        }
        let steps = round(&mut hystart, Some(20_000));
        assert_eq!(steps[..9], [QUARTER; 9]);
        assert_eq!(steps[9], Step { last: true, ..QUARTER });
    }

    /// RFC 9406 §4.2: five rounds at most.
    #[test]
    fn conservative_slow_start_ends_with_a_round_whose_round_trips_are_longer_once_more() {
        for (rtt_us, last, why) in [
            (23_999, false, "less than the threshold longer than in the round that began it"),
            (24_000, true, "4 ms, the least threshold, longer"),
        ] {
            let mut hystart = HyStart::new(FLIGHT);
            round(&mut hystart, Some(10_000));
            round(&mut hystart, Some(20_000));
            let steps = round(&mut hystart, Some(rtt_us));
            assert_eq!(steps[..9], [QUARTER; 9], "{why}: not before the round ends");
            assert_eq!(steps[9], Step { last, ..QUARTER }, "{why}");
        }
    }

    #[test]
    fn a_round_with_few_measurements_confirms_nothing() {
        for measured in [0, 7] {
            let mut hystart = HyStart::new(FLIGHT);
            round(&mut hystart, Some(10_000));
            round(&mut hystart, Some(20_000));
            let rtt_us = |n| (n < measured).then_some(90_000);
            let steps: [_; 10] = core::array::from_fn(|n| hystart.on_ack(&acked(MSS, rtt_us(n))));
            assert!(steps.iter().all(|step| !step.last), "{measured} measurements: {steps:?}");
        }
    }

    #[test]
    fn conservative_slow_start_goes_back_when_round_trips_are_shorter_again() {
        let mut hystart = HyStart::new(FLIGHT);
        round(&mut hystart, Some(10_000));
        round(&mut hystart, Some(20_000));
        assert_eq!(round(&mut hystart, Some(20_000)), [QUARTER; 10], "not shorter");
        let steps = round(&mut hystart, Some(19_999));
        assert_eq!((&steps[..8], &steps[8..]), (&[QUARTER; 8][..], &[FULL; 2][..]));
        let steps = round(&mut hystart, Some(30_000));
        assert_eq!((steps[7], steps[8]), (FULL, QUARTER), "and may turn again");
        assert!(
            (2..6).all(|n| round(&mut hystart, Some(30_000))[9].last == (n == 5)),
            "the rounds begin anew"
        );
    }

    #[test]
    fn an_acknowledgment_of_much_counts_as_eight_segments() {
        let mut hystart = HyStart::new(FLIGHT);
        let step = hystart.on_ack(&acked(9 * MSS, None));
        assert_eq!(step, Step { octets: 8 * MSS, last: false });
    }
}
