//! One world: hosts on a network, its accidents, and everything that is checked after each step.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use ringroad::base::{Instant, Rng};
use ringroad::io::link::LinkConfig;
use ringroad::io::sim::{Captured, SimNet};

use crate::app::Host;
use crate::book::Book;
use crate::forge::Forger;
use crate::inspect::{Sums, check_empty, check_frame, check_traffic};
use crate::monitor::Monitor;
use crate::rule::{Rule, Violation, check};
use crate::scenario::{Kind, STALL_MAX, Scenario, Worlds, addresses, any_size, mac};
use crate::tally::{Event, Tally};

/// Something that the world does later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    /// A machine loses power.
    PowerOff(usize),
    /// A machine has power again.
    Restart(usize),
    /// A host's link carries frames again.
    Mend(usize),
    /// A host learns a neighbour's link address.
    Neighbour(usize, IpAddr),
}

/// A network of hosts that follows from a seed.
#[derive(Debug)]
pub struct World {
    scenario: Rc<Scenario>,
    book: Rc<RefCell<Book>>,
    net: SimNet<Host>,
    rng: Rng,
    forger: Forger,
    /// Where no four-tuple is used twice, and nobody forges.
    monitor: Option<Monitor>,
    due: Vec<(Instant, Due)>,
    /// The machine of each host, and which worker of it the host is.
    workers: Vec<(usize, u16)>,
    /// How often each machine's secret has changed, and whether it is off.
    machines: Vec<(u64, bool)>,
    steps: u64,
    /// Connections that were opened from both ends.
    crossings: u16,
    /// Follows from every frame that was sent.
    digest: u64,
}

impl World {
    /// Steps without progress after which a world that was told to close goes on for ever.
    const CLOSING_STEPS_MAX: u64 = 3_000_000;

    /// First of as many ports, for connections that are opened from both ends.
    const CROSSING_PORTS: u16 = 4_096;

    /// The world of `seed` among `worlds`, started.
    pub fn new(seed: u64, worlds: Worlds) -> Self {
        let scenario = Rc::new(Scenario::draw(seed, worlds));
        let book = Rc::new(RefCell::new(Book::default()));
        let mut net = SimNet::new(seed);
        let workers = scenario.workers();
        for (number, &(machine, worker)) in workers.iter().enumerate() {
            let drawn = &scenario.machines[machine];
            let app = Host::new(number, machine, &scenario, &book, seed);
            net.add_ahead(scenario.engine(machine, worker, 0), app, drawn.faults, drawn.ahead);
            net.host_mut(number).limit_tx(drawn.tx_room);
            net.host_mut(number).limit_rx(drawn.rx_ring);
        }
        let is_followed =
            matches!(scenario.kind, Kind::Calm | Kind::Lossy | Kind::Rough) && scenario.rates.restart == 0;
        let machines = vec![(0, false); scenario.machines.len()];
        Self {
            scenario,
            book,
            net,
            rng: Rng::new(seed.rotate_left(32)),
            forger: Forger::new(seed),
            monitor: is_followed.then(Monitor::default),
            due: Vec::new(),
            workers,
            machines,
            steps: 0,
            crossings: 0,
            digest: 0,
        }
    }

    /// The network's clock.
    pub const fn now(&self) -> Instant {
        self.net.now()
    }

    /// How many steps were made.
    pub const fn steps(&self) -> u64 {
        self.steps
    }

    /// A number that differs when any frame does.
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Makes `steps` steps and closes; `see` sees every frame that was sent or forged, and when.
    pub fn run(&mut self, steps: u64, mut see: impl FnMut(Instant, &[u8])) -> Result<(), Violation> {
        self.net.capture();
        self.book.borrow_mut().now = self.net.now();
        if !self.scenario.asks_neighbours {
            self.net.introduce();
        }
        self.net.start();
        self.inspect(&mut see)?;
        for _ in 0..steps {
            self.cause_accidents(&mut see);
            self.step()?;
            self.inspect(&mut see)?;
        }
        self.close(&mut see)
    }

    /// What happened, once it is over.
    pub fn tally(&self) -> Tally {
        let mut tally = self.book.borrow().tally.clone();
        tally.add(Event::Worlds);
        tally.add_n(Event::Steps, self.steps);
        tally.add_n(Event::VirtualMs, self.net.now().as_millis());
        tally.add_traffic(&self.net.traffic());
        (0..self.workers.len()).for_each(|host| tally.counters.merge(self.net.host(host).engine.counters()));
        tally
    }

    /// The next thing that happens, on the network or by what was planned; `false` when nothing does.
    fn step(&mut self) -> Result<bool, Violation> {
        self.steps += 1;
        let next = self.net.next_event();
        let planned = self.due.iter().map(|(at, _)| *at).min();
        let Some(at) = [next, planned].into_iter().flatten().min() else { return Ok(false) };
        self.book.borrow_mut().now = at;
        if planned == Some(at) {
            self.net.pass(at);
            let first = self.due.iter().position(|(due, _)| *due == at);
            if let Some((_, due)) = first.map(|first| self.due.remove(first)) {
                self.carry_out(due);
            }
        } else {
            self.net.step_at(at);
        }
        Ok(true)
    }

    fn carry_out(&mut self, due: Due) {
        match due {
            Due::PowerOff(machine) => self.power_off(machine),
            Due::Restart(machine) => self.restart(machine),
            Due::Mend(host) => self.net.set_link(host, self.scenario.machines[self.workers[host].0].faults),
            Due::Neighbour(host, addr) => {
                let machine = (0..self.machines.len()).find(|&machine| addresses(machine).contains(&addr));
                if let Some(machine) = machine.filter(|_| !self.is_off(host)) {
                    self.net.host_mut(host).engine.set_neighbour(addr, mac(machine));
                    self.net.wake(host);
                    self.book.borrow_mut().tally.add(Event::Neighbours);
                }
            }
        }
    }

    fn is_off(&self, host: usize) -> bool {
        self.machines[self.workers[host].0].1
    }

    fn workers_of(&self, machine: usize) -> Vec<usize> {
        (0..self.workers.len()).filter(|&host| self.workers[host].0 == machine).collect()
    }

    /// Whatever the rates say.
    fn cause_accidents(&mut self, see: &mut impl FnMut(Instant, &[u8])) {
        let rates = self.scenario.rates;
        if self.rng.chance(rates.forge)
            && let Some((frame, after)) = self.forger.forge(&self.scenario)
        {
            see(self.net.now(), &frame);
            self.net.forge(frame, after);
        }
        if self.rng.chance(rates.stall) {
            let host = self.any_host();
            let most = u32::try_from(STALL_MAX.as_micros()).expect("seconds");
            let until = self.net.now().plus_micros(u64::from(any_size(&mut self.rng, most)));
            self.net.stall(host, until);
            self.note(Event::Stalls);
        }
        if self.rng.chance(rates.skip) {
            let machine = self.any_machine();
            let most = if self.rng.below(4) == 0 { 2_000_000_000 } else { 100_000 };
            let by = Duration::from_millis(u64::from(any_size(&mut self.rng, most)));
            self.workers_of(machine).into_iter().for_each(|host| self.net.skip_clock(host, by));
            self.note(Event::ClockJumps);
        }
        if self.rng.chance(rates.cross) {
            self.cross();
        }
        if self.rng.chance(rates.restart) {
            self.shut_down();
        }
        if self.rng.chance(rates.cut) {
            let host = self.any_host();
            let cut = LinkConfig { loss: 1_000_000, ..self.scenario.machines[self.workers[host].0].faults };
            self.net.set_link(host, cut);
            let after = Duration::from_millis(u64::from(any_size(&mut self.rng, 30_000)));
            self.due.push((self.net.now() + after, Due::Mend(host)));
            self.note(Event::Cuts);
        }
        if self.rng.chance(rates.abort_all) {
            let host = self.any_host();
            if !self.is_off(host) {
                self.book.borrow_mut().now = self.net.now();
                self.book.borrow_mut().abort_all(host);
                self.net.abort_all(host);
                self.note(Event::AbortAlls);
            }
        }
    }

    /// Two machines open the same connection at the same instant, from a port that was never used.
    fn cross(&mut self) {
        let hosts = [self.any_host(), self.any_host()];
        let [one, other] = hosts.map(|host| self.workers[host].0);
        if one == other || hosts.iter().any(|&host| self.is_off(host)) {
            return;
        }
        let family = self.rng.below(2) as usize;
        self.crossings = self.crossings.wrapping_add(1);
        let port = Self::CROSSING_PORTS + self.crossings % Self::CROSSING_PORTS;
        let ends = [one, other].map(|machine| SocketAddr::from((addresses(machine)[family], port)));
        self.book.borrow_mut().now = self.net.now();
        for (host, ends) in hosts.into_iter().zip([(ends[0], ends[1]), (ends[1], ends[0])]) {
            self.net.host_mut(host).app.crossing = Some(ends);
            self.net.wake(host);
        }
    }

    fn any_host(&mut self) -> usize {
        self.rng.below(u32::try_from(self.workers.len()).expect("a handful")) as usize
    }

    fn any_machine(&mut self) -> usize {
        let host = self.any_host();
        self.workers[host].0
    }

    fn note(&self, event: Event) {
        self.book.borrow_mut().tally.add(event);
    }

    /// A machine loses power, in half of all cases after it refused connections for a while.
    fn shut_down(&mut self) {
        let machine = self.any_machine();
        if self.rng.below(2) == 0 || self.machines[machine].1 {
            return self.power_off(machine);
        }
        self.book.borrow_mut().now = self.net.now();
        self.workers_of(machine).into_iter().for_each(|host| self.net.drain(host));
        let after = Duration::from_millis(u64::from(any_size(&mut self.rng, 2_000)));
        self.due.push((self.net.now() + after, Due::PowerOff(machine)));
        self.note(Event::Drains);
    }

    /// A machine loses power, for as long at least as its frames are on their way: RFC 9293 §3.4.3, the quiet
    /// time.
    fn power_off(&mut self, machine: usize) {
        if self.machines[machine].1 {
            return;
        }
        self.machines[machine].1 = true;
        for host in self.workers_of(machine) {
            self.net.power_off(host);
            self.net.host_mut(host).app.forget();
            let mut book = self.book.borrow_mut();
            book.lose(host);
            book.tally.counters.merge(self.net.host(host).engine.counters());
        }
        let longer = Duration::from_millis(u64::from(any_size(&mut self.rng, 20_000)));
        self.due.push((self.net.now() + self.scenario.lifetime + longer, Due::Restart(machine)));
        self.note(Event::Restarts);
    }

    fn restart(&mut self, machine: usize) {
        self.forger.forget();
        let (life, is_off) = &mut self.machines[machine];
        *life += u64::from(self.rng.below(2));
        *is_off = false;
        let life = *life;
        for host in self.workers_of(machine) {
            let config = self.scenario.engine(machine, self.workers[host].1, life);
            self.net.restart(host, config);
            self.introduce(host);
        }
    }

    /// A host that has power again learns the others' link addresses, unless it asks.
    fn introduce(&mut self, host: usize) {
        if self.scenario.asks_neighbours {
            return;
        }
        for machine in (0..self.machines.len()).filter(|&machine| machine != self.workers[host].0) {
            for addr in addresses(machine) {
                self.net.host_mut(host).engine.set_neighbour(addr, mac(machine));
            }
        }
        self.net.wake(host);
    }

    /// Everything that must hold after a step.
    fn inspect(&mut self, see: &mut impl FnMut(Instant, &[u8])) -> Result<(), Violation> {
        for Captured { at, from, frame } in self.net.take_captured() {
            see(at, &frame);
            let machine = self.workers[from].0;
            let mtu = self.scenario.machines[machine].mtu;
            let sent = check_frame(&frame, mac(machine), &addresses(machine), mtu)?;
            if let Some(monitor) = &mut self.monitor {
                monitor.see(&sent)?;
            }
            if self.scenario.rates.forge > 0 {
                self.forger.see(&frame);
            }
            self.digest = digest(self.digest, at, &frame);
        }
        self.book.borrow_mut().take_violation()?;
        check_traffic(&self.net.traffic())?;
        for host in 0..self.workers.len() {
            self.resolve(host);
            self.check_sums(host)?;
        }
        if self.steps.is_multiple_of(64) { self.book.borrow().check_liveness() } else { Ok(()) }
    }

    /// What the kernel does: it finds out link addresses that are wanted, after a while.
    fn resolve(&mut self, host: usize) {
        while let Some(addr) = self.net.host_mut(host).engine.take_wanted_neighbour() {
            let at = self.net.now().plus_micros(u64::from(any_size(&mut self.rng, 100_000)));
            self.due.push((at, Due::Neighbour(host, addr)));
        }
    }

    fn check_sums(&self, host: usize) -> Result<(), Violation> {
        if self.is_off(host) {
            return Ok(());
        }
        let sim = self.net.host(host);
        let engine = &sim.engine;
        let sums = Sums {
            counters: engine.counters(),
            flows: u64::from(engine.flow_count()),
            half_open: u64::from(engine.half_open_count()),
            time_wait: u64::from(engine.time_wait_count()),
            frames: sim.frames(),
            live: self.book.borrow().live_on(host) as u64,
            accepted: sim.app.accepted,
            said: sim.app.said,
            heard: sim.app.heard,
            may_wait: self.scenario.apps.pause_accept > 0,
        };
        sums.check()
    }

    /// No more accidents and no more connections: everything comes to an end, and nothing is left.
    fn close(&mut self, see: &mut impl FnMut(Instant, &[u8])) -> Result<(), Violation> {
        self.book.borrow_mut().is_closing = true;
        self.heal();
        let (mut progress, mut last) = (None, 0);
        while self.step()? {
            self.inspect(see)?;
            let now = Some(self.book.borrow().progress());
            if now != progress {
                (progress, last) = (now, self.steps + Self::CLOSING_STEPS_MAX);
            }
            check(Rule::Liveness, self.steps < last, || "it goes on for ever".to_owned())?;
        }
        self.book.borrow().check_ends(self.scenario.kind.is_gentle())?;
        (0..self.workers.len()).try_for_each(|host| check_empty(host, &self.net.host(host).engine))
    }

    /// Links carry every frame from now on.
    fn heal(&mut self) {
        self.due.retain(|(_, due)| !matches!(due, Due::Mend(_)));
        for host in 0..self.workers.len() {
            let LinkConfig { delay_us, jitter_us, .. } = self.scenario.machines[self.workers[host].0].faults;
            self.net.set_link(host, LinkConfig { delay_us, jitter_us, ..LinkConfig::default() });
        }
    }
}

/// One more frame: a sum that no other order or content gives, as good as never.
fn digest(before: u64, at: Instant, frame: &[u8]) -> u64 {
    let words =
        frame.chunks(8).map(|chunk| chunk.iter().fold(0, |word, &octet| word << 8 | u64::from(octet)));
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    words.fold(mix(before, at.as_nanos()), mix)
}
