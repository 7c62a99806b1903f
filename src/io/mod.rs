//! Frames in and out of the machine.
//!
//! | file | what |
//! | --- | --- |
//! | `frame` | [`Frame`] and [`FramePool`]: one owner for each slot of packet memory |
//! | `huge_pages` | `HugePages`: an allocator for programs with large tables, on Linux |
//! | [`link`] | what an impaired link does to frames, in whatever time |
//! | [`memory`] | a wire between two engines, on one thread or two |
//! | `packet` | `PacketSocket`: an interface's frames beside the kernel's stack, for the lab's forwarder |
//! | [`sim`] | a seeded network in memory, in virtual time |
//! | `xdp` | AF_XDP: the steering program, and for each queue a UMEM with its sockets |

mod frame;
#[cfg(target_os = "linux")]
mod huge_pages;
pub mod link;
pub mod memory;
#[cfg(feature = "xdp")]
pub mod packet;
pub mod sim;
#[cfg(feature = "xdp")]
pub mod xdp;

pub use frame::{Frame, FramePool};
#[cfg(target_os = "linux")]
pub use huge_pages::HugePages;
