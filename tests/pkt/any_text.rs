//! Scripts of any text: each is refused with its line or can be run, and fails with its line or does what it says.

use super::run::Run;
use super::script::{Fault, Files, parse};
use super::wire::Version;

/// The head that a text without one is given, so that its statements are looked at.
const HEAD: &str = "# A behaviour\n# RFC 9293 §3.6\n";
/// Between the text of the script and that of another, `y`.
const PARTS: char = '\x0c';

macro_rules! reach {
    ($($name:literal),*) => {
        [$((concat!("reach/", $name, ".pkt"), include_str!(concat!("reach/", $name, ".pkt")))),*]
    };
}

/// What a script may include.
const REACH: [(&str, &str); 15] = reach!(
    "close-wait",
    "closed",
    "closing",
    "established",
    "established-active",
    "established-stamped",
    "fin-wait-1",
    "fin-wait-2",
    "last-ack",
    "listen",
    "syn-received",
    "syn-received-active",
    "syn-sent",
    "time-wait",
    "zero-window"
);

/// # Panics
///
/// Where a text makes the reader or the runner panic, or where what they complain of is not in the text.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut files: Files = REACH.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect();
    for (name, part) in ["x.pkt", "y.pkt"].iter().zip(text.split(PARTS)) {
        let head = if part.starts_with('#') { "" } else { HEAD };
        files.insert((*name).to_owned(), format!("{head}{part}"));
    }
    let script = match parse("x.pkt", &files) {
        Ok(script) => script,
        Err(fault) => {
            is_in_its_line(&fault, &mut files);
            return;
        }
    };
    for version in Version::BOTH.into_iter().filter(|version| script.only.is_none_or(|only| only == *version))
    {
        if let Err(failure) = Run::script(&script, version, u32::MAX - 2) {
            let place = &failure.place;
            let line = place.line.checked_sub(1).and_then(|at| files[&place.file].lines().nth(at));
            assert!(line.is_some(), "{failure}");
        }
    }
}

/// What comes after the line that is at fault changes nothing.
fn is_in_its_line(fault: &Fault, files: &mut Files) {
    let text = files.get_mut(&fault.place.file).expect("a fault is in a file that was read");
    // Whoever gives no reason for a behaviour is told so in the second line, where it belongs.
    assert!((1..=text.lines().count().max(2)).contains(&fault.place.line), "{fault}: no such line");
    *text = text.lines().take(fault.place.line).flat_map(|line| [line, "\n"]).collect();
    assert_eq!(&parse("x.pkt", files).expect_err("the line is still there"), fault);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check;
    use crate::corpus::replay;

    /// What scripts are made from.
    const WORDS: [&str; 56] = [
        "\n",
        "\n",
        "\n",
        "\n",
        "\x0c",
        "#",
        "+1s ",
        "+40ms ",
        "+30s ",
        "+3.5us ",
        "& ",
        "< ",
        "> ",
        "include reach/established",
        "include reach/syn-sent",
        "include reach/zero-window",
        "include y",
        "set mtu ",
        "set recv-buffer ",
        "set send-buffer ",
        "set keep-alive 1s 1s ",
        "set time-wait 0s",
        "set r2 0s",
        "set initial-window ",
        "only ipv4\n",
        "call listen",
        "call connect",
        "call connect to multicast",
        "call send ",
        "call read ",
        "call close",
        "call shutdown",
        "call timer 1s",
        "told data ",
        "told fin",
        "told close finished",
        "state ",
        "quiet",
        "info cwnd ",
        "count rsts_out ",
        "SYN ",
        "SYN,ACK ",
        "ACK ",
        "RST ",
        "FIN,ACK ",
        "seq ",
        "ack ",
        "len ",
        "wnd ",
        "hex 01 ",
        "ip-options 01010101 ",
        "sack 1:9 ",
        "icmp too-big seq 1 mtu ",
        "0 ",
        "1 ",
        "65536 ",
    ];

    #[test]
    fn scripts_of_the_corpus_are_refused_with_a_line_or_run() {
        replay("script", check);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn words_in_any_order_are_refused_with_a_line_or_run(
            words in prop::collection::vec(prop::sample::select(WORDS.as_slice()), 0..30),
        ) {
            check(words.concat().as_bytes());
        }
    }
}
