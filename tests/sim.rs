//! Two engines in one process over a seeded network: every octet once and in order, every close closed.
mod common;

use common::{Bulk, CLEAN, assert_nothing_left, connect, pair, run, v4, v6};
use ringroad::base::Rng;
use ringroad::io::sim::Faults;
use ringroad::stack::Listen;
use ringroad::tcp::CloseReason;

/// Octets each way of one transfer, and what became of it.
fn bulk(seed: u64, v6_too: bool, up: u64, down: u64, faults: Faults) {
    let server = if v6_too { v6(2) } else { v4(2) };
    let client =
        Bulk { to: Some(connect(server, 80)), send: up, streams: (seed, seed + 1), ..Bulk::default() };
    let listen = Some(Listen::new(server, 80));
    let server = Bulk { listen, send: down, streams: (seed + 1, seed), ..Bulk::default() };
    let mut net = pair(seed, client, server, faults);
    net.start();
    run(&mut net, 4_000);
    for (host, received) in [(0, down), (1, up)] {
        let app = &net.host(host).app;
        assert!(app.live.is_empty(), "host {host} waits: {:?} {:?}", app.live, net.host(host).engine);
        let (transfer, why) = &app.done[0];
        assert_eq!((transfer.received, *why), (received, CloseReason::Finished), "host {host}");
        assert!(transfer.finished);
    }
    assert_nothing_left(&net, 2);
}

#[test]
fn bulk_arrives_octet_for_octet_on_a_clean_link() {
    for (up, down) in [
        (0, 0),
        (1, 0),
        (0, 1),
        (64, 64),
        (1_448, 1_449),
        (3_000_000, 0),
        (0, 3_000_000),
        (1_000_000, 1_000_000),
    ] {
        bulk(1, false, up, down, CLEAN);
        bulk(2, true, up, down, CLEAN);
    }
}

/// How many seeds to try: `RINGROAD_SEEDS`, or 200.
fn seeds() -> std::ops::Range<u64> {
    match std::env::var("RINGROAD_SEEDS").ok().map(|seeds| (seeds.parse(), seeds)) {
        None => 0..200,
        Some((Ok(seeds), _)) => 0..seeds,
        Some((Err(_), range)) => {
            let (from, to) = range.split_once("..").expect("RINGROAD_SEEDS is N or FROM..TO");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
    }
}

/// Says how to repeat a seed that panics.
struct Repeat<'a>(&'a str, u64);

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (test, seed) = (self.0, self.1);
            eprintln!(
                "repeat with: RINGROAD_SEEDS={seed}..{} cargo test --no-default-features --features std \\\n    --test sim {test}",
                seed + 1
            );
        }
    }
}

#[test]
fn bulk_arrives_octet_for_octet_whatever_the_link_does() {
    for seed in seeds() {
        let _repeat = Repeat("bulk_arrives_octet_for_octet_whatever_the_link_does", seed);
        let mut rng = Rng::new(seed);
        let faults = Faults {
            delay_us: rng.below(20_000),
            jitter_us: rng.below(20_000),
            loss: rng.below(100_001),
            duplicate: rng.below(100_001),
            corrupt: rng.below(100_001),
        };
        let (up, down) = (u64::from(rng.below(60_000)), u64::from(rng.below(60_000)));
        bulk(seed, seed % 2 == 1, up, down, faults);
    }
}
