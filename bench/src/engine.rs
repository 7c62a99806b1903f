//! Two engines on one thread, joined by a wire in memory, checksums computed and verified.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant as WallClock};

use anyhow::{Context, ensure};
use clap::ValueEnum;
use ringroad::base::{Counter, HashKey, Instant};
use ringroad::io::memory::MemoryWire;
use ringroad::stack::{
    App, Connect, Cx, Engine, EngineConfig, Flow, Limits, Listen, Owners, Route, Routes, RxBatch,
};
use ringroad::tcp::{CloseReason, FlowOptions, TcpConfig};
use ringroad::wire::Mac;
use serde::Serialize;

/// What connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Profile {
    /// Connect, one request, one reply, close.
    Crr,
    /// Requests and replies on open connections.
    Rr,
    /// As much text as goes through, from client to server.
    Bulk,
}

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What connections are for
    #[arg(long, value_enum, default_value = "crr")]
    profile: Profile,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 64)]
    connections: u32,
    /// Exchanges, or for bulk megabytes, to measure
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    count: u64,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    profile: Profile,
    connections: u32,
    threads: u32,
    /// One side; `None` where connections stay open.
    ns_per_connection: Option<f64>,
    segments_per_connection: Option<f64>,
    ns_per_segment: f64,
    connections_per_second: f64,
    requests_per_second: f64,
    bytes_per_second: f64,
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const PORT: u16 = 80;
const MESSAGE: [u8; 64] = [7; 64];
const BULK: [u8; 16 * 1024] = [7; 16 * 1024];

struct Client {
    profile: Profile,
    connections: u32,
    exchanged: u64,
    closed: u64,
}

impl Client {
    fn connect(cx: &mut Cx<'_>) {
        let options = FlowOptions { nagle: false, ..FlowOptions::default() };
        let connect = Connect { remote: (SERVER, PORT).into(), local: None, options, user: 0 };
        cx.connect(&connect).expect("there are ports enough: TIME-WAIT is short here");
    }

    fn fill(flow: &mut Flow<'_>) {
        while flow.send(&BULK) == BULK.len() {}
    }
}

impl App for Client {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        (0..self.connections).for_each(|_| Self::connect(cx));
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        match self.profile {
            Profile::Bulk => Self::fill(flow),
            Profile::Crr | Profile::Rr => drop(flow.send(&MESSAGE)),
        }
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        Self::fill(flow);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.exchanged += 1;
        match self.profile {
            Profile::Crr => flow.close(),
            Profile::Rr | Profile::Bulk => drop(flow.send(&MESSAGE)),
        }
        data.len()
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, _why: CloseReason) {
        self.closed += 1;
        Self::connect(&mut flow.cx());
    }
}

struct Server {
    echoes: bool,
}

impl App for Server {
    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        if self.echoes {
            flow.send(data);
        }
        data.len()
    }
}

fn config(own: IpAddr, octet: u8) -> EngineConfig {
    EngineConfig {
        limits: Limits { time_wait_max: 1 << 14, ..Limits::default() },
        // So short that ports come round: what is measured is the cost of a record, not of many.
        tcp: TcpConfig { time_wait: Duration::from_millis(1), ..TcpConfig::default() },
        mac: Mac([2, 0, 0, 0, 0, octet]),
        mtu: 1_500,
        routes: Routes {
            addresses: vec![own],
            routes: vec![Route { destination: own, prefix_len: 24, gateway: None, source: None }],
        },
        source_ports: 1_024..=65_535,
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        secret: HashKey::new(u64::from(octet), 42),
    }
}

/// Both ends and the wire between them; virtual time moves on by a microsecond a turn.
struct Pair {
    client: (Engine, Client),
    server: (Engine, Server),
    up: MemoryWire,
    down: MemoryWire,
    now: Instant,
}

impl Pair {
    fn new(args: &Args) -> anyhow::Result<Self> {
        let now = Instant::from_millis(1);
        let mut client = Engine::new(config(CLIENT, 1), now);
        let mut server = Engine::new(config(SERVER, 2), now);
        server.listen(&listen()).ok().context("the only listener")?;
        client.set_neighbour(SERVER, Mac([2, 0, 0, 0, 0, 2]));
        let (profile, connections) = (args.profile, args.connections);
        let mut pair = Self {
            client: (client, Client { profile, connections, exchanged: 0, closed: 0 }),
            server: (server, Server { echoes: profile != Profile::Bulk }),
            up: MemoryWire::new(4_096, 1_600),
            down: MemoryWire::new(4_096, 1_600),
            now,
        };
        let (engine, app) = &mut pair.client;
        engine.start(now, app, &mut pair.up);
        Ok(pair)
    }

    fn turn(&mut self) {
        let Self { client: (client, client_app), server: (server, server_app), up, down, now } = self;
        *now = now.plus_micros(1);
        if up.is_empty() && down.is_empty() {
            let deadlines = [client.next_deadline(), server.next_deadline()];
            *now = deadlines.into_iter().flatten().min().map_or(*now, |at| at.max(*now));
        }
        server.on_batch(*now, up, server_app, down);
        up.clear();
        server.on_timers(*now, 64, server_app, down);
        client.on_batch(*now, down, client_app, up);
        down.clear();
        client.on_timers(*now, 64, client_app, up);
    }

    /// Exchanges, or megabytes, so far.
    fn done(&self) -> u64 {
        match self.client.1.profile {
            Profile::Crr => self.client.1.closed,
            Profile::Rr => self.client.1.exchanged,
            Profile::Bulk => self.text() >> 20,
        }
    }

    fn text(&self) -> u64 {
        self.server.0.counters().get(Counter::TextIn)
    }

    fn segments(&self) -> u64 {
        let out = |engine: &Engine| engine.counters().get(Counter::SegmentsOut);
        out(&self.client.0) + out(&self.server.0)
    }

    fn run(&mut self, count: u64) -> anyhow::Result<()> {
        /// Turns without progress: an exchange takes some ten.
        const STALLED: u64 = 1_000_000;
        let until = self.done() + count;
        let mut since = (self.done(), 0);
        while self.done() < until {
            self.turn();
            since = if self.done() > since.0 { (self.done(), 0) } else { (since.0, since.1 + 1) };
            ensure!(since.1 < STALLED, "the two engines stopped making progress");
        }
        Ok(())
    }
}

fn listen() -> Listen {
    let options = FlowOptions { nagle: false, ..FlowOptions::default() };
    Listen { options, ..Listen::new(SERVER, PORT) }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let mut pair = Pair::new(args)?;
    pair.run((args.count / 10).max(1))?;
    let (segments, text, done) = (pair.segments(), pair.text(), pair.done());
    let start = WallClock::now();
    pair.run(args.count)?;
    let seconds = start.elapsed().as_secs_f64();
    let report =
        Report::new(args, seconds, pair.segments() - segments, pair.text() - text, pair.done() - done);
    println!("{}", serde_json::to_string_pretty(&report)?);
    if let Some(path) = &args.json {
        std::fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn new(args: &Args, seconds: f64, segments: u64, text: u64, done: u64) -> Self {
        let (segments, done, text) = (segments as f64, done as f64, text as f64);
        let crr = args.profile == Profile::Crr;
        let exchanges = if args.profile == Profile::Bulk { 0.0 } else { done };
        Self {
            profile: args.profile,
            connections: args.connections,
            threads: 1,
            ns_per_connection: crr.then_some(seconds * 1e9 / done / 2.0),
            segments_per_connection: crr.then_some(segments / done),
            ns_per_segment: seconds * 1e9 / segments,
            connections_per_second: if crr { done / seconds } else { 0.0 },
            requests_per_second: exchanges / seconds,
            bytes_per_second: text / seconds,
        }
    }
}
