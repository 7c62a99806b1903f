//! The commands: one file each.
#![forbid(unsafe_code)]

pub mod load;
mod parse;
pub mod serve;
mod watch;
pub mod xdp;

pub use parse::Backend;
