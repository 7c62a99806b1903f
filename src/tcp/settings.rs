//! The per-connection settings as the TCB keeps them: milliseconds in a word, not durations.
#![forbid(unsafe_code)]

use core::time::Duration;

use super::{CongestionAlgorithm, FlowOptions};

/// [`FlowOptions`], packed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest receive window, octets.
    pub recv_limit: u32,
    /// Most text in the send buffer, octets.
    pub send_limit: u32,
    /// Silence before the first keep-alive probe; `None` when keep-alive is off.
    pub keep_idle: Option<Millis>,
    /// Between keep-alive probes.
    pub keep_interval: Millis,
    /// Longest time without progress; `None` leaves it to R2.
    pub user_timeout: Option<Millis>,
    /// Longest close; `None` has no limit.
    pub linger: Option<Millis>,
    /// Keep-alive probes without an answer before giving up.
    pub keep_probes: u8,
    /// Nagle's algorithm.
    pub nagle: bool,
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
}

/// A duration up to 49 days, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(u32);

impl Millis {
    /// Rounded up, so that no timeout comes early; saturating.
    fn new(duration: Duration) -> Self {
        Self(u32::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        Duration::from_millis(self.0 as u64)
    }
}

impl Settings {
    /// RFC 7323 §2.3: a window beyond 2^30 cannot be told from an old one.
    const BUFFER_MAX: u32 = (1 << 30) - 1;

    /// Packs `options`; buffer bounds are clamped to what a window can express.
    pub fn new(options: &FlowOptions) -> Self {
        let keep = options.keep_alive.unwrap_or_default();
        Self {
            recv_limit: options.recv_buffer.clamp(1, Self::BUFFER_MAX),
            send_limit: options.send_buffer.clamp(1, Self::BUFFER_MAX),
            keep_idle: options.keep_alive.map(|keep| Millis::new(keep.idle)),
            keep_interval: Millis::new(keep.interval),
            user_timeout: options.user_timeout.map(Millis::new),
            linger: options.linger.map(Millis::new),
            keep_probes: keep.probes,
            nagle: options.nagle,
            congestion: options.congestion,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_round_up_and_saturate() {
        for (ns, ms) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(Millis::new(Duration::from_nanos(ns)), Millis(ms), "{ns} ns");
        }
        assert_eq!(Millis::new(Duration::MAX), Millis(u32::MAX));
    }
}
