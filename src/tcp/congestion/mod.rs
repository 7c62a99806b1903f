//! Congestion control decides how much may be in flight, never which octets.
//!
//! Authors implement [`CongestionControl`]; the TCB holds [`Congestion`], an enum, so that no connection
//! costs a box and no segment an indirect call.
#![forbid(unsafe_code)]

mod new_reno;

pub use new_reno::NewReno;

use super::CongestionAlgorithm;

/// What an acknowledgment of new octets says.
#[derive(Clone, Copy, Debug)]
pub struct Acked {
    /// Octets newly acknowledged.
    pub octets: u32,
    /// Whether the window was in use when they were acknowledged: an idle window must not grow.
    pub window_limited: bool,
    /// SMSS, octets.
    pub mss: u32,
}

/// One algorithm: four events in, one window out.
pub trait CongestionControl {
    /// New octets were acknowledged outside recovery.
    fn on_ack(&mut self, acked: Acked);
    /// A loss was found with `flight` octets outstanding; once per recovery.
    fn on_loss(&mut self, flight: u32, mss: u32);
    /// The retransmission timer expired with `flight` octets outstanding; `first` unless it had before
    /// for the same octets.
    fn on_timeout(&mut self, flight: u32, mss: u32, first: bool);
    /// Nothing was sent for longer than RTO (RFC 5681 §4.1); `initial` is the initial window, octets.
    fn on_idle(&mut self, initial: u32);
    /// The window, octets.
    fn cwnd(&self) -> u32;
    /// The slow start threshold, octets.
    fn ssthresh(&self) -> u32;
}

/// The algorithm of one connection.
#[derive(Clone, Copy, Debug)]
pub enum Congestion {
    /// RFC 5681.
    NewReno(NewReno),
}

impl Congestion {
    /// The algorithm's state at the start, with an initial window of `initial` octets.
    pub const fn new(algorithm: CongestionAlgorithm, initial: u32) -> Self {
        match algorithm {
            CongestionAlgorithm::NewReno => Self::NewReno(NewReno::new(initial)),
        }
    }
}

/// Passes each call to the algorithm in the variant.
macro_rules! each {
    ($self:ident, $algorithm:ident => $call:expr) => {
        match $self {
            Congestion::NewReno($algorithm) => $call,
        }
    };
}

impl CongestionControl for Congestion {
    fn on_ack(&mut self, acked: Acked) {
        each!(self, algorithm => algorithm.on_ack(acked));
    }

    fn on_loss(&mut self, flight: u32, mss: u32) {
        each!(self, algorithm => algorithm.on_loss(flight, mss));
    }

    fn on_timeout(&mut self, flight: u32, mss: u32, first: bool) {
        each!(self, algorithm => algorithm.on_timeout(flight, mss, first));
    }

    fn on_idle(&mut self, initial: u32) {
        each!(self, algorithm => algorithm.on_idle(initial));
    }

    fn cwnd(&self) -> u32 {
        each!(self, algorithm => algorithm.cwnd())
    }

    fn ssthresh(&self) -> u32 {
        each!(self, algorithm => algorithm.ssthresh())
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
