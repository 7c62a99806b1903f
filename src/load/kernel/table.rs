//! One worker's sockets: their place in epoll, and their events turned into callbacks.
#![forbid(unsafe_code)]

use std::os::fd::OwnedFd;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};

use super::Clock;
use super::socket::{pending_error, reason};
use crate::base::Instant;
use crate::load::Conn;
use crate::tcp::CloseReason;

/// What a worker does with its connections.
pub(super) trait Handler {
    fn on_connected(&mut self, slot: u32, now: Instant, conn: &mut SockConn<'_>);
    fn on_data(&mut self, slot: u32, now: Instant, data: &[u8], conn: &mut SockConn<'_>) -> usize;
    fn on_fin(&mut self, slot: u32, now: Instant, conn: &mut SockConn<'_>);
    fn on_writable(&mut self, slot: u32, now: Instant, conn: &mut SockConn<'_>);
    fn on_closed(&mut self, slot: u32, now: Instant, why: CloseReason);
}

/// Octets read at a time.
const READ: usize = 64 * 1024;
/// Reads, and octets sent, of one connection before the others have their turn.
const READS_PER_TURN: u32 = 16;
const SENT_PER_TURN: usize = 1 << 20;
/// Events taken from epoll at a time.
const EVENTS: usize = 256;
/// Tokens from here on are of what is not in the table: the listeners, by number. No generation of a slot
/// comes so far.
const LISTENERS: u64 = u64::MAX << 16;

/// The sockets of one worker, by slot.
pub(super) struct Table {
    epoll: OwnedFd,
    socks: Vec<Sock>,
    lists: Lists,
    buffer: Vec<u8>,
    /// Scratch that keeps its room from turn to turn.
    turn: Vec<u32>,
    events: Vec<epoll::Event>,
    clock: Clock,
}

/// Slots that need looking at after the callback that named them.
#[derive(Debug, Default)]
struct Lists {
    ended: Vec<u32>,
    again: Vec<u32>,
    /// Numbers of listeners, not slots.
    accepting: Vec<usize>,
}

#[derive(Debug, Default)]
struct Sock {
    fd: Option<OwnedFd>,
    generation: u32,
    connected: bool,
    /// What epoll tells of it; empty while it is not registered.
    interest: EventFlags,
    /// A send took less than it was given.
    blocked: bool,
    /// Data was left unconsumed, and nothing is read until `resume`.
    paused: bool,
    /// What was left unconsumed.
    rest: Vec<u8>,
    /// There may be more to read, and epoll will not say so again.
    readable: bool,
    hung_up: bool,
    fin: bool,
    sent_in_turn: usize,
    ending: Option<CloseReason>,
}

impl Table {
    /// A table of `slots`, all vacant.
    pub(super) fn new(slots: usize, clock: Clock) -> Result<Self, Errno> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            socks: (0..slots).map(|_| Sock::default()).collect(),
            lists: Lists::default(),
            buffer: vec![0; READ],
            turn: Vec::new(),
            events: Vec::with_capacity(EVENTS),
            clock,
        })
    }

    /// Has epoll report a listening socket; [`Table::take_accepting`] gives its number then.
    pub(super) fn watch_listener(&self, number: u16, fd: &OwnedFd) -> Result<(), Errno> {
        let token = EventData::new_u64(LISTENERS | u64::from(number));
        epoll::add(&self.epoll, fd, token, EventFlags::IN | EventFlags::ET)
    }

    /// A listener that has something to accept.
    pub(super) fn take_accepting(&mut self) -> Option<usize> {
        self.lists.accepting.pop()
    }

    /// Puts a socket into a vacant slot, not yet registered.
    pub(super) fn insert(&mut self, slot: u32, fd: OwnedFd) {
        let sock = &mut self.socks[slot as usize];
        let (generation, rest) = (sock.generation.wrapping_add(1), std::mem::take(&mut sock.rest));
        *sock = Sock { fd: Some(fd), generation, rest, ..Sock::default() };
    }

    /// The socket in `slot`.
    pub(super) fn fd(&self, slot: u32) -> Option<&OwnedFd> {
        self.socks[slot as usize].fd.as_ref()
    }

    /// The connection in `slot`, for calls from outside a callback.
    pub(super) fn conn(&mut self, slot: u32) -> Option<SockConn<'_>> {
        let Self { epoll, socks, lists, .. } = self;
        let sock = &mut socks[slot as usize];
        (sock.fd.is_some() && sock.ending.is_none()).then_some(SockConn { slot, sock, lists, epoll })
    }

    /// The handshake of `slot` is over.
    pub(super) fn connected<H: Handler>(&mut self, slot: u32, handler: &mut H) {
        self.socks[slot as usize].connected = true;
        let now = self.clock.now();
        self.with(slot, |conn| handler.on_connected(slot, now, conn));
    }

    /// Registers `slot` unless it ended already: for good, so that one call per connection suffices.
    pub(super) fn register(&mut self, slot: u32) {
        let sock = &mut self.socks[slot as usize];
        let (Some(fd), None) = (&sock.fd, sock.ending) else { return };
        let mut interest = EventFlags::IN | EventFlags::RDHUP | EventFlags::ET;
        if sock.blocked || !sock.connected {
            interest |= EventFlags::OUT;
        }
        sock.interest = interest;
        if let Err(errno) = epoll::add(&self.epoll, fd, token(slot, sock.generation), interest) {
            end(sock, slot, &mut self.lists, reason(errno, false));
        }
    }

    /// Ends what has not connected and is late.
    pub(super) fn end_unconnected(&mut self, is_late: impl Fn(u32) -> bool) {
        for (slot, sock) in (0..).zip(&mut self.socks) {
            if sock.fd.is_some() && !sock.connected && is_late(slot) {
                end(sock, slot, &mut self.lists, CloseReason::ConnectTimedOut);
            }
        }
    }

    /// Waits at most `timeout` and handles what happened.
    pub(super) fn turn<H: Handler>(&mut self, timeout: Duration, handler: &mut H) -> Result<(), Errno> {
        let timeout = if self.lists.again.is_empty() { timeout } else { Duration::ZERO };
        let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL)?;
        self.events.clear();
        let mut events = std::mem::take(&mut self.events);
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut turn = std::mem::replace(&mut self.lists.again, std::mem::take(&mut self.turn));
        for slot in turn.drain(..) {
            self.handle(slot, EventFlags::OUT, handler);
        }
        self.turn = turn;
        for event in &events {
            let word = event.data.u64();
            if word >= LISTENERS {
                self.lists.accepting.push((word & 0xffff) as usize);
            } else if let Some(slot) = self.slot_of(word) {
                self.handle(slot, event.flags, handler);
            }
        }
        self.events = events;
        Ok(())
    }

    /// Tells of every connection that ended, and closes its socket; which slots those are goes to `vacated`.
    pub(super) fn bury<H: Handler>(&mut self, handler: &mut H, mut vacated: impl FnMut(u32)) -> bool {
        let any = !self.lists.ended.is_empty();
        while let Some(slot) = self.lists.ended.pop() {
            let sock = &mut self.socks[slot as usize];
            sock.fd = None;
            sock.rest.clear();
            let why = sock.ending.unwrap_or(CloseReason::Aborted);
            handler.on_closed(slot, self.clock.now(), why);
            vacated(slot);
        }
        any
    }

    /// The slot of an event, unless that was for the slot's previous user.
    fn slot_of(&self, word: u64) -> Option<u32> {
        let slot = u32::try_from(word & u64::from(u32::MAX)).ok()?;
        let sock = self.socks.get(slot as usize)?;
        (token(slot, sock.generation).u64() == word).then_some(slot)
    }

    fn with<R>(&mut self, slot: u32, act: impl FnOnce(&mut SockConn<'_>) -> R) -> Option<R> {
        self.conn(slot).map(|mut conn| act(&mut conn))
    }

    fn handle<H: Handler>(&mut self, slot: u32, flags: EventFlags, handler: &mut H) {
        let sock = &mut self.socks[slot as usize];
        let (Some(fd), None) = (&sock.fd, sock.ending) else { return };
        let failed = flags.intersects(EventFlags::ERR | EventFlags::HUP);
        if !sock.connected {
            match pending_error(fd).filter(|_| failed) {
                Some(errno) => return end(sock, slot, &mut self.lists, reason(errno, true)),
                None if flags.contains(EventFlags::OUT) => self.connected(slot, handler),
                None => return,
            }
        }
        let sock = &mut self.socks[slot as usize];
        sock.sent_in_turn = 0;
        sock.hung_up |= flags.contains(EventFlags::RDHUP);
        sock.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP) || failed;
        if sock.blocked && flags.contains(EventFlags::OUT) {
            sock.blocked = false;
            let now = self.clock.now();
            self.with(slot, |conn| handler.on_writable(slot, now, conn));
        }
        self.offer_rest(slot, handler);
        self.read(slot, handler);
    }

    /// Offers what an earlier callback left.
    fn offer_rest<H: Handler>(&mut self, slot: u32, handler: &mut H) {
        let sock = &mut self.socks[slot as usize];
        if sock.rest.is_empty() || sock.paused {
            return;
        }
        let mut rest = std::mem::take(&mut sock.rest);
        let now = self.clock.now();
        let used = self.with(slot, |conn| handler.on_data(slot, now, &rest, conn)).unwrap_or(rest.len());
        rest.drain(..used);
        let sock = &mut self.socks[slot as usize];
        sock.paused = !rest.is_empty();
        sock.rest = rest;
    }

    /// Reads until a short read says that there is no more.
    pub(super) fn read<H: Handler>(&mut self, slot: u32, handler: &mut H) {
        for _ in 0..READS_PER_TURN {
            let Self { epoll, socks, lists, buffer, clock, .. } = self;
            let sock = &mut socks[slot as usize];
            let (Some(fd), None) = (&sock.fd, sock.ending) else { return };
            if !sock.readable || sock.paused {
                return;
            }
            if sock.fin {
                sock.readable = false;
                if let Some(errno) = pending_error(fd) {
                    end(sock, slot, lists, reason(errno, false));
                }
                return;
            }
            let len = match rustix::net::recv(fd, buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((len, _)) => len,
                Err(Errno::AGAIN) => {
                    sock.readable = false;
                    return;
                }
                Err(Errno::INTR) => continue,
                Err(errno) => return end(sock, slot, lists, reason(errno, false)),
            };
            let now = clock.now();
            let ends_here = len == 0 || (len < buffer.len() && sock.hung_up);
            sock.readable = len == buffer.len();
            sock.fin = ends_here;
            let mut conn = SockConn { slot, sock, lists, epoll };
            if len > 0 {
                let used = handler.on_data(slot, now, &buffer[..len], &mut conn);
                conn.keep(&buffer[used..len]);
            }
            // The peer's FIN is told once everything before it was consumed.
            if ends_here && conn.sock.ending.is_none() {
                if conn.sock.paused {
                    conn.sock.fin = false;
                    conn.sock.readable = true;
                } else {
                    handler.on_fin(slot, now, &mut conn);
                }
            }
        }
        self.lists.again.push(slot);
    }

    /// Assumes that there is something to read, as there often is right after accept.
    pub(super) fn assume_readable(&mut self, slot: u32) {
        self.socks[slot as usize].readable = true;
    }
}

fn token(slot: u32, generation: u32) -> EventData {
    EventData::new_u64(u64::from(slot) | u64::from(generation) << 32)
}

/// Marks a socket as ended; the handler is told after its callback.
fn end(sock: &mut Sock, slot: u32, lists: &mut Lists, why: CloseReason) {
    if sock.ending.is_none() {
        sock.ending = Some(why);
        lists.ended.push(slot);
    }
}

/// One socket, during one callback.
#[derive(Debug)]
pub(super) struct SockConn<'a> {
    slot: u32,
    sock: &'a mut Sock,
    lists: &'a mut Lists,
    epoll: &'a OwnedFd,
}

impl SockConn<'_> {
    /// Keeps what was not consumed, and stops reading.
    fn keep(&mut self, rest: &[u8]) {
        if !rest.is_empty() && self.sock.ending.is_none() {
            self.sock.rest.extend_from_slice(rest);
            self.sock.paused = true;
            self.sock.readable = true;
        }
    }

    /// Has `on_writable` follow.
    fn block(&mut self) {
        self.sock.blocked = true;
        let interest = self.sock.interest;
        if interest.is_empty() || interest.contains(EventFlags::OUT) {
            return;
        }
        self.sock.interest = interest | EventFlags::OUT;
        let Some(fd) = &self.sock.fd else { return };
        let word = token(self.slot, self.sock.generation);
        if let Err(errno) = epoll::modify(self.epoll, fd, word, self.sock.interest) {
            end(self.sock, self.slot, self.lists, reason(errno, false));
        }
    }
}

impl Conn for SockConn<'_> {
    fn send(&mut self, data: &[u8]) -> usize {
        let (Some(fd), None) = (&self.sock.fd, self.sock.ending) else { return 0 };
        // A stream that never fills its buffer would keep the worker from everything else.
        if self.sock.sent_in_turn >= SENT_PER_TURN {
            self.sock.blocked = true;
            self.lists.again.push(self.slot);
            return 0;
        }
        let taken = match rustix::net::send(fd, data, SendFlags::NOSIGNAL) {
            Ok(taken) => taken,
            Err(Errno::AGAIN | Errno::INTR) => 0,
            Err(errno) => {
                end(self.sock, self.slot, self.lists, reason(errno, false));
                return 0;
            }
        };
        self.sock.sent_in_turn += taken;
        if taken < data.len() {
            self.block();
        }
        taken
    }

    fn shutdown(&mut self) {
        if let Some(fd) = &self.sock.fd {
            // It fails only where the connection is gone, and reading tells of that.
            let _ = rustix::net::shutdown(fd, Shutdown::Write);
        }
    }

    fn close(&mut self) {
        end(self.sock, self.slot, self.lists, CloseReason::Finished);
    }

    fn abort(&mut self) {
        if let Some(fd) = &self.sock.fd {
            // If it fails the close is an orderly one, which ends the connection too.
            let _ = sockopt::set_socket_linger(fd, Some(Duration::ZERO));
        }
        end(self.sock, self.slot, self.lists, CloseReason::Aborted);
    }

    fn resume(&mut self) {
        if self.sock.paused {
            self.sock.paused = false;
            self.lists.again.push(self.slot);
        }
    }
}
