//! ICMP errors in every state, about octets in flight and about others (RFC 9293 §3.9.2.2, RFC 5927).

use ringroad::tcp::{CloseReason, Report};

use super::cells::{before, states};
use super::model::Before;
use crate::host::{Phase, Told};
use crate::run::Run;
use crate::wire::{IcmpKind, Version, icmp};

/// What the user is told, and whether that is the end.
fn wanted(before: &Before, kind: IcmpKind, version: Version, seq: u32) -> (Vec<Told>, Phase) {
    let owns_tcb = match before.phase {
        Phase::Closed | Phase::Listen | Phase::TimeWait => false,
        // A passive open has no user yet whom anybody could tell.
        Phase::SynReceived => before.active,
        _ => true,
    };
    // RFC 5927 §4.1: only an error that quotes an octet in flight can be about a segment of ours.
    let in_flight = seq.wrapping_sub(before.una) < before.nxt.wrapping_sub(before.una);
    let nothing = (Vec::new(), before.phase);
    if !owns_tcb || !in_flight {
        return nothing;
    }
    let (icmp_type, code) = kind.type_and_code(version).expect("only errors that there are");
    match kind {
        // MUST-55; and an MTU that is no smaller says nothing.
        IcmpKind::SourceQuench | IcmpKind::TooBig => nothing,
        // SHLD-26 while opening; later ADR 7: reported, not acted on.
        IcmpKind::PortUnreachable | IcmpKind::ProtocolUnreachable if before.phase == Phase::SynSent => {
            (vec![Told::Close(CloseReason::Refused)], Phase::Closed)
        }
        // SHLD-25, MUST-56.
        _ => (vec![Told::Report(Report::SoftError { icmp_type, code })], before.phase),
    }
}

#[test]
fn icmp_errors_in_every_state_are_told_and_end_nothing_that_is_open() {
    const MTU: u32 = 1_500;
    let mut cells = 0;
    for (name, phase, script) in states() {
        for version in Version::BOTH {
            let reach = || Run::reach(&script, version, 7).unwrap_or_else(|failure| panic!("{failure}"));
            let before = before(&reach(), phase, name);
            for (error, kind) in IcmpKind::ALL {
                let Some(type_and_code) = kind.type_and_code(version) else { continue };
                for seq in [before.una.wrapping_sub(1), before.una, before.nxt, before.nxt.wrapping_add(1)] {
                    let mut run = reach();
                    run.take();
                    run.host.arrive(&[icmp(version, type_and_code, seq, MTU)]);
                    let (sent, told) = run.take();
                    let got = (told, run.host.phase());
                    let what = format!("{name}, {error}, seq {seq} ({version})");
                    assert_eq!(got, wanted(&before, kind, version, seq), "{what}");
                    assert_eq!(sent, [], "{what}");
                    cells += 1;
                }
            }
        }
    }
    assert!(cells > 500, "{cells} cells");
}
