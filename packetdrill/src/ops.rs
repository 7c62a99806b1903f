//! Calls that may have to wait, as values: each can be tried again whenever something has happened.
#![forbid(unsafe_code)]

use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::IntoRawFd;
use std::time::Duration;

use ringroad::tcp::State;

use crate::errno::{Errno, Outcome, fail};
use crate::socket::{Role, Sock};
use crate::table::{Conn, ConnId, QueueId};
use crate::world::World;

/// What a call gives back.
#[derive(Debug, Default)]
pub struct Done {
    /// The return value.
    pub value: usize,
    /// Text that was received.
    pub text: Vec<u8>,
    /// The peer, as the socket's owner sees it.
    pub peer: Option<SocketAddr>,
    /// `poll`'s answers, one for each entry.
    pub revents: Vec<i16>,
}

impl Done {
    /// A number, and nothing else.
    pub fn value(value: usize) -> Self {
        Self { value, ..Self::default() }
    }
}

/// What is to be done.
#[derive(Debug, Default)]
pub enum Op {
    /// Nothing: what is left while the call itself is being tried.
    #[default]
    Nothing,
    /// `accept`.
    Accept {
        /// The listening socket.
        fd: i32,
    },
    /// The rest of `connect`, once the SYN is on its way.
    Connect {
        /// The socket.
        fd: i32,
    },
    /// `read` and its kin.
    Read {
        /// The socket.
        fd: i32,
        /// Octets asked for.
        want: usize,
        /// MSG_PEEK.
        peek: bool,
        /// MSG_WAITALL.
        all: bool,
        /// What has come so far.
        text: Vec<u8>,
    },
    /// `write` and its kin.
    Write {
        /// The socket.
        fd: i32,
        /// Everything to write.
        text: Vec<u8>,
        /// How much of it is written.
        done: usize,
    },
    /// `poll`.
    Poll {
        /// Descriptors and events asked for.
        fds: Vec<(i32, i16)>,
    },
    /// `close` that lingers.
    Close {
        /// The connection.
        conn: ConnId,
    },
}

impl Op {
    /// What a call that may not wait gives back.
    pub fn would_block(&mut self) -> Outcome<Done> {
        match self {
            Self::Connect { .. } => fail(libc::EINPROGRESS),
            Self::Poll { fds } => Ok(Done { revents: vec![0; fds.len()], ..Done::default() }),
            Self::Write { done: done @ 1.., .. } => Ok(Done::value(*done)),
            Self::Read { text, .. } if !text.is_empty() => {
                let text = std::mem::take(text);
                Ok(Done { value: text.len(), text, ..Done::default() })
            }
            Self::Close { .. } => Ok(Done::default()),
            _ => fail(libc::EAGAIN),
        }
    }

    /// What a call gives back that has waited long enough.
    pub fn timed_out(&mut self) -> Outcome<Done> {
        self.would_block()
    }
}

/// Events that say the same, with which Linux answers to either name.
const READABLE: i16 = libc::POLLIN | libc::POLLRDNORM;
const WRITABLE: i16 = libc::POLLOUT | libc::POLLWRNORM;

impl World {
    /// Tries a call; `None` while it has to wait.
    pub fn attempt(&mut self, op: &mut Op) -> Option<Outcome<Done>> {
        let tried = match op {
            Op::Nothing => Ok(Some(Done::default())),
            Op::Accept { fd } => self.try_accept(*fd),
            Op::Connect { fd } => self.try_connect(*fd),
            Op::Read { fd, want, peek, all, text } => self.try_read(*fd, *want, (*peek, *all), text),
            Op::Write { fd, text, done } => self.try_write(*fd, text, done),
            Op::Poll { fds } => Ok(self.try_poll(fds)),
            Op::Close { conn } => Ok(self.try_close(*conn)),
        };
        tried.transpose()
    }

    /// The socket of a descriptor.
    pub fn sock(&mut self, fd: i32) -> Outcome<&mut Sock> {
        self.socks.get_mut(&fd).ok_or(Errno(libc::EBADF))
    }

    /// The connection of a socket; `otherwise` where it has none.
    pub fn conn_of(&mut self, fd: i32, otherwise: i32) -> Outcome<ConnId> {
        match self.sock(fd)?.role {
            Role::Connected(conn) => Ok(conn),
            _ => fail(otherwise),
        }
    }

    /// A connection that a socket has.
    pub fn conn(&mut self, id: ConnId) -> &mut Conn {
        self.table.conns.get_mut(&id).expect("a socket's connection is kept until it is closed")
    }

    /// What the engine says of a connection; `None` when it is over.
    pub fn state(&mut self, conn: ConnId) -> Option<State> {
        self.flow(conn, |flow| flow.state())
    }

    fn try_accept(&mut self, fd: i32) -> Outcome<Option<Done>> {
        let Role::Listening(queue) = self.sock(fd)?.role else { return fail(libc::EINVAL) };
        let waiting = &mut self.table.queues.entry(queue).or_default().conns;
        let Some(&conn) = waiting.front() else { return Ok(None) };
        let new_fd = open()?;
        waiting.pop_front();
        self.turn(|cx, table| table.limit_queue(queue, cx));
        let listening = self.sock(fd)?;
        let accepted = listening.accepted(conn);
        let options = listening.late_options.then_some(listening.options);
        if let Some(options) = options {
            self.flow(conn, |flow| flow.set_options(&options));
        }
        let peer = Some(accepted.outward(self.conn(conn).remote));
        self.socks.insert(new_fd, accepted);
        let value = usize::try_from(new_fd).expect("a descriptor is not negative");
        Ok(Some(Done { value, peer, ..Done::default() }))
    }

    fn try_connect(&mut self, fd: i32) -> Outcome<Option<Done>> {
        let id = self.conn_of(fd, libc::ENOTCONN)?;
        let conn = self.conn(id);
        if conn.is_connecting() {
            return Ok(None);
        }
        let (opened, error) = (conn.opened, conn.error.take());
        let sock = self.sock(fd)?;
        sock.told = true;
        if opened {
            return Ok(Some(Done::default()));
        }
        // It may try again.
        sock.role = Role::Fresh;
        self.table.conns.remove(&id);
        Err(error.unwrap_or(Errno(libc::ECONNABORTED)))
    }

    fn try_read(
        &mut self,
        fd: i32,
        want: usize,
        (peek, all): (bool, bool),
        text: &mut Vec<u8>,
    ) -> Outcome<Option<Done>> {
        let id = self.conn_of(fd, libc::ENOTCONN)?;
        let shut = self.sock(fd)?.shut_read;
        if self.conn(id).is_connecting() {
            return Ok(None);
        }
        if peek {
            text.clear();
        }
        let asked = want - text.len();
        let more = self.pull(id, asked, peek);
        text.extend(more);
        let conn = self.conn(id);
        let ended = conn.eof || conn.over.is_some() || shut;
        let enough = text.len() == want || (!text.is_empty() && (!all || ended));
        if !enough && !ended {
            return Ok(None);
        }
        if text.is_empty()
            && want > 0
            && !conn.eof
            && let Some(error) = conn.error.take()
        {
            return Err(error);
        }
        let text = std::mem::take(text);
        Ok(Some(Done { value: text.len(), text, ..Done::default() }))
    }

    /// Takes up to `want` octets of what has come, or looks at them.
    fn pull(&mut self, id: ConnId, want: usize, peek: bool) -> Vec<u8> {
        if want > 0 {
            let conn = self.conn(id);
            (conn.want, conn.peek) = (want, peek);
            self.flow(id, |flow| flow.resume());
        }
        let conn = self.conn(id);
        conn.want = 0;
        std::mem::take(&mut conn.got)
    }

    fn try_write(&mut self, fd: i32, text: &[u8], done: &mut usize) -> Outcome<Option<Done>> {
        let id = self.conn_of(fd, libc::EPIPE)?;
        let shut = self.sock(fd)?.shut_write;
        let conn = self.conn(id);
        if conn.is_connecting() && !shut {
            return Ok(None);
        }
        if shut || conn.over.is_some() || conn.error.is_some() {
            return match (*done, conn.error.take()) {
                (1.., error) => {
                    conn.error = error;
                    Ok(Some(Done::value(*done)))
                }
                (0, Some(error)) => Err(error),
                (0, None) => fail(libc::EPIPE),
            };
        }
        *done += self.flow(id, |flow| flow.send(&text[*done..])).unwrap_or(0);
        Ok((*done == text.len()).then(|| Done::value(*done)))
    }

    fn try_poll(&mut self, fds: &[(i32, i16)]) -> Option<Done> {
        let always = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
        let answer = |world: &mut Self, fd: i32, events: i16| match fd {
            ..0 => 0,
            _ => world.events(fd) & (events | always),
        };
        let revents: Vec<i16> = fds.iter().map(|&(fd, events)| answer(self, fd, events)).collect();
        let value = revents.iter().filter(|&&revents| revents != 0).count();
        (value > 0).then(|| Done { value, revents, ..Done::default() })
    }

    /// Everything `poll` could say of a descriptor.
    fn events(&mut self, fd: i32) -> i16 {
        let Some(sock) = self.socks.get(&fd) else { return libc::POLLNVAL };
        let (shut_read, shut_write) = (sock.shut_read, sock.shut_write);
        match sock.role {
            Role::Fresh => WRITABLE | libc::POLLHUP,
            Role::Listening(queue) => {
                if self.has_waiting(queue) {
                    READABLE
                } else {
                    0
                }
            }
            Role::Connected(conn) => self.conn_events(conn, shut_read, shut_write),
        }
    }

    fn has_waiting(&self, queue: QueueId) -> bool {
        self.table.queues.get(&queue).is_some_and(|queue| !queue.conns.is_empty())
    }

    fn conn_events(&mut self, id: ConnId, shut_read: bool, shut_write: bool) -> i16 {
        let seen = self.flow(id, |flow| (flow.info(), flow.send_room()));
        let conn = self.conn(id);
        let mut events = if conn.error.is_some() { libc::POLLERR } else { 0 };
        if conn.is_connecting() {
            return events;
        }
        let over = conn.over.is_some();
        let heard_fin = conn.eof || seen.as_ref().is_some_and(|(info, _)| has_fin(info.state));
        let (no_reading, no_writing) = (over || heard_fin || shut_read, over || shut_write);
        if no_reading {
            events |= READABLE | libc::POLLRDHUP;
        }
        if no_reading && no_writing {
            events |= libc::POLLHUP;
        }
        if seen.as_ref().is_some_and(|(info, _)| info.unread > 0) {
            events |= READABLE;
        }
        // As Linux: writable when at least a third of the buffer is free.
        let room = seen.is_some_and(|(info, room)| room > 0 && room >= info.unacknowledged as usize / 2);
        if no_writing || room {
            events |= WRITABLE;
        }
        events
    }

    /// Lingering ends when the peer has acknowledged our FIN, or nothing is left to wait for.
    fn try_close(&mut self, conn: ConnId) -> Option<Done> {
        let waits = [State::FinWait1, State::Closing, State::LastAck];
        let over = self.state(conn).is_none_or(|state| !waits.contains(&state));
        over.then(Done::default)
    }

    /// How long a call on this socket may wait: `None` without end, zero not at all.
    pub fn patience(&mut self, fd: i32, writing: bool, now: bool) -> Outcome<Option<Duration>> {
        let sock = self.sock(fd)?;
        if now || sock.nonblocking {
            return Ok(Some(Duration::ZERO));
        }
        Ok(sock.timeouts[usize::from(writing)])
    }
}

/// The peer has closed: these are the states behind its FIN.
const fn has_fin(state: State) -> bool {
    matches!(state, State::CloseWait | State::Closing | State::LastAck | State::TimeWait)
}

/// A descriptor that the kernel knows as well, as packetdrill closes what scripts leave open.
pub fn open() -> Outcome<i32> {
    let file = File::options().read(true).write(true).open("/dev/null");
    let file = file.map_err(|error| Errno(error.raw_os_error().unwrap_or(libc::EMFILE)))?;
    Ok(file.into_raw_fd())
}
