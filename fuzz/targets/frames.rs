//! `cargo +nightly fuzz run frames`: the property of src/frames.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringroad_fuzz::frames::check(data));
