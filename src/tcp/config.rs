//! Settings that all connections of an engine share, with their customary defaults.
#![forbid(unsafe_code)]

use core::time::Duration;

use super::rtt::RtoBounds;

/// What happens when there is no room for another TIME-WAIT record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimeWaitFull {
    /// The record that would have gone next goes early: of all, its segments are least likely to be still on
    /// their way, and nobody has to wait.
    #[default]
    EvictOldest,
    /// Active opens are refused for as long as all open connections could not rest at once. Only connections
    /// that peers opened can still make the oldest record go.
    RefuseOpens,
}

/// Protocol constants of one engine; each default is the customary value.
#[derive(Clone, Copy, Debug)]
pub struct TcpConfig {
    /// Initial congestion window, segments (RFC 6928).
    pub initial_window: u16,
    /// Bounds of the retransmission timeout.
    pub rto: RtoBounds,
    /// Longest delay of an acknowledgment: 40 ms (RFC 9293 MUST-40 allows 500).
    pub delayed_ack: Duration,
    /// After text out of order, how many segments of full size are acknowledged each at once, none delayed: 15, which
    /// is the most.
    ///
    /// The sender's window is small then, and each acknowledgment, some of which may be lost too, lets it grow; one
    /// segment may be all that a window has left after a multiple of two. Linux does so under the name of quick ACKs.
    pub quick_acks: u8,
    /// R1: retransmissions of one segment before the application is told (RFC 9293 SHLD-10).
    pub r1: u8,
    /// R2 for text: how long nothing may be acknowledged (RFC 9293 MUST-21; SHLD-11: at least 100 s).
    pub r2: Duration,
    /// R2 for SYN (RFC 9293 MUST-23: at least three minutes).
    pub r2_syn: Duration,
    /// SYN-ACKs sent again before a half-open connection is given up; 127 at most.
    pub syn_ack_retries: u8,
    /// Twice the maximum segment lifetime: how long TIME-WAIT lasts.
    pub time_wait: Duration,
    /// What happens when no more connections can be in TIME-WAIT.
    pub time_wait_full: TimeWaitFull,
    /// No RST ends TIME-WAIT (RFC 1337); off, one at exactly RCV.NXT does.
    pub rfc1337: bool,
    /// How long a FIN-WAIT-2 that nobody reads may wait for the peer's FIN.
    pub fin_wait_2: Duration,
    /// Challenge ACKs per second, all connections of one engine together (RFC 5961 §7): more or less, for each second has from half as
    /// many to one and a half times as many, as chance will have it; see [`ChallengeLimit`](super::ChallengeLimit).
    pub challenge_acks_per_second: u32,
    /// Offer and accept timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offer and accept window scaling (RFC 7323).
    pub window_scale: bool,
    /// Offer and accept SACK (RFC 2018).
    pub sack: bool,
    /// Probe for losses at the end of what was sent (RFC 8985 §7), where SACK was agreed.
    pub tail_loss_probes: bool,
}

impl Default for TcpConfig {
    fn default() -> Self {
        Self {
            initial_window: 10,
            rto: RtoBounds::default(),
            delayed_ack: Duration::from_millis(40),
            quick_acks: 15,
            r1: 3,
            r2: Duration::from_secs(100),
            r2_syn: Duration::from_secs(180),
            syn_ack_retries: 5,
            time_wait: Duration::from_secs(60),
            time_wait_full: TimeWaitFull::EvictOldest,
            rfc1337: false,
            fin_wait_2: Duration::from_secs(60),
            challenge_acks_per_second: 1_000,
            timestamps: true,
            window_scale: true,
            sack: true,
            tail_loss_probes: true,
        }
    }
}
