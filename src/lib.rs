//! TCP that goes round the kernel, on AF_XDP rings.
#![cfg_attr(not(feature = "std"), no_std)]
#![warn(missing_docs)]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "std")]
pub mod io;
#[cfg(feature = "cli")]
pub mod load;
#[cfg(feature = "xdp")]
pub mod runtime;
pub mod stack;
pub mod tcp;
pub mod wire;
