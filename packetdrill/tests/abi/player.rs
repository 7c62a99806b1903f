//! Plays scripts against the library, as packetdrill would.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::thread::{self, Scope, ScopedJoinHandle};

use super::library::{Called, Library};
use super::packet::{ACK, Packet, SYN};
use super::script::{Call, Event, Kind, Script, Segment, TcpOption, Time, split};

/// How far a packet or the end of a call may be from where it should be, as in packetdrill.
const TOLERANCE_US: i64 = 4_000;
const REMOTE_ISN: u32 = 0x9000_0000;

/// A call on its own thread, and when it must end.
type Blocked<'s> = (ScopedJoinHandle<'s, (Called<i64>, i64)>, i64, usize, Call);

struct Player<'s, 'e> {
    library: &'e Library,
    scope: &'s Scope<'s, 'e>,
    local: SocketAddr,
    remote: SocketAddr,
    began: i64,
    /// When the event before was.
    last: i64,
    fds: HashMap<i64, i32>,
    local_isn: Option<u32>,
    /// Our timestamps: by the script's number, the stack's.
    stamps: HashMap<u32, u32>,
    blocked: Option<Blocked<'s>>,
}

/// Plays a script; panics where something else happens than it says.
pub fn play(script: &Script) {
    let addr = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let (local, remote) = if script.v6 {
        (addr("[fd3d:fa7b:d17d::1]:8080"), addr("[2001:db8::1]:40000"))
    } else {
        (addr("192.168.0.1:8080"), addr("192.0.2.1:40000"))
    };
    let library = Library::new(&script.so_flags);
    thread::scope(|scope| {
        let began = library.now();
        let mut player = Player {
            library: &library,
            scope,
            local,
            remote,
            began,
            last: 0,
            fds: HashMap::new(),
            local_isn: None,
            stamps: HashMap::new(),
            blocked: None,
        };
        script.events.iter().for_each(|event| player.play(event));
        player.join();
    });
}

impl Player<'_, '_> {
    fn play(&mut self, event: &Event) {
        let line = event.line;
        let at = self.instant(event.at);
        let until = event.until.map(|until| self.instant(until));
        self.last = at;
        match &event.kind {
            Kind::Inbound(segment) => {
                self.wait(at);
                let packet = self.packet(line, segment);
                assert_eq!(self.library.inject(&packet.to_octets()), Ok(0), "line {line}");
            }
            Kind::Outbound(segment) => self.expect(line, at, segment),
            Kind::Call(call) => {
                self.join();
                self.wait(at);
                match until {
                    Some(until) => self.begin(line, call, until),
                    None => {
                        let result = run(self.library, (self.local, self.remote), &self.resolve(line, call));
                        self.check(line, call, result);
                    }
                }
            }
        }
    }

    fn instant(&self, time: Time) -> i64 {
        match time {
            Time::Absolute(us) => us,
            Time::Relative(us) => self.last + us,
        }
    }

    fn now(&self) -> i64 {
        self.library.now() - self.began
    }

    fn wait(&self, until: i64) {
        let left = until - self.now();
        if left > 0 {
            self.library.usleep(u32::try_from(left).expect("a script is short"));
        }
    }

    fn packet(&self, line: usize, segment: &Segment) -> Packet {
        let isn = || self.local_isn.unwrap_or_else(|| panic!("line {line}: nothing was sent yet"));
        let ack = segment.ack.map_or(0, |ack| isn().wrapping_add(ack));
        let stamp = |ecr: u32| self.stamps.get(&ecr).copied().unwrap_or(ecr);
        let options = segment.options.as_deref().unwrap_or_default();
        Packet {
            from: self.remote,
            to: self.local,
            seq: REMOTE_ISN.wrapping_add(segment.seq),
            ack,
            flags: segment.flags,
            window: segment.win.unwrap_or(0),
            options: octets(options, stamp, self.local_isn.unwrap_or(0)),
            text: (0..segment.len).map(|at| at as u8).collect(),
        }
    }

    fn expect(&mut self, line: usize, at: i64, segment: &Segment) {
        let Some((octets, sent_at)) = self.library.next_sent() else {
            panic!("line {line}: nothing is sent")
        };
        let packet = Packet::parse(&octets);
        let late = sent_at - self.began - at;
        assert!(late.abs() <= TOLERANCE_US, "line {line}: {late} us late: {packet:?}");
        if self.local_isn.is_none() && packet.flags & SYN != 0 {
            self.local_isn = Some(packet.seq.wrapping_sub(segment.seq));
            (self.local, self.remote) = (packet.from, packet.to);
        }
        assert_eq!((packet.from, packet.to), (self.local, self.remote), "line {line}: {packet:?}");
        let flags = segment.flags;
        assert_eq!(packet.flags, flags, "line {line}: flags: {packet:?}");
        let isn = self.local_isn.unwrap_or(0);
        let seq = packet.seq.wrapping_sub(isn);
        assert_eq!((seq, packet.text.len()), (segment.seq, segment.len), "line {line}: numbers: {packet:?}");
        if flags & ACK != 0 {
            let ack = packet.ack.wrapping_sub(REMOTE_ISN);
            assert_eq!(Some(ack), segment.ack.or(Some(ack)), "line {line}: ack: {packet:?}");
        }
        if let Some(win) = segment.win {
            assert_eq!(packet.window, win, "line {line}: window: {packet:?}");
        }
        if let Some(options) = &segment.options {
            self.learn(options, &packet.options);
            let stamp = |val: u32| self.stamps.get(&val).copied().unwrap_or(val);
            let wanted = octets_out(options, stamp);
            assert_eq!(packet.options, wanted, "line {line}: options {options:?}");
        }
    }

    /// The stack's timestamp is whatever it is: from now on the script's number stands for it.
    fn learn(&mut self, options: &[TcpOption], live: &[u8]) {
        let mut at = 0;
        for option in options {
            if let (TcpOption::Stamps(val, _), Some(octets)) = (option, live.get(at + 2..at + 6)) {
                self.stamps.insert(*val, u32::from_be_bytes(octets.try_into().expect("four")));
            }
            at += len(option);
        }
    }

    /// The call with the stack's descriptors.
    fn resolve(&self, line: usize, call: &Call) -> Call {
        let live = |fd: &str| {
            let number: i64 = fd.trim().parse().unwrap_or_else(|_| panic!("line {line}: a descriptor: {fd}"));
            self.fds.get(&number).map_or(number, |&fd| fd.into()).to_string()
        };
        let mut call = call.clone();
        if call.name == "poll" {
            let entries = call.arguments[0].trim_matches(['[', ']']).to_owned();
            let mapped = split(&entries).into_iter().map(|entry| {
                let (head, rest) = entry.split_once(',').expect("fd, events, revents");
                format!("{{fd={},{rest}", live(head.trim_start_matches("{fd=")))
            });
            call.arguments[0] = format!("[{}]", mapped.collect::<Vec<_>>().join(","));
        } else if call.name != "socket" {
            call.arguments[0] = live(&call.arguments[0]);
        }
        call
    }

    fn begin(&mut self, line: usize, call: &Call, until: i64) {
        let (library, sockets) = (self.library, (self.local, self.remote));
        let resolved = self.resolve(line, call);
        let thread = self.scope.spawn(move || {
            let result = run(library, sockets, &resolved);
            (result, library.now())
        });
        self.blocked = Some((thread, until, line, call.clone()));
    }

    /// Waits for the call that blocks.
    fn join(&mut self) {
        let Some((thread, until, line, call)) = self.blocked.take() else { return };
        let (result, ended) = thread.join().expect("the call does not panic");
        let late = ended - self.began - until;
        assert!(late.abs() <= TOLERANCE_US, "line {line}: {} ends {late} us late", call.name);
        self.check(line, &call, result);
    }

    fn check(&mut self, line: usize, call: &Call, result: Called<i64>) {
        let wanted = call.errno.as_deref().map(symbol);
        let name = &call.name;
        match (result, wanted) {
            (Err(got), Some(wanted)) => assert_eq!(i64::from(got), wanted, "line {line}: {name}: errno"),
            (Ok(fd), None) if ["socket", "accept"].contains(&name.as_str()) => {
                self.fds.insert(call.result, i32::try_from(fd).expect("a descriptor"));
            }
            (Ok(got), None) => assert_eq!(got, call.result, "line {line}: {name}"),
            (got, wanted) => panic!("line {line}: {name} gives {got:?}, not {wanted:?}"),
        }
    }
}

/// Makes a call. Sockets are bound to the first address and connect to the second, on the same port.
fn run(library: &Library, (local, remote): (SocketAddr, SocketAddr), call: &Call) -> Called<i64> {
    let arguments: Vec<&str> = call.arguments.iter().map(String::as_str).collect();
    let int = |text: &str| i32::try_from(symbol(text)).expect("an int");
    let len = |text: &str| usize::try_from(symbol(text)).expect("a length");
    let text = |count: &str| vec![7; len(count)];
    match (call.name.as_str(), &arguments[..]) {
        ("socket", [_, kind, protocol]) => {
            let domain = if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
            library.socket(domain, int(kind), int(protocol)).map(i64::from)
        }
        ("bind", [fd, ..]) => library.bind(int(fd), local).map(i64::from),
        ("listen", [fd, backlog]) => library.listen(int(fd), int(backlog)).map(i64::from),
        ("accept", [fd, ..]) => library.accept(int(fd)).map(i64::from),
        ("connect", [fd, ..]) => library.connect(int(fd), SocketAddr::new(remote.ip(), 8080)).map(i64::from),
        ("read", [fd, _, count]) => library.recv(int(fd), len(count), 0).map(|text| text.len() as i64),
        ("recv", [fd, _, count, flags]) => {
            library.recv(int(fd), len(count), int(flags)).map(|text| text.len() as i64)
        }
        ("write", [fd, _, count]) => library.send(int(fd), &text(count), 0).map(|len| len as i64),
        ("send", [fd, _, count, flags]) => {
            library.send(int(fd), &text(count), int(flags)).map(|len| len as i64)
        }
        ("close", [fd]) => library.close(int(fd)).map(i64::from),
        ("shutdown", [fd, how]) => library.shutdown(int(fd), int(how)).map(i64::from),
        ("fcntl", [fd, command, argument]) => {
            library.fcntl(int(fd), int(command), int(argument)).map(i64::from)
        }
        ("setsockopt", [fd, level, name, value, _]) => {
            library.set_option(int(fd), int(level), int(name), &value_octets(value)).map(i64::from)
        }
        ("getsockopt", [fd, level, name, value, _]) => {
            let got = library.option(int(fd), int(level), int(name))?;
            assert_eq!(got, value_octets(value), "{name}");
            Ok(0)
        }
        ("poll", [entries, _, timeout]) => poll(library, entries, int(timeout)),
        (name, arguments) => panic!("no such call: {name}{arguments:?}"),
    }
}

/// The fields between braces, without their names.
fn fields(text: &str) -> Vec<i64> {
    let inside = text.trim_matches(['{', '}', '[', ']', ' ']);
    split(inside)
        .iter()
        .map(|field| symbol(field.split_once('=').map_or(field, |(_, value)| value)))
        .collect()
}

fn value_octets(text: &str) -> Vec<u8> {
    fields(text).iter().flat_map(|&field| (field as i32).to_ne_bytes()).collect()
}

fn poll(library: &Library, entries: &str, timeout_ms: i32) -> Called<i64> {
    let asked: Vec<Vec<i64>> =
        split(entries.trim_matches(['[', ']'])).iter().map(|entry| fields(entry)).collect();
    let entry = |entry: &Vec<i64>| libc::pollfd { fd: entry[0] as i32, events: entry[1] as i16, revents: -1 };
    let mut fds: Vec<_> = asked.iter().map(entry).collect();
    let count = library.poll(&mut fds, timeout_ms)?;
    for (fd, asked) in fds.iter().zip(&asked) {
        assert_eq!(i64::from(fd.revents), asked[2], "revents");
    }
    Ok(count.into())
}

const fn len(option: &TcpOption) -> usize {
    match option {
        TcpOption::Nop | TcpOption::Eol => 1,
        TcpOption::Mss(_) => 4,
        TcpOption::SackOk => 2,
        TcpOption::Scale(_) => 3,
        TcpOption::Stamps(..) => 10,
        TcpOption::Sack(blocks) => 2 + 8 * blocks.len(),
    }
}

/// Options of the peer: `stamp` gives the stack's timestamps for the script's, blocks are of the stack's text.
fn octets(options: &[TcpOption], stamp: impl Fn(u32) -> u32, local_isn: u32) -> Vec<u8> {
    write(options, |val| val, stamp, local_isn)
}

/// Options of the stack.
fn octets_out(options: &[TcpOption], stamp: impl Fn(u32) -> u32) -> Vec<u8> {
    write(options, stamp, |ecr| ecr, REMOTE_ISN)
}

fn write(options: &[TcpOption], val: impl Fn(u32) -> u32, ecr: impl Fn(u32) -> u32, isn: u32) -> Vec<u8> {
    let mut out = Vec::new();
    for option in options {
        match option {
            TcpOption::Nop => out.push(1),
            TcpOption::Eol => out.push(0),
            TcpOption::Mss(mss) => out.extend([&[2, 4][..], &mss.to_be_bytes()].concat()),
            TcpOption::SackOk => out.extend([4, 2]),
            TcpOption::Scale(shift) => out.extend([3, 3, *shift]),
            TcpOption::Stamps(a, b) => {
                out.extend([&[8, 10][..], &val(*a).to_be_bytes(), &ecr(*b).to_be_bytes()].concat());
            }
            TcpOption::Sack(blocks) => {
                out.extend([5, len(option) as u8]);
                for edge in blocks.iter().flat_map(|&(left, right)| [left, right]) {
                    out.extend(isn.wrapping_add(edge).to_be_bytes());
                }
            }
        }
    }
    out
}

/// The value of a number, a symbol, or several joined by `|`.
fn symbol(text: &str) -> i64 {
    if let Some((first, rest)) = text.split_once('|') {
        return symbol(first) | symbol(rest);
    }
    let text = text.trim();
    let named = match text {
        "SOCK_STREAM" => libc::SOCK_STREAM,
        "IPPROTO_TCP" | "SOL_TCP" => libc::IPPROTO_TCP,
        "SOL_SOCKET" => libc::SOL_SOCKET,
        "SO_REUSEADDR" => libc::SO_REUSEADDR,
        "SO_ERROR" => libc::SO_ERROR,
        "SO_LINGER" => libc::SO_LINGER,
        "SO_KEEPALIVE" => libc::SO_KEEPALIVE,
        "SO_RCVBUF" => libc::SO_RCVBUF,
        "SO_SNDBUF" => libc::SO_SNDBUF,
        "TCP_NODELAY" => libc::TCP_NODELAY,
        "TCP_MAXSEG" => libc::TCP_MAXSEG,
        "TCP_KEEPIDLE" => libc::TCP_KEEPIDLE,
        "TCP_KEEPINTVL" => libc::TCP_KEEPINTVL,
        "TCP_KEEPCNT" => libc::TCP_KEEPCNT,
        "TCP_USER_TIMEOUT" => libc::TCP_USER_TIMEOUT,
        "F_GETFL" => libc::F_GETFL,
        "F_SETFL" => libc::F_SETFL,
        "O_RDWR" => libc::O_RDWR,
        "O_NONBLOCK" => libc::O_NONBLOCK,
        "SHUT_RD" => libc::SHUT_RD,
        "SHUT_WR" => libc::SHUT_WR,
        "SHUT_RDWR" => libc::SHUT_RDWR,
        "MSG_PEEK" => libc::MSG_PEEK,
        "MSG_DONTWAIT" => libc::MSG_DONTWAIT,
        "POLLIN" => libc::POLLIN.into(),
        "POLLOUT" => libc::POLLOUT.into(),
        "POLLERR" => libc::POLLERR.into(),
        "POLLHUP" => libc::POLLHUP.into(),
        "POLLRDHUP" => libc::POLLRDHUP.into(),
        "EAGAIN" => libc::EAGAIN,
        "EALREADY" => libc::EALREADY,
        "ECONNREFUSED" => libc::ECONNREFUSED,
        "ECONNRESET" => libc::ECONNRESET,
        "EINPROGRESS" => libc::EINPROGRESS,
        "EISCONN" => libc::EISCONN,
        "ENOTCONN" => libc::ENOTCONN,
        "EPIPE" => libc::EPIPE,
        "ETIMEDOUT" => libc::ETIMEDOUT,
        _ => return text.parse().unwrap_or_else(|_| panic!("no such symbol: {text}")),
    };
    named.into()
}
