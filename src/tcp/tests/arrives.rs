//! SEGMENT ARRIVES in synchronized states: acceptability, challenges, PAWS, urgent data, reassembly.
#![forbid(unsafe_code)]

use std::vec::Vec;

use super::segments::text;
use super::*;
use crate::base::{Counter, DropReason};
use crate::tcp::{CloseReason, State};
use crate::wire::Control;

const SYNCHRONIZED: [State; 6] =
    [State::Established, State::FinWait1, State::FinWait2, State::CloseWait, State::Closing, State::LastAck];

#[test]
fn a_reset_in_the_window_but_not_exact_is_challenged() {
    for state in SYNCHRONIZED {
        let nxt = 1 + u32::from(matches!(state, State::CloseWait | State::Closing | State::LastAck));
        for seq in [nxt + 1, nxt + 60_000] {
            let mut host = Host::in_state(state);
            host.recv(r(seq));
            host.expect_dropped(DropReason::RstNotExact);
            host.expect_state(state);
            assert_eq!((host.sent.len(), host.count(Counter::ChallengeAcks)), (1, 1), "{state:?}");
        }
    }
}

#[test]
fn a_reset_outside_the_window_gets_no_reply() {
    for state in SYNCHRONIZED {
        for seq in [0, 300_000, u32::MAX] {
            let mut host = Host::in_state(state);
            host.recv(r(seq));
            host.expect_dropped(DropReason::OutOfWindow);
            host.expect_state(state);
            host.expect_nothing();
        }
    }
}

#[test]
fn a_syn_in_the_window_is_challenged() {
    for state in SYNCHRONIZED {
        let mut host = Host::in_state(state);
        let mut syn = s();
        syn.seq = 50;
        host.recv(syn);
        host.expect_dropped(DropReason::UnexpectedSyn);
        host.expect_state(state);
        assert_eq!((host.sent.len(), host.count(Counter::ChallengeAcks)), (1, 1), "{state:?}");
    }
}

#[test]
fn challenges_end_when_the_second_is_spent() {
    let mut host = Host::open(|config, _| config.challenge_acks_per_second = 1, sa());
    for _ in 0..5 {
        host.recv(r(100));
    }
    assert_eq!((host.sent.len(), host.count(Counter::ChallengeAcksLimited)), (1, 4));
    host.wait_ms(1_000);
    host.recv(r(100));
    assert_eq!(host.sent.len(), 2);
}

#[test]
fn a_segment_outside_the_window_is_answered_with_an_ack() {
    for (seg, why) in [
        (pa(300_000, 1, 10), "beyond"),
        (pa(u32::MAX - 20, 1, 10), "entirely old"),
        (a(0, 1), "an empty old segment, such as a keep-alive probe"),
        (pa(0, 1, 300_000 - 5).wnd(1), "engulfs the window"),
    ] {
        let mut host = Host::established();
        host.recv(seg);
        host.expect_dropped(DropReason::OutOfWindow);
        host.expect("A 1+0 ack 1");
        assert!(host.read.is_empty(), "{why}");
    }
}

/// Two confused peers must not answer each other's empty segments without end.
#[test]
fn only_empty_segments_out_of_place_are_answered_within_the_limit() {
    for (seg, answers) in [(a(0, 1), 1), (pa(0, 1, 1), 5)] {
        let mut host = Host::open(|config, _| config.challenge_acks_per_second = 1, sa());
        for _ in 0..5 {
            host.recv(seg.clone());
        }
        assert_eq!(host.sent.len(), answers);
    }
}

#[test]
fn only_the_new_part_of_a_segment_counts() {
    let mut host = Host::open(|_, options| options.recv_buffer = 1_000, sa());
    host.appetite = 0;
    host.recv(pa(1, 1, 100));
    host.recv(pa(51, 1, 100));
    assert_eq!(host.info().unread, 150);
    host.recv(pa(151, 1, 2_000));
    assert_eq!(host.info().unread, 1_000, "cut at the right edge");
    host.sent.clear();
    host.read(usize::MAX);
    assert_eq!(host.read, text(1, 1_000));
}

#[test]
fn a_segment_without_ack_is_dropped() {
    for state in SYNCHRONIZED {
        let mut host = Host::in_state(state);
        let nxt = 1 + u32::from(matches!(state, State::CloseWait | State::Closing | State::LastAck));
        let mut seg = pa(nxt, 1, 5);
        seg.ctl = Control::PSH;
        host.recv(seg);
        host.expect_dropped(DropReason::NoAck);
        host.expect_nothing();
        assert!(host.read.is_empty());
    }
}

#[test]
fn an_ack_of_what_was_never_sent_is_challenged_and_its_text_ignored() {
    let mut host = Host::established();
    host.send(10);
    host.expect("PA 1+10 ack 1");
    host.recv(pa(1, 12, 5));
    host.expect_dropped(DropReason::BadAck);
    host.expect("A 11+0 ack 1");
    assert!(host.read.is_empty());
    assert_eq!(host.info().unacknowledged, 10);
}

#[test]
fn an_old_ack_within_reach_is_believed_in_its_text_only() {
    let mut host = Host::open(|_, _| {}, sa().wnd(2_000));
    host.send(1_000);
    host.recv(a(1, 1_001).wnd(2_000));
    host.recv(pa(1, 1, 5).wnd(9));
    assert_eq!(host.read.len(), 5, "SND.UNA - MAX.SND.WND is far behind");
    assert_eq!(host.info().snd_wnd, 2_000, "an old segment does not move the window");
}

#[test]
fn an_ack_older_than_any_window_is_challenged() {
    let mut host = Host::open(|_, _| {}, sa().wnd(2_000));
    host.recv(pa(1, 1u32.wrapping_sub(2_000), 5).wnd(2_000));
    assert_eq!(host.read.len(), 5, "exactly at the limit");
    host.recv(pa(6, 1u32.wrapping_sub(2_001), 5).wnd(2_000));
    host.expect_dropped(DropReason::BadAck);
    assert_eq!((host.read.len(), host.count(Counter::ChallengeAcks)), (5, 1));
}

#[test]
fn paws_drops_old_stamps_and_answers_them() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    host.recv(pa(1, 1, 5).stamp(99));
    host.expect_dropped(DropReason::Paws);
    assert_eq!(host.expect("A 1+0 ack 1").options.timestamps.map(|ts| ts.ecr), Some(100));
    host.recv(pa(1, 1, 5).stamp(100));
    host.recv(pa(6, 1, 5).stamp(105));
    assert_eq!(host.read.len(), 10);
}

/// RFC 7323 §5.3: R1 comes before the check of the sequence number.
#[test]
fn an_old_stamp_is_the_reason_also_outside_the_window() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    host.recv(pa(300_000, 1, 5).stamp(99));
    host.expect_dropped(DropReason::Paws);
}

#[test]
fn a_reset_needs_no_timestamp_and_an_old_one_does_not_save_the_connection() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    host.recv(r(1));
    host.expect_closed(CloseReason::Reset);
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    host.recv(r(1).stamp(1));
    host.expect_closed(CloseReason::Reset);
}

#[test]
fn a_segment_without_the_timestamp_agreed_on_is_dropped_silently() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    host.recv(pa(1, 1, 5));
    host.expect_dropped(DropReason::NoTimestamp);
    host.expect_nothing();
}

#[test]
fn the_stamp_echoed_is_that_of_the_segment_last_acknowledged() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    // Two segments before the delayed ACK: RFC 7323 §4.3 wants the first one's stamp.
    host.recv(pa(1, 1, 10).stamp(110));
    host.recv(pa(11, 1, 10).stamp(120));
    host.wait_ms(40);
    assert_eq!(host.expect("A 1+0 ack 21").options.timestamps.map(|ts| ts.ecr), Some(110));
    // A segment ahead of a gap does not count before the gap is closed.
    host.recv(pa(31, 1, 10).stamp(130));
    assert_eq!(host.expect("A 1+0 ack 21").options.timestamps.map(|ts| ts.ecr), Some(110));
    host.recv(pa(21, 1, 10).stamp(125));
    assert_eq!(host.expect("A 1+0 ack 41").options.timestamps.map(|ts| ts.ecr), Some(125));
}

#[test]
fn a_stamp_not_refreshed_for_24_days_is_no_longer_believed() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(100));
    host.wait(core::time::Duration::from_secs(24 * 24 * 3_600 + 1));
    host.recv(pa(1, 1, 5).stamp(50));
    assert_eq!(host.read.len(), 5);
    host.wait_ms(40);
    assert_eq!(host.expect("A 1+0 ack 6").options.timestamps.map(|ts| ts.ecr), Some(50));
    host.recv(pa(6, 1, 5).stamp(49));
    host.expect_dropped(DropReason::Paws);
}

#[test]
fn text_out_of_order_is_kept_and_each_such_segment_answered() {
    let mut host = Host::established();
    host.recv_batch(&[pa(201, 1, 100), pa(401, 1, 100), pa(301, 1, 100)]);
    for _ in 0..3 {
        host.expect("A 1+0 ack 1");
    }
    host.expect_nothing();
    host.recv(pa(1, 1, 200));
    host.expect("A 1+0 ack 501");
    assert_eq!(host.read, text(1, 500));
    assert_eq!(host.count(Counter::OutOfOrder), 3);
}

#[test]
fn duplicate_acks_go_alone_when_there_is_text_to_send_too() {
    let mut host = Host::open(|_, options| options.nagle = false, sa());
    host.send(10);
    host.expect("PA 1+10 ack 1");
    host.arrive(&pa(201, 1, 100).segment());
    host.send(10);
    host.expect("A 11+0 ack 1");
    host.expect("PA 11+10 ack 1");
    host.expect_nothing();
}

#[test]
fn the_answers_of_one_batch_are_bounded() {
    let mut host = Host::established();
    let batch: Vec<Seg> = (0..30).map(|i| pa(201 + i, 1, 1)).collect();
    host.recv_batch(&batch);
    assert_eq!(host.sent.len(), 8);
}

#[test]
fn urgent_data_is_announced_once_for_each_new_end_and_read_in_line() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 10).urg(10));
    assert_eq!((host.seen.urgent, host.read.len()), (Some(10), 10));
    host.recv(pa(11, 1, 10).urg(100));
    assert_eq!(host.seen.urgent, Some(100));
    host.recv(pa(21, 1, 10).urg(90));
    assert_eq!(host.seen.urgent, None, "the same end again");
    host.recv(pa(31, 1, 10).urg(90));
    assert_eq!((host.seen.urgent, host.read.len()), (Some(90), 40));
}

#[test]
fn an_end_of_urgent_data_long_ago_does_not_hide_a_new_one() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 10).urg(10));
    // As after 3 GiB of text: the old end seems to lie ahead.
    host.set_urgent_end(1 << 30);
    host.recv(pa(11, 1, 10).urg(10));
    assert_eq!(host.seen.urgent, Some(10));
}

#[test]
fn no_urgent_data_follows_the_peers_fin() {
    let mut host = Host::in_state(State::CloseWait);
    host.recv(a(2, 1).urg(10));
    assert_eq!(host.seen.urgent, None);
}

#[test]
fn header_prediction_takes_text_in_order_and_acks_of_text_only() {
    let mut host = Host::established();
    host.recv(pa(1, 1, 10));
    host.send(5);
    host.recv(a(11, 6));
    assert_eq!(host.count(Counter::FastPath), 2);
    host.recv(a(11, 6));
    host.recv(a(11, 7));
    host.recv(pa(11, 0, 2));
    host.recv(fa(20, 6));
    host.recv(pa(14, 6, 3));
    host.recv(a(13, 6).urg(0));
    assert_eq!(host.count(Counter::FastPath), 2);
}

#[test]
fn text_after_the_peers_fin_is_ignored() {
    let mut host = Host::in_state(State::CloseWait);
    host.recv(pa(2, 1, 10));
    assert!(host.read.is_empty());
    host.recv(a(2, 1));
    host.expect_state(State::CloseWait);
}

#[test]
fn text_for_which_no_memory_is_left_is_not_acknowledged() {
    let mut host = Host::established();
    host.lent.recv = crate::tcp::RecvPools::new(1, 16, 1);
    host.appetite = 0;
    host.recv(pa(1, 1, 10));
    host.recv(pa(11, 1, 10));
    assert_eq!(host.lent.counters.drops(DropReason::NoBuffer), 1);
    host.expect("A 1+0 ack 11");
    host.recv(pa(40, 1, 10));
    host.expect_dropped(DropReason::NoBuffer);
    host.expect("A 1+0 ack 11");
    host.read(usize::MAX);
    host.appetite = usize::MAX;
    host.recv(pa(11, 1, 10));
    assert_eq!(host.read, text(1, 20));
}
