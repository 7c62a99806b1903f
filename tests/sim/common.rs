//! What the integration tests share: engines on a simulated network, and applications to run on them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use ringroad::base::{AddrPair, FlowId, HashKey, Instant, Seq};
use ringroad::io::link::LinkConfig;
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Connect, Cx, EngineConfig, Flow, Limits, Listen, Owners, Route, Routes};
use ringroad::tcp::{CloseReason, FlowOptions, Report, TcpConfig};
use ringroad::wire::{
    Control, EthernetView, Mac, PROTOCOL_ICMP, PROTOCOL_TCP, Sum, TcpFields, TcpView, checksum, ethernet,
    ipv4, tcp,
};

/// Small tables, so that full ones are near.
pub const LIMITS: Limits = Limits {
    flows_max: 64,
    half_open_max: 32,
    time_wait_max: 64,
    listeners_max: 8,
    neighbours_max: 8,
    chunk_len: 2_048,
    send_chunks: 2_048,
    recv_chunks: 2_048,
    reassembly_max: 64,
    busy_max: 64,
    models_max: 8,
    options_max: 16,
    output_burst: 16,
};

/// The address of host `n`.
pub fn v4(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// The IPv6 address of host `n`.
pub fn v6(n: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)])
}

/// The engine of host `n`, on a link with all the others.
pub fn config(n: u8) -> EngineConfig {
    let on_link = |destination, prefix_len| Route { destination, prefix_len, gateway: None, source: None };
    EngineConfig {
        limits: LIMITS,
        tcp: TcpConfig::default(),
        mac: Mac([2, 0, 0, 0, 0, n]),
        mtu: 1_500,
        routes: Routes {
            addresses: vec![v4(n), v6(n)],
            routes: vec![on_link(v4(0), 24), on_link(v6(0), 64)],
        },
        source_ports: 20_000..=20_999,
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        secret: HashKey::new(u64::from(n), 7),
    }
}

/// An active open to host `n`, port `port`.
pub fn connect(to: IpAddr, port: u16) -> Connect {
    Connect { remote: (to, port).into(), local: None, options: FlowOptions::default(), user: 0 }
}

/// A link as good as a cable: 50 us.
pub const CLEAN: LinkConfig = LinkConfig { delay_us: 50, ..LinkConfig::PERFECT };

/// The octet at `position` of the stream `stream`.
pub fn pattern(stream: u64, position: u64) -> u8 {
    let mixed = (position / 8 + stream.wrapping_mul(0x9e37_79b9)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed.rotate_left(23).to_le_bytes()[(position % 8) as usize]
}

/// One direction of one connection of [`Bulk`].
#[derive(Debug, Default)]
pub struct Transfer {
    pub sent: u64,
    pub received: u64,
    pub finished: bool,
}

/// Sends a pattern of a given length on every connection, then half-closes; checks what comes back.
#[derive(Debug, Default)]
pub struct Bulk {
    pub to: Option<Connect>,
    pub listen: Option<Listen>,
    /// Octets to send on each connection.
    pub send: u64,
    /// Our stream's number and the peer's.
    pub streams: (u64, u64),
    pub live: HashMap<FlowId, Transfer>,
    pub done: Vec<(Transfer, CloseReason)>,
}

impl Bulk {
    fn pump(&mut self, flow: &mut Flow<'_>) {
        let transfer = self.live.get_mut(&flow.id()).expect("announced");
        while transfer.sent < self.send {
            let len = (self.send - transfer.sent).min(5_000);
            let text: Vec<u8> = (0..len).map(|i| pattern(self.streams.0, transfer.sent + i)).collect();
            let taken = flow.send(&text);
            transfer.sent += taken as u64;
            if taken < text.len() {
                return;
            }
        }
        flow.shutdown();
    }

    fn open(&mut self, flow: &mut Flow<'_>) {
        assert!(self.live.insert(flow.id(), Transfer::default()).is_none(), "announced once");
        self.pump(flow);
    }
}

impl App for Bulk {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if let Some(listen) = &self.listen {
            cx.listen(listen).expect("a listener");
        }
        if let Some(to) = &self.to {
            cx.connect(to).expect("a connection");
        }
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.open(flow);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.open(flow);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        let transfer = self.live.get_mut(&flow.id()).expect("announced");
        for (at, &octet) in (transfer.received..).zip(data) {
            assert_eq!(octet, pattern(self.streams.1, at), "octet {at}");
        }
        transfer.received += data.len() as u64;
        data.len()
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        let transfer = self.live.get_mut(&flow.id()).expect("announced");
        assert!(!transfer.finished, "one FIN");
        transfer.finished = true;
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        self.pump(flow);
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        let transfer = self.live.remove(&flow.id()).unwrap_or_default();
        self.done.push((transfer, why));
    }
}

/// What happened to a [`Script`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ev {
    Accept,
    Connect,
    Data(Vec<u8>),
    Fin,
    Writable,
    Report(Report),
    Timer,
    Close(CloseReason),
}

type React = Box<dyn FnMut(&mut Flow<'_>, &Ev) -> usize>;
type Task = Box<dyn FnOnce(&mut Cx<'_>)>;
type OnTimer = Box<dyn FnMut(&mut Cx<'_>)>;

/// Records every callback and answers with a closure; its number counts for text only.
pub struct Script {
    pub log: Vec<Ev>,
    pub ids: Vec<FlowId>,
    pub worker_timers: u32,
    pub drains: u32,
    pub react: React,
    pub on_worker_timer: OnTimer,
    /// Done at the next start or wake.
    pub tasks: Vec<Task>,
}

impl Script {
    /// An application that answers with `react`.
    pub fn new(react: impl FnMut(&mut Flow<'_>, &Ev) -> usize + 'static) -> Self {
        Self {
            log: Vec::new(),
            ids: Vec::new(),
            worker_timers: 0,
            drains: 0,
            react: Box::new(react),
            on_worker_timer: Box::new(|_| ()),
            tasks: Vec::new(),
        }
    }

    /// Consumes everything and closes when the peer does.
    pub fn passive() -> Self {
        Self::new(|flow, event| match event {
            Ev::Fin => {
                flow.close();
                0
            }
            Ev::Data(text) => text.len(),
            _ => 0,
        })
    }

    /// Adds something to do at the next start or wake.
    pub fn then(mut self, task: impl FnOnce(&mut Cx<'_>) + 'static) -> Self {
        self.tasks.push(Box::new(task));
        self
    }

    fn event(&mut self, flow: &mut Flow<'_>, event: Ev) -> usize {
        if matches!(event, Ev::Accept | Ev::Connect) {
            self.ids.push(flow.id());
        }
        let answer = (self.react)(flow, &event);
        self.log.push(event);
        answer
    }

    fn work(&mut self, cx: &mut Cx<'_>) {
        self.tasks.drain(..).for_each(|task| task(cx));
    }

    /// How often `event` happened.
    pub fn count(&self, event: &Ev) -> usize {
        self.log.iter().filter(|logged| *logged == event).count()
    }

    /// All text received.
    pub fn text(&self) -> Vec<u8> {
        let texts = self.log.iter().filter_map(|event| match event {
            Ev::Data(text) => Some(text.as_slice()),
            _ => None,
        });
        texts.collect::<Vec<_>>().concat()
    }
}

impl App for Script {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        self.work(cx);
    }

    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.event(flow, Ev::Accept);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.event(flow, Ev::Connect);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        let consumed = (self.react)(flow, &Ev::Data(data.to_vec())).min(data.len());
        if consumed > 0 {
            self.log.push(Ev::Data(data[..consumed].to_vec()));
        }
        consumed
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.event(flow, Ev::Fin);
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        self.event(flow, Ev::Writable);
    }

    fn on_report(&mut self, flow: &mut Flow<'_>, report: Report) {
        self.event(flow, Ev::Report(report));
    }

    fn on_timer(&mut self, flow: &mut Flow<'_>) {
        self.event(flow, Ev::Timer);
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        self.event(flow, Ev::Close(why));
    }

    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {
        self.worker_timers += 1;
        (self.on_worker_timer)(cx);
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        self.work(cx);
    }

    fn on_drain(&mut self, _: &mut Cx<'_>) {
        self.drains += 1;
    }
}

/// Two hosts that know each other, not yet started: the client is host 0, the server host 1.
pub fn pair<A: App>(seed: u64, client: A, server: A, faults: LinkConfig) -> SimNet<A> {
    let mut net = SimNet::new(seed);
    net.add(config(1), client, faults);
    net.add(config(2), server, faults);
    net.introduce();
    net
}

/// The instant `seconds` from now.
pub fn after<A: App>(net: &SimNet<A>, seconds: u64) -> Instant {
    net.now().plus_micros(seconds * 1_000_000)
}

/// Runs for `seconds` of virtual time.
pub fn run<A: App>(net: &mut SimNet<A>, seconds: u64) {
    let until = after(net, seconds);
    assert!(net.run(until, 10_000_000), "it goes on for ever");
}

/// Runs while `goes_on`, which is told for how long it has run, in steps of 10 ms of virtual time and `most` at most;
/// returns how long that was.
pub fn run_while<A: App>(
    net: &mut SimNet<A>,
    most: Duration,
    mut goes_on: impl FnMut(&mut SimNet<A>, Duration) -> bool,
) -> Duration {
    let start = net.now();
    let mut took = Duration::ZERO;
    while goes_on(net, took) {
        assert!(net.run(net.now() + Duration::from_millis(10), 10_000_000), "it goes on for ever");
        took = net.now().since(start);
        assert!(took < most, "it does not end");
    }
    took
}

/// Nothing is left of any connection on any host.
pub fn assert_nothing_left<A: App>(net: &SimNet<A>, hosts: usize) {
    for host in 0..hosts {
        let engine = &net.host(host).engine;
        assert_eq!(engine.flow_count(), 0, "host {host}: flows");
        assert_eq!(engine.half_open_count(), 0, "host {host}: half-open");
        assert_eq!(engine.time_wait_count(), 0, "host {host}: TIME-WAIT");
        assert_eq!(engine.chunks_in_use(), (0, 0), "host {host}: chunks");
        assert_eq!(engine.busy_count(), 0, "host {host}: attached records");
        assert_eq!(engine.probe_histogram(), [0; 16], "host {host}: the flow table");
    }
}

/// Does something on host `host` now.
pub fn on(net: &mut SimNet<Script>, host: usize, task: impl FnOnce(&mut Cx<'_>) + 'static) {
    net.host_mut(host).app.tasks.push(Box::new(task));
    net.wake(host);
}

/// A link that carries nothing.
pub const CUT: LinkConfig = LinkConfig { loss: 1_000_000, ..CLEAN };

/// The headers of a crafted frame; the rest is customary.
#[derive(Clone, Copy, Debug)]
pub struct Crafted<'a> {
    pub from: (u8, u16),
    pub to: (u8, u16),
    pub seq: u32,
    pub ack: u32,
    pub ctl: Control,
    pub text: &'a [u8],
}

impl Crafted<'_> {
    /// The octets, over IPv4.
    pub fn frame(&self) -> Vec<u8> {
        let fields = TcpFields {
            src_port: self.from.1,
            dst_port: self.to.1,
            seq: Seq::new(self.seq),
            ack: Seq::new(self.ack),
            ctl: self.ctl,
            wnd: 65_535,
            urg: 0,
        };
        let mut segment = vec![0; tcp::HEADER_LEN + self.text.len()];
        tcp::emit(&mut segment, &fields, 0);
        segment[tcp::HEADER_LEN..].copy_from_slice(self.text);
        let addrs = AddrPair::new(v4(self.from.0), v4(self.to.0)).expect("one family");
        let mut sum = checksum::pseudo_header(&addrs, PROTOCOL_TCP, segment.len());
        sum.add(&segment);
        tcp::set_checksum(&mut segment, sum.finish());
        packet(self.from.0, self.to.0, PROTOCOL_TCP, &segment)
    }
}

/// A frame from host `from` to host `to` with an IPv4 packet around `payload`.
pub fn packet(from: u8, to: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
    let macs = (Mac([2, 0, 0, 0, 0, to]), Mac([2, 0, 0, 0, 0, from]));
    let at = ethernet::emit(&mut frame, macs.0, macs.1, None, ethernet::ETHER_TYPE_IPV4);
    let fields = ipv4::Ipv4Fields {
        src: [10, 0, 0, from].into(),
        dst: [10, 0, 0, to].into(),
        dscp: 0,
        ecn: 0,
        ttl: 64,
        protocol,
        payload_len: u16::try_from(payload.len()).expect("short"),
    };
    ipv4::emit(&mut frame[at..], &fields);
    frame.extend_from_slice(payload);
    frame
}

/// An ICMP error of `icmp_type` and `code` from host `from`, about `frame`, whose sender it goes to.
pub fn icmp_about(frame: &[u8], from: u8, to: u8, icmp_type: u8, code: u8, rest: u32) -> Vec<u8> {
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(rest.to_be_bytes());
    message.extend(&frame[ethernet::HEADER_LEN..][..28]);
    let mut sum = Sum::new();
    sum.add(&message);
    let sum = sum.finish().to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    packet(from, to, PROTOCOL_ICMP, &message)
}

/// A frame that was sent, taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    pub eth: EthernetView<'a>,
    pub tcp: TcpView<'a>,
}

/// Takes a frame apart.
pub fn see(frame: &[u8]) -> Seen<'_> {
    let eth = EthernetView::parse(frame).expect("Ethernet");
    let ip = ringroad::wire::ip::parse(eth.ether_type, eth.payload).expect("IP");
    assert!(checksum::verify(&ip.addrs, PROTOCOL_TCP, ip.payload), "a checksum that we sent");
    Seen { eth, tcp: TcpView::parse(ip.payload).expect("TCP") }
}

/// Which seeds to try: `RINGROAD_SEEDS`, a number of them or a range, else `usual`.
pub fn seeds(usual: Range<u64>) -> Range<u64> {
    match std::env::var("RINGROAD_SEEDS").ok().map(|seeds| (seeds.parse(), seeds)) {
        None => usual,
        Some((Ok(seeds), _)) => 0..seeds,
        Some((Err(_), range)) => {
            let (from, to) = range.split_once("..").expect("RINGROAD_SEEDS is N or FROM..TO");
            from.parse().expect("a number")..to.parse().expect("a number")
        }
    }
}
