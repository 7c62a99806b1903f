//! Why a call failed, as `errno` says it.
#![forbid(unsafe_code)]

/// An error number of the C library, above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// What a call leads to.
pub type Outcome<T> = Result<T, Errno>;

/// A failure with this number.
pub const fn fail<T>(number: i32) -> Outcome<T> {
    Err(Errno(number))
}
