//! The index from a four-tuple's hash to its flow: buckets of one cache line, twelve values each.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;

use zerocopy::{FromBytes, Immutable, IntoBytes, transmute_mut, transmute_ref};

/// Values in a bucket.
const LANES: usize = 12;
/// Values in a bucket of a table at capacity, on average, times five: 9.6 of 12, a load of 0.8.
const PLANNED_TIMES_5: u64 = 48;
/// Octets of a bucket, which is a cache line.
const LINE: usize = 64;
const WORDS: usize = LINE / size_of::<u32>();
/// Buckets from its home among which a value may lie.
const REACH: usize = 64;
/// An octet of one in every place, and its highest bit.
const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = ONES << 7;

/// All zero: empty, so that a new table is zeroed memory, which the system provides when it is touched.
#[derive(Debug, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
struct Bucket {
    /// Some bits of each value's hash; zero where there is no value.
    tags: [u8; LANES],
    /// Values that would lie here or before, had this bucket had room: a search goes on while there are
    /// any. Each value counts once at most, as no bucket is passed twice, so this cannot overflow.
    passed: u32,
    /// What lies beside a tag of zero means nothing.
    values: [u32; LANES],
}

const _: () = assert!(size_of::<Bucket>() == LINE);

impl Bucket {
    /// The lane of a value with this tag for which `eq` holds.
    ///
    /// `eq` may also see a value whose tag differs in the lowest bit, though only after one that has the tag.
    #[inline(always)]
    fn search(&self, tag: u8, mut eq: impl FnMut(u32) -> bool) -> Option<usize> {
        let mut equal = self.equal(tag);
        while equal != 0 {
            let lane = first_lane(equal);
            if eq(self.values[lane]) {
                return Some(lane);
            }
            equal &= equal - 1;
        }
        None
    }

    /// The lanes that may have this tag, the lowest first.
    #[inline(always)]
    const fn equal(&self, tag: u8) -> u64 {
        let (low, high) = self.tag_words();
        let tags = ONES * tag as u64;
        lanes(zero_octets(low ^ tags), zero_octets(high ^ tags))
    }

    /// The first lane without a value.
    #[inline(always)]
    fn room(&self) -> Option<usize> {
        let (low, high) = self.tag_words();
        let empty = lanes(zero_octets(low), zero_octets(high));
        (empty != 0).then(|| first_lane(empty))
    }

    /// The tags, the first lane's lowest; the upper half of the second word is zero.
    #[inline(always)]
    const fn tag_words(&self) -> (u64, u64) {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = self.tags;
        (u64::from_le_bytes([a, b, c, d, e, f, g, h]), u32::from_le_bytes([i, j, k, l]) as u64)
    }
}

/// The highest bits of the octets of two words of tags as one set of lanes, interleaved: one loop over all of them.
#[inline(always)]
const fn lanes(low: u64, high: u64) -> u64 {
    // The upper half of the second word is not of tags.
    low >> 7 | (high & u32::MAX as u64) >> 6
}

/// The lane of the lowest bit that is set.
#[inline(always)]
const fn first_lane(lanes: u64) -> usize {
    let bit = lanes.trailing_zeros() as usize;
    bit / 8 + bit % 8 * 8
}

/// The highest bit of each octet that is zero; also of one that is 1, where it follows upon such an octet.
#[inline(always)]
const fn zero_octets(word: u64) -> u64 {
    word.wrapping_sub(ONES) & !word & HIGHS
}

/// Finds values by hash; the keys stay with the caller, who tells equal tags apart.
///
/// A value takes 4 octets, its tag one, and with the empty lanes of a table at capacity it is 6.7.
/// Measured at capacity with 10 million random hashes: filled once, 94.8 of 100 values lie in their home
/// bucket, 0.08 buckets away on average, 25 at most; after every value was replaced three times, 78.9,
/// 0.36 and 31, as a value stays where it was put. A removed value leaves nothing behind: it is no longer
/// counted in the buckets that it had passed.
#[derive(Debug)]
pub struct FlowTable {
    /// Buckets, and room to let the first begin at a cache line.
    ///
    /// Words, as an allocation of lines would be cleared by hand, which would make it resident.
    words: Vec<u32>,
    /// The word at which the first bucket begins.
    begin: u32,
    buckets: u32,
    capacity: u32,
    len: u32,
    /// How many values lie how far from home; the first of these is not kept, the last counts all farther.
    far: [u32; 16],
}

/// See [`FlowTable::candidates`].
#[derive(Debug)]
pub struct Candidates<'a> {
    table: &'a FlowTable,
    hash: u64,
    bucket: &'a Bucket,
    /// The lanes of the home bucket still to come.
    equal: u64,
    /// How many have come from the buckets after it.
    beyond: u32,
}

impl Iterator for Candidates<'_> {
    type Item = u32;

    #[inline(always)]
    fn next(&mut self) -> Option<u32> {
        if self.equal != 0 {
            let lane = first_lane(self.equal);
            self.equal &= self.equal - 1;
            return Some(self.bucket.values[lane]);
        }
        if self.bucket.passed == 0 {
            return None;
        }
        self.beyond += 1;
        self.table.nth_candidate_beyond(self.hash, self.beyond - 1)
    }
}

/// Where a value lies.
struct Position {
    bucket: usize,
    lane: usize,
    distance: usize,
}

impl FlowTable {
    /// A table for `capacity` values; the only allocation there is, of
    /// [`FlowTable::octets`] octets.
    pub fn new(capacity: u32) -> Self {
        let buckets = buckets_for(capacity);
        let words = buckets as usize * WORDS + WORDS - 1;
        let words = vec![0_u32; words];
        // Where the address is unknown the table is the same, only slower.
        let begin = Some(words.as_ptr().align_offset(LINE)).filter(|&begin| begin < WORDS);
        let begin = begin.and_then(|begin| u32::try_from(begin).ok()).unwrap_or(0);
        Self { words, begin, buckets, capacity, len: 0, far: [0; 16] }
    }

    /// Octets that a table of this capacity allocates.
    pub const fn octets(capacity: u32) -> u64 {
        (buckets_for(capacity) as u64 + 1) * LINE as u64 - size_of::<u32>() as u64
    }

    /// The values that may be the one under `hash`: that one, and few others, about one in 250 of those near.
    #[inline(always)]
    pub fn candidates(&self, hash: u64) -> Candidates<'_> {
        let bucket = self.bucket(self.home(hash));
        Candidates { table: self, hash, bucket, equal: bucket.equal(tag_of(hash)), beyond: 0 }
    }

    /// The first value near which [`FlowTable::candidates`] will look for `hash`, unless that is far from home.
    ///
    /// It may be another's. Asking for a batch of hashes, then reading what the values name, then
    /// looking them up lets the processor wait for all the memory at once.
    #[inline]
    pub fn first(&self, hash: u64) -> Option<u32> {
        let bucket = self.bucket(self.home(hash));
        bucket.search(tag_of(hash), |_| true).map(|lane| bucket.values[lane])
    }

    /// Adds `value`, which the caller knows not to be there; false when the table is full.
    ///
    /// A table counts as full at its capacity, or when there is no room within 64 buckets from home.
    #[inline]
    pub fn insert(&mut self, hash: u64, value: u32) -> bool {
        if self.len == self.capacity {
            return false;
        }
        let home = self.home(hash);
        let bucket = self.bucket_mut(home);
        let Some(lane) = bucket.room() else { return self.insert_beyond(home, hash, value) };
        bucket.tags[lane] = tag_of(hash);
        bucket.values[lane] = value;
        self.len += 1;
        true
    }

    /// Takes `value` out; false when it is not there.
    #[inline]
    pub fn remove(&mut self, hash: u64, value: u32) -> bool {
        let Some(at) = self.position(hash, value) else { return false };
        self.bucket_mut(at.bucket).tags[at.lane] = 0;
        self.len -= 1;
        if at.distance > 0 {
            self.take_back(self.home(hash), at.distance);
        }
        true
    }

    /// Puts `new` in the place of `old`, under the same hash; false when `old` is not there.
    #[inline]
    pub fn replace(&mut self, hash: u64, old: u32, new: u32) -> bool {
        let Some(at) = self.position(hash, old) else { return false };
        self.bucket_mut(at.bucket).values[at.lane] = new;
        true
    }

    /// How many values there are.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// How many values its buckets have room for, more than the capacity.
    #[expect(clippy::cast_possible_truncation, reason = "there are twelve")]
    pub const fn places(&self) -> u32 {
        const PLACES: u32 = LANES as u32;
        self.buckets * PLACES
    }

    /// How many values lie 0, 1, 2, ... buckets from home; the last number counts 15 and more.
    pub fn probe_histogram(&self) -> [u32; 16] {
        let mut histogram = self.far;
        histogram[0] = self.len - self.far.iter().sum::<u32>();
        histogram
    }

    #[inline(always)]
    fn position(&self, hash: u64, value: u32) -> Option<Position> {
        let (home, tag) = (self.home(hash), tag_of(hash));
        let bucket = self.bucket(home);
        let at = match bucket.search(tag, |found| found == value) {
            Some(lane) => Position { bucket: home, lane, distance: 0 },
            None if bucket.passed == 0 => return None,
            None => self.position_beyond(home, tag, value)?,
        };
        (self.bucket(at.bucket).tags[at.lane] == tag).then_some(at)
    }

    #[cold]
    fn position_beyond(&self, home: usize, tag: u8, value: u32) -> Option<Position> {
        let mut positions = (0..).map_while(|nth| self.nth_beyond(home, tag, nth));
        positions.find(|at| self.bucket(at.bucket).values[at.lane] == value)
    }

    #[cold]
    fn nth_candidate_beyond(&self, hash: u64, nth: u32) -> Option<u32> {
        let at = self.nth_beyond(self.home(hash), tag_of(hash), nth)?;
        Some(self.bucket(at.bucket).values[at.lane])
    }

    /// Where the value with this tag is that a search meets `nth` in the buckets after `home`.
    ///
    /// The reach ends a search where every bucket was passed at some time.
    #[cold]
    #[inline(never)]
    fn nth_beyond(&self, home: usize, tag: u8, mut nth: u32) -> Option<Position> {
        let mut at = home;
        for distance in 1..self.reach() {
            at = self.after(at);
            let bucket = self.bucket(at);
            let counted = |_| match nth.checked_sub(1) {
                Some(left) => {
                    nth = left;
                    false
                }
                None => true,
            };
            if let Some(lane) = bucket.search(tag, counted) {
                return Some(Position { bucket: at, lane, distance });
            }
            if bucket.passed == 0 {
                break;
            }
        }
        None
    }

    /// Adds a value whose home is full to the first bucket after it that is not.
    #[cold]
    fn insert_beyond(&mut self, home: usize, hash: u64, value: u32) -> bool {
        let mut at = home;
        for distance in 1..self.reach() {
            at = self.after(at);
            let bucket = self.bucket_mut(at);
            let Some(lane) = bucket.room() else { continue };
            bucket.tags[lane] = tag_of(hash);
            bucket.values[lane] = value;
            self.len += 1;
            self.far[distance.min(15)] += 1;
            self.each_passed(home, distance, |passed| passed + 1);
            return true;
        }
        false
    }

    /// A value that lay `distance` buckets from home is gone.
    #[cold]
    fn take_back(&mut self, home: usize, distance: usize) {
        self.far[distance.min(15)] -= 1;
        self.each_passed(home, distance, |passed| passed - 1);
    }

    fn each_passed(&mut self, home: usize, distance: usize, change: impl Fn(u32) -> u32) {
        let mut at = home;
        for _ in 0..distance {
            let bucket = self.bucket_mut(at);
            bucket.passed = change(bucket.passed);
            at = self.after(at);
        }
    }

    /// No bucket is visited twice in one search.
    fn reach(&self) -> usize {
        REACH.min(self.buckets as usize)
    }

    /// The upper bits of the hash decide, whatever the number of buckets; the tag is made of the lowest.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "below the number of buckets")]
    const fn home(&self, hash: u64) -> usize {
        ((hash as u128 * self.buckets as u128) >> 64) as usize
    }

    const fn after(&self, bucket: usize) -> usize {
        let next = bucket + 1;
        if next == self.buckets as usize { 0 } else { next }
    }

    #[inline(always)]
    fn bucket(&self, at: usize) -> &Bucket {
        let begin = self.begin as usize + at * WORDS;
        let words =
            self.words[begin..begin + WORDS].first_chunk::<WORDS>().expect("as many as were asked for");
        transmute_ref!(words)
    }

    #[inline(always)]
    fn bucket_mut(&mut self, at: usize) -> &mut Bucket {
        let begin = self.begin as usize + at * WORDS;
        let words =
            self.words[begin..begin + WORDS].first_chunk_mut::<WORDS>().expect("as many as were asked for");
        transmute_mut!(words)
    }
}

/// Buckets of a table of this capacity: at least one.
#[expect(clippy::cast_possible_truncation, reason = "fewer than values, which are counted in 32 bits")]
const fn buckets_for(capacity: u32) -> u32 {
    let buckets = (capacity as u64 * 5).div_ceil(PLANNED_TIMES_5);
    if buckets == 0 { 1 } else { buckets as u32 }
}

/// Never 0, which is no value's, nor 1, which differs from it in the lowest bit: see [`Bucket::search`].
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the lowest octet is wanted")]
fn tag_of(hash: u64) -> u8 {
    (hash as u8).max(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Remove(prop::sample::Index),
        RemoveAbsent(u64),
        Replace(prop::sample::Index),
    }

    /// Few homes, crowded around the end of the table, and tags that are equal or next to each other.
    fn hash() -> impl Strategy<Value = u64> {
        prop_oneof![
            1 => any::<u64>(),
            4 => (0u64..4, 0u64..4).prop_map(|(home, low)| (home.wrapping_sub(2) << 59) | low << 32),
        ]
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => hash().prop_map(Op::Insert),
            3 => any::<prop::sample::Index>().prop_map(Op::Remove),
            1 => hash().prop_map(Op::RemoveAbsent),
            1 => any::<prop::sample::Index>().prop_map(Op::Replace),
        ]
    }

    fn bucket_of(table: &FlowTable, value: u32) -> usize {
        let holds = |at: &usize| {
            let bucket = table.bucket(*at);
            (0..LANES).any(|lane| bucket.tags[lane] != 0 && bucket.values[lane] == value)
        };
        (0..table.buckets as usize).find(holds).expect("it is somewhere")
    }

    /// Every counter is what the places of the values make it.
    fn check(table: &FlowTable, model: &[(u64, u32)]) {
        let mut passed = std::vec![0; table.buckets as usize];
        let mut histogram = [0; 16];
        for &(hash, value) in model {
            let (mut at, mut distance) = (table.home(hash), 0);
            while at != bucket_of(table, value) {
                passed[at] += 1;
                (at, distance) = (table.after(at), distance + 1);
            }
            histogram[distance.min(15)] += 1;
        }
        let all = || (0..table.buckets as usize).map(|at| table.bucket(at));
        assert_eq!(all().map(|bucket| bucket.passed).collect::<Vec<_>>(), passed);
        assert_eq!(table.probe_histogram(), histogram);
        assert_eq!(table.len() as usize, model.len());
        let used = all().flat_map(|bucket| bucket.tags).filter(|&tag| tag != 0).count();
        assert_eq!(used, model.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_table_finds_what_a_list_finds(
            capacity in prop::sample::select(&[1, 9, 28, 28, 100][..]),
            ops in prop::collection::vec(op(), 1..200),
        ) {
            let mut table = FlowTable::new(capacity);
            let mut model: Vec<(u64, u32)> = Vec::new();
            for (value, op) in (0u32..).zip(ops) {
                // Every bit of a value counts.
                let value = value | value << 28;
                match op {
                    Op::Insert(hash) => {
                        let fits = model.len() < capacity as usize;
                        prop_assert_eq!(table.insert(hash, value), fits);
                        if fits {
                            model.push((hash, value));
                        }
                    }
                    Op::Remove(pick) if !model.is_empty() => {
                        let (hash, value) = model.swap_remove(pick.index(model.len()));
                        prop_assert!(table.remove(hash, value));
                        prop_assert!(!table.remove(hash, value));
                    }
                    Op::Replace(pick) if !model.is_empty() => {
                        let at = pick.index(model.len());
                        let (hash, old) = model[at];
                        prop_assert!(table.replace(hash, old, value));
                        model[at].1 = value;
                    }
                    Op::RemoveAbsent(hash) => {
                        prop_assert!(!table.remove(hash, value));
                        prop_assert!(!table.replace(hash, value, value));
                        prop_assert_eq!(table.candidates(hash).find(|&v| v == value), None);
                    }
                    Op::Remove(_) | Op::Replace(_) => {}
                }
                for &(hash, value) in &model {
                    prop_assert_eq!(table.candidates(hash).find(|&v| v == value), Some(value));
                    let mut seen = Vec::new();
                    table.candidates(hash).find(|&v| { seen.push(v); false });
                    for &(other, value) in &model {
                        let times = seen.iter().filter(|&&v| v == value).count();
                        prop_assert!(times <= 1 && (times == 1 || other != hash));
                    }
                    prop_assert!(seen.iter().all(|v| model.iter().any(|(_, value)| v == value)), "stale");
                    let first = table.first(hash);
                    prop_assert!(first.is_none() || first == seen.first().copied());
                    prop_assert!(first.is_some() || table.home(hash) != bucket_of(&table, value));
                }
                check(&table, &model);
            }
            for (hash, value) in model.drain(..) {
                prop_assert!(table.remove(hash, value));
            }
            check(&table, &[]);
        }
    }

    #[test]
    fn a_table_of_few_buckets_takes_all_of_its_capacity_under_one_hash() {
        for capacity in [0, 1, 9, 10, 28, 614] {
            let mut table = FlowTable::new(capacity);
            assert!((0..capacity).all(|value| table.insert(u64::MAX, value)), "capacity {capacity}");
            assert!(!table.insert(0, 0), "capacity {capacity}");
            assert_eq!(
                table.candidates(u64::MAX).find(|_| false),
                None,
                "capacity {capacity}: the search ends"
            );
            assert_eq!(table.candidates(u64::MAX).find(|&v| v + 1 == capacity), capacity.checked_sub(1));
        }
    }

    #[test]
    fn a_value_that_would_lie_64_buckets_from_home_is_refused_and_changes_nothing() {
        let mut table = FlowTable::new(1_000);
        let room = u32::try_from(REACH * LANES).expect("small");
        let model: Vec<(u64, u32)> = (0..room).map(|value| (u64::MAX - 7, value)).collect();
        assert!(model.iter().all(|&(hash, value)| table.insert(hash, value)));
        assert!(!table.insert(u64::MAX - 7, room) && table.insert(1 << 63, room));
        assert!(table.remove(1 << 63, room));
        check(&table, &model);
        assert!(table.remove(u64::MAX - 7, 5) && table.insert(u64::MAX - 7, room));
        assert_eq!(table.candidates(u64::MAX - 7).find(|&v| v == room), Some(room));
    }

    #[test]
    fn a_search_ends_where_every_bucket_was_passed() {
        // Two buckets, each full once while a value of the other's lay in it.
        let mut table = FlowTable::new(19);
        let (low, high) = (0, u64::MAX);
        assert!((0..13).all(|value| table.insert(low, value)));
        assert!((0..6).all(|value| table.remove(low, value)));
        assert!((20..32).all(|value| table.insert(high, value)));
        assert!((0..2).all(|at| table.bucket(at).passed == 1), "both were passed");
        assert_eq!(
            (table.candidates(low).find(|_| false), table.candidates(high).find(|_| false)),
            (None, None)
        );
        assert_eq!(
            (table.candidates(low).find(|&v| v == 12), table.candidates(high).find(|&v| v == 31)),
            (Some(12), Some(31))
        );
    }

    #[test]
    fn a_search_goes_on_only_where_a_value_was_passed_on() {
        let mut table = FlowTable::new(19);
        assert!(table.insert(u64::MAX, 1));
        let (low, mut seen) = (255, 0);
        assert_eq!(
            table.candidates(low).find(|_| {
                seen += 1;
                true
            }),
            None,
            "its tag is in the next bucket alone"
        );
        assert!((2..15).all(|value| table.insert(low, value)));
        table.candidates(low).find(|_| {
            seen += 1;
            false
        });
        assert_eq!(seen, 14, "twelve at home, two beyond, one of them another's");
    }

    #[test]
    fn a_table_at_capacity_takes_less_than_seven_octets_a_value_and_begins_at_a_line() {
        for capacity in [0, 1, 1_000, 10_000_000, u32::MAX] {
            let octets = FlowTable::octets(capacity);
            assert!(octets <= 7 * u64::from(capacity) + 124, "{capacity}: {octets}");
        }
        for capacity in [0, 9, 10, 1_000, 100_000] {
            let table = FlowTable::new(capacity);
            assert_eq!(table.words.len() as u64 * 4, FlowTable::octets(capacity));
            assert_eq!(core::ptr::from_ref(table.bucket(0)).addr() % LINE, 0);
            assert!(u64::from(table.places()) >= u64::from(capacity) * 5 / 4);
        }
    }

    #[test]
    fn random_values_at_capacity_lie_near_home() {
        let mut table = FlowTable::new(100_000);
        let mut rng = crate::base::Rng::new(1);
        assert!((0..100_000).all(|value| table.insert(rng.next_u64(), value)));
        let histogram = table.probe_histogram();
        assert!(histogram[0] > 94_000 && histogram[15] < 20, "{histogram:?}");
    }
}
