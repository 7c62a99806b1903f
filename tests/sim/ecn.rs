//! Explicit congestion notification end to end (RFC 3168): a link that marks slows senders down, and nothing is lost.
use std::net::IpAddr;
use std::time::Duration;

use super::common::{Bulk, CLEAN, assert_nothing_left, connect, pair, run, run_while, see, v4, v6};
use ringroad::base::Counter;
use ringroad::io::link::{LinkConfig, LinkStats, Mark, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::{Connect, Listen};
use ringroad::tcp::{CloseReason, CongestionAlgorithm, FlowOptions};
use ringroad::wire::{Control, EthernetView, ip};

/// 100 Mbit/s, a round trip of 20 ms, and a queue that holds 20 ms and marks from a quarter of that on.
const MARKING: LinkConfig = LinkConfig {
    delay_us: 10_000,
    rate_bps: 100_000_000,
    queue: QueueLimit::Packets(160),
    mark: Mark::Above(40),
    ..CLEAN
};

/// What a transfer of so many octets each way came to.
struct Outcome {
    took: Duration,
    net: SimNet<Bulk>,
}

impl Outcome {
    fn count(&self, host: usize, counter: Counter) -> u64 {
        self.net.host(host).engine.counters().get(counter)
    }

    fn link(&self, host: usize) -> LinkStats {
        self.net.host(host).link_stats()
    }
}

/// Transfers `octets` each way between hosts with these options.
fn transfer(seed: u64, (of, to): ([IpAddr; 2], [FlowOptions; 2]), octets: u64, link: LinkConfig) -> Outcome {
    let [options, listening] = to;
    let opening = Some(Connect { options, ..connect(of[1], 80) });
    let listen = Some(Listen { options: listening, ..Listen::new(of[1], 80) });
    let client = Bulk { to: opening, send: octets, streams: (1, 2), ..Bulk::default() };
    let server = Bulk { listen, send: octets, streams: (2, 1), ..Bulk::default() };
    let mut net = pair(seed, client, server, link);
    net.capture();
    net.start();
    let took = run_while(&mut net, Duration::from_secs(600), |net, took| {
        let is_done = [0, 1].iter().all(|&host| !net.host(host).app.done.is_empty());
        let flows: u32 = [0, 1].iter().map(|&host| net.host(host).engine.flow_count()).sum();
        !is_done && (took.is_zero() || flows > 0)
    });
    run(&mut net, 200);
    assert_nothing_left(&net, 2);
    for host in 0..2 {
        let (done, why) = &net.host(host).app.done[0];
        assert_eq!((done.received, *why), (octets, CloseReason::Finished), "host {host}");
    }
    Outcome { took, net }
}

fn using(ecn: bool, congestion: CongestionAlgorithm) -> FlowOptions {
    FlowOptions { ecn, congestion, recv_buffer: 1 << 22, send_buffer: 1 << 22, ..FlowOptions::default() }
}

const V4: fn() -> [IpAddr; 2] = || [v4(1), v4(2)];

#[test]
fn a_link_that_marks_loses_nothing_of_those_who_heed_it() {
    for congestion in [CongestionAlgorithm::Cubic, CongestionAlgorithm::NewReno] {
        for of in [V4(), [v6(1), v6(2)]] {
            let heeding = transfer(1, (of, [using(true, congestion); 2]), 10_000_000, MARKING);
            for (host, other) in [(0, 1), (1, 0)] {
                let why = format!("{congestion:?} from {} {:?}", of[host], heeding.link(host));
                let link = heeding.link(host);
                assert!(link.marked > 0 && link.dropped() == 0, "{why}");
                assert_eq!(heeding.count(other, Counter::EcnMarks), link.marked, "each is counted: {why}");
                assert_eq!(heeding.count(host, Counter::EcnAgreed), 1, "{why}");
                assert_eq!(heeding.count(host, Counter::Retransmits), 0, "{why}");
                let reductions = heeding.count(host, Counter::EcnReductions);
                assert!(reductions > 0 && reductions <= link.marked, "{reductions}: {why}");
            }
            // At the rate of the link it takes 0.83 s; NewReno halves its window, the queue being short.
            assert!(heeding.took < Duration::from_millis(2_500), "{congestion:?}: {:?}", heeding.took);
        }
    }
}

/// The same link with senders that it cannot tell to slow down: it has no other way than to lose what they send.
#[test]
fn the_same_link_loses_what_those_send_who_do_not_agree() {
    let cubic = CongestionAlgorithm::Cubic;
    for options in [[using(false, cubic); 2], [using(true, cubic), using(false, cubic)]] {
        let deaf = transfer(1, (V4(), options), 10_000_000, MARKING);
        for host in 0..2 {
            assert_eq!((deaf.link(host).marked, deaf.count(host, Counter::EcnReductions)), (0, 0));
            assert!(
                deaf.link(host).dropped() > 0 && deaf.count(host, Counter::Retransmits) > 0,
                "host {host}"
            );
        }
    }
}

/// RFC 3168 §6.1.2: one reduction in a round trip, however many marks there are.
#[test]
fn where_everything_is_marked_the_window_is_reduced_once_in_a_round_trip() {
    let link = LinkConfig { delay_us: 10_000, mark: Mark::Share(1_000_000), ..CLEAN };
    let options = [using(true, CongestionAlgorithm::NewReno); 2];
    let outcome = transfer(1, (V4(), options), 100_000, link);
    let round_trips = u64::try_from(outcome.took.as_millis() / 20).expect("a minute at most");
    for host in 0..2 {
        let reductions = outcome.count(host, Counter::EcnReductions);
        assert!(reductions >= 3 && reductions <= round_trips, "{reductions} in {round_trips} round trips");
        assert_eq!(outcome.count(host, Counter::Retransmits), 0);
    }
}

/// RFC 3168 §6.1.4 to §6.1.6, on links that lose and mark.
#[test]
fn nothing_but_new_text_may_be_marked() {
    for seed in 0..10 {
        let link = LinkConfig {
            loss: 10_000,
            reorder: 10_000,
            reorder_us: 3_000,
            mark: Mark::Share(5_000),
            ..MARKING
        };
        let options = [using(true, CongestionAlgorithm::Cubic); 2];
        let outcome = transfer(seed, (V4(), options), 300_000, link);
        let (mut capable, mut again) = (0, 0);
        for host in 0..2 {
            let mut nxt = None;
            for captured in outcome.net.captured().iter().filter(|captured| captured.from == host) {
                let seen = see(&captured.frame);
                let eth = EthernetView::parse(&captured.frame).expect("Ethernet");
                let ecn = ip::parse(eth.ether_type, eth.payload).expect("IP").ecn;
                let (seq, len) = (seen.tcp.seq(), u32::try_from(seen.tcp.payload.len()).expect("short"));
                let controls = u32::from(seen.tcp.ctl().intersects(Control::SYN | Control::FIN));
                let known = *nxt.get_or_insert(seq);
                let is_new = len > 0 && known.at_or_before(seq);
                assert_eq!(ecn, if is_new { 2 } else { 0 }, "seed {seed}: {seen:?}");
                nxt = Some(known.later(seq + len + controls));
                capable += u32::from(is_new);
                again += u32::from(len > 0 && !is_new);
            }
        }
        assert!(capable > 300 && again > 0, "seed {seed}: {capable} new, {again} again");
    }
}
