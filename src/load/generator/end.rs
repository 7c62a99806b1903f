//! The generator's heartbeat, and how its run comes to an end.
#![forbid(unsafe_code)]

use std::time::Duration;

use super::{Generator, Phase, State};
use crate::base::Instant;
use crate::load::{Conn, ErrorKind, Live, Opener, Profile};

/// How long exchanges may take to complete after the end.
const GRACE: Duration = Duration::from_secs(2);
/// How often the live figures are published and the wish to stop is looked at.
const HEARTBEAT: Duration = Duration::from_millis(100);

impl Generator {
    /// Lets the next pump look for the wish to stop, which it otherwise does ten times a second.
    pub fn look_at_once(&mut self, now: Instant) {
        self.heartbeat = now;
    }

    pub(super) fn beat(&mut self, now: Instant) {
        self.heartbeat = now + HEARTBEAT;
        let r = &self.recorder;
        let stays_open = self.plan.workload.profile != Profile::Crr;
        let live = Live {
            connections: if stays_open { r.established } else { r.connections },
            requests: r.requests,
            octets: r.sent + r.received,
            errors: r.errors_seen,
        };
        self.control.publish(&mut self.published, live);
        if self.control.is_stopped() && self.phase == Phase::Running {
            self.recorder.end_at(now);
            self.end = now;
        }
    }

    /// The end: nothing new begins, and what is idle or without end is closed.
    pub(super) fn drain<O: Opener>(&mut self, now: Instant, opener: &mut O) {
        self.phase = Phase::Draining;
        self.end = now + GRACE;
        self.vacant.extend(self.resting.drain(..).map(|(_, slot)| slot));
        let is_stream = self.plan.workload.is_stream();
        for slot in 0..u32::try_from(self.slots.len()).expect("as many as connections") {
            let state = self.slots[slot as usize].state;
            let Some(mut conn) = opener.conn(slot) else { continue };
            if state == State::Ready {
                self.close(slot, &mut conn);
            } else if is_stream && state == State::Busy {
                // What is under way either way is of no use, and waiting for it could take long.
                self.slots[slot as usize].state = State::Failing;
                conn.abort();
            }
        }
    }

    pub(super) fn check_drained<O: Opener>(&mut self, now: Instant, opener: &mut O) {
        if self.vacant.len() == self.slots.len() {
            self.phase = Phase::Done;
            // A last beat, so that the live figures end where the results do.
            self.beat(now);
            self.control.leave(self.recorder.clone());
        } else if now >= self.end {
            self.end = now + GRACE;
            for slot in 0..u32::try_from(self.slots.len()).expect("as many as connections") {
                if matches!(self.slots[slot as usize].state, State::Vacant | State::Failing) {
                    continue;
                }
                let Some(mut conn) = opener.conn(slot) else { continue };
                self.fail(slot, now, ErrorKind::Unfinished, &mut conn);
            }
        }
    }
}
