//! A hierarchical timer wheel: one deadline for each flow, in lists threaded through one array.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::mem;

use zerocopy::FromZeros;

use crate::base::Instant;

/// A tick is `1 << TICK_SHIFT` nanoseconds: 1.024 us.
const TICK_SHIFT: u32 = 10;
/// Each level has 64 slots, so that its occupancy is one machine word.
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// Nine levels hold all 54 bits of a tick, so no deadline lies beyond the wheel.
const LEVELS: usize = ((u64::BITS - TICK_SHIFT) / SLOT_BITS) as usize;
/// The last tick of the clock.
const TICK_MAX: u64 = u64::MAX >> TICK_SHIFT;
/// Nodes that one call of [`Wheel::pop_due`] looks at: some 50 us when none is in the cache.
const VISITS: u32 = 1_024;

/// How far a deadline can be told from the current tick, in its own unit.
const UNITS: u32 = (1 << 29) - 1;
/// A unit is a tick, or 16 of them, or 256, ...; how often times 16 lies above [`UNITS`].
const UNIT_BITS: u32 = 4;

/// Of [`Node::next`]: the node has a deadline.
const ARMED: u32 = 1 << 31;
/// Of [`Node::next`]: the node is in a list.
const LINKED: u32 = 1 << 30;
/// Of [`Node::next`]: the next node.
const INDEX: u32 = LINKED - 1;
/// The end of a list.
const END: u32 = INDEX;
/// Of [`Node::prev`]: no node is before this one; the rest is the slot's number.
const FIRST: u32 = 1 << 31;

/// All zero: in no list and without a deadline, so that memory is touched when a node is first set.
#[derive(Clone, Copy, Debug, FromZeros)]
struct Node {
    /// The deadline as [`encode`] makes it; of a node without one, where it lay.
    when: u32,
    next: u32,
    prev: u32,
}

const _: () = assert!(size_of::<Node>() == 12);

/// At most one deadline for each node, a number below the capacity.
///
/// A deadline is rounded up, so nothing fires early: to a tick of 1.024 us, or where it is more than 9
/// minutes ahead, by at most one part in 2^25 of the time from the last [`Wheel::pop_due`] until then
/// (16 us in two hours, 4 ms in 26 days).
///
/// A tick lies at the level of the highest base-64 digit in which it differs from the current tick, in
/// the slot of that digit. The current tick never passes the start of a slot in use. A node is in the
/// slot of its tick or in an earlier one: cancelling it, or moving its deadline back, changes nothing
/// but the node, which is looked at again when its slot comes by. So a flow whose deadline moves on, and
/// a node taken again for the next flow, rarely cost more than one cache line. Setting and cancelling are
/// O(1); what they leave undone is done when the slot comes by, once, and a deadline that is left alone
/// moves down at most once for each level before it fires.
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    /// The tick up to which everything has fired, except what is in slots that begin with it.
    current: u64,
    /// How many nodes have a deadline.
    armed: u32,
    /// The slot that was reached last, and is emptied before any other.
    reached: usize,
    /// Bit `l`: level `l` is in use.
    levels: u32,
    /// Bit `s` of word `l`: slot `s` of level `l` is in use.
    slots: [u64; LEVELS],
    /// The first node of each slot, level by level.
    heads: [u32; LEVELS * SLOTS],
}

impl Wheel {
    /// A wheel for nodes below `capacity` that begins at `now`; the only allocation there is.
    ///
    /// # Panics
    ///
    /// When `capacity` is 2^30 or more, which is more than a list can name, or there is no memory.
    pub fn new(capacity: u32, now: Instant) -> Self {
        assert!(capacity <= END, "a wheel of {capacity} nodes is too large");
        Self {
            nodes: Node::new_vec_zeroed(capacity as usize).expect("memory for the timers"),
            current: now.as_nanos() >> TICK_SHIFT,
            armed: 0,
            reached: 0,
            levels: 0,
            slots: [0; LEVELS],
            heads: [END; LEVELS * SLOTS],
        }
    }

    /// Octets of `capacity` nodes.
    pub const fn octets(capacity: u32) -> u64 {
        capacity as u64 * size_of::<Node>() as u64
    }

    /// Makes `node` fire at `at` and at no other time; a deadline in the past fires at the next
    /// [`Wheel::pop_due`].
    ///
    /// [`Instant::NEVER`] cancels, like any instant that rounds up to more than the clock can tell.
    ///
    /// # Panics
    ///
    /// When `node` is not below the capacity.
    #[inline]
    pub fn set(&mut self, node: u32, at: Instant) {
        let tick = at.as_nanos().checked_add((1 << TICK_SHIFT) - 1).map(|ns| ns >> TICK_SHIFT);
        let tick = tick.map(|tick| tick.max(self.current));
        let Some(when) = tick.and_then(|tick| encode(self.current, tick)) else { return self.cancel(node) };
        let entry = &mut self.nodes[node as usize];
        self.armed += u32::from(entry.next & ARMED == 0);
        let old = mem::replace(&mut entry.when, when);
        entry.next |= ARMED;
        if entry.next & LINKED == 0 || is_before(self.current, when, old) {
            self.relink(node, when);
        }
    }

    /// Takes the deadline of `node` back, if it has one.
    #[inline]
    pub fn cancel(&mut self, node: u32) {
        let Some(entry) = self.nodes.get_mut(node as usize) else { return };
        self.armed -= u32::from(entry.next & ARMED != 0);
        entry.next &= !ARMED;
    }

    /// Like [`Wheel::set`], but `node` goes to where it belongs at once, wherever its deadline moves; a
    /// cancelled one leaves its list.
    ///
    /// It pays where the node and those beside it in its list are in the cache now and will not be when its
    /// slot comes by.
    #[inline(never)]
    pub fn set_eagerly(&mut self, node: u32, at: Instant) {
        self.set(node, at);
        let Node { when, next, .. } = self.nodes[node as usize];
        if next & LINKED == 0 {
            return;
        }
        self.unlink(node);
        self.nodes[node as usize].next = next & ARMED;
        if next & ARMED != 0 {
            self.link(node, decode(self.current, when));
        }
    }

    /// Reads `node`, so that it is in the cache; the number means nothing.
    ///
    /// Reading many nodes, then those beside each ([`Wheel::touch_beside`]), before they are set lets the
    /// processor wait for all of that memory at once.
    #[inline]
    pub fn touch(&self, node: u32) -> u32 {
        // Its two ends, as one node in eight lies in two cache lines.
        self.nodes.get(node as usize).map_or(0, |entry| entry.when ^ entry.prev)
    }

    /// Reads the nodes that change when `node` leaves its list; the number means nothing.
    #[inline]
    pub fn touch_beside(&self, node: u32) -> u32 {
        let Some(Node { next, prev, .. }) = self.nodes.get(node as usize) else { return 0 };
        // The end of a list, and what stands for the first node's slot, are beyond the last node.
        let next = self.nodes.get((next & INDEX) as usize).map_or(0, |after| after.prev);
        next ^ self.nodes.get(*prev as usize).map_or(0, |before| before.next)
    }

    /// The deadline of `node`, rounded up as when it was set.
    #[inline]
    pub fn deadline(&self, node: u32) -> Option<Instant> {
        let entry = self.nodes.get(node as usize)?;
        let tick = decode(self.current, entry.when);
        (entry.next & ARMED != 0).then_some(Instant::from_nanos(tick << TICK_SHIFT))
    }

    /// Disarms and returns a node whose deadline, as [`Wheel::deadline`] tells it, is not after `now`.
    ///
    /// Call it until it returns `None`; if [`Wheel::next_deadline`] is due even then, many nodes had to
    /// be looked at that were not, and there is more to do. Nodes come in the order of their ticks, in
    /// no order within one; a node that is set again to an instant already due comes again. An instant
    /// earlier than one seen before counts as that one.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        self.pop_within(now, VISITS)
    }

    /// When to call [`Wheel::pop_due`] next: never later than the next deadline (rounded up as it was),
    /// and possibly earlier; `None` when nothing is set.
    #[inline]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.armed == 0 {
            return None;
        }
        self.earliest().map(|(_, start)| Instant::from_nanos(start << TICK_SHIFT))
    }

    fn pop_within(&mut self, now: Instant, visits: u32) -> Option<u32> {
        let target = (now.as_nanos() >> TICK_SHIFT).max(self.current);
        for _ in 0..visits {
            let Some((slot, start)) = self.earliest().filter(|&(_, start)| start <= target) else {
                self.current = target;
                return None;
            };
            (self.reached, self.current) = (slot, start);
            let node = self.heads[slot];
            self.unlink(node);
            let entry = &mut self.nodes[node as usize];
            let (is_armed, tick) = (entry.next & ARMED != 0, decode(start, entry.when));
            entry.next &= ARMED;
            if is_armed && tick <= start {
                self.cancel(node);
                return Some(node);
            }
            if is_armed {
                self.link(node, tick);
            }
        }
        None
    }

    /// The first slot in use, with the tick at which it begins.
    ///
    /// Everything at a lower level agrees with the current tick in one digit more, so it is earlier
    /// than everything above; and no slot in use begins before the current tick. But what is left of
    /// the slot that was reached comes before what of it has gone to lower levels.
    #[inline]
    fn earliest(&self) -> Option<(usize, u64)> {
        if self.heads[self.reached] != END {
            let (slot, start) = (self.reached, self.start_of(self.reached));
            if start == self.current {
                return Some((slot, start));
            }
        }
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = level * SLOTS + self.slots[level].trailing_zeros() as usize;
        Some((slot, self.start_of(slot)))
    }

    /// The first tick of a slot that is in use.
    #[inline]
    const fn start_of(&self, slot: usize) -> u64 {
        let (level, digit) = (slot / SLOTS, slot % SLOTS);
        let shift = SLOT_BITS as usize * level;
        let above = self.current >> shift >> SLOT_BITS << SLOT_BITS;
        (above | digit as u64) << shift
    }

    /// Brings a node whose deadline came nearer, or that is in no list, to where it belongs.
    #[inline(never)]
    fn relink(&mut self, node: u32, when: u32) {
        // Field by field: a wider load would wait until what was just stored is in the cache.
        if self.nodes[node as usize].next & LINKED != 0 {
            self.unlink(node);
        }
        self.link(node, decode(self.current, when));
    }

    /// Puts a node at the head of its tick's slot.
    #[expect(clippy::cast_possible_truncation, reason = "a slot's number is below 576")]
    #[inline(always)]
    fn link(&mut self, node: u32, tick: u64) {
        // The lowest bit is set so that the current tick itself counts as level 0.
        let level = (((tick ^ self.current) | 1).ilog2() / SLOT_BITS) as usize;
        let digit = (tick >> (SLOT_BITS as usize * level)) as usize % SLOTS;
        let slot = level * SLOTS + digit;
        let next = mem::replace(&mut self.heads[slot], node);
        let entry = &mut self.nodes[node as usize];
        entry.next = (entry.next & ARMED) | LINKED | next;
        entry.prev = FIRST | slot as u32;
        if next == END {
            self.slots[level] |= 1 << digit;
            self.levels |= 1 << level;
        } else {
            self.nodes[next as usize].prev = node;
        }
    }

    /// Takes a node out of its list; its own links stay.
    #[inline(always)]
    fn unlink(&mut self, node: u32) {
        let Node { next, prev, .. } = self.nodes[node as usize];
        let next = next & INDEX;
        if next != END {
            self.nodes[next as usize].prev = prev;
        }
        if prev & FIRST == 0 {
            let before = &mut self.nodes[prev as usize].next;
            *before = (*before & !INDEX) | next;
            return;
        }
        let slot = (prev & !FIRST) as usize;
        self.heads[slot] = next;
        if next == END {
            let (level, digit) = (slot / SLOTS, slot % SLOTS);
            self.slots[level] &= !(1 << digit);
            if self.slots[level] == 0 {
                self.levels &= !(1 << level);
            }
        }
    }
}

/// A tick, not before the current one, in the smallest unit in which it is near enough, rounded up;
/// `None` when that is after the last tick of the clock.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
const fn encode(current: u64, tick: u64) -> Option<u32> {
    if tick - current <= UNITS as u64 { Some(tick as u32 & UNITS) } else { encode_far(current, tick) }
}

#[cold]
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
const fn encode_far(current: u64, tick: u64) -> Option<u32> {
    let (mut exponent, mut shift) = (0, 0);
    while tick.div_ceil(1 << shift) - (current >> shift) > UNITS as u64 {
        exponent += 1;
        shift += UNIT_BITS;
    }
    let unit = tick.div_ceil(1 << shift);
    if unit << shift > TICK_MAX {
        return None;
    }
    Some(exponent << UNITS.count_ones() | (unit as u32 & UNITS))
}

/// The tick that [`encode`] was given, rounded up to its unit, as long as the current tick is not later.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
const fn decode(current: u64, when: u32) -> u64 {
    let shift = (when >> UNITS.count_ones()) * UNIT_BITS;
    let unit = current >> shift;
    (unit + (when.wrapping_sub(unit as u32) & UNITS) as u64) << shift
}

/// Whether the deadline `when` is before `old`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the lower bits are wanted")]
const fn is_before(current: u64, when: u32, old: u32) -> bool {
    if when <= UNITS && old <= UNITS {
        // Both are in ticks.
        let current = current as u32;
        return when.wrapping_sub(current) & UNITS < old.wrapping_sub(current) & UNITS;
    }
    decode(current, when) < decode(current, old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const NODES: u32 = 24;
    const TICK: u64 = 1 << TICK_SHIFT;

    fn at(ns: u64) -> Instant {
        Instant::from_nanos(ns)
    }

    fn drain(wheel: &mut Wheel, now: u64) -> Vec<u32> {
        drain_by(wheel, now, VISITS)
    }

    /// Everything due, in turns of so many nodes looked at.
    fn drain_by(wheel: &mut Wheel, now: u64, visits: u32) -> Vec<u32> {
        let mut fired = Vec::new();
        loop {
            fired.extend(core::iter::from_fn(|| wheel.pop_within(at(now), visits)));
            if wheel.next_deadline().is_none_or(|next| next > at(now)) {
                return fired;
            }
        }
    }

    /// Every list is whole, in the slot that its nodes name, and none of its nodes is due before it.
    fn check(wheel: &Wheel) {
        let mut linked = 0;
        for slot in 0..LEVELS * SLOTS {
            let (mut node, mut prev) = (wheel.heads[slot], FIRST | u32::try_from(slot).expect("small"));
            let is_used = wheel.slots[slot / SLOTS] >> (slot % SLOTS) & 1 == 1;
            assert_eq!(node != END, is_used, "slot {slot}");
            assert!(!is_used || wheel.start_of(slot) >= wheel.current);
            while node != END {
                let entry = &wheel.nodes[node as usize];
                assert_eq!((entry.prev, entry.next & LINKED), (prev, LINKED));
                assert!(decode(wheel.current, entry.when) >= wheel.start_of(slot));
                linked += 1;
                (prev, node) = (node, entry.next & INDEX);
            }
        }
        for level in 0..LEVELS {
            assert_eq!(wheel.levels >> level & 1 == 1, wheel.slots[level] != 0);
        }
        assert_eq!(wheel.nodes.iter().filter(|node| node.next & LINKED != 0).count(), linked);
        let armed = wheel.nodes.iter().filter(|node| node.next & ARMED != 0);
        assert!(armed.clone().all(|node| node.next & LINKED != 0));
        assert_eq!(armed.count(), wheel.armed as usize);
    }

    /// A node with a deadline lies in the slot of that, and one without in none.
    fn check_is_in_place(wheel: &Wheel, node: u32) {
        let Node { when, next, mut prev } = wheel.nodes[node as usize];
        assert_eq!(next & ARMED != 0, next & LINKED != 0, "it is in a list if it has a deadline");
        if next & LINKED != 0 {
            while prev & FIRST == 0 {
                prev = wheel.nodes[prev as usize].prev;
            }
            let slot = (prev & !FIRST) as usize;
            let shift = SLOT_BITS as usize * (slot / SLOTS);
            let tick = decode(wheel.current, when);
            assert_eq!(tick >> shift, wheel.start_of(slot) >> shift, "tick {tick} in slot {slot}");
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(u32, i64),
        SetEagerly(u32, Option<i64>),
        Cancel(u32),
        Advance(u64, u32),
        PopOne(u64),
    }

    const MILLISECOND: u64 = 1_000_000;

    /// Distances of every order of magnitude, so that every level is reached.
    fn distance() -> impl Strategy<Value = u64> {
        (0u32..56, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..NODES, distance()).prop_map(|(n, d)| Op::Set(n, d.cast_signed())),
            1 => (0..NODES, 0i64..5_000).prop_map(|(n, d)| Op::Set(n, -d)),
            1 => (0..NODES).prop_map(Op::Cancel),
            2 => (0..NODES, distance()).prop_map(|(n, d)| Op::SetEagerly(n, Some(d.cast_signed()))),
            1 => (0..NODES).prop_map(|n| Op::SetEagerly(n, None)),
            // A retransmission timer that is set again and again, and seldom fires.
            4 => (0..NODES, 190..210_u64).prop_map(|(n, ms)| Op::Set(n, (ms * MILLISECOND).cast_signed())),
            2 => (0..200 * MILLISECOND, 1..4_u32).prop_map(|(by, visits)| Op::Advance(by, visits)),
            3 => (distance(), 1..4_u32).prop_map(|(by, visits)| Op::Advance(by, visits)),
            1 => distance().prop_map(Op::PopOne),
        ]
    }

    /// What fires and when, kept as one deadline for each node and searched from end to end.
    struct Model {
        deadlines: [Option<u64>; NODES as usize],
        now: u64,
    }

    impl Model {
        fn is_due(&self, node: u32) -> bool {
            self.deadlines[node as usize].is_some_and(|d| d.div_ceil(TICK) <= self.now / TICK)
        }

        /// It fires when [`Wheel::set`] would have it fire, and lies where it belongs.
        fn set_eagerly(&mut self, wheel: &mut Wheel, node: u32, delta: Option<i64>) {
            let when = delta.map_or(Instant::NEVER, |delta| at(self.now.saturating_add_signed(delta)));
            wheel.set_eagerly(node, when);
            check_is_in_place(wheel, node);
            let eager = wheel.deadline(node);
            wheel.set(node, when);
            assert_eq!(wheel.deadline(node), eager);
            self.deadlines[node as usize] = eager.map(Instant::as_nanos);
        }

        fn next(&self) -> Option<u64> {
            self.deadlines.iter().flatten().map(|d| d.div_ceil(TICK) * TICK).min()
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_wheel_fires_what_a_list_of_deadlines_fires(
            begin in distance(),
            ops in prop::collection::vec(op(), 1..120),
        ) {
            let mut model = Model { deadlines: [None; NODES as usize], now: begin };
            let mut wheel = Wheel::new(NODES, at(begin));
            for op in ops {
                match op {
                    Op::SetEagerly(node, delta) => model.set_eagerly(&mut wheel, node, delta),
                    Op::Set(node, delta) => {
                        let when = model.now.saturating_add_signed(delta);
                        wheel.set(node, at(when));
                        let rounded = wheel.deadline(node).map(Instant::as_nanos);
                        prop_assert!(rounded.is_none_or(|rounded| rounded >= when));
                        let tick = when.div_ceil(TICK).max(wheel.current) * TICK;
                        let ahead = tick - wheel.current * TICK;
                        let late = if ahead / TICK < 1 << 29 { 0 } else { ahead >> 25 };
                        prop_assert!(rounded.is_none_or(|rounded| rounded - tick <= late), "{ahead} {late}");
                        prop_assert!(rounded.is_some() || tick.checked_add(late).is_none_or(|end| end > TICK_MAX * TICK));
                        model.deadlines[node as usize] = rounded;
                    }
                    Op::Cancel(node) => {
                        wheel.cancel(node);
                        model.deadlines[node as usize] = None;
                    }
                    Op::PopOne(by) => {
                        model.now += by;
                        let fired = wheel.pop_due(at(model.now));
                        prop_assert_eq!(fired.is_some(), (0..NODES).any(|n| model.is_due(n)));
                        let first = fired.and_then(|node| model.deadlines[node as usize]);
                        prop_assert!(first.is_none() || first == model.next());
                        if let Some(node) = fired {
                            prop_assert!(model.is_due(node));
                            model.deadlines[node as usize] = None;
                        }
                    }
                    Op::Advance(by, visits) => {
                        model.now += by;
                        // What is left of a turn that was cut off may be changed before the next.
                        for node in (0..visits).map_while(|_| wheel.pop_within(at(model.now), visits)) {
                            prop_assert!(model.is_due(node));
                            model.deadlines[node as usize] = None;
                        }
                        check(&wheel);
                        let changed = model.now % u64::from(NODES);
                        let changed = u32::try_from(changed).expect("small");
                        if visits == 2 {
                            wheel.set(changed, at(model.now + TICK));
                            model.deadlines[changed as usize] = wheel.deadline(changed).map(Instant::as_nanos);
                        }
                        let mut fired = drain_by(&mut wheel, model.now, visits);
                        fired.sort_unstable();
                        let due: Vec<u32> = (0..NODES).filter(|&n| model.is_due(n)).collect();
                        prop_assert_eq!(&fired, &due);
                        for node in due {
                            model.deadlines[node as usize] = None;
                        }
                    }
                }
                for node in 0..NODES {
                    prop_assert_eq!(wheel.deadline(node).map(Instant::as_nanos), model.deadlines[node as usize]);
                }
                check(&wheel);
                let next = wheel.next_deadline().map(Instant::as_nanos);
                prop_assert_eq!(next.is_some(), model.next().is_some());
                // A deadline that passed before it was set may be reported as the current tick.
                prop_assert!(next <= model.next().map(|d| d.max(model.now)));
            }
        }

        #[test]
        fn following_next_deadline_reaches_every_deadline_in_few_steps(wait in distance()) {
            let mut wheel = Wheel::new(1, at(777));
            wheel.set(0, at(777 + wait));
            for _ in 0..LEVELS {
                let next = wheel.next_deadline().expect("it has not fired");
                if wheel.pop_due(next) == Some(0) {
                    prop_assert!(next >= at(777 + wait) || wait < TICK);
                    prop_assert_eq!(wheel.next_deadline(), None);
                    return Ok(());
                }
            }
            prop_assert!(false, "not fired after one step for each level");
        }
    }

    #[test]
    fn nothing_fires_a_nanosecond_early() {
        let mut wheel = Wheel::new(2, at(0));
        wheel.set(0, at(TICK));
        wheel.set(1, at(TICK + 1));
        assert_eq!(drain(&mut wheel, TICK - 1), [0_u32; 0]);
        assert_eq!(drain(&mut wheel, TICK), [0]);
        assert_eq!(drain(&mut wheel, 2 * TICK - 1), [0_u32; 0]);
        assert_eq!(drain(&mut wheel, 2 * TICK), [1]);
    }

    #[test]
    fn nodes_fire_in_the_order_of_their_ticks() {
        let mut wheel = Wheel::new(100, at(0));
        for node in 0..100 {
            wheel.set(node, at(u64::from(node * 37 % 100) * 1_000_000));
        }
        let order: Vec<u32> = drain(&mut wheel, u64::from(u32::MAX)).iter().map(|n| n * 37 % 100).collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>());
    }

    #[test]
    fn never_cancels_and_is_not_reported() {
        let mut wheel = Wheel::new(2, at(0));
        wheel.set(0, at(5));
        wheel.set(0, Instant::NEVER);
        wheel.set(1, at(u64::MAX - 1));
        assert_eq!((wheel.deadline(0), wheel.deadline(1), wheel.next_deadline()), (None, None, None));
        assert_eq!(wheel.pop_due(Instant::NEVER), None);
    }

    #[test]
    fn the_last_tick_of_the_clock_can_be_reached() {
        let last = at(TICK_MAX << TICK_SHIFT);
        let mut wheel = Wheel::new(1, at(last.as_nanos() - 500_000_000_000));
        wheel.set(0, last);
        assert_eq!(wheel.pop_due(at(last.as_nanos() - 1)), None);
        assert_eq!(wheel.pop_due(last), Some(0));
    }

    #[test]
    fn a_deadline_that_rounds_up_beyond_the_clock_is_never() {
        let mut wheel = Wheel::new(1, at(0));
        wheel.set(0, at(TICK_MAX << TICK_SHIFT));
        assert_eq!((wheel.deadline(0), wheel.next_deadline()), (None, None));
    }

    #[test]
    fn deadlines_lie_exactly_where_the_documentation_says() {
        let second = 1_000_000_000;
        for (ahead, unit, why) in [
            (549 * second, TICK, "nine minutes"),
            (550 * second, 16 * TICK, "more than 2^29 ticks"),
            (7_200 * second, 16 * TICK, "two hours"),
            (10 * 86_400 * second, 4_096 * TICK, "days"),
        ] {
            let mut wheel = Wheel::new(1, at(0));
            wheel.set(0, at(ahead + 1));
            let want = (ahead + 1).next_multiple_of(unit);
            assert_eq!(wheel.deadline(0), Some(at(want)), "{why}");
            assert_eq!(drain(&mut wheel, want - 1), [0_u32; 0], "{why}");
            assert_eq!(drain(&mut wheel, want), [0], "{why}");
        }
    }

    #[test]
    fn one_call_looks_at_so_many_nodes_and_the_next_goes_on() {
        let nodes = 5 * VISITS / 2;
        let mut wheel = Wheel::new(nodes, at(0));
        // All in one slot of a level above, none due when it comes by.
        (0..nodes).for_each(|node| wheel.set(node, at((1 << 28) + u64::from(node + 1) * TICK)));
        let begin = 1 << 28;
        assert_eq!((wheel.pop_due(at(begin)), wheel.pop_due(at(begin))), (None, None));
        assert_eq!(wheel.next_deadline(), Some(at(begin)), "there is more to do");
        // Between two calls, one that still lies in the slot moves and one is cancelled.
        wheel.set(0, at(begin));
        wheel.cancel(1);
        check(&wheel);
        assert_eq!(wheel.pop_due(at(begin)), Some(0));
        assert_eq!(wheel.pop_due(at(begin)), None);
        assert_eq!(wheel.next_deadline(), Some(at(begin + 3 * TICK)));
        assert_eq!(drain(&mut wheel, begin + begin), (2..nodes).collect::<Vec<_>>());
    }

    #[test]
    fn a_wheel_of_cancelled_nodes_has_nothing_to_do() {
        let mut wheel = Wheel::new(3, at(0));
        (0..3).for_each(|node| wheel.set(node, at(u64::from(node + 1) * MILLISECOND)));
        (0..3).for_each(|node| wheel.cancel(node));
        assert_eq!(wheel.next_deadline(), None);
        // An hour later, what lay in the past is in nobody's way.
        let later = 3_600_000 * MILLISECOND;
        wheel.set(1, at(later + 5 * TICK));
        assert!(wheel.deadline(1) < Some(at(later + 5 * TICK + (later >> 25))));
        assert_eq!(drain(&mut wheel, later), [0_u32; 0]);
        assert_eq!(drain(&mut wheel, later + MILLISECOND), [1]);
        assert_eq!(wheel.levels, 0);
    }

    #[test]
    fn a_deadline_moved_eagerly_leaves_nothing_to_look_at() {
        let mut wheel = Wheel::new(3, at(0));
        (0..3).for_each(|node| wheel.set(node, at(MILLISECOND)));
        wheel.set_eagerly(1, at(7_000 * MILLISECOND));
        wheel.set_eagerly(0, Instant::NEVER);
        wheel.set_eagerly(2, Instant::NEVER);
        let next = wheel.next_deadline().expect("one is set");
        assert!(next > at(2_000 * MILLISECOND), "{next:?}: nothing is left where it lay first");
        assert_eq!(drain(&mut wheel, 7_000 * MILLISECOND + TICK), [1]);
        assert_eq!(wheel.levels, 0);
    }

    #[test]
    fn reading_ahead_is_harmless_whatever_is_read() {
        let mut wheel = Wheel::new(4, at(0));
        wheel.set(1, at(MILLISECOND));
        wheel.set(2, at(MILLISECOND));
        // Of a node in no list, at a list's ends, and of none at all.
        (0..6).for_each(|node| {
            std::hint::black_box(wheel.touch(node) ^ wheel.touch_beside(node));
        });
        check(&wheel);
        assert_eq!(drain(&mut wheel, MILLISECOND + TICK).len(), 2);
    }

    #[test]
    fn a_clock_that_steps_back_delays_nothing_already_due() {
        let mut wheel = Wheel::new(1, at(0));
        assert_eq!(wheel.pop_due(at(9_000_000)), None);
        wheel.set(0, at(1_000_000));
        assert_eq!(wheel.pop_due(at(2_000_000)), Some(0));
    }
}
