//! Deterministic simulation: `cargo run --release -p ringroad-sim -- --seed N --steps M`.
#![forbid(unsafe_code)]

mod app;
mod book;
mod end;
mod forge;
mod golden;
mod inspect;
mod many;
mod monitor;
mod path;
mod pcap;
mod plan;
mod rule;
mod run;
mod scenario;
mod segment;
mod tally;
mod text;
mod world;

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};

use crate::golden::Part;
use crate::many::Many;
use crate::run::run_seed;
use crate::scenario::{Scenario, Worlds};

/// Whole networks of engines in virtual time. Everything follows from a seed, and everything is checked
/// after each step; see docs/simulation.md.
///
/// Ends with 1 when a rule was broken, and prints the command that shows it again.
#[derive(Debug, Parser)]
#[command(name = "ringroad-sim", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    /// Run this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Run these seeds, FROM..TO; without it, and without --seed, all from 0 on
    #[arg(long, value_name = "FROM..TO", value_parser = parse_range)]
    seeds: Option<Range<u64>>,
    /// Only worlds on links that lose up to 30 % of the frames, and reorder, repeat and damage others, in which
    /// nothing else fails
    #[arg(long)]
    lossy: bool,
    /// Steps of each seed, before everything is closed
    #[arg(long, default_value_t = 10_000)]
    steps: u64,
    /// Begin no seed after so many minutes
    #[arg(long = "for", value_name = "MINUTES")]
    minutes: Option<u64>,
    /// Seeds that run at the same time
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// With --seed: write every frame to this file
    #[arg(long, value_name = "FILE", requires = "seed")]
    pcap: Option<PathBuf>,
    /// With --seed: say what was drawn
    #[arg(long, requires = "seed")]
    verbose: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// What bulk and short flows get of many paths, as a table; see docs/simulation.md
    Golden(GoldenArgs),
}

#[derive(Debug, clap::Args)]
struct GoldenArgs {
    /// Compare with this table instead of printing one; ends with 1 when anything differs
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    /// Only the rows that take little time
    #[arg(long)]
    quick: bool,
    /// Paths that are simulated at the same time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    threads: u16,
}

impl Cli {
    const fn worlds(&self) -> Worlds {
        if self.lossy { Worlds::Lossy } else { Worlds::Any }
    }
}

fn parse_range(text: &str) -> Result<Range<u64>, String> {
    let ends = text.split_once("..").and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
    let range: Option<Range<u64>> = ends.map(|(from, to)| from..to);
    range.filter(|range| !range.is_empty()).ok_or_else(|| format!("`{text}` is not FROM..TO, as in 0..1000"))
}

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    let is_sound = match (&cli.command, cli.seed) {
        (Some(Command::Golden(args)), _) => run_golden(args)?,
        (None, Some(seed)) => run_alone(seed, &cli)?,
        (None, None) => run_many(&cli),
    };
    Ok(if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn run_golden(args: &GoldenArgs) -> anyhow::Result<bool> {
    let part = if args.quick { Part::Quick } else { Part::All };
    let known = args
        .check
        .as_deref()
        .map(|path| fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display())));
    let known = known.transpose()?;
    let lines = golden::lines(part, usize::from(args.threads));
    let Some(known) = known else {
        write!(io::stdout(), "{}", golden::table(&lines))?;
        return Ok(true);
    };
    let differences = golden::differences(&known, &lines, part);
    write!(io::stdout(), "{differences}")?;
    writeln!(io::stdout(), "{} rows compared", lines.len())?;
    Ok(differences.is_empty())
}

fn run_alone(seed: u64, cli: &Cli) -> anyhow::Result<bool> {
    if cli.verbose {
        writeln!(io::stdout(), "{:#?}", Scenario::draw(seed, cli.worlds()))?;
    }
    let mut capture = cli.pcap.as_deref().map(create).transpose()?;
    let mut written = Ok(());
    let outcome = run_seed(seed, cli.worlds(), cli.steps, |at, frame| {
        if let Some(capture) = capture.as_mut().filter(|_| written.is_ok()) {
            written = pcap::frame(capture, at, frame);
        }
    });
    let flushed = capture.as_mut().map_or(Ok(()), Write::flush);
    written.and(flushed).context("the capture could not be written")?;
    let what =
        outcome.failure.as_ref().map_or_else(|| outcome.tally.to_string(), |failure| format!("{failure}\n"));
    writeln!(io::stdout(), "{what}digest {:016x}", outcome.digest)?;
    Ok(outcome.failure.is_none())
}

fn create(path: &Path) -> anyhow::Result<BufWriter<File>> {
    let what = || format!("{} could not be written", path.display());
    let mut file = BufWriter::new(File::create(path).with_context(what)?);
    pcap::begin(&mut file).with_context(what)?;
    Ok(file)
}

fn run_many(cli: &Cli) -> bool {
    let many = Many {
        seeds: cli.seeds.clone().unwrap_or(0..u64::MAX),
        worlds: cli.worlds(),
        steps: cli.steps,
        threads: cli.threads.max(1),
        time: cli.minutes.map(|minutes| Duration::from_secs(60 * minutes)),
    };
    let result = many.run(|line| eprintln!("{line}"));
    print!("{}", result.tally);
    let (first, broken) = (many.seeds.start, result.failures.len());
    println!("{} seeds of {} steps from seed {first} on: {broken} violations", result.seeds, cli.steps);
    broken == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_ranges_are_read() {
        Cli::command().debug_assert();
        assert_eq!(parse_range("3..10"), Ok(3..10));
        for wrong in ["3", "10..3", "3..3", "a..b", ".."] {
            assert!(parse_range(wrong).is_err(), "{wrong}");
        }
    }
}
