//! A lab of a test's own: what is run in it, and what its kernels say of themselves.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use ringroad::cli::lab::{End, Lab, LabConfig, LinkArgs};
use serde_json::Value;

use super::program::{Ended, PATIENCE, Program, wait_for};

pub const RINGROAD: &str = env!("CARGO_BIN_EXE_ringroad");

/// The server's addresses, one of each family.
pub const SERVER: [&str; 2] = ["10.77.0.1", "[fd77::1]"];
/// The client's addresses, one of each family.
pub const CLIENT: [&str; 2] = ["10.77.1.1", "[fd77::1:1]"];

/// Tests measure nothing, but their patience ends: on few cores they take turns.
static TURN: Mutex<()> = Mutex::new(());

/// Some of the client's other addresses of a family: with one alone its ports may end before the run.
pub fn sources(server: &str) -> &'static str {
    if server.starts_with('[') {
        "fd77::1:2,fd77::1:3,fd77::1:4,fd77::1:5"
    } else {
        "10.77.1.2,10.77.1.3,10.77.1.4,10.77.1.5"
    }
}

/// A lab, and a directory for its files; both go when it is dropped.
pub struct Net {
    name: String,
    lab: Lab,
    directory: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Net {
    /// A lab with one queue; `None` where it cannot be had, but on CI that is a failure.
    pub fn up(name: &str) -> Option<Self> {
        Self::with_queues(name, 1)
    }

    pub fn with_queues(name: &str, queues: u32) -> Option<Self> {
        Self::with(name, queues, LinkArgs::NONE)
    }

    /// A lab whose ends have such a link between them.
    pub fn with_link(name: &str, link: LinkArgs) -> Option<Self> {
        Self::with(name, 1, link)
    }

    fn with(name: &str, queues: u32, link: LinkArgs) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("CI").is_none(), "the namespace tests need root, and CI must run them");
            println!("skipped: needs root");
            return None;
        }
        // A test that failed has cleaned up behind it all the same.
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let name = format!("{name}-{}", std::process::id());
        let directory = std::env::temp_dir().join(format!("ringroad-{name}"));
        fs::create_dir_all(&directory).expect("a directory for the test's files");
        let program = Some(RINGROAD.into());
        let config = LabConfig { name: Some(name.clone()), queues, mtu: 1_500, link, program };
        let lab = Lab::up(&config).expect("root can make a lab");
        Some(Self { name, lab, directory, _turn: turn })
    }

    /// A path for a file of the test's.
    pub fn path(&self, file: &str) -> String {
        self.directory.join(file).to_str().expect("the names here are ASCII").to_owned()
    }

    /// Runs `work` on a thread at an end.
    pub fn at<T: Send>(&self, end: End, work: impl FnOnce() -> T + Send) -> T {
        self.lab.run_at(end, work).expect("the lab is up")
    }

    pub fn start(&self, end: End, argv: &[&str]) -> Program {
        Program::start(&self.lab, end, argv)
    }

    pub fn run(&self, end: End, argv: &[&str]) -> Ended {
        self.start(end, argv).end()
    }

    /// A server on ringroad's stack that sleeps when idle; returns when it listens.
    pub fn serve(&self, end: End, listen: &str, more: &[&str]) -> Server {
        let argv = [RINGROAD, "serve", "--dev", Lab::INTERFACE, "--listen", listen, "--idle", "adaptive"];
        Server::new(self.start(end, &[&argv, more].concat()))
    }

    /// The same server on the kernel's stack.
    pub fn serve_kernel(&self, end: End, listen: &str, more: &[&str]) -> Server {
        let argv = [RINGROAD, "serve", "--backend", "kernel", "--listen", listen];
        Server::new(self.start(end, &[&argv, more].concat()))
    }

    /// The command line of a generator on ringroad's stack that measures from the beginning.
    pub fn load_argv<'a>(target: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let dev = if more.contains(&"kernel") { [].as_slice() } else { &["--dev", Lab::INTERFACE] };
        let argv = [RINGROAD, "load", "--target", target, "--warmup", "0", "--idle", "adaptive"];
        [&argv, dev, more].concat()
    }

    /// A generator's report; it must have succeeded.
    pub fn load(&self, end: End, target: &str, more: &[&str]) -> Value {
        let json = self.path("load.json");
        let argv = [&Self::load_argv(target, more), ["--json", &json].as_slice()].concat();
        self.run(end, &argv).success();
        read_json(&json)
    }

    /// Whether an XDP program is attached to the end's interface.
    pub fn has_program(&self, end: End) -> bool {
        let links = self.run(end, &["ip", "-j", "link", "show", Lab::INTERFACE]).success();
        let links: Value = serde_json::from_str(&links).expect("ip writes JSON");
        !links[0]["xdp"].is_null()
    }

    /// Asserts that a kernel's TCP gets from one end to the other.
    pub fn assert_kernels_talk(&self) {
        for (server, client) in [(End::Server, End::Client), (End::Client, End::Server)] {
            let addr = if server == End::Server { SERVER } else { CLIENT };
            for addr in addr {
                let bind = || TcpListener::bind(format!("{addr}:0")).expect("an address of this end");
                let listener = self.at(server, bind);
                let to = listener.local_addr().expect("it is bound");
                self.at(client, || connect(to));
            }
        }
    }

    /// Asserts that nothing of a run is left at an end: no program, and nobody holds the port.
    ///
    /// After SIGKILL the kernel detaches the program soon, but not before the process can be waited for.
    pub fn assert_clean(&self, end: End, listen: &str) {
        wait_for("the program to be detached", || (!self.has_program(end)).then_some(()));
        self.at(end, || TcpListener::bind(listen)).expect("nobody holds the port");
    }

    /// What the link between the ends has done.
    pub fn link_counts(&self) -> Value {
        let output = Command::new(RINGROAD).args(["lab", "link", "--name", &self.name]).output();
        serde_json::from_slice(&output.expect("the binary was built").stdout).expect("an object")
    }

    /// The kernel's counters at an end.
    pub fn kernel_counters(&self, end: End) -> KernelCounters {
        let text = self.run(end, &["nstat", "--json", "--ignore", "--noupdate", "--zeros"]).success();
        let all: Value = serde_json::from_str(&text).expect("nstat writes JSON");
        let all = all["kernel"].as_object().expect("nstat's object").clone();
        KernelCounters(all.into_iter().filter_map(|(name, n)| Some((name, n.as_u64()?))).collect())
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        // What a program held open goes with it; what fails here must not hide what failed before.
        drop(Lab::down(Some(&self.name)));
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// A connection with patience; what is read or written never blocks for longer.
pub fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect_timeout(&to, PATIENCE).expect("a connection");
    patient(stream)
}

/// Gives up reading and writing at some time.
pub fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

pub fn read_json(path: impl AsRef<Path>) -> Value {
    serde_json::from_slice(&fs::read(path).expect("the file was written")).expect("it is JSON")
}

/// `sha256sum` of a file.
pub fn sha256(path: &str) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("coreutils are installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a sum").to_owned()
}

/// A server that listens.
pub struct Server {
    pub program: Program,
    pub addr: SocketAddr,
}

impl Server {
    fn new(mut program: Program) -> Self {
        let addr = program.wait_for_line("ready on ");
        Self { program, addr: addr.parse().expect("it listens on one address") }
    }

    /// Ends it as Ctrl-C would.
    pub fn stop(self) {
        self.program.signal(Signal::SIGINT);
        self.program.end().success();
    }
}

/// A kernel's counters at one time.
#[derive(Debug)]
pub struct KernelCounters(BTreeMap<String, u64>);

impl KernelCounters {
    /// What has grown since `before`.
    pub fn since(&self, before: &Self) -> BTreeMap<String, u64> {
        let grown = |(name, &n): (&String, &u64)| {
            let more = n - before.0.get(name).copied().unwrap_or(0);
            (more > 0).then(|| (name.clone(), more))
        };
        self.0.iter().filter_map(grown).collect()
    }
}

/// Asserts that a kernel found nothing wrong with its peer since `before`.
pub fn assert_kernel_content(net: &Net, end: End, before: &KernelCounters) {
    /// Whatever begins so is a complaint, or a connection that did not end in peace.
    const COMPLAINTS: [&str; 20] = [
        "IpInHdrErrors",
        "IpExtInCsumErrors",
        "IpExtInTruncatedPkts",
        "Ip6InHdrErrors",
        "Ip6InTruncatedPkts",
        "TcpInErrs",
        "TcpInCsumErrors",
        "TcpAttemptFails",
        "TcpEstabResets",
        "TcpOutRsts",
        "TcpExtListenDrops",
        "TcpExtListenOverflows",
        "TcpExtTCPAbort",
        "TcpExtTCPChallengeACK",
        "TcpExtTCPSYNChallenge",
        "TcpExtPAWS",
        "TcpExtTCPACKSkipped",
        "TcpExtTCPMD5",
        "TcpExtEmbryonicRsts",
        "TcpExtTCPReqQFull",
    ];
    let grown = net.kernel_counters(end).since(before);
    assert!(grown.get("TcpInSegs").is_some_and(|&n| n > 0), "the kernel took part: {grown:?}");
    let is_complaint = |name: &str| COMPLAINTS.iter().any(|complaint| name.starts_with(complaint));
    let complaints: Vec<_> = grown.iter().filter(|(name, _)| is_complaint(name)).collect();
    assert!(complaints.is_empty(), "the kernel complains: {complaints:?} in {grown:?}");
}

/// Waits until a kernel listens there.
pub fn wait_until_it_listens(net: &Net, end: End, addr: SocketAddr) {
    let answers = || net.at(end, || TcpStream::connect_timeout(&addr, Duration::from_secs(1))).ok();
    drop(wait_for("the listener", answers));
}
