//! Repair where SACK was agreed: scoreboard, RACK, tail loss probes and PRR put together (RFC 6675, 8985, 6937).
#![forbid(unsafe_code)]

use super::arrives::stamp_before;
use super::cold::Shared;
use super::congestion::{Congestion, Memory};
use super::flags::Flags;
use super::path::Search;
use super::probe::Probe;
use super::prr::Prr;
use super::rack::{Path, Rack};
use super::scoreboard::{Fate, Run, Scoreboard, SentPool};
use super::segment::{Outgoing, Segment};
use super::spurious::{Delivered, Doubt, Undo};
use super::tcb::{Env, Fin, Tcb};
use crate::base::{Counter, Micros32, Seq};
use crate::wire::{SackBlocks, TcpOptions};

/// What is being done about losses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    #[default]
    Open,
    /// Fast recovery: the congestion window was reduced.
    Recovery,
    /// The retransmission timer expired, and what was in flight then is not acknowledged yet.
    AfterTimeout,
}

/// What one connection remembers of losses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loss {
    pub(super) board: Scoreboard,
    pub(super) rack: Rack,
    prr: Prr,
    /// SND.NXT when the repair began (RFC 6675 RecoveryPoint); meaningful unless `Open`.
    pub(super) recover: Seq,
    pub(super) phase: Phase,
    /// SND.NXT when the scoreboard began: when octets before it left is not known but for their order.
    dated: Seq,
    /// Segments that brought news in SACK blocks since SND.UNA moved.
    sackers: u8,
    /// Octets ever found lost, modulo 2^32.
    pub(super) total: u32,
    pub(super) probe: Option<Probe>,
    pub(super) undo: Option<Undo>,
    /// Whether a timeout was one.
    pub(super) doubt: Doubt,
    /// For larger segments.
    pub(super) search: Search,
}

impl Loss {
    /// Whether it remembers nothing that matters once nothing is in flight.
    pub const fn is_idle(&self) -> bool {
        self.board.is_empty() && matches!(self.phase, Phase::Open) && self.probe.is_none()
    }

    /// Whether the window was reduced for what is still in flight.
    pub const fn is_repairing(&self) -> bool {
        !matches!(self.phase, Phase::Open)
    }

    /// Octets of `flight` that are in the network, as far as is known: RFC 6675's pipe.
    pub(super) const fn pipe(&self, flight: u32) -> u32 {
        flight.saturating_sub(self.board.sacked() + self.board.lost())
    }

    /// Octets that may be in the network. A model of the path says so itself, and `paced` sending needs no other
    /// brake.
    const fn window(&self, cwnd: u32, paced: bool) -> u32 {
        match self.phase {
            Phase::Recovery if !paced => self.prr.window(),
            Phase::Open | Phase::Recovery | Phase::AfterTimeout => cwnd,
        }
    }

    /// One past the highest octet known to have arrived, where more is known than SND.UNA.
    pub(super) const fn highest(&self) -> Option<Seq> {
        self.rack.highest()
    }

    /// Whether octets beyond a hole tell that it is one (RFC 6675 §4, DupThresh).
    fn is_sure(&self, mss: u32) -> bool {
        self.phase != Phase::Open || self.sackers >= 3 || self.board.sacked() > 2 * mss
    }
}

/// What the SACK blocks of a segment say, in the order of sequence numbers.
pub struct Report {
    pub(super) blocks: SackBlocks,
    /// What the peer received twice (RFC 2883 §4).
    pub(super) duplicate: Option<(Seq, Seq)>,
}

impl Tcb {
    /// Its losses, and the pool that all share.
    pub(super) fn loss<'a>(&self, shared: &'a mut Shared) -> Option<(&'a mut Loss, &'a mut SentPool)> {
        if !self.flags.any(Flags::ATTACHED) {
            return None;
        }
        shared.cold.at_mut(self.cold).map(|cold| (&mut cold.loss, &mut shared.sent))
    }

    /// Makes sure that what is in flight is on the scoreboard; false where there is no room for it.
    ///
    /// Until something is known to be lost, or to have overtaken something, one run is as good as many: numbers are
    /// in the order of time.
    pub(super) fn start_board(&mut self, env: &mut Env<'_>) -> bool {
        if self.flags.any(Flags::BOARD) {
            return true;
        }
        // When the segment being timed left, and a round trip ago at least: later, and the path would seem shorter
        // than it is.
        let timed = if self.flags.any(Flags::TIMED) { self.timed_at.elapsed(env.now) } else { 0 };
        let ago = timed.max(self.rtt.srtt_us());
        let at = Micros32::floor(env.now).plus(ago.wrapping_neg());
        let nxt = self.snd.nxt;
        if self.snd.flight() == 0 || self.attach(env.shared).is_none() {
            return false;
        }
        let Some((loss, pool)) = self.loss(env.shared) else { return false };
        loss.rack.restart();
        loss.dated = nxt;
        let started = loss.board.sent(pool, nxt, at, 0);
        self.flags.put(Flags::BOARD, started);
        started
    }

    /// The scoreboard is not needed any more, or not yet.
    pub(super) fn close_board(&mut self, shared: &mut Shared) {
        if let Some((loss, pool)) = self.loss(shared) {
            loss.board.clear(pool);
        }
        self.flags.clear(Flags::BOARD);
    }

    /// Octets `seq..after` leave now; SND.NXT is still what it was.
    #[inline(never)]
    pub(super) fn note_sent(&mut self, seq: Seq, after: Seq, env: &mut Env<'_>) {
        if self.flags.any(Flags::BOARD) {
            self.note_on_board(seq, after, env);
        }
        if self.flags.any(Flags::MODEL) {
            self.pace(seq, after, env);
        }
    }

    fn note_on_board(&mut self, seq: Seq, after: Seq, env: &mut Env<'_>) {
        let (una, nxt, now) = (self.snd.una, self.snd.nxt, Micros32::floor(env.now));
        let stamp = self.stamps(env.now).map(|stamps| stamps.val);
        let grain = self.rtt.srtt_us() / 32;
        let Some((loss, pool)) = self.loss(env.shared) else { return };
        if seq.before(nxt) {
            let end = if after.before(nxt) { after } else { nxt };
            loss.board.sent_again(pool, una, (seq, end), now);
            if let Some(undo) = &mut loss.undo {
                undo.again = undo.again.saturating_add(1);
                undo.stamp = undo.stamp.or(stamp);
            }
        }
        if nxt.before(after) {
            loss.board.sent(pool, after, now, grain);
        }
        loss.prr.sent(after.since(seq));
    }

    /// What SEG.ACK, which moved SND.UNA on from `before` or not, and the SACK blocks say of what was sent. Returns
    /// whether the congestion window is in the hands of a recovery.
    #[inline(never)]
    pub(super) fn hear(&mut self, seg: &Segment<'_>, before: Seq, env: &mut Env<'_>) -> bool {
        let report = self.report(seg);
        let news = report.duplicate.is_some() || !report.blocks.as_slice().is_empty();
        if !(self.flags.any(Flags::BOARD) || (news && self.start_board(env))) {
            self.note_probe_passed(env.shared);
            // A D-SACK may come when all is acknowledged.
            self.hear_duplicate(&report, env);
            self.judge_probe(seg, before, &report, env);
            self.end_if_recovered(env);
            return false;
        }
        let recovering = self.is_recovering(env.shared);
        let delivered = self.mark_delivered(seg, before, &report, env);
        self.hear_duplicate(&report, env);
        self.judge_probe(seg, before, &report, env);
        self.undo_if_early(seg, before, env);
        self.undo_timeout_if_spurious(before.before(self.snd.una), delivered, env);
        self.end_if_recovered(env);
        let waits = self.find_losses(delivered.octets, before, env);
        self.await_reordering(waits, env);
        self.close_plain_board(env.shared);
        // The segment that ends a recovery was sent in it, too.
        recovering || self.is_recovering(env.shared)
    }

    fn is_recovering(&self, shared: &Shared) -> bool {
        self.cold(shared).is_some_and(|cold| cold.loss.phase == Phase::Recovery)
    }

    /// RFC 2018 and RFC 2883 §4: which blocks are about octets in flight, and whether the first is a D-SACK.
    fn report(&self, seg: &Segment<'_>) -> Report {
        let heard =
            if seg.has_more_options() { TcpOptions::parse(seg.options).sack } else { SackBlocks::default() };
        let heard = heard.as_slice();
        let (una, flight) = (self.snd.una, self.snd.flight());
        let mut report = Report { blocks: SackBlocks::default(), duplicate: None };
        if let &[first, ref rest @ ..] = heard {
            let within = |outer: &(Seq, Seq)| outer.0.at_or_before(first.0) && first.1.at_or_before(outer.1);
            let old = first.1.at_or_before(seg.ack) && una.since(first.0) <= self.snd.max_wnd;
            if first.0.before(first.1) && (old || rest.first().is_some_and(within)) {
                report.duplicate = Some(first);
            }
        }
        for &(left, right) in heard {
            let (from, to) = (left.since(una), right.since(una));
            if from < to && to <= flight {
                report.blocks.push(left, right);
            }
        }
        let SackBlocks { blocks, len } = &mut report.blocks;
        blocks[..usize::from(*len)].sort_unstable_by_key(|&(left, _)| left.since(una));
        report
    }

    /// Tells the scoreboard and RACK what has arrived.
    fn mark_delivered(
        &mut self,
        seg: &Segment<'_>,
        before: Seq,
        report: &Report,
        env: &mut Env<'_>,
    ) -> Delivered {
        let (una, path) = (self.snd.una, self.path(env));
        let (timed_seq, mut timed_arrived) = (self.timed_seq, false);
        let echo = seg.stamps.filter(|_| self.flags.any(Flags::STAMPS)).map(|stamps| stamps.ecr);
        let mut delivered = Delivered::default();
        let Some((loss, pool)) = self.loss(env.shared) else { return delivered };
        let Loss { board, rack, undo, sackers, search, recover, dated, .. } = loss;
        let first_again = undo.and_then(|undo| undo.stamp());
        let genuine = echo.zip(first_again).is_none_or(|(echo, first)| !stamp_before(echo, first));
        let mut visit = |run: Run| {
            delivered.octets += run.len();
            delivered.original |= !run.again && run.start.before(*recover);
            delivered.beyond |= recover.before(run.end);
            search.delivered(&run);
            rack.delivered(&run, genuine, &path);
        };
        if before.before(una) {
            board.advance(pool, before, una, &mut visit);
            *sackers = 0;
        }
        let sacked = board.sacked();
        // How long ago the last of what is news and was sent once left, and the last of that whose time is known.
        let (mut sacked_us, mut dated_us) = (None, None);
        let sooner = |least: &mut Option<u32>, us| *least = Some(least.map_or(us, |least| least.min(us)));
        for &block in report.blocks.as_slice() {
            board.sack(pool, una, block, |run| {
                timed_arrived |= timed_seq.in_window(run.start, run.len());
                let us = path.now.since(run.at);
                if !run.again {
                    sooner(&mut sacked_us, us);
                    if dated.at_or_before(run.start) {
                        sooner(&mut dated_us, us);
                    }
                }
                visit(run);
            });
        }
        if board.sacked() > sacked {
            *sackers = sackers.saturating_add(1);
        }
        rack.advanced(una);
        let head = board.runs(pool, una).next().filter(|&(fate, run)| run.again && fate == Fate::InFlight);
        let head_us = head.map(|(_, run)| path.now.since(run.at));
        if timed_arrived && self.flags.take(Flags::TIMED) {
            self.rtt.sample(self.timed_at.elapsed(env.now), &env.config.rto);
        } else if let Some(us) = dated_us {
            self.rtt.sample_news(us, &env.config.rto);
        }
        if head_us.is_some_and(|head_us| sacked_us > Some(head_us)) {
            // What arrives left before the repair at SND.UNA, which cannot have been answered yet: behind a queue that
            // grew since, RTO as it was would be too soon.
            self.start_retransmit_timer(env);
        }
        delivered
    }

    fn path(&self, env: &Env<'_>) -> Path {
        Path { srtt_us: self.rtt.srtt_us(), now: Micros32::floor(env.now) }
    }

    /// RFC 6675 §5.1: what was in flight when the repair began is acknowledged.
    fn end_if_recovered(&mut self, env: &mut Env<'_>) {
        let una = self.snd.una;
        let Some((loss, _)) = self.loss(env.shared) else { return };
        if loss.phase != Phase::Open && loss.recover.at_or_before(una) {
            loss.phase = Phase::Open;
            loss.rack.recovered();
        }
    }

    /// Finds what is lost and begins or goes on with a recovery; returns how long until more will be lost,
    /// microseconds.
    fn find_losses(&mut self, delivered: u32, before: Seq, env: &mut Env<'_>) -> Option<u32> {
        let (una, nxt, path) = (self.snd.una, self.snd.nxt, self.path(env));
        let (flight, mss) = (self.snd.flight(), u32::from(self.snd.mss));
        let (loss, pool) = self.loss(env.shared)?;
        let known = loss.board.lost();
        let sure = loss.is_sure(mss);
        let waits = loss.rack.detect(&mut loss.board, pool, una, sure, &path);
        let (lost, pipe) = (loss.board.lost(), loss.pipe(flight));
        let of_probe = lost > 0 && loss.search.is_all_that_is_lost(&loss.board, pool, una);
        loss.total = loss.total.wrapping_add(if of_probe { 0 } else { lost - known });
        if loss.phase == Phase::Open && of_probe {
            env.counters.add_n(Counter::PathProbesLost, loss.search.note_lost().into());
        } else if loss.phase == Phase::Open && lost > 0 {
            (loss.phase, loss.recover) = (Phase::Recovery, nxt);
            // Where time ran out what had been delivered was at least a segment.
            let delivered = delivered.max(loss.board.sacked().min(mss));
            let congestion = self.reduce(flight, mss, env.shared);
            let ssthresh = self.congestion.ssthresh();
            let (loss, pool) = self.loss(env.shared)?;
            loss.undo = Some(Undo::new(congestion, una, &loss.board, pool));
            loss.prr = Prr::new(flight, delivered, pipe, ssthresh, mss);
            env.counters.add(Counter::FastRetransmits);
        } else if loss.phase == Phase::Recovery {
            let progress = before.before(una) && lost <= known;
            loss.prr.delivered(delivered, pipe, self.congestion.ssthresh(), mss, progress);
        }
        self.flags.put(Flags::REPAIR, lost > 0);
        waits
    }

    /// A loss was found; returns what the congestion window was. It stays as it is where marks have reduced it for
    /// the same window.
    pub(super) fn reduce(&mut self, flight: u32, mss: u32, shared: &mut Shared) -> (Congestion, Memory) {
        let before = self.window_and_memory(shared);
        if !self.is_reduced_for_marks(shared) {
            let memory = self.cold_mut(shared).map(|cold| &mut cold.congestion);
            self.congestion.on_loss(flight, mss, memory);
            self.reduced_for_loss();
        }
        before
    }

    /// Marks have arrived meanwhile: what a repair goes back to, when it was not needed, is smaller.
    pub(super) fn reduce_undo(&mut self, flight: u32, mss: u32, shared: &mut Shared) {
        let Some((loss, _)) = self.loss(shared) else { return };
        if let Some(undo) = &mut loss.undo {
            let (congestion, memory) = &mut undo.congestion;
            congestion.on_mark(flight, mss, Some(memory));
        }
    }

    /// All that congestion control knows, to go back to.
    pub(super) fn window_and_memory(&self, shared: &Shared) -> (Congestion, Memory) {
        (self.congestion, self.cold(shared).map(|cold| cold.congestion).unwrap_or_default())
    }

    /// Sets the timer to when more will be lost, or back to what it was.
    fn await_reordering(&mut self, waits: Option<u32>, env: &Env<'_>) {
        match waits {
            Some(us) if us < self.rtt.rto_us() => {
                self.set_retransmit_timer(us, env.now);
                self.flags.set(Flags::REORDERING);
            }
            _ if self.flags.any(Flags::REORDERING) => self.start_retransmit_timer(env),
            _ => {}
        }
    }

    /// The time that reordering was given is over.
    pub(super) fn on_reordering_timer(&mut self, env: &mut Env<'_>) {
        let una = self.snd.una;
        self.flags.clear(Flags::REORDERING);
        self.start_retransmit_timer(env);
        let waits = self.find_losses(0, una, env);
        self.await_reordering(waits, env);
    }

    fn close_plain_board(&mut self, shared: &mut Shared) {
        let Some((loss, pool)) = self.loss(shared) else { return };
        let done = loss.board.is_empty() || (loss.phase == Phase::Open && loss.board.is_plain(pool));
        if done {
            self.close_board(shared);
        }
    }

    /// The retransmission timer expired; `first` for the octets at SND.UNA. False where no record is left, and
    /// sending has to begin anew at SND.UNA.
    pub(super) fn lose_all(&mut self, saved: (Congestion, Memory), env: &mut Env<'_>) -> bool {
        if !self.flags.any(Flags::SACK) || !self.start_board(env) {
            return false;
        }
        let (una, nxt, has_stamps) = (self.snd.una, self.snd.nxt, self.flags.any(Flags::STAMPS));
        let Some((loss, pool)) = self.loss(env.shared) else { return false };
        loss.doubt = Doubt::None;
        if loss.phase == Phase::Open {
            loss.undo = Some(Undo::new(saved, una, &loss.board, pool));
            if !has_stamps {
                loss.doubt = Doubt::Asked;
            }
        }
        let (reneged, known) = (loss.board.is_reneged(pool), loss.board.lost());
        loss.board.lose_all(pool, una, reneged);
        loss.total = loss.total.wrapping_add(loss.board.lost() - known);
        loss.rack.forget_path();
        (loss.phase, loss.recover, loss.probe) = (Phase::AfterTimeout, nxt, None);
        self.snd.cursor = nxt;
        self.flags.set(Flags::REPAIR);
        true
    }

    /// Lets everything in flight be sent again that the peer has not got, and it was not congestion.
    pub(super) fn resend_all(&mut self, env: &mut Env<'_>) -> bool {
        if !self.flags.any(Flags::BOARD) {
            return false;
        }
        let una = self.snd.una;
        let Some((loss, pool)) = self.loss(env.shared) else { return false };
        loss.board.lose_all(pool, una, false);
        self.flags.set(Flags::REPAIR);
        true
    }

    /// The first octets that are lost, as far as the window for repairs reaches.
    pub(super) fn poll_lost(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        if self.is_held_back(env) {
            return None;
        }
        self.flags.clear(Flags::REPAIR);
        let (una, mss) = (self.snd.una, u32::from(self.snd.mss));
        let (flight, cwnd) = (self.snd.flight(), self.congestion.cwnd());
        let paced = self.flags.any(Flags::MODEL);
        let (loss, pool) = self.loss(env.shared)?;
        let run = loss.board.first_lost(pool, una).filter(|_| loss.doubt != Doubt::Sent)?;
        let (pipe, len) = (loss.pipe(flight), run.len().min(mss));
        if pipe > 0 && pipe + len > loss.window(cwnd, paced) {
            return None;
        }
        let out = self.send_again(run.start, run.end, env);
        // And what follows, as long as there is room.
        self.flags.set(Flags::REPAIR);
        Some(out)
    }

    /// As much of `start..end`, which was sent before, as one segment takes.
    pub(super) fn send_again(&mut self, start: Seq, end: Seq, env: &mut Env<'_>) -> Outgoing {
        let text_end = self.snd.una + self.send_buf.len();
        let stop = if text_end.before(end) { text_end } else { end };
        let len = if start.before(stop) { stop.since(start) } else { 0 };
        let len = len.min(u32::from(self.snd.mss));
        let fin = self.snd.fin == Fin::Sent && start + len == text_end && text_end.before(end);
        self.send_at(start, len, fin, env)
    }

    /// Octets that the congestion window leaves for text that was never sent.
    pub(super) fn room_for_new(&self, shared: &Shared) -> u32 {
        let Some(cold) = self.cold(shared) else { return 0 };
        let paced = self.flags.any(Flags::MODEL);
        cold.loss.window(self.congestion.cwnd(), paced).saturating_sub(cold.loss.pipe(self.snd.flight()))
    }

    /// What must hold of the scoreboard; for tests and simulations.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check_board(&self, shared: &Shared) {
        let Some(cold) = self.cold(shared) else {
            assert!(!self.flags.any(Flags::BOARD), "{self:?}");
            return;
        };
        assert_eq!(self.flags.any(Flags::BOARD), !cold.loss.board.is_empty(), "{self:?} {:?}", cold.loss);
        if self.flags.any(Flags::BOARD) {
            let (una, nxt) = (self.snd.una, self.snd.nxt);
            cold.loss.board.check(&shared.sent, una, nxt);
            let in_flight: u32 = cold.loss.board.in_flight(&shared.sent, una).map(|run| run.len()).sum();
            assert_eq!(cold.loss.pipe(nxt.since(una)), in_flight, "{self:?} {:?}", cold.loss);
        }
        let is_over = cold.loss.recover.at_or_before(self.snd.una);
        assert!(cold.loss.phase == Phase::Open || !is_over, "a repair of nothing: {self:?} {:?}", cold.loss);
    }
}
