//! Header views and checksums; knows octets, not connections.
#![forbid(unsafe_code)]

mod tcp_options;

pub use tcp_options::{SackBlocks, TcpOptions, Timestamps};
