//! Two live engines under any sequence of calls, faults and times: every octet once and in order, and all ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use ringroad::base::FlowId;
use ringroad::io::link::LinkConfig;
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Connect, Cx, Flow, Listen};
use ringroad::tcp::{CloseReason, FlowOptions};

use super::host::{CLEAN, address, config, see};
use super::input::Input;

/// The octet at `at` of the stream from one port to another.
fn pattern(from: u16, to: u16, at: u64) -> u8 {
    let mixed = (at / 8 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(from) << 16 ^ u64::from(to);
    mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[usize::from(at.to_le_bytes()[0] & 7)]
}

/// One direction each way of one connection.
#[derive(Default)]
struct Streams {
    sent: u64,
    received: u64,
    fin: bool,
}

/// The connections that were announced and not closed, in the order of their announcement.
#[derive(Default)]
struct Live(Vec<(FlowId, Streams)>);

impl Live {
    fn open(&mut self, id: FlowId) {
        assert!(self.0.iter().all(|(known, _)| *known != id), "announced once");
        self.0.push((id, Streams::default()));
    }

    fn get(&mut self, id: FlowId) -> &mut Streams {
        let found = self.0.iter_mut().find(|(known, _)| *known == id);
        &mut found.expect("it was announced").1
    }
}

/// Reads as much at a time as it is told to; what it gets must be what the other end sends.
struct Tester {
    live: Live,
    /// In eighths of what is offered.
    appetite: Rc<Cell<usize>>,
    /// Whether strangers have sent segments: then only the engines' invariants hold.
    spoiled: Rc<Cell<bool>>,
    task: Option<Task>,
}

type Task = Box<dyn FnOnce(&mut Cx<'_>, &mut Live)>;

impl App for Tester {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.listen(&Listen::new([0; 4].into(), 80)).expect("a listener");
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.live.open(flow.id());
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.live.open(flow.id());
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        let (from, to) = (flow.remote().port(), flow.local().port());
        let streams = self.live.get(flow.id());
        assert!(!data.is_empty() && !streams.fin, "text, and before FIN");
        let taken = (data.len() * self.appetite.get()).div_ceil(8);
        for (&octet, at) in data[..taken].iter().zip(streams.received..) {
            assert!(self.spoiled.get() || octet == pattern(from, to, at), "octet {at} of {from} to {to}");
        }
        streams.received += taken as u64;
        taken
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        let streams = self.live.get(flow.id());
        assert!(!std::mem::replace(&mut streams.fin, true), "one FIN");
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, _: CloseReason) {
        // A connection that never came to be was not announced.
        let id = flow.id();
        self.live.0.retain(|(known, _)| *known != id);
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        if let Some(task) = self.task.take() {
            task(cx, &mut self.live);
        }
    }
}

/// The network, and what both testers share.
struct Play {
    net: SimNet<Tester>,
    appetite: Rc<Cell<usize>>,
    spoiled: Rc<Cell<bool>>,
}

impl Play {
    fn new(seed: u64) -> Self {
        let (appetite, spoiled) = (Rc::new(Cell::new(8)), Rc::new(Cell::new(false)));
        let mut net = SimNet::new(seed);
        for n in [1, 2] {
            let (appetite, spoiled) = (Rc::clone(&appetite), Rc::clone(&spoiled));
            net.add(config(n), Tester { live: Live::default(), appetite, spoiled, task: None }, CLEAN);
        }
        net.introduce();
        net.capture();
        net.start();
        Self { net, appetite, spoiled }
    }

    fn on(&mut self, host: usize, task: impl FnOnce(&mut Cx<'_>, &mut Live) + 'static) {
        self.net.host_mut(host).app.task = Some(Box::new(task));
        self.net.wake(host);
    }

    /// Does `work` to one of the host's connections, if it has any.
    fn with(&mut self, host: usize, which: u8, work: impl FnOnce(&mut Flow<'_>, &mut Streams) + 'static) {
        self.on(host, move |cx, live| {
            let nth = usize::from(which) % live.0.len().max(1);
            let Some((id, streams)) = live.0.get_mut(nth) else { return };
            work(&mut cx.flow(*id).expect("it lives"), streams);
        });
    }

    /// Does `work` to all of a host's connections.
    fn with_all(&mut self, host: usize, work: impl Fn(&mut Flow<'_>) + 'static) {
        self.on(host, move |cx, live| {
            for (id, _) in &live.0 {
                work(&mut cx.flow(*id).expect("it lives"));
            }
        });
    }

    fn run(&mut self, ms: u64) {
        let until = self.net.now().plus_micros(ms * 1_000);
        assert!(self.net.run(until, 2_000_000), "it goes on for ever");
    }

    /// One operation: what, on which host, to which of its connections, with which number.
    fn operate(&mut self, what: u8, which: u8, number: u16) {
        let (host, which) = (usize::from(which & 1), which >> 1);
        let n = usize::from(number);
        match what % 16 {
            0 | 1 => {
                let to = (address(if host == 0 { 2 } else { 1 }), 80).into();
                let connect = Connect { remote: to, local: None, options: FlowOptions::default(), user: 0 };
                self.on(host, move |cx, _| {
                    // The table may be full.
                    let _ = cx.connect(&connect);
                });
            }
            2..=4 => self.with(host, which, move |flow, streams| send(flow, streams, n)),
            5 => self.with(host, which, |flow, _| flow.shutdown()),
            6 => self.with(host, which, |flow, _| flow.close()),
            7 => self.with(host, which, |flow, _| flow.abort()),
            8 => self.with(host, which, |flow, _| flow.pause()),
            9 => self.with(host, which, |flow, _| flow.resume()),
            10 => self.with(host, which, move |flow, _| flow.set_timer(Duration::from_millis(n as u64))),
            11 => self.appetite.set(n % 9),
            12 => self.net.set_link(host, faults(number)),
            13 => {
                for _ in 0..n % 32 {
                    self.net.step();
                }
            }
            14 => self.run(u64::from(number)),
            _ => self.inject(host, n),
        }
    }

    /// A frame that was sent comes again, with one octet changed and its checksums not; or as it was.
    fn inject(&mut self, host: usize, n: usize) {
        let sent = self.net.captured();
        let Some(sent) = sent.len().checked_sub(1 + n % 64).map(|at| &sent[at]) else { return };
        let mut frame = sent.frame.clone();
        let at = (n / 64) % (frame.len() * 2);
        if let Some(octet) = frame.get_mut(at) {
            *octet ^= 0x80;
            // A changed port is a wrong checksum too, but a changed link address is not.
            self.spoiled.set(self.spoiled.get() || at < 14);
        }
        self.net.inject(host, &frame);
    }
}

fn send(flow: &mut Flow<'_>, streams: &mut Streams, n: usize) {
    let (from, to) = (flow.local().port(), flow.remote().port());
    let text: Vec<u8> = (streams.sent..).take(n).map(|at| pattern(from, to, at)).collect();
    streams.sent += flow.send(&text) as u64;
}

/// A link by a number: how late, how much later still, and up to a fifth lost, repeated and damaged.
fn faults(number: u16) -> LinkConfig {
    let [low, high] = number.to_le_bytes().map(u32::from);
    LinkConfig {
        delay_us: 50 + (low & 15) * 2_000,
        jitter_us: (low >> 4) * 2_000,
        loss: (high & 7) * 30_000,
        duplicate: (high >> 3 & 3) * 60_000,
        corrupt: (high >> 5 & 3) * 60_000,
        ..CLEAN
    }
}

/// Four octets an operation: what, where, and a number of two.
///
/// # Panics
///
/// Where the property does not hold.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let mut play = Play::new(u64::from(input.octet()));
    for _ in 0..400 {
        if input.is_empty() {
            break;
        }
        let (what, which, number) = (input.octet(), input.octet(), input.number());
        play.operate(what, which, number);
    }
    // With a good link, readers that read and applications that close, every connection ends by itself.
    play.appetite.set(8);
    for host in [0, 1] {
        play.net.set_link(host, CLEAN);
    }
    play.run(120_000);
    for _ in 0..3 {
        for host in [0, 1] {
            play.with_all(host, |flow| flow.resume());
            play.with_all(host, |flow| flow.close());
        }
        play.run(300_000);
    }
    play.run(1_000_000);
    for host in [0, 1] {
        let engine = &play.net.host(host).engine;
        let left = (engine.flow_count(), engine.half_open_count(), engine.time_wait_count());
        assert_eq!(left, (0, 0, 0), "connections, half-open ones, TIME-WAIT of host {host}");
        assert_eq!((engine.chunks_in_use(), engine.busy_count()), ((0, 0), 0), "what they had borrowed");
        assert!(play.net.host(host).app.live.0.is_empty(), "its application was told");
    }
    for sent in play.net.captured() {
        see(&sent.frame);
    }
}
