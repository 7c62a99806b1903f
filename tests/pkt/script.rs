//! Packet scripts: what a file of statements says, and where it is wrong. docs/packet-scripts.md is the reference.

use std::collections::HashMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use ringroad::base::{Counter, DropReason};
use ringroad::tcp::{CongestionAlgorithm, KeepAlive};
use ringroad::wire::{CE, Control, ECT_0};

use super::host::{Phase, Setup};
use super::wire::{IcmpKind, Version};
use super::words::{Words, duration};

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub file: String,
    pub line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tests/pkt/{}:{}", self.file, self.line)
    }
}

/// Why a file is no script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub place: Place,
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// `RFC 9293 §3.10.7.4 MUST-12: Topic`: where a behaviour is required.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Citation {
    pub rfc: u16,
    pub section: String,
    /// Ids such as `MUST-12`.
    pub ids: Vec<String>,
    /// Which row of the list of requirements, where an id has several.
    pub topic: Option<String>,
}

/// A whole script.
#[derive(Clone, Debug)]
pub struct Script {
    pub file: String,
    /// What it shows, in one sentence.
    pub behaviour: String,
    pub citations: Vec<Citation>,
    pub only: Option<Version>,
    pub setup: Setup,
    pub statements: Vec<Statement>,
}

/// Something that happens, or must be so.
#[derive(Clone, Debug)]
pub struct Statement {
    pub place: Place,
    /// As it is written.
    pub text: String,
    /// After the statement before.
    pub after: Duration,
    pub act: Act,
}

#[derive(Clone, Debug)]
pub enum Act {
    /// Segments of the peer, or ICMP errors, arrive in one batch.
    Arrive(Vec<Arrival>),
    /// We send this.
    Leave(Segment),
    /// The application does something, and gets this answer.
    Call(Call, Option<String>),
    /// The application is told.
    Told(Telling),
    State(Phase),
    /// A field of STATUS has this value.
    Info(String, u64),
    /// It happened so often.
    Count(&'static str, u64),
    /// Nothing is sent or told.
    Quiet,
}

#[derive(Clone, Debug)]
pub enum Arrival {
    Segment(Box<Segment>),
    Icmp { kind: IcmpKind, seq: i64, mtu: u32 },
}

/// A sequence or acknowledgment number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Number {
    /// Relative to the sender's initial sequence number.
    Relative(i64),
    /// As on the wire.
    Wire(u32),
    /// At least so far beyond our initial sequence number, which it is from now on.
    Beyond(u32),
    /// Whatever it is.
    Any,
}

/// A segment, as the peer sends it or as we must.
#[derive(Clone, Debug, Default)]
pub struct Segment {
    pub ctl: Control,
    pub seq: Option<Number>,
    pub ack: Option<Number>,
    pub len: u32,
    pub wnd: Option<u16>,
    pub urg: Option<u16>,
    pub options: Options,
    pub ttl: Option<u8>,
    pub dscp: Option<u8>,
    /// The ECN field of the IP header.
    pub ecn: u8,
    /// Names of addresses, and ports, other than those of the one connection.
    pub from: Option<String>,
    pub to: Option<String>,
    pub from_port: Option<u16>,
    pub to_port: Option<u16>,
    pub corrupt: bool,
    /// Octets of options in the IPv4 header.
    pub ip_options: Vec<u8>,
}

#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whatever they are.
    pub any: bool,
    /// `None` inside stands for what fits the MTU.
    pub mss: Option<Option<u16>>,
    pub ws: Option<u8>,
    pub sackok: bool,
    /// TSval and TSecr; `None` for whatever it is.
    pub ts: Option<(Option<i64>, Option<i64>)>,
    pub sack: Vec<(i64, i64)>,
    /// Octets, as they are.
    pub hex: Vec<u8>,
}

impl Options {
    /// Octets that they take when they arrive.
    fn len(&self) -> usize {
        let fixed = [
            (self.mss.is_some(), 4),
            (self.sackok, 2),
            (self.ts.is_some(), 12),
            (self.ws.is_some(), 4),
            (!self.sack.is_empty(), 2 + 8 * self.sack.len()),
        ];
        self.hex.len() + fixed.iter().filter(|(is, _)| *is).map(|(_, len)| len).sum::<usize>()
    }
}

#[derive(Clone, Debug)]
pub enum Call {
    Listen,
    /// Names of addresses other than the peer's, and other than what the engine would choose as ours.
    Connect {
        to: Option<String>,
        from: Option<String>,
    },
    Send(u32),
    Read(usize),
    Timer(Duration),
    WorkerTimer(Duration),
    Nagle(bool),
    /// One of [`PLAIN_CALLS`].
    Plain(&'static str),
}

/// Calls without arguments.
pub const PLAIN_CALLS: [&str; 11] = [
    "shutdown",
    "close",
    "abort",
    "pause",
    "resume",
    "cancel-timer",
    "pause-accept",
    "resume-accept",
    "close-listener",
    "drain",
    "abort-all",
];

/// What the application is told, with its figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Telling {
    Data(usize),
    Urgent(u32),
    SoftError(IcmpKind),
    Close(String),
    /// One of [`PLAIN_TELLINGS`].
    Plain(&'static str),
}

pub const PLAIN_TELLINGS: [&str; 8] =
    ["accept", "connect", "fin", "writable", "timer", "worker-timer", "r1", "drain"];

/// Reasons for which a connection is over.
pub const CLOSE_REASONS: [&str; 7] =
    ["finished", "reset", "refused", "timed-out", "connect-timed-out", "unreachable", "aborted"];

/// Fields of STATUS.
pub const INFO_FIELDS: [&str; 11] = [
    "srtt-ms",
    "rto-ms",
    "cwnd",
    "ssthresh",
    "snd-wnd",
    "rcv-wnd",
    "mss",
    "unacknowledged",
    "unread",
    "retransmits",
    "send-room",
];

/// Octets of text that a packet holds besides the longest headers.
const TEXT_MAX: u32 = 65_000;
/// Octets that the application sends in one call.
const SEND_MAX: u32 = 1 << 20;
/// The least that everybody takes, which leaves room for text behind the longest headers, and the most that is an MTU.
const MTUS: RangeInclusive<u16> = 576..=u16::MAX;
/// Differentiated services code points.
const DSCPS: RangeInclusive<u8> = 0..=63;
/// Octets of options in a TCP header, and in that of IPv4.
const OPTIONS_MAX: usize = 40;
/// Statements, those of included scripts among them, so that the longest waits of all stay within the clock.
const STATEMENTS_MAX: usize = 4_096;

/// Texts of files by name, for `include`.
pub type Files = HashMap<String, String>;

/// Reads the script `file`.
pub fn parse(file: &str, files: &Files) -> Result<Script, Fault> {
    let text = files.get(file).map_or("", String::as_str);
    let mut script = Script {
        file: file.to_owned(),
        behaviour: String::new(),
        citations: Vec::new(),
        only: None,
        setup: Setup::default(),
        statements: Vec::new(),
    };
    head(file, text, &mut script)?;
    body(file, text, files, 0, &mut script)?;
    if script.statements.is_empty() {
        let place = Place { file: file.to_owned(), line: text.lines().count().max(1) };
        return Err(Fault { place, what: "nothing happens in it".to_owned() });
    }
    Ok(script)
}

/// The lines before the first statement: the behaviour, and where it is required.
fn head(file: &str, text: &str, script: &mut Script) -> Result<(), Fault> {
    let fault =
        |line, what: &str| Err(Fault { place: Place { file: file.to_owned(), line }, what: what.to_owned() });
    let mut comments = text.lines().map_while(|line| line.strip_prefix('#')).map(str::trim);
    match comments.next() {
        Some(behaviour) if !behaviour.is_empty() => script.behaviour = behaviour.to_owned(),
        _ => return fault(1, "the first line is to name the behaviour, after #"),
    }
    for (number, line) in comments.enumerate().filter(|(_, line)| line.starts_with("RFC ")) {
        match citation(line) {
            Some(citation) => script.citations.push(citation),
            None => return fault(number + 2, "a citation is `RFC 9293 §3.6 MUST-12: topic`"),
        }
    }
    if script.citations.is_empty() {
        return fault(2, "a script says where its behaviour comes from: `# RFC 9293 §3.6`");
    }
    Ok(())
}

/// Reads `RFC 9293 §3.6 MUST-12 SHLD-3: topic`.
fn citation(line: &str) -> Option<Citation> {
    let (place, topic) = line.split_once(": ").map_or((line, None), |(place, topic)| (place, Some(topic)));
    let mut words = place.split_whitespace().skip(1);
    let rfc = words.next()?.parse().ok()?;
    let section = words.next()?.strip_prefix('§')?;
    let is_section = section.chars().all(|c| c.is_ascii_digit() || c == '.') && !section.is_empty();
    let is_id = |id: &&str| {
        id.split_once('-').is_some_and(|(level, number)| {
            ["MUST", "SHLD", "MAY", "REC"].contains(&level) && number.parse::<u16>().is_ok()
        })
    };
    let ids: Vec<&str> = words.collect();
    (is_section && ids.iter().all(is_id)).then(|| Citation {
        rfc,
        section: section.to_owned(),
        ids: ids.iter().map(|&id| id.to_owned()).collect(),
        topic: topic.map(str::to_owned),
    })
}

fn body(file: &str, text: &str, files: &Files, depth: u32, script: &mut Script) -> Result<(), Fault> {
    for (number, written) in text.lines().enumerate() {
        let line = written.split_once('#').map_or(written, |(line, _)| line).trim();
        if line.is_empty() {
            continue;
        }
        let place = Place { file: file.to_owned(), line: number + 1 };
        let mut words = Words::new(line);
        if script.statements.len() == STATEMENTS_MAX {
            return Err(Fault { place, what: format!("a script has {STATEMENTS_MAX} statements at most") });
        }
        let done = match words.peek() {
            Some("include") => {
                words.next();
                include(&mut words, files, depth, script)?
            }
            Some("set" | "only") if !script.statements.is_empty() => {
                Err("this belongs before the first statement".to_owned())
            }
            Some("only") => words.skip().choice("a version", &VERSIONS).map(|v| script.only = Some(v)),
            Some("set") => set(words.skip(), &mut script.setup),
            Some("&") => join(words.skip(), script),
            _ => statement(&mut words).map(|(after, act)| {
                script.statements.push(Statement { place: place.clone(), text: line.to_owned(), after, act });
            }),
        };
        done.and_then(|()| words.end()).map_err(|what| Fault { place, what })?;
    }
    Ok(())
}

const VERSIONS: [(&str, Version); 2] = [("ipv4", Version::V4), ("ipv6", Version::V6)];

/// Statements of another script come here; its head is not looked at.
fn include(
    words: &mut Words<'_>,
    files: &Files,
    depth: u32,
    script: &mut Script,
) -> Result<Result<(), String>, Fault> {
    let name = match words.word("the name of a script") {
        Ok(name) => format!("{name}.pkt"),
        Err(what) => return Ok(Err(what)),
    };
    let Some(text) = files.get(&name) else { return Ok(Err(format!("there is no script {name}"))) };
    if depth > 16 {
        return Ok(Err(format!("{name} includes itself")));
    }
    body(&name, text, files, depth + 1, script).map(Ok)
}

/// One more segment for the batch before.
fn join(words: &mut Words<'_>, script: &mut Script) -> Result<(), String> {
    let Some(Statement { act: Act::Arrive(batch), .. }) = script.statements.last_mut() else {
        return Err("& joins a segment to the one that arrives in the line before".to_owned());
    };
    words.exactly("<")?;
    batch.push(arrival(words)?);
    Ok(())
}

fn statement(words: &mut Words<'_>) -> Result<(Duration, Act), String> {
    let after = match words.peek().and_then(|word| word.strip_prefix('+')) {
        Some(time) => {
            words.next();
            duration(time)?
        }
        None => Duration::ZERO,
    };
    let act = match words.word("a statement")? {
        "<" => Act::Arrive(vec![arrival(words)?]),
        ">" => Act::Leave(leaving(words)?),
        "call" => Act::Call(call(words)?, answer(words)?),
        "told" => Act::Told(telling(words)?),
        "state" => Act::State(words.choice("a state", &Phase::ALL)?),
        "info" => {
            let field = words.one_of("a field of STATUS", &INFO_FIELDS)?;
            Act::Info(field.to_owned(), words.number("its value")?)
        }
        "count" => Act::Count(label(words)?, words.number("how often")?),
        "quiet" => Act::Quiet,
        other => return Err(format!("{other:?} is no statement")),
    };
    Ok((after, act))
}

fn label(words: &mut Words<'_>) -> Result<&'static str, String> {
    let word = words.word("a counter")?;
    let labels = Counter::ALL.iter().map(|counter| counter.label());
    let mut labels = labels.chain(DropReason::ALL.iter().map(|reason| reason.label()));
    labels.find(|label| *label == word).ok_or_else(|| format!("{word:?} is no counter and no drop reason"))
}

fn arrival(words: &mut Words<'_>) -> Result<Arrival, String> {
    if words.peek() != Some("icmp") {
        let segment = segment(words)?;
        let ours = |number: Option<Number>| matches!(number, Some(Number::Beyond(_) | Number::Any));
        if ours(segment.seq) || ours(segment.ack) || segment.ttl.is_some() {
            return Err("`beyond`, `*` and `ttl` are for what we send".to_owned());
        }
        fits_its_headers(&segment)?;
        return Ok(Arrival::Segment(Box::new(segment)));
    }
    let kind = words.skip().choice("an ICMP error", &IcmpKind::ALL)?;
    words.exactly("seq")?;
    let seq = words.number("the sequence number quoted")?;
    let mtu = if words.take("mtu") { words.number("an MTU")? } else { 0 };
    Ok(Arrival::Icmp { kind, seq, mtu })
}

/// There is room for the options.
fn fits_its_headers(segment: &Segment) -> Result<(), String> {
    let len = segment.options.len();
    if len > OPTIONS_MAX {
        return Err(format!("{len} octets of options are more than {OPTIONS_MAX}"));
    }
    let len = segment.ip_options.len();
    if len > OPTIONS_MAX || !len.is_multiple_of(4) {
        return Err(format!("{len} octets of options are no multiple of four up to {OPTIONS_MAX}"));
    }
    Ok(())
}

fn leaving(words: &mut Words<'_>) -> Result<Segment, String> {
    let segment = segment(words)?;
    if segment.from.is_some()
        || segment.from_port.is_some()
        || segment.corrupt
        || !segment.ip_options.is_empty()
    {
        return Err("`from`, `corrupt` and `ip-options` are for what the peer sends".to_owned());
    }
    Ok(segment)
}

const CONTROLS: [(&str, Control); 8] = [
    ("FIN", Control::FIN),
    ("SYN", Control::SYN),
    ("RST", Control::RST),
    ("PSH", Control::PSH),
    ("ACK", Control::ACK),
    ("URG", Control::URG),
    ("ECE", Control::ECE),
    ("CWR", Control::CWR),
];

fn controls(word: &str) -> Result<Control, String> {
    if word == "-" {
        return Ok(Control::EMPTY);
    }
    let bit = |name: &str| {
        let found = CONTROLS.iter().find(|(known, _)| *known == name);
        found.map(|(_, bit)| *bit).ok_or_else(|| format!("{name:?} is no control bit"))
    };
    word.split(',').try_fold(Control::EMPTY, |ctl, name| Ok(ctl | bit(name)?))
}

fn segment(words: &mut Words<'_>) -> Result<Segment, String> {
    let mut segment = Segment { ctl: controls(words.word("control bits, or -")?)?, ..Segment::default() };
    while let Some(word) = words.next() {
        match word {
            "seq" => segment.seq = Some(number(words)?),
            "ack" => segment.ack = Some(number(words)?),
            "len" => segment.len = words.number_in("octets of text", 0..=TEXT_MAX)?,
            "wnd" => segment.wnd = Some(words.number("a window")?),
            "urg" => segment.urg = Some(words.number("an urgent pointer")?),
            "ttl" => segment.ttl = Some(words.number("a time to live")?),
            "dscp" => segment.dscp = Some(words.number_in("a code point", DSCPS)?),
            "ect" => segment.ecn = ECT_0,
            "ce" => segment.ecn = CE,
            "from" => segment.from = Some(address(words)?),
            "to" => segment.to = Some(address(words)?),
            "from-port" => segment.from_port = Some(words.number("a port")?),
            "to-port" => segment.to_port = Some(words.number("a port")?),
            "corrupt" => segment.corrupt = true,
            "ip-options" => segment.ip_options = octets(words)?,
            _ => option(word, words, &mut segment.options)?,
        }
    }
    if segment.seq.is_none() {
        return Err("a segment has a seq".to_owned());
    }
    if segment.ctl.intersects(Control::ACK) != segment.ack.is_some() {
        return Err("a segment has an ack exactly if it has the control bit ACK".to_owned());
    }
    Ok(segment)
}

/// The name of an address that some version of IP has.
fn address(words: &mut Words<'_>) -> Result<String, String> {
    let name = words.word("the name of an address")?;
    match Version::BOTH.iter().any(|version| version.named(name).is_some()) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name:?} is no address with a name")),
    }
}

fn number(words: &mut Words<'_>) -> Result<Number, String> {
    match words.peek() {
        Some("wire") => Ok(Number::Wire(words.skip().number("a number on the wire")?)),
        Some("*") => {
            words.next();
            Ok(Number::Any)
        }
        Some("beyond") => Ok(Number::Beyond(words.skip().number("a number")?)),
        _ => Ok(Number::Relative(words.number("a number")?)),
    }
}

fn option(word: &str, words: &mut Words<'_>, options: &mut Options) -> Result<(), String> {
    match word {
        "options" => {
            words.exactly("*")?;
            options.any = true;
        }
        "mss" if words.take("full") => options.mss = Some(None),
        "mss" => options.mss = Some(Some(words.number("a segment size")?)),
        "ws" => options.ws = Some(words.number("a shift")?),
        "sackok" => options.sackok = true,
        "ts" => options.ts = Some((words.any_or_number("TSval")?, words.any_or_number("TSecr")?)),
        "sack" => {
            let (left, right) =
                words.word("a block such as 1:101")?.split_once(':').ok_or("a SACK block is LEFT:RIGHT")?;
            let edge = |text: &str| text.parse().map_err(|_| format!("{text:?} is no edge of a block"));
            options.sack.push((edge(left)?, edge(right)?));
        }
        "hex" => options.hex = octets(words)?,
        other => return Err(format!("{other:?} is nothing that a segment has")),
    }
    Ok(())
}

/// Octets, each of two hexadecimal digits.
fn octets(words: &mut Words<'_>) -> Result<Vec<u8>, String> {
    let word = words.word("octets")?;
    let octet = |at| {
        let pair = word.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
        pair.ok_or_else(|| format!("{word:?} are no octets"))
    };
    (0..word.len()).step_by(2).map(octet).collect()
}

fn call(words: &mut Words<'_>) -> Result<Call, String> {
    Ok(match words.word("a call")? {
        "listen" => Call::Listen,
        "connect" => {
            let mut named = |word| if words.take(word) { address(words).map(Some) } else { Ok(None) };
            Call::Connect { to: named("to")?, from: named("from")? }
        }
        "send" => Call::Send(words.number_in("octets", 0..=SEND_MAX)?),
        "read" => Call::Read(words.number("octets")?),
        "timer" => Call::Timer(duration(words.word("a duration")?)?),
        "worker-timer" => Call::WorkerTimer(duration(words.word("a duration")?)?),
        "nagle" => Call::Nagle(words.on_or_off()?),
        other => {
            let known = PLAIN_CALLS.iter().find(|call| **call == other);
            Call::Plain(known.ok_or_else(|| format!("{other:?} is no call"))?)
        }
    })
}

fn answer(words: &mut Words<'_>) -> Result<Option<String>, String> {
    if !words.take("=") {
        return Ok(None);
    }
    words.word("an answer").map(|answer| Some(answer.to_owned()))
}

fn telling(words: &mut Words<'_>) -> Result<Telling, String> {
    Ok(match words.word("what is told")? {
        "data" => Telling::Data(words.number("octets")?),
        "urgent" => Telling::Urgent(words.number("octets ahead")?),
        "soft-error" => Telling::SoftError(words.choice("an ICMP error", &IcmpKind::ALL)?),
        "close" => Telling::Close(words.one_of("a reason", &CLOSE_REASONS)?.to_owned()),
        other => {
            let known = PLAIN_TELLINGS.iter().find(|telling| **telling == other);
            Telling::Plain(known.ok_or_else(|| format!("{other:?} is nothing that anybody is told"))?)
        }
    })
}

/// `set NAME VALUE`.
fn set(words: &mut Words<'_>, setup: &mut Setup) -> Result<(), String> {
    let Setup { tcp, options, mtu, half_open_max, backlog } = setup;
    let name = words.word("a setting")?;
    match name {
        "recv-buffer" => options.recv_buffer = words.number("octets")?,
        "send-buffer" => options.send_buffer = words.number("octets")?,
        "dscp" => options.dscp = words.number_in("a code point", DSCPS)?,
        "ttl" => options.ttl = words.number("a time to live")?,
        "cc" => {
            let known = [
                ("cubic", CongestionAlgorithm::Cubic),
                ("newreno", CongestionAlgorithm::NewReno),
                ("bbr", CongestionAlgorithm::Bbr),
            ];
            options.congestion = words.choice("cubic or newreno", &known)?;
        }
        "ecn" => options.ecn = words.on_or_off()?,
        "nagle" => options.nagle = words.on_or_off()?,
        "keep-alive" => {
            let (idle, interval) = (words.duration()?, words.duration()?);
            options.keep_alive = Some(KeepAlive { idle, interval, probes: words.number("probes")? });
        }
        "user-timeout" => options.user_timeout = Some(words.duration()?),
        "connect-timeout" => options.connect_timeout = Some(words.duration()?),
        "linger" => options.linger = Some(words.duration()?),
        "timestamps" => tcp.timestamps = words.on_or_off()?,
        "window-scale" => tcp.window_scale = words.on_or_off()?,
        "sack" => tcp.sack = words.on_or_off()?,
        "rfc1337" => tcp.rfc1337 = words.on_or_off()?,
        "initial-window" => tcp.initial_window = words.number("segments")?,
        "r1" => tcp.r1 = words.number("retransmissions")?,
        "r2" => tcp.r2 = words.duration()?,
        "r2-syn" => tcp.r2_syn = words.duration()?,
        "syn-ack-retries" => tcp.syn_ack_retries = words.number("repetitions")?,
        "time-wait" => tcp.time_wait = words.duration()?,
        "fin-wait-2" => tcp.fin_wait_2 = words.duration()?,
        "delayed-ack" => tcp.delayed_ack = words.duration()?,
        "quick-acks" => tcp.quick_acks = words.number("segments")?,
        "challenge-acks" => tcp.challenge_acks_per_second = words.number("per second")?,
        "mtu" => *mtu = words.number_in("octets", MTUS)?,
        "half-open-max" => *half_open_max = words.number("connections")?,
        "backlog" => *backlog = words.number("connections")?,
        other => return Err(format!("{other:?} is no setting")),
    }
    Ok(())
}
