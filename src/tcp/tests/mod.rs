//! Scenarios of whole connections in virtual time: one file for each topic, each test a claim.
#![forbid(unsafe_code)]

mod abort;
mod arrives;
mod bbr;
mod close;
mod cold;
mod congestion;
mod ecn;
mod handshake;
pub(super) mod host;
mod icmp;
mod keep_alive;
mod options;
mod pair;
mod retransmission;
mod segments;
mod sizing;
mod time_wait;
mod transfer;
mod window;

use host::Host;
use segments::{Seg, a, fa, pa, r, ra, s, sa};
