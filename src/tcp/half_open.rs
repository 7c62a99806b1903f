//! A connection in SYN-RECEIVED by passive open: what the SYN said, and no TCB yet.
#![forbid(unsafe_code)]

use super::arrives::{Arrival, stamp_before};
use super::ecn::{Ecn, asks};
use super::flags::Flags;
use super::segment::{MoreOptions, Outgoing, Segment};
use super::settings::SettingsId;
use super::tcb::{Env, Opening, Tcb};
use super::{FlowOptions, State, TcpConfig};
use crate::base::{Instant, Micros32, Seq};
use crate::wire::{Control, SackBlocks, TcpOptions, Timestamps};

/// The peer's SYN and our answer to it, in 24 octets.
///
/// That there is such a record says that the open was passive (RFC 9293 MUST-11): a reset takes it back to LISTEN.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    /// SEG.SEQ of the SYN.
    irs: Seq,
    /// Our initial sequence number.
    iss: Seq,
    /// TSval of the SYN; meaningful with [`HalfOpen::STAMPS`].
    stamp: u32,
    /// When the first SYN-ACK left, modulo 71 minutes.
    sent_at: Micros32,
    wnd: u16,
    /// What the SYN announced, at least one; zero when it said nothing.
    mss: u16,
    /// Whose SYN it was, or [`HalfOpen::NOBODY`].
    owner: u16,
    /// SYN-ACKs sent again so far because the timer expired, and above them [`HalfOpen::ECN`].
    retries_and_ecn: u8,
    /// The window scale or [`HalfOpen::NO_SCALE`], and the flags below.
    scale_and_flags: u8,
}

const _: () = assert!(size_of::<HalfOpen>() == 24);

impl HalfOpen {
    /// The bits of the window scale, and what they are when the SYN has none: a scale is at most 14.
    const SCALE: u8 = 0x0f;
    const NO_SCALE: u8 = 0x0f;
    /// The SYN had timestamps.
    const STAMPS: u8 = 1 << 4;
    /// The SYN permitted SACK.
    const SACK: u8 = 1 << 5;
    /// The SYN-ACK was sent more than once, so that only an echo tells which of them is answered (Karn).
    const AMBIGUOUS: u8 = 1 << 6;
    /// It came over IPv4.
    const IPV4: u8 = 1 << 7;
    /// The SYN, each time it came, asked for explicit congestion notification.
    const ECN: u8 = 1 << 7;
    /// The owner of a record that is not in use.
    const NOBODY: u16 = u16::MAX;

    /// The entry that the SYN `seg` makes.
    #[inline(always)]
    pub fn new(seg: &Segment<'_>, iss: Seq, now: Instant) -> Self {
        let options = TcpOptions::parse(seg.options);
        let stamps = if seg.stamps.is_some() { Self::STAMPS } else { 0 };
        let sack = if options.sack_permitted { Self::SACK } else { 0 };
        Self {
            irs: seg.seq,
            iss,
            stamp: seg.stamps.map_or(0, |stamps| stamps.val),
            sent_at: Micros32::floor(now),
            wnd: seg.wnd,
            mss: options.mss.map_or(0, |mss| mss.max(1)),
            owner: 0,
            retries_and_ecn: if asks(seg.ctl) { Self::ECN } else { 0 },
            scale_and_flags: options.window_scale.unwrap_or(Self::NO_SCALE) | stamps | sack,
        }
    }

    /// The same entry with what the stack must know of it: whose SYN it was, a number below `u16::MAX`, and
    /// whether it came over IPv4.
    #[must_use]
    #[inline(always)]
    pub fn owned_by(mut self, owner: u16, ipv4: bool) -> Self {
        debug_assert!(owner != Self::NOBODY, "the last number means nobody");
        self.owner = owner;
        self.scale_and_flags |= if ipv4 { Self::IPV4 } else { 0 };
        self
    }

    /// Our initial sequence number.
    pub const fn iss(&self) -> Seq {
        self.iss
    }

    /// Whose SYN it was.
    pub const fn owner(&self) -> u16 {
        self.owner
    }

    /// Whether it came over IPv4.
    pub const fn is_ipv4(&self) -> bool {
        self.has(Self::IPV4)
    }

    /// It came to nothing, or to a connection: the record is not in use any more but for a number left in it.
    pub const fn end(&mut self, left: u32) {
        self.owner = Self::NOBODY;
        self.stamp = left;
    }

    /// The number that [`HalfOpen::end`] left.
    pub const fn left(&self) -> u32 {
        self.stamp
    }

    /// Whether [`HalfOpen::end`] was called.
    pub const fn is_over(&self) -> bool {
        self.owner == Self::NOBODY
    }

    const fn has(&self, flag: u8) -> bool {
        self.scale_and_flags & flag != 0
    }

    const fn retries(&self) -> u8 {
        self.retries_and_ecn & !Self::ECN
    }

    /// Whether the SYN asked for explicit congestion notification.
    const fn asks_for_ecn(&self) -> bool {
        self.retries_and_ecn & Self::ECN != 0
    }

    fn window_scale(&self) -> Option<u8> {
        Some(self.scale_and_flags & Self::SCALE).filter(|&scale| scale != Self::NO_SCALE)
    }

    /// Whether `seg` is the SYN that made this entry, once more.
    pub fn is_same_syn(&self, seg: &Segment<'_>) -> bool {
        seg.ctl.without(Control::ECE | Control::CWR) == Control::SYN && seg.seq == self.irs
    }

    /// Whether `seg` is another SYN, in the window that `options` offer and not older: back to LISTEN with it
    /// (RFC 9293 §3.10.7.4, fourth).
    pub fn is_new_syn(&self, seg: &Segment<'_>, options: &FlowOptions) -> bool {
        let stale =
            seg.stamps.is_some_and(|stamps| self.has(Self::STAMPS) && stamp_before(stamps.val, self.stamp));
        seg.ctl.without(Control::ECE | Control::CWR) == Control::SYN
            && seg.seq.in_window(self.irs + 1, options.recv_buffer.min(u32::from(u16::MAX)))
            && !stale
    }

    /// Whether `seg`, if it acknowledges our SYN and echoes a timestamp, echoes one of a SYN-ACK that was sent for this
    /// entry (RFC 7323 §3.2).
    ///
    /// What it acknowledges does not tell: an incarnation before this one that sent an octet each 4 us has ended
    /// where the ISN clock is now. Its peer in TIME-WAIT answers our SYN-ACK, and says so by an older echo only.
    pub fn may_be_answered_by(&self, seg: &Segment<'_>, opening: &Opening, config: &TcpConfig) -> bool {
        /// So many intervals, none longer than two minutes, end within the 71 that a time of 32 bits is told for.
        const DATED: u8 = 32;
        let is_told = config.timestamps && self.has(Self::STAMPS) && self.retries() < DATED;
        let answers = seg.has(Control::ACK) && !seg.has(Control::RST) && seg.ack == self.iss + 1;
        let Some(echo) = seg.stamps.map(|stamps| stamps.ecr).filter(|&echo| echo != 0 && is_told && answers)
        else {
            return true;
        };
        let waited = u64::from(self.sent_at.elapsed(opening.now));
        let sent_at = Instant::from_micros(opening.now.as_micros().saturating_sub(waited));
        let [first, last] = [sent_at, opening.now].map(|at| opening.stamp(at));
        echo.wrapping_sub(first) <= last.wrapping_sub(first)
    }

    /// When the SYN-ACK is to be sent again, if it is not answered: RTO doubles each time.
    pub fn deadline(&self, last_sent: Instant, config: &TcpConfig) -> Instant {
        let rto = u64::from(config.rto.initial_us) << self.retries().min(16);
        last_sent.plus_micros(rto.min(u64::from(config.rto.max_us)))
    }

    /// The SYN-ACK went unanswered: counts one more, or `false` when it was the last.
    pub fn retry(&mut self, config: &TcpConfig) -> bool {
        // After as many the intervals are of the longest, so that even 127 take hours.
        let again = self.retries() < config.syn_ack_retries.min(Self::ECN - 1);
        self.retries_and_ecn += u8::from(again);
        self.answer_again();
        again
    }

    const fn answer_again(&mut self) {
        self.scale_and_flags |= Self::AMBIGUOUS;
    }

    /// The SYN came again, as `seg`, so the SYN-ACK goes again; its timer runs on, or a peer that repeats itself
    /// would keep the entry for ever.
    pub fn on_same_syn(&mut self, seg: &Segment<'_>) {
        self.answer_again();
        if !asks(seg.ctl) {
            // RFC 3168 §6.1.1: the peer will send no text with ECT, and we should not.
            self.retries_and_ecn &= !Self::ECN;
        }
    }

    /// The SYN-ACK, with the options that both sides want (MUST-14, RFC 7323 §2.2, §3.2, RFC 2018 §2).
    #[inline(always)]
    pub fn syn_ack(&self, opening: &Opening, options: &FlowOptions, config: &TcpConfig) -> Outgoing {
        let limit = options.recv_buffer;
        let scaling = config.window_scale && self.window_scale().is_some();
        let ecn = if options.may_use_ecn() && self.asks_for_ecn() { Control::ECE } else { Control::EMPTY };
        let ctl = Control::SYN | Control::ACK | ecn;
        let val = opening.stamp(opening.now);
        Outgoing {
            wnd: u16::try_from(limit).unwrap_or(u16::MAX),
            stamps: (config.timestamps && self.has(Self::STAMPS))
                .then_some(Timestamps { val, ecr: self.stamp }),
            more: MoreOptions::Syn {
                mss: opening.mss,
                window_scale: scaling.then(|| super::tcb::window_shift(limit)),
                sack_permitted: config.sack && self.has(Self::SACK),
            },
            ..Outgoing::bare(self.iss, self.irs + 1, ctl)
        }
    }

    /// `seg` might establish the connection: makes the TCB for it, whatever that was before, and takes it through the
    /// same eight steps as any other segment. Where it was not [opened](Arrival::opened), what is to be answered is in
    /// [`Arrival::reset`], and the TCB is not needed any more; else whoever keeps it holds its settings.
    pub fn on_segment<'a>(
        &self,
        (opening, settings): (&Opening, SettingsId),
        tcb: &mut Tcb,
        seg: &mut Segment<'a>,
        arrival: &mut Arrival<'a>,
        env: &mut Env<'_>,
    ) {
        self.fill(tcb, opening, settings, env);
        tcb.on_unpredicted(seg, arrival, env);
        if !arrival.opened && arrival.reset.is_none() {
            arrival.reset = tcb.poll_segment(env);
        }
    }

    /// Makes the TCB of this connection, in SYN-RECEIVED, its SYN-ACK sent.
    pub(super) fn fill(&self, tcb: &mut Tcb, opening: &Opening, settings: SettingsId, env: &Env<'_>) {
        let opening = Opening { iss: self.iss, ..*opening };
        *tcb = Tcb::new(&opening, settings, env.shared, env.config, State::SynReceived);
        let syn = TcpOptions {
            mss: Some(self.mss).filter(|&mss| mss != 0),
            window_scale: self.window_scale(),
            sack_permitted: self.has(Self::SACK),
            timestamps: self.has(Self::STAMPS).then_some(Timestamps { val: self.stamp, ecr: 0 }),
            sack: SackBlocks::default(),
        };
        tcb.snd.nxt = self.iss + 1;
        tcb.snd.cursor = tcb.snd.nxt;
        tcb.agree(self.irs, self.wnd, &syn, env);
        tcb.timeouts = self.retries();
        if !self.asks_for_ecn() {
            tcb.ecn = Ecn::default();
        }
        if !self.has(Self::AMBIGUOUS) {
            tcb.flags.set(Flags::TIMED);
            tcb.timed_seq = self.iss;
            tcb.timed_at = self.sent_at;
        }
    }
}
