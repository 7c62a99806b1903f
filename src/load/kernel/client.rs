//! The generator on kernel sockets.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use anyhow::Context;

use super::socket::{connect, is_connected};
use super::table::{Handler, SockConn, Table};
use super::{Clock, NAP, Thread};
use crate::base::Instant;
use crate::load::{Control, ErrorKind, Generator, Open, Opener, Plan, Profile};
use crate::tcp::CloseReason;

/// Runs one worker's share of `plan` until it is over.
///
/// # Errors
///
/// When epoll cannot be used; what happens to connections is in the results.
pub fn run_client(
    plan: &Arc<Plan>,
    control: &Arc<Control>,
    clock: Clock,
    worker: u16,
    thread: Thread,
) -> anyhow::Result<()> {
    let slots = plan.share(worker) as usize;
    let table = Table::new(slots, clock).context("cannot make an epoll")?;
    let mut generator = Generator::new(Arc::clone(plan), Arc::clone(control), worker, clock.now());
    let mut sockets = Sockets {
        table,
        fresh: Vec::new(),
        begun: vec![Instant::ZERO; slots],
        now: clock.now(),
        // One short request needs no waiting for acknowledgments, so Nagle's algorithm cannot delay it.
        nodelay: plan.workload.profile != Profile::Crr,
        misses: 0,
    };
    let mut check_at = Instant::ZERO;
    while !generator.is_done() {
        let now = clock.now();
        sockets.now = now;
        if now >= check_at {
            check_at = now + NAP;
            let Sockets { table, begun, .. } = &mut sockets;
            table.end_unconnected(|slot| begun[slot as usize] + plan.connect_timeout <= now);
        }
        loop {
            generator.pump(sockets.now, &mut sockets);
            sockets.welcome(&mut generator);
            if !sockets.table.bury(&mut generator, |_| {}) {
                break;
            }
        }
        let timeout =
            if thread.spin { Duration::ZERO } else { generator.deadline().since(clock.now()).min(NAP) };
        sockets.table.turn(timeout, &mut generator).context("cannot wait in epoll")?;
        sockets.table.bury(&mut generator, |_| {});
    }
    Ok(())
}

struct Sockets {
    table: Table,
    /// Sockets that are connecting and not yet registered.
    fresh: Vec<u32>,
    begun: Vec<Instant>,
    now: Instant,
    nodelay: bool,
    /// How often in a row a handshake was not over at once.
    misses: u32,
}

/// After so many misses the path is a long one, and asking is a waste.
const MISSES_MAX: u32 = 256;

impl Sockets {
    /// Registers what the generator has opened, and tells of handshakes that are over already.
    fn welcome(&mut self, generator: &mut Generator) {
        let mut fresh = std::mem::take(&mut self.fresh);
        for slot in fresh.drain(..) {
            if self.misses < MISSES_MAX {
                let is_open = self.table.fd(slot).is_some_and(is_connected);
                self.misses = if is_open { 0 } else { self.misses + 1 };
                if is_open {
                    self.table.connected(slot, generator);
                }
            }
            self.table.register(slot);
        }
        self.fresh = fresh;
    }
}

impl Opener for Sockets {
    type Conn<'a> = SockConn<'a>;

    fn open(&mut self, slot: u32, open: &Open) -> Result<(), ErrorKind> {
        let fd = connect(open, self.nodelay)?;
        self.table.insert(slot, fd);
        self.begun[slot as usize] = self.now;
        self.fresh.push(slot);
        Ok(())
    }

    fn conn(&mut self, slot: u32) -> Option<SockConn<'_>> {
        self.table.conn(slot)
    }
}

impl Handler for Generator {
    fn on_connected(&mut self, slot: u32, now: Instant, conn: &mut SockConn<'_>) {
        self.on_open(slot, now, conn);
    }

    fn on_data(&mut self, slot: u32, now: Instant, data: &[u8], conn: &mut SockConn<'_>) -> usize {
        Self::on_data(self, slot, now, data, conn);
        data.len()
    }

    fn on_fin(&mut self, slot: u32, now: Instant, conn: &mut SockConn<'_>) {
        Self::on_fin(self, slot, now, conn);
    }

    fn on_writable(&mut self, slot: u32, now: Instant, conn: &mut SockConn<'_>) {
        Self::on_writable(self, slot, now, conn);
    }

    fn on_closed(&mut self, slot: u32, now: Instant, why: CloseReason) {
        Self::on_closed(self, slot, now, why);
    }
}
