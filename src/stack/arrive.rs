//! A frame's way to its connection: flow, half-open, TIME-WAIT, listener, or nobody.
#![forbid(unsafe_code)]

use super::app::{App, Flow};
use super::batch::{RxBatch, TxBatch};
use super::core::{Found, path};
use super::egress;
use super::engine::Engine;
use super::flows::{Mark, NewFlow};
use super::ingress::{self, Link, Packet, TcpPacket};
use super::listener::ListenerId;
use super::plain;
use crate::base::{Counter, DropReason, FlowKey, Seq};
use crate::tcp::{
    Arrival, Env, FlowOptions, HalfOpen, IcmpMeaning, Origin, Outgoing, Report, Segment, TimeWait,
    TimeWaitVerdict, reset_for,
};
use crate::wire::Control;

type Outcome = Result<(), DropReason>;

/// What a TCB may touch, out of an engine's separate parts.
macro_rules! env {
    ($core:expr, $recv:expr) => {
        Env {
            now: &$core.clock,
            config: &$core.config.tcp,
            send: &mut $core.send,
            recv: &mut $recv,
            counters: &mut $core.counters,
            challenge: &mut $core.challenge,
            shared: &mut $core.shared,
        }
    };
}
pub(super) use env;

/// Frames whose records are asked for together.
pub(super) const LOOK_AHEAD: usize = 32;

impl Engine {
    /// Reads the table and then the records for the frames of `rx` from `first` on, so that the processor waits
    /// for all of them at once and not for each in turn.
    pub(super) fn look_ahead<R: RxBatch + ?Sized>(&self, rx: &R, first: usize) {
        let mut found = [None; LOOK_AHEAD];
        for (i, found) in (first..rx.len()).zip(&mut found) {
            let key = plain::key(rx.frame(i));
            *found = key.and_then(|key| Some((key, self.core.table.first(self.core.hash.flow(&key))?)));
        }
        let hits = found.iter().flatten().filter(|(key, value)| self.core.has_key(*value, key)).count();
        // Nobody wants the number, only that it was counted.
        ::core::hint::black_box(hits);
    }

    /// One frame; an error is why it went no further.
    pub(super) fn on_frame(&mut self, frame: &[u8], app: &mut impl App, tx: &mut impl TxBatch) -> Outcome {
        let verify = self.core.config.verify_checksums;
        if let Some(packet) = plain::parse(frame, verify) {
            return self.on_tcp(frame, packet, app, tx);
        }
        let (key, meaning, seq) = match ingress::parse(frame, verify)? {
            Packet::Tcp(packet) => return self.on_any(frame, packet, app, tx),
            Packet::Icmp { key, meaning, seq } => (key, meaning, seq),
        };
        match self.core.find(&key, self.core.hash.flow(&key)) {
            Some(Found::Flow(index)) => self.on_icmp(index, meaning, seq, app),
            None if self.is_strays(&key) => self.hand_over(&key, frame, tx),
            _ => Err(DropReason::IcmpUnmatched),
        }
    }

    #[inline(always)]
    fn on_tcp(
        &mut self,
        frame: &[u8],
        packet: TcpPacket<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let TcpPacket { link, key, seg } = packet;
        let hash = self.core.hash.flow(&key);
        let found = self.core.find(&key, hash);
        if let Some(Found::Flow(index)) = found {
            self.core.counters.add(Counter::SegmentsIn);
            if self.core.flows.at(index).tcb.is_predicted(&seg) {
                self.on_predicted(index, link, &seg, app);
                return Ok(());
            }
            return self.on_flow(index, link, seg, app, tx);
        }
        self.on_no_flow(frame, packet, hash, found, app, tx)
    }

    /// A segment in a frame of any kind.
    #[inline(never)]
    fn on_any(
        &mut self,
        frame: &[u8],
        packet: TcpPacket<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        self.on_tcp(frame, packet, app, tx)
    }

    /// A segment for which there is no TCB.
    ///
    /// Here and below, segments come by value: one that is never referred to need never be in memory on the way
    /// that most of them take.
    #[inline(never)]
    fn on_no_flow(
        &mut self,
        frame: &[u8],
        packet: TcpPacket<'_>,
        hash: u64,
        found: Option<Found>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let TcpPacket { link, key, seg } = &packet;
        if found.is_none() && self.is_strays(key) {
            return self.hand_over(key, frame, tx);
        }
        self.core.counters.add(Counter::SegmentsIn);
        match found {
            Some(Found::HalfOpen(index)) => self.on_half_open(index, (key, hash), *link, seg, app, tx),
            Some(Found::TimeWait(index)) => self.on_time_wait(index, *key, hash, *link, seg, tx),
            Some(Found::Flow(_)) | None => self.on_nobody(*key, hash, *link, seg, tx),
        }
    }

    /// The next segment of an open connection, with nothing unusual about it.
    #[inline(always)]
    fn on_predicted(&mut self, index: u32, link: Link, seg: &Segment<'_>, app: &mut impl App) {
        let slot = self.core.flows.at_mut(index);
        slot.tcb.take_predicted(seg, &mut env!(self.core, self.recv));
        if slot.listener().is_some() {
            slot.follow(link);
        }
        self.core.mark_ready(index);
        if seg.text.is_empty() {
            return;
        }
        let slot = self.core.flows.at_mut(index);
        let mut consumed = 0;
        if slot.is(Mark::Announced) && slot.tcb.is_reading() {
            consumed = app.on_data(&mut Flow::new(&mut self.core, index), seg.text);
        }
        let slot = self.core.flows.at_mut(index);
        if consumed < seg.text.len() || !slot.tcb.accept_read(seg.text, &mut env!(self.core, self.recv)) {
            self.accept(index, seg.text, consumed);
        }
    }

    /// Gives text to a connection, of which the application has taken `consumed` octets.
    #[inline(never)]
    fn accept(&mut self, index: u32, text: &[u8], consumed: usize) {
        let slot = self.core.flows.at_mut(index);
        if consumed < text.len() && slot.is(Mark::Announced) && slot.tcb.is_reading() {
            slot.tcb.set_paused(true);
        }
        slot.tcb.accept_text(text, consumed, &mut env!(self.core, self.recv));
    }

    /// Whether another worker owns this flow.
    fn is_strays(&self, key: &FlowKey) -> bool {
        self.core.config.owners.owner(key) != self.core.config.worker
    }

    fn hand_over(&mut self, key: &FlowKey, frame: &[u8], tx: &mut impl TxBatch) -> Outcome {
        if !tx.hand_over(self.core.config.owners.owner(key), frame) {
            return Err(DropReason::HandOverFull);
        }
        self.core.counters.add(Counter::HandedOver);
        Ok(())
    }

    #[inline(never)]
    fn on_flow(
        &mut self,
        index: u32,
        link: Link,
        seg: Segment<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let slot = self.core.flows.at_mut(index);
        if slot.tcb.closed().is_some() {
            // It is over and goes at the end of this turn, or when the rest of its text was read.
            return Err(DropReason::NoListener);
        }
        let arrival = slot.tcb.on_segment(&seg, &mut env!(self.core, self.recv));
        if slot.listener().is_some() && arrival.dropped.is_none() {
            // A passive side answers to wherever its peer is now.
            slot.follow(link);
        }
        self.after_arrival(index, link, &arrival, app, tx);
        Ok(())
    }

    /// Tells the application what a segment brought, and gives the text to the connection.
    #[inline(always)]
    fn after_arrival(
        &mut self,
        index: u32,
        link: Link,
        arrival: &Arrival<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) {
        self.core.mark_ready(index);
        if let Some(reset) = &arrival.reset {
            let key = self.core.flows.key(index);
            self.answer(link, &key, reset, tx);
        }
        if arrival.opened && self.core.slot(index).tcb.closed().is_none() {
            self.announce(index, app);
        }
        if let Some(reason) = arrival.dropped {
            self.core.counters.add_drop(reason);
            return;
        }
        let mut consumed = 0;
        let slot = self.core.slot(index);
        if !arrival.text.is_empty() && slot.is(Mark::Announced) && slot.tcb.is_reading() {
            consumed = app.on_data(&mut Flow::new(&mut self.core, index), arrival.text);
        }
        if self.core.slot(index).tcb.has_to_accept(arrival.text) {
            self.accept(index, arrival.text, consumed);
        }
        if let Some(ahead) = arrival.urgent
            && self.core.slot(index).is(Mark::Announced)
        {
            app.on_report(&mut Flow::new(&mut self.core, index), Report::Urgent { ahead });
        }
    }

    /// ESTABLISHED: the application learns of it, unless its listener makes it wait.
    pub(super) fn announce(&mut self, index: u32, app: &mut impl App) {
        let listener = self.core.slot(index).listener();
        match listener {
            None => app.on_connect(&mut Flow::new(&mut self.core, index)),
            Some(ListenerId(at)) if self.core.listeners[usize::from(at)].paused => {
                if !self.core.slot(index).replace(Mark::Waiting, true) {
                    self.core.listeners[usize::from(at)].waiting.push_back(index);
                }
            }
            Some(_) => {
                self.stop_waiting(index);
                self.core.slot(index).set(Mark::Announced, true);
                app.on_accept(&mut Flow::new(&mut self.core, index));
            }
        }
    }

    /// Takes a connection out of its listener's queue, if it is there; it is the first, or it ended.
    #[inline]
    pub(super) fn stop_waiting(&mut self, index: u32) {
        let slot = self.core.slot(index);
        if slot.is(Mark::Waiting) {
            self.leave_queue(index);
        }
    }

    #[cold]
    fn leave_queue(&mut self, index: u32) {
        let slot = self.core.slot(index);
        if let Some(ListenerId(at)) = slot.listener()
            && slot.replace(Mark::Waiting, false)
        {
            let waiting = &mut self.core.listeners[usize::from(at)].waiting;
            if let Some(nth) = waiting.iter().position(|&waiting| waiting == index) {
                waiting.remove(nth);
            }
        }
    }

    fn on_icmp(&mut self, index: u32, meaning: IcmpMeaning, seq: Seq, app: &mut impl App) -> Outcome {
        let slot = self.core.flows.at_mut(index);
        let report = slot.tcb.on_icmp(meaning, seq, &mut env!(self.core, self.recv))?;
        self.core.mark_ready(index);
        if let Some(report) = report
            && self.core.slot(index).is(Mark::Announced)
        {
            app.on_report(&mut Flow::new(&mut self.core, index), report);
        }
        Ok(())
    }

    fn on_half_open(
        &mut self,
        index: u32,
        (key, hash): (&FlowKey, u64),
        link: Link,
        seg: &Segment<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let slot = self.core.half_open.at_mut(index);
        let listener = slot.listener();
        if slot.half.is_same_syn(seg) {
            slot.half.answer_again();
            self.core.counters.add(Counter::Retransmits);
            self.send_syn_ack(index, key, self.core.origin(key, None), tx);
            return Ok(());
        }
        if slot.half.is_new_syn(seg) {
            let floor = slot.half.iss();
            self.free_half_open(index);
            // Where an old incarnation set a floor it holds for this SYN too.
            return self.on_syn(listener, *key, hash, link, seg, Some(floor), tx);
        }
        if !seg.has(Control::RST) {
            // Without room it stays half-open: the peer sends its ACK or text again.
            self.core.accepts(listener)?;
        }
        let settings = self.core.listeners[usize::from(listener.0)].settings;
        let opening = self.core.opening(key, self.core.origin(key, None));
        let mut env = env!(self.core, self.recv);
        let slot = self.core.half_open.at(index);
        let mut tcb = slot.half.to_tcb(&opening, settings, &env);
        let arrival = tcb.on_segment(seg, &mut env);
        if !arrival.opened {
            let answer = arrival.reset.or_else(|| tcb.poll_segment(&mut env));
            if tcb.closed().is_some() {
                self.free_half_open(index);
            } else if let Some(answer) = answer {
                self.answer(link, key, &answer, tx);
            }
            return arrival.dropped.map_or(Ok(()), Err);
        }
        self.core.shared.settings.hold(settings);
        let scope_id = self.core.listeners[usize::from(listener.0)].listen.options.scope_id;
        let listener = Some(listener);
        let new = NewFlow { tcb, key, link, scope_id, listener, user: 0, resolved: true, announced: false };
        let id = self.core.flows.insert(new).expect("there is room, as seen above");
        self.remove_half_open(index);
        let (old, new) = (Found::HalfOpen(index), Found::Flow(id.index()));
        self.core.table.replace(hash, old.to_value(), new.to_value());
        self.after_arrival(id.index(), link, &arrival, app, tx);
        Ok(())
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

    fn on_time_wait(
        &mut self,
        index: u32,
        key: FlowKey,
        hash: u64,
        link: Link,
        seg: &Segment<'_>,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let mut record = *self.core.time_wait.at(index);
        match self.time_wait_verdict(&record, seg, &key) {
            TimeWaitVerdict::Ignore => return Err(DropReason::TimeWait),
            TimeWaitVerdict::Nobody => return self.on_nobody(key, hash, link, seg, tx),
            TimeWaitVerdict::Ack => self.core.time_wait.set(index, record.heard(seg)),
            TimeWaitVerdict::Refuse => self.core.counters.add(Counter::TimeWaitRefused),
            TimeWaitVerdict::Restart => record = self.restart_time_wait(index, hash, seg),
            TimeWaitVerdict::Challenge => {
                let per_second = self.core.config.tcp.challenge_acks_per_second;
                if !self.core.challenge.allow(self.core.now, per_second) {
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
                let listener = self.core.listener_for(&key).expect("the verdict was for a listener");
                self.core.admits(listener)?;
                self.core.counters.add(by);
                self.core.time_wait.remove(index);
                self.core.table.remove(hash, Found::TimeWait(index).to_value());
                return self.on_syn(listener, key, hash, link, seg, Some(floor), tx);
            }
        }
        let ack = record.ack(self.core.origin(&key, None).timestamp_offset);
        self.answer(link, &key, &ack, tx);
        Ok(())
    }

    /// A SYN reopens only for a listener; to anybody else it is a segment that does not belong here.
    fn time_wait_verdict(&self, record: &TimeWait, seg: &Segment<'_>, key: &FlowKey) -> TimeWaitVerdict {
        match record.on_segment(seg, self.core.config.tcp.rfc1337) {
            TimeWaitVerdict::Reopen { .. } if self.core.listener_for(key).is_none() => {
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
    fn on_nobody(
        &mut self,
        key: FlowKey,
        hash: u64,
        link: Link,
        seg: &Segment<'_>,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let lone_syn = !seg.has(Control::ACK | Control::RST | Control::FIN) && seg.has(Control::SYN);
        if lone_syn && let Some(listener) = self.core.listener_for(&key) {
            return self.on_syn(listener, key, hash, link, seg, None, tx);
        }
        if !self.core.config.routes.is_local(key.local()) {
            return Err(DropReason::NotOurAddress);
        }
        if seg.has(Control::SYN) && seg.has(Control::FIN | Control::RST) {
            return Err(DropReason::BadFlags);
        }
        if let Some(reset) = reset_for(seg) {
            self.answer(link, &key, &reset, tx);
        }
        Err(DropReason::NoListener)
    }

    #[expect(clippy::too_many_arguments, reason = "all of one SYN's facts; a struct would be used once")]
    fn on_syn(
        &mut self,
        listener: ListenerId,
        key: FlowKey,
        hash: u64,
        link: Link,
        seg: &Segment<'_>,
        floor: Option<Seq>,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        if self.core.listeners[usize::from(listener.0)].draining {
            let refusal = reset_for(seg).expect("a SYN is no RST");
            self.answer(link, &key, &refusal, tx);
            return Err(DropReason::ListenerDraining);
        }
        if key.local_addr() == key.remote_addr() {
            return Err(DropReason::BadSource);
        }
        self.core.admits(listener)?;
        let origin = self.core.origin(&key, floor);
        let half = HalfOpen::new(seg, origin.isn, self.core.now).owned_by(listener.0, key.is_ipv4());
        let index = self.core.half_open.insert(half, &key, link).ok_or(DropReason::HalfOpenFull)?;
        if !self.core.table.insert(hash, Found::HalfOpen(index).to_value()) {
            self.core.half_open.remove(index);
            return Err(DropReason::FlowTableFull);
        }
        self.core.listeners[usize::from(listener.0)].half_open += 1;
        self.core.counters.add(Counter::PassiveOpens);
        self.arm_half_open(index);
        self.send_syn_ack(index, &key, origin, tx);
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
        let opening = self.core.opening(key, origin);
        let out = slot.half.syn_ack(&opening, &options, &self.core.config.tcp);
        self.emit(&path(link, &options), key, &out, tx);
    }

    /// Sends a segment that belongs to no TCB back to where a frame came from.
    fn answer(&mut self, link: Link, key: &FlowKey, out: &Outgoing, tx: &mut impl TxBatch) {
        self.emit(&path(link, &FlowOptions::default()), key, out, tx);
    }

    fn emit(&mut self, path: &egress::Path, key: &FlowKey, out: &Outgoing, tx: &mut impl TxBatch) {
        let counters = &mut self.core.counters;
        let Some(frame) = tx.reserve() else {
            counters.add(Counter::TxFull);
            return;
        };
        let len = egress::write(frame, self.core.config.mac, path, key, out, None);
        tx.commit(len);
        counters.add(Counter::SegmentsOut);
        counters.add(Counter::FramesOut);
        counters.add_n(Counter::OctetsOut, len as u64);
        if out.ctl.intersects(Control::RST) {
            counters.add(Counter::RstsOut);
        }
    }
}
