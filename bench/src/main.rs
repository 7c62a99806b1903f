//! Benchmarks of the engine in memory: `cargo run --release -p ringroad-bench -- engine --profile crr`.

mod allocations;
mod child;
mod compare;
mod engine;
mod environment;
mod instructions;
mod memory;
mod pair;
mod paths;
mod peer;
mod random;
mod scale;
mod threads;
mod wheel;
mod workload;

use clap::{Parser, Subcommand};

/// What ringroad's engine costs without the kernel, and in what.
///
/// Each command prints its result and, with --json, writes it to a file together with the machine and the
/// compiler it comes from. Build with --release, and measure on a quiet machine.
#[derive(Debug, Parser)]
#[command(name = "ringroad-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Time of a connection, a request and a segment: two engines joined by a wire in memory
    Engine(engine::Args),
    /// Short connections against smoltcp and the kernel's loopback, with ratios
    Compare(compare::Args),
    /// Instructions of a connection, a request and a segment, and whether they grew
    Instructions(instructions::Args),
    /// Resident memory of an idle connection, a half-open one, and a TIME-WAIT record
    Memory(memory::Args),
    /// ringroad to ringroad and kernel to kernel over the lab's link, path by path
    Paths(paths::Args),
    /// Cost of a segment with 1,000 to 10,000,000 connections open and traffic on all of them
    Scale(scale::Args),
    /// Time of setting, cancelling and expiring a deadline with ten million armed
    Wheel(wheel::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Engine(args) => engine::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Instructions(args) => instructions::run(&args),
        Command::Memory(args) => memory::run(&args),
        Command::Paths(args) => paths::run(&args),
        Command::Scale(args) => scale::run(&args),
        Command::Wheel(args) => wheel::run(&args),
    }
}
