//! Explicit congestion notification (RFC 3168): who agrees to what, and that each mark is answered and nothing lost.
#![forbid(unsafe_code)]

use std::vec;

use super::host::options;
use super::pair::{Fate, Pair};
use super::segments::{a, pa, s, sa};
use super::{Host, Seg};
use crate::base::Counter;
use crate::tcp::{CongestionAlgorithm, FlowOptions, State};
use crate::wire::Control;

const ASKS: Control = Control::from_bits(Control::ECE.bits() | Control::CWR.bits());

fn with(ecn: bool) -> FlowOptions {
    FlowOptions { ecn, ..options() }
}

/// ESTABLISHED, both sides using it.
fn established() -> Host {
    let mut host = Host::opening_with(|_, options| options.ecn = true);
    host.expect("SEW 0+0");
    host.recv(sa().with(Control::ECE));
    host.expect("A 1+0 ack 1");
    host
}

/// RFC 3168 §6.1.1.
#[test]
fn both_ends_use_it_or_neither() {
    let none = None;
    for (options, both_open, lost, want, why) in [
        ([true, true], false, none, true, "both want it"),
        ([true, false], false, none, false, "the listener does not"),
        ([false, true], false, none, false, "nobody asks"),
        ([false, false], false, none, false, "by default"),
        ([true, true], true, none, true, "both ask at the same time"),
        ([true, false], true, none, false, "one of two SYNs that cross asks"),
        ([true, true], false, Some((0, 0)), false, "the SYN was lost, and goes again without"),
        ([true, true], false, Some((1, 0)), false, "the SYN-ACK was lost, and the SYN goes again without"),
        ([true, true], false, Some((0, 1)), true, "what establishes was lost: the SYNs were heard"),
    ] {
        let mut pair = Pair::unlike(options.map(with), both_open);
        pair.ends.iter_mut().for_each(|end| end.script = vec![7; 3_000]);
        pair.on_link(move |from, nth, _| if lost == Some((from, nth)) { Fate::Lose } else { Fate::Deliver });
        pair.run(500);
        pair.check_ecn();
        let capable = |end| pair.trace.iter().any(|(from, _, sent)| *from == end && sent.out.ecn != 0);
        assert_eq!([capable(0), capable(1)], [want; 2], "{why}");
        assert!(pair.ends.iter().all(|end| end.host.info().ecn == want), "{why}");
        assert!(pair.ends.iter().all(|end| end.host.read.len() == 3_000), "{why}");
    }
}

#[test]
fn with_bbr_nobody_asks_or_agrees() {
    let bbr = FlowOptions { congestion: CongestionAlgorithm::Bbr, ..with(true) };
    for options in [[bbr, with(true)], [with(true), bbr]] {
        let mut pair = Pair::unlike(options, false);
        pair.ends.iter_mut().for_each(|end| end.script = vec![7; 3_000]);
        pair.run(500);
        assert!(pair.trace.iter().all(|(.., sent)| sent.out.ecn == 0));
        assert!(pair.ends.iter().all(|end| !end.host.info().ecn && end.host.read.len() == 3_000));
    }
}

#[test]
fn only_a_syn_ack_with_ece_alone_agrees() {
    for (bits, agrees) in
        [(Control::EMPTY, false), (Control::ECE, true), (Control::CWR, false), (ASKS, false)]
    {
        let mut host = Host::opening_with(|_, options| options.ecn = true);
        host.recv(sa().with(bits));
        assert_eq!((host.info().ecn, host.count(Counter::EcnAgreed)), (agrees, agrees.into()), "{bits:?}");
        let mut silent = Host::syn_sent();
        silent.recv(sa().with(bits));
        assert!(!silent.info().ecn, "it never asked: {bits:?}");
    }
}

#[test]
fn only_a_syn_with_both_bits_asks() {
    for (bits, asks) in [(Control::EMPTY, false), (Control::ECE, false), (Control::CWR, false), (ASKS, true)]
    {
        for ecn in [false, true] {
            let mut host = Host::half_open(&s().with(bits), |_, options| options.ecn = ecn);
            host.recv(a(1, 1));
            assert_eq!(host.info().ecn, asks && ecn, "{bits:?}, {ecn}");
        }
    }
}

#[test]
fn a_half_open_connection_counts_its_attempts_beside_what_was_asked() {
    for asked in [Control::EMPTY, ASKS] {
        let host = Host::new(super::host::config(), |lent| {
            lent.config.syn_ack_retries = u8::MAX;
            let mut half =
                crate::tcp::HalfOpen::new(&s().with(asked).segment(), super::segments::ISS, lent.now);
            for attempt in 1..=127 {
                assert!(half.retry(&lent.config), "{attempt}");
            }
            assert!(!half.retry(&lent.config), "as many as it can count");
            let syn_ack = half.syn_ack(&lent.opening(super::segments::ISS), &with(true), &lent.config);
            assert_eq!(syn_ack.ctl.intersects(Control::ECE), asked == ASKS);
            lent.opened(&half, super::segments::ISS, &with(true))
        });
        assert_eq!((host.tcb.timeouts, host.info().ecn), (127, asked == ASKS));
    }
}

#[test]
fn marks_slow_both_ends_down_and_nothing_is_lost() {
    let mut pair = Pair::unlike([with(true); 2], false);
    pair.ends.iter_mut().for_each(|end| end.script = vec![7; 200_000]);
    pair.on_link(|_, nth, _| if nth % 40 == 0 { Fate::Mark } else { Fate::Deliver });
    pair.run(10_000);
    pair.check_ecn();
    for end in &pair.ends {
        assert_eq!((end.host.read.len(), end.host.info().retransmits), (200_000, 0));
        let [marks, reductions] = [Counter::EcnMarks, Counter::EcnReductions].map(|c| end.host.count(c));
        assert!(marks > 2 && reductions > 1 && end.host.info().ssthresh < 30_000, "{marks}, {reductions}");
    }
    let reductions: u64 = pair.ends.iter().map(|end| end.host.count(Counter::EcnReductions)).sum();
    let sent_cwr =
        |sent: &super::segments::Sent| sent.out.ctl.intersects(Control::CWR) && sent.out.text_len > 0;
    let told = pair.trace.iter().filter(|(.., sent)| sent_cwr(sent)).count() as u64;
    assert!(told <= reductions && reductions <= told + 2, "each is told: {told} of {reductions}");
}

/// RFC 3168 §6.1.3: header prediction must not pass over marks, echoes and CWR.
#[test]
fn what_has_to_do_with_congestion_is_never_predicted() {
    let plain = || pa(1, 1, 10);
    for (seg, want, why) in [
        (plain(), true, "text in order"),
        (plain().ce(), false, "a mark"),
        (plain().with(Control::ECE), false, "an echo"),
        (plain().with(Control::CWR), false, "a window was reduced"),
    ] as [(Seg, bool, &str); 4]
    {
        let mut host = established();
        host.recv(seg);
        assert_eq!(host.count(Counter::FastPath) == 1, want, "{why}");
        assert_eq!(host.read.len(), 10, "{why}");
    }
}

#[test]
fn an_echo_reduces_no_window_below_what_it_is() {
    let mut host = Host::opening_with(|_, options| options.ecn = true);
    host.recv(sa().with(Control::ECE).mss(500));
    host.sent.clear();
    host.tcb.congestion.on_timeout(500, 500, true, None);
    host.send(500);
    host.expect("PA 1+500 ack 1");
    host.recv(a(1, 501).with(Control::ECE));
    assert_eq!(host.cwnd(), 500, "one segment, and not two");
    assert_eq!(host.count(Counter::EcnReductions), 1);
}

#[test]
fn an_old_echo_means_nothing() {
    let mut host = established();
    host.send(2_000);
    host.sent.clear();
    host.recv(a(1, 2_001));
    host.recv(a(1, 1_001).with(Control::ECE));
    assert_eq!((host.count(Counter::EcnReductions), host.cwnd()), (0, 10_000));
    host.expect_state(State::Established);
}

#[test]
fn a_record_is_held_only_until_cwr_is_acknowledged() {
    let mut host = established();
    host.send(3_000);
    host.recv(a(1, 3_001).with(Control::ECE));
    assert!(host.lent.shared.cold.is_empty(), "nothing is in flight: the CWR that is due says it all");
    host.send(10);
    host.recv(a(1, 3_001).with(Control::ECE));
    assert_eq!(host.lent.shared.cold.len(), 1);
    host.recv(a(1, 3_011));
    assert!(host.lent.shared.cold.is_empty());
    assert_eq!(host.count(Counter::EcnReductions), 1);
    host.send(10);
    host.recv(a(1, 3_021).with(Control::ECE));
    assert_eq!(host.count(Counter::EcnReductions), 2, "a mark on what followed");
}
