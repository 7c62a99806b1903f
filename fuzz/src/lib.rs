//! What must hold whatever octets come: each module's `check` panics where it does not.
//!
//! The fuzz targets give `check` what libFuzzer makes; tests/fuzz_corpus.rs, which includes this file as a
//! module, gives it the committed corpus and random octets, with a stable compiler; what is made of scripts is
//! replayed by tests/pkt, where the whole language is used.
#![forbid(unsafe_code)]

pub mod engine;
pub mod frames;
#[cfg(feature = "cli")]
pub mod http;
pub mod options;
pub mod reassembly;
#[cfg(not(test))]
pub mod script;

mod host;
mod input;
