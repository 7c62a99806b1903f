//! Reading memory before it is wanted, so that the processor waits for many records at once.
//!
//! A connection whose turn comes rarely is in no cache: its bucket of the flow table, its record and its node
//! in the wheel are seven cache lines and more. Here those of a batch are read in passes, each of which needs
//! only what the one before has found, and nothing comes of it but that they are in the cache.
#![forbid(unsafe_code)]

use core::hint::black_box;

use super::batch::RxBatch;
use super::core::{Core, Found};
use super::engine::Engine;
use super::plain;

/// Records that are read together: as many cache lines as a processor asks for at one time, and more.
pub(super) const LOOK_AHEAD: usize = 32;

impl Core {
    /// Reads what serving these flows will, but for the key's bucket.
    fn look_ahead(&self, flows: impl Iterator<Item = u32> + Clone) {
        let read = |seen, index| seen ^ self.flows.touch(index) ^ self.wheel.touch(index);
        let seen = flows.clone().fold(0, read);
        let read = |seen, index| seen ^ self.wheel.touch_beside(index);
        // Nobody wants the number, only that all was read for it.
        black_box(flows.fold(seen, read));
    }
}

impl Engine {
    /// For the frames of `rx` from `first` on.
    #[inline(never)]
    pub(super) fn look_ahead_at<R: RxBatch + ?Sized>(&self, rx: &R, first: usize) {
        let mut found = [None; LOOK_AHEAD];
        for (i, found) in (first..rx.len()).zip(&mut found) {
            let key = plain::key(rx.frame(i));
            let value = key.and_then(|key| self.core.table.first(self.core.hash.flow(&key)));
            *found = value.map(Found::from_value);
        }
        let flow = |found: &Option<Found>| match found {
            Some(Found::Flow(index)) => Some(*index),
            _ => None,
        };
        self.core.look_ahead(found.iter().filter_map(flow));
    }

    /// For flows that are to be served: the first of them, as what comes after many would be gone again.
    #[inline(never)]
    pub(super) fn look_ahead_at_ready(&self) {
        self.core.look_ahead(self.core.ready.iter().copied().take(8 * LOOK_AHEAD));
    }
}
