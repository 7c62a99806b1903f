//! One path between two hosts, and what bulk and short flows get of it in virtual time.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use ringroad::base::{Counter, HashKey, Instant};
use ringroad::io::link::{LinkConfig, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Connect, Cx, EngineConfig, Flow, Limits, Listen, Owners, Route, Routes};
use ringroad::tcp::{CloseReason, CongestionAlgorithm, FlowOptions, TcpConfig};
use ringroad::wire::ethernet;

use crate::scenario::{PORT, addresses, mac};

/// The largest IP packet, octets.
const MTU: u16 = 1_500;
/// A frame that is full, octets.
const FRAME: u64 = MTU as u64 + ethernet::HEADER_LEN as u64;

/// A link as `ringroad lab up` makes it: alike in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Millions of bits a second.
    pub rate_mbit: u32,
    /// Microseconds there and back.
    pub rtt_us: u32,
    /// Frames lost, per million.
    pub loss: u32,
    /// What may wait, in tenths of what is on its way.
    pub queue: u32,
}

/// What a bulk flow came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bulk {
    /// Octets that the receiving application got.
    pub received: u64,
    /// How often the sender's retransmission timer expired.
    pub timeouts: u64,
}

impl Path {
    /// Octets that are on their way when the rate is used: rate times round trip.
    pub const fn bdp(&self) -> u64 {
        self.rate_mbit as u64 * self.rtt_us as u64 / 8
    }

    /// Full frames that the link carries in so many whole seconds.
    pub const fn frames(&self, time: Duration) -> u64 {
        self.rate_mbit as u64 * 1_000_000 / 8 * time.as_secs() / FRAME
    }

    /// Frames that may wait; four at least.
    fn queue_frames(&self) -> u32 {
        let frames = self.bdp() * u64::from(self.queue) / 10 / FRAME;
        u32::try_from(frames).expect("fewer than the octets of a window").max(4)
    }

    fn link(&self) -> LinkConfig {
        LinkConfig {
            rate_bps: u64::from(self.rate_mbit) * 1_000_000,
            queue: QueueLimit::Packets(self.queue_frames()),
            delay_us: self.rtt_us / 2,
            loss: self.loss,
            ..LinkConfig::PERFECT
        }
    }

    /// Differs for each path, so that no two lose the same frames.
    const fn seed(&self) -> u64 {
        let Self { rate_mbit, rtt_us, loss, queue } = *self;
        (rate_mbit as u64) << 48 ^ (rtt_us as u64) << 28 ^ (loss as u64) << 8 ^ queue as u64
    }

    /// Buffers that are never what a flow waits for: all that is on its way and in the queue, and as much again
    /// while a loss is repaired.
    fn buffer(&self) -> u32 {
        let octets = 2 * (self.bdp() + u64::from(self.queue_frames()) * FRAME) + (1 << 19);
        u32::try_from(octets).expect("less than a gigabyte")
    }

    /// Two hosts, started, of which the first has the active ends.
    fn net<A: App>(&self, client: A, server: A) -> SimNet<A> {
        let mut net = SimNet::new(self.seed());
        net.add(self.engine(0), client, self.link());
        net.add(self.engine(1), server, self.link());
        net.introduce();
        net.start();
        net
    }

    fn engine(&self, host: usize) -> EngineConfig {
        let on_link =
            Route { destination: [10, 0, 0, 0].into(), prefix_len: 24, gateway: None, source: None };
        let chunk_len = 2_048;
        let chunks = self.buffer() / chunk_len + 4_096;
        EngineConfig {
            limits: Limits {
                flows_max: 1_024,
                half_open_max: 1_024,
                time_wait_max: 8_192,
                listeners_max: 1,
                neighbours_max: 4,
                chunk_len,
                send_chunks: chunks,
                recv_chunks: chunks,
                reassembly_max: 1_024,
                busy_max: 16_384,
                options_max: 4,
                ..Limits::default()
            },
            tcp: TcpConfig { time_wait: Duration::from_secs(1), ..TcpConfig::default() },
            mac: mac(host),
            mtu: MTU,
            routes: Routes { addresses: vec![address(host)], routes: vec![on_link] },
            source_ports: 20_000..=60_000,
            worker: 0,
            owners: Owners::One,
            verify_checksums: true,
            secret: HashKey::new(host as u64, self.seed()),
        }
    }

    /// One flow from the first host to the second, for `time` from its SYN on.
    pub fn bulk(&self, algorithm: CongestionAlgorithm, time: Duration) -> Bulk {
        let options = self.options(algorithm);
        let sender = Pump { connect: Some(options), ..Pump::default() };
        let receiver = Pump { listen: Some(options), ..Pump::default() };
        let mut net = self.net(sender, receiver);
        let until = net.now() + time;
        assert!(net.run(until, u64::MAX), "it comes to the end of its time");
        Bulk {
            received: net.host(1).app.received,
            timeouts: net.host(0).engine.counters().get(Counter::RetransmitTimeouts),
        }
    }

    /// `count` exchanges one after another, each on a connection of its own: a request of 64 octets, and `octets` back.
    /// How long each took from its SYN to the last octet, the shortest first.
    pub fn short(&self, algorithm: CongestionAlgorithm, octets: u32, count: usize) -> Vec<Duration> {
        let options = self.options(algorithm);
        let client = Exchange { connect: Some(options), octets, left: count, ..Exchange::default() };
        let server = Exchange { listen: Some(options), octets, ..Exchange::default() };
        let mut net = self.net(client, server);
        while net.host(0).app.took.len() < count {
            assert!(net.step(), "exchanges go on until all are done");
        }
        let mut took = std::mem::take(&mut net.host_mut(0).app.took);
        took.sort_unstable();
        took
    }

    fn options(&self, congestion: CongestionAlgorithm) -> FlowOptions {
        let buffer = self.buffer();
        FlowOptions {
            congestion,
            nagle: false,
            recv_buffer: buffer,
            send_buffer: buffer,
            ..FlowOptions::default()
        }
    }
}

/// The one address of each host.
fn address(host: usize) -> IpAddr {
    addresses(host)[0]
}

fn connect(cx: &mut Cx<'_>, options: FlowOptions) {
    let remote = (address(1), PORT).into();
    cx.connect(&Connect { remote, local: None, options, user: 0 }).expect("there are ports enough");
}

fn listen(cx: &mut Cx<'_>, options: FlowOptions) {
    cx.listen(&Listen { options, ..Listen::new(address(1), PORT) }).expect("the one listener");
}

/// Sends without end on what it opens, and counts what comes.
#[derive(Debug, Default)]
struct Pump {
    connect: Option<FlowOptions>,
    listen: Option<FlowOptions>,
    received: u64,
}

/// Octets handed over in one call.
static TEXT: [u8; 1 << 16] = [0x5a; 1 << 16];

impl App for Pump {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(options) = self.connect {
            connect(cx, options);
        }
        if let Some(options) = self.listen {
            listen(cx, options);
        }
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.on_writable(flow);
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        while flow.send(&TEXT) == TEXT.len() {}
    }

    fn on_data(&mut self, _: &mut Flow<'_>, data: &[u8]) -> usize {
        self.received += data.len() as u64;
        data.len()
    }
}

/// Opens one connection after another for a request and its reply; or answers them.
#[derive(Debug, Default)]
struct Exchange {
    connect: Option<FlowOptions>,
    listen: Option<FlowOptions>,
    /// Of a reply.
    octets: u32,
    /// Exchanges that were not begun yet.
    left: usize,
    /// When the one under way began, and how much of its reply is here.
    began: Option<Instant>,
    got: u32,
    took: Vec<Duration>,
}

impl Exchange {
    const REQUEST: usize = 64;

    fn begin(&mut self, cx: &mut Cx<'_>) {
        if let Some(options) = self.connect.filter(|_| self.left > 0) {
            self.left -= 1;
            (self.began, self.got) = (Some(cx.now()), 0);
            connect(cx, options);
        }
    }
}

impl App for Exchange {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(options) = self.listen {
            listen(cx, options);
        }
        self.begin(cx);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        assert_eq!(flow.send(&TEXT[..Self::REQUEST]), Self::REQUEST, "the buffer is empty");
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.got += u32::try_from(data.len()).expect("a segment or a chunk");
        if self.listen.is_some() {
            // One request for each connection, in one segment.
            let reply = &TEXT[..self.octets as usize];
            assert_eq!(flow.send(reply), reply.len(), "the buffer is empty");
        } else if self.got == self.octets
            && let Some(began) = self.began.take()
        {
            self.took.push(flow.now().since(began));
            flow.close();
        }
        data.len()
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        if self.connect.is_some() {
            assert_eq!((self.began, why), (None, CloseReason::Finished), "an exchange failed");
            self.begin(&mut flow.cx());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: Path = Path { rate_mbit: 10, rtt_us: 20_000, loss: 0, queue: 10 };

    #[test]
    fn a_flow_gets_what_the_headers_leave_of_the_rate() {
        let time = Duration::from_secs(5);
        let bulk = PATH.bulk(CongestionAlgorithm::Cubic, time);
        // 1,448 of 1,514 octets are text, and slow start takes some round trips.
        let most = PATH.frames(time) * 1_448;
        assert!((most * 95 / 100..=most).contains(&bulk.received), "{bulk:?} of {most}");
        assert_eq!(bulk.timeouts, 0);
    }

    #[test]
    fn a_path_repeats_itself_and_no_other() {
        let received = |path: Path| path.bulk(CongestionAlgorithm::Cubic, Duration::from_secs(2)).received;
        let lossy = Path { loss: 10_000, ..PATH };
        assert_eq!(received(lossy), received(lossy));
        assert!(received(lossy) < received(PATH));
    }

    /// Handshake and request take two round trips; ten segments are one window.
    #[test]
    fn a_short_exchange_takes_two_round_trips_and_the_time_to_send_it() {
        let took = PATH.short(CongestionAlgorithm::Cubic, 10_000, 20);
        let sent = Duration::from_micros(10_000 * 8 / 10);
        let range = Duration::from_millis(40) + sent..Duration::from_millis(42) + sent;
        assert!(took.len() == 20 && took.iter().all(|took| range.contains(took)), "{took:?}");
    }

    #[test]
    fn queues_are_shares_of_what_is_on_its_way_and_four_frames_at_least() {
        for (queue, want) in [(1, 4), (10, 16), (40, 66)] {
            assert_eq!(Path { queue, ..PATH }.queue_frames(), want);
        }
    }
}
