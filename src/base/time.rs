//! A point in time, in nanoseconds, on whatever clock the caller reads.
#![forbid(unsafe_code)]

use core::ops::{Add, Sub};
use core::time::Duration;

/// Nanoseconds since the epoch of the caller's clock (boot, or the start of a simulation).
///
/// The engine never reads a clock: every entry point takes the instant as an argument.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The epoch of the clock.
    pub const ZERO: Self = Self(0);
    /// Later than any instant that is ever reached.
    pub const NEVER: Self = Self(u64::MAX);

    /// The instant `ns` nanoseconds after the epoch.
    pub const fn from_nanos(ns: u64) -> Self {
        Self(ns)
    }

    /// The instant `us` microseconds after the epoch.
    pub const fn from_micros(us: u64) -> Self {
        Self(us * 1_000)
    }

    /// The instant `ms` milliseconds after the epoch.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Whole microseconds since the epoch.
    pub const fn as_micros(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole milliseconds since the epoch.
    pub const fn as_millis(self) -> u64 {
        self.0 / 1_000_000
    }

    /// Time from `earlier` to `self`; zero when `earlier` is later.
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Whole microseconds from `earlier` to `self`, zero when `earlier` is later, saturating at 71 minutes.
    #[expect(clippy::cast_possible_truncation, reason = "compared with the bound first")]
    pub const fn micros_since(self, earlier: Self) -> u32 {
        let us = self.0.saturating_sub(earlier.0) / 1_000;
        if us > u32::MAX as u64 { u32::MAX } else { us as u32 }
    }

    /// `self` moved forward by `us` microseconds; [`Instant::NEVER`] past the end of the clock.
    pub const fn plus_micros(self, us: u64) -> Self {
        Self(self.0.saturating_add(us.saturating_mul(1_000)))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;

    /// Saturates at [`Instant::NEVER`], so that an absurd timeout means "never".
    fn add(self, by: Duration) -> Self {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(ns))
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        let ns = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_durations_saturate() {
        assert_eq!(Instant::from_nanos(5) + Duration::MAX, Instant::NEVER);
        assert_eq!(Instant::from_nanos(5) - Duration::MAX, Instant::ZERO);
        assert_eq!(Instant::NEVER.plus_micros(1), Instant::NEVER);
        assert_eq!(Instant::NEVER.micros_since(Instant::ZERO), u32::MAX);
    }

    #[test]
    fn an_earlier_instant_is_zero_away() {
        assert_eq!(Instant::from_micros(3).since(Instant::from_micros(9)), Duration::ZERO);
        assert_eq!(Instant::from_micros(9).micros_since(Instant::from_micros(3)), 6);
    }
}
