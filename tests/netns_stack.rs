//! ringroad between programs and kernels that know nothing of it, each test in a lab of its own. Needs root.
#![cfg(feature = "cli")]
#![forbid(unsafe_code)]

mod netns;
