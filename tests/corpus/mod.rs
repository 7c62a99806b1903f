//! The committed corpus of a fuzz target, and changed copies of it, for its property.

use std::fs;
use std::path::{Path, PathBuf};

use ringroad::base::Rng;

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
pub fn replay(target: &str, check: fn(&[u8])) {
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
