//! Losses found by time (RACK, RFC 8985): what was sent well before something that has arrived is lost.
#![forbid(unsafe_code)]

use super::scoreboard::{Run, Scoreboard, SentPool};
use crate::base::{Micros32, Seq};

/// What one connection remembers of deliveries, RFC 8985 §5.
#[derive(Clone, Copy, Debug)]
pub struct Rack {
    /// RACK.xmit_ts and RACK.end_seq: of the segment sent last among those delivered; with `known`.
    xmit: Micros32,
    end: Seq,
    /// RACK.rtt, microseconds: of that segment.
    rtt_us: u32,
    /// RACK.min_RTT, microseconds: of those seen here.
    min_rtt_us: u32,
    /// RACK.fack: the highest number delivered; with `has_fack`.
    fack: Seq,
    /// RACK.dsack_round, while there is one.
    dsack_round: Option<Seq>,
    /// RACK.reo_wnd_mult less one.
    widened: u8,
    /// RACK.reo_wnd_persist.
    persist: u8,
    /// RACK.reordering_seen.
    reordered: bool,
    known: bool,
    has_fack: bool,
}

impl Default for Rack {
    fn default() -> Self {
        Self {
            xmit: Micros32::default(),
            end: Seq::default(),
            rtt_us: 0,
            min_rtt_us: u32::MAX,
            fack: Seq::default(),
            dsack_round: None,
            widened: 0,
            persist: 0,
            reordered: false,
            known: false,
            has_fack: false,
        }
    }
}

/// What RACK must know of a connection beside its own state.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// SRTT, microseconds.
    pub srtt_us: u32,
    /// The instant.
    pub now: Micros32,
}

impl Rack {
    /// Recoveries for which a widened window lasts (RFC 8985 §6.2 step 4).
    const PERSIST: u8 = 16;

    /// RFC 8985 §6.2 steps 2 and 3: a run was delivered. Runs are told from low to high numbers for each segment
    /// that arrives. `genuine` unless a timestamp shows that an earlier copy of it arrived.
    pub fn delivered(&mut self, run: &Run, genuine: bool, path: &Path) {
        if !self.has_fack || self.fack.before(run.end) {
            (self.fack, self.has_fack) = (run.end, true);
        } else if !run.again && run.end.before(self.fack) {
            self.reordered = true;
        }
        let rtt_us = path.now.since(run.at);
        if !run.again {
            self.min_rtt_us = self.min_rtt_us.min(rtt_us);
        }
        // Sent again, and answered sooner than any answer can be: that was for the first copy.
        if run.again && (!genuine || rtt_us < self.min_rtt(path)) {
            return;
        }
        if !self.known || is_later((run.at, run.end), (self.xmit, self.end), path.now) {
            (self.xmit, self.end, self.rtt_us) = (run.at, run.end, rtt_us);
            self.known = true;
        }
    }

    /// One past the highest octet delivered, if any was.
    pub const fn highest(&self) -> Option<Seq> {
        if self.has_fack { Some(self.fack) } else { None }
    }

    /// What seemed lost had only been overtaken.
    pub const fn overtaken(&mut self) {
        self.reordered = true;
    }

    /// RFC 8985 §6.2 step 4: a D-SACK says that something was sent again in vain. The window widens once for each
    /// round trip.
    pub fn duplicate_reported(&mut self, nxt: Seq) {
        if self.dsack_round.is_none() {
            self.dsack_round = Some(nxt);
            self.widened = self.widened.saturating_add(1);
            self.persist = Self::PERSIST;
        }
    }

    /// Before anything was delivered here, what was measured before has to do.
    fn min_rtt(&self, path: &Path) -> u32 {
        self.min_rtt_us.min(path.srtt_us)
    }

    /// After a timeout the path may be another.
    pub const fn forget_path(&mut self) {
        self.min_rtt_us = u32::MAX;
    }

    /// What was in flight has all arrived, or seemed to: only what is known of the path counts on.
    pub const fn restart(&mut self) {
        (self.known, self.has_fack) = (false, false);
    }

    /// SND.UNA has moved.
    pub fn advanced(&mut self, una: Seq) {
        self.dsack_round = self.dsack_round.filter(|&round| una.before(round));
    }

    /// A recovery is over.
    pub fn recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.widened = 0;
        }
    }

    /// RFC 8985 §6.2 step 4: how much later than expected a segment may come without being lost, microseconds.
    /// `sure` while a loss is being repaired, or when so much has been delivered beyond a hole that the path must
    /// reorder for it to be none.
    fn reordering_window(&self, sure: bool, path: &Path) -> u32 {
        if !self.reordered && sure {
            return 0;
        }
        (self.min_rtt(path) / 4).saturating_mul(u32::from(self.widened) + 1).min(path.srtt_us)
    }

    /// RFC 8985 §6.2 step 5: finds what is lost; returns how long until more of it will be, microseconds.
    pub fn detect(
        &self,
        board: &mut Scoreboard,
        pool: &mut SentPool,
        una: Seq,
        sure: bool,
        path: &Path,
    ) -> Option<u32> {
        if !self.known {
            return None;
        }
        let limit = self.rtt_us.saturating_add(self.reordering_window(sure, path));
        let before = |run: &Run| is_later((self.xmit, self.end), (run.at, run.end), path.now);
        board.lose(pool, una, |run| before(run) && path.now.since(run.at) >= limit);
        let waiting = board.in_flight(pool, una).filter(before);
        waiting.map(|run| limit.saturating_sub(path.now.since(run.at)).max(1)).max()
    }
}

/// RFC 8985 §6.2 step 2, `RACK_sent_after`: whether the first was sent after the second.
fn is_later(first: (Micros32, Seq), second: (Micros32, Seq), now: Micros32) -> bool {
    let (ago, second_ago) = (now.since(first.0), now.since(second.0));
    ago < second_ago || (ago == second_ago && second.1.before(first.1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use std::vec::Vec;

    fn us(us: u64) -> Micros32 {
        // Micros32 begins anew on the way.
        Micros32::floor(Instant::from_micros((1 << 32) - 5_000 + us))
    }

    fn path(now: u64) -> Path {
        Path { srtt_us: 10_000, now: us(now) }
    }

    fn seq(n: u32) -> Seq {
        Seq::new(u32::MAX - 1_500) + n
    }

    fn run(start: u32, at: u64, again: bool) -> Run {
        Run { start: seq(start), end: seq(start + 1_000), at: us(at), again }
    }

    /// Four segments a millisecond apart, from 0 on; returns the starts of those lost at `now`.
    fn lost(rack: &Rack, sure: bool, now: u64) -> (Vec<u32>, Option<u32>) {
        let (mut board, mut pool) = (Scoreboard::default(), SentPool::with_capacity(8));
        for n in 0..4 {
            assert!(board.sent(&mut pool, seq(1_000 * (n + 1)), us(1_000 * u64::from(n)), 0));
        }
        let waits = rack.detect(&mut board, &mut pool, seq(0), sure, &path(now));
        let runs =
            board.runs(&pool, seq(0)).filter(|(fate, _)| *fate == super::super::scoreboard::Fate::Lost);
        (runs.map(|(_, run)| run.start.since(seq(0))).collect(), waits)
    }

    #[test]
    fn what_left_a_reordering_window_before_something_that_arrived_is_lost() {
        let mut rack = Rack::default();
        assert_eq!(lost(&rack, true, 90_000), (Vec::new(), None), "nothing has arrived");
        // The third, sent at 2 ms, arrives after 10 ms.
        rack.delivered(&run(2_000, 2_000, false), true, &path(12_000));
        assert_eq!(lost(&rack, true, 12_000).0, [0, 1_000], "no time for reordering where none was seen");
        let (now, waits) = lost(&rack, false, 12_000);
        assert_eq!(
            (now, waits),
            (Vec::new(), Some(1_500)),
            "a quarter of the least round trip, for the second"
        );
        assert_eq!(lost(&rack, false, 12_500), (Vec::from([0]), Some(1_000)));
        assert_eq!(lost(&rack, false, 13_500), (Vec::from([0, 1_000]), None), "and never the fourth");
    }

    #[test]
    fn reordering_once_seen_is_given_time_and_more_for_each_dsack() {
        let mut rack = Rack::default();
        rack.delivered(&run(2_000, 2_000, false), true, &path(12_000));
        rack.delivered(&run(1_000, 1_000, false), true, &path(12_100));
        assert_eq!(lost(&rack, true, 12_100), (Vec::new(), Some(1_400)), "though the loss seems sure");
        rack.duplicate_reported(seq(9_000));
        rack.duplicate_reported(seq(9_000));
        assert_eq!(lost(&rack, true, 12_500), (Vec::new(), Some(3_500)), "once for each round trip");
        rack.advanced(seq(9_000));
        rack.duplicate_reported(seq(19_000));
        assert_eq!(lost(&rack, true, 15_000), (Vec::new(), Some(3_500)));
        (0..Rack::PERSIST).for_each(|_| rack.recovered());
        assert_eq!(lost(&rack, true, 12_500).0, [0], "for sixteen recoveries");
    }

    #[test]
    fn an_answer_that_is_too_quick_was_for_the_first_copy() {
        for (genuine, took, believed) in [(true, 9_000, false), (true, 10_000, true), (false, 10_000, false)]
        {
            let mut rack = Rack::default();
            let mut known = Rack::default();
            rack.delivered(&run(9_000, 0, false), true, &path(10_000));
            known.clone_from(&rack);
            rack.delivered(&run(0, 20_000, true), genuine, &path(20_000 + took));
            assert_eq!(rack.xmit != known.xmit, believed, "{genuine} {took}");
        }
    }
}
