//! Runs a script against an engine: the peer's side of the connection, and every comparison.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use ringroad::base::Instant;
use ringroad::tcp::Report;
use ringroad::wire::Control;

use super::host::{Host, Told, kebab, our_octet, peer_octet};
use super::script::{Act, Arrival, Call, Number, Options, Place, Script, Segment, Statement, Telling};
use super::wire::{Packet, Version, icmp};

/// Where a script and the engine disagree.
#[derive(Debug)]
pub struct Failure {
    pub place: Place,
    pub statement: String,
    pub expected: String,
    pub came: String,
    /// Everything that was exchanged before, line by line.
    pub trace: Vec<String>,
    pub version: Version,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} ({}): {}", self.place, self.version, self.statement)?;
        writeln!(f, "  expected: {}", self.expected)?;
        writeln!(f, "  came:     {}", self.came)?;
        self.trace.iter().try_for_each(|line| writeln!(f, "  | {line}"))
    }
}

/// What was expected, and what came.
type Mismatch = (String, String);

/// What the peer knows of our variables, from what we sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    /// SND.NXT.
    pub snd_nxt: u32,
    /// RCV.NXT, or rather what was acknowledged last.
    pub rcv_nxt: u32,
    /// The right edge of our window, where that is not scaled.
    pub edge: u32,
    /// TS.Recent, as far as we echoed it.
    pub echo: Option<u32>,
}

/// A script under way.
pub struct Run {
    pub host: Host,
    pub wire: Wire,
    /// The peer's initial sequence number.
    pub isn: u32,
    /// Ours, once our SYN was seen.
    pub iss: Option<u32>,
    first_iss: Option<u32>,
    /// The instant of the statement before.
    last: Instant,
    start: Instant,
    sent: VecDeque<(Instant, Packet)>,
    told: VecDeque<(Instant, Told)>,
    /// The first TSval that we sent.
    first_stamp: Option<u32>,
    /// Where the peer's text begins: by its last SYN, and by what our last SYN-ACK made of it.
    after_syn: u32,
    after_syn_ack: u32,
    /// The sequence number of the next octet that the application is to read.
    next_read: u32,
    trace: Vec<String>,
}

impl Run {
    /// The wheel rounds deadlines up; nothing else may be late.
    const GRAIN: Duration = Duration::from_millis(5);

    /// Runs all of `script`, the peer beginning at sequence number `isn`.
    ///
    /// Returns our own initial sequence number, if any was seen.
    pub fn script(script: &Script, version: Version, isn: u32) -> Result<Option<u32>, Box<Failure>> {
        Self::script_at(Host::START, script, version, isn)
    }

    /// Runs all of `script`, beginning at the instant `start`, on which our sequence numbers depend.
    pub fn script_at(
        start: Instant,
        script: &Script,
        version: Version,
        isn: u32,
    ) -> Result<Option<u32>, Box<Failure>> {
        let mut run = Self::begin(start, script, version, isn);
        run.go_on(script)?;
        let place = script.statements.last().expect("a script has statements").place.clone();
        run.nothing_left().map_err(|mismatch| run.failure(place, "the end of the script", mismatch))?;
        Ok(run.first_iss)
    }

    /// Runs `script` and leaves the connection where it is then.
    pub fn reach(script: &Script, version: Version, isn: u32) -> Result<Self, Box<Failure>> {
        let mut run = Self::begin(Host::START, script, version, isn);
        run.go_on(script)?;
        Ok(run)
    }

    fn begin(start: Instant, script: &Script, version: Version, isn: u32) -> Self {
        let host = Host::new(&script.setup, version, start);
        Self {
            isn,
            iss: None,
            first_iss: None,
            last: host.now,
            start: host.now,
            sent: VecDeque::new(),
            told: VecDeque::new(),
            first_stamp: None,
            after_syn: isn + 1,
            after_syn_ack: isn + 1,
            next_read: isn + 1,
            trace: Vec::new(),
            wire: Wire::default(),
            host,
        }
    }

    fn go_on(&mut self, script: &Script) -> Result<(), Box<Failure>> {
        for statement in &script.statements {
            self.step(statement)
                .map_err(|mismatch| self.failure(statement.place.clone(), &statement.text, mismatch))?;
        }
        Ok(())
    }

    fn failure(&self, place: Place, statement: &str, (expected, came): Mismatch) -> Box<Failure> {
        let (statement, trace) = (statement.to_owned(), self.trace.clone());
        Box::new(Failure { place, statement, expected, came, trace, version: self.host.version })
    }

    fn step(&mut self, statement: &Statement) -> Result<(), Mismatch> {
        let at = self.last + statement.after;
        match &statement.act {
            Act::Leave(segment) => return self.leave(segment, at),
            Act::Told(telling) => return self.tell(telling, at),
            _ => {}
        }
        if at > self.host.now || matches!(statement.act, Act::Arrive(_) | Act::Call(..) | Act::Quiet) {
            self.nothing_left()?;
            self.pass(at, true)?;
            self.nothing_left()?;
        }
        self.last = at;
        match &statement.act {
            Act::Arrive(batch) => self.arrive(batch),
            Act::Call(call, answer) => self.call(call, answer.as_deref()),
            Act::State(phase) => compare(phase.name(), self.host.phase().name()),
            Act::Info(field, value) => {
                let came = self.info(field).ok_or_else(|| no_connection(field))?;
                compare(&format!("{field} {value}"), &format!("{field} {came}"))
            }
            Act::Count(label, times) => {
                compare(&format!("{label} {times}"), &format!("{label} {}", self.host.count(label)))
            }
            Act::Quiet | Act::Leave(_) | Act::Told(_) => Ok(()),
        }
    }

    /// Lets time pass until `at`, or until something happens.
    fn pass(&mut self, at: Instant, stop: bool) -> Result<(), Mismatch> {
        let rests = self.host.pass(at, stop);
        self.collect();
        if rests {
            Ok(())
        } else {
            Err(("an engine that rests".to_owned(), "one deadline after another".to_owned()))
        }
    }

    /// Takes over what the engine sent and told, in the order in which the peer and the user learn of it.
    pub fn collect(&mut self) {
        for (at, packet) in self.host.take_sent() {
            if packet.has(Control::SYN) {
                self.iss.get_or_insert(packet.seq);
                self.first_iss.get_or_insert(packet.seq);
                self.after_syn_ack = packet.ack;
            }
            if let Some((val, _)) = packet.timestamps() {
                self.first_stamp.get_or_insert(val);
            }
            self.learn(&packet);
            self.note(at, '>', &self.describe(&packet, true));
            self.sent.push_back((at, packet));
        }
        for told in std::mem::take(&mut self.host.app.log) {
            let at = self.host.now;
            match &told {
                Told::Accept => self.next_read = self.after_syn_ack,
                Told::Connect => self.next_read = self.after_syn,
                _ => {}
            }
            match (told, self.told.back_mut()) {
                (Told::Data(new), Some((_, Told::Data(before)))) => before.extend(new),
                (told, _) => {
                    self.note(at, '*', &describe_told(&told));
                    self.told.push_back((at, told));
                }
            }
        }
    }

    fn learn(&mut self, packet: &Packet) {
        if packet.has(Control::RST) {
            return;
        }
        let later = |a: u32, b: u32| if a.wrapping_sub(b).cast_signed() < 0 { b } else { a };
        let end = packet.seq.wrapping_add(packet.len());
        let edge = packet.ack.wrapping_add(packet.wnd.into());
        let first = packet.has(Control::SYN);
        self.wire.snd_nxt = if first { end } else { later(self.wire.snd_nxt, end) };
        self.wire.echo = packet.timestamps().map(|(_, ecr)| ecr);
        if packet.has(Control::ACK) {
            self.wire.rcv_nxt = packet.ack;
            self.wire.edge = if first { edge } else { later(self.wire.edge, edge) };
        }
    }

    fn note(&mut self, at: Instant, mark: char, what: &str) {
        let since = at.since(self.start);
        self.trace.push(format!("{:>12.6} {mark} {what}", since.as_secs_f64()));
    }

    /// Nothing was sent or told that no statement is about.
    fn nothing_left(&self) -> Result<(), Mismatch> {
        let sent = self.sent.front().map(|(_, packet)| self.describe(packet, true));
        let told = self.told.front().map(|(_, told)| describe_told(told));
        sent.or(told).map_or(Ok(()), |came| Err(("nothing".to_owned(), came)))
    }

    /// The next segment that we send is this one.
    fn leave(&mut self, segment: &Segment, at: Instant) -> Result<(), Mismatch> {
        let expected = || describe_expected(segment);
        if self.sent.is_empty() && at > self.host.now {
            self.pass(at + Self::GRAIN, true)?;
        }
        if self.sent.is_empty()
            && let Some((_, told)) = self.told.front()
        {
            return Err((expected(), describe_told(told)));
        }
        let Some((left, packet)) = self.sent.pop_front() else {
            return Err((expected(), "nothing".to_owned()));
        };
        if left < at || left > at + Self::GRAIN {
            let ms = |instant: Instant| instant.since(self.last).as_secs_f64() * 1e3;
            let came = format!("{} after {:.3} ms", self.describe(&packet, true), ms(left));
            return Err((format!("{} after {:.3} ms", expected(), ms(at)), came));
        }
        self.last = left;
        if let Some(Number::Beyond(reach)) = segment.seq {
            let beyond = packet.seq.wrapping_sub(self.iss.unwrap_or(0));
            if !(reach..1 << 31).contains(&beyond) {
                let came = format!("{beyond} beyond our initial sequence number");
                return Err((format!("at least {reach}"), came));
            }
            (self.iss, self.first_stamp) = (Some(packet.seq), None);
            if let Some((val, _)) = packet.timestamps() {
                self.first_stamp = Some(val);
            }
        }
        let differences = self.differences(segment, &packet);
        if differences.is_empty() {
            return Ok(());
        }
        Err((format!("{}, with {}", expected(), differences.join(", ")), self.describe(&packet, true)))
    }

    /// In what `packet` is not as `segment` says.
    fn differences(&self, segment: &Segment, packet: &Packet) -> Vec<String> {
        let version = self.host.version;
        let iss = self.iss.unwrap_or(0);
        let mut out = Vec::new();
        let mut check = |same: bool, what: String| {
            if !same {
                out.push(what);
            }
        };
        check(packet.intact, "a checksum that is right".to_owned());
        check(packet.from.ip() == version.host(1), "our address".to_owned());
        check(packet.to == self.peer_socket(segment), "the peer's socket".to_owned());
        check(packet.ctl == segment.ctl, format!("{:?}", segment.ctl));
        let is = |number: Number, initial, came| number == Number::Any || self.wire(number, initial) == came;
        if let Some(number) = segment.seq {
            check(is(number, iss, packet.seq), format!("{number:?} as seq"));
        }
        match segment.ack {
            Some(number) => check(is(number, self.isn, packet.ack), format!("{number:?} as ack")),
            None => check(packet.ack == 0, "no ack".to_owned()),
        }
        check(packet.text.len() == segment.len as usize, format!("len {}", segment.len));
        check(segment.wnd.is_none_or(|wnd| wnd == packet.wnd), format!("{:?} as wnd", segment.wnd));
        check(packet.urg == segment.urg.unwrap_or(0), format!("{:?} as urg", segment.urg));
        check(segment.ttl.is_none_or(|ttl| ttl == packet.ttl), format!("{:?} as ttl", segment.ttl));
        check(segment.dscp.is_none_or(|dscp| dscp == packet.dscp), format!("{:?} as dscp", segment.dscp));
        // Wherever a script does not say otherwise: what is no new text must not be ECN-capable.
        check(packet.ecn == segment.ecn, format!("{:02b} as ecn", segment.ecn));
        let position = packet.seq.wrapping_sub(iss).wrapping_sub(1);
        let text = (0..).zip(&packet.text).all(|(at, octet)| *octet == our_octet(position.wrapping_add(at)));
        check(text, "the text that was queued".to_owned());
        out.extend(self.option_differences(&segment.options, packet));
        out
    }

    fn option_differences(&self, options: &Options, packet: &Packet) -> Vec<String> {
        if options.any {
            return Vec::new();
        }
        let mut out = Vec::new();
        let full = self.host.mss_of_mtu();
        let plain = |kind: u8, want: Option<Vec<u8>>, name: &str| {
            let same = packet.option(kind) == want.as_deref();
            (!same).then(|| format!("{name} {want:?}"))
        };
        let mss = options.mss.map(|mss| mss.unwrap_or(full).to_be_bytes().to_vec());
        out.extend(plain(2, mss, "mss"));
        out.extend(plain(3, options.ws.map(|ws| vec![ws]), "ws"));
        out.extend(plain(4, options.sackok.then(Vec::new), "sackok"));
        let sack: Vec<u8> = options
            .sack
            .iter()
            .flat_map(|&(left, right)| [left, right])
            .flat_map(|edge| self.wire(Number::Relative(edge), self.isn).to_be_bytes())
            .collect();
        out.extend(plain(5, Some(sack).filter(|sack| !sack.is_empty()), "sack"));
        match (options.ts, packet.timestamps()) {
            (None, None) => {}
            (Some((val, ecr)), Some((came_val, came_ecr))) => {
                let val_came = came_val.wrapping_sub(self.first_stamp.unwrap_or(0));
                if val.is_some_and(|val| low_half(val) != val_came)
                    || ecr.is_some_and(|ecr| low_half(ecr) != came_ecr)
                {
                    out.push(format!("ts {val:?} {ecr:?}"));
                }
            }
            (want, _) => out.push(format!("ts {want:?}")),
        }
        out
    }

    /// The peer's segments arrive.
    fn arrive(&mut self, batch: &[Arrival]) -> Result<(), Mismatch> {
        let mut frames = Vec::new();
        for arrival in batch {
            match arrival {
                Arrival::Segment(segment) => {
                    let packet = self.packet(segment);
                    let version = self.host.version;
                    if !packet.ip_options.is_empty() && version == Version::V6 {
                        return Err(("ip-options".to_owned(), no_such(version)));
                    }
                    if packet.has(Control::SYN) {
                        self.after_syn = packet.seq.wrapping_add(1);
                    }
                    self.note(self.host.now, '<', &self.describe(&packet, false));
                    frames.push(packet.frame());
                }
                Arrival::Icmp { kind, seq, mtu } => {
                    let what = format!("{kind:?} about seq {seq}");
                    let version = self.host.version;
                    let icmp_type =
                        kind.type_and_code(version).ok_or_else(|| (what.clone(), no_such(version)))?;
                    self.note(self.host.now, '<', &what);
                    let seq = self.wire(Number::Relative(*seq), self.iss.unwrap_or(0));
                    frames.push(icmp(version, icmp_type, seq, *mtu));
                }
            }
        }
        self.host.arrive(&frames);
        self.collect();
        Ok(())
    }

    fn packet(&self, segment: &Segment) -> Packet {
        let version = self.host.version;
        let mut packet = Packet::of_peer(version);
        let named = |name: &Option<String>| name.as_deref().and_then(|name| version.named(name));
        packet.from = SocketAddr::new(
            named(&segment.from).unwrap_or(packet.from.ip()),
            segment.from_port.unwrap_or(packet.from.port()),
        );
        packet.to = SocketAddr::new(
            named(&segment.to).unwrap_or(packet.to.ip()),
            segment.to_port.unwrap_or(packet.to.port()),
        );
        packet.ctl = segment.ctl;
        packet.seq = segment.seq.map_or(0, |number| self.wire(number, self.isn));
        packet.ack = segment.ack.map_or(0, |number| self.wire(number, self.iss.unwrap_or(0)));
        packet.wnd = segment.wnd.unwrap_or(packet.wnd);
        packet.urg = segment.urg.unwrap_or(0);
        packet.dscp = segment.dscp.unwrap_or(0);
        packet.ecn = segment.ecn;
        packet.intact = !segment.corrupt;
        packet.ip_options.clone_from(&segment.ip_options);
        packet.options = self.options(&segment.options);
        let first = packet.seq.wrapping_add(u32::from(packet.has(Control::SYN)));
        packet.text = (0..segment.len).map(|at| peer_octet(first.wrapping_add(at))).collect();
        packet
    }

    fn options(&self, options: &Options) -> Vec<u8> {
        let mut out = options.hex.clone();
        if let Some(mss) = options.mss {
            out.extend([2, 4]);
            out.extend(mss.unwrap_or(self.host.mss_of_mtu()).to_be_bytes());
        }
        if options.sackok {
            out.extend([4, 2]);
        }
        if let Some((val, ecr)) = options.ts {
            out.extend([1, 1, 8, 10]);
            out.extend(low_half(val.unwrap_or(0)).to_be_bytes());
            let ecr = low_half(ecr.unwrap_or(0)).wrapping_add(self.first_stamp.unwrap_or(0));
            out.extend(ecr.to_be_bytes());
        }
        if let Some(ws) = options.ws {
            out.extend([1, 3, 3, ws]);
        }
        if !options.sack.is_empty() {
            let len = u8::try_from(2 + 8 * options.sack.len()).expect("few blocks");
            out.extend([5, len]);
            let edges = options.sack.iter().flat_map(|&(left, right)| [left, right]);
            out.extend(
                edges.flat_map(|edge| self.wire(Number::Relative(edge), self.iss.unwrap_or(0)).to_be_bytes()),
            );
        }
        out
    }

    fn call(&mut self, call: &Call, answer: Option<&str>) -> Result<(), Mismatch> {
        self.note(self.host.now, '!', &format!("{call:?}"));
        let host = &mut self.host;
        let came = match call {
            Call::Listen => host.listen().map_or_else(|error| error, |()| "done".to_owned()),
            Call::Connect { to, from } => {
                let (peer, version) = (host.version.peers(), host.version);
                let named = |name: &Option<String>| name.as_deref().and_then(|name| version.named(name));
                let remote = SocketAddr::new(named(to).unwrap_or(peer.ip()), peer.port());
                host.connect(remote, named(from)).map_or_else(|error| error, |()| "done".to_owned())
            }
            Call::Send(octets) => {
                let taken = host.send(*octets);
                self.collect();
                return compare(answer.unwrap_or(&octets.to_string()), &taken.to_string());
            }
            &Call::Read(octets) => {
                host.app.appetite = Some(octets);
                on_flow(host.with_flow(|_, flow| flow.resume()))
            }
            &Call::Timer(after) => on_flow(host.with_flow(move |_, flow| flow.set_timer(after))),
            &Call::WorkerTimer(after) => {
                host.ask(move |_, cx| cx.set_timer(after));
                "done".to_owned()
            }
            &Call::Nagle(on) => on_flow(host.with_flow(move |_, flow| flow.set_nagle(on))),
            Call::Plain(name) => plain_call(host, name),
        };
        self.collect();
        compare(answer.unwrap_or("done"), &came)
    }

    /// The application is told this next.
    fn tell(&mut self, telling: &Telling, at: Instant) -> Result<(), Mismatch> {
        if self.told.is_empty() && at > self.host.now {
            self.nothing_left()?;
            self.pass(at + Self::GRAIN, true)?;
        }
        let expected = format!("told {telling:?}");
        let Some((when, told)) = self.told.pop_front() else {
            let sent = self.sent.front().map(|(_, packet)| self.describe(packet, true));
            return Err((expected, sent.unwrap_or_else(|| "nothing".to_owned())));
        };
        let since = when.since(self.last);
        let due = when >= at && when <= at + Self::GRAIN;
        let version = self.host.version;
        let same = match (telling, &told) {
            (Telling::Data(len), Told::Data(text)) => {
                self.check_text(text)?;
                *len == text.len()
            }
            (Telling::Urgent(ahead), Told::Report(Report::Urgent { ahead: came })) => ahead == came,
            (Telling::SoftError(kind), Told::Report(Report::SoftError { icmp_type, code })) => {
                kind.type_and_code(version) == Some((*icmp_type, *code))
            }
            (Telling::Close(reason), Told::Close(why)) => *reason == kebab(why),
            (Telling::Plain("r1"), Told::Report(Report::R1)) => true,
            (Telling::Plain(name), told) => *name == kebab(told),
            _ => false,
        };
        if !same || !due {
            return Err((
                expected,
                format!("{} after {:.3} ms", describe_told(&told), since.as_secs_f64() * 1e3),
            ));
        }
        self.last = when;
        Ok(())
    }

    /// What the application read is what the peer sent, octet by octet.
    fn check_text(&mut self, text: &[u8]) -> Result<(), Mismatch> {
        for octet in text {
            let want = peer_octet(self.next_read);
            if want != *octet {
                let at = self.next_read.wrapping_sub(self.isn);
                return Err((format!("octet {want} at seq {at}"), format!("octet {octet}")));
            }
            self.next_read = self.next_read.wrapping_add(1);
        }
        Ok(())
    }

    fn info(&mut self, field: &str) -> Option<u64> {
        let (info, send_room) = self.host.info()?;
        let ms = |time: Duration| u64::try_from(time.as_millis()).expect("no longer than a script");
        Some(match field {
            "srtt-ms" => info.srtt.map_or(0, ms),
            "rto-ms" => ms(info.rto),
            "cwnd" => info.cwnd.into(),
            "ssthresh" => info.ssthresh.into(),
            "snd-wnd" => info.snd_wnd.into(),
            "rcv-wnd" => info.rcv_wnd.into(),
            "mss" => info.mss.into(),
            "unacknowledged" => info.unacknowledged.into(),
            "unread" => info.unread.into(),
            "retransmits" => info.retransmits.into(),
            _ => send_room as u64,
        })
    }

    /// The number on the wire, given the initial sequence number of its sender.
    fn wire(&self, number: Number, initial: u32) -> u32 {
        match number {
            Number::Relative(relative) => initial.wrapping_add(low_half(relative)),
            Number::Wire(number) => number,
            Number::Beyond(_) | Number::Any => self.iss.unwrap_or(0),
        }
    }

    fn peer_socket(&self, segment: &Segment) -> SocketAddr {
        let version = self.host.version;
        let peer = version.peers();
        let ip = segment.to.as_deref().and_then(|name| version.named(name)).unwrap_or(peer.ip());
        SocketAddr::new(ip, segment.to_port.unwrap_or(peer.port()))
    }

    /// A segment in the words of a script.
    pub fn describe(&self, packet: &Packet, ours: bool) -> String {
        let iss = self.iss.unwrap_or(0);
        let (own, other) = if ours { (iss, self.isn) } else { (self.isn, iss) };
        let relative = |number: u32, to: u32| number.wrapping_sub(to).cast_signed();
        let mut out = format!("{:?} seq {}", packet.ctl, relative(packet.seq, own));
        if packet.has(Control::ACK) {
            out += &format!(" ack {}", relative(packet.ack, other));
        }
        if !packet.text.is_empty() {
            out += &format!(" len {}", packet.text.len());
        }
        out += &format!(" wnd {}", packet.wnd);
        if packet.has(Control::URG) {
            out += &format!(" urg {}", packet.urg);
        }
        if let Some((val, ecr)) = packet.timestamps() {
            out += &format!(" ts {val} {ecr}");
        }
        if let Some(blocks) = packet.option(5) {
            for block in blocks.chunks_exact(8) {
                let edge = |at: usize| {
                    let octets = block[at..at + 4].try_into().expect("four octets");
                    relative(u32::from_be_bytes(octets), other)
                };
                out += &format!(" sack {}:{}", edge(0), edge(4));
            }
        }
        out
    }

    /// The segments sent and not yet looked at; and what was told.
    pub fn take(&mut self) -> (Vec<Packet>, Vec<Told>) {
        self.collect();
        let sent = self.sent.drain(..).map(|(_, packet)| packet).collect();
        (sent, self.told.drain(..).map(|(_, told)| told).collect())
    }

    /// What was exchanged so far, line by line.
    pub fn trace(&self) -> &[String] {
        &self.trace
    }
}

fn plain_call(host: &mut Host, name: &str) -> String {
    let done = match name {
        "shutdown" => host.with_flow(|_, flow| flow.shutdown()),
        "close" => host.with_flow(|_, flow| flow.close()),
        "abort" => host.with_flow(|_, flow| flow.abort()),
        "pause" => host.with_flow(|_, flow| flow.pause()),
        "resume" => {
            host.app.appetite = None;
            host.with_flow(|_, flow| flow.resume())
        }
        "cancel-timer" => host.with_flow(|_, flow| flow.cancel_timer()),
        "pause-accept" => host.ask(|app, cx| app.listener.map(|listener| cx.pause_accept(listener))),
        "resume-accept" => host.ask(|app, cx| app.listener.map(|listener| cx.resume_accept(listener))),
        "close-listener" => host.ask(|app, cx| app.listener.map(|listener| cx.close_listener(listener))),
        "drain" => {
            host.drain();
            Some(())
        }
        "abort-all" => {
            host.abort_all();
            Some(())
        }
        other => unreachable!("{other} is no call: the parser knows them all"),
    };
    on_flow(done)
}

fn on_flow(done: Option<()>) -> String {
    if done.is_some() { "done" } else { "no-connection" }.to_owned()
}

fn no_such(version: Version) -> String {
    format!("what {version} does not have: `only` is missing")
}

fn no_connection(field: &str) -> Mismatch {
    (field.to_owned(), "no connection".to_owned())
}

fn compare(expected: &str, came: &str) -> Result<(), Mismatch> {
    if expected == came { Ok(()) } else { Err((expected.to_owned(), came.to_owned())) }
}

/// A number modulo 2^32.
fn low_half(number: i64) -> u32 {
    u32::try_from(number.rem_euclid(1 << 32)).expect("below 2^32")
}

fn describe_told(told: &Told) -> String {
    match told {
        Told::Data(text) => format!("told data {}", text.len()),
        other => format!("told {other:?}"),
    }
}

fn describe_expected(segment: &Segment) -> String {
    let number = |number: Option<Number>| match number {
        Some(Number::Relative(number)) => number.to_string(),
        Some(other) => format!("{other:?}"),
        None => "none".to_owned(),
    };
    let (seq, ack) = (number(segment.seq), number(segment.ack));
    format!("{:?} seq {seq} ack {ack} len {}", segment.ctl, segment.len)
}
