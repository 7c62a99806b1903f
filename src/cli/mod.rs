//! The `ringroad` command: its subcommands, and how an error is told.
#![forbid(unsafe_code)]

pub mod lab;

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
    /// A veth pair between two network namespaces: make it, use it, measure on it
    Lab(lab::Args),
}

/// Runs the command line of this process; an error is told in one sentence on stderr.
pub fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Lab(args) => lab::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("ringroad: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
