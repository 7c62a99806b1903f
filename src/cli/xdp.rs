//! The one place where the commands meet ringroad's own stack.
#![forbid(unsafe_code)]

use std::string::String;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::ValueEnum;

use crate::io::xdp::{Nic, XdpMode};
use crate::load::Control;
use crate::runtime::{self, Ready, RunConfig};
use crate::stack::App;

/// Which way frames are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Zero-copy, then native copy, then generic: the first that the driver can do.
    #[default]
    Auto,
    /// In the driver, with a copy.
    Native,
    /// Behind the driver, with a copy: every interface can do it; the slowest, but on a veth pair the fastest.
    Generic,
    /// In the driver, without a copy.
    ZeroCopy,
}

impl From<Mode> for XdpMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Native => Self::Native,
            Mode::Generic => Self::Generic,
            Mode::ZeroCopy => Self::ZeroCopy,
        }
    }
}

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Look again: lowest latency, a whole core per worker.
    Spin,
    /// Look again for a while, then sleep; over the kernel, sleep at once.
    Adaptive,
}

impl From<Idle> for runtime::Idle {
    fn from(idle: Idle) -> Self {
        match idle {
            Idle::Spin => Self::Spin,
            Idle::Adaptive => Self::Adaptive,
        }
    }
}

/// Runs one application object per worker until they stop, or `control` says so; returns the mode that was
/// obtained, in words.
///
/// `on_ready` is called once, when everything listens.
///
/// # Errors
///
/// What keeps the stack from running on that interface, in one sentence.
pub(super) fn run_xdp<A: App + Send>(
    config: &RunConfig,
    control: &Arc<Control>,
    factory: impl Fn(u16) -> A,
    on_ready: impl FnOnce(),
) -> anyhow::Result<String> {
    /// How soon a Ctrl-C is noticed.
    const LOOK_EVERY: Duration = Duration::from_millis(20);
    if let Ok(nic) = Nic::open(&config.dev)
        && nic.strips_vlan_tags
    {
        let dev = &config.dev;
        std::eprintln!(
            "warning: {dev} strips VLAN tags, so frames of a VLAN look untagged: `ethtool -K {dev} rxvlan off` \
             leaves them in"
        );
    }
    let mut mode = String::new();
    let end = runtime::run(config, factory, |ready| {
        mode = describe(ready);
        std::eprintln!("mode: {mode}");
        let (handle, control) = (ready.handle.clone(), Arc::clone(control));
        // Not joined: it ends with the run, or with the process.
        thread::spawn(move || {
            while !control.is_stopped() && !control.is_ended() {
                thread::sleep(LOOK_EVERY);
            }
            handle.stop();
        });
        on_ready();
    });
    control.end();
    let end = end?;
    for worker in &end.workers {
        control.leave_counters(&worker.counters);
        control.leave_figures(worker.queue.figures());
    }
    control.leave_figures(end.verdicts.iter().map(|&(verdict, n)| (verdict, n)));
    Ok(mode)
}

/// The mode that was obtained, and what else was.
fn describe(ready: &Ready) -> String {
    let pages = if ready.huge_pages { ", huge pages" } else { "" };
    let poll = if ready.busy_poll { ", busy polling" } else { "" };
    let ports = ready.source_ports.as_ref();
    let ports = ports.map_or_else(String::new, |p| std::format!(", source ports {}-{}", p.start(), p.end()));
    std::format!("{}{pages}{poll}{ports}", ready.mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `lab run` tells its children the mode by that name.
    #[test]
    fn modes_are_asked_for_by_the_names_that_reports_use() {
        for &mode in Mode::value_variants() {
            assert_eq!(Mode::from_str(XdpMode::from(mode).label(), false), Ok(mode));
        }
    }
}
