//! Every script below tests/pkt, for both versions of IP and on both sides of the wrap of sequence numbers.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use ringroad::base::Instant;

use super::host::Host;
use super::run::{Failure, Run};
use super::script::{Files, Script, parse};
use super::wire::Version;

/// The peer's initial sequence numbers: in mid-space; and shortly before the wrap, and before the sign changes.
const ISNS: [u32; 3] = [1_000_000, u32::MAX - 2, i32::MAX as u32 - 50];

/// The texts of all scripts, by their path below tests/pkt.
pub fn files() -> Files {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pkt");
    let mut files = HashMap::new();
    collect(&root, &root, &mut files);
    files
}

fn collect(root: &Path, directory: &Path, files: &mut Files) {
    for entry in fs::read_dir(directory).expect("tests/pkt can be read") {
        let path = entry.expect("tests/pkt can be read").path();
        if path.is_dir() {
            collect(root, &path, files);
        } else if path.extension().unwrap_or_default() == "pkt" {
            let name = path.strip_prefix(root).expect("below it").to_string_lossy().replace('\\', "/");
            files.insert(name, fs::read_to_string(&path).expect("a script can be read"));
        }
    }
}

/// The script of this name; whatever is wrong with it is said.
pub fn load(file: &str) -> Script {
    parse(file, &files()).unwrap_or_else(|fault| panic!("{fault}"))
}

/// The instant at which to begin for an initial sequence number of ours that is at most a tick of the timestamp
/// clock before `wanted`, where it is `iss` otherwise: it goes up by one in four microseconds.
fn begin_for(wanted: u32, iss: u32) -> Instant {
    let ticks = u64::from(wanted.wrapping_sub(iss) / 250);
    Host::START.plus_micros(ticks * 1_000)
}

/// Runs a script in every way there is; the first failure says enough.
fn run_in_every_way(script: &Script) -> Result<(), Box<Failure>> {
    let versions =
        Version::BOTH.into_iter().filter(|&version| script.only.is_none_or(|only| only == version));
    for version in versions {
        for isn in ISNS {
            let Some(iss) = Run::script(script, version, isn)? else { continue };
            // Ours wraps, or changes sign, while the peer's does something else.
            for wanted in [u32::MAX, i32::MAX as u32] {
                let ours = Run::script_at(begin_for(wanted, iss), script, version, isn)?;
                let short = wanted.wrapping_sub(ours.expect("as before"));
                assert!(short < 250, "{}: {short} octets before the wrap", script.file);
            }
        }
    }
    Ok(())
}

#[test]
fn every_script_does_what_it_says() {
    // RINGROAD_PKT=blind runs only those with `blind` in their path.
    let wanted = std::env::var("RINGROAD_PKT").unwrap_or_default();
    let files = files();
    let mut names: Vec<&String> = files.keys().filter(|name| name.contains(&wanted)).collect();
    names.sort();
    assert!(!names.is_empty(), "no script has {wanted:?} in its path");
    let mut failures = Vec::new();
    for name in names {
        match parse(name, &files) {
            Err(fault) => failures.push(fault.to_string()),
            Ok(script) => failures.extend(run_in_every_way(&script).err().map(|failure| failure.to_string())),
        }
    }
    assert!(failures.is_empty(), "{} scripts fail:\n\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn there_are_many_scripts_and_each_is_about_something_else() {
    let files = files();
    let scripts: Vec<Script> = files.keys().map(|name| load(name)).collect();
    assert!(scripts.len() >= 100, "{} scripts", scripts.len());
    // Each of these ids stands for several requirements, so a citation names its topic.
    const SEVERAL: [&str; 6] = ["MUST-15", "MUST-20", "MUST-46", "MUST-56", "MUST-57", "SHLD-5"];
    for script in &scripts {
        for citation in script.citations.iter().filter(|citation| citation.topic.is_none()) {
            let vague = citation.ids.iter().find(|id| SEVERAL.contains(&id.as_str()));
            assert_eq!(vague, None, "{}: of which topic?", script.file);
        }
    }
    let mut seen: HashMap<&str, &str> = HashMap::new();
    for script in &scripts {
        if let Some(other) = seen.insert(&script.behaviour, &script.file) {
            panic!("{} and {other} say that they show the same: {}", script.file, script.behaviour);
        }
    }
}
