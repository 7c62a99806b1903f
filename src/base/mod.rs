//! What every layer may use: time values, sequence numbers, handles, keyed hashes, counters.
//!
//! | file | what |
//! | --- | --- |
//! | `time` | [`Instant`], nanoseconds on a clock that the caller reads; points in time in four octets |
//! | `seq` | [`Seq`], RFC 9293 §3.4 |
//! | `drop_reason` | [`DropReason`]: why a frame went no further |
//! | `counters` | [`Counters`]: what happened, one `u64` each |
//! | `flow` | [`FlowId`], [`FlowKey`] and [`AddrPair`] |
//! | `hash` | [`HashKey`], [`TableHash`]: the keyed hashes behind ISNs, timestamps and tables |
//! | `rng` | [`Rng`]: a small seeded generator, not for secrets |
//! | `slab` | [`Slab`]: fixed-capacity storage, records named by index |
#![forbid(unsafe_code)]

mod counters;
mod drop_reason;
mod flow;
mod hash;
mod rng;
mod seq;
mod slab;
mod time;

pub use counters::{Counter, Counters};
pub use drop_reason::DropReason;
pub use flow::{AddrPair, FlowId, FlowKey};
pub use hash::{HashKey, TableHash};
pub use rng::Rng;
pub use seq::Seq;
pub use slab::{Slab, Slot};
pub use time::{Clock, Instant, Micros32, Millis32, Reading};
