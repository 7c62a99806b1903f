//! Per-connection settings and their customary defaults.
#![forbid(unsafe_code)]

use core::time::Duration;

/// Which congestion control a connection uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum CongestionAlgorithm {
    /// RFC 9438, with the slow start of RFC 9406.
    #[default]
    Cubic,
    /// RFC 5681 with RFC 6582.
    NewReno,
    /// BBR version 3 (draft-ietf-ccwg-bbr), paced; for as many connections at a time as the limits say, and RFC 5681
    /// for those beyond.
    Bbr,
}

/// When and how often an idle peer is asked whether it is still there (RFC 9293 §3.8.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe; two hours by default (MUST-28).
    pub idle: Duration,
    /// Between probes.
    pub interval: Duration,
    /// Unanswered probes before the connection is given up.
    pub probes: u8,
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(7_200), interval: Duration::from_secs(75), probes: 10 }
    }
}

/// Settings of one connection, taken when it is opened or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowOptions {
    /// Congestion control.
    pub congestion: CongestionAlgorithm,
    /// Explicit congestion notification (RFC 3168): active opens ask for it, passive ones agree to it. Off by default,
    /// and with BBR, which has no answer to marks.
    pub ecn: bool,
    /// Nagle's algorithm (RFC 9293 SHLD-7): on by default.
    pub nagle: bool,
    /// Keep-alive: `None`, the default, sends no probes (MUST-25).
    pub keep_alive: Option<KeepAlive>,
    /// Gives up when text stays unacknowledged for so long; `None` leaves it to R2.
    pub user_timeout: Option<Duration>,
    /// Gives up when the handshake takes longer; `None` leaves it to R2 for SYNs (three minutes).
    pub connect_timeout: Option<Duration>,
    /// How long a close may wait for its text to be acknowledged: `None` for as long as it takes, zero
    /// turns every close into an abort.
    pub linger: Option<Duration>,
    /// Largest receive window, octets. It begins with `recv_initial` and grows with what is read in a round trip, as
    /// long as the engine's receive buffers can keep what is offered. The window scale follows from it.
    pub recv_buffer: u32,
    /// The receive window right after the handshake, octets, if `recv_buffer` is not less. 65,535, what a SYN can say,
    /// is the default and the least; more is offered as far as the engine's receive buffers can keep it.
    pub recv_initial: u32,
    /// Most text queued and not yet acknowledged, octets. Beyond 256 KiB it is twice the congestion window, and no more
    /// than the engine's send buffers have left for others.
    pub send_buffer: u32,
    /// Largest segment to announce, and to send: octets of text and TCP options beyond twenty of header. `None`
    /// leaves it to the path's MTU, which also bounds it.
    pub mss: Option<u16>,
    /// Differentiated services code point, 0 to 63 (RFC 9293 MUST-48).
    pub dscp: u8,
    /// IPv4 time to live, IPv6 hop limit (RFC 9293 MUST-49).
    pub ttl: u8,
    /// VLAN id of frames sent; `None` sends untagged. A passive open takes the SYN's.
    pub vlan: Option<u16>,
    /// IPv6 scope (interface index) of a link-local peer; zero when there is none.
    pub scope_id: u32,
}

impl Default for FlowOptions {
    fn default() -> Self {
        Self {
            congestion: CongestionAlgorithm::Cubic,
            ecn: false,
            nagle: true,
            keep_alive: None,
            user_timeout: None,
            connect_timeout: None,
            linger: None,
            recv_buffer: 6 << 20,
            recv_initial: u16::MAX.into(),
            send_buffer: 4 << 20,
            mss: None,
            dscp: 0,
            ttl: 64,
            vlan: None,
            scope_id: 0,
        }
    }
}

impl FlowOptions {
    /// Whether the connection may use explicit congestion notification.
    pub fn may_use_ecn(&self) -> bool {
        self.ecn && self.congestion != CongestionAlgorithm::Bbr
    }
}
