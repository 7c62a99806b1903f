//! What `serve` and `load` share: whose TCP, on how many threads, and where those run.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use anyhow::bail;
use clap::ValueEnum;

use super::memory::{self, Memory};
use super::parse::{self, Backend, Congestion, List};
use super::xdp::{Idle, Mode};
use crate::load::kernel::Thread;
use crate::runtime::RunConfig;
use crate::tcp::{FlowOptions, TcpConfig};

/// The workers of one command.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Workers {
    /// Threads; with --backend xdp one per queue of the interface
    #[arg(long = "workers", value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub count: u16,
    /// CPUs of the workers, in turn (0,2-3); with --backend xdp and none named, `serve` takes the machine's
    /// first ones and `load` its last
    #[arg(long, value_name = "LIST", value_parser = parse::cpus)]
    cpus: Option<List<usize>>,
    /// When there is nothing to do; spin by default with --backend xdp, adaptive with --backend kernel
    #[arg(long, value_enum)]
    idle: Option<Idle>,
    /// Whose TCP to use
    #[arg(long, value_enum, default_value = "xdp")]
    pub backend: Backend,
    /// How to get frames with --backend xdp; what was obtained is printed
    #[arg(long, value_enum, default_value = "auto")]
    mode: Mode,
    /// Seconds in TIME-WAIT with --backend xdp: 2 MSL
    #[arg(long, value_name = "S", default_value = "60", value_parser = parse::seconds)]
    time_wait: Duration,
    /// With --backend xdp, no RST ends TIME-WAIT (RFC 1337)
    #[arg(long)]
    rfc1337: bool,

    /// Send no tail loss probes (RFC 8985): for links on which answers are late and seldom lost
    #[arg(long)]
    no_tail_loss_probes: bool,
    /// Congestion control, cubic by default; with --backend kernel of `serve` only, which else uses the kernel's own
    #[arg(long, value_name = "ALGORITHM", value_enum)]
    cc: Option<Congestion>,
    /// Use explicit congestion notification (RFC 3168) with --backend xdp, where the peer does; the kernel has its own
    /// setting
    #[arg(long)]
    ecn: bool,
    #[command(flatten)]
    pub memory: Memory,
}

/// Which end of the machine's CPUs a command takes when none are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CpusFrom {
    /// The first: servers.
    First,
    /// The last: generators, so that the two ends of a test on one machine do not meet.
    Last,
}

impl Workers {
    /// Prints what tables for `flows_max` connections per worker take, if that was asked for; returns whether
    /// it was.
    ///
    /// # Errors
    ///
    /// When the backend has no tables of ours.
    pub fn print_plan(&self, flows_max: u32, addr: IpAddr) -> anyhow::Result<bool> {
        if !self.memory.plan {
            return Ok(false);
        }
        if self.backend == Backend::Kernel {
            bail!("--plan is for --backend xdp; the kernel allocates as it goes");
        }
        let limits = self.memory.limits(flows_max, self.count)?;
        std::println!("{}", memory::describe(&limits, self.count, addr.is_ipv6()));
        Ok(true)
    }

    /// Whether what was asked of a generator goes together.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.cc.is_some() && self.backend == Backend::Kernel {
            bail!("--cc is for --backend xdp; set net.ipv4.tcp_congestion_control for the kernel");
        }
        if self.ecn && self.backend == Backend::Kernel {
            bail!("--ecn is for --backend xdp; set net.ipv4.tcp_ecn for the kernel");
        }
        if self.ecn && !self.options().may_use_ecn() {
            bail!("--ecn is not for --cc bbr, which has no answer to marks");
        }
        Ok(())
    }

    /// Congestion control by the kernel's name for it; `None` leaves the choice to the kernel.
    pub fn kernel_congestion(&self) -> Option<String> {
        let named = self.cc?.to_possible_value()?;
        Some(if named.get_name() == "newreno" { "reno".to_string() } else { named.get_name().to_string() })
    }

    /// The options of connections: what both commands send is sent whole, so nothing is to be held back.
    pub fn options(&self) -> FlowOptions {
        let options = FlowOptions { nagle: false, ..FlowOptions::default() };
        let congestion = self.cc.map_or(options.congestion, Into::into);
        FlowOptions { congestion, ecn: self.ecn, ..options }
    }

    /// A stack on `dev` with these workers and room for `flows_max` connections to or from `addr`, to be
    /// completed by the command.
    ///
    /// # Errors
    ///
    /// When no interface is named, and when the machine has not memory enough.
    pub fn run_config(
        &self,
        dev: Option<&str>,
        from: CpusFrom,
        flows_max: u32,
        addr: IpAddr,
    ) -> anyhow::Result<RunConfig> {
        let limits = self.memory.limits(flows_max, self.count)?;
        memory::check(&limits, self.count, addr.is_ipv6())?;
        let Some(dev) = dev else {
            bail!("--backend xdp needs an interface: name it with --dev, or use --backend kernel");
        };
        Ok(RunConfig {
            mode: self.mode.into(),
            workers: self.count,
            cpus: self.cpus_from(from),
            idle: self.idle.unwrap_or(Idle::Spin).into(),
            limits,
            tcp: TcpConfig {
                time_wait: self.time_wait,
                rfc1337: self.rfc1337,
                tail_loss_probes: !self.no_tail_loss_probes,
                ..TcpConfig::default()
            },
            ..RunConfig::new(dev)
        })
    }

    /// The CPUs named, or else as many of those there are as there are workers.
    fn cpus_from(&self, from: CpusFrom) -> Vec<usize> {
        if let Some(List(named)) = &self.cpus {
            return named.clone();
        }
        let all: Vec<usize> =
            core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
        let count = usize::from(self.count).min(all.len());
        match from {
            CpusFrom::First => all[..count].to_vec(),
            CpusFrom::Last => all[all.len() - count..].to_vec(),
        }
    }

    /// What reports call the kernel backend's way of waiting.
    pub fn kernel_mode(&self) -> &'static str {
        if self.idle == Some(Idle::Spin) { "epoll, spinning" } else { "epoll" }
    }

    /// One thread per worker of the kernel backend, on the CPUs in turn.
    pub fn kernel_threads(&self) -> Vec<Thread> {
        let spin = self.idle == Some(Idle::Spin);
        let cpus = self.cpus.as_ref().map(|list| list.0.as_slice()).unwrap_or_default();
        let cpu = |worker: u16| (!cpus.is_empty()).then(|| cpus[usize::from(worker) % cpus.len()]);
        (0..self.count).map(|worker| Thread { cpu: cpu(worker), spin }).collect()
    }
}
