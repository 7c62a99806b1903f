//! Congestion control decides how much may be in flight, never which octets.
//!
//! What every acknowledgment needs is [`Congestion`], in the TCB; what an algorithm remembers beyond that is
//! [`Memory`], attached only while it is in use. No connection costs a box, and no segment an indirect call.
//!
//! | | file |
//! | --- | --- |
//! | RFC 5681, RFC 3465 | here, `new_reno` |
//! | RFC 9438 | `cubic` |
//! | RFC 9406 | `hystart` |
//! | draft-ietf-ccwg-bbr | `bbr` |
#![forbid(unsafe_code)]

mod bbr;
mod cubic;
mod hystart;
mod new_reno;
mod tagged;

use bbr::Bbr;
pub use bbr::{Heard, Left, Model};
use cubic::{Cubic, Epoch};
use hystart::HyStart;
use new_reno::NewReno;
use tagged::Tagged;

use super::CongestionAlgorithm;
use crate::base::Micros32;

/// What an acknowledgment of new octets says.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// Octets newly acknowledged.
    pub octets: u32,
    /// Octets in flight before they were.
    pub flight: u32,
    /// Whether the window was in use when they were acknowledged: an idle window must not grow.
    pub window_limited: bool,
    /// SMSS, octets.
    pub mss: u32,
    /// When that was.
    pub now: Micros32,
    /// The round trip that it measures, microseconds; `None` where it measures none.
    pub rtt_us: Option<u32>,
    /// The smoothed round trip, microseconds; zero until the first measurement.
    pub srtt_us: u32,
}

/// One algorithm: four events in, one window out.
///
/// Its state is what it is given: the window, and what it remembers, `None` where there is no room for that.
pub trait CongestionControl {
    /// New octets were acknowledged outside recovery. Without memory it is not asked: the window then grows
    /// as RFC 5681 has it, whatever the algorithm.
    fn on_ack(window: &mut Congestion, acked: &Acked, memory: &mut Memory);
    /// A loss was found with `flight` octets outstanding; once per recovery.
    fn on_loss(window: &mut Congestion, flight: u32, mss: u32, memory: Option<&mut Memory>);
    /// The retransmission timer expired with `flight` octets outstanding; `first` unless it had before
    /// for the same octets.
    fn on_timeout(window: &mut Congestion, flight: u32, mss: u32, first: bool, memory: Option<&mut Memory>);
    /// Nothing was sent for longer than RTO (RFC 5681 §4.1); `initial` is the initial window, octets.
    fn on_idle(window: &mut Congestion, initial: u32, memory: Option<&mut Memory>);
}

/// What an algorithm remembers of a connection for as long as that has something to send.
///
/// With a copy of it and of [`Congestion`], what was concluded from a loss that was none is taken back.
#[derive(Clone, Copy, Debug, Default)]
pub enum Memory {
    /// Nothing: it was attached just now, or the connection was idle.
    #[default]
    Nothing,
    /// The first slow start.
    SlowStart(HyStart),
    /// The window was reduced, and avoidance has not begun since.
    Reduced {
        /// RFC 9438 `W_max`, octets; zero after a timeout, which leaves none.
        w_max: u32,
        /// RFC 9438 `cwnd_prior`: the window before it was reduced, octets.
        cwnd_prior: u32,
    },
    /// Congestion avoidance.
    Avoidance(Epoch),
    /// Where a [`Model`] of the path lies.
    Model(u32),
}

impl Memory {
    const fn is_model(&self) -> bool {
        matches!(self, Self::Model(_))
    }
}

const _: () = assert!(size_of::<Memory>() == 28);

/// The window of one connection, and how it moves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Congestion {
    cwnd: u32,
    /// Octets; tagged with [`Congestion::AFTER_TIMEOUT`] or zero.
    ssthresh: Tagged,
    /// Octets acknowledged towards the next increase; tagged with the algorithm.
    counted: Tagged,
}

const _: () = assert!(size_of::<Congestion>() == 12);

const CUBIC: u32 = CongestionAlgorithm::Cubic as u32;
const BBR: u32 = CongestionAlgorithm::Bbr as u32;

/// Calls the algorithm of `$window`.
macro_rules! each {
    ($window:ident.$event:ident($($argument:expr),*)) => {
        match $window.counted.tag() {
            CUBIC => Cubic::$event($window, $($argument),*),
            BBR => Bbr::$event($window, $($argument),*),
            _ => NewReno::$event($window, $($argument),*),
        }
    };
}

impl Congestion {
    /// Beyond this, a window says nothing that SND.WND (below 2^30) does not.
    const CWND_MAX: u32 = Tagged::MAX;

    /// Slow start follows a timeout.
    const AFTER_TIMEOUT: u32 = 1;

    /// The state at the start: in slow start, with an initial window of `initial` octets.
    pub const fn new(algorithm: CongestionAlgorithm, initial: u32) -> Self {
        let ssthresh = Tagged::new(Self::CWND_MAX, 0);
        Self { cwnd: initial, ssthresh, counted: Tagged::new(0, algorithm as u32) }
    }

    /// See [`CongestionControl::on_ack`].
    #[inline(always)]
    pub fn on_ack(&mut self, acked: &Acked, memory: Option<&mut Memory>) {
        match memory {
            None => self.grow(acked),
            Some(memory) => each!(self.on_ack(acked, memory)),
        }
    }

    /// See [`CongestionControl::on_loss`].
    pub fn on_loss(&mut self, flight: u32, mss: u32, memory: Option<&mut Memory>) {
        let flight = self.in_window(flight);
        each!(self.on_loss(flight, mss, memory));
    }

    /// A mark came back (RFC 3168 §6.1.2) with `flight` octets outstanding; once in a window. It means what a loss
    /// does, but that a window below two segments stays.
    pub fn on_mark(&mut self, flight: u32, mss: u32, memory: Option<&mut Memory>) {
        let before = self.cwnd;
        self.on_loss(flight, mss, memory);
        self.cwnd = self.cwnd.min(before);
    }

    /// See [`CongestionControl::on_timeout`].
    pub fn on_timeout(&mut self, flight: u32, mss: u32, first: bool, memory: Option<&mut Memory>) {
        let flight = self.in_window(flight);
        each!(self.on_timeout(flight, mss, first, memory));
    }

    /// What of `flight` the window let out. FlightSize counts what has arrived beyond a hole: after a long repair it
    /// is several windows, and a share of that would be more than before the loss.
    const fn in_window(&self, flight: u32) -> u32 {
        if flight < self.cwnd { flight } else { self.cwnd }
    }

    /// See [`CongestionControl::on_idle`].
    pub fn on_idle(&mut self, initial: u32, memory: Option<&mut Memory>) {
        each!(self.on_idle(initial, memory));
    }

    /// Segments have become larger: the window has room for one, of `mss` octets, whatever it was reduced to before.
    pub fn keep_a_segment(&mut self, mss: u32) {
        self.cwnd = self.cwnd.max(mss);
    }

    /// Whether its algorithm is one that needs a [`Model`].
    pub const fn needs_model(&self) -> bool {
        self.counted.tag() == BBR
    }

    /// The window, octets.
    #[inline]
    pub const fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// The slow start threshold, octets.
    #[inline]
    pub const fn ssthresh(&self) -> u32 {
        self.ssthresh.get()
    }

    /// Slow start, or one segment for each window acknowledged (RFC 5681 §3.1).
    #[inline(always)]
    fn grow(&mut self, acked: &Acked) {
        if !acked.window_limited {
            return;
        }
        if self.cwnd < self.ssthresh() {
            // RFC 3465 §2.3: L = 2, because peers acknowledge every second segment, or a batch of them; after a
            // timeout L = 1, because what is acknowledged may have left the network long ago.
            let after_timeout = self.ssthresh.tag() == Self::AFTER_TIMEOUT;
            let most = if after_timeout { acked.mss } else { 2 * acked.mss };
            self.widen(acked.octets.min(most));
            return;
        }
        let mut counted = self.counted.get().saturating_add(acked.octets);
        if counted >= self.cwnd {
            counted -= self.cwnd;
            self.widen(acked.mss);
        }
        self.counted.set(counted);
    }

    fn widen(&mut self, octets: u32) {
        self.cwnd = self.cwnd.saturating_add(octets).min(Self::CWND_MAX);
    }

    /// RFC 5681 (4): the threshold after a loss is so much, two segments at least, and the window as well.
    fn reduce(&mut self, ssthresh: u32, mss: u32) {
        self.ssthresh = Tagged::new(ssthresh.max(2 * mss), 0);
        self.cwnd = self.ssthresh();
        self.counted.set(0);
    }

    /// RFC 5681 §3.1: begins again with one segment. The threshold, `ssthresh`, stays where the first timeout of
    /// a segment has put it.
    fn restart(&mut self, ssthresh: u32, mss: u32, first: bool) {
        let ssthresh = if first { ssthresh.max(2 * mss) } else { self.ssthresh() };
        self.ssthresh = Tagged::new(ssthresh, Self::AFTER_TIMEOUT);
        self.cwnd = mss;
        self.counted.set(0);
    }

    fn resume(&mut self, initial: u32) {
        self.ssthresh = Tagged::new(self.ssthresh(), 0);
        self.cwnd = self.cwnd.min(initial);
    }
}

/// RFC 6928: ten segments, bounded by 14600 octets or two segments; scaled to the configured count.
pub fn initial_window(segments: u16, mss: u32) -> u32 {
    let segments = u32::from(segments.max(1));
    (segments * mss).min((segments * 1_460).max(2 * mss))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loss_never_leaves_a_larger_window() {
        use CongestionAlgorithm::{Cubic, NewReno};
        const MSS: u32 = 1_000;
        for (algorithm, flight, after_loss, why) in [
            (Cubic, 10 * MSS, 7 * MSS, "all of the window in flight"),
            (Cubic, 5 * MSS, 3_500, "half of it"),
            (Cubic, 30 * MSS, 7 * MSS, "three windows, of which most has arrived"),
            (NewReno, 10 * MSS, 5 * MSS, "all of the window in flight"),
            (NewReno, 30 * MSS, 5 * MSS, "three windows"),
        ] {
            let mut window = Congestion::new(algorithm, 10 * MSS);
            window.on_loss(flight, MSS, Some(&mut Memory::default()));
            assert_eq!((window.cwnd(), window.ssthresh()), (after_loss, after_loss), "{why}");
            let mut window = Congestion::new(algorithm, 10 * MSS);
            window.on_timeout(flight, MSS, true, Some(&mut Memory::default()));
            assert_eq!((window.cwnd(), window.ssthresh()), (MSS, after_loss), "{why}, and a timeout");
        }
    }

    #[test]
    fn the_initial_window_is_that_of_rfc6928() {
        for (segments, mss, want) in
            [(10, 1_460, 14_600), (10, 536, 5_360), (10, 8_960, 17_920), (1, 1_460, 1_460), (0, 1_000, 1_000)]
        {
            assert_eq!(initial_window(segments, mss), want, "{segments} segments of {mss}");
        }
    }
}
