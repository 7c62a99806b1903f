//! The properties of the fuzz targets as ordinary tests: over the committed corpus, changed a little, and over noise.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use ringroad::base::Rng;

#[path = "../fuzz/src/lib.rs"]
mod properties;

/// Changed copies of each file of the corpus that are tried.
const CHANGED: u32 = 8;

/// Says which input it was.
struct Repeat<'a>(&'a Path, &'a [u8]);

impl Drop for Repeat<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("from {}: {:?}", self.0.display(), self.1);
        }
    }
}

fn files(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut files: Vec<_> =
        entries.map(|entry| entry.expect("a directory that can be read").path()).collect();
    assert!(!files.is_empty(), "{target} has a corpus");
    files.sort();
    files
}

/// Gives `check` each file, and copies of it with an octet or two changed, or cut off.
fn replay(target: &str, check: fn(&[u8])) {
    for (seed, path) in files(target).iter().enumerate() {
        let whole = fs::read(path).expect("a file that can be read");
        let mut rng = Rng::new(seed as u64);
        for change in 0..=CHANGED {
            let mut octets = whole.clone();
            if let Some(len) = u32::try_from(octets.len()).ok().filter(|&len| len > 0 && change > 0) {
                for _ in 0..=rng.below(2) {
                    octets[rng.below(len) as usize] = rng.next_u64().to_le_bytes()[0];
                }
                octets.truncate((rng.below(2 * len) + 1) as usize);
            }
            let _repeat = Repeat(path, &octets);
            check(&octets);
        }
    }
}

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
