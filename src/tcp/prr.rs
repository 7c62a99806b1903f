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

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_000;

    /// RFC 6937 §3 with twenty segments in flight, one of them lost, and half of them to be left.
    #[test]
    fn what_leaves_the_network_is_halved_until_the_window_is_reached() {
        let ssthresh = 10 * MSS;
        let mut prr = Prr::new(20 * MSS, MSS, 18 * MSS, ssthresh, MSS);
        assert_eq!(prr.window(), 19 * MSS, "one segment at once");
        let mut pipe = 18 * MSS;
        let mut sent = 0;
        for delivered in 2..=19 {
            while pipe + MSS <= prr.window() {
                prr.sent(MSS);
                pipe += MSS;
                sent += 1;
            }
            pipe -= MSS;
            prr.delivered(MSS, pipe, ssthresh, MSS, false);
            assert!(sent <= delivered / 2 + 1, "{sent} segments for {delivered} that arrived");
        }
        assert_eq!((pipe, sent), (9 * MSS, 9), "half of what was in flight is left");
        assert_eq!(prr.window(), ssthresh);
    }

    #[test]
    fn what_was_lost_beside_is_made_up_for_a_segment_at_a_time() {
        // Fifteen of twenty are lost: less is in the network than ssthresh allows.
        let mut prr = Prr::new(20 * MSS, MSS, 4 * MSS, 10 * MSS, MSS);
        assert_eq!(prr.window(), 6 * MSS, "what arrived, and one more");
        prr.sent(2 * MSS);
        prr.delivered(MSS, 5 * MSS, 10 * MSS, MSS, true);
        assert_eq!(prr.window(), 7 * MSS, "SSRB: progress adds a segment");
        prr.sent(2 * MSS);
        prr.delivered(MSS, 6 * MSS, 10 * MSS, MSS, false);
        assert_eq!(prr.window(), 6 * MSS, "CRB: without progress no more leaves than arrives");
    }
}
