//! A connection in SYN-RECEIVED by passive open: what the SYN said, and no TCB yet.
#![forbid(unsafe_code)]

use super::segment::{Outgoing, Segment};
use super::tcb::{Env, Opening, Tcb};
use super::{FlowOptions, State, TcpConfig};
use crate::base::{Instant, Seq};
use crate::wire::{Control, SackBlocks, TcpOptions, Timestamps};

/// The peer's SYN and our answer to it.
#[derive(Clone, Copy, Debug)]
pub struct HalfOpen {
    /// SEG.SEQ of the SYN.
    irs: Seq,
    /// Our initial sequence number.
    iss: Seq,
    /// TSval of the SYN; meaningful with `stamps`.
    stamp: u32,
    wnd: u16,
    mss: Option<u16>,
    window_scale: Option<u8>,
    stamps: bool,
    sack: bool,
    /// SYN-ACKs sent again so far because the timer expired.
    retries: u8,
    /// The SYN-ACK was sent more than once, so its answer measures nothing (Karn).
    ambiguous: bool,
    /// When the first SYN-ACK left.
    sent_at: Instant,
}

impl HalfOpen {
    /// The entry that the SYN `seg` makes.
    pub fn new(seg: &Segment<'_>, iss: Seq, now: Instant) -> Self {
        let options = TcpOptions::parse(seg.options);
        Self {
            irs: seg.seq,
            iss,
            stamp: seg.stamps.map_or(0, |stamps| stamps.val),
            wnd: seg.wnd,
            mss: options.mss,
            window_scale: options.window_scale,
            stamps: seg.stamps.is_some(),
            sack: options.sack_permitted,
            retries: 0,
            ambiguous: false,
            sent_at: now,
        }
    }

    /// Whether `seg` is the SYN that made this entry, once more.
    pub fn is_same_syn(&self, seg: &Segment<'_>) -> bool {
        seg.ctl.without(Control::ECE | Control::CWR) == Control::SYN && seg.seq == self.irs
    }

    /// Whether `seg` is another SYN, in the window: back to LISTEN with it (RFC 9293 §3.10.7.4, fourth).
    pub fn is_new_syn(&self, seg: &Segment<'_>) -> bool {
        seg.ctl.without(Control::ECE | Control::CWR) == Control::SYN
            && seg.seq.in_window(self.irs + 1, u32::from(u16::MAX))
    }

    /// When the SYN-ACK is to be sent again, if it is not answered: RTO doubles each time.
    pub fn deadline(&self, last_sent: Instant, config: &TcpConfig) -> Instant {
        let rto = u64::from(config.rto.initial_us) << self.retries.min(16);
        last_sent.plus_micros(rto.min(u64::from(config.rto.max_us)))
    }

    /// The SYN-ACK went unanswered: counts one more, or `false` when it was the last.
    pub fn retry(&mut self, config: &TcpConfig) -> bool {
        let again = self.retries < config.syn_ack_retries;
        self.retries += u8::from(again);
        self.ambiguous = true;
        again
    }

    /// The SYN came again, so the SYN-ACK goes again; its timer runs on, or a peer that repeats itself
    /// would keep the entry for ever.
    pub fn answer_again(&mut self) {
        self.ambiguous = true;
    }

    /// The SYN-ACK, with the options that both sides want (MUST-14, RFC 7323 §2.2, §3.2, RFC 2018 §2).
    pub fn syn_ack(&self, opening: &Opening, options: &FlowOptions, config: &TcpConfig) -> Outgoing {
        let limit = options.recv_buffer;
        let scaling = config.window_scale && self.window_scale.is_some();
        let val = super::isn::timestamp_clock(opening.now).wrapping_add(opening.timestamp_offset);
        Outgoing {
            wnd: u16::try_from(limit).unwrap_or(u16::MAX),
            options: TcpOptions {
                mss: Some(opening.mss),
                window_scale: scaling.then(|| super::tcb::window_shift(limit)),
                sack_permitted: config.sack && self.sack,
                timestamps: (config.timestamps && self.stamps).then_some(Timestamps { val, ecr: self.stamp }),
                sack: SackBlocks::default(),
            },
            ..Outgoing::bare(self.iss, self.irs + 1, Control::SYN | Control::ACK)
        }
    }

    /// The TCB of this connection, in SYN-RECEIVED, its SYN-ACK sent: the segment that might establish it
    /// goes through the same eight steps as any other.
    pub fn to_tcb(&self, opening: &Opening, options: &FlowOptions, env: &Env<'_>) -> Tcb {
        let opening = Opening { iss: self.iss, ..*opening };
        let mut tcb = Tcb::new(&opening, options, env.config, State::SynReceived);
        let syn = TcpOptions {
            mss: self.mss,
            window_scale: self.window_scale,
            sack_permitted: self.sack,
            timestamps: self.stamps.then_some(Timestamps { val: self.stamp, ecr: 0 }),
            sack: SackBlocks::default(),
        };
        tcb.snd.nxt = self.iss + 1;
        tcb.snd.cursor = tcb.snd.nxt;
        tcb.agree(self.irs, self.wnd, &syn, env);
        tcb.timeouts = self.retries;
        if !self.ambiguous {
            tcb.timed = Some((self.iss, self.sent_at));
        }
        tcb
    }
}
