//! What connections are for: the applications of both ends, and what was done when.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::ensure;
use clap::ValueEnum;
use ringroad::base::Counter;
use ringroad::stack::{App, Connect, ConnectError, Cx, Flow, Limits};
use ringroad::tcp::{CloseReason, FlowOptions, TcpConfig};
use serde::Serialize;

use crate::allocations;
use crate::pair::{Host, SERVER};

/// What connections are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Connect, one request of 64 octets, one reply of 64 octets, close; the client closes first
    Crr,
    /// Requests and replies of 64 octets on open connections, one at a time on each
    Rr,
    /// As much text as goes through, from client to server
    Bulk,
}

/// The server's port.
pub const PORT: u16 = 80;
/// A request, and its reply.
pub const MESSAGE: [u8; 64] = [7; 64];
const BULK: [u8; 16 * 1024] = [7; 16 * 1024];

/// Opens connections, and another for each that ends.
#[derive(Debug)]
pub struct Client {
    profile: Profile,
    connections: u32,
    exchanged: u64,
    closed: u64,
    /// Connections that ended otherwise than both ends wished.
    failed: u64,
    refused: Option<ConnectError>,
}

impl Client {
    pub const fn new(profile: Profile, connections: u32) -> Self {
        Self { profile, connections, exchanged: 0, closed: 0, failed: 0, refused: None }
    }

    /// Connections that have ended.
    pub const fn closed(&self) -> u64 {
        self.closed
    }

    /// Fails when a connection did, for then something else was measured.
    pub fn check(&self) -> anyhow::Result<()> {
        ensure!(self.failed == 0, "{} connections failed", self.failed);
        let refused = self.refused;
        ensure!(refused.is_none(), "no connection could be opened: {refused:?}");
        Ok(())
    }

    fn connect(&mut self, cx: &mut Cx<'_>) {
        let options = flow_options();
        let connect = Connect { remote: (SERVER, PORT).into(), local: None, options, user: 0 };
        self.refused = self.refused.or(cx.connect(&connect).err());
    }

    fn fill(flow: &mut Flow<'_>) {
        while flow.send(&BULK) == BULK.len() {}
    }
}

impl App for Client {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        (0..self.connections).for_each(|_| self.connect(cx));
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

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        self.closed += 1;
        self.failed += u64::from(why != CloseReason::Finished);
        self.connect(&mut flow.cx());
    }
}

/// Answers with what it got, or with nothing.
#[derive(Debug)]
pub struct Server {
    pub echoes: bool,
}

impl App for Server {
    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        if self.echoes {
            flow.send(data);
        }
        data.len()
    }
}

/// Settings of each connection: Nagle's algorithm off, as whoever exchanges messages has it.
pub fn flow_options() -> FlowOptions {
    FlowOptions { nagle: false, ..FlowOptions::default() }
}

/// Both ends of a workload.
pub fn hosts(profile: Profile, connections: u32) -> anyhow::Result<(Host<Client>, Host<Server>)> {
    let default = Limits::default();
    let limits = Limits {
        // Some end while others begin.
        flows_max: connections.saturating_mul(2).max(1024),
        half_open_max: connections.max(1024),
        time_wait_max: 1 << 12,
        ..default
    };
    // So short that ports come round: what is measured is the cost of a record, not of many.
    let tcp = TcpConfig { time_wait: Duration::from_millis(1), ..TcpConfig::default() };
    let client = Host::client(Client::new(profile, connections), limits, tcp);
    let server = Server { echoes: profile != Profile::Bulk };
    Ok((client, Host::server(server, limits, tcp, PORT..=PORT, flow_options())?))
}

/// What was done up to now, as the client sees it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub exchanged: u64,
    pub closed: u64,
    /// Both ways.
    pub segments: u64,
    /// Octets of text from the client to the server.
    pub text: u64,
    pub retransmits: u64,
    pub allocations: u64,
}

impl Progress {
    pub fn of(client: &Host<Client>) -> Self {
        Self {
            exchanged: client.app.exchanged,
            closed: client.app.closed,
            segments: client.count(Counter::SegmentsOut) + client.count(Counter::SegmentsIn),
            text: client.count(Counter::TextOut),
            retransmits: client.count(Counter::Retransmits),
            allocations: allocations::count(),
        }
    }

    /// What `--count` counts: connections, exchanges, or megabytes.
    pub const fn done(&self, profile: Profile) -> u64 {
        match profile {
            Profile::Crr => self.closed,
            Profile::Rr => self.exchanged,
            Profile::Bulk => self.text >> 20,
        }
    }

    /// What was done since `earlier`.
    pub const fn since(&self, earlier: &Self) -> Self {
        Self {
            exchanged: self.exchanged - earlier.exchanged,
            closed: self.closed - earlier.closed,
            segments: self.segments - earlier.segments,
            text: self.text - earlier.text,
            retransmits: self.retransmits - earlier.retransmits,
            allocations: self.allocations - earlier.allocations,
        }
    }
}
