//! What the user asks of a connection: SEND, CLOSE, ABORT, STATUS (RFC 9293 §3.10.2 to §3.10.6).
#![forbid(unsafe_code)]

use super::chunks::ChunkPool;
use super::congestion::CongestionControl;
use super::recv_buf::RecvPools;
use super::state::Input;
use super::tcb::{Fin, Tcb};
use super::timers::Timer;
use super::{CloseReason, FlowInfo, State, TcpConfig};
use crate::base::{Counter, Counters, Instant};

impl Tcb {
    /// SEND: queues text; returns how many octets were taken.
    pub fn send(&mut self, data: &[u8], pool: &mut ChunkPool) -> usize {
        if !self.may_send() {
            return 0;
        }
        let taken = self.send_buf.push(pool, data, self.settings.send_limit);
        self.wants_room |= taken < data.len();
        taken
    }

    fn may_send(&self) -> bool {
        self.closed.is_none() && self.state.may_send() && self.fin == Fin::None
    }

    /// Octets that [`Tcb::send`] would take, as far as the connection's own bound goes.
    pub fn send_room(&self) -> u32 {
        if self.may_send() { self.settings.send_limit - self.send_buf.len() } else { 0 }
    }

    /// Whether the user is to be told that there is room again; at most once for each short send.
    ///
    /// A quarter of the buffer must be free, or each acknowledgment would wake the user for a segment.
    pub fn take_writable(&mut self) -> bool {
        let writable = self.wants_room && self.send_room() >= self.settings.send_limit.div_ceil(4);
        self.wants_room &= !writable;
        writable
    }

    /// Whether the last [`Tcb::send`] took less than it was given, and the user has not been told since.
    pub const fn wants_room(&self) -> bool {
        self.wants_room
    }

    /// Half-close: FIN follows the queued text (RFC 9293 §3.10.4); receiving goes on.
    pub fn shutdown(&mut self) {
        if self.closed.is_some() || self.fin != Fin::None {
            return;
        }
        if self.state == State::SynSent {
            self.finish(CloseReason::Aborted);
            return;
        }
        self.fin = Fin::Queued;
        if self.state.is_synchronized() {
            self.apply(Input::Close);
        }
    }

    /// CLOSE: as [`Tcb::shutdown`], and nobody reads any more. Unread text makes it a reset (SHLD-3).
    pub fn close(&mut self, now: Instant, config: &TcpConfig, counters: &mut Counters) {
        let linger = self.settings.linger.map(|linger| linger.get());
        // Of what is being read now, `consumed` will tell how much was left.
        let heard_all = self.recv_buf.unread() == self.offered;
        if !heard_all || linger.is_some_and(|linger| linger.is_zero()) {
            self.abort(counters);
            return;
        }
        self.shutdown();
        if self.closed.is_some() || self.reader_gone {
            return;
        }
        self.reader_gone = true;
        if let Some(linger) = linger {
            self.timers.set(Timer::User, now + linger);
        }
        if self.state == State::FinWait2 {
            self.timers.set(Timer::Idle, now + config.fin_wait_2);
        }
    }

    /// ABORT (RFC 9293 §3.10.5): a reset, where the peer still has something to lose by it.
    pub fn abort(&mut self, counters: &mut Counters) {
        // What may still be read of a connection that is over is given up with it.
        self.reader_gone = true;
        if self.closed.is_some() {
            return;
        }
        let loses = matches!(
            self.state,
            State::SynReceived | State::Established | State::FinWait1 | State::FinWait2 | State::CloseWait
        );
        // A peer that closed first still waits for our FIN.
        self.reset_due = loses || self.fin == Fin::Queued;
        counters.add(Counter::Aborted);
        self.finish(CloseReason::Aborted);
    }

    /// Stops or resumes the delivery of text.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Whether in-order text may go straight to the user: reading, and nothing older is waiting.
    pub fn is_reading(&self) -> bool {
        !self.paused && !self.reader_gone && self.recv_buf.unread() == 0 && self.closed.is_none()
    }

    /// Whether [`Tcb::take_writable`], [`Tcb::has_readable`] or [`Tcb::take_fin`] may say yes: a cheap question
    /// for the many times when none does.
    #[inline]
    pub const fn may_have_news(&self) -> bool {
        self.wants_room || self.recv_buf.unread() > 0 || (self.rcv.fin.is_some() && !self.fin_told)
    }

    /// Whether kept text may be delivered now.
    pub fn has_readable(&self) -> bool {
        !self.paused && self.has_unread()
    }

    /// Whether text is kept that the user may still ask for, so that a TCB that is otherwise done must stay.
    pub const fn has_unread(&self) -> bool {
        !self.reader_gone && self.recv_buf.unread() > 0 && self.may_read()
    }

    /// Not after a reset or an abort; but the end of both directions loses nothing (RFC 9293 §3.10.3).
    const fn may_read(&self) -> bool {
        matches!(self.closed, None | Some(CloseReason::Finished))
    }

    /// The first stretch of text kept for the user, who may close while looking at it; then
    /// [`Tcb::consumed`] must be told how much was read.
    pub fn front<'p>(&mut self, pools: &'p RecvPools) -> &'p [u8] {
        let front = self.recv_buf.front(pools);
        self.offered = u32::try_from(front.len()).expect("a chunk is at most 2^24 octets");
        front
    }

    /// The user has read `octets` of what was kept; owes a window update when that is worth a segment.
    ///
    /// Text left behind by a user who closed meanwhile is lost, so the connection is aborted.
    pub fn consumed(&mut self, octets: u32, pools: &mut RecvPools, counters: &mut Counters) {
        self.offered = 0;
        self.recv_buf.consume(pools, octets);
        if self.state.may_receive() && self.window_update_due() {
            self.acks_owed = self.acks_owed.max(1);
        }
        if self.reader_gone && self.recv_buf.unread() > 0 {
            self.abort(counters);
        }
    }

    /// Whether the peer's FIN is to be told to the user now: everything before it was read. Once only.
    pub fn take_fin(&mut self) -> bool {
        let told = !self.fin_told
            && self.rcv.fin.is_some_and(|fin| fin.before(self.rcv.nxt))
            && self.recv_buf.unread() == 0
            && !self.reader_gone
            && self.may_read();
        self.fin_told |= told;
        told
    }

    /// Switches Nagle's algorithm.
    pub fn set_nagle(&mut self, on: bool) {
        self.settings.nagle = on;
    }

    /// STATUS (RFC 9293 §3.10.6).
    pub fn info(&self) -> FlowInfo {
        FlowInfo {
            state: self.state,
            srtt: self.rtt.srtt(),
            rto: core::time::Duration::from_micros(u64::from(self.rtt.rto_us())),
            cwnd: self.congestion.cwnd(),
            ssthresh: self.congestion.ssthresh(),
            snd_wnd: self.snd.wnd,
            rcv_wnd: self.rcv.wnd(),
            mss: self.snd.mss,
            unacknowledged: self.send_buf.len(),
            unread: self.recv_buf.unread(),
            retransmits: self.retransmits,
        }
    }

    /// The send buffer, for the caller that copies a segment's text into a frame.
    pub fn send_buf(&mut self) -> &mut super::send_buf::SendBuf {
        &mut self.send_buf
    }
}
