//! `cargo +nightly fuzz run http`: the property of src/http.rs.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringroad_fuzz::http::check(data));
