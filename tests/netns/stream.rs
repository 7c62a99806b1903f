//! Many octets each way, compared one by one at the other end.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ringroad::cli::lab::{End, Lab};
use ringroad::runtime::{self, Ready, RunConfig};
use ringroad::stack::{App, Connect, Cx, Flow};
use ringroad::tcp::{CloseReason, FlowOptions, TcpConfig};

use super::lab::{CLIENT, Net, SERVER, assert_kernel_content, connect, patient};
use super::program::PATIENCE;

const OCTETS: usize = 100_000_000;
const CHUNK: usize = 64 * 1024;
const SEED: u64 = 42;

/// Words that look random (xorshift64), the same for the same seed.
pub struct Noise(u64);

impl Noise {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }
}

impl Iterator for Noise {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Some(self.0)
    }
}

/// The whole stream that [`send_and_compare`] and [`exchange_with_a_kernel`] send.
pub fn noise(octets: usize) -> Vec<u8> {
    let mut noise: Vec<u8> = Noise::new(SEED).take(octets.div_ceil(8)).flat_map(u64::to_le_bytes).collect();
    noise.truncate(octets);
    noise
}

/// A stream of noise, an octet at a time or many.
struct Stream {
    words: Noise,
    chunk: Vec<u8>,
    at: usize,
    left: usize,
}

impl Stream {
    fn new(octets: usize) -> Self {
        Self { words: Noise::new(SEED), chunk: Vec::new(), at: 0, left: octets }
    }

    /// The octets that come next, some of them at least; empty at the end.
    fn peek(&mut self) -> &[u8] {
        if self.at == self.chunk.len() {
            self.chunk.clear();
            self.chunk.extend(self.words.by_ref().take(CHUNK / 8).flat_map(u64::to_le_bytes));
            self.at = 0;
        }
        let end = self.chunk.len().min(self.at + self.left);
        &self.chunk[self.at..end]
    }

    fn skip(&mut self, octets: usize) {
        self.at += octets;
        self.left -= octets;
    }

    /// Takes octets that arrived; they must be those that come next.
    fn assert_next(&mut self, mut arrived: &[u8]) {
        while !arrived.is_empty() {
            let left = self.left;
            let expected = self.peek();
            let n = expected.len().min(arrived.len());
            assert!(n > 0 && arrived[..n] == expected[..n], "octets differ {left} before the end");
            self.skip(n);
            arrived = &arrived[n..];
        }
    }
}

/// Writes `octets` of noise and then FIN, while, from `pause` on, what is echoed is read to its end and compared.
pub fn send_and_compare(mut stream: TcpStream, octets: usize, pause: Duration) {
    let mut writer = stream.try_clone().expect("a second descriptor");
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut sent = Stream::new(octets);
            while sent.left > 0 {
                let n = writer.write(sent.peek()).expect("the peer reads");
                sent.skip(n);
            }
            writer.shutdown(Shutdown::Write).expect("it is connected");
        });
        thread::sleep(pause);
        let mut expected = Stream::new(octets);
        let mut chunk = vec![0; CHUNK];
        loop {
            match stream.read(&mut chunk).expect("the echo") {
                0 => break,
                n => expected.assert_next(&chunk[..n]),
            }
        }
        assert_eq!(expected.left, 0, "octets are missing");
    });
}

/// Echoes one connection with the kernel's TCP until FIN.
fn echo_once(listener: &TcpListener) {
    let mut stream = patient(listener.accept().expect("a connection").0);
    let mut chunk = vec![0; CHUNK];
    loop {
        match stream.read(&mut chunk).expect("the peer sends") {
            0 => break,
            n => stream.write_all(&chunk[..n]).expect("the peer reads"),
        }
    }
}

#[test]
fn a_hundred_megabytes_come_back_from_ringroads_echo() {
    let Some(net) = Net::up("echo") else { return };
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo"]);
        let before = net.kernel_counters(End::Client);
        net.at(End::Client, || send_and_compare(connect(server.addr), OCTETS, Duration::ZERO));
        assert_kernel_content(&net, End::Client, &before);
        server.stop();
    }
}

/// An application that sends the stream over one connection, and compares what comes back.
struct Sender {
    to: SocketAddr,
    sent: Stream,
    expected: Stream,
    done: mpsc::Sender<(CloseReason, usize)>,
}

impl App for Sender {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        let connect = Connect { remote: self.to, local: None, options: FlowOptions::default(), user: 0 };
        cx.connect(&connect).expect("the address is on the link");
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.on_writable(flow);
    }

    fn on_data(&mut self, _flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.expected.assert_next(data);
        data.len()
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        while self.sent.left > 0 {
            let n = flow.send(self.sent.peek());
            if n == 0 {
                return;
            }
            self.sent.skip(n);
        }
        flow.shutdown();
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        flow.close();
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        self.done.send((why, self.expected.left)).expect("the test waits for it");
        flow.cx().stop();
    }
}

/// Has ringroad send `octets` of noise to an echo of the client's kernel, and compare what comes back.
///
/// Ringroad is where the server's addresses are, so that it has one of each family to send from.
pub fn exchange_with_a_kernel(net: &Net, address: &str, octets: usize) {
    let bind = || TcpListener::bind(format!("{address}:0")).expect("an address of the lab");
    let listener = net.at(End::Client, bind);
    let to = listener.local_addr().expect("it is bound");
    let echo = thread::spawn(move || echo_once(&listener));
    exchange_with_an_echo(net, End::Server, to, octets);
    echo.join().expect("the echo saw nothing odd");
}

/// Has ringroad at `end` send `octets` of noise to an echo, and compare what comes back.
pub fn exchange_with_an_echo(net: &Net, end: End, to: SocketAddr, octets: usize) {
    let (done, ended) = mpsc::channel();
    // A processor that is away is no lossy link.
    let tcp = TcpConfig { tail_loss_probes: false, ..TcpConfig::default() };
    let config = RunConfig { connects: true, tcp, ..RunConfig::new(Lab::INTERFACE) };
    let factory =
        |_| Sender { to, sent: Stream::new(octets), expected: Stream::new(octets), done: done.clone() };
    let on_ready = |ready: &Ready| {
        let handle = ready.handle.clone();
        thread::spawn(move || {
            thread::sleep(PATIENCE);
            handle.stop();
        });
    };
    net.at(end, || runtime::run(&config, factory, on_ready)).expect("it runs on the lab");
    assert_eq!(ended.try_recv().expect("the connection ended"), (CloseReason::Finished, 0));
}

#[test]
fn a_hundred_megabytes_come_back_from_a_kernel() {
    let Some(net) = Net::up("kecho") else { return };
    for address in CLIENT {
        let before = net.kernel_counters(End::Client);
        exchange_with_a_kernel(&net, address, OCTETS);
        assert_kernel_content(&net, End::Client, &before);
    }
}

#[test]
fn bulk_flows_both_ways_between_all_pairs_of_stacks() {
    let Some(net) = Net::up("bulk") else { return };
    for (server_backend, client_backend) in [("xdp", "xdp"), ("xdp", "kernel"), ("kernel", "xdp")] {
        for (app, direction) in [("discard", "up"), ("chargen", "down")] {
            let listen = format!("{}:9", SERVER[0]);
            let server = match server_backend {
                "xdp" => net.serve(End::Server, &listen, &["--app", app]),
                _ => net.serve_kernel(End::Server, &listen, &["--app", app]),
            };
            let more = ["--profile", "bulk", "--app", "echo", "--direction", direction, "--connections", "4"];
            let backend = ["--backend", client_backend, "--duration", "1"];
            let report = net.load(End::Client, &listen, &[&more[..], &backend].concat());
            let pair = format!("{client_backend} to {server_backend}, {direction}: {report}");
            assert_eq!(report["errors"], serde_json::json!({}), "{pair}");
            assert!(report["bytes_per_second"].as_f64().is_some_and(|rate| rate > 1e6), "{pair}");
            assert!(
                report["duration_s"].as_f64().is_some_and(|s| s >= Duration::from_millis(900).as_secs_f64())
            );
            server.stop();
        }
    }
}
