//! Two engines with many connections open between them, and traffic on all of those in turn.
#![forbid(unsafe_code)]

use std::ops::RangeInclusive;
use std::time::{Duration, Instant as WallClock};

use anyhow::ensure;
use ringroad::base::{Counter, FlowId, Rng};
use ringroad::stack::{App, Connect, ConnectError, Cx, Flow, Limits};
use ringroad::tcp::{CloseReason, FlowOptions, KeepAlive, TcpConfig};

use crate::environment::check_spare;
use crate::pair::{Host, Pair, SERVER, START};
use crate::random::shuffle;
use crate::workload::{MESSAGE, Server, flow_options};

/// The server's ports: enough that each has source ports to spare for its share of the connections.
const PORTS: RangeInclusive<u16> = 1_024..=2_047;

/// What the client does when it is woken.
#[derive(Clone, Copy, Debug)]
enum Task {
    Open(u32),
    Ask(u32),
}

/// Opens connections, and sends on those that it is told to.
struct Client {
    task: Task,
    opened: u32,
    /// In the order of requests.
    flows: Vec<FlowId>,
    next: usize,
    replies: u64,
    failed: Option<CloseReason>,
    refused: Option<ConnectError>,
}

impl Client {
    fn open(&mut self, cx: &mut Cx<'_>) {
        let ports = u32::from(PORTS.end() - PORTS.start()) + 1;
        let port = PORTS.start() + u16::try_from(self.opened % ports).expect("below the number of ports");
        let connect = Connect { remote: (SERVER, port).into(), local: None, options: options(), user: 0 };
        self.refused = self.refused.or(cx.connect(&connect).err());
        self.opened += 1;
    }

    fn ask(&mut self, cx: &mut Cx<'_>) {
        let id = self.flows[self.next];
        self.next = (self.next + 1) % self.flows.len();
        if let Some(mut flow) = cx.flow(id) {
            flow.send(&MESSAGE);
        }
    }
}

impl App for Client {
    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        match self.task {
            Task::Open(n) => (0..n).for_each(|_| self.open(cx)),
            Task::Ask(n) => (0..n).for_each(|_| self.ask(cx)),
        }
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.flows.push(flow.id());
    }

    fn on_data(&mut self, _flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.replies += 1;
        data.len()
    }

    fn on_close(&mut self, _flow: &mut Flow<'_>, why: CloseReason) {
        self.failed = Some(why);
    }
}

fn options() -> FlowOptions {
    FlowOptions { keep_alive: Some(KeepAlive::default()), ..flow_options() }
}

/// Both ends, and the clock they run on.
pub struct Bench {
    pair: Pair<Client, Server>,
    clock: WallClock,
}

impl Bench {
    /// Room for `connections` and for `batch` frames on the wire.
    pub fn new(connections: u32, batch: u32) -> anyhow::Result<Self> {
        let limits = Limits {
            flows_max: connections,
            half_open_max: batch * 4,
            time_wait_max: 1_024,
            ..Limits::default()
        };
        let tcp = TcpConfig { delayed_ack: Duration::ZERO, ..TcpConfig::default() };
        let flows = Vec::with_capacity(usize::try_from(connections)?);
        let client = Client {
            task: Task::Open(0),
            opened: 0,
            flows,
            next: 0,
            replies: 0,
            failed: None,
            refused: None,
        };
        let client = Host::client(client, limits, tcp);
        let server = Host::server(Server { echoes: true }, limits, tcp, PORTS, options())?;
        Ok(Self { pair: Pair::new(client, server, usize::try_from(batch)?), clock: WallClock::now() })
    }

    /// Turns until nothing is on the wire any more.
    fn wake(&mut self, task: Task) {
        self.pair.client.app.task = task;
        self.pair.now = START + self.clock.elapsed();
        self.pair.wake_client();
        loop {
            self.pair.turn();
            if self.pair.is_quiet() {
                return;
            }
        }
    }

    /// Opens `connections`, a batch at a time.
    pub fn open(&mut self, connections: u32, batch: u32) -> anyhow::Result<()> {
        for first in (0..connections).step_by(usize::try_from(batch)?) {
            if first % (batch << 14) == 0 {
                check_spare(first, connections)?;
            }
            self.wake(Task::Open(batch.min(connections - first)));
        }
        self.check()?;
        let got = [self.pair.client.engine.flow_count(), self.pair.server.engine.flow_count()];
        ensure!(got == [connections; 2], "{got:?} of {connections} connections are open");
        Ok(())
    }

    /// Requests and replies, a batch of connections at a time.
    pub fn ask(&mut self, exchanges: u64, batch: u32) -> anyhow::Result<()> {
        let until = self.pair.client.app.replies + exchanges;
        while self.pair.client.app.replies < until {
            let before = self.pair.client.app.replies;
            self.wake(Task::Ask(batch));
            ensure!(self.pair.client.app.replies > before, "a whole batch of requests stayed unanswered");
        }
        self.check()
    }

    fn check(&self) -> anyhow::Result<()> {
        let Client { failed, refused, .. } = &self.pair.client.app;
        ensure!(refused.is_none(), "a connection could not be opened: {refused:?}");
        ensure!(failed.is_none(), "a connection ended: {failed:?}");
        Ok(())
    }

    /// Connections come in another order from now on.
    pub fn shuffle(&mut self) {
        shuffle(&mut self.pair.client.app.flows, &mut Rng::new(1));
    }

    /// See [`Pair::table_load`].
    pub fn table_load(&self) -> f64 {
        self.pair.table_load()
    }

    /// See [`Pair::probe_histogram`].
    pub fn probe_histogram(&self) -> Vec<u64> {
        self.pair.probe_histogram()
    }

    /// Segments sent and received, replies, retransmissions.
    pub fn counts(&self) -> [u64; 3] {
        let client = &self.pair.client;
        let segments = client.count(Counter::SegmentsOut) + client.count(Counter::SegmentsIn);
        [segments, client.app.replies, client.count(Counter::Retransmits)]
    }
}
