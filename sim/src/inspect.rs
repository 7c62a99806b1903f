//! The rules for whole engines and for what they send: frames, records, and what is left at the end.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use ringroad::base::{Counter, Counters};
use ringroad::io::sim::Traffic;
use ringroad::stack::Engine;
use ringroad::wire::{Control, ECT_0, Mac, ethernet};

use crate::rule::{Rule, Violation, check};
use crate::segment::Crafted;

/// What one engine and its application say of themselves.
#[derive(Clone, Copy, Debug)]
pub struct Sums<'a> {
    pub counters: &'a Counters,
    /// Connections, half-open ones, TIME-WAIT records.
    pub flows: u64,
    pub half_open: u64,
    pub time_wait: u64,
    /// Frames given to the engine and taken from it.
    pub frames: (u64, u64),
    /// What the application knows: connections that are not over, all that were accepted, octets.
    pub live: u64,
    pub accepted: u64,
    pub said: u64,
    pub heard: u64,
    /// Connections may wait until the application accepts them.
    pub may_wait: bool,
}

impl Sums<'_> {
    /// No frame, connection, record or octet has come from nowhere or vanished.
    pub fn check(&self) -> Result<(), Violation> {
        let counted = |counter| self.counters.get(counter);
        let frames = (counted(Counter::FramesIn), counted(Counter::FramesOut));
        check(Rule::Frames, frames == self.frames, || format!("the engine counted {frames:?}: {self:?}"))?;
        self.check_time_wait()?;
        self.check_flows()?;
        let text = (counted(Counter::TextOut), counted(Counter::TextIn));
        let conserved = text.0 <= self.said && self.heard <= text.1;
        check(Rule::Records, conserved, || format!("octets sent and received: {text:?}: {self:?}"))
    }

    /// Each record that was made ended in one way, or is there.
    fn check_time_wait(&self) -> Result<(), Violation> {
        let ends = [
            Counter::TimeWaitEvicted,
            Counter::TimeWaitExpired,
            Counter::TimeWaitReusedActively,
            Counter::TimeWaitReusedAfterReset,
            Counter::TimeWaitReusedBySequence,
            Counter::TimeWaitReusedByTimestamp,
        ];
        let ended: u64 = ends.iter().map(|&counter| self.counters.get(counter)).sum();
        let created = self.counters.get(Counter::TimeWaitCreated);
        let conserved = created == ended + self.time_wait;
        check(Rule::Records, conserved, || format!("TIME-WAIT: {created} made, {ended} ended: {self:?}"))
    }

    /// Each connection was opened, or was half-open before; and the application knows of it.
    fn check_flows(&self) -> Result<(), Violation> {
        let counted = |counter| self.counters.get(counter);
        let ever = counted(Counter::Closed) + self.flows;
        let passive = ever.checked_sub(counted(Counter::ActiveOpens));
        let was_half_open = |n| n + self.half_open <= counted(Counter::PassiveOpens);
        let possible = passive.is_some_and(|n| self.accepted <= n && was_half_open(n));
        check(Rule::Records, possible, || format!("connections from nowhere, {ever} ever: {self:?}"))?;
        let known = if self.may_wait { self.live <= self.flows } else { self.live == self.flows };
        check(Rule::Records, known, || format!("connections that nobody knows: {self:?}"))
    }
}

/// Every frame that was sent is delivered, lost, or on its way.
pub fn check_traffic(traffic: &Traffic) -> Result<(), Violation> {
    check(Rule::Frames, traffic.is_conserved(), || format!("{traffic:?}"))
}

/// An engine sent this frame, from a host with this link address, these addresses and this MTU; returns the
/// segment.
pub fn check_frame(frame: &[u8], mac: Mac, addresses: &[IpAddr], mtu: u16) -> Result<Crafted, Violation> {
    let fits = frame.len() <= usize::from(mtu) + ethernet::HEADER_LEN;
    check(Rule::Wire, fits, || format!("{} octets, and an MTU of {mtu}", frame.len()))?;
    let sent = Crafted::parse(frame)
        .map_err(|why| Violation { rule: Rule::Wire, what: format!("{why}: {frame:02x?}") })?;
    let own = sent.from == mac && addresses.contains(&sent.addrs.remote());
    check(Rule::Wire, own, || format!("from somebody else: {sent:?}"))?;
    let ctl = sent.fields.ctl;
    let controls = [Control::SYN, Control::FIN, Control::RST];
    let many = controls.iter().filter(|&&bit| ctl.contains(bit)).count() > 1;
    let bare = !ctl.intersects(Control::SYN | Control::RST | Control::ACK);
    let idle_text = ctl.intersects(Control::SYN | Control::RST) && !sent.text.is_empty();
    let makes_sense = !many && !bare && !idle_text;
    check(Rule::Wire, makes_sense, || format!("no TCP sends that: {sent:?}"))?;
    // RFC 3168 §6.1.4: neither SYN nor RST nor ACK without text; and only routers mark.
    let may_be_capable = !sent.text.is_empty() && sent.ecn == ECT_0;
    check(Rule::Ecn, sent.ecn == 0 || may_be_capable, || format!("not to be ECN-capable: {sent:?}"))?;
    Ok(sent)
}

/// Nothing is left in an engine that has come to rest.
pub fn check_empty(host: usize, engine: &Engine) -> Result<(), Violation> {
    let left = [engine.flow_count(), engine.half_open_count(), engine.time_wait_count(), engine.busy_count()];
    let chunks = engine.chunks_in_use();
    let is_empty = left == [0; 4] && chunks == (0, 0) && engine.probe_histogram() == [0; 16];
    check(Rule::Leak, is_empty, || {
        format!("host {host}: connections, half-open, TIME-WAIT, attached: {left:?}; chunks: {chunks:?}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::{addresses, mac};
    use crate::segment::tests::example;

    fn rule<T>(result: Result<T, Violation>) -> Option<Rule> {
        result.err().map(|violation| violation.rule)
    }

    #[test]
    fn sums_that_do_not_add_up_are_found() {
        let mut counters = Counters::new();
        counters.add_n(Counter::FramesIn, 3);
        counters.add_n(Counter::FramesOut, 4);
        counters.add_n(Counter::TimeWaitCreated, 5);
        counters.add_n(Counter::TimeWaitExpired, 2);
        counters.add_n(Counter::ActiveOpens, 6);
        counters.add_n(Counter::PassiveOpens, 3);
        counters.add_n(Counter::Closed, 7);
        counters.add_n(Counter::TextIn, 10);
        counters.add_n(Counter::TextOut, 20);
        let right = Sums {
            counters: &counters,
            flows: 1,
            half_open: 1,
            time_wait: 3,
            frames: (3, 4),
            live: 1,
            accepted: 2,
            said: 20,
            heard: 10,
            may_wait: false,
        };
        let records = Some(Rule::Records);
        for (sums, want, why) in [
            (right, None, "all is right"),
            (Sums { frames: (2, 4), ..right }, Some(Rule::Frames), "a frame was counted that never came"),
            (Sums { frames: (3, 5), ..right }, Some(Rule::Frames), "a frame was sent and not counted"),
            (Sums { time_wait: 2, ..right }, records, "a record vanished"),
            (Sums { time_wait: 4, ..right }, records, "a record from nowhere"),
            (Sums { flows: 0, live: 0, ..right }, records, "fewer connections than were accepted"),
            (Sums { half_open: 2, ..right }, records, "more than were ever half-open"),
            (Sums { live: 0, ..right }, records, "a connection that nobody knows"),
            (Sums { live: 0, may_wait: true, ..right }, None, "it waits to be accepted"),
            (Sums { live: 2, may_wait: true, ..right }, records, "one that exists for its user only"),
            (Sums { said: 19, ..right }, records, "more text sent than was given"),
            (Sums { heard: 11, ..right }, records, "more text delivered than was received"),
        ] {
            assert_eq!(rule(sums.check()), want, "{why}");
        }
    }

    #[test]
    fn traffic_that_does_not_add_up_is_found() {
        let right = Traffic { sent: 5, delivered: 3, lost: 1, in_flight: 1, ..Traffic::default() };
        assert_eq!(rule(check_traffic(&right)), None);
        assert_eq!(rule(check_traffic(&Traffic { lost: 0, ..right })), Some(Rule::Frames), "one vanished");
        assert_eq!(
            rule(check_traffic(&Traffic { delivered: 4, ..right })),
            Some(Rule::Frames),
            "one too many"
        );
    }

    #[test]
    fn frames_that_no_engine_should_send_are_found() {
        let check = |frame: &[u8]| rule(check_frame(frame, mac(0), &addresses(0), 1_280));
        for v6 in [false, true] {
            let right = example(v6);
            assert_eq!(check(&right.frame()), None);
            let wire = Some(Rule::Wire);
            let with = |change: fn(&mut crate::segment::Crafted)| {
                let mut changed = right.clone();
                change(&mut changed);
                changed.frame()
            };
            assert_eq!(check(&with(|segment| segment.text = vec![0; 1_300])), wire, "too long");
            assert_eq!(check(&with(|segment| segment.from = mac(1))), wire, "another's link address");
            assert_eq!(check(&with(|segment| segment.fields.ctl = Control::PSH)), wire, "without ACK");
            assert_eq!(check(&with(|segment| segment.fields.ctl |= Control::RST)), wire, "RST with text");
            let ecn = Some(Rule::Ecn);
            assert_eq!(check(&with(|segment| segment.ecn = 3)), ecn, "marked by its sender");
            assert_eq!(check(&with(|segment| segment.ecn = 1)), ecn, "ECT(1) is for others");
            assert_eq!(check(&with(|segment| segment.text.clear())), ecn, "an ACK that may be marked");
            let both = with(|segment| {
                segment.fields.ctl = Control::SYN | Control::FIN;
                segment.text.clear();
            });
            assert_eq!(check(&both), wire, "SYN and FIN");
            let mut damaged = right.frame();
            damaged[50] ^= 1;
            assert_eq!(check(&damaged), wire, "a wrong checksum");
        }
        let of_another = rule(check_frame(&example(false).frame(), mac(0), &addresses(1), 1_280));
        assert_eq!(of_another, Some(Rule::Wire), "another's address");
    }
}
