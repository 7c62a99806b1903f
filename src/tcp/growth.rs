//! What an acknowledgment of new octets does to the congestion window.
#![forbid(unsafe_code)]

use super::congestion::Acked;
use super::flags::Flags;
use super::isn::timestamp_clock;
use super::segment::Segment;
use super::tcb::{Env, Tcb};
use crate::base::Micros32;

impl Tcb {
    /// `seg` acknowledged `octets` of `flight` outside recovery, and measured `rtt_us`, if anything.
    #[inline(always)]
    pub(super) fn grow_window(
        &mut self,
        seg: &Segment<'_>,
        (octets, flight): (u32, u32),
        rtt_us: Option<u32>,
        env: &mut Env<'_>,
    ) {
        let acked = Acked {
            octets,
            flight,
            window_limited: flight.saturating_mul(2) >= self.congestion.cwnd(),
            mss: u32::from(self.snd.mss),
            now: Micros32::floor(env.now),
            rtt_us,
            srtt_us: self.rtt.srtt_us(),
        };
        if self.flags.any(Flags::ATTACHED) {
            self.grow_with_memory(seg, acked, env);
        } else {
            self.congestion.on_ack(&acked, None);
        }
    }

    #[inline(never)]
    fn grow_with_memory(&mut self, seg: &Segment<'_>, acked: Acked, env: &mut Env<'_>) {
        let rtt_us = acked.rtt_us.or_else(|| self.stamped_rtt_us(seg, env));
        if let Some(rtt_us) = rtt_us
            && acked.rtt_us.is_none()
        {
            self.rtt.sample_news(rtt_us, &env.config.rto);
        }
        let memory = self.cold_mut(env.shared).map(|cold| &mut cold.congestion);
        self.congestion.on_ack(&Acked { rtt_us, ..acked }, memory);
    }

    /// The round trip by RFC 7323 §4.1, in steps of the timestamp clock, a millisecond: good enough to see that it has grown by four (RFC 9406), for which every acknowledgment is to measure.
    fn stamped_rtt_us(&self, seg: &Segment<'_>, env: &Env<'_>) -> Option<u32> {
        self.echoed_rtt_us(seg.stamps?.ecr, env)
    }

    /// How long ago what is echoed was sent, microseconds.
    pub(super) fn echoed_rtt_us(&self, ecr: u32, env: &Env<'_>) -> Option<u32> {
        let sent_at = ecr.wrapping_sub(self.ts.offset);
        let rtt_ms = timestamp_clock(env.now).wrapping_sub(sent_at);
        // What was never sent here is of some time long ago, or to come.
        (rtt_ms < RTT_MAX_MS).then(|| rtt_ms * 1_000)
    }
}

/// Two minutes: segments live no longer.
const RTT_MAX_MS: u32 = 120_000;
