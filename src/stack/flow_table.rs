//! The index from a four-tuple's hash to its flow: open addressing with linear probing.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

/// A slot in use: the upper half of the hash above, the value plus one below. All zero: empty.
///
/// Zero is empty so that a new table is zeroed memory, which the system provides when it is touched.
type Slot = u64;
const EMPTY: Slot = 0;

/// Finds values by hash; the keys stay with the caller, who tells equal hashes apart.
///
/// Slots are 8 bytes, eight to a cache line. At most 7 of 8 are in use. A removed slot is closed by
/// moving its successors back, so that no tombstones slow a table down that has seen many flows.
#[derive(Debug)]
pub struct FlowTable {
    slots: Vec<Slot>,
    /// `32 - log2(slots)`: what is left of the hash's upper half after this shift is the home slot.
    shift: u32,
    capacity: u32,
    len: u32,
}

impl FlowTable {
    /// A table for `capacity` values, each below `u32::MAX`; the only allocation there is.
    ///
    /// # Panics
    ///
    /// When `capacity` is above 7/8 of 2^31, more slots than a hash can tell apart well.
    pub fn new(capacity: u32) -> Self {
        let slots = (u64::from(capacity) * 8).div_ceil(7).max(2).next_power_of_two();
        assert!(slots <= 1 << 31, "a flow table of {capacity} is too large");
        let len = usize::try_from(slots).expect("2^31 slots fit the address space");
        Self { slots: vec![EMPTY; len], shift: 32 - slots.ilog2(), capacity, len: 0 }
    }

    /// The value under `hash` for which `eq` holds. `eq` sees every value with the hash's upper half.
    pub fn find(&self, hash: u64, mut eq: impl FnMut(u32) -> bool) -> Option<u32> {
        let tag = tag_of(hash);
        let mut at = self.home(tag);
        loop {
            let slot = self.slots[at];
            if slot == EMPTY {
                return None;
            }
            if tag_of(slot) == tag && eq(value_of(slot)) {
                return Some(value_of(slot));
            }
            at = self.after(at);
        }
    }

    /// Adds `value`, which the caller knows not to be there; false when the table is full.
    ///
    /// # Panics
    ///
    /// When `value` is `u32::MAX`.
    pub fn insert(&mut self, hash: u64, value: u32) -> bool {
        if self.len == self.capacity {
            return false;
        }
        let tag = tag_of(hash);
        let mut at = self.home(tag);
        while self.slots[at] != EMPTY {
            at = self.after(at);
        }
        self.slots[at] = slot_of(tag, value);
        self.len += 1;
        true
    }

    /// Takes `value` out; false when it is not there.
    pub fn remove(&mut self, hash: u64, value: u32) -> bool {
        let Some(mut hole) = self.position(hash, value) else { return false };
        let mut at = hole;
        loop {
            at = self.after(at);
            let slot = self.slots[at];
            if slot == EMPTY {
                break;
            }
            // A slot may move back as far as its home; the hole must not lie before that.
            if self.distance(self.home(tag_of(slot)), at) >= self.distance(hole, at) {
                self.slots[hole] = slot;
                hole = at;
            }
        }
        self.slots[hole] = EMPTY;
        self.len -= 1;
        true
    }

    /// Puts `new` in the place of `old`, under the same hash; false when `old` is not there.
    ///
    /// # Panics
    ///
    /// When `new` is `u32::MAX`.
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) -> bool {
        let Some(at) = self.position(hash, old) else { return false };
        self.slots[at] = slot_of(tag_of(hash), new);
        true
    }

    /// How many values there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many values lie 0, 1, 2, ... slots from home; the last number counts 15 and more.
    ///
    /// Walks the whole table: for reports, not for the fast path.
    pub fn probe_histogram(&self) -> [u32; 16] {
        let mut histogram = [0; 16];
        for (at, &slot) in self.slots.iter().enumerate() {
            if slot != EMPTY {
                histogram[self.distance(self.home(tag_of(slot)), at).min(15)] += 1;
            }
        }
        histogram
    }

    fn position(&self, hash: u64, value: u32) -> Option<usize> {
        let wanted = slot_of(tag_of(hash), value);
        let mut at = self.home(tag_of(hash));
        while self.slots[at] != wanted {
            if self.slots[at] == EMPTY {
                return None;
            }
            at = self.after(at);
        }
        Some(at)
    }

    const fn home(&self, tag: u32) -> usize {
        (tag >> self.shift) as usize
    }

    const fn after(&self, at: usize) -> usize {
        self.distance(0, at + 1)
    }

    /// Slots from `from` forward to `to`; the number of slots is a power of two.
    const fn distance(&self, from: usize, to: usize) -> usize {
        to.wrapping_sub(from) & (self.slots.len() - 1)
    }
}

const fn tag_of(hash_or_slot: u64) -> u32 {
    (hash_or_slot >> 32) as u32
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
const fn value_of(slot: Slot) -> u32 {
    (slot as u32).wrapping_sub(1)
}

const fn slot_of(tag: u32, value: u32) -> Slot {
    assert!(value != u32::MAX, "u32::MAX plus one would read as another slot");
    (tag as u64) << 32 | (value as u64 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const CAPACITY: u32 = 28;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(prop::sample::Index),
        RemoveAbsent(u64),
        Replace(prop::sample::Index),
    }

    /// Few homes, crowded around the end of the table, and tags that collide.
    fn hash() -> impl Strategy<Value = u64> {
        prop_oneof![
            any::<u64>(),
            (0u64..4, 0u64..3).prop_map(|(home, low)| (home.wrapping_sub(2) << 59) | (low << 32)),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            5 => hash().prop_map(Op::Insert),
            3 => any::<prop::sample::Index>().prop_map(Op::Remove),
            1 => hash().prop_map(Op::RemoveAbsent),
            1 => any::<prop::sample::Index>().prop_map(Op::Replace),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_table_finds_what_a_list_finds(ops in prop::collection::vec(op(), 1..200)) {
            let mut table = FlowTable::new(CAPACITY);
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (value, op) in (0u32..).zip(ops) {
                match op {
                    Op::Insert(hash) => {
                        let fits = model.len() < CAPACITY as usize;
                        prop_assert_eq!(table.insert(hash, value), fits);
                        if fits {
                            model.push((hash, value));
                        }
                    }
                    Op::Remove(pick) if !model.is_empty() => {
                        let (hash, value) = model.swap_remove(pick.index(model.len()));
                        prop_assert!(table.remove(hash, value));
                        prop_assert!(!table.remove(hash, value));
                    }
                    Op::Replace(pick) if !model.is_empty() => {
                        let at = pick.index(model.len());
                        let (hash, old) = model[at];
                        prop_assert!(table.replace(hash, old, value));
                        model[at].1 = value;
                    }
                    Op::RemoveAbsent(hash) => {
                        prop_assert!(!table.remove(hash, value));
                        prop_assert!(!table.replace(hash, value, value));
                        prop_assert_eq!(table.find(hash, |v| v == value), None);
                    }
                    Op::Remove(_) | Op::Replace(_) => {}
                }
                for &(hash, value) in &model {
                    prop_assert_eq!(table.find(hash, |v| v == value), Some(value));
                    let mut seen = Vec::new();
                    table.find(hash, |v| { seen.push(v); false });
                    seen.sort_unstable();
                    let mut same: Vec<u32> =
                        model.iter().filter(|(h, _)| h >> 32 == hash >> 32).map(|&(_, v)| v).collect();
                    same.sort_unstable();
                    prop_assert_eq!(seen, same);
                }
                prop_assert_eq!(table.len() as usize, model.len());
                prop_assert_eq!(table.probe_histogram().iter().sum::<u32>(), table.len());
            }
            // Nothing is left behind that a later search would have to step over.
            for (hash, value) in model.drain(..) {
                prop_assert!(table.remove(hash, value));
            }
            prop_assert!(table.slots.iter().all(|&slot| slot == EMPTY));
        }
    }

    #[test]
    fn a_full_table_has_an_empty_slot_in_eight() {
        for capacity in [0, 1, 2, 6, 7, 8, 14, 15, 1_000, 7 << 10] {
            let mut table = FlowTable::new(capacity);
            assert!((0..capacity).all(|value| table.insert(u64::MAX, value)), "capacity {capacity}");
            assert!(!table.insert(0, 0), "capacity {capacity}");
            assert!(table.len() as usize * 8 <= table.slots.len() * 7, "capacity {capacity}");
            assert_eq!(table.find(u64::MAX, |_| false), None, "capacity {capacity}: the search ends");
        }
    }
}
