//! The system's allocator, asking the kernel for huge pages where much is allocated at once.

use std::alloc::{GlobalAlloc, Layout, System};

/// Octets of a huge page, where these are not larger still.
const HUGE_PAGE: usize = 2 << 20;
/// Octets from which on an allocation has a huge page for certain, wherever it begins.
const LARGE: usize = 2 * HUGE_PAGE;

/// Allocates as [`System`] does, and allows huge pages for what is 4 MiB or more (`madvise(2)`,
/// `MADV_HUGEPAGE`).
///
/// An engine reads its tables in random order, and where these are some hundred MiB the processor has to look
/// for most pages in memory as well. Which allocator there is a program chooses, not this library:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: ringroad::io::HugePages = ringroad::io::HugePages;
/// ```
///
/// What it allocates is the system's, which may as well free it. Memory that nobody touched takes none, as before, but it is taken 2 MiB at a time. A kernel that has no
/// huge pages, or was told not to give any (`/sys/kernel/mm/transparent_hugepage/enabled`), gives small ones.
#[derive(Clone, Copy, Debug, Default)]
pub struct HugePages;

impl HugePages {
    /// Asks for huge pages wherever a whole one lies within the `size` octets.
    fn advise(octets: *mut u8, size: usize) {
        // Miri knows no advice.
        if octets.is_null() || size < LARGE || cfg!(miri) {
            return;
        }
        let start = octets.addr().next_multiple_of(HUGE_PAGE);
        let end = (octets.addr() + size) / HUGE_PAGE * HUGE_PAGE;
        // SAFETY: the range lies within one allocation, which is ours, and the advice changes no octet of it.
        // Whether the kernel follows it does not matter, so neither does what the call returns.
        unsafe { libc::madvise(octets.with_addr(start).cast(), end - start, libc::MADV_HUGEPAGE) };
    }
}

// SAFETY: every call is passed on to the system's allocator, unchanged; the advice touches no memory.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc`'s contract, which is the same here.
        let octets = unsafe { System.alloc(layout) };
        Self::advise(octets, layout.size());
        octets
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the same here.
        let octets = unsafe { System.alloc_zeroed(layout) };
        Self::advise(octets, layout.size());
        octets
    }

    unsafe fn dealloc(&self, octets: *mut u8, layout: Layout) {
        // SAFETY: `octets` came from `System` with this layout.
        unsafe { System.dealloc(octets, layout) }
    }

    unsafe fn realloc(&self, octets: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: `octets` came from `System` with this layout, and the caller keeps the rest.
        let octets = unsafe { System.realloc(octets, layout, new_size) };
        Self::advise(octets, new_size);
        octets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::string::String;

    /// What `/proc/self/smaps` says of the mapping that `address` lies in.
    fn mapping(address: usize) -> String {
        let maps = fs::read_to_string("/proc/self/smaps").expect("there is /proc");
        let is_head = |line: &str| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let [start, end] = [start, end].map(|text| usize::from_str_radix(text, 16));
            Some(start.ok()?..end.ok()?)
        };
        let mut here = false;
        maps.lines()
            .filter(|line| {
                here = is_head(line).map_or(here, |range| range.contains(&address));
                here
            })
            .fold(String::new(), |text, line| text + line + "\n")
    }

    fn is_advised(octets: *mut u8, at: usize) -> bool {
        let text = mapping(octets.addr() + at);
        let flags = text.lines().find_map(|line| line.strip_prefix("VmFlags: ")).expect("it is mapped");
        flags.split_whitespace().any(|flag| flag == "hg")
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size, 8).expect("a small alignment")
    }

    #[test]
    #[cfg_attr(miri, ignore = "there is no smaps")]
    fn what_is_large_asks_for_huge_pages() {
        for (size, zeroed) in [(8 * HUGE_PAGE, false), (8 * HUGE_PAGE, true), (LARGE, false), (LARGE, true)] {
            let layout = layout(size);
            let octets = if zeroed {
                // SAFETY: the layout is not empty.
                unsafe { HugePages.alloc_zeroed(layout) }
            } else {
                // SAFETY: the layout is not empty.
                unsafe { HugePages.alloc(layout) }
            };
            assert!(is_advised(octets, size / 2), "{size} octets, zeroed: {zeroed}");
            // SAFETY: `octets` came from there with this layout.
            unsafe { HugePages.dealloc(octets, layout) };
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "there is no smaps")]
    fn untouched_memory_takes_none() {
        let size = 512 * HUGE_PAGE;
        // SAFETY: the layout is not empty.
        let octets = unsafe { HugePages.alloc_zeroed(layout(size)) };
        let text = mapping(octets.addr() + size / 2);
        let resident = text.lines().find_map(|line| line.strip_prefix("Rss:")).expect("it is mapped");
        let kib: usize = resident.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        assert!(kib <= 2 * (HUGE_PAGE >> 10), "{text}");
        // SAFETY: `octets` came from there with this layout.
        unsafe { HugePages.dealloc(octets, layout(size)) };
    }

    #[test]
    fn what_grows_keeps_its_octets() {
        // SAFETY: the layout is not empty.
        let octets = unsafe { HugePages.alloc_zeroed(layout(LARGE)) };
        // SAFETY: `octets` has `LARGE` octets, as it came from there with this layout.
        let last = unsafe { octets.add(LARGE - 1) };
        // SAFETY: it is the last of those octets.
        unsafe { last.write(7) };
        // SAFETY: `octets` came from there with this layout.
        let octets = unsafe { HugePages.realloc(octets, layout(LARGE), 4 * LARGE) };
        // SAFETY: `octets` has four times as many now.
        let last = unsafe { octets.add(LARGE - 1) };
        // SAFETY: it was written before the allocation grew.
        assert_eq!(unsafe { last.read() }, 7);
        // SAFETY: `octets` came from there, and has this layout now.
        unsafe { HugePages.dealloc(octets, layout(4 * LARGE)) };
    }
}
