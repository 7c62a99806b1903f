//! The secret behind hashes, ISNs and timestamps: one a boot, so that a program started again continues its numbers.
#![forbid(unsafe_code)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::RunError;
use crate::base::HashKey;

/// Where it is kept: in memory, gone with the boot, readable by root alone.
const PATH: &str = "/run/ringroad.secret";

/// The secret of this boot, drawn by the first process that asks. Where it cannot be kept, for want of rights,
/// this process has one of its own: then a peer's TIME-WAIT may take its first SYNs for old ones.
///
/// # Errors
///
/// When the operating system has no random octets.
pub(super) fn boot_secret() -> Result<HashKey, RunError> {
    let octets =
        kept(Path::new(PATH)).map_err(|source| RunError::Os { action: "read /dev/urandom", source })?;
    let half = |at: usize| u64::from_ne_bytes(octets[at..at + 8].try_into().expect("eight octets"));
    Ok(HashKey::new(half(0), half(8)))
}

/// What `path` keeps; if it keeps nothing, new random octets, kept there if that is possible.
fn kept(path: &Path) -> io::Result<[u8; 16]> {
    if let Some(octets) = read(path) {
        return Ok(octets);
    }
    let mut octets = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    Ok(match keep(path, &octets) {
        Ok(()) => octets,
        // Another process was first, or there is no right to write there.
        Err(_) => read(path).unwrap_or(octets),
    })
}

fn read(path: &Path) -> Option<[u8; 16]> {
    fs::read(path).ok()?.try_into().ok()
}

/// Puts whole octets in place or none: a link to a finished file is made in one step, and only if there is none.
fn keep(path: &Path, octets: &[u8; 16]) -> io::Result<()> {
    let mut unfinished = PathBuf::from(path);
    unfinished.set_extension(std::format!("{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unfinished)?;
    let linked = file.write_all(octets).and_then(|()| fs::hard_link(&unfinished, path));
    fs::remove_file(&unfinished)?;
    linked
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_draws_it_and_all_others_read_it() {
        let path = std::env::temp_dir().join(std::format!("ringroad-secret-{}.test", std::process::id()));
        let first = kept(&path).expect("random octets");
        assert_eq!(kept(&path).expect("the same"), first);
        assert!(keep(&path, &[7; 16]).is_err(), "what is there stays");
        assert_eq!(read(&path), Some(first));
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn without_a_place_each_process_has_its_own() {
        let nowhere = Path::new("/proc/ringroad.secret");
        assert_ne!(kept(nowhere).expect("random octets"), kept(nowhere).expect("others"));
    }
}
