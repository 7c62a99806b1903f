//! RFC 9293 and its friends; knows segments, not packets.
//!
//! | RFC 9293 | file |
//! | --- | --- |
//! | §3.3.1 variables | `tcb`, `cold`, `flags`, `segment`, `settings`, `config` |
//! | §3.3.2 states, Figure 5 | `state` |
//! | §3.4.1 initial sequence numbers (RFC 6528), timestamp offsets | `isn` |
//! | §3.5 passive open | `half_open` |
//! | §3.6, §3.10.7.4 TIME-WAIT (RFC 6191) | `time_wait` |
//! | §3.8.1 retransmission (RFC 6298) | `rtt`, `expire` |
//! | losses with SACK (RFC 6675, 8985, 6937, 5682), without (RFC 6582) | `loss`, `probe`, `scoreboard`, `rack`, `prr`, `spurious`; `recovery` |
//! | §3.7.2 path MTU discovery (RFC 1191, 8201, 4821) | `icmp`, `path` |
//! | §3.8.2 congestion control (RFC 5681), ECN (RFC 3168) | `congestion`, `growth`; `ecn` |
//! | §3.8.6 window, Nagle, probes | `output`, `expire`, `window` |
//! | §3.9.2.2 ICMP | `icmp` |
//! | §3.10.1 to §3.10.6 user calls | `calls`, `user`, `options` |
//! | §3.10.7.3, §3.10.7.4 SEGMENT ARRIVES | `arrives`, `ack`, `text` |
//! | §3.10.8 timeouts | `expire`, `timers` |
//! | RFC 5961 §7 | `challenge` |
//! | text: queued, kept, out of order | `chunks`, `send_buf`, `recv_buf`, `reassembly` |
#![forbid(unsafe_code)]

mod ack;
mod arrives;
mod calls;
mod challenge;
mod chunks;
mod cold;
mod config;
mod congestion;
mod ecn;
mod expire;
mod flags;
mod growth;
mod half_open;
mod icmp;
mod isn;
mod loss;
mod options;
mod output;
mod pacing;
mod path;
mod predicted;
mod probe;
mod prr;
mod rack;
mod reassembly;
mod recovery;
mod recv_buf;
mod rtt;
mod scoreboard;
mod segment;
mod send_buf;
mod settings;
mod spurious;
mod state;
mod tcb;
#[cfg(test)]
mod tests;
mod text;
mod time_wait;
mod timers;
mod user;
mod window;

pub use arrives::Arrival;
pub use challenge::ChallengeLimit;
pub use chunks::ChunkPool;
pub use cold::{Shared, TcbCold};
pub use config::{TcpConfig, TimeWaitFull};
pub use congestion::{Acked, Congestion, CongestionControl, Memory, Model};
pub use expire::Expired;
pub use half_open::HalfOpen;
pub use icmp::IcmpMeaning;
pub use isn::{Origin, Secrets};
pub use options::{CongestionAlgorithm, FlowOptions, KeepAlive};
pub use recv_buf::RecvPools;
pub use rtt::RtoBounds;
pub use segment::{MoreOptions, Outgoing, Segment, reset_for};
pub use settings::{Settings, SettingsId, SettingsTable};
pub use state::{Input, Next, State};
pub use tcb::{Env, Opening, Tcb};
pub use time_wait::{Predecessor, TimeWait, TimeWaitVerdict};
pub use user::{CloseReason, FlowInfo, Report};
pub use window::Promises;
