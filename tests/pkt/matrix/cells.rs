//! Every state x every kind of segment x both edges of the window x every kind of acknowledgment.

use std::time::Duration;

use ringroad::wire::Control;

use super::model::{Before, News, Outcome, Reply, Seg, arrives};
use crate::host::{Phase, Told, peer_octet};
use crate::run::Run;
use crate::script::{Script, parse};
use crate::scripts::files;
use crate::wire::{Packet, Version};

/// Octets of receive window: so few that no field is scaled.
const WINDOW: u32 = 1_000;
/// The peer's window, always.
const PEER_WINDOW: u16 = 65_535;
/// The window lies across the wrap of sequence numbers.
const ISN: u32 = u32::MAX - 500;

/// How each state is reached. A cell of a closed window begins with the window full.
const REACH: [(&str, Phase, &str); 16] = [
    ("CLOSED", Phase::Closed, "include reach/closed"),
    ("LISTEN", Phase::Listen, "include reach/listen"),
    ("SYN-SENT", Phase::SynSent, "include reach/syn-sent"),
    ("SYN-RECEIVED", Phase::SynReceived, "include reach/syn-received"),
    ("SYN-RECEIVED (active)", Phase::SynReceived, "include reach/syn-received-active"),
    ("ESTABLISHED", Phase::Established, "include reach/established"),
    ("ESTABLISHED (active)", Phase::Established, "include reach/established-active"),
    ("FIN-WAIT-1", Phase::FinWait1, "include reach/fin-wait-1"),
    ("FIN-WAIT-2", Phase::FinWait2, "include reach/fin-wait-2"),
    ("CLOSE-WAIT", Phase::CloseWait, "include reach/close-wait"),
    ("CLOSING", Phase::Closing, "include reach/closing"),
    ("LAST-ACK", Phase::LastAck, "include reach/last-ack"),
    ("TIME-WAIT", Phase::TimeWait, "include reach/time-wait"),
    ("ESTABLISHED (closed window)", Phase::Established, "include reach/zero-window"),
    (
        "FIN-WAIT-1 (closed window)",
        Phase::FinWait1,
        "include reach/zero-window\ncall shutdown\n> FIN,ACK seq 1 ack 1001",
    ),
    (
        "FIN-WAIT-2 (closed window)",
        Phase::FinWait2,
        "include reach/zero-window\ncall shutdown\n> FIN,ACK seq 1 ack 1001\n< ACK seq 1001 ack 2",
    ),
];

/// The script that leads to a state, with the settings of the matrix.
fn reach(statements: &str) -> Script {
    let mut files = files();
    files.insert("cell.pkt".to_owned(), format!("# A cell\n# RFC 9293 §3.10.7\n{statements}\n"));
    let mut script = parse("cell.pkt", &files).unwrap_or_else(|fault| panic!("{fault}"));
    script.setup.options.recv_buffer = WINDOW;
    script.setup.tcp.delayed_ack = Duration::ZERO;
    script
}

/// The states with a script for each.
pub fn states() -> impl Iterator<Item = (&'static str, Phase, Script)> {
    REACH.into_iter().map(|(name, phase, statements)| (name, phase, reach(statements)))
}

/// The kinds of segments: name, control bits, octets of text, urgent pointer.
fn kinds() -> [(&'static str, Control, u32, u16); 13] {
    use Control as C;
    [
        ("SYN", C::SYN, 0, 0),
        ("SYN-ACK", C::SYN | C::ACK, 0, 0),
        ("ACK", C::ACK, 0, 0),
        ("FIN", C::FIN, 0, 0),
        ("FIN-ACK", C::FIN | C::ACK, 0, 0),
        ("RST", C::RST, 0, 0),
        ("RST-ACK", C::RST | C::ACK, 0, 0),
        ("SYN-FIN", C::SYN | C::FIN, 0, 0),
        ("data", C::ACK | C::PSH, 10, 0),
        ("data that overlaps both edges", C::ACK, WINDOW + 10, 0),
        ("data and FIN", C::FIN | C::ACK, 10, 0),
        ("URG", C::URG | C::ACK, 0, 10),
        ("nothing", C::EMPTY, 0, 0),
    ]
}

/// One octet left of each edge, at it, and right of it.
fn sequence_numbers(before: &Before) -> [(&'static str, u32); 6] {
    let left = before.rcv_nxt;
    let right = left.wrapping_add(before.rcv_wnd);
    [
        ("left of the left edge", left.wrapping_sub(1)),
        ("at the left edge", left),
        ("right of the left edge", left.wrapping_add(1)),
        ("left of the right edge", right.wrapping_sub(1)),
        ("at the right edge", right),
        ("right of the right edge", right.wrapping_add(1)),
    ]
}

/// Every kind of acknowledgment; those that are the same in this state once.
fn acknowledgments(before: &Before, ctl: Control) -> Vec<(&'static str, u32)> {
    let oldest = before.una.wrapping_sub(before.max_wnd);
    let mut acks = vec![
        ("of SND.NXT", before.nxt),
        ("of SND.UNA", before.una),
        ("of what was never sent", before.nxt.wrapping_add(1)),
        ("as old as may be", oldest),
        ("older than any window", oldest.wrapping_sub(1)),
    ];
    acks.dedup_by_key(|(_, ack)| *ack);
    if ctl.contains(Control::ACK) { acks } else { vec![("none", 0)] }
}

/// The variables as the peer knows them from the wire.
pub fn before(run: &Run, phase: Phase, name: &str) -> Before {
    let nxt = run.wire.snd_nxt;
    let unacknowledged = matches!(
        phase,
        Phase::SynSent | Phase::SynReceived | Phase::FinWait1 | Phase::Closing | Phase::LastAck
    );
    let known = !matches!(phase, Phase::Closed | Phase::Listen | Phase::SynSent);
    let active = name.contains("active") || phase == Phase::SynSent;
    let rcv_nxt = if known { run.wire.rcv_nxt } else { run.isn.wrapping_add(1) };
    Before {
        phase,
        active,
        listening: !active && phase != Phase::Closed,
        iss: run.iss.unwrap_or(0),
        una: nxt.wrapping_sub(u32::from(unacknowledged)),
        nxt,
        max_wnd: PEER_WINDOW.into(),
        irs: run.isn,
        rcv_nxt,
        rcv_wnd: if known { run.wire.edge.wrapping_sub(rcv_nxt) } else { WINDOW },
        recent: run.wire.echo,
    }
}

fn packet(version: Version, seg: &Seg) -> Packet {
    let first = seg.seq.wrapping_add(u32::from(seg.ctl.contains(Control::SYN)));
    Packet {
        ctl: seg.ctl,
        seq: seg.seq,
        ack: seg.ack,
        urg: seg.up,
        wnd: PEER_WINDOW,
        options: seg.stamp.map_or(Vec::new(), timestamps),
        text: (0..seg.text).map(|at| peer_octet(first.wrapping_add(at))).collect(),
        ..Packet::of_peer(version)
    }
}

/// The timestamps option, which echoes nothing.
fn timestamps(val: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &val.to_be_bytes(), &[0; 4]].concat()
}

/// What the engine did, in the model's terms; `None` for what the model has no word for.
fn observed(run: &mut Run, wanted: &Outcome) -> Option<Outcome> {
    let (sent, told) = run.take();
    let mut replies = Vec::new();
    for (nth, packet) in sent.iter().enumerate() {
        let Packet { seq, ack, .. } = *packet;
        let wanted = wanted.replies.get(nth).copied();
        let empty = packet.text.is_empty() && packet.intact;
        replies.push(match (packet.ctl, wanted) {
            _ if !empty => return None,
            (ctl, _) if ctl == Control::ACK => Reply::Ack { seq, ack },
            (ctl, _) if ctl == Control::RST && ack == 0 => Reply::Rst { seq },
            (ctl, _) if ctl == Control::RST | Control::ACK && seq == 0 => Reply::RstAck { ack },
            (ctl, Some(Reply::NewSynAck { beyond, .. })) if ctl == Control::SYN | Control::ACK => {
                let far = |(from, reach): (u32, u32)| (reach..1 << 31).contains(&seq.wrapping_sub(from));
                if beyond.is_none_or(far) { Reply::NewSynAck { beyond, ack } } else { return None }
            }
            (ctl, _) if ctl == Control::SYN | Control::ACK => Reply::SynAck { seq, ack },
            _ => return None,
        });
    }
    let mut news = Vec::new();
    for told in told {
        news.push(match told {
            Told::Accept | Told::Connect => News::Opened,
            Told::Data(text) => News::Text(u32::try_from(text.len()).ok()?),
            Told::Fin => News::Fin,
            Told::Report(report) => News::of_report(report)?,
            Told::Close(why) => News::of_reason(why)?,
            _ => return None,
        });
    }
    // In which order the user learns of it is not the RFC's concern.
    news.sort_unstable();
    let echo = sent.first().and_then(Packet::timestamps).map(|(_, ecr)| ecr);
    Some(Outcome { replies, echo, phase: run.host.phase(), news })
}

/// One cell; what is wrong with it.
fn cell(script: &Script, version: Version, before: &Before, seg: &Seg) -> Result<(), String> {
    let mut wanted = arrives(before, seg);
    wanted.news.sort_unstable();
    let mut run = Run::reach(script, version, ISN).unwrap_or_else(|failure| panic!("{failure}"));
    run.take();
    let packet = packet(version, seg);
    let known = run.trace().len();
    run.host.arrive(&[packet.frame()]);
    let got = observed(&mut run, &wanted);
    if got.as_ref() == Some(&wanted) {
        return Ok(());
    }
    let came = run.trace()[known..].join("; ");
    Err(format!("{}\n    wanted {wanted:?}\n    came   {got:?}\n    {came}", run.describe(&packet, false)))
}

/// How each state is reached on a connection with timestamps.
const REACH_STAMPED: [(&str, Phase, &str); 8] = [
    ("SYN-RECEIVED", Phase::SynReceived, SYN),
    ("ESTABLISHED", Phase::Established, ""),
    ("FIN-WAIT-1", Phase::FinWait1, SHUT_DOWN),
    (
        "FIN-WAIT-2",
        Phase::FinWait2,
        "call shutdown\n> FIN,ACK seq 1 ack 1 ts * 1010\n< ACK seq 1 ack 2 ts 1010 0",
    ),
    ("CLOSE-WAIT", Phase::CloseWait, FIN),
    (
        "CLOSING",
        Phase::Closing,
        "call shutdown\n> FIN,ACK seq 1 ack 1 ts * 1010
        < FIN,ACK seq 1 ack 1 ts 1010 0\n> ACK seq 2 ack 2 ts * 1010\ntold fin",
    ),
    (
        "LAST-ACK",
        Phase::LastAck,
        "< FIN,ACK seq 1 ack 1 ts 1010 0\n> ACK seq 1 ack 2 ts * 1010\ntold fin
        call shutdown\n> FIN,ACK seq 1 ack 2 ts * 1010",
    ),
    (
        "TIME-WAIT",
        Phase::TimeWait,
        "call shutdown\n> FIN,ACK seq 1 ack 1 ts * 1010
        < FIN,ACK seq 1 ack 2 ts 1010 0\n> ACK seq 2 ack 2 ts * 1010\ntold fin\ntold close finished",
    ),
];
const SYN: &str = "call listen\n< SYN seq 0 mss 1000 ts 1010 0\n> SYN,ACK seq 0 ack 1 mss full ts 0 1010";
const SHUT_DOWN: &str = "call shutdown\n> FIN,ACK seq 1 ack 1 ts * 1010";
const FIN: &str = "< FIN,ACK seq 1 ack 1 ts 1010 0\n> ACK seq 1 ack 2 ts * 1010\ntold fin";

/// TS.Recent, its neighbours, half a circle away, and none.
fn stamps(recent: u32) -> [(&'static str, Option<u32>); 6] {
    [
        ("none", None),
        ("older", Some(recent - 1)),
        ("equal", Some(recent)),
        ("newer", Some(recent + 1)),
        ("as new as can be", Some(recent + (i32::MAX as u32))),
        ("as old as can be", Some(recent + (i32::MAX as u32) + 2)),
    ]
}

#[test]
fn every_segment_in_every_state_with_every_timestamp_has_the_outcome_of_the_rfcs() {
    let (mut cells, mut wrong) = (0, Vec::new());
    for (name, phase, statements) in REACH_STAMPED {
        let begun =
            if phase == Phase::SynReceived { "" } else { "\n< ACK seq 1 ack 1 ts 1010 0\ntold accept\n" };
        let opened = if phase == Phase::SynReceived { "" } else { SYN };
        let script = reach(&format!("{opened}{begun}{statements}"));
        for version in Version::BOTH {
            let run = Run::reach(&script, version, ISN).unwrap_or_else(|failure| panic!("{failure}"));
            let before = before(&run, phase, name);
            let recent = before.recent.expect("timestamps were agreed on");
            for (kind, ctl, text, up) in kinds() {
                for (place, seq) in sequence_numbers(&before) {
                    for (age, stamp) in stamps(recent) {
                        for ack in [before.nxt, before.nxt.wrapping_add(1)] {
                            let ack = if ctl.contains(Control::ACK) { ack } else { 0 };
                            cells += 1;
                            let seg = Seg { ctl, seq, ack, text, up, stamp };
                            if let Err(what) = cell(&script, version, &before, &seg) {
                                wrong.push(format!(
                                    "{name}, {kind} {place}, timestamp {age} ({version}): {what}"
                                ));
                            }
                        }
                    }
                }
            }
        }
    }
    let shown = wrong.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {cells} cells are wrong:\n{shown}", wrong.len());
    assert!(cells > 10_000, "{cells} cells");
}

#[test]
fn every_segment_in_every_state_at_every_edge_has_the_outcome_of_the_rfc() {
    let (mut cells, mut wrong) = (0, Vec::new());
    for (name, phase, script) in states() {
        for version in Version::BOTH {
            let run = Run::reach(&script, version, ISN).unwrap_or_else(|failure| panic!("{failure}"));
            let before = before(&run, phase, name);
            for (kind, ctl, text, up) in kinds() {
                for (place, seq) in sequence_numbers(&before) {
                    for (acked, ack) in acknowledgments(&before, ctl) {
                        cells += 1;
                        let seg = Seg { ctl, seq, ack, text, up, stamp: None };
                        if let Err(what) = cell(&script, version, &before, &seg) {
                            wrong.push(format!("{name}, {kind} {place}, ack {acked} ({version}): {what}"));
                        }
                    }
                }
            }
        }
    }
    println!("{cells} cells");
    assert!(cells >= 1_000, "{cells} cells");
    let shown = wrong.iter().take(40).map(String::as_str).collect::<Vec<_>>().join("\n");
    assert!(wrong.is_empty(), "{} of {cells} cells are wrong:\n{shown}", wrong.len());
}
