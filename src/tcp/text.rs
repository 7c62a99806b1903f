//! Text and FIN from where a segment was found acceptable to where RCV.NXT has moved over them.
#![forbid(unsafe_code)]

use super::State;
use super::arrives::{Arrival, stamp_before};
use super::flags::Flags;
use super::recv_buf::InsertError;
use super::segment::Segment;
use super::state::Input;
use super::tcb::{Env, Tcb};
use super::timers::Timer;
use crate::base::{Counter, DropReason, Seq};
use crate::wire::Control;

impl Tcb {
    /// Keeps `text`, which begins `offset` octets after RCV.NXT.
    pub(super) fn keep_out_of_order(
        &mut self,
        offset: u32,
        text: &[u8],
        env: &mut Env<'_>,
    ) -> Result<(), InsertError> {
        let cold = self.attach(env.shared).ok_or(InsertError::NoBuffer)?;
        let kept = cold.recv_buf.insert(env.recv, offset, text);
        let (unread, gaps) = (cold.recv_buf.unread() > 0, cold.recv_buf.has_gaps());
        self.note_kept(unread, gaps);
        self.detach_idle(env.shared);
        kept
    }

    /// RFC 2883 §4: if text at `left..right` was received before, the next ACK reports the first stretch of it, where
    /// SACK was agreed and a record is left.
    #[inline]
    pub(super) fn note_duplicate(&mut self, left: Seq, right: Seq, env: &mut Env<'_>) {
        if (left.before(self.rcv.nxt) || self.flags.any(Flags::GAPS)) && self.flags.any(Flags::SACK) {
            self.report_duplicate(left, right, env);
        }
    }

    #[cold]
    fn report_duplicate(&mut self, left: Seq, right: Seq, env: &mut Env<'_>) {
        if !self.state.is_synchronized() {
            // Nothing can be attached to what may never become a connection.
            return;
        }
        let nxt = self.rcv.nxt;
        let duplicate = if left.before(nxt) {
            Some((left, if right.before(nxt) { right } else { nxt }))
        } else {
            let (from, to) = (left.since(nxt), right.since(nxt));
            let known = self.cold(env.shared).and_then(|cold| cold.recv_buf.overlap(env.recv, from, to));
            known.map(|(from, to)| (nxt + from, nxt + to))
        };
        if let Some((left, right)) = duplicate
            && left.before(right)
            && let Some(cold) = self.attach(env.shared)
        {
            cold.duplicate = (left, right);
            self.flags.set(Flags::DUPLICATE);
            if left.before(nxt) {
                // At once, while the sender can still take back what it did. Beyond a gap that is so anyway.
                self.rcv.acks_owed = self.rcv.acks_owed.max(1);
            }
        }
    }

    /// Eighth, first half: a FIN counts once everything before it has been received, so it is noted.
    pub(super) fn check_fin(&mut self, seg: &Segment<'_>, arrival: &Arrival<'_>, env: &mut Env<'_>) {
        if !seg.has(Control::FIN) || !self.state.may_receive() {
            return;
        }
        let fin = seg.fin_seq();
        if fin.since(self.rcv.nxt) as usize == arrival.text.len() && fin.before(self.rcv.edge) {
            self.flags.set(Flags::FIN_NEXT);
        } else if self.rcv.nxt.before(fin) && fin.before(self.rcv.edge) {
            // RFC 5681 §4.2: a FIN out of order is acknowledged at once, as text would be.
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
            if let Some(cold) = self.attach(env.shared) {
                // Without a record it is forgotten: it is not acknowledged, so the peer sends it again.
                cold.fin = Some(fin);
                cold.fin_stamp = seg.stamps.map_or(cold.fin_stamp, |stamps| stamps.val);
            }
        }
    }

    /// Takes the in-order `text` of which the user has consumed `consumed` octets, and what was waiting
    /// behind it; then the FIN, if it is next (eighth step, second half).
    ///
    /// Returns whether the peer's FIN was taken now.
    pub fn accept_text(&mut self, text: &[u8], consumed: usize, env: &mut Env<'_>) -> bool {
        self.has_to_accept(text) && self.accept(text, consumed, env)
    }

    /// Whether [`Tcb::accept_text`] has anything to do.
    #[inline]
    pub fn has_to_accept(&self, text: &[u8]) -> bool {
        (!text.is_empty() || self.flags.any(Flags::FIN_NEXT | Flags::ATTACHED)) && self.closed.is_none()
    }

    /// Like [`Tcb::accept_text`], where the user has consumed all of `text` and nothing waits behind it; `false`,
    /// and nothing is done, where something does.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "a packet's text is shorter than 2^16 octets")]
    pub fn accept_read(&mut self, text: &[u8], env: &mut Env<'_>) -> bool {
        if self.flags.any(Flags::FIN_NEXT | Flags::ATTACHED) || self.closed.is_some() {
            return false;
        }
        self.rcv.nxt += text.len() as u32;
        self.accepted(text.len() as u32, text.len() as u16, false, env);
        true
    }

    fn accept(&mut self, text: &[u8], consumed: usize, env: &mut Env<'_>) -> bool {
        let end = self.rcv.nxt + u32::try_from(text.len()).expect("a packet's text");
        let mut fin = self.flags.take(Flags::FIN_NEXT);
        if !text.is_empty() {
            self.store_text(text, consumed, env);
            // Less, and the rest comes again with its FIN; more, and text beyond a FIN shows that one of the
            // two is a lie: the text is acknowledged already.
            fin &= self.rcv.nxt == end;
        }
        if self.flags.any(Flags::ATTACHED) {
            fin |= self.reach_noted_fin(env);
            if self.flags.any(Flags::READER_GONE) && self.flags.any(Flags::UNREAD) {
                // The user closed while this text was offered to it, and left some (SHLD-3).
                self.abort(env.counters);
                return false;
            }
        }
        if !fin || !self.state.may_receive() {
            return false;
        }
        self.rcv.nxt += 1;
        self.rcv.acks_owed = self.rcv.acks_owed.max(1);
        self.flags.set(Flags::PEER_FIN);
        if self.flags.any(Flags::WIDE) {
            self.end_promise(env.recv, env.shared);
        }
        self.apply(Input::Fin);
        if self.state == State::TimeWait {
            self.cancel_protocol_timers();
        }
        true
    }

    /// Whether RCV.NXT has reached a FIN that was noted before; and if so, or if text has passed it, or if
    /// nothing else needs it either, the record that noted it goes.
    fn reach_noted_fin(&mut self, env: &mut Env<'_>) -> bool {
        let nxt = self.rcv.nxt;
        let Some(cold) = self.cold_mut(env.shared) else { return false };
        let (reached, stamp) = (cold.fin == Some(nxt), cold.fin_stamp);
        cold.fin = cold.fin.filter(|&fin| nxt.before(fin));
        self.detach_idle(env.shared);
        if reached && self.flags.any(Flags::STAMPS) && stamp_before(self.ts.recent, stamp) {
            // TIME-WAIT wants the latest stamp there is.
            self.ts.recent = stamp;
        }
        reached
    }

    #[expect(clippy::cast_possible_truncation, reason = "a packet's text is shorter than 2^16 octets")]
    fn store_text(&mut self, text: &[u8], consumed: usize, env: &mut Env<'_>) {
        let had_gaps = self.flags.any(Flags::GAPS);
        let (read, rest) = text.split_at(consumed.min(text.len()));
        let before = self.rcv.nxt;
        self.rcv.nxt += read.len() as u32;
        if !rest.is_empty() || had_gaps {
            let kept = self.keep_in_order(read.len() as u32, rest, env);
            self.rcv.nxt += kept;
        }
        let accepted = self.rcv.nxt.since(before);
        self.accepted(accepted, text.len() as u16, had_gaps || accepted == 0, env);
    }

    /// RCV.NXT has moved by `octets` of a segment whose text has `text_len`.
    #[inline(always)]
    fn accepted(&mut self, octets: u32, text_len: u16, ack_at_once: bool, env: &mut Env<'_>) {
        env.counters.add_n(Counter::TextIn, u64::from(octets));
        self.rcv.mss = self.rcv.mss.max(text_len);
        self.owe_ack_for_text(ack_at_once, env);
    }

    /// Keeps `rest`, which follows `read` octets that the user took at once, and finds what was waiting behind
    /// it; returns how many octets in order both are.
    #[expect(clippy::cast_possible_truncation, reason = "a packet's text is shorter than 2^16 octets")]
    fn keep_in_order(&mut self, read: u32, rest: &[u8], env: &mut Env<'_>) -> u32 {
        let had_gaps = self.flags.any(Flags::GAPS);
        let Some(cold) = self.attach(env.shared) else {
            env.counters.add_drop(DropReason::NoBuffer);
            return 0;
        };
        if read > 0 {
            cold.recv_buf.skip(env.recv, read);
        }
        let mut kept = 0;
        if !rest.is_empty() {
            if cold.recv_buf.push(env.recv, rest) {
                kept = rest.len() as u32;
            } else {
                // Not acknowledged, so the peer sends it again when there may be room.
                env.counters.add_drop(DropReason::NoBuffer);
            }
        }
        if had_gaps {
            kept += cold.recv_buf.join(env.recv);
        }
        let (unread, gaps) = (cold.recv_buf.unread() > 0, cold.recv_buf.has_gaps());
        self.note_kept(unread, gaps);
        kept
    }

    /// Delayed acknowledgments (RFC 9293 MUST-40, SHLD-18): at once for every second full-sized segment, or each where
    /// text was out of order a while ago, and wherever a gap is involved; else when the timer says so.
    #[inline(always)]
    fn owe_ack_for_text(&mut self, at_once: bool, env: &mut Env<'_>) {
        let waiting = self.rcv.nxt.since(self.rcv.acked);
        let owed = self.rcv.acks_owed > 0;
        if at_once || owed || self.rcv.is_enough(waiting) || env.config.delayed_ack.is_zero() {
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
        } else if !self.is_set(Timer::DelayedAck) {
            self.set_delayed_ack_timer(env.config.delayed_ack, env.now);
        }
    }
}
