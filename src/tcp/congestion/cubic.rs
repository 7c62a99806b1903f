//! CUBIC (RFC 9438, RFC 9293 MAY-18): the window is a cubic function of the time since it was last reduced.
//!
//! All of it in integers: windows in octets, times in 2^-10 s where they are cubed.
#![forbid(unsafe_code)]

use super::{Acked, Congestion, CongestionControl, HyStart, Memory, Tagged};
use crate::base::Micros32;

/// RFC 9438, with RFC 9406 for the first slow start.
#[derive(Clone, Copy, Debug)]
pub struct Cubic;

/// One stage of congestion avoidance (RFC 9438 §4.1.2).
#[derive(Clone, Copy, Debug)]
pub struct Epoch {
    /// `W_max`, octets.
    w_max: u32,
    /// `cwnd_prior`, octets.
    cwnd_prior: u32,
    /// K, 2^-10 s.
    k: u32,
    /// t, microseconds: how long this stage has lasted, without the times in which the window was not in use.
    elapsed_us: u32,
    /// When the last acknowledgment came.
    last: Micros32,
    /// `W_est`, octets.
    w_est: u32,
    /// What `W_est` and cwnd are more than that, 2^-8 octets.
    w_est_part: u8,
    cwnd_part: u8,
    /// Nothing was in flight after the last acknowledgment.
    idle: bool,
}

impl CongestionControl for Cubic {
    fn on_ack(window: &mut Congestion, acked: &Acked, memory: &mut Memory) {
        if window.cwnd >= window.ssthresh() {
            avoid(window, acked, memory);
        } else if window.ssthresh() == Congestion::CWND_MAX {
            slow_start(window, acked, memory);
        } else {
            // RFC 9406 §4.2: the first slow start only.
            window.grow(acked);
        }
    }

    fn on_loss(window: &mut Congestion, flight: u32, mss: u32, memory: Option<&mut Memory>) {
        let cwnd = window.cwnd;
        window.reduce(beta(flight), mss);
        let Some(memory) = memory else { return };
        let before = match *memory {
            Memory::Nothing | Memory::SlowStart(_) | Memory::Model(_) => 0,
            Memory::Reduced { w_max, .. } | Memory::Avoidance(Epoch { w_max, .. }) => w_max,
        };
        // RFC 9438 §4.7: less than the last time means that another flow needs room, so W_max is
        // cwnd * (1 + beta) / 2.
        let w_max = if cwnd < before { part(cwnd, 17, 20) } else { cwnd };
        *memory = Memory::Reduced { w_max, cwnd_prior: cwnd };
    }

    fn on_timeout(window: &mut Congestion, flight: u32, mss: u32, first: bool, memory: Option<&mut Memory>) {
        let cwnd_prior = window.cwnd;
        window.restart(beta(flight), mss, first);
        if let Some(memory) = memory
            && first
        {
            // RFC 9438 §4.8: avoidance begins where slow start ends, as if nothing had gone before.
            *memory = Memory::Reduced { w_max: 0, cwnd_prior };
        }
    }

    fn on_idle(window: &mut Congestion, initial: u32, memory: Option<&mut Memory>) {
        window.resume(initial);
        if let Some(memory) = memory {
            *memory = Memory::Nothing;
        }
    }
}

/// The first slow start.
fn slow_start(window: &mut Congestion, acked: &Acked, memory: &mut Memory) {
    if !acked.window_limited {
        return;
    }
    let mut hystart = match *memory {
        Memory::SlowStart(hystart) => hystart,
        _ => HyStart::new(acked.flight),
    };
    let step = hystart.on_ack(acked);
    *memory = Memory::SlowStart(hystart);
    window.widen(step.octets);
    if step.last {
        window.ssthresh = Tagged::new(window.cwnd, 0);
    }
}

/// Congestion avoidance: the stage that is under way, or one that begins now.
fn avoid(window: &mut Congestion, acked: &Acked, memory: &mut Memory) {
    let mut epoch = match *memory {
        Memory::Avoidance(epoch) => epoch,
        Memory::Reduced { w_max, cwnd_prior } => Epoch::new(w_max, cwnd_prior, window.cwnd, acked),
        // RFC 9438 §4.10: slow start ended without a loss, so there is no W_max.
        Memory::Nothing | Memory::SlowStart(_) | Memory::Model(_) => {
            Epoch::new(0, window.cwnd, window.cwnd, acked)
        }
    };
    epoch.on_ack(window, acked);
    *memory = Memory::Avoidance(epoch);
}

impl Epoch {
    /// Begins with a window of `cwnd` octets.
    fn new(w_max: u32, cwnd_prior: u32, cwnd: u32, acked: &Acked) -> Self {
        // A window beyond W_max is its own: K would be negative, and the window stand still until t made up for it.
        let w_max = w_max.max(cwnd);
        Self {
            w_max,
            cwnd_prior,
            k: inflection(w_max - cwnd, acked.mss),
            elapsed_us: 0,
            last: acked.now,
            w_est: cwnd,
            w_est_part: 0,
            cwnd_part: 0,
            idle: false,
        }
    }

    /// RFC 9438 §4.2 to §4.5.
    fn on_ack(&mut self, window: &mut Congestion, acked: &Acked) {
        self.pass(acked);
        if !acked.window_limited {
            return;
        }
        let cwnd = window.cwnd;
        // What part of the window was acknowledged, 2^-32; not more than all of it in one step.
        let share = (u64::from(acked.octets.min(cwnd)) << 32) / u64::from(cwnd);
        self.estimate(share, acked.mss);
        if self.window_at(self.elapsed_us, acked.mss) < self.w_est {
            // §4.3, Reno-friendly.
            window.cwnd = cwnd.max(self.w_est).min(Congestion::CWND_MAX);
            return;
        }
        // §4.4 and §4.5, concave and convex: by (target - cwnd) / cwnd for each segment.
        let target = self.window_at(self.elapsed_us.saturating_add(acked.srtt_us), acked.mss);
        let more = target.clamp(cwnd, cwnd + cwnd / 2) - cwnd;
        let step = carry(&mut self.cwnd_part, (share * u64::from(more)) >> 24);
        window.widen(step);
    }

    /// Lets the time since the last acknowledgment pass. RFC 9438 §5.8: not while the application left the
    /// window unused.
    fn pass(&mut self, acked: &Acked) {
        let mut since_us = acked.now.since(self.last);
        if self.idle {
            // It began again with something sent a round trip ago.
            since_us = since_us.min(acked.srtt_us);
        }
        self.last = acked.now;
        self.idle = acked.flight <= acked.octets;
        if acked.window_limited {
            self.elapsed_us = self.elapsed_us.saturating_add(since_us);
        }
    }

    /// §4.3: what the window of Reno would be, had it been reduced by as little; `share` of a window, 2^-32, was acknowledged.
    fn estimate(&mut self, share: u64, mss: u32) {
        let mut more = share * u64::from(mss);
        if self.w_est < self.cwnd_prior {
            // alpha is 3 (1 - beta) / (1 + beta) until what was lost is won back, then one.
            more = more * 9 / 17;
        }
        let step = carry(&mut self.w_est_part, more >> 24);
        self.w_est = self.w_est.saturating_add(step);
    }

    /// `W_cubic(t)`, RFC 9438 (1), octets.
    fn window_at(&self, t_us: u32, mss: u32) -> u32 {
        let t = tick(t_us);
        let from_k = u64::from(t.abs_diff(self.k));
        // C = 2/5 segments for each s^3. Where it saturates it is beyond any window.
        let cubed = from_k.saturating_mul(from_k).saturating_mul(from_k);
        let octets = (cubed.saturating_mul(u64::from(2 * mss)) / 5) >> 30;
        let octets = u32::try_from(octets).unwrap_or(u32::MAX);
        if t < self.k { self.w_max.saturating_sub(octets) } else { self.w_max.saturating_add(octets) }
    }
}

/// K, RFC 9438 (2), in 2^-10 s, when the window is `missing` octets below `W_max`.
fn inflection(missing: u32, mss: u32) -> u32 {
    // (W_max - cwnd) / C, in 2^-30 s^3; `missing` is below 2^30.
    cube_root(((u64::from(missing) * 5) << 29) / u64::from(mss.max(1)))
}

/// The integer part of the cube root.
fn cube_root(of: u64) -> u32 {
    let cube = |n: u32| u64::from(n).pow(3);
    // The cube root of 2^64 is below 2^22, and the cube of anything below 2^21 fits.
    (0..21)
        .rev()
        .map(|bit| 1 << bit)
        .fold(0, |root, bit| if cube(root | bit) <= of { root | bit } else { root })
}

/// Microseconds as 2^-10 s.
fn tick(us: u32) -> u32 {
    u32::try_from(u64::from(us) * 1_024 / 1_000_000).expect("fewer than microseconds")
}

/// Adds `more`, 2^-8 octets, to `rest`, which keeps what is no whole octet; returns the whole ones.
#[expect(clippy::cast_possible_truncation, reason = "the lower eight bits are what is kept")]
fn carry(rest: &mut u8, more: u64) -> u32 {
    let sum = u64::from(*rest) + more;
    *rest = sum as u8;
    u32::try_from(sum >> 8).unwrap_or(u32::MAX)
}

/// RFC 9438 §4.6: beta is 0.7.
fn beta(octets: u32) -> u32 {
    part(octets, 7, 10)
}

fn part(octets: u32, of: u64, whole: u64) -> u32 {
    u32::try_from(u64::from(octets) * of / whole).expect("less than the whole")
}

#[cfg(test)]
mod tests;
