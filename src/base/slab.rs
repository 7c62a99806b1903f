//! Fixed-capacity storage for records of one kind, named by their index.
#![forbid(unsafe_code)]

use alloc::vec::Vec;

/// The end of the list of free slots.
const NONE: u32 = u32::MAX;

/// A record that has room for the number of another slot while it is not in use.
pub trait Slot {
    /// Keeps `next`, in the place of something that means nothing in a record that is not in use.
    fn set_next_free(&mut self, next: u32);
    /// What was kept last.
    fn next_free(&self) -> u32;
}

/// Up to `capacity` records, side by side and with nothing between them or beside them.
///
/// The slot freed last is used first, while it is in the cache. A slot's memory is not touched before its
/// first use. Which slots are in use the owner knows: but for [`Slot::set_next_free`] a record that was given
/// back stays what it was until it is overwritten.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<T>,
    /// The first of the slots that were in use and are not, or [`NONE`].
    free: u32,
    len: u32,
    capacity: u32,
}

impl<T: Slot> Slab<T> {
    /// An empty slab; the only allocation there is.
    pub fn with_capacity(capacity: u32) -> Self {
        Self { entries: Vec::with_capacity(capacity as usize), free: NONE, len: 0, capacity }
    }

    /// Octets that a slab of this capacity takes once every slot was used.
    pub const fn octets(capacity: u32) -> u64 {
        capacity as u64 * size_of::<T>() as u64
    }

    /// Stores `value` and says where; `None`, and the value is dropped, when the slab is full.
    #[inline(always)]
    pub fn insert(&mut self, value: T) -> Option<u32> {
        let mut value = Some(value);
        let (index, slot) = self.take(|| value.take().expect("it is asked for once"))?;
        if let Some(value) = value {
            *slot = value;
        }
        Some(index)
    }

    /// Takes a slot into use as its last record has left it, or with what `blank` makes where there never was one;
    /// `None` when the slab is full.
    #[inline(always)]
    pub fn take(&mut self, blank: impl FnOnce() -> T) -> Option<(u32, &mut T)> {
        let mut index = self.free;
        if let Some(entry) = self.entries.get(index as usize) {
            self.free = entry.next_free();
        } else {
            index = self.touched();
            if index == self.capacity {
                return None;
            }
            self.entries.push(blank());
        }
        self.len += 1;
        Some((index, &mut self.entries[index as usize]))
    }

    /// Gives slot `index` back, which is in use.
    #[inline]
    pub fn remove(&mut self, index: u32) {
        self.entries[index as usize].set_next_free(self.free);
        self.free = index;
        self.len -= 1;
    }

    /// The record in slot `index`, which may have been given back; `None` where there never was one.
    #[inline]
    pub fn at(&self, index: u32) -> Option<&T> {
        self.entries.get(index as usize)
    }

    /// Like [`Slab::at`], to change the record.
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        self.entries.get_mut(index as usize)
    }

    /// How many records are in use.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there can be.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Every slot that was ever in use, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0u32..).zip(&self.entries)
    }

    /// Slots below this one were in use at some time.
    #[expect(clippy::cast_possible_truncation, reason = "the length never exceeds the capacity, a u32")]
    pub const fn touched(&self) -> u32 {
        self.entries.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::vec::Vec;

    const CAPACITY: u32 = 6;

    /// What is stored, and the number of another slot.
    #[derive(Clone, Copy, Debug)]
    struct Record(usize, u32);

    impl Slot for Record {
        fn set_next_free(&mut self, next: u32) {
            self.1 = next;
        }

        fn next_free(&self) -> u32 {
            self.1
        }
    }

    fn value_of(record: Option<&Record>) -> Option<usize> {
        record.map(|record| record.0)
    }

    proptest! {
        #[test]
        fn a_slot_has_one_record_and_keeps_it_until_the_next(
            ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let mut slab = Slab::with_capacity(CAPACITY);
            let mut live: BTreeMap<u32, usize> = BTreeMap::new();
            let mut last: BTreeMap<u32, usize> = BTreeMap::new();
            for (value, (insert, pick)) in ops.into_iter().enumerate() {
                if insert {
                    let taken = slab.take(|| Record(usize::MAX, 7)).map(|(index, slot)| {
                        (index, core::mem::replace(slot, Record(value, 7)).0)
                    });
                    prop_assert_eq!(taken.is_some(), live.len() < CAPACITY as usize);
                    if let Some((index, before)) = taken {
                        let before = Some(before).filter(|&value| value != usize::MAX);
                        prop_assert_eq!(before, last.insert(index, value));
                        prop_assert_eq!(live.insert(index, value), None, "slot {} was in use", index);
                    }
                } else if !live.is_empty() {
                    let index = *live.keys().nth(pick.index(live.len())).expect("below the length");
                    live.remove(&index);
                    slab.remove(index);
                }
                for index in 0..CAPACITY + 2 {
                    prop_assert_eq!(value_of(slab.at(index)), last.get(&index).copied());
                    prop_assert_eq!(value_of(slab.at_mut(index).as_deref()), last.get(&index).copied());
                }
                let all: Vec<(u32, usize)> = slab.iter().map(|(index, record)| (index, record.0)).collect();
                prop_assert_eq!(all, last.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(slab.len() as usize, live.len());
                prop_assert_eq!(slab.is_empty(), live.is_empty());
            }
        }
    }

    #[test]
    fn the_slot_freed_last_is_used_first() {
        let mut slab = Slab::with_capacity(3);
        let insert = |slab: &mut Slab<Record>, value| slab.insert(Record(value, 0));
        assert_eq!([0, 1, 2, 3].map(|value| insert(&mut slab, value)), [Some(0), Some(1), Some(2), None]);
        slab.remove(0);
        slab.remove(1);
        assert_eq!([4, 5, 6].map(|value| insert(&mut slab, value)), [Some(1), Some(0), None]);
        assert_eq!(value_of(slab.at(1)), Some(4));
    }
}
