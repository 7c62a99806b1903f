//! One engine in virtual time with one application, which does as it is told and remembers what it was told.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use ringroad::base::{Counter, FlowId, HashKey, Instant};
use ringroad::stack::{
    App, Connect, Cx, Engine, EngineConfig, Flow, Limits, Listen, ListenerId, Owners, Route, Routes, TxBatch,
};
use ringroad::tcp::{CloseReason, FlowInfo, FlowOptions, Report, State, TcpConfig};

use super::wire::{OUR_MAC, OUR_PORT, PEER_MAC, Packet, Version};

/// What an engine is made from.
#[derive(Clone, Debug)]
pub struct Setup {
    pub tcp: TcpConfig,
    pub options: FlowOptions,
    pub mtu: u16,
    pub half_open_max: u32,
    pub backlog: u32,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tcp: TcpConfig::default(),
            options: FlowOptions::default(),
            mtu: 1_500,
            half_open_max: 8,
            backlog: 8,
        }
    }
}

impl Setup {
    fn config(&self, version: Version) -> EngineConfig {
        let limits = Limits {
            flows_max: 16,
            half_open_max: 16,
            time_wait_max: 16,
            listeners_max: 4,
            neighbours_max: 16,
            chunk_len: 2_048,
            send_chunks: 256,
            recv_chunks: 256,
            reassembly_max: 16,
            busy_max: 16,
            models_max: 4,
            options_max: 8,
            output_burst: 64,
        };
        let address = version.host(1);
        let prefix_len = if address.is_ipv4() { 24 } else { 64 };
        let route = Route { destination: version.host(0), prefix_len, gateway: None, source: None };
        EngineConfig {
            limits,
            tcp: self.tcp,
            mac: OUR_MAC,
            mtu: self.mtu,
            routes: Routes { addresses: vec![address], routes: vec![route] },
            source_ports: OUR_PORT..=OUR_PORT,
            worker: 0,
            owners: Owners::One,
            verify_checksums: true,
            secret: HashKey::new(3, 7),
        }
    }
}

/// What the application is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Accept,
    Connect,
    Data(Vec<u8>),
    Fin,
    Writable,
    Report(Report),
    Timer,
    WorkerTimer,
    Drain,
    Close(CloseReason),
}

/// A state of RFC 9293 §3.3.2: all eleven, whatever keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    Closed,
    Listen,
    SynSent,
    SynReceived,
    Established,
    FinWait1,
    FinWait2,
    CloseWait,
    Closing,
    LastAck,
    TimeWait,
}

impl Phase {
    pub const ALL: [(&str, Self); 11] = [
        ("CLOSED", Self::Closed),
        ("LISTEN", Self::Listen),
        ("SYN-SENT", Self::SynSent),
        ("SYN-RECEIVED", Self::SynReceived),
        ("ESTABLISHED", Self::Established),
        ("FIN-WAIT-1", Self::FinWait1),
        ("FIN-WAIT-2", Self::FinWait2),
        ("CLOSE-WAIT", Self::CloseWait),
        ("CLOSING", Self::Closing),
        ("LAST-ACK", Self::LastAck),
        ("TIME-WAIT", Self::TimeWait),
    ];

    /// The RFC's name.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, phase)| *phase == self).expect("each is among them").0
    }
}

impl From<State> for Phase {
    fn from(state: State) -> Self {
        match state {
            State::SynSent => Self::SynSent,
            State::SynReceived => Self::SynReceived,
            State::Established => Self::Established,
            State::FinWait1 => Self::FinWait1,
            State::FinWait2 => Self::FinWait2,
            State::CloseWait => Self::CloseWait,
            State::Closing => Self::Closing,
            State::LastAck => Self::LastAck,
            State::TimeWait => Self::TimeWait,
        }
    }
}

type Task = Box<dyn FnOnce(&mut Recorder, &mut Cx<'_>)>;

/// The application.
#[derive(Default)]
pub struct Recorder {
    pub log: Vec<Told>,
    /// Octets that it still wants to read; `None` for whatever comes.
    pub appetite: Option<usize>,
    /// The connection that calls are about: the last one accepted or begun.
    pub flow: Option<FlowId>,
    pub listener: Option<ListenerId>,
    /// Octets given to the connection so far.
    pub sent: u32,
    task: Option<Task>,
}

impl App for Recorder {
    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.flow = Some(flow.id());
        self.sent = 0;
        self.log.push(Told::Accept);
    }

    fn on_connect(&mut self, _: &mut Flow<'_>) {
        self.log.push(Told::Connect);
    }

    fn on_data(&mut self, _: &mut Flow<'_>, data: &[u8]) -> usize {
        let read = self.appetite.map_or(data.len(), |appetite| appetite.min(data.len()));
        self.appetite = self.appetite.map(|appetite| appetite - read);
        if read > 0 {
            self.log.push(Told::Data(data[..read].to_vec()));
        }
        read
    }

    fn on_fin(&mut self, _: &mut Flow<'_>) {
        self.log.push(Told::Fin);
    }

    fn on_writable(&mut self, _: &mut Flow<'_>) {
        self.log.push(Told::Writable);
    }

    fn on_report(&mut self, _: &mut Flow<'_>, report: Report) {
        self.log.push(Told::Report(report));
    }

    fn on_timer(&mut self, _: &mut Flow<'_>) {
        self.log.push(Told::Timer);
    }

    fn on_close(&mut self, _: &mut Flow<'_>, why: CloseReason) {
        self.log.push(Told::Close(why));
    }

    fn on_worker_timer(&mut self, _: &mut Cx<'_>) {
        self.log.push(Told::WorkerTimer);
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(task) = self.task.take() {
            task(self, cx);
        }
    }

    fn on_drain(&mut self, _: &mut Cx<'_>) {
        self.log.push(Told::Drain);
    }
}

/// Frames that the engine sent, with the instant of each.
struct Outbox {
    buffer: Vec<u8>,
    now: Instant,
    sent: Vec<(Instant, Packet)>,
}

impl TxBatch for Outbox {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize) {
        self.sent.push((self.now, Packet::parse(&self.buffer[..len])));
    }
}

/// The octet of text that we send at `position` of the stream.
pub fn our_octet(position: u32) -> u8 {
    peer_octet(!position)
}

/// The octet of text that the peer sends at this sequence number.
pub fn peer_octet(seq: u32) -> u8 {
    (seq.wrapping_mul(0x9e37_79b1) >> 24).to_le_bytes()[0]
}

/// An engine, its application, and the time.
pub struct Host {
    pub version: Version,
    pub app: Recorder,
    pub now: Instant,
    engine: Engine,
    setup: Setup,
    out: Outbox,
}

impl Host {
    /// Turns without anything to show after which an engine that still wants another is at fault.
    const TURNS_MAX: u32 = 100_000;
    /// When scripts begin: any instant will do; this one is between two ticks of each clock.
    pub const START: Instant = Instant::from_nanos(5_000_000_700);

    pub fn new(setup: &Setup, version: Version, now: Instant) -> Self {
        let mut engine = Engine::new(setup.config(version), now);
        for n in 2..10 {
            engine.set_neighbour(version.host(n), PEER_MAC);
        }
        let buffer = vec![0; usize::from(setup.mtu) + 18];
        let out = Outbox { buffer, now, sent: Vec::new() };
        Self { version, app: Recorder::default(), now, engine, setup: setup.clone(), out }
    }

    fn turn(&mut self, call: impl FnOnce(&mut Engine, &mut Recorder, &mut Outbox)) {
        self.out.now = self.now;
        call(&mut self.engine, &mut self.app, &mut self.out);
        self.engine.check_invariants();
    }

    /// Frames arrive in one batch.
    pub fn arrive(&mut self, frames: &[Vec<u8>]) {
        let now = self.now;
        self.turn(|engine, app, out| engine.on_batch(now, frames, app, out));
    }

    /// Lets time pass until `until`; with `stop` only until something is sent or told. `false` when the engine
    /// wants ever more turns before then.
    #[must_use]
    pub fn pass(&mut self, until: Instant, stop: bool) -> bool {
        for _ in 0..Self::TURNS_MAX {
            let Some(at) = self.engine.next_deadline().filter(|&at| at <= until) else {
                self.now = self.now.max(until);
                return true;
            };
            self.now = self.now.max(at);
            let now = self.now;
            self.turn(|engine, app, out| engine.on_timers(now, 64, app, out));
            if stop && !(self.out.sent.is_empty() && self.app.log.is_empty()) {
                return true;
            }
        }
        false
    }

    /// What was sent since this was asked last.
    pub fn take_sent(&mut self) -> Vec<(Instant, Packet)> {
        std::mem::take(&mut self.out.sent)
    }

    /// Does something as the application.
    pub fn ask<R: 'static>(&mut self, task: impl FnOnce(&mut Recorder, &mut Cx<'_>) -> R + 'static) -> R {
        let answer = Rc::new(RefCell::new(None));
        let place = Rc::clone(&answer);
        self.app.task = Some(Box::new(move |app, cx| *place.borrow_mut() = Some(task(app, cx))));
        let now = self.now;
        self.turn(|engine, app, out| engine.wake(now, app, out));
        let answered = answer.borrow_mut().take();
        answered.expect("on_wake did it")
    }

    /// Does something with the connection; `None` when there is none.
    pub fn with_flow<R: 'static>(
        &mut self,
        task: impl FnOnce(&mut Recorder, &mut Flow<'_>) -> R + 'static,
    ) -> Option<R> {
        self.ask(|app, cx| {
            let mut flow = cx.flow(app.flow?)?;
            Some(task(app, &mut flow))
        })
    }

    /// Passive OPEN; an error in kebab case.
    pub fn listen(&mut self) -> Result<(), String> {
        let listen = Listen {
            half_open_max: self.setup.half_open_max,
            backlog: self.setup.backlog,
            options: self.setup.options,
            ..Listen::new(self.version.host(1), OUR_PORT)
        };
        self.ask(move |app, cx| {
            app.listener = Some(cx.listen(&listen).map_err(|error| kebab(&error))?);
            Ok(())
        })
    }

    /// Active OPEN, from an address of our own choice or the engine's; an error in kebab case.
    pub fn connect(&mut self, remote: SocketAddr, local: Option<IpAddr>) -> Result<(), String> {
        let local = local.map(|ip| SocketAddr::new(ip, 0));
        let connect = Connect { remote, local, options: self.setup.options, user: 0 };
        self.ask(move |app, cx| {
            app.flow = Some(cx.connect(&connect).map_err(|error| kebab(&error))?);
            app.sent = 0;
            Ok(())
        })
    }

    /// SEND: `octets` more of the stream; how many were taken.
    pub fn send(&mut self, octets: u32) -> usize {
        let taken = self.with_flow(move |app, flow| {
            let text: Vec<u8> = (app.sent..app.sent + octets).map(our_octet).collect();
            let taken = flow.send(&text);
            app.sent += u32::try_from(taken).expect("no more than was given");
            taken
        });
        taken.unwrap_or(0)
    }

    pub fn drain(&mut self) {
        let now = self.now;
        self.turn(|engine, app, out| engine.drain(now, app, out));
    }

    pub fn abort_all(&mut self) {
        let now = self.now;
        self.turn(|engine, app, out| engine.abort_all(now, app, out));
    }

    /// What our MSS option says: what fits the MTU.
    pub fn mss_of_mtu(&self) -> u16 {
        self.setup.mtu - self.version.header_octets()
    }

    /// STATUS, and room in the send buffer.
    pub fn info(&mut self) -> Option<(FlowInfo, usize)> {
        self.with_flow(|_, flow| (flow.info(), flow.send_room()))
    }

    /// The state that the connection is in, as seen from outside the engine.
    pub fn phase(&mut self) -> Phase {
        if let Some(state) = self.with_flow(|_, flow| flow.state()) {
            return state.into();
        }
        if self.engine.flow_count() > 0 {
            // It waits to be accepted.
            return Phase::Established;
        }
        if self.engine.half_open_count() > 0 {
            return Phase::SynReceived;
        }
        // A record that a RST ended stays, but only to say where a new incarnation may begin.
        let resets = u64::from(self.engine.time_wait_count()) <= self.count(Counter::TimeWaitReset.label());
        if self.engine.time_wait_count() > 0 && !resets {
            return Phase::TimeWait;
        }
        if self.ask(|_, cx| cx.listeners().next().is_some()) { Phase::Listen } else { Phase::Closed }
    }

    /// The counter, or drop reason, of this name.
    pub fn count(&self, label: &str) -> u64 {
        self.engine.counters().nonzero().find(|(name, _)| *name == label).map_or(0, |(_, n)| n)
    }
}

/// The words of a name in camel case, in kebab case.
pub fn kebab(name: &impl std::fmt::Debug) -> String {
    let mut out = String::new();
    for c in format!("{name:?}").chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push('-');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}
