//! RFC 9293 and its friends; knows segments, not packets.
#![forbid(unsafe_code)]

pub mod chunks;
mod options;
pub mod reassembly;
pub mod recv_buf;
pub mod send_buf;
mod state;
mod user;

pub use options::{CongestionAlgorithm, FlowOptions, KeepAlive};
pub use state::State;
pub use user::{CloseReason, FlowInfo, Report};
