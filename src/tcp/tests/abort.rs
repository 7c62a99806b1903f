//! Ends that lose something: closes with unread text, aborts, lingering (RFC 9293 §3.10.4, §3.10.5).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::*;
use crate::base::{Counter, DropReason};
use crate::tcp::{CloseReason, State};
use crate::wire::Control;

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
