//! Source ports of active opens: RFC 6056 algorithm 4, double hash.
#![forbid(unsafe_code)]

use alloc::boxed::Box;
use core::ops::RangeInclusive;

use crate::base::{FlowKey, HashKey};

/// Picks source ports.
///
/// An observer of one destination's ports learns nothing of another's: each has its own place to begin
/// and, within a table of counters, its own count. Ports of one destination come in order, so each is
/// away for as long as possible before it comes again.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    count: u32,
    key: HashKey,
    counters: Box<[u32; Self::COUNTERS]>,
}

impl Ports {
    const COUNTERS: usize = 1_024;

    /// Ports from `range`, by a secret of their own.
    pub fn new(range: RangeInclusive<u16>, key: HashKey) -> Self {
        let (first, last) = range.into_inner();
        let count = u32::from(last.saturating_sub(first)) + u32::from(first <= last);
        Self { first, count, key, counters: Box::new([0; Self::COUNTERS]) }
    }

    /// The ports to try towards `key`'s remote socket, in order, each once.
    #[expect(clippy::cast_possible_truncation, reason = "parts of a hash")]
    pub fn candidates(&self, key: &FlowKey) -> Candidates {
        let hash = self.key.flow(&FlowKey { local_port: 0, ..*key });
        let slot = (hash >> 32) as usize % Self::COUNTERS;
        let next = (hash as u32).wrapping_add(self.counters[slot]);
        Candidates { slot, next, left: self.count, first: self.first, count: self.count, tried: 0 }
    }

    /// The last of `candidates` was taken, or none of them: the next search goes on behind it.
    pub fn settle(&mut self, candidates: &Candidates) {
        let counter = &mut self.counters[candidates.slot];
        *counter = counter.wrapping_add(candidates.tried);
    }
}

/// A search for a free port, apart from [`Ports`] so that tables may be asked between its steps.
#[derive(Debug)]
pub struct Candidates {
    slot: usize,
    next: u32,
    left: u32,
    first: u16,
    count: u32,
    tried: u32,
}

impl Iterator for Candidates {
    type Item = u16;

    #[expect(clippy::cast_possible_truncation, reason = "an offset within a range of ports")]
    fn next(&mut self) -> Option<u16> {
        self.left = self.left.checked_sub(1)?;
        let step = self.next % self.count;
        self.next = self.next.wrapping_add(1);
        self.tried += 1;
        Some(self.first + step as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::AddrPair;
    use core::net::Ipv4Addr;
    use std::collections::HashSet;
    use std::vec::Vec;

    fn select(ports: &mut Ports, key: FlowKey, mut is_free: impl FnMut(u16) -> bool) -> Option<u16> {
        let mut candidates = ports.candidates(&key);
        let chosen = candidates.find(|&port| is_free(port));
        ports.settle(&candidates);
        chosen
    }

    fn key(remote_port: u16) -> FlowKey {
        let addrs = AddrPair::V4 { local: Ipv4Addr::LOCALHOST, remote: Ipv4Addr::LOCALHOST };
        FlowKey { addrs, local_port: 0, remote_port }
    }

    #[test]
    fn every_port_comes_once_before_any_comes_again() {
        let mut ports = Ports::new(1_000..=1_999, HashKey::new(1, 2));
        let taken: HashSet<u16> =
            (0..1_000).map(|_| select(&mut ports, key(80), |_| true).expect("a port")).collect();
        assert_eq!(taken.len(), 1_000);
        assert!(taken.iter().all(|port| (1_000..=1_999).contains(port)));
    }

    #[test]
    fn busy_ports_are_passed_over_and_exhaustion_ends() {
        let mut ports = Ports::new(10..=12, HashKey::new(1, 2));
        let only = |free: u16| move |port| port == free;
        assert_eq!(select(&mut ports, key(80), only(12)), Some(12));
        assert_eq!(select(&mut ports, key(80), |_| false), None);
        let empty = RangeInclusive::new(2, 1);
        assert_eq!(select(&mut Ports::new(empty, HashKey::new(1, 2)), key(80), |_| true), None);
    }

    #[test]
    fn the_whole_port_space_is_a_valid_range() {
        let mut ports = Ports::new(0..=u16::MAX, HashKey::new(1, 2));
        assert!(select(&mut ports, key(80), |port| port == u16::MAX).is_some());
    }

    #[test]
    fn destinations_begin_at_unrelated_ports() {
        let mut ports = Ports::new(1_024..=65_535, HashKey::new(1, 2));
        let firsts: Vec<u16> = (0..4).filter_map(|port| select(&mut ports, key(port), |_| true)).collect();
        assert!(firsts.windows(2).all(|pair| pair[0].abs_diff(pair[1]) > 1), "{firsts:?}");
    }
}
