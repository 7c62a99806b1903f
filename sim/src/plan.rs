//! How one end of one connection behaves: what it sends, how it reads, and how it ends.
#![forbid(unsafe_code)]

use std::time::Duration;

use ringroad::base::Rng;

use crate::scenario::{Apps, any_size, up_to};
use crate::text::HEAD_LEN;

/// How an application reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// Everything at once.
    Eager,
    /// At most so many octets, then nothing for a while.
    Slow { octets: u32, rest: Duration },
}

/// What makes an application end its side, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// `shutdown` behind the last octet; reads on.
    Shutdown,
    /// `close` when the peer's FIN has come and all is sent; for passive ends.
    AtFin,
    /// `shutdown` so long after the last octet.
    Later(Duration),
    /// `close` behind the last octet, whatever the peer still has to say.
    Close,
    /// `close` as soon as so many octets came, perhaps with more of them unread.
    CloseAfter(u32),
    /// `abort` as soon as so many octets came.
    AbortAfter(u32),
    /// `abort` so long after the opening, whatever goes on.
    AbortLater(Duration),
}

/// What one end does.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Octets to send.
    pub send: u64,
    /// Of them at most so many in one call.
    pub piece: u32,
    pub reader: Reader,
    pub ending: Ending,
    /// Nothing but waits, so long after the opening, before it begins to send.
    pub begins: Duration,
}

impl Plan {
    /// A plan for an active or passive end.
    pub fn draw(rng: &mut Rng, apps: &Apps, is_active: bool) -> Self {
        let octets = match rng.below(4) {
            0 => up_to(rng, apps.longest),
            1 => up_to(rng, apps.longest / 10),
            _ => any_size(rng, apps.longest),
        };
        Self {
            // Less than its own number would leave nobody the wiser.
            send: match u64::from(octets) {
                0 => 0,
                octets => octets.max(HEAD_LEN),
            },
            piece: 1 + any_size(rng, 4_095),
            reader: draw_reader(rng, apps),
            ending: draw_ending(rng, apps, is_active),
            begins: if rng.below(4) == 0 { short(rng, 50) } else { Duration::ZERO },
        }
    }
}

/// Up to so many milliseconds, in microseconds.
fn short(rng: &mut Rng, most_ms: u32) -> Duration {
    Duration::from_micros(u64::from(any_size(rng, most_ms * 1_000)))
}

fn draw_reader(rng: &mut Rng, apps: &Apps) -> Reader {
    if rng.below(3) > 0 {
        return Reader::Eager;
    }
    // However much there is to read, that is done after a hundred rests.
    let least = apps.longest / 100;
    Reader::Slow { octets: 1 + least + any_size(rng, apps.longest), rest: short(rng, 300) }
}

fn draw_ending(rng: &mut Rng, apps: &Apps, is_active: bool) -> Ending {
    let orderly = apps.orderly || rng.below(2) == 0;
    match rng.below(if orderly { 4 } else { 8 }) {
        0 if is_active => Ending::Shutdown,
        0 | 1 => {
            if is_active {
                Ending::Later(short(rng, 100))
            } else {
                Ending::AtFin
            }
        }
        2 => Ending::Shutdown,
        3 => Ending::Later(short(rng, 100)),
        4 => Ending::Close,
        5 => Ending::CloseAfter(any_size(rng, apps.longest)),
        6 => Ending::AbortAfter(any_size(rng, apps.longest)),
        _ => Ending::AbortLater(short(rng, 500)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{Scenario, Worlds};

    #[test]
    fn an_active_end_always_ends_by_itself_and_an_orderly_one_loses_nothing() {
        let mut rng = Rng::new(1);
        let drawn = Scenario::draw(1, Worlds::Any).apps;
        for orderly in [false, true] {
            let apps = Apps { orderly, ..drawn.clone() };
            let plans: Vec<_> = (0..1_000).map(|_| Plan::draw(&mut rng, &apps, true).ending).collect();
            assert!(!plans.contains(&Ending::AtFin), "it would wait for an end that waits for it");
            let rude = |ending: &Ending| !matches!(ending, Ending::Shutdown | Ending::Later(_));
            assert_eq!(plans.iter().any(rude), !orderly);
        }
    }
}
