//! Many seeds, on several threads, with a line that says how far it is.
#![forbid(unsafe_code)]

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::run::{Failure, run_seed};
use crate::scenario::Worlds;
use crate::tally::Tally;

/// What to run.
#[derive(Clone, Debug)]
pub struct Many {
    pub seeds: Range<u64>,
    pub worlds: Worlds,
    pub steps: u64,
    pub threads: usize,
    /// No seed is begun after this; `None` for as long as it takes.
    pub time: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Result {
    pub tally: Tally,
    pub failures: Vec<Failure>,
    /// Seeds that were run: all from the first one of the range on.
    pub seeds: u64,
}

impl Many {
    /// After so many failures no more seeds are begun: one defect would break them all.
    const FAILURES_MAX: usize = 10;
    const REPORT_EVERY: Duration = Duration::from_secs(10);

    /// Runs them all; `say` gets each failure at once, and from time to time a line of progress.
    pub fn run(&self, say: impl Fn(&str) + Sync) -> Result {
        let started = Instant::now();
        let next = AtomicU64::new(self.seeds.start);
        let shared = Mutex::new((Result::default(), started));
        thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    while self.time.is_none_or(|time| started.elapsed() < time) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= self.seeds.end || !self.run_one(seed, &shared, started, &say) {
                            return;
                        }
                    }
                });
            }
        });
        shared.into_inner().expect("no thread panicked").0
    }

    /// `false` when enough has failed.
    fn run_one(
        &self,
        seed: u64,
        shared: &Mutex<(Result, Instant)>,
        started: Instant,
        say: &impl Fn(&str),
    ) -> bool {
        let outcome = run_seed(seed, self.worlds, self.steps, |_, _| ());
        let (result, reported) = &mut *shared.lock().expect("no thread panicked");
        result.seeds += 1;
        result.tally.merge(&outcome.tally);
        if let Some(failure) = outcome.failure {
            say(&failure.to_string());
            result.failures.push(failure);
        }
        if reported.elapsed() >= Self::REPORT_EVERY {
            *reported = Instant::now();
            let (seeds, broken) = (result.seeds, result.failures.len());
            say(&format!("{} s: {seeds} seeds, {broken} violations", started.elapsed().as_secs()));
        }
        result.failures.len() < Self::FAILURES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Event;

    #[test]
    fn every_seed_of_the_range_is_run_once() {
        let many = Many { seeds: 3..9, worlds: Worlds::Any, steps: 50, threads: 2, time: None };
        let result = many.run(|line| panic!("{line}"));
        assert_eq!((result.seeds, result.tally.get(Event::Worlds)), (6, 6));
    }
}
