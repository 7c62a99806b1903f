//! Slow start and congestion avoidance as RFC 5681 has them (RFC 9293 MUST-19); RFC 6582 is in `recovery`.
#![forbid(unsafe_code)]

use super::{Acked, Congestion, CongestionControl, Memory};

/// RFC 5681; it remembers nothing but the window.
#[derive(Clone, Copy, Debug)]
pub struct NewReno;

impl CongestionControl for NewReno {
    fn on_ack(window: &mut Congestion, acked: &Acked, _: &mut Memory) {
        window.grow(acked);
    }

    fn on_loss(window: &mut Congestion, flight: u32, mss: u32, _: Option<&mut Memory>) {
        window.reduce(half(flight, mss), mss);
    }

    fn on_timeout(window: &mut Congestion, flight: u32, mss: u32, first: bool, _: Option<&mut Memory>) {
        window.restart(half(flight, mss), mss, first);
    }

    fn on_idle(window: &mut Congestion, initial: u32, _: Option<&mut Memory>) {
        window.resume(initial);
    }
}

/// RFC 5681 (4), which no threshold exceeds: half of what was in flight, in whole segments. What is left of one is
/// never sent, but would have to be acknowledged before the window grows: at two and a half segments, by a
/// delayed ACK each time.
const fn half(flight: u32, mss: u32) -> u32 {
    let half = flight / 2;
    half - half % mss
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

    /// RFC 3465 §2.3.
    #[test]
    fn after_a_timeout_slow_start_opens_by_a_segment_for_each_acknowledgment_until_it_ends() {
        let mut reno = new(20 * MSS);
        reno.on_timeout(20 * MSS, MSS, true, None);
        for want in 2..=10 {
            reno.on_ack(&acked(2 * MSS), None);
            assert_eq!(reno.cwnd(), want * MSS);
        }
        reno.on_ack(&acked(9 * MSS), None);
        assert_eq!(reno.cwnd(), 10 * MSS, "avoidance");
        reno.on_idle(4 * MSS, None);
        reno.on_ack(&acked(2 * MSS), None);
        assert_eq!(reno.cwnd(), 6 * MSS, "a slow start that follows no timeout");
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
    fn what_is_left_is_half_in_whole_segments() {
        for (flight, want, why) in [
            (10 * MSS, 5 * MSS, "half"),
            (11 * MSS, 5 * MSS, "not five and a half: the half is never sent"),
            (11 * MSS - 1, 5 * MSS, "a last segment that is not full"),
            (3 * MSS, 2 * MSS, "two at least"),
        ] {
            let mut reno = new(20 * MSS);
            reno.on_loss(flight, MSS, None);
            assert_eq!(reno.cwnd(), want, "{why}");
            let mut reno = new(20 * MSS);
            reno.on_timeout(flight, MSS, true, None);
            assert_eq!(reno.ssthresh(), want, "{why}");
        }
    }

    #[test]
    fn larger_segments_leave_room_for_one() {
        let mut reno = new(10 * MSS);
        reno.on_loss(2 * MSS, MSS, None);
        reno.keep_a_segment(3 * MSS);
        assert_eq!(reno.cwnd(), 3 * MSS);
        reno.keep_a_segment(MSS);
        assert_eq!(reno.cwnd(), 3 * MSS);
    }

    #[test]
    fn idle_time_returns_to_the_initial_window() {
        let mut reno = new(10 * MSS);
        (0..30).for_each(|_| reno.on_ack(&acked(MSS), None));
        reno.on_idle(10 * MSS, None);
        assert_eq!(reno.cwnd(), 10 * MSS);
    }
}
