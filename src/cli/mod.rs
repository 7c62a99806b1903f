//! The `ringroad` command: its subcommands, and how an error is told.
#![forbid(unsafe_code)]

pub mod lab;
pub mod load;
mod memory;
mod parse;
pub mod serve;
mod watch;
mod workers;
mod xdp;

pub use parse::{Backend, Congestion};

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A user-space TCP stack on AF_XDP: serve, generate load, and measure it against the kernel's TCP.
#[derive(Debug, Parser)]
#[command(name = "ringroad", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Args>),
    Load(Box<load::Args>),
    /// A veth pair between two network namespaces: make it, use it, measure on it
    Lab(lab::Args),
}

/// Runs the command line of this process; an error is told in one sentence on stderr.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Serve(args) => serve::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Load(args) => load::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Lab(args) => lab::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringroad: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error and its causes as one sentence, each cause told once: many errors quote theirs already.
fn sentence(error: &anyhow::Error) -> String {
    let mut sentence = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if sentence.is_empty() {
            sentence = cause;
        } else if !sentence.contains(&cause) {
            sentence = format!("{sentence}: {cause}");
        }
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn an_error_tells_each_cause_once() {
        let cause = || anyhow::anyhow!("no such file");
        for (error, told) in [
            (cause(), "no such file"),
            (cause().context("cannot start"), "cannot start: no such file"),
            (cause().context("cannot start: no such file; make it"), "cannot start: no such file; make it"),
        ] {
            assert_eq!(sentence(&error), told);
        }
    }
}
