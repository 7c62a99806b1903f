//! The calls that never wait: making sockets, naming them, opening and ending connections.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringroad::stack::{Connect, ConnectError, Listen, ListenError};

use crate::errno::{Errno, Outcome, fail};
use crate::ops::{Op, open};
use crate::socket::{Role, Sock};
use crate::table::{Conn, Queue, QueueId};
use crate::world::World;

impl World {
    /// `socket`.
    pub fn socket(&mut self, domain: i32, kind: i32, protocol: i32) -> Outcome<i32> {
        let flags = self.flags.as_ref().map_err(|_| Errno(libc::EINVAL))?;
        let v6 = match domain {
            libc::AF_INET => false,
            libc::AF_INET6 => true,
            _ => return fail(libc::EAFNOSUPPORT),
        };
        let (nonblock, cloexec) = (libc::SOCK_NONBLOCK, libc::SOCK_CLOEXEC);
        match kind & !(nonblock | cloexec) {
            libc::SOCK_STREAM => {}
            libc::SOCK_DGRAM | libc::SOCK_RAW => return fail(libc::EPROTONOSUPPORT),
            _ => return fail(libc::ESOCKTNOSUPPORT),
        }
        if protocol != 0 && protocol != libc::IPPROTO_TCP {
            return fail(libc::EPROTONOSUPPORT);
        }
        let sock = Sock::new(v6, kind & nonblock != 0, flags);
        let fd = open()?;
        self.socks.insert(fd, sock);
        Ok(fd)
    }

    /// `bind`.
    pub fn bind(&mut self, fd: i32, addr: SocketAddr) -> Outcome<()> {
        let sock = self.sock(fd)?;
        if sock.bound.is_some() || sock.role != Role::Fresh {
            return fail(libc::EINVAL);
        }
        let mut addr = sock.inward(addr)?;
        let reuse = sock.reuse;
        if addr.ip().is_multicast() || addr.ip() == IpAddr::from(Ipv4Addr::BROADCAST) {
            return fail(libc::EADDRNOTAVAIL);
        }
        if addr.port() == 0 {
            let free = |&port: &u16| !self.is_taken(SocketAddr::new(addr.ip(), port), false);
            let ports = self.flags.as_ref().map_err(|_| Errno(libc::EINVAL))?.ports.clone();
            addr.set_port(ports.into_iter().find(free).ok_or(Errno(libc::EADDRINUSE))?);
        } else if self.is_taken(addr, reuse) {
            return fail(libc::EADDRINUSE);
        }
        self.add_local(addr.ip());
        self.sock(fd)?.bound = Some(addr);
        Ok(())
    }

    /// Whether another socket or connection is in the way of binding to `addr`.
    fn is_taken(&self, addr: SocketAddr, reuse: bool) -> bool {
        let meets = |other: SocketAddr| {
            let any = addr.ip().is_unspecified() || other.ip().is_unspecified();
            let families = addr.is_ipv4() == other.is_ipv4();
            other.port() == addr.port() && families && (any || other.ip() == addr.ip())
        };
        let in_the_way = |sock: &Sock| {
            let shares = reuse && sock.reuse && !matches!(sock.role, Role::Listening(_));
            !shares && sock.bound.is_some_and(meets)
        };
        self.socks.values().any(in_the_way)
            || (!reuse && self.engine().connections().any(|other| meets(other.local)))
    }

    /// `listen`.
    pub fn listen(&mut self, fd: i32, backlog: i32) -> Outcome<()> {
        let backlog = usize::try_from(backlog).unwrap_or(usize::MAX).min(4_096);
        let sock = self.sock(fd)?;
        if let Role::Listening(queue) = sock.role {
            self.table.queues.entry(queue).or_default().backlog = backlog;
            self.turn(|cx, table| table.limit_queue(queue, cx));
            return Ok(());
        }
        if sock.role != Role::Fresh {
            return fail(libc::EINVAL);
        }
        if sock.bound.is_none() {
            let any = SocketAddr::new(sock.unspecified(), 0);
            self.bind(fd, any)?;
        }
        let queue = self.table.fresh_id();
        self.table.queues.insert(queue, Queue { backlog, ..Queue::default() });
        let made = self.listen_on(fd, queue);
        if made.is_err() {
            self.end_queue(queue);
        } else {
            self.sock(fd)?.role = Role::Listening(queue);
        }
        made
    }

    /// One listener of the engine for each family.
    fn listen_on(&mut self, fd: i32, queue: QueueId) -> Outcome<()> {
        let sock = self.sock(fd)?;
        let addr = sock.bound.ok_or(Errno(libc::EINVAL))?;
        let both = sock.v6 && !sock.v6_only && addr.is_ipv6() && addr.ip().is_unspecified();
        let options = sock.options;
        let mut addresses = vec![addr.ip()];
        if both {
            addresses.push(Ipv4Addr::UNSPECIFIED.into());
        }
        for address in addresses {
            // While accepting is paused none may wait in the engine: they stay half-open, as on Linux.
            let listen = Listen { options, backlog: 0, ..Listen::new(address, addr.port()) };
            let listener = self.turn(|cx, _| cx.listen(&listen)).map_err(|error| match error {
                ListenError::InUse => Errno(libc::EADDRINUSE),
                _ => Errno(libc::ENOBUFS),
            })?;
            self.table.queues.entry(queue).or_default().listeners.push(listener);
        }
        Ok(())
    }

    /// Nobody accepts any more: who waits is reset.
    fn end_queue(&mut self, queue: QueueId) {
        let Some(ended) = self.table.queues.remove(&queue) else { return };
        ended.listeners.into_iter().for_each(|listener| self.close_listener(listener));
        for conn in ended.conns {
            self.abandon(conn, true);
        }
    }

    /// Begins `connect`; the rest is [`Op::Connect`].
    pub fn connect(&mut self, fd: i32, addr: SocketAddr) -> Outcome<Op> {
        let sock = self.sock(fd)?;
        match sock.role {
            Role::Fresh => {}
            Role::Listening(_) => return fail(libc::EISCONN),
            Role::Connected(conn) => {
                let told = sock.told;
                let wait = !sock.nonblocking;
                return match self.conn(conn) {
                    conn if conn.is_connecting() && !wait => fail(libc::EALREADY),
                    _ if told => fail(libc::EISCONN),
                    _ => Ok(Op::Connect { fd }),
                };
            }
        }
        let remote = sock.inward(addr)?;
        let (options, bound) = (sock.options, sock.bound);
        let local = bound.filter(|bound| bound.is_ipv4() == remote.is_ipv4());
        self.find_local(remote, local)?;
        self.resolve(remote.ip());
        let user = self.table.fresh_id();
        let connect = Connect { remote, local, options, user };
        let conn = self.turn(|cx, table| {
            let id = cx.connect(&connect)?;
            let flow = cx.flow(id).ok_or(ConnectError::TableFull)?;
            table.conns.insert(user, Conn::new(&flow, false));
            Ok(())
        });
        conn.map_err(|error: ConnectError| Errno(number(error)))?;
        let sock = self.sock(fd)?;
        sock.role = Role::Connected(user);
        (sock.told, sock.shut_read, sock.shut_write) = (false, false, false);
        Ok(Op::Connect { fd })
    }

    /// `connect` to AF_UNSPEC: the connection is given up, the socket may be used again.
    pub fn disconnect(&mut self, fd: i32) -> Outcome<()> {
        let sock = self.sock(fd)?;
        match std::mem::replace(&mut sock.role, Role::Fresh) {
            Role::Fresh => {}
            Role::Listening(queue) => self.end_queue(queue),
            Role::Connected(conn) => self.abandon(conn, true),
        }
        Ok(())
    }

    /// An active open begins at an address of ours, which somebody must have named.
    fn find_local(&self, remote: SocketAddr, local: Option<SocketAddr>) -> Outcome<()> {
        let named = local.is_some_and(|local| !local.ip().is_unspecified());
        if named || self.locals.iter().any(|known| known.is_ipv4() == remote.is_ipv4()) {
            return Ok(());
        }
        let flag = if remote.is_ipv4() { "local" } else { "local6" };
        eprintln!("ringroad-packetdrill: connect to {remote} from where? Say {flag}=ADDRESS in --so_flags");
        fail(libc::EADDRNOTAVAIL)
    }

    /// `ioctl`: what it tells, if it tells anything.
    pub fn ioctl(&mut self, fd: i32, request: u64, given: Option<i32>) -> Outcome<Option<i32>> {
        if request == libc::FIONBIO {
            self.sock(fd)?.nonblocking = given.ok_or(Errno(libc::EFAULT))? != 0;
            return Ok(None);
        }
        let role = self.sock(fd)?.role;
        let info = match role {
            // As Linux: a listener has nothing to read.
            Role::Listening(_) => return fail(libc::EINVAL),
            Role::Fresh => None,
            Role::Connected(conn) => self.flow(conn, |flow| flow.info()),
        };
        let figure = match request {
            libc::FIONREAD => info.map_or(0, |info| info.unread),
            // SIOCOUTQ.
            libc::TIOCOUTQ => info.map_or(0, |info| info.unacknowledged),
            _ => return fail(libc::ENOTTY),
        };
        Ok(Some(i32::try_from(figure).unwrap_or(i32::MAX)))
    }

    /// `shutdown`.
    pub fn shutdown(&mut self, fd: i32, how: i32) -> Outcome<()> {
        let (read, write) = match how {
            libc::SHUT_RD => (true, false),
            libc::SHUT_WR => (false, true),
            libc::SHUT_RDWR => (true, true),
            _ => return fail(libc::EINVAL),
        };
        let sock = self.sock(fd)?;
        match sock.role {
            Role::Fresh => fail(libc::ENOTCONN),
            Role::Listening(queue) => {
                if read {
                    sock.role = Role::Fresh;
                    self.end_queue(queue);
                }
                Ok(())
            }
            Role::Connected(conn) => {
                sock.shut_read |= read;
                sock.shut_write |= write;
                if self.conn(conn).over.is_some() {
                    return fail(libc::ENOTCONN);
                }
                if write {
                    self.flow(conn, |flow| flow.shutdown());
                }
                Ok(())
            }
        }
    }

    /// `close`, but for the descriptor itself; what lingers is [`Op::Close`].
    pub fn close(&mut self, fd: i32) -> Outcome<Op> {
        let sock = self.socks.remove(&fd).ok_or(Errno(libc::EBADF))?;
        match sock.role {
            Role::Fresh => Ok(Op::Nothing),
            Role::Listening(queue) => {
                self.end_queue(queue);
                Ok(Op::Nothing)
            }
            Role::Connected(conn) => {
                let reset = sock.linger.is_some_and(|linger| linger.is_zero());
                self.abandon(conn, reset);
                Ok(sock.linger.map_or(Op::Nothing, |_| Op::Close { conn }))
            }
        }
    }

    /// No socket has this connection any more.
    fn abandon(&mut self, id: u64, reset: bool) {
        let conn = self.conn(id);
        if conn.over.is_some() {
            self.table.conns.remove(&id);
            return;
        }
        conn.orphan = true;
        self.flow(id, |flow| if reset { flow.abort() } else { flow.close() });
    }
}

/// Why a connection could not be begun, as Linux would say it.
const fn number(error: ConnectError) -> i32 {
    match error {
        ConnectError::PortsExhausted | ConnectError::InUse | ConnectError::BadAddress => libc::EADDRNOTAVAIL,
        ConnectError::NoRoute => libc::ENETUNREACH,
        _ => libc::ENOBUFS,
    }
}
