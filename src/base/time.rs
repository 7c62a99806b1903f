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

/// What tells the time: an [`Instant`], or a [`Clock`] that has worked it out already.
pub trait Reading: Copy {
    /// The instant.
    fn instant(self) -> Instant;
    /// Whole microseconds since the epoch.
    fn micros(self) -> u64;
    /// Whole milliseconds since the epoch.
    fn millis(self) -> u64;
    /// The first microsecond that is not before it, modulo 2^32.
    fn micros_up(self) -> Micros32;
    /// The first millisecond that is not before it, modulo 2^32.
    fn millis_up(self) -> Millis32;
}

impl Reading for Instant {
    #[inline]
    fn instant(self) -> Instant {
        self
    }

    #[inline]
    fn micros(self) -> u64 {
        self.as_micros()
    }

    #[inline]
    fn millis(self) -> u64 {
        self.as_millis()
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is what the type says")]
    fn micros_up(self) -> Micros32 {
        Micros32((self.0.wrapping_add(999) / 1_000) as u32)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is what the type says")]
    fn millis_up(self) -> Millis32 {
        Millis32((self.0.wrapping_add(999_999) / 1_000_000) as u32)
    }
}

/// An instant for a whole turn, with what follows from it worked out once: each division less counts where
/// a segment costs a few hundred instructions.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    instant: Instant,
    micros: u64,
    millis: u64,
    micros_up: Micros32,
    millis_up: Millis32,
}

impl Clock {
    /// The clock at `instant`.
    pub fn new(instant: Instant) -> Self {
        Self {
            instant,
            micros: instant.micros(),
            millis: instant.millis(),
            micros_up: instant.micros_up(),
            millis_up: instant.millis_up(),
        }
    }
}

impl Reading for &Clock {
    #[inline]
    fn instant(self) -> Instant {
        self.instant
    }

    #[inline]
    fn micros(self) -> u64 {
        self.micros
    }

    #[inline]
    fn millis(self) -> u64 {
        self.millis
    }

    #[inline]
    fn micros_up(self) -> Micros32 {
        self.micros_up
    }

    #[inline]
    fn millis_up(self) -> Millis32 {
        self.millis_up
    }
}

/// A point in time in microseconds modulo 2^32, for records that have four octets for it.
///
/// As a deadline it lies at most [`Micros32::AHEAD_MAX`] ahead when it is set, and is told from one that has
/// passed until 67 minutes after it; later than that it counts as ahead again, for four minutes at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Micros32(u32);

impl Micros32 {
    /// The farthest deadline: 268 s.
    pub const AHEAD_MAX: u32 = 1 << 28;

    /// The last microsecond that `at` has reached.
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is what the type says")]
    #[inline]
    pub fn floor(at: impl Reading) -> Self {
        Self(at.micros() as u32)
    }

    /// The first microsecond that is not before `at`.
    #[inline]
    pub fn ceil(at: impl Reading) -> Self {
        at.micros_up()
    }

    /// `us` microseconds later.
    pub const fn plus(self, us: u32) -> Self {
        Self(self.0.wrapping_add(us))
    }

    /// Microseconds from `earlier` to `self`, which came less than 71 minutes later.
    #[inline]
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// Microseconds from `self` to `now`, which came less than 71 minutes later.
    #[inline]
    pub fn elapsed(self, now: impl Reading) -> u32 {
        Self::floor(now).0.wrapping_sub(self.0)
    }

    /// Microseconds from `now` to this deadline; zero when it has passed.
    #[inline]
    pub fn ahead(self, now: impl Reading) -> u32 {
        let ahead = self.0.wrapping_sub(Self::floor(now).0);
        if ahead > Self::AHEAD_MAX { 0 } else { ahead }
    }
}

/// A point in time in milliseconds modulo 2^32, for records that have four octets for it.
///
/// As a deadline it lies less than [`Millis32::AHEAD_MAX`] ahead when it is set, and is told from one that
/// has passed until 24 days after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Millis32(u32);

impl Millis32 {
    /// No deadline is so far away: 24.8 days.
    pub const AHEAD_MAX: u32 = 1 << 31;
    /// What looks as if it were so many milliseconds ago lies up to a minute ahead: it was rounded up, or the
    /// clock stepped back.
    const ELAPSED_MAX: u32 = u32::MAX - 0xffff;

    /// The last millisecond that `at` has reached.
    #[expect(clippy::cast_possible_truncation, reason = "modulo 2^32 is what the type says")]
    #[inline]
    pub fn floor(at: impl Reading) -> Self {
        Self(at.millis() as u32)
    }

    /// The first millisecond that is not before `at`.
    #[inline]
    pub fn ceil(at: impl Reading) -> Self {
        at.millis_up()
    }

    /// `ms` milliseconds later.
    pub const fn plus(self, ms: u32) -> Self {
        Self(self.0.wrapping_add(ms))
    }

    /// Milliseconds from `self` to `now`, modulo 49.7 days; zero when `self` is not yet reached.
    ///
    /// For a point that was rounded up it is never more than what has passed.
    #[inline]
    pub fn elapsed(self, now: impl Reading) -> u32 {
        let elapsed = Self::floor(now).0.wrapping_sub(self.0);
        if elapsed > Self::ELAPSED_MAX { 0 } else { elapsed }
    }

    /// Milliseconds from `now` to this deadline; zero when it has passed.
    #[inline]
    pub fn ahead(self, now: impl Reading) -> u32 {
        let ahead = self.0.wrapping_sub(Self::floor(now).0);
        if ahead >= Self::AHEAD_MAX { 0 } else { ahead }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever the clock says, and however late one looks.
        #[test]
        fn a_deadline_of_four_octets_is_never_early_and_late_by_its_unit_at_most(
            set_at in 0u64..1 << 60,
            us in 0..=Micros32::AHEAD_MAX,
            ms in 0..Millis32::AHEAD_MAX,
            later_us in 0u64..(67 * 60 - 268) * 1_000_000,
            later_ms in 0u64..(1 << 31) - 1,
        ) {
            let now = Instant::from_nanos(set_at);
            let fine = Micros32::ceil(now).plus(us);
            let exact = set_at + u64::from(us) * 1_000;
            for (ns, early) in [(exact - 1, us > 0), (exact, false), (exact + later_us * 1_000, false)] {
                let ahead = u64::from(fine.ahead(Instant::from_nanos(ns)));
                prop_assert!(!early || ahead > 0, "{} ns early", exact - ns);
                prop_assert!(ahead <= u64::from(us) + 1);
                prop_assert!(ns < exact + 1_000 || ahead == 0, "it passed {} ns ago", ns - exact);
            }
            let coarse = Millis32::ceil(now).plus(ms);
            let exact = set_at + u64::from(ms) * 1_000_000;
            for (ns, early) in [(exact - 1, ms > 0), (exact, false), (exact + later_ms * 1_000_000, false)] {
                let ahead = u64::from(coarse.ahead(Instant::from_nanos(ns)));
                prop_assert!(!early || ahead > 0, "{} ns early", exact - ns);
                prop_assert!(ns < exact + 1_000_000 || ahead == 0, "it passed {} ns ago", ns - exact);
            }
        }

        #[test]
        fn time_that_has_passed_is_measured_across_the_wrap_and_never_too_long(
            from in 0u64..1 << 60,
            us in 0u64..1 << 32,
            ms in 0u64..u64::from(Millis32::ELAPSED_MAX),
        ) {
            let start = Instant::from_nanos(from);
            let us_later = Instant::from_nanos(from + us * 1_000);
            prop_assert_eq!(u64::from(Micros32::floor(start).elapsed(us_later)), us);
            let ms_later = Instant::from_nanos(from + ms * 1_000_000);
            let measured = u64::from(Millis32::ceil(start).elapsed(ms_later));
            prop_assert!(measured <= ms && measured + 1 >= ms, "{measured} of {ms} ms");
        }
    }

    #[test]
    fn a_clock_says_what_its_instant_says() {
        for ns in [0, 1, 999, 1_000, 999_999, 1_000_000, u64::MAX / 2] {
            let instant = Instant::from_nanos(ns);
            let clock = &Clock::new(instant);
            assert_eq!((clock.instant(), clock.micros()), (instant, instant.as_micros()));
            assert_eq!((clock.millis(), clock.micros_up()), (instant.as_millis(), instant.micros_up()));
            assert_eq!(clock.millis_up(), instant.millis_up());
        }
    }

    #[test]
    fn a_point_rounded_up_is_not_ages_ago() {
        let at = Instant::from_nanos(1);
        assert_eq!(Millis32::ceil(at).elapsed(at), 0);
    }

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
