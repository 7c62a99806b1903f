//! What the engine tells of its connections, kept for sockets that ask later.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

use ringroad::base::FlowId;
use ringroad::stack::{App, Cx, Flow, ListenerId};
use ringroad::tcp::{CloseReason, FlowInfo, State};

use crate::errno::Errno;

/// Names a connection for as long as somebody has it.
pub type ConnId = u64;
/// Names the queue of a listening socket.
pub type QueueId = u64;

/// One connection, from SYN-SENT or ESTABLISHED until nobody asks for it any more.
#[derive(Debug)]
pub struct Conn {
    /// The engine's handle, while it is not over.
    pub flow: FlowId,
    /// Our socket.
    pub local: SocketAddr,
    /// The peer's socket.
    pub remote: SocketAddr,
    /// It reached ESTABLISHED.
    pub opened: bool,
    /// The peer's FIN, and everything before it was read.
    pub eof: bool,
    /// Why it is over.
    pub over: Option<CloseReason>,
    /// What the next call is told, once.
    pub error: Option<Errno>,
    /// Its figures when it ended.
    pub last: Option<FlowInfo>,
    /// No socket has it any more: it is forgotten when it is over.
    pub orphan: bool,
    /// How much text is asked for now, and whether it stays.
    pub want: usize,
    /// The text is looked at, not taken.
    pub peek: bool,
    /// Text that came.
    pub got: Vec<u8>,
}

impl Conn {
    /// A connection that the engine knows by `flow`.
    pub fn new(flow: &Flow<'_>, opened: bool) -> Self {
        Self {
            flow: flow.id(),
            local: flow.local(),
            remote: flow.remote(),
            opened,
            eof: false,
            over: None,
            error: None,
            last: None,
            orphan: false,
            want: 0,
            peek: false,
            got: Vec::new(),
        }
    }

    /// Its SYN is not answered yet.
    pub const fn is_connecting(&self) -> bool {
        !self.opened && self.over.is_none()
    }
}

/// Connections that wait for `accept`.
#[derive(Debug, Default)]
pub struct Queue {
    /// The engine's listeners: one for each family it listens on.
    pub listeners: Vec<ListenerId>,
    /// The first came first.
    pub conns: VecDeque<ConnId>,
    /// Linux lets one more than this wait.
    pub backlog: usize,
}

/// The application that the engine sees.
#[derive(Debug, Default)]
pub struct Table {
    /// Connections.
    pub conns: HashMap<ConnId, Conn>,
    /// Queues of listening sockets.
    pub queues: HashMap<QueueId, Queue>,
    last_id: u64,
}

impl Table {
    /// A number not yet in use.
    pub const fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Has the engine hold connections back while as many wait as may.
    pub fn limit_queue(&self, id: QueueId, cx: &mut Cx<'_>) {
        let Some(queue) = self.queues.get(&id) else { return };
        for &listener in &queue.listeners {
            if queue.conns.len() > queue.backlog {
                cx.pause_accept(listener);
            } else {
                cx.resume_accept(listener);
            }
        }
    }

    fn conn(&mut self, flow: &Flow<'_>) -> Option<&mut Conn> {
        self.conns.get_mut(&flow.user())
    }
}

impl App for Table {
    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        let listener = flow.listener();
        let queue =
            self.queues.iter().find(|(_, queue)| queue.listeners.iter().any(|id| Some(*id) == listener));
        let Some((&queue, _)) = queue else {
            // The socket that listened is closed.
            flow.abort();
            return;
        };
        let id = self.fresh_id();
        flow.set_user(id);
        self.conns.insert(id, Conn::new(flow, true));
        self.queues.entry(queue).or_default().conns.push_back(id);
        self.limit_queue(queue, &mut flow.cx());
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        if let Some(conn) = self.conn(flow) {
            conn.opened = true;
        }
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        let Some(conn) = self.conn(flow) else { return 0 };
        let taken = conn.want.min(data.len());
        conn.got.extend_from_slice(&data[..taken]);
        if conn.peek {
            conn.want = 0;
            return 0;
        }
        conn.want -= taken;
        taken
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        if let Some(conn) = self.conn(flow) {
            conn.eof = true;
        }
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        let (info, user) = (flow.info(), flow.user());
        let Some(conn) = self.conn(flow) else { return };
        if conn.orphan {
            self.conns.remove(&user);
            return;
        }
        conn.over = Some(why);
        conn.last = Some(info);
        conn.error = match why {
            // As Linux: whoever has heard the peer's FIN has a broken pipe.
            CloseReason::Reset if info.state == State::CloseWait => Some(libc::EPIPE),
            CloseReason::Reset => Some(libc::ECONNRESET),
            CloseReason::Refused => Some(libc::ECONNREFUSED),
            CloseReason::TimedOut | CloseReason::ConnectTimedOut => Some(libc::ETIMEDOUT),
            CloseReason::Unreachable => Some(libc::EHOSTUNREACH),
            _ => None,
        }
        .map(Errno);
    }
}
