//! `ringroad lab`: two network namespaces, a veth pair or a worse link between them, and the comparison that runs there.
//!
//! | file | what |
//! | --- | --- |
//! | `network` | [`Lab`]: the namespaces, the pair, its addresses and settings |
//! | `link` | [`LinkArgs`]: what the link between the ends is told to do |
//! | `forward` | the process that does it |
//! | `plan` | which runs there are, in which order, with which command lines |
//! | `compare` | `lab run`: carries the plan out |
//! | `child` | the server and the generator as child processes |
//! | `report` | from results to a table and to JSON |
#![forbid(unsafe_code)]

mod child;
mod compare;
mod forward;
mod link;
mod network;
mod plan;
mod report;

pub use link::LinkArgs;
pub use network::{End, Lab, LabConfig, LabError};

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, ensure};
use clap::Subcommand;

/// The subcommands of `ringroad lab`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make the lab: two namespaces, a veth pair, addresses of both families
    ///
    /// The interface is rr0 in both namespaces. The server's side has 10.77.0.1/16 and fd77::1/64, the
    /// client's side 10.77.1.1 to 10.77.1.16 and fd77::1:1 to fd77::1:10.
    ///
    /// With flags such as --delay 20ms --rate 1gbit --loss 0.1% a third namespace lies between the two, where a
    /// process in the background carries packets from one to the other as the flags say, in each direction for itself.
    Up(Box<UpArgs>),
    /// Remove the lab and all that belongs to it
    Down(NameArgs),
    /// Run a program in one of the lab's namespaces
    ///
    /// The exit code is the program's. Example: ringroad lab exec client -- ping -c 1 10.77.0.1
    Exec(ExecArgs),
    /// Print what the link between the ends has carried, lost and changed so far, as JSON
    Link(NameArgs),
    #[command(hide = true)]
    Forward(Box<forward::ForwardArgs>),
    /// Measure the kernel's TCP and ringroad's in turn on one veth pair, and print a table
    Run(compare::RunArgs),
}

#[derive(Debug, clap::Args)]
struct NameArgs {
    /// Which lab: its namespaces are rr-NAME-client and rr-NAME-server [default: rr-client, rr-server]
    #[arg(long)]
    name: Option<String>,
}

#[derive(Debug, clap::Args)]
struct UpArgs {
    #[command(flatten)]
    lab: NameArgs,
    /// Receive queues, and as many transmit queues, at each end
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=4096))]
    queues: u32,
    /// The largest IP packet, in octets
    #[arg(
        long,
        value_name = "OCTETS",
        default_value_t = 1500,
        // Below 1280 there is no IPv6 (RFC 8200 §5).
        value_parser = clap::value_parser!(u32).range(1280..=65535)
    )]
    mtu: u32,
    #[command(flatten)]
    link: LinkArgs,
}

#[derive(Debug, clap::Args)]
struct ExecArgs {
    /// Whose namespace
    #[arg(value_enum)]
    end: End,
    #[command(flatten)]
    lab: NameArgs,
    /// The program and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs `ringroad lab`.
///
/// # Errors
///
/// When the lab cannot be made, found or removed, or a comparison fails.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.action {
        Action::Up(args) => up(*args),
        Action::Down(args) => down(args.name.as_deref()),
        Action::Exec(args) => exec(&args),
        Action::Link(args) => link(args.name.as_deref()),
        Action::Forward(args) => forward::run(&args),
        Action::Run(args) => compare::run(&args),
    }
}

fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let UpArgs { lab, queues, mtu, link } = args;
    let lab = Lab::up(&LabConfig { name: lab.name, queues, mtu, link, program: None })?;
    println!(
        "the lab is up: {} in {} (10.77.0.1, fd77::1) and in {} (16 addresses of each family)",
        Lab::INTERFACE,
        lab.netns(End::Server),
        lab.netns(End::Client),
    );
    Ok(ExitCode::SUCCESS)
}

fn down(name: Option<&str>) -> anyhow::Result<ExitCode> {
    let found = Lab::down(name)?;
    println!("{}", if found { "the lab is down" } else { "the lab was not up: nothing to remove" });
    Ok(ExitCode::SUCCESS)
}

fn link(name: Option<&str>) -> anyhow::Result<ExitCode> {
    let lab = Lab::open(name)?;
    ensure!(
        lab.has_link(),
        "nothing stands between the lab's ends; `ringroad lab up --delay 20ms` makes a link"
    );
    print!("{}", forward::statistics(lab.link_netns())?);
    Ok(ExitCode::SUCCESS)
}

/// Becomes the program: returns only when it cannot be started.
fn exec(args: &ExecArgs) -> anyhow::Result<ExitCode> {
    let lab = Lab::open(args.lab.name.as_deref())?;
    lab.enter(args.end)?;
    let (program, rest) = args.command.split_first().context("no program was given")?;
    let error = Command::new(program).args(rest).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
