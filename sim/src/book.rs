//! What all applications of a world know together: every end there ever was, and what two of them owe each other.
#![forbid(unsafe_code)]

use std::time::Duration;

use ringroad::base::Instant;
use ringroad::tcp::CloseReason;

use crate::end::End;
use crate::rule::{Rule, Violation, check};
use crate::tally::{Event, Tally};
use crate::text;

/// Every end of every connection of one world.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// The end with number n is at n - 1.
    ends: Vec<End>,
    /// Numbers of those that are neither over nor lost, and their hosts.
    live: Vec<(u64, usize)>,
    /// The first rule that was broken in a callback.
    violation: Option<Violation>,
    pub tally: Tally,
    /// The network's clock.
    pub now: Instant,
    /// Nobody opens connections before this instant: old segments of a connection that left no TIME-WAIT
    /// may still be on their way.
    pub quiet_until: Instant,
    /// Nobody opens connections any more.
    pub is_closing: bool,
}

impl Book {
    /// Without news of any connection for so long those that there are count as stuck. No timeout of any
    /// scenario is longer. One that has no news while others have may wait for chunks that they hold.
    pub const PATIENCE: Duration = Duration::from_secs(1_500);

    /// One end may be over before its last words have made the other one.
    const ON_ITS_WAY: Duration = Duration::from_secs(1);

    /// Enters an end; returns its number.
    pub fn enter(&mut self, end: impl FnOnce(u64) -> End) -> u64 {
        let number = self.ends.len() as u64 + 1;
        let end = end(number);
        self.live.push((number, end.host));
        self.ends.push(end);
        number
    }

    /// The end with this number; zero, or one that nobody entered, is `None`.
    pub fn end(&self, number: u64) -> Option<&End> {
        self.ends.get(index(number)?)
    }

    /// The same, to change it.
    pub fn end_mut(&mut self, number: u64) -> Option<&mut End> {
        self.ends.get_mut(index(number)?)
    }

    /// Those of `host` that are neither over nor lost.
    pub fn live_on(&self, host: usize) -> usize {
        self.live.iter().filter(|&&(_, on)| on == host).count()
    }

    /// Keeps the first violation.
    pub fn note(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result {
            self.violation.get_or_insert(violation);
        }
    }

    /// Takes the first violation out.
    pub fn take_violation(&mut self) -> Result<(), Violation> {
        self.violation.take().map_or(Ok(()), Err)
    }

    /// A callback for the end with this number, with the check that it makes.
    pub fn on(&mut self, number: u64, callback: impl FnOnce(&mut End) -> Result<(), Violation>) {
        let now = self.now;
        let result = match self.end_mut(number) {
            Some(end) => {
                end.news = now;
                callback(end)
            }
            None => check(Rule::Callbacks, false, || "of a connection that was not announced".to_owned()),
        };
        self.note(result);
    }

    /// `data` is offered to the end with this number, which will consume the first `consumed` octets.
    pub fn on_data(&mut self, number: u64, data: &[u8], consumed: usize) {
        self.on(number, |end| end.on_data(data.len()));
        if self.violation.is_none() {
            let result = self.check_data(number, data);
            self.note(result);
        }
        if let Some(end) = self.end_mut(number) {
            end.received += consumed as u64;
            self.tally.add_n(Event::Octets, consumed as u64);
        }
    }

    fn check_data(&mut self, number: u64, data: &[u8]) -> Result<(), Violation> {
        let Some(end) = self.end_mut(number) else { return Ok(()) };
        let at = end.received;
        let sender = match end.hears {
            Some(sender) => sender,
            None => match end.take_head(data) {
                Some(sender) => self.pair(number, sender)?,
                // Not yet known whose it is.
                None => return Ok(()),
            },
        };
        let wrong = text::difference(sender, at, data);
        let describe = |book: &Self| format!("{:?} from {:?}", book.end(number), book.end(sender));
        check(Rule::Text, wrong.is_none(), || format!("octet {wrong:?} is wrong: {}", describe(self)))?;
        let now = self.now;
        let sent = self.end_mut(sender).map_or(0, |sender| {
            // That it is heard is news for it too, though nobody tells it.
            sender.news = now;
            sender.sent
        });
        let received = at + data.len() as u64;
        check(Rule::Causality, received <= sent, || format!("{received} of {sent}: {}", describe(self)))
    }

    /// The head of what `number` hears names `sender`.
    fn pair(&mut self, number: u64, sender: u64) -> Result<u64, Violation> {
        let (Some(end), Some(other)) = (self.end(number), self.end(sender)) else {
            let what = || format!("the head names {sender}, which is nobody: {:?}", self.end(number));
            check(Rule::Text, false, what)?;
            return Ok(sender);
        };
        let is_pair = end.mirrors(other)
            && other.heard_by.is_none()
            && other.hears.is_none_or(|heard| heard == number)
            && end.heard_by.is_none_or(|by| by == sender);
        check(Rule::Incarnation, is_pair, || format!("{end:?} hears {other:?}"))?;
        if let Some(end) = self.end_mut(number) {
            end.hears = Some(sender);
        }
        if let Some(other) = self.end_mut(sender) {
            other.heard_by = Some(number);
        }
        self.tally.add(Event::Streams);
        Ok(sender)
    }

    /// The end with this number was called back for the last time.
    pub fn on_close(&mut self, number: u64, why: CloseReason) {
        self.on(number, |end| end.on_close(why));
        self.live.retain(|&(live, _)| live != number);
        self.tally.add_close(why);
    }

    /// A host lost power.
    pub fn lose(&mut self, host: usize) {
        for end in self.ends.iter_mut().filter(|end| end.host == host && end.is_live()) {
            end.lost = true;
            self.tally.add(Event::Lost);
        }
        self.live.retain(|&(_, on)| on != host);
    }

    /// A host aborts all its connections.
    pub fn abort_all(&mut self, host: usize) {
        for end in self.ends.iter_mut().filter(|end| end.host == host && end.is_live()) {
            (end.said_fin, end.said_abort) = (true, true);
        }
    }

    /// What only grows, and not for ever once no connections are opened any more: octets that were consumed, and ends that
    /// are over.
    pub fn progress(&self) -> (u64, usize) {
        (self.tally.get(Event::Octets), self.ends.len() - self.live.len())
    }

    /// Every connection has ended, or something happened to one of them not long ago.
    pub fn check_liveness(&self) -> Result<(), Violation> {
        let ends = || self.live.iter().filter_map(|&(number, _)| self.end(number));
        let still = ends().map(|end| self.now.since(end.news)).min().unwrap_or_default();
        check(Rule::Liveness, still <= Self::PATIENCE, || {
            format!("stuck for {still:?}: {:?}", ends().collect::<Vec<_>>())
        })
    }

    /// When all is over: every end is, and those that finished have lost nothing.
    ///
    /// In a calm world nobody may have failed whose peer, or himself, had not asked for it.
    pub fn check_ends(&self, is_calm: bool) -> Result<(), Violation> {
        for end in &self.ends {
            check(Rule::Liveness, !end.is_live(), || format!("it is not over: {end:?}"))?;
            if end.over == Some(CloseReason::Finished) {
                let complete = self.is_complete(end);
                let others = || self.other_ends(end);
                check(Rule::Complete, complete, || format!("lost text of {end:?}: {:?}", others()))?;
            } else if is_calm {
                check(Rule::Reason, self.failed_for_a_reason(end), || {
                    format!("failed in a calm world: {end:?}; the other end: {:?}", self.other_ends(end))
                })?;
            }
        }
        Ok(())
    }

    /// Whether all that `end` sent, and it finished, was heard; unless who should have heard gave up.
    fn is_complete(&self, end: &End) -> bool {
        if let Some(peer) = end.heard_by.and_then(|by| self.end(by)) {
            let failed = peer.over != Some(CloseReason::Finished);
            return peer.gave_up() || failed || (peer.received == end.sent && peer.heard_fin);
        }
        let failed = |other: &&End| other.gave_up() || other.over != Some(CloseReason::Finished);
        end.sent == 0 || self.other_ends(end).iter().any(failed)
    }

    /// The end that it hears, and others of the same four-tuple that lived at the same time and heard nobody
    /// else.
    fn other_ends(&self, end: &End) -> Vec<&End> {
        let may_be = |other: &&End| {
            let hears = other.hears.is_none_or(|heard| heard == end.number);
            let overlaps = other.news + Self::ON_ITS_WAY >= end.begun && other.begun <= end.news;
            end.hears == Some(other.number) || (end.mirrors(other) && hears && overlaps)
        };
        self.ends.iter().filter(may_be).collect()
    }

    fn failed_for_a_reason(&self, end: &End) -> bool {
        match end.over {
            None | Some(CloseReason::Finished | CloseReason::Aborted) => true,
            Some(CloseReason::Reset) => self
                .other_ends(end)
                .iter()
                .any(|other| other.gave_up() || other.over.is_some_and(|why| why != CloseReason::Finished)),
            Some(CloseReason::Refused) => end.may_be_refused,
            // A FIN-WAIT-2 that nobody reads has a limit of its own.
            Some(CloseReason::TimedOut) => end.said_close,
            // The application's own limit.
            Some(CloseReason::ConnectTimedOut) => true,
            _ => false,
        }
    }
}

fn index(number: u64) -> Option<usize> {
    usize::try_from(number.checked_sub(1)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    /// The stream of `sender`, octets `0..len`.
    fn stream(sender: u64, len: usize) -> Vec<u8> {
        let mut octets = vec![0; len];
        text::fill(sender, 0, &mut octets);
        octets
    }

    /// Ends 1 and 2 of one connection, 3 and 4 of the next on the same four-tuple; all are open, and have sent
    /// a hundred octets.
    fn book() -> Book {
        let [client, server] = [1, 2].map(|n| SocketAddr::from(([10, 0, 0, n], 80)));
        let mut book = Book::default();
        for (host, local, remote) in [(0, client, server), (1, server, client)].repeat(2) {
            let number = book.enter(|number| End::new(number, host, local, remote, Instant::ZERO));
            let end = book.end_mut(number).expect("it was just entered");
            (end.is_open, end.sent) = (true, 100);
        }
        book
    }

    fn broken(mut book: Book) -> Option<Rule> {
        book.take_violation().err().map(|violation| violation.rule)
    }

    /// Both ends of the first connection have said and heard everything; those of the second never were.
    fn finished() -> Book {
        let mut book = book();
        book.ends.truncate(2);
        book.live.truncate(2);
        for (number, sender) in [(1, 2), (2, 1)] {
            book.on_data(number, &stream(sender, 100), 100);
            book.on(number, End::on_fin);
            book.end_mut(number).expect("entered").said_fin = true;
        }
        book
    }

    fn ended(mut book: Book, why: [CloseReason; 2], is_calm: bool) -> Option<Rule> {
        (1..).zip(why).for_each(|(number, why)| book.on_close(number, why));
        book.take_violation().and(book.check_ends(is_calm)).err().map(|violation| violation.rule)
    }

    #[test]
    fn the_right_text_is_right_in_any_pieces() {
        let mut book = book();
        for (at, octet) in stream(1, 100).into_iter().enumerate() {
            // Each octet is offered twice, and consumed the second time.
            for consumed in [0, 1] {
                book.on_data(2, &[octet], consumed);
            }
            assert_eq!(book.end(2).expect("entered").received, at as u64 + 1);
        }
        assert_eq!((book.end(1).expect("entered").heard_by, broken(book)), (Some(2), None));
    }

    #[test]
    fn wrong_text_is_found() {
        for at in [0, 7, 8, 50, 99] {
            let mut wrong = stream(1, 100);
            wrong[at] ^= 0x40;
            let mut book = book();
            book.on_data(2, &wrong, 100);
            assert_eq!(broken(book), Some(Rule::Text), "octet {at}");
        }
        let mut book = book();
        book.on_data(2, &stream(1, 50), 50);
        book.on_data(2, &stream(1, 100)[60..], 40);
        assert_eq!(broken(book), Some(Rule::Text), "a gap");
    }

    #[test]
    fn text_that_was_not_sent_yet_is_found() {
        let mut book = book();
        book.on_data(2, &stream(1, 101), 101);
        assert_eq!(broken(book), Some(Rule::Causality));
    }

    #[test]
    fn text_of_another_incarnation_is_found() {
        for (hears, why) in [
            ([(2, 1), (4, 1)].as_slice(), "two ends hear the same one"),
            (&[(2, 1), (1, 4)], "one is heard by another than it hears"),
            (&[(1, 4), (4, 3)], "likewise, the other way round"),
            (&[(1, 3)], "it is no end of the same connection"),
        ] {
            let mut book = book();
            hears.iter().for_each(|&(number, sender)| book.on_data(number, &stream(sender, 20), 20));
            assert_eq!(broken(book), Some(Rule::Incarnation), "{why}");
        }
        let mut book = book();
        [(2, 1), (1, 2), (3, 4), (4, 3)].iter().for_each(|&(number, sender)| {
            book.on_data(number, &stream(sender, 20), 20);
        });
        assert_eq!(broken(book), None);
    }

    #[test]
    fn callbacks_for_nobody_are_found() {
        let mut book = book();
        book.on(0, |_| Ok(()));
        assert_eq!(broken(book), Some(Rule::Callbacks));
    }

    #[test]
    fn whoever_finished_has_lost_nothing() {
        use CloseReason::{Finished, Reset};
        assert_eq!(ended(finished(), [Finished, Finished], true), None);
        let mut short = finished();
        short.ends[1].received = 99;
        assert_eq!(ended(short.clone(), [Finished, Finished], false), Some(Rule::Complete), "an octet less");
        assert_eq!(
            ended(short, [Finished, Reset], false),
            None,
            "the reader was told that it lost something"
        );
        let mut deaf = book();
        deaf.ends.truncate(2);
        for end in &mut deaf.ends {
            (end.said_fin, end.heard_fin) = (true, true);
        }
        assert_eq!(ended(deaf, [Finished, Finished], false), Some(Rule::Complete), "nobody heard a word");
    }

    #[test]
    fn nobody_fails_in_a_calm_world_without_a_reason() {
        use CloseReason::{Aborted, Finished, Reset, TimedOut};
        let reason = Some(Rule::Reason);
        for (why, is_calm, want) in [
            ([Finished, Reset], true, reason),
            ([Finished, Reset], false, None),
            ([Finished, TimedOut], true, reason),
        ] {
            assert_eq!(ended(finished(), why, is_calm), want, "{why:?}");
        }
        let mut aborted = finished();
        aborted.ends[0].said_abort = true;
        assert_eq!(ended(aborted, [Aborted, Reset], true), None);
    }

    #[test]
    fn what_is_stuck_or_never_ends_is_found() {
        let mut book = finished();
        book.now = Instant::ZERO + Book::PATIENCE;
        assert_eq!(book.check_liveness(), Ok(()));
        book.now = book.now.plus_micros(1);
        let stuck = book.check_liveness().map_err(|violation| violation.rule);
        assert_eq!(stuck, Err(Rule::Liveness));
        let open = book.check_ends(false).map_err(|violation| violation.rule);
        assert_eq!(open, Err(Rule::Liveness));
        book.lose(0);
        book.lose(1);
        assert_eq!((book.check_liveness(), book.live_on(0)), (Ok(()), 0));
    }

    #[test]
    fn what_is_consumed_and_what_ends_is_progress_and_nothing_else_is() {
        let mut book = finished();
        let (octets, over) = book.progress();
        book.now = book.now.plus_micros(1);
        book.on(1, |_| Ok(()));
        assert_eq!(book.progress(), (octets, over), "a callback by itself");
        book.tally.add_n(Event::Octets, 1);
        assert_eq!(book.progress(), (octets + 1, over));
        book.on_close(1, CloseReason::Finished);
        assert_eq!(book.progress(), (octets + 1, over + 1));
    }
}
