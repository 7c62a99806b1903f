//! What a connection holds while it is idle, and what becomes of it when there is nothing to attach.
#![forbid(unsafe_code)]

use super::host::Host;
use super::{a, fa, pa, sa};
use crate::base::{Counter, DropReason};
use crate::tcp::State;
use crate::tcp::scoreboard::SentPool;

/// A connection for which nothing is left to attach.
fn without_records() -> Host {
    let mut host = Host::open(|_, _| {}, sa());
    for _ in 0..4 {
        host.lent.shared.cold.insert(crate::tcp::TcbCold::default()).expect("there are four");
    }
    host
}

#[track_caller]
fn assert_bare(host: &Host, why: &str) {
    assert!(host.tcb.is_bare() && host.lent.shared.cold.is_empty(), "{why}: {:?}", host.tcb);
    assert_eq!(host.lent.shared.send.free_count(), 2_048, "{why}");
    assert_eq!(host.lent.recv.chunks.free_count(), 2_048, "{why}");
}

#[test]
fn an_idle_connection_holds_no_attachment_and_no_chunk() {
    let mut host = Host::established();
    assert_bare(&host, "opened");
    host.recv(pa(1, 1, 100));
    assert_bare(&host, "text read where it lay");
    host.send(100);
    assert!(host.lent.shared.cold.is_empty(), "a short text needs a chunk, no record");
    host.recv(a(101, 101));
    assert_bare(&host, "text acknowledged");
    host.appetite = 0;
    host.recv(pa(101, 101, 300));
    assert_eq!(host.lent.shared.cold.len(), 1, "text kept");
    host.read(usize::MAX);
    assert_bare(&host, "kept text read");
    host.recv(pa(501, 101, 100));
    assert_eq!(host.lent.shared.cold.len(), 1, "a gap");
    host.recv(pa(401, 101, 100));
    host.read(usize::MAX);
    assert_bare(&host, "gap closed");
    host.recv(pa(601, 101, 10).urg(20));
    assert_eq!(host.lent.shared.cold.len(), 1, "urgent data to come");
    host.appetite = usize::MAX;
    host.recv(pa(611, 101, 10));
    host.read(usize::MAX);
    assert_bare(&host, "urgent data read");
}

#[test]
fn a_long_queue_and_a_loss_hold_a_record_until_all_is_acknowledged() {
    let mut host = Host::established();
    host.send(5_000);
    assert_eq!(host.lent.shared.cold.len(), 1, "more than a chunk");
    host.recv(a(1, 5_001));
    assert_bare(&host, "acknowledged");
    host.send(400);
    (0..3).for_each(|_| host.recv(a(1, 5_001)));
    assert_eq!(host.lent.shared.cold.len(), 1, "duplicates are counted");
    host.recv(a(1, 5_401));
    assert_bare(&host, "repaired");
    host.send(400);
    host.fire();
    assert_eq!(host.lent.shared.cold.len(), 1, "a timeout guards the next recovery");
    host.recv(a(1, 5_801));
    host.send(1);
    host.recv(a(1, 5_802));
    assert_bare(&host, "beyond what the timeout sent again");
}

/// With SACK nobody counts duplicates, so there is nothing to guard.
#[test]
fn a_timeout_for_which_no_run_is_left_leaves_nothing_behind() {
    let mut host = Host::open(|config, _| config.sack = true, sa().sack());
    host.lent.shared.sent = SentPool::with_capacity(0);
    host.send(400);
    host.fire();
    host.recv(a(1, 401));
    assert_bare(&host, "sent again and acknowledged");
}

#[test]
fn a_fin_ahead_of_text_holds_a_record_until_the_text_is_here() {
    let mut host = Host::established();
    host.recv(fa(101, 1));
    assert_eq!((host.lent.shared.cold.len(), host.fins), (1, 0));
    host.recv(pa(1, 1, 100));
    host.expect_state(State::CloseWait);
    assert_eq!(host.fins, 1);
    assert_bare(&host, "FIN taken");
}

#[test]
fn without_a_record_text_that_must_be_kept_is_dropped_and_comes_again() {
    let mut host = without_records();
    host.recv(pa(101, 1, 100));
    host.expect_dropped(DropReason::NoBuffer);
    host.expect("A 1+0 ack 1");
    host.appetite = 40;
    host.recv(pa(1, 1, 100));
    assert_eq!(host.read.len(), 40);
    assert_eq!(host.lent.counters.drops(DropReason::NoBuffer), 1, "sixty octets find no place");
    host.appetite = usize::MAX;
    host.recv(pa(1, 1, 200));
    assert_eq!(host.read.len(), 200);
    host.recv(fa(211, 1));
    host.recv(pa(201, 1, 10));
    assert_eq!((host.read.len(), host.fins), (210, 0), "the FIN is forgotten");
    host.recv(fa(211, 1));
    assert_eq!(host.fins, 1, "until it comes again");
}

#[test]
fn without_a_record_a_loss_is_repaired_by_the_timer() {
    let mut host = without_records();
    host.send(4_000);
    (0..4).for_each(|_| drop(host.sent.pop_front()));
    (0..5).for_each(|_| host.recv(a(1, 1)));
    host.expect_nothing();
    assert_eq!(host.count(Counter::FastRetransmits), 0);
    host.fire();
    host.expect("A 1+1000 ack 1");
    host.recv(a(1, 4_001));
    assert_eq!(host.info().unacknowledged, 0);
}

#[test]
fn without_a_record_a_long_queue_is_sent_as_well() {
    let mut host = without_records();
    host.send(9_000);
    // The host compares every octet with what was queued.
    for k in 0..9 {
        let push = if k == 8 { "PA" } else { "A" };
        host.expect(&std::format!("{push} {}+1000 ack 1", 1 + k * 1_000));
    }
}

#[test]
fn without_a_record_the_end_of_urgent_data_is_told_each_time() {
    let mut host = without_records();
    for _ in 0..2 {
        host.recv(a(1, 1).urg(30));
        assert_eq!(host.seen.urgent, Some(30));
    }
}
