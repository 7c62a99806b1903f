//! When the open loop begins an exchange: at a constant rate, whatever became of the ones before.
#![forbid(unsafe_code)]

use crate::base::Instant;

/// One worker's share of a constant rate.
///
/// The intended starts are a formula and not a queue, so a backlog costs no memory; its bound is one
/// second's worth, and what exceeds it is given up, oldest first.
#[derive(Clone, Debug)]
pub struct Arrivals {
    start: Instant,
    /// Per second, all workers together.
    rate: u64,
    worker: u64,
    workers: u64,
    taken: u64,
    backlog_max: u64,
}

/// The least backlog that is kept, so that slow rates survive a pause of the machine.
const BACKLOG_MIN: u64 = 64;

impl Arrivals {
    /// The arrivals of `worker` of `workers`, which share `rate` per second, from `start` on.
    ///
    /// # Panics
    ///
    /// When the rate or the number of workers is zero.
    pub fn new(start: Instant, rate: u64, worker: u16, workers: u16) -> Self {
        assert!(rate > 0 && workers > 0, "an open loop has a rate and workers");
        let workers = u64::from(workers);
        let backlog_max = (rate / workers).max(BACKLOG_MIN);
        Self { start, rate, worker: worker.into(), workers, taken: 0, backlog_max }
    }

    /// When the next exchange is meant to begin; it may be in the past.
    pub fn next(&self) -> Instant {
        self.intended(self.taken)
    }

    /// The intended start of the next exchange, if that is not in the future.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        let next = self.next();
        (next <= now).then(|| {
            self.taken += 1;
            next
        })
    }

    /// Gives up what the backlog cannot hold; returns how many exchanges that is.
    pub fn shed(&mut self, now: Instant) -> u64 {
        let excess = self.due(now).saturating_sub(self.taken + self.backlog_max);
        self.taken += excess;
        excess
    }

    fn intended(&self, k: u64) -> Instant {
        let nth = u128::from(k) * u128::from(self.workers) + u128::from(self.worker);
        let after = nth * 1_000_000_000 / u128::from(self.rate);
        Instant::from_nanos(self.start.as_nanos().saturating_add(u64::try_from(after).unwrap_or(u64::MAX)))
    }

    /// How many intended starts are not in the future, those taken included; rounded down by one at most.
    fn due(&self, now: Instant) -> u64 {
        let elapsed = u128::from(now.as_nanos().saturating_sub(self.start.as_nanos()));
        let due = elapsed * u128::from(self.rate) / 1_000_000_000 / u128::from(self.workers);
        u64::try_from(due).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn all(arrivals: &mut Arrivals, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| arrivals.take(now)).map(Instant::as_micros).collect()
    }

    #[test]
    fn starts_are_evenly_spaced_and_never_early() {
        let start = Instant::from_millis(5);
        let mut arrivals = Arrivals::new(start, 1_000, 0, 1);
        assert_eq!(arrivals.take(Instant::from_micros(4_999)), None);
        assert_eq!(all(&mut arrivals, Instant::from_micros(7_999)), [5_000, 6_000, 7_000]);
        assert_eq!(arrivals.next(), Instant::from_millis(8));
    }

    #[test]
    fn a_rate_that_does_not_divide_a_second_does_not_drift() {
        let mut arrivals = Arrivals::new(Instant::ZERO, 3, 0, 1);
        let starts = all(&mut arrivals, Instant::from_millis(20_000));
        assert_eq!((starts.len(), starts[60]), (61, 20_000_000));
    }

    #[test]
    fn workers_interleave() {
        let now = Instant::from_micros(3_999);
        let of = |worker| all(&mut Arrivals::new(Instant::ZERO, 1_000, worker, 2), now);
        assert_eq!((of(0), of(1)), (Vec::from([0, 2_000]), Vec::from([1_000, 3_000])));
    }

    #[test]
    fn the_backlog_is_bounded_and_the_excess_counted() {
        let mut arrivals = Arrivals::new(Instant::ZERO, 1_000, 0, 1);
        assert_eq!(arrivals.shed(Instant::from_millis(1_000)), 0);
        assert_eq!(arrivals.shed(Instant::from_millis(1_500)), 500);
        assert_eq!(arrivals.take(Instant::from_millis(1_500)), Some(Instant::from_millis(500)));
        assert_eq!(arrivals.shed(Instant::from_millis(1_500)), 0);
    }
}
