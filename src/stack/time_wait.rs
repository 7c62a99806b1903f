//! All TIME-WAIT records of one engine: a ring in the order in which they expire.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::time::Duration;

use super::keys::{SlotKey, WideAddrs};
use crate::base::{FlowKey, Instant};
use crate::tcp::TimeWait;

/// One record and its tuple.
#[derive(Clone, Copy, Debug)]
struct Slot {
    key: SlotKey,
    /// Its `tag` holds [`LIVE`] and [`IPV4`].
    record: TimeWait,
}

// What a million of them cost is a promise (docs/limits.md).
const _: () = assert!(size_of::<Slot>() == 32);

/// The record still stands for its tuple; a dead one waits for the ring to come round.
const LIVE: u8 = 1;
/// The addresses are in the slot's key.
const IPV4: u8 = 2;

/// What was at the head of the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Popped {
    /// A record that had been taken out, or moved, before its time.
    Dead,
    /// The record with this index, and its tuple.
    Live(u32, FlowKey),
}

/// Records in a ring: 2 MSL is one constant, so whoever comes last expires last.
///
/// A record's place is its index. It does not move until it is at the head, so one that is taken out
/// before its time leaves a dead record, which keeps its room until then.
#[derive(Debug)]
pub(super) struct TimeWaitTable {
    /// Grows up to `capacity` on the ring's first round, so that no memory is touched before it is needed.
    slots: Vec<Slot>,
    wide: WideAddrs,
    capacity: u32,
    head: u32,
    used: u32,
    live: u32,
    /// How long a record stays, ticks of the millisecond clock.
    lasts: u32,
}

impl TimeWaitTable {
    /// The longest 2 MSL there is, 12 days: times are compared modulo 2^32 ms.
    const LASTS_MAX: u32 = 1 << 30;

    /// Room for `capacity` records that stay for `two_msl`; the only allocation there is.
    pub fn new(capacity: u32, two_msl: Duration) -> Self {
        let ms = two_msl.as_nanos().div_ceil(1_000_000);
        // The tick in which a record is made has passed in part, so it does not count.
        let lasts = u32::try_from(ms).unwrap_or(u32::MAX).min(Self::LASTS_MAX) + 1;
        Self {
            slots: Vec::with_capacity(capacity as usize),
            wide: WideAddrs::new(capacity),
            capacity,
            head: 0,
            used: 0,
            live: 0,
            lasts,
        }
    }

    /// Octets of `capacity` records.
    pub const fn octets(capacity: u32) -> u64 {
        capacity as u64 * size_of::<Slot>() as u64
    }

    /// The record with this index, which the flow table names.
    pub fn at(&self, index: u32) -> &TimeWait {
        &self.slots[index as usize].record
    }

    /// The tuple of the record with this index.
    pub fn key(&self, index: u32) -> FlowKey {
        let slot = &self.slots[index as usize];
        slot.key.get(slot.record.tag & IPV4 != 0, &self.wide, index)
    }

    /// Whether the record with this index has this tuple.
    #[inline]
    pub fn has_key(&self, index: u32, key: &FlowKey) -> bool {
        let slot = &self.slots[index as usize];
        slot.key.is(slot.record.tag & IPV4 != 0, &self.wide, index, key)
    }

    /// The tuples for which records stand, the oldest first; one that a RST ended stands for none.
    pub fn keys(&self) -> impl Iterator<Item = FlowKey> + '_ {
        let places = (0..self.used).map(|nth| self.wrap(self.head + nth));
        let live = |&place: &u32| self.at(place).tag & LIVE != 0 && !self.at(place).is_reset();
        places.filter(live).map(|place| self.key(place))
    }

    /// How many records stand for a tuple.
    pub const fn len(&self) -> u32 {
        self.live
    }

    /// Records that can still be added before the oldest has to go.
    pub const fn room(&self) -> u32 {
        self.capacity - self.used
    }

    /// Adds a record, made or restarted now, at the ring's end; `None` when there is no room.
    #[inline(always)]
    pub fn push(&mut self, record: TimeWait, key: &FlowKey) -> Option<u32> {
        if self.used == self.capacity {
            return None;
        }
        let index = self.wrap(self.head + self.used);
        let tag = if key.is_ipv4() { LIVE | IPV4 } else { LIVE };
        self.wide.set(index, key, 0);
        let slot = Slot { key: SlotKey::new(key), record: record.with_tag(tag) };
        match self.slots.get_mut(index as usize) {
            Some(old) => *old = slot,
            None => self.slots.push(slot),
        }
        self.used += 1;
        self.live += 1;
        Some(index)
    }

    /// Changes a record in its place; it expires when it would have.
    pub fn set(&mut self, index: u32, record: TimeWait) {
        let kept = &mut self.slots[index as usize].record;
        debug_assert_eq!(kept.since(), record.since(), "a later record belongs at the ring's end");
        *kept = record.with_tag(kept.tag);
    }

    /// Puts a record that was restarted at the ring's end; returns its new index. Without room it stays
    /// where it is, and `None` is returned.
    pub fn restart(&mut self, index: u32, record: TimeWait) -> Option<u32> {
        let key = self.key(index);
        let new = self.push(record, &key)?;
        self.remove(index);
        Some(new)
    }

    /// Takes a record out before its time.
    pub fn remove(&mut self, index: u32) {
        let tag = &mut self.slots[index as usize].record.tag;
        debug_assert!(*tag & LIVE != 0, "the flow table names records that are live");
        *tag &= !LIVE;
        self.live -= 1;
    }

    /// Takes out the record at the head: a dead one at any time, a live one only when it has expired by
    /// `now`. `None` when there is nothing to do.
    pub fn pop_expired(&mut self, now: Instant) -> Option<Popped> {
        let record = self.first()?;
        let due = record.tag & LIVE == 0 || self.left(record, now) == 0;
        if due { self.pop_oldest() } else { None }
    }

    /// Takes out the record at the head if it is dead; says whether it did.
    pub fn pop_dead(&mut self) -> bool {
        self.first().is_some_and(|first| first.tag & LIVE == 0) && self.pop_oldest().is_some()
    }

    /// Takes out the record at the head, whatever its time.
    pub fn pop_oldest(&mut self) -> Option<Popped> {
        let live = self.first()?.tag & LIVE != 0;
        let index = self.head;
        let popped = if live { Popped::Live(index, self.key(index)) } else { Popped::Dead };
        self.head = self.wrap(self.head + 1);
        self.used -= 1;
        self.live -= u32::from(live);
        Some(popped)
    }

    /// When the record at the head expires, as seen at `now`.
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let left = self.left(self.first()?, now);
        Some(Instant::from_millis(now.as_millis() + u64::from(left)))
    }

    fn first(&self) -> Option<&TimeWait> {
        (self.used > 0).then(|| self.at(self.head))
    }

    /// Ticks until `record` expires.
    #[expect(clippy::cast_possible_truncation, reason = "compared modulo 2^32")]
    const fn left(&self, record: &TimeWait, now: Instant) -> u32 {
        let age = (now.as_millis() as u32).wrapping_sub(record.since());
        self.lasts.saturating_sub(age)
    }

    const fn wrap(&self, place: u32) -> u32 {
        if place >= self.capacity { place - self.capacity } else { place }
    }
}

#[cfg(test)]
mod tests;
