//! Why a stack cannot run; each says what is wrong and what to do about it.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::string::String;
use std::time::Duration;

use crate::io::xdp::XdpError;
use crate::runtime::netlink::NetlinkError;

/// What keeps a stack from running on an interface, or ended it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// AF_XDP said no.
    #[error(transparent)]
    Xdp(#[from] XdpError),
    /// Netlink said no.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Queues and workers do not match.
    #[error(
        "{dev} receives on {queues} queues and {workers} workers were asked for, so frames of some queues would \
         be lost: use --workers {queues}, or `ethtool -L {dev} combined {workers}`"
    )]
    Queues {
        /// The interface.
        dev: String,
        /// Its receive queues.
        queues: u32,
        /// Workers asked for.
        workers: u16,
    },
    /// Somebody else has the port.
    #[error(
        "{addr} belongs to a kernel socket of another program: stop that program, or choose another port"
    )]
    PortTaken {
        /// The socket.
        addr: SocketAddr,
    },
    /// EACCES for the port.
    #[error(
        "no permission to hold {addr} with a kernel socket: run as root or with the capability \
         CAP_NET_BIND_SERVICE, or choose a port from 1024 on"
    )]
    PortPrivileged {
        /// The socket.
        addr: SocketAddr,
    },
    /// The port could not be held.
    #[error("cannot hold {addr} with a kernel socket: {source}")]
    Hold {
        /// The socket.
        addr: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address is not the interface's.
    #[error(
        "{addr} is not an address of {dev}: add it with `ip address add {addr} dev {dev}`, or choose one that is"
    )]
    NotLocal {
        /// The address.
        addr: IpAddr,
        /// The interface.
        dev: String,
    },
    /// No address at all.
    #[error("{dev} has no address: add one with `ip address add ADDRESS/PREFIX dev {dev}`")]
    NoAddress {
        /// The interface.
        dev: String,
    },
    /// The kernel chooses its own ports from there.
    #[error(
        "source ports {first}-{last} are also the kernel's (net.ipv4.ip_local_port_range, or a socket bound to \
         {taken}): choose others with --source-ports, or an address of their own with --source"
    )]
    SourcePorts {
        /// First port asked for.
        first: u16,
        /// Last port asked for.
        last: u16,
        /// One that the kernel has.
        taken: u16,
    },
    /// The range of source ports has none.
    #[error("source ports {first}-{last} are none: the first must not be above the last")]
    EmptySourcePorts {
        /// First port asked for.
        first: u16,
        /// Last port asked for.
        last: u16,
    },
    /// 2 MSL is nothing, or longer than clocks of 32 bits can tell.
    #[error(
        "TIME-WAIT (`TcpConfig::time_wait`) of {asked:?} is {what}: it must be longer than 0 and at most 12 days"
    )]
    TimeWait {
        /// 2 MSL asked for.
        asked: Duration,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No connect could ever succeed.
    #[error(
        "TIME-WAIT has room for no record (`Limits::time_wait_max` is 0) and connects wait for room there \
         (`TimeWaitFull::RefuseOpens`): raise the one or choose `TimeWaitFull::EvictOldest`"
    )]
    NoTimeWaitRoom,
    /// No port is left.
    #[error(
        "the kernel may use every port above 1023 here (net.ipv4.ip_local_port_range): make its range smaller, or \
         choose ports with --source-ports"
    )]
    NoSourcePorts,
    /// Two listeners with one socket.
    #[error("two listeners would have {addr}: give each its own port")]
    ListenTwice {
        /// The socket.
        addr: SocketAddr,
    },
    /// No room for all listeners.
    #[error(
        "{wanted} listeners are more than `Limits::listeners_max`, which is {most}: raise it, or listen on ranges"
    )]
    Listeners {
        /// Those asked for.
        wanted: usize,
        /// Those there is room for.
        most: u16,
    },
    /// Too many different options.
    #[error(
        "listeners use more different options than `Limits::options_max`, which is {most}: raise it, or share some"
    )]
    ListenOptions {
        /// Those there is room for.
        most: u16,
    },
    /// The CPU is not there.
    #[error(
        "CPU {cpu} cannot be used: this process may run on CPUs {allowed}; choose among them with --cpus"
    )]
    NoSuchCpu {
        /// The CPU asked for.
        cpu: usize,
        /// Those there are.
        allowed: String,
    },
    /// The operating system failed at something that should not fail.
    #[error("cannot {action}: {source}")]
    Os {
        /// What was tried.
        action: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
}
