//! Slow start and congestion avoidance as RFC 5681 has them (RFC 9293 MUST-19); RFC 6582 is in `recovery`.
#![forbid(unsafe_code)]

use super::{Acked, CongestionControl};

/// RFC 5681's two variables, and the octets acknowledged towards the next increase.
#[derive(Clone, Copy, Debug)]
pub struct NewReno {
    cwnd: u32,
    ssthresh: u32,
    counted: u32,
}

impl NewReno {
    /// Beyond this, a window says nothing that SND.WND (below 2^30) does not.
    const CWND_MAX: u32 = 1 << 30;

    /// In slow start, with a window of `initial` octets.
    pub const fn new(initial: u32) -> Self {
        Self { cwnd: initial, ssthresh: Self::CWND_MAX, counted: 0 }
    }
}

impl CongestionControl for NewReno {
    fn on_ack(&mut self, acked: Acked) {
        if !acked.window_limited {
            return;
        }
        if self.cwnd < self.ssthresh {
            // RFC 3465 with L = 2: peers acknowledge every second segment, or a batch of them.
            self.cwnd = (self.cwnd + acked.octets.min(2 * acked.mss)).min(Self::CWND_MAX);
            return;
        }
        // RFC 5681 §3.1, by counting octets: one SMSS per window acknowledged.
        self.counted = self.counted.saturating_add(acked.octets);
        if self.counted >= self.cwnd {
            self.counted -= self.cwnd;
            self.cwnd = (self.cwnd + acked.mss).min(Self::CWND_MAX);
        }
    }

    fn on_loss(&mut self, flight: u32, mss: u32) {
        // RFC 5681 (4).
        self.ssthresh = (flight / 2).max(2 * mss);
        self.cwnd = self.ssthresh;
        self.counted = 0;
    }

    fn on_timeout(&mut self, flight: u32, mss: u32, first: bool) {
        // RFC 5681 §3.1: the threshold stays where the first timeout of a segment has put it.
        if first {
            self.ssthresh = (flight / 2).max(2 * mss);
        }
        self.cwnd = mss;
        self.counted = 0;
    }

    fn on_idle(&mut self, initial: u32) {
        self.cwnd = self.cwnd.min(initial);
    }

    fn cwnd(&self) -> u32 {
        self.cwnd
    }

    fn ssthresh(&self) -> u32 {
        self.ssthresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    fn acked(octets: u32) -> Acked {
        Acked { octets, window_limited: true, mss: MSS }
    }

    #[test]
    fn slow_start_doubles_per_window_and_avoidance_adds_one_segment() {
        let mut reno = NewReno::new(10 * MSS);
        (0..10).for_each(|_| reno.on_ack(acked(MSS)));
        assert_eq!(reno.cwnd(), 20 * MSS);
        reno.on_loss(20 * MSS, MSS);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (10 * MSS, 10 * MSS));
        (0..9).for_each(|_| reno.on_ack(acked(MSS)));
        assert_eq!(reno.cwnd(), 10 * MSS, "not before a whole window is acknowledged");
        reno.on_ack(acked(MSS));
        assert_eq!(reno.cwnd(), 11 * MSS);
    }

    #[test]
    fn an_acknowledgment_of_much_opens_slow_start_by_two_segments_only() {
        let mut reno = NewReno::new(10 * MSS);
        reno.on_ack(acked(10 * MSS));
        assert_eq!(reno.cwnd(), 12 * MSS);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = NewReno::new(10 * MSS);
        reno.on_ack(Acked { window_limited: false, ..acked(MSS) });
        assert_eq!(reno.cwnd(), 10 * MSS);
    }

    #[test]
    fn timeouts_restart_from_one_segment_and_halve_once() {
        let mut reno = NewReno::new(10 * MSS);
        reno.on_timeout(10 * MSS, MSS, true);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (MSS, 5 * MSS));
        reno.on_timeout(MSS, MSS, false);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (MSS, 5 * MSS));
        reno.on_timeout(MSS, MSS, true);
        assert_eq!(reno.ssthresh(), 2 * MSS, "never below two segments");
    }

    #[test]
    fn idle_time_returns_to_the_initial_window() {
        let mut reno = NewReno::new(10 * MSS);
        (0..30).for_each(|_| reno.on_ack(acked(MSS)));
        reno.on_idle(10 * MSS);
        assert_eq!(reno.cwnd(), 10 * MSS);
    }
}
