//! The load generator and the servers it is pointed at, on any transport.
//!
//! | file | what |
//! | --- | --- |
//! | `workload` | [`Workload`]: what an exchange is, from profile to sizes |
//! | `plan` | [`Plan`]: a whole run, shared by its workers |
//! | `http`, `heads` | HTTP/1.1 message heads, across any split |
//! | `reply` | [`ReplyParser`]: has the reply ended? |
//! | `pages` | [`Site`]: what the HTTP server answers with, made ready at start |
//! | `conn` | [`Conn`] and [`Opener`]: all that the two sides ask of a transport |
//! | `generator` | [`Generator`]: one worker's client side |
//! | `service` | [`Service`]: one worker's server side |
//! | `client`, `server` | both as [`crate::stack::App`], on ringroad itself |
//! | `kernel` | both on the kernel's sockets, over epoll |
//! | `arrivals` | [`Arrivals`]: when the open loop begins an exchange |
//! | `control` | [`Control`]: stopping, live figures, collecting the results |
//! | `record`, `report`, `environment` | histograms and counts, the JSON object, the machine |
#![forbid(unsafe_code)]

mod arrivals;
mod client;
mod conn;
mod control;
mod environment;
mod generator;
mod heads;
mod http;
pub mod kernel;
mod pages;
mod plan;
mod record;
mod reply;
mod report;
mod server;
mod service;
mod workload;

pub use arrivals::Arrivals;
pub use client::Client;
pub use conn::{Conn, Open, Opener};
pub use control::{Control, Live};
pub use environment::{Environment, NetSample, cpu_seconds};
pub use generator::Generator;
pub use heads::HeadSlab;
pub use http::{ReplyHead, RequestHead, parse_reply, parse_request};
pub use pages::{Page, Site};
pub use plan::Plan;
pub use record::{ErrorKind, Recorder, Window};
pub use reply::{Progress, ReplyParser};
pub use report::{Latency, ReportInput, RunReport, write_hdr_log};
pub use server::Server;
pub use service::{ServeApp, Service};
pub use workload::{AppKind, CloseSide, Direction, Profile, Workload};
