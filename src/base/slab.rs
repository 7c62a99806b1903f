//! Fixed-capacity storage whose handles outlive what they name without naming something else.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::mem;

use super::FlowId;

/// The end of the free list.
const NONE: u32 = u32::MAX;

#[derive(Debug)]
enum Entry<T> {
    Used(T),
    Free { next: u32 },
}

/// Up to `capacity` values, each behind a [`FlowId`].
///
/// The slot freed last is used first, while it is in the cache. A slot's memory is not touched before
/// its first use. Generations lie apart from the values, so that they cost a value neither alignment
/// nor part of its cache lines.
#[derive(Debug)]
pub struct Slab<T> {
    entries: Vec<Entry<T>>,
    generations: Vec<u32>,
    capacity: u32,
    free: u32,
    len: u32,
}

impl<T> Slab<T> {
    /// An empty slab; the only allocation there is.
    pub fn with_capacity(capacity: u32) -> Self {
        Self {
            entries: Vec::with_capacity(capacity as usize),
            generations: Vec::with_capacity(capacity as usize),
            capacity,
            free: NONE,
            len: 0,
        }
    }

    /// Stores `value`; `None`, and the value is dropped, when the slab is full.
    pub fn insert(&mut self, value: T) -> Option<FlowId> {
        if self.len == self.capacity {
            return None;
        }
        let index = if self.free == NONE {
            // No slot was freed and not reused, so all `len` slots touched so far are in use.
            self.entries.push(Entry::Used(value));
            self.generations.push(0);
            self.len
        } else {
            let index = self.free;
            match mem::replace(&mut self.entries[index as usize], Entry::Used(value)) {
                Entry::Free { next } => self.free = next,
                Entry::Used(_) => unreachable!("the free list holds free slots only"),
            }
            index
        };
        self.len += 1;
        Some(FlowId { index, generation: self.generations[index as usize] })
    }

    /// The value that `id` names, unless it was removed.
    pub fn get(&self, id: FlowId) -> Option<&T> {
        self.is_current(id).then(|| self.at(id.index)).flatten()
    }

    /// Like [`Slab::get`], to change the value.
    pub fn get_mut(&mut self, id: FlowId) -> Option<&mut T> {
        self.is_current(id).then(|| self.at_mut(id.index)).flatten()
    }

    /// The value in slot `index`, whatever its generation.
    pub fn at(&self, index: u32) -> Option<&T> {
        match self.entries.get(index as usize)? {
            Entry::Used(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    /// Like [`Slab::at`], to change the value.
    pub fn at_mut(&mut self, index: u32) -> Option<&mut T> {
        match self.entries.get_mut(index as usize)? {
            Entry::Used(value) => Some(value),
            Entry::Free { .. } => None,
        }
    }

    /// The handle of what is in slot `index` now.
    pub fn id_of(&self, index: u32) -> Option<FlowId> {
        self.at(index)?;
        Some(FlowId { index, generation: self.generations[index as usize] })
    }

    /// Takes out the value that `id` names; the handle names nothing from now on.
    ///
    /// A handle can only come to life again after its slot was reused 2^32 times.
    pub fn remove(&mut self, id: FlowId) -> Option<T> {
        self.get(id)?;
        let freed = Entry::Free { next: self.free };
        let Entry::Used(value) = mem::replace(&mut self.entries[id.index as usize], freed) else {
            unreachable!("`get` found a value here");
        };
        let generation = &mut self.generations[id.index as usize];
        *generation = generation.wrapping_add(1);
        self.free = id.index;
        self.len -= 1;
        Some(value)
    }

    /// How many values there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How many values there can be.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Every value with its handle, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (FlowId, &T)> {
        let slots = (0u32..).zip(&self.entries).zip(&self.generations);
        slots.filter_map(|((index, entry), &generation)| match entry {
            Entry::Used(value) => Some((FlowId { index, generation }, value)),
            Entry::Free { .. } => None,
        })
    }

    fn is_current(&self, id: FlowId) -> bool {
        self.generations.get(id.index as usize) == Some(&id.generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::vec::Vec;

    const CAPACITY: u32 = 6;

    proptest! {
        #[test]
        fn every_handle_ever_given_names_its_own_value_or_nothing(
            ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..200),
        ) {
            let mut slab = Slab::with_capacity(CAPACITY);
            let mut live: HashMap<FlowId, usize> = HashMap::new();
            let mut given: Vec<FlowId> = Vec::new();
            for (value, (insert, pick)) in ops.into_iter().enumerate() {
                if insert {
                    let id = slab.insert(value);
                    prop_assert_eq!(id.is_some(), live.len() < CAPACITY as usize);
                    if let Some(id) = id {
                        prop_assert!(!given.contains(&id));
                        given.push(id);
                        live.insert(id, value);
                    }
                } else if !given.is_empty() {
                    let id = given[pick.index(given.len())];
                    prop_assert_eq!(slab.remove(id), live.remove(&id));
                }
                for id in &given {
                    prop_assert_eq!(slab.get(*id), live.get(id));
                    prop_assert_eq!(slab.get_mut(*id).map(|v| *v), live.get(id).copied());
                }
                for index in 0..CAPACITY + 2 {
                    let expected = live.iter().find(|(id, _)| id.index == index);
                    prop_assert_eq!(slab.id_of(index), expected.map(|(id, _)| *id));
                    prop_assert_eq!(slab.at(index), expected.map(|(_, value)| value));
                    prop_assert_eq!(slab.at_mut(index).map(|v| *v), expected.map(|(_, v)| *v));
                }
                prop_assert_eq!(slab.iter().map(|(id, v)| (id, *v)).collect::<HashMap<_, _>>(), live.clone());
                prop_assert_eq!(slab.len() as usize, live.len());
            }
        }
    }

    #[test]
    fn the_slot_freed_last_is_used_first_under_another_generation() {
        let mut slab = Slab::with_capacity(3);
        let ids = [slab.insert('a'), slab.insert('b'), slab.insert('c')].map(|id| id.expect("there is room"));
        assert_eq!(slab.insert('d'), None);
        slab.remove(ids[0]);
        slab.remove(ids[1]);
        let id = slab.insert('e').expect("there is room");
        assert_eq!(id.index(), ids[1].index());
        assert_ne!(id, ids[1]);
        assert_eq!(slab.get(ids[1]), None);
    }
}
