//! BBR version 3 (draft-ietf-ccwg-bbr): a model of the path, its rate and its round trip, decides how fast and how
//! far to send.
//!
//! All of it in integers: octets, octets a second, microseconds; gains in thousandths.
#![forbid(unsafe_code)]

mod bounds;
mod cycle;
mod min_rtt;
mod rate;

use bounds::Bounds;
use cycle::Probe;
use rate::{Sample, Sampler};

use super::{Acked, Congestion, CongestionControl, Memory, NewReno};
use crate::base::{Micros32, Seq, Slot};

/// The algorithm. Where no record is left for its [`Model`], RFC 5681.
#[derive(Clone, Copy, Debug)]
pub struct Bbr;

impl CongestionControl for Bbr {
    fn on_ack(window: &mut Congestion, acked: &Acked, memory: &mut Memory) {
        if !memory.is_model() {
            window.grow(acked);
        }
    }

    fn on_loss(window: &mut Congestion, flight: u32, mss: u32, memory: Option<&mut Memory>) {
        // The model hears of each loss with the acknowledgment that shows it.
        if !memory.is_some_and(|memory| memory.is_model()) {
            NewReno::on_loss(window, flight, mss, None);
        }
    }

    fn on_timeout(window: &mut Congestion, flight: u32, mss: u32, first: bool, memory: Option<&mut Memory>) {
        if memory.is_some_and(|memory| memory.is_model()) {
            window.cwnd = mss;
        } else {
            NewReno::on_timeout(window, flight, mss, first, None);
        }
    }

    fn on_idle(window: &mut Congestion, initial: u32, memory: Option<&mut Memory>) {
        if !memory.is_some_and(|memory| memory.is_model()) {
            window.resume(initial);
        }
    }
}

/// BBR.state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Twice as fast in each round trip, until the path delivers no more.
    Startup,
    /// Lets the queue drain that this has made.
    Drain,
    /// ProbeBW: leaves room for others.
    Down,
    /// ProbeBW: as fast as the path delivers.
    Cruise,
    /// ProbeBW: fills the pipe, without a queue, for a round trip.
    Refill,
    /// ProbeBW: whether the path delivers more.
    Up,
    /// Nearly nothing in flight, to see the path's own round trip.
    ProbeRtt,
}

/// Gains, thousandths.
impl State {
    const fn pacing_gain(self) -> u64 {
        match self {
            Self::Startup => 2_773,
            Self::Drain => 500,
            Self::Down => 900,
            Self::Up => 1_250,
            Self::Cruise | Self::Refill | Self::ProbeRtt => 1_000,
        }
    }

    const fn cwnd_gain(self) -> u64 {
        match self {
            Self::Up => 2_250,
            Self::ProbeRtt => 500,
            Self::Startup | Self::Drain | Self::Down | Self::Cruise | Self::Refill => 2_000,
        }
    }

    const fn is_probe_bw(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// `IsProbingBW`: losses are expected, and say nothing of a path that has become worse.
    const fn is_probing(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

/// What an acknowledgment, or what was found lost with it, says.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Octets that have arrived, acknowledged or in SACK blocks, modulo 2^32, since the connection began.
    pub arrived: u32,
    /// One past the highest of them.
    pub highest: Seq,
    /// Octets found lost, modulo 2^32, since the connection began.
    pub lost: u32,
    /// Octets in flight now.
    pub in_flight: u32,
    /// Losses are being repaired.
    pub repairing: bool,
    /// Less than a segment is left to send.
    pub dry: bool,
    /// SMSS, octets.
    pub mss: u32,
    /// The instant.
    pub now: Micros32,
}

/// Text that leaves.
#[derive(Clone, Copy, Debug)]
pub struct Left {
    /// One past its last octet.
    pub end: Seq,
    /// Octets.
    pub octets: u32,
    /// It was not sent before.
    pub new: bool,
    /// Octets in flight, with these.
    pub in_flight: u32,
    /// Less than a segment is left to send.
    pub dry: bool,
    /// SRTT, microseconds; zero until the first measurement.
    pub srtt_us: u32,
    /// SMSS, octets.
    pub mss: u32,
    /// The instant.
    pub now: Micros32,
}

impl Left {
    /// Whether nothing else is in flight.
    const fn is_alone(&self) -> bool {
        self.in_flight <= self.octets
    }
}

/// What BBR knows of a connection's path.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    state: State,
    sampler: Sampler,
    bounds: Bounds,
    probe: Probe,
    /// What the segment told that was delivered last of those that could tell.
    last: Sample,
    /// Of the highest rate in this cycle and the one before it, octets a second: `MaxBwFilter`.
    rates: [u64; 2],
    /// The highest rate since the last ProbeRTT, octets a second.
    seen: u64,
    /// Octets a second.
    pacing_rate: u64,
    /// When the next text is due.
    due: Micros32,
    /// The pace, and nothing else, kept text from leaving.
    held: bool,
    /// What pacing left over, nanoseconds.
    pacing_rest: u32,

    min_rtt_us: u32,
    min_rtt_at: Micros32,
    probe_rtt_min_us: u32,
    probe_rtt_min_at: Micros32,
    /// Until when ProbeRTT lasts, once what is in flight is little enough.
    probe_rtt_done: Option<Micros32>,
    probe_rtt_round_done: bool,
    /// The connection was idle, so nothing kept it from seeing the least round trip.
    idle_restart: bool,

    /// `next_round_delivered`: a round trip ends with the first segment that left after so much had arrived.
    round_end: u32,
    round_start: bool,
    rounds_since_probe: u32,
    /// FullBW: the path has delivered no more for three round trips.
    full_rate: u64,
    full_count: u8,
    full_now: bool,
    full_reached: bool,

    /// ACK aggregation: how much more arrived at once than the rate explains, in this and the last five rounds.
    extra_acked: [u32; 2],
    extra_rounds: u8,
    extra_since: Micros32,
    extra_arrived: u32,

    /// When the phase of ProbeBW began, and how long until the next probe, microseconds.
    cycle_at: Micros32,
    probe_wait_us: u32,
    random: u32,

    /// What was last heard of, to tell what is new.
    arrived: u32,
    lost: u32,
    in_flight: u32,
    /// The window was full in this round trip; and in the one before it.
    limited: bool,
    was_limited: bool,
    repairing: bool,
    /// The window before it was made small, octets; and whether now is the time to go back to it.
    prior_cwnd: u32,
    restore: bool,
    /// The window as it was left, octets.
    cwnd: u32,
    /// The window at the start, octets.
    initial: u32,
    next_free: u32,
}

impl Slot for Model {
    fn set_next_free(&mut self, next: u32) {
        self.next_free = next;
    }

    fn next_free(&self) -> u32 {
        self.next_free
    }
}

/// Least window, segments.
const MIN_PIPE: u32 = 4;
/// Before anything is known of the round trip: a millisecond.
const RTT_US: u32 = 1_000;
const UNKNOWN: u32 = u32::MAX;

impl Model {
    /// Of a connection that has sent nothing: its window is `cwnd` octets, its first number `iss`, and `arrived` as
    /// [`Model::heard`] is told.
    pub fn new(cwnd: u32, srtt_us: u32, iss: Seq, arrived: u32, now: Micros32) -> Self {
        let rtt_us = if srtt_us == 0 { RTT_US } else { srtt_us };
        let rate = u64::from(cwnd) * 1_000_000 / u64::from(rtt_us);
        let min_rtt_us = if srtt_us == 0 { UNKNOWN } else { srtt_us };
        Self {
            state: State::Startup,
            sampler: Sampler::new(now),
            bounds: Bounds::default(),
            probe: Probe::default(),
            last: Sample::default(),
            rates: [0; 2],
            seen: 0,
            pacing_rate: State::Startup.pacing_gain() * rate / 1_000,
            due: now,
            pacing_rest: 0,
            held: false,
            min_rtt_us,
            min_rtt_at: now,
            probe_rtt_min_us: min_rtt_us,
            probe_rtt_min_at: now,
            probe_rtt_done: None,
            probe_rtt_round_done: false,
            idle_restart: false,
            round_end: 0,
            round_start: false,
            rounds_since_probe: 0,
            full_rate: 0,
            full_count: 0,
            full_now: false,
            full_reached: false,
            extra_acked: [0; 2],
            extra_rounds: 0,
            extra_since: now,
            extra_arrived: 0,
            cycle_at: now,
            probe_wait_us: 0,
            random: iss.raw() | 1,
            arrived,
            lost: 0,
            in_flight: 0,
            limited: false,
            was_limited: false,
            repairing: false,
            prior_cwnd: 0,
            restore: false,
            cwnd,
            initial: cwnd,
            next_free: 0,
        }
    }

    /// Octets a second at which to send.
    pub const fn pacing_rate(&self) -> u64 {
        self.pacing_rate
    }

    /// Where the model stands.
    pub const fn state(&self) -> State {
        self.state
    }

    /// When the next text is due: not before what left last would have passed the path.
    pub const fn due(&self) -> Micros32 {
        self.due
    }

    /// The retransmission timer expired: everything in flight is lost, and what is sent again leaves at once.
    ///
    /// It is judged now, by what was in flight: later a window of one segment would seem to have been too much.
    pub fn timed_out(&mut self, heard: &Heard) {
        self.save_cwnd();
        self.repairing = true;
        let lost = cycle::news(heard.lost, &mut self.lost);
        self.sampler.lost_all(lost);
        self.last.lost = self.last.lost.saturating_add(lost);
        self.note_loss(heard);
        (self.cwnd, self.in_flight) = (heard.mss, heard.in_flight);
        (self.due, self.pacing_rest) = (heard.now, 0);
    }

    /// Octets leave now.
    pub fn sent(&mut self, left: &Left) {
        if left.is_alone() && left.new {
            self.restart(left);
        }
        self.in_flight = left.in_flight;
        self.sampler.sent(left, left.srtt_us / 32);
        if left.dry && left.in_flight < self.cwnd {
            self.sampler.ran_dry(left.in_flight);
        }
        self.pace(left);
    }

    /// Text was there that had to wait for its time.
    pub const fn hold_back(&mut self) {
        self.held = true;
    }

    /// Puts off what comes after these octets.
    fn pace(&mut self, left: &Left) {
        let rate = self.pacing_rate.max(1);
        let late_us = left.now.since(self.due);
        let ahead = self.due.since(left.now) <= Micros32::AHEAD_MAX;
        let most_us = self.makes_up_for_us(left.mss, rate);
        if left.is_alone() || (!ahead && late_us > most_us) {
            self.pacing_rest = 0;
            self.due = left.now.plus(if left.is_alone() { 0 } else { most_us.wrapping_neg() });
        }
        // Whatever keeps it from sending now, it is not the pace.
        self.held &= !left.dry && left.in_flight + left.mss <= self.cwnd;
        let ns = u64::from(left.octets) * 1_000_000_000 / rate + u64::from(self.pacing_rest);
        self.pacing_rest = u32::try_from(ns % 1_000).expect("less than a thousand");
        self.due = self.due.plus(u32::try_from(ns / 1_000).unwrap_or(u32::MAX).min(Micros32::AHEAD_MAX));
    }

    /// How late something may leave without the rate falling for it, microseconds. A timer that was late is made up for,
    /// or a busy machine would make a path slow; what nobody wanted to send is not.
    fn makes_up_for_us(&self, mss: u32, rate: u64) -> u32 {
        /// Half a round trip, and not more than a scheduler's turn.
        const LATE_US: u32 = 20_000;
        let quantum_us = us_for(self.quantum(mss), rate).min(Micros32::AHEAD_MAX);
        if self.held { quantum_us.max((self.min_rtt_us / 2).min(LATE_US)) } else { quantum_us }
    }

    /// `BBR.send_quantum`: octets that may leave at once.
    fn quantum(&self, mss: u32) -> u32 {
        let millisecond = u32::try_from(self.pacing_rate / 1_000).unwrap_or(u32::MAX);
        millisecond.min(64 << 10).max(2 * mss)
    }
}

/// How long `octets` take at `rate` octets a second, microseconds.
fn us_for(octets: u32, rate: u64) -> u32 {
    u32::try_from(u64::from(octets) * 1_000_000 / rate.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
