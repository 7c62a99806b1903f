//! Which octets have arrived out of order: ranges in sequence space, the one changed last first.
#![forbid(unsafe_code)]

use super::chunks::Cursor;
use crate::base::{Seq, Slot};
use crate::wire::SackBlocks;

/// How many ranges one connection may have.
///
/// A bound on the work for one segment and on the memory of one connection, whatever the peer sends
/// (RFC 9293 leaves the queue's size to the implementation). A segment that would need one more is
/// not stored, and the peer sends it again.
pub const RANGES_MAX: usize = 16;

/// One range, from its first octet to one past its last, in octets from RCV.NXT.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Range {
    from: u32,
    to: u32,
}

/// The ranges of one connection that are complete but do not begin at RCV.NXT.
///
/// No two overlap or touch. They are kept in the order in which they were last added to, which is the
/// order in which RFC 2018 §4 wants them reported.
#[derive(Debug)]
pub struct Ranges {
    ranges: [Range; RANGES_MAX],
    len: usize,
    /// The chunk written to last. It lies here because only text out of order needs it.
    pub(super) cursor: Cursor,
}

impl Slot for Ranges {
    fn set_next_free(&mut self, next: u32) {
        self.cursor.base = next;
    }

    fn next_free(&self) -> u32 {
        self.cursor.base
    }
}

impl Ranges {
    /// No ranges.
    pub(super) const fn new() -> Self {
        Self { ranges: [Range { from: 0, to: 0 }; RANGES_MAX], len: 0, cursor: Cursor::UNSET }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether [`Ranges::add`] has room for `from..to`: there is a free place, or it joins a range.
    pub(super) fn accepts(&self, from: u32, to: u32) -> bool {
        self.len < RANGES_MAX || self.ranges[..self.len].iter().any(|r| from <= r.to && r.from <= to)
    }

    /// The first stretch of `from..to` that is there.
    pub(super) fn overlap(&self, from: u32, to: u32) -> Option<(u32, u32)> {
        let common = self.ranges[..self.len].iter().map(|r| (r.from.max(from), r.to.min(to)));
        common.filter(|(from, to)| from < to).min()
    }

    /// Adds `from..to`, merged with every range that it overlaps or touches. Only when accepted.
    pub(super) fn add(&mut self, from: u32, to: u32) {
        let mut merged = Range { from, to };
        self.retain(|r| {
            let meets = from <= r.to && r.from <= to;
            if meets {
                merged = Range { from: merged.from.min(r.from), to: merged.to.max(r.to) };
            }
            !meets
        });
        self.ranges.copy_within(..self.len, 1);
        self.ranges[0] = merged;
        self.len += 1;
    }

    /// RCV.NXT moved by `n` octets: what lies before it is forgotten.
    pub(super) fn advance(&mut self, n: u32) {
        self.retain(|r| {
            *r = Range { from: r.from.saturating_sub(n), to: r.to.saturating_sub(n) };
            r.to > 0
        });
    }

    /// Takes out the range that RCV.NXT has reached and moves RCV.NXT to its end; returns how far.
    pub(super) fn take_first(&mut self) -> u32 {
        let first = self.ranges[..self.len].iter().find(|r| r.from == 0);
        let gained = first.map_or(0, |r| r.to);
        self.advance(gained);
        gained
    }

    /// Up to `max` ranges as SACK blocks, the one that holds the segment received last first.
    pub(super) fn sack_blocks(&self, rcv_nxt: Seq, max: usize) -> SackBlocks {
        let mut sack = SackBlocks::default();
        for (block, r) in sack.blocks.iter_mut().zip(&self.ranges[..self.len]).take(max) {
            *block = (rcv_nxt + r.from, rcv_nxt + r.to);
            sack.len += 1;
        }
        sack
    }

    /// Keeps, in order, the ranges for which `keep` holds.
    fn retain(&mut self, mut keep: impl FnMut(&mut Range) -> bool) {
        let mut kept = 0;
        for i in 0..self.len {
            let mut range = self.ranges[i];
            if keep(&mut range) {
                self.ranges[kept] = range;
                kept += 1;
            }
        }
        self.len = kept;
    }
}
