//! From TCB to TIME-WAIT record (RFC 9293 §3.6.1, §3.10.7.4).
#![forbid(unsafe_code)]

use super::*;
use crate::tcp::{State, TimeWait, TimeWaitVerdict};
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
