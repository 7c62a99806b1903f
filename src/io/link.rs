//! One direction of a link that is not perfect: its rate, queue and delay, and accidents that follow from a seed.
//!
//! There is no clock and no thread here. The owner says when a frame is offered, is told when the frame will
//! arrive, and keeps it until then, for which [`Held`] is made: [`sim`](super::sim) does so in virtual time, and
//! `ringroad lab` in real time.
#![forbid(unsafe_code)]

use core::cmp::{Ordering, Reverse};
use core::time::Duration;
use std::collections::{BinaryHeap, VecDeque};
use std::vec::Vec;

use crate::base::{Instant, Rng};
use crate::wire::EthernetView;
use crate::wire::ethernet::{ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};

/// A certain chance: chances are in parts per million.
const CERTAIN: u32 = 1_000_000;
/// Nanoseconds in a second.
const NANO: u64 = 1_000_000_000;

/// What a link does to frames in one direction, in this order: a frame may come twice, waits until those
/// before it are sent, is sent at the link's rate, and then meets with the wire: it may be lost or damaged,
/// and arrives after the delay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkConfig {
    /// Bits a second, of all octets of a frame; 0: any number at once, and so there is no queue.
    pub rate_bps: u64,
    /// How much may wait to be sent. What comes when that is full is lost.
    pub queue: QueueLimit,
    /// Larger packets than so many octets, from the IP header on, are lost without a word; 0: none is too large.
    pub mtu: u16,
    /// Which packets of an ECN-capable transport get the mark "congestion experienced" (RFC 3168 §5).
    pub mark: Mark,
    /// Every frame is that late, microseconds.
    pub delay_us: u32,
    /// And later still by up to so many microseconds, at random, each for itself: it reorders frames.
    pub jitter_us: u32,
    /// The frame is lost, each for itself.
    pub loss: u32,
    /// The frame is lost with those around it.
    pub bursts: Option<Bursts>,
    /// The frame is later than others by `reorder_us`, and those behind overtake it.
    pub reorder: u32,
    /// How much later that is, microseconds.
    pub reorder_us: u32,
    /// The frame comes twice.
    pub duplicate: u32,
    /// One bit behind the Ethernet header of an IP packet is flipped. A single bit is what every checksum finds;
    /// two may cancel out, and Ethernet's own check would have found both. ARP has no checksum.
    pub corrupt: u32,
    /// The frame comes once more, past the queue, so much later that nobody expects it.
    pub replay: u32,
    /// How late that may be, microseconds; as often in the last half of this time as in the last half of
    /// what is left, and so on down to a few microseconds.
    pub replay_us: u32,
}

impl LinkConfig {
    /// Frames arrive at once, once, whole and in order.
    pub const PERFECT: Self = Self {
        rate_bps: 0,
        queue: QueueLimit::Packets(1_000),
        mtu: 0,
        mark: Mark::Never,
        delay_us: 0,
        jitter_us: 0,
        loss: 0,
        bursts: None,
        reorder: 0,
        reorder_us: 0,
        duplicate: 0,
        corrupt: 0,
        replay: 0,
        replay_us: 0,
    };

    /// How long a frame is on its way at most, where none has more than `frame_len_max` octets.
    pub fn lifetime_max(&self, frame_len_max: usize) -> Duration {
        let frame = frame_len_max as u64;
        let waiting = match self.queue {
            QueueLimit::Packets(most) => frame * u64::from(most),
            QueueLimit::Octets(most) => frame.max(most),
        };
        // Without a rate nothing waits. One more nanosecond, for what division leaves.
        let queue = (waiting * 8 * NANO).checked_div(self.rate_bps).map_or(0, |ns| ns + 1);
        let wire = [self.delay_us, self.jitter_us, self.reorder_us, self.replay_us].map(u64::from);
        Duration::from_nanos(queue) + Duration::from_micros(wire.into_iter().sum())
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::PERFECT
    }
}

/// How much may wait for a link, the frame that is being sent included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueLimit {
    /// So many frames.
    Packets(u32),
    /// So many octets; a frame finds room wherever nothing else waits.
    Octets(u64),
}

/// Which packets are marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// None.
    Never,
    /// Those that find at least so many frames waiting.
    Above(u32),
    /// That share, per million, whatever waits.
    Share(u32),
}

/// Losses in bursts: Gilbert's and Elliott's chain of two states, which may change before each frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bursts {
    /// A burst begins, per million.
    pub enter: u32,
    /// It ends, per million.
    pub leave: u32,
    /// A frame is lost during a burst, per million.
    pub loss: u32,
}

impl Bursts {
    /// A share of `loss` per million of all frames is lost, `mean_len` in a row on average.
    pub fn new(loss: u32, mean_len: u32) -> Self {
        let loss = u64::from(loss.min(CERTAIN));
        let leave = CERTAIN / mean_len.max(1);
        // The share of the time that is spent in bursts is enter / (enter + leave).
        let enter = (u64::from(leave) * loss).checked_div(u64::from(CERTAIN) - loss);
        let enter = enter.map_or(CERTAIN, |enter| u32::try_from(enter).unwrap_or(CERTAIN).min(CERTAIN));
        let leave = if loss == u64::from(CERTAIN) { 0 } else { leave };
        Self { enter: if loss > 0 { enter.max(1) } else { 0 }, leave, loss: CERTAIN }
    }
}

/// What became of all frames: offered, duplicated and replayed ones were passed on or lost for one of four reasons.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Given to the link.
    pub offered: u64,
    /// Copies that the link added.
    pub duplicated: u64,
    /// Copies that come much later.
    pub replayed: u64,
    /// On their way, or arrived.
    pub passed: u64,
    /// Lost because the link carries smaller ones only.
    pub too_large: u64,
    /// Lost because the queue was full.
    pub queue_full: u64,
    /// Lost on the wire, each for itself.
    pub lost: u64,
    /// Lost on the wire in bursts.
    pub lost_in_bursts: u64,
    /// Passed on with a bit flipped.
    pub corrupted: u64,
    /// Passed on with a mark that they did not have.
    pub marked: u64,
    /// Passed on later than those behind them.
    pub reordered: u64,
}

impl LinkStats {
    /// Copies that the link added, of both kinds.
    pub const fn repeated(&self) -> u64 {
        self.duplicated + self.replayed
    }

    /// Frames lost, for whatever reason.
    pub const fn dropped(&self) -> u64 {
        self.too_large + self.queue_full + self.lost + self.lost_in_bursts
    }
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    /// Until when the frames that were taken keep the link busy, and what division left of that.
    busy_until: Instant,
    rest: u64,
    /// When each frame that waits, or is being sent, will be sent, and its octets.
    waiting: VecDeque<(Instant, u64)>,
    waiting_octets: u64,
    in_burst: bool,
    stats: LinkStats,
}

impl Link {
    /// A link on which nothing is yet.
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            busy_until: Instant::ZERO,
            rest: 0,
            waiting: VecDeque::new(),
            waiting_octets: 0,
            in_burst: false,
            stats: LinkStats::default(),
        }
    }

    /// What it does to frames.
    pub const fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Changes what it does to frames that are offered from now on.
    pub const fn set_config(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// What it has done.
    pub const fn stats(&self) -> LinkStats {
        self.stats
    }

    /// Takes a frame that comes at `now`, which never goes back, and calls `put` with each copy that will arrive
    /// and when it does.
    pub fn offer(
        &mut self,
        now: Instant,
        frame: Vec<u8>,
        rng: &mut Rng,
        mut put: impl FnMut(Instant, Vec<u8>),
    ) {
        self.stats.offered += 1;
        if self.config.mtu > 0 && packet_len(&frame) > usize::from(self.config.mtu) {
            self.stats.too_large += 1;
            return;
        }
        if rng.chance(self.config.duplicate) {
            self.stats.duplicated += 1;
            self.carry(now, frame.clone(), rng, &mut put);
        }
        let again = (self.config.replay > 0).then(|| frame.clone());
        self.carry(now, frame, rng, &mut put);
        if rng.chance(self.config.replay)
            && let Some(again) = again
        {
            self.stats.replayed += 1;
            self.stats.passed += 1;
            let most = self.config.replay_us >> rng.below(20);
            let late = u64::from(self.config.delay_us) + up_to(rng, most);
            put(now.plus_micros(late), again);
        }
    }

    fn carry(
        &mut self,
        now: Instant,
        mut frame: Vec<u8>,
        rng: &mut Rng,
        put: &mut impl FnMut(Instant, Vec<u8>),
    ) {
        let Some((sent_at, waiting)) = self.pass_queue(now, frame.len()) else {
            self.stats.queue_full += 1;
            return;
        };
        if self.is_lost(rng) {
            return;
        }
        let is_marked = match self.config.mark {
            Mark::Never => false,
            Mark::Above(least) => waiting >= least as usize,
            Mark::Share(share) => rng.chance(share),
        };
        self.stats.marked += u64::from(is_marked && mark(&mut frame));
        self.stats.corrupted += u64::from(rng.chance(self.config.corrupt) && flip_a_bit(&mut frame, rng));
        let mut late = u64::from(self.config.delay_us) + up_to(rng, self.config.jitter_us);
        if self.config.reorder > 0 && rng.chance(self.config.reorder) {
            self.stats.reordered += 1;
            late += u64::from(self.config.reorder_us);
        }
        self.stats.passed += 1;
        put(sent_at.plus_micros(late), frame);
    }

    /// When a frame that comes now has been sent, and how many frames it found waiting; `None` when there is no room.
    fn pass_queue(&mut self, now: Instant, len: usize) -> Option<(Instant, usize)> {
        if self.config.rate_bps == 0 {
            return Some((now, 0));
        }
        while let Some(&(sent_at, octets)) = self.waiting.front()
            && sent_at <= now
        {
            self.waiting.pop_front();
            self.waiting_octets -= octets;
        }
        let (len, waiting) = (len as u64, self.waiting.len());
        let has_room = match self.config.queue {
            QueueLimit::Packets(most) => waiting < most as usize,
            QueueLimit::Octets(most) => waiting == 0 || self.waiting_octets + len <= most,
        };
        if !has_room {
            return None;
        }
        if waiting == 0 {
            (self.busy_until, self.rest) = (self.busy_until.max(now), 0);
        }
        let work = len * 8 * NANO + self.rest;
        self.rest = work % self.config.rate_bps;
        self.busy_until = Instant::from_nanos(self.busy_until.as_nanos() + work / self.config.rate_bps);
        self.waiting.push_back((self.busy_until, len));
        self.waiting_octets += len;
        Some((self.busy_until, waiting))
    }

    fn is_lost(&mut self, rng: &mut Rng) -> bool {
        if let Some(bursts) = self.config.bursts {
            let turn = if self.in_burst { bursts.leave } else { bursts.enter };
            self.in_burst ^= rng.chance(turn);
            if self.in_burst && rng.chance(bursts.loss) {
                self.stats.lost_in_bursts += 1;
                return true;
            }
        }
        let is_lost = rng.chance(self.config.loss);
        self.stats.lost += u64::from(is_lost);
        is_lost
    }
}

fn up_to(rng: &mut Rng, most_us: u32) -> u64 {
    rng.below(most_us.saturating_add(1)).into()
}

/// Where the IP packet of a frame begins, and its EtherType; `None` for anything else.
fn ip_packet(frame: &[u8]) -> Option<(usize, u16)> {
    let view = EthernetView::parse(frame).ok()?;
    let is_ip = matches!(view.ether_type, ETHER_TYPE_IPV4 | ETHER_TYPE_IPV6);
    is_ip.then(|| (frame.len() - view.payload.len(), view.ether_type))
}

/// Octets behind the link header, of whatever kind.
fn packet_len(frame: &[u8]) -> usize {
    EthernetView::parse(frame).map_or(0, |view| view.payload.len())
}

/// Sets "congestion experienced" where the transport is ECN-capable; says whether that was new.
fn mark(frame: &mut [u8]) -> bool {
    /// The two bits of RFC 3168 §5; both set are the mark, none set says that the transport knows no ECN.
    const ECN: u8 = 0b11;
    let Some((at, ether_type)) = ip_packet(frame) else { return false };
    let packet = &mut frame[at..];
    // IPv4 has them at the end of its second octet, IPv6 in the middle of it.
    let shift = if ether_type == ETHER_TYPE_IPV6 { 4 } else { 0 };
    let least = if ether_type == ETHER_TYPE_IPV6 { 2 } else { 12 };
    if packet.len() < least || matches!(packet[1] >> shift & ECN, 0 | ECN) {
        return false;
    }
    let before = packet[1];
    packet[1] |= ECN << shift;
    if ether_type == ETHER_TYPE_IPV4 {
        // RFC 1624 equation 3: what the word grew by is added to the sum, whose complement the checksum is.
        let grown = u32::from(packet[1] - before);
        let checksum = u32::from(!u16::from_be_bytes([packet[10], packet[11]])) + grown;
        let folded =
            !u16::try_from((checksum & 0xffff) + (checksum >> 16)).expect("a sum of two words, folded");
        packet[10..12].copy_from_slice(&folded.to_be_bytes());
    }
    true
}

fn flip_a_bit(frame: &mut [u8], rng: &mut Rng) -> bool {
    let Some((at, _)) = ip_packet(frame) else { return false };
    let packet = &mut frame[at..];
    let bits = u32::try_from(packet.len() * 8).expect("a frame is short");
    if bits == 0 {
        return false;
    }
    let bit = rng.below(bits);
    packet[bit as usize / 8] ^= 1 << (bit % 8);
    true
}

/// What is on its way, by the time of its arrival; what arrives at one instant keeps its order.
#[derive(Clone, Debug)]
pub struct Held<T> {
    heap: BinaryHeap<Reverse<Entry<T>>>,
    put: u64,
}

#[derive(Clone, Debug)]
struct Entry<T> {
    due: Instant,
    number: u64,
    what: T,
}

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), put: 0 }
    }
}

impl<T> Held<T> {
    /// Keeps `what` until `due`.
    pub fn put(&mut self, due: Instant, what: T) {
        self.put += 1;
        self.heap.push(Reverse(Entry { due, number: self.put, what }));
    }

    /// When the next one arrives.
    pub fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(entry)| entry.due)
    }

    /// The next one that has arrived by `now`, to be looked at.
    pub fn peek_due(&self, now: Instant) -> Option<&T> {
        self.heap.peek().filter(|Reverse(entry)| entry.due <= now).map(|Reverse(entry)| &entry.what)
    }

    /// The same, taken out.
    pub fn take_due(&mut self, now: Instant) -> Option<T> {
        self.peek_due(now)?;
        self.heap.pop().map(|Reverse(entry)| entry.what)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests;
