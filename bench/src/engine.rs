//! Two engines exchange frames in memory, checksums computed and verified, on one thread or on two.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Instant as WallClock;

use anyhow::ensure;
use serde::Serialize;

use crate::environment::{Environment, write_json};
use crate::pair::Pair;
use crate::threads;
use crate::workload::{self, Client, Profile, Progress, Server};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "One thread runs both engines in turns, in virtual time, so every run sends the same \
    segments. Two threads, each pinned to a core of its own, run one engine each on a real clock.\n\n\
    Times are processor time, so of both threads together, waiting included: ns_per_connection is what one side spends on a \
    connection, ns_per_segment what it takes to send a segment and to receive it. allocations are those \
    per connection, exchange or megabyte while measuring; probe_histogram says how many entries of both \
    flow tables are 0, 1, 2, ... slots or cache lines from where they belong, the last number all that are \
    farther.\n\n\
    Example: ringroad-bench engine --profile crr --connections 1000 --json crr.json"
)]
pub struct Args {
    /// What connections are for
    #[arg(long, value_enum, default_value = "crr")]
    pub profile: Profile,
    /// Connections at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub connections: u32,
    /// Connections (crr), exchanges (rr) or megabytes (bulk) to measure, after a tenth of that as warm-up;
    /// otherwise a million, or 20,000 megabytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// 1: both engines on one; 2: one each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2))]
    pub threads: u32,
    /// Frames that an engine reads, and may send, in one turn: as the batch of an interface's ring
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub batch: u32,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Args {
    /// What is measured: a few seconds' work, unless it was given.
    pub fn count(&self) -> u64 {
        self.count.unwrap_or(if self.profile == Profile::Bulk { 20_000 } else { 1_000_000 })
    }

    /// What comes before.
    pub fn warm_up(&self) -> u64 {
        (self.count() / 10).max(1)
    }
}

/// What was done in how long.
#[derive(Debug)]
pub struct Measured {
    pub seconds: f64,
    pub progress: Progress,
    pub probe_histogram: Vec<u64>,
    /// Whether threads had cores of their own.
    pub pinned: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    profile: Profile,
    connections: u32,
    threads: u32,
    pinned: bool,
    batch: u32,
    /// `None` where connections stay open, as the next.
    ns_per_connection: Option<f64>,
    segments_per_connection: Option<f64>,
    ns_per_segment: f64,
    connections_per_second: f64,
    requests_per_second: f64,
    bytes_per_second: f64,
    allocations: f64,
    retransmits: u64,
    probe_histogram: Vec<u64>,
    environment: Environment,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let measured = if args.threads == 1 { measure(args)? } else { threads::measure(args)? };
    let report = Report::new(args, measured);
    println!("{}", serde_json::to_string_pretty(&report)?);
    write_json(args.json.as_ref(), &report)
}

fn measure(args: &Args) -> anyhow::Result<Measured> {
    let (client, server) = workload::hosts(args.profile, args.connections)?;
    let mut pair = Pair::new(client, server, usize::try_from(args.batch)?);
    pair.start();
    run_for(&mut pair, args.profile, args.warm_up())?;
    let before = Progress::of(&pair.client);
    let start = WallClock::now();
    run_for(&mut pair, args.profile, args.count())?;
    let seconds = start.elapsed().as_secs_f64();
    let progress = Progress::of(&pair.client).since(&before);
    pair.client.app.check()?;
    Ok(Measured { seconds, progress, probe_histogram: pair.probe_histogram(), pinned: false })
}

/// Turns until `count` more is done.
fn run_for(pair: &mut Pair<Client, Server>, profile: Profile, count: u64) -> anyhow::Result<()> {
    /// Steps without progress: even the first round of many connections takes fewer.
    const STALLED: u64 = 1_000_000;
    let done = |pair: &Pair<Client, Server>| Progress::of(&pair.client).done(profile);
    let until = done(pair) + count;
    let (mut last, mut idle) = (done(pair), 0);
    while last < until {
        pair.step();
        let now = done(pair);
        idle = if now > last { 0 } else { idle + 1 };
        last = now;
        ensure!(idle < STALLED, "the two engines stopped making progress");
    }
    Ok(())
}

impl Report {
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    fn new(args: &Args, measured: Measured) -> Self {
        let Measured { seconds, progress, probe_histogram, pinned } = measured;
        let (segments, closed) = (progress.segments as f64, progress.closed as f64);
        let cpu_ns = seconds * 1e9 * f64::from(args.threads);
        let crr = args.profile == Profile::Crr;
        let exchanged = if args.profile == Profile::Bulk { 0.0 } else { progress.exchanged as f64 };
        Self {
            profile: args.profile,
            connections: args.connections,
            threads: args.threads,
            pinned,
            batch: args.batch,
            ns_per_connection: crr.then_some(cpu_ns / closed / 2.0),
            segments_per_connection: crr.then_some(segments / closed),
            ns_per_segment: cpu_ns / segments,
            connections_per_second: closed / seconds,
            requests_per_second: exchanged / seconds,
            bytes_per_second: progress.text as f64 / seconds,
            allocations: progress.allocations as f64 / progress.done(args.profile) as f64,
            retransmits: progress.retransmits,
            probe_histogram,
            environment: Environment::read(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(profile: Profile, threads: u32) -> Args {
        Args { profile, connections: 4, count: Some(40), threads, batch: 64, json: None }
    }

    #[test]
    fn each_profile_measures_what_it_says_on_one_thread_and_on_two() {
        for (profile, threads) in [
            (Profile::Crr, 1),
            (Profile::Rr, 1),
            (Profile::Bulk, 1),
            (Profile::Crr, 2),
            (Profile::Rr, 2),
            (Profile::Bulk, 2),
        ] {
            let args = args(profile, threads);
            let measured = if threads == 1 { measure(&args) } else { threads::measure(&args) };
            let report = Report::new(&args, measured.expect("it runs"));
            let crr = profile == Profile::Crr;
            assert_eq!(report.ns_per_connection.is_some(), crr, "{profile:?} {threads}");
            assert_eq!(report.connections_per_second > 0.0, crr, "{profile:?} {threads}");
            assert_eq!(report.requests_per_second > 0.0, profile != Profile::Bulk, "{profile:?} {threads}");
            assert!(report.bytes_per_second > 0.0 && report.ns_per_segment > 0.0, "{profile:?} {threads}");
            if crr {
                let segments = report.segments_per_connection.expect("of short connections");
                assert!((6.0..12.0).contains(&segments), "{segments} segments, {threads}");
            }
            assert!(report.probe_histogram.iter().sum::<u64>() >= 4, "{profile:?}: open connections");
        }
    }

    #[test]
    fn times_are_of_one_side_and_of_both_threads() {
        let progress = Progress { closed: 100, exchanged: 100, segments: 700, ..Progress::default() };
        let measured = |seconds| Measured { seconds, progress, probe_histogram: Vec::new(), pinned: false };
        for (threads, seconds) in [(1, 2e-3), (2, 1e-3)] {
            let report = Report::new(&args(Profile::Crr, threads), measured(seconds));
            let near = |a: f64, b: f64| (a - b).abs() < 1e-6 * b;
            assert!(near(report.ns_per_connection.expect("short"), 10_000.0), "{report:?}");
            assert!(near(report.ns_per_segment, 2e6 / 700.0), "{report:?}");
            assert!(near(report.connections_per_second, 100.0 / seconds), "{report:?}");
        }
    }
}
