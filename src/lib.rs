//! TCP that goes round the kernel, on AF_XDP rings.
//!
//! ringroad is a TCP stack in user space: one engine per core, nothing shared between cores, frames taken
//! from and put on the rings of AF_XDP sockets. The kernel keeps the interface; only the frames of the
//! addresses and ports that were asked for come here.
//!
//! There are two ways in.
//!
//! # A stack on an interface
//!
//! With the feature `xdp`, [`run`] brings a stack up on an interface, runs one [`App`] per worker on threads
//! of its own, and takes it down again. An application is a set of callbacks; text is lent to it where it
//! lies.
//!
#![cfg_attr(feature = "xdp", doc = "```no_run")]
#![cfg_attr(not(feature = "xdp"), doc = "```ignore")]
//! use std::net::Ipv4Addr;
//!
//! use ringroad::{App, Flow, Listen, RunConfig, run};
//!
//! struct Echo;
//!
//! impl App for Echo {
//!     // What the send buffer does not take stays unread, so that the peer's window closes.
//!     fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
//!         flow.send(data)
//!     }
//!
//!     fn on_writable(&mut self, flow: &mut Flow<'_>) {
//!         flow.resume();
//!     }
//! }
//!
//! let config = RunConfig {
//!     listen: vec![Listen::new(Ipv4Addr::new(192, 0, 2, 1).into(), 7)],
//!     ..RunConfig::new("eth0")
//! };
//! // Runs until another thread calls `ready.handle.stop()`, or every worker has called `Cx::stop`.
//! let end = run(&config, |_worker| Echo, |ready| println!("mode: {}", ready.mode))?;
//! # Ok::<(), ringroad::runtime::RunError>(())
//! ```
//!
//! # The engine alone
//!
//! With `default-features = false` the crate is `no_std` with `alloc`, has no C dependency, and is the
//! [`Engine`]: frames, time and commands in; frames and callbacks out. It reads no clock, opens nothing,
//! and allocates only when it is made. Whoever owns it brings the frames.
//!
//! ```
//! use std::net::Ipv4Addr;
//!
//! use ringroad::base::{DropReason, HashKey, Instant};
//! use ringroad::stack::{Owners, Routes, TxBatch};
//! use ringroad::tcp::TcpConfig;
//! use ringroad::wire::Mac;
//! use ringroad::{App, Engine, EngineConfig, Flow, Limits, Listen};
//!
//! struct Discard;
//!
//! impl App for Discard {
//!     fn on_data(&mut self, _flow: &mut Flow<'_>, data: &[u8]) -> usize {
//!         data.len()
//!     }
//! }
//!
//! /// Frames to send; a driver would put them on its ring.
//! struct Wire {
//!     frame: [u8; 1514],
//!     sent: Vec<Vec<u8>>,
//! }
//!
//! impl TxBatch for Wire {
//!     fn reserve(&mut self) -> Option<&mut [u8]> {
//!         Some(&mut self.frame)
//!     }
//!
//!     fn commit(&mut self, len: usize) {
//!         self.sent.push(self.frame[..len].to_vec());
//!     }
//! }
//!
//! let address = Ipv4Addr::new(192, 0, 2, 1).into();
//! let config = EngineConfig {
//!     limits: Limits { flows_max: 1_000, time_wait_max: 1_000, ..Limits::default() },
//!     tcp: TcpConfig::default(),
//!     mac: Mac([2, 0, 0, 0, 0, 1]),
//!     mtu: 1_500,
//!     routes: Routes { addresses: vec![address], routes: vec![] },
//!     source_ports: 10_000..=19_999,
//!     worker: 0,
//!     owners: Owners::One,
//!     verify_checksums: true,
//!     secret: HashKey::new(1, 2), // From the operating system's generator, where it matters.
//! };
//! let now = Instant::from_millis(1);
//! let (mut engine, mut app) = (Engine::new(config, now), Discard);
//! let mut wire = Wire { frame: [0; 1514], sent: Vec::new() };
//! engine.listen(&Listen::new(address, 9)).expect("nobody else listens there");
//!
//! // A turn: what has arrived, and then whatever is due.
//! let arrived = [[0u8; 60]];
//! engine.on_batch(now, arrived.as_slice(), &mut app, &mut wire);
//! engine.on_timers(now, 256, &mut app, &mut wire);
//! assert_eq!(engine.counters().drops(DropReason::NotIp), 1);
//! assert!(wire.sent.is_empty() && engine.next_deadline().is_none());
//! ```
//!
//! # Features
//!
//! | feature | what it adds | needs |
//! | --- | --- | --- |
//! | none | [`base`], [`wire`], [`tcp`], [`stack`] | `alloc` |
//! | `std` | [`io`], less AF_XDP | the standard library |
//! | `xdp` (default) | AF_XDP in [`io::xdp`], and [`runtime`] | Linux 5.11; clang, libelf and zlib to build |
//! | `cli` (default) | [`load`], [`cli`] and the command `ringroad` | `xdp` |
//!
//! # Layers
//!
//! A module uses only those above it in this table.
//!
//! | module | what |
//! | --- | --- |
//! | [`base`] | time values, sequence numbers, keyed hash, counters, drop reasons |
//! | [`wire`] | header views and checksums; knows octets, not connections |
//! | [`tcp`] | RFC 9293 and its friends; knows segments, not packets |
//! | [`stack`] | one core's engine: tables, demultiplexing, output, timers, applications |
//! | [`io`] | frames in and out of the machine |
//! | [`runtime`] | threads, the clock, neighbours, ports, namespaces |
//! | [`load`] | the load generator and the servers it measures |
//! | [`cli`] | the command |
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

#[cfg(feature = "xdp")]
pub use runtime::{RunConfig, run};
pub use stack::{App, Connect, Cx, Engine, EngineConfig, Flow, Limits, Listen};

/// Has the examples of README.md compiled.
#[cfg(all(doctest, feature = "xdp"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
