//! What the language refuses, and what a script that fails shows.

use std::collections::HashMap;

use super::run::{Failure, Run};
use super::script::{
    CLOSE_REASONS, Fault, Files, INFO_FIELDS, PLAIN_CALLS, PLAIN_TELLINGS, Place, Script, parse,
};
use super::scripts::files;
use super::wire::{IcmpKind, Version};

const HEAD: &str = "# A behaviour\n# RFC 9293 §3.6 MUST-12\n";

fn files_with(text: &str) -> Files {
    let mut files = files();
    files.insert("x.pkt".to_owned(), text.to_owned());
    files
}

fn read(text: &str) -> Result<Script, Fault> {
    parse("x.pkt", &files_with(text))
}

/// How `text` fails.
fn failure(text: &str, version: Version) -> Failure {
    let script = read(text).expect("a script");
    let Err(failure) = Run::script(&script, version, 7) else { panic!("nothing is wrong with {text}") };
    *failure
}

#[test]
fn whatever_is_no_script_is_refused_with_its_line() {
    for (statements, line, what) in [
        ("jump\n", 3, "\"jump\" is no statement"),
        ("call listen\n+5ms\n", 4, "a statement is missing"),
        ("+5 call listen\n", 3, "\"5\" is no time: its unit is us, ms, s, min or h"),
        ("+5parsecs quiet\n", 3, "\"5parsecs\" is no time: its unit is us, ms, s, min or h"),
        ("+-5ms quiet\n", 3, "\"-5ms\" is no time"),
        ("+1.2.3s quiet\n", 3, "\"1.2.3s\" is no time"),
        ("+ms quiet\n", 3, "\"ms\" is no time"),
        ("+800h quiet\n", 3, "\"800h\" is longer than a script may wait"),
        ("+99999999999999999999h quiet\n", 3, "\"99999999999999999999h\" is no time"),
        ("+9999999999999999h quiet\n", 3, "\"9999999999999999h\" is no time"),
        ("state OPEN\n", 3, "\"OPEN\" is not a state"),
        ("state\n", 3, "a state is missing"),
        ("state LISTEN now\n", 3, "\"now\" is one word too many"),
        ("call jump\n", 3, "\"jump\" is no call"),
        ("call send many\n", 3, "\"many\" is not octets, 0 to 1048576"),
        ("call listen =\n", 3, "an answer is missing"),
        ("call nagle maybe\n", 3, "\"maybe\" is not on or off"),
        ("call connect to mars\n", 3, "\"mars\" is no address with a name"),
        ("told jump\n", 3, "\"jump\" is nothing that anybody is told"),
        ("told close bored\n", 3, "\"bored\" is not a reason"),
        ("told soft-error odd\n", 3, "\"odd\" is not an ICMP error"),
        ("info colour 1\n", 3, "\"colour\" is not a field of STATUS"),
        ("count jumps 1\n", 3, "\"jumps\" is no counter and no drop reason"),
        ("< ACK seq 1\n", 3, "a segment has an ack exactly if it has the control bit ACK"),
        ("< SYN seq 1 ack 1\n", 3, "a segment has an ack exactly if it has the control bit ACK"),
        ("< SYN\n", 3, "a segment has a seq"),
        ("< SIN seq 1\n", 3, "\"SIN\" is no control bit"),
        ("< SYN seq one\n", 3, "\"one\" is not a number"),
        ("< SYN seq 0 wnd 65536\n", 3, "\"65536\" is not a window"),
        ("< SYN seq 0 speed 3\n", 3, "\"speed\" is nothing that a segment has"),
        ("< SYN seq 0 sack 1-2\n", 3, "a SACK block is LEFT:RIGHT"),
        ("< SYN seq 0 sack 1:b\n", 3, "\"b\" is no edge of a block"),
        ("< SYN seq 0 hex 0\n", 3, "\"0\" are no octets"),
        ("< SYN seq 0 hex 0x\n", 3, "\"0x\" are no octets"),
        ("< SYN seq beyond 3\n", 3, "`beyond`, `*` and `ttl` are for what we send"),
        ("< ACK seq 1 ack *\n", 3, "`beyond`, `*` and `ttl` are for what we send"),
        ("> SYN seq 0 corrupt\n", 3, "`from`, `corrupt` and `ip-options` are for what the peer sends"),
        ("> SYN seq 0 options all\n", 3, "\"*\" is missing"),
        ("< icmp rain seq 0\n", 3, "\"rain\" is not an ICMP error"),
        ("< icmp too-big\n", 3, "\"seq\" is missing"),
        ("& < SYN seq 0\n", 3, "& joins a segment to the one that arrives in the line before"),
        ("call listen\n& < SYN seq 0\n", 4, "& joins a segment to the one that arrives in the line before"),
        ("< SYN seq 0 len 65001\n", 3, "\"65001\" is not octets of text, 0 to 65000"),
        (
            "< SYN seq 0 mss 1 sackok ts 0 0 ws 1 sack 1:2 sack 1:2 hex 01\n",
            3,
            "41 octets of options are more than 40",
        ),
        ("< SYN seq 0 ip-options 010101\n", 3, "3 octets of options are no multiple of four up to 40"),
        ("< SYN seq 0 dscp 64\n", 3, "\"64\" is not a code point, 0 to 63"),
        ("call send 1048577\n", 3, "\"1048577\" is not octets, 0 to 1048576"),
        ("set mtu 575\n", 3, "\"575\" is not octets, 576 to 65535"),
        ("set colour red\n", 3, "\"red\" is one word too many"),
        ("set mtu large\n", 3, "\"large\" is not octets, 576 to 65535"),
        ("quiet\nset mtu 1500\n", 4, "this belongs before the first statement"),
        ("quiet\nonly ipv4\n", 4, "this belongs before the first statement"),
        ("only ipv5\n", 3, "\"ipv5\" is not a version"),
        ("include reach/nowhere\n", 3, "there is no script reach/nowhere.pkt"),
        ("include\n", 3, "the name of a script is missing"),
        ("# nothing\n", 3, "nothing happens in it"),
    ] {
        let fault = read(&format!("{HEAD}{statements}")).expect_err(statements);
        let what = if statements.starts_with("set colour") { "\"colour\" is no setting" } else { what };
        let place = Place { file: "x.pkt".to_owned(), line };
        assert_eq!(fault, Fault { place, what: what.to_owned() }, "{statements}");
    }
}

#[test]
fn the_page_about_the_language_knows_its_words_and_shows_a_real_script() {
    let page = include_str!("../../docs/packet-scripts.md");
    let icmp: Vec<&str> = IcmpKind::ALL.iter().map(|(name, _)| *name).collect();
    for word in [&PLAIN_CALLS[..], &PLAIN_TELLINGS, &INFO_FIELDS, &CLOSE_REASONS, &icmp].concat() {
        assert!(page.contains(&format!("`{word}`")), "{word} is not explained");
    }
    let (script, rest) =
        page.split_once("```text\n").and_then(|(_, rest)| rest.split_once("```")).expect("one");
    assert_eq!(files()["send/nagle-lets-full-segments-go.pkt"], script);
    let shown = rest.split_once("```text\n").and_then(|(_, rest)| rest.split_once("```")).expect("another").0;
    let mut files = files();
    let name = "send/nagle-lets-full-segments-go.pkt";
    files.insert(name.to_owned(), script.replace("seq 11 ack 1 len 1000", "seq 11 ack 1 len 500"));
    let script = parse(name, &files).expect("a script");
    let failure = Run::script(&script, Version::V4, 7).expect_err("it claims what is not so");
    assert_eq!(failure.to_string(), shown);
}

#[test]
fn a_script_that_includes_itself_is_refused() {
    let fault = read(&format!("{HEAD}include x\n")).expect_err("without end");
    assert_eq!(fault.to_string(), "tests/pkt/x.pkt:3: x.pkt includes itself");
}

#[test]
fn a_script_without_end_is_refused() {
    let mut files = files_with(&format!("{HEAD}{}", "include y\n".repeat(65)));
    files.insert("y.pkt".to_owned(), format!("{HEAD}{}", "quiet\n".repeat(64)));
    let fault = parse("x.pkt", &files).expect_err("too long").to_string();
    assert_eq!(fault, "tests/pkt/x.pkt:67: a script has 4096 statements at most");
}

#[test]
fn what_a_version_lacks_is_a_failure_of_the_line() {
    for (statement, what) in [
        ("< SYN seq 0 ip-options 01010101\n", "ip-options"),
        ("< icmp source-quench seq 0\n", "SourceQuench about seq 0"),
    ] {
        let failure = failure(&format!("{HEAD}{statement}"), Version::V6);
        assert_eq!((failure.place.line, failure.expected.as_str()), (3, what));
        assert_eq!(failure.came, "what IPv6 does not have: `only` is missing");
    }
}

#[test]
fn a_script_names_its_behaviour_and_where_it_is_required() {
    for (head, line, why) in [
        ("quiet\n", 1, "no comment at all"),
        ("#\n# RFC 9293 §3.6\n", 1, "an empty one"),
        ("# Behaviour\nquiet\n", 2, "no citation"),
        ("# Behaviour\n#\n# RFC 9293 3.6\n", 3, "no section sign"),
        ("# Behaviour\n# RFC 9293 §A\n", 2, "no number"),
        ("# Behaviour\n# RFC x §3\n", 2, "no RFC"),
        ("# Behaviour\n# RFC 9293 §3.6 MUST12\n", 2, "no id"),
        ("# Behaviour\n# RFC 9293 §3.6 WANT-12\n", 2, "no level"),
    ] {
        let fault = read(&format!("{head}quiet\n")).expect_err(why);
        assert_eq!(fault.place.line, line, "{why}: {fault}");
    }
    let script = read("# B\n# RFC 9293 §3.8.3 MUST-20 SHLD-9: Close connection: R2\n# RFC 5961 §3\nquiet\n");
    let script = script.expect("a script");
    assert_eq!(script.behaviour, "B");
    let [first, second] = &script.citations[..] else { panic!("two citations") };
    assert_eq!((first.rfc, first.section.as_str()), (9_293, "3.8.3"));
    assert_eq!(first.ids, ["MUST-20", "SHLD-9"]);
    assert_eq!(first.topic.as_deref(), Some("Close connection: R2"));
    assert_eq!((second.rfc, second.ids.len(), &second.topic), (5_961, 0, &None));
}

#[test]
fn a_failure_shows_line_expectation_and_everything_before_it() {
    let text =
        format!("{HEAD}include reach/syn-received\n+10ms < ACK seq 1 ack 1\ntold accept\nstate LISTEN\n");
    let shown = failure(&text, Version::V6).to_string();
    let mut lines = shown.lines();
    assert_eq!(lines.next(), Some("tests/pkt/x.pkt:6 (IPv6): state LISTEN"));
    assert_eq!(lines.next(), Some("  expected: LISTEN"));
    assert_eq!(lines.next(), Some("  came:     ESTABLISHED"));
    let rest: Vec<&str> = lines.collect();
    assert_eq!(rest.len(), 5, "{shown}");
    assert_eq!(rest[1], "  |     1.000000 < <SYN> seq 0 wnd 65535");
    assert_eq!(rest[3], "  |     1.010000 < <ACK> seq 1 ack 1 wnd 65535");
    assert_eq!(rest[4], "  |     1.010000 * told Accept");
}

#[test]
fn a_failure_in_an_included_script_is_shown_there() {
    let mut files = files_with(&format!("{HEAD}include y\n"));
    files.insert("y.pkt".to_owned(), format!("{HEAD}quiet\nstate LISTEN\n"));
    let script = parse("x.pkt", &files).expect("a script");
    let failure = Run::script(&script, Version::V4, 7).expect_err("nobody listens");
    assert_eq!(failure.place.to_string(), "tests/pkt/y.pkt:4");
    let fault = parse(
        "x.pkt",
        &HashMap::from([
            ("x.pkt".to_owned(), format!("{HEAD}include y\n")),
            ("y.pkt".to_owned(), format!("{HEAD}\njump\n")),
        ]),
    );
    assert_eq!(fault.expect_err("no statement").to_string(), "tests/pkt/y.pkt:4: \"jump\" is no statement");
}

/// Each claim is wrong in one point only, so that no comparison is left out.
#[test]
fn whatever_is_not_as_claimed_is_found() {
    const SYN: &str = "call listen\n< SYN seq 0 mss 1000\n";
    const OPEN: &str = "include reach/established\n";
    const STAMPED: &str = "include reach/established-stamped\n";
    for (before, claim, expected) in [
        (SYN, "> SYN,ACK seq 1 ack 1 mss full", "Relative(1) as seq"),
        (SYN, "> SYN,ACK seq 0 ack 2 mss full", "Relative(2) as ack"),
        (SYN, "> SYN seq 0 mss full", "<SYN>"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss 999", "mss"),
        (SYN, "> SYN,ACK seq 0 ack 1", "mss"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full ws 1", "ws"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full sackok", "sackok"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full ts * *", "ts"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full wnd 1", "wnd"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full ttl 63", "ttl"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full dscp 1", "dscp"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full ect", "10 as ecn"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full len 1", "len 1"),
        (SYN, "> SYN,ACK seq 0 ack 1 mss full to-port 1", "socket"),
        (SYN, "> SYN,ACK seq beyond 1 ack 1 mss full", "at least 1"),
        (SYN, "+1ms > SYN,ACK seq 0 ack 1 mss full", "after 1.000 ms"),
        (SYN, "told accept", "Plain"),
        (SYN, "quiet", "nothing"),
        (SYN, "< RST seq 1", "nothing"),
        (SYN, "call listen", "nothing"),
        (SYN, "+1ms state SYN-RECEIVED", "nothing"),
        (SYN, "count rsts_out 0", "nothing"),
        (OPEN, "+1s > ACK seq 1 ack 1", "<ACK>"),
        (OPEN, "told fin", "Plain(\"fin\")"),
        (OPEN, "call send 5 = 4", "4"),
        (OPEN, "info mss 999", "mss 999"),
        (OPEN, "count rsts_out 1", "rsts_out 1"),
        (OPEN, "< ACK seq 1 ack 1 len 5\ntold data 4", "Data(4)"),
        (OPEN, "< ACK seq 1 ack 1 len 5\ntold data 5\n+41ms > ACK seq 1 ack 6", "after 41.000 ms"),
        (OPEN, "< ACK seq 1 ack 1 len 5\ntold data 5\n+34ms > ACK seq 1 ack 6", "<ACK>"),
        (
            OPEN,
            "< ACK seq 1 ack 1 len 5\ntold data 5\n+40ms > ACK seq 1 ack 6\n+10ms > ACK seq 1 ack 6",
            "<ACK>",
        ),
        (STAMPED, "call send 5\n> ACK,PSH seq 1 ack 1 len 5 ts 10 1009", "ts"),
        (STAMPED, "call send 5\n> ACK,PSH seq 1 ack 1 len 5 ts 11 1010", "ts"),
        (STAMPED, "< ACK seq 9 ack 1 len 5 ts 1010 0\n> ACK seq 1 ack 1 ts * 1010 sack 9:15", "sack"),
    ] {
        for version in Version::BOTH {
            let failure = failure(&format!("{HEAD}{before}{claim}\n"), version);
            assert!(failure.expected.contains(expected), "{claim}: {failure}");
        }
    }
}
