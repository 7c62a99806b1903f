//! Every way a connection ends (RFC 9293 §3.6, §3.10.4, §3.10.5).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::*;
use crate::base::{Counter, DropReason, Instant};
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
fn close_with_unread_text_is_a_reset() {
    let mut host = Host::established();
    host.appetite = 0;
    host.recv(pa(1, 1, 10));
    host.close();
    host.expect_closed(CloseReason::Aborted);
    host.expect("RA 1+0 ack 11");
    host.expect_nothing();
    assert_eq!(host.count(Counter::Aborted), 1);
}

#[test]
fn text_after_close_is_answered_with_a_reset() {
    for acked in [1, 2] {
        let mut host = Host::established();
        host.close();
        host.expect("FA 1+0 ack 1");
        host.recv(pa(1, acked, 10));
        host.expect_closed(CloseReason::Aborted);
        host.expect_dropped(DropReason::TextAfterClose);
        let reset = host.seen.reset.expect("a reset");
        assert_eq!((reset.seq, reset.ctl), (super::segments::ISS + 2, Control::RST | Control::ACK));
    }
}

#[test]
fn old_text_after_close_is_no_news() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 10));
    host.close();
    host.sent.clear();
    host.recv(pa(1, 1, 10));
    host.expect("A 2+0 ack 11");
    host.expect_state(State::FinWait1);
}

#[test]
fn what_the_user_leaves_when_it_closes_inside_its_callback_makes_a_reset() {
    let mut host = Host::established();
    let seg = pa(1, 1, 10);
    let arrival = host.tcb.on_segment(&seg.segment(), &mut host.lent.env());
    assert_eq!(arrival.text.len(), 10);
    host.just_close();
    host.tcb.accept_text(&seg.text, 4, &mut host.lent.env());
    host.drain();
    host.expect_closed(CloseReason::Aborted);
    host.expect("RA 1+0 ack 11");
}

#[test]
fn a_close_while_kept_text_is_read_depends_on_how_much_is_left() {
    for (len, read, closed, line) in [
        (100, 100, None, "FA 1+0 ack 101"),
        (100, 99, Some(CloseReason::Aborted), "RA 1+0 ack 101"),
        (600, 512, Some(CloseReason::Aborted), "RA 1+0 ack 601"),
    ] {
        let mut host = Host::established();
        host.appetite = 0;
        host.recv(pa(1, 1, len));
        let front = host.tcb.front(&host.lent.recv, &mut host.lent.shared);
        assert_eq!(front.len(), len.min(512) as usize);
        host.just_close();
        let lent = &mut host.lent;
        host.tcb.consumed(read, &mut lent.recv, &mut lent.shared, &mut lent.counters);
        host.drain();
        host.expect(line);
        assert_eq!(host.tcb.closed(), closed, "{read} of {len}");
    }
}

#[test]
fn an_abort_inside_the_callback_leaves_nothing_running() {
    let mut host = Host::established();
    let seg = pa(1, 1, 10).with(Control::FIN);
    host.tcb.on_segment(&seg.segment(), &mut host.lent.env());
    host.tcb.abort(&mut host.lent.counters);
    assert!(!host.tcb.accept_text(&seg.text, 10, &mut host.lent.env()));
    host.drain();
    host.expect_closed(CloseReason::Aborted);
}

#[test]
fn abort_tells_a_peer_that_has_something_to_lose() {
    use State::*;
    for (state, told) in [
        (SynSent, false),
        (SynReceived, true),
        (Established, true),
        (FinWait1, true),
        (FinWait2, true),
        (CloseWait, true),
        (Closing, false),
        (LastAck, false),
        (TimeWait, false),
    ] {
        let mut host = Host::in_state(state);
        host.abort();
        host.expect_closed(CloseReason::Aborted);
        assert_eq!(host.sent.len(), usize::from(told), "{state:?}");
        assert!(host.sent.iter().all(|sent| sent.out.ctl == Control::RST | Control::ACK));
    }
}

#[test]
fn linger_zero_turns_close_into_abort() {
    let mut host = Host::open(|_, options| options.linger = Some(Duration::ZERO), sa());
    host.send(10);
    host.expect("PA 1+10 ack 1");
    host.close();
    host.expect("RA 11+0 ack 1");
    host.expect_closed(CloseReason::Aborted);
}

#[test]
fn a_close_that_lingers_too_long_is_an_abort() {
    let mut host = Host::open(|_, options| options.linger = Some(Duration::from_secs(3)), sa());
    host.send(10);
    host.close();
    host.wait_ms(2_999);
    host.expect_state(State::FinWait1);
    host.sent.clear();
    host.wait_ms(1);
    host.expect_closed(CloseReason::Aborted);
    host.expect("RA 12+0 ack 1");
}

#[test]
fn lingering_is_over_when_everything_is_acknowledged() {
    let mut host = Host::open(|_, options| options.linger = Some(Duration::from_secs(3)), sa());
    host.send(10);
    host.close();
    host.recv(a(1, 12));
    host.wait_ms(10_000);
    host.expect_state(State::FinWait2);
}

#[test]
fn closing_twice_gains_no_time() {
    let mut host = Host::open(|_, options| options.linger = Some(Duration::from_secs(3)), sa());
    host.send(10);
    host.close();
    host.wait_ms(2_000);
    host.close();
    host.wait_ms(1_000);
    host.expect_closed(CloseReason::Aborted);
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
        assert_eq!(host.tcb.send_room(&host.lent.send, &host.lent.shared), 0);
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
