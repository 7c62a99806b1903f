//! Frames of one interface by way of an AF_PACKET socket, beside the kernel's own stack: what `ringroad lab` forwards with.
//!
//! Receiving copies no frame into user space by a system call: the kernel writes frames into a ring that both
//! map (packet(7), PACKET_RX_RING, TPACKET_V2). Sending takes one system call for many frames and passes by the
//! queueing discipline.

use std::ffi::c_int;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// What a ring takes, whatever its frames: 8,192 of the customary MTU, or 8 ms at a million frames a second.
const RING_LEN: usize = 16 << 20;
/// Room before a frame in its slot: the kernel's header, an address, and alignment.
const HEADROOM: usize = 128;

/// A socket bound to one interface.
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
    ring: Ring,
    next: usize,
}

/// A frame where the kernel has put it.
#[derive(Debug)]
pub struct Received<'a> {
    /// When it came, since 1970 on the clock of the system.
    pub at: Duration,
    /// Its octets.
    pub octets: &'a [u8],
}

impl PacketSocket {
    /// Frames that one call of [`PacketSocket::send`] sends at most.
    pub const SEND_MAX: usize = 64;

    /// Opens the interface `index` of the calling thread's network namespace, for frames of up to `frame_len_max`
    /// octets, link header included.
    ///
    /// # Errors
    ///
    /// Without CAP_NET_RAW, without such an interface, or when there is no memory.
    pub fn open(index: u32, frame_len_max: usize) -> io::Result<Self> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no pointer; the result is checked. Protocol 0: nothing is received before the bind below.
        let fd = check(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
        // SAFETY: the descriptor was just opened, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let version = libc::tpacket_versions::TPACKET_V2 as c_int;
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_VERSION, &version)?;
        let one: c_int = 1;
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &one)?;
        set(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &one)?;
        let ring = Ring::new(fd.as_fd(), frame_len_max)?;
        bind(fd.as_fd(), index)?;
        Ok(Self { fd, ring, next: 0 })
    }

    /// Calls `take` with the frames that have come, `budget` at most; returns how many there were.
    pub fn receive(&mut self, budget: usize, mut take: impl FnMut(Received<'_>)) -> usize {
        for received in 0..budget {
            let slot = self.ring.slot(self.next);
            if slot.status().load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
                return received;
            }
            take(slot.frame());
            slot.status().store(libc::TP_STATUS_KERNEL, Ordering::Release);
            self.next = (self.next + 1) % self.ring.slots;
        }
        budget
    }

    /// Sends `frames` in their order, [`PacketSocket::SEND_MAX`] at most; returns how many were sent.
    ///
    /// # Errors
    ///
    /// Why the first of them was not: ENOBUFS when the far end has no room.
    pub fn send(&self, frames: &[Vec<u8>]) -> io::Result<usize> {
        let mut parts = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; Self::SEND_MAX];
        // SAFETY: all of its fields are integers or pointers, for which zero is a value.
        let mut messages: [libc::mmsghdr; Self::SEND_MAX] = unsafe { std::mem::zeroed() };
        let count = frames.len().min(Self::SEND_MAX);
        for ((frame, part), message) in frames.iter().zip(&mut parts).zip(&mut messages) {
            *part = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
            message.msg_hdr.msg_iov = part;
            message.msg_hdr.msg_iovlen = 1;
        }
        let messages = messages.as_mut_ptr();
        let len = libc::c_uint::try_from(count).expect("a small constant");
        // SAFETY: `count` messages, each with one part of octets that are borrowed until this function returns, and
        // that the kernel only reads; no address, no control data.
        let sent = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), messages, len, 0) };
        Ok(usize::try_from(check(sent)?).expect("not negative"))
    }

    /// How many frames found the ring full since this was last asked.
    ///
    /// # Errors
    ///
    /// Never, on a kernel that has such sockets.
    pub fn take_missed(&self) -> io::Result<u32> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = libc::socklen_t::try_from(size_of_val(&stats)).expect("eight octets");
        let (fd, value) = (self.fd.as_raw_fd(), &raw mut stats);
        // SAFETY: `value` points to `len` octets that live through the call.
        check(unsafe {
            libc::getsockopt(fd, libc::SOL_PACKET, libc::PACKET_STATISTICS, value.cast(), &raw mut len)
        })?;
        Ok(stats.tp_drops)
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Memory that the kernel writes frames to, in slots of one length.
#[derive(Debug)]
struct Ring {
    memory: NonNull<u8>,
    slot_len: usize,
    slots: usize,
}

// SAFETY: the mapping belongs to this value alone and to no thread in particular.
unsafe impl Send for Ring {}

impl Ring {
    fn new(fd: BorrowedFd<'_>, frame_len_max: usize) -> io::Result<Self> {
        const BLOCK_LEN: usize = 1 << 17;
        let slot_len = (frame_len_max + HEADROOM).next_power_of_two();
        let (block_len, slots) = (BLOCK_LEN.max(slot_len), RING_LEN / slot_len);
        let number = |n| libc::c_uint::try_from(n).map_err(|_| io::ErrorKind::InvalidInput);
        let request = libc::tpacket_req {
            tp_block_size: number(block_len)?,
            tp_block_nr: number(RING_LEN / block_len)?,
            tp_frame_size: number(slot_len)?,
            tp_frame_nr: number(slots)?,
        };
        set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice; the result is checked.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), RING_LEN, protection, libc::MAP_SHARED, fd.as_raw_fd(), 0) };
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let memory = NonNull::new(memory.cast()).expect("a mapping is not at zero");
        Ok(Self { memory, slot_len, slots })
    }

    fn slot(&self, number: usize) -> Slot<'_> {
        assert!(number < self.slots, "the ring has {} slots", self.slots);
        // SAFETY: slots lie one behind the other, since their length divides that of a block, and `number` is one
        // of them: it is inside the mapping.
        let at = unsafe { self.memory.add(number * self.slot_len) };
        Slot { at, len: self.slot_len, ring: PhantomData }
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this length, and every `Slot` borrows the ring.
        unsafe { libc::munmap(self.memory.as_ptr().cast(), RING_LEN) };
    }
}

/// One slot of a ring, and for how long it is there.
#[derive(Clone, Copy)]
struct Slot<'a> {
    at: NonNull<u8>,
    len: usize,
    ring: PhantomData<&'a Ring>,
}

impl<'a> Slot<'a> {
    /// Whose it is: the first word of the kernel's header.
    fn status(self) -> &'a AtomicU32 {
        // SAFETY: a slot begins at a multiple of its length, so the word is aligned, and is mapped as long as the
        // ring is there; both sides use it as an atomic word only.
        unsafe { AtomicU32::from_ptr(self.at.as_ptr().cast()) }
    }

    /// The frame of a slot that is ours; empty if it was longer than the slot.
    fn frame(self) -> Received<'a> {
        // SAFETY: the kernel has written its header there before it gave the slot to us, and slots are aligned
        // and longer than that.
        let header = unsafe { self.at.cast::<libc::tpacket2_hdr>().read() };
        let (from, len) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
        let is_whole = header.tp_len == header.tp_snaplen && from + len <= self.len;
        let len = if is_whole { len } else { 0 };
        // SAFETY: `from` and `len` lie inside the slot, as was just checked (an empty slice before its end
        // otherwise), and the kernel does not write to it before its status is changed again.
        let octets = unsafe { slice::from_raw_parts(self.at.as_ptr().wrapping_add(from), len) };
        Received { at: Duration::new(header.tp_sec.into(), header.tp_nsec), octets }
    }
}

fn bind(fd: BorrowedFd<'_>, index: u32) -> io::Result<()> {
    let word = |number: c_int| u16::try_from(number).expect("the kernel gives it sixteen bits");
    let address = libc::sockaddr_ll {
        sll_family: word(libc::AF_PACKET),
        sll_protocol: word(libc::ETH_P_ALL).to_be(),
        sll_ifindex: c_int::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = libc::socklen_t::try_from(size_of_val(&address)).expect("twenty octets");
    let address = &raw const address;
    // SAFETY: `address` points to `len` octets that live through the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.cast(), len) }).map(drop)
}

fn set<T>(fd: BorrowedFd<'_>, level: c_int, name: c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("a small structure");
    let value = ptr::from_ref(value);
    // SAFETY: `value` points to `len` octets that live through the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), len) }).map(drop)
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
