//! From TCB to TIME-WAIT record (RFC 9293 §3.6.1, §3.10.7.4).
#![forbid(unsafe_code)]

use super::segments::{Seg, fa, pa, sa};
use super::*;
use crate::base::DropReason;
use crate::tcp::{Predecessor, State, TimeWait, TimeWaitVerdict};
use crate::wire::Control;

#[test]
fn the_record_answers_with_the_numbers_of_the_connection() {
    let host = Host::in_state(State::TimeWait);
    let record = TimeWait::new(&host.tcb, host.lent.now);
    let ack = record.ack(0);
    assert_eq!((ack.seq, ack.ack), (super::segments::ISS + 2, super::segments::IRS + 2));
    assert_eq!(ack.wnd, u16::MAX);
    assert_eq!(record.on_segment(&fa(1, 2).segment(), false), TimeWaitVerdict::Restart);
    assert_eq!(record.on_segment(&r(2).segment(), false), TimeWaitVerdict::Reset);
    assert_eq!(record.on_segment(&r(3).segment(), false), TimeWaitVerdict::Ignore);
}

#[test]
fn a_new_incarnation_begins_beyond_whatever_the_old_peer_might_believe() {
    let host = Host::in_state(State::TimeWait);
    let mut syn = s();
    syn.seq = 2;
    let verdict = TimeWait::new(&host.tcb, host.lent.now).on_segment(&syn.segment(), false);
    let TimeWaitVerdict::Reopen { floor, .. } = verdict else { panic!("{verdict:?}") };
    assert_eq!(floor, super::segments::ISS + 2 + 65_535 + 1);
    syn.seq = 1;
    assert_eq!(
        TimeWait::new(&host.tcb, host.lent.now).on_segment(&syn.segment(), false),
        TimeWaitVerdict::Refuse
    );
}

#[test]
fn a_tcb_that_lingers_in_time_wait_for_its_reader_still_answers() {
    let mut host = Host::established();
    host.appetite = 0;
    host.shutdown();
    host.sent.clear();
    host.recv(pa(1, 2, 10).with(Control::FIN));
    host.expect_state(State::TimeWait);
    host.expect("A 2+0 ack 12");
    host.recv(fa(11, 2));
    host.expect("A 2+0 ack 12");
    assert!(host.tcb.has_unread());
    host.read(usize::MAX);
    assert_eq!((host.read.len(), host.fins), (10, 1));
    assert!(!host.tcb.has_unread());
}

/// An active open that follows an incarnation whose numbers lie ahead of the peer's new ones.
fn follower() -> Host {
    let mut host = Host::opening_with(|config, _| config.timestamps = true);
    let snd_nxt = super::segments::ISS - 70_000;
    host.tcb.follow(&Predecessor {
        floor: super::segments::ISS,
        snd_nxt,
        rcv_nxt: super::segments::IRS + 500,
        stamp: 100,
    });
    host.expect("S 0+0");
    host
}

#[test]
fn a_syn_ack_is_taken_only_from_an_incarnation_that_no_old_segment_can_pass_for() {
    let at = |seq: u32, stamp: Option<u32>| {
        let syn_ack = Seg { seq, ..sa() };
        stamp.map_or(syn_ack.clone(), |val| syn_ack.stamp(val))
    };
    for (syn_ack, taken, why) in [
        (at(0, Some(101)), true, "a newer timestamp, whatever the sequence"),
        (
            at(0, Some(100)),
            false,
            "the tick of the old incarnation's last segments: the peer's clock is slow",
        ),
        (at(500, Some(100)), true, "in that tick, and beyond its text"),
        (at(500, Some(99)), true, "a peer that restarted, beyond its old text"),
        (at(0, Some(99)), false, "a peer that restarted, among its old text"),
        (at(499, None), false, "no timestamps any more, and among its old text"),
        (at(500, None), true, "no timestamps any more, beyond its old text"),
    ] {
        let mut host = follower();
        host.recv(syn_ack);
        assert_eq!(host.tcb.state() == State::Established, taken, "{why}");
        if !taken {
            host.expect_dropped(DropReason::Paws);
            let reset = host.seen.reset.expect("a reset");
            assert_eq!((reset.ctl, reset.seq), (Control::RST, super::segments::ISS + 1), "{why}");
            assert!(host.fire() <= 10, "the next SYN does not wait for a timeout");
            host.expect("S 0+0");
            assert!(host.fire() >= 1_000, "but that is done once");
        }
    }
}

#[test]
fn a_peer_in_last_ack_gets_the_last_ack_and_no_reset() {
    let old_ack = 0u32.wrapping_sub(70_000);
    for (seg, ctl, why) in [
        (a(500, old_ack), Control::ACK, "its challenge ACK"),
        (fa(499, old_ack), Control::ACK, "its FIN again"),
        (fa(489, old_ack).text(10), Control::ACK, "its FIN again, with text"),
        (a(500, old_ack - 1), Control::RST, "another incarnation's"),
        (a(501, old_ack), Control::RST, "what it never sent"),
        (Seg { ack: old_ack, ..sa() }, Control::RST, "a half-open connection that an old SYN made"),
    ] {
        let mut host = follower();
        host.recv(seg);
        host.expect_state(State::SynSent);
        let answer = host.seen.reset.expect("an answer");
        assert_eq!(answer.ctl, ctl, "{why}");
        assert_eq!(answer.ack == super::segments::IRS + 500, ctl == Control::ACK, "{why}");
        assert!(host.fire() <= 10, "{why}");
    }
}

#[test]
fn the_stamp_of_a_fin_ahead_of_its_text_is_remembered() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(10));
    host.shutdown();
    host.recv(a(1, 2).stamp(20));
    host.recv(fa(11, 2).stamp(40));
    host.recv(pa(1, 2, 10).stamp(30));
    host.expect_state(State::TimeWait);
    let record = TimeWait::new(&host.tcb, host.lent.now);
    let stamp = record.ack(0).stamps.expect("timestamps").ecr;
    assert_eq!(stamp, 40);
}
