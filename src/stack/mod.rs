//! One core's whole stack, without input or output.
//!
//! | concern | file |
//! | --- | --- |
//! | what the owner of an engine calls | `engine`, `batch`, `census`, `limits`, `memory_plan` |
//! | what an application sees | `app`, `listener` |
//! | frame in: checks, then to its connection | `ingress`, `plain`, `arrive`, `passive` |
//! | frame out: callbacks, output, ends | `serve`, `egress` |
//! | tables | `core`, `flow_table`, `flows`, `half_open`, `keys`, `time_wait`, `wheel` |
//! | addresses | `route`, `neighbour`, `ports`, `rss` |
#![forbid(unsafe_code)]

mod app;
mod arrive;
mod batch;
mod census;
mod core;
mod egress;
mod engine;
mod flow_table;
mod flows;
mod half_open;
mod ingress;
mod keys;
mod limits;
mod listener;
mod look_ahead;
mod memory_plan;
mod neighbour;
mod passive;
mod plain;
mod ports;
mod route;
mod rss;
mod serve;
mod time_wait;
mod wheel;

pub use self::core::EngineConfig;
pub use app::{App, Connect, ConnectError, Cx, Flow};
pub use batch::{RxBatch, TxBatch};
pub use census::Connection;
pub use engine::Engine;
pub use limits::Limits;
pub use listener::{Listen, ListenError, ListenerId};
pub use memory_plan::{MemoryPlan, PlanItem};
pub use route::{NextHop, Route, Routes};
pub use rss::Owners;
pub use wheel::Wheel;
