//! Timeouts (RFC 9293 §3.10.8, §3.8.1, §3.8.3, §3.8.4, §3.8.6.1).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::flags::Flags;
use super::tcb::{Env, Tcb};
use super::timers::{Timer, millis};
use super::{CloseReason, Report, State};
use crate::base::{Counter, Instant, Millis32};

/// What the deadlines that passed mean to the user.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expired {
    /// The application's own timer.
    pub app: bool,
    /// News for the user.
    pub report: Option<Report>,
}

impl Tcb {
    /// Handles every deadline that has passed; what is to be sent comes from [`Tcb::poll_segment`].
    pub fn on_timers(&mut self, env: &mut Env<'_>) -> Expired {
        let mut expired = Expired::default();
        if self.take_due(Timer::DelayedAck, env.now) {
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
        }
        if self.take_due(Timer::Retransmit, env.now) {
            if self.flags.any(Flags::REORDERING) {
                self.on_reordering_timer(env);
            } else if self.flags.any(Flags::PROBING) {
                self.on_probe_timer(env);
            } else {
                expired.report = self.on_retransmit_timer(env);
            }
        }
        if self.take_due(Timer::Idle, env.now) {
            self.on_idle_timer(env);
        }
        if self.take_due(Timer::User, env.now) {
            self.on_user_timer(env);
        }
        expired.app = self.take_due(Timer::App, env.now);
        expired
    }

    fn on_retransmit_timer(&mut self, env: &mut Env<'_>) -> Option<Report> {
        env.counters.add(Counter::RetransmitTimeouts);
        self.flags.clear(Flags::TIMED);
        if !self.state.is_synchronized() {
            // How often is not bounded here: the user timer ends the attempt.
            self.back_off(env);
            self.snd.cursor = self.snd.una;
            self.start_retransmit_timer(env);
            return self.report_r1(env);
        }
        if self.snd.wnd == 0 || self.snd.flight() == 0 {
            self.probe_window(env);
            return None;
        }
        let user_timeout = env.shared.settings.get(self.settings).user_timeout;
        let limit = user_timeout.map_or_else(|| millis(env.config.r2), |timeout| timeout.get());
        if self.progress_at.elapsed(env.now) >= limit {
            self.give_up(env);
            return None;
        }
        self.shrink_in_black_hole(env);
        self.give_up_path_probe(env);
        let first = self.timeouts == 0;
        let before = self.window_and_memory(env.shared);
        let (flight, mss) = (self.snd.flight(), u32::from(self.snd.mss));
        let memory = self.attach(env.shared).map(|cold| &mut cold.congestion);
        self.congestion.on_timeout(flight, mss, first, memory);
        self.reduced_for_loss();
        self.back_off(env);
        self.flags.clear(Flags::REPAIR | Flags::TAIL_PROBE);
        if !self.lose_all(before, env) {
            let nxt = self.snd.nxt;
            let counts = !self.flags.any(Flags::SACK);
            if let Some(cold) = self.attach(env.shared) {
                if counts {
                    cold.recovery.on_timeout(nxt);
                }
                cold.loss.total = cold.loss.total.wrapping_add(flight);
            }
            self.snd.cursor = self.snd.una;
        }
        if self.flags.any(Flags::MODEL) {
            self.tell_model_of_timeout(env);
        }
        // RFC 6298 (5.6); and the segment may have to wait for a frame, so not only when it leaves.
        self.start_retransmit_timer(env);
        self.report_r1(env)
    }

    /// RFC 9293 SHLD-9, for SYNs as for text (MUST-22).
    fn report_r1(&self, env: &Env<'_>) -> Option<Report> {
        (self.timeouts == env.config.r1).then_some(Report::R1)
    }

    fn back_off(&mut self, env: &Env<'_>) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.rtt.back_off(&env.config.rto);
    }

    /// Zero window (RFC 9293 MUST-35, MUST-36): one octet, at growing intervals (SHLD-30), for as long as the peer answers
    /// (MUST-37).
    fn probe_window(&mut self, env: &mut Env<'_>) {
        let silence = self.heard_at.elapsed(env.now);
        // Not by the length of the silence alone: it may be only as long as the interval, after a quick answer.
        let answered = silence <= self.sent_at.elapsed(env.now);
        let waiting = silence.min(self.progress_at.elapsed(env.now));
        if self.probes > 0 && !answered && waiting >= millis(env.config.r2) {
            self.give_up(env);
            return;
        }
        env.counters.add(Counter::WindowProbes);
        self.probes = self.probes.saturating_add(1);
        self.snd.cursor = self.snd.una;
        self.flags.set(Flags::FORCE);
        self.start_retransmit_timer(env);
    }

    fn give_up(&mut self, env: &mut Env<'_>) {
        env.counters.add(Counter::TimedOut);
        self.finish(CloseReason::TimedOut);
    }

    fn on_idle_timer(&mut self, env: &mut Env<'_>) {
        if self.state == State::FinWait2 && self.flags.any(Flags::READER_GONE) {
            self.give_up(env);
            return;
        }
        let settings = *env.shared.settings.get(self.settings);
        let Some(idle) = settings.keep_idle else { return };
        let silence = self.heard_at.elapsed(env.now);
        let silent = match self.keep_probes {
            0 => silence >= idle.get(),
            // Not by the length of the silence: the timer may be later than the answer was quick.
            _ => silence > self.progress_at.elapsed(env.now),
        };
        if !silent || self.snd.flight() > 0 {
            // Heard of since, or the retransmission timer is asking already (MUST-26: only when idle).
            self.keep_probes = 0;
            let at = if self.snd.flight() > 0 { Millis32::ceil(env.now) } else { self.heard_at };
            self.set_timer_from(Timer::Idle, at, idle.get());
            return;
        }
        if self.keep_probes >= settings.keep_probes {
            self.flags.set(Flags::RESET_DUE);
            self.give_up(env);
            return;
        }
        self.keep_probes += 1;
        self.flags.set(Flags::KEEP_ALIVE_DUE);
        self.progress_at = Millis32::ceil(env.now);
        self.set_timer_from(Timer::Idle, self.progress_at, settings.keep_interval.get());
    }

    fn on_user_timer(&mut self, env: &mut Env<'_>) {
        if self.state.is_synchronized() {
            // Lingered long enough.
            self.abort(env.counters);
            return;
        }
        env.counters.add(Counter::TimedOut);
        let why = if self.flags.any(Flags::UNREACHABLE) {
            CloseReason::Unreachable
        } else {
            CloseReason::ConnectTimedOut
        };
        self.finish(why);
    }

    /// Calls back once, `after` from `now`; never when that is 24 days or more.
    pub fn set_app_timer(&mut self, after: Duration, now: Instant) {
        self.set_timer(Timer::App, after, now);
    }

    /// Takes the application's timer back.
    pub fn cancel_app_timer(&mut self) {
        self.cancel(Timer::App);
    }
}
