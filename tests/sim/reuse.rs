//! Ports used again as fast as the rules allow, on links that repeat old segments for up to 2 MSL: each
//! incarnation gets its own text and no other's, and none fails.
use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use super::common::{CLEAN, LIMITS, assert_nothing_left, config, connect, pattern, run, see, seeds, v4, v6};
use ringroad::base::{Counter, FlowId, Instant, Seq};
use ringroad::io::link::LinkConfig;
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Cx, EngineConfig, Flow, Limits, Listen};
use ringroad::tcp::{CloseReason, TcpConfig};
use ringroad::wire::Control;

/// Who sends the first FIN, and so keeps TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Client,
    /// The client, at once behind its request.
    ClientEarly,
    Server,
    /// Each in its turn.
    Mixed,
}

/// Connections made in each scenario for each seed.
const INCARNATIONS: u64 = 2_500;

/// How one network is used.
#[derive(Clone, Copy, Debug)]
struct Scenario {
    name: &'static str,
    first: First,
    timestamps: bool,
    rfc1337: bool,
    v6: bool,
    /// Source ports.
    ports: u16,
    /// Connections at a time.
    connections: u32,
    /// The longest request and reply, octets. Without timestamps nothing but the clock behind ISNs keeps two
    /// incarnations apart, so that texts must be shorter than the steps it makes meanwhile.
    longest: u32,
    two_msl: Duration,
    faults: LinkConfig,
}

/// Reorders, loses and repeats; what is repeated comes up to 2 MSL late.
const HOSTILE: LinkConfig = LinkConfig {
    delay_us: 30,
    jitter_us: 150,
    loss: 3_000,
    duplicate: 100_000,
    replay: 100_000,
    replay_us: 1_000_000,
    ..CLEAN
};

const BASE: Scenario = Scenario {
    name: "the client closes first",
    first: First::Client,
    timestamps: true,
    rfc1337: false,
    v6: false,
    ports: 4,
    connections: 3,
    longest: 3_000,
    two_msl: Duration::from_secs(1),
    faults: HOSTILE,
};

const SCENARIOS: [Scenario; 8] = [
    BASE,
    Scenario { name: "the client closes at once", first: First::ClientEarly, ..BASE },
    Scenario { name: "the server closes first", first: First::Server, ..BASE },
    Scenario {
        name: "one port, and the server closes first",
        first: First::Server,
        ports: 1,
        connections: 1,
        ..BASE
    },
    Scenario {
        name: "each in its turn, over IPv6, no RST ends TIME-WAIT",
        first: First::Mixed,
        v6: true,
        rfc1337: true,
        two_msl: Duration::from_secs(2),
        faults: LinkConfig { replay_us: 2_000_000, ..HOSTILE },
        ..BASE
    },
    Scenario {
        name: "a slow link",
        first: First::Mixed,
        ports: 16,
        connections: 12,
        faults: LinkConfig { delay_us: 700, jitter_us: 3_000, ..HOSTILE },
        ..BASE
    },
    Scenario {
        name: "no timestamps, and the server closes first",
        first: First::Server,
        timestamps: false,
        longest: 600,
        faults: LinkConfig { delay_us: 1_500, ..HOSTILE },
        ..BASE
    },
    Scenario {
        name: "no timestamps, and the client closes first",
        timestamps: false,
        longest: 600,
        faults: LinkConfig { delay_us: 1_500, ..HOSTILE },
        ..BASE
    },
];

/// What both applications know: which incarnation each source port is in.
#[derive(Debug, Default)]
struct Book {
    begun: u64,
    finished: u64,
    /// The incarnation that was begun last from each source port.
    current: HashMap<u16, u64>,
    accepted: u64,
    /// Accepted, never heard of, and reset.
    phantoms: u64,
    /// Those that a RST ended, since they were last looked at.
    reset: Vec<Broken>,
    /// All of them.
    broken: HashSet<u64>,
}

impl Scenario {
    fn closes_first(&self, number: u64) -> First {
        match self.first {
            First::Mixed => [First::Client, First::ClientEarly, First::Server][(number % 3) as usize],
            first => first,
        }
    }

    /// Octets of the request, or of the reply, of an incarnation.
    fn len(&self, stream: u64) -> u64 {
        1 + u64::from(pattern(stream, 1 << 40)) * u64::from(self.longest - 1) / 255
    }

    fn server(&self) -> IpAddr {
        if self.v6 { v6(2) } else { v4(2) }
    }

    fn engine(&self, host: u8) -> EngineConfig {
        let tcp = TcpConfig {
            timestamps: self.timestamps,
            rfc1337: self.rfc1337,
            time_wait: self.two_msl,
            ..TcpConfig::default()
        };
        let limits = Limits { time_wait_max: 4_096, ..LIMITS };
        EngineConfig { limits, tcp, source_ports: 20_000..=20_000 + self.ports - 1, ..config(host) }
    }
}

/// One end of one connection.
#[derive(Debug)]
struct Life {
    number: u64,
    begun: Instant,
    received: u64,
    heard_fin: bool,
}

/// Client or server.
#[derive(Debug)]
struct End {
    is_client: bool,
    scenario: Scenario,
    /// Incarnations to begin.
    goal: u64,
    book: Rc<RefCell<Book>>,
    live: HashMap<FlowId, Life>,
}

impl End {
    const AGAIN: Duration = Duration::from_micros(10);

    /// The streams of the request and of the reply.
    const fn streams(number: u64) -> (u64, u64) {
        (2 * number, 2 * number + 1)
    }

    fn open(&mut self, cx: &mut Cx<'_>) {
        let open = |live: &HashMap<FlowId, Life>| live.len() < self.scenario.connections as usize;
        while open(&self.live) && self.book.borrow().begun < self.goal {
            let Ok(id) = cx.connect(&connect(self.scenario.server(), 80)) else {
                // All ports are busy, or rest.
                cx.set_timer(if self.scenario.timestamps { Self::AGAIN * 20 } else { Self::AGAIN * 1_000 });
                return;
            };
            let mut book = self.book.borrow_mut();
            book.begun += 1;
            let number = book.begun;
            let port = cx.flow(id).expect("it was just made").local().port();
            book.current.insert(port, number);
            let begun = cx.now();
            self.live.insert(id, Life { number, begun, received: 0, heard_fin: false });
        }
    }

    /// Sends the whole stream; buffers are larger.
    fn send(&self, flow: &mut Flow<'_>, stream: u64) {
        let text: Vec<u8> = (0..self.scenario.len(stream)).map(|at| pattern(stream, at)).collect();
        assert_eq!(flow.send(&text), text.len());
    }

    /// The stream that is received, its length, and whether we close when it is complete.
    fn expects(&self, number: u64) -> (u64, u64, bool) {
        let (request, reply) = Self::streams(number);
        let first = self.scenario.closes_first(number);
        let (stream, closes) = if self.is_client { (reply, First::Client) } else { (request, First::Server) };
        (stream, self.scenario.len(stream), first == closes)
    }
}

impl App for End {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if self.is_client {
            self.open(cx);
        } else {
            cx.listen(&Listen::new(self.scenario.server(), 80)).expect("a listener");
        }
    }

    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {
        self.open(cx);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        let number = self.live[&flow.id()].number;
        self.send(flow, Self::streams(number).0);
        if self.scenario.closes_first(number) == First::ClientEarly {
            flow.shutdown();
        }
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        let mut book = self.book.borrow_mut();
        book.accepted += 1;
        let number = book.current[&flow.remote().port()];
        let life = Life { number, begun: flow.now(), received: 0, heard_fin: false };
        assert!(self.live.insert(flow.id(), life).is_none());
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        let number = self.live[&flow.id()].number;
        let (stream, len, closes) = self.expects(number);
        let life = self.live.get_mut(&flow.id()).expect("announced");
        for (at, &octet) in (life.received..).zip(data) {
            assert_eq!(octet, pattern(stream, at), "octet {at} of {life:?} is of another incarnation");
        }
        life.received += data.len() as u64;
        assert!(life.received <= len, "{life:?} got more than {len} octets");
        if life.received == len {
            if !self.is_client {
                self.send(flow, Self::streams(number).1);
            }
            if closes {
                flow.close();
            }
        }
        data.len()
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.live.get_mut(&flow.id()).expect("announced").heard_fin = true;
        flow.close();
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        let life = self.live.remove(&flow.id()).expect("announced");
        if self.is_client {
            self.book.borrow_mut().finished += 1;
            // Its port is free, or rests, when this callback is over.
            flow.cx().set_timer(Self::AGAIN);
        }
        let mut book = self.book.borrow_mut();
        if !self.is_client && why == CloseReason::Reset && life.received == 0 {
            book.phantoms += 1;
            return;
        }
        if why == CloseReason::Reset {
            let port = if self.is_client { flow.local() } else { flow.remote() }.port();
            if book.broken.insert(life.number) {
                book.reset.push(Broken { host: usize::from(!self.is_client), port, begun: life.begun });
            }
        }
        if book.broken.contains(&life.number) {
            return;
        }
        let (_, len, closes) = self.expects(life.number);
        assert_eq!(
            why,
            CloseReason::Finished,
            "a legitimate connection failed: {life:?} at {:?} in {:?}",
            flow.local(),
            flow.state()
        );
        assert_eq!(life.received, len, "{life:?} is not complete");
        assert!(life.heard_fin || closes, "{life:?} ended without a FIN");
    }
}

/// Uses and reuses ports until `incarnations` connections were made; everything follows from the seed.
fn churn(scenario: Scenario, seed: u64, incarnations: u64) -> SimNet<End> {
    let book = Rc::new(RefCell::new(Book::default()));
    let end = |is_client| End {
        is_client,
        scenario,
        goal: incarnations,
        book: Rc::clone(&book),
        live: HashMap::new(),
    };
    let mut net = SimNet::new(seed);
    net.add(scenario.engine(1), end(true), scenario.faults);
    net.add(scenario.engine(2), end(false), scenario.faults);
    net.introduce();
    net.capture();
    net.start();
    let mut resets = Resets::default();
    while book.borrow().finished < incarnations {
        let (before, until) = (book.borrow().finished, net.now().plus_micros(600_000_000));
        while book.borrow().finished == before {
            assert!(net.now() < until, "nothing was finished for ten minutes: {:?}", book.borrow());
            assert!(net.step(), "nothing will ever happen again: {:?}", book.borrow());
            resets.note(&mut net);
            book.borrow_mut().reset.drain(..).for_each(|broken| resets.check(broken));
        }
    }
    let broken = book.borrow().broken.len();
    assert!(broken <= 2, "{broken} of {incarnations} were ended by an old RST");
    // What is half-open by an old SYN takes longest.
    run(&mut net, 200);
    assert_nothing_left(&net, 2);
    // An old SYN whose answer bears, by chance, the number that the client acknowledged last, and acknowledges
    // again, makes a connection of which the client knows nothing. It has no text.
    let Book { accepted, phantoms, .. } = *book.borrow();
    assert!(accepted <= incarnations + phantoms && phantoms <= 2, "{accepted} accepted, {phantoms} phantoms");
    net
}

/// The RSTs of the last seconds. They have no timestamps, so one that an old segment called forth before an
/// incarnation began, and that comes late, may by chance bear exactly the number that is expected: the only
/// way in which a connection fails that nobody aborted.
#[derive(Default)]
struct Resets {
    /// When, from which host, from or to which source port, at which number.
    sent: VecDeque<(Instant, usize, u16, Seq)>,
    /// What each host acknowledged last on each source port.
    acked: HashMap<(usize, u16), Seq>,
}

impl Resets {
    const KEEP: Duration = Duration::from_secs(5);

    fn note(&mut self, net: &mut SimNet<End>) {
        for sent in net.take_captured() {
            let tcp = see(&sent.frame).tcp;
            let port = if sent.from == 0 { tcp.src_port() } else { tcp.dst_port() };
            if tcp.ctl().contains(Control::RST) {
                self.sent.push_back((sent.at, sent.from, port, tcp.seq()));
            } else {
                self.acked.insert((sent.from, port), tcp.ack());
            }
        }
        while self.sent.front().is_some_and(|(at, ..)| net.now().since(*at) > Self::KEEP) {
            self.sent.pop_front();
        }
    }

    /// What was reset on `host` must have met a RST that was sent before it was begun.
    fn check(&self, Broken { host, port, begun }: Broken) {
        let expected = self.acked[&(host, port)];
        let may_be = |(at, from, to, seq): &(Instant, usize, u16, Seq)| {
            *at < begun && *from != host && *to == port && seq.in_window(expected, 4_096)
        };
        assert!(self.sent.iter().any(may_be), "port {port}, begun at {begun:?}: no RST from before");
    }
}

/// A connection that a RST ended on `host`.
#[derive(Clone, Copy, Debug)]
struct Broken {
    host: usize,
    port: u16,
    begun: Instant,
}

fn counted(net: &SimNet<End>, host: usize, counter: Counter) -> u64 {
    net.host(host).engine.counters().get(counter)
}

/// Every record that was made has ended in exactly one way.
fn check_counters(net: &SimNet<End>) {
    use Counter::{
        TimeWaitCreated, TimeWaitEvicted, TimeWaitExpired, TimeWaitReusedActively, TimeWaitReusedAfterReset,
        TimeWaitReusedBySequence, TimeWaitReusedByTimestamp,
    };
    for host in [0, 1] {
        let ends = [
            TimeWaitEvicted,
            TimeWaitExpired,
            TimeWaitReusedActively,
            TimeWaitReusedAfterReset,
            TimeWaitReusedBySequence,
            TimeWaitReusedByTimestamp,
        ];
        let ended: u64 = ends.map(|counter| counted(net, host, counter)).iter().sum();
        assert_eq!(counted(net, host, TimeWaitCreated), ended, "host {host}");
    }
}

/// Says how to repeat what panicked.
struct Repeat(&'static str, u64);

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let (scenario, seed) = (self.0, self.1);
            eprintln!(
                "`{scenario}`; repeat with: RINGROAD_SEEDS={seed}..{} cargo test --no-default-features \\\n    \
                 --features std --test sim reuse -- --include-ignored",
                seed + 1
            );
        }
    }
}

/// Some incarnations of each scenario for each seed.
fn churn_all(seeds: Range<u64>) {
    for (scenario, seed) in seeds.flat_map(|seed| SCENARIOS.map(|scenario| (scenario, seed))) {
        let _repeat = Repeat(scenario.name, seed);
        let net = churn(scenario, seed, INCARNATIONS);
        check_counters(&net);
    }
}

#[test]
fn no_octet_of_an_old_incarnation_reaches_a_new_one_and_none_fails() {
    churn_all(seeds(0..1));
}

/// A minute or two: `cargo test --no-default-features --features std --test sim reuse -- --ignored`.
#[test]
#[ignore = "a million incarnations take a minute or two"]
fn nor_in_a_million_incarnations() {
    let seeds = seeds(1..51);
    churn_all(seeds);
}
