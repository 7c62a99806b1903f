//! Opening: active, passive, simultaneous, and what old duplicates do to it (RFC 9293 §3.5).
#![forbid(unsafe_code)]

use super::*;
use crate::base::{Counter, DropReason, Seq};
use crate::tcp::{CloseReason, Report, State};
use crate::wire::Control;
use std::vec;

#[test]
fn an_active_open_is_three_segments() {
    let mut host = Host::syn_sent();
    host.recv(sa());
    assert!(host.seen.opened);
    host.expect("A 1+0 ack 1");
    host.expect_nothing();
    host.expect_state(State::Established);
    assert_eq!(host.deadline(), crate::base::Instant::NEVER);
}

#[test]
fn a_passive_open_is_established_by_the_ack_of_its_syn_ack() {
    let host = Host::accepted();
    assert!(host.seen.opened);
    host.expect_nothing();
}

#[test]
fn the_ack_that_establishes_may_carry_text_and_fin() {
    let mut host = Host::half_open(&s(), |_, _| {});
    host.recv(pa(1, 1, 100).with(Control::FIN));
    host.expect_state(State::CloseWait);
    assert_eq!((host.read.len(), host.fins, host.seen.fin), (100, 1, true));
    host.expect("A 1+0 ack 102");
    host.expect_nothing();
}

#[test]
fn a_half_open_connection_answers_a_wrong_ack_with_a_reset_and_stays() {
    for ack in [0, 2, u32::MAX] {
        let mut host = Host::half_open(&s(), |_, _| {});
        host.recv(a(1, ack));
        host.expect_state(State::SynReceived);
        host.expect_dropped(DropReason::BadAck);
        let reset = host.seen.reset.expect("a reset");
        assert_eq!((reset.ctl, reset.seq), (Control::RST, super::segments::ISS + ack));
    }
}

#[test]
fn the_syn_ack_may_carry_text() {
    let mut host = Host::syn_sent();
    host.recv(sa().text(10));
    assert_eq!(host.read, super::segments::text(1, 10));
    host.expect("A 1+0 ack 11");
}

#[test]
fn the_syn_ack_may_carry_fin() {
    let mut host = Host::syn_sent();
    host.recv(sa().text(10).with(Control::FIN));
    host.expect_state(State::CloseWait);
    host.expect("A 1+0 ack 12");
}

#[test]
fn a_simultaneous_open_is_established_by_the_peers_syn_ack() {
    let mut host = Host::syn_sent();
    host.recv(s());
    host.expect_state(State::SynReceived);
    host.expect("SA 0+0 ack 1");
    host.recv(sa());
    host.expect_state(State::Established);
    assert!(host.seen.opened);
    host.expect_nothing();
}

#[test]
fn a_simultaneous_open_is_established_by_a_plain_ack() {
    let mut host = Host::syn_sent();
    host.recv(s());
    host.expect("SA 0+0 ack 1");
    host.recv(a(1, 1));
    host.expect_state(State::Established);
}

#[test]
fn the_window_of_a_syn_ack_is_not_scaled_in_a_simultaneous_open_either() {
    let mut host = Host::opening_with(|config, _| config.window_scale = true);
    host.expect("S 0+0");
    host.recv(s().scale(3));
    host.expect("SA 0+0 ack 1");
    host.recv(sa().scale(3).wnd(1_600));
    assert_eq!(host.info().snd_wnd, 1_600);
}

#[test]
fn a_round_trip_is_not_measured_on_a_syn_that_was_sent_twice() {
    let mut host = Host::syn_sent();
    host.recv(s());
    host.expect("SA 0+0 ack 1");
    host.wait_ms(300);
    host.recv(a(1, 1));
    assert_eq!(host.info().srtt, None, "Karn: it could be the ACK of either");
}

#[test]
fn two_ends_that_open_at_once_make_one_connection() {
    for late in [0, 1] {
        let mut pair = super::pair::Pair::simultaneous(|_, _| {});
        pair.on_link(move |from, nth, _| {
            if from == late && nth == 0 {
                super::pair::Fate::Late(core::time::Duration::from_millis(5))
            } else {
                super::pair::Fate::Deliver
            }
        });
        pair.ends.iter_mut().for_each(|end| end.script = vec![7; 3_000]);
        pair.run(200);
        for end in &pair.ends {
            assert_eq!((end.host.read.len(), end.host.fins), (3_000, 1));
        }
    }
}

/// RFC 9293 Figure 9, seen from the side that opens actively with a stale connection at the peer.
#[test]
fn an_ack_of_something_never_sent_is_answered_with_a_reset_in_syn_sent() {
    for ack in [0, 2, 300] {
        let mut host = Host::syn_sent();
        host.recv(a(77, ack));
        host.expect_state(State::SynSent);
        host.expect_dropped(DropReason::BadAck);
        let reset = host.seen.reset.expect("a reset");
        assert_eq!((reset.ctl, reset.seq), (Control::RST, super::segments::ISS + ack));
    }
}

/// RFC 9293 Figure 8: an old SYN reaches the listener, and the other end refuses the answer.
#[test]
fn an_old_syn_ack_is_refused_and_does_not_disturb_the_open() {
    let mut host = Host::syn_sent();
    let mut old = sa();
    old.ack = 900;
    host.recv(old);
    host.expect_dropped(DropReason::BadAck);
    assert!(host.seen.reset.is_some());
    host.recv(sa());
    host.expect_state(State::Established);
}

#[test]
fn a_segment_without_syn_or_rst_is_ignored_in_syn_sent() {
    let mut host = Host::syn_sent();
    host.recv(a(1, 1));
    host.expect_dropped(DropReason::NoAck);
    host.expect_state(State::SynSent);
    host.expect_nothing();
}

#[test]
fn a_refused_open_ends_at_once() {
    let mut host = Host::syn_sent();
    host.recv(ra(0, 1));
    host.expect_closed(CloseReason::Refused);
    host.expect_nothing();
}

#[test]
fn a_reset_that_does_not_acknowledge_our_syn_is_not_believed() {
    let mut host = Host::syn_sent();
    host.recv(r(0));
    host.expect_dropped(DropReason::RstNotExact);
    host.recv(ra(0, 2));
    host.expect_dropped(DropReason::BadAck);
    assert_eq!(host.seen.reset, None, "a reset is never answered with one");
    host.expect_state(State::SynSent);
}

#[test]
fn a_lost_syn_is_sent_again_at_doubling_intervals_until_the_time_is_up() {
    let mut host = Host::syn_sent();
    for ms in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000] {
        assert_eq!(host.fire(), ms);
        host.expect("S 0+0");
    }
    host.wait_ms(60_000);
    host.expect_closed(CloseReason::ConnectTimedOut);
    assert_eq!(host.count(Counter::Retransmits), 7);
    assert_eq!(host.reports, [Report::R1], "RFC 9293 MUST-22: as for text");
}

#[test]
fn the_connect_timeout_is_the_users() {
    let mut host = Host::opening_with(|_, options| {
        options.connect_timeout = Some(core::time::Duration::from_millis(2_500))
    });
    host.wait_ms(2_499);
    host.expect_state(State::SynSent);
    host.wait_ms(1);
    host.expect_closed(CloseReason::ConnectTimedOut);
}

/// RFC 6298 (5.7); RFC 5681 §3.1 from the second on (RFC 6928 §2).
#[test]
fn after_a_lost_syn_sending_begins_carefully() {
    for (lost, cwnd) in [(1, 10_000), (2, 1_000), (3, 1_000)] {
        let mut host = Host::syn_sent();
        for _ in 0..lost {
            host.fire();
        }
        host.recv(sa());
        assert_eq!(host.cwnd(), cwnd, "{lost} lost");
        assert!(host.info().rto.as_millis() >= 3_000, "{lost} lost");
    }
    let mut fine = Host::established();
    fine.send(1);
    assert_eq!((fine.cwnd(), fine.info().srtt.is_some()), (10_000, true));
}

#[test]
fn after_a_lost_syn_ack_sending_begins_carefully_too() {
    for (lost, cwnd) in [(1, 10_000), (2, 1_000)] {
        let mut host = Host::new(super::host::config(), |lent| {
            let mut half = crate::tcp::HalfOpen::new(&s().segment(), super::segments::ISS, lent.now);
            assert!((0..lost).all(|_| half.retry(&lent.config)));
            lent.opened(&half, Seq::new(0), &crate::tcp::FlowOptions::default())
        });
        host.recv(a(1, 1));
        let info = host.info();
        assert_eq!((host.cwnd(), info.rto.as_millis(), info.srtt), (cwnd, 3_000, None), "{lost} lost");
    }
}

#[test]
fn the_peers_syn_again_is_answered_in_every_state_after_it() {
    let mut host = Host::syn_sent();
    host.recv(s());
    host.expect("SA 0+0 ack 1");
    host.recv(s());
    host.expect("A 1+0 ack 1");
    host.recv(a(1, 1));
    // The SYN-ACK again: our ACK was lost.
    host.recv(sa());
    host.expect("A 1+0 ack 1");
    host.expect_dropped(DropReason::OutOfWindow);
    host.expect_nothing();
}

#[test]
fn text_queued_while_opening_leaves_with_the_ack_of_the_syn_ack() {
    let mut host = Host::syn_sent();
    host.send(1_500);
    host.expect_nothing();
    host.recv(sa());
    host.expect("A 1+1000 ack 1");
    host.expect_nothing();
    host.recv(a(1, 1_001));
    host.expect("PA 1001+500 ack 1");
}

#[test]
fn close_in_syn_received_sends_fin_once_established() {
    let mut host = Host::in_state(State::SynReceived);
    host.send(5);
    host.close();
    host.expect_nothing();
    host.expect_state(State::SynReceived);
    host.recv(sa());
    host.expect_state(State::FinWait1);
    host.expect("FPA 1+5 ack 1");
}

#[test]
fn close_in_syn_sent_is_the_end_and_nobody_is_told() {
    for close in [Host::close, Host::shutdown, Host::abort] {
        let mut host = Host::syn_sent();
        close(&mut host);
        host.expect_closed(CloseReason::Aborted);
        host.expect_nothing();
    }
}

#[test]
fn ecn_bits_on_a_syn_ack_change_nothing() {
    let mut host = Host::syn_sent();
    host.recv(sa().with(Control::ECE | Control::CWR));
    host.expect_state(State::Established);
    host.recv(pa(1, 1, 5).with(Control::ECE));
    assert_eq!(host.read.len(), 5);
}

#[test]
fn urgent_data_before_any_is_known_is_reported_wherever_the_sequence_begins() {
    for irs in [0, 1 << 30, 1 << 31, (1 << 31) + 5, u32::MAX - 9] {
        let syn = s();
        let syn = crate::tcp::Segment { seq: Seq::new(irs), ..syn.segment() };
        let mut host = Host::half_open(&s(), |_, _| {});
        let half = crate::tcp::HalfOpen::new(&syn, super::segments::ISS, host.lent.now);
        host.tcb = host.lent.opened(&half, Seq::new(0), &crate::tcp::FlowOptions::default());
        let ack = a(1, 1).urg(3);
        host.arrive(&crate::tcp::Segment { seq: Seq::new(irs) + 1, ..ack.segment() });
        assert_eq!(host.seen.urgent, Some(3), "IRS {irs}");
    }
}
