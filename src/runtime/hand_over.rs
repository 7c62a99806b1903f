//! Frames that landed on the wrong worker: copied into the owner's lock-free ring.
#![forbid(unsafe_code)]

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use crossbeam::queue::ArrayQueue;

/// A copy of a frame.
#[derive(Debug)]
pub(super) struct FrameCopy {
    octets: Box<[u8]>,
    len: usize,
}

impl AsRef<[u8]> for FrameCopy {
    fn as_ref(&self) -> &[u8] {
        &self.octets[..self.len]
    }
}

/// Frames for one worker from all others; buffers go round, so nothing is allocated after start.
#[derive(Debug)]
pub(super) struct Inbox {
    full: ArrayQueue<FrameCopy>,
    free: ArrayQueue<FrameCopy>,
}

impl Inbox {
    /// Room for `count` frames of up to `frame_len` octets.
    pub fn new(count: usize, frame_len: usize) -> Self {
        let free = ArrayQueue::new(count);
        for _ in 0..count {
            let octets = vec![0; frame_len].into_boxed_slice();
            free.push(FrameCopy { octets, len: 0 }).expect("as many buffers as places");
        }
        Self { full: ArrayQueue::new(count), free }
    }

    /// Copies `frame` in; `false` when there is no room.
    pub fn push(&self, frame: &[u8]) -> bool {
        let Some(mut copy) = self.free.pop() else { return false };
        let fits = frame.len() <= copy.octets.len();
        if fits {
            copy.len = frame.len();
            copy.octets[..frame.len()].copy_from_slice(frame);
        }
        let ring = if fits { &self.full } else { &self.free };
        ring.push(copy).expect("as many buffers as places");
        fits
    }

    /// Whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.full.is_empty()
    }

    /// Takes up to `most` waiting frames.
    pub fn take(&self, into: &mut Vec<FrameCopy>, most: usize) {
        into.extend(std::iter::from_fn(|| self.full.pop()).take(most));
    }

    /// Gives buffers back.
    pub fn give_back(&self, copies: &mut Vec<FrameCopy>) {
        for copy in copies.drain(..) {
            self.free.push(copy).expect("as many buffers as places");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_as_they_went_in_and_buffers_go_round() {
        let inbox = Inbox::new(2, 4);
        for round in 0..10u8 {
            assert!(inbox.push(&[round, 1]) && inbox.push(&[round, 2, 3]));
            assert!(!inbox.push(&[9]), "full");
            let mut taken = Vec::new();
            inbox.take(&mut taken, 8);
            let octets: Vec<&[u8]> = taken.iter().map(AsRef::as_ref).collect();
            assert_eq!(octets, [&[round, 1][..], &[round, 2, 3]]);
            inbox.give_back(&mut taken);
        }
        assert!(inbox.is_empty());
    }

    #[test]
    fn a_frame_too_long_is_refused_and_costs_no_buffer() {
        let inbox = Inbox::new(1, 4);
        assert!(!inbox.push(&[0; 5]));
        assert!(inbox.push(&[0; 4]));
    }
}
