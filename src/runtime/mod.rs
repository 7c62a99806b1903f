//! Threads, the clock, and what the stack asks of the operating system while it runs.
//!
//! | file | what |
//! | --- | --- |
//! | `config`, `error` | how a stack is to run on an interface, and why it cannot |
//! | `run` | brings a stack up, runs its workers, takes it down |
//! | `neighbours` | passes the kernel's neighbours on, and asks it for those that workers want |
//! | `worker` | one pinned thread, one queue, one engine: the loop |
//! | `control`, `flags`, `hand_over` | what other threads and workers may say to a worker |
//! | `ports` | ports shared with the kernel |
//! | `clock`, `secret` | CLOCK_MONOTONIC, and the secret of this boot |
//! | `netlink` | links, addresses, routes and neighbours over rtnetlink |
//! | `netns` | network namespaces: make, enter, remove |
//! | `ethtool` | the one offload that an AF_XDP peer must be able to switch off |

pub(crate) mod clock;
mod config;
mod control;
mod error;
pub mod ethtool;
mod flags;
mod hand_over;
mod neighbours;
pub mod netlink;
pub mod netns;
mod ports;
mod run;
mod secret;
mod worker;

pub use config::{Idle, RunConfig};
pub use control::Handle;
pub use error::RunError;
pub use run::{Ready, RunEnd, run};
pub use worker::WorkerEnd;

/// What to add to an error that root would not have seen.
fn root_hint(error: &std::io::Error) -> &'static str {
    if error.kind() == std::io::ErrorKind::PermissionDenied { "; run this as root" } else { "" }
}
