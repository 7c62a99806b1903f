//! A wire in memory: frames that one engine has written and another reads, on one thread or on two.
#![forbid(unsafe_code)]

use std::vec;
use std::vec::Vec;

use rtrb::{Consumer, Producer, RingBuffer};

use crate::stack::{RxBatch, TxBatch};

/// Frames begin at multiples of so many octets, a cache line, so that short ones lie close together.
const ALIGN: usize = 64;

/// One direction of a wire between two engines on one thread; nothing is allocated once it is made.
///
/// It is the [`TxBatch`] of one engine and the [`RxBatch`] of the other: what the first has written is
/// the batch, until [`MemoryWire::clear`] makes room again.
#[derive(Debug)]
pub struct MemoryWire {
    octets: Vec<u8>,
    frame_len: usize,
    frames_max: usize,
    /// Where each frame begins, and its length.
    frames: Vec<(usize, usize)>,
    /// Where the next frame begins.
    end: usize,
}

impl MemoryWire {
    /// A wire that holds `frames` frames of up to `frame_len` octets.
    ///
    /// # Panics
    ///
    /// When `frame_len` is zero.
    pub fn new(frames: usize, frame_len: usize) -> Self {
        assert!(frame_len > 0, "a frame has room for octets");
        let octets = vec![0; frames * frame_len];
        Self { octets, frame_len, frames_max: frames, frames: Vec::with_capacity(frames), end: 0 }
    }

    /// Forgets the frames, which have been read.
    pub fn clear(&mut self) {
        self.frames.clear();
        self.end = 0;
    }

    /// Whether it takes no more frames until [`MemoryWire::clear`].
    pub const fn is_full(&self) -> bool {
        self.frames.len() == self.frames_max
    }
}

impl TxBatch for MemoryWire {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        if self.is_full() {
            return None;
        }
        self.octets.get_mut(self.end..self.end + self.frame_len)
    }

    fn commit(&mut self, len: usize) {
        assert!(len <= self.frame_len, "the frame was reserved with {} octets", self.frame_len);
        self.frames.push((self.end, len));
        // Never more than a whole frame, so that there is room for each.
        self.end += len.next_multiple_of(ALIGN).min(self.frame_len);
    }
}

impl RxBatch for MemoryWire {
    fn len(&self) -> usize {
        self.frames.len()
    }

    fn frame(&self, i: usize) -> &[u8] {
        let (start, len) = self.frames[i];
        &self.octets[start..start + len]
    }
}

/// One direction of a wire between two engines on two threads: `batches` batches of up to `frames`
/// frames of up to `frame_len` octets each.
///
/// Batches change hands through two lock-free rings, one to the reader and one back; the octets of a
/// frame stay where the first engine wrote them and the second reads them. Nothing is allocated once it
/// is made. Frames for which no batch is free wait in the engine, as they do for a busy interface.
///
/// # Panics
///
/// When `frames` or `frame_len` is zero.
pub fn across_threads(batches: usize, frames: usize, frame_len: usize) -> (WireTx, WireRx) {
    assert!(frames > 0, "a batch has room for frames");
    let (filled_in, filled_out) = RingBuffer::new(batches);
    let (mut emptied_in, emptied_out) = RingBuffer::new(batches);
    for _ in 0..batches {
        put(&mut emptied_in, MemoryWire::new(frames, frame_len));
    }
    let tx = WireTx { filling: None, filled: filled_in, emptied: emptied_out };
    (tx, WireRx { reading: None, filled: filled_out, emptied: emptied_in })
}

/// The end of [`across_threads`] that is written.
#[derive(Debug)]
pub struct WireTx {
    filling: Option<MemoryWire>,
    filled: Producer<MemoryWire>,
    emptied: Consumer<MemoryWire>,
}

impl WireTx {
    /// Hands what was written to the reader; frames stay with the writer until then, or until a batch
    /// is full.
    pub fn flush(&mut self) {
        if let Some(batch) = self.filling.take_if(|batch| !batch.is_empty()) {
            put(&mut self.filled, batch);
        }
    }
}

impl TxBatch for WireTx {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        if self.filling.as_ref().is_some_and(MemoryWire::is_full) {
            self.flush();
        }
        if self.filling.is_none() {
            self.filling = self.emptied.pop().ok();
        }
        self.filling.as_mut()?.reserve()
    }

    fn commit(&mut self, len: usize) {
        self.filling.as_mut().expect("`reserve` has given a frame of it").commit(len);
    }
}

/// The end of [`across_threads`] that is read.
#[derive(Debug)]
pub struct WireRx {
    reading: Option<MemoryWire>,
    filled: Consumer<MemoryWire>,
    emptied: Producer<MemoryWire>,
}

impl WireRx {
    /// The next batch, when there is one; the one before goes back to the writer.
    pub fn next_batch(&mut self) -> Option<&MemoryWire> {
        if let Some(mut read) = self.reading.take() {
            read.clear();
            put(&mut self.emptied, read);
        }
        self.reading = self.filled.pop().ok();
        self.reading.as_ref()
    }
}

fn put(ring: &mut Producer<MemoryWire>, batch: MemoryWire) {
    ring.push(batch).expect("each ring has room for every batch");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    fn write(wire: &mut impl TxBatch, text: &[u8]) -> bool {
        let Some(frame) = wire.reserve() else { return false };
        frame[..text.len()].copy_from_slice(text);
        wire.commit(text.len());
        true
    }

    #[test]
    fn frames_come_out_as_they_went_in_until_it_is_full() {
        let mut wire = MemoryWire::new(2, 4);
        for text in [&b"ab"[..], b"wxyz"] {
            wire.reserve().expect("there is room")[..text.len()].copy_from_slice(text);
            assert_eq!(wire.reserve().expect("the same again").get(..text.len()), Some(text));
            wire.commit(text.len());
        }
        assert!(wire.reserve().is_none() && wire.is_full());
        assert_eq!((wire.len(), wire.frame(0), wire.frame(1)), (2, &b"ab"[..], &b"wxyz"[..]));
        wire.clear();
        assert!(wire.is_empty() && wire.reserve().is_some());
    }

    #[test]
    fn every_frame_may_be_as_long_as_promised() {
        for (frame_len, lens, why) in [
            (100, [100, 100, 100], "all are long, and no multiple of a cache line"),
            (100, [1, 100, 64], "short ones lie before long ones"),
            (1_600, [60, 1_514, 1_600], "as Ethernet frames are"),
        ] {
            let mut wire = MemoryWire::new(lens.len(), frame_len);
            for (n, len) in (1..).zip(lens) {
                assert_eq!(wire.reserve().map(|frame| frame.len()), Some(frame_len), "{why}");
                assert!(write(&mut wire, &vec![n; len]), "{why}");
            }
            for (n, len) in (0..).zip(lens) {
                let fill = u8::try_from(n + 1).expect("a few frames");
                assert_eq!(wire.frame(n), &vec![fill; len], "{why}");
            }
        }
    }

    #[test]
    fn frames_stay_with_the_writer_until_flush_or_a_full_batch() {
        let (mut tx, mut rx) = across_threads(2, 2, 8);
        assert!(write(&mut tx, b"a"));
        assert!(rx.next_batch().is_none());
        tx.flush();
        assert_eq!(rx.next_batch().map(|batch| batch.frame(0)), Some(&b"a"[..]));
        // The other batch fills up; the first is still lent to the reader.
        assert!(write(&mut tx, b"b") && write(&mut tx, b"c") && !write(&mut tx, b"d"));
        assert_eq!(rx.next_batch().map(RxBatch::len), Some(2), "full, so it came without a flush");
        assert!(write(&mut tx, b"d"), "the first batch has come back");
        assert!(rx.next_batch().is_none());
        tx.flush();
        assert_eq!(rx.next_batch().map(|batch| batch.frame(0)), Some(&b"d"[..]));
        assert!(tx.reserve().is_some(), "a frame is at hand");
        tx.flush();
        assert!(rx.next_batch().is_none(), "a flush of nothing hands over nothing");
    }

    #[test]
    fn all_frames_cross_to_another_thread_in_order() {
        const FRAMES: u32 = if cfg!(miri) { 300 } else { 100_000 };
        let (mut tx, rx) = across_threads(3, 7, 16);
        thread::scope(|scope| {
            // A side that fails drops its end, which ends the other.
            let mut rx = rx;
            scope.spawn(move || {
                for n in 0..FRAMES {
                    while !write(&mut tx, &n.to_be_bytes()) {
                        assert!(!tx.filled.is_abandoned(), "the reader failed");
                        thread::yield_now();
                    }
                    if n % 5 == 0 || n + 1 == FRAMES {
                        tx.flush();
                    }
                }
            });
            let mut next = 0u32;
            while next < FRAMES {
                let written = rx.filled.is_abandoned();
                let Some(batch) = rx.next_batch() else {
                    assert!(!written, "{next} of {FRAMES} frames came");
                    thread::yield_now();
                    continue;
                };
                for i in 0..batch.len() {
                    assert_eq!(batch.frame(i), next.to_be_bytes());
                    next += 1;
                }
            }
            assert!(rx.next_batch().is_none());
        });
    }
}
