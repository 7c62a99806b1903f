//! What the threads of one run share: the wish to stop, live figures, and the place for results.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::string::{String, ToString};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::vec::Vec;

use super::Recorder;
use crate::base::Counters;

/// One per run, behind an `Arc`.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicBool,
    started: AtomicBool,
    ended: AtomicBool,
    done: AtomicUsize,
    live: LiveCells,
    results: Mutex<Results>,
}

#[derive(Debug, Default)]
struct LiveCells {
    connections: AtomicU64,
    requests: AtomicU64,
    octets: AtomicU64,
    errors: AtomicU64,
}

#[derive(Debug, Default)]
struct Results {
    recorders: Vec<Recorder>,
    counters: Counters,
    has_counters: bool,
    /// What the queues and the steering program counted, by name.
    figures: BTreeMap<&'static str, u64>,
}

/// Figures of all workers up to now, a tenth of a second old at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// Connections finished in the measured time, or, where connections stay open, established.
    pub connections: u64,
    /// Exchanges completed in the measured time.
    pub requests: u64,
    /// Octets of text sent and received in the measured time.
    pub octets: u64,
    /// Errors, warm-up included.
    pub errors: u64,
}

impl Control {
    /// Asks every worker to end; a second call changes nothing.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the workers were asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// A worker began its part of the run.
    pub fn start(&self) {
        self.started.store(true, Ordering::Relaxed);
    }

    /// Whether any worker has begun.
    pub fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
    }

    /// The run is over, whether it went well or not.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Whether the run is over.
    pub fn is_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Workers that have left their results.
    pub fn done(&self) -> usize {
        self.done.load(Ordering::Acquire)
    }

    /// Adds what one worker has done since `before`, which becomes `now`.
    pub(super) fn publish(&self, before: &mut Live, now: Live) {
        let add = |cell: &AtomicU64, new: u64, old: u64| cell.fetch_add(new - old, Ordering::Relaxed);
        add(&self.live.connections, now.connections, before.connections);
        add(&self.live.requests, now.requests, before.requests);
        add(&self.live.octets, now.octets, before.octets);
        add(&self.live.errors, now.errors, before.errors);
        *before = now;
    }

    /// All workers' figures.
    pub fn live(&self) -> Live {
        Live {
            connections: self.live.connections.load(Ordering::Relaxed),
            requests: self.live.requests.load(Ordering::Relaxed),
            octets: self.live.octets.load(Ordering::Relaxed),
            errors: self.live.errors.load(Ordering::Relaxed),
        }
    }

    /// Leaves one worker's measurements.
    pub fn leave(&self, recorder: Recorder) {
        self.lock().recorders.push(recorder);
        self.done.fetch_add(1, Ordering::Release);
    }

    /// Adds one engine's counters; the kernel's sockets have none.
    pub fn leave_counters(&self, counters: &Counters) {
        let mut results = self.lock();
        results.counters.merge(counters);
        results.has_counters = true;
    }

    /// Adds what a queue or the steering program counted.
    pub fn leave_figures(&self, figures: impl IntoIterator<Item = (&'static str, u64)>) {
        let mut results = self.lock();
        for (name, n) in figures {
            *results.figures.entry(name).or_default() += n;
        }
    }

    /// Everything that was counted and is not zero, by name; `None` where there is no engine.
    pub fn all_counted(&self) -> Option<BTreeMap<String, u64>> {
        let results = self.lock();
        let engine = results.counters.nonzero();
        let figures = results.figures.iter().map(|(&name, &n)| (name, n)).filter(|&(_, n)| n > 0);
        let all = engine.chain(figures).map(|(name, n)| (name.to_string(), n));
        results.has_counters.then(|| all.collect())
    }

    /// All measurements merged; `None` when no worker left any.
    pub fn merged(&self) -> Option<Recorder> {
        let mut recorders = std::mem::take(&mut self.lock().recorders).into_iter();
        let mut all = recorders.next()?;
        recorders.for_each(|r| all.merge(&r));
        Some(all)
    }

    /// All engines' counters; `None` where there is no engine.
    pub fn counters(&self) -> Option<Counters> {
        let results = self.lock();
        results.has_counters.then(|| results.counters.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Results> {
        self.results.lock().expect("no thread panics while it holds the results")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_figures_add_up_over_workers_and_time() {
        let control = Control::default();
        let (mut one, mut two) = (Live::default(), Live::default());
        control.publish(&mut one, Live { requests: 3, errors: 1, ..Live::default() });
        control.publish(&mut two, Live { requests: 4, ..Live::default() });
        control.publish(&mut one, Live { requests: 5, errors: 1, ..Live::default() });
        assert_eq!(control.live(), Live { requests: 9, errors: 1, ..Live::default() });
    }
}
