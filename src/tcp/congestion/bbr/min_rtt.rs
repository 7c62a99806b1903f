//! The path's own round trip, and the phase that looks for it with next to nothing in flight.
#![forbid(unsafe_code)]

use super::cycle::AckPhase;
use super::{Heard, Model, Sample, State, UNKNOWN};
use crate::base::Micros32;

/// `MinRTTFilterLen`, `ProbeRTTInterval`, `ProbeRTTDuration`.
const MIN_RTT_LASTS_US: u32 = 10_000_000;
const PROBE_RTT_EVERY_US: u32 = 5_000_000;
const PROBE_RTT_LASTS_US: u32 = 200_000;

impl Model {
    /// `UpdateMinRTT`; whether it is time for ProbeRTT.
    pub(super) fn update_min_rtt(&mut self, sample: Option<&Sample>, heard: &Heard) -> bool {
        let now = heard.now;
        let expired = now.since(self.probe_rtt_min_at) > PROBE_RTT_EVERY_US;
        if let Some(rtt_us) = sample.and_then(|sample| sample.rtt_us) {
            let rtt_us = rtt_us.max(1);
            if self.min_rtt_us == UNKNOWN {
                // What was assumed until now may be far too short.
                let rate = u64::from(self.initial) * 1_000_000 / u64::from(rtt_us);
                self.pacing_rate = State::Startup.pacing_gain() * rate / 1_000;
            }
            if rtt_us < self.probe_rtt_min_us || expired {
                (self.probe_rtt_min_us, self.probe_rtt_min_at) = (rtt_us, now);
            }
        }
        let old = now.since(self.min_rtt_at) > MIN_RTT_LASTS_US;
        if self.probe_rtt_min_us < self.min_rtt_us || old {
            (self.min_rtt_us, self.min_rtt_at) = (self.probe_rtt_min_us, self.probe_rtt_min_at);
        }
        expired
    }

    /// `CheckProbeRTT`.
    pub(super) fn check_probe_rtt(&mut self, expired: bool, octets: u32, heard: &Heard) {
        if self.state != State::ProbeRtt && expired && !self.idle_restart {
            self.save_cwnd();
            self.forget_rate();
            self.state = State::ProbeRtt;
            self.probe_rtt_done = None;
            self.probe.acks = AckPhase::ProbeStopping;
            self.start_round();
        }
        if self.state == State::ProbeRtt {
            self.stay_in_probe_rtt(heard);
        }
        self.idle_restart &= octets == 0;
    }

    fn stay_in_probe_rtt(&mut self, heard: &Heard) {
        // What arrives now does not show what the path can do.
        self.sampler.ran_dry(self.in_flight);
        if self.probe_rtt_done.is_none() {
            if self.in_flight <= self.probe_rtt_cwnd(heard.mss) {
                self.probe_rtt_done = Some(heard.now.plus(PROBE_RTT_LASTS_US));
                self.probe_rtt_round_done = false;
                self.start_round();
            }
            return;
        }
        self.probe_rtt_round_done |= self.round_start;
        if self.probe_rtt_round_done {
            self.check_probe_rtt_done(heard.now);
        }
    }

    /// `CheckProbeRTTDone`.
    pub(super) fn check_probe_rtt_done(&mut self, now: Micros32) {
        // Nothing but so much later is it still to come; the connection may have been idle for hours since.
        let is_ahead = |done: Micros32| done.since(now) <= PROBE_RTT_LASTS_US;
        if self.state != State::ProbeRtt || self.probe_rtt_done.is_none_or(is_ahead) {
            return;
        }
        self.probe_rtt_min_at = now;
        self.restore = true;
        self.bounds.reset_short_term();
        if self.full_reached {
            self.go_down(now);
            self.state = State::Cruise;
        } else {
            self.state = State::Startup;
        }
    }
}
