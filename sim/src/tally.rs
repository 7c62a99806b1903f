//! What happened, so that one sees that a run exercised everything.
#![forbid(unsafe_code)]

use std::fmt;

use ringroad::base::Counters;
use ringroad::io::sim::Traffic;
use ringroad::tcp::CloseReason;

/// Defines an enum whose variants are indices, with a name for each.
macro_rules! counted {
    ($($variant:ident => $name:literal,)+) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event { $($variant,)+ }

        impl Event {
            /// Every one, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// What it is called.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

counted! {
    Worlds => "worlds",
    Steps => "steps",
    VirtualMs => "virtual milliseconds",
    Opens => "connections opened",
    Crossings => "connections opened from both ends at once",
    OpensRefused => "opens refused at once",
    Accepts => "connections accepted",
    Streams => "streams attributed to their sender",
    Octets => "octets of text checked",
    Finished => "ends: finished",
    Reset => "ends: reset",
    Refused => "ends: refused",
    TimedOut => "ends: timed out",
    ConnectTimedOut => "ends: connect timed out",
    Unreachable => "ends: unreachable",
    Aborted => "ends: aborted",
    Lost => "ends: lost with their host",
    Reports => "reports to applications",
    Stalls => "workers stalled",
    ClockJumps => "clocks jumped",
    Drains => "machines that drained before",
    Restarts => "machines restarted",
    Cuts => "links cut",
    AbortAlls => "workers that aborted all",
    Neighbours => "neighbours resolved late",
    Forged => "frames forged",
    Sent => "frames sent",
    Repeated => "frames repeated or replayed",
    Delivered => "frames delivered",
    LostOnLinks => "frames lost on links",
    LostAtHosts => "frames lost at hosts",
}

/// Counts of one world, or of many.
#[derive(Clone, Debug)]
pub struct Tally {
    events: [u64; Event::ALL.len()],
    /// The engines' own.
    pub counters: Counters,
}

impl Default for Tally {
    fn default() -> Self {
        Self { events: [0; Event::ALL.len()], counters: Counters::new() }
    }
}

impl Tally {
    /// It happened once.
    pub const fn add(&mut self, event: Event) {
        self.add_n(event, 1);
    }

    /// It happened `n` times.
    pub const fn add_n(&mut self, event: Event, n: u64) {
        self.events[event as usize] += n;
    }

    /// How often it happened.
    pub const fn get(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// An end was told why it is over.
    pub const fn add_close(&mut self, why: CloseReason) {
        self.add(match why {
            CloseReason::Finished => Event::Finished,
            CloseReason::Reset => Event::Reset,
            CloseReason::Refused => Event::Refused,
            CloseReason::TimedOut => Event::TimedOut,
            CloseReason::ConnectTimedOut => Event::ConnectTimedOut,
            CloseReason::Aborted => Event::Aborted,
            _ => Event::Unreachable,
        });
    }

    /// What became of a world's frames.
    pub const fn add_traffic(&mut self, traffic: &Traffic) {
        self.add_n(Event::Forged, traffic.forged);
        self.add_n(Event::Sent, traffic.sent);
        self.add_n(Event::Repeated, traffic.repeated);
        self.add_n(Event::Delivered, traffic.delivered);
        self.add_n(Event::LostOnLinks, traffic.lost);
        self.add_n(Event::LostAtHosts, traffic.unreceived);
    }

    /// Adds another one to this.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.events.iter_mut().zip(&other.events) {
            *mine += theirs;
        }
        self.counters.merge(&other.counters);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &event in Event::ALL {
            writeln!(f, "{:>16}  {}", self.get(event), event.name())?;
        }
        writeln!(f, "{:>16}  the engines' own:", "")?;
        self.counters.nonzero().try_for_each(|(name, count)| writeln!(f, "{count:>16}  {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_added_up_and_shown() {
        let (mut one, mut two) = (Tally::default(), Tally::default());
        one.add(Event::Stalls);
        two.add_n(Event::Stalls, 41);
        two.add_close(CloseReason::Refused);
        one.merge(&two);
        assert_eq!((one.get(Event::Stalls), one.get(Event::Refused), one.get(Event::Reset)), (42, 1, 0));
        let shown = one.to_string();
        assert!(shown.contains("42  workers stalled\n"), "{shown}");
        assert_eq!(shown.lines().count(), Event::ALL.len() + 1);
    }
}
