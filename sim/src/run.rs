//! One seed from its first step to its last, and what is said when a rule does not hold.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use ringroad::base::Instant;

use crate::rule::{Rule, Violation};
use crate::scenario::Worlds;
use crate::tally::Tally;
use crate::world::World;

/// A rule that did not hold, and how to see it again.
#[derive(Clone, Debug)]
pub struct Failure {
    pub seed: u64,
    pub worlds: Worlds,
    /// As asked for.
    pub steps: u64,
    /// The step, of those and of the closing ones, after which it was found.
    pub step: u64,
    pub at: Instant,
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, worlds, steps, step, at, violation } = self;
        let ms = at.as_millis();
        writeln!(f, "seed {seed}, step {step}, {}.{:03} s: {violation}", ms / 1_000, ms % 1_000)?;
        write!(
            f,
            "repeat with: cargo run --release -p ringroad-sim -- --seed {seed}{} --steps {steps} \
             --pcap seed-{seed}.pcap",
            if *worlds == Worlds::Lossy { " --lossy" } else { "" }
        )
    }
}

/// How one seed ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub tally: Tally,
    /// Equal for two runs of one seed; another one for nearly every other seed.
    pub digest: u64,
    pub failure: Option<Failure>,
}

thread_local! {
    static IN_WORLD: Cell<bool> = const { Cell::new(false) };
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panics of a world are kept for its report; all others go where they went before.
fn keep_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IN_WORLD.get() {
                PANIC.set(Some(info.to_string()));
            } else {
                before(info);
            }
        }));
    });
}

/// Makes `steps` steps in the world of `seed` among `worlds`, and closes it; `see` sees every frame, and when it was sent.
pub fn run_seed(seed: u64, worlds: Worlds, steps: u64, see: impl FnMut(Instant, &[u8])) -> Outcome {
    keep_panics();
    let mut world = World::new(seed, worlds);
    IN_WORLD.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(|| world.run(steps, see)));
    IN_WORLD.set(false);
    let result = result.unwrap_or_else(|_| {
        let what = PANIC.take().unwrap_or_default();
        Err(Violation { rule: Rule::Engine, what })
    });
    let failure = result.err().map(|violation| Failure {
        seed,
        worlds,
        steps,
        step: world.steps(),
        at: world.now(),
        violation,
    });
    let tally = if failure.is_some() { Tally::default() } else { world.tally() };
    Outcome { tally, digest: world.digest(), failure }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Event;

    #[test]
    fn a_seed_repeats_itself_and_no_other() {
        let digest = |seed| run_seed(seed, Worlds::Any, 500, |_, _| ()).digest;
        for seed in 0..8 {
            assert_eq!(digest(seed), digest(seed), "seed {seed}");
            assert_ne!(digest(seed), digest(seed + 1), "seed {seed}");
        }
    }

    #[test]
    fn no_rule_is_broken_and_everything_happens() {
        let mut tally = Tally::default();
        for seed in 0..60 {
            let outcome = run_seed(seed, Worlds::Any, 2_000, |_, _| ());
            assert!(outcome.failure.is_none(), "{}", outcome.failure.expect("it is some"));
            tally.merge(&outcome.tally);
        }
        let never: Vec<_> = Event::ALL.iter().filter(|&&event| tally.get(event) == 0).collect();
        assert!(never.is_empty(), "{never:?} never happened");
    }

    /// Whatever is sent arrives, and nobody is told of a failure, though links lose up to 30 % of the frames.
    #[test]
    fn nothing_fails_on_lossy_links() {
        let mut tally = Tally::default();
        for seed in 0..6 {
            let outcome = run_seed(seed, Worlds::Lossy, 1_000, |_, _| ());
            assert!(outcome.failure.is_none(), "{}", outcome.failure.expect("it is some"));
            tally.merge(&outcome.tally);
        }
        for never in [Event::Reset, Event::TimedOut, Event::Aborted, Event::Restarts, Event::Forged] {
            assert_eq!(tally.get(never), 0, "{never:?}");
        }
        assert!(tally.get(Event::Finished) > 100 && tally.get(Event::Octets) > 1_000_000, "{tally}");
    }

    #[test]
    fn a_failure_says_how_to_repeat_it() {
        let violation = Violation { rule: Rule::Text, what: "octet 7".to_owned() };
        let at = Instant::from_millis(1_002);
        let failure = Failure { seed: 5, worlds: Worlds::Any, steps: 100, step: 9, at, violation };
        assert_eq!(
            failure.to_string(),
            "seed 5, step 9, 1.002 s: text: octet 7\nrepeat with: cargo run --release -p ringroad-sim -- \
             --seed 5 --steps 100 --pcap seed-5.pcap"
        );
        let lossy = Failure { worlds: Worlds::Lossy, ..failure };
        assert!(lossy.to_string().contains("--seed 5 --lossy --steps"), "{lossy}");
    }
}
