//! The per-connection settings as TCBs share them: packed, and each set of them stored once.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::time::Duration;

use super::{CongestionAlgorithm, FlowOptions};

/// [`FlowOptions`], packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest receive window, octets.
    pub recv_limit: u32,
    /// The window right after the handshake, no larger than that.
    pub recv_initial: u32,
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
    /// Nagle's algorithm, at the start.
    pub nagle: bool,
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// Explicit congestion notification.
    pub ecn: bool,
    /// Differentiated services code point.
    pub dscp: u8,
    /// IPv4 time to live, IPv6 hop limit.
    pub ttl: u8,
}

/// A duration up to 49 days, milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Millis(u32);

impl Millis {
    /// Rounded up, so that no timeout comes early; saturating.
    fn new(duration: Duration) -> Self {
        Self(super::timers::millis(duration))
    }

    /// How many.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl Settings {
    /// RFC 7323 §2.3: a window beyond 2^30 cannot be told from an old one.
    const BUFFER_MAX: u32 = (1 << 30) - 1;

    /// Packs `options`; buffer bounds are clamped to what a window can express.
    pub fn new(options: &FlowOptions) -> Self {
        let keep = options.keep_alive.unwrap_or_default();
        let recv_limit = options.recv_buffer.clamp(1, Self::BUFFER_MAX);
        Self {
            recv_limit,
            recv_initial: options.recv_initial.min(recv_limit),
            send_limit: options.send_buffer.clamp(1, Self::BUFFER_MAX),
            keep_idle: options.keep_alive.map(|keep| Millis::new(keep.idle)),
            keep_interval: Millis::new(keep.interval),
            user_timeout: options.user_timeout.map(Millis::new),
            linger: options.linger.map(Millis::new),
            keep_probes: keep.probes,
            nagle: options.nagle,
            congestion: options.congestion,
            ecn: options.may_use_ecn(),
            dscp: options.dscp,
            ttl: options.ttl,
        }
    }
}

/// Names one set of settings in a [`SettingsTable`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettingsId(u16);

/// Each different set of settings once, with a count of those who use it.
#[derive(Debug)]
pub struct SettingsTable {
    entries: Vec<Entry>,
    /// What was asked for last, most likely asked for again; meaningful while the entry is in use.
    last: (FlowOptions, SettingsId),
    max: u16,
}

/// One set, in a cache line of its own.
#[derive(Debug)]
#[repr(align(64))]
struct Entry {
    settings: Settings,
    users: u32,
}

const _: () = assert!(size_of::<Entry>() == 64);

impl SettingsTable {
    /// An empty table for at most `max` sets; the only allocation there is.
    pub fn new(max: u16) -> Self {
        let last = (FlowOptions::default(), SettingsId(0));
        Self { entries: Vec::with_capacity(usize::from(max)), last, max }
    }

    /// Octets of a table for `max` sets.
    pub const fn octets(max: u16) -> u64 {
        max as u64 * size_of::<Entry>() as u64
    }

    /// The entry of these settings, which has one user more from now on; `None` when there is no room for it.
    pub fn intern(&mut self, options: &FlowOptions) -> Option<SettingsId> {
        let (last, id) = &self.last;
        if last == options
            && let Some(entry) = self.entries.get_mut(usize::from(id.0))
            && entry.users > 0
        {
            entry.users += 1;
            return Some(*id);
        }
        self.search(options)
    }

    fn search(&mut self, options: &FlowOptions) -> Option<SettingsId> {
        let settings = Settings::new(options);
        let at = self.place(&settings)?;
        match self.entries.get_mut(at) {
            Some(entry) if entry.settings == settings => entry.users += 1,
            Some(entry) => *entry = Entry { settings, users: 1 },
            None => self.entries.push(Entry { settings, users: 1 }),
        }
        let id = SettingsId(u16::try_from(at).expect("below the maximum, a u16"));
        self.last = (*options, id);
        Some(id)
    }

    /// Where these settings are, or can be put.
    fn place(&self, settings: &Settings) -> Option<usize> {
        let known = self.entries.iter().position(|entry| entry.settings == *settings);
        let unused = || self.entries.iter().position(|entry| entry.users == 0);
        let fresh = Some(self.entries.len()).filter(|&len| len < usize::from(self.max));
        known.or_else(unused).or(fresh)
    }

    /// One user more.
    #[inline]
    pub fn hold(&mut self, id: SettingsId) {
        self.entries[usize::from(id.0)].users += 1;
    }

    /// One user less.
    #[inline]
    pub fn release(&mut self, id: SettingsId) {
        self.entries[usize::from(id.0)].users -= 1;
    }

    /// The settings of an entry in use.
    #[inline]
    pub fn get(&self, id: SettingsId) -> &Settings {
        &self.entries[usize::from(id.0)].settings
    }

    /// How many users there are, all sets together.
    pub fn users(&self) -> u64 {
        self.entries.iter().map(|entry| u64::from(entry.users)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(recv_buffer: u32) -> FlowOptions {
        FlowOptions { recv_buffer, ..FlowOptions::default() }
    }

    #[test]
    fn equal_settings_are_stored_once_and_unused_ones_make_room() {
        let mut table = SettingsTable::new(2);
        let (a, b) = (table.intern(&with(1)).expect("room"), table.intern(&with(2)).expect("room"));
        assert_ne!(a, b);
        assert_eq!(table.intern(&with(1)), Some(a));
        assert_eq!(table.intern(&with(1)), Some(a));
        assert_eq!((table.get(a).recv_limit, table.get(b).recv_limit), (1, 2));
        assert_eq!(table.intern(&with(3)), None, "both are in use");
        table.release(b);
        assert_eq!(table.intern(&with(3)), Some(b));
        assert_eq!((table.get(a).recv_limit, table.get(b).recv_limit, table.users()), (1, 3, 4));
        table.hold(a);
        (0..4).for_each(|_| table.release(a));
        assert_eq!(table.users(), 1);
        assert_eq!(table.intern(&with(1)), Some(a), "unused, and still what it was");
        assert_eq!(table.users(), 2);
    }

    #[test]
    fn what_is_not_of_the_tcb_makes_no_difference() {
        let mut table = SettingsTable::new(1);
        let id = table.intern(&FlowOptions::default());
        let other =
            FlowOptions { vlan: Some(7), scope_id: 3, connect_timeout: Some(Duration::ZERO), ..with(0) };
        let same = FlowOptions { recv_buffer: FlowOptions::default().recv_buffer, ..other };
        assert_eq!(table.intern(&same), id);
        assert_eq!(table.intern(&other), None);
    }

    #[test]
    fn durations_round_up_and_saturate() {
        for (ns, ms) in [(0, 0), (1, 1), (1_000_000, 1), (1_000_001, 2)] {
            assert_eq!(Millis::new(Duration::from_nanos(ns)), Millis(ms), "{ns} ns");
        }
        assert_eq!(Millis::new(Duration::MAX), Millis(u32::MAX));
    }
}
