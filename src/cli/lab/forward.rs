//! The forwarder: carries frames between the ends of a lab whose link is not perfect, until it is told to stop.
//!
//! `lab up` starts it in the background, in a namespace of its own. There it listens on an abstract Unix socket,
//! a name that only that namespace knows and that ends with the process: so whoever finds it answering knows
//! that it runs, and whose process it is.
#![forbid(unsafe_code)]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::time::TimeSpec;
use nix::unistd::Pid;
use serde::Serialize;

use super::link::LinkArgs;
use super::network::{End, Lab, LabError};
use crate::base::{Instant, Rng};
use crate::io::link::{Held, Link, LinkStats};
use crate::io::packet::{PacketSocket, Received};
use crate::runtime::{clock, netlink, netns};

/// The name on which a forwarder listens.
const CONTROL: &[u8] = b"ringroad-link";
/// What it prints on stdout once it forwards.
const READY: &str = "ready";

/// The arguments of the forwarder's command, which `lab up` calls.
#[derive(Debug, clap::Args)]
pub(super) struct ForwardArgs {
    #[arg(long)]
    name: Option<String>,
    #[command(flatten)]
    link: LinkArgs,
}

/// Starts a forwarder for the lab called `name` in the background; returns when it forwards.
pub(super) fn start(program: &Path, name: Option<&str>, link: &LinkArgs) -> Result<(), LabError> {
    let mut command = Command::new(program);
    command
        .args(["lab", "forward"])
        .args(name.into_iter().flat_map(|name| ["--name", name]))
        .args(link.words());
    // A Ctrl-C at the terminal is for whoever works in the lab.
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let spawned = command.spawn();
    let mut child = spawned
        .map_err(|source| LabError::Spawn { program: program.to_string_lossy().into_owned(), source })?;
    let mut line = String::new();
    let stdout = child.stdout.take().map(BufReader::new);
    // It prints nothing else, and closes its outputs when it fails.
    let is_ready =
        stdout.is_some_and(|mut stdout| stdout.read_line(&mut line).is_ok() && line.trim() == READY);
    if is_ready {
        return Ok(());
    }
    let mut told = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        // Without its words the error still says what failed.
        let _ = stderr.read_to_string(&mut told);
    }
    drop(child.kill());
    drop(child.wait());
    Err(LabError::Forwarder(told.trim().trim_start_matches("ringroad: ").to_owned()))
}

/// Ends the forwarder in the namespace called `netns`; returns when it is gone, or was.
pub(super) fn stop(netns: &str) -> Result<(), LabError> {
    const PATIENCE: Duration = Duration::from_secs(2);
    netns::run_in(netns, || {
        let Ok(mut stream) = connect() else { return };
        let process = getsockopt(&stream, sockopt::PeerCredentials).map(|peer| Pid::from_raw(peer.pid()));
        let wait_for_its_end = |stream: &mut UnixStream| {
            // Its end closes the connection: there is nothing to read before that.
            drop(stream.set_read_timeout(Some(PATIENCE)));
            matches!(stream.read(&mut [0]), Ok(0))
        };
        let asked = stream.write_all(b"stop\n").is_ok();
        if !(asked && wait_for_its_end(&mut stream))
            && let Ok(process) = process
        {
            let _ = kill(process, Signal::SIGKILL);
            wait_for_its_end(&mut stream);
        }
    })?;
    Ok(())
}

/// What the forwarder in the namespace called `netns` has done, as JSON.
pub(super) fn statistics(netns: &str) -> anyhow::Result<String> {
    let ask = || -> io::Result<String> {
        let mut stream = connect()?;
        stream.write_all(b"statistics\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    netns::run_in(netns, ask)?.context("the forwarder of the lab's link does not answer; make the lab anew")
}

fn connect() -> io::Result<UnixStream> {
    UnixStream::connect_addr(&SocketAddr::from_abstract_name(CONTROL)?)
}

/// Runs the forwarder.
pub(super) fn run(args: &ForwardArgs) -> anyhow::Result<ExitCode> {
    let lab = Lab::open(args.name.as_deref())?;
    netns::enter(lab.link_netns())?;
    let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(CONTROL)?)
        .context("cannot listen for `lab down`; another forwarder runs already")?;
    let mut forwarder = Forwarder::open(&args.link)?;
    let shared = Arc::clone(&forwarder.shared);
    thread::spawn(move || answer(&listener, &shared));
    be_prompt();
    println!("{READY}");
    forwarder.run();
    Ok(ExitCode::SUCCESS)
}

/// What it can have of the processor's attention: on few cores the ends may spin.
fn be_prompt() {
    const NICE: i32 = -10;
    // Both are to the good, and neither is needed.
    let _ = nix::sys::prctl::set_timerslack(1);
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// Does what others ask on the socket, one after another.
fn answer(listener: &UnixListener, shared: &Mutex<[Counts; 2]>) {
    for stream in listener.incoming().filter_map(Result::ok) {
        let mut word = String::new();
        let asked = BufReader::new(&stream).read_line(&mut word);
        match (asked, word.trim()) {
            (Ok(_), "stop") => std::process::exit(0),
            (Ok(_), "statistics") => {
                let [to_server, to_client] = *shared.lock().unwrap_or_else(PoisonError::into_inner);
                let text = serde_json::json!({ "to_server": to_server, "to_client": to_client });
                // Whoever asked and went away does not need it.
                let _ = writeln!(&stream, "{text}");
            }
            _ => {}
        }
    }
}

/// What became of the frames in one direction: `LinkStats`, and what is the forwarder's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Counts {
    offered: u64,
    duplicated: u64,
    too_large: u64,
    queue_full: u64,
    lost: u64,
    lost_in_bursts: u64,
    corrupted: u64,
    marked: u64,
    reordered: u64,
    /// Sent to the end they are for.
    delivered: u64,
    /// On their way.
    held: u64,
    /// Refused by the far end's interface.
    refused: u64,
    /// Lost because the forwarder did not keep up: not the link's doing, so to be zero.
    missed: u64,
}

impl Counts {
    fn of(stats: &LinkStats) -> Self {
        let &LinkStats {
            offered,
            duplicated,
            too_large,
            queue_full,
            lost,
            lost_in_bursts,
            corrupted,
            marked,
            reordered,
            ..
        } = stats;
        Self {
            offered,
            duplicated,
            too_large,
            queue_full,
            lost,
            lost_in_bursts,
            corrupted,
            marked,
            reordered,
            ..Self::default()
        }
    }
}

/// One direction.
#[derive(Debug)]
struct Direction {
    link: Link,
    held: Held<Vec<u8>>,
    rng: Rng,
    /// Frames that are due, and that the far end has not taken yet.
    due: Vec<Vec<u8>>,
    last_came: Instant,
    delivered: u64,
    refused: u64,
    missed: u64,
}

impl Direction {
    /// Frames under way at most: a gigabit of full packets with half a second of delay is 41,000.
    const HELD_MAX: usize = 1 << 17;

    fn new(args: &LinkArgs, rng: Rng) -> Self {
        Self {
            link: Link::new(args.config()),
            held: Held::default(),
            rng,
            due: Vec::new(),
            last_came: Instant::ZERO,
            delivered: 0,
            refused: 0,
            missed: 0,
        }
    }

    /// A frame that came at `came` sets out.
    fn take(&mut self, came: Instant, octets: &[u8]) {
        if octets.is_empty() || self.held.len() >= Self::HELD_MAX {
            self.missed += 1;
            return;
        }
        self.last_came = self.last_came.max(came);
        let held = &mut self.held;
        self.link.offer(self.last_came, octets.to_vec(), &mut self.rng, |due, frame| held.put(due, frame));
    }

    /// Sends what has arrived by `now`; an error when the interface is gone.
    fn deliver(&mut self, now: Instant, to: &PacketSocket) -> io::Result<()> {
        loop {
            while self.due.len() < PacketSocket::SEND_MAX {
                let Some(frame) = self.held.take_due(now) else { break };
                self.due.push(frame);
            }
            if self.due.is_empty() {
                return Ok(());
            }
            match to.send(&self.due) {
                Ok(sent) => {
                    self.delivered += sent as u64;
                    self.due.drain(..sent);
                }
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // The far end has no room: later.
                    Some(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => return Ok(()),
                    Some(Errno::ENETDOWN | Errno::ENXIO | Errno::ENODEV) => return Err(error),
                    _ => {
                        self.refused += 1;
                        self.due.remove(0);
                    }
                },
            }
        }
    }

    fn counts(&self) -> Counts {
        let held = (self.held.len() + self.due.len()) as u64;
        let (delivered, refused, missed) = (self.delivered, self.refused, self.missed);
        Counts { delivered, held, refused, missed, ..Counts::of(&self.link.stats()) }
    }
}

/// Both directions, and the ends' sockets: the client's and the server's.
#[derive(Debug)]
struct Forwarder {
    sockets: [PacketSocket; 2],
    directions: [Direction; 2],
    shared: Arc<Mutex<[Counts; 2]>>,
    rests: u64,
}

impl Forwarder {
    /// Frames taken from one end in one turn.
    const BATCH: usize = 256;

    fn open(args: &LinkArgs) -> anyhow::Result<Self> {
        let open = |end: End| -> anyhow::Result<PacketSocket> {
            /// A link header with a tag.
            const HEADER_LEN: usize = 18;
            let interface = netlink::interface(end.as_str())?;
            let mtu = usize::try_from(interface.mtu).context("an MTU is a small number")?;
            let socket = PacketSocket::open(interface.index, mtu + HEADER_LEN);
            socket.with_context(|| format!("cannot open the link's interface {}", end.as_str()))
        };
        let [client, server] = End::ALL;
        // The directions share nothing, so that packets of one do not change the accidents of the other.
        let mut seeds = Rng::new(args.seed.unwrap_or(1));
        let mut direction = || Direction::new(args, Rng::new(seeds.next_u64()));
        Ok(Self {
            sockets: [open(client)?, open(server)?],
            directions: [direction(), direction()],
            shared: Arc::default(),
            rests: 0,
        })
    }

    /// Forwards until an interface is gone.
    fn run(&mut self) {
        loop {
            let received = self.receive();
            if self.deliver().is_err() {
                return;
            }
            *self.shared.lock().unwrap_or_else(PoisonError::into_inner) =
                self.directions.each_ref().map(Direction::counts);
            if received == 0 && !self.rest() {
                return;
            }
        }
    }

    fn receive(&mut self) -> usize {
        let (now, wall) = (clock::now(), SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default());
        let mut received = 0;
        for (socket, direction) in self.sockets.iter_mut().zip(&mut self.directions) {
            received += socket.receive(Self::BATCH, |Received { at, octets }| {
                // The clock may have jumped; a frame has not waited for longer than that.
                let age = wall.saturating_sub(at).min(Duration::from_secs(1));
                direction.take(now - age, octets);
            });
        }
        received
    }

    fn deliver(&mut self) -> io::Result<()> {
        let now = clock::now();
        let [to_server, to_client] = &mut self.directions;
        let [client, server] = &self.sockets;
        to_server.deliver(now, server)?;
        to_client.deliver(now, client)
    }

    /// Waits until there is something to do; `false` when an interface is gone.
    ///
    /// Frames that come to a link with a delay need not be looked at before half of that has passed: they
    /// bear the time at which they came. So it wakes up for many frames at a time, and leaves the processor to the
    /// ends: a longer delay by a 64th does not matter, and many wake-ups do.
    fn rest(&mut self) -> bool {
        const NAP_MIN: Duration = Duration::from_micros(50);
        const NAP_MIN_MAX: Duration = Duration::from_micros(250);
        /// The ring holds what comes in eight of these.
        const NAP_MAX: Duration = Duration::from_millis(1);
        const IDLE: Duration = Duration::from_secs(1);
        let is_behind = self.directions.iter().any(|direction| !direction.due.is_empty());
        let next = self.directions.iter().filter_map(|direction| direction.held.next_due()).min();
        let wait = match next {
            _ if is_behind => NAP_MIN,
            Some(next) => next.since(clock::now()),
            None => IDLE,
        };
        self.rests += 1;
        if wait == IDLE || self.rests & 63 == 0 {
            self.count_missed();
        }
        let delay = Duration::from_micros(self.directions[0].link.config().delay_us.into());
        if wait < IDLE && delay / 2 >= NAP_MIN {
            thread::sleep(wait.clamp((delay / 64).clamp(NAP_MIN, NAP_MIN_MAX), NAP_MAX.min(delay / 2)));
            return true;
        }
        self.wait_for_frames(wait)
    }

    fn count_missed(&mut self) {
        for (socket, direction) in self.sockets.iter().zip(&mut self.directions) {
            direction.missed += u64::from(socket.take_missed().unwrap_or(0));
        }
    }

    fn wait_for_frames(&self, wait: Duration) -> bool {
        let mut entries =
            self.sockets.each_ref().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN));
        // It fails for a signal only, after which there is as much to do as before.
        let _ = ppoll(&mut entries, Some(TimeSpec::from_duration(wait)), None);
        let gone = PollFlags::POLLERR | PollFlags::POLLNVAL;
        !entries.iter().any(|entry| entry.revents().is_some_and(|events| events.intersects(gone)))
    }
}
