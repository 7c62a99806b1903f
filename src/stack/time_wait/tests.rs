//! The ring against a slow list.
#![forbid(unsafe_code)]

use super::*;
use crate::base::{AddrPair, Seq};
use crate::tcp::Segment;
use crate::wire::{Control, Timestamps};
use core::net::{Ipv4Addr, Ipv6Addr};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::vec::Vec;

const CAPACITY: u32 = 5;
const TWO_MSL: Duration = Duration::from_millis(20);

fn key(n: u16) -> FlowKey {
    let addrs = if n.is_multiple_of(3) {
        let at = |n: u16| Ipv6Addr::new(0xfd00, 1, 2, 3, 4, 5, 6, n);
        AddrPair::V6 { local: at(n), remote: at(n + 1) }
    } else {
        let at = |n: u16| Ipv4Addr::from_bits(0x0a00_0000 + u32::from(n));
        AddrPair::V4 { local: at(n), remote: at(n + 1) }
    };
    FlowKey { addrs, local_port: n, remote_port: !n }
}

/// A record that began in the millisecond `at`.
fn record(at: Instant) -> TimeWait {
    let stamps = Some(Timestamps { val: 1, ecr: 0 });
    let (seq, ctl) = (Seq::new(0), Control::FIN | Control::ACK);
    let fin = Segment { seq, ack: seq, ctl, wnd: 0, up: 0, ce: false, stamps, options: &[], text: &[] };
    TimeWait::default().restarted(&fin, at)
}

/// What the model knows of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    index: u32,
    key: FlowKey,
    since_ms: u64,
    live: bool,
}

#[derive(Clone, Debug)]
enum Op {
    Push,
    Restart(prop::sample::Index),
    Remove(prop::sample::Index),
    PopExpired,
    PopOldest,
    PopDead,
    Wait(u8),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => Just(Op::Push),
        2 => any::<prop::sample::Index>().prop_map(Op::Restart),
        2 => any::<prop::sample::Index>().prop_map(Op::Remove),
        4 => Just(Op::PopExpired),
        1 => Just(Op::PopOldest),
        1 => Just(Op::PopDead),
        4 => (0u8..12).prop_map(Op::Wait),
    ]
}

/// The position in the model of one of the live records.
fn pick(model: &VecDeque<Known>, pick: &prop::sample::Index) -> Option<usize> {
    let live: Vec<usize> = (0..model.len()).filter(|&at| model[at].live).collect();
    (!live.is_empty()).then(|| live[pick.index(live.len())])
}

fn popped(known: Known) -> Popped {
    if known.live { Popped::Live(known.index, known.key) } else { Popped::Dead }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]
    #[test]
    fn the_ring_does_what_a_list_does(
        ops in prop::collection::vec(op(), 1..200),
        // The clock of records is 32 bits wide, and begins anew after 49 days.
        start in prop_oneof![Just(0u64), Just((1 << 32) - 30), Just((1 << 32) - 21)],
    ) {
        let mut ring = TimeWaitTable::new(CAPACITY, TWO_MSL);
        let mut model: VecDeque<Known> = VecDeque::new();
        let mut ms = start;
        for (n, op) in (0u16..).zip(ops) {
            let now = Instant::from_millis(ms);
            match op {
                Op::Push => {
                    let index = ring.push(record(now), &key(n));
                    prop_assert_eq!(index.is_some(), model.len() < CAPACITY as usize);
                    model.extend(index.map(|index| Known { index, key: key(n), since_ms: ms, live: true }));
                }
                Op::Restart(choice) => {
                    let Some(at) = pick(&model, &choice) else { continue };
                    let index = ring.restart(model[at].index, record(now));
                    prop_assert_eq!(index.is_some(), model.len() < CAPACITY as usize);
                    if let Some(index) = index {
                        model[at].live = false;
                        model.push_back(Known { index, key: model[at].key, since_ms: ms, live: true });
                    }
                }
                Op::Remove(choice) => {
                    let Some(at) = pick(&model, &choice) else { continue };
                    ring.remove(model[at].index);
                    model[at].live = false;
                }
                Op::PopExpired => {
                    let due = model.front().is_some_and(|first| !first.live || first.since_ms + 21 <= ms);
                    let want = if due { model.pop_front().map(popped) } else { None };
                    prop_assert_eq!(ring.pop_expired(now), want);
                }
                Op::PopOldest => prop_assert_eq!(ring.pop_oldest(), model.pop_front().map(popped)),
                Op::PopDead => {
                    let dead = model.front().is_some_and(|first| !first.live);
                    prop_assert_eq!(ring.pop_dead(), dead);
                    if dead {
                        model.pop_front();
                    }
                }
                Op::Wait(by) => ms += u64::from(by),
            }
            prop_assert_eq!(ring.room() as usize, CAPACITY as usize - model.len());
            prop_assert_eq!(ring.len() as usize, model.iter().filter(|known| known.live).count());
            let now = Instant::from_millis(ms);
            let first = model.front().map(|first| Instant::from_millis((first.since_ms + 21).max(ms)));
            prop_assert_eq!(ring.next_deadline(now), first);
            for known in model.iter().filter(|known| known.live) {
                prop_assert_eq!(ring.key(known.index), known.key);
                prop_assert!(ring.has_key(known.index, &known.key));
                prop_assert_eq!(u64::from(ring.at(known.index).since()), known.since_ms % (1 << 32));
            }
        }
    }
}

#[test]
fn a_record_never_expires_early_and_stays_a_tick_longer_at_most() {
    for (two_msl_us, made_us) in [(1_000, 0), (1_000, 999), (1_500, 10), (60_000_000, 500), (0, 0)] {
        let mut ring = TimeWaitTable::new(1, Duration::from_micros(two_msl_us));
        let made = Instant::from_micros(made_us);
        ring.push(record(made), &key(1));
        let deadline = ring.next_deadline(made).expect("a record");
        let stays = deadline.since(made);
        let late = stays.checked_sub(Duration::from_micros(two_msl_us)).expect("not early");
        assert!(late <= Duration::from_millis(2), "{stays:?}");
        assert_eq!(ring.pop_expired(deadline - Duration::from_nanos(1)), None);
        assert!(ring.pop_expired(deadline).is_some());
    }
}

#[test]
fn an_absurd_2_msl_is_days_and_no_room_is_no_trouble() {
    let mut ring = TimeWaitTable::new(1, Duration::MAX);
    ring.push(record(Instant::ZERO), &key(3));
    assert_eq!(ring.pop_expired(Instant::from_millis(1 << 30)), None);
    assert!(ring.pop_expired(Instant::from_millis((1 << 30) + 1)).is_some());
    let mut none = TimeWaitTable::new(0, TWO_MSL);
    assert_eq!((none.push(record(Instant::ZERO), &key(1)), none.pop_oldest()), (None, None));
}
