//! Every way a connection ends with nothing lost (RFC 9293 §3.6, §3.10.4); the others are in `abort`.
#![forbid(unsafe_code)]

use core::time::Duration;

use super::*;
use crate::base::{DropReason, Instant};
use crate::tcp::tcb::Fin;
use crate::tcp::{CloseReason, FlowOptions, KeepAlive, State, TcpConfig};
use crate::wire::Control;

#[test]
fn an_active_close_in_four_segments() {
    let mut host = Host::established();
    host.close();
    host.expect("FA 1+0 ack 1");
    host.expect_state(State::FinWait1);
    host.recv(a(1, 2));
    host.expect_state(State::FinWait2);
    host.expect_nothing();
    host.recv(fa(1, 2));
    host.expect_state(State::TimeWait);
    host.expect("A 2+0 ack 2");
    host.expect_nothing();
}

#[test]
fn an_active_close_in_three_segments() {
    let mut host = Host::established();
    host.close();
    host.expect("FA 1+0 ack 1");
    host.recv(fa(1, 2));
    host.expect_state(State::TimeWait);
    host.expect("A 2+0 ack 2");
    assert_eq!(host.deadline(), Instant::NEVER);
}

#[test]
fn a_passive_close_in_four_segments() {
    let mut host = Host::established();
    host.recv(fa(1, 1));
    host.expect_state(State::CloseWait);
    assert_eq!(host.fins, 1);
    host.expect("A 1+0 ack 2");
    host.close();
    host.expect_state(State::LastAck);
    host.expect("FA 1+0 ack 2");
    host.recv(a(2, 2));
    host.expect_closed(CloseReason::Finished);
    host.expect_nothing();
}

#[test]
fn both_close_at_once() {
    let mut host = Host::established();
    host.close();
    host.expect("FA 1+0 ack 1");
    host.recv(fa(1, 1));
    host.expect_state(State::Closing);
    host.expect("A 2+0 ack 2");
    host.recv(a(2, 2));
    host.expect_state(State::TimeWait);
    host.expect_nothing();
}

#[test]
fn time_wait_has_no_timer_whichever_way_it_was_reached() {
    let keep = |_: &mut TcpConfig, options: &mut FlowOptions| {
        options.keep_alive = Some(KeepAlive::default());
        options.linger = Some(Duration::from_secs(9));
    };
    for last in [a(2, 2), fa(1, 2)] {
        let mut host = Host::open(keep, sa());
        host.close();
        if last.seq == 2 {
            host.recv(fa(1, 1));
        }
        host.recv(last);
        host.expect_state(State::TimeWait);
        assert_eq!(host.deadline(), Instant::NEVER);
    }
}

#[test]
fn fin_rides_on_the_last_text() {
    let mut host = Host::established();
    host.send(1_000);
    host.expect("PA 1+1000 ack 1");
    host.send(1_200);
    host.expect("A 1001+1000 ack 1");
    host.shutdown();
    host.expect("FPA 2001+200 ack 1");
    host.recv(a(1, 2_201));
    host.expect_state(State::FinWait1);
    assert_eq!(host.fin(), Fin::Sent);
    host.recv(a(1, 2_202));
    host.expect_state(State::FinWait2);
    assert_eq!(host.fin(), Fin::Acked);
}

#[test]
fn after_half_close_text_still_arrives() {
    let mut host = Host::established();
    host.shutdown();
    host.expect("FA 1+0 ack 1");
    host.recv(pa(1, 2, 500));
    host.expect_state(State::FinWait2);
    host.recv(pa(501, 2, 500).with(Control::FIN));
    assert_eq!((host.read.len(), host.fins), (1_000, 1));
    host.expect_state(State::TimeWait);
    host.expect("A 2+0 ack 1002");
}

#[test]
fn after_the_peers_half_close_text_still_leaves() {
    let mut host = Host::established();
    host.recv(fa(1, 1));
    host.expect("A 1+0 ack 2");
    host.send(700);
    host.expect("PA 1+700 ack 2");
    host.recv(a(2, 701));
    host.shutdown();
    host.expect("FA 701+0 ack 2");
    host.recv(a(2, 702));
    host.expect_closed(CloseReason::Finished);
}

#[test]
fn a_fin_out_of_order_waits_for_the_text_before_it() {
    let mut host = Host::established();
    host.recv(pa(101, 1, 50).with(Control::FIN));
    host.expect("A 1+0 ack 1");
    host.expect_state(State::Established);
    assert_eq!(host.fins, 0);
    host.recv(pa(1, 1, 100));
    host.expect("A 1+0 ack 152");
    host.expect_state(State::CloseWait);
    assert_eq!((host.read.len(), host.fins), (150, 1));
}

#[test]
fn a_bare_fin_out_of_order_waits_too() {
    let mut host = Host::established();
    host.recv(fa(101, 1));
    host.expect_state(State::Established);
    host.recv(pa(1, 1, 100));
    host.expect_state(State::CloseWait);
    assert_eq!(host.fins, 1);
}

#[test]
fn text_beyond_a_fin_makes_it_a_lie_that_is_forgotten() {
    let mut host = Host::established();
    host.recv(fa(50, 1));
    host.recv(pa(1, 1, 100));
    host.expect_state(State::Established);
    assert_eq!((host.read.len(), host.fins), (100, 0));
    host.recv(fa(101, 1));
    host.expect_state(State::CloseWait);
    assert_eq!(host.fins, 1);
}

#[test]
fn kept_text_beyond_a_fin_makes_it_a_lie_too() {
    let mut host = Host::established();
    host.recv(pa(100, 1, 100));
    host.recv(fa(120, 1));
    host.recv(pa(1, 1, 99));
    assert_eq!((host.read.len(), host.fins), (199, 0));
    host.expect_state(State::Established);
}

#[test]
fn a_fin_beyond_the_window_counts_when_it_comes_again() {
    let mut host = Host::open(|_, options| options.recv_buffer = 1_000, sa());
    host.appetite = 0;
    host.recv(pa(1, 1, 1_000).with(Control::FIN));
    host.expect_state(State::Established);
    host.recv(fa(1_001, 1));
    host.expect_state(State::Established);
    assert_eq!(host.info().unread, 1_000);
    host.read(usize::MAX);
    host.recv(fa(1_001, 1));
    host.expect_state(State::CloseWait);
    assert_eq!((host.read.len(), host.fins), (1_000, 1));
}

#[test]
fn a_fin_twice_counts_once() {
    let mut host = Host::established();
    host.recv(fa(1, 1));
    host.expect("A 1+0 ack 2");
    host.recv(fa(1, 1));
    host.expect("A 1+0 ack 2");
    host.expect_state(State::CloseWait);
    assert_eq!(host.fins, 1);
}

#[test]
fn a_lost_fin_is_sent_again() {
    let mut host = Host::established();
    host.close();
    host.expect("FA 1+0 ack 1");
    host.fire();
    host.expect("FA 1+0 ack 1");
    host.fire();
    host.expect("FA 1+0 ack 1");
    host.recv(a(1, 2));
    host.expect_state(State::FinWait2);
}

#[test]
fn text_and_fin_lost_together_are_sent_again_together() {
    let mut host = Host::established();
    host.send(900);
    host.expect("PA 1+900 ack 1");
    host.send(50);
    host.shutdown();
    host.expect("FPA 901+50 ack 1");
    host.fire();
    host.expect("FPA 1+950 ack 1");
    host.expect_nothing();
    host.recv(a(1, 952));
    host.expect_state(State::FinWait2);
}

#[test]
fn fin_wait_2_ends_after_its_time_when_nobody_reads() {
    let mut host = Host::established();
    host.close();
    host.expect("FA 1+0 ack 1");
    host.recv(a(1, 2));
    host.wait_ms(59_999);
    host.expect_state(State::FinWait2);
    host.wait_ms(1);
    host.expect_closed(CloseReason::TimedOut);
    host.expect_nothing();
}

#[test]
fn fin_wait_2_of_a_half_close_waits_for_ever_and_of_a_later_close_does_not() {
    let mut host = Host::established();
    host.shutdown();
    host.recv(a(1, 2));
    host.wait(Duration::from_secs(100_000));
    host.expect_state(State::FinWait2);
    host.close();
    host.wait(Duration::from_secs(60));
    host.expect_closed(CloseReason::TimedOut);
}

#[test]
fn a_reset_after_everything_was_said_is_a_normal_end() {
    for (state, seq, why) in [
        (State::Closing, 2, CloseReason::Finished),
        (State::LastAck, 2, CloseReason::Finished),
        (State::TimeWait, 2, CloseReason::Finished),
        (State::Established, 1, CloseReason::Reset),
        (State::FinWait1, 1, CloseReason::Reset),
        (State::FinWait2, 1, CloseReason::Reset),
        (State::CloseWait, 2, CloseReason::Reset),
        (State::SynReceived, 1, CloseReason::Refused),
    ] {
        let mut host = Host::in_state(state);
        host.recv(r(seq));
        host.expect_closed(why);
        host.expect_nothing();
    }
}

#[test]
fn a_reset_in_last_ack_with_text_unacknowledged_is_no_normal_end() {
    let mut host = Host::in_state(State::CloseWait);
    host.send(10);
    host.shutdown();
    host.expect_state(State::LastAck);
    host.recv(r(2));
    host.expect_closed(CloseReason::Reset);
}

/// A peer in LAST-ACK that is done answers an acknowledgment that was late with RST (RFC 9293 §3.10.7.1).
#[test]
fn a_reset_in_time_wait_takes_no_text_from_a_slow_reader() {
    for rfc1337 in [false, true] {
        let mut host = Host::open(|config, _| config.rfc1337 = rfc1337, sa());
        host.appetite = 10;
        host.shutdown();
        host.recv(pa(1, 2, 100).with(Control::FIN));
        host.expect_state(State::TimeWait);
        host.recv(r(102));
        if rfc1337 {
            host.expect_dropped(DropReason::TimeWait);
        } else {
            host.expect_closed(CloseReason::Finished);
        }
        host.read(1_000);
        assert_eq!((host.read.len(), host.fins), (100, 1));
    }
}

#[test]
fn sending_after_close_takes_nothing() {
    for close in [Host::close, Host::shutdown, Host::abort] {
        let mut host = Host::established();
        close(&mut host);
        assert_eq!(host.take(&[1]), 0);
        assert_eq!(host.tcb.send_room(&host.lent.shared), 0);
    }
}

#[test]
fn text_that_the_user_has_not_read_survives_the_end_of_both_directions() {
    let mut host = Host::established();
    host.appetite = 0;
    host.recv(pa(1, 1, 10).with(Control::FIN));
    host.shutdown();
    host.recv(a(12, 2));
    host.expect_closed(CloseReason::Finished);
    assert!(host.tcb.has_unread());
    host.read(usize::MAX);
    assert_eq!((host.read.len(), host.fins), (10, 1));
    assert!(!host.tcb.has_unread());
}

#[test]
fn a_fin_waits_for_a_window_like_text() {
    let mut host = Host::established();
    host.send(10);
    host.expect("PA 1+10 ack 1");
    host.recv(a(1, 11).wnd(0));
    host.shutdown();
    host.expect_nothing();
    host.fire();
    host.expect("FA 11+0 ack 1");
    host.recv(a(1, 12).wnd(0));
    host.expect_state(State::FinWait2);
}

#[test]
fn a_fin_does_not_ride_beyond_the_window() {
    let mut host = Host::open(|_, _| {}, sa().wnd(500));
    host.send(500);
    host.expect("PA 1+500 ack 1");
    host.recv(a(1, 501).wnd(300));
    host.tcb.set_nagle(true);
    host.send(299);
    host.expect("PA 501+299 ack 1");
    host.recv(a(1, 800).wnd(1));
    host.send(1);
    host.expect("PA 800+1 ack 1");
    host.shutdown();
    host.expect_nothing();
    host.recv(a(1, 801).wnd(500));
    host.expect("FA 801+0 ack 1");
}
