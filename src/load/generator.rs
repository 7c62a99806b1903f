//! One worker's client side: opens connections, sends requests, measures replies, on any transport.
#![forbid(unsafe_code)]

mod end;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use super::workload::pattern;
use super::{
    Arrivals, CloseSide, Conn, Control, ErrorKind, HeadSlab, Live, Open, Opener, Plan, Profile, Progress,
    Recorder, ReplyParser, Window,
};
use crate::base::Instant;
use crate::tcp::CloseReason;

/// After a failure a connection rests, or a dead target would be hammered.
const RETRY_AFTER: Duration = Duration::from_millis(10);
/// Octets given to one send of a stream.
const STREAM: usize = 64 * 1024;

/// The client side of one worker. Its connections live in slots, from 0 to its share.
#[derive(Debug)]
pub struct Generator {
    plan: Arc<Plan>,
    control: Arc<Control>,
    slots: Vec<Slot>,
    /// Slots without a connection.
    vacant: Vec<u32>,
    /// Open connections without an exchange; with their generation, for they may have closed since.
    ready: VecDeque<(u32, u32)>,
    /// Slots that rest after a failure, and until when.
    resting: VecDeque<(Instant, u32)>,
    arrivals: Option<Arrivals>,
    recorder: Recorder,
    heads: HeadSlab,
    request: Vec<u8>,
    opened: u64,
    end: Instant,
    heartbeat: Instant,
    published: Live,
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    Draining,
    Done,
}

#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    state: State,
    reply: ReplyParser,
    /// When the connection was begun.
    opened: Instant,
    /// When the exchange began, or was meant to.
    started: Instant,
    /// `None` until the reply has begun.
    first_byte: Option<Instant>,
    sent: usize,
    generation: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Vacant,
    Opening,
    Ready,
    Busy,
    /// The exchange is complete, and the server is to close first.
    AwaitFin,
    /// We closed after everything went well.
    Closing,
    /// We closed or aborted, and the reason is counted already.
    Failing,
}

impl Generator {
    /// The generator of `worker`, which begins now.
    pub fn new(plan: Arc<Plan>, control: Arc<Control>, worker: u16, now: Instant) -> Self {
        control.start();
        let share = plan.share(worker);
        let from = now + plan.warmup;
        let end = from + plan.duration;
        let slots = vec![Slot::default(); share as usize];
        let request =
            if plan.workload.is_stream() { pattern(STREAM) } else { plan.workload.request(plan.targets[0]) };
        Self {
            arrivals: plan.rate.map(|rate| Arrivals::new(now, rate, worker, plan.workers)),
            heads: HeadSlab::new(u16::try_from(share).unwrap_or(u16::MAX).min(1024)),
            // Workers begin their turns through targets and sources at different places.
            opened: u64::from(worker) * u64::from(share),
            recorder: Recorder::new(Window { from, to: end }),
            vacant: (0..share).rev().collect(),
            ready: VecDeque::with_capacity(2 * slots.len()),
            resting: VecDeque::with_capacity(slots.len()),
            published: Live::default(),
            phase: Phase::Running,
            heartbeat: now,
            plan,
            control,
            slots,
            request,
            end,
        }
    }

    /// Begins whatever is due. To be called at start, after callbacks, and at [`Generator::deadline`].
    pub fn pump<O: Opener>(&mut self, now: Instant, opener: &mut O) {
        if now >= self.heartbeat {
            self.beat(now);
        }
        if self.phase == Phase::Running && now >= self.end {
            self.drain(now, opener);
        }
        match self.phase {
            Phase::Running => self.begin_due(now, opener),
            Phase::Draining => self.check_drained(now, opener),
            Phase::Done => {}
        }
    }

    /// When [`Generator::pump`] is to be called again, though nothing else happens.
    pub fn deadline(&self) -> Instant {
        let mut deadline = self.heartbeat;
        if self.phase == Phase::Running {
            deadline = deadline.min(self.end);
            if let Some(&(until, _)) = self.resting.front() {
                deadline = deadline.min(until);
            }
            let can_begin = !self.vacant.is_empty() || !self.ready.is_empty();
            if let Some(arrivals) = self.arrivals.as_ref().filter(|_| can_begin) {
                deadline = deadline.min(arrivals.next());
            }
        }
        deadline
    }

    /// Whether the run is over and no connection is left.
    pub fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// The measurements.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// The connection of `slot` is established.
    pub fn on_open<C: Conn>(&mut self, slot: u32, now: Instant, conn: &mut C) {
        let at = &mut self.slots[slot as usize];
        self.recorder.on_established(now, at.opened);
        match (self.plan.workload.profile, self.arrivals.is_some()) {
            (Profile::Crr, _) => {
                let started = at.started;
                self.begin_exchange(slot, started, conn);
            }
            (_, false) => self.begin_exchange(slot, now, conn),
            (_, true) => self.become_ready(slot, now, conn),
        }
    }

    /// Text arrived; all of it is consumed, whatever it is.
    pub fn on_data<C: Conn>(&mut self, slot: u32, now: Instant, data: &[u8], conn: &mut C) {
        self.recorder.on_received(now, data.len());
        let at = &mut self.slots[slot as usize];
        match at.state {
            State::Busy if self.plan.workload.is_stream() => {}
            State::Busy => {
                at.first_byte.get_or_insert(now);
                match at.reply.feed(data, &mut self.heads) {
                    Progress::More => {}
                    Progress::Complete(used) if used == data.len() => self.complete(slot, now, conn),
                    Progress::Complete(_) | Progress::Bad => self.fail(slot, now, ErrorKind::BadReply, conn),
                }
            }
            State::Ready | State::AwaitFin => self.fail(slot, now, ErrorKind::BadReply, conn),
            State::Vacant | State::Opening | State::Closing | State::Failing => {}
        }
    }

    /// The peer sent FIN.
    pub fn on_fin<C: Conn>(&mut self, slot: u32, now: Instant, conn: &mut C) {
        let at = &mut self.slots[slot as usize];
        match at.state {
            State::Busy if at.reply.on_eof() && at.first_byte.is_some() => {
                self.complete(slot, now, conn);
                self.close(slot, conn);
            }
            State::Busy | State::Opening => {
                self.recorder.on_errors(now, ErrorKind::ClosedEarly, 1);
                at.state = State::Failing;
                conn.close();
            }
            State::Ready | State::AwaitFin => self.close(slot, conn),
            State::Vacant | State::Closing | State::Failing => {}
        }
    }

    /// There is room to send again.
    pub fn on_writable<C: Conn>(&mut self, slot: u32, now: Instant, conn: &mut C) {
        if self.slots[slot as usize].state == State::Busy {
            self.send_request(slot, now, conn);
        }
    }

    /// The connection of `slot` is over, or never came to be.
    pub fn on_closed(&mut self, slot: u32, now: Instant, why: CloseReason) {
        let at = &mut self.slots[slot as usize];
        at.reply.reset(&mut self.heads);
        let state = std::mem::take(&mut at.state);
        at.generation = at.generation.wrapping_add(1);
        let went_well = state == State::Closing && why == CloseReason::Finished;
        if went_well {
            self.recorder.on_finished(now);
        } else if !matches!(state, State::Failing | State::Vacant) {
            self.recorder.on_errors(now, ErrorKind::of(why), 1);
        }
        if state != State::Vacant {
            self.retire(slot, now, went_well);
        }
    }

    fn retire(&mut self, slot: u32, now: Instant, went_well: bool) {
        if went_well || self.phase != Phase::Running {
            self.vacant.push(slot);
        } else {
            self.resting.push_back((now + RETRY_AFTER, slot));
        }
    }

    fn begin_due<O: Opener>(&mut self, now: Instant, opener: &mut O) {
        while let Some(&(until, slot)) = self.resting.front()
            && until <= now
        {
            self.resting.pop_front();
            self.vacant.push(slot);
        }
        let backlog = self.arrivals.as_mut().map_or(0, |arrivals| arrivals.shed(now));
        if backlog > 0 {
            self.recorder.on_errors(now, ErrorKind::Backlog, backlog);
        }
        let paced_opens = self.plan.workload.profile == Profile::Crr && self.arrivals.is_some();
        // Bounded, or slots that fail at once and are retired at once could keep this going.
        for _ in 0..self.vacant.len() {
            let started = if paced_opens { self.take_arrival(now) } else { Some(now) };
            // In this order: a slot that is taken and not opened would be lost.
            let Some(started) = started else { break };
            let Some(slot) = self.vacant.pop() else { break };
            self.open(slot, now, started, opener);
        }
        if !paced_opens {
            self.begin_ready(now, opener);
        }
    }

    /// The open loop on open connections.
    fn begin_ready<O: Opener>(&mut self, now: Instant, opener: &mut O) {
        while let Some(slot) = self.next_ready() {
            let Some(started) = self.take_arrival(now) else { break };
            self.ready.pop_front();
            if let Some(mut conn) = opener.conn(slot) {
                self.begin_exchange(slot, started, &mut conn);
            }
        }
    }

    /// The ready connection that has waited longest; those that have closed since are forgotten.
    fn next_ready(&mut self) -> Option<u32> {
        while let Some(&(slot, generation)) = self.ready.front() {
            let at = &self.slots[slot as usize];
            if at.state == State::Ready && at.generation == generation {
                return Some(slot);
            }
            self.ready.pop_front();
        }
        None
    }

    fn take_arrival(&mut self, now: Instant) -> Option<Instant> {
        self.arrivals.as_mut()?.take(now)
    }

    fn open<O: Opener>(&mut self, slot: u32, now: Instant, started: Instant, opener: &mut O) {
        let pick = |n: usize, k: u64| usize::try_from(k % n as u64).expect("below a length");
        let (targets, sources) = (&self.plan.targets, &self.plan.sources);
        let source = (!sources.is_empty()).then(|| sources[pick(sources.len(), self.opened)]);
        // Targets advance once per round of sources, so that every pair comes up.
        let round = self.opened / sources.len().max(1) as u64;
        let remote = targets[pick(targets.len(), round)];
        self.opened += 1;
        let at = &mut self.slots[slot as usize];
        (at.state, at.opened, at.started) = (State::Opening, now, started);
        if let Err(kind) = opener.open(slot, &Open { remote, source }) {
            self.recorder.on_errors(now, kind, 1);
            at.state = State::Vacant;
            self.retire(slot, now, false);
        }
    }

    fn begin_exchange<C: Conn>(&mut self, slot: u32, started: Instant, conn: &mut C) {
        let at = &mut self.slots[slot as usize];
        at.state = State::Busy;
        at.started = started;
        at.first_byte = None;
        at.sent = 0;
        at.reply.begin(&self.plan.workload);
        // A request is counted as sent when it begins; a stream when its octets are taken.
        self.send_request(slot, started, conn);
    }

    fn send_request<C: Conn>(&mut self, slot: u32, now: Instant, conn: &mut C) {
        let at = &mut self.slots[slot as usize];
        if self.plan.workload.is_stream() {
            if self.plan.workload.is_upwards() {
                self.send_stream(now, conn);
            }
        } else if at.sent < self.request.len() {
            let taken = conn.send(&self.request[at.sent..]);
            at.sent += taken;
            self.recorder.on_sent(now, taken);
        }
    }

    fn send_stream<C: Conn>(&mut self, now: Instant, conn: &mut C) {
        loop {
            let taken = conn.send(&self.request);
            self.recorder.on_sent(now, taken);
            if taken < self.request.len() {
                break;
            }
        }
    }

    fn become_ready<C: Conn>(&mut self, slot: u32, now: Instant, conn: &mut C) {
        let at = &mut self.slots[slot as usize];
        at.state = State::Ready;
        let generation = at.generation;
        if self.phase != Phase::Running {
            self.close(slot, conn);
        } else if let Some(started) = self.take_arrival(now) {
            self.begin_exchange(slot, started, conn);
        } else {
            self.ready.push_back((slot, generation));
        }
    }

    fn complete<C: Conn>(&mut self, slot: u32, now: Instant, conn: &mut C) {
        let at = &mut self.slots[slot as usize];
        if at.reply.is_success() {
            self.recorder.on_exchange(now, at.started, at.first_byte.unwrap_or(now));
        } else {
            self.recorder.on_errors(now, ErrorKind::HttpStatus, 1);
        }
        let workload = &self.plan.workload;
        if workload.profile == Profile::Crr {
            match workload.close {
                CloseSide::Client => self.close(slot, conn),
                CloseSide::Server => at.state = State::AwaitFin,
            }
        } else if !at.reply.keep_alive() || self.phase != Phase::Running {
            self.close(slot, conn);
        } else if self.arrivals.is_some() {
            self.become_ready(slot, now, conn);
        } else {
            self.begin_exchange(slot, now, conn);
        }
    }

    fn close<C: Conn>(&mut self, slot: u32, conn: &mut C) {
        self.slots[slot as usize].state = State::Closing;
        conn.close();
    }

    fn fail<C: Conn>(&mut self, slot: u32, now: Instant, kind: ErrorKind, conn: &mut C) {
        self.recorder.on_errors(now, kind, 1);
        self.slots[slot as usize].state = State::Failing;
        conn.abort();
    }
}

#[cfg(test)]
mod tests;
