//! What the namespace tests share, and the tests by subject.

mod bystanders;
mod crash;
mod ecn;
mod http;
mod judge;
mod judged;
mod lab;
mod link;
mod load;
mod path;
mod program;
mod refusals;
mod sockets;
mod stream;
mod workers;
