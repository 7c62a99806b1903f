//! What a whole run consists of, and how workers share it.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use std::vec::Vec;

use super::Workload;

/// A whole run, the same for all workers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What an exchange is.
    pub workload: Workload,
    /// Where to connect, in turn; never empty.
    pub targets: Vec<SocketAddr>,
    /// Our addresses, in turn; empty leaves the choice to the transport.
    pub sources: Vec<IpAddr>,
    /// Connections at a time, all workers together.
    pub connections: u32,
    /// Exchanges per second of the open loop, all workers together; `None` is the closed loop.
    pub rate: Option<u64>,
    /// Time before the measurement.
    pub warmup: Duration,
    /// Time of the measurement.
    pub duration: Duration,
    /// Longest handshake.
    pub connect_timeout: Duration,
    /// Workers that share the connections.
    pub workers: u16,
}

impl Plan {
    /// The connections of one worker.
    pub fn share(&self, worker: u16) -> u32 {
        let (workers, worker) = (u32::from(self.workers), u32::from(worker));
        self.connections / workers + u32::from(worker < self.connections % workers)
    }
}
