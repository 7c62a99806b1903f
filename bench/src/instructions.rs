//! Instructions of a connection, a request and a segment, counted by callgrind: the figure that repeats.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::environment::Environment;

#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Counts the whole benchmark for a few and for many connections, and takes the difference: \
    what is done once cancels out. Needs valgrind.\n\n\
    Examples: ringroad-bench instructions --check bench/results/instructions.json\n          \
    ringroad-bench instructions --record bench/results/instructions.json"
)]
pub struct Args {
    /// Fail when a figure is more than 2 % above that in FILE, which must come from the same compiler
    #[arg(long, value_name = "FILE", conflicts_with = "record")]
    check: Option<PathBuf>,
    /// Write the figures to FILE
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
}

/// What was counted, and by which compiler's code.
#[derive(Debug, PartialEq, Deserialize, Serialize)]
struct Figures {
    rustc: String,
    /// The C library copies in another way on another one.
    cpu: String,
    /// Instructions of both ends together.
    instructions: BTreeMap<String, f64>,
}

/// The figure that is mostly copying.
const IN_BULK: &str = "megabyte in bulk";

/// Name, profile, the smaller and the larger count, and units in one of what is counted.
const COUNTED: [(&str, &str, u64, u64, f64); 4] = [
    ("short connection", "crr", 5_000, 15_000, 1.0),
    ("segment of a short connection", "crr", 5_000, 15_000, 7.0),
    ("request and reply", "rr", 10_000, 40_000, 1.0),
    (IN_BULK, "bulk", 20, 80, 1.0),
];

/// How much more counts as more.
const TOLERANCE: f64 = 0.02;

pub fn run(args: &Args) -> anyhow::Result<()> {
    let now = Figures::count()?;
    for (name, count) in &now.instructions {
        println!("{count:>12.0} instructions: {name}");
    }
    if let Some(path) = &args.record {
        let octets = serde_json::to_vec_pretty(&now)?;
        fs::write(path, octets).with_context(|| format!("cannot write {}", path.display()))?;
    }
    match &args.check {
        Some(path) => now.check(&Figures::read(path)?, path),
        None => Ok(()),
    }
}

impl Figures {
    fn count() -> anyhow::Result<Self> {
        let mut counted = BTreeMap::new();
        let mut instructions = BTreeMap::new();
        for (name, profile, few, many, units) in COUNTED {
            for count in [few, many] {
                if let Entry::Vacant(entry) = counted.entry((profile, count)) {
                    entry.insert(callgrind(profile, count)?);
                }
            }
            let more = counted[&(profile, many)] - counted[&(profile, few)];
            // The benchmark warms up with a tenth of what it measures.
            #[expect(clippy::cast_precision_loss, reason = "thousands")]
            let per_unit = more / ((many - few) as f64 * 1.1) / units;
            instructions.insert(name.to_owned(), per_unit.round());
        }
        Ok(Self { rustc: env!("BENCH_RUSTC").to_owned(), cpu: Environment::read().cpu, instructions })
    }

    fn read(path: &Path) -> anyhow::Result<Self> {
        let octets = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&octets).with_context(|| format!("{} is not of --record", path.display()))
    }

    fn check(&self, recorded: &Self, path: &Path) -> anyhow::Result<()> {
        if self.rustc != recorded.rustc {
            println!(
                "not compared: recorded with {}, built with {}; use --record",
                recorded.rustc, self.rustc
            );
            return Ok(());
        }
        for (name, &before) in &recorded.instructions {
            if name == IN_BULK && self.cpu != recorded.cpu {
                println!("{name}: not compared, as this is another processor than {}", recorded.cpu);
                continue;
            }
            let now = self.instructions.get(name).with_context(|| format!("{name:?} is not counted"))?;
            let change = now / before - 1.0;
            if change > TOLERANCE {
                bail!(
                    "a {name} takes {:.1} % more instructions than recorded ({now:.0}, not {before:.0}): find out \
                     why, or record it with ringroad-bench instructions --record {}",
                    change * 100.0,
                    path.display()
                );
            }
            if change < -TOLERANCE {
                println!("{name}: {:.1} % fewer than recorded; use --record", change * -100.0);
            }
        }
        Ok(())
    }
}

/// Instructions of a run of `engine` from beginning to end.
fn callgrind(profile: &str, count: u64) -> anyhow::Result<f64> {
    let program = std::env::current_exe().context("cannot find this program to count it")?;
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["engine", "--profile", profile, "--count", &count.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .context("cannot run valgrind: install it, with `scripts/setup tests` or by hand")?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "valgrind failed: {}", told.trim());
    collected(&told).with_context(|| format!("valgrind tells no number of instructions: {}", told.trim()))
}

/// The number in callgrind's line `==7== Collected : 12345`.
fn collected(told: &str) -> Option<f64> {
    let line = told.lines().find_map(|line| line.split_once("Collected :"));
    line?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(rustc: &str, count: f64) -> Figures {
        let instructions = BTreeMap::from([("short connection".to_owned(), count)]);
        Figures { rustc: rustc.to_owned(), cpu: String::new(), instructions }
    }

    #[test]
    fn what_callgrind_tells_is_understood() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 12345\n==7== \n"), Some(12_345.0));
        assert_eq!(collected("==7== nothing"), None);
    }

    #[test]
    fn more_than_two_percent_more_fails_unless_the_compiler_is_another() {
        let path = Path::new("recorded.json");
        let recorded = figures("a", 10_000.0);
        for (rustc, count, fails) in [
            ("a", 10_000.0, false),
            ("a", 10_199.0, false),
            ("a", 10_201.0, true),
            ("a", 5_000.0, false),
            ("b", 20_000.0, false),
        ] {
            let checked = figures(rustc, count).check(&recorded, path);
            assert_eq!(checked.is_err(), fails, "{rustc} {count}");
        }
        let bulk = |cpu: &str, count| {
            let instructions = BTreeMap::from([(IN_BULK.to_owned(), count)]);
            Figures { rustc: "a".to_owned(), cpu: cpu.to_owned(), instructions }
        };
        assert!(bulk("x", 2.0).check(&bulk("x", 1.0), path).is_err());
        assert!(bulk("y", 2.0).check(&bulk("x", 1.0), path).is_ok(), "copies are the C library's");
        let other = Figures { instructions: BTreeMap::new(), ..figures("a", 0.0) };
        assert!(other.check(&recorded, path).is_err(), "a figure that is no longer counted is noticed");
    }
}
