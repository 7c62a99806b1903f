//! What a worker is told by flags, and when it must be woken to see them: nobody sleeps through news.
//!
//! What it sleeps on lies with the caller, so that `tests/loom.rs` can try every order of these steps.
#![forbid(unsafe_code)]

#[cfg(all(loom, test))]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(all(loom, test)))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

/// The flags of one worker.
#[derive(Debug)]
pub(super) struct Flags {
    /// Set with every message, and cleared when they are read: the one word a busy worker looks at.
    news: AtomicBool,
    woken: AtomicBool,
    stop: AtomicBool,
    /// The worker has nothing left to do but to hand frames over.
    left: AtomicBool,
    /// Only a worker that sleeps is to be woken by a system call.
    asleep: AtomicBool,
}

/// What a worker finds in its flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub woken: bool,
    pub stop: bool,
}

impl Flags {
    pub fn new() -> Self {
        Self {
            news: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            left: AtomicBool::new(false),
            asleep: AtomicBool::new(false),
        }
    }

    /// The worker is to look at what was put before it; whether it must be woken for that.
    #[must_use]
    pub fn tell(&self) -> bool {
        // Not a store: whoever reads one sees what its writer said before, but with a swap also what those said
        // who told something just before that.
        self.news.swap(true, Ordering::Release);
        self.is_asleep()
    }

    /// Whether the worker must be woken to see what was put where `begin_sleep` looks.
    #[must_use]
    pub fn is_asleep(&self) -> bool {
        // Together with the fence in `begin_sleep`: either it sees what was said, or we see it asleep.
        fence(Ordering::SeqCst);
        self.asleep.load(Ordering::Relaxed)
    }

    /// The application is to be called; whether the worker must be woken for that.
    #[must_use]
    pub fn wake(&self) -> bool {
        self.woken.swap(true, Ordering::Release);
        self.tell()
    }

    /// The worker is to end; whether it must be woken for that.
    #[must_use]
    pub fn stop(&self) -> bool {
        self.stop.store(true, Ordering::Release);
        self.tell()
    }

    /// The worker needs the others no more.
    pub fn leave(&self) {
        self.left.store(true, Ordering::Release);
    }

    pub fn has_left(&self) -> bool {
        self.left.load(Ordering::Acquire)
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

    /// Announces that the worker is about to sleep; `false` when there is news, or when the rest of what it is
    /// woken for does not allow it, so that it must not.
    pub fn begin_sleep(&self, is_idle: impl FnOnce() -> bool) -> bool {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let quiet = !self.news.load(Ordering::Relaxed) && is_idle();
        if !quiet {
            self.asleep.store(false, Ordering::Relaxed);
        }
        quiet
    }

    /// The worker is awake.
    pub fn end_sleep(&self) {
        self.asleep.store(false, Ordering::Relaxed);
    }
}
