//! Initial sequence numbers (RFC 6528) and timestamp offsets, from keyed hashes of the four-tuple.
#![forbid(unsafe_code)]

use crate::base::{FlowKey, HashKey, Instant, Reading, Seq};

/// The secret behind ISNs and timestamps.
#[derive(Clone, Copy, Debug)]
pub struct Secrets(HashKey);

/// Where a connection's numbers begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// ISN = M + F(tuple): M counts in steps of 4 us, F is a keyed hash (RFC 6528; RFC 9293 MUST-8, SHLD-1).
    pub isn: Seq,
    /// What is added to the millisecond clock in TSval (RFC 7323 §5.4).
    ///
    /// It follows from the tuple alone, so that a new incarnation's timestamps continue the old one's.
    pub timestamp_offset: u32,
}

impl Secrets {
    /// A secret for this purpose alone, derived from `key`.
    pub fn new(key: &HashKey) -> Self {
        Self(key.derive(0x15_4e))
    }

    /// The origin of the connection `key` when it begins at `now`.
    ///
    /// The two halves of one hash: what the peer learns of one says nothing of the other.
    #[expect(clippy::cast_possible_truncation, reason = "halves of a hash, and a clock modulo 2^32")]
    pub fn origin(&self, key: &FlowKey, now: Instant) -> Origin {
        let hash = self.0.flow(key);
        let m = (now.as_micros() / 4) as u32;
        Origin { isn: Seq::new(hash as u32) + m, timestamp_offset: (hash >> 32) as u32 }
    }
}

/// The timestamp clock: milliseconds, modulo 2^32.
#[expect(clippy::cast_possible_truncation, reason = "timestamps are compared modulo 2^32")]
#[inline]
pub fn timestamp_clock(now: impl Reading) -> u32 {
    now.millis() as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::AddrPair;
    use core::net::Ipv4Addr;

    fn key(remote_port: u16) -> FlowKey {
        let addrs = AddrPair::V4 { local: Ipv4Addr::LOCALHOST, remote: Ipv4Addr::LOCALHOST };
        FlowKey { addrs, local_port: 80, remote_port }
    }

    /// RFC 9293 MUST-8: the clock advances the ISN of one tuple by one every 4 us. Without the secret nobody computes it
    /// (MUST-9, SHLD-1).
    #[test]
    fn isns_of_one_tuple_follow_the_clock_and_tuples_differ() {
        let secrets = Secrets::new(&HashKey::new(1, 2));
        let at = |us| secrets.origin(&key(1), Instant::from_micros(us)).isn;
        assert_eq!(at(4_000).since(at(0)), 1_000);
        assert_ne!(at(0), secrets.origin(&key(2), Instant::ZERO).isn);
        assert_ne!(at(0), Secrets::new(&HashKey::new(1, 3)).origin(&key(1), Instant::ZERO).isn);
    }

    #[test]
    fn the_timestamp_offset_survives_the_incarnation_and_says_nothing_of_the_isn() {
        let secrets = Secrets::new(&HashKey::new(1, 2));
        let offset = |port, ms| secrets.origin(&key(port), Instant::from_millis(ms)).timestamp_offset;
        assert_eq!(offset(1, 0), offset(1, 60_000));
        assert_ne!(offset(1, 0), offset(2, 0));
        assert_ne!(Seq::new(offset(1, 0)), secrets.origin(&key(1), Instant::ZERO).isn);
    }
}
