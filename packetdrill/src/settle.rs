//! Real time: lets the other threads of the process come to rest before virtual time moves on.
//!
//! packetdrill makes a blocking call on a second thread and goes on at once. On a real clock the call begins
//! within microseconds; a virtual clock could be minutes ahead by then.
#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

/// How long to wait for threads that never rest.
const ROUNDS: u32 = 200;
const ROUND: Duration = Duration::from_micros(100);

thread_local! {
    /// This thread's number, as the kernel names it.
    static SELF: Option<String> =
        fs::read_link("/proc/thread-self").ok().as_deref().and_then(name_of);
}

fn name_of(path: &std::path::Path) -> Option<String> {
    path.file_name()?.to_str().map(str::to_owned)
}

/// Waits until every other thread of the process sleeps, 20 ms at most.
pub fn settle() {
    for _ in 0..ROUNDS {
        if !others_run() {
            return;
        }
        thread::sleep(ROUND);
    }
}

fn others_run() -> bool {
    let own = SELF.with(Clone::clone);
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return false };
    let others = threads.flatten().map(|entry| entry.path()).filter(|path| name_of(path) != own);
    others.into_iter().any(is_running)
}

fn is_running(path: PathBuf) -> bool {
    // A thread that is gone has come to rest.
    let Ok(stat) = fs::read_to_string(path.join("stat")) else { return false };
    let state = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().next());
    matches!(state, Some("R" | "D"))
}
