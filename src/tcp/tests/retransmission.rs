//! Loss: timeouts, back-off, Karn, R1 and R2, fast retransmit (RFC 6298, 5681, 6582).
#![forbid(unsafe_code)]

use core::time::Duration;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::base::Counter;
use crate::tcp::{CloseReason, Report, State};

fn lines(host: &mut Host) -> Vec<String> {
    host.sent.drain(..).map(|sent| sent.line(super::segments::ISS, super::segments::IRS)).collect()
}

/// A connection with `segments` full segments in flight.
fn in_flight(segments: u32) -> Host {
    let mut host = Host::established();
    host.send(segments * 1_000);
    assert_eq!(host.sent.len(), segments as usize);
    host.sent.clear();
    host
}

#[test]
fn a_timeout_sends_one_segment_and_doubles() {
    let mut host = in_flight(4);
    for (ms, sent) in [
        (200, "A 1+1000 ack 1"),
        (400, "A 1+1000 ack 1"),
        // A path that carries no full segments would look the same.
        (800, "A 1+512 ack 1"),
        (1_600, "A 1+512 ack 1"),
        (3_200, "A 1+512 ack 1"),
    ] {
        assert_eq!(host.fire(), ms);
        host.expect(sent);
        host.expect_nothing();
    }
    assert_eq!(host.cwnd(), 512);
    assert_eq!(host.info().ssthresh, 2_000);
}

#[test]
fn after_a_timeout_sending_goes_on_from_the_first_hole() {
    let mut host = in_flight(4);
    host.fire();
    host.expect("A 1+1000 ack 1");
    host.recv(a(1, 1_001));
    assert_eq!(lines(&mut host), ["A 1001+1000 ack 1", "A 2001+1000 ack 1"]);
    host.recv(a(1, 4_001));
    host.expect_nothing();
    assert_eq!(host.info().unacknowledged, 0);
}

#[test]
fn the_report_of_r1_comes_once() {
    let mut host = in_flight(1);
    for _ in 0..5 {
        host.fire();
    }
    assert_eq!(host.reports, [Report::R1]);
}

#[test]
fn timeouts_are_counted_from_the_last_progress() {
    let mut host = in_flight(2);
    host.fire();
    host.fire();
    let threshold = host.info().ssthresh;
    host.recv(a(1, 1_001));
    host.fire();
    host.fire();
    assert_eq!(host.reports, [], "R1 is three for one segment");
    assert_eq!((threshold, host.info().ssthresh), (2_000, 2_000));
}

#[test]
fn a_window_that_is_not_used_does_not_grow() {
    let mut host = Host::established();
    for i in 1..20 {
        host.send(1_000);
        host.recv(a(1, i * 1_000 + 1));
    }
    assert_eq!(host.cwnd(), 10_000);
    host.send(5_000);
    host.recv(a(1, 24_001));
    assert_eq!(host.cwnd(), 12_000, "half of it counts as used");
}

#[test]
fn r2_ends_the_connection() {
    let mut host = in_flight(1);
    host.wait(Duration::from_secs(99));
    host.expect_state(State::Established);
    host.wait(Duration::from_secs(60));
    host.expect_closed(CloseReason::TimedOut);
    assert_eq!(host.count(Counter::TimedOut), 1);
}

#[test]
fn the_user_timeout_is_kept_to_the_millisecond() {
    let mut host = Host::open(|_, options| options.user_timeout = Some(Duration::from_millis(5_000)), sa());
    host.wait_ms(10_000);
    host.send(1);
    host.wait_ms(4_999);
    host.expect_state(State::Established);
    host.wait_ms(1);
    host.expect_closed(CloseReason::TimedOut);
}

#[test]
fn a_long_user_timeout_outlives_r2() {
    let mut host = Host::open(|_, options| options.user_timeout = Some(Duration::from_secs(1_000)), sa());
    host.send(1);
    host.wait(Duration::from_secs(999));
    host.expect_state(State::Established);
}

#[test]
fn karn_measures_nothing_that_was_sent_twice() {
    let mut host = in_flight(1);
    let rto = host.info().rto;
    host.fire();
    host.wait_ms(50);
    host.recv(a(1, 1_001));
    assert_eq!(host.info().rto, rto * 2, "the backed-off timeout stays until there is a measurement");
    host.send(1);
    host.wait_ms(300);
    host.recv(a(1, 1_002));
    assert!(host.info().rto > rto && host.info().rto < rto * 2, "{:?}", host.info());
    assert!(host.info().srtt.is_some_and(|srtt| srtt.as_millis() < 300));
}

#[test]
fn the_timer_restarts_with_each_new_acknowledgment() {
    let mut host = in_flight(3);
    host.wait_ms(150);
    host.recv(a(1, 1_001));
    host.wait_ms(150);
    assert_eq!(host.count(Counter::RetransmitTimeouts), 0);
    host.recv(a(1, 3_001));
    assert_eq!(host.deadline(), crate::base::Instant::NEVER);
}

#[test]
fn three_duplicates_send_the_first_hole_again() {
    let mut host = in_flight(8);
    host.send(5_000);
    host.sent.clear();
    host.recv(a(1, 1));
    host.recv(a(1, 1));
    host.sent.clear();
    host.recv(a(1, 1));
    host.expect("A 1+1000 ack 1");
    assert_eq!((host.count(Counter::FastRetransmits), host.count(Counter::DuplicateAcks)), (1, 3));
    let halved = host.cwnd();
    assert_eq!(halved, 5_000);
    host.recv(a(1, 1));
    assert_eq!(host.count(Counter::FastRetransmits), 1);
}

/// RFC 3042.
#[test]
fn each_of_the_first_two_duplicates_lets_one_new_segment_out() {
    let mut host = in_flight(10);
    host.send(5_000);
    host.expect_nothing();
    host.recv(a(1, 1));
    host.expect("A 10001+1000 ack 1");
    host.expect_nothing();
    host.recv(a(1, 1));
    host.expect("A 11001+1000 ack 1");
    host.expect_nothing();
    host.recv(a(1, 1));
    host.expect("A 1+1000 ack 1");
    assert_eq!(host.cwnd(), 5_000, "half of what was in flight before the two (RFC 5681 §3.2 step 2)");
}

#[test]
fn a_partial_acknowledgment_repairs_the_next_hole() {
    let mut host = in_flight(8);
    (0..3).for_each(|_| host.recv(a(1, 1)));
    host.expect("A 1+1000 ack 1");
    let cwnd = host.cwnd();
    host.recv(a(1, 3_001));
    host.expect("A 3001+1000 ack 1");
    host.recv(a(1, 8_001));
    host.expect_nothing();
    assert_eq!((host.cwnd(), host.count(Counter::FastRetransmits)), (cwnd, 1));
}

#[test]
fn a_repair_takes_the_fin_along() {
    let mut host = in_flight(4);
    host.shutdown();
    host.expect("FA 4001+0 ack 1");
    (0..3).for_each(|_| host.recv(a(1, 1)));
    host.expect("A 1+1000 ack 1");
    host.recv(a(1, 3_001));
    host.expect("FPA 3001+1000 ack 1");
    host.recv(a(1, 4_001));
    host.expect("FA 4001+0 ack 1");
    host.recv(a(1, 4_002));
    host.expect_state(State::FinWait2);
}

#[test]
fn karn_measures_nothing_that_was_repaired() {
    let mut host = in_flight(8);
    (0..3).for_each(|_| host.recv(a(1, 1)));
    host.wait_ms(190);
    host.recv(a(1, 8_001));
    assert_eq!(host.info().rto.as_millis(), 200);
}

#[test]
fn a_timeout_during_recovery_starts_over() {
    let mut host = in_flight(8);
    (0..3).for_each(|_| host.recv(a(1, 1)));
    host.expect("A 1+1000 ack 1");
    host.fire();
    host.expect("A 1+1000 ack 1");
    assert_eq!(host.cwnd(), 1_000);
    // Duplicates of what was in flight do not begin another recovery.
    (0..6).for_each(|_| host.recv(a(1, 1)));
    assert_eq!((host.count(Counter::FastRetransmits), host.cwnd()), (1, 1_000));
    host.recv(a(1, 8_001));
    assert_eq!(host.info().unacknowledged, 0);
}

#[test]
fn two_gigaoctets_after_a_timeout_losses_are_still_repaired_fast() {
    let mut host = in_flight(1);
    host.fire();
    host.sent.clear();
    host.recv(a(1, 1_001));
    // As if that much had been sent and acknowledged without a duplicate.
    let far = 1 << 31;
    host.tcb.snd.una += far;
    host.tcb.snd.nxt += far;
    host.tcb.snd.cursor += far;
    host.tcb.snd.wl2 += far;
    let una = far + 1_001;
    host.tcb.congestion =
        crate::tcp::congestion::Congestion::new(crate::tcp::CongestionAlgorithm::NewReno, 10_000);
    assert_eq!(host.take(&[0; 4_000]), 4_000);
    host.drain();
    (0..3).for_each(|_| host.recv(a(1, una)));
    assert_eq!(host.count(Counter::FastRetransmits), 1);
}

#[test]
fn what_is_no_duplicate_does_not_count_as_one() {
    for (seg, why) in [
        (pa(1, 1, 5), "it has text"),
        (a(1, 1).wnd(900), "it changes the window"),
        (fa(5, 1), "it has a FIN"),
    ] {
        let mut host = in_flight(4);
        host.recv(seg);
        assert_eq!(host.count(Counter::DuplicateAcks), 0, "{why}");
    }
    let mut idle = Host::established();
    idle.recv(a(1, 1));
    assert_eq!(idle.count(Counter::DuplicateAcks), 0, "nothing is outstanding");
}

#[test]
fn an_idle_connection_begins_again_with_the_initial_window() {
    let mut host = in_flight(10);
    for i in 1..=10 {
        host.recv(a(1, i * 1_000 + 1));
    }
    assert!(host.cwnd() > 13_000);
    host.wait_ms(1_000);
    host.send(30_000);
    assert_eq!((host.sent.len(), host.cwnd()), (10, 10_000));
}

#[test]
fn a_round_trip_longer_than_any_is_no_overflow() {
    let mut host = Host::syn_sent();
    host.lent.now = host.lent.now + Duration::from_secs(4_000);
    host.recv(sa());
    assert_eq!(host.info().rto, Duration::from_secs(60));
}
