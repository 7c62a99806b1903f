//! A segment for which there is no TCB: half-open, TIME-WAIT, a listener, or nobody.
#![forbid(unsafe_code)]

use super::app::App;
use super::arrive::{Outcome, env};
use super::batch::TxBatch;
use super::core::{Found, path};
use super::egress;
use super::engine::Engine;
use super::flows::{Mark, NewFlow};
use super::ingress::Link;
use super::listener::{Listener, ListenerId};
use crate::base::{Counter, DropReason, FlowKey, Seq};
use crate::tcp::{
    Arrival, Env, FlowOptions, HalfOpen, Origin, Outgoing, Segment, Tcb, TimeWait, TimeWaitVerdict, reset_for,
};
use crate::wire::Control;

impl Engine {
    pub(super) fn on_half_open(
        &mut self,
        index: u32,
        (key, hash): (&FlowKey, u64),
        link: Link,
        seg: &mut Segment<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let slot = self.core.half_open.at_mut(index);
        let listener = slot.listener();
        if slot.half.is_same_syn(seg) {
            slot.half.on_same_syn(seg);
            self.core.counters.add(Counter::Retransmits);
            self.send_syn_ack(index, key, self.core.origin(key, None), tx);
            return Ok(());
        }
        let options = &self.core.listeners[usize::from(listener.0)].listen.options;
        if slot.half.is_new_syn(seg, options) {
            // Beyond the old one, or an answer to the SYN-ACK that it sent would complete the new handshake.
            let floor = slot.half.iss() + 1;
            self.free_half_open(index);
            // Where an old incarnation set a floor it holds for this SYN too.
            return self.on_syn(listener, key, hash, link, seg, Some(floor), tx);
        }
        if !seg.has(Control::RST) {
            // Without room it stays half-open: the peer sends its ACK or text again.
            self.core.accepts(listener)?;
        }
        let origin = self.core.origin(key, None);
        let Listener { settings, ref listen, .. } = self.core.listeners[usize::from(listener.0)];
        let opening = self.core.opening(key, origin, &listen.options);
        let mut env = env!(self.core, self.recv);
        let half = &self.core.half_open.at(index).half;
        if !half.may_be_answered_by(seg, &opening, env.config) {
            return Err(DropReason::StaleEcho);
        }
        let mut arrival = Arrival::default();
        if seg.has(Control::RST) {
            // It opens nothing, and there may be no room.
            let mut tcb = Tcb::default();
            half.on_segment((&opening, settings), &mut tcb, seg, &mut arrival, &mut env);
            return self.not_opened(index, tcb.closed().is_some(), &arrival, (key, link), tx);
        }
        let (listener, scope_id) = (Some(listener), listen.options.scope_id);
        let new = NewFlow { key, link, scope_id, listener, user: 0, resolved: true, announced: false };
        let (id, tcb) = self.core.flows.insert(&new).expect("there is room, as seen above");
        half.on_segment((&opening, settings), tcb, seg, &mut arrival, &mut env);
        if !arrival.opened {
            let over = tcb.closed().is_some();
            self.core.flows.remove(id.index());
            return self.not_opened(index, over, &arrival, (key, link), tx);
        }
        let ecn = tcb.may_use_ecn();
        self.core.slot(id.index()).set(Mark::Ecn, ecn);
        self.core.shared.settings.hold(settings);
        self.remove_half_open(index);
        let (old, new) = (Found::HalfOpen(index), Found::Flow(id.index()));
        self.core.table.replace(hash, old.to_value(), new.to_value());
        self.after_arrival(id.index(), link, &arrival, app, tx);
        Ok(())
    }

    /// A segment has not established a half-open connection, and maybe ended it.
    #[inline(never)]
    fn not_opened(
        &mut self,
        index: u32,
        over: bool,
        arrival: &Arrival<'_>,
        (key, link): (&FlowKey, Link),
        tx: &mut impl TxBatch,
    ) -> Outcome {
        if over {
            self.free_half_open(index);
        } else if let Some(answer) = &arrival.reset {
            self.answer(link, key, answer, tx);
        }
        arrival.dropped.map_or(Ok(()), Err)
    }

    /// A half-open connection comes to nothing.
    pub(super) fn free_half_open(&mut self, index: u32) {
        let hash = self.core.hash.flow(&self.core.half_open.key(index));
        self.remove_half_open(index);
        self.core.table.remove(hash, Found::HalfOpen(index).to_value());
    }

    /// Takes a half-open connection out of every place but the flow table.
    fn remove_half_open(&mut self, index: u32) {
        let ListenerId(at) = self.core.half_open.at(index).listener();
        self.core.listeners[usize::from(at)].half_open -= 1;
        self.core.wheel.cancel(self.core.half_open_node(index));
        self.core.half_open.remove(index);
    }

    pub(super) fn on_time_wait(
        &mut self,
        index: u32,
        key: &FlowKey,
        hash: u64,
        link: Link,
        seg: &Segment<'_>,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let mut record = *self.core.time_wait.at(index);
        match self.time_wait_verdict(&record, seg, key) {
            TimeWaitVerdict::Ignore => return Err(DropReason::TimeWait),
            TimeWaitVerdict::Nobody => return self.on_nobody(key, hash, link, seg, tx),
            TimeWaitVerdict::Ack => self.core.time_wait.set(index, record.heard(seg)),
            TimeWaitVerdict::Refuse => self.core.counters.add(Counter::TimeWaitRefused),
            TimeWaitVerdict::Restart => record = self.restart_time_wait(index, hash, seg),
            TimeWaitVerdict::Challenge => {
                let per_second = self.core.config.tcp.challenge_acks_per_second;
                if !self.core.shared.challenge.allow(self.core.now, per_second) {
                    self.core.counters.add(Counter::ChallengeAcksLimited);
                    return Err(DropReason::TimeWait);
                }
                self.core.counters.add(Counter::ChallengeAcks);
            }
            TimeWaitVerdict::Reset => {
                self.core.counters.add(Counter::TimeWaitReset);
                self.core.time_wait.set(index, record.after_reset());
                return Ok(());
            }
            TimeWaitVerdict::Reopen { floor, by } => {
                let listener = self.core.listener_for(key).expect("the verdict was for a listener");
                self.core.admits(listener)?;
                self.core.counters.add(by);
                self.core.time_wait.remove(index);
                self.core.table.remove(hash, Found::TimeWait(index).to_value());
                return self.on_syn(listener, key, hash, link, seg, Some(floor), tx);
            }
        }
        let ack = record.ack(self.core.origin(key, None).timestamp_offset);
        self.answer(link, key, &ack, tx);
        Ok(())
    }

    /// A SYN reopens only for a listener; to anybody else it is a segment that does not belong here.
    fn time_wait_verdict(&self, record: &TimeWait, seg: &Segment<'_>, key: &FlowKey) -> TimeWaitVerdict {
        match record.on_segment(seg, self.core.config.tcp.rfc1337) {
            TimeWaitVerdict::Reopen { .. } if !self.core.is_listening(key) => {
                if record.is_reset() {
                    TimeWaitVerdict::Nobody
                } else {
                    TimeWaitVerdict::Refuse
                }
            }
            verdict => verdict,
        }
    }

    /// 2 MSL begin anew, if there is room for that; returns the record as it is now.
    fn restart_time_wait(&mut self, index: u32, hash: u64, seg: &Segment<'_>) -> TimeWait {
        let record = self.core.time_wait.at(index);
        let (heard, restarted) = (record.heard(seg), record.restarted(seg, self.core.now));
        let Some(new) = self.core.time_wait.restart(index, restarted) else {
            self.core.time_wait.set(index, heard);
            return heard;
        };
        let (old, new) = (Found::TimeWait(index), Found::TimeWait(new));
        self.core.table.replace(hash, old.to_value(), new.to_value());
        restarted
    }

    /// No connection has this tuple: LISTEN (RFC 9293 §3.10.7.2) or CLOSED (§3.10.7.1).
    pub(super) fn on_nobody(
        &mut self,
        key: &FlowKey,
        hash: u64,
        link: Link,
        seg: &Segment<'_>,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let lone_syn = !seg.has(Control::ACK | Control::RST | Control::FIN) && seg.has(Control::SYN);
        if lone_syn && let Some(listener) = self.core.listener_for(key) {
            return self.on_syn(listener, key, hash, link, seg, None, tx);
        }
        if !self.core.config.routes.is_ours(key) {
            return Err(DropReason::NotOurAddress);
        }
        if seg.has(Control::SYN) && seg.has(Control::FIN | Control::RST) {
            return Err(DropReason::BadFlags);
        }
        if let Some(reset) = self.core.refusal(key, seg)? {
            self.answer(link, key, &reset, tx);
        }
        Err(DropReason::NoListener)
    }

    #[expect(clippy::too_many_arguments, reason = "all of one SYN's facts; a struct would be used once")]
    fn on_syn(
        &mut self,
        listener: ListenerId,
        key: &FlowKey,
        hash: u64,
        link: Link,
        seg: &Segment<'_>,
        floor: Option<Seq>,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        if self.core.listeners[usize::from(listener.0)].draining {
            let refusal = reset_for(seg).expect("a SYN is no RST");
            self.answer(link, key, &refusal, tx);
            return Err(DropReason::ListenerDraining);
        }
        if key.is_to_itself() {
            return Err(DropReason::BadSource);
        }
        self.core.admits(listener)?;
        let origin = self.core.origin(key, floor);
        let half = HalfOpen::new(seg, origin.isn, self.core.now).owned_by(listener.0, key.is_ipv4());
        let index = self.core.half_open.insert(half, key, link).ok_or(DropReason::HalfOpenFull)?;
        if !self.core.table.insert(hash, Found::HalfOpen(index).to_value()) {
            self.core.half_open.remove(index);
            return Err(DropReason::FlowTableFull);
        }
        self.core.listeners[usize::from(listener.0)].half_open += 1;
        self.core.counters.add(Counter::PassiveOpens);
        self.arm_half_open(index);
        self.send_syn_ack(index, key, origin, tx);
        Ok(())
    }

    /// Sets the timer of a SYN-ACK that is being sent.
    pub(super) fn arm_half_open(&mut self, index: u32) {
        let slot = self.core.half_open.at(index);
        let deadline = slot.half.deadline(self.core.now, &self.core.config.tcp);
        self.core.wheel.set(self.core.half_open_node(index), deadline);
    }

    /// Sends the SYN-ACK, for the first time or again; of `origin` it is the timestamps that count.
    pub(super) fn send_syn_ack(&mut self, index: u32, key: &FlowKey, origin: Origin, tx: &mut impl TxBatch) {
        let slot = self.core.half_open.at(index);
        let (link, ListenerId(at)) = (slot.link(), slot.listener());
        let options = self.core.listeners[usize::from(at)].listen.options;
        let opening = self.core.opening(key, origin, &options);
        let out = slot.half.syn_ack(&opening, &options, &self.core.config.tcp);
        self.emit(&path(link, &options), key, &out, tx);
    }

    /// Sends a segment that belongs to no TCB back to where a frame came from.
    pub(super) fn answer(&mut self, link: Link, key: &FlowKey, out: &Outgoing, tx: &mut impl TxBatch) {
        self.emit(&path(link, &FlowOptions::default()), key, out, tx);
    }

    fn emit(&mut self, path: &egress::Path, key: &FlowKey, out: &Outgoing, tx: &mut impl TxBatch) {
        let counters = &mut self.core.counters;
        let Some(frame) = tx.reserve() else {
            counters.add(Counter::TxFull);
            return;
        };
        let len = egress::write_any(frame, self.core.config.mac, path, key, out, None);
        tx.commit(len);
        counters.add(Counter::SegmentsOut);
        counters.add(Counter::FramesOut);
        counters.add_n(Counter::OctetsOut, len as u64);
        if out.ctl.intersects(Control::RST) {
            counters.add(Counter::RstsOut);
        }
    }
}
