//! The server and the generator of one run, as child processes in the lab's namespaces.
#![forbid(unsafe_code)]

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::network::{End, Lab};

/// A directory for the children's files, removed at the end.
#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("ringroad-lab-{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }

    fn file(&self, end: End, suffix: &str) -> PathBuf {
        self.0.join(format!("{}.{suffix}", end.as_str()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Temporary files that stay are untidy, but nothing to fail for.
        drop(fs::remove_dir_all(&self.0));
    }
}

/// `ringroad` at one end of the lab. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    end: End,
    child: Child,
    json: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts this program again at `end`, with `--json` added to `arguments`.
    pub(super) fn start(
        lab: &Lab,
        scratch: &Scratch,
        end: End,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let json = scratch.file(end, "json");
        let stderr = scratch.file(end, "stderr");
        // What an earlier run left must not pass for this run's result.
        if let Err(error) = fs::remove_file(&json)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error).with_context(|| format!("cannot remove {}", json.display()));
        }
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let errors = File::create(&stderr).with_context(|| format!("cannot make {}", stderr.display()))?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--json").arg(&json);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        // Ctrl-C at the terminal then reaches only this process, which passes it on once.
        command.process_group(0);
        let child = lab.spawn(end, &mut command)?;
        Ok(Self { end, child, json, stderr })
    }

    /// Waits until it prints a line with the word "ready".
    pub(super) fn wait_ready(&mut self, patience: Duration) -> anyhow::Result<()> {
        let ready = self.watch();
        match ready.recv_timeout(patience) {
            Ok(()) => Ok(()),
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("the {} ended early{}", self.word(), self.told())
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the {} is not ready after {} s{}", self.word(), patience.as_secs(), self.told())
            }
        }
    }

    /// Reads its output to the end, so that it never waits for a reader.
    pub(super) fn watch(&mut self) -> mpsc::Receiver<()> {
        let (sender, receiver) = mpsc::channel();
        if let Some(stdout) = self.child.stdout.take() {
            thread::spawn(move || drain(stdout, &sender));
        }
        receiver
    }

    /// Its exit status, if it has ended.
    pub(super) fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for the {}", self.word()))
    }

    /// Asks it to end, as Ctrl-C would.
    pub(super) fn interrupt(&self) {
        let id = i32::try_from(self.child.id()).expect("process ids fit pid_t");
        // It may have ended by itself, which is as good.
        let _ = kill(Pid::from_raw(id), Signal::SIGINT);
    }

    /// Waits until it ends, and reads its results.
    pub(super) fn finish(mut self, patience: Duration) -> anyhow::Result<Value> {
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.status()? {
                break status;
            }
            if Instant::now() > deadline {
                bail!("the {} did not end within {} s{}", self.word(), patience.as_secs(), self.told());
            }
            thread::sleep(Duration::from_millis(10));
        };
        if !status.success() {
            bail!("the {} failed ({status}){}", self.word(), self.told());
        }
        read_json(&self.json)
    }

    const fn word(&self) -> &'static str {
        match self.end {
            End::Client => "load generator",
            End::Server => "server",
        }
    }

    /// What it gave as its reason on stderr, or else its last line there, ready to follow a sentence.
    fn told(&self) -> String {
        let errors = fs::read_to_string(&self.stderr).unwrap_or_default();
        let is_reason = |line: &&str| line.starts_with("ringroad: ") || line.starts_with("error: ");
        let last = || errors.lines().rfind(|line| !line.trim().is_empty());
        match errors.lines().rfind(is_reason).or_else(last) {
            Some(line) => format!("; it said: {line}"),
            None => String::new(),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Tells `ready` once, then reads on until the end.
fn drain(stdout: ChildStdout, ready: &mpsc::Sender<()>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        if line.contains("ready") {
            // Nobody waits any more: nothing to tell.
            let _ = ready.send(());
        }
    }
}

fn read_json(path: &Path) -> anyhow::Result<Value> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}
