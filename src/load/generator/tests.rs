//! The generator against connections in memory, in virtual time.
#![forbid(unsafe_code)]

use super::*;
use crate::load::{AppKind, Direction, Workload};

/// What the generator did to its connections, by slot.
#[derive(Default)]
struct Net {
    opened: Vec<(u32, Open)>,
    refuse: Option<ErrorKind>,
    conns: Vec<Peer>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Peer {
    sent: Vec<u8>,
    room: Option<usize>,
    ended: Option<&'static str>,
}

impl Conn for &mut Peer {
    fn send(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.room.unwrap_or(usize::MAX));
        self.sent.extend_from_slice(&data[..taken]);
        taken
    }
    fn shutdown(&mut self) {
        self.ended = Some("shutdown");
    }
    fn close(&mut self) {
        self.ended = Some("close");
    }
    fn abort(&mut self) {
        self.ended = Some("abort");
    }
    fn resume(&mut self) {}
}

impl Opener for Net {
    type Conn<'a> = &'a mut Peer;

    fn open(&mut self, slot: u32, open: &Open) -> Result<(), ErrorKind> {
        self.opened.push((slot, *open));
        self.conns[slot as usize] = Peer::default();
        self.refuse.map_or(Ok(()), Err)
    }

    fn conn(&mut self, slot: u32) -> Option<&mut Peer> {
        Some(&mut self.conns[slot as usize])
    }
}

struct Rig {
    generator: Generator,
    control: Arc<Control>,
    net: Net,
}

impl Rig {
    fn new(change: impl FnOnce(&mut Plan)) -> Self {
        let mut plan = Plan {
            workload: Workload {
                profile: Profile::Crr,
                app: AppKind::Echo,
                close: CloseSide::Client,
                direction: Direction::Up,
                request_size: 4,
                reply_size: 4,
                path: "/".into(),
            },
            targets: Vec::from(["10.0.0.2:7".parse().unwrap()]),
            sources: Vec::new(),
            connections: 1,
            rate: None,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(1),
            workers: 1,
        };
        change(&mut plan);
        let net = Net { conns: vec![Peer::default(); plan.connections as usize], ..Net::default() };
        let control = Arc::new(Control::default());
        let generator = Generator::new(Arc::new(plan), Arc::clone(&control), 0, Instant::ZERO);
        let mut rig = Self { generator, control, net };
        rig.pump(0);
        rig
    }

    fn pump(&mut self, ms: u64) {
        self.generator.pump(Instant::from_millis(ms), &mut self.net);
    }

    fn open(&mut self, slot: u32, ms: u64) {
        let mut peer = &mut self.net.conns[slot as usize];
        self.generator.on_open(slot, Instant::from_millis(ms), &mut peer);
    }

    fn data(&mut self, slot: u32, ms: u64, data: &[u8]) {
        let mut peer = &mut self.net.conns[slot as usize];
        self.generator.on_data(slot, Instant::from_millis(ms), data, &mut peer);
    }

    fn fin(&mut self, slot: u32, ms: u64) {
        let mut peer = &mut self.net.conns[slot as usize];
        self.generator.on_fin(slot, Instant::from_millis(ms), &mut peer);
    }

    fn closed(&mut self, slot: u32, ms: u64, why: CloseReason) {
        self.generator.on_closed(slot, Instant::from_millis(ms), why);
        self.pump(ms);
    }

    fn ended(&self, slot: u32) -> Option<&'static str> {
        self.net.conns[slot as usize].ended
    }

    fn error(&self, kind: &str) -> u64 {
        self.generator.recorder().errors().get(kind).copied().unwrap_or(0)
    }

    fn max_ms(&self) -> u64 {
        self.generator.recorder().exchange.max() / 1_000_000
    }
}

#[test]
fn a_short_connection_is_closed_by_the_side_that_was_named() {
    for (close, after_reply) in [(CloseSide::Client, Some("close")), (CloseSide::Server, None)] {
        let mut rig = Rig::new(|plan| plan.workload.close = close);
        rig.open(0, 1);
        assert_eq!(rig.net.conns[0].sent, b" !\"#", "the request goes out at once");
        rig.data(0, 2, b"ab");
        assert_eq!(rig.ended(0), None);
        rig.data(0, 3, b"cd");
        assert_eq!(rig.ended(0), after_reply, "{close:?}");
        rig.fin(0, 4);
        assert_eq!(rig.ended(0), Some("close"));
        rig.closed(0, 5, CloseReason::Finished);
        let r = rig.generator.recorder();
        assert_eq!((r.connections, r.requests, r.established, rig.max_ms()), (1, 1, 1, 3));
        assert_eq!(rig.net.opened.len(), 2, "the next one has begun");
    }
}

#[test]
fn requests_follow_each_other_on_an_open_connection() {
    let mut rig = Rig::new(|plan| plan.workload.profile = Profile::Rr);
    rig.open(0, 1);
    rig.data(0, 2, b"abcd");
    rig.data(0, 7, b"abcd");
    assert_eq!(rig.net.conns[0].sent.len(), 12);
    assert_eq!((rig.generator.recorder().requests, rig.max_ms()), (2, 5));
}

#[test]
fn a_request_that_does_not_fit_goes_on_when_there_is_room() {
    let mut rig = Rig::new(|_| {});
    rig.net.conns[0].room = Some(3);
    rig.open(0, 1);
    assert_eq!(rig.net.conns[0].sent, b" !\"");
    let mut peer = &mut rig.net.conns[0];
    rig.generator.on_writable(0, Instant::from_millis(2), &mut peer);
    assert_eq!(rig.net.conns[0].sent, b" !\"#");
}

#[test]
fn failures_are_counted_once_and_by_kind() {
    type Act = fn(&mut Rig);
    let table: [(&str, Act); 6] = [
        ("refused", |rig| rig.closed(0, 1, CloseReason::Refused)),
        ("connect_timed_out", |rig| rig.closed(0, 1, CloseReason::ConnectTimedOut)),
        ("reset", |rig| {
            rig.open(0, 1);
            rig.closed(0, 2, CloseReason::Reset);
        }),
        ("closed_early", |rig| {
            rig.open(0, 1);
            rig.data(0, 1, b"ab");
            rig.fin(0, 2);
            rig.closed(0, 3, CloseReason::Finished);
        }),
        ("bad_reply", |rig| {
            rig.open(0, 1);
            rig.data(0, 2, b"abcde");
            rig.closed(0, 3, CloseReason::Aborted);
        }),
        ("reset", |rig| {
            rig.open(0, 1);
            rig.data(0, 2, b"abcd");
            rig.closed(0, 3, CloseReason::Reset);
        }),
    ];
    for (kind, act) in table {
        let mut rig = Rig::new(|_| {});
        act(&mut rig);
        let r = rig.generator.recorder();
        assert_eq!((r.errors_seen, rig.error(kind), r.connections), (1, 1, 0), "{kind}");
        assert_eq!(rig.net.opened.len(), 1, "it rests first");
        assert!(rig.generator.deadline() <= Instant::from_millis(13), "and asks to be called");
        rig.pump(20);
        assert_eq!(rig.net.opened.len(), 2, "and is then tried again");
    }
}

#[test]
fn what_cannot_even_begin_does_not_spin() {
    let mut rig = Rig::new(|plan| plan.connections = 2);
    rig.net.refuse = Some(ErrorKind::PortsExhausted);
    rig.closed(0, 1, CloseReason::Reset);
    rig.pump(12);
    rig.pump(12);
    assert_eq!((rig.error("ports_exhausted"), rig.net.opened.len()), (1, 3));
}

#[test]
fn the_open_loop_counts_from_the_intended_start() {
    let mut rig = Rig::new(|plan| plan.rate = Some(1_000));
    assert_eq!(rig.net.opened.len(), 1, "the first is due at once");
    // The only connection is busy for 5 ms, so the exchange meant for 1 ms begins late.
    rig.open(0, 0);
    rig.data(0, 5, b"abcd");
    rig.closed(0, 5, CloseReason::Finished);
    rig.open(0, 5);
    rig.data(0, 6, b"abcd");
    assert_eq!((rig.generator.recorder().requests, rig.max_ms()), (2, 5), "6 - 1 and not 6 - 5");
}

#[test]
fn connections_that_wait_for_the_next_intended_start_are_not_lost() {
    let mut rig = Rig::new(|plan| {
        plan.rate = Some(100);
        plan.connections = 3;
    });
    for ms in 1..30 {
        rig.pump(ms);
    }
    assert_eq!(rig.net.opened.len(), 3, "at 0, 10 and 20 ms");
}

#[test]
fn open_connections_wait_for_their_turn_in_the_open_loop() {
    let mut rig = Rig::new(|plan| {
        plan.workload.profile = Profile::Rr;
        plan.rate = Some(100);
        plan.connections = 2;
    });
    rig.open(0, 1);
    rig.open(1, 1);
    let sent = |rig: &Rig| [rig.net.conns[0].sent.len(), rig.net.conns[1].sent.len()];
    assert_eq!(sent(&rig), [4, 0], "one exchange was due, at 0 ms");
    assert_eq!(rig.generator.deadline(), Instant::from_millis(10));
    rig.pump(10);
    assert_eq!(sent(&rig), [4, 4]);
    rig.data(0, 11, b"abcd");
    rig.pump(19);
    assert_eq!(sent(&rig), [4, 4], "nothing is due before 20 ms");
    rig.pump(20);
    assert_eq!(sent(&rig), [8, 4]);
}

#[test]
fn the_backlog_of_the_open_loop_is_bounded() {
    let mut rig = Rig::new(|plan| plan.rate = Some(1_000));
    rig.pump(900);
    assert_eq!(rig.error("backlog"), 0);
    let mut rig = Rig::new(|plan| {
        plan.rate = Some(100);
        plan.duration = Duration::from_secs(9);
    });
    rig.pump(3_000);
    assert_eq!(rig.error("backlog"), 300 - 100 - 1, "one second's worth is kept, and one was taken");
}

#[test]
fn sources_and_targets_come_up_in_every_pairing() {
    let rig = Rig::new(|plan| {
        plan.connections = 6;
        plan.sources = Vec::from(["10.0.0.3".parse().unwrap(), "10.0.0.4".parse().unwrap()]);
        plan.targets =
            ["10.0.0.2:7", "10.0.0.2:8", "10.0.0.2:9"].iter().map(|text| text.parse().unwrap()).collect();
    });
    let pairs: std::collections::HashSet<_> =
        rig.net.opened.iter().map(|(_, open)| (open.source, open.remote)).collect();
    assert_eq!(pairs.len(), 6);
}

#[test]
fn the_end_waits_for_exchanges_under_way_and_not_for_ever() {
    let mut rig = Rig::new(|plan| plan.connections = 2);
    rig.open(0, 1);
    rig.open(1, 1);
    rig.pump(1_000);
    rig.data(0, 1_001, b"abcd");
    rig.closed(0, 1_002, CloseReason::Finished);
    assert_eq!(rig.net.opened.len(), 2, "nothing new begins");
    assert!(!rig.generator.is_done());
    rig.pump(3_000);
    assert_eq!((rig.ended(1), rig.error("unfinished")), (Some("abort"), 1));
    rig.closed(1, 3_001, CloseReason::Aborted);
    assert!(rig.generator.is_done());
    let merged = rig.control.merged().unwrap();
    assert_eq!((merged.requests, merged.connections, merged.errors_seen), (0, 0, 1), "after the window");
}

#[test]
fn the_wish_to_stop_ends_the_window_early() {
    let mut rig = Rig::new(|_| {});
    rig.open(0, 1);
    rig.control.stop();
    rig.pump(100);
    rig.data(0, 101, b"abcd");
    rig.closed(0, 101, CloseReason::Finished);
    assert!(rig.generator.is_done());
    assert_eq!(rig.generator.recorder().window().to, Instant::from_millis(100));
}

#[test]
fn a_stream_counts_octets_and_ends_with_a_reset() {
    let mut rig = Rig::new(|plan| plan.workload.profile = Profile::Bulk);
    rig.net.conns[0].room = Some(1_000);
    rig.open(0, 1);
    assert_eq!(rig.generator.recorder().sent, 1_000);
    rig.pump(1_000);
    assert_eq!(rig.ended(0), Some("abort"));
    rig.closed(0, 1_001, CloseReason::Aborted);
    assert_eq!((rig.generator.is_done(), rig.generator.recorder().errors_seen), (true, 0));
}

#[test]
fn connections_are_shared_out_completely() {
    let mut rig_plan = None;
    Rig::new(|plan| {
        plan.connections = 7;
        plan.workers = 3;
        rig_plan = Some(plan.clone());
    });
    let plan = rig_plan.unwrap();
    assert_eq!([0, 1, 2].map(|worker| plan.share(worker)), [3, 2, 2]);
}
