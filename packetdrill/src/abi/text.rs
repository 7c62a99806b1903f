//! Reading and writing: from and into one buffer or several.

use std::ffi::{c_int, c_void};

use libc::{iovec, msghdr, sockaddr, socklen_t};

use super::{User, answer, length, refuse};
use crate::errno::fail;
use crate::memory;
use crate::ops::{Done, Op};
use crate::shared::Shared;

/// What comes of a read, in the caller's buffers.
fn receive(user: User, fd: c_int, buffers: &[iovec], flags: c_int) -> (isize, Option<Done>) {
    const KNOWN: c_int =
        libc::MSG_PEEK | libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_TRUNC | libc::MSG_NOSIGNAL;
    let want = buffers.iter().map(|buffer| buffer.iov_len).fold(0, usize::saturating_add);
    let received = |shared: &Shared| {
        if flags & libc::MSG_OOB != 0 {
            // As Linux says where there is no urgent data.
            return fail(libc::EINVAL);
        }
        if flags & !KNOWN != 0 {
            return fail(libc::EOPNOTSUPP);
        }
        let (peek, all) = (flags & libc::MSG_PEEK != 0, flags & libc::MSG_WAITALL != 0);
        let now = flags & libc::MSG_DONTWAIT != 0;
        let patience = shared.with(|world| world.patience(fd, false, now))?;
        shared.call(Op::Read { fd, want, peek, all, text: Vec::new() }, patience)
    };
    let mut done = None;
    let value = answer(user, received, |read| {
        let value = length(read.value);
        done = Some(read);
        value
    });
    let mut text = done.as_ref().map_or(&[][..], |done| &done.text);
    if flags & libc::MSG_TRUNC != 0 {
        text = &[];
    }
    for buffer in buffers {
        // SAFETY: C's caller vouches for each buffer.
        let taken = unsafe { memory::write(buffer.iov_base.cast(), buffer.iov_len, text) };
        text = &text[taken..];
    }
    (value, done)
}

const fn one(buffer: *mut c_void, len: usize) -> [iovec; 1] {
    [iovec { iov_base: buffer, iov_len: len }]
}

/// `read`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn read(user: User, fd: c_int, buffer: *mut c_void, len: usize) -> isize {
    receive(user, fd, &one(buffer, len), 0).0
}

/// `readv`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn readv(user: User, fd: c_int, buffers: *const iovec, count: c_int) -> isize {
    // SAFETY: C's caller vouches for the array.
    let buffers = unsafe { memory::array(buffers, usize::try_from(count).unwrap_or(0)) };
    receive(user, fd, &buffers, 0).0
}

/// `recv`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn recv(user: User, fd: c_int, buffer: *mut c_void, len: usize, flags: c_int) -> isize {
    receive(user, fd, &one(buffer, len), flags).0
}

/// `recvfrom`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn recvfrom(
    user: User,
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    flags: c_int,
    _addr: *mut sockaddr,
    addr_len: *mut socklen_t,
) -> isize {
    let value = receive(user, fd, &one(buffer, len), flags).0;
    if value >= 0 {
        // SAFETY: C's caller vouches for it. A stream's text has no sender's address, as on Linux.
        unsafe { memory::put(addr_len, 0) };
    }
    value
}

/// `recvmsg`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn recvmsg(user: User, fd: c_int, message: *mut msghdr, flags: c_int) -> isize {
    // SAFETY: C's caller vouches for the header.
    let header = unsafe { memory::get(message) };
    let Some(header) = header else { return refuse(user, libc::EFAULT) };
    // SAFETY: the header vouches for the array.
    let buffers = unsafe { memory::array(header.msg_iov, header.msg_iovlen) };
    let value = receive(user, fd, &buffers, flags).0;
    if value >= 0 {
        let told = msghdr { msg_namelen: 0, msg_controllen: 0, msg_flags: 0, ..header };
        // SAFETY: it was read from there.
        unsafe { memory::put(message, told) };
    }
    value
}

fn transmit(user: User, fd: c_int, buffers: &[iovec], flags: c_int) -> isize {
    const KNOWN: c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL | libc::MSG_EOR;
    let mut text = Vec::new();
    for buffer in buffers {
        // SAFETY: C's caller vouches for each buffer.
        text.extend(unsafe { memory::read(buffer.iov_base.cast(), buffer.iov_len) });
    }
    let sent = |shared: &Shared| {
        if flags & !KNOWN != 0 {
            return fail(libc::EOPNOTSUPP);
        }
        let now = flags & libc::MSG_DONTWAIT != 0;
        let patience = shared.with(|world| world.patience(fd, true, now))?;
        shared.call(Op::Write { fd, text, done: 0 }, patience)
    };
    answer(user, sent, |done| length(done.value))
}

/// `write`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn write(user: User, fd: c_int, buffer: *const c_void, len: usize) -> isize {
    transmit(user, fd, &one(buffer.cast_mut(), len), 0)
}

/// `writev`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn writev(user: User, fd: c_int, buffers: *const iovec, count: c_int) -> isize {
    // SAFETY: C's caller vouches for the array.
    let buffers = unsafe { memory::array(buffers, usize::try_from(count).unwrap_or(0)) };
    transmit(user, fd, &buffers, 0)
}

/// `send`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn send(
    user: User,
    fd: c_int,
    buffer: *const c_void,
    len: usize,
    flags: c_int,
) -> isize {
    transmit(user, fd, &one(buffer.cast_mut(), len), flags)
}

/// `sendto`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn sendto(
    user: User,
    fd: c_int,
    buffer: *const c_void,
    len: usize,
    flags: c_int,
    _addr: *const sockaddr,
    _addr_len: socklen_t,
) -> isize {
    // The address of a stream's peer is what `connect` said, as on Linux.
    transmit(user, fd, &one(buffer.cast_mut(), len), flags)
}

/// `sendmsg`.
///
/// # Safety
///
/// As for the C library's.
pub unsafe extern "C" fn sendmsg(user: User, fd: c_int, message: *const msghdr, flags: c_int) -> isize {
    // SAFETY: C's caller vouches for the header.
    let header = unsafe { memory::get(message) };
    let Some(header) = header else { return refuse(user, libc::EFAULT) };
    if header.msg_controllen > 0 {
        return refuse(user, libc::EOPNOTSUPP);
    }
    // SAFETY: the header vouches for the array.
    let buffers = unsafe { memory::array(header.msg_iov, header.msg_iovlen) };
    transmit(user, fd, &buffers, flags)
}
