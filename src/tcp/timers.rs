//! The deadlines of one connection; only the earliest goes to the wheel.
#![forbid(unsafe_code)]

use core::time::Duration;

use super::flags::Flags;
use super::tcb::Tcb;
use crate::base::{Instant, Micros32, Millis32, Reading};

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Timer {
    /// Retransmission (RFC 6298), or the persist timer while the window is closed.
    Retransmit,
    /// Delayed acknowledgment.
    DelayedAck,
    /// Keep-alive, or the end of an abandoned FIN-WAIT-2.
    Idle,
    /// The user's limits: connecting, or lingering after close.
    User,
    /// The application's own.
    App,
}

impl Timer {
    const fn flag(self) -> Flags {
        match self {
            Self::Retransmit => Flags::RETRANSMIT_SET,
            Self::DelayedAck => Flags::DELAYED_ACK_SET,
            Self::Idle => Flags::IDLE_SET,
            Self::User => Flags::USER_SET,
            Self::App => Flags::APP_SET,
        }
    }
}

/// The timers in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SlowTimers {
    idle: Millis32,
    /// While that timer is not set, and segments are smaller than they could be: when larger ones are to be tried.
    user: Millis32,
    app: Millis32,
}

/// The timers in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FastTimers {
    retransmit: Micros32,
    delayed_ack: Micros32,
}

/// Whether a duration of so many milliseconds is longer than any timer: it never ends.
const fn is_never(ms: u32) -> bool {
    ms >= Millis32::AHEAD_MAX
}

/// Rounded up, so that no timeout comes early; saturating at what [`is_never`] calls never.
pub(super) fn millis(duration: Duration) -> u32 {
    // In halves: of all nanoseconds it would be a division of 128 bits.
    let whole = duration.as_secs().saturating_mul(1_000);
    let ms = whole.saturating_add(duration.subsec_nanos().div_ceil(1_000_000).into());
    u32::try_from(ms).unwrap_or(u32::MAX)
}

impl Tcb {
    /// Sets or moves the retransmission timer, to `us` microseconds from now.
    #[inline]
    pub(super) fn set_retransmit_timer(&mut self, us: u32, now: impl Reading) {
        self.fast_timers.retransmit = Micros32::ceil(now).plus(us);
        self.flags.clear(Flags::REORDERING | Flags::PROBING);
        self.flags.set(Flags::RETRANSMIT_SET);
    }

    /// Moves the retransmission timer, if it is set, to `us` microseconds from now, where it is for what `kind` says,
    /// unless it is earlier.
    #[inline]
    pub(super) fn hasten_retransmit_timer(&mut self, us: u32, now: impl Reading, kind: Flags) {
        if self.is_set(Timer::Retransmit) && self.fast_timers.retransmit.ahead(now) > us {
            self.set_retransmit_timer(us, now);
            self.flags.set(kind);
        }
    }

    /// Sets or moves the timer of the delayed acknowledgment; four minutes at most.
    #[inline]
    pub(super) fn set_delayed_ack_timer(&mut self, delay: Duration, now: impl Reading) {
        let us = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX).min(Micros32::AHEAD_MAX);
        self.fast_timers.delayed_ack = Micros32::ceil(now).plus(us);
        self.flags.set(Flags::DELAYED_ACK_SET);
    }

    /// Sets or moves a timer in milliseconds; 24 days and more are never.
    pub(super) fn set_timer(&mut self, timer: Timer, after: Duration, now: impl Reading) {
        self.set_timer_from(timer, Millis32::ceil(now), millis(after));
    }

    /// Like [`Tcb::set_timer`], `ms` milliseconds from `start`.
    pub(super) fn set_timer_from(&mut self, timer: Timer, start: Millis32, ms: u32) {
        let at = match timer {
            Timer::Idle => &mut self.slow_timers.idle,
            Timer::User => &mut self.slow_timers.user,
            Timer::App => &mut self.slow_timers.app,
            Timer::Retransmit | Timer::DelayedAck => unreachable!("they are in microseconds"),
        };
        *at = start.plus(ms);
        self.flags.put(timer.flag(), !is_never(ms));
    }

    /// From `ms` milliseconds on larger segments may be tried, unless the user has set a limit until then.
    pub(super) fn set_path_due(&mut self, ms: u32, now: impl Reading) {
        if !self.is_set(Timer::User) {
            self.slow_timers.user = Millis32::ceil(now).plus(ms);
        }
    }

    /// Whether they may be tried now.
    pub(super) fn is_path_due(&self, now: impl Reading) -> bool {
        !self.is_set(Timer::User) && self.slow_timers.user.ahead(now) == 0
    }

    /// Takes a deadline back.
    #[inline]
    pub(super) const fn cancel(&mut self, timer: Timer) {
        self.flags.clear(timer.flag());
    }

    /// Takes every deadline back but the application's own, which lasts as long as there is text to read.
    pub(super) fn cancel_protocol_timers(&mut self) {
        self.flags.clear(Flags::RETRANSMIT_SET | Flags::DELAYED_ACK_SET | Flags::IDLE_SET | Flags::USER_SET);
    }

    /// Whether a timer is set.
    #[inline]
    pub(super) const fn is_set(&self, timer: Timer) -> bool {
        self.flags.any(timer.flag())
    }

    /// Whether a timer was due by `now`; if so it is no longer set.
    pub(super) fn take_due(&mut self, timer: Timer, now: impl Reading) -> bool {
        let left = match timer {
            Timer::Retransmit => self.fast_timers.retransmit.ahead(now),
            Timer::DelayedAck => self.fast_timers.delayed_ack.ahead(now),
            Timer::Idle => self.slow_timers.idle.ahead(now),
            Timer::User => self.slow_timers.user.ahead(now),
            Timer::App => self.slow_timers.app.ahead(now),
        };
        left == 0 && self.flags.take(timer.flag())
    }

    /// The first deadline of any of its timers, or about `now` where that has passed; [`Instant::NEVER`] when
    /// none is set.
    #[inline]
    pub fn deadline(&self, now: impl Reading) -> Instant {
        let mut first = Instant::NEVER;
        if self.flags.any(Flags::RETRANSMIT_SET | Flags::DELAYED_ACK_SET) {
            let FastTimers { retransmit, delayed_ack } = self.fast_timers;
            let retransmit = if self.is_set(Timer::Retransmit) { retransmit.ahead(now) } else { u32::MAX };
            let delayed_ack = if self.is_set(Timer::DelayedAck) { delayed_ack.ahead(now) } else { u32::MAX };
            let us = retransmit.min(delayed_ack);
            first = Instant::from_micros(now.micros() + u64::from(us));
        }
        if self.flags.any(Flags::IDLE_SET | Flags::USER_SET | Flags::APP_SET) {
            first = first.min(self.slow_deadline(now));
        }
        first
    }

    fn slow_deadline(&self, now: impl Reading) -> Instant {
        let SlowTimers { idle, user, app } = self.slow_timers;
        let left = |timer, at: Millis32| if self.is_set(timer) { at.ahead(now) } else { u32::MAX };
        let first = left(Timer::Idle, idle).min(left(Timer::User, user)).min(left(Timer::App, app));
        // Of those that are set none is so far away.
        Instant::from_millis(now.millis() + u64::from(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::tests::host::Host;

    #[test]
    fn milliseconds_are_rounded_up_and_bounded() {
        for (duration, want) in [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_millis(1), 1),
            (Duration::new(2, 1), 2_001),
            (Duration::new(2, 999_999_999), 3_000),
            (Duration::from_millis(u64::from(u32::MAX)), u32::MAX),
            (Duration::MAX, u32::MAX),
        ] {
            assert_eq!(millis(duration), want, "{duration:?}");
        }
    }

    #[test]
    fn the_earliest_is_first_and_each_fires_once() {
        let mut tcb = Host::established().tcb;
        let now = Instant::from_millis(7);
        assert_eq!(tcb.deadline(now), Instant::NEVER);
        tcb.set_timer(Timer::Idle, Duration::from_millis(9), now);
        tcb.set_delayed_ack_timer(Duration::from_millis(4), now);
        assert_eq!(tcb.deadline(now), Instant::from_millis(11));
        assert!(!tcb.take_due(Timer::DelayedAck, Instant::from_nanos(10_999_999)));
        assert!(tcb.take_due(Timer::DelayedAck, Instant::from_millis(11)));
        assert!(!tcb.take_due(Timer::DelayedAck, Instant::from_millis(12)));
        assert!(!tcb.take_due(Timer::User, Instant::NEVER), "never is never due");
        assert_eq!(tcb.deadline(now), Instant::from_millis(16));
        tcb.set_retransmit_timer(3_000, now);
        assert_eq!(tcb.deadline(now), Instant::from_millis(10));
        tcb.hasten_retransmit_timer(4_000, now, Flags::default());
        assert_eq!(tcb.deadline(now), Instant::from_millis(10), "never later");
        tcb.hasten_retransmit_timer(2_000, now, Flags::default());
        assert_eq!(tcb.deadline(now), Instant::from_millis(9));
        tcb.set_timer(Timer::App, Duration::from_millis(20), now);
        tcb.cancel_protocol_timers();
        assert_eq!(tcb.deadline(now), Instant::from_millis(27), "the application's own stays");
    }

    #[test]
    fn no_timer_is_early_and_what_is_too_far_away_is_never() {
        let mut tcb = Host::established().tcb;
        // Between two units, and where both have wrapped around.
        for ns in [1, (1 << 32) * 1_000 - 1, (1 << 32) * 1_000_000 - 1] {
            let now = Instant::from_nanos(ns);
            tcb.set_timer(Timer::User, Duration::from_nanos(1), now);
            assert!(!tcb.take_due(Timer::User, now));
            assert!(tcb.take_due(Timer::User, now + Duration::from_millis(2)));
            for days in [1, 24] {
                let after = Duration::from_secs(days * 24 * 3_600);
                tcb.set_timer(Timer::App, after, now);
                assert!(!tcb.take_due(Timer::App, now + after - Duration::from_nanos(1)), "{days} days");
                assert!(tcb.deadline(now) >= now + after && tcb.deadline(now + after) <= now + after * 2);
                assert!(tcb.take_due(Timer::App, now + after + Duration::from_millis(1)), "{days} days");
            }
            for after in [Duration::from_secs(25 * 24 * 3_600), Duration::MAX] {
                tcb.set_timer(Timer::App, after, now);
                assert_eq!(tcb.deadline(now), Instant::NEVER);
            }
            tcb.set_delayed_ack_timer(Duration::MAX, now);
            assert!(!tcb.take_due(Timer::DelayedAck, now + Duration::from_secs(268)));
            assert!(tcb.take_due(Timer::DelayedAck, now + Duration::from_secs(269)));
        }
    }
}
