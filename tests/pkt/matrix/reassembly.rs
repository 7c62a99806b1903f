//! Text in every order and with every overlap: what is acknowledged, delivered and reported after each segment.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use ringroad::wire::Control;

use crate::host::{Phase, Told, peer_octet};
use crate::run::Run;
use crate::script::{Script, parse};
use crate::scripts::files;
use crate::wire::{Packet, Version};

/// Text begins here, so that it lies across the wrap of sequence numbers.
const ISN: u32 = u32::MAX - 20;
/// Octets of one unit, of which all segments consist.
const UNIT: u32 = 9;

/// A connection that uses SACK and no timestamps, and acknowledges without delay.
fn established() -> Script {
    const OPEN: &str = "# A cell\n# RFC 9293 §3.4\ninclude reach/listen
        < SYN seq 0 mss 1000 sackok\n> SYN,ACK seq 0 ack 1 mss full sackok
        < ACK seq 1 ack 1\ntold accept\n";
    let mut files = files();
    files.insert("cell.pkt".to_owned(), OPEN.to_owned());
    let mut script = parse("cell.pkt", &files).unwrap_or_else(|fault| panic!("{fault}"));
    script.setup.tcp.delayed_ack = Duration::ZERO;
    script
}

/// The receiver as a set of units: as slow and as simple as can be.
#[derive(Default)]
struct Model {
    received: BTreeSet<u32>,
    /// One past the last unit, once the FIN that stands there was seen.
    fin: Option<u32>,
}

impl Model {
    /// Units received in order.
    fn in_order(&self) -> u32 {
        (0..).find(|unit| !self.received.contains(unit)).expect("there is an end")
    }

    /// The first stretch of `units` that was received before (RFC 2883 §4).
    fn duplicate(&self, units: &Range<u32>) -> Option<Range<u32>> {
        let start = units.clone().find(|unit| self.received.contains(unit))?;
        let end = (start..units.end).find(|unit| !self.received.contains(unit)).unwrap_or(units.end);
        Some(start..end)
    }

    fn is_finished(&self) -> bool {
        self.fin == Some(self.in_order())
    }

    /// The stretches beyond a gap, in their order.
    fn stretches(&self) -> Vec<Range<u32>> {
        let mut out: Vec<Range<u32>> = Vec::new();
        for &unit in self.received.range(self.in_order()..) {
            match out.last_mut() {
                Some(last) if last.end == unit => last.end = unit + 1,
                _ => out.push(unit..unit + 1),
            }
        }
        out
    }
}

fn at(unit: u32) -> u32 {
    ISN.wrapping_add(1 + unit * UNIT)
}

fn segment(version: Version, iss: u32, units: &Range<u32>, fin: bool) -> Packet {
    let seq = at(units.start);
    let len = (units.end - units.start) * UNIT;
    Packet {
        ctl: if fin { Control::ACK | Control::FIN } else { Control::ACK },
        seq,
        ack: iss.wrapping_add(1),
        text: (0..len).map(|octet| peer_octet(seq.wrapping_add(octet))).collect(),
        ..Packet::of_peer(version)
    }
}

/// The SACK blocks of a segment, in units.
fn blocks(packet: &Packet) -> Vec<Range<u32>> {
    let unit = |octets: &[u8]| {
        let edge = u32::from_be_bytes(octets.try_into().expect("four octets"));
        edge.wrapping_sub(at(0)) / UNIT
    };
    let blocks = packet.option(5).unwrap_or_default().chunks_exact(8);
    blocks.map(|block| unit(&block[..4])..unit(&block[4..])).collect()
}

/// Lets `arrivals` arrive one by one; the FIN stands behind the last unit of all, if `fin` says so.
fn check(script: &Script, version: Version, arrivals: &[Range<u32>], fin: bool) {
    let mut run = Run::reach(script, version, ISN).unwrap_or_else(|failure| panic!("{failure}"));
    run.take();
    let iss = run.iss.expect("established");
    let last = arrivals.iter().map(|units| units.end).max().expect("some");
    let mut model = Model::default();
    for (nth, units) in arrivals.iter().enumerate() {
        let what = format!("{arrivals:?}, number {nth} ({version})");
        let before = model.in_order();
        let had_fin = model.is_finished();
        let has_fin = fin && units.end == last;
        let duplicate = model.duplicate(units);
        model.received.extend(units.clone());
        model.fin = model.fin.or(has_fin.then_some(last));
        run.host.arrive(&[segment(version, iss, units, has_fin).frame()]);

        let (sent, told) = run.take();
        let [ack] = &sent[..] else { panic!("{what}: one acknowledgment each, not {sent:?}") };
        let in_order = model.in_order();
        let finished = model.is_finished();
        assert_eq!(ack.ctl, Control::ACK, "{what}");
        assert_eq!(ack.ack, at(in_order).wrapping_add(u32::from(finished)), "{what}");
        let text: Vec<u8> =
            (before * UNIT..in_order * UNIT).map(|octet| peer_octet(at(0).wrapping_add(octet))).collect();
        let mut expected = Vec::new();
        if !text.is_empty() {
            expected.push(Told::Data(text));
        }
        if finished && !had_fin {
            expected.push(Told::Fin);
        }
        assert_eq!(told, expected, "{what}");

        // RFC 2883 §4: first what was received twice. RFC 2018 §4: then the block that has the segment, then the others.
        let mut blocks = blocks(ack);
        if duplicate.is_some() {
            assert_eq!(blocks.first(), duplicate.as_ref(), "{what}");
            blocks.remove(0);
        }
        let stretches = model.stretches();
        let has = |block: &Range<u32>| block.start <= units.start && units.end <= block.end;
        if let Some(newest) = stretches.iter().find(|stretch| has(stretch)) {
            assert_eq!(blocks.first(), Some(newest), "{what}");
        }
        let mut sorted = blocks;
        sorted.sort_by_key(|block| block.start);
        assert_eq!(sorted, stretches, "{what}");
    }
    let phase = if model.is_finished() { Phase::CloseWait } else { Phase::Established };
    assert_eq!(run.host.phase(), phase, "{arrivals:?}");
}

/// Every order of `left`, behind what is there.
fn permutations(there: &mut Vec<u32>, left: &mut Vec<u32>, visit: &mut impl FnMut(&[u32])) {
    if left.is_empty() {
        visit(there);
    }
    for nth in 0..left.len() {
        let next = left.remove(nth);
        there.push(next);
        permutations(there, left, visit);
        there.pop();
        left.insert(nth, next);
    }
}

#[test]
fn five_segments_arrive_in_every_order() {
    let script = established();
    let mut orders = 0;
    permutations(&mut Vec::new(), &mut (0..5).collect(), &mut |order| {
        let arrivals: Vec<Range<u32>> = order.iter().map(|&unit| unit..unit + 1).collect();
        for version in Version::BOTH {
            for fin in [false, true] {
                check(&script, version, &arrivals, fin);
            }
        }
        orders += 1;
    });
    assert_eq!(orders, 120);
}

/// All stretches of at least one unit within `units` units.
fn stretches(units: u32) -> Vec<Range<u32>> {
    (0..units).flat_map(|start| (start + 1..=units).map(move |end| start..end)).collect()
}

#[test]
fn two_segments_overlap_in_every_way() {
    let script = established();
    let all = stretches(6);
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        for version in Version::BOTH {
            for fin in [false, true] {
                check(&script, version, &[a.clone(), b.clone()], fin);
            }
        }
    }
    assert_eq!(all.len(), 21);
}

#[test]
fn three_segments_overlap_in_every_way() {
    let script = established();
    let all = stretches(5);
    for (a, b) in all.iter().flat_map(|a| all.iter().map(move |b| (a, b))) {
        for c in &all {
            for version in Version::BOTH {
                check(&script, version, &[a.clone(), b.clone(), c.clone()], false);
            }
        }
    }
    assert_eq!(all.len(), 15);
}
