//! Windows as wide as the path needs, and never wider than the memory behind them.
use std::collections::HashMap;
use std::time::Duration;

use super::common::{CLEAN, LIMITS, config, connect, see, v4};
use ringroad::base::{Counter, DropReason, FlowId, Seq};
use ringroad::io::link::{LinkConfig, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Connect, Cx, EngineConfig, Flow, Limits, Listen};
use ringroad::tcp::FlowOptions;
use ringroad::wire::Control;

/// Sends for ever on some connections, or reads what comes.
#[derive(Default)]
struct Stream {
    listen: Option<Listen>,
    to: Option<Connect>,
    connections: u16,
    received: HashMap<FlowId, u64>,
    /// Nobody reads; a wake-up lets all go on when that is over.
    stopped: bool,
}

impl Stream {
    fn pump(flow: &mut Flow<'_>) {
        while flow.send(&[7; 10_000]) == 10_000 {}
    }

    fn all(&self) -> u64 {
        self.received.values().sum()
    }
}

impl App for Stream {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(listen) = &self.listen {
            cx.listen(listen).expect("a listener");
        }
        for _ in 0..self.connections {
            cx.connect(self.to.as_ref().expect("whereto")).expect("a connection");
        }
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        Self::pump(flow);
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        Self::pump(flow);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        if self.stopped {
            return 0;
        }
        *self.received.entry(flow.id()).or_default() += data.len() as u64;
        data.len()
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        self.received.keys().for_each(|&id| cx.flow(id).expect("it is open").resume());
    }
}

/// A sender, host 0, and a reader, host 1, at the ends of a gigabit with a queue for all that may be in flight.
fn gigabit(delay_us: u32, options: FlowOptions, limits: Limits, connections: u16) -> SimNet<Stream> {
    let queue = QueueLimit::Packets(50_000);
    let link = LinkConfig { rate_bps: 1_000_000_000, delay_us, queue, ..CLEAN };
    let host = |n| EngineConfig { limits, ..config(n) };
    let to = Connect { options, ..connect(v4(2), 80) };
    let listen = Some(Listen { options, ..Listen::new(v4(2), 80) });
    let mut net = SimNet::new(1);
    net.add(host(1), Stream { to: Some(to), connections, ..Stream::default() }, link);
    net.add(host(2), Stream { listen, ..Stream::default() }, link);
    net.introduce();
    net.start();
    net
}

fn run(net: &mut SimNet<Stream>, time: Duration) {
    assert!(net.run(net.now() + time, 100_000_000), "it goes on for ever");
}

/// Megabits that were read in the next `time`, a second of it.
fn rate(net: &mut SimNet<Stream>, time: Duration) -> u64 {
    let before = net.host(1).app.all();
    run(net, time);
    let octets = net.host(1).app.all() - before;
    octets * 8 / u64::try_from(time.as_micros()).expect("seconds")
}

/// Pools for some of the widest windows.
const PLENTY: Limits = Limits { send_chunks: 1 << 15, recv_chunks: 1 << 15, ..LIMITS };

/// Of 1538 octets on the wire 1448 are text; the simulated link counts 1514 of them.
const TEXT_RATE: u64 = 1_000 * 1_448 / 1_514;

#[test]
fn a_gigabit_over_a_tenth_of_a_second_is_filled() {
    let options = FlowOptions { recv_buffer: 32 << 20, send_buffer: 32 << 20, ..FlowOptions::default() };
    let mut net = gigabit(50_000, options, PLENTY, 1);
    run(&mut net, Duration::from_secs(2));
    let rate = rate(&mut net, Duration::from_millis(500));
    assert!(rate >= TEXT_RATE - 2, "{rate} Mbit/s");
    assert_eq!(net.host(0).engine.counters().get(Counter::Retransmits), 0, "nothing was lost");
    let (promised, _) = net.host(1).engine.promised();
    assert!(
        (12_500_000..=32 << 20).contains(&promised),
        "{promised} octets are what the path holds, or more"
    );
    net.host(1).engine.check_invariants();
}

#[test]
fn the_defaults_fill_a_gigabit_over_a_fiftieth_of_a_second() {
    let mut net = gigabit(10_000, FlowOptions::default(), PLENTY, 1);
    run(&mut net, Duration::from_millis(500));
    let rate = rate(&mut net, Duration::from_millis(200));
    assert!(rate >= TEXT_RATE - 2, "{rate} Mbit/s");
    let bound = u64::from(FlowOptions::default().recv_buffer);
    assert!(net.host(1).engine.promised().0 < bound, "not more than there is");
}

/// How far a reader's window reaches on each connection, by its acknowledgments.
#[derive(Default)]
struct Edges(HashMap<u16, Seq>);

impl Edges {
    /// None moves back by more than the scale cannot say (RFC 7323 §2.4).
    fn check(&mut self, net: &mut SimNet<Stream>, shift: u8) {
        for sent in net.take_captured().iter().filter(|sent| sent.from == 1) {
            let tcp = see(&sent.frame).tcp;
            if tcp.ctl().intersects(Control::SYN) {
                continue;
            }
            let edge = tcp.ack() + (u32::from(tcp.wnd()) << shift);
            let known = self.0.entry(tcp.dst_port()).or_insert(edge);
            assert!(!edge.before(*known) || known.since(edge) < 1 << shift, "{edge:?} after {known:?}");
            *known = known.later(edge);
        }
    }
}

/// A pool of 4 MiB: three for windows that grow, one for eight times 64 KiB.
const SMALL: Limits = Limits { send_chunks: 1 << 15, recv_chunks: 1 << 11, ..LIMITS };

/// Megabits a second that each of the connections has read, in the order of these figures.
fn rates(net: &mut SimNet<Stream>, mut step: impl FnMut(&mut SimNet<Stream>)) -> Vec<u64> {
    let before = net.host(1).app.received.clone();
    for _ in 0..100 {
        run(net, Duration::from_millis(10));
        step(net);
    }
    let gained = net.host(1).app.received.iter().map(|(id, octets)| octets - before.get(id).unwrap_or(&0));
    let mut rates: Vec<u64> = gained.map(|octets| octets * 8 / 1_000_000).collect();
    rates.sort_unstable();
    rates
}

/// Eight connections that could each use all of it: they share it, and when nobody reads any more, all that they were
/// promised finds room.
#[test]
fn connections_share_a_small_pool_and_what_was_promised_is_kept() {
    for loss in [0, 1_000] {
        let mut net = gigabit(20_000, FlowOptions::default(), SMALL, 8);
        let queue = QueueLimit::Packets(50_000);
        net.set_link(0, LinkConfig { rate_bps: 1_000_000_000, delay_us: 20_000, queue, loss, ..CLEAN });
        net.capture();
        let (mut edges, mut most) = (Edges::default(), 0);
        let mut check = |net: &mut SimNet<Stream>| {
            edges.check(net, 7);
            let engine = &net.host(1).engine;
            engine.check_invariants();
            most = most.max(engine.promised().0);
            assert_eq!(engine.counters().drops(DropReason::NoBuffer), 0, "{loss}: it was promised");
        };
        rates(&mut net, &mut check);
        let reading = rates(&mut net, &mut check);
        net.host_mut(1).app.stopped = true;
        assert_eq!(rates(&mut net, &mut check), [0; 8]);
        let (full, all) = (net.host(1).engine.chunks_in_use().1, SMALL.recv_chunks);
        net.host_mut(1).app.stopped = false;
        net.wake(1);
        let after = rates(&mut net, &mut check);

        let why =
            format!("{loss}: {reading:?}, then {after:?} Mbit/s; {most} octets promised, {full} chunks used");
        assert!(most > 1 << 21 && full > all * 3 / 4, "the pool is in use: {why}");
        let refused = net.host(1).engine.counters().get(Counter::WindowGrowthRefused);
        assert!(refused > 0, "and too small: {why}");
        assert!(reading[0] > 0 && after[0] > 0, "nobody is forgotten: {why}");
        if loss == 0 {
            // Else it is not the window alone that says how fast they are.
            assert!(reading[7] <= 4 * reading[0], "nobody has it all: {why}");
            // Five sixths of what three megabytes and eight initial windows are worth in 40 ms.
            assert!(reading.iter().sum::<u64>() > 600, "{why}");
        }
        assert_eq!(edges.0.len(), 8);
    }
}

/// A path that holds 860 segments: at 5 % there are more than forty gaps at a time.
#[test]
fn many_losses_in_a_wide_window_are_kept_apart() {
    for loss in [1_000, 10_000, 50_000] {
        let mut net = gigabit(5_000, FlowOptions::default(), PLENTY, 1);
        run(&mut net, Duration::from_millis(200));
        let queue = QueueLimit::Packets(50_000);
        net.set_link(0, LinkConfig { rate_bps: 1_000_000_000, delay_us: 5_000, queue, loss, ..CLEAN });
        run(&mut net, Duration::from_millis(300));
        assert_eq!(net.host(1).engine.counters().drops(DropReason::ReassemblyFull), 0, "{loss}");
        let (lost, sent) = (net.traffic().lost, net.host(0).engine.counters().get(Counter::Retransmits));
        assert!(sent <= lost, "{loss}: {sent} were sent again, and {lost} lost");
        net.host(1).engine.check_invariants();
    }
}
