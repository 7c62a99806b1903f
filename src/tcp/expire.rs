//! Timeouts (RFC 9293 §3.10.8, §3.8.1, §3.8.3, §3.8.4, §3.8.6.1).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::congestion::CongestionControl;
use super::tcb::{Env, Tcb};
use super::timers::Timer;
use super::{CloseReason, Report, State};
use crate::base::{Counter, Instant};

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
        if self.timers.take_due(Timer::DelayedAck, env.now) {
            self.acks_owed = self.acks_owed.max(1);
        }
        if self.timers.take_due(Timer::Retransmit, env.now) {
            expired.report = self.on_retransmit_timer(env);
        }
        if self.timers.take_due(Timer::Idle, env.now) {
            self.on_idle_timer(env);
        }
        if self.timers.take_due(Timer::User, env.now) {
            self.on_user_timer(env);
        }
        expired.app = self.timers.take_due(Timer::App, env.now);
        expired
    }

    fn on_retransmit_timer(&mut self, env: &mut Env<'_>) -> Option<Report> {
        env.counters.add(Counter::RetransmitTimeouts);
        self.timed = None;
        if !self.state.is_synchronized() {
            // How often is not bounded here: the user timer ends the attempt.
            self.back_off(env);
            self.snd.cursor = self.snd.iss;
            self.start_retransmit_timer(env.now);
            return None;
        }
        if self.snd.wnd == 0 || self.snd.flight() == 0 {
            self.probe_window(env);
            return None;
        }
        let limit = self.settings.user_timeout.map_or(env.config.r2, |timeout| timeout.get());
        if env.now.since(self.progress_at) >= limit {
            self.give_up(env);
            return None;
        }
        let first = self.timeouts == 0;
        self.congestion.on_timeout(self.snd.flight(), u32::from(self.snd.mss), first);
        self.recovery.on_timeout(self.snd.nxt);
        self.back_off(env);
        self.repair = false;
        self.snd.cursor = self.snd.una;
        // RFC 6298 (5.6); and the segment may have to wait for a frame, so not only when it leaves.
        self.start_retransmit_timer(env.now);
        (self.timeouts == env.config.r1).then_some(Report::R1)
    }

    fn back_off(&mut self, env: &Env<'_>) {
        self.timeouts = self.timeouts.saturating_add(1);
        self.rtt.back_off(&env.config.rto);
    }

    /// Zero window (MUST-36): one octet, at growing intervals (SHLD-30), for as long as the peer answers
    /// (MUST-37).
    fn probe_window(&mut self, env: &mut Env<'_>) {
        let waiting_since = self.heard_at.max(self.progress_at);
        if self.probes > 0 && env.now.since(waiting_since) >= env.config.r2 {
            self.give_up(env);
            return;
        }
        env.counters.add(Counter::WindowProbes);
        self.probes = self.probes.saturating_add(1);
        self.snd.cursor = self.snd.una;
        self.force = true;
        self.start_retransmit_timer(env.now);
    }

    fn give_up(&mut self, env: &mut Env<'_>) {
        env.counters.add(Counter::TimedOut);
        self.finish(CloseReason::TimedOut);
    }

    fn on_idle_timer(&mut self, env: &mut Env<'_>) {
        if self.state == State::FinWait2 && self.reader_gone {
            self.give_up(env);
            return;
        }
        let Some(idle) = self.settings.keep_idle else { return };
        let silent = match self.keep_probes {
            0 => env.now.since(self.heard_at) >= idle.get(),
            // Not by the length of the silence: the timer may be later than the answer was quick.
            _ => self.heard_at < self.progress_at,
        };
        if !silent || self.snd.flight() > 0 {
            // Heard of since, or the retransmission timer is asking already (MUST-26: only when idle).
            self.keep_probes = 0;
            let at = if self.snd.flight() > 0 { env.now } else { self.heard_at };
            self.timers.set(Timer::Idle, at + idle.get());
            return;
        }
        if self.keep_probes >= self.settings.keep_probes {
            self.reset_due = true;
            self.give_up(env);
            return;
        }
        self.keep_probes += 1;
        self.keep_alive_due = true;
        self.progress_at = env.now;
        self.timers.set(Timer::Idle, env.now + self.settings.keep_interval.get());
    }

    fn on_user_timer(&mut self, env: &mut Env<'_>) {
        if self.state.is_synchronized() {
            // Lingered long enough.
            self.abort(env.counters);
            return;
        }
        env.counters.add(Counter::TimedOut);
        let why = if self.unreachable { CloseReason::Unreachable } else { CloseReason::ConnectTimedOut };
        self.finish(why);
    }

    /// Calls back once, `after` from `now`.
    pub fn set_app_timer(&mut self, after: Duration, now: Instant) {
        self.timers.set(Timer::App, now + after);
    }

    /// Takes the application's timer back.
    pub fn cancel_app_timer(&mut self) {
        self.timers.cancel(Timer::App);
    }
}
