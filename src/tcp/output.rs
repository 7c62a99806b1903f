//! What to send next: handshake, repair, text, FIN, acknowledgment, in that order.
#![forbid(unsafe_code)]

use super::cold::Shared;
use super::congestion::initial_window;
use super::flags::Flags;
use super::isn::timestamp_clock;
use super::recv_buf::RecvPools;
use super::segment::{MoreOptions, Outgoing, Segment};
use super::tcb::{Env, Fin, Tcb};
use super::timers::Timer;
use super::{State, TcpConfig};
use crate::base::{Counter, Micros32, Millis32, Reading, Seq};
use crate::wire::{Control, SackBlocks, Timestamps};

impl Tcb {
    /// Whether [`Tcb::poll_segment`] may have something to say. A cheap question for the many times when the
    /// answer is no; a yes may turn out to be nothing, where a window or Nagle holds text back.
    #[inline]
    pub fn may_have_output(&self) -> bool {
        let due = Flags::REPAIR | Flags::FORCE | Flags::KEEP_ALIVE_DUE | Flags::TAIL_PROBE;
        if self.rcv.acks_owed > 0 || self.flags.any(due) || self.closed.is_some() {
            return true;
        }
        if !self.state.is_synchronized() {
            return self.snd.cursor == self.snd.una;
        }
        let fin = u32::from(matches!(self.snd.fin, Fin::Queued | Fin::Sent));
        self.snd.cursor != self.snd.una + self.send_buf.len() + fin
    }

    /// The next segment to send now, if any. The caller sends it: it counts as sent when this returns.
    #[inline(always)]
    pub fn poll_segment(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        let nxt = self.snd.nxt;
        let mut out = self.poll_next(env);
        if self.may_use_ecn()
            && let Some(out) = &mut out
        {
            self.put_ecn(out, nxt, env.shared);
        }
        out
    }

    #[inline(never)]
    fn poll_next(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        if self.closed.is_some() {
            return self.poll_reset();
        }
        if !self.state.is_synchronized() && self.snd.cursor == self.snd.una {
            return Some(self.send_syn(env));
        }
        if self.flags.any(Flags::GAPS) && self.rcv.acks_owed > 0 {
            // With text it would not count as a duplicate (RFC 5681 §2), and the peer waits for three.
            return self.poll_ack(env);
        }
        if self.flags.any(Flags::REPAIR | Flags::TAIL_PROBE)
            && let Some(out) = self.poll_repair(env)
        {
            return Some(out);
        }
        let force = self.flags.take(Flags::FORCE);
        if let Some(out) = self.poll_text(force, env) {
            return Some(out);
        }
        if self.flags.any(Flags::KEEP_ALIVE_DUE) {
            return Some(self.send_keep_alive(env));
        }
        self.poll_ack(env)
    }

    /// Whether [`Tcb::poll_steady`] says what [`Tcb::poll_segment`] would: the connection is open, and nothing is
    /// out of order, lost or probed for. The caller knows that it does not use ECN ([`Tcb::may_use_ecn`]).
    #[inline(always)]
    pub fn is_steady(&self) -> bool {
        let unusual = Flags::GAPS | Flags::REPAIR | Flags::FORCE | Flags::KEEP_ALIVE_DUE | Flags::TAIL_PROBE;
        self.closed.is_none() && self.state.is_synchronized() && !self.flags.any(unusual)
    }

    /// [`Tcb::poll_segment`] of a connection that [`Tcb::is_steady`].
    #[inline(always)]
    pub fn poll_steady(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        match self.poll_text(false, env) {
            None => self.poll_ack(env),
            some => some,
        }
    }

    /// The reset of an abort (RFC 9293 §3.10.5).
    fn poll_reset(&mut self) -> Option<Outgoing> {
        if !self.flags.take(Flags::RESET_DUE) {
            return None;
        }
        Some(Outgoing::bare(self.seq_for_control(), self.rcv.nxt, Control::RST | Control::ACK))
    }

    /// SYN, or SYN-ACK once the peer's SYN is here.
    fn send_syn(&mut self, env: &mut Env<'_>) -> Outgoing {
        let iss = self.snd.una;
        let first = self.snd.nxt == iss;
        let ctl = match self.state {
            State::SynSent => Control::SYN,
            _ => Control::SYN | Control::ACK,
        };
        self.snd.cursor = iss + 1;
        self.snd.nxt = self.snd.cursor;
        if first {
            self.time(iss, env.now);
            self.progress_at = Millis32::ceil(env.now);
        } else {
            env.counters.add(Counter::Retransmits);
            self.retransmits = self.retransmits.saturating_add(1);
            self.flags.clear(Flags::TIMED);
        }
        self.start_retransmit_timer(env);
        let ack = if ctl.intersects(Control::ACK) { self.rcv.nxt } else { Seq::default() };
        self.acked_with(ack, ctl);
        // RFC 7323 §3.2: nothing is echoed without an ACK.
        let ecr = if ctl.intersects(Control::ACK) { self.ts.recent } else { 0 };
        let stamps = self.stamps(env.now).map(|stamps| Timestamps { ecr, ..stamps });
        let wnd = clamp_u16(env.shared.settings.get(self.settings).recv_limit);
        Outgoing { wnd, stamps, more: self.syn_options(env.config), ..Outgoing::bare(iss, ack, ctl) }
    }

    /// RFC 9293 MUST-14: MSS on every SYN; the rest is what we want, or on a SYN-ACK what was agreed.
    fn syn_options(&self, config: &TcpConfig) -> MoreOptions {
        let active = self.state == State::SynSent;
        let scaling = config.window_scale && (active || self.rcv.shift() > 0 || self.snd.shift > 0);
        MoreOptions::Syn {
            mss: self.mss_most,
            window_scale: scaling.then_some(self.rcv.shift()),
            sack_permitted: self.flags.any(Flags::SACK),
        }
    }

    /// What is lost once more; without SACK that is the segment at SND.UNA, whatever the windows say (RFC 5681 §3.2).
    #[cold]
    fn poll_repair(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        if self.flags.any(Flags::TAIL_PROBE) {
            return self.poll_tail_probe(env);
        }
        if self.flags.any(Flags::SACK) {
            let new = self.poll_path_probe(env).or_else(|| self.poll_forward(env));
            return new.or_else(|| self.poll_lost(env));
        }
        self.flags.clear(Flags::REPAIR);
        let sent = self.snd.nxt.since(self.snd.una);
        let len = self.send_buf.len().min(sent).min(u32::from(self.snd.mss));
        let fin = self.snd.fin == Fin::Sent && len == self.send_buf.len() && len < sent;
        (len > 0 || fin).then(|| self.send_at(self.snd.una, len, fin, env))
    }

    /// New text, or text again after a timeout, as far as window, congestion window, Nagle and silly-window
    /// avoidance let it (RFC 9293 §3.8.6.2.1).
    #[inline(always)]
    pub(super) fn poll_text(&mut self, force: bool, env: &mut Env<'_>) -> Option<Outgoing> {
        if !self.state.is_synchronized() || (self.send_buf.is_empty() && self.snd.fin == Fin::None) {
            return None;
        }
        let end = self.snd.una + self.send_buf.len();
        let cursor = self.snd.cursor;
        let fin_left = matches!(self.snd.fin, Fin::Queued | Fin::Sent) && cursor.at_or_before(end);
        let left = if cursor.before(end) { end.since(cursor) } else { 0 };
        if left == 0 && !fin_left {
            return None;
        }
        if !force && self.is_held_back(env) {
            return None;
        }
        self.restart_after_idle(env);
        let room = self.room_at(cursor, env.shared);
        let mss = u32::from(self.snd.mss);
        let mut len = left.min(room).min(mss);
        if force && len == 0 {
            len = left.min(1);
        } else if !force && left > 0 && !self.may_send_now(cursor, len, left) {
            // What was sent before needs only room, as far as it reaches.
            len = len.min(self.snd.nxt.since(cursor));
            if len == 0 {
                self.arm_persist(env);
                return None;
            }
        }
        // A FIN needs room in the window like an octet of text, and is its own probe.
        let fin = fin_left && len == left && (force || cursor.since(self.snd.una) + len < self.snd.wnd);
        if len == 0 && !fin {
            self.arm_persist(env);
            return None;
        }
        Some(self.send_at(cursor, len, fin, env))
    }

    /// Octets that the peer's window and the congestion window leave from `cursor` on.
    #[inline(always)]
    fn room_at(&self, cursor: Seq, shared: &Shared) -> u32 {
        if self.flags.any(Flags::BOARD) && cursor == self.snd.nxt {
            let offered = self.snd.wnd.saturating_sub(cursor.since(self.snd.una));
            return offered.min(self.room_for_new(shared));
        }
        let inflation = self.cold(shared).map_or(0, |cold| cold.recovery.inflation());
        let cwnd = self.congestion.cwnd().saturating_add(inflation);
        self.snd.wnd.min(cwnd).saturating_sub(cursor.since(self.snd.una))
    }

    /// RFC 9293 §3.8.6.2.1: conditions (1) to (3).
    #[inline(always)]
    fn may_send_now(&self, cursor: Seq, len: u32, left: u32) -> bool {
        // Or everything that was sent goes again, as after a timeout, or a probe whose octet was not taken.
        let idle = cursor == self.snd.una;
        let full = len == u32::from(self.snd.mss);
        // A FIN is a push that Nagle must not hold back.
        let last = len == left && (idle || !self.flags.any(Flags::NAGLE) || self.snd.fin != Fin::None);
        let half = idle && len >= self.snd.max_wnd / 2;
        len > 0 && (full || last || half)
    }

    /// Nothing in flight, something to send and no leave to: only a timer gets it out (RFC 9293 §3.8.6.1).
    fn arm_persist(&mut self, env: &Env<'_>) {
        if self.snd.flight() == 0 && !self.is_set(Timer::Retransmit) {
            self.start_retransmit_timer(env);
        }
    }

    /// RFC 5681 §4.1: after an idle RTO the congestion window says nothing of the path any more.
    #[inline(always)]
    fn restart_after_idle(&mut self, env: &mut Env<'_>) {
        let idle = |sent_at: Millis32| u64::from(sent_at.elapsed(env.now)) * 1_000;
        if self.snd.flight() == 0 && idle(self.sent_at) > u64::from(self.rtt.rto_us()) {
            let initial = initial_window(env.config.initial_window, u32::from(self.snd.mss));
            let memory = self.cold_mut(env.shared).map(|cold| &mut cold.congestion);
            self.congestion.on_idle(initial, memory);
        }
    }

    /// Makes the segment of `len` octets at `seq`, and all the bookkeeping of having sent it.
    #[inline(always)]
    pub(super) fn send_at(&mut self, seq: Seq, len: u32, fin: bool, env: &mut Env<'_>) -> Outgoing {
        let text_offset = seq.since(self.snd.una);
        let after = seq + len + u32::from(fin);
        let again = seq.before(self.snd.nxt);
        let now = Millis32::ceil(env.now);
        if self.snd.flight() == 0 {
            self.progress_at = now;
        }
        if again {
            env.counters.add(Counter::Retransmits);
            self.retransmits = self.retransmits.saturating_add(1);
            // Karn: its acknowledgment could be of either copy; and without SACK it waits for what is missing before it.
            if !self.flags.any(Flags::BOARD) || self.timed_seq.in_window(seq, after.since(seq)) {
                self.flags.clear(Flags::TIMED);
            }
        } else {
            if !self.flags.any(Flags::TIMED) {
                self.time(seq, env.now);
            }
            env.counters.add_n(Counter::TextOut, u64::from(len));
        }
        if self.flags.any(Flags::BOARD | Flags::MODEL) {
            self.note_sent(seq, after, env);
        }
        if seq == self.snd.cursor {
            self.snd.cursor = after;
        }
        self.snd.nxt = self.snd.nxt.later(after);
        if fin {
            self.snd.fin = Fin::Sent;
        }
        self.sent_at = now;
        // RFC 6298 (5.1); and from the second segment on there may be a probe (RFC 8985 §7.2).
        let mss = u32::from(self.snd.mss);
        if !self.is_set(Timer::Retransmit) || (text_offset <= mss && text_offset + len > mss) {
            self.start_retransmit_timer(env);
        }
        let mut ctl = Control::ACK;
        if fin {
            ctl |= Control::FIN;
        }
        if text_offset + len == self.send_buf.len() && len > 0 {
            // RFC 9293 MUST-60, MUST-61: nothing waits for a push, and the last segment of what is queued is pushed.
            ctl |= Control::PSH;
        }
        self.with_ack_and_text(seq, ctl, text_offset, len, env)
    }

    /// A segment of old text asks whether the peer is still there (RFC 9293 §3.8.4).
    #[cold]
    fn send_keep_alive(&mut self, env: &mut Env<'_>) -> Outgoing {
        self.flags.clear(Flags::KEEP_ALIVE_DUE);
        env.counters.add(Counter::KeepAliveProbes);
        self.with_ack(self.snd.nxt - 1, Control::ACK, env)
    }

    #[inline(always)]
    fn poll_ack(&mut self, env: &mut Env<'_>) -> Option<Outgoing> {
        if self.rcv.acks_owed == 0 || self.state == State::SynSent {
            return None;
        }
        let owed_after = self.rcv.acks_owed - 1;
        let out = self.with_ack(self.seq_for_control(), Control::ACK, env);
        self.rcv.acks_owed = owed_after;
        env.counters.add(Counter::PureAcksOut);
        Some(out)
    }

    fn with_ack(&mut self, seq: Seq, ctl: Control, env: &mut Env<'_>) -> Outgoing {
        self.with_ack_and_text(seq, ctl, 0, 0, env)
    }

    /// A segment that carries RCV.NXT, RCV.WND, the options of every segment after the handshake, and SACK
    /// blocks as far as `text_len` octets leave room for them: SMSS does not allow for those (MUST-16).
    #[inline(always)]
    fn with_ack_and_text(
        &mut self,
        seq: Seq,
        ctl: Control,
        text_offset: u32,
        text_len: u32,
        env: &mut Env<'_>,
    ) -> Outgoing {
        self.acked_with(self.rcv.nxt, ctl);
        self.open_window(env.shared);
        let stamps = self.stamps(env.now);
        let more = if self.flags.any(Flags::GAPS | Flags::DUPLICATE) && self.flags.any(Flags::SACK) {
            self.sack_options(text_len)
        } else {
            MoreOptions::None
        };
        let wnd = clamp_u16(self.rcv.wnd() >> self.rcv.shift());
        Outgoing { seq, ack: self.rcv.nxt, ctl, wnd, ecn: 0, stamps, more, text_offset, text_len }
    }

    #[cold]
    fn sack_options(&self, text_len: u32) -> MoreOptions {
        let most = if self.flags.any(Flags::STAMPS) { 3 } else { 4 };
        let room = u32::from(self.snd.mss).saturating_sub(text_len).saturating_sub(4) / 8;
        let blocks = u8::try_from(room).unwrap_or(u8::MAX).min(most);
        if blocks > 0 { MoreOptions::Sack(blocks) } else { MoreOptions::None }
    }

    /// The SACK blocks of a segment that is being sent: `out.more` says how many at most. What was received twice is
    /// reported once.
    pub fn sack_blocks(&mut self, out: &Outgoing, recv: &RecvPools, shared: &mut Shared) -> SackBlocks {
        let mut sack = SackBlocks::default();
        let (nxt, again) = (self.rcv.nxt, self.flags.take(Flags::DUPLICATE));
        if let (MoreOptions::Sack(most), Some(cold)) = (out.more, self.cold_mut(shared)) {
            if again {
                sack.push(cold.duplicate.0, cold.duplicate.1);
            }
            let gaps = cold.recv_buf.sack_blocks(recv, nxt, usize::from(most - sack.len));
            gaps.as_slice().iter().for_each(|&(left, right)| sack.push(left, right));
        }
        if again {
            self.detach_idle(shared);
        }
        sack
    }

    /// Every segment with ACK answers whatever acknowledgment was owed.
    #[inline(always)]
    fn acked_with(&mut self, ack: Seq, ctl: Control) {
        if ctl.intersects(Control::ACK) {
            self.rcv.acked = ack;
            self.rcv.acks_owed = 0;
            self.cancel(Timer::DelayedAck);
        }
    }

    /// Moves the right edge to what the buffer holds: never back (MUST-34's twin for receivers, SHLD-14),
    /// and forward only by a worthwhile step (RFC 9293 §3.8.6.2.2, MUST-39).
    #[inline(always)]
    fn open_window(&mut self, shared: &Shared) {
        let limit = self.recv_window(shared);
        if !self.flags.any(Flags::UNREAD) {
            self.rcv.edge = self.rcv.edge.later(self.rcv.nxt + limit);
            return;
        }
        let unread = self.unread(shared);
        let free = limit.saturating_sub(unread);
        let edge = self.rcv.nxt + free;
        let gain = if self.rcv.edge.before(edge) { edge.since(self.rcv.edge) } else { 0 };
        if gain >= u32::from(self.rcv.mss).min(limit / 2).max(1) {
            self.rcv.edge = self.rcv.edge.later(edge);
        }
    }

    /// Whether the user has read so much that the peer should hear of a larger window.
    pub(super) fn window_update_due(&self, shared: &Shared) -> bool {
        let limit = self.recv_window(shared);
        let free = limit.saturating_sub(self.unread(shared));
        let edge = self.rcv.nxt + free;
        let gain = if self.rcv.edge.before(edge) { edge.since(self.rcv.edge) } else { 0 };
        gain >= (2 * u32::from(self.rcv.mss)).min(limit / 2).max(1)
    }

    pub(super) fn stamps(&self, now: impl Reading) -> Option<Timestamps> {
        self.flags.any(Flags::STAMPS).then(|| Timestamps {
            val: timestamp_clock(now).wrapping_add(self.ts.offset),
            ecr: self.ts.recent,
        })
    }

    /// The segment at `seq`, which leaves now, is the one being timed.
    fn time(&mut self, seq: Seq, now: impl Reading) {
        self.flags.set(Flags::TIMED);
        self.timed_seq = seq;
        self.timed_at = Micros32::floor(now);
    }

    /// (Re)starts the timer: RTO, or for a closed window RTO backed off by the probes so far.
    #[inline(always)]
    pub(super) fn start_retransmit_timer(&mut self, env: &Env<'_>) {
        self.start_timeout(env);
        if self.snd.flight() > u32::from(self.snd.mss)
            && let Some(us) = self.probe_timeout(env)
        {
            self.hasten_retransmit_timer(us, env.now, Flags::PROBING);
        }
    }

    /// The same for an acknowledgment that leaves something in flight. Where that is the last segment of all, which no
    /// probe asks for, RTO counts from when it was sent (RFC 7765 §4).
    #[inline(always)]
    pub(super) fn restart_retransmit_timer(&mut self, seg: &Segment<'_>, env: &Env<'_>) {
        self.start_retransmit_timer(env);
        // Of a window that closes now the timer becomes the probe's (RFC 9293 SHLD-29).
        if self.snd.flight() <= u32::from(self.snd.mss) && seg.wnd > 0 {
            self.count_from_last_segment(env);
        }
    }

    #[inline(never)]
    fn count_from_last_segment(&mut self, env: &Env<'_>) {
        if self.send_buf.len() <= self.snd.flight() {
            let waited_us = self.sent_at.elapsed(env.now).saturating_mul(1_000);
            let left_us = self.rtt.rto_us().saturating_sub(waited_us).max(1);
            self.hasten_retransmit_timer(left_us, env.now, Flags::default());
        }
    }

    /// The same, and never for a tail loss probe.
    #[inline(always)]
    pub(super) fn start_timeout(&mut self, env: &Env<'_>) {
        let mut us = self.rtt.rto_us().min(PERSIST_MAX_US);
        if self.probes > 0 {
            let backed_off = u64::from(us) << self.probes.min(16);
            us = u32::try_from(backed_off).unwrap_or(u32::MAX).min(PERSIST_MAX_US);
        } else if self.flags.any(Flags::USER_TIMEOUT)
            && let Some(timeout) = env.shared.settings.get(self.settings).user_timeout
            && self.state.is_synchronized()
            && self.snd.flight() > 0
        {
            let left = timeout.get().saturating_sub(self.progress_at.elapsed(env.now));
            us = us.min(left.saturating_mul(1_000));
        }
        self.set_retransmit_timer(us, env.now);
    }
}

/// Longest interval between window probes, and of RTO: one minute (RFC 9293 SHLD-30, RFC 6298 (2.5)).
const PERSIST_MAX_US: u32 = 60_000_000;

/// The window field can say no more than 65535.
fn clamp_u16(octets: u32) -> u16 {
    u16::try_from(octets).unwrap_or(u16::MAX)
}
