//! The engine in virtual time: packets in and out, the clock, and calls that wait.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ringroad::base::{HashKey, Instant};
use ringroad::stack::{
    App, Cx, Engine, EngineConfig, Flow, Limits, ListenerId, Owners, Route, Routes, TxBatch,
};
use ringroad::tcp::{CloseReason, Report};
use ringroad::wire::{Mac, ethernet};

use crate::dump::Dump;
use crate::errno::{Outcome, fail};
use crate::flags::Flags;
use crate::ops::{Done, Op};
use crate::socket::Sock;
use crate::table::{ConnId, Table};

/// The link addresses of the two ends: packetdrill knows none, so any will do.
const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
const PEERS: Mac = Mac([2, 0, 0, 0, 0, 2]);
/// When the virtual clock begins, microseconds: early, but not zero, which could mean "unset".
const BEGIN_US: u64 = 1_000_000_000;
/// Deadlines fired at one instant before the clock is moved on all the same.
const TURNS_AT_ONE_INSTANT_MAX: u32 = 1_000;

/// A packet that the stack has sent, without link header.
#[derive(Debug)]
pub struct Sent {
    /// When it left, microseconds.
    pub at_us: u64,
    /// The packet, from its IP header on.
    pub packet: Vec<u8>,
}

/// What the engine writes to.
#[derive(Debug)]
struct Outbox {
    frame: Vec<u8>,
    now_us: u64,
    sent: VecDeque<Sent>,
}

impl TxBatch for Outbox {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.frame)
    }

    fn commit(&mut self, len: usize) {
        let packet = self.frame[ethernet::HEADER_LEN..len].to_vec();
        self.sent.push_back(Sent { at_us: self.now_us, packet });
    }
}

/// A call that waits on its thread, which finds the result here.
#[derive(Debug)]
struct Waiter {
    id: u64,
    op: Op,
    deadline_us: Option<u64>,
    /// With the instant at which it came about.
    result: Option<(Outcome<Done>, u64)>,
}

/// One stack under test with its sockets.
#[derive(Debug)]
pub struct World {
    engine: Engine,
    /// What the engine told of its connections.
    pub table: Table,
    /// Sockets by file descriptor.
    pub socks: HashMap<i32, Sock>,
    /// How the stack is set up; `Err` says why it cannot be.
    pub flags: Result<Flags, String>,
    /// Addresses that are ours.
    pub locals: Vec<IpAddr>,
    out: Outbox,
    now_us: u64,
    waiters: Vec<Waiter>,
    last_waiter: u64,
    dump: Dump,
    /// How often anybody called: who waits alone sees it stand still.
    pub calls: u64,
}

/// One call of the engine: the table hears what happens, and the command runs first.
struct Turn<'a, F> {
    table: &'a mut Table,
    command: Option<F>,
}

impl<F: FnOnce(&mut Cx<'_>, &mut Table)> App for Turn<'_, F> {
    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(command) = self.command.take() {
            command(cx, self.table);
        }
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.table.on_accept(flow);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.table.on_connect(flow);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.table.on_data(flow, data)
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.table.on_fin(flow);
    }

    fn on_report(&mut self, flow: &mut Flow<'_>, report: Report) {
        self.table.on_report(flow, report);
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        self.table.on_close(flow, why);
    }
}

impl World {
    /// A stack as the flags say; if they are wrong it is one on which no socket can be made.
    pub fn new(flags: Result<Flags, String>) -> Self {
        let used = flags.clone().unwrap_or_default();
        let now = Instant::from_micros(BEGIN_US);
        let mut engine = Engine::new(config(&used), now);
        used.local.iter().for_each(|&addr| engine.add_address(addr));
        let frame = vec![0; usize::from(used.mtu) + ethernet::HEADER_LEN + ethernet::VLAN_TAG_LEN];
        Self {
            engine,
            table: Table::default(),
            socks: HashMap::new(),
            locals: used.local.clone(),
            dump: Dump::new(used.state),
            flags,
            out: Outbox { frame, now_us: BEGIN_US, sent: VecDeque::new() },
            now_us: BEGIN_US,
            waiters: Vec::new(),
            last_waiter: 0,
            calls: 0,
        }
    }

    /// The virtual clock, microseconds.
    pub const fn now_us(&self) -> u64 {
        self.now_us
    }

    /// The engine, to be looked at.
    pub const fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Does something as the application, and has the engine send what follows from it.
    pub fn turn<R>(&mut self, command: impl FnOnce(&mut Cx<'_>, &mut Table) -> R) -> R {
        let mut result = None;
        let command = |cx: &mut Cx<'_>, table: &mut Table| result = Some(command(cx, table));
        let mut turn = Turn { table: &mut self.table, command: Some(command) };
        self.engine.wake(Instant::from_micros(self.now_us), &mut turn, &mut self.out);
        result.expect("the engine calls back once")
    }

    /// Does something to a connection, if it is not over.
    pub fn flow<R>(&mut self, conn: ConnId, act: impl FnOnce(&mut Flow<'_>) -> R) -> Option<R> {
        let flow = self.table.conns.get(&conn)?.flow;
        self.turn(|cx, _| cx.flow(flow).map(|mut flow| act(&mut flow)))
    }

    /// An address is ours from now on.
    pub fn add_local(&mut self, addr: IpAddr) {
        if !addr.is_unspecified() && !self.locals.contains(&addr) {
            self.locals.push(addr);
            self.engine.add_address(addr);
        }
    }

    /// Everything on the link is at the one place there is.
    pub fn resolve(&mut self, peer: IpAddr) {
        self.engine.set_neighbour(peer, PEERS);
    }

    /// A packet arrives.
    pub fn inject(&mut self, packet: &[u8]) -> Outcome<()> {
        let (ether_type, local): (u16, IpAddr) = match packet {
            [first, ..] if first >> 4 == 4 && packet.len() >= 20 => {
                (ethernet::ETHER_TYPE_IPV4, <[u8; 4]>::try_from(&packet[16..20]).expect("four octets").into())
            }
            [first, ..] if first >> 4 == 6 && packet.len() >= 40 => (
                ethernet::ETHER_TYPE_IPV6,
                <[u8; 16]>::try_from(&packet[24..40]).expect("sixteen octets").into(),
            ),
            _ => return fail(libc::EINVAL),
        };
        if !self.locals.iter().any(|known| known.is_ipv4() == local.is_ipv4()) {
            // Nobody named our address, and whatever comes is for us.
            self.add_local(local);
        }
        let mut frame = vec![0; ethernet::HEADER_LEN];
        ethernet::emit(&mut frame, OURS, PEERS, None, ether_type);
        frame.extend_from_slice(packet);
        let mut turn = Turn { table: &mut self.table, command: None::<fn(&mut Cx<'_>, &mut Table)> };
        let now = Instant::from_micros(self.now_us);
        self.engine.on_batch(now, [frame].as_slice(), &mut turn, &mut self.out);
        Ok(())
    }

    /// The next packet that leaves, when that is within what the flags allow.
    pub fn next_sent(&mut self) -> Option<Sent> {
        let until_us = self.now_us + self.receive_us();
        let mut turns = 0;
        while self.out.sent.is_empty() {
            let at_us = self.next_event_us().filter(|&at| at <= until_us)?;
            self.step_to(at_us, &mut turns);
        }
        self.out.sent.pop_front()
    }

    /// Time passes.
    pub fn advance(&mut self, us: u64) {
        let until_us = self.now_us + us;
        let mut turns = 0;
        while let Some(at_us) = self.next_event_us().filter(|&at| at <= until_us) {
            self.step_to(at_us, &mut turns);
        }
        self.set_now(self.now_us.max(until_us));
    }

    /// Everybody waits, so time passes until the call has its result; `false` when nothing will bring it.
    pub fn jump_to_result(&mut self, id: u64) -> bool {
        let until_us = self.now_us + self.receive_us();
        let mut turns = 0;
        while self.waiters.iter().any(|waiter| waiter.id == id && waiter.result.is_none()) {
            let Some(at_us) = self.next_event_us().filter(|&at| at <= until_us) else { return false };
            self.step_to(at_us, &mut turns);
        }
        true
    }

    fn step_to(&mut self, at_us: u64, turns: &mut u32) {
        *turns = if at_us > self.now_us { 0 } else { *turns + 1 };
        // A deadline may be told early, but an engine that never gets beyond it must not hold up the script.
        let stuck = u64::from(*turns > TURNS_AT_ONE_INSTANT_MAX);
        self.set_now(self.now_us.max(at_us) + stuck);
        let mut turn = Turn { table: &mut self.table, command: None::<fn(&mut Cx<'_>, &mut Table)> };
        self.engine.on_timers(Instant::from_micros(self.now_us), 256, &mut turn, &mut self.out);
        self.serve_waiters();
    }

    /// How long something is waited for, virtual time.
    fn receive_us(&self) -> u64 {
        self.flags.as_ref().map_or(1, |flags| flags.receive_s) * 1_000_000
    }

    const fn set_now(&mut self, now_us: u64) {
        self.now_us = now_us;
        self.out.now_us = now_us;
    }

    fn next_event_us(&self) -> Option<u64> {
        let engine = self.engine.next_deadline().map(|at| at.as_nanos().div_ceil(1_000));
        let waiting = self.waiters.iter().filter(|waiter| waiter.result.is_none());
        waiting.filter_map(|waiter| waiter.deadline_us).chain(engine).min()
    }

    /// A call waits from now on; returns its number.
    pub fn park(&mut self, op: Op, timeout: Option<Duration>) -> u64 {
        let deadline = |timeout: Duration| {
            self.now_us.saturating_add(u64::try_from(timeout.as_micros()).unwrap_or(u64::MAX))
        };
        self.last_waiter += 1;
        let deadline_us = timeout.map(deadline);
        self.waiters.push(Waiter { id: self.last_waiter, op, deadline_us, result: None });
        self.last_waiter
    }

    /// What became of a call that waited, and when.
    pub fn take_result(&mut self, id: u64) -> Option<(Outcome<Done>, u64)> {
        let at = self.waiters.iter().position(|waiter| waiter.id == id && waiter.result.is_some())?;
        self.waiters.remove(at).result
    }

    /// A call does not wait any longer.
    pub fn unpark(&mut self, id: u64) {
        self.waiters.retain(|waiter| waiter.id != id);
    }

    /// Completes calls that waited for what has happened: here and now, for their threads may be late.
    pub fn serve_waiters(&mut self) {
        let mut at = 0;
        while at < self.waiters.len() {
            if self.waiters[at].result.is_none() && self.serve_waiter(at) {
                // What one took another may have waited for, or given way to.
                at = 0;
            } else {
                at += 1;
            }
        }
        self.show();
    }

    fn serve_waiter(&mut self, at: usize) -> bool {
        let mut op = std::mem::take(&mut self.waiters[at].op);
        let result = self.attempt(&mut op);
        let late = self.waiters[at].deadline_us.is_some_and(|deadline| deadline <= self.now_us);
        let result = result.or_else(|| late.then(|| op.timed_out()));
        let waiter = &mut self.waiters[at];
        waiter.op = op;
        waiter.result = result.map(|result| (result, self.now_us));
        waiter.result.is_some()
    }

    /// Writes the state dump, if anything in it has changed.
    fn show(&mut self) {
        if self.dump.is_on() {
            let text = crate::dump::text(self);
            self.dump.write(text);
        }
    }

    /// Ends a listener of the engine.
    pub fn close_listener(&mut self, listener: ListenerId) {
        self.turn(|cx, _| cx.close_listener(listener));
    }
}

fn config(flags: &Flags) -> EngineConfig {
    const CHUNK: u32 = 16 * 1_024;
    // Enough for several sockets: what a window promises is bounded by what is left for others.
    let chunks = |octets: u32| (16 * octets.div_ceil(CHUNK)).max(1_024);
    let everywhere = |destination| Route { destination, prefix_len: 0, gateway: None, source: None };
    EngineConfig {
        limits: Limits {
            flows_max: 1_024,
            half_open_max: 1_024,
            time_wait_max: 1_024,
            chunk_len: CHUNK,
            send_chunks: chunks(flags.options.send_buffer),
            recv_chunks: chunks(flags.options.recv_buffer),
            reassembly_max: 1_024,
            busy_max: 1_024,
            models_max: 64,
            ..Limits::default()
        },
        tcp: flags.tcp,
        mac: OURS,
        mtu: flags.mtu,
        routes: Routes {
            addresses: Vec::new(),
            routes: vec![everywhere([0; 4].into()), everywhere([0; 16].into())],
        },
        source_ports: flags.ports.clone(),
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        // Every run is like every other.
        secret: HashKey::new(1, 2),
    }
}
