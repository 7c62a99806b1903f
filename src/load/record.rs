//! What one worker measures: three histograms, counts, and errors by kind.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::base::Instant;
use crate::tcp::CloseReason;

macro_rules! error_kinds {
    ($($(#[$doc:meta])* $kind:ident => $label:literal,)*) => {
        /// Why an exchange or a connection failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum ErrorKind { $($(#[$doc])* $kind,)* }

        impl ErrorKind {
            const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name in reports.
            pub const fn label(self) -> &'static str {
                match self { $(Self::$kind => $label,)* }
            }
        }
    };
}

error_kinds! {
    /// The peer refused the connection.
    Refused => "refused",
    /// The peer reset it.
    Reset => "reset",
    /// Nothing was acknowledged for too long.
    TimedOut => "timed_out",
    /// The handshake took too long.
    ConnectTimedOut => "connect_timed_out",
    /// No way leads to the peer.
    Unreachable => "unreachable",
    /// The peer closed before its reply had ended.
    ClosedEarly => "closed_early",
    /// The reply could not be understood: chunked, too large a head, or octets after its end.
    BadReply => "bad_reply",
    /// A complete reply with a status of 400 or more.
    HttpStatus => "http_status",
    /// No local port was free.
    PortsExhausted => "ports_exhausted",
    /// A table was full, or the process may open no more files.
    TableFull => "table_full",
    /// An intended start that the backlog of the open loop could not hold.
    Backlog => "backlog",
    /// Still under way two seconds after the end.
    Unfinished => "unfinished",
    /// Anything else.
    Other => "other",
}

impl ErrorKind {
    /// What the end of a connection means for an exchange that was under way.
    pub fn of(why: CloseReason) -> Self {
        match why {
            CloseReason::Finished => Self::ClosedEarly,
            CloseReason::Reset => Self::Reset,
            CloseReason::Refused => Self::Refused,
            CloseReason::TimedOut => Self::TimedOut,
            CloseReason::ConnectTimedOut => Self::ConnectTimedOut,
            CloseReason::Unreachable => Self::Unreachable,
            // What the generator itself aborts is counted before; this is the end of the worker.
            CloseReason::Aborted => Self::Unfinished,
        }
    }
}

/// The part of a run that counts: after the warm-up, until the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First instant that counts.
    pub from: Instant,
    /// First instant that does not count any more.
    pub to: Instant,
}

impl Window {
    fn contains(&self, at: Instant) -> bool {
        self.from <= at && at < self.to
    }
}

/// Longer than any timeout here; what is longer is recorded as this.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// One worker's measurements, or several workers' merged.
#[derive(Clone, Debug)]
pub struct Recorder {
    window: Window,
    /// SYN to established, ns.
    pub connect: Histogram<u64>,
    /// Start of the exchange to the first octet of the reply, ns.
    pub first_byte: Histogram<u64>,
    /// Start of the exchange to the end of the reply, ns.
    pub exchange: Histogram<u64>,
    /// Connections that carried their exchange and closed cleanly.
    pub connections: u64,
    /// Connections established in the whole run, warm-up included.
    pub established: u64,
    /// Exchanges that completed.
    pub requests: u64,
    /// Octets of text sent.
    pub sent: u64,
    /// Octets of text received.
    pub received: u64,
    errors: [u64; ErrorKind::ALL.len()],
    /// Errors whenever they came: for the live line, and to tell that nothing ever worked.
    pub errors_seen: u64,
}

impl Recorder {
    /// Empty; everything outside `window` is left out, except where said otherwise.
    pub fn new(window: Window) -> Self {
        let histogram =
            || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("the bounds are constants");
        Self {
            window,
            connect: histogram(),
            first_byte: histogram(),
            exchange: histogram(),
            connections: 0,
            established: 0,
            requests: 0,
            sent: 0,
            received: 0,
            errors: [0; ErrorKind::ALL.len()],
            errors_seen: 0,
        }
    }

    /// Ends the window early.
    pub fn end_at(&mut self, now: Instant) {
        self.window.to = self.window.to.min(now);
    }

    /// The window.
    pub fn window(&self) -> Window {
        self.window
    }

    /// A connection begun at `from` is established.
    pub fn on_established(&mut self, now: Instant, from: Instant) {
        self.established += 1;
        if self.window.contains(now) {
            self.connect.saturating_record(nanos(now, from));
        }
    }

    /// An exchange that began at `from`, and whose reply began at `first`, completed.
    pub fn on_exchange(&mut self, now: Instant, from: Instant, first: Instant) {
        if self.window.contains(now) {
            self.requests += 1;
            self.first_byte.saturating_record(nanos(first, from));
            self.exchange.saturating_record(nanos(now, from));
        }
    }

    /// A connection closed cleanly after its exchange.
    pub fn on_finished(&mut self, now: Instant) {
        self.connections += u64::from(self.window.contains(now));
    }

    /// Text was sent.
    pub fn on_sent(&mut self, now: Instant, octets: usize) {
        if self.window.contains(now) {
            self.sent += octets as u64;
        }
    }

    /// Text was received.
    pub fn on_received(&mut self, now: Instant, octets: usize) {
        if self.window.contains(now) {
            self.received += octets as u64;
        }
    }

    /// `n` failures; those after the window count too, for they began in it.
    pub fn on_errors(&mut self, now: Instant, kind: ErrorKind, n: u64) {
        self.errors_seen += n;
        if now >= self.window.from {
            self.errors[kind as usize] += n;
        }
    }

    /// Adds another worker's measurements.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.connect, &other.connect),
            (&mut self.first_byte, &other.first_byte),
            (&mut self.exchange, &other.exchange),
        ] {
            mine.add(theirs).expect("all recorders have the same bounds");
        }
        for (mine, theirs) in self.errors.iter_mut().zip(other.errors) {
            *mine += theirs;
        }
        self.connections += other.connections;
        self.established += other.established;
        self.requests += other.requests;
        self.sent += other.sent;
        self.received += other.received;
        self.errors_seen += other.errors_seen;
    }

    /// Errors by kind, those that happened only.
    pub fn errors(&self) -> BTreeMap<&'static str, u64> {
        let all = ErrorKind::ALL.iter().map(|&kind| (kind.label(), self.errors[kind as usize]));
        all.filter(|&(_, n)| n > 0).collect()
    }
}

/// At least one: a histogram has no place for zero, and a turn of the loop may be shorter than its clock.
fn nanos(now: Instant, from: Instant) -> u64 {
    now.as_nanos().saturating_sub(from.as_nanos()).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn recorder() -> Recorder {
        Recorder::new(Window { from: ms(10), to: ms(20) })
    }

    #[test]
    fn only_what_completes_in_the_window_counts() {
        for (at, counts) in [(9, 0), (10, 1), (19, 1), (20, 0)] {
            let mut r = recorder();
            r.on_exchange(ms(at), ms(5), ms(6));
            r.on_finished(ms(at));
            r.on_established(ms(at), ms(5));
            r.on_sent(ms(at), 7);
            r.on_received(ms(at), 8);
            let got =
                [r.requests, r.exchange.len(), r.connections, r.connect.len(), r.sent / 7, r.received / 8];
            assert_eq!(got, [counts; 6], "{at}");
            assert_eq!(r.established, 1, "the whole run");
        }
    }

    #[test]
    fn errors_of_the_warm_up_are_seen_and_not_reported() {
        let mut r = recorder();
        r.on_errors(ms(9), ErrorKind::Refused, 2);
        assert_eq!((r.errors().len(), r.errors_seen), (0, 2));
        r.on_errors(ms(25), ErrorKind::Unfinished, 3);
        assert_eq!(r.errors(), BTreeMap::from([("unfinished", 3)]));
    }

    #[test]
    fn merging_adds_everything() {
        let (mut a, mut b) = (recorder(), recorder());
        a.on_exchange(ms(12), ms(11), ms(12));
        b.on_exchange(ms(18), ms(11), ms(12));
        b.on_established(ms(12), ms(11));
        b.on_errors(ms(12), ErrorKind::Reset, 1);
        b.on_finished(ms(12));
        a.merge(&b);
        assert_eq!((a.requests, a.exchange.len(), a.first_byte.len(), a.connect.len()), (2, 2, 2, 1));
        assert_eq!((a.connections, a.established, a.errors()["reset"]), (1, 1, 1));
        assert!(a.exchange.max() >= 7_000_000 && a.exchange.min() <= 1_000_000);
    }
}
