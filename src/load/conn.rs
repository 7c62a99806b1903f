//! All that the generator and the servers ask of a transport.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use super::ErrorKind;

/// One connection, during one callback.
pub trait Conn {
    /// Queues text; returns how many octets were taken. After less than all, `on_writable` follows.
    fn send(&mut self, data: &[u8]) -> usize;

    /// A FIN follows the text sent so far; receiving goes on.
    fn shutdown(&mut self);

    /// A FIN follows the text sent so far, and nothing more is read.
    fn close(&mut self);

    /// Ends the connection with a RST.
    fn abort(&mut self);

    /// Offers again what an earlier `on_data` did not consume, and what arrived since.
    fn resume(&mut self);
}

/// What to connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open {
    /// The peer's socket.
    pub remote: SocketAddr,
    /// Our address; `None` leaves it to the transport. The port is always the transport's to choose.
    pub source: Option<IpAddr>,
}

/// A transport that begins connections, named by the generator's slots.
pub trait Opener {
    /// One connection, during one call.
    type Conn<'a>: Conn
    where
        Self: 'a;

    /// Begins to connect; the outcome comes as `on_open` or `on_closed` of that slot.
    ///
    /// # Errors
    ///
    /// When it could not even be begun; then nothing follows.
    fn open(&mut self, slot: u32, open: &Open) -> Result<(), ErrorKind>;

    /// The connection of `slot`, unless it is over.
    fn conn(&mut self, slot: u32) -> Option<Self::Conn<'_>>;
}
