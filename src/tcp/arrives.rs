//! SEGMENT ARRIVES (RFC 9293 §3.10.7.4): the eight steps, in the RFC's order.
#![forbid(unsafe_code)]

use core::ops::ControlFlow::{self, Break, Continue};

use super::flags::Flags;
use super::recv_buf::InsertError;
use super::segment::{Outgoing, Segment, reset_for};
use super::state::Input;
use super::tcb::{Env, Fin, Tcb};
use super::timers::Timer;
use super::{CloseReason, Next, State};
use crate::base::{Counter, DropReason, Millis32, Reading, Seq};
use crate::wire::{Control, TcpOptions, Timestamps};

/// What a segment brought, for the stack to act on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrival<'a> {
    /// Why it went no further; its acknowledgment, if one is due, is already owed.
    pub dropped: Option<DropReason>,
    /// A reset to send back, the last ACK of an old incarnation, or what a half-open connection answers.
    pub reset: Option<Outgoing>,
    /// The connection reached ESTABLISHED.
    pub opened: bool,
    /// Urgent data ends so many octets ahead of RCV.NXT (RFC 9293 MUST-33).
    pub urgent: Option<u32>,
    /// New in-order text, to be offered to the user and then given to [`Tcb::accept_text`].
    pub text: &'a [u8],
}

/// Why the steps end early.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stop {
    /// The segment is dropped.
    Dropped(DropReason),
    /// It is dropped and answered; the connection stays.
    Refused(DropReason, Option<Outgoing>),
    /// The connection is over.
    Closed(CloseReason),
    /// The connection is over, and the peer gets a reset.
    Aborted(DropReason, Option<Outgoing>),
}

pub(super) type Step = ControlFlow<Stop>;

impl Tcb {
    /// TS.Recent is trusted for so long without being refreshed (RFC 7323 §5.5), milliseconds.
    const STAMP_LIFE_MS: u32 = 24 * 24 * 3_600 * 1_000;
    /// From a refused answer to the next SYN, microseconds: some ticks of anybody's timestamp clock, and
    /// little to wait.
    const SYN_AGAIN_US: u32 = 10_000;
    /// Acknowledgments sent for one batch at most: more duplicates tell the peer nothing.
    const ACKS_OWED_MAX: u8 = 8;

    /// One segment has arrived for this connection.
    ///
    /// The caller delivers [`Arrival::text`], then calls [`Tcb::accept_text`], unless it was dropped.
    pub fn on_segment<'a>(&mut self, seg: &Segment<'a>, env: &mut Env<'_>) -> Arrival<'a> {
        if self.is_predicted(seg) {
            self.look_if_due(seg, env);
            self.take_predicted(seg, env);
            return Arrival { text: seg.text, ..Arrival::default() };
        }
        let mut arrival = Arrival::default();
        self.on_unpredicted(&mut { *seg }, &mut arrival, env);
        arrival
    }

    /// [`Tcb::on_segment`], where the caller knows that it is not [predicted](Tcb::is_predicted); of `seg` only what is
    /// new is left.
    ///
    /// Nothing is copied: wide pieces would be read where narrow ones were just written, which the processor waits for.
    #[inline(never)]
    pub fn on_unpredicted<'a>(
        &mut self,
        seg: &mut Segment<'a>,
        arrival: &mut Arrival<'a>,
        env: &mut Env<'_>,
    ) {
        let step = if self.state == State::SynSent {
            self.steps_in_syn_sent(seg, arrival, env)
        } else {
            self.steps(seg, arrival, env)
        };
        if let Break(stop) = step {
            self.stop(stop, arrival, env);
        }
    }

    fn stop(&mut self, stop: Stop, arrival: &mut Arrival<'_>, env: &mut Env<'_>) {
        match stop {
            Stop::Dropped(reason) => arrival.dropped = Some(reason),
            Stop::Refused(reason, reset) => {
                arrival.dropped = Some(reason);
                arrival.reset = reset;
            }
            Stop::Closed(why) => {
                if matches!(why, CloseReason::Reset | CloseReason::Refused) {
                    env.counters.add(Counter::RstsIn);
                }
                self.finish(why);
            }
            Stop::Aborted(reason, reset) => {
                arrival.dropped = Some(reason);
                arrival.reset = reset;
                self.finish(CloseReason::Aborted);
            }
        }
    }

    /// All control flow is here; each step answers one question.
    fn steps<'a>(&mut self, seg: &mut Segment<'a>, arrival: &mut Arrival<'a>, env: &mut Env<'_>) -> Step {
        let outdated = self.is_stamp_outdated(env);
        self.trim_own_syn(seg);
        self.check_stamp(seg, outdated, env)?;
        self.check_sequence(seg, env)?;
        self.heard_at = Millis32::ceil(env.now);
        self.check_rst(seg, env)?;
        // Third, security and compartment: not supported (RFC 9293 §3.10.7.4 lets us), nothing to check.
        self.check_syn(seg, env)?;
        self.check_ack(seg, arrival, env)?;
        // Not before: what is dropped for its ACK may be forged, and PAWS would believe its timestamp.
        self.take_stamp(seg, outdated);
        self.check_urg(seg, arrival, env);
        if self.may_use_ecn() {
            self.hear_mark(seg, env);
        }
        self.check_text(seg, arrival, env)?;
        self.check_fin(seg, arrival, env);
        Continue(())
    }

    /// In SYN-RECEIVED after a simultaneous open the peer's SYN-ACK repeats the SYN we have: only its ACK is
    /// news (RFC 9293 Figure 8).
    fn trim_own_syn(&mut self, seg: &mut Segment<'_>) {
        let repeats = seg.has(Control::SYN) && seg.seq + 1 == self.rcv.nxt;
        if self.state == State::SynReceived && repeats && seg.has(Control::ACK) {
            self.agree_on_ecn(seg.ctl);
            // What is left is an ACK, and ECE would be an echo.
            seg.ctl = seg.ctl.without(Control::SYN | Control::ECE);
            seg.seq += 1;
            // RFC 7323 §2.2: a SYN's window is not scaled, that of the ACK it becomes is.
            seg.wnd >>= self.snd.shift;
        }
    }

    /// PAWS (RFC 7323 §5.3 R1), and timestamps on every segment once agreed (§3.2).
    fn check_stamp(&mut self, seg: &Segment<'_>, outdated: bool, env: &mut Env<'_>) -> Step {
        if !self.flags.any(Flags::STAMPS) || seg.has(Control::RST) {
            return Continue(());
        }
        let Some(stamps) = seg.stamps else {
            return Break(Stop::Dropped(DropReason::NoTimestamp));
        };
        if !stamp_before(stamps.val, self.ts.recent) || outdated {
            return Continue(());
        }
        self.owe_ack_for(seg, env);
        Break(Stop::Dropped(DropReason::Paws))
    }

    /// Whether the connection was idle for so long that TS.Recent proves nothing (RFC 7323 §5.5).
    fn is_stamp_outdated(&self, env: &Env<'_>) -> bool {
        self.heard_at.elapsed(env.now) > Self::STAMP_LIFE_MS
    }

    /// First: is any of it in the window?
    fn check_sequence(&mut self, seg: &mut Segment<'_>, env: &mut Env<'_>) -> Step {
        if self.rcv.is_acceptable(seg.seq, seg.len()) {
            return Continue(());
        }
        // RFC 9293 §3.10.7.4: at a closed window, valid ACKs, URGs and RSTs are still taken (MUST-66).
        if self.rcv.wnd() == 0 && seg.seq == self.rcv.nxt && !seg.has(Control::SYN) {
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
            seg.text = &[];
            seg.ctl = seg.ctl.without(Control::FIN);
            return Continue(());
        }
        // A RST out of the window gets no answer, or two confused peers would talk for ever.
        if !seg.has(Control::RST) {
            self.note_taken(seg);
            self.owe_ack_for(seg, env);
            self.note_duplicate(seg.seq, seg.seq + seg.text_len(), env);
        }
        Break(Stop::Dropped(DropReason::OutOfWindow))
    }

    /// A segment that is not believed acknowledges all that was sent, beyond the window that we know of: the peer has
    /// taken it, and believes us no further back. Where windows close on both sides, and probes cross, each would else
    /// answer the other from where that one believes nothing, without end.
    fn note_taken(&mut self, seg: &Segment<'_>) {
        if seg.has(Control::ACK) && seg.ack == self.snd.nxt && self.state.is_synchronized() {
            self.snd.wnd = self.snd.wnd.max(self.snd.flight());
        }
    }

    /// Second: only a RST at exactly RCV.NXT resets (RFC 5961 §3.2).
    fn check_rst(&mut self, seg: &Segment<'_>, env: &mut Env<'_>) -> Step {
        if !seg.has(Control::RST) {
            return Continue(());
        }
        if self.state == State::TimeWait && env.config.rfc1337 {
            return Break(Stop::Dropped(DropReason::TimeWait));
        }
        if seg.seq != self.rcv.nxt {
            self.challenge(env);
            return Break(Stop::Dropped(DropReason::RstNotExact));
        }
        Break(Stop::Closed(match self.state {
            State::SynReceived => CloseReason::Refused,
            // Everything was said and heard; only the last acknowledgment was not.
            State::Closing | State::LastAck if self.send_buf.is_empty() => CloseReason::Finished,
            // Not even that is missing. The TCB is here for the text that its user has yet to read.
            State::TimeWait => CloseReason::Finished,
            _ => CloseReason::Reset,
        }))
    }

    /// Fourth: a SYN in a synchronized state is never believed (RFC 5961 §4.2).
    fn check_syn(&mut self, seg: &Segment<'_>, env: &mut Env<'_>) -> Step {
        if !seg.has(Control::SYN) {
            return Continue(());
        }
        self.challenge(env);
        Break(Stop::Dropped(DropReason::UnexpectedSyn))
    }

    /// RFC 7323 §4.3 (2) and (3): the stamp to echo is that of the segment that made the last ACK move.
    fn take_stamp(&mut self, seg: &Segment<'_>, outdated: bool) {
        let Some(Timestamps { val, .. }) = seg.stamps else { return };
        let newer = !stamp_before(val, self.ts.recent) || outdated;
        // After the peer's FIN nothing is timed any more, and TIME-WAIT wants the latest stamp there is.
        let last =
            || !self.state.may_receive() || (seg.has(Control::FIN) && seg.seq.at_or_before(self.rcv.nxt));
        if self.flags.any(Flags::STAMPS) && newer && (seg.seq.at_or_before(self.rcv.acked) || last()) {
            self.ts.recent = val;
        }
    }

    /// Sixth: the urgent pointer names the octet after urgent data (RFC 6093 §3, RFC 9293 MUST-30, MUST-62), which may
    /// be as long as it likes (MUST-31); text stays in line.
    fn check_urg(&mut self, seg: &Segment<'_>, arrival: &mut Arrival<'_>, env: &mut Env<'_>) {
        if !seg.has(Control::URG) || !self.state.may_receive() {
            return;
        }
        let up = seg.seq + u32::from(seg.up);
        // No valid pointer reaches further; what seems to is from 2^31 octets ago.
        let reach = self.rcv.wnd() + u32::from(u16::MAX) + 1;
        let nxt = self.rcv.nxt;
        let known = self.cold(env.shared).and_then(|cold| cold.urgent);
        let known = known.filter(|known| known.in_window(nxt, reach)).unwrap_or(nxt);
        if known.before(up) {
            arrival.urgent = Some(up.since(nxt));
            // Where no record is left to remember it, the same end may be told twice.
            if let Some(cold) = self.attach(env.shared) {
                cold.urgent = Some(up);
            }
        }
    }

    /// Seventh: text in order is offered to the user, text ahead of RCV.NXT is kept for reassembly.
    pub(super) fn check_text<'a>(
        &mut self,
        seg: &Segment<'a>,
        arrival: &mut Arrival<'a>,
        env: &mut Env<'_>,
    ) -> Step {
        if seg.text.is_empty() || !self.state.may_receive() {
            return Continue(());
        }
        let seq = seg.seq + u32::from(seg.has(Control::SYN));
        let old = if seq.before(self.rcv.nxt) { self.rcv.nxt.since(seq) } else { 0 };
        self.note_duplicate(seq, seq + seg.text_len(), env);
        let Some(text) = seg.text.get(old as usize..).filter(|text| !text.is_empty()) else {
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
            return Continue(());
        };
        if self.flags.any(Flags::READER_GONE) {
            // RFC 9293 §3.6.1 (MAY-1, SHLD-3): nobody will ever read it, and the peer should know.
            let reset = Outgoing::bare(self.seq_for_control(), self.rcv.nxt, Control::RST | Control::ACK);
            return Break(Stop::Aborted(DropReason::TextAfterClose, Some(reset)));
        }
        let seq = seq + old;
        let text = &text[..text.len().min(self.rcv.edge.since(seq) as usize)];
        if seq == self.rcv.nxt {
            self.look_if_due(seg, env);
            arrival.text = text;
            return Continue(());
        }
        // RFC 5681 §4.2: each segment out of order is acknowledged at once, and by itself.
        self.rcv.acks_owed = (self.rcv.acks_owed + 1).min(Self::ACKS_OWED_MAX);
        self.rcv.be_quick(env.config.quick_acks);
        match self.keep_out_of_order(seq.since(self.rcv.nxt), text, env) {
            Ok(()) => {
                env.counters.add(Counter::OutOfOrder);
                Continue(())
            }
            Err(InsertError::Full) => Break(Stop::Dropped(DropReason::ReassemblyFull)),
            Err(InsertError::NoBuffer) => Break(Stop::Dropped(DropReason::NoBuffer)),
        }
    }

    /// Owes the ACK that answers a segment out of place; an empty one only within the rate limit, or two
    /// confused peers would answer each other without end.
    fn owe_ack_for(&mut self, seg: &Segment<'_>, env: &mut Env<'_>) {
        if seg.is_empty() {
            self.challenge(env);
        } else {
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
        }
    }

    /// RFC 5961 §7: owes a challenge ACK if the rate limit has one left.
    pub(super) fn challenge(&mut self, env: &mut Env<'_>) {
        if env.shared.challenge.allow(env.now.instant(), env.config.challenge_acks_per_second) {
            env.counters.add(Counter::ChallengeAcks);
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
        } else {
            env.counters.add(Counter::ChallengeAcksLimited);
        }
    }

    /// Makes the transition of Figure 5.
    pub(super) fn apply(&mut self, input: Input) {
        match self.state.next(input) {
            Next::Stay => {}
            Next::Move(state) => self.state = state,
            Next::Free => self.finish(CloseReason::Finished),
        }
    }

    /// The connection is over; the first reason stands.
    pub(super) fn finish(&mut self, why: CloseReason) {
        self.closed.get_or_insert(why);
        self.cancel_protocol_timers();
        self.rcv.acks_owed = 0;
    }

    /// SYN-SENT (RFC 9293 §3.10.7.3): its own order of steps.
    fn steps_in_syn_sent<'a>(
        &mut self,
        seg: &Segment<'a>,
        arrival: &mut Arrival<'a>,
        env: &mut Env<'_>,
    ) -> Step {
        let acks = seg.has(Control::ACK);
        let acceptable = acks && self.snd.una.before(seg.ack) && seg.ack.at_or_before(self.snd.nxt);
        if acks && !acceptable {
            return Break(self.refuse(DropReason::BadAck, seg, env));
        }
        if seg.has(Control::RST) {
            // RFC 5961 §3.2: a reset here is only believed when it acknowledges our SYN.
            return Break(if acceptable {
                Stop::Closed(CloseReason::Refused)
            } else {
                Stop::Dropped(DropReason::RstNotExact)
            });
        }
        if !seg.has(Control::SYN) {
            return Break(Stop::Dropped(DropReason::NoAck));
        }
        if self.is_waiting_to_follow() && !self.is_newer_incarnation(seg, env) {
            return Break(self.refuse(DropReason::Paws, seg, env));
        }
        self.heard_at = Millis32::ceil(env.now);
        self.agree(seg.seq, seg.wnd, &TcpOptions::parse(seg.options), env);
        self.agree_on_ecn(seg.ctl);
        self.rcv.acks_owed = 1;
        if acks {
            self.syn_acked(seg, arrival, env);
        } else {
            // Simultaneous open (MUST-10): our SYN goes again, now with an ACK.
            self.snd.cursor = self.snd.una;
            self.apply(Input::Syn);
        }
        self.check_urg(seg, arrival, env);
        self.check_text(seg, arrival, env)?;
        self.check_fin(seg, arrival, env);
        Continue(())
    }

    /// SYN-SENT, and the peer is not there yet: the answer ends what it has of an old incarnation, so that the
    /// next SYN has nothing in its way. That one need not wait for the timeout of a lost one, once.
    fn refuse(&mut self, reason: DropReason, seg: &Segment<'_>, env: &Env<'_>) -> Stop {
        if self.timeouts == 0 && !seg.has(Control::RST) {
            self.hasten_retransmit_timer(Self::SYN_AGAIN_US, env.now, Flags::default());
        }
        Stop::Refused(reason, self.ack_of_old(seg, env).or_else(|| reset_for(seg)))
    }

    /// What TIME-WAIT would answer: a peer in LAST-ACK that has not heard our last ACK gets it now, where a
    /// reset would have it believe that its text was lost.
    fn ack_of_old(&self, seg: &Segment<'_>, env: &Env<'_>) -> Option<Outgoing> {
        let (snd_nxt, rcv_nxt) = (self.snd.wl1, self.snd.wl2);
        let old = match seg.is_empty() {
            true => seg.seq == rcv_nxt,
            false => (seg.seq + seg.len()).at_or_before(rcv_nxt),
        };
        let heard_all = seg.has(Control::ACK) && seg.ack == snd_nxt;
        let answers =
            self.is_waiting_to_follow() && old && heard_all && !seg.has(Control::SYN | Control::RST);
        answers.then(|| Outgoing {
            stamps: self.stamps(env.now),
            ..Outgoing::bare(snd_nxt, rcv_nxt, Control::ACK)
        })
    }

    /// Whether no segment of the incarnation that we follow can pass for one of this: by RFC 6191's rule,
    /// as the peer would apply it to us.
    fn is_newer_incarnation(&self, syn: &Segment<'_>, env: &Env<'_>) -> bool {
        let (rcv_nxt, stamp) = (self.snd.wl2, self.ts.recent);
        let newer = syn.stamps.is_some_and(|stamps| stamp_after(stamps.val, stamp));
        rcv_nxt.at_or_before(syn.seq) || (newer && env.config.timestamps)
    }

    /// Our FIN is acknowledged.
    pub(super) fn fin_acked(&mut self, env: &Env<'_>) {
        self.snd.fin = Fin::Acked;
        self.cancel(Timer::User);
        self.apply(Input::FinAcked);
        match self.state {
            State::FinWait2 if self.flags.any(Flags::READER_GONE) => {
                self.set_timer(Timer::Idle, env.config.fin_wait_2, env.now);
            }
            State::TimeWait => self.cancel_protocol_timers(),
            _ => {}
        }
    }
}

/// Circular comparison of timestamps (RFC 7323 §5.2).
pub(super) const fn stamp_before(a: u32, b: u32) -> bool {
    Seq::new(a).before(Seq::new(b))
}

/// `a` is strictly later: half a circle away, where nobody can tell, it is not.
pub(super) const fn stamp_after(a: u32, b: u32) -> bool {
    a != b && !stamp_before(a, b)
}
