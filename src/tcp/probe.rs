//! Tail loss probes (RFC 8985 §7): where nothing follows that would show a loss, something is sent that does.
#![forbid(unsafe_code)]

use super::flags::Flags;
use super::loss::{Loss, Phase, Report};
use super::segment::{Outgoing, Segment};
use super::tcb::{Env, Fin, Tcb};
use crate::base::{Counter, Seq};

/// A tail loss probe that was sent (RFC 8985 §7).
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// TLP.end_seq.
    pub(super) end: Seq,
    /// TLP.is_retrans.
    pub(super) again: bool,
}

impl Tcb {
    /// RFC 8985 §7.2: microseconds until a probe is to be sent, if one is to be.
    ///
    /// Never for a single segment in flight: the worst delay of its acknowledgment would have to be added, and
    /// then the retransmission timer is always first.
    #[inline]
    pub(super) fn probe_timeout(&self, env: &Env<'_>) -> Option<u32> {
        /// How late a peer's or our own turn may be: timers and schedulers, microseconds.
        const GRAIN_US: u32 = 2_000;
        let srtt_us = self.rtt.srtt_us();
        let may = self.flags.any(Flags::SACK)
            && env.config.tail_loss_probes
            && srtt_us > 0
            && self.timeouts == 0
            && self.snd.wnd > 0;
        let quiet =
            |loss: &Loss| loss.phase == Phase::Open && loss.probe.is_none() && loss.board.sacked() == 0;
        let allowed = may && self.cold(env.shared).is_none_or(|cold| quiet(&cold.loss));
        allowed.then(|| srtt_us.saturating_mul(2).saturating_add(GRAIN_US))
    }

    /// RFC 8985 §7.3: nothing was heard for a while, so a segment asks for an answer; the next time it is a timeout.
    pub(super) fn on_probe_timer(&mut self, env: &mut Env<'_>) {
        self.flags.clear(Flags::PROBING);
        if self.snd.flight() > 0 && self.probe_timeout(env).is_some() && self.start_board(env) {
            self.flags.set(Flags::TAIL_PROBE);
        }
        self.start_timeout(env);
    }

    /// The probe: new text if there is any, else the last segment again.
    pub(super) fn poll_tail_probe(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        self.flags.clear(Flags::TAIL_PROBE);
        let (flight, mss) = (self.snd.flight(), u32::from(self.snd.mss));
        if flight == 0 || !self.flags.any(Flags::BOARD) {
            return None;
        }
        let nxt = self.snd.nxt;
        let unsent = self.send_buf.len().saturating_sub(flight);
        let new = unsent.min(mss).min(self.snd.wnd.saturating_sub(flight));
        let again = new == 0 || self.snd.cursor != nxt;
        let out = if again {
            // All but the last segment of a flight are full, most of the time.
            let last = (flight - 1) % mss + 1;
            self.send_again(nxt - last, nxt, env)
        } else {
            let fin = self.snd.fin == Fin::Queued && new == unsent && flight + new < self.snd.wnd;
            self.send_at(nxt, new, fin, env)
        };
        env.counters.add(Counter::TailLossProbes);
        let end = self.snd.nxt;
        if let Some((loss, _)) = self.loss(env.shared) {
            loss.probe = Some(Probe { end, again });
        }
        Some(out)
    }

    /// RFC 8985 §7.4.2: whether the probe repaired a loss, which is congestion, or was not needed.
    pub(super) fn judge_probe(&mut self, seg: &Segment<'_>, before: Seq, report: &Report, env: &mut Env<'_>) {
        let (una, mss) = (self.snd.una, u32::from(self.snd.mss));
        let flight = self.snd.nxt.since(before);
        let moved = before.before(una);
        let Some((loss, _)) = self.loss(env.shared) else { return };
        let Some(probe) = loss.probe.filter(|probe| probe.end.at_or_before(seg.ack)) else { return };
        let needless = !probe.again
            || report.duplicate.is_some()
            || (!moved && seg.is_empty() && report.blocks.as_slice().is_empty());
        if needless {
            loss.probe = None;
        } else if probe.end.before(seg.ack) {
            loss.probe = None;
            if loss.phase == Phase::Open {
                loss.total = loss.total.wrapping_add(mss);
                self.reduce(flight, mss, env.shared);
            }
        }
    }
}
