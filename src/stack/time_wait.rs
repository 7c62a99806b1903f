//! All TIME-WAIT records of one engine, in the order in which they expire.
#![forbid(unsafe_code)]

use crate::base::{FlowKey, Instant, Slab, Slot};
use crate::tcp::TimeWait;

/// The end of the list.
const NONE: u32 = u32::MAX;

/// One record and its tuple.
#[derive(Clone, Copy, Debug)]
pub(super) struct TimeWaitSlot {
    pub record: TimeWait,
    pub key: FlowKey,
    pub hash: u64,
    expires: Instant,
    before: u32,
    after: u32,
}

impl Slot for TimeWaitSlot {
    fn set_next_free(&mut self, next: u32) {
        self.after = next;
    }

    fn next_free(&self) -> u32 {
        self.after
    }
}

/// Records in a list threaded through them: 2 MSL is one constant, so whoever comes last expires last.
#[derive(Debug)]
pub(super) struct TimeWaitTable {
    records: Slab<TimeWaitSlot>,
    first: u32,
    last: u32,
}

impl TimeWaitTable {
    pub fn new(max: u32) -> Self {
        Self { records: Slab::with_capacity(max), first: NONE, last: NONE }
    }

    /// Octets of `max` records.
    pub const fn octets(max: u32) -> u64 {
        Slab::<TimeWaitSlot>::octets(max)
    }

    pub fn at(&self, index: u32) -> Option<&TimeWaitSlot> {
        self.records.at(index)
    }

    pub fn is_full(&self) -> bool {
        self.records.len() == self.records.capacity()
    }

    pub fn len(&self) -> u32 {
        self.records.len()
    }

    /// Takes a record in; `None` when there is no room.
    pub fn insert(&mut self, record: TimeWait, key: FlowKey, hash: u64, expires: Instant) -> Option<u32> {
        let slot = TimeWaitSlot { record, key, hash, expires, before: NONE, after: NONE };
        let index = self.records.insert(slot)?;
        self.append(index);
        Some(index)
    }

    /// 2 MSL begin anew.
    pub fn restart(&mut self, index: u32, expires: Instant) {
        self.unlink(index);
        self.append(index);
        self.slot(index).expires = expires;
    }

    /// Takes a record out before its time.
    pub fn remove(&mut self, index: u32) -> Option<TimeWaitSlot> {
        let slot = *self.records.at(index)?;
        self.unlink(index);
        self.records.remove(index);
        Some(slot)
    }

    /// Takes out the next record that has expired by `now`, and where it was.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(u32, TimeWaitSlot)> {
        let index = self.first;
        if self.records.at(index)?.expires > now {
            return None;
        }
        self.remove(index).map(|slot| (index, slot))
    }

    /// When the next record expires.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.records.at(self.first).map(|slot| slot.expires)
    }

    fn slot(&mut self, index: u32) -> &mut TimeWaitSlot {
        self.records.at_mut(index).expect("the list names records in use")
    }

    fn append(&mut self, index: u32) {
        let last = core::mem::replace(&mut self.last, index);
        let slot = self.slot(index);
        (slot.before, slot.after) = (last, NONE);
        if last == NONE {
            self.first = index;
        } else {
            self.slot(last).after = index;
        }
    }

    fn unlink(&mut self, index: u32) {
        let (before, after) = (self.slot(index).before, self.slot(index).after);
        if before == NONE {
            self.first = after;
        } else {
            self.slot(before).after = after;
        }
        if after == NONE {
            self.last = before;
        } else {
            self.slot(after).before = before;
        }
    }
}
