//! The one place where the commands meet ringroad's own stack.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use clap::ValueEnum;

use crate::load::Control;
use crate::stack::App;

/// Which way frames are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Zero-copy, then native copy, then generic: the first that the driver can do.
    #[default]
    Auto,
    /// In the driver, with a copy.
    Native,
    /// Behind the driver: slow, but every interface can do it.
    Generic,
    /// In the driver, without a copy.
    ZeroCopy,
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Looks again.
    Spin,
    /// Looks again for a while, then sleeps.
    #[default]
    Adaptive,
}

/// How the workers of one command run.
#[derive(Clone, Debug)]
pub struct XdpRun {
    /// The interface.
    pub dev: String,
    /// How frames are asked for.
    pub mode: Mode,
    /// Workers, one queue each.
    pub workers: u16,
    /// The CPU of each worker; empty leaves it to the scheduler.
    pub cpus: Vec<usize>,
    /// What idle workers do.
    pub idle: Idle,
    /// Addresses that are ours besides the interface's own.
    pub sources: Vec<IpAddr>,
    /// Where to listen; `None` for a generator.
    pub listen: Option<SocketAddr>,
    /// Connections that each worker's flow table holds.
    pub flows_max: u32,
    /// Says when to stop, besides the application.
    pub control: Arc<Control>,
}

/// Runs one application object per worker until they stop; returns the mode that was obtained.
///
/// `on_ready` is called once, when every queue is bound and the listener listens.
///
/// # Errors
///
/// What keeps the stack from running on that interface, in one sentence.
pub fn run_xdp<A: App + Send>(
    run: &XdpRun,
    factory: impl Fn(u16) -> A + Sync,
    on_ready: impl FnOnce(&str),
) -> anyhow::Result<String> {
    let _ = (factory, on_ready);
    anyhow::bail!("this build cannot run on {}: its AF_XDP runtime is missing; use --backend kernel", run.dev)
}
