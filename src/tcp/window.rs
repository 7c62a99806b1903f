//! How much window is offered: more as the user reads more in a round trip, within a bound and a budget.
#![forbid(unsafe_code)]

use super::chunks::ChunkPool;
use super::cold::Shared;
use super::flags::Flags;
use super::recv_buf::RecvPools;
use super::segment::Segment;
use super::settings::Settings;
use super::tcb::{Env, Tcb};
use crate::base::{Counter, Micros32, Seq, Slot};

/// The window that a connection begins with, octets: what a SYN's field, which is never scaled, can say.
pub(super) const INITIAL_WINDOW: u32 = u16::MAX as u32;

/// What one connection remembers of the window that it offers, while it reads much.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offer {
    /// When this round began.
    round_at: Micros32,
    /// How far the user had read then.
    round_from: Seq,
    /// Octets that the peer was promised beyond [`INITIAL_WINDOW`].
    extra: u32,
    /// The most that was read in a round trip, octets.
    most_read: u32,
}

impl Offer {
    /// Where there is none.
    pub(super) const NOWHERE: u32 = u32::MAX;
}

impl Slot for Offer {
    fn set_next_free(&mut self, next: u32) {
        self.extra = next;
    }

    fn next_free(&self) -> u32 {
        self.extra
    }
}

/// What all connections of an engine have promised their peers beyond initial windows.
///
/// The sum is bounded by three quarters of the receive buffers' chunks, so that whoever makes use of a promise finds
/// the memory for it: the last quarter is for those that never grew.
#[derive(Debug)]
pub struct Promises {
    made: u64,
    share: u64,
}

impl Promises {
    /// None yet, of a pool that nobody has taken from.
    pub(super) const fn new(pool: &ChunkPool) -> Self {
        let octets = pool.free_octets();
        Self { made: 0, share: octets - octets / 4 }
    }

    /// Octets promised now.
    pub const fn made(&self) -> u64 {
        self.made
    }

    /// The most that may be promised, octets.
    pub const fn share(&self) -> u64 {
        self.share
    }

    /// How much one connection may have that has `own` octets of them, while `free` octets of the pool are free.
    ///
    /// Three quarters of what would be left without it: nobody takes all, and when others come it is less, as with
    /// the dynamic thresholds of switches that share a buffer (Choudhury and Hahne, 1998).
    fn most(&self, own: u32, free: u64) -> u32 {
        let room = self.share.min(free).saturating_sub(self.made);
        let most = (room + u64::from(own)) / 4 * 3;
        u32::try_from(most).unwrap_or(u32::MAX)
    }
}

impl Tcb {
    /// The window is looked at when text reaches the next multiple of 2^14 octets: four times in an initial window.
    const LOOK_SHIFT: u32 = 14;
    /// RFC 6298 (2.1): what a round trip may take where none was measured, microseconds.
    const RTT_UNKNOWN_US: u32 = 1_000_000;
    /// The grain of the timestamps' clock, and the shortest round, microseconds.
    const GRAIN_US: u32 = 1_000;

    /// The largest window there may ever be, octets: the settings', and what the window field can express.
    fn recv_bound(&self, settings: &Settings) -> u32 {
        settings.recv_limit.min((1 << 16 << self.rcv.shift()) - 1)
    }

    /// How far the right edge may be beyond what the user has read, octets.
    #[inline(always)]
    pub(super) fn recv_window(&self, shared: &Shared) -> u32 {
        if self.flags.any(Flags::WIDE) {
            return self.wide_window(shared);
        }
        shared.settings.get(self.settings).recv_limit.min(INITIAL_WINDOW)
    }

    #[inline(never)]
    fn wide_window(&self, shared: &Shared) -> u32 {
        let bound = self.recv_bound(shared.settings.get(self.settings));
        bound.min(INITIAL_WINDOW + self.extra_window(shared))
    }

    /// Octets that the peer was promised beyond the initial window.
    pub fn extra_window(&self, shared: &Shared) -> u32 {
        shared.offers.at(self.offer_at(shared)).map_or(0, |offer| offer.extra)
    }

    /// Whether it has a record of what it offers.
    #[inline]
    pub fn has_offer(&self, shared: &Shared) -> bool {
        self.offer_at(shared) != Offer::NOWHERE
    }

    fn offer_at(&self, shared: &Shared) -> u32 {
        self.cold(shared).map_or(self.cold, |cold| cold.offer)
    }

    /// Whether it is time to look at the window, with [`Tcb::look_at_window`], before a segment with text in order is
    /// taken. A connection that gets little is hardly ever looked at.
    #[inline(always)]
    pub fn is_time_to_look(&self, seg: &Segment<'_>) -> bool {
        let end = seg.seq + seg.text_len();
        (seg.seq.raw() ^ end.raw()) >> Self::LOOK_SHIFT != 0
    }

    /// [`Tcb::look_at_window`] if it is time to.
    #[inline(always)]
    pub(super) fn look_if_due(&mut self, seg: &Segment<'_>, env: &mut Env<'_>) {
        if self.is_time_to_look(seg) {
            self.look_at_window(seg.stamps.map(|stamps| stamps.ecr), env);
        }
    }

    /// Dynamic right-sizing (Fisk and Feng, 2001): a user has a window of four times as much as was read in a round
    /// trip. Twice is what the sender needs now, and in slow start it needs twice that by the time of the next look.
    /// Less than seven eighths of that become four times, or where more and more is read, as in slow start, eight if
    /// there is memory for so much. `echo` is what the segment's timestamp echoes.
    #[inline(never)]
    pub fn look_at_window(&mut self, echo: Option<u32>, env: &mut Env<'_>) {
        let bound = self.recv_bound(env.shared.settings.get(self.settings));
        let growable = bound.saturating_sub(INITIAL_WINDOW);
        let Some(own) = self.offer(env.shared).map(|offer| offer.extra) else {
            if growable > 0 {
                self.begin_offer(env);
            }
            return;
        };
        if own > 0 && !self.flags.any(Flags::WIDE) {
            self.take_back(own, growable, env);
        }
        let Some((read, grows)) = self.read_in_round_trip(echo, env) else { return };
        let (own, fair) = self.fair_share(env);
        let most = fair.min(growable);
        // An eighth too much is left alone, or windows that share a budget would go up and down for ever.
        if own > most.saturating_add(most / 8) {
            self.flags.clear(Flags::WIDE);
        } else if read * 7 / 2 > u64::from(INITIAL_WINDOW + own) {
            let extra = |times: u64| (read * times - u64::from(INITIAL_WINDOW)).min(growable.into());
            let wanted = if grows { extra(8).min(fair.into()) } else { 0 };
            self.grow_offer(wanted.max(extra(4)), own, fair, env);
        } else if own == 0 && read * 4 < u64::from(INITIAL_WINDOW) {
            self.end_promise(env.recv, env.shared);
        }
    }

    /// The connection is established, and is to begin with `initial` octets, which is more than its SYN could say.
    #[cold]
    pub(super) fn widen_at_first(&mut self, initial: u32, env: &mut Env<'_>) {
        let bound = self.recv_bound(env.shared.settings.get(self.settings));
        let extra = initial.min(bound).saturating_sub(INITIAL_WINDOW);
        if extra == 0 {
            return;
        }
        self.begin_offer(env);
        // Unless no record was left.
        if self.has_offer(env.shared) {
            let (own, fair) = self.fair_share(env);
            self.grow_offer(extra.into(), own, fair, env);
        }
    }

    /// Octets that it has beyond the initial window, and how many it may have.
    fn fair_share(&self, env: &Env<'_>) -> (u32, u32) {
        let own = self.extra_window(env.shared);
        (own, env.recv.promises.most(own, env.recv.chunks.free_octets()))
    }

    /// `wanted` octets beyond the initial window would be of use, where there are `own`; `fair` are there to be had.
    fn grow_offer(&mut self, wanted: u64, own: u32, fair: u32, env: &mut Env<'_>) {
        if wanted > u64::from(fair) {
            env.counters.add(Counter::WindowGrowthRefused);
        }
        let extra = u32::try_from(wanted).unwrap_or(u32::MAX).min(fair);
        if extra > own {
            env.counters.add(Counter::WindowGrowths);
            self.promise(extra, env.recv, env.shared);
            self.flags.set(Flags::WIDE);
        }
    }

    fn offer<'a>(&self, shared: &'a mut Shared) -> Option<&'a mut Offer> {
        let at = self.offer_at(shared);
        shared.offers.at_mut(at)
    }

    /// There is much to read, it seems: a round begins. Where no record is left the window cannot grow.
    fn begin_offer(&mut self, env: &mut Env<'_>) {
        let read = self.rcv.nxt - self.unread(env.shared);
        let offer = Offer { round_at: Micros32::floor(env.now), round_from: read, extra: 0, most_read: 0 };
        match env.shared.offers.insert(offer) {
            Some(at) => *self.offer_place(env.shared) = at,
            None => env.counters.add(Counter::WindowGrowthRefused),
        }
    }

    /// Where it says where its offer lies.
    fn offer_place<'a>(&'a mut self, shared: &'a mut Shared) -> &'a mut u32 {
        match self.cold_mut(shared) {
            Some(cold) => &mut cold.offer,
            None => &mut self.cold,
        }
    }

    /// How much the user reads in a round trip, octets, and whether that is half as much again as ever before, as it is the
    /// first time, if this round has lasted for one; then the next begins.
    fn read_in_round_trip(&mut self, echo: Option<u32>, env: &mut Env<'_>) -> Option<(u64, bool)> {
        let now = Micros32::floor(env.now);
        let rtt_us = self.reading_rtt_us(echo, env);
        let read_to = self.rcv.nxt - self.unread(env.shared);
        let offer = self.offer(env.shared)?;
        let elapsed_us = now.since(offer.round_at);
        if elapsed_us < Self::GRAIN_US.max(rtt_us - Self::GRAIN_US) {
            return None;
        }
        let read = u64::from(read_to.since(offer.round_from));
        (offer.round_at, offer.round_from) = (now, read_to);
        let read = read * u64::from(rtt_us) / u64::from(elapsed_us);
        let (most, new) = (offer.most_read, u32::try_from(read).unwrap_or(u32::MAX));
        offer.most_read = most.max(new);
        Some((read, new - new / 3 >= most))
    }

    /// How long a round trip takes at most, microseconds: since the sender had heard of us, by what it echoes.
    ///
    /// A sender with little to say makes it seem longer, and then more is offered than is of use. Without timestamps
    /// there is only what our own segments have measured, perhaps before there was a queue on the path.
    fn reading_rtt_us(&self, echo: Option<u32>, env: &Env<'_>) -> u32 {
        let echo = echo.filter(|_| self.flags.any(Flags::STAMPS));
        let stamped = echo.and_then(|ecr| self.echoed_rtt_us(ecr, env));
        match (stamped, self.rtt.srtt_us()) {
            (Some(us), _) => us + Self::GRAIN_US,
            (None, 0) => Self::RTT_UNKNOWN_US,
            (None, us) => us.saturating_mul(2).max(Self::GRAIN_US),
        }
    }

    /// A window that is to become smaller: of the `own` octets that were promised, what the peer has used up meanwhile
    /// is free for others. The right edge stays where it is (RFC 9293 SHLD-14) until the rest is as much as it may have.
    fn take_back(&mut self, own: u32, growable: u32, env: &mut Env<'_>) {
        let open = self.rcv.wnd() + self.unread(env.shared);
        let left = open.saturating_sub(INITIAL_WINDOW).min(own);
        self.promise(left, env.recv, env.shared);
        let (own, fair) = self.fair_share(env);
        self.flags.put(Flags::WIDE, own > 0 && own <= fair.min(growable));
    }

    /// The peer will send nothing more, or little: what it was promised is free for others, and the record goes.
    #[inline(never)]
    pub(super) fn end_promise(&mut self, pools: &mut RecvPools, shared: &mut Shared) {
        self.promise(0, pools, shared);
        shared.offers.remove(self.offer_at(shared));
        *self.offer_place(shared) = Offer::NOWHERE;
        self.flags.clear(Flags::WIDE);
    }

    /// From now on the peer is promised `extra` octets beyond the initial window.
    fn promise(&self, extra: u32, pools: &mut RecvPools, shared: &mut Shared) {
        let offer = self.offer(shared).expect("whoever promises something has a record of it");
        let before = core::mem::replace(&mut offer.extra, extra);
        pools.promises.made = pools.promises.made - u64::from(before) + u64::from(extra);
    }

    /// Whether no more was offered than is accounted for; for tests and simulations.
    pub fn keeps_to_its_promise(&self, shared: &Shared) -> bool {
        let open = self.rcv.wnd() + self.unread(shared);
        !self.state.may_receive() || open <= INITIAL_WINDOW + self.extra_window(shared)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec;

    #[test]
    fn all_who_want_as_much_as_there_is_get_the_same() {
        const POOL: u64 = 1 << 20;
        for wanting in [1, 3, 10, 30] {
            let mut promises = Promises::new(&ChunkPool::new(1_024, 1_024));
            assert_eq!(promises.share(), POOL * 3 / 4);
            let mut own = vec![0_u32; wanting];
            for round in 0..500 {
                for own in &mut own {
                    let most = promises.most(*own, POOL);
                    // What is too much is used up little by little.
                    let new = if most < *own { most.max(*own - *own / 16) } else { most };
                    promises.made = promises.made - u64::from(*own) + u64::from(new);
                    *own = new;
                    assert!(promises.made() <= promises.share(), "{wanting}, round {round}");
                }
            }
            let (least, most) = (own.iter().min().expect("one"), own.iter().max().expect("one"));
            assert!(most - least <= most / 8 + 64, "{wanting}: {own:?}");
            let all = promises.made() * 100 / promises.share();
            assert!((75..=100).contains(&all), "{wanting}: {all} % of the share");
        }
    }

    #[test]
    fn where_memory_is_short_less_is_promised() {
        let mut promises = Promises::new(&ChunkPool::new(1_024, 1_024));
        for (made, own, free, want, why) in [
            (0, 0, 1 << 20, 576 << 10, "three quarters of a share of 768 KiB"),
            (0, 0, 512 << 10, 384 << 10, "three quarters of what is free"),
            (512 << 10, 0, 512 << 10, 0, "what is free was promised to others"),
            (512 << 10, 400 << 10, 512 << 10, 300 << 10, "so whoever has some gets less"),
            (768 << 10, 0, 1 << 20, 0, "the share is used up"),
        ] {
            promises.made = made;
            assert_eq!(promises.most(own, free), want, "{why}");
        }
    }
}
