//! AF_XDP on one rx and tx queue of an interface: a UMEM with one socket, or with one for each direction.
//!
//! In copy mode it is two. For a frame that comes in natively the kernel writes a list node of its socket, which it
//! keeps in one cache line with what `sendto` reads of it for each frame, and on a veth pair it is the sender's CPU that
//! writes it. Seen with `perf` as two loads that took a twentieth of the time; they are gone where `sendto` has a socket to
//! itself.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::string::String;
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use xsk_rs::config::{BindFlags, Interface, LibxdpFlags, SocketConfig};
use xsk_rs::{CompQueue, FillQueue, RxQueue, Socket, TxQueue};

use super::burst::{RxBurst, RxSide, TxBurst, TxSide};
use super::umem::{self, Umem};
use super::{Attached, Nic, XdpError, XdpMode, sockopt};
use crate::io::FramePool;

/// How to open a [`Queue`].
#[derive(Clone, Copy, Debug)]
pub struct QueueOptions {
    /// The rx and tx queue, from 0.
    pub queue: u32,
    /// The mode asked for, the same as for the program.
    pub mode: XdpMode,
    /// Where the program was attached.
    pub attached: Attached,
    /// Frames to receive into, a power of two from 64 to 32768; see [`QueueOptions::new`].
    pub rx_frames: u32,
}

impl QueueOptions {
    /// Options with 4096 frames to receive into: at 600,000 frames a second, a worker that loses its
    /// core for 3 ms misses 1,800, and its peers catch up in bursts. Where nothing can take the
    /// core away 512 are 5 to 10 % faster, since they stay in the cache.
    pub const fn new(queue: u32, mode: XdpMode, attached: Attached) -> Self {
        Self { queue, mode, attached, rx_frames: 4096 }
    }
}

/// The sockets of one queue and their memory, for one worker.
#[derive(Debug)]
pub struct Queue {
    rx: RxSide,
    tx: TxSide,
    pool: FramePool,
    umem: xsk_rs::Umem,
    interface: String,
    queue: u32,
    mode: XdpMode,
    is_huge: bool,
    is_busy_polled: bool,
    calls: Calls,
}

/// System calls, and what they answered.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    sendto: u64,
    recvfrom: u64,
    again: u64,
    no_buffers: u64,
    busy: u64,
    net_down: u64,
}

/// What happened on a queue since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueStats {
    /// Frames taken from the RX ring.
    pub rx_frames: u64,
    /// Frames put in the TX ring.
    pub tx_frames: u64,
    /// Calls of `sendto` to make the kernel look at the TX ring.
    pub sendto: u64,
    /// Calls of `recvfrom` to make the driver look at the fill ring.
    pub recvfrom: u64,
    /// `sendto` answered EAGAIN: its budget was used, or the completion ring was full. Tried again.
    pub again: u64,
    /// `sendto` answered ENOBUFS: the send buffer or kernel memory was full. Tried again.
    pub no_buffers: u64,
    /// `sendto` answered EBUSY: the peer is down or its ring full. Frames were lost.
    pub busy: u64,
    /// `sendto` answered ENETDOWN: the interface is down. Tried again.
    pub net_down: u64,
    /// Frames of ours that the kernel dropped for other reasons than the next two.
    pub rx_dropped: u64,
    /// Frames of ours dropped because the RX ring was full.
    pub rx_ring_full: u64,
    /// Frames of ours dropped because the fill ring was empty.
    pub fill_ring_empty: u64,
    /// Descriptors that the kernel refused. Not zero is a fault of ours.
    pub invalid_descs: u64,
}

impl QueueStats {
    /// Each figure under the name that reports use.
    pub fn figures(&self) -> [(&'static str, u64); 12] {
        [
            ("xsk_rx_frames", self.rx_frames),
            ("xsk_tx_frames", self.tx_frames),
            ("xsk_sendto", self.sendto),
            ("xsk_recvfrom", self.recvfrom),
            ("xsk_again", self.again),
            ("xsk_no_buffers", self.no_buffers),
            ("xsk_busy", self.busy),
            ("xsk_net_down", self.net_down),
            ("xsk_rx_dropped", self.rx_dropped),
            ("xsk_rx_ring_full", self.rx_ring_full),
            ("xsk_fill_ring_empty", self.fill_ring_empty),
            ("xsk_invalid_descs", self.invalid_descs),
        ]
    }
}

/// Why [`Queue::wait`] returned; neither is set after the time is up, or for a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Woken {
    /// Frames have arrived.
    pub by_frames: bool,
    /// The descriptor given can be read.
    pub by_event: bool,
}

impl Queue {
    /// Opens the sockets of the queue, trying again for two seconds while the queue is in use: a
    /// driver frees one some time after the last socket was closed.
    ///
    /// It receives once it is given to [`super::Steering::set_xsk`].
    ///
    /// # Errors
    ///
    /// [`XdpError::NoSuchQueue`], [`XdpError::MtuTooLarge`], [`XdpError::QueueInUse`],
    /// [`XdpError::ZeroCopyUnsupported`], [`XdpError::LockedMemory`], [`XdpError::NotPermitted`].
    ///
    /// # Panics
    ///
    /// When `rx_frames` is not what its description says.
    pub fn open(nic: &Nic, options: QueueOptions) -> Result<Self, XdpError> {
        let frames = options.rx_frames;
        assert!(
            frames.is_power_of_two() && (64..=1 << 15).contains(&frames),
            "rings have sizes that are powers of two"
        );
        if options.queue >= nic.rx_queues.min(nic.tx_queues) {
            return Err(XdpError::NoSuchQueue {
                interface: nic.name.clone(),
                queue: options.queue,
                queues: nic.rx_queues.min(nic.tx_queues),
            });
        }
        match (options.mode, options.attached) {
            (XdpMode::Auto, Attached::Native) => match Self::open_as(nic, options, XdpMode::ZeroCopy) {
                Ok(queue) => Ok(queue),
                Err(error @ (XdpError::NotPermitted { .. } | XdpError::QueueInUse { .. })) => Err(error),
                Err(_) => Self::open_as(nic, options, XdpMode::Native),
            },
            (XdpMode::ZeroCopy, _) => Self::open_as(nic, options, XdpMode::ZeroCopy),
            (_, Attached::Native) => Self::open_as(nic, options, XdpMode::Native),
            (_, Attached::Generic) => Self::open_as(nic, options, XdpMode::Generic),
        }
    }

    fn open_as(nic: &Nic, options: QueueOptions, mode: XdpMode) -> Result<Self, XdpError> {
        let frame_size = umem::frame_size(nic.mtu, mode == XdpMode::ZeroCopy).ok_or_else(|| {
            XdpError::MtuTooLarge { interface: nic.name.clone(), mtu: nic.mtu, mtu_max: umem::MTU_MAX }
        })?;
        let (umem, rings) = bind_patiently(nic, options, mode, frame_size)?;
        let (tx, rx, fill, completion) = rings;
        let rx = RxSide::new(rx, fill, &umem.pool, umem.rx, nic.mtu);
        let tx = TxSide::new(tx, completion, umem.tx, nic.mtu);
        let mut queue = Self {
            rx,
            tx,
            pool: umem.pool,
            umem: umem.umem,
            interface: nic.name.clone(),
            queue: options.queue,
            mode,
            is_huge: umem.is_huge,
            is_busy_polled: false,
            calls: Calls::default(),
        };
        queue.set_up(frame_size, options.attached)?;
        Ok(queue)
    }

    /// Sets what is better set and not worth failing for, and asks which mode was obtained.
    fn set_up(&mut self, frame_size: u32, attached: Attached) -> Result<(), XdpError> {
        /// What the kernel accounts for a socket buffer beyond the frame it holds.
        const SKB_OVERHEAD: u32 = 1024;

        let fd = self.as_fd();
        for fd in [fd, self.tx_fd()] {
            // libxdp leaves it out, and a program started meanwhile would keep the queue as long as it runs.
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))
                .map_err(|errno| XdpError::os("keep the socket from other programs", errno.into()))?;
        }
        let is_zero_copy = sockopt::is_zero_copy(fd)
            .map_err(|source| XdpError::os("read the mode of the socket", source))?;
        // Without this, frames that the far end has not freed would use the buffer up. Refused or
        // cut, it means ENOBUFS sooner, which is counted.
        let _ = sockopt::set_send_buffer(self.tx_fd(), umem::TX_FRAMES * (frame_size + SKB_OVERHEAD));
        // Older kernels take 32 frames a call, and the rest the next time.
        let _ = sockopt::set_tx_budget(self.tx_fd(), umem::TX_FRAMES);
        // In copy mode there is no driver to poll: a frame comes in while its sender calls `sendto`.
        self.is_busy_polled = is_zero_copy && sockopt::set_busy_poll(fd).is_ok();
        self.mode = match (is_zero_copy, attached) {
            (true, _) => XdpMode::ZeroCopy,
            (false, Attached::Native) => XdpMode::Native,
            (false, Attached::Generic) => XdpMode::Generic,
        };
        Ok(())
    }

    /// The mode obtained; never [`XdpMode::Auto`].
    pub fn mode(&self) -> XdpMode {
        self.mode
    }

    /// The queue's number, from 0.
    pub fn index(&self) -> u32 {
        self.queue
    }

    /// Whether the frames are on huge pages.
    pub fn is_huge(&self) -> bool {
        self.is_huge
    }

    /// Whether the socket takes busy-poll options, as in zero-copy mode.
    pub fn is_busy_polled(&self) -> bool {
        self.is_busy_polled
    }

    /// Begins a turn: what has arrived, up to 64 frames, and where to write what is to be sent.
    ///
    /// Both may be used at once. Dropped, the second puts its frames in the TX ring; then comes
    /// [`Queue::flush`].
    pub fn turn(&mut self) -> (RxBurst<'_>, TxBurst<'_>) {
        let Self { rx, tx, pool, umem, .. } = self;
        (rx.receive(pool), TxBurst { side: tx, pool, umem })
    }

    /// Where to write what is to be sent beside a turn; then comes [`Queue::flush`].
    pub fn sending(&mut self) -> TxBurst<'_> {
        let Self { tx, pool, umem, .. } = self;
        TxBurst { side: tx, pool, umem }
    }

    /// Sends what is in the TX ring, with one system call at most, gives the frames received in this turn to the
    /// fill ring, and takes back sent ones.
    ///
    /// What the kernel does not take now stays in the ring for the next turn; it never spins.
    ///
    /// # Errors
    ///
    /// [`XdpError::InterfaceGone`], or [`XdpError::Os`] for what the kernel never answers.
    pub fn flush(&mut self) -> Result<(), XdpError> {
        if self.tx.is_pending && (self.mode != XdpMode::ZeroCopy || self.tx.ring.needs_wakeup()) {
            self.calls.sendto += 1;
            let answer = sockopt::kick_tx(self.tx_fd());
            self.tx.is_pending = self.is_left_over(answer)?;
        }
        self.rx.give_back(&self.pool);
        if self.rx.fill.needs_wakeup() {
            self.calls.recvfrom += 1;
            // Its answer says nothing that `sendto` or the rings do not say.
            let _ = sockopt::kick_rx(self.as_fd());
        }
        self.tx.reap(&self.pool);
        Ok(())
    }

    /// Asks the kernel whether the socket is still bound, which an idle queue does not find out.
    /// For once a second or so: it is a system call.
    ///
    /// # Errors
    ///
    /// [`XdpError::InterfaceGone`], and [`XdpError::InterfaceDown`], which may pass.
    pub fn check(&mut self) -> Result<(), XdpError> {
        let net_down = self.calls.net_down;
        let answer = sockopt::kick_tx(self.tx_fd());
        // A link that is down does not make frames where there are none.
        self.tx.is_pending &= self.is_left_over(answer)?;
        if self.calls.net_down > net_down {
            return Err(XdpError::InterfaceDown { interface: self.interface.clone() });
        }
        Ok(())
    }

    /// Whether frames may be left in the TX ring after `sendto` gave this answer.
    fn is_left_over(&mut self, answer: io::Result<()>) -> Result<bool, XdpError> {
        let Err(error) = answer else { return Ok(false) };
        let counter = match error.raw_os_error() {
            Some(libc::EAGAIN) => &mut self.calls.again,
            Some(libc::ENOBUFS) => &mut self.calls.no_buffers,
            Some(libc::EBUSY) => &mut self.calls.busy,
            Some(libc::ENETDOWN) => &mut self.calls.net_down,
            Some(libc::ENXIO) => return Err(XdpError::InterfaceGone { interface: self.interface.clone() }),
            _ => return Err(XdpError::os("send", error)),
        };
        *counter += 1;
        Ok(true)
    }

    /// Sleeps until frames arrive, `event` can be read, or `timeout` is over; no longer than a millisecond
    /// while there is something that the kernel has not taken yet.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`].
    pub fn wait(&self, timeout: Duration, event: Option<BorrowedFd<'_>>) -> Result<Woken, XdpError> {
        /// How soon a flush is tried again: the far end is full, or the link down.
        const TX_RETRY: Duration = Duration::from_millis(1);

        let timeout = if self.tx.is_pending { timeout.min(TX_RETRY) } else { timeout };
        let woken = sockopt::wait_readable([Some(self.as_fd()), event], timeout);
        let [by_frames, by_event] = woken.map_err(|source| XdpError::os("wait for frames", source))?;
        Ok(Woken { by_frames, by_event })
    }

    /// Counters of this end and of the kernel's.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`].
    pub fn stats(&self) -> Result<QueueStats, XdpError> {
        let failed = |source| XdpError::os("read the socket's statistics", source);
        let kernel = self.rx.ring.fd().xdp_statistics().map_err(failed)?;
        let sending = self.tx.ring.fd().xdp_statistics().map_err(failed)?;
        Ok(QueueStats {
            rx_frames: self.rx.received,
            tx_frames: self.tx.sent,
            sendto: self.calls.sendto,
            recvfrom: self.calls.recvfrom,
            again: self.calls.again,
            no_buffers: self.calls.no_buffers,
            busy: self.calls.busy,
            net_down: self.calls.net_down,
            rx_dropped: kernel.rx_dropped(),
            rx_ring_full: kernel.rx_ring_full(),
            fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            invalid_descs: kernel.rx_invalid_descs() + sending.tx_invalid_descs(),
        })
    }

    /// The socket that sends.
    fn tx_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: as for the one that receives.
        unsafe { BorrowedFd::borrow_raw(self.tx.ring.fd().as_raw_fd()) }
    }
}

/// The socket that receives.
impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring library closes the descriptor when the last of its rings is dropped, and
        // `self` has them all.
        unsafe { BorrowedFd::borrow_raw(self.rx.ring.fd().as_raw_fd()) }
    }
}

/// A queue is opened by one thread, inside the interface's namespace, and used by another.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Queue>();
    is_send::<super::Steering>();
};

/// Entries of a ring that nobody uses, which a socket has nevertheless.
const UNUSED: u32 = 1;

type Rings = (TxQueue, RxQueue, FillQueue, CompQueue);

/// Binds, and tries again while the queue is in use.
fn bind_patiently(
    nic: &Nic,
    options: QueueOptions,
    mode: XdpMode,
    frame_size: u32,
) -> Result<(Umem, Rings), XdpError> {
    /// Drivers were seen to take 40 to 130 ms.
    const PATIENCE: Duration = Duration::from_secs(2);
    const PAUSE: Duration = Duration::from_millis(50);

    let start = Instant::now();
    loop {
        // The memory is registered with the socket that is bound, so each trial has its own.
        let umem = Umem::new(frame_size, options.rx_frames)?;
        match bind(nic, options, mode, &umem.umem) {
            Ok(rings) => return Ok((umem, rings)),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) && start.elapsed() < PATIENCE => {
                thread::sleep(PAUSE);
            }
            Err(error) => return Err(bind_error(nic, options.queue, mode, error)),
        }
    }
}

fn bind(nic: &Nic, options: QueueOptions, mode: XdpMode, umem: &xsk_rs::Umem) -> io::Result<Rings> {
    let copy = if mode == XdpMode::ZeroCopy { BindFlags::XDP_ZEROCOPY } else { BindFlags::XDP_COPY };
    let several = if umem::is_jumbo(nic.mtu) { BindFlags::XDP_USE_SG } else { BindFlags::empty() };
    let name: Interface = nic.name.parse().map_err(io::Error::other)?;
    let open = |rx_entries, tx_entries| {
        let config = SocketConfig::builder()
            .rx_queue_size(umem::ring_size(rx_entries))
            .tx_queue_size(umem::ring_size(tx_entries))
            .libxdp_flags(LibxdpFlags::XSK_LIBXDP_FLAGS_INHIBIT_PROG_LOAD)
            .bind_flags(copy | several | BindFlags::XDP_USE_NEED_WAKEUP)
            .build();
        // SAFETY: the ring library loads no program.
        let created = unsafe { Socket::new(config, umem, &name, options.queue) };
        created.map_err(|error| umem::os_error(&error))
    };
    let rx_entries = umem::kernel_writes(options.rx_frames);
    let tx_entries = umem::kernel_reads(umem::TX_FRAMES);
    // Zero-copy must have one: the kernel sizes the batches of a driver by the TX ring of the UMEM's first socket, and
    // serves several one by one.
    let (tx, rx, rings) = if mode == XdpMode::ZeroCopy {
        open(rx_entries, tx_entries)?
    } else {
        let (_, rx, rings) = open(rx_entries, UNUSED)?;
        let (tx, _, others) = open(UNUSED, tx_entries)?;
        assert!(others.is_none(), "one queue has one fill and one completion ring");
        (tx, rx, rings)
    };
    let (fill, completion) = rings.expect("a UMEM's first socket gets its rings");
    Ok((tx, rx, fill, completion))
}

fn bind_error(nic: &Nic, queue: u32, mode: XdpMode, source: io::Error) -> XdpError {
    let interface = nic.name.clone();
    match source.raw_os_error() {
        Some(libc::EBUSY) => XdpError::QueueInUse { interface, queue },
        Some(libc::EOPNOTSUPP) if mode == XdpMode::ZeroCopy => XdpError::ZeroCopyUnsupported { interface },
        Some(libc::ENETDOWN) => XdpError::InterfaceDown { interface },
        Some(libc::ENODEV) => XdpError::NoSuchInterface { interface },
        _ => XdpError::os("bind an AF_XDP socket", source),
    }
}
