//! The runtime at one end of a lab, and the kernel's TCP at the other. Needs root.

mod in_lab;

use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use in_lab::{DIRECT, in_lab};
use nix::sys::socket::{Backlog, listen};
use ringroad::cli::lab::{End, Lab};
use ringroad::runtime::{Handle, RunConfig, netlink, run};
use ringroad::stack::{App, Connect, Cx, Flow, Listen};
use ringroad::tcp::{CloseReason, FlowOptions};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends back what comes.
struct Echo;

impl App for Echo {
    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        flow.send(data)
    }
}

#[test]
fn listening_on_all_addresses_takes_the_link_local_one_too() {
    in_lab("all", DIRECT, |lab| {
        let config = RunConfig {
            listen: vec![Listen::new(Ipv6Addr::UNSPECIFIED.into(), 7)],
            ..RunConfig::new(Lab::INTERFACE)
        };
        let own = lab.interface(End::Server).expect("the lab is up").addresses;
        let own: Vec<Ipv6Addr> = own
            .iter()
            .filter_map(|(addr, _)| if let IpAddr::V6(v6) = addr { Some(*v6) } else { None })
            .collect();
        assert!(own.iter().any(Ipv6Addr::is_unicast_link_local), "{own:?}");
        let (say, ready) = mpsc::channel::<Handle>();
        thread::scope(|scope| {
            let server = scope.spawn(|| {
                let ran = || run(&config, |_| Echo, |ready| say.send(ready.handle.clone()).expect("awaited"));
                lab.run_at(End::Server, ran).expect("the lab is up")
            });
            let Ok(handle) = ready.recv_timeout(PATIENCE) else {
                panic!("{:?}", server.join().expect("no panic").map(|_| ()));
            };
            let scope_id = lab.interface(End::Client).expect("the lab is up").index;
            let echoed = lab.run_at(End::Client, || {
                own.iter()
                    .map(|&addr| echo(SocketAddrV6::new(addr, 7, 0, scope_id).into()))
                    .collect::<Vec<_>>()
            });
            handle.stop();
            for echoed in echoed.expect("the lab is up") {
                assert_eq!(echoed.expect("a connection"), *b"over");
            }
            server.join().expect("no panic").expect("a run");
        });
    });
}

#[test]
fn listeners_that_cannot_be_made_are_told_why() {
    in_lab("listeners", DIRECT, |lab| {
        let [all, one] = [Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(10, 77, 0, 1)];
        let on = |addr: Ipv4Addr, port| Listen::new(addr.into(), port);
        for (listen, want) in [
            (vec![on(one, 7), on(one, 7)], "two listeners would have 10.77.0.1:7"),
            (vec![on(one, 7), on(all, 7)], "two listeners would have 10.77.0.1:7"),
            ((1..=257).map(|port| on(one, port)).collect(), "257 listeners are more than"),
        ] {
            let config = RunConfig { listen, ..RunConfig::new(Lab::INTERFACE) };
            let ran = || run(&config, |_| Echo, |_| {}).map(|_| ()).map_err(|error| error.to_string());
            let told = lab.run_at(End::Server, ran).expect("the lab is up");
            assert!(told.as_ref().is_err_and(|told| told.contains(want)), "{told:?}");
        }
    });
}

fn echo(to: SocketAddr) -> std::io::Result<[u8; 4]> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"over")?;
    let mut text = [0; 4];
    stream.read_exact(&mut text)?;
    Ok(text)
}

/// Connects to `targets`, and stops when all are connected, or when it has waited too long.
struct Connector<'a> {
    targets: &'a [SocketAddr],
    connected: &'a AtomicU32,
    closed: &'a AtomicU32,
}

impl App for Connector<'_> {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        for &remote in self.targets {
            let connect = Connect { remote, local: None, options: FlowOptions::default(), user: 0 };
            cx.connect(&connect).expect("there are ports and room");
        }
        cx.set_timer(PATIENCE);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        let before = self.connected.fetch_add(1, Ordering::Relaxed);
        if before as usize + 1 == self.targets.len() {
            flow.cx().stop();
        }
    }

    fn on_data(&mut self, _: &mut Flow<'_>, data: &[u8]) -> usize {
        data.len()
    }

    fn on_close(&mut self, _: &mut Flow<'_>, _: CloseReason) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {
        cx.stop();
    }
}

/// Connects from the client's end; returns how many connections were made, and how many were told their end.
fn connect(lab: &Lab, targets: &[SocketAddr]) -> (u32, u32) {
    let (connected, closed) = (AtomicU32::new(0), AtomicU32::new(0));
    let config = RunConfig { connects: true, ..RunConfig::new(Lab::INTERFACE) };
    let factory = |_| Connector { targets, connected: &connected, closed: &closed };
    lab.run_at(End::Client, || run(&config, factory, |_| {})).expect("the lab is up").expect("a run");
    (connected.into_inner(), closed.into_inner())
}

/// A kernel listener at the server's end with room for all connections, which nobody accepts.
fn listener(lab: &Lab) -> TcpListener {
    let bind = || TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("any port");
    let listener = lab.run_at(End::Server, bind).expect("the lab is up");
    listen(&listener, Backlog::MAXALLOWABLE).expect("it listens already");
    listener
}

/// Established connections of the kernel at the server's end.
fn established(lab: &Lab) -> usize {
    let table = lab
        .run_at(End::Server, || fs::read_to_string("/proc/thread-self/net/tcp").expect("a table of sockets"))
        .expect("the lab is up");
    table.lines().filter(|line| line.split_whitespace().nth(3) == Some("01")).count()
}

#[test]
fn the_end_resets_every_connection_though_they_are_more_than_one_call_serves() {
    const CONNECTIONS: u32 = 6_000;
    in_lab("end", DIRECT, |lab| {
        let listener = listener(lab);
        let port = listener.local_addr().expect("it is bound").port();
        let target = SocketAddr::from((Ipv4Addr::new(10, 77, 0, 1), port));
        let (connected, closed) = connect(lab, &vec![target; CONNECTIONS as usize]);
        assert_eq!((connected, closed), (CONNECTIONS, CONNECTIONS));
        // The last resets are on their way when the run has ended.
        let start = Instant::now();
        while established(lab) > 0 {
            assert!(start.elapsed() < PATIENCE, "{} connections were not reset", established(lab));
            thread::sleep(Duration::from_millis(10));
        }
    });
}

#[test]
fn a_neighbour_is_found_among_more_than_can_be_told() {
    in_lab("many", DIRECT, |lab| {
        let servers = (1..=20).map(|host| Ipv4Addr::new(10, 77, 2, host)).collect::<Vec<_>>();
        let server = lab.interface(End::Server).expect("the lab is up");
        let add = || servers.iter().try_for_each(|&addr| netlink::add_address(server.index, addr.into(), 16));
        lab.run_at(End::Server, add).expect("the lab is up").expect("new addresses");
        let others = (0..2_000u32).map(|n| Ipv4Addr::from(0x0a4d_8000 + n));
        let mac = server.mac.map(|octet| format!("{octet:02x}")).join(":");
        let batch: String = servers
            .iter()
            .copied()
            .chain(others)
            .map(|addr| format!("neigh add {addr} lladdr {mac} dev {} nud permanent\n", Lab::INTERFACE))
            .collect();
        lab.run_at(End::Client, || ip_batch(&batch)).expect("the lab is up");
        let listener = listener(lab);
        let port = listener.local_addr().expect("it is bound").port();
        let targets: Vec<SocketAddr> = servers.iter().map(|&addr| (addr, port).into()).collect();
        assert_eq!(connect(lab, &targets).0, 20);
    });
}

fn ip_batch(commands: &str) {
    let mut ip = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the tests need iproute2");
    ip.stdin.take().expect("piped").write_all(commands.as_bytes()).expect("it reads");
    assert!(ip.wait().expect("it was started").success());
}
