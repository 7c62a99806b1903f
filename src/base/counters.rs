//! What one engine counts. One owner, so plain `u64`; the runtime publishes copies.
#![forbid(unsafe_code)]

use super::DropReason;
use super::drop_reason::named_indices;

named_indices! {
    /// Things that happen; drops are counted apart, by [`DropReason`].
    Counter {
        /// Frames handed to ingress.
        FramesIn => "frames_in",
        /// Octets of those frames.
        OctetsIn => "octets_in",
        /// Frames written for transmission.
        FramesOut => "frames_out",
        /// Octets of those frames.
        OctetsOut => "octets_out",
        /// Frames that belonged to another worker and were handed over.
        HandedOver => "handed_over",
        /// Valid segments for this worker, whether or not anybody wanted them.
        SegmentsIn => "segments_in",
        /// Segments that header prediction handled.
        FastPath => "fast_path",
        /// Segments sent, all kinds.
        SegmentsOut => "segments_out",
        /// Octets of text accepted in order.
        TextIn => "text_in",
        /// Octets of text sent for the first time.
        TextOut => "text_out",
        /// Segments without text, SYN, FIN or RST that were sent.
        PureAcksOut => "pure_acks_out",
        /// RSTs sent.
        RstsOut => "rsts_out",
        /// RSTs that ended a connection.
        RstsIn => "rsts_in",
        /// Active opens begun.
        ActiveOpens => "active_opens",
        /// SYNs that made a half-open connection.
        PassiveOpens => "passive_opens",
        /// Connections that reached ESTABLISHED.
        Established => "established",
        /// Connections that ended, for whatever reason.
        Closed => "closed",
        /// Connections that the local application aborted.
        Aborted => "aborted",
        /// Segments sent again, SYN, FIN and text alike.
        Retransmits => "retransmits",
        /// Retransmission timeouts.
        RetransmitTimeouts => "retransmit_timeouts",
        /// Recoveries begun because of SACK blocks, or of three duplicate acknowledgments.
        FastRetransmits => "fast_retransmits",
        /// Segments sent to find out whether the last ones arrived.
        TailLossProbes => "tail_loss_probes",
        /// Repairs of losses that turned out to be none.
        SpuriousRecoveries => "spurious_recoveries",
        /// Segments made smaller because full ones went unanswered.
        PathBlackHoles => "path_black_holes",
        /// Larger segments tried on a path that carried smaller ones only.
        PathProbes => "path_probes",
        /// Those that did not arrive.
        PathProbesLost => "path_probes_lost",
        /// D-SACKs received.
        DuplicatesReported => "duplicates_reported",
        /// Duplicate acknowledgments received.
        DuplicateAcks => "duplicate_acks",
        /// Connections that agreed on explicit congestion notification (RFC 3168).
        EcnAgreed => "ecn_agreed",
        /// Segments with text that arrived marked: congestion was experienced on the way.
        EcnMarks => "ecn_marks",
        /// Congestion windows reduced because marks came back.
        EcnReductions => "ecn_reductions",
        /// Segments that arrived out of order and were kept.
        OutOfOrder => "out_of_order",
        /// Receive windows that grew.
        WindowGrowths => "window_growths",
        /// Receive windows that could not grow as far as their connections had use for.
        WindowGrowthRefused => "window_growth_refused",
        /// Zero-window probes sent.
        WindowProbes => "window_probes",
        /// Keep-alive probes sent.
        KeepAliveProbes => "keep_alive_probes",
        /// Connections given up: R2 or the user timeout was reached.
        TimedOut => "timed_out",
        /// Challenge ACKs sent (RFC 5961).
        ChallengeAcks => "challenge_acks",
        /// Challenge ACKs withheld by the rate limit (RFC 5961 §7).
        ChallengeAcksLimited => "challenge_acks_limited",
        /// ICMP errors that were believed.
        IcmpApplied => "icmp_applied",
        /// TIME-WAIT records made.
        TimeWaitCreated => "time_wait_created",
        /// TIME-WAIT records that lived for 2 MSL.
        TimeWaitExpired => "time_wait_expired",
        /// TIME-WAIT records reopened by a newer timestamp (RFC 6191).
        TimeWaitReusedByTimestamp => "time_wait_reused_by_timestamp",
        /// TIME-WAIT records reopened by a higher sequence number (RFC 9293 MAY-2).
        TimeWaitReusedBySequence => "time_wait_reused_by_sequence",
        /// TIME-WAIT records that a RST ended and a SYN then followed by no other rule.
        TimeWaitReusedAfterReset => "time_wait_reused_after_reset",
        /// TIME-WAIT records whose tuple an active open of ours took.
        TimeWaitReusedActively => "time_wait_reused_actively",
        /// TIME-WAIT records that a RST ended.
        TimeWaitReset => "time_wait_reset",
        /// SYNs that TIME-WAIT refused to reopen for.
        TimeWaitRefused => "time_wait_refused",
        /// The oldest TIME-WAIT records, given up because the table was full.
        TimeWaitEvicted => "time_wait_evicted",
        /// Active opens refused because TIME-WAIT could not take one more connection in.
        TimeWaitOpensRefused => "time_wait_opens_refused",
        /// Active opens that found no free port.
        PortsExhausted => "ports_exhausted",
        /// Half-open connections given up after their last SYN-ACK.
        HalfOpenExpired => "half_open_expired",
        /// Output put off because no frame was free.
        TxFull => "tx_full",
    }
}

/// Every counter of one engine.
#[derive(Clone, Debug)]
pub struct Counters {
    events: [u64; Counter::COUNT],
    drops: [u64; DropReason::COUNT],
}

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self { events: [0; Counter::COUNT], drops: [0; DropReason::COUNT] }
    }

    /// Counts one event.
    pub const fn add(&mut self, counter: Counter) {
        self.add_n(counter, 1);
    }

    /// Counts `n` events or octets.
    pub const fn add_n(&mut self, counter: Counter, n: u64) {
        self.events[counter as usize] += n;
    }

    /// Counts one drop.
    pub const fn add_drop(&mut self, reason: DropReason) {
        self.drops[reason as usize] += 1;
    }

    /// How often it happened.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.events[counter as usize]
    }

    /// How many frames went no further for this reason.
    pub const fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// Adds another engine's counters to these.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.events.iter_mut().zip(&other.events) {
            *mine += theirs;
        }
        for (mine, theirs) in self.drops.iter_mut().zip(&other.drops) {
            *mine += theirs;
        }
    }

    /// Every counter that is not zero, drops last, under its exported name.
    pub fn nonzero(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let events = Counter::ALL.iter().map(|&c| (c.label(), self.get(c)));
        let drops = DropReason::ALL.iter().map(|&r| (r.label(), self.drops(r)));
        events.chain(drops).filter(|&(_, n)| n > 0)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn merge_adds_and_nonzero_names_what_happened() {
        let (mut a, mut b) = (Counters::new(), Counters::new());
        a.add(Counter::FramesIn);
        b.add_n(Counter::FramesIn, 4);
        b.add_drop(DropReason::Paws);
        a.merge(&b);
        assert_eq!(a.nonzero().collect::<Vec<_>>(), [("frames_in", 5), ("paws", 1)]);
        assert_eq!((a.get(Counter::FramesIn), a.drops(DropReason::Paws)), (5, 1));
    }
}
