//! Which octets have arrived out of order: ranges of the stream, from a pool that all connections share.
#![forbid(unsafe_code)]

use super::chunks::NONE;
use crate::base::{Seq, Slab, Slot};
use crate::wire::SackBlocks;

/// How many ranges one connection may have, as long as the pool has plenty.
///
/// A bound on the work for one segment and on the memory of one connection, whatever the peer sends
/// (RFC 9293 leaves the queue's size to the implementation). A segment that would need one more is
/// not stored, and the peer sends it again. A slow start that ends in a long queue loses every second segment of what
/// the queue holds.
pub const RANGES_MAX: u32 = 1_024;

/// Ranges of all connections.
pub type RangePool = Slab<Range>;

/// One range, its octets counted from where RCV.NXT was when the first gap came.
#[derive(Clone, Copy, Debug)]
pub struct Range {
    from: u32,
    /// One past its last octet.
    to: u32,
    /// The chunk that has its last octet.
    chunk: u32,
    /// The next range of the stream.
    next: u32,
    /// The ranges that were added to next after it, and next before it.
    newer: u32,
    older: u32,
}

const _: () = assert!(size_of::<Range>() == 24);

impl Slot for Range {
    fn set_next_free(&mut self, next: u32) {
        self.next = next;
    }

    fn next_free(&self) -> u32 {
        self.next
    }
}

/// The ranges of one connection that are complete but do not begin at RCV.NXT. Offsets count from RCV.NXT.
///
/// No two overlap or touch. One list has them in the order of the stream, another in the order in which they
/// were last added to, which is the order in which RFC 2018 §4 wants them reported. The pool is given to every
/// call, always the same one.
#[derive(Debug)]
pub struct Ranges {
    head: u32,
    newest: u32,
    len: u32,
    /// RCV.NXT, counted as ranges are.
    nxt: u32,
}

impl Slot for Ranges {
    fn set_next_free(&mut self, next: u32) {
        self.nxt = next;
    }

    fn next_free(&self) -> u32 {
        self.nxt
    }
}

/// Where in the list a range belongs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// The last range that does not begin after it, or [`NONE`].
    before: u32,
    /// A range that it overlaps or touches, or [`NONE`].
    meets: u32,
}

impl Ranges {
    /// No ranges.
    pub(super) const fn new() -> Self {
        Self { head: NONE, newest: NONE, len: 0, nxt: 0 }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where `from..to` belongs; `None` when there is no room for it.
    ///
    /// As many ranges as one connection may have, it may have while an eighth of those that are left in the pool
    /// are as many.
    pub(super) fn place(&self, pool: &RangePool, from: u32, to: u32) -> Option<Place> {
        let before = self.last_before(pool, from);
        let after = self.after(pool, before);
        let meets = if before != NONE && from <= self.end(pool, before) {
            before
        } else if after != NONE && self.start(pool, after) <= to {
            after
        } else {
            NONE
        };
        let free = pool.capacity() - pool.len();
        let may_grow = free > 0 && self.len < (free / 8).clamp(4, RANGES_MAX);
        (meets != NONE || may_grow).then_some(Place { before, meets })
    }

    /// The end of the range before `place`, and the chunk that has its last octet.
    pub(super) fn end_before(&self, pool: &RangePool, place: Place) -> Option<(u32, u32)> {
        let range = pool.at(place.before)?;
        Some((self.end(pool, place.before), range.chunk))
    }

    /// Adds `from..to`, whose last octet is in `chunk`, at its place, merged with every range that it overlaps or
    /// touches.
    pub(super) fn add(&mut self, pool: &mut RangePool, place: Place, (from, to): (u32, u32), chunk: u32) {
        let at = if place.meets == NONE {
            self.insert(pool, place.before, (from, to), chunk)
        } else {
            self.unlink(pool, place.meets);
            place.meets
        };
        let start = self.start(pool, at).min(from);
        let range = pool.at_mut(at).expect("a range of the list");
        range.from = self.nxt.wrapping_add(start);
        let end = range.to.wrapping_sub(self.nxt);
        if end < to {
            (range.to, range.chunk) = (self.nxt.wrapping_add(to), chunk);
        }
        self.absorb(pool, at);
        self.link_newest(pool, at);
    }

    /// The first stretch of `from..to` that is there.
    pub(super) fn overlap(&self, pool: &RangePool, from: u32, to: u32) -> Option<(u32, u32)> {
        let before = self.last_before(pool, from);
        if before != NONE && from < self.end(pool, before) {
            return Some((from, self.end(pool, before).min(to)));
        }
        let after = self.after(pool, before);
        let there = after != NONE && self.start(pool, after) < to;
        there.then(|| (self.start(pool, after), self.end(pool, after).min(to)))
    }

    /// RCV.NXT moved by `n` octets: what lies before it is forgotten.
    pub(super) fn advance(&mut self, pool: &mut RangePool, n: u32) {
        while self.head != NONE && self.end(pool, self.head) <= n {
            self.remove_first(pool);
        }
        self.nxt = self.nxt.wrapping_add(n);
        if let Some(first) = pool.at_mut(self.head)
            && first.to.wrapping_sub(first.from) > first.to.wrapping_sub(self.nxt)
        {
            first.from = self.nxt;
        }
    }

    /// Takes out the range that RCV.NXT has reached and moves RCV.NXT to its end; returns how far, and the chunk
    /// that has its last octet.
    pub(super) fn take_first(&mut self, pool: &mut RangePool) -> Option<(u32, u32)> {
        let first = pool.at(self.head).filter(|first| first.from == self.nxt)?;
        let (gained, chunk) = (self.end(pool, self.head), first.chunk);
        self.remove_first(pool);
        self.nxt = self.nxt.wrapping_add(gained);
        Some((gained, chunk))
    }

    /// Up to `max` ranges as SACK blocks, the one that holds the segment received last first.
    pub(super) fn sack_blocks(&self, pool: &RangePool, rcv_nxt: Seq, max: usize) -> SackBlocks {
        let mut sack = SackBlocks::default();
        let mut at = self.newest;
        for block in sack.blocks.iter_mut().take(max) {
            let Some(range) = pool.at(at) else { break };
            *block = (rcv_nxt + self.start(pool, at), rcv_nxt + self.end(pool, at));
            sack.len += 1;
            at = range.older;
        }
        sack
    }

    /// Gives every range back.
    pub(super) fn clear(&mut self, pool: &mut RangePool) {
        while self.head != NONE {
            self.remove_first(pool);
        }
    }

    fn start(&self, pool: &RangePool, at: u32) -> u32 {
        pool.at(at).expect("a range of the list").from.wrapping_sub(self.nxt)
    }

    fn end(&self, pool: &RangePool, at: u32) -> u32 {
        pool.at(at).expect("a range of the list").to.wrapping_sub(self.nxt)
    }

    /// The range after `at`, or the first one of all.
    fn after(&self, pool: &RangePool, at: u32) -> u32 {
        if at == NONE { self.head } else { pool.at(at).expect("a range of the list").next }
    }

    /// The last range that does not begin after `from`, or [`NONE`].
    ///
    /// Most text belongs where the last did, so that is where the search begins if it can.
    fn last_before(&self, pool: &RangePool, from: u32) -> u32 {
        let begins_before = |at: u32| at != NONE && self.start(pool, at) <= from;
        let mut at = if begins_before(self.newest) { self.newest } else { NONE };
        loop {
            let after = self.after(pool, at);
            if !begins_before(after) {
                return at;
            }
            at = after;
        }
    }

    /// A new range after `before`, not yet among the newest.
    fn insert(&mut self, pool: &mut RangePool, before: u32, (from, to): (u32, u32), chunk: u32) -> u32 {
        let (from, to) = (self.nxt.wrapping_add(from), self.nxt.wrapping_add(to));
        let next = self.after(pool, before);
        let range = Range { from, to, chunk, next, newer: NONE, older: NONE };
        let at = pool.insert(range).expect("a place is only given while there is room");
        match pool.at_mut(before) {
            Some(before) => before.next = at,
            None => self.head = at,
        }
        self.len += 1;
        at
    }

    /// Merges the ranges that `at` has reached into it.
    fn absorb(&mut self, pool: &mut RangePool, at: u32) {
        loop {
            let (end, next) = (self.end(pool, at), self.after(pool, at));
            if next == NONE || end < self.start(pool, next) {
                return;
            }
            let absorbed = *pool.at(next).expect("a range of the list");
            let is_longer = end < self.end(pool, next);
            self.unlink(pool, next);
            pool.remove(next);
            self.len -= 1;
            let range = pool.at_mut(at).expect("a range of the list");
            range.next = absorbed.next;
            if is_longer {
                (range.to, range.chunk) = (absorbed.to, absorbed.chunk);
            }
        }
    }

    fn remove_first(&mut self, pool: &mut RangePool) {
        let first = self.head;
        self.head = self.after(pool, first);
        self.unlink(pool, first);
        pool.remove(first);
        self.len -= 1;
    }

    /// Takes a range out of the list of the newest.
    fn unlink(&mut self, pool: &mut RangePool, at: u32) {
        let Range { newer, older, .. } = *pool.at(at).expect("a range of the list");
        match pool.at_mut(newer) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        if let Some(older) = pool.at_mut(older) {
            older.newer = newer;
        }
    }

    /// Puts a range in front of the list of the newest.
    fn link_newest(&mut self, pool: &mut RangePool, at: u32) {
        let older = core::mem::replace(&mut self.newest, at);
        if let Some(older) = pool.at_mut(older) {
            older.newer = at;
        }
        let range = pool.at_mut(at).expect("a range of the list");
        (range.newer, range.older) = (NONE, older);
    }
}
