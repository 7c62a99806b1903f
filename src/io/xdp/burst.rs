//! The frames of one turn: those received, lent to the engine, and those it writes to send.

use core::ops::Range;
use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use xsk_rs::{CompQueue, FillQueue, FrameDesc, RxQueue, TxQueue};

use super::umem;
use crate::io::{Frame, FramePool};
use crate::stack::{RxBatch, TxBatch};

/// Frames per turn. More would delay the first one's reply without saving much: a turn costs some
/// 100 ns, of which 64 frames carry 2 ns each.
pub(super) const BURST: usize = 64;

/// XDP_PKT_CONTD of `linux/if_xdp.h`: the packet goes on in the next descriptor.
const CONTINUED: u32 = 1;

/// Packets that take several frames, put together: what looks at a packet wants its octets in a row.
#[derive(Debug)]
struct Joined {
    octets: Vec<u8>,
    /// The packets of the turn, by where they lie in `octets`.
    packets: Vec<Range<usize>>,
    /// Where one begins whose rest has not come.
    open_at: usize,
}

impl Joined {
    fn new() -> Self {
        // As much as a burst can bring, and what was left of the one before.
        let octets = Vec::with_capacity((BURST + umem::frames_a_packet(umem::MTU_MAX)) * 4096);
        Self { octets, packets: Vec::with_capacity(BURST), open_at: 0 }
    }

    /// A turn begins: only a packet that is not whole stays.
    fn begin(&mut self) {
        self.packets.clear();
        self.octets.drain(..self.open_at);
        self.open_at = 0;
    }

    /// One more part; the last of its packet unless it is `continued`.
    fn push(&mut self, part: &[u8], continued: bool) {
        self.octets.extend_from_slice(part);
        if !continued {
            self.packets.push(self.open_at..self.octets.len());
            self.open_at = self.octets.len();
        }
    }
}

/// The receiving half of a queue: fill and RX ring, and the frames of the turn.
#[derive(Debug)]
pub(super) struct RxSide {
    pub ring: RxQueue,
    pub fill: FillQueue,
    /// What the RX ring said; the first `frames.len()` are of this turn.
    descs: Box<[FrameDesc; BURST]>,
    /// The frames of `descs`, in the same order, until they are given back.
    frames: Vec<Frame>,
    /// Where a packet may take several frames.
    joined: Option<Joined>,
    pub received: u64,
}

impl RxSide {
    /// Lends all of `frames` to the kernel to fill.
    pub fn new(
        ring: RxQueue,
        mut fill: FillQueue,
        pool: &FramePool,
        frames: Vec<(Frame, FrameDesc)>,
        mtu: u32,
    ) -> Self {
        let descs: Vec<FrameDesc> = frames.iter().map(|(_, desc)| *desc).collect();
        for (frame, _) in frames {
            pool.lend(frame);
        }
        // SAFETY: frames of this UMEM that were lent above, each once.
        let filled = unsafe { fill.produce(&descs) };
        assert_eq!(filled, descs.len(), "the fill ring has room for every RX frame");
        let frames = Vec::with_capacity(BURST);
        let joined = umem::is_jumbo(mtu).then(Joined::new);
        Self { ring, fill, descs: Box::new([FrameDesc::default(); BURST]), frames, joined, received: 0 }
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
        if let Some(joined) = &mut self.joined {
            joined.begin();
            for (frame, desc) in self.frames.iter().zip(&self.descs[..count]) {
                joined.push(octets(pool, frame, desc), desc.options() & CONTINUED != 0);
            }
        }
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

/// What the kernel has written to a frame.
fn octets<'a>(pool: &'a FramePool, frame: &'a Frame, desc: &FrameDesc) -> &'a [u8] {
    let octets = pool.octets(frame);
    let start = desc.addr() & (octets.len() - 1);
    &octets[start..start + desc.lengths().data()]
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
        self.side.joined.as_ref().map_or(self.side.frames.len(), |joined| joined.packets.len())
    }

    fn frame(&self, i: usize) -> &[u8] {
        match &self.side.joined {
            None => octets(self.pool, &self.side.frames[i], &self.side.descs[i]),
            Some(joined) => &joined.octets[joined.packets[i].clone()],
        }
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
    /// Where a packet is written that may take several frames: so many.
    scratch: Option<Box<[u8]>>,
    frames_a_packet: usize,
    /// Whether the kernel may not have looked at all of the TX ring.
    pub is_pending: bool,
    pub sent: u64,
}

impl TxSide {
    pub fn new(ring: TxQueue, completion: CompQueue, free: Vec<FreeFrame>, mtu: u32) -> Self {
        let frames_a_packet = umem::frames_a_packet(mtu);

        Self {
            ring,
            completion,
            free,
            committed: Vec::with_capacity(BURST + frames_a_packet),
            completed: Box::new([FrameDesc::default(); BURST]),
            outstanding: 0,
            scratch: umem::is_jumbo(mtu).then(|| vec![0; umem::packet_len_max(mtu)].into()),
            frames_a_packet,
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
        while self.outstanding >= BURST || self.free.len() < self.frames_a_packet {
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
    /// Packets that can be committed before the next flush.
    pub fn free(&self) -> usize {
        self.side.free.len() / self.side.frames_a_packet
    }

    /// Lends a free frame with `len` octets, which `fill` writes; returns what `fill` does.
    fn push<R>(&mut self, len: usize, options: u32, fill: impl FnOnce(&mut [u8]) -> R) -> R {
        let (mut frame, mut desc) = self.side.free.pop().expect("`reserve` saw that there is one");
        let octets = self.pool.octets_mut(&mut frame);
        let start = desc.addr() & (octets.len() - 1);
        let filled = fill(&mut octets[start..start + len]);
        // The only way to a descriptor's length leads through the frame.
        // SAFETY: a descriptor of this UMEM, and its frame is ours until it is lent below.
        let mut data = unsafe { self.umem.data_mut(&mut desc) };
        let mut cursor = data.cursor();
        cursor.set_pos(len);
        assert_eq!(cursor.pos(), len, "a frame is no longer than what was reserved");
        desc.set_options(options);
        self.pool.lend(frame);
        self.side.committed.push(desc);
        filled
    }

    /// Lends as many frames as the packet in `scratch` takes.
    #[cold]
    fn push_parts(&mut self, scratch: &[u8]) {
        let mut parts = scratch.chunks(umem::ROOM as usize).peekable();
        while let Some(part) = parts.next() {
            let options = if parts.peek().is_some() { CONTINUED } else { 0 };
            self.push(part.len(), options, |room| room.copy_from_slice(part));
        }
    }
}

impl TxBatch for TxBurst<'_> {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        if self.side.free.len() < self.side.frames_a_packet {
            return None;
        }
        if let Some(scratch) = &mut self.side.scratch {
            return Some(scratch);
        }
        let (frame, desc) = self.side.free.last_mut()?;
        let octets = self.pool.octets_mut(frame);
        let start = desc.addr() & (octets.len() - 1);
        Some(&mut octets[start..])
    }

    fn commit(&mut self, len: usize) {
        match self.side.scratch.take() {
            None => self.push(len, 0, |_| ()),
            Some(scratch) => {
                self.push_parts(&scratch[..len]);
                self.side.scratch = Some(scratch);
            }
        }
        if self.side.committed.len() >= BURST {
            self.side.submit();
        }
    }
}

impl Drop for TxBurst<'_> {
    fn drop(&mut self) {
        self.side.submit();
    }
}
