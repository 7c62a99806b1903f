//! What the namespace tests share, and the tests by subject.

mod http;
mod lab;
mod program;
mod sockets;
mod stream;
