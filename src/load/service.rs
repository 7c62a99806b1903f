//! One worker's server side: HTTP, echo, discard and chargen, on any transport.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::vec;
use std::vec::Vec;

use super::heads::{Gathered, HeadBytes, PartialHead};
use super::http::parse_request;
use super::workload::pattern;
use super::{Conn, HeadSlab, Site};

/// What a server does with its connections.
#[derive(Clone, Debug)]
pub enum ServeApp {
    /// HTTP/1.1, GET and HEAD.
    Http(Arc<Site>),
    /// Sends back what comes (RFC 862), and closes after so many octets where told to.
    Echo {
        /// Octets after which the server closes first; `None` waits for the client's FIN.
        close_after: Option<u64>,
    },
    /// Reads and forgets (RFC 863).
    Discard,
    /// Sends without end, and ignores what comes (RFC 864).
    Chargen,
}

/// Heads that may be incomplete at one time on one worker.
const HEADS: u16 = 256;
/// What is still read from a connection after a reply that ends it, so that the reply is not lost to a
/// reset (RFC 9112 §9.6).
const LINGER_MAX: u32 = 256 * 1024;

/// The server side of one worker. Slots are the transport's, below the number given at start.
#[derive(Debug)]
pub struct Service {
    app: ServeApp,
    slots: Vec<Serving>,
    heads: HeadSlab,
    stream: Vec<u8>,
    requests: u64,
    accepted: u64,
}

/// One connection.
#[derive(Clone, Copy, Debug, Default)]
struct Serving {
    partial: PartialHead,
    reply: Option<Reply>,
    /// Octets of a request's body still to be skipped.
    skip: u64,
    /// Octets echoed so far.
    echoed: u64,
    /// The peer sent FIN: close once the reply is out.
    fin: bool,
    /// Octets that were read after the last reply; `None` while requests are taken.
    lingering: Option<u32>,
}

/// A reply on its way out.
#[derive(Clone, Copy, Debug)]
struct Reply {
    page: u32,
    closes: bool,
    at: u64,
    end: u64,
}

impl Service {
    /// A server with room for `slots` connections.
    pub fn new(app: ServeApp, slots: usize) -> Self {
        let heads = if matches!(app, ServeApp::Http(_)) { HEADS } else { 0 };
        let stream = if matches!(app, ServeApp::Chargen) { pattern(64 * 1024) } else { Vec::new() };
        let slots = vec![Serving::default(); slots];
        Self { app, slots, heads: HeadSlab::new(heads), stream, requests: 0, accepted: 0 }
    }

    /// HTTP requests answered.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Connections accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// A connection was established in `slot`.
    pub fn on_accept<C: Conn>(&mut self, slot: u32, conn: &mut C) {
        self.accepted += 1;
        self.slots[slot as usize] = Serving::default();
        if matches!(self.app, ServeApp::Chargen) {
            self.on_writable(slot, conn);
        }
    }

    /// Text arrived; returns how many octets were consumed.
    pub fn on_data<C: Conn>(&mut self, slot: u32, data: &[u8], conn: &mut C) -> usize {
        match &self.app {
            ServeApp::Http(_) => self.on_http(slot as usize, data, conn),
            &ServeApp::Echo { close_after } => {
                let serving = &mut self.slots[slot as usize];
                let left = close_after.map_or(u64::MAX, |all| all.saturating_sub(serving.echoed));
                let wanted = data.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let taken = conn.send(&data[..wanted]);
                serving.echoed += taken as u64;
                if close_after == Some(serving.echoed) {
                    conn.close();
                }
                taken
            }
            ServeApp::Discard | ServeApp::Chargen => data.len(),
        }
    }

    /// The peer sent FIN, and everything before it was consumed.
    pub fn on_fin<C: Conn>(&mut self, slot: u32, conn: &mut C) {
        let serving = &mut self.slots[slot as usize];
        if serving.reply.is_some() {
            serving.fin = true;
        } else {
            conn.close();
        }
    }

    /// There is room to send again.
    pub fn on_writable<C: Conn>(&mut self, slot: u32, conn: &mut C) {
        match &self.app {
            ServeApp::Http(_) => {
                if self.slots[slot as usize].reply.is_some() && self.continue_reply(slot as usize, conn) {
                    conn.resume();
                }
            }
            ServeApp::Echo { .. } => conn.resume(),
            ServeApp::Discard => {}
            ServeApp::Chargen => while conn.send(&self.stream) == self.stream.len() {},
        }
    }

    /// The connection is over.
    pub fn on_closed(&mut self, slot: u32) {
        self.heads.release(&mut self.slots[slot as usize].partial);
        self.slots[slot as usize] = Serving::default();
    }

    /// Requests one after another, until the octets end or a reply does not fit.
    fn on_http<C: Conn>(&mut self, slot: usize, data: &[u8], conn: &mut C) -> usize {
        let mut used = 0;
        while used < data.len() {
            let serving = &mut self.slots[slot];
            if let Some(read) = serving.lingering {
                linger(serving, read, data.len() - used, conn);
                return data.len();
            }
            if serving.reply.is_some() {
                return used;
            }
            if serving.skip > 0 {
                let skipped = usize::try_from(serving.skip).unwrap_or(usize::MAX).min(data.len() - used);
                serving.skip -= skipped as u64;
                used += skipped;
                continue;
            }
            used += self.on_request(slot, &data[used..], conn);
        }
        used
    }

    /// Takes one head, or a piece of one; returns how many octets that were.
    fn on_request<C: Conn>(&mut self, slot: usize, data: &[u8], conn: &mut C) -> usize {
        let ServeApp::Http(site) = &self.app else { return data.len() };
        let serving = &mut self.slots[slot];
        let (head, taken) = match self.heads.gather(&mut serving.partial, data) {
            Gathered::More => return data.len(),
            Gathered::TooLong => (Err(431), data.len()),
            Gathered::NoBuffer => (Err(503), data.len()),
            Gathered::Whole(HeadBytes::InPlace, taken) => (parse_request(&data[..taken]), taken),
            Gathered::Whole(HeadBytes::Buffered, taken) => {
                (parse_request(self.heads.bytes(serving.partial)), taken)
            }
        };
        let failed = head.is_err();
        let (page, closes, is_head) = match head {
            Ok(head) => {
                serving.skip = head.body_len;
                (site.find(head.path), !head.keep_alive, head.is_head)
            }
            // What follows a request that was not understood cannot be told apart from a new one.
            Err(status) => (Site::status(status), true, false),
        };
        self.heads.release(&mut serving.partial);
        let end = site.page(page).len(closes, is_head);
        serving.reply = Some(Reply { page, closes, at: 0, end });
        self.requests += 1;
        // What came with the head says whether closing at once could cost the reply.
        let more_follows = taken < data.len() || self.slots[slot].skip > 0 || failed;
        if self.send_reply(slot, conn) {
            self.finish_reply(slot, more_follows, conn);
        }
        taken
    }

    /// Goes on with a reply that did not fit; whether requests are taken again.
    fn continue_reply<C: Conn>(&mut self, slot: usize, conn: &mut C) -> bool {
        let done = self.send_reply(slot, conn);
        if done {
            // The rest of what came is still unread, so closing at once might reset.
            self.finish_reply(slot, true, conn);
        }
        done
    }

    /// Sends as much as fits; whether that was all.
    fn send_reply<C: Conn>(&mut self, slot: usize, conn: &mut C) -> bool {
        let ServeApp::Http(site) = &self.app else { return true };
        let Some(reply) = &mut self.slots[slot].reply else { return true };
        while reply.at < reply.end {
            let octets = site.octets(reply.page, reply.closes, reply.at, reply.end);
            let taken = conn.send(octets);
            reply.at += taken as u64;
            if taken < octets.len() {
                return false;
            }
        }
        true
    }

    fn finish_reply<C: Conn>(&mut self, slot: usize, more_follows: bool, conn: &mut C) {
        let serving = &mut self.slots[slot];
        let closes = serving.reply.take().is_some_and(|reply| reply.closes);
        if serving.fin || (closes && !more_follows) {
            conn.close();
        } else if closes {
            conn.shutdown();
            serving.lingering = Some(0);
        }
    }
}

/// Reads on after the last reply, within a bound.
fn linger<C: Conn>(serving: &mut Serving, read: u32, more: usize, conn: &mut C) {
    let read = read.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
    serving.lingering = Some(read);
    if read > LINGER_MAX {
        conn.abort();
    }
}

#[cfg(test)]
mod tests;
