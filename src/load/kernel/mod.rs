//! The same generator and servers on the kernel's TCP: the baseline that ringroad is compared with.
//!
//! One thread per worker with an epoll of its own, edge-triggered. It makes as few system calls as it can:
//! a connection is registered once, and only when it outlives its first turn; reads end at a short read;
//! writes are tried before anyone waits for room.
#![forbid(unsafe_code)]

mod client;
mod server;
mod socket;
mod table;

pub use client::run_client;
pub use server::{Listener, run_server};
pub use socket::raise_file_limit;

use std::string::ToString;
use std::time::Duration;
use std::vec::Vec;

use crate::base::Instant;

/// Where a worker runs and what it does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// The CPU it is pinned to; `None` leaves it to the scheduler.
    pub cpu: Option<usize>,
    /// Asks epoll again and again instead of sleeping in it.
    pub spin: bool,
}

impl Thread {
    /// Pins the calling thread.
    fn pin(&self) -> anyhow::Result<()> {
        let Some(cpu) = self.cpu else { return Ok(()) };
        if !core_affinity::set_for_current(core_affinity::CoreId { id: cpu }) {
            anyhow::bail!("cannot run on CPU {cpu}; choose one that this process may use with --cpus");
        }
        Ok(())
    }
}

/// The clock of one run: nanoseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock(std::time::Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// The time now.
    pub fn now(&self) -> Instant {
        Instant::ZERO + self.0.elapsed()
    }
}

/// Runs `work` on one thread for each of `threads`, and gives back the first error.
///
/// # Errors
///
/// The first worker's that failed; all have ended by then.
pub fn on_threads(
    threads: &[Thread],
    work: impl Fn(u16, Thread) -> anyhow::Result<()> + Sync,
) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let run = |(worker, &thread): (u16, &Thread)| {
            let work = &work;
            std::thread::Builder::new().name(std::format!("worker-{worker}")).spawn_scoped(scope, move || {
                thread.pin()?;
                work(worker, thread)
            })
        };
        let handles: Vec<_> = (0..).zip(threads).map(run).collect();
        let mut outcome = Ok(());
        for handle in handles {
            let one = handle.map_err(anyhow::Error::from).and_then(|handle| {
                handle.join().unwrap_or_else(|panic| {
                    let text =
                        panic.downcast_ref::<&str>().map_or("it panicked".to_string(), ToString::to_string);
                    Err(anyhow::anyhow!("a worker ended unexpectedly: {text}"))
                })
            });
            outcome = outcome.and(one);
        }
        outcome
    })
}

/// Longest sleep in epoll, so that the wish to stop is noticed.
const NAP: Duration = Duration::from_millis(100);
