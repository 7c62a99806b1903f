//! What an acknowledgment of new octets does to the congestion window.
#![forbid(unsafe_code)]

use super::congestion::Acked;
use super::flags::Flags;
use super::tcb::{Env, Tcb};
use crate::base::Micros32;

impl Tcb {
    /// `octets` of `flight` were acknowledged outside recovery, and `rtt_us` measured by it, if anything was.
    #[inline(always)]
    pub(super) fn grow_window(&mut self, octets: u32, flight: u32, rtt_us: Option<u32>, env: &mut Env<'_>) {
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
            self.grow_with_memory(&acked, env);
        } else {
            self.congestion.on_ack(&acked, None);
        }
    }

    #[inline(never)]
    fn grow_with_memory(&mut self, acked: &Acked, env: &mut Env<'_>) {
        let memory = self.cold_mut(env.shared).map(|cold| &mut cold.congestion);
        self.congestion.on_ack(acked, memory);
    }
}
