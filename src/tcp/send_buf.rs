//! Text that the user sent and the peer has not acknowledged yet.
#![forbid(unsafe_code)]

use super::chunks::{ChunkPool, Cursor, NONE, TEXT_MAX};

/// A queue of octets in chunks; offsets count from the oldest octet not acknowledged (SND.UNA).
///
/// The chunks belong to the pool that every call is given, always the same one.
#[derive(Clone, Debug)]
pub struct SendBuf {
    head: u32,
    tail: u32,
    /// Where the text begins in the first chunk.
    start: u32,
    len: u32,
}

const _: () = assert!(size_of::<SendBuf>() == 16);

impl Default for SendBuf {
    fn default() -> Self {
        Self { head: NONE, tail: NONE, start: 0, len: 0 }
    }
}

/// Where in a queue of more than one chunk to go on; without it a queue is walked from its head.
#[derive(Clone, Copy, Debug)]
pub struct SendCursors {
    /// The chunk visited furthest on: where new text is sent from.
    newest: Cursor,
    /// The chunk visited last before that one: where text is retransmitted from.
    again: Cursor,
}

impl Default for SendCursors {
    fn default() -> Self {
        Self { newest: Cursor::UNSET, again: Cursor::UNSET }
    }
}

impl SendCursors {
    /// The queue lost its first `octets` octets, whole chunks.
    pub const fn drop_front(&mut self, octets: u32) {
        self.newest.drop_front(octets);
        self.again.drop_front(octets);
    }
}

impl SendBuf {
    /// Octets queued.
    pub const fn len(&self) -> u32 {
        self.len
    }

    /// Whether nothing is queued.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends what fits of `data` and returns how many octets that is: at most so many that `limit`
    /// octets (and never more than 2^30) are queued, and fewer when the pool runs out.
    #[inline(always)]
    pub fn push(&mut self, pool: &mut ChunkPool, data: &[u8], limit: u32) -> usize {
        let room = limit.min(TEXT_MAX).saturating_sub(self.len) as usize;
        let mut rest = &data[..data.len().min(room)];
        let taken = rest.len();
        while !rest.is_empty() {
            // Chunks are freed as soon as they are empty, so the text ends in the last chunk or fills it.
            let used = (self.start + self.len) % pool.chunk_len();
            if (used == 0 || self.head == NONE) && !self.extend(pool) {
                break;
            }
            let space = &mut pool.chunk_mut(self.tail)[used as usize..];
            let n = space.len().min(rest.len());
            space[..n].copy_from_slice(&rest[..n]);
            rest = &rest[n..];
            self.len += u32::try_from(n).expect("a chunk is at most 2^24 octets");
        }
        taken - rest.len()
    }

    /// Drops the first `n` octets, which the peer acknowledged, and frees their chunks; returns by how much that
    /// moved the chunks that are left, for [`SendCursors::drop_front`].
    ///
    /// # Panics
    ///
    /// When fewer are queued.
    pub fn advance(&mut self, pool: &mut ChunkPool, n: u32) -> u32 {
        assert!(n <= self.len, "{n} octets acknowledged of {}", self.len);
        if n == self.len {
            self.clear(pool);
            return u32::MAX;
        }
        self.start += n;
        self.len -= n;
        let freed = self.start & !(pool.chunk_len() - 1);
        if freed == 0 {
            return 0;
        }
        self.start -= freed;
        for _ in 0..freed / pool.chunk_len() {
            let next = pool.next(self.head);
            pool.free(self.head);
            self.head = next;
        }
        freed
    }

    /// The octets `offset..offset + len` if the first chunk holds all of them, as it does with short messages:
    /// else [`SendBuf::slices`] shows them, and is quick only with cursors.
    ///
    /// # Panics
    ///
    /// When not all of these are queued.
    #[inline(always)]
    pub fn near<'p>(&self, pool: &'p ChunkPool, (offset, len): (u32, u32)) -> Option<&'p [u8]> {
        assert!(offset <= self.len && len <= self.len - offset, "{len} octets at {offset} of {}", self.len);
        let (from, to) = (self.start + offset, self.start + offset + len);
        (to <= pool.chunk_len()).then(|| &pool.chunk(self.head)[from as usize..to as usize])
    }

    /// Shows `visit` the octets `offset..offset + len` where they lie, slice by slice.
    ///
    /// With `cursors`, a call that goes on where an earlier one ended is O(1), also when text further back is
    /// retransmitted in between.
    ///
    /// # Panics
    ///
    /// When not all of these are queued.
    pub fn slices(
        &self,
        pool: &ChunkPool,
        (offset, len): (u32, u32),
        cursors: Option<&mut SendCursors>,
        mut visit: impl FnMut(&[u8]),
    ) {
        if len == 0 {
            return;
        }
        if let Some(slice) = self.near(pool, (offset, len)) {
            return visit(slice);
        }
        let (from, to) = (self.start + offset, self.start + offset + len);
        let mut unset = SendCursors::default();
        let cursors = cursors.unwrap_or(&mut unset);
        let is_new = cursors.newest.chunk == NONE || cursors.newest.is_before(from);
        let cursor = if is_new { &mut cursors.newest } else { &mut cursors.again };
        let mut at = cursor.seek(pool, self.head, from);
        loop {
            let chunk = pool.chunk(at.chunk);
            let end = (to - at.base).min(pool.chunk_len());
            visit(&chunk[from.saturating_sub(at.base) as usize..end as usize]);
            if to - at.base <= pool.chunk_len() {
                break;
            }
            at = Cursor { chunk: pool.next(at.chunk), base: at.base + pool.chunk_len() };
        }
        *cursor = at;
    }

    /// Drops everything and frees every chunk.
    pub fn clear(&mut self, pool: &mut ChunkPool) {
        if self.head != NONE {
            pool.free_chain(self.head, self.tail, pool.chunks_for(self.start + self.len));
        }
        *self = Self::default();
    }

    /// Links one more chunk to the chain, if there is one.
    fn extend(&mut self, pool: &mut ChunkPool) -> bool {
        let Some(chunk) = pool.alloc() else { return false };
        if self.head == NONE {
            self.head = chunk;
        } else {
            pool.link(self.tail, chunk);
        }
        self.tail = chunk;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    const CHUNKS: u32 = 10;
    const CHUNK_LEN: u32 = 8;

    #[derive(Clone, Debug)]
    enum Op {
        Push(usize, u32),
        Advance(u32),
        Visit(u32, u32),
        Clear,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            8 => (0..40usize, 0..100u32).prop_map(|(n, limit)| Op::Push(n, limit)),
            6 => (0..30u32).prop_map(Op::Advance),
            12 => (any::<u32>(), any::<u32>()).prop_map(|(offset, len)| Op::Visit(offset, len)),
            1 => Just(Op::Clear),
        ]
    }

    fn octet(at: usize) -> u8 {
        u8::try_from(at % 251).expect("below 251")
    }

    fn visited(
        buf: &SendBuf,
        pool: &ChunkPool,
        at: (u32, u32),
        cursors: Option<&mut SendCursors>,
    ) -> Vec<u8> {
        let mut out = Vec::new();
        buf.slices(pool, at, cursors, |slice| {
            assert!(!slice.is_empty());
            out.extend_from_slice(slice);
        });
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn the_buffer_holds_what_a_vector_holds(
            ops in prop::collection::vec(op(), 1..100),
            with_cursors: bool,
        ) {
            let mut pool = ChunkPool::new(CHUNKS, CHUNK_LEN);
            let mut buf = SendBuf::default();
            // As where none is left to attach: the same octets, found the long way.
            let mut cursors = if with_cursors { Some(SendCursors::default()) } else { None };
            let mut model: Vec<u8> = Vec::new();
            let mut written = 0;
            for op in ops {
                match op {
                    Op::Push(n, limit) => {
                        let data: Vec<u8> = (0..n).map(|i| octet(written + i)).collect();
                        let space = pool.free_count() as usize * CHUNK_LEN as usize
                            + (CHUNK_LEN - (buf.start + buf.len) % CHUNK_LEN) as usize % CHUNK_LEN as usize;
                        let taken = buf.push(&mut pool, &data, limit);
                        prop_assert_eq!(taken, n.min((limit as usize).saturating_sub(model.len())).min(space));
                        model.extend_from_slice(&data[..taken]);
                        written += taken;
                    }
                    Op::Advance(n) => {
                        let n = n.min(buf.len());
                        let freed = buf.advance(&mut pool, n);
                        if let Some(cursors) = &mut cursors {
                            cursors.drop_front(freed);
                        }
                        model.drain(..n as usize);
                    }
                    Op::Visit(offset, len) => {
                        let offset = offset % (buf.len() + 1);
                        let len = len % (buf.len() - offset + 1);
                        let expected = &model[offset as usize..(offset + len) as usize];
                        prop_assert_eq!(visited(&buf, &pool, (offset, len), cursors.as_mut()), expected);
                    }
                    Op::Clear => {
                        buf.clear(&mut pool);
                        cursors = cursors.map(|_| SendCursors::default());
                        model.clear();
                    }
                }
                prop_assert_eq!(buf.len() as usize, model.len());
                let all = buf.len();
                prop_assert_eq!(visited(&buf, &pool, (0, all), { cursors }.as_mut()), model.as_slice());
                prop_assert_eq!(CHUNKS - pool.free_count(), pool.chunks_for(buf.start + buf.len));
            }
            buf.clear(&mut pool);
            prop_assert_eq!(pool.free_count(), CHUNKS);
        }
    }

    #[test]
    fn retransmission_does_not_move_the_place_where_new_text_is_sent_from() {
        let mut pool = ChunkPool::new(64, 16);
        let (mut buf, mut cursors) = (SendBuf::default(), SendCursors::default());
        assert_eq!(buf.push(&mut pool, &[7; 1_024], 1_024), 1_024);
        for offset in (0..1_000).step_by(10) {
            visited(&buf, &pool, (offset, 10), Some(&mut cursors));
            visited(&buf, &pool, (offset / 2, 10), Some(&mut cursors));
            assert_eq!(cursors.newest.base, (offset + 9) / 16 * 16);
        }
        assert_eq!(cursors.again.base, (495 + 9) / 16 * 16);
    }
}
