//! The transmission control block: everything one connection remembers (RFC 9293 §3.3.1).
#![forbid(unsafe_code)]

use super::chunks::ChunkPool;
use super::congestion::{Congestion, initial_window};
use super::recovery::Recovery;
use super::recv_buf::{RecvBuf, RecvPools};
use super::rtt::RttEstimator;
use super::send_buf::SendBuf;
use super::settings::Settings;
use super::timers::{Timer, Timers};
use super::{ChallengeLimit, CloseReason, FlowOptions, State, TcpConfig};
use crate::base::{Counters, Instant, Micros32, Seq};
use crate::wire::TcpOptions;

/// Send sequence variables (RFC 9293 Figure 2's terms).
#[derive(Clone, Copy, Debug, Default)]
pub struct Snd {
    /// SND.UNA: the oldest octet not acknowledged.
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
    /// ISS.
    pub iss: Seq,
    /// SMSS: the most text in one segment, octets, options already taken off.
    pub mss: u16,
    /// Shift of the windows the peer sends.
    pub shift: u8,
}

impl Snd {
    /// Sequence numbers sent and not yet acknowledged.
    pub const fn flight(&self) -> u32 {
        self.nxt.since(self.una)
    }
}

/// Receive sequence variables (RFC 9293 Figure 3's terms).
#[derive(Clone, Copy, Debug, Default)]
pub struct Rcv {
    /// RCV.NXT.
    pub nxt: Seq,
    /// One past the last sequence number ever offered: RCV.NXT + RCV.WND.
    pub edge: Seq,
    /// IRS.
    pub irs: Seq,
    /// RCV.UP; meaningful while it is ahead of RCV.NXT.
    pub up: Seq,
    /// The acknowledgment number sent last (RFC 7323 Last.ACK.sent).
    pub acked: Seq,
    /// The sequence number of the peer's FIN, once it was seen, maybe out of order.
    pub fin: Option<Seq>,
    /// The largest text that came in one segment: what "full-sized" means for delayed ACKs.
    pub mss: u16,
    /// Shift of the windows we send.
    pub shift: u8,
}

impl Rcv {
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
    /// The millisecond at which TS.Recent was taken, modulo 2^32.
    pub recent_at: u32,
    /// Added to our clock.
    pub offset: u32,
    /// Whether both sides agreed to use them.
    pub on: bool,
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

/// Everything outside the TCB that processing needs, lent for one call.
#[derive(Debug)]
pub struct Env<'a> {
    /// The instant of this turn.
    pub now: Instant,
    /// Shared settings.
    pub config: &'a TcpConfig,
    /// Chunks of all send buffers.
    pub send: &'a mut ChunkPool,
    /// Chunks and reassembly queues of all receive buffers.
    pub recv: &'a mut RecvPools,
    /// What is counted.
    pub counters: &'a mut Counters,
    /// The challenge ACKs left.
    pub challenge: &'a mut ChallengeLimit,
}

/// One connection in a state that owns a TCB.
#[derive(Debug)]
pub struct Tcb {
    pub(super) rcv: Rcv,
    pub(super) snd: Snd,
    pub(super) ts: Stamps,
    pub(super) state: State,
    pub(super) fin: Fin,
    /// Acknowledgments to send at the end of this batch: one, or one for each segment out of order.
    pub(super) acks_owed: u8,
    /// Consecutive timeouts of the segment at SND.UNA.
    pub(super) timeouts: u8,
    /// Window probes since the window closed.
    pub(super) probes: u8,
    /// Keep-alive probes since the peer was last heard.
    pub(super) keep_probes: u8,
    /// The connection was aborted and the peer is to be told.
    pub(super) reset_due: bool,
    /// ICMP said, while opening, that the destination cannot be reached.
    pub(super) unreachable: bool,
    pub(super) sack_ok: bool,
    /// Send one segment from SND.UNA, whatever the window says.
    pub(super) repair: bool,
    /// Send at least one octet: a window probe, or the override of RFC 9293 §3.8.6.2.1 (4).
    pub(super) force: bool,
    /// A keep-alive probe is to be sent.
    pub(super) keep_alive_due: bool,
    /// The user closed: what still arrives has no reader.
    pub(super) reader_gone: bool,
    pub(super) paused: bool,
    /// The last [`Tcb::send`] took less than it was given.
    pub(super) wants_room: bool,
    /// The user has been told of the peer's FIN.
    pub(super) fin_told: bool,
    /// Octets of kept text that the user is looking at: [`Tcb::front`] to [`Tcb::consumed`].
    pub(super) offered: u32,
    pub(super) send_buf: SendBuf,
    pub(super) recv_buf: RecvBuf,
    pub(super) timers: Timers,
    pub(super) rtt: RttEstimator,
    /// The segment being timed: its sequence number and when it left (Karn: never a retransmission).
    pub(super) timed: Option<(Seq, Micros32)>,
    pub(super) recovery: Recovery,
    pub(super) congestion: Congestion,
    /// When SND.UNA last moved, the first octet went into an empty flight, a closed window opened, or a
    /// keep-alive probe was sent: since then the peer is waited for.
    pub(super) progress_at: Instant,
    /// When text was last sent.
    pub(super) sent_at: Instant,
    /// When the peer was last heard.
    pub(super) heard_at: Instant,
    pub(super) settings: Settings,
    pub(super) mss_ours: u16,
    pub(super) mss_default: u16,
    pub(super) retransmits: u32,
    pub(super) closed: Option<CloseReason>,
}

impl Tcb {
    /// An active open: the SYN leaves with the next [`Tcb::poll_segment`] (RFC 9293 §3.10.1).
    pub fn active_open(opening: &Opening, options: &FlowOptions, config: &TcpConfig) -> Self {
        let mut tcb = Self::new(opening, options, config, State::SynSent);
        let timeout = options.connect_timeout.unwrap_or(config.r2_syn);
        tcb.timers.set(Timer::User, opening.now + timeout);
        tcb
    }

    /// A TCB before anything was heard from the peer.
    pub(super) fn new(opening: &Opening, options: &FlowOptions, config: &TcpConfig, state: State) -> Self {
        let settings = Settings::new(options);
        let shift = if config.window_scale { window_shift(settings.recv_limit) } else { 0 };
        let iss = opening.iss;
        Self {
            rcv: Rcv { shift, ..Rcv::default() },
            snd: Snd { una: iss, nxt: iss, cursor: iss, iss, mss: opening.mss, ..Snd::default() },
            ts: Stamps { offset: opening.timestamp_offset, on: config.timestamps, ..Stamps::default() },
            state,
            fin: Fin::None,
            acks_owed: 0,
            timeouts: 0,
            probes: 0,
            keep_probes: 0,
            reset_due: false,
            unreachable: false,
            sack_ok: config.sack,
            repair: false,
            force: false,
            keep_alive_due: false,
            reader_gone: false,
            paused: false,
            wants_room: false,
            fin_told: false,
            offered: 0,
            send_buf: SendBuf::default(),
            recv_buf: RecvBuf::default(),
            timers: Timers::default(),
            rtt: RttEstimator::new(&config.rto),
            timed: None,
            recovery: Recovery::default(),
            congestion: Congestion::new(
                options.congestion,
                initial_window(config.initial_window, u32::from(opening.mss)),
            ),
            progress_at: opening.now,
            sent_at: opening.now,
            heard_at: opening.now,
            settings,
            mss_ours: opening.mss,
            mss_default: opening.mss_default,
            retransmits: 0,
            closed: None,
        }
    }

    /// Learns from the peer's SYN: IRS, and the options that both sides now agree on.
    ///
    /// `wnd` is SEG.WND, never scaled on a SYN (RFC 7323 §2.2).
    pub(super) fn agree(&mut self, irs: Seq, wnd: u16, syn: &TcpOptions, env: &Env<'_>) {
        self.rcv.irs = irs;
        self.rcv.nxt = irs + 1;
        self.rcv.acked = self.rcv.nxt;
        self.rcv.up = self.rcv.nxt;
        self.rcv.mss = self.mss_default.min(self.mss_ours);
        // The SYN's own window is never scaled, so neither is the first one we offer.
        self.rcv.edge = self.rcv.nxt + self.settings.recv_limit.min(u32::from(u16::MAX));

        let scaling = env.config.window_scale && syn.window_scale.is_some();
        self.snd.shift = syn.window_scale.filter(|_| scaling).unwrap_or(0);
        if !scaling {
            self.rcv.shift = 0;
            self.settings.recv_limit = self.settings.recv_limit.min(u32::from(u16::MAX));
        }
        self.snd.wnd = u32::from(wnd);
        self.snd.max_wnd = self.snd.wnd;
        self.snd.wl1 = irs;
        self.snd.wl2 = self.snd.una;
        self.sack_ok = env.config.sack && syn.sack_permitted;

        self.ts.on = env.config.timestamps && syn.timestamps.is_some();
        if let Some(stamps) = syn.timestamps.filter(|_| self.ts.on) {
            self.ts.recent = stamps.val;
            self.ts.recent_at = super::isn::timestamp_clock(env.now);
        }
        self.set_mss(syn.mss.unwrap_or(self.mss_default));
        self.congestion = Congestion::new(
            self.settings.congestion,
            initial_window(env.config.initial_window, u32::from(self.snd.mss)),
        );
    }

    /// RFC 9293 MUST-16: the smaller of what the peer takes and what the path carries, less our options.
    pub(super) fn set_mss(&mut self, peer: u16) {
        let options = if self.ts.on { 12 } else { 0 };
        // A peer that announces next to nothing must not make us send a header an octet.
        self.snd.mss = peer.max(64).min(self.mss_ours).saturating_sub(options).max(1);
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

    /// The first deadline of any of its timers.
    pub fn deadline(&self) -> Instant {
        self.timers.earliest()
    }

    /// Gives every buffer back; the TCB is then only good for dropping.
    pub fn release(&mut self, send: &mut ChunkPool, recv: &mut RecvPools) {
        self.send_buf.clear(send);
        self.recv_buf.clear(recv);
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
        let sent_fin = matches!(self.fin, Fin::Sent | Fin::Acked);
        if self.closed.is_none() {
            assert!(nxt.at_or_before(text_end + u32::from(sent_fin)), "{:?} {:?}", self.snd, self.fin);
            let may_send = matches!(self.state, State::SynSent | State::SynReceived)
                || self.state.may_send()
                || self.fin != Fin::None;
            assert!(may_send, "{:?} without FIN", self.state);
            let guarded = self.timers.is_set(Timer::Retransmit) || self.is_half_open();
            assert!(guarded || self.snd.flight() == 0, "octets in flight and no timer: {:?}", self.snd);
        }
        assert!(self.rcv.fin.is_none_or(|fin| self.rcv.nxt.at_or_before(fin + 1)), "{:?}", self.rcv);
    }

    /// What must hold once [`Tcb::poll_segment`] has nothing more to say; for tests and simulations.
    ///
    /// # Panics
    ///
    /// When something waits to be sent or acknowledged that no timer will ever bring out.
    pub fn check_drained(&self) {
        let waiting = !self.send_buf.is_empty() || matches!(self.fin, Fin::Queued | Fin::Sent);
        if self.closed.is_none() && (waiting || !self.state.is_synchronized()) {
            let guarded = self.timers.is_set(Timer::Retransmit) || self.is_half_open();
            assert!(guarded, "waits for nothing: {self:?}");
        }
        assert!(!self.force && !self.repair && self.acks_owed == 0, "{self:?}");
    }

    /// Whether it was made for a segment that has not established it: `HalfOpen` has the timer.
    fn is_half_open(&self) -> bool {
        self.state == State::SynReceived && !self.timers.is_set(Timer::User)
    }

    /// The sequence number of the first octet in the send buffer.
    pub(super) fn text_start(&self) -> Seq {
        // Before its SYN is acknowledged, SND.UNA is the SYN's own number.
        self.snd.una + u32::from(!self.state.is_synchronized())
    }
}

/// The least shift with which `limit` octets fit the window field (RFC 7323 §2.3).
pub const fn window_shift(limit: u32) -> u8 {
    let mut shift = 0;
    while shift < 14 && limit >> shift > u16::MAX as u32 {
        shift += 1;
    }
    shift
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
