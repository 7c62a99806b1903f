//! What the user of a connection is told (RFC 9293 §3.9.1).
#![forbid(unsafe_code)]

use core::time::Duration;

use super::State;

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// Both sides sent FIN and both were acknowledged.
    Finished,
    /// The peer reset an established connection.
    Reset,
    /// The peer refused the connection: RST, or ICMP port unreachable, while opening.
    Refused,
    /// Nothing was acknowledged for too long: R2, the user timeout, or keep-alive.
    TimedOut,
    /// The handshake did not finish in time.
    ConnectTimedOut,
    /// ICMP said that the destination cannot be reached, while opening.
    Unreachable,
    /// The application aborted, or closed with text unread.
    Aborted,
}

/// Asynchronous news of a connection that lives on (RFC 9293 §3.9.1.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// R1 retransmissions of one segment went unanswered (MUST-20): the path may be down.
    R1,
    /// An ICMP error that ends nothing (MUST-56); its type and code.
    SoftError {
        /// ICMP or ICMPv6 type.
        icmp_type: u8,
        /// ICMP or ICMPv6 code.
        code: u8,
    },
    /// Urgent data is announced up to so many octets ahead of what was consumed (MUST-32).
    Urgent {
        /// Octets between RCV.NXT and the end of urgent data.
        ahead: u32,
    },
}

/// A connection's figures, copied at one instant (RFC 9293 §3.9.1.7, STATUS).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct FlowInfo {
    /// Its state.
    pub state: State,
    /// Smoothed round-trip time; `None` until the first measurement.
    pub srtt: Option<Duration>,
    /// Retransmission timeout now.
    pub rto: Duration,
    /// Congestion window, octets.
    pub cwnd: u32,
    /// Slow start threshold, octets.
    pub ssthresh: u32,
    /// Window the peer offers, octets.
    pub snd_wnd: u32,
    /// Whether new text is sent as that of an ECN-capable transport (RFC 3168).
    pub ecn: bool,
    /// Window we offer, octets.
    pub rcv_wnd: u32,
    /// Largest text sent in one segment, octets.
    pub mss: u16,
    /// Octets queued and not yet acknowledged.
    pub unacknowledged: u32,
    /// Octets received and not yet consumed.
    pub unread: u32,
    /// Segments sent again so far.
    pub retransmits: u32,
}
