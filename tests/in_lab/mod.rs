//! A lab for one test, gone when the test ends.

use std::thread;

use ringroad::cli::lab::{Lab, LabConfig, LinkArgs};

/// No link between the ends but a veth pair.
pub const DIRECT: LinkArgs = LinkArgs::NONE;

/// Runs `test` on a new lab, if it may; on CI it must.
pub fn in_lab(name: &str, link: LinkArgs, test: impl FnOnce(&Lab) + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the namespace tests need root, and CI must run them");
        println!("skipped: needs root");
        return;
    }
    let name = format!("test-{name}-{}", std::process::id());
    let program = Some(env!("CARGO_BIN_EXE_ringroad").into());
    let config = LabConfig { name: Some(name.clone()), queues: 1, mtu: 1500, link, program };
    let lab = Lab::up(&config).expect("a new lab");
    let result = thread::scope(|scope| scope.spawn(|| test(&lab)).join());
    Lab::down(Some(&name)).expect("the lab is up");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
