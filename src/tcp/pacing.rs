//! Connections whose congestion control is a model of the path: what it is told of them, and the pace that it sets.
#![forbid(unsafe_code)]

use super::cold::{Shared, TcbCold};
use super::congestion::{Heard, Left, Memory, Model};
use super::flags::Flags;
use super::loss::Phase;
use super::tcb::{Env, Tcb};
use crate::base::{Instant, Micros32, Reading, Seq};

impl Tcb {
    /// Gives a connection that is open its model, if its algorithm needs one and one is left. It keeps it, and the
    /// record that names it, until it is over: a model is worth what it has seen.
    ///
    /// Without SACK nobody would tell it what arrives and what is lost.
    pub(super) fn start_model(&mut self, env: &mut Env<'_>) {
        if !self.congestion.needs_model() || !self.flags.any(Flags::SACK) {
            return;
        }
        let now = Micros32::floor(env.now);
        let una = self.snd.una;
        let Some(model) = env.shared.models.insert(Model::new(
            self.congestion.cwnd(),
            self.rtt.srtt_us(),
            una,
            una.raw(),
            now,
        )) else {
            return;
        };
        match self.attach(env.shared) {
            Some(cold) => {
                cold.congestion = Memory::Model(model);
                self.flags.set(Flags::MODEL);
            }
            None => env.shared.models.remove(model),
        }
    }

    /// Where its model lies, if it has one.
    pub(super) fn model_at(&self, shared: &Shared) -> Option<u32> {
        match self.cold(shared)?.congestion {
            Memory::Model(at) => Some(at),
            _ => None,
        }
    }

    /// The model, if it has one.
    pub(super) fn model<'a>(&self, shared: &'a mut Shared) -> Option<&'a mut Model> {
        let at = self.model_at(shared)?;
        shared.models.at_mut(at)
    }

    /// Octets `seq..after` leave now; SND.NXT is still what it was.
    pub(super) fn pace(&mut self, seq: Seq, after: Seq, env: &mut Env<'_>) {
        let Some(cold) = self.cold(env.shared) else { return };
        let new = self.snd.nxt.before(after);
        let flight = self.snd.flight() + if new { after.since(self.snd.nxt) } else { 0 };
        let left = Left {
            end: after,
            octets: after.since(seq),
            new: new && seq == self.snd.nxt,
            in_flight: cold.loss.pipe(flight),
            dry: self.is_dry(cold, after),
            srtt_us: self.rtt.srtt_us(),
            mss: u32::from(self.snd.mss),
            now: Micros32::floor(env.now),
        };
        if let Some(model) = self.model(env.shared) {
            model.sent(&left);
        }
    }

    /// Whether less than a segment is left to send after what was sent up to `sent`: what keeps that back is Nagle's
    /// algorithm, and not the path.
    fn is_dry(&self, cold: &TcbCold, sent: Seq) -> bool {
        let unsent = self.send_buf.len().saturating_sub(sent.since(self.snd.una));
        cold.loss.board.lost() == 0 && unsent < u32::from(self.snd.mss)
    }

    /// Microseconds until text may leave that has to wait for its time. Nothing waits behind an empty flight: no answer
    /// would come to set a time by.
    fn waits_us(&self, shared: &Shared, now: impl Reading) -> u32 {
        let model = self.model_at(shared).and_then(|at| shared.models.at(at));
        let due = model.map_or(0, |model| model.due().ahead(now));
        if self.snd.flight() > 0 { due } else { 0 }
    }

    /// Whether text that is there has to wait for its time.
    #[inline(always)]
    pub(super) fn is_held_back(&self, env: &mut Env<'_>) -> bool {
        self.flags.any(Flags::MODEL) && self.hold_back(env)
    }

    #[inline(never)]
    fn hold_back(&self, env: &mut Env<'_>) -> bool {
        let waits = self.waits_us(env.shared, env.now) > 0;
        if let Some(model) = self.model(env.shared).filter(|_| waits) {
            model.hold_back();
        }
        waits
    }

    /// When text may leave that has to wait for its time; [`Instant::NEVER`] when none does.
    #[inline(always)]
    pub fn due(&self, now: impl Reading, shared: &Shared) -> Instant {
        if self.flags.any(Flags::MODEL) { self.paced_until(now, shared) } else { Instant::NEVER }
    }

    #[inline(never)]
    fn paced_until(&self, now: impl Reading, shared: &Shared) -> Instant {
        match self.waits_us(shared, now) {
            us if us > 0 && self.may_have_output() => Instant::from_micros(now.micros() + u64::from(us)),
            _ => Instant::NEVER,
        }
    }

    /// An acknowledgment was processed: the model hears what arrived, and what was lost.
    #[inline(never)]
    pub(super) fn tell_model(&mut self, env: &mut Env<'_>) {
        let Some(heard) = self.news_for_model(env) else { return };
        if let Some(model) = self.model(env.shared) {
            model.heard(&mut self.congestion, &heard);
        }
    }

    /// The retransmission timer expired, and the losses are counted.
    #[cold]
    pub(super) fn tell_model_of_timeout(&mut self, env: &mut Env<'_>) {
        let Some(heard) = self.news_for_model(env) else { return };
        if let Some(model) = self.model(env.shared) {
            model.timed_out(&heard);
        }
    }

    fn news_for_model(&self, env: &Env<'_>) -> Option<Heard> {
        let cold = self.cold(env.shared)?;
        Some(Heard {
            arrived: self.snd.una.raw().wrapping_add(cold.loss.board.sacked()),
            highest: self.highest(cold),
            lost: cold.loss.total,
            in_flight: cold.loss.pipe(self.snd.flight()),
            repairing: cold.loss.phase != Phase::Open,
            dry: self.is_dry(cold, self.snd.nxt),
            mss: u32::from(self.snd.mss),
            now: Micros32::floor(env.now),
        })
    }

    /// One past the highest octet known to have arrived. What a scoreboard knew that is closed says nothing any more,
    /// and 2^31 octets later it would seem to be ahead.
    pub(super) fn highest(&self, cold: &TcbCold) -> Seq {
        let una = self.snd.una;
        let known = if self.flags.any(Flags::BOARD) { cold.loss.highest() } else { None };
        known.map_or(una, |highest| una.later(highest))
    }

    /// The last repair had no reason.
    pub(super) fn undo_in_model(&mut self, shared: &mut Shared) {
        if let Some(model) = self.model(shared) {
            model.undo(&mut self.congestion);
        }
    }
}
