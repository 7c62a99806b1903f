//! Resident memory of what an engine remembers: connections, half-open connections, TIME-WAIT records.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use comfy_table::{CellAlignment, Table};
use ringroad::base::Instant;
use ringroad::io::memory::MemoryWire;
use ringroad::stack::{App, Engine, Flow, Limits, Listen, RxBatch, TxBatch};
use ringroad::tcp::{FlowOptions, KeepAlive, TcpConfig};
use serde::{Deserialize, Serialize};

use crate::child;
use crate::environment::{Environment, check_spare, resident_bytes, write_json};
use crate::pair::{FRAME_LEN, START, TIMER_BUDGET, config};
use crate::peer::{self, Family, PORT};

/// Frames of one turn.
const BATCH: u32 = 64;

#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "One engine, made for exactly so many, is fed with the frames of a peer that keeps \
    nothing, and the growth of the process's resident memory is divided by the number: records, index, \
    timer nodes and whatever else the engine touches. Each case runs in a process of its own.\n\n\
    An idle connection has been accepted, exchanged nothing, and has its keep-alive timer running. A half-open \
    one waits for the ACK of its SYN-ACK, with its timer running. TIME-WAIT is reached by closing first.\n\n\
    The index has a power of two of slots, so its share depends on the count. Below 100,000 the kernel's \
    accounting blurs the figure.\n\n\
    Example: ringroad-bench memory --case time-wait --family ipv4 --count 50000000")]
pub struct Args {
    /// How many of each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=500_000_000))]
    count: u32,
    /// Only this case
    #[arg(long, value_enum)]
    case: Option<Case>,
    /// Only this version of IP
    #[arg(long, value_enum)]
    family: Option<Family>,
    /// Write the result as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measure here and tell the parent
    #[arg(long, hide = true, requires = "case", requires = "family")]
    child: bool,
}

/// What is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
enum Case {
    /// Established and idle
    Established,
    /// Waiting for the last step of the handshake
    HalfOpen,
    /// Closed first, 2 MSL not over
    TimeWait,
}

impl Case {
    const ALL: [Self; 3] = [Self::Established, Self::HalfOpen, Self::TimeWait];

    /// Octets that one may take, IPv4; there are no goals for IPv6.
    const fn goal(self, family: Family) -> Option<f64> {
        match (family, self) {
            (Family::Ipv4, Self::Established) => Some(256.0),
            (Family::Ipv4, Self::HalfOpen) => Some(64.0),
            (Family::Ipv4, Self::TimeWait) => Some(40.0),
            (Family::Ipv6, _) => None,
        }
    }

    /// Room for `count` and little else; what is closing needs a TCB for a few turns.
    fn limits(self, count: u32) -> Limits {
        let few = BATCH * 4;
        Limits {
            flows_max: if self == Self::Established { count } else { few },
            half_open_max: if self == Self::HalfOpen { count } else { few },
            time_wait_max: if self == Self::TimeWait { count } else { few },
            send_chunks: few,
            recv_chunks: few,
            reassembly_max: few,
            ..Limits::default()
        }
    }

    fn count_in(self, engine: &Engine) -> u32 {
        match self {
            Self::Established => engine.flow_count(),
            Self::HalfOpen => engine.half_open_count(),
            Self::TimeWait => engine.time_wait_count(),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Row {
    case: Case,
    family: Family,
    count: u32,
    resident_bytes: u64,
    bytes_each: f64,
    goal: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
    environment: Environment,
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    if let (true, Some(case), Some(family)) = (args.child, args.case, args.family) {
        return child::report(&measure(case, family, args.count)?);
    }
    let cases = Case::ALL.into_iter().filter(|&case| args.case.is_none_or(|only| only == case));
    let mut rows = Vec::new();
    for case in cases {
        let families = [Family::Ipv4, Family::Ipv6].into_iter();
        for family in families.filter(|&family| args.family.is_none_or(|only| only == family)) {
            rows.push(in_child(case, family, args.count)?);
        }
    }
    let report = Report { rows, environment: Environment::read() };
    println!("Resident memory, octets each.");
    println!("{}", table(&report.rows));
    write_json(args.json.as_ref(), &report)
}

fn in_child(case: Case, family: Family, count: u32) -> anyhow::Result<Row> {
    let (case, family) = (name(&case)?, name(&family)?);
    eprintln!("memory: {count} {case}, {family}");
    let count = count.to_string();
    child::run(
        &["memory", "--child", "--case", &case, "--family", &family, "--count", &count].map(String::from),
    )
}

/// As the command line has it.
fn name(value: &impl ValueEnum) -> anyhow::Result<String> {
    Ok(value.to_possible_value().context("every value has a name")?.get_name().to_owned())
}

fn measure(case: Case, family: Family, count: u32) -> anyhow::Result<Row> {
    let mut wires = [(); 2].map(|()| MemoryWire::new(2 * BATCH as usize, FRAME_LEN));
    // Code and wires are touched before the growth begins.
    drop(fill(case, family, BATCH, &mut wires)?);
    let before = resident_bytes()?;
    let engine = fill(case, family, count, &mut wires)?;
    let resident_bytes = resident_bytes()?.saturating_sub(before);
    ensure!(case.count_in(&engine) == count, "the engine forgot some while they were counted");
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let bytes_each = resident_bytes as f64 / f64::from(count);
    Ok(Row { case, family, count, resident_bytes, bytes_each, goal: case.goal(family) })
}

/// An engine that remembers `count`.
fn fill(case: Case, family: Family, count: u32, wires: &mut [MemoryWire; 2]) -> anyhow::Result<Engine> {
    let limits = case.limits(count);
    let tcp = TcpConfig { time_wait: Duration::from_secs(3_600), ..TcpConfig::default() };
    let mut engine = Engine::new(config(family.server(), limits, tcp), START);
    let keep_alive = Some(KeepAlive::default());
    let options = FlowOptions { keep_alive, ..FlowOptions::default() };
    let half_open_max = limits.half_open_max;
    let listen = Listen { half_open_max, options, ..Listen::new(family.server(), PORT) };
    engine.listen(&listen).ok().context("the engine refuses its only listener")?;
    let mut feed = Feed { engine, app: Quiet { closes: case == Case::TimeWait }, wires, now: START };
    for first in (0..count).step_by(BATCH as usize) {
        if first % (BATCH << 12) == 0 {
            check_spare(first, count)?;
        }
        feed.open(family, first..count.min(first + BATCH), case != Case::HalfOpen)?;
    }
    let got = case.count_in(&feed.engine);
    ensure!(got == count, "the engine remembers {got} of {count}");
    Ok(feed.engine)
}

/// Exchanges nothing; closes what it accepts, or keeps it.
struct Quiet {
    closes: bool,
}

impl App for Quiet {
    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        if self.closes {
            flow.close();
        }
    }

    fn on_data(&mut self, _flow: &mut Flow<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

/// The engine, and the wires to it and from it.
struct Feed<'a> {
    engine: Engine,
    app: Quiet,
    wires: &'a mut [MemoryWire; 2],
    now: Instant,
}

impl Feed<'_> {
    /// SYNs of connections `nth`, and where the peer `answers`, everything that follows.
    fn open(&mut self, family: Family, nth: std::ops::Range<u32>, answers: bool) -> anyhow::Result<()> {
        for nth in nth {
            let frame = self.wires[0].reserve().context("a wire holds a batch")?;
            let len = peer::syn(family, nth, frame);
            self.wires[0].commit(len);
        }
        while !self.wires[0].is_empty() {
            self.turn();
            let [up, down] = &mut *self.wires;
            for i in 0..if answers { down.len() } else { 0 } {
                let frame = up.reserve().context("a wire holds a batch")?;
                if let Some(len) = peer::answer(down.frame(i), frame) {
                    up.commit(len);
                }
            }
            down.clear();
        }
        Ok(())
    }

    fn turn(&mut self) {
        // So slowly that no timer fires before everything is there.
        self.now = Instant::from_nanos(self.now.as_nanos() + 20);
        let Self { engine, app, wires: [up, down], now } = self;
        engine.on_batch(*now, up, app, down);
        up.clear();
        engine.on_timers(*now, TIMER_BUDGET, app, down);
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_HORIZONTAL_ONLY).set_header([
        "what",
        "family",
        "count",
        "resident MB",
        "octets each",
        "goal",
    ]);
    for row in rows {
        table.add_row([
            name(&row.case).unwrap_or_default(),
            name(&row.family).unwrap_or_default(),
            row.count.to_string(),
            (row.resident_bytes >> 20).to_string(),
            format!("{:.1}", row.bytes_each),
            row.goal.map(|goal| format!("{goal:.0}")).unwrap_or_default(),
        ]);
    }
    table.column_iter_mut().skip(2).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engine_remembers_what_the_case_says() {
        for case in Case::ALL {
            for family in [Family::Ipv4, Family::Ipv6] {
                let mut wires = [(); 2].map(|()| MemoryWire::new(2 * BATCH as usize, FRAME_LEN));
                let engine = fill(case, family, 1_000, &mut wires).expect("it fills");
                engine.check_invariants();
                let others = Case::ALL.into_iter().filter(|&other| other != case);
                assert_eq!(case.count_in(&engine), 1_000, "{case:?} {family:?}");
                assert!(others.map(|other| other.count_in(&engine)).all(|n| n == 0), "{case:?} {family:?}");
                assert_eq!(engine.chunks_in_use(), (0, 0), "{case:?} {family:?}: no text anywhere");
            }
        }
    }
}
