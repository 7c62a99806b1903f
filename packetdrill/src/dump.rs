//! The state dump: a line for each socket and connection, in the form of `sockstat`.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process;

use ringroad::tcp::State;

use crate::socket::Role;
use crate::world::World;

/// The file, and what it says.
#[derive(Debug)]
pub struct Dump {
    path: Option<PathBuf>,
    written: Option<String>,
}

impl Dump {
    /// To this file, or to none.
    pub const fn new(path: Option<PathBuf>) -> Self {
        Self { path, written: None }
    }

    /// Whether anybody asked for it.
    pub const fn is_on(&self) -> bool {
        self.path.is_some()
    }

    /// Writes `text`, unless that is what the file says.
    pub fn write(&mut self, text: String) {
        let Some(path) = &self.path else { return };
        if self.written.as_ref() == Some(&text) {
            return;
        }
        if let Err(error) = fs::write(path, &text) {
            eprintln!("ringroad-packetdrill: no state dump any more: {}: {error}", path.display());
            self.path = None;
        }
        self.written = Some(text);
    }
}

/// One line for each socket, then for each connection that no socket has.
pub fn text(world: &World) -> String {
    let mut live: Vec<_> = world.engine().connections().map(Some).collect();
    let mut fds: Vec<_> = world.socks.iter().collect();
    fds.sort_by_key(|&(&fd, _)| fd);
    let mut text = String::new();
    for (fd, sock) in fds {
        let fd = fd.to_string();
        match sock.role {
            Role::Fresh => line(&mut text, &fd, sock.is_wide(), sock.bound, None, "CLOSED"),
            Role::Listening(_) => line(&mut text, &fd, sock.is_wide(), sock.bound, None, "LISTEN"),
            Role::Connected(conn) => {
                let Some(conn) = world.table.conns.get(&conn) else { continue };
                let (local, remote) = (conn.local, conn.remote);
                let this = live
                    .iter_mut()
                    .find(|entry| entry.is_some_and(|entry| (entry.local, entry.remote) == (local, remote)));
                let state = this.and_then(Option::take).map_or("CLOSED", |entry| name(entry.state));
                line(&mut text, &fd, local.is_ipv6(), Some(local), Some(remote), state);
            }
        }
    }
    for entry in live.into_iter().flatten() {
        let (local, remote) = (Some(entry.local), Some(entry.remote));
        line(&mut text, "?", entry.local.is_ipv6(), local, remote, name(entry.state));
    }
    text
}

fn line(
    text: &mut String,
    fd: &str,
    wide: bool,
    local: Option<SocketAddr>,
    remote: Option<SocketAddr>,
    state: &str,
) {
    let protocol = if wide { "tcp6" } else { "tcp4" };
    let (local, remote) = (socket(local), socket(remote));
    writeln!(text, "root ringroad {} {fd} {protocol} {local} {remote} {state}", process::id())
        .expect("a string takes what it is given");
}

fn socket(addr: Option<SocketAddr>) -> String {
    match addr {
        None => "*:*".to_owned(),
        Some(addr) if addr.ip().is_unspecified() => format!("*:{}", addr.port()),
        Some(addr) => format!("{}:{}", addr.ip(), addr.port()),
    }
}

const fn name(state: State) -> &'static str {
    match state {
        State::SynSent => "SYN_SENT",
        State::SynReceived => "SYN_RCVD",
        State::Established => "ESTABLISHED",
        State::FinWait1 => "FIN_WAIT_1",
        State::FinWait2 => "FIN_WAIT_2",
        State::CloseWait => "CLOSE_WAIT",
        State::Closing => "CLOSING",
        State::LastAck => "LAST_ACK",
        State::TimeWait => "TIME_WAIT",
    }
}
