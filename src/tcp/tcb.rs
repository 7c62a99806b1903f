//! The transmission control block: everything one connection remembers (RFC 9293 §3.3.1).
#![forbid(unsafe_code)]

use core::mem::offset_of;

use super::cold::Shared;
use super::congestion::{Congestion, initial_window};
use super::ecn::Ecn;
use super::flags::Flags;
use super::isn::timestamp_clock;
use super::recv_buf::RecvPools;
use super::rtt::RttEstimator;
use super::send_buf::SendBuf;
use super::settings::SettingsId;
use super::timers::{FastTimers, SlowTimers, Timer};
use super::window::{INITIAL_WINDOW, Offer};
use super::{CloseReason, FlowOptions, Predecessor, State, TcpConfig};
use crate::base::{Clock, Counters, Instant, Micros32, Millis32, Seq};
use crate::wire::TcpOptions;

/// Send sequence variables (RFC 9293 Figure 2's terms).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Snd {
    /// SND.UNA: the oldest octet not acknowledged; ISS until the SYN is.
    pub una: Seq,
    /// SND.NXT: one past the last octet ever sent.
    pub nxt: Seq,
    /// Where sending goes on: SND.NXT, or behind it while octets are sent again after a timeout.
    pub cursor: Seq,
    /// SND.WND, octets, scaled.
    pub wnd: u32,
    /// The largest window the peer ever offered, octets.
    pub max_wnd: u32,
    /// SND.WL1.
    pub wl1: Seq,
    /// SND.WL2.
    pub wl2: Seq,
    /// SMSS: the most text in one segment, octets, options already taken off.
    pub mss: u16,
    /// Shift of the windows the peer sends.
    pub shift: u8,
    /// How far our own FIN has come.
    pub fin: Fin,
}

impl Snd {
    /// Sequence numbers sent and not yet acknowledged.
    pub const fn flight(&self) -> u32 {
        self.nxt.since(self.una)
    }
}

/// Receive sequence variables (RFC 9293 Figure 3's terms).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Rcv {
    /// RCV.NXT.
    pub nxt: Seq,
    /// One past the last sequence number ever offered: RCV.NXT + RCV.WND.
    pub edge: Seq,
    /// The acknowledgment number sent last (RFC 7323 Last.ACK.sent).
    pub acked: Seq,
    /// The largest text that came in one segment: what "full-sized" means for delayed ACKs. Until the peer's
    /// SYN, the MSS to assume where that announces none.
    pub mss: u16,
    /// Shift of the windows we send, and times 16 how many acknowledgments are to be quick.
    shift_and_quick: u8,
    /// Acknowledgments to send at the end of this batch: one, or one for each segment out of order.
    pub acks_owed: u8,
}

impl Rcv {
    const SHIFT: u8 = 0x0f;

    /// Nothing was received yet; windows will be sent with `shift`, and `mss` is assumed.
    const fn new(shift: u8, mss: u16) -> Self {
        let zero = Seq::new(0);
        Self { nxt: zero, edge: zero, acked: zero, mss, shift_and_quick: shift, acks_owed: 0 }
    }

    /// Shift of the windows we send: 14 at most (RFC 7323 §2.3).
    #[inline]
    pub const fn shift(&self) -> u8 {
        self.shift_and_quick & Self::SHIFT
    }

    /// The next `count` segments of full size, 15 at most, are acknowledged each at once.
    pub(super) fn be_quick(&mut self, count: u8) {
        self.shift_and_quick = self.shift() | count.min(Self::SHIFT) << 4;
    }

    /// Whether what was received since the last acknowledgment, `waiting` octets, is acknowledged at once: two full
    /// segments (RFC 9293 SHLD-18), or one where that is to be quick.
    #[inline(always)]
    pub(super) const fn is_enough(&mut self, waiting: u32) -> bool {
        let full = self.mss as u32;
        if self.shift_and_quick <= Self::SHIFT {
            return waiting >= 2 * full;
        }
        let quick = waiting >= full;
        self.shift_and_quick -= (quick as u8) << 4;
        quick
    }

    /// RCV.WND, octets.
    pub const fn wnd(&self) -> u32 {
        self.edge.since(self.nxt)
    }

    // RFC 9293 §3.10.7.4, first check: one match arm for each of its four cases.
    /// Whether a segment has anything to do with the receive window.
    pub const fn is_acceptable(&self, seg_seq: Seq, seg_len: u32) -> bool {
        let wnd = self.wnd();
        match (seg_len, wnd) {
            (0, 0) => seg_seq.since(self.nxt) == 0,
            (0, _) => seg_seq.in_window(self.nxt, wnd),
            (_, 0) => false,
            (len, _) => {
                seg_seq.in_window(self.nxt, wnd)
                    || Seq::new(seg_seq.raw().wrapping_add(len - 1)).in_window(self.nxt, wnd)
            }
        }
    }
}

/// Timestamps of one connection (RFC 7323 §3 to §5).
#[derive(Clone, Copy, Debug, Default)]
pub struct Stamps {
    /// TS.Recent.
    pub recent: u32,
    /// Added to our clock.
    pub offset: u32,
}

/// How far our own FIN has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fin {
    /// The user has not closed.
    #[default]
    None,
    /// It follows the text in the send buffer.
    Queued,
    /// Sent at least once.
    Sent,
    /// Acknowledged.
    Acked,
}

/// What a connection is opened with; the stack fills it in.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// Our initial sequence number.
    pub iss: Seq,
    /// Octets of TCP header and text that fit the path's MTU, less twenty: what we announce as MSS.
    pub mss: u16,
    /// What to assume where the peer announces none: 536 for IPv4, 1220 for IPv6 (RFC 9293 MUST-15).
    pub mss_default: u16,
    /// The tuple's timestamp offset.
    pub timestamp_offset: u32,
    /// The clock.
    pub now: Instant,
}

impl Opening {
    /// TSval of what is sent at `at` (RFC 7323 §5.4).
    pub(super) fn stamp(&self, at: Instant) -> u32 {
        timestamp_clock(at).wrapping_add(self.timestamp_offset)
    }
}

/// Everything outside the TCB that processing needs, lent for one call.
#[derive(Debug)]
pub struct Env<'a> {
    /// The instant of this turn.
    pub now: &'a Clock,
    /// Shared settings.
    pub config: &'a TcpConfig,
    /// Chunks and reassembly queues of all receive buffers.
    pub recv: &'a mut RecvPools,
    /// What is counted.
    pub counters: &'a mut Counters,
    /// What all TCBs share.
    pub shared: &'a mut Shared,
}

/// One connection in a state that owns a TCB.
///
/// What every segment in ESTABLISHED touches comes first; together with the stack's 24 octets before it, it
/// fills two cache lines.
///
/// The default is one that no connection has: memory for [`Tcb::open`] and [`HalfOpen::on_segment`](super::HalfOpen::on_segment).
#[derive(Debug, Default)]
#[repr(C)]
pub struct Tcb {
    pub(super) snd: Snd,
    pub(super) rcv: Rcv,
    pub(super) ts: Stamps,
    pub(super) fast_timers: FastTimers,
    pub(super) send_buf: SendBuf,
    pub(super) congestion: Congestion,
    /// When the peer was last heard.
    pub(super) heard_at: Millis32,
    pub(super) flags: Flags,
    pub(super) settings: SettingsId,
    pub(super) state: State,
    pub(super) closed: Option<CloseReason>,

    /// Where what is attached to it lies, with [`Flags::ATTACHED`]; else where its offer lies, if it has one.
    pub(super) cold: u32,
    pub(super) rtt: RttEstimator,
    /// The segment being timed, with [`Flags::TIMED`]: its sequence number and when it left, an RTO ago at most
    /// (Karn: never a retransmission).
    pub(super) timed_seq: Seq,
    pub(super) timed_at: Micros32,
    /// When SND.UNA last moved, the first octet went into an empty flight, a closed window opened, or a
    /// keep-alive probe was sent: since then the peer is waited for.
    pub(super) progress_at: Millis32,
    /// When text was last sent. A connection that was idle for a multiple of 49.7 days seems not to have been.
    pub(super) sent_at: Millis32,
    pub(super) slow_timers: SlowTimers,
    pub(super) retransmits: u16,
    /// What we announce as MSS; once open, SMSS as the handshake has left it, which a path may make smaller.
    pub(super) mss_most: u16,
    /// Consecutive timeouts of the segment at SND.UNA.
    pub(super) timeouts: u8,
    /// Window probes since the window closed.
    pub(super) probes: u8,
    /// Keep-alive probes since the peer was last heard.
    pub(super) keep_probes: u8,
    pub(super) ecn: Ecn,
}

const _: () = assert!(size_of::<Tcb>() == 156);
const _: () = assert!(offset_of!(Tcb, cold) == Tcb::HOT_OCTETS);

impl Tcb {
    /// How much of it every segment touches.
    pub const HOT_OCTETS: usize = 104;

    /// An active open, whatever the TCB was before: the SYN leaves with the next [`Tcb::poll_segment`]
    /// (RFC 9293 §3.10.1).
    ///
    /// `settings` are those of `options`; the TCB takes over the caller's use of them.
    pub fn open(
        &mut self,
        opening: &Opening,
        options: &FlowOptions,
        settings: SettingsId,
        shared: &Shared,
        config: &TcpConfig,
    ) {
        *self = Self::new(opening, settings, shared, config, State::SynSent);
        let timeout = options.connect_timeout.unwrap_or(config.r2_syn);
        self.set_timer(Timer::User, timeout, opening.now);
    }

    /// This active open follows an incarnation that is in TIME-WAIT; its ISN is beyond `before.floor`.
    pub fn follow(&mut self, before: &Predecessor) {
        self.flags.set(Flags::FOLLOWS);
        (self.snd.wl1, self.snd.wl2, self.ts.recent) = (before.snd_nxt, before.rcv_nxt, before.stamp);
    }

    /// Whether it has a predecessor in TIME-WAIT and no answer of the peer yet.
    pub fn is_waiting_to_follow(&self) -> bool {
        self.flags.any(Flags::FOLLOWS) && self.state == State::SynSent
    }

    /// A TCB before anything was heard from the peer.
    #[inline(always)]
    pub(super) fn new(
        opening: &Opening,
        id: SettingsId,
        shared: &Shared,
        config: &TcpConfig,
        state: State,
    ) -> Self {
        let settings = shared.settings.get(id);
        let shift = if config.window_scale { window_shift(settings.recv_limit) } else { 0 };
        let (iss, now) = (opening.iss, Millis32::ceil(opening.now));
        let mut flags = Flags::default();
        flags.put(Flags::SACK, config.sack);
        flags.put(Flags::STAMPS, config.timestamps);
        flags.put(Flags::NAGLE, settings.nagle);
        flags.put(Flags::USER_TIMEOUT, settings.user_timeout.is_some());
        Self {
            rcv: Rcv::new(shift, opening.mss_default),
            snd: Snd { una: iss, nxt: iss, cursor: iss, mss: opening.mss, ..Snd::default() },
            ts: Stamps { offset: opening.timestamp_offset, ..Stamps::default() },
            fast_timers: FastTimers::default(),
            send_buf: SendBuf::default(),
            congestion: Congestion::new(
                settings.congestion,
                initial_window(config.initial_window, u32::from(opening.mss)),
            ),
            heard_at: now,
            flags,
            settings: id,
            state,
            closed: None,
            cold: Offer::NOWHERE,
            rtt: RttEstimator::new(&config.rto),
            timed_seq: iss,
            timed_at: Micros32::default(),
            progress_at: now,
            sent_at: now,
            slow_timers: SlowTimers::default(),
            retransmits: 0,
            mss_most: opening.mss,
            timeouts: 0,
            probes: 0,
            keep_probes: 0,
            ecn: Ecn::agreed(settings.ecn),
        }
    }

    /// Learns from the peer's SYN: IRS, and the options that both sides now agree on.
    ///
    /// `wnd` is SEG.WND, never scaled on a SYN (RFC 7323 §2.2).
    pub(super) fn agree(&mut self, irs: Seq, wnd: u16, syn: &TcpOptions, env: &Env<'_>) {
        let mss_default = self.rcv.mss;
        self.rcv.nxt = irs + 1;
        self.rcv.acked = self.rcv.nxt;
        self.rcv.mss = mss_default.min(self.mss_most);
        // The SYN's own window is never scaled, so neither is the first one we offer.
        let settings = env.shared.settings.get(self.settings);
        self.rcv.edge = self.rcv.nxt + settings.recv_limit.min(INITIAL_WINDOW);

        let scaling = env.config.window_scale && syn.window_scale.is_some();
        self.snd.shift = syn.window_scale.filter(|_| scaling).unwrap_or(0);
        if !scaling {
            self.rcv.shift_and_quick = 0;
        }
        self.snd.wnd = u32::from(wnd);
        self.snd.max_wnd = self.snd.wnd;
        self.snd.wl1 = irs;
        self.snd.wl2 = self.snd.una;
        self.flags.put(Flags::SACK, env.config.sack && syn.sack_permitted);

        self.flags.put(Flags::STAMPS, env.config.timestamps && syn.timestamps.is_some());
        if let Some(stamps) = syn.timestamps {
            self.ts.recent = stamps.val;
        }
        self.set_mss(syn.mss.unwrap_or(mss_default));
        self.congestion = Congestion::new(
            settings.congestion,
            initial_window(env.config.initial_window, u32::from(self.snd.mss)),
        );
    }

    /// RFC 9293 MUST-16: the smaller of what the peer takes and what the path carries, less our options.
    pub(super) fn set_mss(&mut self, peer: u16) {
        // A peer that announces next to nothing must not make us send a header an octet.
        self.snd.mss = peer.max(64).min(self.mss_most).saturating_sub(self.options_len()).max(1);
    }

    /// Where a segment without text is believed: at SND.NXT, or at the window's right edge while a probe, or
    /// text from before the window shrank, lies beyond it.
    pub(super) fn seq_for_control(&self) -> Seq {
        let edge = self.text_start() + self.snd.wnd;
        if edge.before(self.snd.nxt) { edge } else { self.snd.nxt }
    }

    /// The connection's state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Why it is over; `None` while it lives.
    pub const fn closed(&self) -> Option<CloseReason> {
        self.closed
    }

    /// Which settings it has.
    pub const fn settings(&self) -> SettingsId {
        self.settings
    }

    /// What must hold between any two calls; for tests and simulations.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check_invariants(&self) {
        let Snd { una, nxt, cursor, .. } = self.snd;
        assert!(una.at_or_before(cursor) && cursor.at_or_before(nxt), "{:?}", self.snd);
        assert!(self.rcv.wnd() < 1 << 30, "{:?}", self.rcv);
        let text_end = self.text_start() + self.send_buf.len();
        let sent_fin = matches!(self.snd.fin, Fin::Sent | Fin::Acked);
        if self.closed.is_none() {
            assert!(nxt.at_or_before(text_end + u32::from(sent_fin)), "{:?} {:?}", self.snd, self.snd.fin);
            let may_send = matches!(self.state, State::SynSent | State::SynReceived)
                || self.state.may_send()
                || self.snd.fin != Fin::None;
            assert!(may_send, "{:?} without FIN", self.state);
            let guarded = self.is_set(Timer::Retransmit) || self.is_half_open();
            assert!(guarded || self.snd.flight() == 0, "octets in flight and no timer: {:?}", self.snd);
        }
        assert!(self.flags.any(Flags::ATTACHED) || !self.flags.any(Flags::UNREAD | Flags::GAPS), "{self:?}");
        // RFC 5681 §3.1: no loss takes the last segment.
        assert!(self.congestion.cwnd() >= u32::from(self.snd.mss), "less than a segment: {self:?}");
    }

    /// What must hold once [`Tcb::poll_segment`] has nothing more to say; for tests and simulations.
    ///
    /// # Panics
    ///
    /// When something waits to be sent or acknowledged that no timer will ever bring out.
    pub fn check_drained(&self) {
        let waiting = !self.send_buf.is_empty() || matches!(self.snd.fin, Fin::Queued | Fin::Sent);
        if self.closed.is_none() && (waiting || !self.state.is_synchronized()) {
            let guarded = self.is_set(Timer::Retransmit) || self.is_half_open();
            assert!(guarded, "waits for nothing: {self:?}");
        }
        let repairing = self.flags.any(Flags::REPAIR) && !self.flags.any(Flags::MODEL);
        assert!(!self.flags.any(Flags::FORCE) && !repairing && self.rcv.acks_owed == 0, "{self:?}");
    }

    /// Whether it was made for a segment that has not established it: `HalfOpen` has the timer.
    fn is_half_open(&self) -> bool {
        self.state == State::SynReceived && !self.is_set(Timer::User)
    }

    /// The sequence number of the first octet in the send buffer.
    pub(super) fn text_start(&self) -> Seq {
        // Before its SYN is acknowledged, SND.UNA is the SYN's own number.
        self.snd.una + u32::from(!self.state.is_synchronized())
    }
}

/// The least shift with which `limit` octets fit the window field (RFC 7323 §2.3).
#[expect(clippy::cast_possible_truncation, reason = "at most 14")]
pub const fn window_shift(limit: u32) -> u8 {
    let beyond = (u32::BITS - limit.leading_zeros()).saturating_sub(u16::BITS);
    if beyond < 14 { beyond as u8 } else { 14 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 9293 §3.10.7.4, first check.
    #[test]
    fn the_four_cases_of_acceptability() {
        // Offsets are relative to RCV.NXT, which is tried in mid-space and near the wrap.
        let cases = [
            // (SEG.SEQ, SEG.LEN, RCV.WND, acceptable, why)
            (0, 0, 0, true, "empty, closed window, exactly at RCV.NXT"),
            (1, 0, 0, false, "empty, closed window, beyond RCV.NXT"),
            (9, 0, 10, true, "empty, last octet of the window"),
            (10, 0, 10, false, "empty, one past the window"),
            (-1, 0, 10, false, "empty, one before the window"),
            (0, 1, 0, false, "text never fits a closed window"),
            (-5, 6, 10, true, "old head, new tail"),
            (-5, 5, 10, false, "entirely old"),
            (9, 100, 10, true, "new head, tail past the window"),
            (10, 1, 10, false, "entirely past the window"),
            (-5, 20, 10, false, "engulfs the window: the RFC says no, so do we"),
        ];
        for nxt in [Seq::new(1_000), Seq::new(3), Seq::new(u32::MAX - 3)] {
            for (seq, len, wnd, want, why) in cases {
                let rcv = Rcv { nxt, edge: nxt + wnd, ..Rcv::default() };
                let seg_seq = nxt + i32::cast_unsigned(seq);
                assert_eq!(rcv.is_acceptable(seg_seq, len), want, "{why}, RCV.NXT={nxt:?}");
            }
        }
    }

    #[test]
    fn the_window_shift_is_the_least_that_fits() {
        for (limit, want) in
            [(0, 0), (65_535, 0), (65_536, 1), (131_071, 1), (131_072, 2), (256 << 10, 3), (u32::MAX, 14)]
        {
            assert_eq!(window_shift(limit), want, "{limit} octets");
        }
    }
}
