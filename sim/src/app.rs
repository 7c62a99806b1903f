//! The application on every host: it opens and accepts connections, and each end goes by its plan.
#![forbid(unsafe_code)]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use ringroad::base::{Counter, FlowId, Instant, Rng};
use ringroad::stack::{App, Connect, Cx, Flow, Listen, ListenerId};
use ringroad::tcp::{CloseReason, Report};

use crate::book::Book;
use crate::end::End;
use crate::plan::{Ending, Plan, Reader};
use crate::scenario::{CLOSED_PORT, Kind, PORT, Scenario, addresses, pick};
use crate::tally::Event;
use crate::text;

/// What an end means to do, and when.
#[derive(Clone, Copy, Debug)]
struct Act {
    plan: Plan,
    /// It may send from this instant on, on the host's clock as the others here.
    begins: Instant,
    /// It reads on.
    resumes: Option<Instant>,
    /// It ends its side.
    ends: Option<Instant>,
}

/// One worker's application.
#[derive(Debug)]
pub struct Host {
    number: usize,
    machine: usize,
    scenario: Rc<Scenario>,
    book: Rc<RefCell<Book>>,
    rng: Rng,
    /// By the end's number less one; only of ends on this host.
    acts: Vec<(u64, Act)>,
    /// Connections that it opened and that are not over.
    opened: Vec<FlowId>,
    listener: Option<ListenerId>,
    is_accept_paused: bool,
    /// Opens this connection when it is woken, to a peer that opens it at the same instant.
    pub crossing: Option<(SocketAddr, SocketAddr)>,
    /// Text that is being sent.
    piece: Vec<u8>,
    /// Since its engine was made.
    pub accepted: u64,
    pub said: u64,
    pub heard: u64,
}

impl Host {
    /// The application of worker `number` of all, on this machine.
    pub fn new(
        number: usize,
        machine: usize,
        scenario: &Rc<Scenario>,
        book: &Rc<RefCell<Book>>,
        seed: u64,
    ) -> Self {
        Self {
            number,
            machine,
            scenario: Rc::clone(scenario),
            book: Rc::clone(book),
            rng: Rng::new(seed ^ (number as u64 + 1) << 40),
            acts: Vec::new(),
            opened: Vec::new(),
            listener: None,
            is_accept_paused: false,
            crossing: None,
            piece: Vec::new(),
            accepted: 0,
            said: 0,
            heard: 0,
        }
    }

    /// The host lost power: it knows of nothing any more.
    pub fn forget(&mut self) {
        self.acts.clear();
        self.opened.clear();
        self.listener = None;
        self.is_accept_paused = false;
        (self.accepted, self.said, self.heard) = (0, 0, 0);
    }

    fn act(&mut self, number: u64) -> Option<&mut Act> {
        self.acts.iter_mut().find(|(of, _)| *of == number).map(|(_, act)| act)
    }

    /// Opens one more connection, to any machine but this one; `false` when that is not possible now.
    fn open(&mut self, cx: &mut Cx<'_>) -> bool {
        let machines = u32::try_from(self.scenario.machines.len()).expect("a handful");
        let others = self.rng.below(machines - 1) as usize;
        let to =
            addresses(if others >= self.machine { others + 1 } else { others })[self.rng.below(2) as usize];
        let to_closed_port = self.rng.chance(self.scenario.apps.to_closed_port);
        let port = if to_closed_port { CLOSED_PORT } else { PORT };
        self.connect(cx, (to, port).into(), None)
    }

    fn connect(&mut self, cx: &mut Cx<'_>, remote: SocketAddr, local: Option<SocketAddr>) -> bool {
        let options = pick(&mut self.rng, &self.scenario.apps.options);
        let mut book = self.book.borrow_mut();
        let Ok(id) = cx.connect(&Connect { remote, local, options, user: 0 }) else {
            book.tally.add(Event::OpensRefused);
            return false;
        };
        let now = cx.now();
        let Some(mut flow) = cx.flow(id) else { return false };
        let is_honest = self.scenario.kind != Kind::Hostile;
        let (host, net_now) = (self.number, book.now);
        let number = book.enter(|number| {
            let mut end = End::new(number, host, flow.local(), flow.remote(), net_now);
            end.is_active = true;
            end.to_closed_port = remote.port() == CLOSED_PORT && is_honest;
            end.may_be_refused = local.is_some() || remote.port() == CLOSED_PORT;
            end
        });
        book.tally.add(if local.is_some() { Event::Crossings } else { Event::Opens });
        flow.set_user(number);
        drop(book);
        if local.is_none() {
            self.opened.push(id);
        }
        self.plan(number, now, true);
        // Closing at once is a right too, and means that it never was.
        if !self.scenario.apps.orderly && self.rng.below(200) == 0 {
            self.say(&mut flow, Word::Shutdown);
        }
        true
    }

    fn plan(&mut self, number: u64, now: Instant, is_active: bool) {
        let plan = Plan::draw(&mut self.rng, &self.scenario.apps, is_active);
        let act = Act { plan, begins: now + plan.begins, resumes: None, ends: None };
        self.acts.push((number, act));
    }

    /// ESTABLISHED, on either side.
    fn begin(&mut self, flow: &mut Flow<'_>) {
        let now = flow.now();
        let Some(act) = self.act(flow.user()) else { return };
        act.begins = now + act.plan.begins;
        if let Ending::AbortLater(after) = act.plan.ending {
            act.ends = Some(now + after);
        }
        self.pump(flow);
    }

    /// Sends what there is room for, and ends if the plan says so.
    fn pump(&mut self, flow: &mut Flow<'_>) {
        let number = flow.user();
        let now = flow.now();
        while let Some(Act { plan, begins, .. }) = self.act(number).copied() {
            let (sent, said_fin) = self.said(number);
            if begins > now || said_fin {
                break;
            }
            if sent >= plan.send {
                self.all_is_sent(flow, plan.ending);
                break;
            }
            let len = (plan.send - sent).min(u64::from(plan.piece));
            self.piece.resize(usize::try_from(len).expect("a piece is short"), 0);
            text::fill(number, sent, &mut self.piece);
            let taken = flow.send(&self.piece);
            self.said += taken as u64;
            if let Some(end) = self.book.borrow_mut().end_mut(number) {
                end.sent += taken as u64;
            }
            if taken < self.piece.len() {
                break;
            }
        }
        self.arm(flow);
    }

    fn said(&self, number: u64) -> (u64, bool) {
        self.book.borrow().end(number).map_or((0, true), |end| (end.sent, end.said_fin))
    }

    fn all_is_sent(&mut self, flow: &mut Flow<'_>, ending: Ending) {
        let number = flow.user();
        let heard_fin = self.book.borrow().end(number).is_some_and(|end| end.heard_fin);
        match ending {
            Ending::Shutdown => self.say(flow, Word::Shutdown),
            Ending::Close => self.say(flow, Word::Close),
            Ending::Later(after) => {
                let at = flow.now() + after;
                if let Some(act) = self.act(number) {
                    act.ends.get_or_insert(at);
                }
            }
            // Whoever would end for what he hears ends for hearing no more.
            _ if heard_fin => self.say(flow, Word::Close),
            Ending::CloseAfter(_) | Ending::AbortAfter(_) if self.hears_enough(number) => {
                self.say(flow, Word::Close);
            }
            _ => (),
        }
    }

    /// An active end cannot wait for octets that its peer may never send.
    fn hears_enough(&self, number: u64) -> bool {
        self.book.borrow().end(number).is_some_and(|end| end.is_active)
    }

    fn say(&self, flow: &mut Flow<'_>, word: Word) {
        if let Some(end) = self.book.borrow_mut().end_mut(flow.user()) {
            end.said_fin = true;
            end.said_close |= word == Word::Close;
            end.said_abort |= word == Word::Abort;
        }
        match word {
            Word::Shutdown => flow.shutdown(),
            Word::Close => flow.close(),
            Word::Abort => flow.abort(),
        }
    }

    fn pause(&mut self, flow: &mut Flow<'_>, rest: Duration) {
        let at = flow.now() + rest;
        if let Some(act) = self.act(flow.user()) {
            act.resumes = Some(at);
        }
        self.set_paused(flow.user(), true);
        flow.pause();
        self.arm(flow);
    }

    fn set_paused(&self, number: u64, paused: bool) {
        if let Some(end) = self.book.borrow_mut().end_mut(number) {
            end.is_paused = paused;
        }
    }

    /// Sets the connection's timer to what comes first.
    fn arm(&mut self, flow: &mut Flow<'_>) {
        let now = flow.now();
        let Some(act) = self.act(flow.user()) else { return };
        let begins = Some(act.begins).filter(|&at| at > now);
        match [act.resumes, act.ends, begins].into_iter().flatten().min() {
            Some(at) => flow.set_timer(at.since(now)),
            None => flow.cancel_timer(),
        }
    }

    /// How much of `data` is consumed.
    fn appetite(&mut self, number: u64, data: &[u8]) -> usize {
        match self.act(number).map(|act| act.plan.reader) {
            Some(Reader::Slow { octets, .. }) => data.len().min(octets as usize),
            _ => data.len(),
        }
    }

    /// What the plan says to do when so much was heard.
    fn after_hearing(&mut self, flow: &mut Flow<'_>) {
        let number = flow.user();
        let Some(plan) = self.act(number).map(|act| act.plan) else { return };
        let heard = self.book.borrow().end(number).map_or(0, |end| end.received);
        match plan.ending {
            Ending::CloseAfter(octets) if heard >= u64::from(octets) => self.say(flow, Word::Close),
            Ending::AbortAfter(octets) if heard >= u64::from(octets) => self.say(flow, Word::Abort),
            _ => (),
        }
        if let Reader::Slow { rest, .. } = plan.reader {
            self.pause(flow, rest);
        }
    }

    fn toggle_accept(&mut self, cx: &mut Cx<'_>) {
        let Some(listener) = self.listener else { return };
        if self.is_accept_paused {
            cx.resume_accept(listener);
            self.is_accept_paused = false;
        } else if self.rng.chance(self.scenario.apps.pause_accept) && !self.book.borrow().is_closing {
            cx.pause_accept(listener);
            self.is_accept_paused = true;
        }
    }
}

/// What an application may say at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Shutdown,
    Close,
    Abort,
}

impl App for Host {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        let options = pick(&mut self.rng, &self.scenario.apps.options);
        for address in [[0; 4].into(), [0u16; 8].into()] {
            let listen = Listen {
                half_open_max: self.scenario.apps.half_open_max,
                backlog: self.scenario.apps.backlog,
                options,
                ..Listen::new(address, PORT)
            };
            self.listener = cx.listen(&listen).ok();
        }
        self.on_worker_timer(cx);
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        let mut book = self.book.borrow_mut();
        let (host, now) = (self.number, book.now);
        let number = book.enter(|number| End::new(number, host, flow.local(), flow.remote(), now));
        book.on(number, End::on_open);
        book.tally.add(Event::Accepts);
        drop(book);
        flow.set_user(number);
        self.accepted += 1;
        self.plan(number, flow.now(), false);
        self.begin(flow);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.book.borrow_mut().on(flow.user(), End::on_open);
        self.begin(flow);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        let consumed = self.appetite(flow.user(), data);
        self.book.borrow_mut().on_data(flow.user(), data, consumed);
        let aborted = |flow: &mut Flow<'_>| flow.cx().counters().get(Counter::Aborted);
        let before = aborted(flow);
        self.after_hearing(flow);
        if aborted(flow) == before {
            // Else it is lost with the connection, and the engine does not count it either.
            self.heard += consumed as u64;
        }
        consumed
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.book.borrow_mut().on(flow.user(), End::on_fin);
        self.pump(flow);
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        self.book.borrow_mut().on(flow.user(), |end| end.on_writable());
        self.pump(flow);
    }

    fn on_report(&mut self, flow: &mut Flow<'_>, _: Report) {
        let mut book = self.book.borrow_mut();
        book.on(flow.user(), |end| end.on_other());
        book.tally.add(Event::Reports);
    }

    fn on_timer(&mut self, flow: &mut Flow<'_>) {
        let number = flow.user();
        self.book.borrow_mut().on(number, |end| end.on_other());
        let now = flow.now();
        let Some(act) = self.act(number) else { return };
        if act.resumes.is_some_and(|at| at <= now) {
            act.resumes = None;
            self.set_paused(number, false);
            flow.resume();
        }
        let Some(act) = self.act(number) else { return };
        if act.ends.is_some_and(|at| at <= now) {
            act.ends = None;
            let ending = act.plan.ending;
            self.say(
                flow,
                if matches!(ending, Ending::AbortLater(_)) { Word::Abort } else { Word::Shutdown },
            );
        }
        self.pump(flow);
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        let (number, id) = (flow.user(), flow.id());
        let mut book = self.book.borrow_mut();
        book.on_close(number, why);
        if why != CloseReason::Finished {
            book.quiet_until = book.now + self.scenario.lifetime;
        }
        drop(book);
        self.acts.retain(|(of, _)| *of != number);
        if let Some(at) = self.opened.iter().position(|&opened| opened == id) {
            self.opened.swap_remove(at);
            let gap = 1 + self.rng.below(self.scenario.apps.gap_us);
            flow.cx().set_timer(Duration::from_micros(u64::from(gap)));
        }
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        if let Some((local, remote)) = self.crossing.take() {
            self.connect(cx, remote, Some(local));
        }
    }

    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {
        self.toggle_accept(cx);
        let (is_closing, now, quiet_until) = {
            let book = self.book.borrow();
            (book.is_closing, book.now, book.quiet_until)
        };
        if is_closing {
            if self.is_accept_paused {
                self.toggle_accept(cx);
            }
            return;
        }
        let is_quiet = self.scenario.kind == Kind::Reuse && now < quiet_until;
        let room = (self.scenario.apps.live_max as usize).saturating_sub(self.opened.len());
        let wanted = 1 + self.rng.below(3) as usize;
        // Who could open nothing looks again later: most steps are to be frames.
        let patience = match room {
            0 => 200,
            _ if is_quiet || !(0..room.min(wanted)).all(|_| self.open(cx)) => 100,
            _ => 1,
        };
        let gap = patience * (1 + self.rng.below(self.scenario.apps.gap_us));
        cx.set_timer(Duration::from_micros(u64::from(gap)));
    }
}
