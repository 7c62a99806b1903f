//! Repairs that were not needed, found and taken back: by D-SACKs (RFC 3708), by timestamps (RFC 4015), or where
//! those are missing by sending what is new first (F-RTO with SACK, RFC 5682 §3.1).
#![forbid(unsafe_code)]

use super::arrives::stamp_before;
use super::congestion::{Congestion, Memory};
use super::flags::Flags;
use super::loss::{Loss, Phase, Report};
use super::scoreboard::{Scoreboard, SentPool};
use super::segment::{Outgoing, Segment};
use super::tcb::{Env, Tcb};
use crate::base::{Counter, Seq};

/// What to go back to when a repair turns out not to have been needed.
#[derive(Clone, Copy, Debug)]
pub struct Undo {
    pub(super) congestion: (Congestion, Memory),
    /// SND.UNA when the repair began.
    una: Seq,
    /// Segments sent again that no D-SACK has reported as duplicates.
    pub(super) again: u16,
    /// TSval of the first of them.
    pub(super) stamp: Option<u32>,
    /// Nothing in flight had been sent again before, so that an older echo means a first copy.
    by_stamp: bool,
}

impl Undo {
    /// A repair begins at SND.UNA = `una`, where the window and its memory were `congestion`.
    pub(super) fn new(
        congestion: (Congestion, Memory),
        una: Seq,
        board: &Scoreboard,
        pool: &SentPool,
    ) -> Self {
        let by_stamp = !board.in_flight(pool, una).any(|run| run.again);
        Self { congestion, una, again: 0, stamp: None, by_stamp }
    }

    /// With which stamp an echo has to be compared.
    pub(super) fn stamp(&self) -> Option<u32> {
        self.stamp.filter(|_| self.by_stamp)
    }
}

/// How far the question has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Doubt {
    /// It is not asked, or was answered.
    #[default]
    None,
    /// The first segment goes again, and is to be acknowledged (step 1).
    Asked,
    /// It was: text that was never sent goes before anything else goes again (step 2).
    Forward,
    /// It went: the next acknowledgment decides (step 3).
    Sent,
}

/// What a segment says of octets that have left the network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delivered {
    /// How many they are.
    pub(super) octets: u32,
    /// Some of them were in flight when the repair began, and were never sent again.
    pub(super) original: bool,
    /// Some of them were sent for the first time after that.
    pub(super) beyond: bool,
}

impl Loss {
    /// Whether an acknowledgment, which moved SND.UNA or not and said that so much was delivered, shows that the
    /// timeout was none.
    fn judge_timeout(&mut self, moved: bool, delivered: Delivered, is_recovered: bool) -> bool {
        let says_nothing = !moved && delivered.octets == 0;
        let (next, spurious) = match self.doubt {
            Doubt::None => return false,
            doubt if says_nothing => (doubt, false),
            Doubt::Asked if moved && !is_recovered => (Doubt::Forward, false),
            Doubt::Asked => (Doubt::None, false),
            // Step 3 (a): new text arrived and what went before it did not; (b): what was not sent again arrived.
            Doubt::Forward | Doubt::Sent => (Doubt::None, delivered.original && !delivered.beyond),
        };
        self.doubt = next;
        spurious
    }
}

impl Tcb {
    /// A D-SACK: one segment less was sent again for good reason. When none is left the whole repair had none
    /// (RFC 3708).
    pub(super) fn hear_duplicate(&mut self, report: &Report, env: &mut Env<'_>) {
        let Some((left, _)) = report.duplicate else { return };
        env.counters.add(Counter::DuplicatesReported);
        let nxt = self.snd.nxt;
        let Some((loss, _)) = self.loss(env.shared) else { return };
        loss.rack.duplicate_reported(nxt);
        let Some(undo) = &mut loss.undo else { return };
        if undo.una.at_or_before(left) && left.before(loss.recover) && undo.again > 0 {
            undo.again -= 1;
            if undo.again == 0 {
                self.undo(env);
            }
        }
    }

    /// RFC 4015 §3: the first acknowledgment of what was sent again echoes a stamp from before that, so the first
    /// copy had arrived.
    pub(super) fn undo_if_early(&mut self, seg: &Segment<'_>, before: Seq, env: &mut Env<'_>) {
        let echo = seg.stamps.filter(|_| self.flags.any(Flags::STAMPS)).map(|stamps| stamps.ecr);
        let una = self.snd.una;
        let Some((loss, _)) = self.loss(env.shared) else { return };
        let again = loss.undo.filter(|_| loss.phase != Phase::Open).and_then(|undo| undo.stamp());
        if before.before(una) && echo.zip(again).is_some_and(|(echo, again)| stamp_before(echo, again)) {
            self.undo(env);
        }
    }

    /// The repair was not needed: everything as if it had not begun.
    fn undo(&mut self, env: &mut Env<'_>) {
        let Some((loss, pool)) = self.loss(env.shared) else { return };
        let Some(undo) = loss.undo.take() else { return };
        if loss.phase == Phase::AfterTimeout {
            // It may have taken the first copy's arrival for that of the second, and what was sent between for lost.
            loss.rack.restart();
        } else {
            // RFC 8985 §6.2 step 3 cannot see it: by the time it arrives it has been sent again.
            loss.rack.overtaken();
        }
        (loss.phase, loss.doubt) = (Phase::Open, Doubt::None);
        loss.board.find_again(pool);
        let (congestion, memory) = undo.congestion;
        if self.congestion.cwnd() < congestion.cwnd() {
            self.congestion = congestion;
            self.cold_mut(env.shared).expect("it has losses").congestion = memory;
        }
        self.undo_in_model(env.shared);
        self.reduction_undone();
        self.timeouts = 0;
        self.flags.clear(Flags::REPAIR);
        env.counters.add(Counter::SpuriousRecoveries);
    }

    /// Steps 2 and 3: takes the timeout back when this acknowledgment shows that it was none.
    pub(super) fn undo_timeout_if_spurious(&mut self, moved: bool, delivered: Delivered, env: &mut Env<'_>) {
        let una = self.snd.una;
        let Some((loss, _)) = self.loss(env.shared) else { return };
        if loss.phase != Phase::AfterTimeout {
            loss.doubt = Doubt::None;
            return;
        }
        let is_recovered = loss.recover.at_or_before(una);
        if loss.judge_timeout(moved, delivered, is_recovered) {
            self.undo(env);
        }
    }

    /// Step 2: new text, as far as the window reaches, which is two segments. Where there is none the repair goes on as
    /// after any timeout.
    pub(super) fn poll_forward(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        let (loss, _) = self.loss(env.shared)?;
        if !matches!(loss.doubt, Doubt::Forward | Doubt::Sent) {
            return None;
        }
        let out = if self.snd.cursor == self.snd.nxt { self.poll_text(false, env) } else { None };
        let (loss, _) = self.loss(env.shared)?;
        if out.is_some() {
            loss.doubt = Doubt::Sent;
            self.flags.set(Flags::REPAIR);
        } else if loss.doubt == Doubt::Forward {
            loss.doubt = Doubt::None;
        }
        out
    }
}
