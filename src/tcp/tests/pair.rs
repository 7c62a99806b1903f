//! Two connections and a link between them: delay, loss, reordering, duplication, in virtual time.
#![forbid(unsafe_code)]

use core::time::Duration;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::host::{Host, STAMP_OFFSET, config};
use super::segments::{IRS, ISS, Sent};
use crate::base::{Instant, Seq};
use crate::tcp::{CloseReason, FlowOptions, HalfOpen, State, TcpConfig, TimeWait, TimeWaitVerdict};
use crate::wire::Control;

/// What becomes of one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Deliver,
    Lose,
    Twice,
    /// It comes so much later than it would.
    Late(Duration),
    /// It is marked, if it may be (RFC 3168 §5).
    Mark,
}

/// One end: a connection, or what comes before and after it.
#[derive(Debug)]
pub struct End {
    pub host: Host,
    options: FlowOptions,
    /// The SYN's record while `host` is not yet open, and when its SYN-ACK left.
    half: Option<(HalfOpen, Instant)>,
    /// Waits for a SYN.
    listening: bool,
    pub time_wait: Option<TimeWait>,
    pub over: Option<CloseReason>,
    /// What the user wants to send, how much of it was taken, and whether FIN follows it.
    pub script: Vec<u8>,
    pub taken: usize,
    pub finish: Finish,
    finished: bool,
    /// One past the last sequence number offered on the wire.
    edge: Option<Seq>,
}

/// When and how the user closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// Half-close after the last octet.
    WhenSent,
    /// Half-close after the last octet and the peer's FIN.
    AfterFin,
    /// Close after the last octet and the peer's FIN.
    CloseAfterFin,
}

/// A segment on its way.
#[derive(Debug)]
struct Flying {
    at: Instant,
    to: usize,
    sent: Sent,
}

/// Who sends, how many segments that end sent before, and the segment: what becomes of it?
type Judge = Box<dyn FnMut(usize, u32, &Sent) -> Fate>;

pub struct Pair {
    pub ends: [End; 2],
    pub now: Instant,
    pub delay: Duration,
    flying: Vec<Flying>,
    fate: Judge,
    count: [u32; 2],
    /// Segments that went out, for the scenario to look at: who, when, what.
    pub trace: Vec<(usize, Instant, Sent)>,
}

const ISNS: [Seq; 2] = [ISS, IRS];

impl Pair {
    /// End 0 opens actively, end 1 listens.
    pub fn new(adjust: impl Fn(&mut TcpConfig, &mut FlowOptions)) -> Self {
        Self::with_ends([Self::end(0, false, &adjust), Self::end(1, true, &adjust)])
    }

    /// Both ends open actively.
    pub fn simultaneous(adjust: impl Fn(&mut TcpConfig, &mut FlowOptions)) -> Self {
        Self::with_ends([Self::end(0, false, &adjust), Self::end(1, false, &adjust)])
    }

    /// Each end has its own options; end 1 listens, or both open actively.
    pub fn unlike(options: [FlowOptions; 2], both_open: bool) -> Self {
        let end = |which| Self::end(which, which == 1 && !both_open, &|_, own| *own = options[which]);
        Self::with_ends([end(0), end(1)])
    }

    fn with_ends(ends: [End; 2]) -> Self {
        let now = ends[0].host.lent.now;
        let delay = Duration::from_millis(10);
        let fate = Box::new(|_, _, _: &Sent| Fate::Deliver);
        Self { ends, now, delay, flying: vec![], fate, count: [0, 0], trace: vec![] }
    }

    fn end(which: usize, listening: bool, adjust: &impl Fn(&mut TcpConfig, &mut FlowOptions)) -> End {
        let (mut config, mut options) = (config(), FlowOptions::default());
        adjust(&mut config, &mut options);
        let host = Host::new(config, |lent| lent.active_open(ISNS[which], &options));
        End {
            host,
            options,
            half: None,
            listening,
            time_wait: None,
            over: None,
            script: vec![],
            taken: 0,
            finish: Finish::WhenSent,
            finished: false,
            edge: None,
        }
    }

    pub fn on_link(&mut self, fate: impl FnMut(usize, u32, &Sent) -> Fate + 'static) {
        self.fate = Box::new(fate);
    }

    /// Runs until nothing is on its way and no timer is set, or `done` says so; at most `steps` events.
    pub fn run_until(&mut self, steps: usize, mut done: impl FnMut(&Self) -> bool) {
        self.act();
        for _ in 0..steps {
            if done(self) || !self.step() {
                return;
            }
        }
        panic!(
            "no end after {steps} events at {:?}: {:?}",
            self.now,
            self.ends.each_ref().map(|e| &e.host.tcb)
        );
    }

    /// RFC 3168 §6.1.4, §6.1.5: of what was sent, only text that was never sent before is ECN-capable, and only
    /// where the other end echoes marks.
    pub fn check_ecn(&self) {
        for (end, mut nxt) in ISNS.into_iter().enumerate() {
            let answers = self.trace.iter().filter(|(from, ..)| *from != end).map(|(.., sent)| sent.out.ctl);
            let agreed = answers.into_iter().any(|ctl| ctl.contains(Control::SYN | Control::ECE));
            for (.., Sent { out, .. }) in self.trace.iter().filter(|(from, ..)| *from == end) {
                let is_fresh = out.text_len > 0 && nxt.at_or_before(out.seq);
                assert!(out.ecn == 0 || (agreed && is_fresh), "{out:?}, with SND.NXT = {nxt:?}");
                let controls = Control::SYN | Control::FIN;
                nxt = nxt.later(out.seq + out.text_len + u32::from(out.ctl.intersects(controls)));
            }
        }
    }

    /// Runs until both ends are over.
    pub fn run(&mut self, steps: usize) {
        self.run_until(steps, |_| false);
    }

    fn step(&mut self) -> bool {
        let next_flying = self.flying.iter().map(|f| f.at).min();
        let next_timer = self.ends.iter().map(End::deadline).min();
        let at = next_flying.into_iter().chain(next_timer).min().unwrap_or(Instant::NEVER);
        if at == Instant::NEVER {
            return false;
        }
        self.now = self.now.max(at);
        for end in &mut self.ends {
            end.host.lent.now = self.now;
        }
        if let Some(i) = self.flying.iter().position(|f| f.at <= self.now) {
            let Flying { to, sent, .. } = self.flying.remove(i);
            self.deliver(to, &sent);
        } else {
            for which in 0..2 {
                if self.ends[which].deadline() <= self.now {
                    self.fire(which);
                }
            }
        }
        self.act();
        true
    }

    fn fire(&mut self, which: usize) {
        let end = &mut self.ends[which];
        if let Some((mut half, _)) = end.half {
            if half.retry(&end.host.lent.config) {
                end.half = Some((half, self.now));
                self.syn_ack(which);
            } else {
                end.half = None;
                end.listening = true;
            }
            return;
        }
        let expired = end.host.tcb.on_timers(&mut end.host.lent.env());
        end.host.reports.extend(expired.report);
    }

    fn syn_ack(&mut self, which: usize) {
        let end = &mut self.ends[which];
        let Some((half, sent_at)) = &mut end.half else { return };
        *sent_at = self.now;
        let out = half.syn_ack(&end.host.lent.opening(ISNS[which]), &end.options, &end.host.lent.config);
        self.launch(which, Sent::bare(out));
    }

    fn deliver(&mut self, to: usize, sent: &Sent) {
        let seg = sent.segment();
        let now = self.now;
        let end = &mut self.ends[to];
        if let Some(time_wait) = end.time_wait {
            use TimeWaitVerdict::{Ack, Challenge, Refuse, Restart};
            if matches!(time_wait.on_segment(&seg, false), Ack | Challenge | Refuse | Restart) {
                let out = time_wait.ack(STAMP_OFFSET);
                self.launch(to, Sent::bare(out));
            }
            return;
        }
        if end.over.is_some() {
            if let Some(out) = crate::tcp::reset_for(&seg) {
                self.launch(to, Sent::bare(out));
            }
            return;
        }
        if end.listening {
            if seg.ctl.without(Control::ECE | Control::CWR) == Control::SYN {
                end.half = Some((HalfOpen::new(&seg, ISNS[to], now), now));
                end.listening = false;
                self.syn_ack(to);
            }
            return;
        }
        if let Some((half, _)) = &mut end.half {
            if half.is_same_syn(&seg) {
                half.on_same_syn(&seg);
                return self.syn_ack(to);
            }
            end.host.tcb = end.host.lent.opened(half, ISNS[to], &end.options);
            end.host.arrive(&seg);
            if end.host.tcb.state() != State::SynReceived {
                end.half = None;
            }
        } else {
            end.host.arrive(&seg);
        }
        if let Some(out) = end.host.seen.reset {
            self.launch(to, Sent::bare(out));
        }
    }

    /// The users act, and what there is to send leaves.
    fn act(&mut self) {
        for which in 0..2 {
            let end = &mut self.ends[which];
            if !end.listening && end.half.is_none() && end.over.is_none() && end.time_wait.is_none() {
                end.user_acts();
                end.host.drain();
            }
            while let Some(sent) = self.ends[which].host.sent.pop_front() {
                self.ends[which].check_window(&sent);
                self.launch(which, sent);
            }
            self.ends[which].retire();
        }
    }

    fn launch(&mut self, from: usize, sent: Sent) {
        self.trace.push((from, self.now, sent.clone()));
        let fate = (self.fate)(from, self.count[from], &sent);
        self.count[from] += 1;
        let (copies, extra) = match fate {
            Fate::Deliver => (1, Duration::ZERO),
            Fate::Lose => (0, Duration::ZERO),
            Fate::Twice => (2, Duration::ZERO),
            Fate::Late(extra) => (1, extra),
            Fate::Mark => (1, Duration::ZERO),
        };
        let sent = Sent { ce: fate == Fate::Mark && sent.out.ecn != 0, ..sent };
        for _ in 0..copies {
            self.flying.push(Flying { at: self.now + self.delay + extra, to: 1 - from, sent: sent.clone() });
        }
    }
}

impl End {
    fn deadline(&self) -> Instant {
        match &self.half {
            _ if self.listening || self.over.is_some() || self.time_wait.is_some() => Instant::NEVER,
            Some((half, sent_at)) => half.deadline(*sent_at, &self.host.lent.config),
            None => self.host.deadline(),
        }
    }

    fn user_acts(&mut self) {
        if self.half.is_some() || !self.host.tcb.state().is_synchronized() {
            return;
        }
        let host = &mut self.host;
        host.read(usize::MAX);
        self.taken += host.take(&self.script[self.taken..]);
        let all_taken = self.taken == self.script.len();
        let fin_seen = host.fins > 0;
        if all_taken && !self.finished && (self.finish == Finish::WhenSent || fin_seen) {
            self.finished = true;
            match self.finish {
                Finish::CloseAfterFin => host.close(),
                Finish::WhenSent | Finish::AfterFin => host.shutdown(),
            }
        }
    }

    /// What was offered once is not taken back, but for the rounding of the scale (RFC 7323 §2.4).
    fn check_window(&mut self, sent: &Sent) {
        let ctl = sent.out.ctl;
        if !ctl.intersects(Control::ACK) || ctl.intersects(Control::SYN | Control::RST) {
            return;
        }
        let shift = self.host.tcb.rcv.shift();
        let edge = sent.out.ack + (u32::from(sent.out.wnd) << shift);
        if let Some(before) = self.edge {
            let back = if edge.before(before) { before.since(edge) } else { 0 };
            assert!(back < 1 << shift, "the window shrank by {back}: {sent:?}");
        }
        self.edge = Some(self.edge.map_or(edge, |before| before.later(edge)));
    }

    /// The TCB goes when it is closed or in TIME-WAIT and the user has read everything.
    fn retire(&mut self) {
        let tcb = &mut self.host.tcb;
        if self.over.is_some() || self.time_wait.is_some() {
            return;
        }
        if tcb.closed().is_none() && tcb.state() == State::TimeWait {
            self.time_wait = Some(TimeWait::new(tcb, self.host.lent.now));
        }
        self.over = tcb.closed();
        if self.over.is_some() || self.time_wait.is_some() {
            let lent = &mut self.host.lent;
            tcb.release(&mut lent.recv, &mut lent.shared);
            assert!(lent.shared.cold.is_empty());
            assert_eq!(self.host.lent.shared.send.free_count(), 2_048);
            assert_eq!(self.host.lent.recv.chunks.free_count(), 2_048);
        }
    }
}
