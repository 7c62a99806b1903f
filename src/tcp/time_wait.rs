//! TIME-WAIT as a small record: what must be remembered for 2 MSL, what it answers, who may follow it.
#![forbid(unsafe_code)]

use super::arrives::{stamp_after, stamp_before};
use super::flags::Flags;
use super::isn::timestamp_clock;
use super::segment::{Outgoing, Segment};
use super::tcb::Tcb;
use crate::base::{Counter, Instant, Seq};
use crate::wire::{Control, Timestamps};

/// What is left of a connection that closed first: 20 octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct TimeWait {
    snd_nxt: Seq,
    rcv_nxt: Seq,
    /// The latest TSval of the peer; meaningful with [`TimeWait::STAMPS`].
    stamp: u32,
    /// The millisecond, modulo 2^32, in which the record was made, or 2 MSL began anew.
    since: u32,
    rcv_wnd: u16,
    /// The lower half: how far the peer's windows reached. The upper half: flags.
    bits: u8,
    /// A free octet for whoever keeps the record.
    pub tag: u8,
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
    /// A SYN that may not begin a new incarnation: answered with an ACK whatever the rate limit says, for
    /// the reset that comes back is the way in for a peer that has forgotten the old one.
    Refuse,
    /// The peer's FIN again: answered, and 2 MSL begin anew.
    Restart,
    /// A RST exactly at RCV.NXT: TIME-WAIT ends.
    Reset,
    /// A RST ended TIME-WAIT before: the segment is for no connection.
    Nobody,
    /// A SYN that may begin a new incarnation, whose ISN must not lie before `floor`.
    Reopen {
        /// One past every sequence number of the old incarnation that may still be believed.
        floor: Seq,
        /// Which rule allowed it.
        by: Counter,
    },
}

/// What an active open must know of the incarnation it follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// One past every sequence number of ours that the peer may still believe.
    pub floor: Seq,
    /// SND.NXT.
    pub snd_nxt: Seq,
    /// RCV.NXT: one past every sequence number of the peer.
    pub rcv_nxt: Seq,
    /// The latest TSval of the peer.
    pub stamp: u32,
}

impl TimeWait {
    /// The connection had timestamps.
    const STAMPS: u8 = 1 << 4;
    /// A RST ended TIME-WAIT. What stays says only where a new incarnation may begin.
    const RESET: u8 = 1 << 5;
    /// Windows are counted as 2^16 octets at least.
    const REACH_MIN: u32 = 1 << 16;
    /// Ticks of the timestamp clock before an active open may follow: the first makes our TSval newer, the
    /// second makes sure that a whole millisecond has passed, so the peer's is newer too.
    const AGE_MIN: u32 = 2;

    /// The record of `tcb`, which has just entered TIME-WAIT, or whose active open came to nothing and had
    /// a predecessor there.
    pub fn new(tcb: &Tcb, now: Instant) -> Self {
        Self {
            snd_nxt: tcb.snd.nxt,
            rcv_nxt: if tcb.is_waiting_to_follow() { tcb.snd.wl2 } else { tcb.rcv.nxt },
            stamp: tcb.ts.recent,
            since: timestamp_clock(now),
            rcv_wnd: u16::try_from(tcb.rcv.wnd() >> tcb.rcv.shift()).unwrap_or(u16::MAX),
            bits: reach_code(tcb.snd.max_wnd) | if tcb.flags.any(Flags::STAMPS) { Self::STAMPS } else { 0 },
            tag: 0,
        }
    }

    /// The record with this tag.
    #[must_use]
    pub const fn with_tag(&self, tag: u8) -> Self {
        Self { tag, ..*self }
    }

    /// The millisecond, modulo 2^32, in which 2 MSL began.
    pub const fn since(&self) -> u32 {
        self.since
    }

    /// A segment has arrived for the old incarnation's tuple (RFC 9293 §3.10.7.4, RFC 6191, RFC 5961).
    ///
    /// With `ignore_resets` no RST ends TIME-WAIT (RFC 1337 §3, fix F1).
    pub fn on_segment(&self, seg: &Segment<'_>, ignore_resets: bool) -> TimeWaitVerdict {
        use TimeWaitVerdict::*;
        let is_syn = seg.ctl.without(Control::ECE | Control::CWR) == Control::SYN;
        if is_syn {
            return self.on_syn(seg);
        }
        if self.has(Self::RESET) {
            return Nobody;
        }
        if seg.has(Control::RST) {
            return if seg.seq == self.rcv_nxt && !ignore_resets { Reset } else { Ignore };
        }
        if seg.has(Control::SYN) || self.is_stale(seg) {
            return Challenge;
        }
        if seg.has(Control::FIN) && seg.fin_seq() + 1 == self.rcv_nxt {
            return Restart;
        }
        match seg.is_empty() {
            false => Ack,
            // A keep-alive probe.
            true if seg.seq + 1 == self.rcv_nxt => Challenge,
            // Any other would be answered for ever by a half-open connection that an old SYN made.
            true => Ignore,
        }
    }

    /// RFC 6191 §2 where both incarnations have timestamps that differ, else RFC 9293 §3.6.1 (MAY-2): a later
    /// sequence number.
    fn on_syn(&self, seg: &Segment<'_>) -> TimeWaitVerdict {
        let later = self.rcv_nxt.at_or_before(seg.seq);
        let stamp = seg.stamps.filter(|_| self.has(Self::STAMPS)).map(|stamps| stamps.val);
        let by = match stamp {
            Some(val) if val != self.stamp => {
                stamp_after(val, self.stamp).then_some(Counter::TimeWaitReusedByTimestamp)
            }
            _ => later.then_some(Counter::TimeWaitReusedBySequence),
        };
        // After a RST only a SYN of the same tick is put off: old segments would pass for its text. The
        // peer's next SYN has a newer timestamp.
        let same_tick = stamp == Some(self.stamp);
        let after_reset = self.has(Self::RESET) && !same_tick;
        let by = by.or(after_reset.then_some(Counter::TimeWaitReusedAfterReset));
        by.map_or(TimeWaitVerdict::Refuse, |by| TimeWaitVerdict::Reopen { floor: self.floor(), by })
    }

    fn is_stale(&self, seg: &Segment<'_>) -> bool {
        let stamp = seg.stamps;
        self.has(Self::STAMPS) && stamp.is_none_or(|stamps| stamp_before(stamps.val, self.stamp))
    }

    /// The record after the peer's FIN came again in `seg`: 2 MSL begin anew.
    #[must_use]
    pub fn restarted(&self, seg: &Segment<'_>, now: Instant) -> Self {
        Self { since: timestamp_clock(now), ..self.heard(seg) }
    }

    /// The record after text of the old incarnation came again in `seg`, maybe with a newer timestamp.
    #[must_use]
    pub fn heard(&self, seg: &Segment<'_>) -> Self {
        let old = (seg.seq + seg.len()).at_or_before(self.rcv_nxt);
        let newer = seg.stamps.map(|stamps| stamps.val).filter(|&val| old && stamp_before(self.stamp, val));
        Self { stamp: newer.unwrap_or(self.stamp), ..*self }
    }

    /// The record after the RST that ends TIME-WAIT.
    #[must_use]
    pub const fn after_reset(&self) -> Self {
        Self { bits: self.bits | Self::RESET, ..*self }
    }

    /// Whether a RST ended TIME-WAIT.
    pub const fn is_reset(&self) -> bool {
        self.has(Self::RESET)
    }

    /// What an active open at `now` must know to follow this incarnation; `None` while it may not.
    pub fn predecessor(&self, now: Instant) -> Option<Predecessor> {
        let age = timestamp_clock(now).wrapping_sub(self.since);
        let may = self.has(Self::STAMPS) && age >= Self::AGE_MIN;
        may.then(|| Predecessor {
            floor: self.floor(),
            snd_nxt: self.snd_nxt,
            rcv_nxt: self.rcv_nxt,
            stamp: self.stamp,
        })
    }

    /// Where the next incarnation's ISN may begin: beyond what the peer's window may still reach.
    fn floor(&self) -> Seq {
        self.snd_nxt + (Self::REACH_MIN << (self.bits & 0xf))
    }

    const fn has(&self, flag: u8) -> bool {
        self.bits & flag != 0
    }

    /// The ACK that answers whatever deserves one.
    ///
    /// Its TSval is that of the moment when 2 MSL began, so that this moment alone says which is the last
    /// TSval the peer may have seen.
    pub fn ack(&self, timestamp_offset: u32) -> Outgoing {
        let val = self.since.wrapping_add(timestamp_offset);
        Outgoing {
            wnd: self.rcv_wnd,
            stamps: self.has(Self::STAMPS).then_some(Timestamps { val, ecr: self.stamp }),
            ..Outgoing::bare(self.snd_nxt, self.rcv_nxt, Control::ACK)
        }
    }
}

/// The least power of two above `window` octets, as how often 2^16 is doubled; windows are below 2^30.
fn reach_code(window: u32) -> u8 {
    (0..14).find(|&code| TimeWait::REACH_MIN << code > window).unwrap_or(14)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: TimeWait = TimeWait {
        snd_nxt: Seq::new(5_000),
        rcv_nxt: Seq::new(u32::MAX),
        stamp: 100,
        since: 3,
        rcv_wnd: 1_000,
        bits: TimeWait::STAMPS,
        tag: 0,
    };

    fn with(flags: u8) -> TimeWait {
        TimeWait { bits: flags, ..OLD }
    }

    fn seg(ctl: Control, seq: Seq, stamp: Option<u32>, text: &[u8]) -> Segment<'_> {
        let stamps = stamp.map(|val| Timestamps { val, ecr: 0 });
        Segment { seq, ack: OLD.snd_nxt, ctl, wnd: 1, up: 0, ce: false, stamps, options: &[], text }
    }

    #[test]
    fn a_syn_reopens_only_by_the_rules() {
        use Counter::{
            TimeWaitReusedAfterReset as AfterReset, TimeWaitReusedBySequence as BySeq,
            TimeWaitReusedByTimestamp as ByStamp,
        };
        let plain = with(0);
        let (reset, plain_reset) = (with(TimeWait::STAMPS | TimeWait::RESET), with(TimeWait::RESET));
        let (next, before) = (OLD.rcv_nxt, OLD.rcv_nxt - 1);
        for (old, seq, stamp, want, why) in [
            (OLD, before, Some(101), Some(ByStamp), "RFC 6191: newer stamp, whatever the sequence"),
            (OLD, next, Some(101), Some(ByStamp), "newer stamp and later sequence: the stamp decides"),
            (OLD, next + 9, Some(99), None, "an older stamp is an old SYN, whatever its sequence"),
            (OLD, next, Some(100), Some(BySeq), "an equal stamp falls back to the sequence"),
            (OLD, before, Some(100), None, "an equal stamp and an old sequence"),
            (OLD, before, Some(100 + (1 << 31)), None, "stamps are circular: half a circle is older"),
            (OLD, before, Some(99 + (1 << 31)), Some(ByStamp), "and one less is newer"),
            (OLD, next, None, Some(BySeq), "no stamp: the sequence decides"),
            (OLD, before, None, None, "no stamp and an old sequence"),
            (plain, next, Some(7), Some(BySeq), "only the SYN has one: the sequence is required"),
            (plain, before, Some(7), None, "only the SYN has one, and an old sequence"),
            (plain, next, None, Some(BySeq), "MAY-2"),
            (plain, before, None, None, "an old sequence"),
            (plain, next + ((1 << 31) - 1), None, Some(BySeq), "sequences are circular too"),
            (plain, next + (1 << 31), None, None, "half a circle is older"),
            (reset, before, Some(101), Some(ByStamp), "after a RST the rules still name the reason"),
            (reset, before, Some(99), Some(AfterReset), "a peer with a new clock, which was challenged"),
            (reset, before, None, Some(AfterReset), "a peer that has no stamps any more"),
            (reset, before, Some(100), None, "the tick of the old incarnation's last segments"),
            (plain_reset, before, None, Some(AfterReset), "a peer without stamps gets through"),
        ] {
            for ctl in [Control::SYN, Control::SYN | Control::ECE | Control::CWR] {
                let got = match old.on_segment(&seg(ctl, seq, stamp, b""), false) {
                    TimeWaitVerdict::Reopen { by, floor } => {
                        assert_eq!(floor, Seq::new(5_000 + 65_536), "{why}");
                        Some(by)
                    }
                    verdict => {
                        assert_eq!(verdict, TimeWaitVerdict::Refuse, "{why}");
                        None
                    }
                };
                assert_eq!(got, want, "{why}");
            }
        }
    }

    #[test]
    fn other_segments_get_what_the_rfc_says() {
        use TimeWaitVerdict::*;
        let (next, old) = (OLD.rcv_nxt, OLD.rcv_nxt - 1);
        let fin = Control::FIN | Control::ACK;
        for (ctl, seq, stamp, text, want, why) in [
            (Control::RST, next, None, "", Reset, "RST at RCV.NXT"),
            (Control::RST | Control::ACK, next, Some(9), "", Reset, "RFC 7323 §5.2: no PAWS for a RST"),
            (Control::RST, next + 1, None, "", Ignore, "any other RST (RFC 1337)"),
            (Control::RST, old, None, "", Ignore, "any other RST (RFC 1337)"),
            (fin, old, Some(100), "", Restart, "the FIN again"),
            (fin, old, Some(101), "", Restart, "the FIN sent again later"),
            (fin, old - 3, Some(100), "abc", Restart, "the FIN again, with its text"),
            (fin, old, Some(99), "", Challenge, "a FIN with an old stamp restarts nothing"),
            (fin, old - 9, Some(100), "", Ack, "a FIN of some other incarnation restarts nothing"),
            (fin, next, Some(100), "", Ack, "a second FIN is none"),
            (Control::ACK, old - 9, Some(100), "old text", Ack, "text again: its ACK was lost"),
            (Control::ACK, next, Some(100), "", Ignore, "an ACK in place"),
            (Control::ACK, old, Some(100), "", Challenge, "a keep-alive probe"),
            (Control::ACK, old - 1, Some(100), "", Ignore, "an old ACK is no question"),
            (Control::ACK, next + 9, Some(100), "", Ignore, "nor is one of a half-open connection"),
            (Control::ACK, next, None, "", Challenge, "no stamp where all have one"),
            (Control::SYN | Control::ACK, next, Some(200), "", Challenge, "a SYN-ACK opens nothing"),
            (Control::SYN | Control::FIN, next, Some(200), "", Challenge, "no TCP sends SYN with FIN"),
        ] {
            let seg = seg(ctl, seq, stamp, text.as_bytes());
            assert_eq!(OLD.on_segment(&seg, false), want, "{why}");
            let want = if want == Reset { Ignore } else { want };
            assert_eq!(OLD.on_segment(&seg, true), want, "RFC 1337: {why}");
            assert_eq!(OLD.after_reset().on_segment(&seg, false), Nobody, "after a reset: {why}");
        }
    }

    #[test]
    fn the_ack_is_at_the_old_numbers_and_at_the_old_time() {
        let ack = OLD.ack(7);
        assert_eq!((ack.seq, ack.ack), (OLD.snd_nxt, OLD.rcv_nxt));
        assert_eq!(ack.stamps, Some(Timestamps { val: 10, ecr: 100 }));
    }

    /// Whoever may follow must have a newer timestamp than any segment that we sent or heard.
    #[test]
    fn the_record_keeps_the_latest_stamps_of_both_sides() {
        let (fin, now) = (Control::FIN | Control::ACK, Instant::from_millis(50));
        let old = OLD.rcv_nxt - 1;
        let restarted = OLD.restarted(&seg(fin, old, Some(130), b""), now);
        assert_eq!((restarted.since, restarted.stamp), (50, 130));
        assert_eq!(restarted.heard(&seg(fin, old, Some(120), b"")).stamp, 130, "an older one is no news");
        let text = |seq, stamp| seg(Control::ACK, seq, Some(stamp), b"text");
        assert_eq!((OLD.heard(&text(old - 4, 140)).stamp, OLD.heard(&text(old - 4, 140)).since), (140, 3));
        assert_eq!(OLD.heard(&text(old, 140)).stamp, 100, "text that the peer never sent says nothing");
    }

    #[test]
    fn an_active_open_follows_when_both_clocks_have_ticked() {
        for (old, ms, want, why) in [
            (OLD, 3, false, "the same tick"),
            (OLD, 4, false, "ours is newer, but a microsecond may have passed"),
            (OLD, 5, true, "a whole tick has passed"),
            (TimeWait { since: u32::MAX, ..OLD }, 0, false, "the clock goes round"),
            (TimeWait { since: u32::MAX, ..OLD }, 1, true, "the clock goes round"),
            (OLD.after_reset(), 4, false, "a RST changes nothing"),
            (OLD.after_reset(), 5, true, "a RST changes nothing"),
            (with(0), 5_000, false, "without timestamps never"),
        ] {
            let before = old.predecessor(Instant::from_millis(ms));
            let floor = Seq::new(5_000 + 65_536);
            let (snd_nxt, rcv_nxt) = (old.snd_nxt, old.rcv_nxt);
            let expected = Predecessor { floor, snd_nxt, rcv_nxt, stamp: 100 };
            assert_eq!(before, want.then_some(expected), "{why}");
        }
    }

    #[test]
    fn the_floor_lies_beyond_the_largest_window() {
        for window in [0, 1, 65_535, 65_536, 100_000, 131_072, 65_535 << 14, (1 << 30) - 1] {
            let reach = TimeWait::REACH_MIN << reach_code(window);
            assert!(reach > window && reach <= (2 * window).max(TimeWait::REACH_MIN), "{window} {reach}");
        }
    }
}
