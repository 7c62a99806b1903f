//! Windows both ways: Nagle, silly windows, delayed ACKs, probes (RFC 9293 §3.8.6).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::*;
use crate::base::{Counter, Instant};
use crate::tcp::{CloseReason, Congestion, CongestionAlgorithm, State};

#[test]
fn nagle_holds_small_text_back_while_something_is_in_flight() {
    let mut host = Host::established();
    host.send(10);
    host.expect("PA 1+10 ack 1");
    host.send(10);
    host.send(10);
    host.expect_nothing();
    host.recv(a(1, 11));
    host.expect("PA 11+20 ack 1");
    host.send(1_005);
    host.expect("A 31+1000 ack 1");
    host.expect_nothing();
}

#[test]
fn without_nagle_small_text_leaves_at_once() {
    let mut host = Host::open(|_, options| options.nagle = false, sa());
    for (i, line) in ["PA 1+10 ack 1", "PA 11+10 ack 1", "PA 21+10 ack 1"].iter().enumerate() {
        host.send(10);
        host.expect(line);
        assert_eq!(host.sent.len(), 0, "{i}");
    }
}

#[test]
fn the_window_and_the_congestion_window_bound_what_is_in_flight() {
    let mut host = Host::open(|_, _| {}, sa().wnd(2_500));
    host.send(5_000);
    host.expect("A 1+1000 ack 1");
    host.expect("A 1001+1000 ack 1");
    host.expect_nothing();
    let mut host = Host::established();
    host.send(50_000);
    assert_eq!(host.sent.len(), 10, "the initial window");
}

/// By SND.WL1 alone it would be older than the empty segments sent before, and its window not count.
#[test]
fn an_acknowledgment_on_text_sent_again_brings_its_window_with_it() {
    let mut host = Host::open(|_, _| {}, sa().wnd(64));
    // Of the peer's text only the beginning arrives, and an acknowledgment that is sent after all of it.
    host.recv(pa(1, 1, 100).wnd(64));
    host.recv(a(2_001, 1).wnd(64));
    host.send(200);
    host.expect("A 1+64 ack 101");
    host.recv(pa(1, 65, 1_000).wnd(0));
    assert_eq!(host.info().snd_wnd, 0);
    assert!(host.sent.iter().all(|sent| sent.text.is_empty()), "the peer never offered room for more");
    // What acknowledges as much, and is older, brings none.
    host.recv(a(0, 65).wnd(64));
    assert_eq!(host.info().snd_wnd, 0);
}

/// RFC 9293 §3.8.6.2.1 (3): half the largest window is enough for a peer with small buffers.
#[test]
fn half_the_largest_window_is_worth_a_segment() {
    let mut host = Host::open(|_, _| {}, sa().wnd(400));
    host.send(1_000);
    host.expect("A 1+400 ack 1");
    host.recv(a(1, 401).wnd(199));
    host.expect_nothing();
    host.recv(a(1, 401).wnd(200));
    host.expect("A 401+200 ack 1");
    host.recv(a(1, 401).wnd(400));
    host.expect_nothing();
}

/// RFC 9293 §3.8.6.2.1 (4).
#[test]
fn a_silly_window_is_used_after_the_override_timeout() {
    let mut host = Host::open(|_, _| {}, sa().wnd(400));
    host.send(1_000);
    host.expect("A 1+400 ack 1");
    host.recv(a(1, 401).wnd(100));
    host.expect_nothing();
    host.fire();
    host.expect("A 401+100 ack 1");
    host.recv(a(1, 501).wnd(100));
    assert_eq!(host.fire(), 200, "an answer ends the back-off");
    host.expect("A 501+100 ack 1");
    host.expect_state(State::Established);
}

#[test]
fn every_second_full_segment_is_acknowledged_at_once() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 1_000));
    host.expect_nothing();
    host.recv(pa(1_001, 1, 1_000));
    host.expect("A 1+0 ack 2001");
    host.recv(pa(2_001, 1, 1_000));
    host.expect_nothing();
    assert_eq!(host.fire(), 40);
    host.expect("A 1+0 ack 3001");
    assert_eq!(host.deadline(), Instant::NEVER);
}

#[test]
fn the_delay_is_counted_from_the_first_text_that_waits() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 10));
    host.wait_ms(30);
    host.recv(pa(11, 1, 10));
    host.expect_nothing();
    assert_eq!(host.fire(), 10);
    host.expect("A 1+0 ack 21");
}

#[test]
fn a_delayed_ack_rides_on_text() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 10));
    host.expect_nothing();
    host.send(5);
    host.expect("PA 1+5 ack 11");
    host.recv(a(11, 6));
    host.wait_ms(1_000);
    host.expect_nothing();
}

#[test]
fn without_delay_every_segment_is_acknowledged() {
    let mut host = Host::open(|config, _| config.delayed_ack = Duration::ZERO, sa());
    host.recv(pa(1, 1, 10));
    host.expect("A 1+0 ack 11");
}

#[test]
fn what_fills_a_gap_is_acknowledged_at_once() {
    let mut host = Host::established();
    host.recv(pa(11, 1, 10));
    host.expect("A 1+0 ack 1");
    host.recv(pa(1, 1, 5));
    host.expect("A 1+0 ack 6");
}

#[test]
fn small_segments_are_full_sized_where_our_own_mss_is_small() {
    let mut host = Host::opening_with(|_, _| {});
    host.tcb.mss_most = 200;
    host.recv(sa());
    host.sent.clear();
    host.recv(pa(1, 1, 200));
    host.recv(pa(201, 1, 200));
    host.expect("A 1+0 ack 401");
}

#[test]
fn the_window_is_what_the_buffer_holds_and_closes_as_it_fills() {
    let mut host = Host::open(|_, options| options.recv_buffer = 3_000, sa());
    host.appetite = 0;
    host.recv(pa(1, 1, 1_000));
    host.recv(pa(1_001, 1, 1_000));
    assert_eq!(host.expect("A 1+0 ack 2001").out.wnd, 1_000);
    host.recv(pa(2_001, 1, 1_000));
    host.fire();
    assert_eq!(host.expect("A 1+0 ack 3001").out.wnd, 0);
    // A probe of one octet is refused and answered.
    host.recv(pa(3_001, 1, 1));
    assert_eq!(host.expect("A 1+0 ack 3001").out.wnd, 0);
    assert_eq!(host.info().unread, 3_000);
}

/// RFC 9293 §3.8.6.2.2 (MUST-39).
#[test]
fn a_window_opens_by_a_worthwhile_step_only() {
    let mut host = Host::open(|_, options| options.recv_buffer = 4_000, sa());
    host.appetite = 0;
    host.recv_batch(&[pa(1, 1, 1_000), pa(1_001, 1, 1_000), pa(2_001, 1, 1_000), pa(3_001, 1, 1_000)]);
    assert_eq!(host.expect("A 1+0 ack 4001").out.wnd, 0);
    host.read(999);
    host.expect_nothing();
    host.recv(pa(4_001, 1, 1));
    assert_eq!(host.expect("A 1+0 ack 4001").out.wnd, 0, "999 octets are not worth telling");
    host.read(1);
    host.expect_nothing();
    host.recv(pa(4_001, 1, 1));
    assert_eq!(host.expect("A 1+0 ack 4001").out.wnd, 1_000, "a segment's worth, once the peer asks");
    host.read(2_000);
    assert_eq!(host.expect("A 1+0 ack 4001").out.wnd, 3_000, "two segments' worth by itself");
}

#[test]
fn no_window_is_announced_after_the_peers_fin() {
    let mut host = Host::established();
    host.appetite = 0;
    host.recv_batch(&[pa(1, 1, 1_000), pa(1_001, 1, 1_000), fa(2_001, 1)]);
    host.expect("A 1+0 ack 2002");
    host.read(usize::MAX);
    host.expect_nothing();
    assert_eq!(host.fins, 1);
}

#[test]
fn at_a_closed_window_acks_are_still_taken() {
    let mut host = Host::open(|_, options| options.recv_buffer = 1_000, sa());
    host.appetite = 0;
    host.recv(pa(1, 1, 1_000));
    host.send(10);
    host.expect("PA 1+10 ack 1001");
    host.recv(pa(1_001, 11, 5).wnd(77));
    assert_eq!((host.info().unacknowledged, host.info().snd_wnd), (0, 77));
    host.expect("A 11+0 ack 1001");
    host.recv(r(1_001));
    host.expect_closed(CloseReason::Reset);
}

#[test]
fn a_closed_window_is_probed_at_growing_intervals_for_as_long_as_the_peer_answers() {
    let mut host = Host::established();
    host.send(10);
    host.expect("PA 1+10 ack 1");
    host.recv(a(1, 11).wnd(0));
    host.send(100);
    host.expect_nothing();
    let mut intervals = std::vec::Vec::new();
    for _ in 0..200 {
        intervals.push(host.fire());
        host.expect("A 11+1 ack 1");
        host.expect_nothing();
        host.wait_ms(5);
        host.recv(a(1, 11).wnd(0));
        host.expect_state(State::Established);
    }
    assert_eq!(intervals[..4], [200, 395, 795, 1_595]);
    assert_eq!(intervals[199], 59_995, "never more than a minute");
    assert_eq!(host.count(Counter::WindowProbes), 200);
}

#[test]
fn a_closed_window_whose_owner_is_silent_is_given_up() {
    let mut host = Host::established();
    host.send(10);
    host.recv(a(1, 11).wnd(0));
    // Idle time before there is anything to probe for does not count.
    host.wait(Duration::from_secs(10_000));
    host.send(100);
    host.wait(Duration::from_secs(90));
    host.expect_state(State::Established);
    assert!(host.count(Counter::WindowProbes) > 4);
    host.wait(Duration::from_secs(120));
    host.expect_closed(CloseReason::TimedOut);
}

#[test]
fn an_open_window_lets_everything_out_again() {
    let mut host = Host::established();
    host.send(10);
    host.recv(a(1, 11).wnd(0));
    host.send(2_000);
    host.fire();
    host.sent.clear();
    host.recv(a(1, 11));
    host.expect("A 11+1000 ack 1");
    host.expect("PA 1011+1000 ack 1");
    host.recv(a(1, 2_011));
    assert_eq!(host.deadline(), Instant::NEVER);
}

#[test]
fn a_probe_that_was_accepted_is_not_sent_again() {
    let mut host = Host::established();
    host.send(10);
    host.recv(a(1, 11).wnd(0));
    host.send(500);
    host.fire();
    host.sent.clear();
    host.recv(a(1, 12));
    host.expect("PA 12+499 ack 1");
}

#[test]
fn what_follows_a_long_closed_window_has_the_full_time_to_arrive() {
    let mut host = Host::established();
    host.send(10);
    host.recv(a(1, 11).wnd(0));
    host.send(500);
    for _ in 0..20 {
        host.fire();
        host.recv(a(1, 11).wnd(0));
    }
    host.sent.clear();
    host.recv(a(1, 11));
    host.expect("PA 11+500 ack 1");
    assert!(host.fire() <= 200, "the timer is not that of the probes");
    host.expect("PA 11+500 ack 1");
    host.expect_state(State::Established);
}

#[test]
fn a_window_that_shrinks_to_nothing_under_text_in_flight_is_probed_and_recovers() {
    let mut host = Host::established();
    host.send(3_000);
    host.sent.clear();
    host.recv(a(1, 1).wnd(0));
    host.expect_nothing();
    host.fire();
    host.expect("A 1+1 ack 1");
    host.recv(a(1, 1).wnd(0));
    host.fire();
    host.expect("A 1+1 ack 1");
    host.recv(a(1, 1));
    host.expect("A 1+1000 ack 1");
    host.expect("A 1001+1000 ack 1");
    host.expect("PA 2001+1000 ack 1");
    host.recv(a(1, 3_001));
    assert_eq!(host.info().unacknowledged, 0);
}

/// Beyond a closed window the peer believes neither ACK nor RST (RFC 9293 §3.10.7.4, first check).
#[test]
fn with_a_probe_outstanding_acks_and_resets_stay_where_the_peer_looks() {
    let mut host = Host::established();
    host.send(10);
    host.recv(a(1, 11).wnd(0));
    host.send(500);
    host.fire();
    host.sent.clear();
    host.recv_batch(&[pa(1, 11, 1_000).wnd(0), pa(1_001, 11, 1_000).wnd(0)]);
    host.expect("A 11+0 ack 2001");
    host.abort();
    host.expect("RA 11+0 ack 2001");
}

#[test]
fn the_user_hears_of_room_once_for_each_short_send() {
    let mut host = Host::open(|_, options| options.send_buffer = 4_000, sa());
    assert_eq!(host.take(&[0; 5_000]), 4_000);
    host.drain();
    assert!(!host.tcb.take_writable(&host.lent.shared));
    host.recv(a(1, 1_000));
    assert!(!host.tcb.take_writable(&host.lent.shared), "999 octets are less than a quarter");
    host.recv(a(1, 1_001));
    assert!(host.tcb.take_writable(&host.lent.shared));
    assert!(!host.tcb.take_writable(&host.lent.shared));
    assert_eq!(host.tcb.send_room(&host.lent.shared), 1_000);
}

#[test]
fn twice_the_congestion_window_may_wait_to_be_sent_if_it_is_more_than_the_least() {
    let mut host = Host::open(|_, options| options.send_buffer = 600_000, sa());
    let room = |host: &Host| host.tcb.send_room(&host.lent.shared);
    assert_eq!(room(&host), 256 << 10, "whatever the congestion window is");
    host.tcb.congestion = Congestion::new(CongestionAlgorithm::NewReno, 200_000);
    assert_eq!(room(&host), 400_000);
    host.tcb.congestion = Congestion::new(CongestionAlgorithm::NewReno, 400_000);
    assert_eq!(room(&host), 600_000, "the user's own bound");
    // The pool has 1 MiB; others take half of it and more.
    let taken = (0..1_100).map_while(|_| host.lent.shared.send.alloc()).count();
    assert_eq!((taken, room(&host)), (1_100, (2_048 - 1_100) * 512));
    (0..700).for_each(|_| assert!(host.lent.shared.send.alloc().is_some()));
    assert_eq!(room(&host), 256 << 10, "the least, as far as there are chunks");
}
