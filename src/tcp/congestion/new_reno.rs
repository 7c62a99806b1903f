//! Slow start and congestion avoidance as RFC 5681 has them (RFC 9293 MUST-19); RFC 6582 is in `recovery`.
#![forbid(unsafe_code)]

use super::{Acked, Congestion, CongestionControl, Memory};

/// RFC 5681; it remembers nothing but the window.
#[derive(Clone, Copy, Debug)]
pub struct NewReno;

impl CongestionControl for NewReno {
    #[inline]
    fn on_ack(window: &mut Congestion, acked: &Acked, _: Option<&mut Memory>) {
        if !acked.window_limited {
            return;
        }
        if window.cwnd < window.ssthresh {
            // RFC 3465 with L = 2: peers acknowledge every second segment, or a batch of them.
            let step = acked.octets.min(2 * acked.mss);
            window.cwnd = (window.cwnd + step).min(Congestion::CWND_MAX);
            return;
        }
        // RFC 5681 §3.1, by counting octets: one SMSS per window acknowledged.
        window.counted = window.counted.saturating_add(acked.octets);
        if window.counted >= window.cwnd {
            window.counted -= window.cwnd;
            window.cwnd = (window.cwnd + acked.mss).min(Congestion::CWND_MAX);
        }
    }

    fn on_loss(window: &mut Congestion, flight: u32, mss: u32, _: Option<&mut Memory>) {
        // RFC 5681 (4).
        window.ssthresh = (flight / 2).max(2 * mss);
        window.cwnd = window.ssthresh;
        window.counted = 0;
    }

    fn on_timeout(window: &mut Congestion, flight: u32, mss: u32, first: bool, _: Option<&mut Memory>) {
        // RFC 5681 §3.1: the threshold stays where the first timeout of a segment has put it.
        if first {
            window.ssthresh = (flight / 2).max(2 * mss);
        }
        window.cwnd = mss;
        window.counted = 0;
    }

    fn on_idle(window: &mut Congestion, initial: u32, _: Option<&mut Memory>) {
        window.cwnd = window.cwnd.min(initial);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Micros32;
    use crate::tcp::CongestionAlgorithm;

    const MSS: u32 = 1_000;

    fn new(initial: u32) -> Congestion {
        Congestion::new(CongestionAlgorithm::NewReno, initial)
    }

    fn acked(octets: u32) -> Acked {
        Acked {
            octets,
            flight: octets,
            window_limited: true,
            mss: MSS,
            now: Micros32::default(),
            rtt_us: None,
            srtt_us: 0,
        }
    }

    #[test]
    fn slow_start_doubles_per_window_and_avoidance_adds_one_segment() {
        let mut reno = new(10 * MSS);
        (0..10).for_each(|_| reno.on_ack(&acked(MSS), None));
        assert_eq!(reno.cwnd(), 20 * MSS);
        reno.on_loss(20 * MSS, MSS, None);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (10 * MSS, 10 * MSS));
        (0..9).for_each(|_| reno.on_ack(&acked(MSS), None));
        assert_eq!(reno.cwnd(), 10 * MSS, "not before a whole window is acknowledged");
        reno.on_ack(&acked(MSS), None);
        assert_eq!(reno.cwnd(), 11 * MSS);
    }

    #[test]
    fn an_acknowledgment_of_much_opens_slow_start_by_two_segments_only() {
        let mut reno = new(10 * MSS);
        reno.on_ack(&acked(10 * MSS), None);
        assert_eq!(reno.cwnd(), 12 * MSS);
    }

    #[test]
    fn an_unused_window_does_not_grow() {
        let mut reno = new(10 * MSS);
        reno.on_ack(&Acked { window_limited: false, ..acked(MSS) }, None);
        assert_eq!(reno.cwnd(), 10 * MSS);
    }

    #[test]
    fn timeouts_restart_from_one_segment_and_halve_once() {
        let mut reno = new(10 * MSS);
        reno.on_timeout(10 * MSS, MSS, true, None);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (MSS, 5 * MSS));
        reno.on_timeout(MSS, MSS, false, None);
        assert_eq!((reno.cwnd(), reno.ssthresh()), (MSS, 5 * MSS));
        reno.on_timeout(MSS, MSS, true, None);
        assert_eq!(reno.ssthresh(), 2 * MSS, "never below two segments");
    }

    #[test]
    fn idle_time_returns_to_the_initial_window() {
        let mut reno = new(10 * MSS);
        (0..30).for_each(|_| reno.on_ack(&acked(MSS), None));
        reno.on_idle(10 * MSS, None);
        assert_eq!(reno.cwnd(), 10 * MSS);
    }
}
