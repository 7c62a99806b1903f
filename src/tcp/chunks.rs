//! Memory for text: chunks of one size, taken singly and linked into chains.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

/// No chunk: the end of a chain.
pub const NONE: u32 = u32::MAX;

/// The longest text that a buffer of chunks holds, in octets: as much as a window can ask for
/// (RFC 7323 §2.3).
pub(super) const TEXT_MAX: u32 = 1 << 30;

/// A fixed number of chunks of one length.
///
/// Taking and returning a chunk is O(1), and the one returned last is taken first, while it is in the
/// cache. A chunk's memory is not touched before its first use.
#[derive(Debug)]
pub struct ChunkPool {
    octets: Vec<u8>,
    /// For each chunk the next one, in its chain or in the free list.
    links: Vec<u32>,
    shift: u32,
    /// Chunks from here on were never used and are in no list.
    fresh: u32,
    free_head: u32,
    free_count: u32,
}

impl ChunkPool {
    /// `count` chunks of `chunk_len` octets; the only allocation there is.
    ///
    /// # Panics
    ///
    /// When `chunk_len` is not a power of two up to 2^24, or `count` is `u32::MAX`.
    pub fn new(count: u32, chunk_len: u32) -> Self {
        assert!(chunk_len.is_power_of_two() && chunk_len <= 1 << 24, "chunk length {chunk_len}");
        assert!(count != NONE, "the last number means no chunk");
        Self {
            octets: vec![0; count as usize * chunk_len as usize],
            links: vec![0; count as usize],
            shift: chunk_len.ilog2(),
            fresh: 0,
            free_head: NONE,
            free_count: count,
        }
    }

    /// Takes a chunk, linked to nothing, its content arbitrary; `None` when all are taken.
    pub fn alloc(&mut self) -> Option<u32> {
        if self.free_count == 0 {
            return None;
        }
        let chunk = if self.free_head == NONE {
            self.fresh += 1;
            self.fresh - 1
        } else {
            self.free_head
        };
        if self.free_head != NONE {
            self.free_head = self.next(chunk);
        }
        self.free_count -= 1;
        self.link(chunk, NONE);
        Some(chunk)
    }

    /// Returns a chunk that [`ChunkPool::alloc`] gave.
    pub fn free(&mut self, chunk: u32) {
        self.free_chain(chunk, chunk, 1);
    }

    /// Returns the `count` chunks linked from `head` to `tail`, in O(1).
    pub fn free_chain(&mut self, head: u32, tail: u32, count: u32) {
        self.link(tail, self.free_head);
        self.free_head = head;
        self.free_count += count;
    }

    /// How many chunks can be taken.
    pub const fn free_count(&self) -> u32 {
        self.free_count
    }

    /// Octets of the chunks that can be taken.
    pub const fn free_octets(&self) -> u64 {
        (self.free_count as u64) << self.shift
    }

    /// Octets in a chunk, a power of two.
    pub const fn chunk_len(&self) -> u32 {
        1 << self.shift
    }

    /// How many chunks hold `octets`.
    pub const fn chunks_for(&self, octets: u32) -> u32 {
        octets.div_ceil(self.chunk_len())
    }

    /// What follows `chunk` in its chain.
    pub fn next(&self, chunk: u32) -> u32 {
        self.links[chunk as usize]
    }

    /// Makes `next` follow `chunk`.
    pub fn link(&mut self, chunk: u32, next: u32) {
        self.links[chunk as usize] = next;
    }

    /// The octets of `chunk`.
    pub fn chunk(&self, chunk: u32) -> &[u8] {
        let at = (chunk as usize) << self.shift;
        &self.octets[at..at + (1 << self.shift)]
    }

    /// The octets of `chunk`, to write.
    pub fn chunk_mut(&mut self, chunk: u32) -> &mut [u8] {
        let at = (chunk as usize) << self.shift;
        &mut self.octets[at..at + (1 << self.shift)]
    }
}

/// A chunk of a chain and where it begins, in octets from the chain's first: saves walking the chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor {
    pub(super) chunk: u32,
    pub(super) base: u32,
}

impl Cursor {
    /// Nowhere: a search begins at the head.
    pub(super) const UNSET: Self = Self { chunk: NONE, base: 0 };

    /// Whether a walk to `position` can begin here.
    pub(super) const fn is_before(self, position: u32) -> bool {
        self.chunk != NONE && self.base <= position
    }

    /// The chunk that holds `position`, which the chain reaches; walks from here, or from `head`.
    pub(super) fn seek(self, pool: &ChunkPool, head: u32, position: u32) -> Self {
        let mut at = if self.is_before(position) { self } else { Self { chunk: head, base: 0 } };
        while position - at.base >= pool.chunk_len() {
            at = Self { chunk: pool.next(at.chunk), base: at.base + pool.chunk_len() };
        }
        at
    }

    /// The chain lost its first `octets` octets, whole chunks.
    pub(super) const fn drop_front(&mut self, octets: u32) {
        if self.base >= octets {
            self.base -= octets;
        } else {
            *self = Self::UNSET;
        }
    }

    /// Writes `data` at `position`, into chunks that the chain has already; returns the last one.
    pub(super) fn write(mut self, pool: &mut ChunkPool, position: u32, mut data: &[u8]) -> Self {
        let mut at = (position - self.base) as usize;
        loop {
            let room = &mut pool.chunk_mut(self.chunk)[at..];
            let n = room.len().min(data.len());
            room[..n].copy_from_slice(&data[..n]);
            data = &data[n..];
            if data.is_empty() {
                return self;
            }
            self = Self { chunk: pool.next(self.chunk), base: self.base + pool.chunk_len() };
            at = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    proptest! {
        #[test]
        fn no_chunk_has_two_owners_and_none_is_lost(
            ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..100),
        ) {
            let mut pool = ChunkPool::new(9, 16);
            let mut taken: Vec<u32> = Vec::new();
            for (take, pick) in ops {
                if take {
                    let chunk = pool.alloc();
                    prop_assert_eq!(chunk.is_some(), taken.len() < 9);
                    if let Some(chunk) = chunk {
                        prop_assert!(chunk < 9 && !taken.contains(&chunk));
                        prop_assert_eq!(pool.next(chunk), NONE);
                        taken.push(chunk);
                    }
                } else if !taken.is_empty() {
                    let chunk = taken.swap_remove(pick.index(taken.len()));
                    pool.free(chunk);
                    prop_assert_eq!(pool.alloc(), Some(chunk));
                    pool.free(chunk);
                }
                prop_assert_eq!(pool.free_count() as usize, 9 - taken.len());
                for (mark, &chunk) in (0u8..).zip(&taken) {
                    pool.chunk_mut(chunk).fill(mark);
                }
                for (mark, &chunk) in (0u8..).zip(&taken) {
                    prop_assert_eq!(pool.chunk(chunk), &[mark; 16]);
                }
            }
        }
    }

    #[test]
    fn a_chain_is_returned_whole() {
        let mut pool = ChunkPool::new(3, 1);
        let chunks = [pool.alloc(), pool.alloc(), pool.alloc()].map(|c| c.expect("there are three"));
        pool.link(chunks[0], chunks[1]);
        pool.link(chunks[1], chunks[2]);
        pool.free_chain(chunks[0], chunks[2], 3);
        assert_eq!(pool.free_count(), 3);
        assert_eq!(
            [pool.alloc(), pool.alloc(), pool.alloc(), pool.alloc()].map(|c| c.unwrap_or(NONE)),
            [chunks[0], chunks[1], chunks[2], NONE]
        );
    }
}
