//! Outside judges: what tshark says of a capture, and whether either end sent past the other's window.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::UdpSocket;
use std::ops::RangeInclusive;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use ringroad::cli::lab::{End, Lab};

use super::lab::Net;
use super::program::{Program, wait_for};

/// What tshark may find, as its display filters. Zero and full windows are no faults, and not among them.
const COMPLAINTS: [&str; 16] = [
    "tcp.analysis.retransmission",
    "tcp.analysis.fast_retransmission",
    "tcp.analysis.spurious_retransmission",
    "tcp.analysis.out_of_order",
    "tcp.analysis.duplicate_ack",
    "tcp.analysis.lost_segment",
    "tcp.analysis.ack_lost_segment",
    "tcp.analysis.keep_alive",
    "tcp.analysis.zero_window_probe",
    "tcp.analysis.reused_ports",
    "tcp.flags.reset == 1",
    // "Unverified" would mean that nobody looked. Linux sends 0xffff for 0x0000, which is the same number in ones'
    // complement, and tshark minds.
    "tcp && !(tcp.checksum.status == \"Good\") && !(tcp.checksum == 0xffff && tcp.checksum_calculated == 0)",
    "ip && !(ip.checksum.status == \"Good\")",
    "ip.bogus_header_length",
    "_ws.expert.severity == \"Error\"",
    "_ws.malformed",
];

/// Complaints that come of a reader which stops for a while: the other end asks whether it reads again.
pub const ZERO_WINDOW_PROBES: [&str; 2] = ["tcp.analysis.keep_alive", "tcp.analysis.zero_window_probe"];

/// The payload of the datagram after which a capture holds all that was to be captured.
const MARK: &[u8; 24] = b"this ends the recording.";

/// A recording that goes on, of the interface of an end whose TCP is the kernel's: only that sees both ways.
pub struct Recording<'a> {
    net: &'a Net,
    end: End,
    dumpcap: Program,
    file: String,
}

impl<'a> Recording<'a> {
    pub fn start(net: &'a Net, end: End, name: &str) -> Self {
        be_patient(net, end);
        let file = net.path(&format!("{name}.pcap"));
        // The buffer holds more than any test sends, so that a busy machine loses nothing.
        let argv = ["dumpcap", "-q", "-P", "-B", "128", "-i", Lab::INTERFACE, "-w", file.as_str()];
        let mut dumpcap = net.start(end, &[&argv, ["-f", "tcp or udp port 9"].as_slice()].concat());
        dumpcap.wait_for_err_line("File: ");
        Self { net, end, dumpcap, file }
    }

    /// Ends the recording when it holds what was sent and received until now.
    pub fn stop(self) -> Recorded {
        let to = if self.end == End::Client { super::lab::SERVER } else { super::lab::CLIENT };
        self.net.at(self.end, || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.send_to(MARK, format!("{}:9", to[0])).expect("the other end is a neighbour");
        });
        wait_for("the mark in the capture", || ends_with_mark(&self.file).then_some(()));
        self.dumpcap.signal(Signal::SIGINT);
        let ended = self.dumpcap.end();
        assert!(ended.status.success(), "{ended:?}");
        // Packets received/dropped on interface 'rr0': 1234/0 (...)
        let counts = ended.err.lines().find_map(|line| line.strip_prefix("Packets received/dropped on"));
        let counts = counts.unwrap_or_else(|| panic!("dumpcap counts: {ended:?}"));
        assert!(counts.contains("/0 (pcap:0/dumpcap:0"), "the recording has gaps: {counts}");
        Recorded { file: self.file }
    }
}

/// Stops an end's kernel from taking a busy machine for a lossy link.
///
/// Whoever waits for the processor longer than twice the round-trip time would be sent a tail loss probe,
/// after 200 ms a retransmission. No loss is hidden: what was lost would still be missing, or sent again later.
fn be_patient(net: &Net, end: End) {
    let setting = "/proc/sys/net/ipv4/tcp_early_retrans";
    net.at(end, || fs::write(setting, "0")).expect("root may");
    let device = Lab::INTERFACE;
    for words in [
        format!("ip route change 10.77.0.0/16 dev {device} proto kernel scope link rto_min 10s"),
        format!("ip -6 route change fd77::/64 dev {device} proto kernel metric 256 rto_min 10s"),
    ] {
        net.run(end, &words.split(' ').collect::<Vec<_>>()).success();
    }
}

fn ends_with_mark(file: &str) -> bool {
    let mut file = fs::File::open(file).expect("dumpcap has made it");
    let len = file.metadata().expect("it is open").len();
    let mut tail = Vec::new();
    // The kernel at the other end may still have answered with ICMP, which the filter leaves out.
    file.seek(SeekFrom::Start(len.saturating_sub(4_096))).expect("within the file");
    file.read_to_end(&mut tail).expect("it can be read");
    tail.windows(MARK.len()).any(|window| window == MARK)
}

/// A capture file.
pub struct Recorded {
    pub file: String,
}

/// One connection as tshark puts it together again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Followed {
    /// From whoever opened it.
    pub up: Vec<u8>,
    pub down: Vec<u8>,
}

impl Recorded {
    /// Asserts that tshark has no complaint but those that the test causes, and that nobody sent past a window.
    pub fn assert_blameless(&self, on_purpose: &[&str]) {
        let found = self.complaints(on_purpose);
        assert!(found.is_empty(), "{} complaints, the first are:\n{}", found.len(), first(&found));
        let found = self.window_violations();
        assert!(found.is_empty(), "{} past the window, the first are:\n{}", found.len(), first(&found));
    }

    /// The segments that tshark complains of, one line each.
    pub fn complaints(&self, on_purpose: &[&str]) -> Vec<String> {
        assert!(on_purpose.iter().all(|purpose| COMPLAINTS.contains(purpose)), "{on_purpose:?}");
        let judged = COMPLAINTS.iter().filter(|complaint| !on_purpose.contains(complaint));
        let filter = judged.map(|complaint| format!("({complaint})")).collect::<Vec<_>>().join(" || ");
        let columns =
            ["frame.number", "tcp.stream", "tcp.srcport", "tcp.seq", "tcp.len", "_ws.expert.message"];
        let mut args = vec!["-Y", filter.as_str(), "-T", "fields"];
        args.extend(columns.iter().flat_map(|column| ["-e", column]));
        self.tshark(&args).lines().map(str::to_owned).collect()
    }

    /// The segments whose text ends past the highest right edge that the other end had shown.
    ///
    /// The capture is at a kernel: what that sends is seen before it leaves, what it gets before it reads it. So no
    /// edge can be known to a sender before it is seen here.
    pub fn window_violations(&self) -> Vec<String> {
        let columns =
            ["frame.number", "tcp.stream", "tcp.srcport", "tcp.dstport", "tcp.flags.ack", "tcp.seq_raw"];
        let more = ["tcp.ack_raw", "tcp.len", "tcp.window_size"];
        let mut args = vec!["-Y", "tcp", "-T", "fields"];
        args.extend(columns.iter().chain(&more).flat_map(|column| ["-e", column]));
        let mut edges: BTreeMap<(u32, u32), u32> = BTreeMap::new();
        let mut found = Vec::new();
        for line in self.tshark(&args).lines() {
            let row: Vec<u32> = line.split('\t').map(|word| word.parse().unwrap_or(0)).collect();
            let [_, stream, from, to, ack_flag, seq, ack, len, wnd] = row[..] else { panic!("{line:?}") };
            let end = seq.wrapping_add(len);
            if len > 0 && edges.get(&(stream, to)).is_none_or(|&edge| is_past(end, edge)) {
                found.push(line.to_owned());
            }
            if ack_flag == 1 {
                let edge = ack.wrapping_add(wnd);
                let highest = edges.entry((stream, from)).or_insert(edge);
                if is_past(edge, *highest) {
                    *highest = edge;
                }
            }
        }
        found
    }

    /// The streams of all connections, of which there must be so many.
    pub fn streams(&self, connections: RangeInclusive<usize>) -> Vec<Followed> {
        let last = self.tshark(&["-Y", "tcp", "-T", "fields", "-e", "tcp.stream"]);
        let seen = last.lines().filter_map(|line| line.parse::<usize>().ok()).max().map_or(0, |max| max + 1);
        assert!(connections.contains(&seen), "{seen} connections in the capture, not {connections:?}");
        let taps: Vec<_> = (0..seen).map(|n| format!("follow,tcp,raw,{n}")).collect();
        let args: Vec<_> = taps.iter().flat_map(|tap| ["-z", tap.as_str()]).collect();
        let text = self.tshark(&[&["-q"], &args[..]].concat());
        let mut streams: Vec<_> = (0..seen).map(|_| Followed::default()).collect();
        let mut current = 0;
        for line in text.lines() {
            if let Some(n) = line.strip_prefix("Filter: tcp.stream eq ") {
                current = n.parse().expect("a number");
            } else if let Some(hex) = line.strip_prefix('\t') {
                // What the second node sent is indented.
                streams[current].down.extend(octets(hex));
            } else if !["==", "Follow: ", "Node "].iter().any(|head| line.starts_with(head)) {
                streams[current].up.extend(octets(line));
            }
        }
        streams
    }

    fn tshark(&self, args: &[&str]) -> String {
        let mut command = Command::new("tshark");
        command.args([
            "-n",
            "-r",
            &self.file,
            "-o",
            "tcp.check_checksum:TRUE",
            "-o",
            "ip.check_checksum:TRUE",
        ]);
        // What a port usually carries is no concern here, and noise is malformed whatever it is taken for.
        command.args(["-d", "tcp.port==1-65535,data"]);
        let output = command.args(args).output().expect("tshark is installed: scripts/setup tests");
        assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("numbers, digits and English")
    }
}

fn first(lines: &[String]) -> String {
    lines[..lines.len().min(20)].join("\n")
}

/// Whether `a` comes after `b`, in the circular space of sequence numbers.
fn is_past(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 1 << 31
}

/// What a line of hexadecimal digits stands for.
fn octets(hex: &str) -> impl Iterator<Item = u8> {
    let digit = |c: u8| char::from(c).to_digit(16).expect("a hexadecimal digit");
    hex.trim_end()
        .as_bytes()
        .chunks_exact(2)
        .map(move |two| u8::try_from(digit(two[0]) << 4 | digit(two[1])).expect("two digits are an octet"))
}

/// `sha256sum` of octets.
pub fn sha256_of(octets: &[u8]) -> String {
    let mut command = Command::new("sha256sum");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("coreutils are installed");
    // It says nothing before it has read everything, so the pipes cannot block each other.
    child.stdin.take().expect("it is piped").write_all(octets).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().expect("a sum").to_owned()
}
