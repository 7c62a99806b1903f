//! How fast to send while a loss is repaired: proportional rate reduction (RFC 6937).
#![forbid(unsafe_code)]

/// The variables of RFC 6937 §3 for one recovery, in octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prr {
    /// prr_delivered.
    delivered: u32,
    /// prr_out.
    out: u32,
    /// RecoverFS: in flight when it began.
    flight: u32,
    /// What may be in flight, which is at most ssthresh in the end.
    window: u32,
}

impl Prr {
    /// A recovery begins with `flight` octets outstanding, `pipe` of them still in the network, by a segment that
    /// says that `delivered` have left it. One segment may be sent at once, whatever else.
    pub fn new(flight: u32, delivered: u32, pipe: u32, ssthresh: u32, mss: u32) -> Self {
        let mut prr = Self { delivered: 0, out: 0, flight: flight.max(1), window: 0 };
        prr.delivered(delivered, pipe, ssthresh, mss, true);
        prr.window = prr.window.max(pipe.saturating_add(mss));
        prr
    }

    /// Octets that may be in flight.
    pub const fn window(&self) -> u32 {
        self.window
    }

    /// `octets` were sent.
    pub const fn sent(&mut self, octets: u32) {
        self.out = self.out.saturating_add(octets);
    }

    /// A segment arrived that says that `delivered` more octets have left the network, which leaves `pipe` there.
    /// `progress` when SND.UNA moved and nothing more was found lost: then the slow start part adds a segment
    /// (RFC 6937's SSRB), else not (its CRB; the choice is that of RFC 9937 §6.2).
    pub fn delivered(&mut self, delivered: u32, pipe: u32, ssthresh: u32, mss: u32, progress: bool) {
        self.delivered = self.delivered.saturating_add(delivered);
        let more = if pipe > ssthresh {
            let due = (u64::from(self.delivered) * u64::from(ssthresh)).div_ceil(u64::from(self.flight));
            u32::try_from(due).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            let owed = self.delivered.saturating_sub(self.out);
            let limit = if progress { owed.max(delivered) + mss } else { owed };
            limit.min(ssthresh - pipe)
        };
        self.window = pipe.saturating_add(more);
    }
}
