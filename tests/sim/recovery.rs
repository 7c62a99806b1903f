//! Repair of losses end to end: how much is sent again, and how long a transfer takes.
use std::time::Duration;

use super::common::{Bulk, CLEAN, assert_nothing_left, connect, pair, run, run_while, v4};
use ringroad::base::Counter;
use ringroad::io::link::LinkConfig;
use ringroad::stack::Listen;
use ringroad::tcp::CloseReason;

/// What a transfer of `octets` from host 0 came to.
#[derive(Debug)]
struct Outcome {
    took: Duration,
    segments: u64,
    retransmits: u64,
    timeouts: u64,
    recoveries: u64,
    probes: u64,
    spurious: u64,
    duplicates: u64,
}

fn transfer(seed: u64, octets: u64, link: LinkConfig) -> Outcome {
    let client = Bulk { to: Some(connect(v4(2), 80)), send: octets, streams: (1, 2), ..Bulk::default() };
    let server = Bulk { listen: Some(Listen::new(v4(2), 80)), streams: (2, 1), ..Bulk::default() };
    let mut net = pair(seed, client, server, link);
    net.start();
    let took = run_while(&mut net, Duration::from_secs(600), |net, _| net.host(0).app.done.is_empty());
    run(&mut net, 200);
    assert_nothing_left(&net, 2);
    let (done, why) = &net.host(1).app.done[0];
    assert_eq!((done.received, *why), (octets, CloseReason::Finished));
    let counted = |counter| net.host(0).engine.counters().get(counter);
    Outcome {
        took,
        segments: counted(Counter::SegmentsOut),
        retransmits: counted(Counter::Retransmits),
        timeouts: counted(Counter::RetransmitTimeouts),
        recoveries: counted(Counter::FastRetransmits),
        probes: counted(Counter::TailLossProbes),
        spurious: counted(Counter::SpuriousRecoveries),
        duplicates: counted(Counter::DuplicatesReported),
    }
}

/// 100 Mbit/s and a round trip of 20 ms.
const PATH: LinkConfig = LinkConfig { delay_us: 10_000, rate_bps: 100_000_000, ..CLEAN };

#[test]
fn nothing_is_sent_twice_where_nothing_is_lost() {
    let clean = transfer(1, 2_000_000, PATH);
    assert_eq!((clean.retransmits, clean.probes, clean.timeouts), (0, 0, 0), "{clean:?}");
    assert!(clean.took < Duration::from_millis(400), "slow start, then the rate of the link: {clean:?}");
}

/// Each segment lost is sent again once, but for those lost again.
#[test]
fn losses_are_repaired_and_nothing_else() {
    for loss in [1_000, 10_000, 50_000] {
        for seed in 0..10 {
            let outcome = transfer(seed, 2_000_000, LinkConfig { loss, ..PATH });
            let why = format!("{loss} of a million lost, seed {seed}: {outcome:?}");
            // What was lost may have been all acknowledgments of a small window.
            assert!(outcome.spurious <= outcome.timeouts, "{why}");
            assert!(outcome.duplicates <= outcome.probes + outcome.timeouts, "{why}");
            assert!(outcome.timeouts <= 3 && outcome.recoveries <= outcome.retransmits, "{why}");
            assert!(
                outcome.retransmits * 1_000_000 <= outcome.segments * u64::from(loss) * 2 + 5_000_000,
                "{why}"
            );
        }
    }
}

/// Less than one segment in 200 is sent again where one in 20 is overtaken and none lost.
#[test]
fn reordering_is_told_from_loss() {
    for reorder_us in [100, 1_000, 4_000] {
        let (mut segments, mut again) = (0, 0);
        for seed in 0..10 {
            let outcome = transfer(seed, 2_000_000, LinkConfig { reorder: 50_000, reorder_us, ..PATH });
            assert_eq!(outcome.timeouts, 0, "seed {seed}: {outcome:?}");
            assert!(outcome.took < Duration::from_millis(600), "seed {seed}: {outcome:?}");
            segments += outcome.segments;
            again += outcome.retransmits;
        }
        assert!(again * 200 < segments, "{again} of {segments}, late by {reorder_us} us");
    }
}
