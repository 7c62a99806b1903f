//! Header prediction: the segments that nearly all segments of an established connection are, in one go.
#![forbid(unsafe_code)]

use super::State;
use super::arrives::stamp_before;
use super::flags::Flags;
use super::segment::Segment;
use super::tcb::{Env, Tcb};
use crate::base::{Counter, Millis32};
use crate::wire::Control;

impl Tcb {
    /// Whether a segment is the next of an open connection, exactly at RCV.NXT and inside the window, with nothing
    /// but ACK and PSH and no mark of congestion, and brings text or acknowledges some.
    ///
    /// Whatever is would pass the first four steps and the sixth unchanged, and be found to be no duplicate.
    #[inline(always)]
    pub fn is_predicted(&self, seg: &Segment<'_>) -> bool {
        self.state == State::Established
            && self.closed.is_none()
            && seg.ctl.without(Control::PSH) == Control::ACK
            && !seg.ce
            && seg.seq == self.rcv.nxt
            && seg.text_len() <= self.rcv.wnd()
            && seg.ack.since(self.snd.una) <= self.snd.flight()
            && (seg.ack != self.snd.una || !(seg.text.is_empty() || seg.has_more_options()))
            && self.snd.wnd > 0
            && !self.flags.any(Flags::GAPS)
            && self.flags.any(Flags::STAMPS) == seg.stamps.is_some()
            && seg.stamps.is_none_or(|stamps| !stamp_before(stamps.val, self.ts.recent))
    }

    /// Takes what is predicted; the caller delivers its text, then calls [`Tcb::accept_text`].
    #[inline(always)]
    pub fn take_predicted(&mut self, seg: &Segment<'_>, env: &mut Env<'_>) {
        env.counters.add(Counter::FastPath);
        self.heard_at = Millis32::ceil(env.now);
        // RFC 7323 §4.3 (2): nothing from before RCV.NXT is left to be acknowledged, or another stamp is echoed.
        if let Some(stamps) = seg.stamps
            && self.rcv.acked == seg.seq
        {
            self.ts.recent = stamps.val;
        }
        if seg.ack != self.snd.una {
            self.progress(seg, true, env);
        }
        self.snd.wnd = u32::from(seg.wnd) << self.snd.shift;
        self.snd.max_wnd = self.snd.max_wnd.max(self.snd.wnd);
        (self.snd.wl1, self.snd.wl2) = (seg.seq, seg.ack);
        self.probes = 0;
    }
}
