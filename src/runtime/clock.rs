//! The clock that workers read once a turn.
#![forbid(unsafe_code)]

use nix::time::{ClockId, clock_gettime};

use crate::base::Instant;

/// Now, on CLOCK_MONOTONIC: nanoseconds since boot, the same for every worker and every process.
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the kernel has a monotonic clock");
    let seconds = u64::try_from(time.tv_sec()).expect("time since boot");
    let nanos = u64::try_from(time.tv_nsec()).expect("below a second");
    Instant::from_nanos(seconds * 1_000_000_000 + nanos)
}
