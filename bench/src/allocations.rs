//! The allocator of the `ringroad` command, with a count of what it was asked for.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringroad::io::HugePages;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static HUGE_PAGES: AtomicBool = AtomicBool::new(true);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations so far, all threads together; growing one counts.
pub fn count() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// No huge pages are asked for from now on, as in a program that has the system's allocator.
pub fn use_small_pages() {
    HUGE_PAGES.store(false, Ordering::Relaxed);
}

struct Counting;

// SAFETY: every call is passed on to another allocator, unchanged. What `HugePages` allocates is the system's, so
// it does not matter which of the two frees it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if HUGE_PAGES.load(Ordering::Relaxed) {
            // SAFETY: the caller keeps `alloc`'s contract, which is the same here.
            unsafe { HugePages.alloc(layout) }
        } else {
            // SAFETY: likewise.
            unsafe { System.alloc(layout) }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if HUGE_PAGES.load(Ordering::Relaxed) {
            // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the same here.
            unsafe { HugePages.alloc_zeroed(layout) }
        } else {
            // SAFETY: likewise.
            unsafe { System.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        // SAFETY: `octets` came from `System` with this layout, directly or not.
        unsafe { System.dealloc(octets, layout) }
    }

    unsafe fn realloc(&self, octets: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        if HUGE_PAGES.load(Ordering::Relaxed) {
            // SAFETY: `octets` came from `System` with this layout, directly or not; the caller keeps the rest.
            unsafe { HugePages.realloc(octets, layout, new_size) }
        } else {
            // SAFETY: likewise.
            unsafe { System.realloc(octets, layout, new_size) }
        }
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
