//! Text received and not yet consumed: first what is in order, then, with gaps, what is not.
#![forbid(unsafe_code)]

use super::chunks::{ChunkPool, Cursor, NONE, TEXT_MAX};
use super::reassembly::{RangePool, Ranges};
use super::window::Promises;
use crate::base::{Seq, Slab};
use crate::wire::SackBlocks;

/// What the receive buffers of all connections share.
#[derive(Debug)]
pub struct RecvPools {
    /// Where text lies.
    pub chunks: ChunkPool,
    /// The connections that have gaps.
    pub reassembly: Slab<Ranges>,
    /// What those have between the gaps.
    pub ranges: RangePool,
    /// What windows promise beyond the initial ones.
    pub promises: Promises,
}

impl RecvPools {
    /// `chunks` chunks of `chunk_len` octets (a power of two), and gaps in at most
    /// `reassembly_queues` connections at a time; the only allocation there is.
    pub fn new(chunks: u32, chunk_len: u32, reassembly_queues: u32) -> Self {
        let chunks = ChunkPool::new(chunks, chunk_len);
        let promises = Promises::new(&chunks);
        let ranges = RangePool::with_capacity(Self::ranges(reassembly_queues));
        Self { chunks, reassembly: Slab::with_capacity(reassembly_queues), ranges, promises }
    }

    /// How many ranges there are for so many reassembly queues.
    pub const fn ranges(reassembly_queues: u32) -> u32 {
        /// Of those that lose something few lose much of it at the same time.
        const EACH: u32 = 4;
        reassembly_queues.saturating_mul(EACH).saturating_add(1 << 12)
    }

    /// Octets of those.
    pub const fn range_octets(reassembly_queues: u32) -> u64 {
        RangePool::octets(Self::ranges(reassembly_queues))
    }

    /// Octets of as many reassembly queues.
    pub const fn queue_octets(reassembly_queues: u32) -> u64 {
        Slab::<Ranges>::octets(reassembly_queues)
    }
}

/// Why text out of order was not stored. Nothing stored before is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsertError {
    /// The connection has as many ranges as it may, [`RANGES_MAX`](super::reassembly::RANGES_MAX) at most, or the
    /// text ends more than 2^30 octets after the first unread one.
    Full,
    /// No chunk, or no reassembly queue, is left in the pools.
    NoBuffer,
}

/// The receive buffer of one connection. Offsets count from RCV.NXT.
///
/// One chain of chunks holds the unread text and, at its final place, the text out of order, so that
/// closing a gap copies nothing. The gaps themselves occupy memory too: a chain is as long as the
/// window that the peer has used. The pools are given to every call, always the same ones.
#[derive(Debug)]
pub struct RecvBuf {
    head: u32,
    tail: u32,
    /// How many chunks there are in the chain; none while there is neither unread text nor a gap.
    chunks: u32,
    /// Where the unread text begins in the first chunk.
    start: u32,
    unread: u32,
    /// A slot of `RecvPools::reassembly` while there are gaps, or [`NONE`].
    ranges: u32,
    /// The chunk written to last by `push`.
    cursor: Cursor,
}

const _: () = assert!(size_of::<RecvBuf>() == 32);

impl Default for RecvBuf {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, chunks: 0, start: 0, unread: 0, ranges: NONE, cursor: Cursor::UNSET }
    }
}

impl RecvBuf {
    /// Octets in order that wait to be consumed; they end at RCV.NXT.
    pub const fn unread(&self) -> u32 {
        self.unread
    }

    /// Whether text out of order is stored.
    pub const fn has_gaps(&self) -> bool {
        self.ranges != NONE
    }

    /// Appends text that begins at RCV.NXT and moves RCV.NXT to its end; [`RecvBuf::join`] comes next.
    ///
    /// False, and nothing is stored, when the pool has too few chunks or the unread text would exceed
    /// 2^30 octets. Text out of order that lies under `data` is overwritten.
    #[must_use]
    pub fn push(&mut self, pools: &mut RecvPools, data: &[u8]) -> bool {
        let at = self.start + self.unread;
        let Some(end) = end_of(at, data) else { return false };
        if data.is_empty() {
            return true;
        }
        if !self.reach(&mut pools.chunks, end) {
            return false;
        }
        let cursor = self.cursor.seek(&pools.chunks, self.head, at);
        self.cursor = cursor.write(&mut pools.chunks, at, data);
        self.unread = end - self.start;
        if self.has_gaps() {
            self.move_ranges(pools, end - at);
        }
        true
    }

    /// The first unread octets, as many as lie in one piece; empty only when none are unread.
    pub fn front<'a>(&self, pools: &'a RecvPools) -> &'a [u8] {
        if self.unread == 0 {
            return &[];
        }
        let end = (self.start + self.unread).min(pools.chunks.chunk_len());
        &pools.chunks.chunk(self.head)[self.start as usize..end as usize]
    }

    /// Drops the first `n` unread octets.
    ///
    /// # Panics
    ///
    /// When fewer are unread.
    pub fn consume(&mut self, pools: &mut RecvPools, n: u32) {
        assert!(n <= self.unread, "{n} octets consumed of {}", self.unread);
        self.unread -= n;
        self.start += n;
        self.release(pools);
    }

    /// Stores text out of order, `offset` octets after RCV.NXT. Where it overlaps text stored out of
    /// order before, the new octets count.
    ///
    /// # Errors
    ///
    /// When there is no room; see [`InsertError`].
    ///
    /// # Panics
    ///
    /// When `offset` is zero: such text is in order.
    pub fn insert(&mut self, pools: &mut RecvPools, offset: u32, data: &[u8]) -> Result<(), InsertError> {
        assert!(offset > 0, "text at RCV.NXT is in order");
        if data.is_empty() {
            return Ok(());
        }
        let rcv_nxt = self.start + self.unread;
        let at = rcv_nxt.checked_add(offset).ok_or(InsertError::Full)?;
        let end = end_of(at, data).ok_or(InsertError::Full)?;
        let (from, to) = (offset, end - rcv_nxt);
        let none = Ranges::new();
        let ranges = match pools.reassembly.at(self.ranges) {
            Some(ranges) => ranges,
            None if pools.reassembly.len() == pools.reassembly.capacity() => {
                return Err(InsertError::NoBuffer);
            }
            None => &none,
        };
        let place = ranges.place(&pools.ranges, from, to).ok_or(InsertError::Full)?;
        let near = ranges.end_before(&pools.ranges, place);
        if !self.reach(&mut pools.chunks, end) {
            return Err(InsertError::NoBuffer);
        }
        // From the end of the range before it, or from the last octet in order, it is seldom far.
        let near = near.map(|(end, chunk)| self.cursor_at(&pools.chunks, rcv_nxt + end - 1, chunk));
        let cursor = near.unwrap_or(self.cursor).seek(&pools.chunks, self.head, at);
        let last = cursor.write(&mut pools.chunks, at, data);
        if !self.has_gaps() {
            self.ranges = pools.reassembly.insert(none).expect("there is room, as seen above");
        }
        let ranges = pools.reassembly.at_mut(self.ranges).expect("the slot is this connection's");
        ranges.add(&mut pools.ranges, place, (from, to), last.chunk);
        Ok(())
    }

    /// `chunk`, which has the octet at `position` of the chain.
    const fn cursor_at(&self, pool: &ChunkPool, position: u32, chunk: u32) -> Cursor {
        Cursor { chunk, base: position & !(pool.chunk_len() - 1) }
    }

    /// The first stretch of `from..to`, in octets after RCV.NXT, that is stored already.
    pub fn overlap(&self, pools: &RecvPools, from: u32, to: u32) -> Option<(u32, u32)> {
        pools.reassembly.at(self.ranges)?.overlap(&pools.ranges, from, to)
    }

    /// Moves RCV.NXT over `n` octets that were delivered without being stored; [`RecvBuf::join`]
    /// comes next.
    ///
    /// # Panics
    ///
    /// When octets before them are still unread.
    pub fn skip(&mut self, pools: &mut RecvPools, n: u32) {
        assert!(self.unread == 0, "octets cannot be delivered ahead of unread ones");
        if !self.has_gaps() {
            return;
        }
        self.move_ranges(pools, n);
        if self.has_gaps() {
            // A range ends behind RCV.NXT, so the chain reaches that far.
            self.start += n;
        }
        self.release(pools);
    }

    /// After RCV.NXT moved: text out of order that it has reached becomes unread text, and RCV.NXT
    /// moves to its end. Returns how many octets that is.
    pub fn join(&mut self, pools: &mut RecvPools) -> u32 {
        let ranges = pools.reassembly.at_mut(self.ranges);
        let Some((gained, chunk)) = ranges.and_then(|ranges| ranges.take_first(&mut pools.ranges)) else {
            return 0;
        };
        self.unread += gained;
        // `push` need not walk there.
        self.cursor = self.cursor_at(&pools.chunks, self.start + self.unread - 1, chunk);
        self.release_ranges(pools);
        gained
    }

    /// Up to `max` blocks (at most four) of text out of order, the one that holds the segment received
    /// last first, then the one received before it, and so on (RFC 2018 §4). `rcv_nxt` is RCV.NXT.
    pub fn sack_blocks(&self, pools: &RecvPools, rcv_nxt: Seq, max: usize) -> SackBlocks {
        let ranges = pools.reassembly.at(self.ranges);
        ranges.map_or_else(SackBlocks::default, |r| r.sack_blocks(&pools.ranges, rcv_nxt, max))
    }

    /// Drops everything and returns what the pools lent.
    pub fn clear(&mut self, pools: &mut RecvPools) {
        if let Some(ranges) = pools.reassembly.at_mut(self.ranges) {
            ranges.clear(&mut pools.ranges);
            pools.reassembly.remove(self.ranges);
        }
        if self.chunks > 0 {
            pools.chunks.free_chain(self.head, self.tail, self.chunks);
        }
        *self = Self::default();
    }

    /// Makes the chain so long that position `end` is in it or ends it; false, and no change, when the
    /// pool has too few chunks.
    fn reach(&mut self, pool: &mut ChunkPool, end: u32) -> bool {
        let missing = pool.chunks_for(end).saturating_sub(self.chunks);
        if missing > pool.free_count() {
            return false;
        }
        for _ in 0..missing {
            let chunk = pool.alloc().expect("there are enough, as seen above");
            if self.head == NONE {
                self.head = chunk;
            } else {
                pool.link(self.tail, chunk);
            }
            self.tail = chunk;
        }
        self.chunks += missing;
        true
    }

    /// Frees the chunks before the first unread octet, or all when nothing is stored.
    fn release(&mut self, pools: &mut RecvPools) {
        if self.unread == 0 && !self.has_gaps() {
            return self.clear(pools);
        }
        let freed = self.start & !(pools.chunks.chunk_len() - 1);
        if freed == 0 {
            return;
        }
        self.start -= freed;
        for _ in 0..freed / pools.chunks.chunk_len() {
            let next = pools.chunks.next(self.head);
            pools.chunks.free(self.head);
            self.head = next;
            self.chunks -= 1;
        }
        self.cursor.drop_front(freed);
    }

    /// RCV.NXT moved by `n`.
    fn move_ranges(&mut self, pools: &mut RecvPools, n: u32) {
        let ranges = pools.reassembly.at_mut(self.ranges).expect("the slot is this connection's");
        ranges.advance(&mut pools.ranges, n);
        self.release_ranges(pools);
    }

    /// Returns the reassembly queue when there are no gaps any more.
    fn release_ranges(&mut self, pools: &mut RecvPools) {
        if pools.reassembly.at(self.ranges).is_some_and(Ranges::is_empty) {
            pools.reassembly.remove(self.ranges);
            self.ranges = NONE;
        }
    }
}

/// The position where `data` at position `at` ends, unless a buffer cannot be that long.
fn end_of(at: u32, data: &[u8]) -> Option<u32> {
    at.checked_add(u32::try_from(data.len()).ok()?).filter(|&end| end <= TEXT_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::reassembly::RANGES_MAX;
    use super::*;
    use proptest::prelude::*;
    use std::vec;
    use std::vec::Vec;

    const CHUNKS: u32 = 24;
    const CHUNK_LEN: u32 = 8;
    /// Ranges in the pool, of which one connection may have an eighth of those that it leaves to others.
    const POOL: u32 = 104;
    const RANGES: usize = 11;
    const RCV_NXT: u32 = u32::MAX - 40;

    /// Octets of the whole stream; `None` where nothing is stored.
    #[derive(Default)]
    struct Model {
        octets: Vec<Option<u8>>,
        read: usize,
        rcv_nxt: usize,
        /// Positions of segments stored out of order, the last one at the end.
        arrivals: Vec<usize>,
    }

    impl Model {
        fn store(&mut self, at: usize, data: &[u8]) {
            self.octets.resize(self.octets.len().max(at + data.len()), None);
            self.octets[at..at + data.len()]
                .copy_from_slice(&data.iter().map(|&o| Some(o)).collect::<Vec<_>>());
        }

        /// The octet is stored and not in order yet.
        fn is_waiting(&self, at: usize) -> bool {
            at >= self.rcv_nxt && self.octets.get(at).is_some_and(Option::is_some)
        }

        fn has_gaps(&self) -> bool {
            (self.rcv_nxt..self.octets.len()).any(|at| self.is_waiting(at))
        }

        /// The range around `at`, from RCV.NXT on.
        fn range(&self, at: usize) -> (usize, usize) {
            let from = (self.rcv_nxt..=at).rev().take_while(|&i| self.is_waiting(i)).last().unwrap();
            let to = (at..).find(|&i| !self.is_waiting(i)).unwrap();
            (from, to)
        }

        /// Ranges, the one of the last arrival first, as offsets from RCV.NXT.
        fn sack(&self) -> Vec<(usize, usize)> {
            let mut blocks = Vec::new();
            for &at in self.arrivals.iter().rev() {
                // A segment that RCV.NXT cut in two is represented by its rest.
                if self.is_waiting(at) {
                    let (from, to) = self.range(at);
                    let block = (from - self.rcv_nxt, to - self.rcv_nxt);
                    if !blocks.contains(&block) {
                        blocks.push(block);
                    }
                }
            }
            blocks
        }

        fn join(&mut self) -> usize {
            let gained = (self.rcv_nxt..).take_while(|&at| self.is_waiting(at)).count();
            self.rcv_nxt += gained;
            gained
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize),
        Insert(u32, usize),
        Consume(u32),
        Skip(u32),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => (0..24usize).prop_map(Op::Push),
            6 => (1..150u32, 0..12usize).prop_map(|(offset, n)| Op::Insert(offset, n)),
            3 => (1..60u32, 1..3usize).prop_map(|(offset, n)| Op::Insert(offset, n)),
            4 => (0..40u32).prop_map(Op::Consume),
            1 => Just(Op::Consume(u32::MAX)),
            2 => (0..30u32).prop_map(Op::Skip),
        ]
    }

    fn text(at: usize, n: usize) -> Vec<u8> {
        (at..at + n).map(|i| u8::try_from(i % 251).expect("below 251")).collect()
    }

    fn small(n: usize) -> u32 {
        u32::try_from(n).expect("the model is small")
    }

    /// Applies `op` to both; what the pools refuse must leave the buffer as it was.
    fn apply(
        op: Op,
        buf: &mut RecvBuf,
        pools: &mut RecvPools,
        model: &mut Model,
    ) -> Result<(), TestCaseError> {
        let free = pools.chunks.free_count();
        match op {
            Op::Push(n) => {
                let data = text(model.rcv_nxt, n);
                if buf.push(pools, &data) {
                    model.store(model.rcv_nxt, &data);
                    model.rcv_nxt += n;
                } else {
                    prop_assert!(
                        pools.chunks.chunks_for(buf.start + buf.unread + small(n)) > buf.chunks + free
                    );
                }
                prop_assert_eq!(buf.join(pools) as usize, model.join());
            }
            Op::Insert(offset, n) => {
                let at = model.rcv_nxt + offset as usize;
                let data = text(at, n);
                let before = model.sack().len();
                match buf.insert(pools, offset, &data) {
                    Ok(()) => {
                        model.store(at, &data);
                        if n > 0 {
                            model.arrivals.push(at);
                        }
                    }
                    Err(InsertError::Full) => prop_assert_eq!(before, RANGES),
                    Err(InsertError::NoBuffer) => {
                        let end = buf.start + buf.unread + offset + small(n);
                        prop_assert!(pools.chunks.chunks_for(end) > buf.chunks + free);
                    }
                }
            }
            Op::Consume(n) => {
                let mut left = n.min(buf.unread());
                while left > 0 {
                    let n = buf.front(pools).len().min(left as usize);
                    prop_assert_eq!(buf.front(pools)[..n].to_vec(), text(model.read, n));
                    buf.consume(pools, small(n));
                    model.read += n;
                    left -= small(n);
                }
            }
            Op::Skip(n) if buf.unread() == 0 => {
                buf.skip(pools, n);
                model.rcv_nxt += n as usize;
                model.read += n as usize;
                prop_assert_eq!(buf.join(pools) as usize, model.join());
            }
            Op::Skip(_) => {}
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn octets_arrive_once_and_in_order(ops in prop::collection::vec(op(), 1..120)) {
            let mut pools = RecvPools::new(CHUNKS, CHUNK_LEN, 1);
            pools.ranges = RangePool::with_capacity(POOL);
            let mut buf = RecvBuf::default();
            let mut model = Model::default();
            for op in ops {
                apply(op, &mut buf, &mut pools, &mut model)?;
                prop_assert_eq!(buf.unread() as usize, model.rcv_nxt - model.read);
                prop_assert_eq!(buf.front(&pools).is_empty(), buf.unread() == 0);
                prop_assert_eq!(buf.has_gaps(), model.has_gaps());
                prop_assert_eq!(pools.reassembly.len(), u32::from(buf.has_gaps()));
                prop_assert_eq!(pools.ranges.len() as usize, model.sack().len());
                prop_assert_eq!(pools.chunks.free_count() + buf.chunks, CHUNKS);
                prop_assert!(buf.chunks == 0 || buf.unread() > 0 || buf.has_gaps());
                let sack = buf.sack_blocks(&pools, Seq::new(RCV_NXT), 3);
                let blocks: Vec<(usize, usize)> = sack
                    .as_slice()
                    .iter()
                    .map(|&(l, r)| (l.since(Seq::new(RCV_NXT)) as usize, r.since(Seq::new(RCV_NXT)) as usize))
                    .collect();
                let expected = model.sack();
                prop_assert_eq!(&blocks[..], &expected[..expected.len().min(3)]);
            }
            buf.clear(&mut pools);
            let left = (pools.chunks.free_count(), pools.reassembly.len(), pools.ranges.len());
            prop_assert_eq!(left, (CHUNKS, 0, 0));
        }
    }

    #[test]
    fn the_block_received_last_is_reported_first() {
        let mut pools = RecvPools::new(8, 16, 1);
        let mut buf = RecvBuf::default();
        let nxt = Seq::new(u32::MAX - 5);
        for offset in [10, 30, 50, 70, 20] {
            buf.insert(&mut pools, offset, &[1; 5]).expect("there is room");
        }
        buf.insert(&mut pools, 35, &[1; 5]).expect("it touches a range");
        let block = |from: u32, to: u32| (nxt + from, nxt + to);
        let all = [block(30, 40), block(20, 25), block(70, 75), block(50, 55)];
        assert_eq!(buf.sack_blocks(&pools, nxt, 9).as_slice(), all);
        assert_eq!(buf.sack_blocks(&pools, nxt, 2).as_slice(), &all[..2]);
    }

    #[test]
    fn one_range_too_many_is_refused_unless_it_joins_another() {
        let mut pools = RecvPools::new(32, 128, 1);
        pools.ranges = RangePool::with_capacity(9 * RANGES_MAX);
        let mut buf = RecvBuf::default();
        let end = 2 + 2 * RANGES_MAX;
        for offset in (2..end).step_by(2) {
            assert_eq!(buf.insert(&mut pools, offset, &[0]), Ok(()), "offset {offset}");
        }
        assert_eq!(buf.insert(&mut pools, end, &[0]), Err(InsertError::Full));
        assert_eq!(buf.insert(&mut pools, 3, &[0]), Ok(()));
        assert_eq!(buf.insert(&mut pools, end, &[0]), Ok(()));
    }

    #[test]
    fn whoever_has_many_ranges_leaves_some_to_others() {
        let mut pools = RecvPools::new(64, 64, 40);
        pools.ranges = RangePool::with_capacity(100);
        let mut has = [0; 30].map(|_| (RecvBuf::default(), 0));
        for (buf, count) in &mut has {
            while buf.insert(&mut pools, 2 + 2 * *count, &[0]).is_ok() {
                *count += 1;
            }
        }
        let counts = has.each_ref().map(|(_, count)| *count);
        assert_eq!(counts[..5], [11, 10, 8, 8, 7], "an eighth of what is left");
        assert_eq!(counts[16..], [4, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "and four while there are any");
        has.iter_mut().for_each(|(buf, _)| buf.clear(&mut pools));
        assert!(pools.ranges.is_empty());
    }

    #[test]
    fn a_flow_without_a_queue_of_its_own_stores_nothing() {
        let mut pools = RecvPools::new(8, 64, 1);
        let (mut a, mut b) = (RecvBuf::default(), RecvBuf::default());
        a.insert(&mut pools, 1, &[0]).expect("there is one queue");
        assert_eq!(b.insert(&mut pools, 1, &[0]), Err(InsertError::NoBuffer));
        assert_eq!(pools.chunks.free_count(), 7);
        a.clear(&mut pools);
        assert_eq!(b.insert(&mut pools, 1, &[0]), Ok(()));
    }

    #[test]
    fn lengths_beyond_any_window_are_refused() {
        let mut pools = RecvPools::new(8, 64, 1);
        let mut buf = RecvBuf::default();
        for offset in [u32::MAX, TEXT_MAX] {
            assert_eq!(buf.insert(&mut pools, offset, &[0]), Err(InsertError::Full), "offset {offset}");
        }
        assert_eq!(buf.insert(&mut pools, TEXT_MAX - 1, &[0]), Err(InsertError::NoBuffer));
        assert!(!buf.push(&mut pools, &vec![0; 8 * 64 + 1]));
        assert!(buf.push(&mut pools, &[0; 8 * 64]));
    }
}
