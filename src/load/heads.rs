//! Buffers for message heads that arrive in pieces: few, fixed, and lent only while a head is incomplete.
#![forbid(unsafe_code)]

use std::boxed::Box;
use std::vec;
use std::vec::Vec;

use super::http::head_end;

/// The largest message head, octets.
pub(super) const HEAD_MAX: usize = 8 * 1024;

/// What a connection remembers of a head that has begun: nothing, or which buffer holds it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartialHead(Option<u16>);

/// What [`HeadSlab::gather`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Gathered {
    /// The whole head, and how many of the octets given belong to it.
    Whole(HeadBytes, usize),
    /// All octets were taken; more are needed.
    More,
    /// The head is longer than 8 KiB.
    TooLong,
    /// Every buffer is lent.
    NoBuffer,
}

/// Where the octets of a whole head lie.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeadBytes {
    /// At the front of the octets given.
    InPlace,
    /// In a buffer of the slab: see [`HeadSlab::bytes`].
    Buffered,
}

/// The buffers of one worker.
#[derive(Debug)]
pub struct HeadSlab {
    buffers: Vec<(Box<[u8]>, usize)>,
    free: Vec<u16>,
}

impl HeadSlab {
    /// `count` buffers of 8 KiB each; a sender who dribbles heads can hold that many.
    pub fn new(count: u16) -> Self {
        let buffers = (0..count).map(|_| (vec![0; HEAD_MAX].into_boxed_slice(), 0)).collect();
        Self { buffers, free: (0..count).collect() }
    }

    /// Adds `data` to the head that `partial` began, or begins one.
    pub(super) fn gather(&mut self, partial: &mut PartialHead, data: &[u8]) -> Gathered {
        let Some(index) = partial.0 else {
            return match head_end(data, 0) {
                Some(end) if end > HEAD_MAX => Gathered::TooLong,
                Some(end) => Gathered::Whole(HeadBytes::InPlace, end),
                None => self.begin(partial, data),
            };
        };
        let (buffer, len) = &mut self.buffers[usize::from(index)];
        let room = HEAD_MAX - *len;
        let take = data.len().min(room);
        buffer[*len..*len + take].copy_from_slice(&data[..take]);
        let before = *len;
        *len += take;
        // The empty line may straddle the boundary, so the search goes back by its length.
        match head_end(&buffer[..*len], before.saturating_sub(3)) {
            Some(end) => {
                *len = end;
                Gathered::Whole(HeadBytes::Buffered, end - before)
            }
            None if *len == HEAD_MAX => Gathered::TooLong,
            None => Gathered::More,
        }
    }

    fn begin(&mut self, partial: &mut PartialHead, data: &[u8]) -> Gathered {
        if data.len() >= HEAD_MAX {
            return Gathered::TooLong;
        }
        let Some(index) = self.free.pop() else { return Gathered::NoBuffer };
        let (buffer, len) = &mut self.buffers[usize::from(index)];
        buffer[..data.len()].copy_from_slice(data);
        *len = data.len();
        partial.0 = Some(index);
        Gathered::More
    }

    /// The octets of a whole head that was [`HeadBytes::Buffered`].
    pub(super) fn bytes(&self, partial: PartialHead) -> &[u8] {
        partial.0.map_or(&[], |index| {
            let (buffer, len) = &self.buffers[usize::from(index)];
            &buffer[..*len]
        })
    }

    /// Takes the buffer back, if one was lent.
    pub(super) fn release(&mut self, partial: &mut PartialHead) {
        if let Some(index) = partial.0.take() {
            self.free.push(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_at_every_split_point() {
        let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nrest";
        for split in 1..text.len() - 4 {
            let mut slab = HeadSlab::new(1);
            let mut partial = PartialHead::default();
            let (front, back) = text.split_at(split);
            let first = slab.gather(&mut partial, front);
            if split == text.len() - 4 {
                assert_eq!(first, Gathered::Whole(HeadBytes::InPlace, split));
                continue;
            }
            assert_eq!(first, Gathered::More, "{split}");
            let used = text.len() - 4 - split;
            assert_eq!(
                slab.gather(&mut partial, back),
                Gathered::Whole(HeadBytes::Buffered, used),
                "{split}"
            );
            assert_eq!(slab.bytes(partial), &text[..text.len() - 4]);
        }
    }

    #[test]
    fn a_head_of_8_kib_fits_and_one_octet_more_does_not() {
        for (len, fits) in [(HEAD_MAX, true), (HEAD_MAX + 1, false)] {
            let mut text = vec![b'a'; len - 4];
            text.extend_from_slice(b"\r\n\r\n");
            let mut slab = HeadSlab::new(1);
            let mut partial = PartialHead::default();
            let whole = matches!(slab.gather(&mut partial, &text), Gathered::Whole(..));
            assert_eq!(whole, fits, "{len} at once");
            assert_eq!(slab.gather(&mut partial, &text[..100]), Gathered::More);
            let whole = matches!(slab.gather(&mut partial, &text[100..]), Gathered::Whole(..));
            assert_eq!(whole, fits, "{len} in two pieces");
        }
    }

    #[test]
    fn buffers_come_back_and_run_out() {
        let mut slab = HeadSlab::new(1);
        let (mut one, mut two) = (PartialHead::default(), PartialHead::default());
        assert_eq!(slab.gather(&mut one, b"G"), Gathered::More);
        assert_eq!(slab.gather(&mut two, b"G"), Gathered::NoBuffer);
        slab.release(&mut one);
        assert_eq!(slab.gather(&mut two, b"G"), Gathered::More);
    }
}
