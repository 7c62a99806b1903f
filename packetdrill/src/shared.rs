//! The stack as several threads see it: one at a time, and whoever has to wait really sleeps.
#![forbid(unsafe_code)]

use std::cell::Cell;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::errno::{Outcome, fail};
use crate::ops::{Done, Op};
use crate::settle::settle;
use crate::world::{Sent, World};

/// Readings of the clock between two looks at the other threads: while packetdrill spins on the clock, a
/// blocking call may be about to begin.
const READINGS: u64 = 64;
/// How long nobody may call while a call waits before it is up to the call to move the clock: real time.
const QUIET: Duration = Duration::from_secs(2);

thread_local! {
    /// When the call that this thread waited in was over, until it asks.
    static WOKEN_AT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// One interface that packetdrill was given.
#[derive(Debug)]
pub struct Shared {
    /// Gone once packetdrill has said `free`.
    world: Mutex<Option<World>>,
    changed: Condvar,
}

impl Shared {
    /// An interface to this stack.
    pub const fn new(world: World) -> Self {
        Self { world: Mutex::new(Some(world)), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Option<World>> {
        // A panic ends the process before anybody else gets here.
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something with the stack, and lets everybody see what follows.
    ///
    /// # Errors
    ///
    /// What `act` fails with, or EBADF after [`Shared::free`].
    pub fn with<T>(&self, act: impl FnOnce(&mut World) -> Outcome<T>) -> Outcome<T> {
        self.look(|world| {
            let result = act(world);
            world.serve_waiters();
            result
        })
    }

    /// As [`Shared::with`], where nothing follows that the stack's clock has not seen to.
    fn look<T>(&self, act: impl FnOnce(&mut World) -> Outcome<T>) -> Outcome<T> {
        let mut guard = self.lock();
        let Some(world) = guard.as_mut() else { return fail(libc::EBADF) };
        world.calls += 1;
        let result = act(world);
        drop(guard);
        self.changed.notify_all();
        result
    }

    /// Makes a call that may have to wait for up to `patience`; `None` has no end.
    ///
    /// # Errors
    ///
    /// What the call fails with; EINTR when nothing can end it.
    pub fn call(&self, op: Op, patience: Option<Duration>) -> Outcome<Done> {
        let mut op = Some(op);
        let parked = self.with(|world| {
            let mut tried = op.take().unwrap_or_default();
            match (world.attempt(&mut tried), patience) {
                (Some(result), _) => result.map(Ok),
                (None, Some(Duration::ZERO)) => tried.would_block().map(Ok),
                (None, _) => Ok(Err(world.park(tried, patience))),
            }
        });
        match parked? {
            Ok(done) => Ok(done),
            Err(id) => self.wait(id),
        }
    }

    fn wait(&self, id: u64) -> Outcome<Done> {
        let mut guard = self.lock();
        loop {
            let Some(world) = guard.as_mut() else { return fail(libc::EBADF) };
            if let Some((result, at_us)) = world.take_result(id) {
                WOKEN_AT.set(Some(at_us));
                return result;
            }
            let calls = world.calls;
            let (again, waited) =
                self.changed.wait_timeout(guard, QUIET).unwrap_or_else(PoisonError::into_inner);
            guard = again;
            let Some(world) = guard.as_mut() else { continue };
            if waited.timed_out() && world.calls == calls && !world.jump_to_result(id) {
                eprintln!("ringroad-packetdrill: a call waits for what nothing will bring");
                world.unpark(id);
                return fail(libc::EINTR);
            }
        }
    }

    /// `gettimeofday`: the instant at which a call woke up, or now, a microsecond on. Microseconds.
    ///
    /// # Errors
    ///
    /// EBADF after [`Shared::free`].
    pub fn clock(&self) -> Outcome<u64> {
        if let Some(at_us) = WOKEN_AT.take() {
            return Ok(at_us);
        }
        let readings = self.look(|world| {
            world.advance(1);
            Ok((world.calls, world.now_us()))
        });
        let (calls, now_us) = readings?;
        if calls % READINGS == 0 {
            settle();
        }
        Ok(now_us)
    }

    /// `usleep`.
    ///
    /// # Errors
    ///
    /// EBADF after [`Shared::free`].
    pub fn sleep(&self, us: u64) -> Outcome<()> {
        settle();
        self.with(|world| {
            world.advance(us);
            Ok(())
        })
    }

    /// `netdev_send`: a packet for the stack.
    ///
    /// # Errors
    ///
    /// EINVAL when it is neither IPv4 nor IPv6; EBADF after [`Shared::free`].
    pub fn inject(&self, packet: &[u8]) -> Outcome<()> {
        settle();
        self.with(|world| world.inject(packet))
    }

    /// `netdev_receive`: the next packet of the stack; `None` when nothing comes.
    ///
    /// # Errors
    ///
    /// EBADF after [`Shared::free`].
    pub fn next_sent(&self) -> Outcome<Option<Sent>> {
        settle();
        self.with(|world| Ok(world.next_sent()))
    }

    /// Nobody uses the stack any more; calls that wait fail.
    pub fn free(&self) {
        self.lock().take();
        self.changed.notify_all();
    }
}
