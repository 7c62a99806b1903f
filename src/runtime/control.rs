//! What other threads may say to a worker.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::vec::Vec;

use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::RunError;
use super::hand_over::Inbox;
use crate::wire::Mac;

/// Neighbours that wait to be told, or asked for, at most: they change rarely.
const NEIGHBOURS_MAX: usize = 1_024;
/// Frames that wait for a worker at most.
const INBOX_FRAMES: usize = 1_024;

/// One worker's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    /// Set with every message, and cleared when they are read: the one word a busy worker looks at.
    news: AtomicBool,
    woken: AtomicBool,
    stop: AtomicBool,
    /// The worker has nothing left to do but to hand frames over.
    left: AtomicBool,
    /// Only a worker that sleeps is to be woken by a system call.
    asleep: AtomicBool,
    /// Neighbours that the kernel has resolved.
    pub neighbours: ArrayQueue<(IpAddr, Mac)>,
    /// Neighbours that the worker wants resolved.
    pub wanted: ArrayQueue<IpAddr>,
    pub inbox: Inbox,
    event: EventFd,
}

/// What a worker finds in its mailbox besides neighbours and frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub woken: bool,
    pub stop: bool,
}

impl Mailbox {
    /// A mailbox for frames of up to `frame_len` octets.
    pub fn new(frame_len: usize) -> Result<Self, RunError> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| RunError::Os { action: "make an eventfd", source: errno.into() })?;
        Ok(Self {
            news: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            left: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
            neighbours: ArrayQueue::new(NEIGHBOURS_MAX),
            wanted: ArrayQueue::new(NEIGHBOURS_MAX),
            inbox: Inbox::new(INBOX_FRAMES, frame_len),
            event,
        })
    }

    fn notify(&self) {
        self.news.store(true, Ordering::Release);
        self.rouse();
    }

    /// Wakes the worker if it sleeps.
    pub fn rouse(&self) {
        // Together with the fence in `begin_sleep`: either it sees what was said, or we see it asleep.
        fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::Relaxed) {
            // It fails only when the counter is full, and then the worker is being woken anyway.
            let _ = self.event.write(1);
        }
    }

    pub fn tell_neighbour(&self, addr: IpAddr, mac: Mac) {
        // What a full queue loses is asked for again when a connection needs it.
        let _ = self.neighbours.push((addr, mac));
        self.notify();
    }

    /// Reads what was said since the last look; `None`, for the price of one load, when nothing was.
    pub fn look(&self) -> Option<News> {
        if !self.news.load(Ordering::Relaxed) {
            return None;
        }
        self.news.swap(false, Ordering::AcqRel);
        Some(News {
            woken: self.woken.swap(false, Ordering::AcqRel),
            stop: self.stop.load(Ordering::Acquire),
        })
    }

    /// Announces that the worker is about to sleep; `false` when there is news, so that it must not.
    pub fn begin_sleep(&self) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let quiet = !self.news.load(Ordering::Relaxed) && self.inbox.is_empty();
        if !quiet {
            self.asleep.store(false, Ordering::Relaxed);
        }
        quiet
    }

    /// The worker is awake.
    pub fn end_sleep(&self) {
        self.asleep.store(false, Ordering::Relaxed);
        // Empty already when it was not this that woke it.
        let _ = self.event.read();
    }

    pub fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// A handle to running workers, for other threads.
#[derive(Clone, Debug)]
pub struct Handle {
    pub(super) mailboxes: Arc<Vec<Mailbox>>,
}

impl Handle {
    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        u16::try_from(self.mailboxes.len()).expect("workers are counted in 16 bits")
    }

    /// Has the worker call [`crate::stack::App::on_wake`] soon; several calls may make one callback.
    ///
    /// # Panics
    ///
    /// When there is no such worker.
    pub fn wake(&self, worker: u16) {
        let mailbox = &self.mailboxes[usize::from(worker)];
        mailbox.woken.store(true, Ordering::Release);
        mailbox.notify();
    }

    /// `worker` needs the others no more.
    ///
    /// # Panics
    ///
    /// When there is no such worker.
    pub(super) fn leave(&self, worker: u16) {
        self.mailboxes[usize::from(worker)].left.store(true, Ordering::Release);
        self.mailboxes.iter().for_each(Mailbox::notify);
    }

    /// Whether no worker needs another any more.
    pub(super) fn have_all_left(&self) -> bool {
        self.mailboxes.iter().all(|mailbox| mailbox.left.load(Ordering::Acquire))
    }

    /// Asks every worker to drain and end.
    pub fn stop(&self) {
        for mailbox in self.mailboxes.iter() {
            mailbox.stop.store(true, Ordering::Release);
            mailbox.notify();
        }
    }
}
