//! The allocator of the `ringroad` command, with a count of what it was asked for.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicU64, Ordering};

use ringroad::io::HugePages;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations so far, all threads together; growing one counts.
pub fn count() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

struct Counting;

// SAFETY: every call is passed on to another allocator, unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc`'s contract, which is the same here.
        unsafe { HugePages.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the same here.
        unsafe { HugePages.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        // SAFETY: `octets` came from `HugePages` with this layout.
        unsafe { HugePages.dealloc(octets, layout) }
    }

    unsafe fn realloc(&self, octets: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: `octets` came from `HugePages` with this layout, and the caller keeps the rest.
        unsafe { HugePages.realloc(octets, layout, new_size) }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_allocation_and_its_growth_are_counted() {
        let before = super::count();
        let mut octets: Vec<u8> = std::hint::black_box(Vec::with_capacity(10));
        octets.resize(1_000, 1);
        std::hint::black_box(&octets);
        // Other tests allocate at the same time.
        assert!(super::count() >= before + 2);
    }
}
