//! A frame's way to its connection: flow, half-open, TIME-WAIT, listener, or nobody.
#![forbid(unsafe_code)]

use super::app::{App, Flow};
use super::batch::TxBatch;
use super::core::Found;
use super::engine::Engine;
use super::flows::Mark;
use super::ingress::{self, Link, Packet, TcpPacket};
use super::listener::ListenerId;
use super::plain::Plain;
use crate::base::{Counter, DropReason, FlowKey, Seq};
use crate::tcp::{Arrival, Env, IcmpMeaning, Report, Segment};

/// What became of a frame; an error is why it went no further.
pub(super) type Outcome = Result<(), DropReason>;

/// What a TCB may touch, out of an engine's separate parts.
macro_rules! env {
    ($core:expr, $recv:expr) => {
        Env {
            now: &$core.clock,
            config: &$core.config.tcp,
            recv: &mut $recv,
            counters: &mut $core.counters,
            shared: &mut $core.shared,
        }
    };
}
pub(super) use env;

impl Engine {
    /// One frame; an error is why it went no further.
    pub(super) fn on_frame(&mut self, frame: &[u8], app: &mut impl App, tx: &mut impl TxBatch) -> Outcome {
        let verify = self.core.config.verify_checksums;
        if let Some(plain) = Plain::parse(frame, verify) {
            return self.on_tcp(frame, &mut plain.packet(), app, tx);
        }
        let (key, meaning, seq) = match ingress::parse(frame, verify)? {
            Packet::Tcp(mut packet) => return self.on_any(frame, &mut packet, app, tx),
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
        packet: &mut TcpPacket<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let TcpPacket { link, key, seg } = packet;
        let hash = self.core.hash.flow(key);
        let found = self.core.find(key, hash);
        if let Some(Found::Flow(index)) = found {
            self.core.counters.add(Counter::SegmentsIn);
            if self.core.flows.at(index).tcb.is_predicted(seg) {
                self.on_predicted(index, *link, seg, app);
                return Ok(());
            }
            return self.on_flow(index, *link, seg, app, tx);
        }
        self.on_no_flow(frame, packet, hash, found, app, tx)
    }

    /// A segment in a frame of any kind.
    #[inline(never)]
    fn on_any(
        &mut self,
        frame: &[u8],
        packet: &mut TcpPacket<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        self.on_tcp(frame, packet, app, tx)
    }

    /// A segment for which there is no TCB.
    #[inline(never)]
    fn on_no_flow(
        &mut self,
        frame: &[u8],
        packet: &mut TcpPacket<'_>,
        hash: u64,
        found: Option<Found>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let TcpPacket { link, key, seg } = packet;
        if found.is_none() && self.is_strays(key) {
            return self.hand_over(key, frame, tx);
        }
        self.core.counters.add(Counter::SegmentsIn);
        match found {
            Some(Found::HalfOpen(index)) => self.on_half_open(index, (key, hash), *link, seg, app, tx),
            Some(Found::TimeWait(index)) => self.on_time_wait(index, key, hash, *link, seg, tx),
            Some(Found::Flow(_)) | None => self.on_nobody(key, hash, *link, seg, tx),
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
        if self.core.flows.at(index).tcb.is_time_to_look(seg) {
            self.look_at_window(index, seg.stamps.map(|stamps| stamps.ecr));
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

    #[inline(never)]
    fn look_at_window(&mut self, index: u32, echo: Option<u32>) {
        let slot = self.core.flows.at_mut(index);
        slot.tcb.look_at_window(echo, &mut env!(self.core, self.recv));
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
        seg: &mut Segment<'_>,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) -> Outcome {
        let slot = self.core.flows.at_mut(index);
        if slot.tcb.closed().is_some() {
            // It is over and goes at the end of this turn, or when the rest of its text was read.
            return Err(DropReason::NoListener);
        }
        let mut arrival = Arrival::default();
        slot.tcb.on_unpredicted(seg, &mut arrival, &mut env!(self.core, self.recv));
        if slot.listener().is_some() && arrival.dropped.is_none() {
            // A passive side answers to wherever its peer is now.
            slot.follow(link);
        }
        self.after_arrival(index, link, &arrival, app, tx);
        Ok(())
    }

    /// Tells the application what a segment brought, and gives the text to the connection.
    #[inline(always)]
    pub(super) fn after_arrival(
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
        // Before its text, which it may be about.
        if let Some(ahead) = arrival.urgent
            && self.core.slot(index).is(Mark::Announced)
        {
            app.on_report(&mut Flow::new(&mut self.core, index), Report::Urgent { ahead });
        }
        let mut consumed = 0;
        let slot = self.core.slot(index);
        if !arrival.text.is_empty() && slot.is(Mark::Announced) && slot.tcb.is_reading() {
            consumed = app.on_data(&mut Flow::new(&mut self.core, index), arrival.text);
        }
        if self.core.slot(index).tcb.has_to_accept(arrival.text) {
            self.accept(index, arrival.text, consumed);
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
}
