//! How a stack is to run on an interface.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::string::String;
use std::time::Duration;
use std::vec::Vec;

use crate::io::xdp::XdpMode;
use crate::stack::{Limits, Listen};
use crate::tcp::TcpConfig;

/// What a worker does when there is nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Idle {
    /// Looks again at once; where workers outnumber CPUs it lets others run first.
    Spin,
    /// Looks again for a while, then sleeps until a frame, a deadline or a wake-up.
    #[default]
    Adaptive,
}

/// A stack on one interface.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The interface.
    pub dev: String,
    /// How frames are asked for.
    pub mode: XdpMode,
    /// Workers: one a receive queue of the interface.
    pub workers: u16,
    /// CPUs to pin the workers to, in turn; none pins nothing.
    pub cpus: Vec<usize>,
    /// What idle workers do.
    pub idle: Idle,
    /// Where to listen. The ports are also held with kernel sockets that do not listen.
    pub listen: Vec<Listen>,
    /// Addresses of the interface from which active opens are made; empty takes all of them.
    pub sources: Vec<IpAddr>,
    /// Whether active opens are made at all: their source ports are then taken from the kernel.
    pub connects: bool,
    /// Source ports of active opens; `None` takes the widest run of ports that the kernel does not use.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// What each worker's engine may hold.
    pub limits: Limits,
    /// Protocol constants.
    pub tcp: TcpConfig,
    /// Verify TCP checksums on receipt.
    pub verify_checksums: bool,
    /// How long connections may take to end after the wish to stop.
    pub drain: Duration,
}

impl RunConfig {
    /// One worker on `dev` with customary settings, listening nowhere.
    pub fn new(dev: &str) -> Self {
        Self {
            dev: dev.into(),
            mode: XdpMode::Auto,
            workers: 1,
            cpus: Vec::new(),
            idle: Idle::Adaptive,
            listen: Vec::new(),
            sources: Vec::new(),
            connects: false,
            source_ports: None,
            limits: Limits::default(),
            tcp: TcpConfig::default(),
            verify_checksums: true,
            drain: Duration::from_secs(1),
        }
    }
}
