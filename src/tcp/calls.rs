//! What the user asks of a connection: SEND, CLOSE, ABORT, STATUS (RFC 9293 §3.10.2 to §3.10.6).
#![forbid(unsafe_code)]

use super::cold::Shared;
use super::flags::Flags;
use super::recv_buf::RecvPools;
use super::segment::Outgoing;
use super::state::Input;
use super::tcb::{Fin, Tcb};
use super::timers::Timer;
use super::{CloseReason, FlowInfo, SettingsId, State, TcpConfig};
use crate::base::{Counter, Counters, Instant, Millis32};

impl Tcb {
    /// What may be queued, if the settings allow it, whatever the congestion window is, octets.
    const SEND_LEAST: u32 = 256 * 1_024;

    /// SEND: queues text; returns how many octets were taken.
    #[inline(always)]
    pub fn send(&mut self, data: &[u8], shared: &mut Shared) -> usize {
        if !self.may_send() {
            return 0;
        }
        // Short text always fits, and nobody need ask for how much there is room.
        let least = shared.settings.get(self.settings).send_limit.min(Self::SEND_LEAST);
        let is_short = self.send_buf.len() as usize + data.len() <= least as usize;
        let limit = if is_short { least } else { self.send_limit(shared) };
        let taken = self.send_buf.push(&mut shared.send, data, limit);
        if taken < data.len() {
            self.flags.set(Flags::WANTS_ROOM);
        }
        taken
    }

    /// How much may be queued, octets: twice the congestion window, so that text for the next one is there before the
    /// last is acknowledged; but beyond the least no more than the pool has left for others.
    #[inline(never)]
    fn send_limit(&self, shared: &Shared) -> u32 {
        let left = u32::try_from(shared.send.free_octets()).unwrap_or(u32::MAX);
        let of_use = self.congestion.cwnd().saturating_mul(2).min(left).max(Self::SEND_LEAST);
        shared.settings.get(self.settings).send_limit.min(of_use)
    }

    fn may_send(&self) -> bool {
        self.closed.is_none() && self.state.may_send() && self.snd.fin == Fin::None
    }

    /// Octets that [`Tcb::send`] would take, if the pool has chunks.
    pub fn send_room(&self, shared: &Shared) -> u32 {
        let limit = self.send_limit(shared);
        if self.may_send() { limit.saturating_sub(self.send_buf.len()) } else { 0 }
    }

    /// Whether the user is to be told that there is room again; at most once for each short send.
    ///
    /// A quarter of the buffer must be free, or each acknowledgment would wake the user for a segment.
    pub fn take_writable(&mut self, shared: &Shared) -> bool {
        let writable = self.wants_room() && self.may_send() && {
            let limit = self.send_limit(shared);
            limit.saturating_sub(self.send_buf.len()) >= limit.div_ceil(4)
        };
        if writable {
            self.flags.clear(Flags::WANTS_ROOM);
        }
        writable
    }

    /// Whether the last [`Tcb::send`] took less than it was given, and the user has not been told since.
    pub const fn wants_room(&self) -> bool {
        self.flags.any(Flags::WANTS_ROOM)
    }

    /// Half-close: FIN follows the queued text (RFC 9293 §3.10.4); receiving goes on.
    pub fn shutdown(&mut self) {
        if self.closed.is_some() || self.snd.fin != Fin::None {
            return;
        }
        if self.state == State::SynSent {
            self.finish(CloseReason::Aborted);
            return;
        }
        self.snd.fin = Fin::Queued;
        if self.state.is_synchronized() {
            self.apply(Input::Close);
        }
    }

    /// CLOSE: as [`Tcb::shutdown`], and nobody reads any more. Unread text makes it a reset (SHLD-3).
    pub fn close(&mut self, now: Instant, config: &TcpConfig, shared: &Shared, counters: &mut Counters) {
        let linger = shared.settings.get(self.settings).linger.map(|linger| linger.get());
        // Of what is being read now, `consumed` will tell how much was left.
        let heard_all = self.cold(shared).is_none_or(|cold| cold.recv_buf.unread() == cold.offered);
        if !heard_all || linger == Some(0) {
            self.abort(counters);
            return;
        }
        self.shutdown();
        if self.closed.is_some() || self.flags.any(Flags::READER_GONE) {
            return;
        }
        self.flags.set(Flags::READER_GONE);
        if let Some(linger) = linger {
            self.set_timer_from(Timer::User, Millis32::ceil(now), linger);
        }
        if self.state == State::FinWait2 {
            self.set_timer(Timer::Idle, config.fin_wait_2, now);
        }
    }

    /// ABORT (RFC 9293 §3.10.5): a reset, where the peer still has something to lose by it.
    pub fn abort(&mut self, counters: &mut Counters) {
        // What may still be read of a connection that is over is given up with it.
        self.flags.set(Flags::READER_GONE);
        if self.closed.is_some() {
            return;
        }
        let loses = matches!(
            self.state,
            State::SynReceived | State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait
        );
        // A peer that closed first still waits for our FIN.
        self.flags.put(Flags::RESET_DUE, loses || self.snd.fin == Fin::Queued);
        counters.add(Counter::Aborted);
        self.finish(CloseReason::Aborted);
    }

    /// Stops or resumes the delivery of text.
    pub fn set_paused(&mut self, paused: bool) {
        self.flags.put(Flags::PAUSED, paused);
    }

    /// Whether in-order text may go straight to the user: reading, and nothing older is waiting.
    pub fn is_reading(&self) -> bool {
        !self.flags.any(Flags::PAUSED | Flags::READER_GONE | Flags::UNREAD) && self.closed.is_none()
    }

    /// Whether [`Tcb::take_writable`], [`Tcb::has_readable`] or [`Tcb::take_fin`] may say yes: a cheap question
    /// for the many times when none does.
    #[inline]
    pub fn may_have_news(&self) -> bool {
        // Two of these say it, the third unless the fourth does.
        let news = self.flags.any(Flags::WANTS_ROOM | Flags::UNREAD);
        news || (self.flags.any(Flags::PEER_FIN) && !self.flags.any(Flags::FIN_TOLD))
    }

    /// Whether kept text may be delivered now.
    pub fn has_readable(&self) -> bool {
        !self.flags.any(Flags::PAUSED) && self.has_unread()
    }

    /// Whether text is kept that the user may still ask for, so that a TCB that is otherwise done must stay.
    pub const fn has_unread(&self) -> bool {
        self.flags.any(Flags::UNREAD) && !self.flags.any(Flags::READER_GONE) && self.may_read()
    }

    /// Not after a reset or an abort; but the end of both directions loses nothing (RFC 9293 §3.10.3).
    const fn may_read(&self) -> bool {
        matches!(self.closed, None | Some(CloseReason::Finished))
    }

    /// The first stretch of text kept for the user, who may close while looking at it; then
    /// [`Tcb::consumed`] must be told how much was read.
    pub fn front<'p>(&self, pools: &'p RecvPools, shared: &mut Shared) -> &'p [u8] {
        let Some(cold) = self.cold_mut(shared) else { return &[] };
        let front = cold.recv_buf.front(pools);
        cold.offered = u32::try_from(front.len()).expect("a chunk is at most 2^24 octets");
        front
    }

    /// The user has read `octets` of what was kept; owes a window update when that is worth a segment.
    ///
    /// Text left behind by a user who closed meanwhile is lost, so the connection is aborted.
    pub fn consumed(
        &mut self,
        octets: u32,
        pools: &mut RecvPools,
        shared: &mut Shared,
        counters: &mut Counters,
    ) {
        let Some(cold) = self.cold_mut(shared) else { return };
        cold.offered = 0;
        cold.recv_buf.consume(pools, octets);
        let (unread, gaps) = (cold.recv_buf.unread() > 0, cold.recv_buf.has_gaps());
        self.note_kept(unread, gaps);
        self.detach_idle(shared);
        if self.state.may_receive() && self.window_update_due(shared) {
            self.rcv.acks_owed = self.rcv.acks_owed.max(1);
        }
        if self.flags.any(Flags::READER_GONE) && unread {
            self.abort(counters);
        }
    }

    /// Whether the peer's FIN is to be told to the user now: everything before it was read. Once only.
    pub fn take_fin(&mut self) -> bool {
        let told = self.flags.any(Flags::PEER_FIN)
            && !self.flags.any(Flags::FIN_TOLD | Flags::UNREAD | Flags::READER_GONE)
            && self.may_read();
        if told {
            self.flags.set(Flags::FIN_TOLD);
        }
        told
    }

    /// Has other settings from now on; the TCB takes over the caller's use of `new`.
    pub fn set_settings(&mut self, new: SettingsId, shared: &mut Shared) {
        shared.settings.release(self.settings);
        self.settings = new;
        let settings = *shared.settings.get(new);
        self.flags.put(Flags::NAGLE, settings.nagle);
        self.flags.put(Flags::USER_TIMEOUT, settings.user_timeout.is_some());
        if self.flags.any(Flags::READER_GONE) || !self.state.is_synchronized() || self.closed.is_some() {
            // The idle timer belongs to FIN-WAIT-2, or begins with ESTABLISHED.
            return;
        }
        self.keep_probes = 0;
        match settings.keep_idle {
            Some(idle) => self.set_timer_from(Timer::Idle, self.heard_at, idle.get()),
            None => self.cancel(Timer::Idle),
        }
    }

    /// Switches Nagle's algorithm.
    pub fn set_nagle(&mut self, on: bool) {
        self.flags.put(Flags::NAGLE, on);
    }

    /// STATUS (RFC 9293 §3.10.6).
    pub fn info(&self, shared: &Shared) -> FlowInfo {
        FlowInfo {
            state: self.state,
            srtt: self.rtt.srtt(),
            rto: core::time::Duration::from_micros(u64::from(self.rtt.rto_us())),
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            snd_wnd: self.snd.wnd,
            ecn: self.is_ecn_sender(),
            rcv_wnd: self.rcv.wnd(),
            mss: self.snd.mss,
            unacknowledged: self.send_buf.len(),
            unread: self.unread(shared),
            retransmits: u32::from(self.retransmits),
        }
    }

    /// Shows `visit` the text of a segment to send where it lies, slice by slice; there is some.
    #[inline(always)]
    pub fn text(&mut self, out: &Outgoing, shared: &mut Shared, mut visit: impl FnMut(&[u8])) {
        match self.send_buf.near(&shared.send, (out.text_offset, out.text_len)) {
            Some(slice) => visit(slice),
            None => self.far_text((out.text_offset, out.text_len), shared, visit),
        }
    }

    #[inline(never)]
    fn far_text(&mut self, at: (u32, u32), shared: &mut Shared, visit: impl FnMut(&[u8])) {
        let has_cursors = self.attach(shared).is_some();
        let cold = shared.cold.at_mut(self.cold).filter(|_| has_cursors);
        self.send_buf.slices(&shared.send, at, cold.map(|cold| &mut cold.cursors), visit);
    }
}
