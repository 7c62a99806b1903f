//! The servers on kernel sockets.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;
use std::vec::Vec;

use anyhow::Context;
use rustix::io::Errno;
use rustix::net::SocketFlags;

use super::socket::listen;
use super::table::{Handler, SockConn, Table};
use super::{Clock, NAP, Thread};
use crate::base::Instant;
use crate::load::{Control, ServeApp, Service};
use crate::tcp::CloseReason;

/// One worker's listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    addr: SocketAddr,
}

impl Listener {
    /// Listens on `addr`; the workers of one server listen on the same one.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound, with what to do about it.
    pub fn bind(addr: SocketAddr) -> anyhow::Result<Self> {
        match listen(addr) {
            Ok((fd, addr)) => Ok(Self { fd, addr }),
            Err(Errno::ADDRINUSE) => {
                anyhow::bail!("{addr} is in use by another program; stop it or choose another port")
            }
            Err(Errno::ADDRNOTAVAIL) => {
                anyhow::bail!("{} is not an address of this machine; add it or choose another", addr.ip())
            }
            Err(Errno::ACCESS) => anyhow::bail!("port {} needs root; choose one above 1023", addr.port()),
            Err(errno) => Err(errno).with_context(|| std::format!("cannot listen on {addr}")),
        }
    }

    /// Chooses congestion control for the connections that it accepts, by the kernel's name.
    ///
    /// # Errors
    ///
    /// When the kernel has none of that name, or does not let this process use it.
    pub fn set_congestion(&self, name: &str) -> anyhow::Result<()> {
        rustix::net::sockopt::set_tcp_congestion(&self.fd, name).with_context(|| {
            std::format!("the kernel does not give {name}; see net.ipv4.tcp_available_congestion_control")
        })
    }

    /// Where it listens, with the port that was chosen where none was named.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }
}

/// Serves until `control` says to stop.
///
/// # Errors
///
/// When epoll cannot be used.
pub fn run_server(
    app: &ServeApp,
    listeners: &[Listener],
    slots: u32,
    control: &Control,
    thread: Thread,
) -> anyhow::Result<()> {
    let mut table = Table::new(slots as usize, Clock::start()).context("cannot make an epoll")?;
    for (number, listener) in (0..).zip(listeners) {
        table.watch_listener(number, &listener.fd).context("cannot watch a listening socket")?;
    }
    let mut service = Service::new(app.clone(), slots as usize);
    let mut vacant: Vec<u32> = (0..slots).rev().collect();
    let timeout = if thread.spin { Duration::ZERO } else { NAP };
    let mut put_off = Vec::with_capacity(listeners.len());
    while !control.is_stopped() {
        table.turn(timeout, &mut service).context("cannot wait in epoll")?;
        while let Some(number) = table.take_accepting().or_else(|| put_off.pop()) {
            if accept_all(&listeners[number], &mut table, &mut service, &mut vacant) {
                put_off.push(number);
                break;
            }
        }
        table.bury(&mut service, |slot| vacant.push(slot));
    }
    Ok(())
}

/// Accepts until none waits; `true` when that was put off because every slot is taken.
fn accept_all(listener: &Listener, table: &mut Table, service: &mut Service, vacant: &mut Vec<u32>) -> bool {
    while let Some(slot) = vacant.pop() {
        match rustix::net::accept_with(&listener.fd, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(fd) => {
                table.insert(slot, fd);
                table.connected(slot, service);
                // The request is often there by now, and a connection that ends with it is never registered.
                table.assume_readable(slot);
                table.read(slot, service);
                table.register(slot);
                table.bury(service, |slot| vacant.push(slot));
            }
            Err(errno) => {
                vacant.push(slot);
                // Without a free descriptor the rest waits in the backlog until some connection ends.
                return !matches!(errno, Errno::AGAIN);
            }
        }
    }
    true
}

impl Handler for Service {
    fn on_connected(&mut self, slot: u32, _now: Instant, conn: &mut SockConn<'_>) {
        self.on_accept(slot, conn);
    }

    fn on_data(&mut self, slot: u32, _now: Instant, data: &[u8], conn: &mut SockConn<'_>) -> usize {
        Self::on_data(self, slot, data, conn)
    }

    fn on_fin(&mut self, slot: u32, _now: Instant, conn: &mut SockConn<'_>) {
        Self::on_fin(self, slot, conn);
    }

    fn on_writable(&mut self, slot: u32, _now: Instant, conn: &mut SockConn<'_>) {
        Self::on_writable(self, slot, conn);
    }

    fn on_closed(&mut self, slot: u32, _now: Instant, _why: CloseReason) {
        Self::on_closed(self, slot);
    }
}
