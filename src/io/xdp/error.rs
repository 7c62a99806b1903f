//! What can be wrong with an interface, a queue or the steering program, and what to do about it.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::string::String;

use thiserror::Error;

/// Why AF_XDP cannot be used as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum XdpError {
    /// EPERM or EACCES.
    #[error(
        "no permission to {action}: run as root, or with the capabilities CAP_NET_ADMIN, CAP_NET_RAW, \
         CAP_BPF, CAP_PERFMON and CAP_IPC_LOCK"
    )]
    NotPermitted {
        /// What was attempted.
        action: &'static str,
    },
    /// ENODEV from the lookup by name.
    #[error(
        "there is no interface {interface} in this network namespace: `ip link` lists those that are there"
    )]
    NoSuchInterface {
        /// The name asked for.
        interface: String,
    },
    /// The interface is administratively down.
    #[error("interface {interface} is down: bring it up with `ip link set {interface} up`")]
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// ENXIO in use: the interface was deleted, or moved to another namespace.
    #[error("interface {interface} has gone while it was in use: start again when it is back")]
    InterfaceGone {
        /// Its name.
        interface: String,
    },
    /// A queue that the interface does not have.
    #[error(
        "interface {interface} has {queues} queues, so there is no queue {queue}: use fewer workers, or \
         give it more with `ethtool -L`"
    )]
    NoSuchQueue {
        /// Its name.
        interface: String,
        /// The queue asked for, from 0.
        queue: u32,
        /// How many it has.
        queues: u32,
    },
    /// EBUSY from bind, for two seconds.
    #[error(
        "queue {queue} of interface {interface} is in use by another AF_XDP socket: stop that program, \
         or use another queue"
    )]
    QueueInUse {
        /// The interface.
        interface: String,
        /// The queue asked for.
        queue: u32,
    },
    /// EBUSY from attaching.
    #[error(
        "another XDP program is attached to interface {interface}: stop the program that attached it, or \
         remove it with `ip link set {interface} xdp off`"
    )]
    AlreadyAttached {
        /// The interface.
        interface: String,
    },
    /// ERANGE from attaching.
    #[error(
        "the MTU of the peer of interface {interface} is too large for native XDP: lower it to \
         {mtu_max} octets or less on both ends, or use the generic mode",
        mtu_max = super::umem::MTU_MAX
    )]
    PeerMtuTooLarge {
        /// The interface.
        interface: String,
    },
    /// ENOSPC from attaching.
    #[error(
        "interface {interface} has fewer rx queues than its peer has tx queues: give both ends as many \
         with `ethtool -L`"
    )]
    TooFewRxQueues {
        /// The interface.
        interface: String,
    },
    /// A frame of the largest packet does not fit a slot.
    #[error(
        "the MTU of interface {interface} is {mtu} octets, and packets have {mtu_max} at \
         most: lower it with `ip link set {interface} mtu {mtu_max}`"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU, in octets.
        mtu: u32,
        /// The largest that works, in octets.
        mtu_max: u32,
    },
    /// The running kernel lacks what is needed.
    #[error("the kernel is Linux {found}, and Linux {needed} or newer is needed: boot a newer one")]
    KernelTooOld {
        /// The release that runs.
        found: String,
        /// The first release that will do.
        needed: &'static str,
    },
    /// The driver cannot run the program.
    #[error("the driver of interface {interface} does not run XDP programs: use the generic mode")]
    NativeUnsupported {
        /// The interface.
        interface: String,
    },
    /// The driver cannot bind a UMEM.
    #[error("the driver of interface {interface} does not support zero-copy: use the native mode")]
    ZeroCopyUnsupported {
        /// The interface.
        interface: String,
    },
    /// ENOBUFS from registering the UMEM.
    #[error(
        "{octets} octets of packet memory are more than RLIMIT_MEMLOCK lets this process lock: raise it \
         with `ulimit -l`, or give the process CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// What is needed.
        octets: u64,
    },
    /// ENOMEM from the mapping.
    #[error("there is no memory for {octets} octets of packet memory: use fewer workers, or free some")]
    NoMemory {
        /// What is needed.
        octets: u64,
    },
    /// E2BIG from the map of endpoints.
    #[error(
        "the steering program has no room for endpoint {addr}, port {port}: use a port range, or fewer \
         endpoints"
    )]
    EndpointsFull {
        /// Local address.
        addr: IpAddr,
        /// Local port.
        port: u16,
    },
    /// More addresses or ranges than the program's map holds.
    #[error(
        "the steering program has no room for ports {lo} to {hi} of {addr}: use one larger range, or \
         fewer addresses"
    )]
    RangesFull {
        /// Local address.
        addr: IpAddr,
        /// First port.
        lo: u16,
        /// Last port.
        hi: u16,
    },
    /// The verifier or libbpf refused the steering program.
    #[error("the kernel refused the steering program, which is a fault to report with the log below\n{log}")]
    ProgramRefused {
        /// What libbpf and the verifier said.
        log: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// Anything else that the kernel answered.
    #[error("could not {action}: {source}")]
    Os {
        /// What was attempted.
        action: &'static str,
        /// What the kernel answered.
        source: io::Error,
    },
}

impl XdpError {
    /// The error for an `action` that the kernel refused for no reason particular to it.
    pub(super) fn os(action: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Self::NotPermitted { action },
            _ => Self::Os { action, source },
        }
    }
}
