//! Which octets are lost, by duplicate acknowledgments: RFC 6582 (NewReno) and RFC 3042.
#![forbid(unsafe_code)]

use super::congestion::{Congestion, Memory};
use crate::base::Seq;

/// What the sender does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Go on as before.
    Nothing,
    /// Send the first unacknowledged segment again, now.
    Retransmit,
}

/// The loss detector of one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Recovery {
    /// SND.NXT when the last loss was found (RFC 6582 "recover").
    recover: Seq,
    /// Octets that duplicate acknowledgments say have left the network.
    inflation: u32,
    /// Octets in flight when the first of the duplicates came.
    flight: u32,
    duplicates: u8,
    active: bool,
    /// Set by a timeout: duplicates below `recover` are echoes of what was sent again (RFC 6582 §4).
    guarded: bool,
}

impl Recovery {
    /// Duplicate acknowledgments that mean a loss (RFC 5681 §3.2).
    const DUP_THRESH: u8 = 3;

    /// Octets that may be in flight beyond the congestion window.
    pub const fn inflation(&self) -> u32 {
        self.inflation
    }

    /// Whether it remembers nothing that a new one would not.
    pub const fn is_idle(&self) -> bool {
        !self.active && !self.guarded && self.duplicates == 0 && self.inflation == 0
    }

    /// Whether the window was reduced for what is still in flight.
    pub const fn is_repairing(&self) -> bool {
        self.active || self.guarded
    }

    /// Whether a fast recovery is under way.
    pub const fn is_active(&self) -> bool {
        self.active
    }

    /// A duplicate acknowledgment of `una` came, with octets up to `nxt` in flight.
    pub fn on_duplicate(
        &mut self,
        una: Seq,
        nxt: Seq,
        mss: u32,
        congestion: &mut Congestion,
        memory: &mut Memory,
    ) -> Repair {
        self.duplicates = self.duplicates.saturating_add(1);
        if self.duplicates == 1 {
            // RFC 5681 §3.2 step 2: what RFC 3042 lets out after this must not count.
            self.flight = nxt.since(una);
        }
        if self.active {
            self.inflation = self.inflation.saturating_add(mss);
            return Repair::Nothing;
        }
        self.guarded &= una.before(self.recover);
        if self.guarded {
            return Repair::Nothing;
        }
        if self.duplicates < Self::DUP_THRESH {
            // RFC 3042: each of the first two lets one new segment out.
            self.inflation = u32::from(self.duplicates) * mss;
            return Repair::Nothing;
        }
        congestion.on_loss(self.flight, mss, Some(memory));
        self.active = true;
        self.recover = nxt;
        self.inflation = u32::from(Self::DUP_THRESH) * mss;
        Repair::Retransmit
    }

    /// `acked` new octets were acknowledged, up to `ack`.
    pub fn on_progress(&mut self, ack: Seq, acked: u32, mss: u32) -> Repair {
        self.duplicates = 0;
        // Here, too, or 2^31 octets later the comparison says the opposite.
        self.guarded &= ack.before(self.recover);
        if !self.active {
            self.inflation = 0;
            return Repair::Nothing;
        }
        if self.recover.at_or_before(ack) {
            self.active = false;
            self.inflation = 0;
            return Repair::Nothing;
        }
        // RFC 6582 §3.2 step 3, a partial acknowledgment: the next hole is lost too.
        self.inflation = self.inflation.saturating_sub(acked);
        if acked >= mss {
            self.inflation = self.inflation.saturating_add(mss);
        }
        Repair::Retransmit
    }

    /// The retransmission timer expired with octets up to `nxt` in flight.
    pub fn on_timeout(&mut self, nxt: Seq) {
        *self = Self { recover: nxt, guarded: true, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::CongestionAlgorithm;

    const MSS: u32 = 1_000;

    fn reno() -> Congestion {
        Congestion::new(CongestionAlgorithm::NewReno, 10 * MSS)
    }

    fn seq(n: u32) -> Seq {
        // Near the wrap, so that a plain comparison fails.
        Seq::new(u32::MAX - 4_000) + n
    }

    /// RFC 5681 §3.2 and RFC 6582 §3.2 with ten segments in flight.
    #[test]
    fn three_duplicates_repair_one_hole_and_partial_acks_the_next() {
        let (mut recovery, mut reno) = (Recovery::default(), reno());
        let (una, nxt) = (seq(0), seq(10 * MSS));
        assert_eq!(recovery.on_duplicate(una, nxt, MSS, &mut reno, &mut Memory::default()), Repair::Nothing);
        assert_eq!(recovery.inflation(), MSS, "RFC 3042");
        assert_eq!(recovery.on_duplicate(una, nxt, MSS, &mut reno, &mut Memory::default()), Repair::Nothing);
        assert_eq!(recovery.inflation(), 2 * MSS);
        assert_eq!(
            recovery.on_duplicate(una, nxt, MSS, &mut reno, &mut Memory::default()),
            Repair::Retransmit
        );
        assert_eq!((reno.cwnd(), recovery.inflation()), (5 * MSS, 3 * MSS));
        assert_eq!(recovery.on_duplicate(una, nxt, MSS, &mut reno, &mut Memory::default()), Repair::Nothing);
        assert_eq!(recovery.inflation(), 4 * MSS);

        assert_eq!(recovery.on_progress(seq(3 * MSS), 3 * MSS, MSS), Repair::Retransmit);
        assert!(recovery.is_active());
        assert_eq!(recovery.inflation(), 2 * MSS, "deflated by what left, plus one segment");
        assert_eq!(recovery.on_progress(seq(4 * MSS), MSS, MSS), Repair::Retransmit);
        assert_eq!(recovery.inflation(), 2 * MSS, "a whole segment is enough to let another out");
        assert_eq!(recovery.on_progress(nxt, 6 * MSS, MSS), Repair::Nothing);
        assert!(!recovery.is_active());
        assert_eq!((reno.cwnd(), recovery.inflation()), (5 * MSS, 0), "one halving for the whole window");
    }

    #[test]
    fn duplicates_after_a_timeout_do_not_halve_again() {
        let (mut recovery, mut reno) = (Recovery::default(), reno());
        recovery.on_timeout(seq(10 * MSS));
        for _ in 0..5 {
            let repair =
                recovery.on_duplicate(seq(2 * MSS), seq(10 * MSS), MSS, &mut reno, &mut Memory::default());
            assert_eq!(repair, Repair::Nothing);
        }
        assert_eq!(reno.cwnd(), 10 * MSS);
        recovery.on_progress(seq(10 * MSS), 8 * MSS, MSS);
        let repairs: [Repair; 3] = core::array::from_fn(|_| {
            recovery.on_duplicate(seq(10 * MSS), seq(20 * MSS), MSS, &mut reno, &mut Memory::default())
        });
        assert_eq!(repairs[2], Repair::Retransmit, "past the old window the guard is gone");
    }
}
