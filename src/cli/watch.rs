//! What goes on beside the workers of a run: the live line, and samples at both ends of the measured time.
#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::string::String;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::load::{Control, Live, NetSample, Plan, Profile, cpu_seconds};

/// What was seen over the measured time.
#[derive(Debug)]
pub(super) struct Observed {
    /// CPU time of this process, s.
    pub cpu_seconds: f64,
    /// The kernel's counters at the beginning.
    pub before: NetSample,
    /// The kernel's counters at the end.
    pub after: NetSample,
}

/// How often it is looked whether the run is over.
const TICK: Duration = Duration::from_millis(5);
/// How often the live line changes.
const LINE: Duration = Duration::from_secs(1);

/// Watches until the measured time is over, or the run.
pub(super) fn watch(plan: &Plan, control: &Control) -> Observed {
    wait_until(control, |_| control.is_started());
    let start = Instant::now();
    let line = live_line();
    let mut shown = Live::default();
    let mut show_at = start + LINE;
    let mut tick = |now: Instant| {
        if now >= show_at {
            show_at += LINE;
            let live = control.live();
            line.set_message(text(plan.workload.profile, shown, live));
            line.tick();
            shown = live;
        }
    };
    wait_until(control, |now| {
        tick(now);
        now >= start + plan.warmup
    });
    let (before, cpu_before) = (NetSample::read(), cpu_seconds());
    wait_until(control, |now| {
        tick(now);
        now >= start + plan.warmup + plan.duration
    });
    let observed = Observed { cpu_seconds: cpu_seconds() - cpu_before, before, after: NetSample::read() };
    line.finish_and_clear();
    observed
}

fn wait_until(control: &Control, mut is_reached: impl FnMut(Instant) -> bool) {
    while !is_reached(Instant::now()) && !control.is_stopped() && !control.is_ended() {
        std::thread::sleep(TICK);
    }
}

/// Hidden unless someone is looking.
fn live_line() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("[{elapsed}] {msg}").expect("the template is a constant");
    ProgressBar::new_spinner().with_style(style)
}

/// One second's figures.
fn text(profile: Profile, before: Live, now: Live) -> String {
    let megabits = (now.octets - before.octets) / 125_000;
    let requests = now.requests - before.requests;
    match profile {
        Profile::Crr => std::format!(
            "{} connections/s, {megabits} Mbit/s, {} errors",
            now.connections - before.connections,
            now.errors
        ),
        Profile::Rr | Profile::Bulk => std::format!(
            "{} connections, {requests} requests/s, {megabits} Mbit/s, {} errors",
            now.connections,
            now.errors
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_live_line_shows_the_last_second() {
        let before = Live { connections: 10, requests: 10, octets: 0, errors: 1 };
        let now = Live { connections: 25, requests: 30, octets: 1_250_000, errors: 2 };
        assert_eq!(text(Profile::Crr, before, now), "15 connections/s, 10 Mbit/s, 2 errors");
        assert_eq!(text(Profile::Rr, before, now), "25 connections, 20 requests/s, 10 Mbit/s, 2 errors");
    }
}
