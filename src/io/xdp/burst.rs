//! The frames of one turn: those received, lent to the engine, and those it writes to send.

use std::boxed::Box;
use std::vec::Vec;

use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue};

use crate::io::{Frame, FramePool};
use crate::stack::{RxBatch, TxBatch};

/// Frames per turn. More would delay the first one's reply without saving much: a turn costs some
/// 100 ns, of which 64 frames carry 2 ns each.
pub(super) const BURST: usize = 64;

/// The receiving half of a queue: fill and RX ring, and the frames of the turn.
#[derive(Debug)]
pub(super) struct RxSide {
    pub ring: RxQueue,
    pub fill: FillQueue,
    /// What the RX ring said; the first `frames.len()` are of this turn.
    descs: Box<[FrameDesc; BURST]>,
    /// The frames of `descs`, in the same order, until they are given back.
    frames: Vec<Frame>,
    pub received: u64,
}

impl RxSide {
    /// Lends all of `frames` to the kernel to fill.
    pub fn new(
        ring: RxQueue,
        mut fill: FillQueue,
        pool: &FramePool,
        frames: Vec<(Frame, FrameDesc)>,
    ) -> Self {
        let descs: Vec<FrameDesc> = frames.iter().map(|(_, desc)| *desc).collect();
        for (frame, _) in frames {
            pool.lend(frame);
        }
        // SAFETY: frames of this UMEM that were lent above, each once.
        let filled = unsafe { fill.produce(&descs) };
        assert_eq!(filled, descs.len(), "the fill ring has room for every RX frame");
        let frames = Vec::with_capacity(BURST);
        Self { ring, fill, descs: Box::new([FrameDesc::default(); BURST]), frames, received: 0 }
    }

    /// Takes what has arrived, up to a burst.
    pub fn receive<'a>(&'a mut self, pool: &'a FramePool) -> RxBurst<'a> {
        // Where no flush has come between.
        self.give_back(pool);
        // SAFETY: what is written to `descs` are descriptors of this UMEM.
        let count = unsafe { self.ring.consume(&mut self.descs[..]) };
        for desc in &self.descs[..count] {
            // SAFETY: from the RX ring just now, and frames in that ring were lent by way of the
            // fill ring.
            self.frames.push(unsafe { pool.reclaim(desc.addr() as u64) });
        }
        self.received += count as u64;
        RxBurst { side: self, pool }
    }

    /// Gives the frames of the last burst back to the kernel.
    pub fn give_back(&mut self, pool: &FramePool) {
        let descs = &self.descs[..self.frames.len()];
        if descs.is_empty() {
            return;
        }
        for frame in self.frames.drain(..) {
            pool.lend(frame);
        }
        // SAFETY: frames of this UMEM, each lent just above. The kernel masks the offset of the
        // packet away.
        let filled = unsafe { self.fill.produce(descs) };
        assert_eq!(filled, descs.len(), "the fill ring has room for every RX frame");
    }
}

/// Received frames, in the order of arrival. They go back to the kernel with the next flush: what they are
/// answered with comes first.
#[derive(Debug)]
pub struct RxBurst<'a> {
    side: &'a RxSide,
    pool: &'a FramePool,
}

impl RxBatch for RxBurst<'_> {
    fn len(&self) -> usize {
        self.side.frames.len()
    }

    fn frame(&self, i: usize) -> &[u8] {
        let octets = self.pool.octets(&self.side.frames[i]);
        let desc = &self.side.descs[i];
        let start = desc.addr() & (octets.len() - 1);
        &octets[start..start + desc.lengths().data()]
    }
}

/// A frame that is free to send, with the descriptor that names it.
type FreeFrame = (Frame, FrameDesc);

/// The sending half of a queue: TX and completion ring, and the frames that are free.
#[derive(Debug)]
pub(super) struct TxSide {
    pub ring: TxQueue,
    completion: CompQueue,
    /// Last in, first out: what was freed last is still in the cache.
    free: Vec<FreeFrame>,
    /// Committed, and not yet in the TX ring: a burst at most.
    committed: Vec<FrameDesc>,
    completed: Box<[FrameDesc; BURST]>,
    /// How many frames are the kernel's.
    outstanding: usize,
    /// Whether the kernel may not have looked at all of the TX ring.
    pub is_pending: bool,
    pub sent: u64,
}

impl TxSide {
    pub fn new(ring: TxQueue, completion: CompQueue, free: Vec<FreeFrame>) -> Self {
        Self {
            ring,
            completion,
            free,
            committed: Vec::with_capacity(BURST),
            completed: Box::new([FrameDesc::default(); BURST]),
            outstanding: 0,
            is_pending: false,
            sent: 0,
        }
    }

    /// Puts what was committed in the TX ring.
    pub fn submit(&mut self) {
        if self.committed.is_empty() {
            return;
        }
        // SAFETY: frames of this UMEM, lent by `commit`, each once.
        let submitted = unsafe { self.ring.produce(&self.committed) };
        assert_eq!(submitted, self.committed.len(), "the TX ring has room for every TX frame");
        self.outstanding += submitted;
        self.sent += submitted as u64;
        self.committed.clear();
        self.is_pending = true;
    }

    /// Takes back what has completed. A few frames may wait for their burst: looking costs a cache
    /// line that the kernel writes.
    pub fn reap(&mut self, pool: &FramePool) {
        while self.outstanding >= BURST || self.free.is_empty() {
            // SAFETY: what is written to `completed` are descriptors of this UMEM.
            let count = unsafe { self.completion.consume(&mut self.completed[..]) };
            for desc in &self.completed[..count] {
                // SAFETY: from the completion ring just now, and frames in that ring were lent by
                // way of the TX ring.
                self.free.push((unsafe { pool.reclaim(desc.addr() as u64) }, *desc));
            }
            self.outstanding -= count;
            if count < BURST {
                break;
            }
        }
    }
}

/// Where frames to send are written. Dropping it puts them in the TX ring; sending them takes a flush.
#[derive(Debug)]
pub struct TxBurst<'a> {
    pub(super) side: &'a mut TxSide,
    pub(super) pool: &'a FramePool,
    pub(super) umem: &'a xsk_rs::Umem,
}

impl TxBurst<'_> {
    /// Frames that can be committed before the next flush.
    pub fn free(&self) -> usize {
        self.side.free.len()
    }
}

impl TxBatch for TxBurst<'_> {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        let (frame, desc) = self.side.free.last_mut()?;
        let octets = self.pool.octets_mut(frame);
        let start = desc.addr() & (octets.len() - 1);
        Some(&mut octets[start..])
    }

    fn commit(&mut self, len: usize) {
        let (frame, mut desc) = self.side.free.pop().expect("`reserve` gave a frame before");
        // The only way to a descriptor's length leads through the frame.
        // SAFETY: a descriptor of this UMEM, and its frame is ours until it is lent below.
        let mut data = unsafe { self.umem.data_mut(&mut desc) };
        let mut cursor = data.cursor();
        cursor.set_pos(len);
        assert_eq!(cursor.pos(), len, "a frame is no longer than what was reserved");
        self.pool.lend(frame);
        self.side.committed.push(desc);
        if self.side.committed.len() == BURST {
            self.side.submit();
        }
    }
}

impl Drop for TxBurst<'_> {
    fn drop(&mut self) {
        self.side.submit();
    }
}
