//! The `ringroad` command.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use ringroad::cli;

#[derive(Parser)]
#[command(version, about = "TCP that goes round the kernel, on AF_XDP rings")]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Serve(Box<cli::serve::Args>),
    Load(Box<cli::load::Args>),
}

fn main() -> std::process::ExitCode {
    let outcome = match Command::parse().verb {
        Verb::Serve(args) => cli::serve::run(*args),
        Verb::Load(args) => cli::load::run(*args),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ringroad: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
