//! The right to touch one slot of packet memory, as a value that cannot be copied.

use core::ptr::NonNull;
use core::slice;
use core::sync::atomic::{AtomicU32, Ordering};
use std::vec::Vec;

/// The right to read and write one slot of the pool that made it.
///
/// There is one for each slot, and it is neither `Copy` nor `Clone`: while the kernel has the slot,
/// nobody has the frame.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a dropped frame is lost to its pool"]
pub struct Frame {
    pool: u32,
    slot: u32,
}

/// One mapping, carved into equal slots.
#[derive(Debug)]
pub struct FramePool {
    base: NonNull<u8>,
    /// Octets of a slot, as a power of two.
    shift: u32,
    count: u32,
    id: u32,
}

// SAFETY: `base` is memory that nothing but this pool and its frames reach (promised to `new`),
// so it matters to nobody which thread they live on.
unsafe impl Send for FramePool {}

impl FramePool {
    /// Carves `count` slots of `frame_size` octets, and returns a frame for each of them.
    ///
    /// # Panics
    ///
    /// When `frame_size` is no power of two, or after 2^32 pools.
    ///
    /// # Safety
    ///
    /// - `base` is valid for reads and writes of `count * frame_size` octets, initialized, for as
    ///   long as the pool lives.
    /// - Nothing else in this process accesses them in that time, and the kernel only those slots
    ///   whose frames were lent.
    pub unsafe fn new(base: NonNull<u8>, count: u32, frame_size: u32) -> (Self, Vec<Frame>) {
        assert!(frame_size.is_power_of_two(), "the kernel takes no other size");
        let id = next_pool_id();
        let frames = (0..count).map(|slot| Frame { pool: id, slot }).collect();
        (Self { base, shift: frame_size.trailing_zeros(), count, id }, frames)
    }

    /// Octets of a slot.
    pub fn frame_size(&self) -> usize {
        1 << self.shift
    }

    /// The octets of `frame`, to read.
    ///
    /// # Panics
    ///
    /// When the frame is another pool's.
    pub fn octets<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        let start = self.start(frame);
        // SAFETY: in bounds, initialized and alive, as `start` and `new` say. Nobody writes: slots
        // do not overlap, there is one `Frame` for each, and it is borrowed while the slice lives.
        unsafe { slice::from_raw_parts(start.as_ptr(), self.frame_size()) }
    }

    /// The octets of `frame`, to read and write, for as long as the frame stays borrowed.
    ///
    /// # Panics
    ///
    /// When the frame is another pool's.
    pub fn octets_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        let start = self.start(frame);
        // SAFETY: in bounds, initialized and alive, as `start` and `new` say. Not aliased: slots do
        // not overlap, there is one `Frame` for each, and it is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(start.as_ptr(), self.frame_size()) }
    }

    /// Lends `frame` to the kernel; returns where its slot starts, in octets from the pool's start.
    ///
    /// # Panics
    ///
    /// When the frame is another pool's.
    pub fn lend(&self, frame: Frame) -> u64 {
        assert_eq!(frame.pool, self.id, "a frame belongs to the pool that made it");
        u64::from(frame.slot) << self.shift
    }

    /// Takes back the frame of the slot that contains `addr`, in octets from the pool's start.
    ///
    /// # Panics
    ///
    /// When `addr` is past the pool's end.
    ///
    /// # Safety
    ///
    /// The frame of that slot was lent and has not been reclaimed since, and the kernel is done
    /// with it: `addr` was read from an RX or completion ring bound to this memory.
    pub unsafe fn reclaim(&self, addr: u64) -> Frame {
        let slot = u32::try_from(addr >> self.shift).expect("rings carry addresses inside the UMEM");
        assert!(slot < self.count, "rings carry addresses inside the UMEM");
        Frame { pool: self.id, slot }
    }

    fn start(&self, frame: &Frame) -> NonNull<u8> {
        assert_eq!(frame.pool, self.id, "a frame belongs to the pool that made it");
        // SAFETY: the pool (ids are equal, and unique) only makes frames with `slot < count`, and
        // `new` was promised `count` slots behind `base`.
        unsafe { self.base.add((frame.slot as usize) << self.shift) }
    }
}

fn next_pool_id() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Wrapping round would make two pools believe in each other's frames.
    NEXT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
        .expect("fewer than 2^32 pools")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    const FRAME_SIZE: usize = 64;
    const COUNT: u8 = 4;

    /// A pool on the heap, freed with it.
    struct Heap {
        pool: FramePool,
        memory: *mut [u8],
    }

    impl Heap {
        fn new() -> (Self, Vec<Frame>) {
            let memory = Box::into_raw(Box::new([0u8; FRAME_SIZE * COUNT as usize]) as Box<[u8]>);
            let base = NonNull::new(memory.cast::<u8>()).unwrap();
            // SAFETY: the box is that long, zeroed, and freed only after the pool's last use.
            let (pool, frames) = unsafe { FramePool::new(base, COUNT.into(), 64) };
            (Self { pool, memory }, frames)
        }
    }

    impl Drop for Heap {
        fn drop(&mut self) {
            // SAFETY: it came from `Box::into_raw` and no slice into it is left.
            drop(unsafe { Box::from_raw(self.memory) });
        }
    }

    #[test]
    fn frames_are_disjoint_and_cover_the_memory() {
        let (heap, mut frames) = Heap::new();
        for (i, frame) in (1..).zip(&mut frames) {
            heap.pool.octets_mut(frame).fill(i);
        }
        for (i, frame) in (1..).zip(&frames) {
            assert_eq!(heap.pool.octets(frame), [i; FRAME_SIZE]);
        }
        assert_eq!(frames.len(), usize::from(COUNT));
    }

    #[test]
    fn one_frame_is_read_while_another_is_written() {
        let (heap, mut frames) = Heap::new();
        let mut reply = frames.pop().unwrap();
        let request = frames.pop().unwrap();
        let text = heap.pool.octets(&request);
        let out = heap.pool.octets_mut(&mut reply);
        out.copy_from_slice(text);
        out[0] = 7;
        assert_eq!(text[0], 0);
    }

    #[test]
    fn a_lent_frame_comes_back_from_any_address_inside_it() {
        let (heap, mut frames) = Heap::new();
        heap.pool.octets_mut(&mut frames[2])[0] = 9;
        let addr = heap.pool.lend(frames.remove(2));
        assert_eq!(addr, 2 * FRAME_SIZE as u64);
        // SAFETY: the frame was lent above, and there is no kernel here to use it.
        let frame = unsafe { heap.pool.reclaim(addr + FRAME_SIZE as u64 - 1) };
        assert_eq!(heap.pool.octets(&frame)[0], 9);
    }

    #[test]
    #[should_panic(expected = "belongs to the pool that made it")]
    fn another_pools_frame_is_refused() {
        let (heap, _frames) = Heap::new();
        let (_other, frames) = Heap::new();
        heap.pool.octets(&frames[0]);
    }

    #[test]
    #[should_panic(expected = "inside the UMEM")]
    fn an_address_past_the_end_is_refused() {
        let (heap, _frames) = Heap::new();
        // SAFETY: it panics before it makes a frame.
        let _ = unsafe { heap.pool.reclaim(FRAME_SIZE as u64 * u64::from(COUNT)) };
    }
}
