//! A seeded network in memory: engines in virtual time, over links that delay, lose, repeat and damage.
#![forbid(unsafe_code)]

use core::net::IpAddr;
use core::time::Duration;
use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use super::link::{Held, Link, LinkConfig, LinkStats};
use crate::base::{Instant, Rng};
use crate::stack::{App, Engine, EngineConfig, TxBatch};
use crate::wire::{Mac, ethernet};

/// A frame that was sent, as [`SimNet::capture`] keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// When it left.
    pub at: Instant,
    /// Which host sent it.
    pub from: usize,
    /// The octets, before any damage.
    pub frame: Vec<u8>,
}

/// What one engine sent during one turn.
#[derive(Debug)]
struct Outbox {
    buffer: Vec<u8>,
    frames: Vec<Vec<u8>>,
    handed_over: Vec<(u16, Vec<u8>)>,
    room: usize,
}

impl TxBatch for Outbox {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        (self.frames.len() < self.room).then_some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize) {
        self.frames.push(self.buffer[..len].to_vec());
    }

    fn hand_over(&mut self, worker: u16, frame: &[u8]) -> bool {
        self.handed_over.push((worker, frame.to_vec()));
        true
    }
}

/// One engine with its application, on the network.
#[derive(Debug)]
pub struct SimHost<A> {
    /// The engine.
    pub engine: Engine,
    /// Its application.
    pub app: A,
    mac: Mac,
    worker: u16,
    addresses: Vec<IpAddr>,
    out: Outbox,
    link: Link,
    /// How far its clock is ahead of the network's.
    ahead: Duration,
    /// Nothing runs there before this instant.
    stalled_until: Instant,
    /// Frames that came during a stall and lie in its receive ring, and how many may.
    waiting: VecDeque<Vec<u8>>,
    ring: usize,
    is_off: bool,
    received: u64,
    sent: u64,
}

impl<A> SimHost<A> {
    /// Lets the host send at most `frames` frames in one turn: a small transmit ring.
    pub const fn limit_tx(&mut self, frames: usize) {
        self.out.room = frames;
    }

    /// Lets at most `frames` frames wait during a stall: a small receive ring.
    pub const fn limit_rx(&mut self, frames: usize) {
        self.ring = frames;
    }

    /// Frames that its engine was given, and that it gave away, since it was made.
    pub const fn frames(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// What became of the frames that it sent, on its link.
    pub const fn link_stats(&self) -> LinkStats {
        self.link.stats()
    }

    /// When its next timer is due, on the network's clock.
    fn next_timer(&self) -> Option<Instant> {
        let deadline = self.engine.next_deadline().filter(|_| !self.is_off)?;
        Some((deadline - self.ahead).max(self.stalled_until))
    }

    /// When it takes the frames that came during a stall.
    fn next_waiting(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.stalled_until)
    }
}

/// What became of all frames: each that was sent, repeated or forged was given to a host, lost, or is still
/// on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sent by an engine, or handed over by one worker to another.
    pub sent: u64,
    /// Copies that links added.
    pub repeated: u64,
    /// Forged: see [`SimNet::forge`] and [`SimNet::inject`].
    pub forged: u64,
    /// Given to an engine.
    pub delivered: u64,
    /// Lost on a link, or for want of room in its queue.
    pub lost: u64,
    /// Lost because no host has that link address, or the host is off, or its receive ring was full.
    pub unreceived: u64,
    /// On their way.
    pub in_flight: u64,
}

impl Traffic {
    /// Whether no frame vanished and none came from nowhere.
    pub const fn is_conserved(&self) -> bool {
        let sources = self.sent + self.repeated + self.forged;
        sources == self.delivered + self.lost + self.unreceived + self.in_flight
    }
}

/// Hosts on one segment of Ethernet, and a clock that jumps from event to event.
///
/// Everything follows from the seed. A frame goes to the host whose link address it bears. Where several
/// hosts have that address they are the workers of one machine, and the frame goes to any of them, as
/// from an interface that knows nothing of owners; they hand it over among themselves.
#[derive(Debug)]
pub struct SimNet<A> {
    hosts: Vec<SimHost<A>>,
    now: Instant,
    /// Each frame with the number of the host that will get it.
    in_flight: Held<(usize, Vec<u8>)>,
    rng: Rng,
    captured: Option<Vec<Captured>>,
    turns_at_now: u32,
    traffic: Traffic,
}

impl<A: App> SimNet<A> {
    /// Frames given to an engine at once.
    const BATCH: usize = 64;
    /// Timers that an engine may fire in one turn.
    const TIMER_BUDGET: u32 = 256;
    /// Turns at one instant after which an engine that still wants another is at fault.
    const TURNS_AT_ONE_INSTANT_MAX: u32 = 1_000_000;

    /// An empty network whose every accident follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            hosts: Vec::new(),
            now: Instant::from_millis(1_000),
            in_flight: Held::default(),
            rng: Rng::new(seed),
            captured: None,
            turns_at_now: 0,
            traffic: Traffic::default(),
        }
    }

    /// Adds a host; returns its number, from zero. Frames that it sends go over `link`.
    pub fn add(&mut self, config: EngineConfig, app: A, link: LinkConfig) -> usize {
        self.add_ahead(config, app, link, Duration::ZERO)
    }

    /// Likewise, with a clock that is so far ahead of the network's.
    pub fn add_ahead(&mut self, config: EngineConfig, app: A, link: LinkConfig, ahead: Duration) -> usize {
        let (mac, worker) = (config.mac, config.worker);
        let addresses = config.routes.addresses.clone();
        let buffer = vec![0; usize::from(config.mtu) + ethernet::HEADER_LEN + ethernet::VLAN_TAG_LEN];
        let out = Outbox { buffer, frames: Vec::new(), handed_over: Vec::new(), room: usize::MAX };
        let engine = Engine::new(config, self.now + ahead);
        self.hosts.push(SimHost {
            engine,
            app,
            mac,
            worker,
            addresses,
            out,
            link: Link::new(link),
            ahead,
            stalled_until: Instant::ZERO,
            waiting: VecDeque::new(),
            ring: usize::MAX,
            is_off: false,
            received: 0,
            sent: 0,
        });
        self.hosts.len() - 1
    }

    /// Host `number` loses power: its connections are gone and frames for it are lost, until
    /// [`SimNet::restart`].
    pub fn power_off(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        host.is_off = true;
        self.traffic.unreceived += host.waiting.drain(..).len() as u64;
    }

    /// Host `number` begins anew, with an engine that knows nothing; its clock has gone on.
    pub fn restart(&mut self, number: usize, config: EngineConfig) {
        let now = self.now + self.hosts[number].ahead;
        let host = &mut self.hosts[number];
        host.engine = Engine::new(config, now);
        (host.is_off, host.stalled_until) = (false, Instant::ZERO);
        (host.received, host.sent) = (0, 0);
        self.turn(number, |host, now| host.engine.start(now, &mut host.app, &mut host.out));
    }

    /// Nothing runs on host `number` before `until`; frames wait, as many as its receive ring holds.
    pub fn stall(&mut self, number: usize, until: Instant) {
        let host = &mut self.hosts[number];
        host.stalled_until = host.stalled_until.max(until);
    }

    /// The clock of host `number` jumps ahead, as after a suspend.
    pub fn skip_clock(&mut self, number: usize, by: Duration) {
        self.hosts[number].ahead += by;
    }

    /// Puts a frame on the wire that no engine sent; it goes where its link address says, `after` so long.
    pub fn forge(&mut self, frame: Vec<u8>, after: Duration) {
        self.traffic.forged += 1;
        match self.receiver(&frame) {
            Some(to) => self.in_flight.put(self.now + after, (to, frame)),
            None => self.traffic.unreceived += 1,
        }
    }

    /// What became of all frames so far.
    pub fn traffic(&self) -> Traffic {
        let waiting: usize = self.hosts.iter().map(|host| host.waiting.len()).sum();
        let (mut repeated, mut lost) = (0, 0);
        for stats in self.hosts.iter().map(|host| host.link.stats()) {
            repeated += stats.repeated();
            lost += stats.dropped();
        }
        Traffic { in_flight: (self.in_flight.len() + waiting) as u64, repeated, lost, ..self.traffic }
    }

    /// Tells every host the link address of every other, as a kernel that has resolved them would.
    pub fn introduce(&mut self) {
        let known: Vec<(IpAddr, Mac)> =
            self.hosts.iter().flat_map(|host| host.addresses.iter().map(|&addr| (addr, host.mac))).collect();
        for host in &mut self.hosts {
            let others = known.iter().filter(|(_, mac)| *mac != host.mac);
            others.for_each(|&(addr, mac)| host.engine.set_neighbour(addr, mac));
        }
    }

    /// Starts every application.
    pub fn start(&mut self) {
        for number in 0..self.hosts.len() {
            self.turn(number, |host, now| host.engine.start(now, &mut host.app, &mut host.out));
        }
    }

    /// Calls the application of host `number` as another thread's waker does.
    pub fn wake(&mut self, number: usize) {
        self.turn(number, |host, now| host.engine.wake(now, &mut host.app, &mut host.out));
    }

    /// Begins to shut host `number` down.
    pub fn drain(&mut self, number: usize) {
        self.turn(number, |host, now| host.engine.drain(now, &mut host.app, &mut host.out));
    }

    /// Aborts every connection of host `number`.
    pub fn abort_all(&mut self, number: usize) {
        self.turn(number, |host, now| host.engine.abort_all(now, &mut host.app, &mut host.out));
    }

    /// Gives `frame` to host `number` now, whatever its link address.
    pub fn inject(&mut self, number: usize, frame: &[u8]) {
        self.traffic.forged += 1;
        self.note_delivered(number, 1);
        self.turn(number, |host, now| {
            host.engine.on_batch(now, [frame].as_slice(), &mut host.app, &mut host.out);
        });
    }

    /// Host `number`.
    pub fn host(&self, number: usize) -> &SimHost<A> {
        &self.hosts[number]
    }

    /// Host `number`, to change it between turns.
    pub fn host_mut(&mut self, number: usize) -> &mut SimHost<A> {
        &mut self.hosts[number]
    }

    /// The instant that has been reached.
    pub const fn now(&self) -> Instant {
        self.now
    }

    /// Changes what happens to the frames that host `number` sends from now on.
    pub fn set_link(&mut self, number: usize, link: LinkConfig) {
        self.hosts[number].link.set_config(link);
    }

    /// Keeps a copy of every frame that is sent from now on.
    pub fn capture(&mut self) {
        self.captured.get_or_insert_default();
    }

    /// The frames sent since [`SimNet::capture`].
    pub fn captured(&self) -> &[Captured] {
        self.captured.as_deref().unwrap_or_default()
    }

    /// The same, taken out: a long simulation looks at them as they come.
    pub fn take_captured(&mut self) -> Vec<Captured> {
        self.captured.as_mut().map(core::mem::take).unwrap_or_default()
    }

    /// When the next frame arrives or the next timer is due; `None` when nothing will ever happen again.
    pub fn next_event(&self) -> Option<Instant> {
        let arrival = self.in_flight.next_due();
        let hosts = self.hosts.iter().flat_map(|host| [host.next_timer(), host.next_waiting()]);
        hosts.chain([arrival]).flatten().min().map(|at| at.max(self.now))
    }

    /// Moves time to the next event and lets it happen; `false` when there is none.
    ///
    /// # Panics
    ///
    /// As [`SimNet::step_at`].
    pub fn step(&mut self) -> bool {
        let next = self.next_event();
        next.into_iter().for_each(|at| self.step_at(at));
        next.is_some()
    }

    /// The same for whoever has asked [`SimNet::next_event`] already when that is.
    ///
    /// # Panics
    ///
    /// When an engine's invariants do not hold afterwards, or it asks for turn after turn without any
    /// time passing.
    pub fn step_at(&mut self, at: Instant) {
        self.turns_at_now = if at == self.now { self.turns_at_now + 1 } else { 0 };
        assert!(self.turns_at_now < Self::TURNS_AT_ONE_INSTANT_MAX, "an engine never rests");
        self.now = at;
        let is_due = |host: &SimHost<A>| host.next_waiting().is_some_and(|due| due <= at);
        if let Some(number) = self.hosts.iter().position(is_due) {
            self.deliver_waiting(number);
        } else if self.in_flight.peek_due(at).is_some() {
            self.deliver();
        } else {
            for number in 0..self.hosts.len() {
                if self.hosts[number].next_timer().is_some_and(|due| due <= at) {
                    self.turn(number, |host, now| {
                        host.engine.on_timers(now, Self::TIMER_BUDGET, &mut host.app, &mut host.out);
                    });
                }
            }
        }
    }

    /// Lets time pass until `until`, before which nothing happens.
    ///
    /// # Panics
    ///
    /// When something does.
    pub fn pass(&mut self, until: Instant) {
        assert!(self.next_event().is_none_or(|at| at >= until), "something happens before {until:?}");
        self.now = self.now.max(until);
    }

    /// Steps until nothing will happen any more, or until `until` has passed, or for `steps` steps at
    /// most; says whether it came to rest.
    pub fn run(&mut self, until: Instant, steps: u64) -> bool {
        for _ in 0..steps {
            match self.next_event() {
                None => return true,
                Some(at) if at > until => {
                    self.now = self.now.max(until);
                    return true;
                }
                Some(_) => self.step(),
            };
        }
        false
    }

    /// Gives the frames that are due to the host whose frame is first, in one batch.
    fn deliver(&mut self) {
        let mut batch: Vec<Vec<u8>> = Vec::new();
        let mut to = None;
        while let Some((host, _)) = self.in_flight.peek_due(self.now) {
            if to.is_some_and(|to| to != *host) || batch.len() == Self::BATCH {
                break;
            }
            let Some((number, frame)) = self.in_flight.take_due(self.now) else { break };
            let host = &mut self.hosts[number];
            if host.is_off || host.waiting.len() >= host.ring {
                self.traffic.unreceived += 1;
            } else if host.stalled_until > self.now || !host.waiting.is_empty() {
                host.waiting.push_back(frame);
            } else {
                to = Some(number);
                batch.push(frame);
            }
        }
        if let Some(to) = to {
            self.receive(to, &batch);
        }
    }

    /// Host `number`, whose stall is over, takes what waits for it, as much as fits one batch.
    fn deliver_waiting(&mut self, number: usize) {
        let waiting = &mut self.hosts[number].waiting;
        let batch: Vec<_> = waiting.drain(..waiting.len().min(Self::BATCH)).collect();
        self.receive(number, &batch);
    }

    fn receive(&mut self, number: usize, batch: &[Vec<u8>]) {
        self.note_delivered(number, batch.len());
        self.turn(number, |host, now| host.engine.on_batch(now, batch, &mut host.app, &mut host.out));
    }

    fn note_delivered(&mut self, number: usize, frames: usize) {
        self.traffic.delivered += frames as u64;
        self.hosts[number].received += frames as u64;
    }

    /// One call into an engine, its invariants afterwards, and what it sent put on its way.
    fn turn(&mut self, number: usize, call: impl FnOnce(&mut SimHost<A>, Instant)) {
        let host = &mut self.hosts[number];
        call(host, self.now + host.ahead);
        host.engine.check_invariants();
        let mac = host.mac;
        let handed_over = core::mem::take(&mut host.out.handed_over);
        let frames = core::mem::take(&mut host.out.frames);
        host.sent += frames.len() as u64;
        self.traffic.sent += (frames.len() + handed_over.len()) as u64;
        for (worker, frame) in handed_over {
            let owner = self.hosts.iter().position(|host| host.mac == mac && host.worker == worker);
            match owner {
                Some(owner) => self.in_flight.put(self.now, (owner, frame)),
                None => self.traffic.unreceived += 1,
            }
        }
        for frame in frames {
            if let Some(captured) = &mut self.captured {
                captured.push(Captured { at: self.now, from: number, frame: frame.clone() });
            }
            self.send(number, frame);
        }
    }

    /// One frame of host `from` goes on the host's link.
    fn send(&mut self, from: usize, frame: Vec<u8>) {
        let Some(to) = self.receiver(&frame) else {
            self.traffic.unreceived += 1;
            return;
        };
        let in_flight = &mut self.in_flight;
        let put = |due, frame| in_flight.put(due, (to, frame));
        self.hosts[from].link.offer(self.now, frame, &mut self.rng, put);
    }

    /// The host that a frame is addressed to, one of its workers at random.
    fn receiver(&mut self, frame: &[u8]) -> Option<usize> {
        let to = |host: &SimHost<A>| frame.starts_with(&host.mac.0);
        let workers = self.hosts.iter().filter(|host| to(host)).count();
        let chosen = self.rng.below(u32::try_from(workers).ok().filter(|&n| n > 0)?);
        let mut numbers = (0..self.hosts.len()).filter(|&number| to(&self.hosts[number]));
        numbers.nth(chosen as usize)
    }
}
