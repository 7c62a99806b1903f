//! A lab made, used and removed by the `ringroad` command.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// Where servers listen.
const SERVER: &str = "10.77.0.1";
/// How long a program may take to begin, and to end.
const PATIENCE: Duration = Duration::from_secs(15);

/// How to make labs.
#[derive(Debug)]
pub(super) struct Lab {
    ringroad: PathBuf,
    name: String,
}

/// A lab that is there until it is dropped.
#[derive(Debug)]
pub(super) struct Up<'a>(&'a Lab);

/// A server that is ready.
#[derive(Debug)]
pub(super) struct Served<'a> {
    up: &'a Up<'a>,
    port: u16,
    is_kernel: bool,
    server: Running,
    results: Results,
}

/// What one run came to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    /// Mbit/s, or ms.
    pub(super) figure: f64,
    /// Segments that the server sent again.
    pub(super) retransmits: u64,
}

/// What the kernel's connections may use here.
pub(super) fn kernel_algorithms() -> anyhow::Result<Vec<String>> {
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let names = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(names.split_whitespace().map(str::to_owned).collect())
}

/// What a new namespace has too.
pub(super) fn kernel_buffers() -> anyhow::Result<BTreeMap<&'static str, String>> {
    let read = |name| {
        let path = format!("/proc/sys/net/ipv4/{name}");
        let value = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        anyhow::Ok((name, value.split_whitespace().collect::<Vec<_>>().join(" ")))
    };
    ["tcp_rmem", "tcp_wmem"].into_iter().map(read).collect()
}

impl Lab {
    pub(super) fn new(ringroad: Option<&Path>, name: &str) -> anyhow::Result<Self> {
        let own = std::env::current_exe().context("cannot find this program's own file")?;
        let ringroad = ringroad.map_or_else(|| own.with_file_name("ringroad"), Path::to_owned);
        ensure!(
            ringroad.exists(),
            "there is no {}; build it (cargo build --release --bin ringroad), or name it with --ringroad",
            ringroad.display()
        );
        Ok(Self { ringroad, name: name.to_owned() })
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.ringroad);
        command.args(["lab"]).args(words).args(["--name", &self.name]).stdin(Stdio::null());
        command
    }

    fn call(&self, words: &[&str]) -> anyhow::Result<()> {
        let output = self.command(words).output().context("cannot run ringroad")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "ringroad lab {} failed: {}", words.join(" "), said.trim());
        Ok(())
    }

    /// Makes the lab with a link that these flags describe.
    pub(super) fn up(&self, link: &[String]) -> anyhow::Result<Up<'_>> {
        let words: Vec<&str> = ["up"].into_iter().chain(link.iter().map(String::as_str)).collect();
        self.call(&words)?;
        Ok(Up(self))
    }
}

impl Drop for Up<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.0.call(&["down"]) {
            eprintln!("paths: {error:#}");
        }
    }
}

impl Up<'_> {
    /// `ringroad` at an end.
    fn ringroad(&self, end: &str, words: &[&str], more: &[&str]) -> Command {
        let mut command = self.0.command(&["exec", end]);
        command.arg("--").arg(&self.0.ringroad).args(words).args(["--dev", "rr0"]).args(more);
        command.stdout(Stdio::piped());
        command
    }

    /// Serves with these arguments, on a port of its own; it is ready.
    pub(super) fn serve(&self, port: u16, words: &[&str]) -> anyhow::Result<Served<'_>> {
        let endpoint = format!("{SERVER}:{port}");
        let results = Results::new("server", port);
        let own = ["serve", "--listen", &endpoint, "--json", results.path()?];
        let mut server = Running::start(self.ringroad("server", &own, words))?;
        server.wait_ready()?;
        Ok(Served { up: self, port, is_kernel: words.contains(&"kernel"), server, results })
    }

    /// What the kernel at the server's end has sent again: the namespace is as old as the lab.
    fn kernel_retransmits(&self) -> anyhow::Result<u64> {
        let mut command = self.0.command(&["exec", "server"]);
        let output = command.args(["--", "cat", "/proc/net/snmp"]).output().context("cannot run ringroad")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        retransmits(&text).context("/proc/net/snmp has no RetransSegs")
    }
}

/// Mbit/s of a bulk transfer, which has no latency; else the 99th percentile of that, ms.
fn figure(report: &Value) -> Option<f64> {
    Some(match report.get("latency_us")? {
        Value::Null => report.get("bytes_per_second")?.as_f64()? * 8.0 / 1e6,
        latency => latency.get("p99")?.as_f64()? / 1e3,
    })
}

impl Served<'_> {
    /// Loads it with these arguments; a run that is not over long after `time` has failed.
    pub(super) fn load(self, words: &[&str], time: Duration) -> anyhow::Result<Run> {
        let endpoint = format!("{SERVER}:{}", self.port);
        let results = Results::new("client", self.port);
        let own = ["load", "--target", &endpoint, "--json", results.path()?];
        let mut client = Running::start(self.up.ringroad("client", &own, words))?;
        client.read_on();
        client.finish(time + PATIENCE)?;
        self.server.interrupt();
        self.server.finish(PATIENCE)?;
        let figure = figure(&results.read()?).context("the load generator's report lacks the figure")?;
        let counted = self.results.read()?.pointer("/counters/retransmits").and_then(Value::as_u64);
        let retransmits = if self.is_kernel { self.up.kernel_retransmits()? } else { counted.unwrap_or(0) };
        Ok(Run { figure, retransmits })
    }
}

/// `RetransSegs` of the two lines that begin with `Tcp:`, names and values.
fn retransmits(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter(|line| line.starts_with("Tcp:")).map(str::split_whitespace);
    let at = lines.next()?.position(|name| name == "RetransSegs")?;
    lines.next()?.nth(at)?.parse().ok()
}

/// A file that a program writes its results to, removed in the end.
#[derive(Debug)]
struct Results(PathBuf);

impl Results {
    fn new(end: &str, port: u16) -> Self {
        Self(std::env::temp_dir().join(format!("ringroad-paths-{}-{end}-{port}.json", std::process::id())))
    }

    fn path(&self) -> anyhow::Result<&str> {
        self.0.to_str().context("the name of the temporary directory is not UTF-8")
    }

    fn read(&self) -> anyhow::Result<Value> {
        let cannot = || format!("cannot read {}", self.0.display());
        let text = fs::read_to_string(&self.0).with_context(cannot)?;
        serde_json::from_str(&text).with_context(cannot)
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        // A temporary file that stays is untidy, but nothing to fail for.
        drop(fs::remove_file(&self.0));
    }
}

/// A program that is killed when it is dropped.
#[derive(Debug)]
struct Running(Child);

impl Running {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        Ok(Self(command.spawn().context("cannot run ringroad")?))
    }

    /// Waits for the line that says so.
    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let ready = self.read_on().recv_timeout(PATIENCE);
        ready.ok().context("the server did not get ready")
    }

    /// Reads its output to the end, so that it never waits for a reader.
    fn read_on(&mut self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = self.0.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    if line.contains("ready") {
                        // Nobody waits any more: nothing to tell.
                        let _ = sender.send(());
                    }
                }
            });
        }
        receiver
    }

    fn interrupt(&self) {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        // It may have ended by itself, which is as good.
        let _ = pid.map(|pid| kill_process(pid, Signal::INT));
    }

    fn finish(mut self, patience: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            match self.0.try_wait().context("cannot wait for ringroad")? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("ringroad failed ({status}); what it said is above"),
                None => ensure!(Instant::now() < deadline, "ringroad did not end in {patience:?}"),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bulk_is_measured_in_mbit_a_second_and_the_rest_by_its_slowest_exchanges() {
        for (report, want) in [
            (json!({"latency_us": null, "bytes_per_second": 1_250_000.0}), Some(10.0)),
            (json!({"latency_us": {"p99": 61_000.0}, "bytes_per_second": 1.0}), Some(61.0)),
            (json!({"latency_us": null}), None),
        ] {
            assert_eq!(figure(&report), want, "{report}");
        }
    }

    #[test]
    fn the_kernels_count_is_below_its_name() {
        let snmp = "Ip: A B\nIp: 1 2\nTcp: InSegs RetransSegs InErrs\nTcp: 9 7 0\nUdp: A\nUdp: 1\n";
        assert_eq!((retransmits(snmp), retransmits("Ip: 1\n")), (Some(7), None));
    }
}
