//! `lab run`: carries out the plan, one server and one generator at a time.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::child::{Process, Scratch};
use super::network::{End, Lab, LabConfig};
use super::plan::{self, Backend, Pairing, Run, Settings};
use super::report::{self, Measurement};
use crate::cli::xdp::Mode;

/// The arguments of `ringroad lab run`.
#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    /// One repeat of one second each: ends within a minute, and shows the direction rather than the figure
    #[arg(long)]
    quick: bool,
    /// Repeats of every measurement; medians are shown [default: 5, or 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    repeat: Option<u32>,
    /// Seconds measured in each run [default: 5, or 1 with --quick]
    #[arg(long, value_name = "S")]
    duration: Option<f64>,
    /// Seconds before measuring in each run [default: 1, or 0.3 with --quick]
    #[arg(long, value_name = "S")]
    warmup: Option<f64>,
    /// Workers, and queues, at each end
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    workers: u32,
    /// Measure throughput in both directions too
    #[arg(long)]
    bulk: bool,
    /// How ringroad gets its frames; on a veth pair generic costs least
    #[arg(long, value_enum, default_value_t = Mode::Generic)]
    mode: Mode,
    /// Write all results to FILE: a list of the load generator's objects, each with the server's added
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Use the lab of that name, which is up, instead of making one for the comparison
    #[arg(long)]
    name: Option<String>,
}

impl RunArgs {
    fn settings(&self) -> anyhow::Result<Settings> {
        let (repeat, duration_s, warmup_s) = if self.quick { (1, 1.0, 0.3) } else { (5, 5.0, 1.0) };
        let cores: Vec<_> = core_affinity::get_core_ids()
            .context("cannot tell which cores this process may use")?
            .iter()
            .map(|core| core.id)
            .collect();
        let workers = usize::try_from(self.workers).context("too many workers")?;
        let [server_cpus, client_cpus] = plan::split_cpus(&cores, workers);
        let settings = Settings {
            repeat: self.repeat.unwrap_or(repeat),
            duration_s: self.duration.unwrap_or(duration_s),
            warmup_s: self.warmup.unwrap_or(warmup_s),
            workers: self.workers,
            bulk: self.bulk,
            mode: self.mode.into(),
            client_cpus,
            server_cpus,
        };
        // The upper bound keeps the arithmetic of deadlines far from its limits.
        for (flag, seconds, least) in
            [("--duration", settings.duration_s, 0.1), ("--warmup", settings.warmup_s, 0.0)]
        {
            ensure!((least..=86_400.0).contains(&seconds), "{flag} must be from {least} to 86400 seconds");
        }
        Ok(settings)
    }
}

/// Runs `ringroad lab run`.
pub(super) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings()?;
    let stop = Arc::new(AtomicBool::new(false));
    let on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || on_signal.store(true, Ordering::Relaxed)).context("cannot catch Ctrl-C")?;

    let own = format!("run-{}", std::process::id());
    let lab = match &args.name {
        Some(name) => Lab::open(Some(name))?,
        None => Lab::up(&LabConfig {
            name: Some(own.clone()),
            queues: settings.workers,
            mtu: 1500,
            ..LabConfig::default()
        })?,
    };
    let outcome = compare(&lab, &settings, &stop);
    if args.name.is_none() {
        Lab::down(Some(&own))?;
    }
    let (measurements, failures) = outcome?;
    if !measurements.is_empty() {
        println!("{}", report::table(&measurements));
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report::json(&measurements))?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    match failures {
        0 => Ok(ExitCode::SUCCESS),
        failures => bail!("{failures} of the runs failed; their reasons are above"),
    }
}

/// All runs' results, and how many runs gave none.
fn compare(lab: &Lab, settings: &Settings, stop: &AtomicBool) -> anyhow::Result<(Vec<Measurement>, usize)> {
    let runs = plan::runs(settings);
    let scratch = Scratch::new()?;
    explain(lab, settings, runs.len());
    let (mut measurements, mut failures) = (Vec::new(), 0);
    for (number, run) in runs.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let label = format!("[{}/{}] {}, {}", number + 1, runs.len(), run.workload.title, run.pairing);
        match measure(lab, &scratch, settings, run, stop) {
            Ok(Some(measurement)) => {
                eprintln!("{label}: {}", report::rate_in_words(&measurement));
                measurements.push(measurement);
            }
            Ok(None) => break,
            Err(error) => {
                eprintln!("{label}: {error:#}");
                failures += 1;
            }
        }
    }
    Ok((measurements, failures))
}

/// Says what makes the comparison a fair one.
fn explain(lab: &Lab, settings: &Settings, runs: usize) {
    let (wire, offloads) = if lab.has_link() {
        ("over the lab's link", "off at both ends, so that the link sees packets")
    } else {
        (
            "on one veth pair",
            "transmit checksums and TSO on at both ends when a kernel talks to a kernel, else off at both",
        )
    };
    println!(
        "{runs} runs of {} s after {} s of warm-up, kernel and ringroad in turn {wire}; cores: server {}, client {}.",
        settings.duration_s, settings.warmup_s, settings.server_cpus, settings.client_cpus
    );
    println!(
        "Offloads: {offloads}. Kernel: tcp_tw_reuse=1, ip_local_port_range 1024-65535 for its clients, somaxconn \
         65535, no XDP program attached while it talks to itself. ringroad: --mode {}.",
        settings.mode
    );
}

/// One run; `None` when it was interrupted.
fn measure(
    lab: &Lab,
    scratch: &Scratch,
    settings: &Settings,
    run: &Run,
    stop: &AtomicBool,
) -> anyhow::Result<Option<Measurement>> {
    const PATIENCE: Duration = Duration::from_secs(15);
    prepare(lab, run.pairing)?;
    let mut server = Process::start(lab, scratch, End::Server, &run.arguments(End::Server, settings))?;
    server.wait_ready(PATIENCE)?;
    let mut client = Process::start(lab, scratch, End::Client, &run.arguments(End::Client, settings))?;
    let _output = client.watch();
    let cpus_busy = watch_cpus(&mut client, settings, stop)?;
    if stop.load(Ordering::Relaxed) {
        client.interrupt();
        server.interrupt();
        // Both get the time to detach their programs; what they measured is not a whole run.
        drop(client.finish(PATIENCE));
        drop(server.finish(PATIENCE));
        return Ok(None);
    }
    let load = client.finish(PATIENCE)?;
    server.interrupt();
    let server = server.finish(PATIENCE)?;
    Ok(Some(Measurement { run: *run, load, server, cpus_busy }))
}

/// Sets what depends on who talks to whom.
fn prepare(lab: &Lab, pairing: Pairing) -> anyhow::Result<()> {
    for end in End::ALL {
        lab.set_offloads(end, pairing.offloads())?;
        if pairing == Pairing::BASE {
            let attached = lab.interface(end)?.xdp_attached;
            ensure!(
                !attached,
                "an XDP program is attached at the {}, and slows the kernel down",
                end.as_str()
            );
        }
    }
    lab.set_wide_ports(End::Client, pairing.client == Backend::Kernel)?;
    Ok(())
}

/// Waits for the client to end, and counts how many CPUs of the machine are busy while it measures.
///
/// `None` when the client ended too early to tell.
fn watch_cpus(client: &mut Process, settings: &Settings, stop: &AtomicBool) -> anyhow::Result<Option<f64>> {
    /// What a client may take beyond its warm-up and duration: to start, and to time out at the end.
    const GRACE_S: f64 = 30.0;
    let start = Instant::now();
    let after = |seconds: f64| start + Duration::from_secs_f64(seconds);
    // The middle of the measurement, whatever the time that the client needs to start.
    let from = after(settings.warmup_s + 0.3 * settings.duration_s);
    let to = after(settings.warmup_s + 0.9 * settings.duration_s);
    let deadline = after(settings.warmup_s + settings.duration_s + GRACE_S);
    let (mut first, mut busy) = (None, None);
    while client.status()?.is_none() && !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        ensure!(now < deadline, "the load generator did not end in time");
        if first.is_none() && now >= from {
            first = Some((now, busy_seconds()?));
        }
        if let (None, Some((then, before)), true) = (busy, first, now >= to) {
            busy = Some((busy_seconds()? - before) / (now - then).as_secs_f64());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(busy)
}

/// Seconds that all CPUs together have worked since the machine started, interrupts included.
fn busy_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    busy_of(&stat).context("cannot read the first line of /proc/stat")
}

/// User, nice, system, irq and softirq of the line "cpu", which counts hundredths of seconds (USER_HZ).
fn busy_of(stat: &str) -> Option<f64> {
    let mut words = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    let mut ticks = [0.0_f64; 7];
    for tick in &mut ticks {
        *tick = words.next()?.parse().ok()?;
    }
    let [user, nice, system, _idle, _iowait, irq, softirq] = ticks;
    Some((user + nice + system + irq + softirq) / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_is_not_work() {
        let stat = "cpu  100 20 300 99999 888 4 50 7 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(busy_of(stat), Some(4.74));
        assert_eq!(busy_of("intr 1 2 3"), None);
    }
}
