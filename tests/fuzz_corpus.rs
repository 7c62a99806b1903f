//! The properties of the fuzz targets as ordinary tests: over the committed corpus, changed a little, and over noise.
#![forbid(unsafe_code)]

use corpus::replay;
use proptest::prelude::*;

mod corpus;
#[path = "../fuzz/src/lib.rs"]
mod properties;

#[test]
fn frames_of_the_corpus_are_survived() {
    replay("frames", properties::frames::check);
}

#[test]
fn options_of_the_corpus_are_read_alike_by_a_slow_reader() {
    replay("options", properties::options::check);
}

#[test]
fn operations_of_the_corpus_end_with_every_octet_in_its_place() {
    replay("engine", properties::engine::check);
}

#[test]
fn segments_of_the_corpus_make_the_stream_again() {
    replay("reassembly", properties::reassembly::check);
}

#[cfg(feature = "cli")]
#[test]
fn http_of_the_corpus_means_the_same_in_any_pieces() {
    replay("http", properties::http::check);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn noise_is_survived_as_frames(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        properties::frames::check(&octets);
    }

    #[test]
    fn noise_is_read_alike_as_options(octets in prop::collection::vec(0..12u8, 0..44)) {
        properties::options::check(&octets);
    }

    #[test]
    fn any_operations_end_with_every_octet_in_its_place(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::engine::check(&octets);
    }

    #[test]
    fn segments_in_any_order_make_the_stream_again(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        properties::reassembly::check(&octets);
    }
}

#[cfg(feature = "cli")]
proptest! {
    #[test]
    fn noise_means_the_same_in_any_pieces_as_http(
        piece in 1..20u8,
        words in prop::collection::vec(prop::sample::select(WORDS.as_slice()), 0..40),
    ) {
        let text = [&[piece], words.concat().as_bytes()].concat();
        properties::http::check(&text);
    }
}

/// What HTTP is made from.
#[cfg(feature = "cli")]
const WORDS: [&str; 24] = [
    "GET ",
    "HEAD ",
    "POST ",
    "/",
    "/?x",
    "http://x/",
    " HTTP/1.1",
    " HTTP/1.0",
    "HTTP/1.1 200 OK",
    "HTTP/1.1 100 ",
    "HTTP/1.1 304 x",
    "\r\n",
    "\n",
    "\r\n\r\n",
    "Host: x\r\n",
    "Content-Length: ",
    "5\r\n",
    "50\r\n",
    "+1",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Transfer-Encoding: chunked\r\n",
    "x",
    ": ",
];
