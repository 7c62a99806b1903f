//! One core's whole stack: frames, time and commands in; frames and callbacks out.
#![forbid(unsafe_code)]

use core::net::IpAddr;

use super::app::{App, Cx};
use super::batch::{RxBatch, TxBatch};
use super::core::{Core, EngineConfig, Found};
use super::flows::Mark;
use super::listener::{Listen, ListenError, ListenerId};
use super::look_ahead::LOOK_AHEAD;
use crate::base::{Counter, Counters, Instant};
use crate::tcp::RecvPools;
use crate::wire::Mac;

/// A TCP stack for one core, without input or output of its own.
///
/// Every entry point takes the instant, and the application whose callbacks it makes; none blocks, and
/// none allocates once the engine is made.
#[derive(Debug)]
pub struct Engine {
    pub(super) core: Core,
    /// Apart from `core`, so that text kept here can be lent to a callback that changes the rest.
    pub(super) recv: RecvPools,
}

impl Engine {
    /// Allocates everything.
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let limits = config.limits;
        let recv = RecvPools::new(limits.recv_chunks, limits.chunk_len, limits.reassembly_max);
        Self { core: Core::new(config, now), recv }
    }

    /// The worker begins: [`App::on_start`].
    pub fn start(&mut self, now: Instant, app: &mut impl App, tx: &mut impl TxBatch) {
        self.core.set_now(now);
        app.on_start(&mut Cx::new(&mut self.core));
        self.serve(app, tx);
    }

    /// Frames have arrived.
    pub fn on_batch<R: RxBatch + ?Sized>(
        &mut self,
        now: Instant,
        rx: &R,
        app: &mut impl App,
        tx: &mut impl TxBatch,
    ) {
        self.core.set_now(now);
        for i in 0..rx.len() {
            if i % LOOK_AHEAD == 0 && self.core.flows.outgrow_caches() {
                self.look_ahead_at(rx, i);
            }
            let frame = rx.frame(i);
            self.core.counters.add(Counter::FramesIn);
            self.core.counters.add_n(Counter::OctetsIn, frame.len() as u64);
            if let Err(reason) = self.on_frame(frame, app, tx) {
                self.core.counters.add_drop(reason);
            }
        }
        self.serve(app, tx);
    }

    /// Time has passed: fires at most `budget` deadlines, and sends what could not be sent before.
    pub fn on_timers(&mut self, now: Instant, budget: u32, app: &mut impl App, tx: &mut impl TxBatch) {
        self.core.set_now(now);
        self.expire_time_wait(budget);
        for _ in 0..budget {
            let Some(node) = self.core.wheel.pop_due(now) else { break };
            match node.checked_sub(self.core.config.limits.flows_max) {
                None => self.on_flow_timers(node, app),
                Some(index) => self.on_half_open_timer(index, tx),
            }
        }
        if self.core.worker_timer <= now {
            self.core.worker_timer = Instant::NEVER;
            app.on_worker_timer(&mut Cx::new(&mut self.core));
        }
        self.serve_unforeseen(app, tx);
    }

    /// The first instant at which [`Engine::on_timers`] has something to do; `None` for never.
    ///
    /// It may be early, never late. It is now while output waits for frames.
    pub fn next_deadline(&self) -> Option<Instant> {
        let fed = !self.core.starved.is_empty() && self.core.shared.send.free_count() > 0;
        if fed || !self.core.ready.is_empty() {
            return Some(self.core.now);
        }
        let worker = Some(self.core.worker_timer).filter(|&at| at != Instant::NEVER);
        let others = [self.core.wheel.next_deadline(), self.core.time_wait.next_deadline(self.core.now)];
        others.into_iter().chain([worker]).flatten().min()
    }

    /// Makes a listener.
    ///
    /// # Errors
    ///
    /// When the socket is taken or there are too many: see [`ListenError`].
    pub fn listen(&mut self, listen: &Listen) -> Result<ListenerId, ListenError> {
        self.core.listen(listen)
    }

    /// The kernel has resolved a neighbour, or found it elsewhere. Connections that wait for it send
    /// their SYN with the next call.
    pub fn set_neighbour(&mut self, addr: IpAddr, mac: Mac) {
        if self.core.neighbours.set(addr, mac) {
            self.core.on_neighbour(addr, mac);
        }
    }

    /// Takes out a neighbour whose link address a connection waits for: the owner has it resolved.
    pub fn take_wanted_neighbour(&mut self) -> Option<IpAddr> {
        self.core.neighbours.take_wanted()
    }

    /// Another thread asked for attention: [`App::on_wake`].
    pub fn wake(&mut self, now: Instant, app: &mut impl App, tx: &mut impl TxBatch) {
        self.core.set_now(now);
        app.on_wake(&mut Cx::new(&mut self.core));
        self.serve_unforeseen(app, tx);
    }

    /// Begins to shut down: SYNs and active opens are refused from now on; [`App::on_drain`].
    pub fn drain(&mut self, now: Instant, app: &mut impl App, tx: &mut impl TxBatch) {
        self.core.set_now(now);
        self.core.draining = true;
        self.core.listeners.iter_mut().for_each(|listener| listener.draining = true);
        app.on_drain(&mut Cx::new(&mut self.core));
        self.serve(app, tx);
    }

    /// Aborts every connection: each peer gets a RST, each callback its last. Half-open ones are
    /// forgotten.
    ///
    /// What finds no frame, and what goes beyond one turn's work, follows with [`Engine::on_timers`].
    pub fn abort_all(&mut self, now: Instant, app: &mut impl App, tx: &mut impl TxBatch) {
        self.core.set_now(now);
        for index in 0..self.core.flows.touched() {
            if self.core.flows.in_use(index) {
                self.core.flows.at_mut(index).tcb.abort(&mut self.core.counters);
                self.core.mark_ready(index);
            }
        }
        for index in 0..self.core.half_open.touched() {
            if self.core.half_open.in_use(index) {
                self.free_half_open(index);
            }
        }
        self.serve(app, tx);
    }

    /// Whether the application asked the worker to end.
    pub fn is_stopping(&self) -> bool {
        self.core.stop
    }

    /// Connections that own a TCB now.
    pub fn flow_count(&self) -> u32 {
        self.core.flows.len()
    }

    /// Connections whose handshake, begun by a peer, is not complete.
    pub fn half_open_count(&self) -> u32 {
        self.core.half_open.len()
    }

    /// Chunks that send and receive buffers hold now.
    pub fn chunks_in_use(&self) -> (u32, u32) {
        let limits = &self.core.config.limits;
        let send = limits.send_chunks - self.core.shared.send.free_count();
        (send, limits.recv_chunks - self.recv.chunks.free_count())
    }

    /// Octets that receive windows promise now beyond their first 65,535, and the most that they may.
    pub const fn promised(&self) -> (u64, u64) {
        (self.recv.promises.made(), self.recv.promises.share())
    }

    /// Connections now that have more than the least: see `Limits::busy_max`.
    pub fn busy_count(&self) -> u32 {
        self.core.shared.cold.len()
    }

    /// TIME-WAIT records now.
    pub fn time_wait_count(&self) -> u32 {
        self.core.time_wait.len()
    }

    /// How much of the flow table is in use, 0 to 1; it is full at 0.8.
    pub fn table_load(&self) -> f64 {
        f64::from(self.core.table.len()) / f64::from(self.core.table.places())
    }

    /// How many entries of the flow table are how far from home; the last counts all that are farther.
    pub fn probe_histogram(&self) -> [u32; 16] {
        self.core.table.probe_histogram()
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// What must hold between any two calls; for tests and simulations.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check_invariants(&self) {
        let (mut queued, mut promised, mut offers) = (0, 0, 0);
        for (index, slot) in self.core.flows.iter() {
            slot.tcb.check_invariants();
            slot.tcb.check_board(&self.core.shared);
            assert!(slot.tcb.keeps_to_its_promise(&self.core.shared), "the window is too wide: {slot:?}");
            promised += u64::from(slot.tcb.extra_window(&self.core.shared));
            offers += u32::from(slot.tcb.has_offer(&self.core.shared));
            let key = self.core.flows.key(index);
            assert_eq!(self.core.find(&key, self.core.hash.flow(&key)), Some(Found::Flow(index)));
            let is_queued = slot.is(Mark::Queued);
            queued += usize::from(is_queued);
            let armed = self.core.wheel.deadline(index).unwrap_or(Instant::NEVER);
            // The wheel rounds up, by 4.2 ms at most within 26 days.
            let latest = slot.tcb.deadline(self.core.now).plus_micros(4_200);
            assert!(is_queued || armed <= latest, "a deadline is missed: {slot:?}");
            let over = slot.tcb.closed().is_some() && !slot.tcb.has_unread();
            let due = over || slot.tcb.has_readable();
            if !is_queued && slot.is(Mark::Resolved) {
                slot.tcb.check_drained();
            }
            assert!(is_queued || slot.is(Mark::Waiting) || !due, "nobody will serve {slot:?}");
        }
        assert_eq!(queued, self.core.ready.len(), "the queue holds each flow at most once");
        assert_eq!(offers, self.core.shared.offers.len(), "offers belong to flows");
        let (made, share) = self.promised();
        assert!(promised == made && made <= share, "{promised} octets are promised, {made} of {share}");
        let waiting: usize = self.core.listeners.iter().map(|listener| listener.waiting.len()).sum();
        let marked = |mark| self.core.flows.iter().filter(|(_, slot)| slot.is(mark)).count();
        assert_eq!(waiting, marked(Mark::Waiting));
        assert_eq!(self.core.starved.len(), marked(Mark::Starved));
        let entries = self.core.flows.len() + self.core.half_open.len() + self.core.time_wait.len();
        assert_eq!(self.core.table.len(), entries, "every entry is in the table, once");
        let half_open: u32 = self.core.listeners.iter().map(|listener| listener.half_open).sum();
        assert_eq!(half_open, self.core.half_open.len(), "half-open entries belong to listeners");
        let users = self.core.flows.len() as usize + self.core.listeners.len();
        assert_eq!(
            self.core.shared.settings.users(),
            users as u64,
            "settings are held by those who use them"
        );
    }
}
