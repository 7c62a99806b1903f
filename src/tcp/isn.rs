//! Initial sequence numbers (RFC 6528) and timestamp offsets, from keyed hashes of the four-tuple.
#![forbid(unsafe_code)]

use crate::base::{FlowKey, HashKey, Instant, Seq};

/// The secrets behind ISNs and timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Secrets {
    isn: HashKey,
    timestamps: HashKey,
}

impl Secrets {
    /// Both secrets, from one.
    pub fn new(key: &HashKey) -> Self {
        Self { isn: key.derive(0x15_4e), timestamps: key.derive(0x75_7a) }
    }

    /// ISN = M + F(tuple): M counts in steps of 4 us, F is a keyed hash (RFC 9293 MUST-8, SHLD-1).
    #[expect(clippy::cast_possible_truncation, reason = "M and F are taken modulo 2^32")]
    pub fn isn(&self, key: &FlowKey, now: Instant) -> Seq {
        let m = (now.as_micros() / 4) as u32;
        Seq::new(self.isn.flow(key) as u32) + m
    }

    /// What is added to the millisecond clock in TSval (RFC 7323 §5.4).
    ///
    /// It follows from the tuple alone, so that a new incarnation's timestamps continue the old one's.
    #[expect(clippy::cast_possible_truncation, reason = "the offset is taken modulo 2^32")]
    pub fn timestamp_offset(&self, key: &FlowKey) -> u32 {
        self.timestamps.flow(key) as u32
    }
}

/// The timestamp clock: milliseconds, modulo 2^32.
#[expect(clippy::cast_possible_truncation, reason = "timestamps are compared modulo 2^32")]
pub const fn timestamp_clock(now: Instant) -> u32 {
    now.as_millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{IpAddr, Ipv4Addr};

    fn key(remote_port: u16) -> FlowKey {
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        FlowKey { local: ip, remote: ip, local_port: 80, remote_port }
    }

    /// RFC 9293 MUST-8: the clock advances the ISN of one tuple by one every 4 us.
    #[test]
    fn isns_of_one_tuple_follow_the_clock_and_tuples_differ() {
        let secrets = Secrets::new(&HashKey::new(1, 2));
        let at = |us| secrets.isn(&key(1), Instant::from_micros(us));
        assert_eq!(at(4_000).since(at(0)), 1_000);
        assert_ne!(at(0), secrets.isn(&key(2), Instant::ZERO));
        assert_ne!(at(0), Secrets::new(&HashKey::new(1, 3)).isn(&key(1), Instant::ZERO));
    }

    #[test]
    fn the_timestamp_offset_survives_the_incarnation_and_says_nothing_of_the_isn() {
        let secrets = Secrets::new(&HashKey::new(1, 2));
        assert_eq!(secrets.timestamp_offset(&key(1)), secrets.timestamp_offset(&key(1)));
        assert_ne!(secrets.timestamp_offset(&key(1)), secrets.timestamp_offset(&key(2)));
        assert_ne!(Seq::new(secrets.timestamp_offset(&key(1))), secrets.isn(&key(1), Instant::ZERO));
    }
}
