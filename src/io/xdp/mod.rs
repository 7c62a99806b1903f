//! AF_XDP: frames of our endpoints go round the kernel's protocol stack.
//!
//! | file | what |
//! | --- | --- |
//! | `nic` | [`Nic`]: what the kernel and the driver say about an interface |
//! | `steer` | [`Steering`]: the program that picks our frames out, its maps and its link |
//! | `umem` | packet memory shared with the kernel, and why it is as large as it is |
//! | `queue` | [`Queue`]: one rx and tx queue: its socket, or one for each direction |
//! | `burst` | [`RxBurst`] and [`TxBurst`]: the frames of one turn |
//! | `sockopt` | socket options and system calls on a socket |
//! | `error` | [`XdpError`] |
//!
//! A worker's turn is `let (rx, mut tx) = queue.turn()`, the engine on both, and `queue.flush()`.

mod burst;
mod error;
mod nic;
mod queue;
mod sockopt;
mod steer;
mod umem;

pub use burst::{RxBurst, TxBurst};
pub use error::XdpError;
pub use nic::{Nic, RssConfig};
pub use queue::{Queue, QueueOptions, QueueStats, Woken};
pub use steer::{Action, Attached, Steering};

/// How frames get between driver and socket, as asked for or as obtained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpMode {
    /// The first that works: zero-copy, then native, then generic. Never what is obtained.
    Auto,
    /// The program runs in the driver, and the kernel copies frames to and from the UMEM.
    Native,
    /// The program runs on socket buffers, after the driver; works on every interface.
    Generic,
    /// The program runs in the driver, which reads and writes the UMEM itself.
    ZeroCopy,
}

impl XdpMode {
    /// The name that commands and reports use.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::ZeroCopy => "zero-copy",
        }
    }
}

impl core::fmt::Display for XdpMode {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.pad(self.label())
    }
}
