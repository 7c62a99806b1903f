//! Benchmarks of the engine in memory: `cargo run --release -p ringroad-bench -- engine --profile crr`.
#![forbid(unsafe_code)]

mod engine;

use clap::{Parser, Subcommand};

/// What ringroad's engine costs without the kernel.
#[derive(Debug, Parser)]
#[command(name = "ringroad-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Two engines on one thread, joined by a wire in memory
    Engine(engine::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().command {
        Command::Engine(args) => engine::run(&args),
    }
}
