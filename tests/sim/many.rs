//! Engines with more connections than a cache holds, which look ahead and keep their timers in order at once.
use std::net::IpAddr;
use std::ops::Range;

use ringroad::base::{Counter, FlowId, Instant};
use ringroad::io::memory::MemoryWire;
use ringroad::stack::{App, Connect, Cx, Engine, EngineConfig, Flow, Limits, Listen, RxBatch};
use ringroad::tcp::{FlowOptions, TcpConfig};

use super::common::{LIMITS, config, v4};

/// Enough that the tables count as large.
const CONNECTIONS: u32 = 17_000;
const PORTS: Range<u16> = 80..100;
const BATCH: u32 = 64;

/// Opens connections, and sends on those that it is told to.
#[derive(Default)]
struct Client {
    open: u32,
    ask: Range<usize>,
    flows: Vec<FlowId>,
    replies: usize,
}

impl App for Client {
    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        for nth in 0..std::mem::take(&mut self.open) {
            let port = PORTS.start + u16::try_from(nth).expect("small") % 20;
            let options = FlowOptions::default();
            let connect = Connect { remote: (v4(2), port).into(), local: None, options, user: 0 };
            cx.connect(&connect).expect("a connection");
        }
        for nth in std::mem::take(&mut self.ask) {
            let mut flow = cx.flow(self.flows[nth]).expect("it is open");
            assert_eq!(flow.send(b"request"), 7);
        }
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.flows.push(flow.id());
    }

    fn on_data(&mut self, _: &mut Flow<'_>, data: &[u8]) -> usize {
        self.replies += 1;
        data.len()
    }
}

struct Echo;

impl App for Echo {
    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        flow.send(data)
    }
}

struct Pair {
    client: (Engine, Client),
    server: (Engine, Echo),
    up: MemoryWire,
    down: MemoryWire,
    now: Instant,
}

fn engine(n: u8) -> Engine {
    let limits = Limits { flows_max: CONNECTIONS, half_open_max: BATCH, ..LIMITS };
    let tcp = TcpConfig { delayed_ack: std::time::Duration::ZERO, ..TcpConfig::default() };
    let config = EngineConfig { limits, tcp, source_ports: 1_024..=65_535, ..config(n) };
    Engine::new(config, Instant::from_millis(1))
}

impl Pair {
    fn new() -> Self {
        let wire = || MemoryWire::new(4 * BATCH as usize, 1_600);
        let [mut client, mut server] = [engine(1), engine(2)];
        client.set_neighbour(v4(2), config(2).mac);
        server.set_neighbour(v4(1), config(1).mac);
        let address: IpAddr = v4(2);
        let listen = Listen { ports: PORTS.start..=PORTS.end - 1, ..Listen::new(address, 0) };
        server.listen(&listen).expect("a listener");
        let client = (client, Client::default());
        Self { client, server: (server, Echo), up: wire(), down: wire(), now: Instant::from_millis(1) }
    }

    fn wake(&mut self) {
        let (engine, app) = &mut self.client;
        engine.wake(self.now, app, &mut self.up);
    }

    /// Frames go to and fro until there are none.
    fn settle(&mut self) {
        let Self { client, server, up, down, now } = self;
        while !up.is_empty() || !down.is_empty() {
            *now = now.plus_micros(10);
            server.0.on_batch(*now, up, &mut server.1, down);
            up.clear();
            server.0.on_timers(*now, 256, &mut server.1, down);
            client.0.on_batch(*now, down, &mut client.1, up);
            down.clear();
            client.0.on_timers(*now, 256, &mut client.1, up);
        }
    }

    /// What is due is done.
    fn fire(&mut self) {
        let Self { client, server, up, down, now } = self;
        client.0.on_timers(*now, 256, &mut client.1, up);
        server.0.on_timers(*now, 256, &mut server.1, down);
    }

    fn opened() -> Self {
        let mut pair = Self::new();
        for first in (0..CONNECTIONS).step_by(BATCH as usize) {
            pair.client.1.open = BATCH.min(CONNECTIONS - first);
            pair.wake();
            pair.settle();
        }
        // The timers of the handshakes pass.
        pair.now = pair.now.plus_micros(300_000_000);
        for _ in 0..CONNECTIONS {
            pair.fire();
            if pair.deadlines() == [None; 2] {
                break;
            }
        }
        assert_eq!(pair.client.1.flows.len(), CONNECTIONS as usize);
        assert_eq!((pair.server.0.flow_count(), pair.deadlines()), (CONNECTIONS, [None; 2]));
        let load = pair.server.0.table_load();
        assert!(load > 0.0 && load <= 0.8, "{load}");
        pair
    }

    fn deadlines(&self) -> [Option<Instant>; 2] {
        [self.client.0.next_deadline(), self.server.0.next_deadline()]
    }

    fn check_invariants(&self) {
        self.client.0.check_invariants();
        self.server.0.check_invariants();
    }
}

#[test]
fn with_many_connections_an_acknowledged_segment_leaves_no_timer_behind() {
    let mut pair = Pair::opened();
    for first in (0..CONNECTIONS as usize).step_by(1_000) {
        pair.client.1.ask = first..first + BATCH as usize;
        pair.wake();
        assert!(pair.deadlines()[0].is_some(), "while the requests are under way, each has its timer");
        pair.settle();
        assert_eq!(pair.deadlines(), [None; 2], "nothing is under way any more");
    }
    assert_eq!(pair.client.1.replies, 17 * BATCH as usize);
    pair.check_invariants();
}

#[test]
fn with_many_connections_a_lost_segment_is_sent_again() {
    let mut pair = Pair::opened();
    pair.client.1.ask = 5_000..5_000 + BATCH as usize;
    pair.wake();
    pair.settle();
    // The same connections again, as their nodes have been moved before; and others beside them.
    pair.client.1.ask = 5_032..5_032 + BATCH as usize;
    pair.wake();
    pair.up.clear();
    pair.check_invariants();
    while let Some(next) = pair.deadlines().into_iter().flatten().min() {
        pair.now = next;
        pair.fire();
        pair.settle();
    }
    assert_eq!(pair.client.1.replies, 2 * BATCH as usize);
    assert_eq!(pair.client.0.counters().get(Counter::Retransmits), u64::from(BATCH));
    pair.check_invariants();
}
