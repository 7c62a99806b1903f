//! One core's whole stack, without input or output.
#![forbid(unsafe_code)]

mod app;
mod batch;
pub mod flow_table;
pub mod wheel;

pub use app::{App, Connect, ConnectError, Cx, Flow};
pub use batch::{RxBatch, TxBatch};
