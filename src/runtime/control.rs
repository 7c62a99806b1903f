//! What other threads may say to a worker.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::vec::Vec;

use crossbeam::queue::ArrayQueue;
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::RunError;
use super::flags::{Flags, News};
use super::hand_over::Inbox;
use crate::wire::Mac;

/// Neighbours that wait to be told, or asked for, at most: they change rarely.
const NEIGHBOURS_MAX: usize = 1_024;
/// Frames that wait for a worker at most.
const INBOX_FRAMES: usize = 1_024;

/// One worker's mailbox.
#[derive(Debug)]
pub(super) struct Mailbox {
    flags: Flags,
    /// Neighbours that the kernel has resolved.
    pub neighbours: ArrayQueue<(IpAddr, Mac)>,
    /// Neighbours that the worker wants resolved.
    pub wanted: ArrayQueue<IpAddr>,
    pub inbox: Inbox,
    event: EventFd,
}

impl Mailbox {
    /// A mailbox for frames of up to `frame_len` octets.
    pub fn new(frame_len: usize) -> Result<Self, RunError> {
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| RunError::Os { action: "make an eventfd", source: errno.into() })?;
        Ok(Self {
            flags: Flags::new(),
            neighbours: ArrayQueue::new(NEIGHBOURS_MAX),
            wanted: ArrayQueue::new(NEIGHBOURS_MAX),
            inbox: Inbox::new(INBOX_FRAMES, frame_len),
            event,
        })
    }

    /// Wakes the worker, who sleeps or is about to.
    fn rouse_if(&self, asleep: bool) {
        if asleep {
            // It fails only when the counter is full, and then the worker is being woken anyway.
            let _ = self.event.write(1);
        }
    }

    pub fn tell_neighbour(&self, addr: IpAddr, mac: Mac) {
        // What a full queue loses is asked for again when a connection needs it.
        let _ = self.neighbours.push((addr, mac));
        self.rouse_if(self.flags.tell());
    }

    /// Gives the worker a frame; `false` when there is no room.
    pub fn hand_over(&self, frame: &[u8]) -> bool {
        let taken = self.inbox.push(frame);
        self.rouse_if(self.flags.is_asleep());
        taken
    }

    /// Reads what was said since the last look, besides neighbours and frames; `None`, for the price of one load,
    /// when nothing was.
    pub fn look(&self) -> Option<News> {
        self.flags.look()
    }

    /// Announces that the worker is about to sleep; `false` when there is news, so that it must not.
    pub fn begin_sleep(&self) -> bool {
        self.flags.begin_sleep(|| self.inbox.is_empty())
    }

    /// The worker is awake.
    pub fn end_sleep(&self) {
        self.flags.end_sleep();
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
        mailbox.rouse_if(mailbox.flags.wake());
    }

    /// `worker` needs the others no more.
    ///
    /// # Panics
    ///
    /// When there is no such worker.
    pub(super) fn leave(&self, worker: u16) {
        self.mailboxes[usize::from(worker)].flags.leave();
        self.mailboxes.iter().for_each(|mailbox| mailbox.rouse_if(mailbox.flags.tell()));
    }

    /// Whether no worker needs another any more.
    pub(super) fn have_all_left(&self) -> bool {
        self.mailboxes.iter().all(|mailbox| mailbox.flags.has_left())
    }

    /// Asks every worker to drain and end.
    pub fn stop(&self) {
        for mailbox in self.mailboxes.iter() {
            mailbox.rouse_if(mailbox.flags.stop());
        }
    }
}
