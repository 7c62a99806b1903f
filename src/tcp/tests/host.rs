//! One end of a connection with everything it needs, in virtual time; the scenario plays the peer.
#![forbid(unsafe_code)]

use core::time::Duration;
use std::collections::VecDeque;
use std::string::String;
use std::vec::Vec;

use super::segments::{IRS, ISS, Seg, Sent, a, octet, s, sa};
use crate::base::{Clock, Counter, Counters, DropReason, HashKey, Instant, Seq};
use crate::tcp::ecn::Ecn;
use crate::tcp::segment::Outgoing;
use crate::tcp::tcb::Fin;
use crate::tcp::{
    ChallengeLimit, ChunkPool, CloseReason, CongestionAlgorithm, Env, FlowInfo, FlowOptions, HalfOpen,
    IcmpMeaning, Opening, RecvPools, Report, Segment, SettingsId, Shared, State, Tcb, TcpConfig,
};

/// What a TCB borrows for each call.
#[derive(Debug)]
pub struct Lent {
    pub now: Instant,
    clock: Clock,
    pub config: TcpConfig,
    pub recv: RecvPools,
    pub counters: Counters,
    pub shared: Shared,
}

impl Lent {
    pub fn env(&mut self) -> Env<'_> {
        self.clock = Clock::new(self.now);
        Env {
            now: &self.clock,
            config: &self.config,
            recv: &mut self.recv,
            counters: &mut self.counters,
            shared: &mut self.shared,
        }
    }

    /// The settings of `options`.
    pub fn settings(&mut self, options: &FlowOptions) -> SettingsId {
        self.shared.settings.intern(options).expect("there is room")
    }

    pub fn opening(&self, iss: Seq) -> Opening {
        Opening { timestamp_offset: STAMP_OFFSET, ..opening(iss, self.now) }
    }

    /// An active open.
    pub fn active_open(&mut self, iss: Seq, options: &FlowOptions) -> Tcb {
        let settings = self.settings(options);
        let mut tcb = Tcb::default();
        tcb.open(&self.opening(iss), options, settings, &self.shared, &self.config);
        tcb
    }

    /// The TCB of a half-open connection.
    pub fn opened(&mut self, half: &HalfOpen, iss: Seq, options: &FlowOptions) -> Tcb {
        let settings = self.settings(options);
        let mut tcb = Tcb::default();
        half.fill(&mut tcb, &self.opening(iss), settings, &self.env());
        tcb
    }
}

/// What the last segment did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub dropped: Option<DropReason>,
    pub reset: Option<Outgoing>,
    pub opened: bool,
    pub urgent: Option<u32>,
    /// The peer's FIN was taken.
    pub fin: bool,
}

/// A TCB with its surroundings and its user.
#[derive(Debug)]
pub struct Host {
    pub tcb: Tcb,
    pub lent: Lent,
    pub seen: Seen,
    /// What the user has read.
    pub read: Vec<u8>,
    /// How often the user was told of the peer's FIN.
    pub fins: u32,
    pub reports: Vec<Report>,
    /// Octets the user takes of what is offered to it, each time.
    pub appetite: usize,
    pub sent: VecDeque<Sent>,
    /// The relative number of the next octet that [`Host::send`] queues.
    next: u32,
}

/// Micro- and milliseconds modulo 2^32 begin anew 2.5 s after scenarios begin, in the middle of most.
const START: Instant = Instant::from_millis((1 << 32) - 2_500);
/// With it the first TSval is 12,000.
pub const STAMP_OFFSET: u32 = 14_500;

pub fn config() -> TcpConfig {
    TcpConfig { timestamps: false, sack: false, window_scale: false, ..TcpConfig::default() }
}

/// With the windows of RFC 5681, which are worked out in one's head.
pub fn options() -> FlowOptions {
    FlowOptions { congestion: CongestionAlgorithm::NewReno, ..FlowOptions::default() }
}

pub fn opening(iss: Seq, now: Instant) -> Opening {
    Opening { iss, mss: 1_000, mss_default: 536, timestamp_offset: 7_000, now }
}

impl Host {
    pub fn new(config: TcpConfig, make: impl FnOnce(&mut Lent) -> Tcb) -> Self {
        let mut lent = Lent {
            now: START,
            clock: Clock::new(START),
            config,
            recv: RecvPools::new(2_048, 512, 4),
            counters: Counters::new(),
            shared: Shared::new(
                4,
                4,
                4,
                ChunkPool::new(2_048, 512),
                ChallengeLimit::new(&HashKey::new(1, 2), 0, Instant::ZERO),
            ),
        };
        let tcb = make(&mut lent);
        Self {
            tcb,
            lent,
            seen: Seen::default(),
            read: Vec::new(),
            fins: 0,
            reports: Vec::new(),
            appetite: usize::MAX,
            sent: VecDeque::new(),
            next: 1,
        }
    }

    /// An active open with these settings, before its SYN is looked at.
    pub fn opening_with(adjust: impl FnOnce(&mut TcpConfig, &mut FlowOptions)) -> Self {
        let (mut config, mut options) = (config(), options());
        adjust(&mut config, &mut options);
        let mut host = Self::new(config, |lent| lent.active_open(ISS, &options));
        host.drain();
        host
    }

    /// SYN-SENT, the SYN out.
    #[track_caller]
    pub fn syn_sent() -> Self {
        let mut host = Self::opening_with(|_, _| {});
        host.expect("S 0+0");
        host
    }

    /// ESTABLISHED by active open, with these settings and this SYN-ACK.
    #[track_caller]
    pub fn open(adjust: impl FnOnce(&mut TcpConfig, &mut FlowOptions), syn_ack: Seg) -> Self {
        let mut host = Self::opening_with(adjust);
        host.expect("S 0+0");
        host.recv(syn_ack);
        host.expect("A 1+0 ack 1");
        host.expect_state(State::Established);
        host
    }

    /// ESTABLISHED by active open.
    #[track_caller]
    pub fn established() -> Self {
        Self::open(|_, _| {}, sa())
    }

    /// SYN-RECEIVED as the stack makes it when the answer to a SYN-ACK comes.
    pub fn half_open(syn: &Seg, adjust: impl FnOnce(&mut TcpConfig, &mut FlowOptions)) -> Self {
        let (mut config, mut options) = (config(), options());
        adjust(&mut config, &mut options);
        Self::new(config, |lent| {
            let half = HalfOpen::new(&syn.segment(), ISS, lent.now);
            lent.opened(&half, Seq::new(0), &options)
        })
    }

    /// ESTABLISHED by passive open.
    #[track_caller]
    pub fn accepted() -> Self {
        let mut host = Self::half_open(&s(), |_, _| {});
        host.recv(a(1, 1));
        host.expect_state(State::Established);
        host
    }

    /// One of the states, reached by the shortest way; everything sent on it is forgotten.
    #[track_caller]
    pub fn in_state(state: State) -> Self {
        use super::segments::fa;
        let mut host = match state {
            State::SynSent => Self::syn_sent(),
            State::SynReceived => {
                let mut host = Self::syn_sent();
                host.recv(s());
                host
            }
            _ => Self::established(),
        };
        if matches!(state, State::CloseWait | State::LastAck) {
            host.recv(fa(1, 1));
        }
        if !matches!(state, State::SynSent | State::SynReceived | State::Established | State::CloseWait) {
            host.shutdown();
        }
        match state {
            State::FinWait2 => host.recv(a(1, 2)),
            State::Closing => host.recv(fa(1, 1)),
            State::TimeWait => host.recv(fa(1, 2)),
            _ => {}
        }
        host.expect_state(state);
        host.sent.clear();
        host
    }

    /// As if both SYNs had asked for explicit congestion notification.
    pub fn use_ecn(&mut self) {
        self.tcb.ecn = Ecn::agreed(true);
    }

    /// A segment arrives, alone in its batch.
    pub fn recv(&mut self, seg: Seg) {
        self.recv_batch(&[seg]);
    }

    /// Several segments arrive in one batch.
    pub fn recv_batch(&mut self, segs: &[Seg]) {
        for seg in segs {
            self.arrive(&seg.segment());
        }
        self.drain();
    }

    pub fn arrive(&mut self, seg: &Segment<'_>) {
        let mut env = self.lent.env();
        let arrival = self.tcb.on_segment(seg, &mut env);
        self.seen = Seen {
            dropped: arrival.dropped,
            reset: arrival.reset,
            opened: arrival.opened,
            urgent: arrival.urgent,
            fin: false,
        };
        if arrival.dropped.is_none() {
            let mut consumed = 0;
            if self.tcb.is_reading() {
                consumed = arrival.text.len().min(self.appetite);
                self.read.extend_from_slice(&arrival.text[..consumed]);
            }
            self.seen.fin = self.tcb.accept_text(arrival.text, consumed, &mut env);
        }
        self.user_reads();
        self.tcb.check_invariants();
        self.tcb.check_board(&self.lent.shared);
    }

    /// The user reads what is kept, up to its appetite, and is told of the FIN behind it.
    fn user_reads(&mut self) {
        let mut left = self.appetite;
        while self.tcb.has_readable() && left > 0 {
            let front = self.tcb.front(&self.lent.recv, &mut self.lent.shared);
            let n = front.len().min(left);
            self.read.extend_from_slice(&front[..n]);
            left -= n;
            let n = u32::try_from(n).expect("a chunk");
            let lent = &mut self.lent;
            self.tcb.consumed(n, &mut lent.recv, &mut lent.shared, &mut lent.counters);
        }
        self.fins += u32::from(self.tcb.take_fin());
    }

    /// The user reads up to `octets` of what is kept.
    pub fn read(&mut self, octets: usize) {
        let appetite = core::mem::replace(&mut self.appetite, octets);
        self.user_reads();
        self.appetite = appetite;
        self.drain();
    }

    /// Polls until there is nothing to send.
    pub fn drain(&mut self) {
        for _ in 0..10_000 {
            let Some(out) = self.tcb.poll_segment(&mut self.lent.env()) else {
                self.tcb.check_invariants();
                self.tcb.check_board(&self.lent.shared);
                self.tcb.check_drained();
                return;
            };
            let mut text = Vec::new();
            let lent = &mut self.lent;
            if out.text_len > 0 {
                self.tcb.text(&out, &mut lent.shared, |slice| text.extend_from_slice(slice));
            }
            let sack = self.tcb.sack_blocks(&out, &lent.recv, &mut lent.shared);
            self.sent.push_back(Sent::new(out, sack, text));
        }
        panic!("sends without end");
    }

    /// Queues `len` octets; each has the value that its number says.
    #[track_caller]
    pub fn send(&mut self, len: u32) {
        let data: Vec<u8> = (self.next..self.next + len).map(octet).collect();
        let taken = self.take(&data);
        assert_eq!(taken, data.len(), "the send buffer is full");
        self.next += len;
        self.drain();
    }

    /// SEND, without looking at what goes out.
    pub fn take(&mut self, data: &[u8]) -> usize {
        self.tcb.send(data, &mut self.lent.shared)
    }

    /// STATUS.
    pub fn info(&self) -> FlowInfo {
        self.tcb.info(&self.lent.shared)
    }

    pub fn deadline(&self) -> Instant {
        self.tcb.deadline(self.lent.now).min(self.tcb.due(self.lent.now, &self.lent.shared))
    }

    /// CLOSE, without looking at what goes out.
    pub fn just_close(&mut self) {
        let lent = &mut self.lent;
        self.tcb.close(lent.now, &lent.config, &lent.shared, &mut lent.counters);
    }

    pub fn shutdown(&mut self) {
        self.tcb.shutdown();
        self.drain();
    }

    pub fn close(&mut self) {
        self.just_close();
        self.drain();
    }

    pub fn abort(&mut self) {
        self.tcb.abort(&mut self.lent.counters);
        self.drain();
    }

    /// Time passes; deadlines on the way are met exactly.
    pub fn wait(&mut self, by: Duration) {
        let end = self.lent.now + by;
        while self.deadline() <= end {
            self.fire();
        }
        self.lent.now = end;
    }

    pub fn wait_ms(&mut self, ms: u64) {
        self.wait(Duration::from_millis(ms));
    }

    /// Time passes up to the next deadline; returns how long that took, in milliseconds.
    #[track_caller]
    pub fn fire(&mut self) -> u64 {
        let at = self.deadline();
        assert_ne!(at, Instant::NEVER, "no timer is running");
        let took = at.since(self.lent.now);
        self.lent.now = self.lent.now.max(at);
        let expired = self.tcb.on_timers(&mut self.lent.env());
        self.reports.extend(expired.report);
        self.tcb.check_invariants();
        self.tcb.check_board(&self.lent.shared);
        self.drain();
        u64::try_from(took.as_millis()).expect("not that long")
    }

    pub fn icmp(&mut self, meaning: IcmpMeaning, seq: u32) -> Result<Option<Report>, DropReason> {
        let result = self.tcb.on_icmp(meaning, ISS + seq, &mut self.lent.env());
        self.drain();
        result
    }

    /// Takes the next segment sent and compares it, in the form `PA 1+5 ack 1`; its text is what was queued.
    #[track_caller]
    pub fn expect(&mut self, line: &str) -> Sent {
        let Some(sent) = self.sent.pop_front() else { panic!("nothing was sent; expected {line}") };
        assert_eq!(sent.line(ISS, IRS), line, "{} more were sent", self.sent.len());
        let first = sent.out.seq.since(ISS);
        let want: Vec<u8> = (first..).take(sent.text.len()).map(octet).collect();
        assert!(sent.text == want, "wrong text in {line}");
        assert_eq!(sent.text.len(), sent.out.text_len as usize);
        sent
    }

    /// Nothing more was sent.
    #[track_caller]
    pub fn expect_nothing(&self) {
        let lines: Vec<String> = self.sent.iter().map(|sent| sent.line(ISS, IRS)).collect();
        assert!(lines.is_empty(), "sent {lines:?}");
    }

    #[track_caller]
    pub fn expect_state(&self, state: State) {
        assert_eq!((self.tcb.state(), self.tcb.closed()), (state, None));
    }

    #[track_caller]
    pub fn expect_closed(&self, why: CloseReason) {
        assert_eq!(self.tcb.closed(), Some(why), "{:?}", self.tcb.state());
        assert_eq!(self.deadline(), Instant::NEVER, "a closed connection has no timers");
    }

    #[track_caller]
    pub fn expect_dropped(&self, why: DropReason) {
        assert_eq!(self.seen.dropped, Some(why));
    }

    pub fn count(&self, counter: Counter) -> u64 {
        self.lent.counters.get(counter)
    }

    pub fn cwnd(&self) -> u32 {
        self.tcb.congestion.cwnd()
    }

    /// RCV.UP is so far ahead of RCV.NXT.
    pub fn set_urgent_end(&mut self, ahead: u32) {
        let end = self.tcb.rcv.nxt + ahead;
        self.tcb.attach(&mut self.lent.shared).expect("there is room").urgent = Some(end);
    }

    /// Whether the FIN is sent, and whether it is acknowledged.
    pub fn fin(&self) -> Fin {
        self.tcb.snd.fin
    }
}
