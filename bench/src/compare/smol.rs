//! Short connections on smoltcp: two interfaces on one thread, joined by wires in memory.
//!
//! Each side takes in what has arrived, lets the application act on every socket, and sends what there is
//! then, so that an ACK rides on the request or reply where it can. All connections of a round run at the same
//! time; the next begin on sockets in TIME-WAIT, which smoltcp allows and so need not remember anything.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant as WallClock};

use anyhow::{anyhow, ensure};
use ringroad::io::memory::MemoryWire;
use ringroad::stack::{RxBatch, TxBatch};
use smoltcp::iface::{
    Config, Interface, PollIngressSingleResult, PollResult, SocketHandle, SocketSet, SocketStorage,
};
use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration as Span, Instant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr};

use super::Run;
use crate::workload::{MESSAGE, PORT};

const MTU: usize = 1_500;
const CLIENT: IpAddress = IpAddress::v4(10, 0, 0, 1);
const SERVER: IpAddress = IpAddress::v4(10, 0, 0, 2);
/// Octets of each socket's buffers: enough for the messages, and little to drag through the caches.
const BUFFER_LEN: usize = 512;
/// Turns of one round: a connection takes some six.
const TURNS_MAX: u32 = 100_000;

/// What an interface reads from, and what it writes to.
struct Device {
    rx: MemoryWire,
    read: usize,
    tx: MemoryWire,
}

struct RxToken<'a>(&'a [u8]);

struct TxToken<'a>(&'a mut MemoryWire);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let frame = self.0.reserve().expect("a token is given only when there is room");
        let result = f(&mut frame[..len]);
        self.0.commit(len);
        result
    }
}

impl phy::Device for Device {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        if self.read == self.rx.len() || self.tx.is_full() {
            return None;
        }
        let frame = self.rx.frame(self.read);
        self.read += 1;
        Some((RxToken(frame), TxToken(&mut self.tx)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<TxToken<'_>> {
        (!self.tx.is_full()).then_some(TxToken(&mut self.tx))
    }

    /// Checksums are computed and verified, as they are by default.
    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

/// One interface and its sockets.
struct End {
    interface: Interface,
    device: Device,
    sockets: SocketSet<'static>,
    handles: Vec<SocketHandle>,
}

impl End {
    fn new(address: IpAddress, sockets: usize) -> Self {
        // Every socket may send twice in a turn.
        let wire = || MemoryWire::new(sockets * 2 + 64, MTU);
        let mut device = Device { rx: wire(), read: 0, tx: wire() };
        let mut interface =
            Interface::new(Config::new(HardwareAddress::Ip), &mut device, Instant::from_millis(0));
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(address, 24)).expect("there is room for an address");
        });
        let mut set = SocketSet::new(Vec::<SocketStorage<'static>>::with_capacity(sockets));
        let handles = (0..sockets).map(|_| set.add(socket())).collect();
        Self { interface, device, sockets: set, handles }
    }

    fn receive(&mut self, now: Instant) {
        let Self { interface, device, sockets, .. } = self;
        while interface.poll_ingress_single(now, device, sockets) != PollIngressSingleResult::None {}
        device.rx.clear();
        device.read = 0;
    }

    fn send(&mut self, now: Instant) {
        let Self { interface, device, sockets, .. } = self;
        while interface.poll_egress(now, device, sockets) != PollResult::None {}
    }
}

fn socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER_LEN]);
    let mut socket = Socket::new(buffer(), buffer());
    socket.set_nagle_enabled(false);
    socket
}

/// How far a client's connection is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Asked,
    Closing,
    Done,
}

struct Pair {
    client: End,
    server: End,
    phases: Vec<Phase>,
    open: usize,
    now: Instant,
    next_port: u16,
}

/// Short connections, `connections` at a time, for about `time`, after a round as warm-up.
pub fn run(connections: u32, time: Duration) -> anyhow::Result<Run> {
    let sockets = usize::try_from(connections)?;
    let mut pair = Pair {
        client: End::new(CLIENT, sockets),
        server: End::new(SERVER, sockets),
        phases: vec![Phase::Done; sockets],
        open: 0,
        now: Instant::from_millis(1),
        next_port: 1_024,
    };
    pair.round()?;
    let (start, mut rounds) = (WallClock::now(), 0);
    while start.elapsed() < time {
        pair.round()?;
        rounds += 1;
    }
    let closed = f64::from(connections) * f64::from(rounds);
    Ok(Run { connections, per_second: closed / start.elapsed().as_secs_f64() })
}

impl Pair {
    /// One connection on each socket, from SYN to TIME-WAIT.
    fn round(&mut self) -> anyhow::Result<()> {
        self.connect()?;
        let mut turns = 0;
        while self.open > 0 || self.client.device.rx.len() + self.server.device.rx.len() > 0 {
            self.now += Span::from_micros(10);
            self.server.receive(self.now);
            self.serve()?;
            self.server.send(self.now);
            std::mem::swap(&mut self.server.device.tx, &mut self.client.device.rx);
            self.client.receive(self.now);
            self.ask()?;
            self.client.send(self.now);
            std::mem::swap(&mut self.client.device.tx, &mut self.server.device.rx);
            turns += 1;
            ensure!(turns < TURNS_MAX, "smoltcp stopped making progress");
        }
        Ok(())
    }

    fn connect(&mut self) -> anyhow::Result<()> {
        let End { interface, sockets, handles, .. } = &mut self.client;
        for (&handle, phase) in handles.iter().zip(&mut self.phases) {
            let socket = sockets.get_mut::<Socket<'_>>(handle);
            socket
                .connect(interface.context(), (SERVER, PORT), self.next_port)
                .map_err(|error| anyhow!("smoltcp refuses to connect: {error:?}"))?;
            *phase = Phase::Opening;
            self.next_port = self.next_port.checked_add(1).unwrap_or(1_024);
        }
        self.open = handles.len();
        Ok(())
    }

    /// The client's application.
    fn ask(&mut self) -> anyhow::Result<()> {
        let End { sockets, handles, .. } = &mut self.client;
        for (&handle, phase) in handles.iter().zip(&mut self.phases) {
            let socket = sockets.get_mut::<Socket<'_>>(handle);
            match phase {
                Phase::Opening if socket.may_send() => {
                    ensure!(socket.send_slice(&MESSAGE) == Ok(MESSAGE.len()), "no room for a request");
                    *phase = Phase::Asked;
                }
                Phase::Asked if socket.can_recv() => {
                    let got = socket.recv(|text| (text.len(), text.len()));
                    ensure!(got == Ok(MESSAGE.len()), "a reply came in pieces: {got:?}");
                    socket.close();
                    *phase = Phase::Closing;
                }
                Phase::Closing if socket.state() == State::TimeWait => {
                    *phase = Phase::Done;
                    self.open -= 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The server's application.
    fn serve(&mut self) -> anyhow::Result<()> {
        let End { sockets, handles, .. } = &mut self.server;
        for &handle in &*handles {
            let socket = sockets.get_mut::<Socket<'_>>(handle);
            if socket.can_recv() {
                let mut text = [0; MESSAGE.len()];
                let got = socket.recv_slice(&mut text).map_err(|error| anyhow!("{error}"))?;
                ensure!(socket.send_slice(&text[..got]) == Ok(got), "no room for a reply");
            }
            match socket.state() {
                State::CloseWait => socket.close(),
                State::Closed => {
                    socket.listen(PORT).map_err(|error| anyhow!("smoltcp cannot listen: {error:?}"))?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_with_every_socket_ready_for_the_next() {
        let run = run(3, Duration::from_millis(1)).expect("it runs");
        assert!(run.per_second > 0.0);
        assert_eq!(run.connections, 3);
    }
}
