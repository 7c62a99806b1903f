//! ringroad as a shared library that packetdrill drives with `--so_filename`, in virtual time.
//!
//! | file | what |
//! | --- | --- |
//! | `abi` | what is exported: C's types, pointers, errno; with `memory` the only unsafe code |
//! | `shared` | the stack as several threads see it · `settle` real time |
//! | `world` | the engine in virtual time, and calls that wait |
//! | `ops` | calls that may have to wait · `calls` those that never do · `sockopt` socket options |
//! | `socket`, `table` | what is known of sockets and of connections |
//! | `address` | `struct sockaddr` · `flags` `--so_flags` · `dump` the state dump · `errno` |

mod abi;
mod address;
mod calls;
mod dump;
mod errno;
mod flags;
mod memory;
mod ops;
mod settle;
mod shared;
mod socket;
mod sockopt;
mod table;
mod world;

pub use abi::{Interface, packetdrill_interface_init};
