//! An engine and smoltcp, an independent TCP, over a bad link: every octet once and in order, both ways.
use std::collections::VecDeque;
use std::net::IpAddr;

use super::common::{Bulk, config, connect, pattern, v4, v6};
use ringroad::base::{Instant, Rng};
use ringroad::stack::{Engine, Listen, TxBatch};
use ringroad::tcp::CloseReason;
use ringroad::wire::{Mac, ethernet};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{self, State};
use smoltcp::wire::{HardwareAddress, IpCidr};

/// smoltcp's side of the wire: whole IP packets.
#[derive(Default)]
struct Queues {
    rx: VecDeque<Vec<u8>>,
    tx: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);
struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push(packet);
        result
    }
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: smoltcp::time::Instant) -> Option<(Received, Sending<'_>)> {
        self.rx.pop_front().map(|packet| (Received(packet), Sending(&mut self.tx)))
    }

    fn transmit(&mut self, _: smoltcp::time::Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.tx))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = 1_500;
        capabilities
    }
}

/// The engine's side of the wire.
struct Frames {
    buffer: [u8; 1_600],
    sent: Vec<Vec<u8>>,
}

impl TxBatch for Frames {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.buffer)
    }

    fn commit(&mut self, len: usize) {
        self.sent.push(self.buffer[..len].to_vec());
    }
}

/// One frame or packet on its way: when it is due, and whether it goes to the engine.
type InFlight = (Instant, bool, Vec<u8>);

struct Bench {
    now: Instant,
    rng: Rng,
    chance: u32,
    in_flight: Vec<InFlight>,
    engine: Engine,
    app: Bulk,
    out: Frames,
    queues: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    socket: SocketHandle,
    /// Octets that smoltcp is to send, has sent, has received.
    send: u64,
    sent: u64,
    received: u64,
}

impl Bench {
    /// Engine on host 1, smoltcp on host 2; `chance` is that of each accident, parts per million.
    fn new(seed: u64, chance: u32, app: Bulk, send: u64) -> Self {
        let now = Instant::from_millis(1_000);
        let mut queues = Queues::default();
        let mut interface = Interface::new(Config::new(HardwareAddress::Ip), &mut queues, clock(now));
        interface.update_ip_addrs(|addrs| {
            for (ip, prefix_len) in [(v4(2), 24), (v6(2), 64)] {
                addrs.push(IpCidr::new(ip.into(), prefix_len)).expect("room for two");
            }
        });
        let buffer = || tcp::SocketBuffer::new(vec![0; 64 * 1_024]);
        let mut sockets = SocketSet::new(Vec::new());
        let socket = sockets.add(tcp::Socket::new(buffer(), buffer()));
        let mut engine = Engine::new(config(1), now);
        for ip in [v4(2), v6(2)] {
            engine.set_neighbour(ip, Mac([2, 0, 0, 0, 0, 2]));
        }
        let out = Frames { buffer: [0; 1_600], sent: Vec::new() };
        let rng = Rng::new(seed);
        let in_flight = Vec::new();
        Self {
            now,
            rng,
            chance,
            in_flight,
            engine,
            app,
            out,
            queues,
            interface,
            sockets,
            socket,
            send,
            sent: 0,
            received: 0,
        }
    }

    fn socket(&mut self) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(self.socket)
    }

    /// smoltcp's application: the mirror of [`Bulk`].
    fn exchange(&mut self) {
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(self.socket);
        while socket.can_recv() {
            let received = &mut self.received;
            let consume = |text: &mut [u8]| {
                for &mut octet in &mut *text {
                    assert_eq!(octet, pattern(1, *received), "octet {received} from the engine");
                    *received += 1;
                }
                (text.len(), ())
            };
            socket.recv(consume).expect("it can receive");
        }
        while socket.can_send() && self.sent < self.send {
            let len = (self.send - self.sent).min(3_000);
            let text: Vec<u8> = (0..len).map(|i| pattern(2, self.sent + i)).collect();
            self.sent += socket.send_slice(&text).expect("it can send") as u64;
        }
        if self.sent == self.send && socket.may_send() {
            socket.close();
        }
    }

    /// Puts what both sides sent on its way.
    fn carry(&mut self) {
        let to_smoltcp = self.out.sent.drain(..).map(|frame| (false, frame[ethernet::HEADER_LEN..].to_vec()));
        let to_engine = self.queues.tx.drain(..).map(|packet| {
            let mut frame = vec![0; ethernet::HEADER_LEN];
            let kind =
                if packet[0] >> 4 == 4 { ethernet::ETHER_TYPE_IPV4 } else { ethernet::ETHER_TYPE_IPV6 };
            ethernet::emit(&mut frame, Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]), None, kind);
            frame.extend(packet);
            (true, frame)
        });
        for (to_engine, octets) in to_smoltcp.chain(to_engine) {
            let copies = 1 + u32::from(self.rng.chance(self.chance));
            for _ in 0..copies {
                if self.rng.chance(self.chance) {
                    continue;
                }
                let mut octets = octets.clone();
                if self.rng.chance(self.chance) {
                    let at = octets.len() - 1 - self.rng.below(20) as usize;
                    octets[at] ^= 4;
                }
                let late = if self.rng.chance(self.chance) { 9_000 } else { 1_000 };
                self.in_flight.push((self.now.plus_micros(late), to_engine, octets));
            }
        }
    }

    /// One moment: what is due arrives, both sides act, time goes on to the next event. False when there is none.
    fn step(&mut self) -> bool {
        let now = self.now;
        let (due, later) = self.in_flight.drain(..).partition(|(at, ..)| *at <= now);
        self.in_flight = later;
        let due: Vec<InFlight> = due;
        for (_, to_engine, octets) in due {
            if to_engine {
                self.engine.on_batch(now, [octets].as_slice(), &mut self.app, &mut self.out);
            } else {
                self.queues.rx.push_back(octets);
            }
        }
        self.engine.on_timers(now, 100, &mut self.app, &mut self.out);
        self.engine.check_invariants();
        self.interface.poll(clock(now), &mut self.queues, &mut self.sockets);
        self.exchange();
        self.interface.poll(clock(now), &mut self.queues, &mut self.sockets);
        self.carry();
        let theirs = self.interface.poll_at(clock(now), &self.sockets);
        let theirs =
            theirs.map(|at| Instant::from_micros(u64::try_from(at.total_micros()).expect("after zero")));
        let arrival = self.in_flight.iter().map(|(at, ..)| *at).min();
        let next = [theirs, arrival, self.engine.next_deadline()].into_iter().flatten().min();
        self.now = next.unwrap_or(now).max(now.plus_micros(1));
        next.is_some()
    }

    /// Returns whether it came to its end. smoltcp 0.14 was seen to wait for an acknowledgment with no timer set,
    /// and then nothing ever happens again.
    fn run(&mut self) -> bool {
        for _ in 0..200_000 {
            let goes_on = self.step();
            let theirs = matches!(self.socket().state(), State::Closed | State::TimeWait);
            if theirs
                && self.engine.flow_count() + self.engine.time_wait_count() == 0
                && !self.app.done.is_empty()
            {
                return true;
            }
            if !goes_on && self.socket().send_queue() > 0 {
                return false;
            }
        }
        panic!("{:?} {:?} {:?}", self.socket().state(), self.app, self.engine.counters());
    }
}

fn clock(now: Instant) -> smoltcp::time::Instant {
    smoltcp::time::Instant::from_micros(i64::try_from(now.as_micros()).expect("not so late"))
}

/// Transfers `up` octets from the engine and `down` to it, over a connection that either may open; returns whether
/// smoltcp played along.
fn transfer(seed: u64, chance: u32, engine_opens: bool, v6_too: bool, up: u64, down: u64) -> bool {
    let (ours, theirs): (IpAddr, IpAddr) = if v6_too { (v6(1), v6(2)) } else { (v4(1), v4(2)) };
    let app = Bulk { send: up, streams: (1, 2), ..Bulk::default() };
    let app = if engine_opens {
        Bulk { to: Some(connect(theirs, 80)), ..app }
    } else {
        Bulk { listen: Some(Listen::new(ours, 80)), ..app }
    };
    let mut bench = Bench::new(seed, chance, app, down);
    bench.engine.start(bench.now, &mut bench.app, &mut bench.out);
    let socket = bench.sockets.get_mut::<tcp::Socket<'_>>(bench.socket);
    if engine_opens {
        socket.listen(80).expect("a listener");
    } else {
        socket.connect(bench.interface.context(), (ours, 80), 49_152).expect("a connection");
    }
    if !bench.run() {
        assert_eq!(bench.received, up, "what the engine sends arrives all the same");
        return false;
    }
    let (transfer, why) = &bench.app.done[0];
    assert_eq!((transfer.received, transfer.finished, *why), (down, true, CloseReason::Finished));
    assert_eq!(bench.received, up);
    assert_eq!(bench.engine.chunks_in_use(), (0, 0));
    true
}

#[test]
fn both_agree_on_every_octet_over_a_clean_link() {
    for engine_opens in [true, false] {
        for v6_too in [true, false] {
            for (up, down) in [(1, 1), (0, 300_000), (300_000, 0), (500_000, 500_000)] {
                assert!(transfer(1, 0, engine_opens, v6_too, up, down));
            }
        }
    }
}

#[test]
fn both_agree_on_every_octet_over_a_bad_link() {
    let ended = (0..40).filter(|&seed| transfer(seed, 20_000, seed % 2 == 0, seed % 4 < 2, 100_000, 80_000));
    assert!(ended.count() >= 36, "smoltcp gave up too often");
}
