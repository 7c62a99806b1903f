//! Two numbers in one word: the first two cache lines of a connection are full.
#![forbid(unsafe_code)]

/// A number of octets up to [`Tagged::MAX`], and a tag from 0 to 3.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tagged(u32);

impl Tagged {
    /// The most octets that it holds.
    pub const MAX: u32 = (1 << 30) - 1;

    /// More octets than fit are as many as do.
    pub const fn new(octets: u32, tag: u32) -> Self {
        let octets = if octets > Self::MAX { Self::MAX } else { octets };
        Self(tag << 30 | octets)
    }

    #[inline]
    pub const fn get(self) -> u32 {
        self.0 & Self::MAX
    }

    #[inline]
    pub const fn tag(self) -> u32 {
        self.0 >> 30
    }

    /// Changes the octets, and leaves the tag.
    #[inline]
    pub const fn set(&mut self, octets: u32) {
        *self = Self::new(octets, self.tag());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_and_tag_do_not_touch_each_other() {
        for tag in 0..4 {
            let mut tagged = Tagged::new(5, tag);
            for (octets, want) in [
                (0, 0),
                (1, 1),
                (Tagged::MAX, Tagged::MAX),
                (Tagged::MAX + 1, Tagged::MAX),
                (u32::MAX, Tagged::MAX),
            ] {
                tagged.set(octets);
                assert_eq!((tagged.get(), tagged.tag()), (want, tag));
            }
        }
    }
}
