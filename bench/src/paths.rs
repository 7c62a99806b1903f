//! ringroad to ringroad and kernel to kernel, in turn or both at once, over the lab's link: what a flow gets of many paths.
#![forbid(unsafe_code)]

mod lab;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::compare::median;
use crate::environment::{Environment, write_json};
use lab::{Lab, Run, Served, Up};

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Every combination of rates, round trips, losses, queues and algorithms is a cell. For each seed a \
    lab is made for ringroad, and then one for the kernel, with the same seed; with --flows \
    shared one for both. Needs root, as `ringroad lab` does.\n\n\
    Where the kernel has not the algorithm of that name its reno takes the place, and the result says so. Its \
    buffers are what the kernel makes them.\n\n\
    Example: ringroad-bench paths --rates 10,100 --rtts 20 --losses 0,1 --seeds 5 --json paths.json"
)]
pub struct Args {
    /// The `ringroad` command; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    ringroad: Option<PathBuf>,
    /// What flows do
    #[arg(long, value_enum, default_value = "bulk")]
    flows: Flows,
    /// Rates, Mbit/s
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "10,100",
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rates: Vec<u32>,
    /// Round trips, ms
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,20,100,300",
        value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rtts: Vec<u32>,
    /// Losses in each direction, %
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "0,0.1,1")]
    losses: Vec<f64>,
    /// Queues, in terms of rate times round trip; four packets at least
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1")]
    queues: Vec<f64>,
    /// Congestion control, by ringroad's names
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', default_value = "cubic,newreno")]
    cc: Vec<String>,
    /// Runs of each stack in each cell, each with a seed of its own
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    seeds: u32,
    /// Seconds that each run measures
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=3_600))]
    duration: u32,
    /// Seconds before that
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u32).range(..=600))]
    warmup: u32,
    /// Of the lab: its namespaces are rr-NAME-client, rr-NAME-server and rr-NAME-link
    #[arg(long, default_value = "paths")]
    name: String,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What flows do, and what is measured of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Flows {
    /// One connection, server to client: Mbit/s that the client's application gets.
    Bulk,
    /// Replies of 10,000 octets by HTTP, each on a connection of its own, 16 at a time: the 99th percentile of the
    /// time from SYN to the last octet, ms.
    Short,
    /// One connection of each, server to client, over one link at the same time: Mbit/s that each gets, and Jain's
    /// index of the two.
    Shared,
}

/// One path, and the algorithm that has to cope with it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Cell {
    rate_mbit: u32,
    rtt_ms: u32,
    loss_percent: f64,
    queue_bdp: f64,
    cc: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stack {
    Ringroad,
    Kernel,
}

/// What one stack came to on one path.
#[derive(Clone, Debug, Serialize)]
struct Outcome {
    algorithm: String,
    /// Of the figure: Mbit/s, or ms.
    median: f64,
    least: f64,
    most: f64,
    /// By seed, from one on.
    samples: Vec<f64>,
    /// Segments that the server sent again, likewise.
    retransmits: Vec<u64>,
}

#[derive(Debug, Serialize)]
struct Row {
    cell: Cell,
    ringroad: Outcome,
    kernel: Outcome,
    /// ringroad's median in terms of the kernel's.
    ratio: f64,
    /// Jain's index of the two, where they shared a link: the least of all seeds.
    jain: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    flows: Flows,
    duration_s: u32,
    warmup_s: u32,
    kernel_algorithms: Vec<String>,
    /// What bounds the kernel's windows: tcp_rmem and tcp_wmem.
    kernel_buffers: BTreeMap<&'static str, String>,
    rows: Vec<Row>,
    environment: Environment,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::new(args.ringroad.as_deref(), &args.name)?;
    let available = lab::kernel_algorithms()?;
    println!("The kernel has {}.", available.join(", "));
    let mut rows = Vec::new();
    let mut failed = Ok(());
    for cell in args.cells() {
        match args.row(&lab, &cell, &available) {
            Ok(row) => {
                let (ringroad, kernel) = (row.ringroad.median, row.kernel.median);
                eprintln!("paths: {cell:?}: ringroad {ringroad:.3}, kernel {kernel:.3}");
                rows.push(row);
            }
            // What was measured in an hour before it stays.
            Err(error) => {
                failed = Err(error);
                break;
            }
        }
    }
    println!("{}", table(args.flows, &rows));
    let report = Report {
        flows: args.flows,
        duration_s: args.duration,
        warmup_s: args.warmup,
        kernel_algorithms: available,
        kernel_buffers: lab::kernel_buffers()?,
        rows,
        environment: Environment::read(),
    };
    write_json(args.json.as_ref(), &report)?;
    failed
}

impl Args {
    fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for cc in &self.cc {
            for &rate_mbit in &self.rates {
                for &rtt_ms in &self.rtts {
                    for &queue_bdp in &self.queues {
                        for &loss_percent in &self.losses {
                            cells.push(Cell { rate_mbit, rtt_ms, loss_percent, queue_bdp, cc: cc.clone() });
                        }
                    }
                }
            }
        }
        cells
    }

    fn row(&self, lab: &Lab, cell: &Cell, available: &[String]) -> anyhow::Result<Row> {
        let kernel_cc = kernel_algorithm(&cell.cc, available);
        let (mut ringroad, mut kernel) = (Vec::new(), Vec::new());
        for seed in 1..=self.seeds {
            let runs = self.both(lab, cell, kernel_cc, seed);
            let (ours, theirs) = runs.with_context(|| format!("seed {seed}: {cell:?}"))?;
            ringroad.push(ours);
            kernel.push(theirs);
        }
        let jain = ringroad.iter().zip(&kernel).map(|(a, b)| jain(a.figure, b.figure)).reduce(f64::min);
        let ringroad = Outcome::of(&cell.cc, &ringroad)?;
        let kernel = Outcome::of(kernel_cc, &kernel)?;
        ensure!(kernel.median > 0.0, "the kernel's flow got nothing through");
        let ratio = ringroad.median / kernel.median;
        let jain = jain.filter(|_| self.flows == Flows::Shared);
        Ok(Row { cell: cell.clone(), ringroad, kernel, ratio, jain })
    }

    /// Both stacks in turn, so that a slow minute of the machine strikes both; or at the same time.
    fn both(&self, lab: &Lab, cell: &Cell, kernel_cc: &str, seed: u32) -> anyhow::Result<(Run, Run)> {
        let link = cell.link(seed);
        let cc = |stack| if stack == Stack::Kernel { kernel_cc } else { cell.cc.as_str() };
        if self.flows != Flows::Shared {
            let alone = |stack| {
                let up = lab.up(&link)?;
                self.load(self.serve(&up, stack, cc(stack))?, stack)
            };
            return Ok((alone(Stack::Ringroad)?, alone(Stack::Kernel)?));
        }
        let up = lab.up(&link)?;
        let [ours, theirs] = [Stack::Ringroad, Stack::Kernel].map(|stack| self.serve(&up, stack, cc(stack)));
        let (ours, theirs) = (ours?, theirs?);
        thread::scope(|scope| {
            let ours = scope.spawn(|| self.load(ours, Stack::Ringroad));
            let theirs = self.load(theirs, Stack::Kernel);
            Ok((ours.join().unwrap_or_else(|panic| resume_unwind(panic))?, theirs?))
        })
    }

    fn serve<'a>(&self, up: &'a Up<'_>, stack: Stack, cc: &str) -> anyhow::Result<Served<'a>> {
        let app: &[&str] = match self.flows {
            Flows::Bulk | Flows::Shared => &["--app", "chargen"],
            Flows::Short => &["--app", "http", "--body-size", "10000"],
        };
        let served = up.serve(stack.port(), &[app, &stack.backend(), &["--cc", cc]].concat());
        served.with_context(|| format!("{stack:?}"))
    }

    fn load(&self, served: Served<'_>, stack: Stack) -> anyhow::Result<Run> {
        let app: &[&str] = match self.flows {
            Flows::Bulk | Flows::Shared => &["--app", "echo", "--profile", "bulk", "--connections", "1"],
            Flows::Short => &["--app", "http", "--profile", "crr", "--connections", "16"],
        };
        let (duration, warmup) = (self.duration.to_string(), self.warmup.to_string());
        let times = ["--duration", &duration, "--warmup", &warmup];
        let time = Duration::from_secs((self.duration + self.warmup).into());
        let run = served.load(&[app, &stack.backend(), &times].concat(), time);
        run.with_context(|| format!("{stack:?}"))
    }
}

impl Stack {
    /// The flags of `serve` and `load`. Two ends that spin would leave no core of two to the forwarder.
    const fn backend(self) -> [&'static str; 4] {
        match self {
            Self::Ringroad => ["--backend", "xdp", "--idle", "adaptive"],
            Self::Kernel => ["--backend", "kernel", "--idle", "adaptive"],
        }
    }

    /// Where its server listens, so that both can at the same time.
    const fn port(self) -> u16 {
        match self {
            Self::Ringroad => 8_000,
            Self::Kernel => 8_001,
        }
    }
}

impl Cell {
    /// The flags of `ringroad lab up`.
    fn link(&self, seed: u32) -> Vec<String> {
        let bdp = f64::from(self.rate_mbit) * f64::from(self.rtt_ms) * 1_000.0 / 8.0;
        let packets = (bdp * self.queue_bdp / 1_514.0).floor().max(4.0);
        let flags = [
            ("--delay", format!("{}us", self.rtt_ms * 500)),
            ("--rate", format!("{}mbit", self.rate_mbit)),
            ("--queue", packets.to_string()),
            ("--seed", seed.to_string()),
        ];
        let mut words: Vec<String> =
            flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        if self.loss_percent > 0.0 {
            words.extend(["--loss".to_owned(), format!("{}%", self.loss_percent)]);
        }
        words
    }
}

/// What `--cc` names for the kernel: what ringroad has, or Reno where the kernel has no such thing.
fn kernel_algorithm<'a>(cc: &'a str, available: &[String]) -> &'a str {
    if available.iter().any(|name| name == cc) { cc } else { "newreno" }
}

/// Jain's index of two shares: 1 where they are equal, a half where one gets everything.
fn jain(a: f64, b: f64) -> f64 {
    (a + b).powi(2) / (2.0 * (a * a + b * b))
}

impl Outcome {
    fn of(algorithm: &str, runs: &[Run]) -> anyhow::Result<Self> {
        let samples: Vec<f64> = runs.iter().map(|run| run.figure).collect();
        Ok(Self {
            algorithm: algorithm.to_owned(),
            median: median(&samples).context("there is a run")?,
            least: samples.iter().copied().fold(f64::INFINITY, f64::min),
            most: samples.iter().copied().fold(0.0, f64::max),
            retransmits: runs.iter().map(|run| run.retransmits).collect(),
            samples,
        })
    }

    /// As a cell: the median, and the least and the most.
    fn cell(&self) -> String {
        format!("{:.2} ({:.2} to {:.2})", self.median, self.least, self.most)
    }
}

fn table(flows: Flows, rows: &[Row]) -> Table {
    let unit = match flows {
        Flows::Bulk | Flows::Shared => "Mbit/s",
        Flows::Short => "p99, ms",
    };
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header([
        "Mbit/s",
        "RTT, ms",
        "queue, BDP",
        "loss, %",
        "algorithm",
        &format!("ringroad, {unit}"),
        "kernel's",
        &format!("kernel, {unit}"),
        if flows == Flows::Shared { "Jain" } else { "ratio" },
    ]);
    for row in rows {
        table.add_row([
            row.cell.rate_mbit.to_string(),
            row.cell.rtt_ms.to_string(),
            row.cell.queue_bdp.to_string(),
            row.cell.loss_percent.to_string(),
            row.ringroad.algorithm.clone(),
            row.ringroad.cell(),
            row.kernel.algorithm.clone(),
            row.kernel.cell(),
            format!("{:.3}", row.jain.unwrap_or(row.ratio)),
        ]);
    }
    table.column_iter_mut().for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_a_link() {
        let cell = Cell { rate_mbit: 10, rtt_ms: 1, loss_percent: 0.1, queue_bdp: 1.0, cc: "cubic".into() };
        let words = "--delay 500us --rate 10mbit --queue 4 --seed 7";
        assert_eq!(cell.link(7).join(" "), format!("{words} --loss 0.1%"), "four packets at least");
        let long = Cell { rtt_ms: 100, loss_percent: 0.0, queue_bdp: 4.0, ..cell };
        assert_eq!(long.link(1).join(" "), "--delay 50000us --rate 10mbit --queue 330 --seed 1");
    }

    #[test]
    fn equal_shares_have_an_index_of_one_and_all_for_one_a_half() {
        for (a, b, want) in [(3.0, 3.0, 1.0), (4.0, 0.0, 0.5), (2.0, 1.0, 0.9)] {
            assert!((jain(a, b) - want).abs() < 1e-9, "{a} and {b}");
        }
    }

    #[test]
    fn the_kernel_takes_the_algorithm_of_that_name_or_reno() {
        let available = ["reno", "bbr"].map(str::to_owned);
        for (cc, want) in [("newreno", "newreno"), ("bbr", "bbr"), ("cubic", "newreno")] {
            assert_eq!(kernel_algorithm(cc, &available), want);
        }
    }
}
