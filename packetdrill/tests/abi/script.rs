//! As much of packetdrill's language as the scripts of this project use.
#![forbid(unsafe_code)]

use super::packet::{ACK, CWR, ECE, FIN, PSH, RST, SYN, URG};

/// A script, with what its comments say of how to run it.
#[derive(Debug)]
pub struct Script {
    /// From a line `// so_flags: ...`.
    pub so_flags: String,
    /// From a line `// ip_version: ipv6`.
    pub v6: bool,
    pub events: Vec<Event>,
}

/// Something that happens, or must happen.
#[derive(Debug)]
pub struct Event {
    pub line: usize,
    pub at: Time,
    /// A call that blocks ends then.
    pub until: Option<Time>,
    pub kind: Kind,
}

/// Microseconds since the script began, or since the event before.
#[derive(Clone, Copy, Debug)]
pub enum Time {
    Absolute(i64),
    Relative(i64),
}

#[derive(Clone, Debug)]
pub enum Kind {
    Inbound(Segment),
    Outbound(Segment),
    Call(Call),
}

/// A segment with numbers relative to both initial ones.
#[derive(Clone, Debug)]
pub struct Segment {
    pub flags: u8,
    pub seq: u32,
    pub len: usize,
    pub ack: Option<u32>,
    pub win: Option<u16>,
    /// `None` where any will do.
    pub options: Option<Vec<TcpOption>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcpOption {
    Nop,
    Eol,
    Mss(u16),
    SackOk,
    Scale(u8),
    Stamps(u32, u32),
    Sack(Vec<(u32, u32)>),
}

/// A call of the application, and what it must give back.
#[derive(Clone, Debug)]
pub struct Call {
    pub name: String,
    pub arguments: Vec<String>,
    pub result: i64,
    pub errno: Option<String>,
}

impl Script {
    pub fn parse(text: &str) -> Self {
        let said = |name: &str| text.lines().find_map(|line| line.strip_prefix(&format!("// {name}: ")));
        let mut events = Vec::new();
        for (line, code) in (1..).zip(text.lines()) {
            let code = code.split("//").next().unwrap_or_default().trim();
            if !code.is_empty() {
                events.push(event(line, code));
            }
        }
        Self {
            so_flags: said("so_flags").unwrap_or_default().trim().to_owned(),
            v6: said("ip_version").is_some_and(|version| version.trim() == "ipv6"),
            events,
        }
    }
}

fn event(line: usize, code: &str) -> Event {
    let (time, rest) = code.split_once(char::is_whitespace).unwrap_or_else(|| panic!("line {line}: {code}"));
    let (at, until) = match time.split_once("...") {
        Some((at, until)) => (at, Some(until)),
        None => (time, None),
    };
    let rest = rest.trim();
    let kind = match rest.split_once(char::is_whitespace) {
        Some(("<", segment)) => Kind::Inbound(self::segment(line, segment)),
        Some((">", segment)) => Kind::Outbound(self::segment(line, segment)),
        _ => Kind::Call(call(line, rest)),
    };
    Event { line, at: self::time(at), until: until.map(self::time), kind }
}

fn time(text: &str) -> Time {
    let micros = |text: &str| {
        let seconds: f64 = text.parse().unwrap_or_else(|_| panic!("a time: {text}"));
        (seconds * 1e6).round() as i64
    };
    text.strip_prefix('+').map_or_else(|| Time::Absolute(micros(text)), |text| Time::Relative(micros(text)))
}

fn number<T: std::str::FromStr>(line: usize, text: Option<&str>) -> T {
    let parsed = text.and_then(|text| text.trim().parse().ok());
    parsed.unwrap_or_else(|| panic!("line {line}: a number: {text:?}"))
}

fn segment(line: usize, text: &str) -> Segment {
    let (text, options) = match text.split_once('<') {
        Some((text, options)) => (text, options.trim_end().trim_end_matches('>')),
        None => (text, ""),
    };
    let mut words = text.split_whitespace();
    let letters = words.next().unwrap_or_default();
    let flags = letters.chars().fold(0, |flags, letter| flags | flag(line, letter));
    let numbers = words.next().unwrap_or_default();
    let (seq, rest) = numbers.split_once(':').unwrap_or_else(|| panic!("line {line}: seq:end(len)"));
    let (end, len) = rest.split_once('(').unwrap_or_else(|| panic!("line {line}: seq:end(len)"));
    let (seq, end): (u32, u32) = (number(line, Some(seq)), number(line, Some(end)));
    let len: usize = number(line, len.strip_suffix(')'));
    assert_eq!(end.wrapping_sub(seq) as usize, len, "line {line}: the end is where the text ends");
    let (mut ack, mut win) = (None, None);
    while let Some(word) = words.next() {
        match word {
            "ack" => ack = Some(number(line, words.next())),
            "win" => win = Some(number(line, words.next())),
            _ => panic!("line {line}: {word}"),
        }
    }
    let any = options.trim() == "...";
    let options = options.split(',').map(str::trim).filter(|option| !option.is_empty());
    let options = (!any).then(|| options.map(|text| option(line, text)).collect());
    Segment { flags, seq, len, ack, win, options }
}

fn flag(line: usize, letter: char) -> u8 {
    match letter {
        'F' => FIN,
        'S' => SYN,
        'R' => RST,
        'P' => PSH,
        '.' => ACK,
        'U' => URG,
        'E' => ECE,
        'W' => CWR,
        _ => panic!("line {line}: flag {letter}"),
    }
}

fn option(line: usize, text: &str) -> TcpOption {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        ["nop"] => TcpOption::Nop,
        ["eol"] => TcpOption::Eol,
        ["sackOK"] => TcpOption::SackOk,
        ["mss", mss] => TcpOption::Mss(number(line, Some(mss))),
        ["wscale", shift] => TcpOption::Scale(number(line, Some(shift))),
        ["TS", "val", val, "ecr", ecr] => TcpOption::Stamps(number(line, Some(val)), number(line, Some(ecr))),
        ["sack", ref blocks @ ..] => {
            let block = |block: &&str| {
                let (left, right) = block.split_once(':').unwrap_or_else(|| panic!("line {line}: a block"));
                (number(line, Some(left)), number(line, Some(right)))
            };
            TcpOption::Sack(blocks.iter().map(block).collect())
        }
        _ => panic!("line {line}: option {text}"),
    }
}

fn call(line: usize, text: &str) -> Call {
    let (name, rest) = text.split_once('(').unwrap_or_else(|| panic!("line {line}: {text}"));
    let (arguments, result) = rest.rsplit_once(") = ").unwrap_or_else(|| panic!("line {line}: = result"));
    let mut words = result.split_whitespace();
    Call {
        name: name.trim().to_owned(),
        arguments: split(arguments),
        result: number(line, words.next()),
        errno: words.next().map(str::to_owned),
    }
}

/// The parts between commas that are in no bracket.
pub fn split(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in text.chars() {
        depth += i32::from("[{".contains(c)) - i32::from("]}".contains(c));
        if c == ',' && depth == 0 {
            parts.push(String::new());
        } else {
            parts.last_mut().expect("there is one").push(c);
        }
    }
    parts.iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

#[test]
fn a_script_means_what_packetdrill_would_read() {
    let text = "// so_flags: ts=0\n\n0 socket(..., SOCK_STREAM, 0) = 3 // a comment\n\
                +.1...0.2 accept(3, ..., ...) = -1 EAGAIN (try again)\n\
                +0 < SEW. 1:11(10) ack 1 win 9 <mss 1460,TS val 1 ecr 2,sack 1:2 3:4>\n+0 > . 1:1(0) <...>\n";
    let script = Script::parse(text);
    assert_eq!((script.so_flags.as_str(), script.v6, script.events.len()), ("ts=0", false, 4));
    assert!(matches!(script.events[1].at, Time::Relative(100_000)));
    assert!(matches!(script.events[1].until, Some(Time::Absolute(200_000))));
    let Kind::Inbound(segment) = &script.events[2].kind else { panic!("{:?}", script.events[2]) };
    assert_eq!((segment.flags, segment.len, segment.win), (SYN | ECE | CWR | ACK, 10, Some(9)));
    let blocks = TcpOption::Sack(vec![(1, 2), (3, 4)]);
    assert_eq!(segment.options, Some(vec![TcpOption::Mss(1_460), TcpOption::Stamps(1, 2), blocks]));
    let Kind::Outbound(segment) = &script.events[3].kind else { panic!("{:?}", script.events[3]) };
    assert_eq!((segment.flags, &segment.options), (ACK, &None));
    assert_eq!(split("[{a=1, b=2}], 3"), ["[{a=1, b=2}]", "3"]);
}
