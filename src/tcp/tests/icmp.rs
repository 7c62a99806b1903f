//! ICMP errors at a connection (RFC 9293 §3.9.2.2, RFC 5927).
#![forbid(unsafe_code)]

use super::*;
use crate::base::DropReason;
use crate::tcp::{CloseReason, IcmpMeaning, Report, State};

const REFUSED: IcmpMeaning = IcmpMeaning::Refused { icmp_type: 3, code: 3 };
const HOST_UNREACHABLE: IcmpMeaning = IcmpMeaning::Soft { icmp_type: 3, code: 1 };

#[test]
fn port_unreachable_ends_an_attempt_to_open() {
    let mut host = Host::syn_sent();
    assert_eq!(host.icmp(REFUSED, 0), Ok(None));
    host.expect_closed(CloseReason::Refused);
}

#[test]
fn port_unreachable_is_only_news_to_an_open_connection() {
    let mut host = Host::established();
    host.send(10);
    let news = host.icmp(REFUSED, 1);
    assert_eq!(news, Ok(Some(Report::SoftError { icmp_type: 3, code: 3 })));
    host.expect_state(State::Established);
}

#[test]
fn errors_that_quote_nothing_in_flight_are_ignored() {
    let mut host = Host::established();
    for (seq, flight) in [(1, 0), (0, 0), (0, 10), (11, 10)] {
        if flight > 0 && host.info().unacknowledged == 0 {
            host.send(flight);
        }
        for meaning in [REFUSED, HOST_UNREACHABLE, IcmpMeaning::TooBig { mss: 600 }] {
            assert_eq!(host.icmp(meaning, seq), Err(DropReason::IcmpUnmatched), "{seq} {flight}");
        }
    }
    assert_eq!(host.info().mss, 1_000);
    let mut syn_sent = Host::syn_sent();
    assert_eq!(syn_sent.icmp(REFUSED, 1), Err(DropReason::IcmpUnmatched));
}

#[test]
fn an_unreachable_destination_is_the_reason_when_opening_takes_too_long() {
    let mut host = Host::syn_sent();
    let news = host.icmp(HOST_UNREACHABLE, 0);
    assert_eq!(news, Ok(Some(Report::SoftError { icmp_type: 3, code: 1 })));
    host.expect_state(State::SynSent);
    host.wait(core::time::Duration::from_secs(180));
    host.expect_closed(CloseReason::Unreachable);
}

#[test]
fn too_big_makes_segments_smaller_and_sends_again_at_once() {
    let mut host = Host::established();
    host.send(2_000);
    host.expect("A 1+1000 ack 1");
    host.expect("PA 1001+1000 ack 1");
    assert_eq!(host.icmp(IcmpMeaning::TooBig { mss: 700 }, 1), Ok(None));
    host.expect("A 1+700 ack 1");
    host.expect("A 701+700 ack 1");
    host.expect("PA 1401+600 ack 1");
    host.expect_nothing();
    assert_eq!(host.cwnd(), 10_000, "no congestion");
}

#[test]
fn too_big_counts_the_timestamps_that_go_along() {
    let mut host = Host::open(|config, _| config.timestamps = true, sa().stamp(1));
    host.send(10);
    assert_eq!(host.icmp(IcmpMeaning::TooBig { mss: 700 }, 1), Ok(None));
    assert_eq!(host.info().mss, 688);
}

#[test]
fn too_big_never_makes_segments_larger_nor_tiny() {
    let mut host = Host::established();
    host.send(10);
    host.sent.clear();
    assert_eq!(host.icmp(IcmpMeaning::TooBig { mss: 1_400 }, 1), Ok(None));
    assert_eq!(host.info().mss, 1_000);
    host.expect_nothing();
    assert_eq!(host.icmp(IcmpMeaning::TooBig { mss: 0 }, 1), Ok(None));
    assert_eq!(host.info().mss, 512);
}
