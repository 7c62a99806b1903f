//! Every script beside the library, played here and by packetdrill.
#![forbid(unsafe_code)]

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use super::library::path;
use super::player::play;
use super::script::Script;

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts");
    let entries = fs::read_dir(&directory).expect("the scripts are there");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("it can be read").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "pkt"));
    files.sort();
    assert!(files.len() > 10, "only {files:?}");
    files
}

#[test]
fn every_script_plays() {
    let mut failed = Vec::new();
    for file in scripts() {
        let script = Script::parse(&fs::read_to_string(&file).expect("a script"));
        eprintln!("{}", file.display());
        if catch_unwind(|| play(&script)).is_err() {
            failed.push(file);
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn packetdrill_plays_every_script() {
    if env::var_os("PACKETDRILL").is_none() {
        println!("skipped: PACKETDRILL does not name packetdrill's program");
        return;
    }
    let runner = Path::new(env!("CARGO_MANIFEST_DIR")).join("run");
    let status = Command::new(runner).env("RINGROAD_PACKETDRILL", path()).args(scripts()).status();
    assert!(status.expect("the runner runs").success());
}
