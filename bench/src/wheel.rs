//! The timer wheel by itself: set, move, cancel and expire with many deadlines armed.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant as WallClock};

use anyhow::ensure;
use comfy_table::{CellAlignment, Table};
use ringroad::base::{Instant, Rng};
use ringroad::stack::Wheel;
use serde::Serialize;

use crate::environment::{Environment, resident_bytes, write_json};
use crate::random::shuffle;

/// Operations between two looks at the clock.
const LOT: usize = 1_024;
/// Operations whose memory is asked for together: as many as an engine looks ahead.
const BATCH: usize = 32;
/// Time between two calls in which deadlines expire: a busy worker's turn.
const TURN_US: u64 = 50;
/// What an operation may take, ns.
const GOAL: f64 = 30.0;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "So many nodes are armed, each for a random instant of the spread. Then, an eighth of them at a \
    time, nodes are cancelled and, when no cache holds them any more, set again, while all others stay armed: \
    first one by one, each waiting for memory by itself, and then in batches of 32 whose nodes are read before, as \
    an engine does with the frames of a turn. Next, a thousand at a time, they are set without a cancel (moved), and then cancelled and set while they \
    are still in a cache, as the timer of a segment is that is soon acknowledged. At last virtual time goes \
    on, 50 us a turn, until all have expired. Neither nodes nor deadlines come in order.\n\n\
    Example: ringroad-bench wheel --armed 1000000 --spread-ms 7200000"
)]
pub struct Args {
    /// Deadlines armed
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_024..=500_000_000))]
    armed: u32,
    /// Cancels, sets and moves to measure, each
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = clap::value_parser!(u32).range(1_024..))]
    operations: u32,
    /// Deadlines lie up to so far ahead
    #[arg(long, value_name = "MS", default_value_t = 60_000, value_parser = clap::value_parser!(u32).range(1..=86_400_000))]
    spread_ms: u32,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Report {
    armed: u32,
    operations: u32,
    spread_ms: u32,
    ns_per_first_set: f64,
    /// One by one, of a node that is in no cache, as the next.
    ns_per_cancel: f64,
    ns_per_set: f64,
    /// In batches that are read before, which is counted; of nodes that were in no cache, as the next.
    ns_per_cancel_in_batches: f64,
    ns_per_set_in_batches: f64,
    ns_per_move: f64,
    /// Of a node that is still in a cache, as the next.
    ns_per_cancel_soon: f64,
    ns_per_set_soon: f64,
    /// Every move down a level included.
    ns_per_expiry: f64,
    bytes_per_node: f64,
    environment: Environment,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let report = measure(args)?;
    println!("{} deadlines within {} ms, random nodes.", report.armed, report.spread_ms);
    println!("{}", table(&report));
    println!("{:.1} octets of resident memory a node", report.bytes_per_node);
    write_json(args.json.as_ref(), &report)
}

fn measure(args: &Args) -> anyhow::Result<Report> {
    let mut rng = Rng::new(1);
    let mut order: Vec<u32> = (0..args.armed).collect();
    shuffle(&mut order, &mut rng);
    let resident = resident_bytes()?;
    let mut bench = Bench::new(args, rng);
    let cancel_each = |wheel: &mut Wheel, node: u32, _| wheel.cancel(node);
    let first_set = bench.time_each(&order, at_once, Wheel::set);
    let grown = resident_bytes()?.saturating_sub(resident);

    // So many at a time that none is in a cache any more when it is set again.
    let share = (order.len() / 8).max(1);
    let shares = || order.chunks_exact(share).cycle();
    let rounds = usize::try_from(args.operations)?.div_ceil(share);
    let [mut cancel, mut set, mut moved, mut cancel_soon, mut set_soon] = [Duration::ZERO; 5];
    let [mut batched_cancel, mut batched_set] = [Duration::ZERO; 2];
    for nodes in shares().take(rounds) {
        cancel += bench.time_each(nodes, at_once, cancel_each);
        set += bench.time_each(nodes, at_once, Wheel::set);
    }
    for nodes in shares().take(rounds) {
        batched_cancel += bench.time_each(nodes, read_nodes, cancel_each);
        batched_set += bench.time_each(nodes, read_lists, Wheel::set);
    }
    for lot in shares().take(rounds).flat_map(|nodes| nodes.chunks(LOT)) {
        moved += bench.time_each(lot, at_once, Wheel::set);
        cancel_soon += bench.time_each(lot, at_once, cancel_each);
        set_soon += bench.time_each(lot, at_once, Wheel::set);
    }
    let (expired, expiry) = bench.expire();
    ensure!(expired == args.armed, "{expired} of {} deadlines expired", args.armed);

    let operations = u32::try_from(rounds * share)?;
    let each = |time: Duration, count: u32| time.as_secs_f64() * 1e9 / f64::from(count);
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let bytes_per_node = grown as f64 / f64::from(args.armed);
    Ok(Report {
        armed: args.armed,
        operations,
        spread_ms: args.spread_ms,
        ns_per_first_set: each(first_set, args.armed),
        ns_per_cancel: each(cancel, operations),
        ns_per_set: each(set, operations),
        ns_per_cancel_in_batches: each(batched_cancel, operations),
        ns_per_set_in_batches: each(batched_set, operations),
        ns_per_move: each(moved, operations),
        ns_per_cancel_soon: each(cancel_soon, operations),
        ns_per_set_soon: each(set_soon, operations),
        ns_per_expiry: each(expiry, args.armed),
        bytes_per_node,
        environment: Environment::read(),
    })
}

/// Before a batch: nothing.
fn at_once(_: &Wheel, _: &[u32]) {}

/// Before a batch: reads the nodes.
fn read_nodes(wheel: &Wheel, nodes: &[u32]) {
    black_box(nodes.iter().fold(0, |seen, &node| seen ^ wheel.touch(node)));
}

/// Before a batch: reads the nodes and those beside them, all that a set may change.
fn read_lists(wheel: &Wheel, nodes: &[u32]) {
    read_nodes(wheel, nodes);
    black_box(nodes.iter().fold(0, |seen, &node| seen ^ wheel.touch_beside(node)));
}

/// The wheel, and where deadlines come from.
struct Bench {
    wheel: Wheel,
    rng: Rng,
    spread_ms: u32,
    /// Drawn before the clock is started, so that drawing is not measured.
    deadlines: Vec<Instant>,
}

impl Bench {
    const START: Instant = Instant::from_millis(1);

    fn new(args: &Args, rng: Rng) -> Self {
        let wheel = Wheel::new(args.armed, Self::START);
        Self { wheel, rng, spread_ms: args.spread_ms, deadlines: Vec::with_capacity(LOT) }
    }

    /// Does `operation` with each node and a deadline of its own, and `before` with each batch of nodes; the
    /// time that both take.
    fn time_each(
        &mut self,
        nodes: &[u32],
        before: impl Fn(&Wheel, &[u32]),
        operation: impl Fn(&mut Wheel, u32, Instant),
    ) -> Duration {
        let mut time = Duration::ZERO;
        for lot in nodes.chunks(LOT) {
            let Self { wheel, rng, spread_ms, deadlines } = self;
            deadlines.clear();
            deadlines.extend(lot.iter().map(|_| draw(rng, *spread_ms)));
            let start = WallClock::now();
            for (batch, deadlines) in lot.chunks(BATCH).zip(deadlines.chunks(BATCH)) {
                before(wheel, batch);
                for (&node, &at) in batch.iter().zip(deadlines) {
                    operation(wheel, node, at);
                }
            }
            time += start.elapsed();
        }
        time
    }

    /// Time goes on until nothing is armed; how many expired, and how long that took.
    fn expire(&mut self) -> (u32, Duration) {
        let start = WallClock::now();
        let (mut now, mut expired) = (Self::START, 0);
        while let Some(next) = self.wheel.next_deadline() {
            now = now.plus_micros(TURN_US).max(next);
            while self.wheel.pop_due(now).is_some() {
                expired += 1;
            }
        }
        (expired, start.elapsed())
    }
}

/// An instant within the spread.
fn draw(rng: &mut Rng, spread_ms: u32) -> Instant {
    let (ms, us) = (rng.below(spread_ms), rng.below(1_000));
    Bench::START.plus_micros(u64::from(ms) * 1_000 + u64::from(us))
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header([
        "operation",
        "times",
        "ns each",
        "goal",
    ]);
    let goal = format!("{GOAL:.0}");
    for (operation, times, ns, goal) in [
        ("set for the first time", report.armed, report.ns_per_first_set, ""),
        ("cancel", report.operations, report.ns_per_cancel, &*goal),
        ("set", report.operations, report.ns_per_set, &*goal),
        ("cancel, in batches", report.operations, report.ns_per_cancel_in_batches, &*goal),
        ("set, in batches", report.operations, report.ns_per_set_in_batches, &*goal),
        ("move", report.operations, report.ns_per_move, ""),
        ("cancel soon after", report.operations, report.ns_per_cancel_soon, &*goal),
        ("set soon after", report.operations, report.ns_per_set_soon, &*goal),
        ("expire", report.armed, report.ns_per_expiry, ""),
    ] {
        table.add_row([operation, &times.to_string(), &format!("{ns:.1}"), goal]);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_deadline_expires_whatever_was_done_before() {
        for (armed, operations, spread_ms, why) in [
            (1_024, 5_000, 10, "several times round"),
            (20_000, 1_024, 60_000, "some nodes are never cancelled"),
            (5_000, 5_000, 86_400_000, "the widest spread"),
        ] {
            let args = Args { armed, operations, spread_ms, json: None };
            let report = measure(&args).expect("each deadline expires once");
            assert!(report.operations >= operations, "{why}");
        }
    }

    #[test]
    fn deadlines_lie_within_the_spread() {
        let mut rng = Rng::new(3);
        let drawn: Vec<Instant> = (0..1_000).map(|_| draw(&mut rng, 5)).collect();
        let end = Bench::START.plus_micros(5_000);
        assert!(drawn.iter().all(|&at| at >= Bench::START && at < end));
        assert!(drawn.iter().any(|&at| at > Bench::START.plus_micros(4_000)), "they reach its end");
    }
}
