//! The caller's memory: copied in and out, never kept.

use std::slice;

/// Copies `len` octets; none where the pointer is null.
///
/// # Safety
///
/// `from` is null or can be read for `len` octets.
pub unsafe fn read(from: *const u8, len: usize) -> Vec<u8> {
    if from.is_null() || len == 0 {
        return Vec::new();
    }
    // SAFETY: the caller vouches for `len` octets, and they are copied before this returns.
    let octets = unsafe { slice::from_raw_parts(from, len) };
    octets.to_vec()
}

/// Copies as much of `octets` as `room` allows; returns how much that was.
///
/// # Safety
///
/// `to` is null or can be written for `room` octets.
pub unsafe fn write(to: *mut u8, room: usize, octets: &[u8]) -> usize {
    let len = octets.len().min(room);
    if to.is_null() || len == 0 {
        return 0;
    }
    // SAFETY: the caller vouches for `room` octets, of which these are the first; the source is ours.
    unsafe { to.copy_from_nonoverlapping(octets.as_ptr(), len) };
    len
}

/// The value that a pointer leads to; `None` where it is null.
///
/// # Safety
///
/// `from` is null or leads to a `T` that can be read.
pub unsafe fn get<T: Copy>(from: *const T) -> Option<T> {
    if from.is_null() {
        return None;
    }
    // SAFETY: the caller vouches for it, aligned or not.
    Some(unsafe { from.read_unaligned() })
}

/// Puts a value where the pointer leads, unless it is null.
///
/// # Safety
///
/// `to` is null or leads to room for a `T`.
pub unsafe fn put<T>(to: *mut T, value: T) {
    if !to.is_null() {
        // SAFETY: the caller vouches for it, aligned or not.
        unsafe { to.write_unaligned(value) };
    }
}

/// Copies an array of `count` values.
///
/// # Safety
///
/// `from` is null or leads to `count` values that can be read.
pub unsafe fn array<T: Copy>(from: *const T, count: usize) -> Vec<T> {
    if from.is_null() || count == 0 {
        return Vec::new();
    }
    // SAFETY: the caller vouches for `count` values, and C aligns its arrays.
    let values = unsafe { slice::from_raw_parts(from, count) };
    values.to_vec()
}

/// Sets `errno`.
pub fn set_errno(number: i32) {
    // SAFETY: it returns where this thread's errno lies.
    let place = unsafe { libc::__errno_location() };
    // SAFETY: that place is this thread's for as long as it lives.
    unsafe { place.write(number) };
}

/// Closes a descriptor.
pub fn close(fd: i32) {
    // SAFETY: it keeps no pointer, and a number that is no descriptor does no harm.
    unsafe { libc::close(fd) };
}
