//! Socket options and system calls on an AF_XDP socket that the ring library does not offer.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;
use std::time::Duration;

/// SOL_XDP option: frames that one `sendto` may take from the TX ring in copy mode.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

/// Whether the socket obtained zero-copy.
pub(super) fn is_zero_copy(fd: BorrowedFd<'_>) -> io::Result<bool> {
    let mut options = libc::xdp_options { flags: 0 };
    let mut len = libc::socklen_t::try_from(size_of_val(&options)).expect("four octets");
    let value = &raw mut options;
    // SAFETY: `value` points to `len` octets that live through the call.
    let result = unsafe {
        libc::getsockopt(fd.as_raw_fd(), libc::SOL_XDP, libc::XDP_OPTIONS, value.cast(), &raw mut len)
    };
    check(result)?;
    Ok(options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
}

/// Lets `octets` of sent frames wait for the far end to free them. The limit of the system applies
/// without CAP_NET_ADMIN.
pub(super) fn set_send_buffer(fd: BorrowedFd<'_>, octets: u32) -> io::Result<()> {
    let octets = c_int::try_from(octets).unwrap_or(c_int::MAX);
    set(fd, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, octets)
        .or_else(|_| set(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, octets))
}

/// Lets one `sendto` take `frames` from the TX ring; ENOPROTOOPT on kernels before 6.18.
pub(super) fn set_tx_budget(fd: BorrowedFd<'_>, frames: u32) -> io::Result<()> {
    set(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, c_int::try_from(frames).unwrap_or(c_int::MAX))
}

/// Lets system calls on the socket run the driver's poll function.
pub(super) fn set_busy_poll(fd: BorrowedFd<'_>) -> io::Result<()> {
    /// Frames that one call may take: a turn's.
    const BUDGET: c_int = 64;
    /// How long one call may poll, in microseconds: the kernel's documentation suggests 20.
    const BUSY_POLL_US: c_int = 20;
    set(fd, libc::SOL_SOCKET, libc::SO_PREFER_BUSY_POLL, 1)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL, BUSY_POLL_US)?;
    set(fd, libc::SOL_SOCKET, libc::SO_BUSY_POLL_BUDGET, BUDGET)
}

/// Makes the kernel look at the TX ring.
pub(super) fn kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no data and no address, so no pointer is followed.
    let result = unsafe { libc::sendto(fd.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the driver look at the fill ring.
pub(super) fn kick_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no room for data or an address, so no pointer is followed.
    let result = unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sleeps until one of two descriptors can be read, or until `timeout`. A signal ends it as well.
pub(super) fn wait_readable(fds: [Option<BorrowedFd<'_>>; 2], timeout: Duration) -> io::Result<[bool; 2]> {
    // A negative descriptor is passed over.
    let entry = |fd: Option<BorrowedFd<'_>>| libc::pollfd {
        fd: fd.map_or(-1, |fd| fd.as_raw_fd()),
        events: libc::POLLIN,
        revents: 0,
    };
    let mut entries = fds.map(entry);
    let time = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos()),
    };
    // SAFETY: two entries and a time that live through the call; no signal mask.
    let result = unsafe { libc::ppoll(entries.as_mut_ptr(), 2, &raw const time, ptr::null()) };
    match check(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        Err(_) => Ok([false; 2]),
        Ok(()) => Ok(entries.map(|entry| entry.revents != 0)),
    }
}

fn set(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: c_int) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of_val(&value)).expect("four octets");
    let value = &raw const value;
    // SAFETY: `value` points to `len` octets that live through the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), len) })
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
