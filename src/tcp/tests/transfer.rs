//! Whole transfers over a link that loses, repeats and reorders: octets arrive once and in order.
#![forbid(unsafe_code)]

use core::time::Duration;
use std::vec::Vec;

use proptest::prelude::*;

use super::pair::{Fate, Finish, Pair};
use super::{Host, Seg, a};
use crate::base::{Instant, Rng};
use crate::tcp::{CloseReason, State};
use crate::wire::Control;

fn script(len: usize, salt: u8) -> Vec<u8> {
    (0..len).map(|i| u8::try_from(i % 249).expect("below 249") ^ salt).collect()
}

/// What remains when both ends are done: everything was read, and nobody was reset.
fn check(pair: &Pair) {
    for (this, that) in [(0, 1), (1, 0)] {
        let (sender, reader) = (&pair.ends[this], &pair.ends[that]);
        assert!(reader.host.read == sender.script, "{this} to {that}");
        assert_eq!(reader.host.fins, 1);
        let over = reader.over == Some(CloseReason::Finished) || reader.time_wait.is_some();
        assert!(over, "{:?} in {:?}", reader.over, reader.host.tcb.state());
    }
}

#[test]
fn a_clean_link_carries_text_both_ways_without_retransmission() {
    let mut pair = Pair::new(|config, _| *config = crate::tcp::TcpConfig::default());
    pair.ends[0].script = script(100_000, 0);
    pair.ends[1].script = script(70_000, 0x55);
    pair.run(3_000);
    check(&pair);
    assert!(pair.ends.iter().all(|end| end.host.info().retransmits == 0));
}

#[test]
fn each_segment_of_a_short_exchange_may_be_lost_in_turn() {
    for finish in [Finish::WhenSent, Finish::AfterFin, Finish::CloseAfterFin] {
        for (victim, nth) in (0..2usize).flat_map(|end| (0..8u32).map(move |nth| (end, nth))) {
            let mut pair = Pair::new(|_, _| {});
            pair.ends[0].script = script(2_500, 1);
            pair.ends[1].script = script(1_700, 2);
            pair.ends[1].finish = finish;
            pair.on_link(
                move |from, n, _| if (from, n) == (victim, nth) { Fate::Lose } else { Fate::Deliver },
            );
            pair.run(500);
            check(&pair);
        }
    }
}

#[test]
fn the_side_that_closes_first_keeps_time_wait() {
    let mut pair = Pair::new(|_, _| {});
    pair.ends[0].script = script(10, 0);
    pair.ends[1].finish = Finish::AfterFin;
    pair.run(100);
    check(&pair);
    assert!(pair.ends[0].time_wait.is_some());
    assert_eq!(pair.ends[1].over, Some(CloseReason::Finished));
}

#[test]
fn a_lost_segment_in_a_long_transfer_is_repaired_without_a_timeout() {
    let mut pair = Pair::new(|_, _| {});
    pair.ends[0].script = script(60_000, 3);
    pair.on_link(|from, nth, _| if from == 0 && nth == 14 { Fate::Lose } else { Fate::Deliver });
    pair.run(2_000);
    check(&pair);
    let sender = &pair.ends[0].host;
    assert_eq!(sender.count(crate::base::Counter::RetransmitTimeouts), 0);
    assert_eq!(sender.count(crate::base::Counter::FastRetransmits), 1);
}

#[test]
fn a_lost_segment_is_repaired_without_a_timeout_when_both_sides_send() {
    let mut pair = Pair::new(|_, _| {});
    pair.ends.iter_mut().for_each(|end| end.script = script(60_000, 3));
    pair.on_link(|from, nth, sent| {
        if from == 0 && (14..30).contains(&nth) && sent.out.seq.since(super::segments::ISS) == 8_001 {
            Fate::Lose
        } else {
            Fate::Deliver
        }
    });
    pair.run(3_000);
    check(&pair);
    assert!(pair.ends.iter().all(|end| end.host.count(crate::base::Counter::RetransmitTimeouts) == 0));
}

#[test]
fn a_peer_that_vanishes_is_given_up() {
    let mut pair = Pair::new(|_, _| {});
    pair.ends[0].script = script(100_000, 0);
    pair.on_link(|_, nth, _| if nth > 20 { Fate::Lose } else { Fate::Deliver });
    pair.run_until(2_000, |pair| pair.ends[0].over.is_some());
    assert_eq!(pair.ends[0].over, Some(CloseReason::TimedOut));
}

/// What a hostile peer sends and an erratic user does.
#[derive(Clone, Debug)]
enum Op {
    Recv(Seg),
    Send(u32),
    Read(usize),
    Fire,
    Shutdown,
    Close,
    Abort,
}

/// A number near the edges where mistakes are made, or anywhere.
fn number() -> impl Strategy<Value = u32> {
    prop_oneof![
        4 => 0u32..40,
        2 => 65_500u32..65_600,
        2 => 262_100u32..262_200,
        1 => (0u32..40).prop_map(u32::wrapping_neg),
        1 => any::<u32>(),
    ]
}

fn seg() -> impl Strategy<Value = Seg> {
    let ctl = prop_oneof![3 => Just(16u8), 1 => Just(17u8), 2 => any::<u8>()];
    let wnd = prop_oneof![Just(0u16), Just(1u16), 0u16..3_000, any::<u16>()];
    (number(), number(), ctl, wnd, 0u32..1_500, any::<u16>(), any::<(bool, Option<u32>)>()).prop_map(
        |(seq, ack, ctl, wnd, len, up, (ce, stamp))| {
            let seg = Seg { ctl: Control::from_bits(ctl), up, ce, ..a(seq, ack).wnd(wnd) }
                .text(len / 30 * (len % 30));
            stamp.map_or(seg.clone(), |val| seg.stamp(val))
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => seg().prop_map(Op::Recv),
        3 => (1u32..3_000).prop_map(Op::Send),
        3 => (0usize..2_000).prop_map(Op::Read),
        4 => Just(Op::Fire),
        1 => Just(Op::Shutdown),
        1 => Just(Op::Close),
        1 => Just(Op::Abort),
    ]
}

/// A link that does something to each segment with these chances, in parts per million.
fn bad_link(seed: u64, chances: [u32; 4]) -> impl FnMut(usize, u32, &super::segments::Sent) -> Fate {
    let mut rng = Rng::new(seed);
    move |_, _, _| {
        let [lose, twice, late, mark] = chances;
        if rng.chance(lose) {
            Fate::Lose
        } else if rng.chance(twice) {
            Fate::Twice
        } else if rng.chance(late) {
            Fate::Late(Duration::from_micros(u64::from(rng.below(30_000))))
        } else if rng.chance(mark) {
            Fate::Mark
        } else {
            Fate::Deliver
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn nothing_a_peer_sends_breaks_an_invariant(
        state in prop::sample::select(&State::ALL[..]), ops in prop::collection::vec(op(), 1..40), ecn: bool,
    ) {
        let mut host = Host::in_state(state);
        if ecn {
            host.use_ecn();
        }
        host.appetite = 0;
        for op in ops {
            if host.tcb.closed().is_some() {
                break;
            }
            match op {
                Op::Recv(seg) => host.recv(seg),
                Op::Send(len) if host.tcb.send_room(&host.lent.shared) >= len => host.send(len),
                Op::Fire if host.deadline() != Instant::NEVER => {
                    host.fire();
                }
                Op::Read(octets) => host.read(octets),
                Op::Shutdown => host.shutdown(),
                Op::Close => host.close(),
                Op::Abort => host.abort(),
                Op::Send(_) | Op::Fire => {}
            }
        }
        let lent = &mut host.lent;
        host.tcb.release(&mut lent.recv, &mut lent.shared);
        prop_assert!(lent.shared.cold.is_empty());
        prop_assert_eq!((host.lent.shared.send.free_count(), host.lent.recv.chunks.free_count()), (2_048, 2_048));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn octets_arrive_once_and_in_order_and_every_close_ends(
        seed in any::<u64>(),
        chances in [0u32..200_000, 0u32..100_000, 0u32..300_000, 0u32..200_000],
        lens in [0usize..40_000, 0usize..40_000],
        buffers in [300u32..70_000, 300u32..70_000],
        finish in 0usize..3,
        flags in any::<[bool; 4]>(),
    ) {
        let [plain, both_open, nagle, ecn] = flags;
        let adjust = |config: &mut crate::tcp::TcpConfig, options: &mut crate::tcp::FlowOptions| {
            if !plain {
                *config = crate::tcp::TcpConfig::default();
            }
            config.r2 = Duration::from_secs(100_000);
            config.syn_ack_retries = 50;
            config.r2_syn = Duration::from_secs(100_000);
            options.recv_buffer = buffers[0];
            options.send_buffer = buffers[1];
            options.nagle = nagle;
            options.ecn = ecn;
        };
        let mut pair = if both_open { Pair::simultaneous(adjust) } else { Pair::new(adjust) };
        pair.ends[0].script = script(lens[0], 7);
        pair.ends[1].script = script(lens[1], 9);
        pair.ends[1].finish = [Finish::WhenSent, Finish::AfterFin, Finish::CloseAfterFin][finish];
        pair.on_link(bad_link(seed, chances));
        pair.run(60_000);
        pair.check_ecn();
        for (this, that) in [(0, 1), (1, 0)] {
            let (sender, reader) = (&pair.ends[this], &pair.ends[that]);
            prop_assert!(reader.host.read == sender.script, "{this} to {that}");
            prop_assert_eq!(reader.host.fins, 1);
            let ended = reader.over.is_some() || reader.time_wait.is_some();
            prop_assert!(ended, "{:?}", reader.host.tcb.state());
            prop_assert!(reader.over.is_none_or(|why| why == CloseReason::Finished), "{:?}", reader.over);
        }
        prop_assert!(pair.ends.iter().all(|end| end.host.tcb.state() != State::Established));
    }
}
