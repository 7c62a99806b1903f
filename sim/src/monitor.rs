//! Somebody at the cable who follows each connection: nobody sends more than he may, or acknowledges more than
//! there was.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;

use ringroad::base::Seq;
use ringroad::wire::{Control, TcpOptions};

use crate::rule::{Rule, Violation, check};
use crate::segment::Crafted;

/// What one side of a connection has sent so far.
#[derive(Clone, Copy, Debug)]
struct Side {
    iss: Seq,
    /// The first number that it has not used.
    top: Seq,
    /// The farthest right edge that it ever offered; `None` while it has acknowledged nothing.
    edge: Option<Seq>,
    /// The window scale in its SYN.
    scale: Option<u8>,
    /// Its SYNs asked for explicit congestion notification, the first and all of them.
    asked_for_ecn: bool,
    only_asked_for_ecn: bool,
}

/// All connections of a world in which no four-tuple is used twice.
#[derive(Debug, Default)]
pub struct Monitor {
    /// By sender and receiver; `None` once there was a second SYN with another number, from which on nobody at
    /// the cable can tell what belongs to which.
    sides: HashMap<(SocketAddr, SocketAddr), Option<Side>>,
}

impl Monitor {
    /// A segment was sent.
    pub fn see(&mut self, sent: &Crafted) -> Result<(), Violation> {
        let fields = &sent.fields;
        if fields.ctl.contains(Control::RST) {
            // It may come from a host that knows of no connection.
            return Ok(());
        }
        let from = SocketAddr::new(sent.addrs.remote(), fields.src_port);
        let to = SocketAddr::new(sent.addrs.local(), fields.dst_port);
        if fields.ctl.contains(Control::SYN) {
            self.see_syn((from, to), sent);
        }
        let other = self.sides.get(&(to, from)).copied().flatten();
        let (Some(Some(side)), Some(other)) = (self.sides.get_mut(&(from, to)), other) else { return Ok(()) };
        side.see(&other, sent)
    }

    fn see_syn(&mut self, tuple: (SocketAddr, SocketAddr), sent: &Crafted) {
        let iss = sent.fields.seq;
        let scale = TcpOptions::parse(&sent.options).window_scale;
        // RFC 3168 §6.1.1: a SYN has CWR, too; a SYN-ACK must not.
        let asks = sent.fields.ctl.contains(Control::ECE);
        let (asked_for_ecn, only_asked_for_ecn) = (asks, asks);
        let side = Side { iss, top: iss + 1, edge: None, scale, asked_for_ecn, only_asked_for_ecn };
        let known = self.sides.entry(tuple).or_insert(Some(side));
        *known = known.filter(|known| known.iss == iss);
        if let Some(known) = known {
            known.asked_for_ecn |= asks;
            known.only_asked_for_ecn &= asks;
        }
    }
}

impl Side {
    fn see(&mut self, other: &Self, sent: &Crafted) -> Result<(), Violation> {
        let fields = &sent.fields;
        let is_syn = fields.ctl.contains(Control::SYN);
        let controls = u32::from(is_syn) + u32::from(fields.ctl.contains(Control::FIN));
        let end = fields.seq + u32::try_from(sent.text.len()).expect("a segment is short") + controls;
        if sent.ecn != 0 {
            let may = self.only_asked_for_ecn && other.asked_for_ecn && self.top.at_or_before(fields.seq);
            check(Rule::Ecn, may, || format!("not to be ECN-capable: {sent:?} by {self:?}, to {other:?}"))?;
        }
        self.top = self.top.later(end);
        if let Some(edge) = other.edge {
            // A probe of a closed window lies just beyond it, with the FIN if it is the last octet.
            let probe = if sent.text.len() == 1 { controls + 1 } else { 1 };
            let may = end.at_or_before(edge + probe);
            check(Rule::Window, may, || format!("beyond {edge:?}: {sent:?} by {self:?}, to {other:?}"))?;
        }
        if !fields.ctl.contains(Control::ACK) {
            return Ok(());
        }
        let was = fields.ack.at_or_before(other.top);
        check(Rule::Window, was, || format!("of what was never sent: {sent:?} by {self:?}, to {other:?}"))?;
        // RFC 7323 §2.2: the window of a SYN is not scaled; and either both scale, or neither does.
        let shift = self.scale.filter(|_| other.scale.is_some() && !is_syn).unwrap_or(0);
        let edge = fields.ack + (u32::from(fields.wnd) << shift.min(14));
        self.edge = Some(self.edge.map_or(edge, |known| known.later(edge)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{addresses, mac};
    use crate::segment::tests::example;
    use ringroad::base::AddrPair;
    use ringroad::wire::ECT_0;

    /// The example's sender is the client: its numbers begin at 1,000, the server's at 2,000.
    fn segment(is_client: bool, ctl: Control, (seq, ack): (u32, u32), wnd: u16, len: usize) -> Crafted {
        let mut sent = example(false);
        if !is_client {
            (sent.from, sent.to) = (mac(1), mac(0));
            let [to, from] = [0, 1].map(|machine| addresses(machine)[0]);
            sent.addrs = AddrPair::new(to, from).expect("one family");
            (sent.fields.src_port, sent.fields.dst_port) = (sent.fields.dst_port, sent.fields.src_port);
        }
        (sent.fields.seq, sent.fields.ack) = (Seq::new(seq), Seq::new(ack));
        (sent.fields.ctl, sent.fields.wnd, sent.text) = (ctl, wnd, vec![0; len]);
        sent.ecn = 0;
        sent.options = if ctl.contains(Control::SYN) { vec![1, 3, 3, 2] } else { Vec::new() };
        sent
    }

    /// Both scale their windows by four; the client may send 400 octets, the server 40.
    fn opened() -> Monitor {
        let mut monitor = Monitor::default();
        for sent in [
            segment(true, Control::SYN, (1_000, 0), 5, 0),
            segment(false, Control::SYN | Control::ACK, (2_000, 1_001), 5, 0),
            segment(true, Control::ACK, (1_001, 2_001), 10, 0),
            segment(false, Control::ACK, (2_001, 1_001), 100, 0),
        ] {
            assert_eq!(monitor.see(&sent), Ok(()));
        }
        monitor
    }

    #[test]
    fn what_goes_beyond_the_window_or_acknowledges_too_much_is_found() {
        let fin = Control::ACK | Control::FIN;
        for (sent, is_right, why) in [
            (segment(true, Control::ACK, (1_001, 2_001), 9, 400), true, "all of the window"),
            (segment(true, Control::ACK, (1_401, 2_001), 9, 1), true, "a probe"),
            (segment(true, fin, (1_401, 2_001), 9, 1), true, "a probe that is the last octet, and the FIN"),
            (segment(true, fin, (1_400, 2_001), 9, 2), false, "two octets and the FIN"),
            (segment(true, Control::ACK, (1_001, 2_001), 9, 402), false, "two octets beyond it"),
            (segment(true, fin, (1_401, 2_001), 9, 0), true, "a FIN is its own probe"),
            (segment(true, fin, (1_402, 2_001), 9, 0), false, "but only just beyond the window"),
            (segment(false, Control::ACK, (2_001, 1_001), 9, 41), true, "the server's window, and a probe"),
            (segment(false, Control::ACK, (2_001, 1_001), 9, 42), false, "its window is smaller"),
            (segment(true, Control::ACK, (1_001, 2_002), 9, 0), false, "the server has sent no text"),
            (segment(true, Control::RST, (9_999, 9_999), 9, 0), true, "a RST may come from anybody"),
        ] {
            let found = opened().see(&sent).map_err(|violation| violation.rule);
            assert_eq!(found, if is_right { Ok(()) } else { Err(Rule::Window) }, "{why}");
        }
    }

    /// RFC 3168 §6.1.1 and §6.1.5.
    #[test]
    fn what_may_be_marked_though_nobody_agreed_or_it_goes_again_is_found() {
        let both = Control::ECE | Control::CWR;
        let none = Control::EMPTY;
        let (wrong, right) = (Err(Rule::Ecn), Ok(()));
        for (syns, syn_ack, seq, want, why) in [
            (&[both][..], Control::ECE, 1_001, right, "both asked"),
            (&[none], none, 1_001, wrong, "nobody did"),
            (&[both], none, 1_001, wrong, "the server did not"),
            (&[none], Control::ECE, 1_001, wrong, "the client did not"),
            (&[both, none], Control::ECE, 1_001, wrong, "the client asked, and then did not"),
            (&[both, both], Control::ECE, 1_001, right, "the client asked twice"),
            (&[both], Control::ECE, 1_000, wrong, "from before what is new"),
        ] {
            let mut monitor = Monitor::default();
            for &syn in syns {
                let sent = segment(true, Control::SYN | syn, (1_000, 0), 5, 0);
                assert_eq!(monitor.see(&sent), Ok(()));
            }
            let answer = Control::SYN | Control::ACK | syn_ack;
            assert_eq!(monitor.see(&segment(false, answer, (2_000, 1_001), 9, 0)), Ok(()));
            let mut text = segment(true, Control::ACK, (seq, 2_001), 9, 5);
            text.ecn = ECT_0;
            assert_eq!(monitor.see(&text).map_err(|violation| violation.rule), want, "{why}");
        }
    }

    #[test]
    fn a_window_that_was_offered_once_may_be_used_though_it_shrank() {
        let mut monitor = opened();
        assert_eq!(monitor.see(&segment(false, Control::ACK, (2_001, 1_001), 1, 0)), Ok(()));
        assert_eq!(monitor.see(&segment(true, Control::ACK, (1_001, 2_001), 9, 400)), Ok(()));
    }

    #[test]
    fn after_another_syn_nobody_can_tell() {
        let mut monitor = opened();
        assert_eq!(monitor.see(&segment(true, Control::SYN, (7_000, 0), 5, 0)), Ok(()));
        assert_eq!(monitor.see(&segment(true, Control::ACK, (1_001, 9_999), 9, 9_999)), Ok(()));
    }
}
