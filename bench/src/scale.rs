//! Cost of a segment as open connections grow from a thousand to ten million.
#![forbid(unsafe_code)]

mod traffic;

use std::path::PathBuf;
use std::time::Instant as WallClock;

use anyhow::Context;
use comfy_table::{CellAlignment, Table};
use ringroad::base::FlowId;
use serde::{Deserialize, Serialize};

use crate::allocations;
use crate::child;
use crate::environment::{Environment, SPARE, available_bytes, resident_bytes, write_json};
use traffic::Bench;

const COUNTS: [u32; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
/// Octets that a connection's end is supposed to take until one was measured.
const BYTES_SUPPOSED: f64 = 1_024.0;
/// How often the cost at a thousand connections the cost at ten million may be.
const GOAL: f64 = 3.0;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Two engines in one process open so many connections to each other, all with keep-alive, \
    and exchange requests and replies of 64 octets over them: each connection in turn, in random order, as \
    many at once as a batch has frames. Time is the real one, so that timers fire as often as they do. Every \
    segment is acknowledged at once, so that an exchange has three segments however seldom a connection's \
    turn comes. ns per segment is what it takes to send a segment and to receive it.\n\n\
    Octets per TCB are the growth of resident memory until all are open, divided by two per connection. \
    Probes are how far an entry of a flow table lies from where it belongs, on average over both; the JSON \
    file has the whole histogram. Each count runs in a process of its own, and one that does not fit into \
    memory is left out.\n\n\
    Example: ringroad-bench scale --max 1000000 --json scale.json"
)]
pub struct Args {
    /// Most connections; 1,000, 10,000, ... up to this are measured, and this
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000..=50_000_000))]
    max: u32,
    /// Exchanges to measure for each count, after a quarter of that as warm-up
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    exchanges: u64,
    /// Frames of a batch
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    batch: u32,
    /// Ask for no huge pages, as a program does that keeps the system's allocator
    #[arg(long)]
    small_pages: bool,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure `max` here and tell the parent
    #[arg(long, hide = true)]
    child: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    connections: u32,
    ns_per_segment: f64,
    /// Of the row with the fewest connections.
    times_first: f64,
    exchanges_per_second: f64,
    segments_per_exchange: f64,
    /// One side's, of opening a connection.
    setup_ns: f64,
    bytes_per_tcb: f64,
    retransmits: u64,
    table_load: f64,
    mean_probe: f64,
    probe_histogram: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Skipped {
    connections: u32,
    why: String,
}

#[derive(Debug, Serialize)]
struct Report {
    batch: u32,
    exchanges: u64,
    /// Whether the tables lie in huge pages, where the kernel has some.
    huge_pages: bool,
    rows: Vec<Row>,
    skipped: Vec<Skipped>,
    environment: Environment,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if args.small_pages {
        allocations::use_small_pages();
    }
    if args.child {
        return child::report(&measure(args)?);
    }
    let (mut rows, mut skipped) = (Vec::<Row>::new(), Vec::new());
    for connections in counts(args.max) {
        let supposed = rows.last().map_or(BYTES_SUPPOSED, |row| row.bytes_per_tcb);
        if let Some(why) = too_many(connections, supposed, available_bytes()?) {
            skipped.push(Skipped { connections, why });
            continue;
        }
        eprintln!("scale: {connections} connections");
        let mut row = in_child(args, connections)?;
        let first = rows.first().map_or(row.ns_per_segment, |first| first.ns_per_segment);
        row.times_first = row.ns_per_segment / first;
        rows.push(row);
    }
    let (batch, exchanges) = (args.batch, args.exchanges);
    let huge_pages = !args.small_pages;
    let report = Report { batch, exchanges, huge_pages, rows, skipped, environment: Environment::read() };
    println!("Requests and replies in random order over all open connections, batches of {batch}.");
    println!("{}", table(&report.rows));
    for Skipped { connections, why } in &report.skipped {
        println!("left out: {connections} connections: {why}");
    }
    write_json(args.json.as_ref(), &report)
}

/// What is measured up to `max`.
fn counts(max: u32) -> Vec<u32> {
    let mut counts: Vec<u32> = COUNTS.into_iter().filter(|&count| count < max).collect();
    counts.push(max);
    counts
}

/// Why so many connections are not even tried; `None` if they fit.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, reason = "rough figures")]
#[expect(clippy::cast_sign_loss, reason = "a memory's size is positive")]
fn too_many(connections: u32, bytes_per_tcb: f64, available: u64) -> Option<String> {
    let each = bytes_per_tcb * 2.0 + size_of::<FlowId>() as f64;
    let needed = (each * f64::from(connections)) as u64 + SPARE;
    (needed > available).then(|| {
        format!(
            "{} MB are needed at {bytes_per_tcb:.0} octets a TCB, and {} MB are available",
            needed >> 20,
            available >> 20
        )
    })
}

fn in_child(args: &Args, connections: u32) -> anyhow::Result<Row> {
    let numbers = [
        ("--max", u64::from(connections)),
        ("--exchanges", args.exchanges),
        ("--batch", u64::from(args.batch)),
    ];
    let numbers = numbers.into_iter().flat_map(|(name, value)| [name.to_owned(), value.to_string()]);
    let pages = args.small_pages.then_some("--small-pages");
    let words = ["scale", "--child"].into_iter().chain(pages).map(String::from);
    let arguments: Vec<String> = words.chain(numbers).collect();
    child::run(&arguments)
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn measure(args: &Args) -> anyhow::Result<Row> {
    let (connections, batch) = (args.max, args.batch.min(args.max));
    let tcbs = f64::from(connections) * 2.0;
    let resident = resident_bytes()?;
    let mut bench = Bench::new(connections, batch)?;
    let start = WallClock::now();
    bench.open(connections, batch)?;
    let setup = start.elapsed();
    // The application's own list of connections is not the engines'.
    let list = u64::from(connections) * size_of::<FlowId>() as u64;
    let grown = resident_bytes()?.saturating_sub(resident + list);

    bench.shuffle();
    bench.ask(args.exchanges / 4, batch)?;
    let before = bench.counts();
    let start = WallClock::now();
    bench.ask(args.exchanges, batch)?;
    let seconds = start.elapsed().as_secs_f64();
    let after = bench.counts();
    let [segments, replies, retransmits] = std::array::from_fn(|i| after[i] - before[i]);
    let probe_histogram = bench.probe_histogram();
    Ok(Row {
        connections,
        ns_per_segment: seconds * 1e9 / segments as f64,
        times_first: 1.0,
        exchanges_per_second: replies as f64 / seconds,
        segments_per_exchange: segments as f64 / replies as f64,
        setup_ns: setup.as_secs_f64() * 1e9 / tcbs,
        bytes_per_tcb: grown as f64 / tcbs,
        retransmits,
        table_load: bench.table_load(),
        mean_probe: mean(&probe_histogram).context("the tables are not empty")?,
        probe_histogram,
    })
}

/// The mean position, weighted by what is there.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn mean(histogram: &[u64]) -> Option<f64> {
    let all: u64 = histogram.iter().sum();
    let weighted: u64 = (0..).zip(histogram).map(|(at, n)| at * n).sum();
    (all > 0).then(|| weighted as f64 / all as f64)
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header([
        "connections",
        "ns/segment",
        "ratio",
        "goal",
        "segments/exchange",
        "set-up ns/side",
        "octets/TCB",
        "table load",
        "mean probe",
        "probes 0, 1, 2, 3, more",
    ]);
    for row in rows {
        table.add_row([
            row.connections.to_string(),
            format!("{:.0}", row.ns_per_segment),
            format!("{:.2}x", row.times_first),
            if row.connections >= 10_000_000 { format!("{GOAL:.0}x") } else { String::new() },
            format!("{:.2}", row.segments_per_exchange),
            format!("{:.0}", row.setup_ns),
            format!("{:.0}", row.bytes_per_tcb),
            format!("{:.2}", row.table_load),
            format!("{:.3}", row.mean_probe),
            shares(&row.probe_histogram),
        ]);
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

/// The first four and the rest, in percent.
#[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
fn shares(histogram: &[u64]) -> String {
    let all: u64 = histogram.iter().sum();
    let (first, rest) = histogram.split_at(histogram.len().min(4));
    let groups = first.iter().copied().chain([rest.iter().sum()]);
    let percent: Vec<_> = groups.map(|n: u64| format!("{:.1}", n as f64 * 100.0 / all as f64)).collect();
    percent.join(" ") + " %"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exchange_has_three_segments_on_every_connection() {
        for (max, batch, why) in [
            (1_000, 48, "more than a batch"),
            (1_000, 1_000, "one batch is all"),
            (20_000, 48, "more than caches hold, so engines look ahead"),
        ] {
            let args = Args { max, exchanges: 4_000, batch, small_pages: false, json: None, child: true };
            let row = measure(&args).expect("it runs");
            assert!((row.segments_per_exchange - 3.0).abs() < 0.01, "{why}: {row:?}");
            let ends = u64::from(max) * 2;
            assert_eq!(row.probe_histogram.iter().sum::<u64>(), ends, "{why}: both ends are in a table");
            assert!(row.ns_per_segment > 0.0 && row.setup_ns > 0.0, "{why}: {row:?}");
        }
    }

    #[test]
    fn counts_go_up_to_the_most_that_was_asked_for() {
        assert_eq!(counts(1_000), [1_000]);
        assert_eq!(counts(10_000_000), COUNTS);
        assert_eq!(counts(50_000), [1_000, 10_000, 50_000]);
    }

    #[test]
    fn what_does_not_fit_into_memory_is_left_out_with_a_reason() {
        assert_eq!(too_many(1_000_000, 500.0, 2 << 30), None);
        let why = too_many(10_000_000, 500.0, 2 << 30).expect("ten times as much does not fit");
        assert!(why.contains("2048 MB are available"), "{why}");
    }

    #[test]
    fn means_and_shares_count_what_is_far() {
        assert_eq!(mean(&[0, 0]), None);
        assert_eq!(mean(&[2, 0, 2]), Some(1.0));
        assert_eq!(shares(&[5, 2, 1, 0, 1, 1]), "50.0 20.0 10.0 0.0 20.0 %");
    }
}
