//! From phase to phase: what each acknowledgment does to the model and to the window.
#![forbid(unsafe_code)]

use super::bounds::{NONE, beta, is_at_or_after, is_too_much};
use super::{Heard, Left, MIN_PIPE, Model, Sample, State, UNKNOWN};
use crate::base::Micros32;
use crate::tcp::Congestion;

/// `BBR.ack_phase`: of which phase the segments are that are being acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AckPhase {
    /// None that matters.
    Init,
    /// Sent before the probe.
    ProbeStarting,
    /// Sent in the probe.
    ProbeFeedback,
    /// Sent in the probe, which is over.
    ProbeStopping,
    /// Sent while the pipe was filled again.
    Refilling,
}

/// How the bound of what is in flight is raised in [`State::Up`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe {
    pub(super) acks: AckPhase,
    /// What is in flight now is of a probe: a loss says where the bound is (`bw_probe_samples`).
    samples: bool,
    /// `bw_probe_up_rounds`.
    rounds: u8,
    /// Octets to be delivered for each octet that the bound rises, and those counted already.
    each: u32,
    counted: u32,
}

impl Default for Probe {
    fn default() -> Self {
        Self { acks: AckPhase::Init, samples: false, rounds: 0, each: NONE, counted: 0 }
    }
}

impl Model {
    /// What was heard changes the model, and with it the window and the rate.
    pub fn heard(&mut self, window: &mut Congestion, heard: &Heard) {
        let octets = news(heard.arrived, &mut self.arrived);
        let lost = news(heard.lost, &mut self.lost);
        if octets == 0 && lost == 0 && self.in_flight == 0 {
            // The peer sends, and not we: that says nothing of the path, and is no time to probe it.
            return;
        }
        let full = self.in_flight.saturating_add(heard.mss) > self.cwnd;
        self.limited |= full;
        self.in_flight = heard.in_flight;
        self.note_repair(heard.repairing);
        self.cwnd = window.cwnd;
        let min_rtt_us = if self.min_rtt_us == UNKNOWN { 0 } else { self.min_rtt_us };
        let sample = self.sampler.heard(octets, lost, heard.highest, min_rtt_us, heard.now);
        if heard.dry && (!full || heard.in_flight == 0) {
            self.sampler.ran_dry(heard.in_flight);
        }
        match sample {
            // It counts them already.
            Some(sample) => self.last = sample,
            None => self.last.lost = self.last.lost.saturating_add(lost),
        }
        if lost > 0 {
            self.note_loss(heard);
        }
        self.update(sample.as_ref(), octets, heard);
        self.set_pacing_rate(self.state.pacing_gain());
        self.set_cwnd(octets, lost, heard.mss);
        window.cwnd = self.cwnd.min(Congestion::CWND_MAX);
    }

    /// `HandleLostPacket`, with the segment that was delivered last for the lost one.
    pub(super) fn note_loss(&mut self, heard: &Heard) {
        self.bounds.lost(self.sampler.delivered());
        self.judge(heard);
    }

    /// The window before a repair is what to go back to after it.
    fn note_repair(&mut self, repairing: bool) {
        if repairing && !self.repairing {
            self.save_cwnd();
        }
        if !repairing && self.repairing {
            self.restore = true;
        }
        self.repairing = repairing;
    }

    /// `BBRSaveCwnd`.
    pub(super) fn save_cwnd(&mut self) {
        let small = self.repairing || self.state == State::ProbeRtt;
        self.prior_cwnd = if small { self.prior_cwnd.max(self.cwnd) } else { self.cwnd };
    }

    /// `UpdateModelAndState`.
    fn update(&mut self, sample: Option<&Sample>, octets: u32, heard: &Heard) {
        self.bounds.update(sample, self.sampler.delivered());
        self.update_round(sample);
        self.update_rate(sample);
        self.bounds.adapt(self.state.is_probing(), self.max_rate(), self.cwnd);
        self.update_aggregation(octets, heard.now);
        self.check_full(sample);
        self.check_startup(heard);
        self.check_drain(heard);
        self.update_cycle(sample, octets, heard);
        let expired = self.update_min_rtt(sample, heard);
        self.check_probe_rtt(expired, octets, heard);
        self.bounds.advance(sample);
    }

    fn update_round(&mut self, sample: Option<&Sample>) {
        self.round_start = sample.is_some_and(|sample| is_at_or_after(sample.prior, self.round_end));
        if self.round_start {
            self.start_round();
            self.rounds_since_probe = self.rounds_since_probe.saturating_add(1);
            (self.was_limited, self.limited) = (self.limited, false);
        }
    }

    pub(super) fn start_round(&mut self) {
        self.round_end = self.sampler.delivered();
    }

    fn update_rate(&mut self, sample: Option<&Sample>) {
        let Some(sample) = sample else { return };
        let Some(rate) = sample.rate else { return };
        if rate >= self.max_rate() || !sample.limited {
            self.rates[1] = self.rates[1].max(rate);
            self.seen = self.seen.max(rate);
        }
    }

    /// Where not even half of the rate was seen for as long as there was no ProbeRTT, that rate is gone. Cycles forget
    /// it, too, but where a queue makes round trips so long that each ProbeRTT ends a probe there are none; and a window
    /// for a rate that is gone and for a round trip that is mostly queue makes the queue longer still.
    pub(super) fn forget_rate(&mut self) {
        let seen = core::mem::take(&mut self.seen);
        if seen > 0 && seen < self.max_rate() / 2 && !self.bounds.is_slowed() {
            self.rates = [seen, 0];
        }
    }

    /// `max_bw`, octets a second.
    pub(super) fn max_rate(&self) -> u64 {
        self.rates[0].max(self.rates[1])
    }

    /// `BBR.bw`, octets a second.
    fn rate(&self) -> u64 {
        self.max_rate().min(self.bounds.rate_lo)
    }

    /// `UpdateACKAggregation`: what arrives in bursts needs a window for them.
    fn update_aggregation(&mut self, octets: u32, now: Micros32) {
        const ROUNDS: u8 = 5;
        if self.round_start {
            self.extra_rounds += 1;
            if self.extra_rounds >= if self.full_reached { ROUNDS } else { 1 } {
                self.extra_rounds = 0;
                self.extra_acked = [self.extra_acked[1], 0];
            }
        }
        let us = now.since(self.extra_since);
        let mut expected = self.rate().saturating_mul(u64::from(us)) / 1_000_000;
        if u64::from(self.extra_arrived) <= expected {
            (self.extra_arrived, self.extra_since, expected) = (0, now, 0);
        }
        self.extra_arrived = self.extra_arrived.saturating_add(octets);
        let extra = u64::from(self.extra_arrived).saturating_sub(expected);
        let most = (self.rate() / 10).min(self.cwnd.into());
        let extra = u32::try_from(extra.min(most)).expect("at most the window");
        self.extra_acked[1] = self.extra_acked[1].max(extra);
    }

    /// `CheckFullBWReached`: a rate that grows by less than a quarter in three round trips is all there is.
    fn check_full(&mut self, sample: Option<&Sample>) {
        let Some(sample) = sample.filter(|sample| !self.full_now && !sample.limited) else { return };
        let Some(rate) = sample.rate else { return };
        if rate * 4 >= self.full_rate * 5 {
            self.reset_full(rate);
        } else if self.round_start {
            self.full_count += 1;
            self.full_now = self.full_count >= 3;
            self.full_reached |= self.full_now;
        }
    }

    fn reset_full(&mut self, rate: u64) {
        (self.full_rate, self.full_count, self.full_now) = (rate, 0, false);
    }

    /// `CheckStartupHighLoss` and `CheckStartupDone`.
    fn check_startup(&mut self, heard: &Heard) {
        if self.state != State::Startup {
            return;
        }
        let lossy = self.bounds.loss_round_start
            && heard.repairing
            && self.bounds.loss_events >= 6
            && is_too_much(&self.last);
        if lossy && !self.full_reached {
            self.full_reached = true;
            self.bounds.hi = self.bdp(1_000).max(self.bounds.latest());
        }
        if self.full_reached {
            self.state = State::Drain;
            self.rounds_since_probe = 0;
        }
    }

    /// `CheckDrainDone`: the queue is gone, or will not go at a rate that was never there.
    fn check_drain(&mut self, heard: &Heard) {
        let drained = self.in_flight <= self.inflight(1_000, heard.mss);
        if self.state == State::Drain && (drained || self.rounds_since_probe > 3) {
            self.go_down(heard.now);
        }
    }

    /// `UpdateProbeBWCyclePhase`.
    fn update_cycle(&mut self, sample: Option<&Sample>, octets: u32, heard: &Heard) {
        if !self.full_reached {
            return;
        }
        self.adapt_long_term(sample, octets, heard);
        match self.state {
            State::Down | State::Cruise if self.is_time_to_probe(heard) => self.refill(),
            State::Down => {
                let headroom = self.bounds.with_headroom(heard.mss, MIN_PIPE * heard.mss);
                if self.in_flight <= headroom.min(self.inflight(1_000, heard.mss)) {
                    self.state = State::Cruise;
                }
            }
            State::Refill if self.round_start => {
                self.probe.samples = true;
                self.go_up(sample, heard);
            }
            State::Up => {
                if self.is_limited() && self.cwnd >= self.bounds.hi {
                    // Not the path but the bound keeps the rate where it is.
                    self.reset_full(sample.and_then(|sample| sample.rate).unwrap_or(self.full_rate));
                } else if self.full_now {
                    self.go_down(heard.now);
                }
            }
            _ => {}
        }
    }

    const fn is_limited(&self) -> bool {
        self.limited || self.was_limited
    }

    /// `IsTimeToProbeBW`: every two or three seconds, or as often as a Reno flow would lose something.
    fn is_time_to_probe(&self, heard: &Heard) -> bool {
        let reno = self.bdp(1_000).min(self.cwnd) / heard.mss.max(1);
        heard.now.since(self.cycle_at) > self.probe_wait_us || self.rounds_since_probe >= reno.min(63)
    }

    /// `StartProbeBW_DOWN`.
    pub(super) fn go_down(&mut self, now: Micros32) {
        self.bounds.reset_signals();
        self.probe.each = NONE;
        self.probe_wait_us = 2_000_000 + self.draw() % 1_000_000;
        self.rounds_since_probe = self.draw() % 2;
        self.cycle_at = now;
        self.probe.acks = AckPhase::ProbeStopping;
        self.start_round();
        self.state = State::Down;
    }

    /// `StartProbeBW_REFILL`.
    fn refill(&mut self) {
        self.bounds.reset_short_term();
        (self.probe.rounds, self.probe.counted) = (0, 0);
        self.probe.acks = AckPhase::Refilling;
        self.start_round();
        self.state = State::Refill;
    }

    /// `StartProbeBW_UP`.
    fn go_up(&mut self, sample: Option<&Sample>, heard: &Heard) {
        self.probe.acks = AckPhase::ProbeStarting;
        self.start_round();
        self.reset_full(sample.and_then(|sample| sample.rate).unwrap_or(0));
        self.state = State::Up;
        self.raise_slope(heard.mss);
    }

    /// `RaiseInflightLongtermSlope`: a segment in the first round trip, then two, four, and so on.
    fn raise_slope(&mut self, mss: u32) {
        let growth = mss.checked_shl(self.probe.rounds.into()).unwrap_or(NONE).max(1);
        self.probe.rounds = (self.probe.rounds + 1).min(15);
        self.probe.each = (self.cwnd / growth).max(1);
    }

    /// `AdaptLongTermModel`.
    fn adapt_long_term(&mut self, sample: Option<&Sample>, octets: u32, heard: &Heard) {
        if self.round_start {
            match self.probe.acks {
                AckPhase::ProbeStarting => self.probe.acks = AckPhase::ProbeFeedback,
                AckPhase::ProbeStopping => {
                    let limited = sample.is_none_or(|sample| sample.limited);
                    if self.state.is_probe_bw() && !limited {
                        self.advance_rates();
                    }
                    self.probe.samples = false;
                    self.probe.acks = AckPhase::Init;
                }
                AckPhase::Init | AckPhase::ProbeFeedback | AckPhase::Refilling => {}
            }
        }
        if self.judge(heard) || self.bounds.hi == NONE {
            return;
        }
        if let Some(sample) = sample {
            self.bounds.hi = self.bounds.hi.max(sample.in_flight);
        }
        if self.state == State::Up {
            self.probe_up(octets, heard.mss);
        }
    }

    /// `AdvanceMaxBwFilter`.
    fn advance_rates(&mut self) {
        if self.rates[1] > 0 {
            self.rates = [self.rates[1], 0];
        }
    }

    /// `ProbeInflightLongtermUpward`.
    fn probe_up(&mut self, octets: u32, mss: u32) {
        if !self.is_limited() || self.cwnd < self.bounds.hi {
            return;
        }
        self.probe.counted = self.probe.counted.saturating_add(octets);
        let more = self.probe.counted / self.probe.each;
        self.probe.counted -= more * self.probe.each;
        self.bounds.hi = self.bounds.hi.saturating_add(more).min(NONE - 1);
        if self.round_start {
            self.raise_slope(mss);
        }
    }

    /// `HandleInflightTooHigh`, if it is: what was in flight of a probe was more than the path holds.
    fn judge(&mut self, heard: &Heard) -> bool {
        let too_much = is_too_much(&self.last);
        if too_much && self.probe.samples {
            self.probe.samples = false;
            if !self.last.limited {
                let target = u64::from(self.bdp(1_000).min(self.cwnd));
                let least = u32::try_from(beta(target)).expect("a part of a u32");
                self.bounds.hi = self.last.in_flight.max(least);
            }
            if self.state == State::Up {
                self.go_down(heard.now);
            }
        }
        too_much
    }

    /// `HandleRestartFromIdle`: text leaves after a time with nothing in flight.
    pub(super) fn restart(&mut self, left: &Left) {
        self.idle_restart = true;
        (self.extra_since, self.extra_arrived) = (left.now, 0);
        if self.state.is_probe_bw() {
            self.set_pacing_rate(1_000);
        } else {
            self.check_probe_rtt_done(left.now);
        }
    }

    /// The last repair was for nothing.
    pub fn undo(&mut self, window: &mut Congestion) {
        self.bounds.undo();
        self.reset_full(0);
        window.cwnd = window.cwnd.max(self.prior_cwnd);
        (self.cwnd, self.repairing) = (window.cwnd, false);
    }

    /// `SetPacingRate`: a hundredth less than the model says, or a queue would never drain.
    fn set_pacing_rate(&mut self, gain: u64) {
        let rate = self.rate().saturating_mul(gain) / 1_000 / 100 * 99;
        if self.full_reached || rate > self.pacing_rate {
            self.pacing_rate = rate.max(1);
        }
    }

    /// Octets in `gain` thousandths of a round trip, at the model's rate.
    fn bdp(&self, gain: u64) -> u32 {
        if self.min_rtt_us == UNKNOWN {
            return self.initial;
        }
        let octets = self.rate().saturating_mul(self.min_rtt_us.into()) / 1_000_000;
        u32::try_from(octets.saturating_mul(gain) / 1_000).unwrap_or(Congestion::CWND_MAX)
    }

    /// `BBRInflight`.
    fn inflight(&self, gain: u64, mss: u32) -> u32 {
        self.quantize(self.bdp(gain), mss)
    }

    /// `QuantizationBudget`.
    fn quantize(&self, octets: u32, mss: u32) -> u32 {
        let least = octets.max(MIN_PIPE * mss);
        if self.state == State::Up { least.saturating_add(2 * mss) } else { least }
    }

    pub(super) fn probe_rtt_cwnd(&self, mss: u32) -> u32 {
        self.bdp(State::ProbeRtt.cwnd_gain()).max(MIN_PIPE * mss)
    }

    /// `SetCwnd`.
    fn set_cwnd(&mut self, octets: u32, lost: u32, mss: u32) {
        if self.repairing && lost > 0 {
            self.cwnd = self.cwnd.saturating_sub(lost).max(mss);
        }
        if core::mem::take(&mut self.restore) {
            self.cwnd = self.cwnd.max(self.prior_cwnd);
        }
        let extra = self.extra_acked[0].max(self.extra_acked[1]);
        let most = self.quantize(self.bdp(self.state.cwnd_gain()).saturating_add(extra), mss);
        let grown = self.cwnd.saturating_add(octets);
        if self.full_reached {
            self.cwnd = grown.min(most);
        } else if self.cwnd < most || self.sampler.delivered() < self.initial {
            self.cwnd = grown;
        }
        self.cwnd = self.cwnd.max(if self.repairing { mss } else { MIN_PIPE * mss });
        if self.state == State::ProbeRtt {
            self.cwnd = self.cwnd.min(self.probe_rtt_cwnd(mss));
        }
        self.bound_cwnd(mss);
    }

    /// `BoundCwndForModel`.
    fn bound_cwnd(&mut self, mss: u32) {
        let least = MIN_PIPE * mss;
        let bound = match self.state {
            State::Cruise | State::ProbeRtt => self.bounds.with_headroom(mss, least),
            State::Down | State::Refill | State::Up => self.bounds.hi,
            State::Startup | State::Drain => NONE,
        };
        self.cwnd = self.cwnd.min(bound.min(self.bounds.lo).max(least));
    }

    /// A number that nobody can foresee well, and that is the same in each run of a simulation.
    fn draw(&mut self) -> u32 {
        // Marsaglia's xorshift, with his shifts 13, 17 and 5.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random
    }
}

/// How far a count modulo 2^32 has come beyond `last`, the farthest that it ever was; zero where it went back, as it does
/// when the peer reneges.
pub(super) fn news(count: u32, last: &mut u32) -> u32 {
    let news = count.wrapping_sub(*last);
    if news >= 1 << 31 {
        return 0;
    }
    *last = count;
    news
}
