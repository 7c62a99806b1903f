//! Engines in virtual time: against each other over a seeded network, against smoltcp, under attack.
mod bbr;
mod census;
mod common;
mod ecn;
mod engine;
mod fairness;
mod many;
mod network;
mod path;
mod recovery;
mod reuse;
mod robustness;
mod smoltcp_peer;
mod transfers;
mod window;
