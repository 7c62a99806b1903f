//! All TIME-WAIT records of one engine, in the order in which they expire.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;

use crate::base::{FlowId, FlowKey, Instant, Slab};
use crate::tcp::TimeWait;

/// One record and its tuple.
#[derive(Debug)]
pub(super) struct TimeWaitSlot {
    pub record: TimeWait,
    pub key: FlowKey,
    pub hash: u64,
    expires: Instant,
}

/// Records, and a queue of when each expires: 2 MSL is one constant, so the queue is in order.
#[derive(Debug)]
pub(super) struct TimeWaitTable {
    records: Slab<TimeWaitSlot>,
    /// A record whose 2 MSL began anew is here twice; the entry that disagrees with it means nothing.
    queue: VecDeque<(FlowId, Instant)>,
    queue_max: usize,
}

impl TimeWaitTable {
    pub fn new(max: u32) -> Self {
        // As many restarts as records may be pending; beyond that a restart is not granted.
        let queue_max = 2 * max as usize;
        Self { records: Slab::with_capacity(max), queue: VecDeque::with_capacity(queue_max), queue_max }
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
        let id = self.records.insert(TimeWaitSlot { record, key, hash, expires })?;
        self.queue.push_back((id, expires));
        Some(id.index())
    }

    /// 2 MSL begin anew.
    pub fn restart(&mut self, index: u32, expires: Instant) {
        let id = self.records.id_of(index);
        if let (Some(id), Some(slot)) = (id, self.records.at_mut(index))
            && self.queue.len() < self.queue_max
        {
            slot.expires = expires;
            self.queue.push_back((id, expires));
        }
    }

    /// Takes a record out before its time.
    pub fn remove(&mut self, index: u32) -> Option<TimeWaitSlot> {
        self.records.id_of(index).and_then(|id| self.records.remove(id))
    }

    /// Takes out the next record that has expired by `now`, and where it was.
    pub fn pop_expired(&mut self, now: Instant) -> Option<(u32, TimeWaitSlot)> {
        while let Some(&(id, expires)) = self.queue.front() {
            let current = self.records.get(id).is_some_and(|slot| slot.expires == expires);
            if current && expires > now {
                return None;
            }
            self.queue.pop_front();
            if current {
                return self.records.remove(id).map(|slot| (id.index(), slot));
            }
        }
        None
    }

    /// When the next record may expire.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.queue.front().map(|&(_, expires)| expires)
    }
}
