//! The deadlines of one connection; only the earliest goes to the wheel.
#![forbid(unsafe_code)]

use crate::base::Instant;

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
    /// Every timer.
    pub const ALL: [Self; 5] = [Self::Retransmit, Self::DelayedAck, Self::Idle, Self::User, Self::App];
}

/// One deadline for each [`Timer`].
#[derive(Clone, Copy, Debug)]
pub struct Timers([Instant; Timer::ALL.len()]);

impl Default for Timers {
    fn default() -> Self {
        Self([Instant::NEVER; Timer::ALL.len()])
    }
}

impl Timers {
    /// Sets or moves a deadline.
    pub const fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = at;
    }

    /// Takes a deadline back.
    pub const fn cancel(&mut self, timer: Timer) {
        self.0[timer as usize] = Instant::NEVER;
    }

    /// Takes every deadline back but the application's own, which lasts as long as there is text to read.
    pub fn cancel_protocol(&mut self) {
        let app = self.0[Timer::App as usize];
        *self = Self::default();
        self.set(Timer::App, app);
    }

    /// Whether it is set.
    pub fn is_set(&self, timer: Timer) -> bool {
        self.0[timer as usize] != Instant::NEVER
    }

    /// Whether it was due by `now`; if so it is no longer set.
    pub fn take_due(&mut self, timer: Timer, now: Instant) -> bool {
        let due = self.0[timer as usize] <= now && self.is_set(timer);
        if due {
            self.cancel(timer);
        }
        due
    }

    /// The first deadline; [`Instant::NEVER`] when none is set.
    pub fn earliest(&self) -> Instant {
        self.0.iter().copied().fold(Instant::NEVER, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_is_first_and_each_fires_once() {
        let mut timers = Timers::default();
        assert_eq!(timers.earliest(), Instant::NEVER);
        timers.set(Timer::Idle, Instant::from_micros(9));
        timers.set(Timer::DelayedAck, Instant::from_micros(4));
        assert_eq!(timers.earliest(), Instant::from_micros(4));
        assert!(!timers.take_due(Timer::DelayedAck, Instant::from_micros(3)));
        assert!(timers.take_due(Timer::DelayedAck, Instant::from_micros(4)));
        assert!(!timers.take_due(Timer::DelayedAck, Instant::from_micros(5)));
        assert!(!timers.take_due(Timer::User, Instant::NEVER), "never is never due");
        assert_eq!(timers.earliest(), Instant::from_micros(9));
    }
}
