//! One pinned thread, one queue, one engine: the loop.
#![forbid(unsafe_code)]

use std::time::Duration;
use std::vec::Vec;

use super::clock;
use super::config::Idle;
use super::control::{Handle, Mailbox};
use super::error::RunError;
use super::hand_over::FrameCopy;
use crate::base::{Counters, Instant};
use crate::io::xdp::{Queue, QueueStats, TxBurst, XdpError};
use crate::stack::{App, Engine, RxBatch, TxBatch};

/// Deadlines fired in one turn at most: a million that expire together must not stall frames.
const TIMER_BUDGET: u32 = 256;
/// Frames taken from other workers in one turn at most.
const HAND_OVER_BURST: usize = 64;
/// How long an adaptive worker looks for frames before it sleeps: about the price of a wake-up.
const SPIN_FOR: Duration = Duration::from_micros(50);
/// How long it sleeps at most; then it looks whether the interface is still there.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How long the last resets may wait for frames to leave in.
const END_MAX: Duration = Duration::from_secs(1);

/// How one worker ended.
#[derive(Clone, Debug)]
pub struct WorkerEnd {
    /// What its engine counted.
    pub counters: Counters,
    /// What its queue counted.
    pub queue: QueueStats,
}

/// Everything that belongs to one worker.
pub(super) struct Worker<A> {
    pub queue: Queue,
    pub engine: Engine,
    pub app: A,
    pub number: u16,
    pub handle: Handle,
    pub idle: Idle,
    /// Let other threads run in idle turns: workers outnumber CPUs.
    pub yields: bool,
    /// How long connections may take to end.
    pub drain: Duration,
}

/// Frames out, and over to other workers.
struct Output<'a, 'q> {
    tx: TxBurst<'q>,
    handle: &'a Handle,
}

impl TxBatch for Output<'_, '_> {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        self.tx.reserve()
    }

    fn commit(&mut self, len: usize) {
        self.tx.commit(len);
    }

    fn hand_over(&mut self, worker: u16, frame: &[u8]) -> bool {
        let Some(mailbox) = self.handle.mailboxes.get(usize::from(worker)) else { return false };
        mailbox.hand_over(frame)
    }
}

impl<A: App> Worker<A> {
    /// Runs until it is told to stop, or the application is done, and no other worker needs its queue.
    ///
    /// # Errors
    ///
    /// When the interface goes away.
    pub fn run(mut self) -> Result<WorkerEnd, RunError> {
        let mut handed_over = Vec::with_capacity(HAND_OVER_BURST);
        let mut busy_at = clock::now();
        let mut drained_by = None;
        let mut left = false;
        self.with_output(busy_at, |engine, app, tx, now| engine.start(now, app, tx));
        loop {
            let now = clock::now();
            let busy = self.turn(now, &mut handed_over)?;
            if self.read_news(now) && drained_by.is_none() && !left {
                drained_by = Some(now + self.drain);
                self.with_output(now, |engine, app, tx, now| engine.drain(now, app, tx));
            }
            let drained = drained_by.is_some_and(|by| self.engine.flow_count() == 0 || by <= now);
            if !left && (drained || self.engine.is_stopping()) {
                left = true;
                self.abort_all(now)?;
                self.handle.leave(self.number);
            }
            // Until then frames of other workers' connections may come in on this queue.
            if left && self.handle.have_all_left() {
                return self.end();
            }
            if busy {
                busy_at = now;
            } else {
                self.rest(now, busy_at, drained_by.filter(|_| !left))?;
            }
        }
    }

    /// One turn: frames in, frames from other workers, frames out, deadlines. Returns whether there were
    /// frames.
    fn turn(&mut self, now: Instant, handed_over: &mut Vec<FrameCopy>) -> Result<bool, RunError> {
        let Self { queue, engine, app, handle, number, .. } = self;
        let mailbox = &handle.mailboxes[usize::from(*number)];
        let (rx, tx) = queue.turn();
        let mut busy = !rx.is_empty();
        let mut output = Output { tx, handle };
        if busy {
            engine.on_batch(now, &rx, app, &mut output);
        }
        if !mailbox.inbox.is_empty() {
            mailbox.inbox.take(handed_over, HAND_OVER_BURST);
            engine.on_batch(now, handed_over.as_slice(), app, &mut output);
            mailbox.inbox.give_back(handed_over);
            busy = true;
        }
        drop(output);
        // Whoever waits for an answer does not wait for the deadlines of others.
        queue.flush()?;
        if engine.next_deadline().is_some_and(|at| at <= now) {
            engine.on_timers(now, TIMER_BUDGET, app, &mut Output { tx: queue.sending(), handle });
            queue.flush()?;
        }
        while let Some(addr) = engine.take_wanted_neighbour() {
            // A full queue means that the control thread has enough to ask for already.
            let _ = mailbox.wanted.push(addr);
        }
        Ok(busy)
    }

    /// Lets the engine do something outside a turn; what comes of it is sent with the next one.
    fn with_output(
        &mut self,
        now: Instant,
        act: impl FnOnce(&mut Engine, &mut A, &mut Output<'_, '_>, Instant),
    ) {
        let Self { queue, engine, app, handle, .. } = self;
        let (rx, tx) = queue.turn();
        let mut output = Output { tx, handle };
        // Frames that came in meanwhile must not be lost.
        engine.on_batch(now, &rx, app, &mut output);
        act(engine, app, &mut output, now);
    }

    /// Reads the mailbox; returns whether the worker is to stop.
    fn read_news(&mut self, now: Instant) -> bool {
        let Some(news) = self.mailbox().look() else { return false };
        while let Some((addr, mac)) = self.mailbox().neighbours.pop() {
            self.engine.set_neighbour(addr, mac);
        }
        if news.woken {
            self.with_output(now, |engine, app, tx, now| engine.wake(now, app, tx));
        }
        news.stop
    }

    fn mailbox(&self) -> &Mailbox {
        &self.handle.mailboxes[usize::from(self.number)]
    }

    /// Nothing came in: look again, let others run, or sleep.
    fn rest(&mut self, now: Instant, busy_at: Instant, drained_by: Option<Instant>) -> Result<(), XdpError> {
        if self.idle == Idle::Spin {
            if self.yields {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
            return Ok(());
        }
        if now.since(busy_at) < SPIN_FOR {
            return Ok(());
        }
        let until = self.engine.next_deadline().into_iter().chain(drained_by).min();
        let sleep = until.map_or(SLEEP_MAX, |at| at.since(now).min(SLEEP_MAX));
        if sleep.is_zero() || !self.mailbox().begin_sleep() {
            return Ok(());
        }
        let woken = self.queue.wait(sleep, Some(self.mailbox().event()));
        self.mailbox().end_sleep();
        let woken = woken?;
        if !woken.by_frames && !woken.by_event && clock::now().since(now) >= SLEEP_MAX {
            return match self.queue.check() {
                // It may come up again, and connections live on for a while.
                Err(XdpError::InterfaceDown { .. }) => Ok(()),
                answer => answer,
            };
        }
        Ok(())
    }

    /// Aborts what is left, so that peers and the application learn of it.
    fn abort_all(&mut self, start: Instant) -> Result<(), RunError> {
        self.with_output(start, |engine, app, tx, now| engine.abort_all(now, app, tx));
        self.queue.flush()?;
        // One call serves so many connections, and as many as there are frames for.
        while self.engine.flow_count() > 0 {
            let now = clock::now();
            if now.since(start) >= END_MAX {
                break;
            }
            let before = self.engine.flow_count();
            self.with_output(now, |engine, app, tx, now| engine.on_timers(now, TIMER_BUDGET, app, tx));
            self.queue.flush()?;
            if self.engine.flow_count() == before {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Aborts what has come since.
    fn end(mut self) -> Result<WorkerEnd, RunError> {
        self.abort_all(clock::now())?;
        Ok(WorkerEnd { counters: self.engine.counters().clone(), queue: self.queue.stats()? })
    }
}
