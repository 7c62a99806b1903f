//! `ringroad load`: the load generator on either stack.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use anyhow::{Context, bail};

use super::parse::{self, Backend, List};
use super::serve::{stop_on_signal, write_file};
use super::watch::{Observed, watch};
use super::workers::{CpusFrom, Workers};
use super::xdp::run_xdp;
use crate::load::kernel::{self, Clock};
use crate::load::{
    AppKind, Client, CloseSide, Control, Direction, Environment, Plan, Profile, Recorder, ReportInput,
    RunReport, Workload, write_hdr_log,
};
use crate::runtime::{RunConfig, netlink};

/// Measure connections per second, requests per second, throughput and latency of a TCP server.
///
/// crr opens a connection, sends one request, reads one reply and closes; rr sends requests on open
/// connections; bulk measures throughput. Without --rate the next exchange begins when one has ended (closed
/// loop). With --rate exchanges begin at a constant rate and latency counts from the intended start, so that a
/// stall of the server is not left out of the figures.
///
/// Which addresses and ports are used: with --backend xdp the frames of a connection come back to ringroad
/// because of their address and port. Without --source connections are opened from all the interface's addresses
/// of the target's family in turn (link-local ones only towards a link-local target), and from ports outside the
/// kernel's ephemeral range (net.ipv4.ip_local_port_range). With --source and addresses that the kernel does not
/// choose by itself, and that nobody else uses meanwhile, the ports may be any. Nobody else's connections are
/// disturbed. With --backend kernel the kernel chooses both, unless --source names addresses.
///
/// A worker spins by default with --backend xdp: it wants a core for itself, which --cpus names. --idle adaptive
/// sleeps when there is nothing to do, and pays for it with the latency of a wake-up.
///
/// Whether it went well: the exit code is 1 when the run could not be made, when nothing succeeded, and when there
/// were more errors than successes; the report is printed all the same where there is one.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    ringroad load --dev eth0 --target 192.0.2.1:7000 --app echo --profile crr --connections 64\n  \
    ringroad load --dev eth0 --target 192.0.2.1:80 --app http --profile rr --rate 10000 --json run.json\n  \
    ringroad load --backend kernel --target 127.0.0.1:7000-7003 --app echo --profile rr")]
pub struct Args {
    /// Interface to send on; needed with --backend xdp
    #[arg(long, value_name = "IF")]
    pub dev: Option<String>,
    /// Server to measure; with a range of ports connections go to each in turn
    #[arg(long, value_name = "IP:PORT[-PORT]", value_parser = parse::targets)]
    target: List<SocketAddr>,
    /// How exchanges and connections relate
    #[arg(long, value_enum, default_value = "crr")]
    pub profile: Profile,
    /// Protocol; for bulk over echo point it at `serve --app discard` (up) or `chargen` (down)
    #[arg(long, value_enum, default_value = "http")]
    pub app: AppKind,
    /// Connections at a time, all workers together
    #[arg(long, value_name = "N", default_value_t = 64,
        value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub connections: u32,
    /// Our addresses, in turn: a list, or every host of a prefix (10.0.0.1,10.0.0.2 or 10.0.0.0/28); by default
    /// with --backend xdp all of the interface's, of the target's family
    #[arg(long, value_name = "A,B|PREFIX", value_parser = parse::sources)]
    source: Option<List<IpAddr>>,
    /// Source ports with --backend xdp; by default the widest range that the kernel does not use
    #[arg(long, value_name = "FIRST-LAST", value_parser = parse::ports)]
    source_ports: Option<RangeInclusive<u16>>,
    /// Octets of an echo request (64, 4k, 1m)
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse::size)]
    pub request_size: u64,
    /// Octets after which an echo reply has ended; as many as the request where not given
    #[arg(long, value_name = "N", value_parser = parse::size)]
    pub reply_size: Option<u64>,
    /// Path of HTTP requests
    #[arg(long, value_name = "P", default_value = "/")]
    pub path: String,
    /// Where the octets of a bulk transfer go
    #[arg(long, value_enum, default_value = "down")]
    pub direction: Direction,
    /// Open loop: begin so many exchanges per second, whatever becomes of them
    #[arg(long, value_name = "R", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Seconds to measure
    #[arg(long, value_name = "S", default_value = "10", value_parser = parse::seconds)]
    pub duration: Duration,
    /// Seconds before the measurement that do not count
    #[arg(long, value_name = "S", default_value = "1", value_parser = parse::seconds)]
    pub warmup: Duration,
    /// crr: who closes first, and so keeps TIME-WAIT; an HTTP server is asked to by `Connection: close`
    #[arg(long, value_enum, default_value = "client")]
    pub close: CloseSide,
    /// Seconds that a handshake may take
    #[arg(long, value_name = "S", default_value = "5", value_parser = parse::seconds)]
    pub connect_timeout: Duration,
    #[command(flatten)]
    workers: Workers,
    /// Write the results as one JSON object to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write all latencies as an HdrHistogram V2 interval log to this file
    #[arg(long, value_name = "FILE")]
    pub hdr: Option<PathBuf>,
    /// Number of this run among repetitions, copied to the JSON object
    #[arg(long, value_name = "N", default_value_t = 1, hide = true)]
    pub repeat: u32,
}

/// Runs the load and reports it.
///
/// # Errors
///
/// One sentence on what is wrong and what to do about it; also when nothing was achieved, or more failed than
/// succeeded.
pub fn run(args: Args) -> anyhow::Result<()> {
    let mut plan = args.plan()?;
    if args.workers.print_plan(flows_max(&plan), plan.targets[0].ip())? {
        return Ok(());
    }
    if let (Backend::Xdp, None, Some(dev)) = (args.workers.backend, &args.source, &args.dev) {
        plan.sources = own_addresses(&netlink::interface(dev)?.addresses, plan.targets[0].ip());
    }
    let plan = Arc::new(plan);
    let control = stop_on_signal()?;
    let (mode, observed) = std::thread::scope(|scope| {
        let observer = scope.spawn(|| watch(&plan, &control));
        let mode = match args.workers.backend {
            Backend::Kernel => run_kernel(&args, &plan, &control),
            Backend::Xdp => run_engine(&args, &plan, &control),
        };
        control.end();
        let observed = observer.join().expect("watching does not panic");
        anyhow::Ok((mode?, observed))
    })?;
    let recorder = control.merged().context("no worker left any results")?;
    let report = args.report(&plan, &control, &recorder, &mode, &observed);
    std::println!("{report}");
    if let Some(path) = &args.json {
        write_file(path, &report.to_json()?)?;
    }
    if let Some(path) = &args.hdr {
        let mut out = Vec::new();
        write_hdr_log(&mut out, &recorder)?;
        write_file(path, &out)?;
    }
    check_success(&plan, &recorder)
}

/// Of an interface's addresses those from which `target` can answer: of its family, and link-local ones only
/// for one that is link-local too.
fn own_addresses(addresses: &[(IpAddr, u8)], target: IpAddr) -> Vec<IpAddr> {
    let kind = |addr: &IpAddr| match addr {
        IpAddr::V4(v4) => (true, v4.is_link_local()),
        IpAddr::V6(v6) => (false, v6.is_unicast_link_local()),
    };
    addresses.iter().map(|&(own, _)| own).filter(|own| kind(own) == kind(&target)).collect()
}

/// A run in which nothing worked, or more failed than succeeded, is a failure, whatever its figures say.
fn check_success(plan: &Plan, recorder: &Recorder) -> anyhow::Result<()> {
    let target = plan.targets[0];
    let errors = recorder.errors();
    let most = errors.iter().max_by_key(|&(_, n)| n).map(|(&kind, _)| kind);
    if recorder.established == 0 && recorder.errors_seen > 0 {
        return no_connection(target, most);
    }
    let (succeeded, what) = match plan.workload.profile {
        Profile::Crr | Profile::Rr => (recorder.requests, "exchanges"),
        // A bulk transfer has no end: a connection that carried text is one that worked.
        Profile::Bulk if recorder.sent + recorder.received == 0 => (0, "transfers"),
        Profile::Bulk => (recorder.established, "transfers"),
    };
    let failed: u64 = errors.values().sum();
    match most {
        Some(most) if failed > succeeded => {
            bail!("most {what} with {target} failed: {failed} errors, {succeeded} successes; mostly {most}")
        }
        _ if succeeded == 0 => {
            bail!("no {what} with {target} ended in the measured time; is --duration long enough?")
        }
        _ => Ok(()),
    }
}

/// Why no connection came to be, by the most frequent error.
fn no_connection(target: SocketAddr, most: Option<&str>) -> anyhow::Result<()> {
    match most {
        Some("refused") => bail!("{target} refused every connection; is a server listening there?"),
        Some("unreachable") => bail!("{target} cannot be reached; look at `ip route get {}`", target.ip()),
        Some("connect_timed_out") => {
            bail!("{target} answered no SYN in time; is the machine up, or a firewall between?")
        }
        Some("ports_exhausted") => {
            bail!("no local port or address is free; check --source, or name more addresses")
        }
        Some(kind) => bail!("no connection to {target} was established: {kind}"),
        None => bail!("no connection to {target} was established"),
    }
}

impl Args {
    fn plan(&self) -> anyhow::Result<Plan> {
        self.check()?;
        let request_size = usize::try_from(self.request_size).context("--request-size is too large")?;
        Ok(Plan {
            workload: Workload {
                profile: self.profile,
                app: self.app,
                close: self.close,
                direction: self.direction,
                request_size,
                reply_size: self.reply_size.unwrap_or(self.request_size),
                path: self.path.clone(),
            },
            targets: self.target.0.clone(),
            sources: self.source.clone().map(|list| list.0).unwrap_or_default(),
            connections: self.connections,
            rate: self.rate,
            warmup: self.warmup,
            duration: self.duration,
            connect_timeout: self.connect_timeout,
            workers: self.workers.count,
        })
    }

    /// Combinations that would not measure what they say.
    fn check(&self) -> anyhow::Result<()> {
        if self.app == AppKind::Echo && (self.request_size == 0 || self.reply_size == Some(0)) {
            bail!("an echo of 0 octets has no end to wait for; use a size of 1 or more");
        }
        if self.request_size > 1 << 30 {
            bail!("--request-size is kept in memory; use 1g or less");
        }
        if self.profile == Profile::Bulk && self.app == AppKind::Http && self.direction == Direction::Up {
            bail!("HTTP requests have no body here; use --app echo against `serve --app discard`");
        }
        if self.profile == Profile::Bulk && self.rate.is_some() {
            bail!("--rate counts exchanges, and bulk has none; leave one of them out");
        }
        if u32::from(self.workers.count) > self.connections {
            bail!(
                "{} workers cannot share {} connections; use more connections",
                self.workers.count,
                self.connections
            );
        }
        let is_path = self.path.starts_with('/') && self.path.bytes().all(|b| b.is_ascii_graphic());
        if !is_path {
            bail!("--path begins with a slash and has no spaces; encode them as %20");
        }
        if self.duration.is_zero() {
            bail!("--duration 0 measures nothing; use a fraction of a second at least");
        }
        self.workers.check()?;
        let family = self.target.0[0].is_ipv4();
        match &self.source {
            Some(list) if list.0[0].is_ipv4() != family => {
                bail!("--source and --target are of different address families")
            }
            _ => Ok(()),
        }
    }

    fn report(
        &self,
        plan: &Plan,
        control: &Control,
        recorder: &Recorder,
        mode: &str,
        observed: &Observed,
    ) -> RunReport {
        RunReport::new(ReportInput {
            plan,
            backend: match self.workers.backend {
                Backend::Kernel => "kernel",
                Backend::Xdp => "xdp",
            },
            repeat: self.repeat,
            recorder,
            cpu_seconds: observed.cpu_seconds,
            counters: control.counters().as_ref(),
            all_counted: control.all_counted(),
            net: (&observed.before, &observed.after),
            environment: Environment::read(mode, self.dev.as_deref()),
        })
    }
}

/// Room of one worker: connections in LAST-ACK or waiting for a lost FIN still hold their entry when the next
/// is opened.
fn flows_max(plan: &Plan) -> u32 {
    let share = plan.share(0);
    share + share.saturating_mul(3).clamp(1_024, 1 << 20)
}

fn run_kernel(args: &Args, plan: &Arc<Plan>, control: &Arc<Control>) -> anyhow::Result<String> {
    let files = kernel::raise_file_limit();
    if files < u64::from(args.connections) + 64 {
        bail!(
            "this process may open {files} files, which is too few for {} connections; raise `ulimit -Hn`",
            args.connections
        );
    }
    let threads = args.workers.kernel_threads();
    let clock = Clock::start();
    kernel::on_threads(&threads, |worker, thread| {
        let outcome = kernel::run_client(plan, control, clock, worker, thread);
        if outcome.is_err() {
            control.stop();
        }
        outcome
    })?;
    Ok(args.workers.kernel_mode().to_string())
}

fn run_engine(args: &Args, plan: &Arc<Plan>, control: &Arc<Control>) -> anyhow::Result<String> {
    let target = plan.targets[0];
    let config = RunConfig {
        sources: args.source.clone().map(|list| list.0).unwrap_or_default(),
        connects: true,
        source_ports: args.source_ports.clone(),
        ..args.workers.run_config(args.dev.as_deref(), CpusFrom::Last, flows_max(plan), target.ip())?
    };
    let options = args.workers.options();
    let factory = |_| Client::new(Arc::clone(plan), Arc::clone(control), options);
    run_xdp(&config, control, factory, || {})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use crate::load::{ErrorKind, Window};
    use crate::tcp::CongestionAlgorithm;
    use clap::Parser;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn plan(profile: &str) -> Plan {
        let words = ["load", "--target", "192.0.2.1:80", "--profile", profile];
        Cli::try_parse_from(words).expect("a good command line").args.plan().expect("a plan")
    }

    #[test]
    fn congestion_control_goes_by_its_name_and_the_kernel_has_its_own() {
        let args = |more: &[&str]| {
            let words = ["load", "--target", "192.0.2.1:80"].iter().chain(more).copied();
            Cli::try_parse_from(words).map(|cli| cli.args)
        };
        for (more, want) in [
            (&[][..], CongestionAlgorithm::Cubic),
            (&["--cc", "cubic"], CongestionAlgorithm::Cubic),
            (&["--cc", "bbr"], CongestionAlgorithm::Bbr),
            (&["--cc", "newreno"], CongestionAlgorithm::NewReno),
            (&["--cc", "new-reno"], CongestionAlgorithm::NewReno),
        ] {
            let args = args(more).expect("a good command line");
            assert_eq!(args.workers.options().congestion, want, "{more:?}");
        }
        assert!(args(&["--cc", "vegas"]).is_err());
        let kernel = args(&["--backend", "kernel", "--cc", "cubic"]).expect("words that exist");
        assert!(kernel.plan().is_err_and(|error| error.to_string().contains("tcp_congestion_control")));
    }

    #[test]
    fn explicit_congestion_notification_is_off_by_default_and_the_kernel_has_its_own_setting() {
        let args = |more: &[&str]| {
            let words = ["load", "--target", "192.0.2.1:80"].iter().chain(more).copied();
            Cli::try_parse_from(words).expect("words that exist").args
        };
        assert!(!args(&[]).workers.options().ecn);
        assert!(args(&["--ecn"]).workers.options().ecn);
        let kernel = args(&["--backend", "kernel", "--ecn"]).plan();
        assert!(kernel.is_err_and(|error| error.to_string().contains("tcp_ecn")));
        let bbr = args(&["--ecn", "--cc", "bbr"]).plan();
        assert!(bbr.is_err_and(|error| error.to_string().contains("no answer to marks")));
    }

    #[test]
    fn by_default_connections_come_from_addresses_that_the_target_can_answer() {
        let own = ["10.0.0.1", "169.254.0.1", "fe80::1", "10.0.0.2", "fd00::1"]
            .map(|addr| (addr.parse::<IpAddr>().expect("an address"), 24));
        for (target, want) in [
            ("10.0.0.9", &["10.0.0.1", "10.0.0.2"][..]),
            ("169.254.0.9", &["169.254.0.1"]),
            ("fd00::9", &["fd00::1"]),
            ("2001:db8::1", &["fd00::1"]),
            ("fe80::9", &["fe80::1"]),
        ] {
            let got = own_addresses(&own, target.parse().expect("an address"));
            assert_eq!(got.iter().map(ToString::to_string).collect::<Vec<_>>(), want, "{target}");
        }
    }

    #[test]
    fn a_run_fails_when_nothing_or_less_than_half_succeeded() {
        let (from, at, to) = (Instant::from_millis(1), Instant::from_millis(2), Instant::from_millis(3));
        for (profile, established, succeeded, failed, want) in [
            ("crr", 0, 0, 0, Some("--duration")),
            ("crr", 0, 0, 9, Some("refused every connection")),
            ("crr", 9, 9, 0, None),
            ("crr", 9, 9, 9, None),
            ("crr", 9, 8, 9, Some("9 errors, 8 successes; mostly refused")),
            ("rr", 9, 0, 0, Some("--duration")),
            ("bulk", 9, 1, 9, None),
            ("bulk", 8, 1, 9, Some("9 errors, 8 successes")),
            ("bulk", 9, 0, 0, Some("no transfers")),
        ] {
            let mut recorder = Recorder::new(Window { from, to });
            for _ in 0..established {
                recorder.on_established(at, from);
            }
            for _ in 0..succeeded {
                recorder.on_exchange(at, from, at);
                recorder.on_received(at, 1);
            }
            recorder.on_errors(at, ErrorKind::Refused, failed);
            let told = check_success(&plan(profile), &recorder).map_err(|error| error.to_string());
            let case = (profile, established, succeeded, failed);
            match want {
                None => assert_eq!(told, Ok(()), "{case:?}"),
                Some(words) => assert!(told.as_ref().is_err_and(|e| e.contains(words)), "{case:?}: {told:?}"),
            }
        }
    }
}
