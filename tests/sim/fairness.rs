//! Two flows over one bottleneck: what each gets of it.
use std::time::Duration;

use ringroad::io::link::{LinkConfig, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Connect, Cx, EngineConfig, Flow, Limits, Listen};
use ringroad::tcp::{CongestionAlgorithm, FlowOptions};

use super::common::{LIMITS, config, v4};

/// Larger than what any of the paths below holds.
const BUFFER: u32 = 4 << 20;

/// Begins to send on one connection at once and on another one later, without end; or counts what comes on each.
#[derive(Default)]
struct Two {
    connect: Option<FlowOptions>,
    listen: Option<Listen>,
    /// When the second one begins.
    later: Duration,
    begun: u64,
    received: [u64; 2],
}

impl Two {
    fn begin(&mut self, cx: &mut Cx<'_>) {
        if let Some(options) = self.connect {
            let remote = (v4(2), 80 + u16::try_from(self.begun).expect("two")).into();
            cx.connect(&Connect { remote, local: None, options, user: self.begun }).expect("a connection");
            self.begun += 1;
        }
    }
}

impl App for Two {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(listen) = &self.listen {
            cx.listen(listen).expect("a listener");
        }
        self.begin(cx);
        cx.set_timer(self.later);
    }

    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {
        self.begin(cx);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.on_writable(flow);
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        flow.set_user(u64::from(flow.local().port() - 80));
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        let text = [7; 1 << 14];
        while flow.send(&text) == text.len() {}
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.received[usize::try_from(flow.user()).expect("two")] += data.len() as u64;
        data.len()
    }
}

/// Octets that each of two flows got in 60 s from the beginning of the second one on.
fn shares(congestion: CongestionAlgorithm, link: LinkConfig, later: Duration) -> [u64; 2] {
    let options =
        FlowOptions { congestion, recv_buffer: BUFFER, send_buffer: BUFFER, ..FlowOptions::default() };
    let chunks = 3 * BUFFER / LIMITS.chunk_len;
    let host = |n| EngineConfig {
        limits: Limits { send_chunks: chunks, recv_chunks: chunks, ..LIMITS },
        ..config(n)
    };
    let mut net = SimNet::new(1);
    net.add(host(1), Two { connect: Some(options), later, ..Two::default() }, link);
    let listen = Listen { ports: 80..=81, options, ..Listen::new(v4(2), 80) };
    net.add(host(2), Two { listen: Some(listen), ..Two::default() }, link);
    net.introduce();
    net.start();
    assert!(net.run(net.now() + later, u64::MAX), "the first one is alone");
    let before = net.host(1).app.received;
    assert!(net.run(net.now() + Duration::from_secs(60), u64::MAX), "a minute passes");
    let after = net.host(1).app.received;
    [0, 1].map(|flow| after[flow] - before[flow])
}

/// Jain's index of two shares, in thousandths: 500 when one has all, 1000 when they are alike.
fn jain(shares: [u64; 2]) -> u64 {
    let sum = u128::from(shares[0] + shares[1]);
    let squares: u128 = shares.iter().map(|&share| u128::from(share).pow(2)).sum();
    u64::try_from(sum * sum * 1_000 / (2 * squares)).expect("a thousand at most")
}

/// The mean of three beginnings: nothing else is random on these links, so that each alone shows how two particular
/// sequences of losses fall, and that may be any way.
#[test]
fn two_flows_share_a_bottleneck_within_a_minute() {
    use CongestionAlgorithm::{Cubic, NewReno};
    for (algorithm, rate_mbit, rtt_ms, queue) in [
        (Cubic, 10, 20, 17),
        (Cubic, 10, 100, 83),
        (Cubic, 50, 20, 83),
        (NewReno, 10, 20, 17),
        (NewReno, 10, 100, 83),
    ] {
        let link = LinkConfig {
            rate_bps: rate_mbit * 1_000_000,
            delay_us: rtt_ms * 500,
            queue: QueueLimit::Packets(queue),
            ..LinkConfig::PERFECT
        };
        let shares = [2, 5, 8].map(|later| shares(algorithm, link, Duration::from_secs(later)));
        let mean = shares.into_iter().map(jain).sum::<u64>() / 3;
        let why = format!("{algorithm:?}, {rate_mbit} Mbit/s, {rtt_ms} ms: {shares:?}, Jain {mean} of 1000");
        assert!(mean >= 900, "{why}");
        let most = rate_mbit * 60 * 1_000_000 / 8;
        assert!(shares.iter().all(|[one, two]| (one + two) * 100 >= most * 90), "{why}");
    }
}
