//! How a stack is to run on an interface.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::string::String;
use std::time::Duration;
use std::vec::Vec;

use super::RunError;
use crate::io::xdp::XdpMode;
use crate::stack::{Limits, Listen};
use crate::tcp::{TcpConfig, TimeWaitFull};

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

    /// Settings that contradict each other or themselves, whatever the machine is like.
    ///
    /// # Errors
    ///
    /// The first of them.
    pub(super) fn check(&self) -> Result<(), RunError> {
        if let Some(range) = self.source_ports.as_ref().filter(|range| range.is_empty()) {
            return Err(RunError::EmptySourcePorts { first: *range.start(), last: *range.end() });
        }
        let asked = self.tcp.time_wait;
        if asked.is_zero() {
            return Err(RunError::TimeWait { asked, what: "no time for old segments to die out" });
        }
        if asked > Self::TIME_WAIT_MAX {
            return Err(RunError::TimeWait { asked, what: "too long to be told from a moment ago" });
        }
        if self.tcp.time_wait_full == TimeWaitFull::RefuseOpens && self.limits.time_wait_max == 0 {
            return Err(RunError::NoTimeWaitRoom);
        }
        Ok(())
    }

    /// Records have the time in 32 bits of milliseconds.
    const TIME_WAIT_MAX: Duration = Duration::from_secs(12 * 24 * 3_600);
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn settings_that_cannot_be_meant_are_refused_in_a_sentence() {
        assert!(RunConfig::new("lo").check().is_ok());
        let tcp = |time_wait| RunConfig {
            tcp: TcpConfig { time_wait, ..TcpConfig::default() },
            ..RunConfig::new("lo")
        };
        assert!(tcp(Duration::from_nanos(1)).check().is_ok());
        let no_room = RunConfig {
            limits: Limits { time_wait_max: 0, ..Limits::default() },
            tcp: TcpConfig { time_wait_full: TimeWaitFull::RefuseOpens, ..TcpConfig::default() },
            ..RunConfig::new("lo")
        };
        let none = RunConfig { source_ports: Some(RangeInclusive::new(9, 8)), ..RunConfig::new("lo") };
        for (config, words) in [
            (none, "source ports 9-8 are none"),
            (tcp(Duration::ZERO), "TIME-WAIT (`TcpConfig::time_wait`) of 0ns is no time"),
            (tcp(Duration::MAX), "is too long"),
            (no_room, "TIME-WAIT has room for no record"),
        ] {
            let told = config.check().expect_err(words).to_string();
            assert!(told.contains(words), "{told}");
        }
    }
}
