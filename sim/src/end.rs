//! One end of one connection, as its application sees it; and the rules that it alone can break.
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use ringroad::base::Instant;
use ringroad::tcp::CloseReason;

use crate::rule::{Rule, Violation, check};
use crate::text::HEAD_LEN;

/// What an application has heard and said on one connection. Ends are numbered from one, and their streams
/// bear the number.
#[derive(Clone, Debug)]
pub struct End {
    pub number: u64,
    pub host: usize,
    pub local: SocketAddr,
    pub remote: SocketAddr,
    pub is_active: bool,
    /// Opened to a port where nobody listens, and where nobody forges an answer.
    pub to_closed_port: bool,
    /// Opened to that port, or to a peer that might not open at the same instant.
    pub may_be_refused: bool,
    /// On the network's clock.
    pub begun: Instant,
    /// The last time that something happened, on the network's clock.
    pub news: Instant,
    pub is_open: bool,
    /// Octets that the engine took.
    pub sent: u64,
    /// Octets consumed.
    pub received: u64,
    head: [u8; 8],
    /// Whose stream this one hears; `None` until its head has come.
    pub hears: Option<u64>,
    /// Who hears this one's stream.
    pub heard_by: Option<u64>,
    pub heard_fin: bool,
    /// `shutdown`, or any stronger word.
    pub said_fin: bool,
    /// `close`, after which nothing is read.
    pub said_close: bool,
    /// `abort`, by itself or by its host.
    pub said_abort: bool,
    pub is_paused: bool,
    pub over: Option<CloseReason>,
    /// Its host lost power.
    pub lost: bool,
}

impl End {
    /// An end that has neither heard nor said anything.
    pub const fn new(number: u64, host: usize, local: SocketAddr, remote: SocketAddr, now: Instant) -> Self {
        Self {
            number,
            host,
            local,
            remote,
            is_active: false,
            to_closed_port: false,
            may_be_refused: false,
            begun: now,
            news: now,
            is_open: false,
            sent: 0,
            received: 0,
            head: [0; 8],
            hears: None,
            heard_by: None,
            heard_fin: false,
            said_fin: false,
            said_close: false,
            said_abort: false,
            is_paused: false,
            over: None,
            lost: false,
        }
    }

    /// Whether it is neither over nor lost.
    pub const fn is_live(&self) -> bool {
        self.over.is_none() && !self.lost
    }

    /// Whether its application gave text up that its peer may have sent.
    pub const fn gave_up(&self) -> bool {
        self.said_close || self.said_abort
    }

    /// Whether the two are ends of one four-tuple.
    pub fn mirrors(&self, other: &Self) -> bool {
        self.local == other.remote && self.remote == other.local
    }

    /// `data` was offered; returns the sender's number once the head is known.
    pub fn take_head(&mut self, data: &[u8]) -> Option<u64> {
        let at = usize::try_from(self.received.min(HEAD_LEN)).expect("eight at most");
        let room = &mut self.head[at..];
        let len = room.len().min(data.len());
        room[..len].copy_from_slice(&data[..len]);
        (at + len == self.head.len()).then(|| u64::from_le_bytes(self.head))
    }

    /// ESTABLISHED is announced.
    pub fn on_open(&mut self) -> Result<(), Violation> {
        self.check_live("opened")?;
        check(Rule::Callbacks, !self.is_open, || format!("opened twice: {self:?}"))?;
        check(Rule::Reason, !self.to_closed_port, || format!("nobody listens there: {self:?}"))?;
        self.is_open = true;
        Ok(())
    }

    /// Text is offered.
    pub fn on_data(&self, len: usize) -> Result<(), Violation> {
        self.check_live("given text")?;
        check(Rule::Callbacks, len > 0, || format!("given no text: {self:?}"))?;
        let listens = self.is_open && !self.heard_fin && !self.gave_up() && !self.is_paused;
        check(Rule::Callbacks, listens, || format!("given text that it does not want: {self:?}"))
    }

    /// The peer's FIN is announced.
    pub fn on_fin(&mut self) -> Result<(), Violation> {
        self.check_live("told of FIN")?;
        let waits = self.is_open && !self.heard_fin && !self.gave_up();
        check(Rule::Callbacks, waits, || format!("told of FIN when it cannot be: {self:?}"))?;
        self.heard_fin = true;
        Ok(())
    }

    /// There is room to send.
    pub fn on_writable(&self) -> Result<(), Violation> {
        self.check_live("told of room")?;
        let wants = self.is_open && !self.said_fin;
        check(Rule::Callbacks, wants, || format!("told of room that it cannot use: {self:?}"))
    }

    /// Nothing but the opening and the end comes before the opening.
    pub fn on_other(&self) -> Result<(), Violation> {
        self.check_live("called")
    }

    /// The last callback.
    pub fn on_close(&mut self, why: CloseReason) -> Result<(), Violation> {
        self.check_live("closed")?;
        self.over = Some(why);
        check(Rule::Reason, self.may_end(why), || format!("there was no reason for this end: {self:?}"))
    }

    fn check_live(&self, what: &str) -> Result<(), Violation> {
        check(Rule::Callbacks, self.is_live(), || format!("{what} after its end: {self:?}"))
    }

    fn may_end(&self, why: CloseReason) -> bool {
        match why {
            CloseReason::Finished => self.is_open && self.said_fin && (self.heard_fin || self.gave_up()),
            CloseReason::Reset | CloseReason::TimedOut => self.is_open,
            CloseReason::Aborted => self.gave_up() || (self.said_fin && !self.is_open),
            // Refused, timed out while opening, unreachable, and whatever may come.
            _ => self.is_active && !self.is_open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> End {
        let [local, remote] = [1, 2].map(|port| SocketAddr::from(([10, 0, 0, 1], port)));
        End { is_open: true, ..End::new(5, 0, local, remote, Instant::ZERO) }
    }

    fn rule(result: Result<(), Violation>) -> Option<Rule> {
        result.err().map(|violation| violation.rule)
    }

    #[test]
    fn the_head_comes_in_any_pieces() {
        let mut whole = end();
        assert_eq!(whole.take_head(&77u64.to_le_bytes()), Some(77));
        let mut pieces = end();
        for (at, octet) in 77u64.to_le_bytes().into_iter().enumerate() {
            assert_eq!(pieces.take_head(&[octet]), (at == 7).then_some(77));
            pieces.received += 1;
        }
        assert_eq!(pieces.take_head(b"more"), Some(77));
    }

    #[test]
    fn callbacks_out_of_order_are_found() {
        let callbacks = Some(Rule::Callbacks);
        assert_eq!(rule(end().on_open()), callbacks, "twice");
        assert_eq!(rule(end().on_data(0)), callbacks, "no text");
        assert_eq!(rule(End { is_open: false, ..end() }.on_data(1)), callbacks, "text before the opening");
        assert_eq!(rule(End { heard_fin: true, ..end() }.on_data(1)), callbacks, "text after FIN");
        assert_eq!(rule(End { is_paused: true, ..end() }.on_data(1)), callbacks, "text while paused");
        assert_eq!(rule(End { said_close: true, ..end() }.on_data(1)), callbacks, "text after close");
        assert_eq!(rule(End { heard_fin: true, ..end() }.on_fin()), callbacks, "FIN twice");
        assert_eq!(rule(End { said_abort: true, ..end() }.on_fin()), callbacks, "FIN after abort");
        assert_eq!(rule(End { said_fin: true, ..end() }.on_writable()), callbacks, "room after FIN");
        let over = End { over: Some(CloseReason::Reset), ..end() };
        assert_eq!(rule(over.clone().on_close(CloseReason::Reset)), callbacks, "two ends");
        assert_eq!(rule(over.on_other()), callbacks, "after the end");
        assert_eq!(rule(End { lost: true, ..end() }.on_other()), callbacks, "from a host without power");
        assert_eq!(rule(end().on_data(1)), None);
    }

    #[test]
    fn reasons_that_there_were_not_are_found() {
        use CloseReason::{Aborted, ConnectTimedOut, Finished, Refused, Reset, TimedOut};
        let opening = End { is_open: false, is_active: true, ..end() };
        for (end, why, may) in [
            (end(), Finished, false),
            (End { said_fin: true, ..end() }, Finished, false),
            (End { said_fin: true, heard_fin: true, ..end() }, Finished, true),
            (End { said_fin: true, said_close: true, ..end() }, Finished, true),
            (end(), Aborted, false),
            (End { said_abort: true, ..end() }, Aborted, true),
            (End { said_fin: true, ..end() }, Aborted, false),
            (End { said_fin: true, ..opening.clone() }, Aborted, true),
            (end(), Reset, true),
            (opening.clone(), Reset, false),
            (opening.clone(), TimedOut, false),
            (opening.clone(), Refused, true),
            (end(), Refused, false),
            (opening.clone(), ConnectTimedOut, true),
            (End { is_active: false, ..opening }, ConnectTimedOut, false),
        ] {
            let found = rule(end.clone().on_close(why));
            assert_eq!(found, (!may).then_some(Rule::Reason), "{why:?} of {end:?}");
        }
        assert_eq!(rule(End { to_closed_port: true, is_open: false, ..end() }.on_open()), Some(Rule::Reason));
    }
}
