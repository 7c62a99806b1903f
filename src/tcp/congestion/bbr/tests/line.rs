//! A line with one bottleneck, and a model that sends over it.
#![forbid(unsafe_code)]

use super::*;
use crate::base::Instant;
use crate::tcp::CongestionAlgorithm;
use std::collections::VecDeque;
use std::vec::Vec;

pub(super) const MSS: u32 = 1_000;
pub(super) const SECOND: u64 = 1_000_000;

/// A bulk transfer over one bottleneck; each segment is acknowledged for itself.
pub(super) struct Line {
    pub(super) model: Model,
    pub(super) window: Congestion,
    pub(super) now: u64,
    /// Octets a millisecond, and the round trip without a queue, microseconds.
    pub(super) rate: u64,
    pub(super) rtt_us: u64,
    /// Octets that may wait.
    pub(super) queue: u64,
    /// Of so many segments one is lost; none with zero.
    pub(super) lost_each: u64,
    pub(super) busy_until: u64,
    /// When the answer comes, and whether the segment was lost before, whose octets it then reports, too.
    pub(super) answers: VecDeque<(u64, u32)>,
    pub(super) lost_before: u32,
    pub(super) sent: u64,
    /// Segments that found no room, since it was reset, and those sent.
    pub(super) drops: u64,
    pub(super) tries: u64,
    pub(super) arrived: u32,
    pub(super) lost: u32,
    pub(super) in_flight: u32,
    /// Each state that it was in, and since when.
    pub(super) states: Vec<(State, u64)>,
    /// The most octets in flight since it was reset.
    pub(super) most: u32,
}

impl Line {
    /// A megabyte a second, 20 ms: 20 segments.
    pub(super) fn new() -> Self {
        let window = Congestion::new(CongestionAlgorithm::Bbr, 10 * MSS);
        Self {
            model: Model::new(10 * MSS, 20_000, Seq::new(7), 0, Micros32::default()),
            window,
            now: 0,
            rate: 1_000,
            rtt_us: 20_000,
            queue: 40_000,
            lost_each: 0,
            busy_until: 0,
            answers: VecDeque::new(),
            lost_before: 0,
            sent: 0,
            drops: 0,
            tries: 0,
            arrived: 0,
            lost: 0,
            in_flight: 0,
            states: Vec::from([(State::Startup, 0)]),
            most: 0,
        }
    }

    pub(super) fn at(&self) -> Micros32 {
        Micros32::floor(Instant::from_micros(self.now))
    }

    pub(super) fn send(&mut self, dry: bool) {
        self.sent += 1;
        self.tries += 1;
        self.in_flight += MSS;
        self.most = self.most.max(self.in_flight);
        let end = Seq::new(u32::try_from(self.sent * u64::from(MSS)).expect("a short test"));
        let (in_flight, now) = (self.in_flight, self.at());
        self.model.sent(&Left {
            end,
            octets: MSS,
            new: true,
            in_flight,
            dry,
            srtt_us: 20_000,
            mss: MSS,
            now,
        });
        let waiting = self.busy_until.saturating_sub(self.now) * self.rate / 1_000;
        let unlucky = self.lost_each > 0 && self.sent.is_multiple_of(self.lost_each);
        if waiting > self.queue || unlucky {
            self.drops += u64::from(!unlucky);
            self.lost_before += MSS;
            return;
        }
        self.busy_until = self.busy_until.max(self.now) + u64::from(MSS) * 1_000 / self.rate;
        self.answers.push_back((self.busy_until + self.rtt_us, core::mem::take(&mut self.lost_before)));
    }

    pub(super) fn answer(&mut self) {
        let (_, lost) = self.answers.pop_front().expect("the caller has looked");
        self.arrived += MSS;
        self.lost += lost;
        self.in_flight -= MSS + lost;
        // What was lost is not sent again here: numbers go on.
        let highest = Seq::new(self.arrived + self.lost);
        let heard = Heard {
            arrived: self.arrived,
            highest,
            lost: self.lost,
            in_flight: self.in_flight,
            repairing: lost > 0,
            dry: false,
            mss: MSS,
            now: self.at(),
        };
        self.model.heard(&mut self.window, &heard);
        let state = self.model.state();
        if self.states.last().is_some_and(|&(last, _)| last != state) {
            self.states.push((state, self.now));
        }
    }

    /// Sends as much as it may for so long; returns octets that arrived in each second.
    pub(super) fn run(&mut self, us: u64) -> u64 {
        let (end, before) = (self.now + us, self.arrived);
        loop {
            let may = self.in_flight + MSS <= self.window.cwnd();
            let due = self.now + u64::from(self.model.due().ahead(Instant::from_micros(self.now)));
            let answer = self.answers.front().map_or(u64::MAX, |&(at, _)| at);
            let next = if may { due.min(answer) } else { answer };
            if next > end {
                self.now = end;
                return u64::from(self.arrived - before) * SECOND / us;
            }
            self.now = self.now.max(next);
            if answer <= self.now {
                self.answer();
            } else {
                self.send(false);
            }
        }
    }

    pub(super) fn names(&self) -> Vec<State> {
        self.states.iter().map(|&(state, _)| state).collect()
    }

    pub(super) fn heard(&self, lost: u32, repairing: bool) -> Heard {
        Heard {
            arrived: self.arrived,
            highest: Seq::new(self.arrived + self.lost),
            lost: self.lost + lost,
            in_flight: self.in_flight,
            repairing,
            dry: false,
            mss: MSS,
            now: self.at(),
        }
    }

    /// Time passes in which what is on its way arrives, and nothing more leaves.
    pub(super) fn idle(&mut self, us: u64) {
        let end = self.now + us;
        while let Some(&(at, _)) = self.answers.front() {
            self.now = self.now.max(at);
            self.answer();
        }
        self.now = self.now.max(end);
    }
}

/// Tries until it is in this state.
pub(super) fn line_in(state: State, seconds: u64) -> Line {
    let mut line = Line::new();
    for _ in 0..seconds * 1_000 {
        line.run(1_000);
        if line.model.state() == state {
            return line;
        }
    }
    panic!("{:?}", line.states);
}
