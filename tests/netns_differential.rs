//! The same calls on Linux's TCP and on ringroad, in all four pairings: what the applications see must be the same,
//! or a difference that is known and explained, whatever the link between them does. Needs root.

mod in_lab;

use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use in_lab::{DIRECT, in_lab};
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use ringroad::base::FlowId;
use ringroad::cli::lab::{End, Lab, LinkArgs};
use ringroad::runtime::{Handle, Idle, RunConfig, run};
use ringroad::stack::{App, Connect, Cx, Flow, Listen};
use ringroad::tcp::{CloseReason, FlowOptions, State};

const PATIENCE: Duration = Duration::from_secs(30);
/// After each call: longer than either stack takes to do all that follows from it, on a machine that is not busy.
const SETTLE: Duration = Duration::from_millis(12);
/// What seems different is looked at again, with so much time.
const SETTLE_AGAIN: Duration = Duration::from_millis(200);
const SCENARIOS: u64 = 40;
/// Those that are played over links with faults, unless `RINGROAD_FAULTY_SCENARIOS` says how many: for a long run.
const FAULTY_SCENARIOS: u64 = 7;
const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 7_000);
/// Where the kernel listens, when it is the server: that port is not ringroad's.
const KERNEL_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), 7_001);

/// A call of one application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Send(usize),
    Shutdown,
    Close,
    Abort,
    Pause,
    Resume,
}

type Scenario = Vec<(End, Call)>;

/// What must be among the scenarios: the first is that of the known difference.
const CHOSEN: [&[(End, Call)]; 5] = [
    &[(End::Server, Call::Pause), (End::Client, Call::Send(1_500)), (End::Client, Call::Abort)],
    // Text that was not read makes a close a reset (RFC 9293 §3.6.1).
    &[(End::Client, Call::Pause), (End::Server, Call::Send(900)), (End::Client, Call::Close)],
    &[(End::Server, Call::Pause), (End::Client, Call::Send(900)), (End::Server, Call::Close)],
    // And so does text that comes later.
    &[(End::Server, Call::Close), (End::Client, Call::Send(900))],
    &[(End::Client, Call::Shutdown), (End::Server, Call::Send(900)), (End::Server, Call::Close)],
];

/// The calls of scenario `seed`: those chosen first, then some at each end, none after an end has closed.
fn scenario(seed: u64) -> Scenario {
    if let Some(chosen) = usize::try_from(seed).ok().and_then(|at| CHOSEN.get(at)) {
        return chosen.to_vec();
    }
    // SplitMix64 (Steele, Lea and Flood, 2014): seeds in sequence give numbers that have nothing in common.
    let mut state = seed;
    let mut draw = |below: u64| {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % below
    };
    let (mut calls, mut open, mut sends) = (Vec::new(), [true; 2], [true; 2]);
    // Text that waits is where stacks differ, so often somebody does not read.
    for end in End::ALL {
        if draw(2) == 0 {
            calls.push((end, Call::Pause));
        }
    }
    for _ in 0..3 + draw(5) {
        let which = usize::from(draw(2) == 1);
        if !open[which] {
            continue;
        }
        let call = match draw(10) {
            0..=4 if sends[which] => Call::Send(1 + usize::try_from(draw(6_000)).expect("small")),
            5 => Call::Shutdown,
            6 | 7 => Call::Close,
            8 => Call::Abort,
            _ => Call::Resume,
        };
        open[which] &= !matches!(call, Call::Close | Call::Abort);
        sends[which] &= call != Call::Shutdown;
        calls.push((End::ALL[which], call));
    }
    calls
}

/// What one application has seen until it closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    octets: usize,
    /// An octet was not the one sent in its place.
    garbled: bool,
    fin: bool,
    reset: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} octets", self.octets)?;
        for (is, what) in [(self.garbled, "garbled"), (self.fin, "FIN"), (self.reset, "reset")] {
            if is {
                write!(f, ", {what}")?;
            }
        }
        Ok(())
    }
}

impl Seen {
    /// Without what differs with the order in which a user looks: a FIN before a reset that it was told of.
    fn settled(self) -> Self {
        Self { fin: self.fin && !self.reset, ..self }
    }

    fn take(&mut self, text: &[u8]) {
        self.garbled |= text.iter().enumerate().any(|(i, &octet)| octet != octet_at(self.octets + i));
        self.octets += text.len();
    }
}

fn octet_at(position: usize) -> u8 {
    u8::try_from(position % 251).expect("below 251")
}

fn text(sent: usize, len: usize) -> Vec<u8> {
    (sent..sent + len).map(octet_at).collect()
}

/// One end of a connection, of either stack.
trait Peer {
    fn call(&mut self, call: Call);
    /// Reads what there is to read.
    fn settle(&mut self);
    /// What was seen until now.
    fn seen(&self) -> Seen;
    /// Whether it waits for nothing that it has sent to be acknowledged, as far as it can say.
    fn is_acknowledged(&self) -> bool {
        true
    }
    /// The connection, if there still is one, is given up.
    fn end(&mut self);
}

/// The kernel says it in one way while the peer may still send, and in another after its FIN.
fn is_reset(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// A kernel's socket.
struct Kernel {
    stream: Option<TcpStream>,
    is_paused: bool,
    sent: usize,
    seen: Seen,
}

impl Kernel {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("an option");
        stream.set_nonblocking(true).expect("an option");
        Self { stream: Some(stream), is_paused: false, sent: 0, seen: Seen::default() }
    }

    fn read(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        let mut buffer = [0; 4_096];
        while !self.is_paused && !self.seen.fin && !self.seen.reset {
            match stream.read(&mut buffer) {
                Ok(0) => self.seen.fin = true,
                Ok(n) => self.seen.take(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if is_reset(&error) => self.seen.reset = true,
                Err(error) => panic!("{error}"),
            }
        }
        // After the peer's FIN a read says nothing of a reset.
        if !self.is_paused {
            self.seen.reset |= stream.take_error().expect("an option").is_some_and(|error| is_reset(&error));
        }
    }
}

impl Peer for Kernel {
    fn call(&mut self, call: Call) {
        let Some(stream) = &mut self.stream else { return };
        match call {
            Call::Send(len) => {
                match stream.write_all(&text(self.sent, len)) {
                    Ok(()) => {}
                    Err(error) if is_reset(&error) => self.seen.reset = true,
                    Err(error) => panic!("{error}"),
                }
                self.sent += len;
            }
            Call::Shutdown => drop(stream.shutdown(std::net::Shutdown::Write)),
            Call::Close => self.stream = None,
            Call::Abort => {
                let at_once = linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&stream.as_fd(), sockopt::Linger, &at_once).expect("an option");
                self.stream = None;
            }
            Call::Pause => self.is_paused = true,
            Call::Resume => self.is_paused = false,
        }
    }

    fn settle(&mut self) {
        self.read();
    }

    fn seen(&self) -> Seen {
        self.seen
    }

    fn end(&mut self) {
        self.call(Call::Abort);
    }
}

/// What the thread of a test and a worker's application share.
#[derive(Debug, Default)]
struct Stage {
    /// A connection to there is to be opened.
    open: Option<SocketAddr>,
    calls: VecDeque<Call>,
    flow: Option<FlowId>,
    is_paused: bool,
    /// The application has closed: it sees nothing more.
    is_closed: bool,
    /// Seen while reading was paused, when a socket's user does not look.
    seen_paused: (bool, bool),
    sent: usize,
    seen: Seen,
    /// Somebody asks whether all that was sent has been acknowledged; and the answer.
    asked: bool,
    is_acknowledged: bool,
}

type SharedStage = Arc<Mutex<Stage>>;

fn lock(stage: &SharedStage) -> MutexGuard<'_, Stage> {
    stage.lock().expect("no panic elsewhere")
}

/// Does what the stage says.
struct Actor(SharedStage);

impl Actor {
    fn options() -> FlowOptions {
        FlowOptions { nagle: false, ..FlowOptions::default() }
    }

    fn begin(&self, flow: &Flow<'_>) {
        let mut stage = lock(&self.0);
        stage.flow = Some(flow.id());
    }

    fn act(stage: &mut Stage, flow: &mut Flow<'_>, call: Call) {
        match call {
            Call::Send(len) => {
                flow.send(&text(stage.sent, len));
                stage.sent += len;
            }
            Call::Shutdown => flow.shutdown(),
            Call::Close | Call::Abort => {
                stage.is_closed = true;
                if call == Call::Close { flow.close() } else { flow.abort() }
            }
            Call::Pause => {
                stage.is_paused = true;
                flow.pause();
            }
            Call::Resume => {
                stage.is_paused = false;
                flow.resume();
            }
        }
    }
}

impl App for Actor {
    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.begin(flow);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.begin(flow);
    }

    fn on_data(&mut self, _: &mut Flow<'_>, data: &[u8]) -> usize {
        let mut stage = lock(&self.0);
        if !stage.is_closed {
            stage.seen.take(data);
        }
        data.len()
    }

    fn on_fin(&mut self, _: &mut Flow<'_>) {
        let mut stage = lock(&self.0);
        if !stage.is_closed {
            *(if stage.is_paused { &mut stage.seen_paused.0 } else { &mut stage.seen.fin }) = true;
        }
    }

    fn on_close(&mut self, _: &mut Flow<'_>, why: CloseReason) {
        let mut stage = lock(&self.0);
        stage.flow = None;
        if why == CloseReason::Reset && !stage.is_closed {
            *(if stage.is_paused { &mut stage.seen_paused.1 } else { &mut stage.seen.reset }) = true;
        }
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        let mut stage = lock(&self.0);
        if let Some(remote) = stage.open.take() {
            let connect = Connect { remote, local: None, options: Self::options(), user: 0 };
            cx.connect(&connect).expect("there are ports and room");
        }
        while let Some(call) = stage.calls.pop_front() {
            if let Some(mut flow) = stage.flow.and_then(|id| cx.flow(id)) {
                Self::act(&mut stage, &mut flow, call);
            } else if matches!(call, Call::Close | Call::Abort) {
                stage.is_closed = true;
            } else if matches!(call, Call::Pause | Call::Resume) {
                stage.is_paused = call == Call::Pause;
            }
        }
        if std::mem::take(&mut stage.asked) {
            let flow = stage.flow.and_then(|id| cx.flow(id));
            stage.is_acknowledged = flow.is_none_or(|flow| {
                // A FIN is not among the octets. LAST-ACK also lasts while there is text for the user to read.
                let fin_waits = match flow.state() {
                    State::FinWait1 | State::Closing => true,
                    State::LastAck => flow.info().unread == 0,
                    _ => false,
                };
                flow.info().unacknowledged == 0 && !fin_waits
            });
        }
    }
}

/// A connection of a worker's.
struct Ours<'a> {
    stage: &'a SharedStage,
    handle: &'a Handle,
}

impl Ours<'_> {
    fn wait(&self, what: &str, is_so: impl Fn(&Stage) -> bool) {
        let start = Instant::now();
        while !is_so(&lock(self.stage)) {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}", lock(self.stage));
            thread::sleep(Duration::from_micros(200));
        }
    }
}

impl Peer for Ours<'_> {
    fn call(&mut self, call: Call) {
        lock(self.stage).calls.push_back(call);
        self.handle.wake(0);
    }

    fn settle(&mut self) {
        let mut stage = lock(self.stage);
        if !stage.is_paused && !stage.is_closed {
            let (fin, reset) = std::mem::take(&mut stage.seen_paused);
            stage.seen.fin |= fin;
            stage.seen.reset |= reset;
        }
    }

    fn seen(&self) -> Seen {
        lock(self.stage).seen
    }

    fn is_acknowledged(&self) -> bool {
        lock(self.stage).asked = true;
        self.handle.wake(0);
        self.wait("an answer", |stage| !stage.asked);
        lock(self.stage).is_acknowledged
    }

    fn end(&mut self) {
        self.call(Call::Abort);
        self.wait("an aborted connection is over", |stage| stage.flow.is_none() && stage.calls.is_empty());
        *lock(self.stage) = Stage::default();
    }
}

/// Runs a worker at `end` for as long as `work` takes.
fn with_worker<T: Send>(lab: &Lab, end: End, work: impl FnOnce(&SharedStage, &Handle) -> T) -> T {
    let stage = SharedStage::default();
    let mut config = RunConfig { idle: Idle::Adaptive, ..RunConfig::new(Lab::INTERFACE) };
    match end {
        End::Server => {
            config.listen =
                vec![Listen { options: Actor::options(), ..Listen::new(SERVER.ip(), SERVER.port()) }]
        }
        End::Client => config.connects = true,
    }
    let (say, ready) = mpsc::channel();
    thread::scope(|scope| {
        let (stage, config) = (&stage, &config);
        let worker = scope.spawn(move || {
            let ran = || {
                run(
                    config,
                    |_| Actor(Arc::clone(stage)),
                    |ready| say.send(ready.handle.clone()).expect("awaited"),
                )
            };
            lab.run_at(end, ran).expect("the lab is up").map(|_| ())
        });
        let Ok(handle) = ready.recv_timeout(PATIENCE) else {
            panic!("{:?}", worker.join().expect("no panic"))
        };
        let done = work(stage, &handle);
        handle.stop();
        worker.join().expect("no panic").expect("a run");
        done
    })
}

type Stacks<'a> = [Option<(&'a SharedStage, &'a Handle)>; 2];

/// Opens a connection between two stacks; `None` is the kernel's.
fn open<'a>(lab: &Lab, listener: &TcpListener, stacks: &Stacks<'a>) -> [Box<dyn Peer + 'a>; 2] {
    let [client, server] = stacks;
    let to = if server.is_some() { SERVER } else { KERNEL_SERVER };
    let stream = match client {
        Some((stage, handle)) => {
            lock(stage).open = Some(to);
            handle.wake(0);
            None
        }
        None => {
            let connected = lab.run_at(End::Client, || TcpStream::connect_timeout(&to, PATIENCE));
            Some(connected.expect("the lab is up").expect("a connection"))
        }
    };
    let wait = |ours: Ours<'a>| {
        ours.wait("a connection", |stage| stage.flow.is_some());
        Box::new(ours) as Box<dyn Peer + 'a>
    };
    let server: Box<dyn Peer> = match server {
        Some((stage, handle)) => wait(Ours { stage, handle }),
        None => Box::new(Kernel::new(listener.accept().expect("a connection").0)),
    };
    let client: Box<dyn Peer> = match (client, stream) {
        (Some((stage, handle)), _) => wait(Ours { stage, handle }),
        (None, stream) => Box::new(Kernel::new(stream.expect("it was opened above"))),
    };
    [client, server]
}

/// When a call has had all its consequences.
#[derive(Clone, Copy, Debug)]
enum Pace<'a> {
    /// After so long.
    After(Duration),
    /// After so long, and when both ends have had all acknowledged that they sent: over a link that loses.
    Acknowledged(Duration, &'a [File; 2]),
}

impl Pace<'_> {
    fn wait(self, peers: &[Box<dyn Peer + '_>; 2]) {
        let (Self::After(settle_for) | Self::Acknowledged(settle_for, _)) = self;
        let start = Instant::now();
        loop {
            thread::sleep(settle_for);
            let Self::Acknowledged(_, kernels) = self else { return };
            let is_quiet = || kernels.iter().all(is_quiet) && peers.iter().all(|peer| peer.is_acknowledged());
            // What takes longer than that shows in what was seen.
            if is_quiet() || start.elapsed() > PATIENCE {
                return;
            }
        }
    }
}

/// Whether a kernel waits for no acknowledgment, by its table of connections, those nobody has a socket for included.
fn is_quiet(mut table: &File) -> bool {
    const LISTEN: &str = "0A";
    let mut text = String::new();
    table.rewind().expect("a file of /proc");
    table.read_to_string(&mut text).expect("a file of /proc");
    text.lines().skip(1).all(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, _, _, state, queues, ..] = words[..] else { panic!("{line:?}") };
        state == LISTEN || queues.starts_with("00000000:")
    })
}

/// What both ends see of a scenario.
fn play(scenario: &Scenario, mut peers: [Box<dyn Peer + '_>; 2], pace: Pace<'_>) -> [Seen; 2] {
    let settle = |peers: &mut [Box<dyn Peer + '_>; 2]| {
        pace.wait(peers);
        peers.iter_mut().for_each(|peer| peer.settle());
    };
    settle(&mut peers);
    for &(end, call) in scenario {
        peers[usize::from(end == End::Server)].call(call);
        settle(&mut peers);
    }
    peers.iter_mut().for_each(|peer| peer.call(Call::Resume));
    settle(&mut peers);
    settle(&mut peers);
    let seen = [peers[0].seen(), peers[1].seen()];
    peers.iter_mut().for_each(|peer| peer.end());
    seen.map(Seen::settled)
}

const KERNELS: Stacks<'static> = [None, None];

/// A scenario's number, and what the applications see of it when kernels are at both ends of a perfect link.
type Expected = (u64, [Seen; 2]);

/// Plays scenarios between `stacks`; returns what the applications see differently from what is `expected`.
///
/// What is different is looked at again, at a slower pace, and over a perfect link against what the kernels see then.
fn differences(
    lab: &Lab,
    listener: &TcpListener,
    stacks: &Stacks<'_>,
    expected: &[Expected],
    paces: [Pace<'_>; 2],
) -> Vec<(u64, String)> {
    let play = |seed, stacks: &Stacks<'_>, pace| play(&scenario(seed), open(lab, listener, stacks), pace);
    let mut found = Vec::new();
    for &(seed, theirs) in expected {
        let mut pair = (play(seed, stacks, paces[0]), theirs);
        if pair.0 != pair.1 {
            pair.0 = play(seed, stacks, paces[1]);
            if let Pace::After(_) = paces[1] {
                pair.1 = play(seed, &KERNELS, paces[1]);
            }
        }
        for (end, (ours, theirs)) in End::ALL.into_iter().zip(pair.0.into_iter().zip(pair.1)) {
            if ours != theirs {
                let is = if is_explained(ours, theirs, end, &scenario(seed)) { EXPLAINED } else { "" };
                found.push((seed, format!("{is}{end:?}: {ours} instead of {theirs}, {:?}", scenario(seed))));
            }
        }
    }
    found
}

#[test]
fn applications_see_the_same_of_either_stack() {
    in_lab("differential", DIRECT, |lab| {
        let listener = listen(lab);
        let expected = expect(lab, &listener, SCENARIOS);
        let server = compare(lab, &listener, &expected, [SETTLE, SETTLE_AGAIN].map(Pace::After));
        assert!(server.iter().any(|&(seed, _)| seed == 0), "the known difference is there: {server:?}");
    });
}

/// Repeats, and lets others overtake.
const UNORDERLY: LinkArgs = LinkArgs {
    delay: Some(Duration::from_micros(200)),
    duplicate: Some(100_000),
    reorder: Some(150_000),
    reorder_by: Some(Duration::from_millis(3)),
    seed: Some(7),
    ..LinkArgs::NONE
};

/// And loses one packet in 25, and damages one in 50.
const LOSSY: LinkArgs = LinkArgs { loss: Some(40_000), corrupt: Some(20_000), ..UNORDERLY };

#[test]
fn applications_see_the_same_over_a_link_that_repeats_and_reorders() {
    over_a_bad_link("unorderly", UNORDERLY, |_, _| true);
}

/// A reset is sent once. Whoever was to see it does not when it is lost, so scenarios with resets are left out.
#[test]
fn applications_see_the_same_over_a_link_that_loses() {
    over_a_bad_link("lossy", LOSSY, |scenario, seen| {
        !scenario.iter().any(|(_, call)| *call == Call::Abort) && !seen.iter().any(|seen| seen.reset)
    });
}

/// Plays, between kernels as well, what is `fit` to be played over such a link.
fn over_a_bad_link(name: &str, link: LinkArgs, fit: fn(&Scenario, &[Seen; 2]) -> bool) {
    let wanted = std::env::var("RINGROAD_FAULTY_SCENARIOS").ok();
    let wanted = wanted.map_or(FAULTY_SCENARIOS, |number| number.parse().expect("a number of scenarios"));
    let expected = Mutex::new(Vec::new());
    in_lab(&format!("{name}-perfect"), DIRECT, |lab| {
        // Some are not fit.
        let mut all = expect(lab, &listen(lab), 4 * wanted);
        all.retain(|(seed, seen)| fit(&scenario(*seed), seen));
        all.truncate(usize::try_from(wanted).expect("not so many"));
        *expected.lock().expect("no panic elsewhere") = all;
    });
    let expected = expected.into_inner().expect("no panic elsewhere");
    in_lab(name, link, |lab| {
        let listener = listen(lab);
        let table = |end| lab.run_at(end, || File::open("/proc/thread-self/net/tcp")).expect("the lab is up");
        let tables = End::ALL.map(|end| table(end).expect("a kernel's connections"));
        let paces = [SETTLE, SETTLE_AGAIN].map(|settle| Pace::Acknowledged(settle, &tables));
        let kernels = differences(lab, &listener, &KERNELS, &expected, paces);
        assert!(kernels.is_empty(), "kernels among themselves: {kernels:#?}");
        compare(lab, &listener, &expected, paces);
    });
}

const EXPLAINED: &str = "explained, ";

/// The differences that are known, as docs/limits.md has them.
fn is_explained(ours: Seen, theirs: Seen, end: End, scenario: &Scenario) -> bool {
    // A reset takes with it what was not read yet (RFC 9293 §3.10.7.4: all queues are flushed); Linux lets it be read
    // first.
    let has_paused = scenario.contains(&(end, Call::Pause));
    let only_octets = Seen { octets: theirs.octets, ..ours } == theirs;
    has_paused && ours.reset && only_octets && ours.octets < theirs.octets
}

fn listen(lab: &Lab) -> TcpListener {
    let listener = lab.run_at(End::Server, || TcpListener::bind(KERNEL_SERVER));
    listener.expect("the lab is up").expect("a listener")
}

/// What kernels see of the first scenarios.
fn expect(lab: &Lab, listener: &TcpListener, last: u64) -> Vec<Expected> {
    let play = |seed| play(&scenario(seed), open(lab, listener, &KERNELS), Pace::After(SETTLE));
    (0..=last).map(|seed| (seed, play(seed))).collect()
}

/// Plays scenarios with ringroad at one end and at both; returns how its server differs, which must be explained.
fn compare(
    lab: &Lab,
    listener: &TcpListener,
    expected: &[Expected],
    paces: [Pace<'_>; 2],
) -> Vec<(u64, String)> {
    let against = |stacks: Stacks<'_>| differences(lab, listener, &stacks, expected, paces);
    let client = with_worker(lab, End::Client, |s, h| against([Some((s, h)), None]));
    let (server, both) = with_worker(lab, End::Server, |s, h| {
        let server = against([None, Some((s, h))]);
        (server, with_worker(lab, End::Client, |c, g| against([Some((c, g)), Some((s, h))])))
    });
    for (pairing, found) in [("client", &client), ("server", &server), ("both", &both)] {
        let new: Vec<_> = found.iter().filter(|(_, what)| !what.starts_with(EXPLAINED)).collect();
        assert!(new.is_empty(), "{pairing} ringroad's: {new:#?}");
    }
    server
}
