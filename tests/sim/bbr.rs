//! BBR end to end: what CUBIC and NewReno cannot do, and what it does not do to the queue.
use std::time::Duration;

use super::common::{Bulk, CLEAN, assert_nothing_left, config, connect, run, run_while, v4};
use ringroad::base::Counter;
use ringroad::io::link::{LinkConfig, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::{Connect, EngineConfig, Limits, Listen};
use ringroad::tcp::{CloseReason, CongestionAlgorithm, FlowOptions};

/// 100 Mbit/s and a round trip of 20 ms, which is 250 kB; the queue holds as much.
const PATH: LinkConfig =
    LinkConfig { delay_us: 10_000, rate_bps: 100_000_000, queue: QueueLimit::Octets(250_000), ..CLEAN };

/// What a transfer of 20 MB came to.
#[derive(Debug)]
struct Outcome {
    took: Duration,
    retransmits: u64,
    timeouts: u64,
}

fn transfer(congestion: CongestionAlgorithm, models_max: u32, link: LinkConfig) -> Outcome {
    transfer_while(congestion, models_max, 1 << 20, link, link)
}

/// The same with buffers of so many octets, where the link is another from the second second on.
fn transfer_while(
    congestion: CongestionAlgorithm,
    models_max: u32,
    buffer: u32,
    link: LinkConfig,
    then: LinkConfig,
) -> Outcome {
    const OCTETS: u64 = 20_000_000;
    let options =
        FlowOptions { congestion, send_buffer: buffer, recv_buffer: buffer, ..FlowOptions::default() };
    let to = Connect { options, ..connect(v4(2), 80) };
    let client = Bulk { to: Some(to), send: OCTETS, streams: (1, 2), ..Bulk::default() };
    let listen = Listen { options, ..Listen::new(v4(2), 80) };
    let server = Bulk { listen: Some(listen), streams: (2, 1), ..Bulk::default() };
    let with_models = |n| {
        let plain = config(n);
        let limits = Limits { models_max, send_chunks: 1 << 13, recv_chunks: 1 << 13, ..plain.limits };
        EngineConfig { limits, ..plain }
    };
    let mut net = SimNet::new(3);
    net.add(with_models(1), client, link);
    net.add(with_models(2), server, link);
    net.introduce();
    net.start();
    let took = run_while(&mut net, Duration::from_secs(100), |net, elapsed| {
        if elapsed.as_secs() >= 1 {
            net.set_link(0, then);
        }
        net.host(0).app.done.is_empty()
    });
    run(&mut net, 200);
    assert_nothing_left(&net, 2);
    let (done, why) = &net.host(1).app.done[0];
    assert_eq!((done.received, *why), (OCTETS, CloseReason::Finished));
    let counted = |counter| net.host(0).engine.counters().get(counter);
    Outcome {
        took,
        retransmits: counted(Counter::Retransmits),
        timeouts: counted(Counter::RetransmitTimeouts),
    }
}

#[test]
fn fills_the_link_without_filling_the_queue() {
    let bbr = transfer(CongestionAlgorithm::Bbr, 8, PATH);
    assert!(bbr.took < Duration::from_millis(2_000), "1.7 s is all that the link can do: {bbr:?}");
    assert!(bbr.retransmits < 100 && bbr.timeouts == 0, "{bbr:?}");
    let cubic = transfer(CongestionAlgorithm::Cubic, 8, PATH);
    assert!(bbr.retransmits * 4 < cubic.retransmits, "{bbr:?} {cubic:?}");
}

#[test]
fn one_loss_in_a_hundred_does_not_mean_congestion() {
    let lossy = LinkConfig { loss: 10_000, ..PATH };
    let bbr = transfer(CongestionAlgorithm::Bbr, 8, lossy);
    let cubic = transfer(CongestionAlgorithm::Cubic, 8, lossy);
    assert!(bbr.took * 3 < cubic.took, "{bbr:?} {cubic:?}");
    assert!(bbr.retransmits * 50 < 20_000_000 / 1_448, "and what is sent again is what was lost: {bbr:?}");
}

/// A queue of eight times what the pipe holds is one of eighty times once the rate is a tenth. Round trips become so
/// long that each ProbeRTT ends a probe, and no cycle forgets the old rate.
#[test]
fn a_rate_that_is_gone_is_forgotten_however_long_the_queue() {
    let path =
        LinkConfig { delay_us: 20_000, rate_bps: 50_000_000, queue: QueueLimit::Octets(2_000_000), ..CLEAN };
    let slow = LinkConfig { rate_bps: 5_000_000, ..path };
    let bbr = transfer_while(CongestionAlgorithm::Bbr, 8, 4 << 20, path, slow);
    assert!(bbr.took < Duration::from_secs(29), "26 s is all that the link can do: {bbr:?}");
    assert!(bbr.retransmits < 100 && bbr.timeouts == 0, "{bbr:?}");
}

#[test]
fn without_room_for_a_model_it_is_reno() {
    let bbr = transfer(CongestionAlgorithm::Bbr, 0, PATH);
    let reno = transfer(CongestionAlgorithm::NewReno, 8, PATH);
    assert_eq!(format!("{bbr:?}"), format!("{reno:?}"));
}
