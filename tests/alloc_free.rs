//! Two engines exchange a million segments, and nothing is allocated.
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use ringroad::base::{Counter, HashKey, Instant, Rng};
use ringroad::io::memory::MemoryWire;
use ringroad::stack::{
    App, Connect, Cx, Engine, EngineConfig, Flow, Limits, Listen, Owners, Route, Routes, RxBatch, TxBatch,
};
use ringroad::tcp::{CloseReason, FlowOptions, TcpConfig};
use ringroad::wire::Mac;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with a count of what this thread asked it for.
struct Counting;

fn count() {
    // A thread that is ending has no counter any more, and is not ours.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call is passed on to the system's allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps `alloc`'s contract, which is the same here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        // SAFETY: `octets` came from `System.alloc` with this layout.
        unsafe { System.dealloc(octets, layout) }
    }

    unsafe fn realloc(&self, octets: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: `octets` came from `System.alloc` with this layout, and the caller keeps the rest.
        unsafe { System.realloc(octets, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Loses a frame now and then.
struct Lossy {
    wire: MemoryWire,
    rng: Rng,
    loss: u32,
}

impl TxBatch for Lossy {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        self.wire.reserve()
    }

    fn commit(&mut self, len: usize) {
        if !self.rng.chance(self.loss) {
            self.wire.commit(len);
        }
    }
}

impl Lossy {
    fn new(seed: u64) -> Self {
        Self { wire: MemoryWire::new(256, 1_600), rng: Rng::new(seed), loss: 5_000 }
    }
}

/// What a connection is for, in its user word; text comes back as it was sent.
const SHORT: u64 = 0;
const REQUESTS: u64 = 1;
const BULK: u64 = 2;

#[derive(Debug, Default)]
struct Client {
    closed: u64,
    exchanged: u64,
}

impl Client {
    fn connect(cx: &mut Cx<'_>, user: u64) {
        cx.connect(&Connect {
            remote: (SERVER, 80).into(),
            local: None,
            options: FlowOptions::default(),
            user,
        })
        .expect("a connection");
    }
}

impl App for Client {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        for (user, connections) in [(SHORT, 30), (REQUESTS, 6), (BULK, 2)] {
            (0..connections).for_each(|_| Self::connect(cx, user));
        }
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        flow.send(if flow.user() == BULK { &[2; 12_000] } else { &[1; 64] });
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.exchanged += data.len() as u64;
        match flow.user() {
            SHORT => flow.close(),
            _ => assert_eq!(flow.send(data), data.len()),
        }
        data.len()
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, _: CloseReason) {
        self.closed += 1;
        let user = flow.user();
        Self::connect(&mut flow.cx(), user);
    }
}

#[derive(Debug)]
struct Echo;

impl App for Echo {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.listen(&Listen::new(SERVER, 80)).expect("a listener");
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        flow.send(data)
    }
}

const SERVER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

/// The engine of host `n`, with small tables and a short TIME-WAIT, so that all are used again and again.
fn config(n: u8) -> EngineConfig {
    let limits = Limits {
        flows_max: 64,
        half_open_max: 32,
        time_wait_max: 512,
        listeners_max: 8,
        neighbours_max: 8,
        chunk_len: 2_048,
        send_chunks: 2_048,
        recv_chunks: 2_048,
        reassembly_max: 64,
        busy_max: 64,
        models_max: 8,
        options_max: 16,
        output_burst: 16,
    };
    let ours = IpAddr::from([10, 0, 0, n]);
    EngineConfig {
        limits,
        tcp: TcpConfig { time_wait: Duration::from_millis(20), ..TcpConfig::default() },
        mac: Mac([2, 0, 0, 0, 0, n]),
        mtu: 1_500,
        routes: Routes {
            addresses: vec![ours],
            routes: vec![Route { destination: ours, prefix_len: 24, gateway: None, source: None }],
        },
        source_ports: 20_000..=20_999,
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        secret: HashKey::new(u64::from(n), 7),
    }
}

/// Both engines, the wire between them, and the time.
struct Bench {
    client: (Engine, Client, Lossy),
    server: (Engine, Echo, Lossy),
    now: Instant,
}

impl Bench {
    fn new() -> Self {
        let now = Instant::from_millis(1_000);
        let mut engine = [1, 2].map(|n| Engine::new(config(n), now));
        engine[0].set_neighbour(SERVER, config(2).mac);
        let [client, server] = engine;
        let client = (client, Client::default(), Lossy::new(1));
        let mut bench = Self { client, server: (server, Echo, Lossy::new(2)), now };
        let Self { client: (c, client, up), server: (s, server, down), .. } = &mut bench;
        s.start(now, server, down);
        c.start(now, client, up);
        bench
    }

    /// One turn of each engine.
    fn turn(&mut self) {
        let Self { client: (c, client, up), server: (s, server, down), now } = self;
        let quiet = up.wire.is_empty() && down.wire.is_empty();
        let deadline = [c.next_deadline(), s.next_deadline()].into_iter().flatten().min();
        *now = now.plus_micros(10);
        if let Some(deadline) = deadline.filter(|_| quiet) {
            *now = deadline.max(*now);
        }
        s.on_batch(*now, &up.wire, server, down);
        up.wire.clear();
        s.on_timers(*now, 64, server, down);
        c.on_batch(*now, &down.wire, client, up);
        down.wire.clear();
        c.on_timers(*now, 64, client, up);
    }

    fn segments(&self) -> u64 {
        let out = |engine: &Engine| engine.counters().get(Counter::SegmentsOut);
        out(&self.client.0) + out(&self.server.0)
    }

    fn run(&mut self, segments: u64) {
        let until = self.segments() + segments;
        while self.segments() < until {
            self.turn();
        }
    }
}

#[test]
fn a_million_segments_allocate_nothing() {
    let mut bench = Bench::new();
    bench.run(50_000);
    let before = ALLOCATIONS.get();
    bench.run(1_000_000);
    let allocations = ALLOCATIONS.get() - before;
    assert!(before > 0, "the counter counts");
    assert_eq!(allocations, 0);

    let (engine, app, _) = &bench.client;
    let counted = |counter| engine.counters().get(counter);
    assert!(app.closed > 3_000, "{} short connections", app.closed);
    assert!(counted(Counter::Retransmits) > 1_000, "there was loss to recover from");
    assert!(counted(Counter::OutOfOrder) > 1_000, "and text to put in order");
    assert!(counted(Counter::TimeWaitExpired) > 3_000);
    engine.check_invariants();
    bench.server.0.check_invariants();
}
