//! Congestion control decides how much may be in flight, never which octets.
//!
//! What every acknowledgment needs is [`Congestion`], in the TCB; what an algorithm remembers beyond that is
//! [`Memory`], attached only while it is in use. No connection costs a box, and no segment an indirect call.
#![forbid(unsafe_code)]

mod new_reno;

use new_reno::NewReno;

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
    /// New octets were acknowledged outside recovery.
    fn on_ack(window: &mut Congestion, acked: &Acked, memory: Option<&mut Memory>);
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
    /// Nothing yet.
    #[default]
    Nothing,
}

/// The window of one connection, and how it moves.
#[derive(Clone, Copy, Debug)]
pub struct Congestion {
    cwnd: u32,
    ssthresh: u32,
    /// Octets acknowledged towards the next increase.
    counted: u32,
    algorithm: CongestionAlgorithm,
}

const _: () = assert!(size_of::<Congestion>() == 12);

/// Calls the algorithm of `$window`.
macro_rules! each {
    ($window:ident.$event:ident($($argument:expr),*)) => {
        match $window.algorithm {
            CongestionAlgorithm::NewReno => NewReno::$event($window, $($argument),*),
        }
    };
}

impl Congestion {
    /// Beyond this, a window says nothing that SND.WND (below 2^30) does not.
    const CWND_MAX: u32 = (1 << 30) - 1;

    /// The state at the start: in slow start, with an initial window of `initial` octets.
    pub const fn new(algorithm: CongestionAlgorithm, initial: u32) -> Self {
        Self { cwnd: initial, ssthresh: Self::CWND_MAX, counted: 0, algorithm }
    }

    /// See [`CongestionControl::on_ack`].
    #[inline]
    pub fn on_ack(&mut self, acked: &Acked, memory: Option<&mut Memory>) {
        each!(self.on_ack(acked, memory));
    }

    /// See [`CongestionControl::on_loss`].
    pub fn on_loss(&mut self, flight: u32, mss: u32, memory: Option<&mut Memory>) {
        each!(self.on_loss(flight, mss, memory));
    }

    /// See [`CongestionControl::on_timeout`].
    pub fn on_timeout(&mut self, flight: u32, mss: u32, first: bool, memory: Option<&mut Memory>) {
        each!(self.on_timeout(flight, mss, first, memory));
    }

    /// See [`CongestionControl::on_idle`].
    pub fn on_idle(&mut self, initial: u32, memory: Option<&mut Memory>) {
        each!(self.on_idle(initial, memory));
    }

    /// The window, octets.
    #[inline]
    pub const fn cwnd(&self) -> u32 {
        self.cwnd
    }

    /// The slow start threshold, octets.
    pub const fn ssthresh(&self) -> u32 {
        self.ssthresh
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
    fn the_initial_window_is_that_of_rfc6928() {
        for (segments, mss, want) in
            [(10, 1_460, 14_600), (10, 536, 5_360), (10, 8_960, 17_920), (1, 1_460, 1_460), (0, 1_000, 1_000)]
        {
            assert_eq!(initial_window(segments, mss), want, "{segments} segments of {mss}");
        }
    }
}
