//! The end of a turn: kept text and news to the application, segments to the wire, ends of connections.
#![forbid(unsafe_code)]

use super::app::{App, Flow};
use super::arrive::env;
use super::batch::TxBatch;
use super::core::{Core, Found};
use super::egress::{self, Path, Source};
use super::engine::Engine;
use super::flows::Mark;
use super::time_wait::Popped;
use crate::base::{Counter, FlowKey, Instant};
use crate::tcp::{CloseReason, Env, Report, State, TimeWait};
use crate::wire::Control;

/// How far a flow's output came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Output {
    /// There is nothing more to send.
    Done,
    /// Its share of the turn is used up.
    Again,
    /// No frame is free.
    Full,
    /// The neighbour's link address is not known.
    Unresolved,
}

/// Whether `armed` comes in less than half of the time in which `deadline` does; so what moves on with every
/// segment is found out rarely.
fn is_far_before(armed: Instant, deadline: Instant, now: Instant) -> bool {
    let [armed, deadline] = [armed, deadline].map(|at| at.as_nanos().saturating_sub(now.as_nanos()));
    armed < deadline / 2
}

impl Engine {
    /// Flows served in one call at most, so that a turn ends whatever callbacks do.
    const SERVED_MAX: u32 = 4_096;

    /// Serves flows that have something to deliver or to send, until none has or no frame is free.
    pub(super) fn serve(&mut self, app: &mut impl App, tx: &mut impl TxBatch) {
        let mut again = 0;
        self.core.feed_starved();
        for _ in 0..Self::SERVED_MAX {
            // Flows that used up their share wait for the next turn at the queue's end.
            if self.core.ready.len() <= again {
                return;
            }
            let Some(index) = self.core.ready.pop_front() else { return };
            // It counts as queued until its output is done, so that what its callbacks ask for does not
            // queue it again.
            self.deliver(index, app);
            match self.output(index, tx) {
                Output::Done => self.settle(index, app),
                Output::Unresolved => {
                    self.core.slot(index).set(Mark::Queued, false);
                    self.arm(index);
                }
                Output::Again => {
                    self.core.ready.push_back(index);
                    again += 1;
                }
                Output::Full => {
                    self.core.counters.add(Counter::TxFull);
                    self.core.ready.push_front(index);
                    return;
                }
            }
        }
    }

    /// Like [`Engine::serve`], after calls for which nobody looked ahead.
    pub(super) fn serve_unforeseen(&mut self, app: &mut impl App, tx: &mut impl TxBatch) {
        if self.core.flows.outgrow_caches() {
            self.look_ahead_at_ready();
        }
        self.serve(app, tx);
    }

    /// Callbacks that do not come straight from a segment. Each kind comes before those that it may lead
    /// to: a writable user may resume reading, and whoever has read everything is told of the FIN.
    #[inline(always)]
    fn deliver(&mut self, index: u32, app: &mut impl App) {
        let slot = self.core.slot(index);
        if slot.is(Mark::Announced) && !slot.tcb.may_have_news() {
            return;
        }
        if !slot.is(Mark::Announced) {
            if !matches!(slot.tcb.state(), State::SynReceived | State::SynSent) && slot.tcb.closed().is_none()
            {
                self.announce(index, app);
            }
            if !self.core.slot(index).is(Mark::Announced) {
                return;
            }
            // It came while the connection waited to be accepted.
            if let Some(ahead) = self.core.flows.at(index).tcb.urgent(&self.core.shared) {
                app.on_report(&mut Flow::new(&mut self.core, index), Report::Urgent { ahead });
            }
        }
        // Without chunks there is no room, whatever the connection's own bound says.
        if self.core.shared.send.free_count() == 0 {
            if self.core.slot(index).tcb.wants_room() {
                self.core.mark_starved(index);
            }
        } else if self.is_writable(index) {
            app.on_writable(&mut Flow::new(&mut self.core, index));
        }
        while self.core.slot(index).tcb.has_readable() {
            let Core { flows, shared, .. } = &mut self.core;
            let kept = flows.at(index).tcb.front(&self.recv, shared);
            let len = kept.len();
            let read = app.on_data(&mut Flow::new(&mut self.core, index), kept).min(len);
            let Core { flows, counters, shared, .. } = &mut self.core;
            let tcb = &mut flows.at_mut(index).tcb;
            if read < len {
                tcb.set_paused(true);
            }
            tcb.consumed(u32::try_from(read).expect("a chunk's octets"), &mut self.recv, shared, counters);
        }
        if self.core.slot(index).tcb.take_fin() {
            app.on_fin(&mut Flow::new(&mut self.core, index));
        }
    }

    fn is_writable(&mut self, index: u32) -> bool {
        self.core.flows.at_mut(index).tcb.take_writable(&self.core.shared)
    }

    /// Segments, as many as the flow's share allows.
    #[inline(always)]
    fn output(&mut self, index: u32, tx: &mut impl TxBatch) -> Output {
        let slot = self.core.slot(index);
        if !slot.is(Mark::Resolved) {
            let over = slot.tcb.closed().is_some();
            let remote = self.core.flows.key(index).remote();
            let Some(mac) = self.core.resolve(&remote) else {
                return if over { Output::Done } else { Output::Unresolved };
            };
            self.core.slot(index).resolve(mac);
        }
        for _ in 0..self.core.config.limits.output_burst {
            let slot = self.core.flows.at_mut(index);
            if !slot.tcb.may_have_output() {
                return Output::Done;
            }
            let Some(frame) = tx.reserve() else { return Output::Full };
            let written = if slot.tcb.is_steady() && !slot.is(Mark::Ecn) {
                self.write_steady(index, frame)
            } else {
                self.write_any(index, frame)
            };
            let Some(len) = written else { return Output::Done };
            tx.commit(len);
            self.core.counters.add(Counter::SegmentsOut);
            self.core.counters.add(Counter::FramesOut);
            self.core.counters.add_n(Counter::OctetsOut, len as u64);
        }
        Output::Again
    }

    /// The next segment of an open connection, with nothing unusual about it; returns its frame's length.
    #[inline(always)]
    fn write_steady(&mut self, index: u32, frame: &mut [u8]) -> Option<usize> {
        let slot = self.core.flows.at_mut(index);
        let out = slot.tcb.poll_steady(&mut env!(self.core, self.recv))?;
        let ours = self.core.config.mac;
        let (path, key, source) = self.source(index);
        Some(egress::write(frame, ours, &path, &key, &out, source))
    }

    /// The next segment of any connection; returns its frame's length.
    #[inline(never)]
    fn write_any(&mut self, index: u32, frame: &mut [u8]) -> Option<usize> {
        let slot = self.core.flows.at_mut(index);
        let out = slot.tcb.poll_segment(&mut env!(self.core, self.recv));
        // It stays where it was made: a copy would be read in other pieces than it was written in.
        let out = out.as_ref()?;
        if out.ctl.intersects(Control::RST) {
            self.core.counters.add(Counter::RstsOut);
        }
        let ours = self.core.config.mac;
        let (path, key, source) = self.source(index);
        Some(egress::write_any(frame, ours, &path, &key, out, Some(source)))
    }

    /// What is in the headers of all of the flow's packets, and where the rest comes from.
    #[inline(always)]
    fn source(&mut self, index: u32) -> (Path, FlowKey, Source<'_>) {
        let key = self.core.flows.key(index);
        let slot = self.core.flows.at_mut(index);
        let path = slot.path(&self.core.shared);
        (path, key, Source { tcb: &mut slot.tcb, recv: &self.recv, shared: &mut self.core.shared })
    }

    /// Nothing is left to send now: ends the connection if it is over, else sets its timer.
    #[inline(always)]
    fn settle(&mut self, index: u32, app: &mut impl App) {
        let slot = self.core.slot(index);
        let over = match (slot.tcb.closed(), slot.tcb.state()) {
            (None, State::TimeWait) => Some(CloseReason::Finished),
            (closed, _) => closed,
        };
        match over {
            // Whoever paused reads the rest first, though the peer has nothing more to say.
            Some(why) if !slot.tcb.has_unread() => self.end(index, why, app),
            _ => {
                slot.set(Mark::Queued, false);
                self.arm(index);
            }
        }
    }

    /// The wheel learns of an earlier deadline; a later one is found out when the old one passes.
    #[inline(always)]
    fn arm(&mut self, index: u32) {
        let Core { flows, wheel, clock, now, shared, .. } = &mut self.core;
        let tcb = &flows.at(index).tcb;
        let deadline = tcb.deadline(&*clock).min(tcb.due(&*clock, shared));
        let armed = wheel.deadline(index);
        if deadline != Instant::NEVER && armed.is_none_or(|armed| deadline < armed) {
            wheel.set(index, deadline);
        } else if flows.outgrow_caches() && armed.is_some_and(|armed| is_far_before(armed, deadline, *now)) {
            // By the time the old one passes, the connection is in no cache any more.
            wheel.set_eagerly(index, deadline);
        }
    }

    /// The connection is over for its user; in TIME-WAIT a record of it stays.
    fn end(&mut self, index: u32, why: CloseReason, app: &mut impl App) {
        // As it was before the callback, which may still call what it likes.
        let rests = self.core.slot(index).tcb.closed().is_none();
        if self.core.slot(index).is(Mark::Announced) {
            app.on_close(&mut Flow::new(&mut self.core, index), why);
        }
        self.stop_waiting(index);
        if self.core.slot(index).is(Mark::Starved) {
            self.core.starved.retain(|&starved| starved != index);
        }
        let slot = self.core.flows.at_mut(index);
        slot.tcb.release(&mut self.recv, &mut self.core.shared);
        self.core.wheel.cancel(index);
        self.core.counters.add(Counter::Closed);
        let key = self.core.flows.key(index);
        let hash = self.core.hash.flow(&key);
        let old = Found::Flow(index).to_value();
        if rests || self.core.flows.at(index).tcb.is_waiting_to_follow() {
            self.remember(index, key, hash, old);
        } else {
            self.core.table.remove(hash, old);
        }
        self.core.flows.remove(index);
    }

    /// Makes the TIME-WAIT record of the flow in slot `index`, in whose place it goes; when there is no room
    /// the oldest goes.
    fn remember(&mut self, index: u32, key: FlowKey, hash: u64, old: u32) -> bool {
        if self.core.time_wait.room() == 0 {
            let evicted = self.core.time_wait.pop_oldest();
            if self.forget(evicted) {
                self.core.counters.add(Counter::TimeWaitEvicted);
            }
        }
        let record = TimeWait::new(&self.core.flows.at(index).tcb, self.core.now);
        let Some(index) = self.core.time_wait.push(record, &key) else {
            return self.core.table.remove(hash, old);
        };
        self.core.counters.add(Counter::TimeWaitCreated);
        self.core.table.replace(hash, old, Found::TimeWait(index).to_value())
    }

    /// Takes what left the ring out of the flow table; `false` when it was not there any more.
    fn forget(&mut self, popped: Option<Popped>) -> bool {
        let Some(Popped::Live(index, key)) = popped else { return false };
        self.core.table.remove(self.core.hash.flow(&key), Found::TimeWait(index).to_value())
    }

    /// 2 MSL have passed for at most `budget` records.
    pub(super) fn expire_time_wait(&mut self, budget: u32) {
        for _ in 0..budget {
            let popped = self.core.time_wait.pop_expired(self.core.now);
            if popped.is_none() {
                return;
            }
            if self.forget(popped) {
                self.core.counters.add(Counter::TimeWaitExpired);
            }
        }
    }

    /// A flow's node in the wheel fired: some deadline may have passed.
    pub(super) fn on_flow_timers(&mut self, index: u32, app: &mut impl App) {
        let slot = self.core.flows.at_mut(index);
        let expired = slot.tcb.on_timers(&mut env!(self.core, self.recv));
        self.core.mark_ready(index);
        if !self.core.slot(index).is(Mark::Announced) {
            return;
        }
        if let Some(report) = expired.report {
            app.on_report(&mut Flow::new(&mut self.core, index), report);
        }
        if expired.app {
            app.on_timer(&mut Flow::new(&mut self.core, index));
        }
    }

    /// A SYN-ACK went unanswered.
    pub(super) fn on_half_open_timer(&mut self, index: u32, tx: &mut impl TxBatch) {
        let slot = self.core.half_open.at_mut(index);
        if slot.half.retry(&self.core.config.tcp) {
            self.core.counters.add(Counter::Retransmits);
            self.arm_half_open(index);
            let key = self.core.half_open.key(index);
            self.send_syn_ack(index, &key, self.core.origin(&key, None), tx);
        } else {
            self.core.counters.add(Counter::HalfOpenExpired);
            self.free_half_open(index);
        }
    }
}
