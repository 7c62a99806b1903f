//! One engine on each of two pinned threads, on a real clock, joined by rings of frames.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant as WallClock};

use anyhow::{anyhow, ensure};
use ringroad::base::Instant;
use ringroad::io::memory::{WireRx, WireTx, across_threads};
use ringroad::stack::App;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::engine::{Args, Measured};
use crate::pair::{FRAME_LEN, Host, START, TIMER_BUDGET, probe_histogram};
use crate::workload::{self, Client, Progress, Server};

/// Nothing is done for so long only when something is wrong.
const STALLED: Duration = Duration::from_secs(10);

/// One end, and its thread's ends of both wires.
struct Side<A> {
    host: Host<A>,
    rx: WireRx,
    tx: WireTx,
    clock: WallClock,
}

impl<A: App> Side<A> {
    fn now(&self) -> Instant {
        START + self.clock.elapsed()
    }

    /// A batch arrives, if there is one, and what is due is done; says whether a batch was there.
    fn turn(&mut self) -> bool {
        let now = self.now();
        let Self { host: Host { engine, app }, rx, tx, .. } = self;
        let batch = rx.next_batch();
        if let Some(batch) = batch {
            engine.on_batch(now, batch, app, tx);
        }
        if engine.next_deadline().is_some_and(|at| at <= now) {
            engine.on_timers(now, TIMER_BUDGET, app, tx);
        }
        tx.flush();
        batch.is_some()
    }
}

/// Tells the other thread to end, however this one does.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a thread does when nothing has arrived: spins for a moment, then lets others run.
struct Idle {
    turns: u32,
    spins: u32,
}

impl Idle {
    /// Without a core of its own a spinning thread keeps the other from its work.
    const fn new(own_core: bool) -> Self {
        Self { turns: 0, spins: if own_core { 1_000 } else { 0 } }
    }

    fn after_turn(&mut self, busy: bool) {
        if busy {
            self.turns = 0;
        } else if self.turns < self.spins {
            self.turns += 1;
            std::hint::spin_loop();
        } else {
            thread::yield_now();
        }
    }
}

pub fn measure(args: &Args) -> anyhow::Result<Measured> {
    let (client, server) = workload::hosts(args.profile, args.connections)?;
    let frames = usize::try_from(args.batch)?;
    // Room for four segments of each connection, so that no SYN-ACK is ever without a frame.
    let batches = (usize::try_from(args.connections)? * 4 / frames).max(16);
    let (up_tx, up_rx) = across_threads(batches, frames, FRAME_LEN);
    let (down_tx, down_rx) = across_threads(batches, frames, FRAME_LEN);
    let clock = WallClock::now();
    let client = Side { host: client, rx: down_rx, tx: up_tx, clock };
    let server = Side { host: server, rx: up_rx, tx: down_tx, clock };
    let cores = own_cores();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let serving = scope.spawn(|| serve(server, cores.map(|cores| cores[1]), &stop));
        let asking = scope.spawn(|| ask(client, args, cores.map(|cores| cores[0]), &stop));
        let (client, seconds, progress) =
            asking.join().map_err(|_| anyhow!("the client's thread panicked"))??;
        let server = serving.join().map_err(|_| anyhow!("the server's thread panicked"))?;
        let probe_histogram = probe_histogram([&client.host.engine, &server.host.engine]);
        Ok(Measured { seconds, progress, probe_histogram, pinned: cores.is_some() })
    })
}

fn serve(mut side: Side<Server>, core: Option<usize>, stop: &AtomicBool) -> Side<Server> {
    let mut idle = Idle::new(pin(core));
    while !stop.load(Ordering::Relaxed) {
        let busy = side.turn();
        idle.after_turn(busy);
    }
    side
}

fn ask(
    mut side: Side<Client>,
    args: &Args,
    core: Option<usize>,
    stop: &AtomicBool,
) -> anyhow::Result<(Side<Client>, f64, Progress)> {
    let _stop = StopAtEnd(stop);
    let mut idle = Idle::new(pin(core));
    let now = side.now();
    side.host.engine.start(now, &mut side.host.app, &mut side.tx);
    run_for(&mut side, &mut idle, args, args.warm_up())?;
    let before = Progress::of(&side.host);
    let start = WallClock::now();
    run_for(&mut side, &mut idle, args, args.count())?;
    let seconds = start.elapsed().as_secs_f64();
    let progress = Progress::of(&side.host).since(&before);
    side.host.app.check()?;
    Ok((side, seconds, progress))
}

/// Turns until `count` more is done.
fn run_for(side: &mut Side<Client>, idle: &mut Idle, args: &Args, count: u64) -> anyhow::Result<()> {
    let done = |side: &Side<Client>| Progress::of(&side.host).done(args.profile);
    let until = done(side) + count;
    let (mut last, mut since) = (done(side), WallClock::now());
    while last < until {
        let busy = side.turn();
        idle.after_turn(busy);
        let now = done(side);
        if now > last {
            (last, since) = (now, WallClock::now());
        } else if !busy {
            ensure!(since.elapsed() < STALLED, "the two engines stopped making progress");
        }
    }
    Ok(())
}

/// A core for each thread, of those that this process may use; `None` when there are not two.
fn own_cores() -> Option<[usize; 2]> {
    let allowed = sched_getaffinity(None).ok()?;
    let mut cores = (0..CpuSet::MAX_CPU).filter(|&core| allowed.is_set(core));
    Some([cores.next()?, cores.next()?])
}

/// Keeps this thread on `core`; says whether it has one of its own now.
fn pin(core: Option<usize>) -> bool {
    let Some(core) = core else { return false };
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only).is_ok()
}
