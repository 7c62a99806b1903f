//! A hierarchical timer wheel: one deadline for each flow, in lists threaded through one array.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

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
/// The end of a list.
const NONE: u32 = u32::MAX;
/// The deadline of a node that is in no list.
const DISARMED: u64 = Instant::NEVER.as_nanos();

#[derive(Clone, Copy, Debug)]
struct Node {
    /// Nanoseconds, or [`DISARMED`].
    at: u64,
    next: u32,
    prev: u32,
}

const _: () = assert!(size_of::<Node>() == 16);

/// At most one deadline for each node, a number below the capacity.
///
/// A deadline is rounded up to a tick of 1.024 us, so nothing fires early. Setting, moving and
/// cancelling are O(1); a deadline moves down at most once for each level before it fires. Memory for
/// a node is touched when it, or one above it, is first set.
///
/// A node lies at the level of the highest base-64 digit in which its tick differs from the current
/// tick, in the slot of that digit. The current tick never passes the start of a slot in use without
/// emptying it, so the place of a node always follows from its deadline and is not stored.
#[derive(Debug)]
pub struct Wheel {
    nodes: Vec<Node>,
    capacity: u32,
    /// The tick up to which everything has fired, except what is in its own slot at level 0.
    current: u64,
    /// Bit `l`: level `l` is in use.
    levels: u32,
    /// Bit `s` of word `l`: slot `s` of level `l` is in use.
    slots: [u64; LEVELS],
    heads: [[u32; SLOTS]; LEVELS],
}

impl Wheel {
    /// A wheel for nodes below `capacity` that begins at `now`.
    pub fn new(capacity: u32, now: Instant) -> Self {
        Self {
            nodes: Vec::with_capacity(capacity as usize),
            capacity,
            current: now.as_nanos() >> TICK_SHIFT,
            levels: 0,
            slots: [0; LEVELS],
            heads: [[NONE; SLOTS]; LEVELS],
        }
    }

    /// Octets of `capacity` nodes.
    pub const fn octets(capacity: u32) -> u64 {
        capacity as u64 * size_of::<Node>() as u64
    }

    /// Makes `node` fire at `at` and at no other time; a deadline in the past fires at the next
    /// [`Wheel::pop_due`].
    ///
    /// [`Instant::NEVER`], like any instant after the start of the clock's last tick, cancels.
    ///
    /// # Panics
    ///
    /// When `node` is not below the capacity.
    pub fn set(&mut self, node: u32, at: Instant) {
        let at = at.as_nanos();
        if at > TICK_MAX << TICK_SHIFT {
            return self.cancel(node);
        }
        self.reach(node);
        let place = self.place(at);
        let old = self.nodes[node as usize].at;
        if old == DISARMED {
            self.link(node, place);
        } else if self.place(old) != place {
            self.unlink(node, self.place(old));
            self.link(node, place);
        }
        self.nodes[node as usize].at = at;
    }

    /// Takes the deadline of `node` back, if it has one.
    pub fn cancel(&mut self, node: u32) {
        let Some(at) = self.deadline(node) else { return };
        self.unlink(node, self.place(at.as_nanos()));
        self.nodes[node as usize].at = DISARMED;
    }

    /// The deadline of `node` as it was set, before rounding.
    pub fn deadline(&self, node: u32) -> Option<Instant> {
        let at = self.nodes.get(node as usize)?.at;
        (at != DISARMED).then_some(Instant::from_nanos(at))
    }

    /// Disarms and returns a node whose deadline, rounded up to a tick, is not after `now`.
    ///
    /// Call it until it returns `None`. Nodes come in the order of their ticks, in no order within
    /// one; a node that is set again to an instant already due comes again. An instant earlier than
    /// one seen before counts as that one.
    pub fn pop_due(&mut self, now: Instant) -> Option<u32> {
        let target = (now.as_nanos() >> TICK_SHIFT).max(self.current);
        while let Some((level, slot, start)) = self.earliest() {
            if start > target {
                break;
            }
            self.current = start;
            if level == 0 {
                let node = self.heads[0][slot];
                self.unlink(node, (0, slot));
                self.nodes[node as usize].at = DISARMED;
                return Some(node);
            }
            self.cascade(level, slot);
        }
        self.current = target;
        None
    }

    /// When to call [`Wheel::pop_due`] next: never later than the next deadline (rounded up to a
    /// tick), and possibly earlier; `None` when nothing is set.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.earliest().map(|(_, _, start)| Instant::from_nanos(start << TICK_SHIFT))
    }

    /// Grows the array up to `node`, within what `new` allocated.
    fn reach(&mut self, node: u32) {
        assert!(node < self.capacity, "node {node} is not below the capacity {}", self.capacity);
        if node as usize >= self.nodes.len() {
            self.nodes.resize(node as usize + 1, Node { at: DISARMED, next: NONE, prev: NONE });
        }
    }

    /// Level and slot of a deadline, as seen from the current tick.
    #[expect(clippy::cast_possible_truncation, reason = "the remainder is below 64")]
    fn place(&self, at: u64) -> (usize, usize) {
        let tick = at.div_ceil(1 << TICK_SHIFT).max(self.current);
        // The lowest bit is set so that the current tick itself counts as level 0.
        let level = (((tick ^ self.current) | 1).ilog2() / SLOT_BITS) as usize;
        (level, ((tick >> (SLOT_BITS as usize * level)) % SLOTS as u64) as usize)
    }

    /// The first slot in use, with the tick at which it begins.
    ///
    /// Everything at a lower level agrees with the current tick in one digit more, so it is earlier
    /// than everything above; and no slot in use begins before the current tick.
    fn earliest(&self) -> Option<(usize, usize, u64)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let slot = self.slots[level].trailing_zeros() as usize;
        let shift = SLOT_BITS as usize * level;
        let above = self.current >> shift >> SLOT_BITS << SLOT_BITS;
        Some((level, slot, (above | slot as u64) << shift))
    }

    /// Spreads a slot that begins at the current tick over the levels below.
    fn cascade(&mut self, level: usize, slot: usize) {
        let mut node = self.heads[level][slot];
        self.vacate(level, slot);
        while node != NONE {
            let Node { at, next, .. } = self.nodes[node as usize];
            let place = self.place(at);
            debug_assert!(place.0 < level, "a cascade leads down");
            self.link(node, place);
            node = next;
        }
    }

    fn link(&mut self, node: u32, (level, slot): (usize, usize)) {
        let next = self.heads[level][slot];
        self.heads[level][slot] = node;
        let entry = &mut self.nodes[node as usize];
        (entry.next, entry.prev) = (next, NONE);
        if next == NONE {
            self.slots[level] |= 1 << slot;
            self.levels |= 1 << level;
        } else {
            self.nodes[next as usize].prev = node;
        }
    }

    fn unlink(&mut self, node: u32, (level, slot): (usize, usize)) {
        let Node { next, prev, .. } = self.nodes[node as usize];
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if prev != NONE {
            self.nodes[prev as usize].next = next;
        } else if next != NONE {
            self.heads[level][slot] = next;
        } else {
            self.vacate(level, slot);
        }
    }

    fn vacate(&mut self, level: usize, slot: usize) {
        self.heads[level][slot] = NONE;
        self.slots[level] &= !(1 << slot);
        if self.slots[level] == 0 {
            self.levels &= !(1 << level);
        }
    }
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
        core::iter::from_fn(|| wheel.pop_due(at(now))).collect()
    }

    #[derive(Clone, Debug)]
    enum Op {
        Set(u32, i64),
        Cancel(u32),
        Advance(u64),
        PopOne(u64),
    }

    /// Distances of every order of magnitude, so that every level is reached.
    fn distance() -> impl Strategy<Value = u64> {
        (0u32..56, any::<u64>()).prop_map(|(bits, noise)| noise & ((1 << bits) - 1))
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            4 => (0..NODES, distance()).prop_map(|(n, d)| Op::Set(n, d.cast_signed())),
            1 => (0..NODES, 0i64..5_000).prop_map(|(n, d)| Op::Set(n, -d)),
            1 => (0..NODES).prop_map(Op::Cancel),
            3 => distance().prop_map(Op::Advance),
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
                    Op::Set(node, delta) => {
                        let when = model.now.saturating_add_signed(delta);
                        wheel.set(node, at(when));
                        model.deadlines[node as usize] = Some(when);
                    }
                    Op::Cancel(node) => {
                        wheel.cancel(node);
                        model.deadlines[node as usize] = None;
                    }
                    Op::PopOne(by) => {
                        model.now += by;
                        let fired = wheel.pop_due(at(model.now));
                        prop_assert_eq!(fired.is_some(), (0..NODES).any(|n| model.is_due(n)));
                        if let Some(node) = fired {
                            prop_assert!(model.is_due(node));
                            model.deadlines[node as usize] = None;
                        }
                    }
                    Op::Advance(by) => {
                        model.now += by;
                        let mut fired = drain(&mut wheel, model.now);
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
        let mut wheel = Wheel::new(1, at(0));
        wheel.set(0, last);
        assert_eq!(wheel.pop_due(at(last.as_nanos() - 1)), None);
        assert_eq!(wheel.pop_due(last), Some(0));
    }

    #[test]
    fn a_clock_that_steps_back_delays_nothing_already_due() {
        let mut wheel = Wheel::new(1, at(0));
        assert_eq!(wheel.pop_due(at(9_000_000)), None);
        wheel.set(0, at(1_000_000));
        assert_eq!(wheel.pop_due(at(2_000_000)), Some(0));
    }
}
