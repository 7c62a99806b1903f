//! What became of the octets in flight: sent, selectively acknowledged, lost (RFC 6675 §2's terms).
#![forbid(unsafe_code)]

use crate::base::{Micros32, Seq, Slab, Slot};

/// The end of a list.
const NONE: u32 = u32::MAX;

/// Records of all connections' octets in flight.
pub type SentPool = Slab<Sent>;

/// What is known of a run of octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// On its way, as far as we know.
    InFlight,
    /// In a SACK block: it left the network.
    Sacked,
    /// Deemed lost, and not sent again since.
    Lost,
}

/// A run of octets with one fate, sent last at one time. It begins where the one before it ends.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    end: Seq,
    at: Micros32,
    next: u32,
    fate: Fate,
    again: bool,
}

const _: () = assert!(size_of::<Sent>() == 16);

impl Slot for Sent {
    fn set_next_free(&mut self, next: u32) {
        self.next = next;
    }

    fn next_free(&self) -> u32 {
        self.next
    }
}

impl Sent {
    /// Whether the two could be one record.
    fn is_like(&self, other: &Self) -> bool {
        // When octets left that have arrived nobody asks any more.
        self.fate == other.fate
            && (self.fate == Fate::Sacked || (self.at == other.at && self.again == other.again))
    }
}

/// A run that a segment acknowledged, or that is being looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Its first octet.
    pub start: Seq,
    /// One past its last.
    pub end: Seq,
    /// When it was sent last.
    pub at: Micros32,
    /// Whether that was not the first time.
    pub again: bool,
}

impl Run {
    /// Octets.
    pub const fn len(&self) -> u32 {
        self.end.since(self.start)
    }
}

/// The octets from SND.UNA to SND.NXT of one connection, in order, as runs in a pool that all share.
///
/// Whoever calls says where SND.UNA is, which is where the first run begins. Where the pool has no record left,
/// runs stay together that should be told apart: then octets count as in flight of which more is known, never
/// the other way round.
#[derive(Clone, Copy, Debug)]
pub struct Scoreboard {
    head: u32,
    tail: u32,
    sacked: u32,
    lost: u32,
    /// Something was sent again since the last run began: what follows left later than that.
    cut: bool,
}

impl Default for Scoreboard {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, sacked: 0, lost: 0, cut: false }
    }
}

impl Scoreboard {
    /// Whether nothing is recorded.
    pub const fn is_empty(&self) -> bool {
        self.head == NONE
    }

    /// Octets in SACK blocks.
    pub const fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Octets deemed lost and not sent again.
    pub const fn lost(&self) -> u32 {
        self.lost
    }

    /// Whether every octet is on its way for the first time, as far as is known.
    pub fn is_plain(&self, pool: &SentPool) -> bool {
        self.sacked == 0 && self.lost == 0 && !self.runs(pool, Seq::default()).any(|(_, run)| run.again)
    }

    /// Octets up to `end` were sent at `at`, following those before them. False, and nothing is recorded, when
    /// nothing is yet and no record is left.
    ///
    /// What was sent within `grain` microseconds, with nothing sent again in between, is one run, as if all of it had
    /// left with its first octet, so that a long path does not mean a long list.
    pub fn sent(&mut self, pool: &mut SentPool, end: Seq, at: Micros32, grain: u32) -> bool {
        let cut = core::mem::take(&mut self.cut);
        if let Some(tail) = pool.at_mut(self.tail).filter(|_| self.tail != NONE)
            && !cut
            && tail.fate == Fate::InFlight
            && !tail.again
            && at.since(tail.at) <= grain
        {
            tail.end = end;
            return true;
        }
        let record = Sent { end, at, next: NONE, fate: Fate::InFlight, again: false };
        let Some(new) = pool.insert(record) else { return self.extend_tail(pool, record) };
        match pool.at_mut(self.tail).filter(|_| self.tail != NONE) {
            Some(tail) => tail.next = new,
            None => self.head = new,
        }
        self.tail = new;
        true
    }

    /// No record is left: the last one has to do, and what else was known of its octets is forgotten.
    fn extend_tail(&mut self, pool: &mut SentPool, record: Sent) -> bool {
        if self.is_empty() {
            return false;
        }
        let len = self.tail_len(pool);
        let tail = pool.at_mut(self.tail).expect("the list is not empty");
        match tail.fate {
            Fate::InFlight => {}
            Fate::Sacked => self.sacked -= len,
            Fate::Lost => self.lost -= len,
        }
        *tail = record;
        true
    }

    /// Octets of the last run; where it is the first, too, all that are counted with it.
    fn tail_len(&self, pool: &SentPool) -> u32 {
        let before = self.indices(pool).find(|&(_, record)| record.next == self.tail);
        let tail = pool.at(self.tail).expect("the list is not empty");
        before.map_or(self.sacked.max(self.lost), |(_, before)| tail.end.since(before.end))
    }

    /// Octets up to `una`, which was at `before`, are acknowledged: `visit` sees the runs that were not in a SACK
    /// block.
    pub fn advance(&mut self, pool: &mut SentPool, before: Seq, una: Seq, mut visit: impl FnMut(Run)) {
        let mut start = before;
        while let Some(&record) = pool.at(self.head).filter(|_| self.head != NONE && start.before(una)) {
            let end = if una.before(record.end) { una } else { record.end };
            let run = Run { start, end, at: record.at, again: record.again };
            match record.fate {
                Fate::Sacked => self.sacked -= run.len(),
                Fate::Lost => self.lost -= run.len(),
                Fate::InFlight => {}
            }
            if record.fate != Fate::Sacked {
                visit(run);
            }
            if una.before(record.end) {
                return;
            }
            pool.remove(self.head);
            self.head = record.next;
            start = record.end;
        }
        if self.head == NONE {
            self.tail = NONE;
        }
    }

    /// A SACK block reports `left..right`: `visit` sees the runs of it that are news.
    pub fn sack(
        &mut self,
        pool: &mut SentPool,
        una: Seq,
        (left, right): (Seq, Seq),
        mut visit: impl FnMut(Run),
    ) {
        self.change(
            pool,
            una,
            (left, right),
            |sent| (sent.fate != Fate::Sacked).then_some(Sent { fate: Fate::Sacked, ..sent }),
            &mut visit,
        );
    }

    /// Octets of `left..right` were sent again at `at`.
    pub fn sent_again(&mut self, pool: &mut SentPool, una: Seq, (left, right): (Seq, Seq), at: Micros32) {
        self.cut = true;
        self.change(
            pool,
            una,
            (left, right),
            |sent| {
                (sent.fate != Fate::Sacked).then_some(Sent { fate: Fate::InFlight, at, again: true, ..sent })
            },
            &mut |_| {},
        );
    }

    /// Runs in flight for which `is_lost` holds are lost.
    pub fn lose(&mut self, pool: &mut SentPool, una: Seq, is_lost: impl Fn(&Run) -> bool) {
        let (mut at, mut start) = (self.head, una);
        while let Some(record) = pool.at_mut(at).filter(|_| at != NONE) {
            let run = Run { start, end: record.end, at: record.at, again: record.again };
            if record.fate == Fate::InFlight && is_lost(&run) {
                record.fate = Fate::Lost;
                self.lost += run.len();
            }
            (at, start) = (record.next, run.end);
        }
    }

    /// All octets are lost; with `reneged`, those in SACK blocks as well (RFC 2018 §8).
    pub fn lose_all(&mut self, pool: &mut SentPool, una: Seq, reneged: bool) {
        if reneged {
            self.set_all(pool, Fate::Sacked, Fate::InFlight);
            self.sacked = 0;
        }
        self.lose(pool, una, |_| true);
    }

    /// Nothing was lost after all.
    pub fn find_again(&mut self, pool: &mut SentPool) {
        self.set_all(pool, Fate::Lost, Fate::InFlight);
        self.lost = 0;
    }

    fn set_all(&mut self, pool: &mut SentPool, from: Fate, to: Fate) {
        let mut at = self.head;
        while let Some(record) = pool.at_mut(at).filter(|_| at != NONE) {
            if record.fate == from {
                record.fate = to;
            }
            at = record.next;
        }
    }

    /// Whether the octet at SND.UNA is in a SACK block, which it cannot be unless the peer threw it away.
    pub fn is_reneged(&self, pool: &SentPool) -> bool {
        pool.at(self.head).is_some_and(|head| self.head != NONE && head.fate == Fate::Sacked)
    }

    /// The first run that is lost.
    pub fn first_lost(&self, pool: &SentPool, una: Seq) -> Option<Run> {
        if self.lost == 0 {
            return None;
        }
        self.runs(pool, una).find(|(fate, _)| *fate == Fate::Lost).map(|(_, run)| run)
    }

    /// All runs, in order.
    pub fn runs<'p>(&self, pool: &'p SentPool, una: Seq) -> impl Iterator<Item = (Fate, Run)> + 'p {
        self.indices(pool).scan(una, |start, (_, sent)| {
            let run = Run { start: *start, end: sent.end, at: sent.at, again: sent.again };
            *start = sent.end;
            Some((sent.fate, run))
        })
    }

    /// The runs in flight, in order.
    pub fn in_flight<'p>(&self, pool: &'p SentPool, una: Seq) -> impl Iterator<Item = Run> + 'p {
        self.runs(pool, una).filter_map(|(fate, run)| (fate == Fate::InFlight).then_some(run))
    }

    fn indices<'p>(&self, pool: &'p SentPool) -> impl Iterator<Item = (u32, &'p Sent)> + 'p {
        let mut at = self.head;
        core::iter::from_fn(move || {
            let (index, sent) = (at, pool.at(at).filter(|_| at != NONE)?);
            at = sent.next;
            Some((index, sent))
        })
    }

    /// What must hold of it; for tests and simulations.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn check(&self, pool: &SentPool, una: Seq, nxt: Seq) {
        let (mut sacked, mut lost, mut end, mut last) = (0, 0, una, NONE);
        for ((fate, run), (index, _)) in self.runs(pool, una).zip(self.indices(pool)) {
            assert!(run.start.before(run.end), "an empty run: {self:?}");
            match fate {
                Fate::InFlight => {}
                Fate::Sacked => sacked += run.len(),
                Fate::Lost => lost += run.len(),
            }
            (end, last) = (run.end, index);
        }
        assert_eq!((sacked, lost, end, last), (self.sacked, self.lost, nxt, self.tail), "{self:?}");
    }

    /// Gives every record back.
    pub fn clear(&mut self, pool: &mut SentPool) {
        while let Some(next) = pool.at(self.head).filter(|_| self.head != NONE).map(|head| head.next) {
            pool.remove(self.head);
            self.head = next;
        }
        *self = Self::default();
    }

    /// Makes of each part of a run that lies in `left..right` what `new` says, if anything; `visit` sees it as it
    /// was. Runs that have become alike are joined.
    fn change(
        &mut self,
        pool: &mut SentPool,
        una: Seq,
        (left, right): (Seq, Seq),
        new: impl Fn(Sent) -> Option<Sent>,
        visit: &mut impl FnMut(Run),
    ) {
        let (mut before, mut at, mut start) = (NONE, self.head, una);
        while let Some(&sent) = pool.at(at).filter(|_| at != NONE) {
            if right.before(start) {
                break;
            }
            let changed = if left.before(sent.end) && start.before(right) { new(sent) } else { None };
            if let Some(changed) = changed {
                if start.before(left) {
                    // The part before the range stays; the rest is looked at next, or left alone.
                    if !self.cut(pool, at, left) {
                        (before, start, at) = (at, sent.end, sent.next);
                    } else {
                        (before, start, at) = (at, left, pool.at(at).expect("it was cut").next);
                    }
                    continue;
                }
                if right.before(sent.end) && !self.cut(pool, at, right) {
                    break;
                }
                self.put(pool, at, start, changed, visit);
            }
            (before, at, start) = self.join(pool, before, at);
        }
    }

    /// Cuts a run in two at `middle`; false when no record is left.
    fn cut(&mut self, pool: &mut SentPool, at: u32, middle: Seq) -> bool {
        let sent = *pool.at(at).expect("a run of the list");
        let Some(second) = pool.insert(sent) else { return false };
        let first = pool.at_mut(at).expect("a run of the list");
        (first.end, first.next) = (middle, second);
        if self.tail == at {
            self.tail = second;
        }
        true
    }

    fn put(&mut self, pool: &mut SentPool, at: u32, start: Seq, changed: Sent, visit: &mut impl FnMut(Run)) {
        let sent = pool.at_mut(at).expect("a run of the list");
        let run = Run { start, end: sent.end, at: sent.at, again: sent.again };
        for (fate, sign) in [(sent.fate, false), (changed.fate, true)] {
            let count = match fate {
                Fate::InFlight => continue,
                Fate::Sacked => &mut self.sacked,
                Fate::Lost => &mut self.lost,
            };
            *count = if sign { *count + run.len() } else { *count - run.len() };
        }
        *sent = Sent { end: sent.end, next: sent.next, ..changed };
        visit(run);
    }

    /// Joins a run with the one before it if they are alike; returns where to go on.
    fn join(&mut self, pool: &mut SentPool, before: u32, at: u32) -> (u32, u32, Seq) {
        let sent = *pool.at(at).expect("a run of the list");
        let Some(first) = pool.at_mut(before).filter(|first| before != NONE && first.is_like(&sent)) else {
            return (at, sent.next, sent.end);
        };
        (first.end, first.next) = (sent.end, sent.next);
        pool.remove(at);
        if self.tail == at {
            self.tail = before;
        }
        (before, sent.next, sent.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[derive(Clone, Debug)]
    enum Op {
        Send(u32, u32),
        Ack(u32),
        Sack(u32, u32),
        Again(u32, u32),
        Lose(u32),
        LoseAll(bool),
        FindAgain,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (1..20u32, 0..3u32).prop_map(|(n, us)| Op::Send(n, us)),
            3 => (0..15u32).prop_map(Op::Ack),
            8 => (any::<u32>(), 1..12u32).prop_map(|(at, n)| Op::Sack(at, n)),
            4 => (any::<u32>(), 1..12u32).prop_map(|(at, n)| Op::Again(at, n)),
            3 => (0..60u32).prop_map(Op::Lose),
            1 => any::<bool>().prop_map(Op::LoseAll),
            1 => Just(Op::FindAgain),
        ]
    }

    fn micros(us: u32) -> Micros32 {
        // The clock passes 2^32 on the way.
        Micros32::floor(Instant::from_micros((1 << 32) - 40 + u64::from(us)))
    }

    /// One octet of the model.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Octet {
        fate: Fate,
        at: Micros32,
        again: bool,
    }

    /// The slow way: each octet by itself.
    #[derive(Debug)]
    struct Model {
        una: Seq,
        octets: Vec<Octet>,
        now: u32,
        /// When octets that the peer threw away had left is not known any more.
        reneged: bool,
    }

    impl Model {
        fn new() -> Self {
            Self { una: Seq::new(u32::MAX - 50), octets: Vec::new(), now: 0, reneged: false }
        }

        fn nxt(&self) -> Seq {
            self.una + u32::try_from(self.octets.len()).expect("few")
        }

        /// A range of octets in flight, as indices and as sequence numbers.
        fn range(&self, at: u32, n: u32) -> Option<(core::ops::Range<usize>, (Seq, Seq))> {
            let len = u32::try_from(self.octets.len()).expect("few");
            let from = at.checked_rem(len)?;
            let to = (from + n).min(len);
            Some((from as usize..to as usize, (self.una + from, self.una + to)))
        }
    }

    fn apply(op: Op, model: &mut Model, board: &mut Scoreboard, pool: &mut SentPool) {
        let (una, len) = (model.una, model.octets.len());
        match op {
            Op::Send(n, us) => {
                model.now += us;
                let at = micros(model.now);
                if board.sent(pool, model.nxt() + n, at, 0) {
                    let octet = Octet { fate: Fate::InFlight, at, again: false };
                    model.octets.extend((0..n).map(|_| octet));
                }
            }
            Op::Ack(n) => {
                let n = (n as usize).min(len);
                let news = model.octets.drain(..n).filter(|octet| octet.fate != Fate::Sacked).count();
                model.una += u32::try_from(n).expect("few");
                let mut seen = 0;
                board.advance(pool, una, model.una, |run| seen += run.len());
                // Where records were lacking, octets in SACK blocks may have been forgotten.
                assert!(seen as usize >= news);
            }
            Op::Sack(at, n) => {
                let Some((range, block)) = model.range(at, n) else { return };
                let mut seen = 0;
                board.sack(pool, una, block, |run| seen += run.len());
                let octets = model.octets[range].iter_mut().filter(|octet| octet.fate != Fate::Sacked);
                octets.for_each(|octet| octet.fate = Fate::Sacked);
                assert!(seen <= block.1.since(block.0));
            }
            Op::Again(at, n) => {
                model.now += 1;
                let now = micros(model.now);
                let Some((range, block)) = model.range(at, n) else { return };
                board.sent_again(pool, una, block, now);
                let octets = model.octets[range].iter_mut().filter(|octet| octet.fate != Fate::Sacked);
                octets.for_each(|octet| *octet = Octet { fate: Fate::InFlight, at: now, again: true });
            }
            Op::Lose(ago) => {
                let is_lost = |at: Micros32| micros(model.now).since(at) >= ago;
                board.lose(pool, una, |run| is_lost(run.at));
                let flying = model.octets.iter_mut().filter(|octet| octet.fate == Fate::InFlight);
                flying.filter(|octet| is_lost(octet.at)).for_each(|octet| octet.fate = Fate::Lost);
            }
            Op::LoseAll(reneged) => {
                board.lose_all(pool, una, reneged);
                model.reneged |= reneged;
                let all = model.octets.iter_mut().filter(|octet| reneged || octet.fate != Fate::Sacked);
                all.for_each(|octet| octet.fate = Fate::Lost);
            }
            Op::FindAgain => {
                board.find_again(pool);
                let lost = model.octets.iter_mut().filter(|octet| octet.fate == Fate::Lost);
                lost.for_each(|octet| octet.fate = Fate::InFlight);
            }
        }
    }

    fn octets(board: &Scoreboard, pool: &SentPool, una: Seq) -> Vec<Octet> {
        let each = |(fate, run): (Fate, Run)| {
            (0..run.len()).map(move |_| Octet { fate, at: run.at, again: run.again })
        };
        board.runs(pool, una).flat_map(each).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn the_scoreboard_knows_what_a_list_of_octets_knows(ops in prop::collection::vec(op(), 1..80)) {
            let (mut pool, mut board, mut model) =
                (SentPool::with_capacity(10_000), Scoreboard::default(), Model::new());
            for op in ops {
                apply(op, &mut model, &mut board, &mut pool);
                board.check(&pool, model.una, model.nxt());
                if model.reneged {
                    continue;
                }
                // When octets left that are in a SACK block, or are lost, does not matter.
                let key = |octet: &Octet| match octet.fate {
                    Fate::InFlight => *octet,
                    fate => Octet { fate, at: micros(0), again: false },
                };
                let known: Vec<Octet> = octets(&board, &pool, model.una).iter().map(key).collect();
                prop_assert_eq!(known, model.octets.iter().map(key).collect::<Vec<_>>());
                let first = model.octets.iter().position(|octet| octet.fate == Fate::Lost);
                let found = board.first_lost(&pool, model.una).map(|run| run.start.since(model.una) as usize);
                prop_assert_eq!(found, first);
            }
            board.clear(&mut pool);
            prop_assert_eq!(pool.len(), 0);
        }

        #[test]
        fn without_records_to_spare_nothing_counts_as_arrived_that_has_not(
            ops in prop::collection::vec(op(), 1..80),
            capacity in 0..6u32,
        ) {
            let (mut pool, mut board, mut model) =
                (SentPool::with_capacity(capacity), Scoreboard::default(), Model::new());
            for op in ops {
                apply(op, &mut model, &mut board, &mut pool);
                board.check(&pool, model.una, model.nxt());
                let known = octets(&board, &pool, model.una);
                for (known, real) in known.iter().zip(&model.octets) {
                    prop_assert!(known.fate != Fate::Sacked || real.fate == Fate::Sacked);
                }
            }
            board.clear(&mut pool);
            prop_assert_eq!(pool.len(), 0);
        }
    }

    #[test]
    fn what_leaves_within_the_grain_is_one_run() {
        let (mut pool, mut board) = (SentPool::with_capacity(10), Scoreboard::default());
        let una = Seq::new(7);
        for n in 1..=20 {
            assert!(board.sent(&mut pool, una + n * 10, micros(n), 4));
        }
        let starts: Vec<u32> = board.runs(&pool, una).map(|(_, run)| run.start.since(una)).collect();
        assert_eq!(starts, [0, 50, 100, 150], "five microseconds each, counted from the first");
        board.clear(&mut pool);
    }
}
