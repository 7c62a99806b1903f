//! `cargo +nightly fuzz run reassembly`: the property of src/reassembly.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringroad_fuzz::reassembly::check(data));
