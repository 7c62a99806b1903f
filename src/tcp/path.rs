//! Segments that the path carries: smaller ones where large ones vanish, and larger ones tried now and then
//! (RFC 4821, RFC 8899).
#![forbid(unsafe_code)]

use super::cold::Shared;
use super::flags::Flags;
use super::loss::Phase;
use super::scoreboard::{Fate, Run, Scoreboard, SentPool};
use super::segment::Outgoing;
use super::tcb::{Env, Tcb};
use crate::base::{Counter, Seq};

/// What became of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// Nothing is searched for.
    #[default]
    Rest,
    /// The next probe is to be sent.
    Due,
    /// A probe is on its way.
    Sent,
    /// It arrived.
    Arrived,
    /// It did not, and its text goes again.
    Lost,
}

/// A search for the largest segment that arrives (RFC 4821 §7.3), while it goes on. Sizes are octets of text.
#[derive(Clone, Copy, Debug, Default)]
pub struct Search {
    /// The first octet of the probe on its way.
    start: Seq,
    /// The size of that.
    len: u16,
    /// The size of the next.
    next: u16,
    /// The least of which it is known that it does not arrive.
    ceiling: u16,
    step: Step,
}

impl Search {
    const fn end(&self) -> Seq {
        Seq::new(self.start.raw().wrapping_add(self.len as u32))
    }

    /// From what the handshake agreed on downwards: most of the time it is a path that has become better.
    const fn begin(full: u16) -> Self {
        Self { start: Seq::new(0), len: 0, next: full, ceiling: full + 1, step: Step::Due }
    }

    /// The next size halves what is unknown; the search is over when that is a thirty-second.
    fn go_on(&mut self, floor: u16) {
        self.step = Step::Due;
        let told = self.next > floor && self.next < self.ceiling;
        if !told {
            self.next = floor + self.ceiling.saturating_sub(floor) / 2;
            if self.next < floor + (floor / 32).max(8) {
                self.step = Step::Rest;
            }
        }
    }

    /// Octets up to `una` were acknowledged, and nothing was ever sent twice.
    fn passed(&mut self, una: Seq) {
        if self.step == Step::Sent && self.end().at_or_before(una) {
            self.step = Step::Arrived;
        }
    }

    /// A run arrived.
    pub fn delivered(&mut self, run: &Run) {
        let covered = run.start.at_or_before(self.start) && self.end().at_or_before(run.end);
        if self.step == Step::Sent && covered && !run.again {
            self.step = Step::Arrived;
        }
    }

    /// RFC 4821 §7.6: whether all that is lost is a probe, which is no sign of congestion.
    pub fn is_all_that_is_lost(&self, board: &Scoreboard, pool: &SentPool, una: Seq) -> bool {
        let of_probe =
            |run: Run| self.start.at_or_before(run.start) && run.end.at_or_before(self.end()) && !run.again;
        matches!(self.step, Step::Sent | Step::Lost)
            && board.runs(pool, una).all(|(fate, run)| fate != Fate::Lost || of_probe(run))
    }

    /// The probe is lost; whether that is news.
    pub fn note_lost(&mut self) -> bool {
        let is_news = self.step == Step::Sent;
        if is_news {
            self.step = Step::Lost;
            self.ceiling = self.ceiling.min(self.len);
        }
        is_news
    }

    /// What happened to the probe cannot be told.
    pub const fn give_up(&mut self) {
        self.step = Step::Rest;
    }

    /// ICMP says that the path carries `mss` octets of text, of a segment at `seq`.
    pub fn told(&mut self, seq: Seq, mss: u16) {
        if self.step == Step::Sent && seq == self.start && mss < self.len {
            (self.next, self.ceiling) = (mss, mss + 1);
        }
    }
}

impl Tcb {
    /// How long the path is believed to carry no more than it did, milliseconds: ten minutes (RFC 1191 §6.3, RFC 8201 §4).
    const RAISE_AFTER_MS: u32 = 600_000;
    /// The same after a probe of which nothing can be told, milliseconds.
    const TRY_AGAIN_AFTER_MS: u32 = 10_000;
    /// Timeouts in a row that mean a black hole (RFC 8899 §5.1.2, MAX_PROBES).
    const BLACK_HOLE_TIMEOUTS: u8 = 3;
    /// MSS to fall back to, one after the other: Ethernet's over IPv4 for larger frames, what fits the least MTU of IPv6,
    /// and the least of all.
    const FALLBACKS: [u16; 3] = [1_460, 1_220, Self::MSS_MIN];
    /// Segments that are to follow a probe, to show whether it arrived.
    const FOLLOWERS: u32 = 3;

    /// Octets that the options of each segment take.
    pub(super) fn options_len(&self) -> u16 {
        if self.flags.any(Flags::STAMPS) { 12 } else { 0 }
    }

    /// The retransmission timer has expired once more: where nothing of full segments ever arrives, the path may carry
    /// smaller ones only, and say nothing (RFC 4821 §7.7).
    pub(super) fn shrink_in_black_hole(&mut self, env: &mut Env<'_>) {
        let mss = self.snd.mss;
        let text = self.send_buf.len().min(self.snd.flight());
        if self.timeouts.saturating_add(1) < Self::BLACK_HOLE_TIMEOUTS || text < u32::from(mss) {
            return;
        }
        let fits = Self::FALLBACKS.map(|size| size - self.options_len());
        if let Some(size) = fits.into_iter().find(|&size| size < mss) {
            self.snd.mss = size;
            env.counters.add(Counter::PathBlackHoles);
            // Once anything arrives: it may have been an outage.
            self.set_path_due(0, env.now);
        }
    }

    /// ICMP says that the path carries segments with `mss` octets of text and options only; quoted is one at `seq`.
    pub(super) fn on_too_big(&mut self, mss: u16, seq: Seq, env: &mut Env<'_>) {
        let mss = mss.max(Self::MSS_MIN) - self.options_len();
        if mss < self.snd.mss {
            self.snd.mss = mss;
            self.set_path_due(Self::RAISE_AFTER_MS, env.now);
            if let Some((loss, _)) = self.loss(env.shared) {
                loss.search.give_up();
            }
            // RFC 1191 §6.4: what was too big is sent again at once, and it was not congestion.
            self.flags.clear(Flags::TIMED);
            if !self.resend_all(env) {
                self.snd.cursor = self.snd.una;
            }
        } else if let Some((loss, _)) = self.loss(env.shared) {
            loss.search.told(seq, mss);
        }
    }

    /// Nothing that was in flight was ever sent twice.
    pub(super) fn note_probe_passed(&self, shared: &mut Shared) {
        if let Some((loss, _)) = self.loss(shared) {
            loss.search.passed(self.snd.una);
        }
    }

    /// The search learns nothing from what is in flight, and begins anew in a while.
    pub(super) fn give_up_path_probe(&mut self, env: &mut Env<'_>) {
        let Some((loss, _)) = self.loss(env.shared) else { return };
        if loss.search.step == Step::Sent {
            loss.search.give_up();
            self.set_path_due(Self::TRY_AGAIN_AFTER_MS, env.now);
        }
    }

    /// SND.UNA has moved while segments are smaller than the handshake agreed on.
    #[cold]
    pub(super) fn search_path(&mut self, env: &mut Env<'_>) {
        let (una, floor, full) = (self.snd.una, self.snd.mss, self.mss_most);
        let is_due = self.is_path_due(env.now);
        let Some((loss, _)) = self.loss(env.shared) else { return };
        let search = &mut loss.search;
        match search.step {
            Step::Arrived => {
                self.snd.mss = search.len;
                // A loss may have left less while the probe was on its way.
                self.congestion.keep_a_segment(u32::from(search.len));
                search.go_on(search.len);
            }
            // As part of something that was sent again.
            Step::Sent if search.end().at_or_before(una) => self.give_up_path_probe(env),
            Step::Lost if search.end().at_or_before(una) => search.go_on(floor),
            Step::Rest if is_due => *search = Search::begin(full),
            Step::Rest | Step::Due | Step::Sent | Step::Lost => {}
        }
        self.flags.put(Flags::REPAIR, self.flags.any(Flags::REPAIR) || self.may_probe_path(env).is_some());
    }

    /// How large a probe may leave now: with enough text behind it, and nothing under repair (RFC 4821 §7.4).
    ///
    /// It may exceed the congestion window by what it is larger than a segment.
    fn may_probe_path(&self, env: &mut Env<'_>) -> Option<u32> {
        let (flight, mss) = (self.snd.flight(), u32::from(self.snd.mss));
        let (loss, _) = self.loss(env.shared)?;
        let size = u32::from(loss.search.next);
        let quiet = loss.phase == Phase::Open && loss.board.lost() == 0 && loss.board.sacked() == 0;
        let needed = size + Self::FOLLOWERS * mss;
        let may = loss.search.step == Step::Due
            && quiet
            && self.flags.any(Flags::SACK)
            && self.snd.cursor == self.snd.nxt
            && self.send_buf.len().saturating_sub(flight) >= needed
            && self.snd.wnd.saturating_sub(flight) >= needed
            && self.congestion.cwnd() >= needed.max(flight + mss);
        may.then_some(size)
    }

    /// A probe, if one is to be sent: text that was never sent, in a segment larger than others.
    pub(super) fn poll_path_probe(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        let size = self.may_probe_path(env)?;
        if self.is_held_back(env) {
            return None;
        }
        let nxt = self.snd.nxt;
        let (loss, _) = self.loss(env.shared)?;
        let search = &mut loss.search;
        (search.start, search.len, search.step) = (nxt, search.next, Step::Sent);
        // At the latest, should the search not come to its end before all is sent.
        self.set_path_due(Self::RAISE_AFTER_MS, env.now);
        env.counters.add(Counter::PathProbes);
        Some(self.send_at(nxt, size, false, env))
    }
}
