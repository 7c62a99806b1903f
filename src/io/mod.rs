//! Frames in and out of the machine.
//!
//! | file | what |
//! | --- | --- |
//! | `frame` | [`Frame`] and [`FramePool`]: one owner for each slot of packet memory |
//! | `xdp` | AF_XDP: the steering program, and one socket with its UMEM for each queue |

mod frame;
#[cfg(feature = "xdp")]
pub mod xdp;

pub use frame::{Frame, FramePool};
