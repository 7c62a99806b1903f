//! Kernel sockets, made ready for the table: listening, connecting, and what their errors mean.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, sockopt};
use rustix::process::{Resource, Rlimit};

use crate::load::{ErrorKind, Open};
use crate::tcp::CloseReason;

/// Connections that may wait to be accepted; the kernel bounds it by `net.core.somaxconn`.
const BACKLOG: i32 = 65_535;

fn stream_socket(ip: IpAddr) -> Result<OwnedFd, Errno> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    rustix::net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))
}

/// A listening socket; several workers may have one each on the same address.
pub(super) fn listen(addr: SocketAddr) -> Result<(OwnedFd, SocketAddr), Errno> {
    let fd = stream_socket(addr.ip())?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_socket_reuseport(&fd, true)?;
    // Accepted sockets inherit it, which saves a call for each.
    sockopt::set_tcp_nodelay(&fd, true)?;
    rustix::net::bind(&fd, &addr)?;
    rustix::net::listen(&fd, BACKLOG)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&fd)?)?;
    Ok((fd, bound))
}

/// Begins to connect.
pub(super) fn connect(open: &Open, nodelay: bool) -> Result<OwnedFd, ErrorKind> {
    try_connect(open, nodelay).map_err(|errno| match errno {
        Errno::ADDRNOTAVAIL | Errno::ADDRINUSE => ErrorKind::PortsExhausted,
        Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => ErrorKind::TableFull,
        errno => ErrorKind::of(reason(errno, true)),
    })
}

fn try_connect(open: &Open, nodelay: bool) -> Result<OwnedFd, Errno> {
    let fd = stream_socket(open.remote.ip())?;
    if let Some(source) = open.source {
        // The port is chosen at connect, when the whole four-tuple is known: the same port then serves
        // several targets. A kernel that does not know the option chooses at bind.
        let _ = nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::IpBindAddressNoPort, &true);
        rustix::net::bind(&fd, &SocketAddr::new(source, 0))?;
    }
    if nodelay {
        sockopt::set_tcp_nodelay(&fd, true)?;
    }
    match rustix::net::connect(&fd, &open.remote) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(fd),
        Err(errno) => Err(errno),
    }
}

/// Whether the handshake is over already, as it often is where the path is short.
pub(super) fn is_connected(fd: &OwnedFd) -> bool {
    rustix::net::getpeername(fd).is_ok_and(|peer| peer.is_some())
}

/// The error that waits in the socket.
pub(super) fn pending_error(fd: &OwnedFd) -> Option<Errno> {
    match sockopt::socket_error(fd) {
        Ok(Ok(())) => None,
        Ok(Err(errno)) | Err(errno) => Some(errno),
    }
}

/// What an error of a socket call means for its connection.
pub(super) fn reason(errno: Errno, opening: bool) -> CloseReason {
    match errno {
        Errno::CONNREFUSED => CloseReason::Refused,
        Errno::TIMEDOUT if opening => CloseReason::ConnectTimedOut,
        Errno::TIMEDOUT => CloseReason::TimedOut,
        Errno::HOSTUNREACH | Errno::NETUNREACH => CloseReason::Unreachable,
        Errno::CONNRESET | Errno::PIPE => CloseReason::Reset,
        _ => CloseReason::Aborted,
    }
}

/// Raises the soft limit of open files to the hard one; returns how many may be open.
pub fn raise_file_limit() -> u64 {
    let Rlimit { current, maximum } = rustix::process::getrlimit(Resource::Nofile);
    match rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        Err(_) => current.unwrap_or(u64::MAX),
    }
}
