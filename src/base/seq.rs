//! Sequence numbers: circular arithmetic modulo 2^32 (RFC 9293 §3.4).
#![forbid(unsafe_code)]

use core::fmt;
use core::ops::{Add, AddAssign, Sub};

/// A point in sequence space.
///
/// Deliberately not `Ord`: circular order is not transitive, so it must not reach `sort`, `max` or a
/// `BTreeMap`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(u32);

impl Seq {
    /// The point with this number on the wire.
    pub const fn new(raw: u32) -> Self {
        Self(raw)
    }

    /// The number on the wire.
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Octets from `earlier` to `self`, modulo 2^32. The caller knows the order.
    pub const fn since(self, earlier: Self) -> u32 {
        self.0.wrapping_sub(earlier.0)
    }

    /// `self < other`. Exact while the two are less than 2^31 apart.
    pub const fn before(self, other: Self) -> bool {
        self.since(other) >= 1 << 31
    }

    /// `self <= other`, likewise.
    pub const fn at_or_before(self, other: Self) -> bool {
        !other.before(self)
    }

    /// `lo <= self < lo + len`: one subtraction and one compare.
    pub const fn in_window(self, lo: Self, len: u32) -> bool {
        self.since(lo) < len
    }

    /// The later of the two.
    pub const fn later(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, octets: u32) -> Self {
        Self(self.0.wrapping_add(octets))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, octets: u32) {
        *self = *self + octets;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, octets: u32) -> Self {
        Self(self.0.wrapping_sub(octets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_step_forward_is_after(a: u32, d in 1u32..1 << 31) {
            let (a, b) = (Seq::new(a), Seq::new(a) + d);
            prop_assert!(a.before(b) && !b.before(a));
            prop_assert!(a.at_or_before(b) && !b.at_or_before(a));
            prop_assert_eq!(b.since(a), d);
            prop_assert_eq!(b - d, a);
            prop_assert_eq!(a.later(b), b);
            prop_assert_eq!(b.later(a), b);
        }

        #[test]
        fn window_membership_ignores_the_wrap(lo: u32, len in 1u32..1 << 30, d: u32) {
            let lo = Seq::new(lo);
            prop_assert_eq!((lo + d).in_window(lo, len), d < len);
            prop_assert!((lo + (len - 1)).in_window(lo, len) && !(lo + len).in_window(lo, len));
        }
    }
}
