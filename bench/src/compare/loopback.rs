//! Short connections on the kernel's TCP over loopback: both ends in one thread, with epoll.
#![forbid(unsafe_code)]

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant as WallClock};

use anyhow::{Context, ensure};
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::io::{Errno, read, write};
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept_with, bind, connect, getsockname, listen, socket_with,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Run;
use crate::workload::MESSAGE;

/// Destination addresses: the ports in TIME-WAIT towards each are out of use for a minute.
const ADDRESSES: u8 = 64;
/// Descriptors that are no connection's: listeners, epoll, standard streams, and some to spare.
const OTHER_DESCRIPTORS: u64 = 128;
/// Connections begun in one turn, less than a listener's queue.
const OPENED_MAX: u32 = 256;
const BACKLOG: i32 = 4_096;
/// Nothing happens for so long only when something is wrong.
const STALLED: Duration = Duration::from_secs(5);

enum Role {
    Listener,
    Server,
    Client { asked: bool },
}

struct Loopback {
    epoll: OwnedFd,
    /// By descriptor.
    sockets: Vec<Option<(OwnedFd, Role)>>,
    listeners: Vec<SocketAddr>,
    next_listener: usize,
    open: u32,
    closed: u64,
}

/// Short connections, `connections` at a time or as many as there are descriptors for, for about `time`.
pub fn run(connections: u32, time: Duration) -> anyhow::Result<Run> {
    let connections = connections.min(room()?);
    let mut loopback = Loopback::new()?;
    loopback.run_for(connections, time / 10)?;
    let (before, start) = (loopback.closed, WallClock::now());
    loopback.run_for(connections, time)?;
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^53")]
    let closed = (loopback.closed - before) as f64;
    Ok(Run { connections, per_second: closed / start.elapsed().as_secs_f64() })
}

/// Connections whose both ends this process may have descriptors for, after asking for as many as it may.
fn room() -> anyhow::Result<u32> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).context("cannot raise the limit of open files")?;
    // No limit at all is more than enough.
    let descriptors = limit.maximum.unwrap_or(u64::from(u32::MAX));
    // A connection's next may be accepted before its last is closed at the server.
    let room = descriptors.saturating_sub(OTHER_DESCRIPTORS) / 3;
    ensure!(room > 0, "the limit of open files ({descriptors}) leaves no room for connections");
    Ok(u32::try_from(room).unwrap_or(u32::MAX))
}

impl Loopback {
    fn new() -> anyhow::Result<Self> {
        let mut loopback = Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            sockets: Vec::new(),
            listeners: Vec::new(),
            next_listener: 0,
            open: 0,
            closed: 0,
        };
        for n in 1..=ADDRESSES {
            let listener = tcp_socket()?;
            bind(&listener, &SocketAddrV4::new(Ipv4Addr::new(127, 82, 0, n), 0))?;
            listen(&listener, BACKLOG)?;
            loopback.listeners.push(getsockname(&listener)?.try_into()?);
            loopback.add(listener, Role::Listener, EventFlags::IN)?;
        }
        Ok(loopback)
    }

    fn run_for(&mut self, connections: u32, time: Duration) -> anyhow::Result<()> {
        let timeout = rustix::event::Timespec::try_from(STALLED)?;
        let start = WallClock::now();
        let mut events: Vec<Event> = Vec::with_capacity(512);
        while start.elapsed() < time {
            for _ in 0..OPENED_MAX.min(connections - self.open) {
                self.connect()?;
            }
            epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout))?;
            ensure!(!events.is_empty(), "the kernel stopped making progress");
            for event in events.drain(..) {
                self.on_event(usize::try_from(event.data.u64())?)?;
            }
        }
        Ok(())
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let to = self.listeners[self.next_listener];
        self.next_listener = (self.next_listener + 1) % self.listeners.len();
        let socket = tcp_socket()?;
        match connect(&socket, &to) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error).context("the kernel refuses to connect"),
        }
        self.open += 1;
        self.add(socket, Role::Client { asked: false }, EventFlags::IN | EventFlags::OUT | EventFlags::ET)
    }

    fn on_event(&mut self, at: usize) -> anyhow::Result<()> {
        // One that was closed in this very turn may still have an event.
        let Some((socket, role)) = self.sockets.get_mut(at).and_then(Option::as_mut) else { return Ok(()) };
        let mut text = [0; MESSAGE.len()];
        match role {
            Role::Listener => return self.accept(at),
            Role::Client { asked: false } => {
                let sent = write(&*socket, &MESSAGE).context("a connection failed")?;
                ensure!(sent == MESSAGE.len(), "no room for a request");
                *role = Role::Client { asked: true };
            }
            Role::Client { asked: true } => match read(&*socket, &mut text) {
                Ok(got) => {
                    ensure!(got == MESSAGE.len(), "a reply came in pieces: {got} octets");
                    self.sockets[at] = None;
                    self.open -= 1;
                    self.closed += 1;
                }
                // It became writable once more.
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error).context("a connection failed"),
            },
            Role::Server => match read(&*socket, &mut text).context("a connection failed")? {
                0 => self.sockets[at] = None,
                got => {
                    let sent = write(&*socket, &text[..got]).context("a connection failed")?;
                    ensure!(sent == got, "no room for a reply");
                }
            },
        }
        Ok(())
    }

    fn accept(&mut self, at: usize) -> anyhow::Result<()> {
        while let Some((listener, _)) = &self.sockets[at] {
            match accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(socket) => self.add(socket, Role::Server, EventFlags::IN)?,
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error).context("the kernel refuses to accept"),
            }
        }
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd, role: Role, events: EventFlags) -> anyhow::Result<()> {
        let at = usize::try_from(socket.as_raw_fd())?;
        epoll::add(&self.epoll, &socket, EventData::new_u64(at as u64), events)?;
        if at >= self.sockets.len() {
            self.sockets.resize_with(at + 1, || None);
        }
        self.sockets[at] = Some((socket, role));
        Ok(())
    }
}

fn tcp_socket() -> anyhow::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).context("cannot open a socket")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_and_go_over_loopback() {
        let run = run(5, Duration::from_millis(20)).expect("it runs");
        assert!(run.per_second > 0.0);
        assert_eq!(run.connections, 5);
    }
}
