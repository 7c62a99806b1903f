//! A client's and a server's engine on one thread, with a wire in memory between them.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use anyhow::Context;
use ringroad::base::{Counter, HashKey, Instant};
use ringroad::io::memory::MemoryWire;
use ringroad::stack::{App, Engine, EngineConfig, Limits, Listen, Owners, Route, Routes, RxBatch};
use ringroad::tcp::{FlowOptions, TcpConfig};
use ringroad::wire::Mac;

/// The client's address.
pub const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
/// The server's address.
pub const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
/// Octets of a frame's room: an MTU of 1500, headers and to spare.
pub const FRAME_LEN: usize = 1_600;
/// Deadlines that fire in one turn at most.
pub const TIMER_BUDGET: u32 = 256;
/// When an engine's life begins.
pub const START: Instant = Instant::from_millis(1);

/// One engine and its application.
#[derive(Debug)]
pub struct Host<A> {
    pub engine: Engine,
    pub app: A,
}

impl<A: App> Host<A> {
    /// The client's end, which knows where the server is.
    pub fn client(app: A, limits: Limits, tcp: TcpConfig) -> Self {
        let mut engine = Engine::new(config(CLIENT, limits, tcp), START);
        engine.set_neighbour(SERVER, mac(SERVER));
        Self { engine, app }
    }

    /// The server's end, which listens on `ports`; as many connections as there are may be half-open.
    pub fn server(
        app: A,
        limits: Limits,
        tcp: TcpConfig,
        ports: RangeInclusive<u16>,
        options: FlowOptions,
    ) -> anyhow::Result<Self> {
        let mut engine = Engine::new(config(SERVER, limits, tcp), START);
        let half_open_max = limits.half_open_max;
        let listen = Listen { ports, half_open_max, options, ..Listen::new(SERVER, 0) };
        engine.listen(&listen).ok().context("the engine refuses its only listener")?;
        Ok(Self { engine, app })
    }
}

impl<A> Host<A> {
    /// What the engine has counted.
    pub fn count(&self, counter: Counter) -> u64 {
        self.engine.counters().get(counter)
    }
}

/// What an engine at `own` is made from; its link address follows from it.
pub fn config(own: IpAddr, limits: Limits, tcp: TcpConfig) -> EngineConfig {
    EngineConfig {
        limits,
        tcp,
        mac: mac(own),
        mtu: 1_500,
        routes: Routes {
            addresses: vec![own],
            routes: vec![Route { destination: own, prefix_len: 24, gateway: None, source: None }],
        },
        source_ports: 1_024..=65_535,
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        secret: HashKey::new(u64::from(mac(own).0[5]), 42),
    }
}

/// The link address of `addr`: locally administered, with the address's last octet.
pub fn mac(addr: IpAddr) -> Mac {
    let last = match addr {
        IpAddr::V4(v4) => v4.octets()[3],
        IpAddr::V6(v6) => v6.octets()[15],
    };
    Mac([2, 0, 0, 0, 0, last])
}

/// How far the tables of two engines are filled: values 0, 1, 2, ... slots from where they belong.
pub fn probe_histogram(engines: [&Engine; 2]) -> Vec<u64> {
    let [a, b] = engines.map(Engine::probe_histogram);
    a.into_iter().zip(b).map(|(a, b)| u64::from(a) + u64::from(b)).collect()
}

/// Both ends, the wire between them, and the time.
#[derive(Debug)]
pub struct Pair<C, S> {
    pub client: Host<C>,
    pub server: Host<S>,
    up: MemoryWire,
    down: MemoryWire,
    pub now: Instant,
}

impl<C: App, S: App> Pair<C, S> {
    /// Joins two ends by a wire that takes `batch` frames a turn.
    pub fn new(client: Host<C>, server: Host<S>, batch: usize) -> Self {
        let wire = || MemoryWire::new(batch, FRAME_LEN);
        Self { client, server, up: wire(), down: wire(), now: START }
    }

    /// [`App::on_start`] of both.
    pub fn start(&mut self) {
        self.server.engine.start(self.now, &mut self.server.app, &mut self.down);
        self.client.engine.start(self.now, &mut self.client.app, &mut self.up);
    }

    /// [`App::on_wake`] of the client.
    pub fn wake_client(&mut self) {
        self.client.engine.wake(self.now, &mut self.client.app, &mut self.up);
    }

    /// What is on the wire arrives, what is due is done, first at the server and then at the client.
    pub fn turn(&mut self) {
        let Self { client, server, up, down, now } = self;
        server.engine.on_batch(*now, up, &mut server.app, down);
        up.clear();
        server.engine.on_timers(*now, TIMER_BUDGET, &mut server.app, down);
        client.engine.on_batch(*now, down, &mut client.app, up);
        down.clear();
        client.engine.on_timers(*now, TIMER_BUDGET, &mut client.app, up);
    }

    /// Virtual time moves on, to the next deadline when nothing else is there to do; then a turn.
    pub fn step(&mut self) {
        /// About what a turn of a few dozen frames takes.
        const TURN_US: u64 = 10;
        self.now = self.now.plus_micros(TURN_US);
        if self.is_quiet() {
            let deadlines = [self.client.engine.next_deadline(), self.server.engine.next_deadline()];
            self.now = deadlines.into_iter().flatten().min().map_or(self.now, |at| at.max(self.now));
        }
        self.turn();
    }

    /// Whether nothing is on the wire.
    pub fn is_quiet(&self) -> bool {
        self.up.is_empty() && self.down.is_empty()
    }

    /// How much of the server's flow table is in use, 0 to 1.
    pub fn table_load(&self) -> f64 {
        self.server.engine.table_load()
    }

    /// See [`probe_histogram`].
    pub fn probe_histogram(&self) -> Vec<u64> {
        probe_histogram([&self.client.engine, &self.server.engine])
    }
}
