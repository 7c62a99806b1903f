//! TIME-WAIT as a small record: what must be remembered for 2 MSL, and what it answers.
#![forbid(unsafe_code)]

use super::arrives::stamp_before;
use super::flags::Flags;
use super::isn::timestamp_clock;
use super::segment::{Outgoing, Segment};
use super::tcb::Tcb;
use crate::base::{Counter, Instant, Seq};
use crate::wire::{Control, TcpOptions, Timestamps};

/// What is left of a connection that closed first.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    snd_nxt: Seq,
    rcv_nxt: Seq,
    /// The largest window the peer offered: how far its old segments' acknowledgments may reach.
    reach: u32,
    /// TS.Recent; meaningful with `stamps`.
    stamp: u32,
    rcv_wnd: u16,
    stamps: bool,
}

/// What a segment means to a connection in TIME-WAIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeWaitVerdict {
    /// Nothing.
    Ignore,
    /// It is answered with an ACK.
    Ack,
    /// It is answered with an ACK within the rate limit (RFC 5961).
    Challenge,
    /// The peer's FIN again: answered, and 2 MSL begin anew.
    Restart,
    /// A RST exactly at RCV.NXT: the record goes.
    Free,
    /// A SYN that may begin a new incarnation, whose ISN must lie beyond `floor`.
    Reopen {
        /// One past every sequence number of the old incarnation that may still be believed.
        floor: Seq,
        /// Which rule allowed it.
        by: Counter,
    },
}

impl TimeWait {
    /// The record of `tcb`, which has just entered TIME-WAIT.
    pub fn new(tcb: &Tcb) -> Self {
        Self {
            snd_nxt: tcb.snd.nxt,
            rcv_nxt: tcb.rcv.nxt,
            reach: tcb.snd.max_wnd.max(u32::from(u16::MAX)),
            stamp: tcb.ts.recent,
            rcv_wnd: u16::try_from(tcb.rcv.wnd() >> tcb.rcv.shift).unwrap_or(u16::MAX),
            stamps: tcb.flags.any(Flags::STAMPS),
        }
    }

    /// A segment has arrived for the old incarnation's tuple (RFC 9293 §3.10.7.4, RFC 6191, RFC 5961).
    pub fn on_segment(&self, seg: &Segment<'_>) -> TimeWaitVerdict {
        use TimeWaitVerdict::*;
        if seg.has(Control::RST) {
            return if seg.seq == self.rcv_nxt { Free } else { Ignore };
        }
        if seg.has(Control::SYN) {
            return if seg.has(Control::ACK | Control::FIN) { Challenge } else { self.on_syn(seg) };
        }
        if self.is_stale(seg) {
            return Challenge;
        }
        let old = seg.seq.before(self.rcv_nxt);
        match (seg.has(Control::FIN), seg.is_empty()) {
            (true, _) if old => Restart,
            (_, false) => Ack,
            (_, true) if seg.seq == self.rcv_nxt => Ignore,
            // An old empty segment may be a keep-alive probe, or one of two confused peers.
            (_, true) => Challenge,
        }
    }

    /// RFC 6191 §2 where both incarnations have timestamps, else RFC 9293 §3.6.1 (MAY-2): a later
    /// sequence number.
    fn on_syn(&self, seg: &Segment<'_>) -> TimeWaitVerdict {
        let later_seq = self.rcv_nxt.at_or_before(seg.seq);
        let by = match seg.stamps {
            Some(Timestamps { val, .. }) if self.stamps && val != self.stamp => {
                stamp_before(self.stamp, val).then_some(Counter::TimeWaitReusedByTimestamp)
            }
            _ => later_seq.then_some(Counter::TimeWaitReusedBySequence),
        };
        match by {
            Some(by) => TimeWaitVerdict::Reopen { floor: self.snd_nxt + self.reach + 1, by },
            None => TimeWaitVerdict::Challenge,
        }
    }

    fn is_stale(&self, seg: &Segment<'_>) -> bool {
        let stamp = seg.stamps;
        self.stamps && stamp.is_none_or(|stamps| stamp_before(stamps.val, self.stamp))
    }

    /// The ACK that answers whatever deserves one.
    pub fn ack(&self, timestamp_offset: u32, now: Instant) -> Outgoing {
        let val = timestamp_clock(now).wrapping_add(timestamp_offset);
        let timestamps = self.stamps.then_some(Timestamps { val, ecr: self.stamp });
        Outgoing {
            wnd: self.rcv_wnd,
            options: TcpOptions { timestamps, ..TcpOptions::default() },
            ..Outgoing::bare(self.snd_nxt, self.rcv_nxt, Control::ACK)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: TimeWait = TimeWait {
        snd_nxt: Seq::new(5_000),
        rcv_nxt: Seq::new(u32::MAX),
        reach: 65_535,
        stamp: 100,
        rcv_wnd: 1_000,
        stamps: true,
    };

    fn seg(ctl: Control, seq: Seq, stamp: Option<u32>) -> Segment<'static> {
        let stamps = stamp.map(|val| Timestamps { val, ecr: 0 });
        Segment { seq, ack: OLD.snd_nxt, ctl, wnd: 1, up: 0, stamps, options: &[], text: &[] }
    }

    #[test]
    fn a_syn_reopens_only_by_the_rules() {
        use Counter::{TimeWaitReusedBySequence as BySeq, TimeWaitReusedByTimestamp as ByStamp};
        let plain = TimeWait { stamps: false, ..OLD };
        let (next, before) = (OLD.rcv_nxt, OLD.rcv_nxt - 1);
        for (old, seq, stamp, want, why) in [
            (OLD, before, Some(101), Some(ByStamp), "RFC 6191: newer stamp, whatever the sequence"),
            (OLD, next + 9, Some(99), None, "an older stamp is an old SYN"),
            (OLD, next, Some(100), Some(BySeq), "an equal stamp falls back to the sequence"),
            (OLD, before, Some(100), None, "an equal stamp and an old sequence"),
            (OLD, next, None, Some(BySeq), "no stamp: the sequence decides"),
            (plain, next, Some(7), Some(BySeq), "only the SYN has one: the sequence decides"),
            (plain, before, Some(7), None, "only the SYN has one: the sequence decides"),
            (plain, before, None, None, "an old sequence"),
        ] {
            let got = match old.on_segment(&seg(Control::SYN, seq, stamp)) {
                TimeWaitVerdict::Reopen { by, floor } => {
                    assert_eq!(floor, Seq::new(5_000 + 65_536), "{why}");
                    Some(by)
                }
                verdict => {
                    assert_eq!(verdict, TimeWaitVerdict::Challenge, "{why}");
                    None
                }
            };
            assert_eq!(got, want, "{why}");
        }
    }

    #[test]
    fn other_segments_get_what_the_rfc_says() {
        use TimeWaitVerdict::*;
        let (next, old) = (OLD.rcv_nxt, OLD.rcv_nxt - 1);
        let fin = Control::FIN | Control::ACK;
        for (ctl, seq, stamp, want, why) in [
            (Control::RST, next, None, Free, "RST at RCV.NXT"),
            (Control::RST, next + 1, None, Ignore, "any other RST (RFC 1337)"),
            (fin, old, Some(100), Restart, "the FIN again"),
            (fin, old, Some(99), Challenge, "a FIN with an old stamp restarts nothing"),
            (Control::ACK, next, Some(100), Ignore, "an ACK in place"),
            (Control::ACK, old, Some(100), Challenge, "an old ACK, maybe a keep-alive probe"),
            (Control::SYN | Control::ACK, next, Some(200), Challenge, "a SYN-ACK opens nothing"),
            (Control::SYN | Control::FIN, next, Some(200), Challenge, "no TCP sends SYN with FIN"),
        ] {
            assert_eq!(OLD.on_segment(&seg(ctl, seq, stamp)), want, "{why}");
        }
    }

    #[test]
    fn the_ack_is_at_the_old_numbers() {
        let ack = OLD.ack(7, Instant::from_millis(3));
        assert_eq!((ack.seq, ack.ack), (OLD.snd_nxt, OLD.rcv_nxt));
        assert_eq!(ack.options.timestamps, Some(Timestamps { val: 10, ecr: 100 }));
    }
}
