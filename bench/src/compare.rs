//! The same short connections on ringroad, on smoltcp and on the kernel's loopback, in turns.
#![forbid(unsafe_code)]

mod loopback;
mod smol;

use std::path::PathBuf;
use std::time::{Duration, Instant as WallClock};

use anyhow::{Context, ensure};
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::environment::{Environment, write_json};
use crate::pair::Pair;
use crate::workload::{self, Profile};

/// How many times smoltcp's rate is to be reached, for so many connections at a time.
const GOALS: [(u32, f64); 3] = [(1, 1.5), (1_000, 8.0), (10_000, 80.0)];

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "A connection is: connect, 64 octets there, 64 octets back, close by the client, close \
    by the server. Both ends run in one thread; checksums are computed and verified by both. ringroad and \
    smoltcp exchange frames in memory and in virtual time, smoltcp without Ethernet headers; the kernel's \
    TCP runs over loopback, with system calls and epoll, and is there for reference only.\n\n\
    The stacks take turns, so that what disturbs the machine disturbs all of them; figures are medians, \
    and the ratio is that of medians. The kernel's connections stay in TIME-WAIT for a minute afterwards, \
    spread over 64 addresses of 127/8.\n\n\
    Example: ringroad-bench compare --repeat 9 --json compare.json"
)]
pub struct Args {
    /// Runs of each stack and number of connections
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    repeat: u32,
    /// Connections (for smoltcp: sockets on either side) at a time
    #[arg(
        long,
        value_name = "N,...",
        value_delimiter = ',',
        default_value = "1,1000,10000",
        value_parser = clap::value_parser!(u32).range(1..=30_000),
    )]
    connections: Vec<u32>,
    /// How long each run measures; smoltcp's last a round of connections longer
    #[arg(long, value_name = "MS", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    run_ms: u64,
    /// Leave the kernel out
    #[arg(long)]
    no_kernel: bool,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// At a time.
    connections: u32,
    per_second: f64,
}

/// Connections per second of one stack.
#[derive(Clone, Debug, Serialize)]
struct Rate {
    /// At a time: fewer than asked for where the stack could not.
    connections: u32,
    median: f64,
    samples: Vec<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    connections: u32,
    ringroad: Rate,
    smoltcp: Rate,
    /// `None` when it was left out.
    kernel: Option<Rate>,
    /// ringroad's median in terms of smoltcp's.
    times_smoltcp: f64,
    goal: Option<f64>,
    times_kernel: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    repeat: u32,
    run_ms: u64,
    rows: Vec<Row>,
    environment: Environment,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let rows = args.connections.iter().map(|&n| row(args, n)).collect::<anyhow::Result<_>>()?;
    let report = Report { repeat: args.repeat, run_ms: args.run_ms, rows, environment: Environment::read() };
    println!("Short connections per second, both ends in one thread; medians of {}.", args.repeat);
    println!("{}", table(&report.rows));
    write_json(args.json.as_ref(), &report)
}

fn row(args: &Args, connections: u32) -> anyhow::Result<Row> {
    let time = Duration::from_millis(args.run_ms);
    let [mut ringroad, mut smoltcp, mut kernel] = [const { Vec::new() }; 3];
    for nth in 1..=args.repeat {
        eprintln!("compare: {connections} at a time, run {nth} of {}", args.repeat);
        ringroad.push(run_ringroad(connections, time).context("ringroad")?);
        smoltcp.push(smol::run(connections, time).context("smoltcp")?);
        if !args.no_kernel {
            kernel.push(loopback::run(connections, time).context("the kernel, over loopback")?);
        }
    }
    let rate = Rate::of(&ringroad).context("there is a run")?;
    Row::new(connections, rate, Rate::of(&smoltcp).context("there is a run")?, Rate::of(&kernel))
}

impl Row {
    fn new(connections: u32, ringroad: Rate, smoltcp: Rate, kernel: Option<Rate>) -> anyhow::Result<Self> {
        ensure!(smoltcp.median > 0.0, "smoltcp did not complete a connection");
        let times_smoltcp = ringroad.median / smoltcp.median;
        let times_kernel = kernel.as_ref().map(|kernel| ringroad.median / kernel.median);
        let goal = GOALS.iter().find(|goal| goal.0 == connections).map(|goal| goal.1);
        Ok(Self { connections, ringroad, smoltcp, kernel, times_smoltcp, goal, times_kernel })
    }
}

/// Short connections, `connections` at a time, for about `time`, after a tenth of it as warm-up.
fn run_ringroad(connections: u32, time: Duration) -> anyhow::Result<Run> {
    /// Steps between two looks at the clock.
    const STEPS: u32 = 256;
    let (client, server) = workload::hosts(Profile::Crr, connections)?;
    let mut pair = Pair::new(client, server, 64);
    pair.start();
    let mut run_for = |time: Duration| {
        let (before, start) = (pair.client.app.closed(), WallClock::now());
        while start.elapsed() < time {
            (0..STEPS).for_each(|_| pair.step());
        }
        pair.client.app.check()?;
        #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
        let closed = (pair.client.app.closed() - before) as f64;
        anyhow::Ok(Run { connections, per_second: closed / start.elapsed().as_secs_f64() })
    };
    run_for(time / 10)?;
    run_for(time)
}

impl Rate {
    /// `None` of no runs.
    fn of(runs: &[Run]) -> Option<Self> {
        let samples: Vec<f64> = runs.iter().map(|run| run.per_second).collect();
        let connections = runs.iter().map(|run| run.connections).min()?;
        Some(Self { connections, median: median(&samples)?, samples })
    }

    /// As a cell: the median, and the slowest and the fastest run.
    fn cell(&self, asked: u32) -> String {
        let slowest = self.samples.iter().copied().fold(f64::INFINITY, f64::min);
        let fastest = self.samples.iter().copied().fold(0.0, f64::max);
        let thousands = |rate: f64| format!("{:.1}", rate / 1e3);
        let fewer = if self.connections < asked {
            format!(", {} at a time", self.connections)
        } else {
            String::new()
        };
        format!("{} k ({} to {}{fewer})", thousands(self.median), thousands(slowest), thousands(fastest))
    }
}

/// The middle one, or half-way between the two in the middle.
pub fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = *sorted.get(middle)?;
    Some(if sorted.len() % 2 == 1 { upper } else { f64::midpoint(sorted[middle - 1], upper) })
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header([
        "at a time",
        "ringroad",
        "ns a side",
        "smoltcp",
        "ratio",
        "goal",
        "kernel, loopback",
        "ratio",
    ]);
    let times = |ratio: Option<f64>| ratio.map(|ratio| format!("{ratio:.2}x")).unwrap_or_default();
    for row in rows {
        table.add_row([
            row.connections.to_string(),
            row.ringroad.cell(row.connections),
            format!("{:.0}", 1e9 / row.ringroad.median / 2.0),
            row.smoltcp.cell(row.connections),
            times(Some(row.times_smoltcp)),
            times(row.goal),
            row.kernel.as_ref().map(|kernel| kernel.cell(row.connections)).unwrap_or_default(),
            times(row.times_kernel),
        ]);
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: &[f64]) -> Rate {
        let runs: Vec<Run> =
            per_second.iter().map(|&per_second| Run { connections: 7, per_second }).collect();
        Rate::of(&runs).expect("there are runs")
    }

    #[test]
    fn the_median_lies_in_the_middle() {
        for (samples, want) in [
            (&[][..], None),
            (&[3.0], Some(3.0)),
            (&[9.0, 1.0, 2.0], Some(2.0)),
            (&[1.0, 9.0, 3.0, 2.0], Some(2.5)),
        ] {
            assert_eq!(median(samples), want, "{samples:?}");
        }
    }

    #[test]
    fn ratios_are_of_medians_and_goals_belong_to_a_number_of_connections() {
        let row = |connections| {
            let kernel = Some(rate(&[10.0]));
            Row::new(connections, rate(&[400.0, 100.0, 900.0]), rate(&[50.0]), kernel).expect("a row")
        };
        assert_eq!((row(1_000).times_smoltcp, row(1_000).times_kernel), (8.0, Some(40.0)));
        assert_eq!((row(1_000).goal, row(10_000).goal, row(2).goal), (Some(8.0), Some(80.0), None));
        assert!(Row::new(1, rate(&[1.0]), rate(&[0.0]), None).is_err(), "no ratio to nothing");
        assert!(row(1).kernel.expect("it ran").cell(8).contains("7 at a time"), "fewer than asked for");
    }

    #[test]
    fn ringroad_completes_connections() {
        let run = run_ringroad(3, Duration::from_millis(5)).expect("it runs");
        assert!(run.per_second > 0.0);
    }
}
