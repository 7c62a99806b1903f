//! The fifth step of SEGMENT ARRIVES: what SEG.ACK and SEG.WND say to the sender.
#![forbid(unsafe_code)]

use core::ops::ControlFlow::{Break, Continue};

use super::arrives::{Arrival, Step, Stop};
use super::cold::Shared;
use super::flags::Flags;
use super::recovery::Repair;
use super::segment::{Segment, reset_for};
use super::settings::Settings;
use super::state::Input;
use super::tcb::{Env, Fin, Tcb};
use super::timers::Timer;
use super::window::INITIAL_WINDOW;
use super::{CloseReason, State};
use crate::base::{Counter, DropReason, Millis32, Seq};
use crate::wire::Control;

impl Tcb {
    /// Fifth: is the ACK acceptable, and what does it acknowledge?
    pub(super) fn check_ack(
        &mut self,
        seg: &Segment<'_>,
        arrival: &mut Arrival<'_>,
        env: &mut Env<'_>,
    ) -> Step {
        if !seg.has(Control::ACK) {
            return Break(Stop::Dropped(DropReason::NoAck));
        }
        if self.state == State::SynReceived {
            if !self.snd.una.before(seg.ack) || !seg.ack.at_or_before(self.snd.nxt) {
                return Break(Stop::Refused(DropReason::BadAck, reset_for(seg)));
            }
            self.syn_acked(seg, arrival, env);
            return Continue(());
        }
        // RFC 5961 §5.2: SND.UNA - MAX.SND.WND <= SEG.ACK <= SND.NXT.
        let oldest = self.snd.una - self.snd.max_wnd;
        if self.snd.nxt.before(seg.ack) || seg.ack.before(oldest) {
            self.challenge(env);
            return Break(Stop::Dropped(DropReason::BadAck));
        }
        let (flight, echo) = (self.snd.flight(), self.is_echo(seg) && self.snd.una.at_or_before(seg.ack));
        if self.snd.una.before(seg.ack) {
            // RFC 3168 §6.1.2: what echoes a mark widens no window.
            self.progress(seg, !echo, env);
            if self.snd.fin == Fin::Sent && self.snd.una == self.snd.nxt {
                self.fin_acked(env);
            }
        } else {
            let duplicate = self.is_duplicate(seg);
            env.counters.add_n(Counter::DuplicateAcks, duplicate.into());
            if !self.flags.any(Flags::SACK) {
                if duplicate {
                    self.duplicate(env);
                }
            } else if seg.ack == self.snd.una && (self.flags.any(Flags::BOARD) || seg.has_more_options()) {
                self.hear(seg, seg.ack, env);
            }
            if self.flags.any(Flags::MODEL) {
                self.tell_model(env);
            }
        }
        if echo {
            self.hear_echo(flight, env);
        }
        self.update_window(seg, env);
        if self.snd.wnd > 0 {
            self.probes = 0;
        }
        match self.closed {
            Some(_) => Break(Stop::Closed(CloseReason::Finished)),
            None => Continue(()),
        }
    }

    /// Our SYN is acknowledged: ESTABLISHED, with the window of this segment.
    pub(super) fn syn_acked(&mut self, seg: &Segment<'_>, arrival: &mut Arrival<'_>, env: &mut Env<'_>) {
        let (is_measured, is_lost) = (self.take_rtt_sample(seg, env).is_some(), self.timeouts > 0);
        if self.timeouts > 1 {
            // RFC 5681 §3.1, but since the first timeout is short only after a second one (RFC 6928 §2): the window
            // begins at one segment.
            self.congestion.on_idle(u32::from(self.snd.mss), None);
        }
        self.timeouts = 0;
        self.mss_most = self.snd.mss;
        self.snd.una = seg.ack;
        self.snd.cursor = seg.ack;
        // RFC 7323 §2.2: the window of a SYN is not scaled, that of an ACK is.
        let shift = if seg.has(Control::SYN) { 0 } else { self.snd.shift };
        self.snd.wnd = u32::from(seg.wnd) << shift;
        self.snd.max_wnd = self.snd.wnd.max(self.snd.max_wnd);
        self.snd.wl1 = seg.seq;
        self.snd.wl2 = seg.ack;
        self.progress_at = Millis32::ceil(env.now);
        self.cancel(Timer::Retransmit);
        self.cancel(Timer::User);
        self.apply(Input::SynAcked);
        arrival.opened = true;
        self.start_model(env);
        if !is_measured {
            // Not before: milliseconds are too coarse for a model of the path, which keeps the least that it is told.
            self.take_echo_sample(seg, env);
        }
        if is_lost {
            // RFC 6298 (5.7), where timestamps did not tell.
            self.rtt.after_lost_syn();
        }
        env.counters.add(Counter::Established);
        env.counters.add_n(Counter::EcnAgreed, self.is_ecn_sender().into());
        let &Settings { keep_idle, recv_initial, .. } = env.shared.settings.get(self.settings);
        if let Some(idle) = keep_idle {
            self.set_timer_from(Timer::Idle, Millis32::ceil(env.now), idle.get());
        }
        if recv_initial > INITIAL_WINDOW {
            self.widen_at_first(recv_initial, env);
        }
        if self.snd.fin != Fin::None {
            // The user closed in SYN-RECEIVED; it was queued until now (RFC 9293 §3.10.4).
            self.apply(Input::Close);
        }
    }

    /// SEG.ACK is beyond SND.UNA: octets leave the send buffer, and everything that waits for them learns; so does
    /// the congestion window if it `grows`.
    #[inline(always)]
    pub(super) fn progress(&mut self, seg: &Segment<'_>, grows: bool, env: &mut Env<'_>) {
        let acked = seg.ack.since(self.snd.una);
        let flight = self.snd.flight();
        let text = acked.min(self.send_buf.len());
        let freed = if text > 0 { self.send_buf.advance(&mut env.shared.send, text) } else { 0 };
        let rtt_us = self.take_rtt_sample(seg, env);
        self.snd.una = seg.ack;
        self.snd.cursor = self.snd.cursor.later(seg.ack);
        self.timeouts = 0;
        self.flags.clear(Flags::FORCE | Flags::REPAIR);
        self.progress_at = Millis32::ceil(env.now);

        // RFC 6298 (5.2) and (5.3).
        if self.snd.flight() == 0 {
            self.cancel(Timer::Retransmit);
        } else {
            self.restart_retransmit_timer(seg, env);
        }
        let recovering = (self.flags.any(Flags::ATTACHED) || seg.has_more_options())
            && self.progress_in_recovery(seg, (acked, freed), env);
        if grows && !recovering {
            self.grow_window(seg, (acked, flight), rtt_us, env);
        }
        if self.flags.any(Flags::MODEL) {
            self.tell_model(env);
        }
    }

    /// Whether a loss is being repaired: SEG.ACK acknowledged `acked` octets, and the send queue moved by `freed`
    /// octets of chunks.
    fn progress_in_recovery(
        &mut self,
        seg: &Segment<'_>,
        (acked, freed): (u32, u32),
        env: &mut Env<'_>,
    ) -> bool {
        if let Some(cold) = self.cold_mut(env.shared) {
            cold.cursors.drop_front(freed);
        }
        let recovering = if self.flags.any(Flags::SACK) {
            self.hear(seg, seg.ack - acked, env)
        } else {
            self.repair_by_counting(seg.ack, acked, env.shared)
        };
        if self.snd.mss < self.mss_most {
            self.search_path(env);
        }
        self.detach_idle(env.shared);
        recovering
    }

    /// Without SACK: whether duplicate acknowledgments had shown a loss that is being repaired.
    fn repair_by_counting(&mut self, ack: Seq, acked: u32, shared: &mut Shared) -> bool {
        let mss = u32::from(self.snd.mss);
        let Some(cold) = self.cold_mut(shared) else { return false };
        let recovering = cold.recovery.is_active();
        let repair = cold.recovery.on_progress(ack, acked, mss) == Repair::Retransmit;
        self.flags.put(Flags::REPAIR, repair);
        recovering
    }

    /// RFC 5681 §2: a duplicate acknowledgment has no text, no SYN or FIN, the same window, and comes while
    /// something is outstanding.
    fn is_duplicate(&self, seg: &Segment<'_>) -> bool {
        seg.ack == self.snd.una
            && self.snd.flight() > 0
            && seg.is_empty()
            && u32::from(seg.wnd) << self.snd.shift == self.snd.wnd
            && self.snd.wnd > 0
    }

    fn duplicate(&mut self, env: &mut Env<'_>) {
        let (mss, una, nxt) = (u32::from(self.snd.mss), self.snd.una, self.snd.nxt);
        let marked = self.is_reduced_for_marks(env.shared);
        // Where no record is left to count them in, the retransmission timer repairs what is lost.
        let Some(cold) = self.attach(env.shared) else { return };
        let before = (self.congestion, cold.congestion);
        let repair = cold.recovery.on_duplicate(una, nxt, mss, &mut self.congestion, &mut cold.congestion);
        if repair == Repair::Retransmit {
            if marked {
                (self.congestion, cold.congestion) = before;
            } else {
                self.reduced_for_loss();
            }
            env.counters.add(Counter::FastRetransmits);
            self.flags.set(Flags::REPAIR);
        }
    }

    /// RFC 9293 §3.10.7.4, fifth: the window moves only for segments that are not older than the last one
    /// that moved it.
    ///
    /// What acknowledges more is newer, though it be text sent again at an old number: SND.UNA has moved with
    /// it, and the old window beyond the new SND.UNA would be more than was ever offered.
    fn update_window(&mut self, seg: &Segment<'_>, env: &Env<'_>) {
        let newer = self.snd.wl2.before(seg.ack) || self.snd.wl1.at_or_before(seg.seq);
        if !newer || seg.ack.before(self.snd.una) {
            return;
        }
        let was_closed = self.snd.wnd == 0;
        self.snd.wnd = u32::from(seg.wnd) << self.snd.shift;
        self.snd.max_wnd = self.snd.max_wnd.max(self.snd.wnd);
        self.snd.wl1 = seg.seq;
        self.snd.wl2 = seg.ack;
        if was_closed && self.snd.wnd > 0 {
            self.window_opened(env);
        }
    }

    /// The receiver threw the probe's octet away; sending goes on where it left off, with fresh timers.
    fn window_opened(&mut self, env: &Env<'_>) {
        self.snd.cursor = self.snd.una;
        self.timeouts = 0;
        self.probes = 0;
        self.flags.clear(Flags::FORCE);
        self.progress_at = Millis32::ceil(env.now);
        if self.snd.flight() == 0 {
            self.cancel(Timer::Retransmit);
        } else {
            self.start_retransmit_timer(env);
        }
    }

    /// RFC 6298 §3 (Karn; RFC 9293 MUST-18): measures the one segment being timed, which was sent once.
    #[inline(always)]
    fn take_rtt_sample(&mut self, seg: &Segment<'_>, env: &Env<'_>) -> Option<u32> {
        if !self.flags.any(Flags::TIMED) || !self.timed_seq.before(seg.ack) {
            return None;
        }
        let rtt_us = self.timed_at.elapsed(env.now);
        self.rtt.sample(rtt_us, &env.config.rto);
        self.flags.clear(Flags::TIMED);
        Some(rtt_us)
    }

    /// RFC 7323 §4.1: an echo younger than the timer of a SYN is of the one that was sent last, which so measures though
    /// it was not the first. An older one tells nothing: who was sent a SYN again may still echo the first.
    #[cold]
    fn take_echo_sample(&mut self, seg: &Segment<'_>, env: &Env<'_>) {
        let echo =
            seg.stamps.map(|stamps| stamps.ecr).filter(|&echo| echo != 0 && self.flags.any(Flags::STAMPS));
        let rtt_us = echo.and_then(|echo| self.echoed_rtt_us(echo, env));
        if let Some(rtt_us) = rtt_us.filter(|&us| us < env.config.rto.initial_us) {
            self.rtt.sample(rtt_us.max(1_000), &env.config.rto);
        }
    }
}
