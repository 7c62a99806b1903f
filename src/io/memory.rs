//! A wire in memory: frames of one size in a ring, written by one engine and read by the other.
#![forbid(unsafe_code)]

use std::vec;
use std::vec::Vec;

use crate::stack::{RxBatch, TxBatch};

/// One direction of a wire between two engines on one thread; nothing is allocated once it is made.
///
/// It is the [`TxBatch`] of one engine and the [`RxBatch`] of the other: what the first has written is
/// the batch, until [`MemoryWire::clear`] makes room again.
#[derive(Debug)]
pub struct MemoryWire {
    octets: Vec<u8>,
    frame_len: usize,
    lens: Vec<usize>,
}

impl MemoryWire {
    /// A wire that holds `frames` frames of up to `frame_len` octets.
    ///
    /// # Panics
    ///
    /// When `frame_len` is zero.
    pub fn new(frames: usize, frame_len: usize) -> Self {
        assert!(frame_len > 0, "a frame has room for octets");
        Self { octets: vec![0; frames * frame_len], frame_len, lens: Vec::with_capacity(frames) }
    }

    /// Forgets the frames, which have been read.
    pub fn clear(&mut self) {
        self.lens.clear();
    }
}

impl TxBatch for MemoryWire {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        self.octets.chunks_exact_mut(self.frame_len).nth(self.lens.len())
    }

    fn commit(&mut self, len: usize) {
        assert!(len <= self.frame_len, "the frame was reserved with {} octets", self.frame_len);
        self.lens.push(len);
    }
}

impl RxBatch for MemoryWire {
    fn len(&self) -> usize {
        self.lens.len()
    }

    fn frame(&self, i: usize) -> &[u8] {
        &self.octets[i * self.frame_len..][..self.lens[i]]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_until_it_is_full() {
        let mut wire = MemoryWire::new(2, 4);
        for text in [&b"ab"[..], b"wxyz"] {
            wire.reserve().expect("there is room")[..text.len()].copy_from_slice(text);
            assert_eq!(wire.reserve().expect("the same again").get(..text.len()), Some(text));
            wire.commit(text.len());
        }
        assert!(wire.reserve().is_none());
        assert_eq!((wire.len(), wire.frame(0), wire.frame(1)), (2, &b"ab"[..], &b"wxyz"[..]));
        wire.clear();
        assert!(wire.is_empty() && wire.reserve().is_some());
    }
}
