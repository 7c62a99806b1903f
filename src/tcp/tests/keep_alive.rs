//! Keep-alive (RFC 9293 §3.8.4).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::*;
use crate::base::{Counter, Instant};
use crate::tcp::{CloseReason, FlowOptions, KeepAlive, State};

fn on(options: &mut FlowOptions) {
    options.keep_alive =
        Some(KeepAlive { idle: Duration::from_secs(100), interval: Duration::from_secs(10), probes: 3 });
}

#[test]
fn it_is_off_unless_asked_for() {
    let host = Host::established();
    assert_eq!(host.deadline(), Instant::NEVER);
}

#[test]
fn silence_is_probed_and_then_given_up_with_a_reset() {
    let mut host = Host::open(|_, options| on(options), sa());
    host.wait(Duration::from_millis(99_999));
    host.expect_nothing();
    for ms in [1, 10_000, 10_000] {
        assert_eq!(host.fire(), ms);
        host.expect("A 0+0 ack 1");
    }
    host.expect_state(State::Established);
    assert_eq!(host.fire(), 10_000);
    host.expect("RA 1+0 ack 1");
    host.expect_closed(CloseReason::TimedOut);
    assert_eq!(host.count(Counter::KeepAliveProbes), 3);
}

#[test]
fn answers_keep_it_alive_for_ever_even_when_the_timer_comes_late() {
    let mut host = Host::open(|_, options| on(options), sa());
    for _ in 0..20 {
        let late = host.deadline() + Duration::from_millis(3);
        host.lent.now = late;
        host.fire();
        if host.sent.pop_front().is_some() {
            host.lent.now = late + Duration::from_micros(20);
            host.recv(a(1, 1));
        }
        host.expect_state(State::Established);
    }
    assert!(host.count(Counter::KeepAliveProbes) < 12, "an answered probe is followed by a full idle time");
}

#[test]
fn a_connection_that_is_heard_is_not_probed() {
    let mut host = Host::open(|_, options| on(options), sa());
    for i in 0..10 {
        host.wait(Duration::from_secs(60));
        host.recv(pa(1 + i, 1, 1));
        host.wait_ms(40);
    }
    assert_eq!(host.count(Counter::KeepAliveProbes), 0);
}

#[test]
fn text_in_flight_is_left_to_the_retransmission_timer() {
    let mut host = Host::open(
        |config, options| {
            on(options);
            config.r2 = Duration::from_secs(1_000);
        },
        sa(),
    );
    host.wait(Duration::from_secs(99));
    host.send(1);
    host.wait(Duration::from_secs(500));
    assert_eq!(host.count(Counter::KeepAliveProbes), 0);
    assert!(host.count(Counter::RetransmitTimeouts) > 5);
}

#[test]
fn the_idle_time_is_counted_from_when_the_peer_was_heard() {
    let mut host = Host::open(|_, options| on(options), sa());
    host.wait(Duration::from_secs(60));
    host.recv(a(1, 1).with(crate::wire::Control::PSH));
    assert_eq!(host.fire(), 40_000);
    host.expect_nothing();
    assert_eq!(host.fire(), 60_000);
    host.expect("A 0+0 ack 1");
}

#[test]
fn a_half_closed_connection_is_kept_alive_too() {
    let mut host = Host::open(|_, options| on(options), sa());
    host.shutdown();
    host.recv(a(1, 2));
    host.sent.clear();
    host.wait(Duration::from_secs(100));
    host.expect("A 1+0 ack 1");
    host.expect_state(State::FinWait2);
}

#[test]
fn a_passive_open_keeps_alive_too() {
    let mut host = Host::half_open(&s(), |_, options| on(options));
    host.recv(a(1, 1));
    host.wait(Duration::from_secs(100));
    host.expect("A 0+0 ack 1");
}

#[test]
fn a_probe_from_the_peer_is_answered() {
    let mut host = Host::established();
    host.recv(a(0, 1));
    host.expect("A 1+0 ack 1");
    host.recv(pa(0, 1, 1));
    host.expect("A 1+0 ack 1");
}

#[test]
fn a_probe_does_not_hide_that_nothing_was_sent_for_long() {
    let mut host = Host::open(|_, options| on(options), sa().wnd(60_000));
    let mut sent = 1;
    while host.cwnd() <= 20_000 {
        host.send(10_000);
        sent += 10_000;
        host.recv(a(1, sent).wnd(60_000));
    }
    host.sent.clear();
    host.wait(Duration::from_secs(100));
    host.expect(&std::format!("A {}+0 ack 1", sent - 1));
    host.recv(a(1, sent).wnd(60_000));
    host.send(1);
    assert_eq!(host.cwnd(), 10_000, "the initial window again");
}

#[test]
fn weeks_of_silence_are_not_taken_for_none() {
    // 2^32 ms pass during the third silence of each.
    for days in [20, 24] {
        let day = Duration::from_secs(24 * 3_600);
        let keep = KeepAlive { idle: day * days, interval: Duration::from_secs(10), probes: 3 };
        let mut host = Host::open(|_, options| options.keep_alive = Some(keep), sa());
        for _ in 0..3 {
            let mut took = host.fire();
            // After an answered probe the timer runs once for nothing.
            took += if host.sent.is_empty() { host.fire() } else { 0 };
            assert_eq!(u128::from(took), (day * days).as_millis(), "{days} days");
            host.expect("A 0+0 ack 1");
            host.recv(a(1, 1));
        }
        for _ in 0..5 {
            host.fire();
        }
        host.expect_closed(CloseReason::TimedOut);
    }
}
