//! One kernel socket at a time against ringroad, in all the ways that a connection can go and end.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::socket::{MsgFlags, send, setsockopt, sockopt};
use ringroad::cli::lab::End;

use super::lab::{CLIENT, Net, SERVER, Server, assert_kernel_content, connect, patient, read_json};
use super::program::wait_for;
use super::stream::send_and_compare;

/// Drops the connection with a RST.
fn reset(stream: TcpStream) {
    let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
    setsockopt(&stream, sockopt::Linger, &at_once).expect("TCP has it");
    drop(stream);
}

/// Sends `text` and reads as much back; it must be the same.
fn exchange(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).expect("the peer reads");
    let mut echoed = vec![0; text.len()];
    stream.read_exact(&mut echoed).expect("the peer answers");
    assert_eq!(echoed, text);
}

fn assert_ended(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("FIN and no RST");
    assert_eq!(rest, b"", "nothing before FIN");
}

/// Stops a server that was started with `--json`; what it counted.
fn counted(net: &Net, server: Server, counter: &str) -> u64 {
    server.stop();
    read_json(net.path("serve.json"))["counters"][counter].as_u64().unwrap_or(0)
}

#[test]
fn either_side_may_close_first_and_the_kernel_is_content() {
    let Some(net) = Net::up("close") else { return };
    for address in SERVER {
        for (close, why) in [("client", "the kernel keeps TIME-WAIT"), ("server", "ringroad keeps it")] {
            let options = ["--app", "echo", "--close", close, "--request-size", "64"];
            let server = net.serve(End::Server, &format!("{address}:7"), &options);
            let before = net.kernel_counters(End::Client);
            net.at(End::Client, || {
                for _ in 0..100 {
                    let mut stream = connect(server.addr);
                    exchange(&mut stream, &[b'x'; 64]);
                    if close == "client" {
                        stream.shutdown(Shutdown::Write).expect("it is connected");
                    }
                    assert_ended(&mut stream);
                }
            });
            let states = net.run(End::Client, &["ss", "-Htan", "state", "time-wait"]).success();
            assert_eq!(states.lines().count(), if close == "client" { 100 } else { 0 }, "{address}: {why}");
            assert_kernel_content(&net, End::Client, &before);
            server.stop();
            net.run(End::Client, &["ss", "-K", "state", "time-wait"]).success();
        }
    }
}

#[test]
fn an_echo_goes_on_after_half_a_close() {
    let Some(net) = Net::up("half") else { return };
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo"]);
        let before = net.kernel_counters(End::Client);
        net.at(End::Client, || {
            for octets in [0, 1, 1_448, 100_000] {
                let mut stream = connect(server.addr);
                let text: Vec<u8> = (0..octets).map(|i: u32| i.to_le_bytes()[0]).collect();
                stream.write_all(&text).expect("the peer reads");
                stream.shutdown(Shutdown::Write).expect("it is connected");
                let mut echoed = Vec::new();
                stream.read_to_end(&mut echoed).expect("FIN and no RST");
                assert_eq!(echoed.len(), text.len(), "{address}");
                assert_eq!(echoed, text);
            }
        });
        assert_kernel_content(&net, End::Client, &before);
        server.stop();
    }
}

#[test]
fn a_reader_that_stalls_loses_nothing() {
    let Some(net) = Net::up("stall") else { return };
    let json = net.path("serve.json");
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo", "--json", &json]);
        let before = net.kernel_counters(End::Client);
        // Much more than all buffers on the way, so that both windows close.
        net.at(End::Client, || send_and_compare(connect(server.addr), 30_000_000, Duration::from_secs(3)));
        let grown = net.kernel_counters(End::Client).since(&before);
        assert!(
            grown.get("TcpExtTCPToZeroWindowAdv").is_some_and(|&n| n > 0),
            "the window closed: {grown:?}"
        );
        assert_kernel_content(&net, End::Client, &before);
        assert!(counted(&net, server, "window_probes") > 0, "{address}: a closed window is probed");
    }
}

#[test]
fn a_reset_from_the_kernel_ends_one_connection_only() {
    let Some(net) = Net::up("rst") else { return };
    let json = net.path("serve.json");
    let server = net.serve(End::Server, "10.77.0.1:7", &["--app", "echo", "--json", &json]);
    net.at(End::Client, || {
        let mut other = connect(server.addr);
        for _ in 0..20 {
            let mut stream = connect(server.addr);
            exchange(&mut stream, b"before the reset");
            reset(stream);
            exchange(&mut other, b"untouched");
        }
    });
    assert_eq!(counted(&net, server, "rsts_in"), 20);
}

#[test]
fn a_reset_from_ringroad_reaches_the_kernel() {
    let Some(net) = Net::up("abort") else { return };
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:80"), &["--app", "http"]);
        let error = net.at(End::Client, || {
            let mut stream = connect(server.addr);
            // After an answer to nonsense the server reads on for a while, and then no more.
            stream.write_all(b"nonsense\r\n\r\n").expect("it is connected");
            loop {
                if let Err(error) = stream.write(&[b'x'; 65_536]) {
                    break error.kind();
                }
            }
        });
        assert!(matches!(error, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{address}: {error:?}");
        server.stop();
    }
}

#[test]
fn a_kernel_that_resets_is_an_error_of_that_kind_in_the_report() {
    let Some(net) = Net::up("resets") else { return };
    let listener = net.at(End::Server, || TcpListener::bind("10.77.0.1:0")).expect("an address of the lab");
    let to = listener.local_addr().expect("it is bound");
    let over = AtomicBool::new(false);
    let (ended, path) = thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                reset(listener.accept().expect("a connection").0);
            }
        });
        let options = ["--app", "echo", "--connections", "2", "--duration", "0.5"];
        let (target, path) = (to.to_string(), net.path("load.json"));
        let argv = [&Net::load_argv(&target, &options), ["--json", &path].as_slice()].concat();
        // Nothing may panic in here, or the thread above would wait for ever.
        let ended = net.run(End::Client, &argv);
        over.store(true, Ordering::Relaxed);
        drop(net.at(End::Client, || TcpStream::connect(to)));
        (ended, path)
    });
    assert_eq!(ended.status.code(), Some(1), "nothing succeeded: {}", ended.err);
    let report = read_json(&path);
    assert!(report["errors"]["reset"].as_u64().is_some_and(|n| n > 0), "{report}");
}

#[test]
fn nobody_listens_is_told_at_once_by_whoever_owns_the_port() {
    let Some(net) = Net::up("refused") else { return };
    let refused = |end, addr: &str| {
        let addr: SocketAddr = addr.parse().expect("an address");
        net.at(end, || TcpStream::connect_timeout(&addr, Duration::from_secs(5)))
            .expect_err("nobody listens")
            .kind()
    };
    let server = net.serve_kernel(End::Server, "10.77.0.1:7", &["--app", "echo"]);
    let argv = Net::load_argv("10.77.0.1:7", &["--app", "echo", "--profile", "rr", "--connections", "1"]);
    let load = net.start(End::Client, &argv);
    wait_for("the generator", || net.has_program(End::Client).then_some(()));
    wait_for("its connection", || {
        let established = net.run(End::Server, &["ss", "-Htn", "state", "established"]).success();
        (!established.is_empty()).then_some(())
    });
    let [v4, v6] = CLIENT;
    for (end, addr, why) in [
        (End::Client, "10.77.0.1:81".to_owned(), "a kernel's port, no XDP before it"),
        (End::Server, format!("{v4}:50000"), "a kernel's port behind ringroad's program"),
        (End::Server, format!("{v6}:50000"), "the same in IPv6"),
        (End::Server, format!("{v4}:20000"), "one of ringroad's ports for active opens"),
        (End::Server, format!("{v6}:20000"), "the same in IPv6"),
    ] {
        assert_eq!(refused(end, &addr), ErrorKind::ConnectionRefused, "{addr}: {why}");
    }
    drop(load);
    server.stop();
}

#[test]
fn many_connections_are_open_at_the_same_time() {
    const CONNECTIONS: u32 = 800;
    let Some(net) = Net::up("many") else { return };
    let server = net.serve(End::Server, "[fd77::1]:7", &["--app", "echo"]);
    let before = net.kernel_counters(End::Client);
    net.at(End::Client, || {
        let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| connect(server.addr)).collect();
        // All requests are under way before the first answer is read.
        for (i, stream) in (0u32..).zip(&mut streams) {
            stream.write_all(&i.to_be_bytes()).expect("the peer reads");
        }
        for (i, stream) in (0u32..).zip(&mut streams) {
            let mut echoed = [0; 4];
            stream.read_exact(&mut echoed).expect("the peer answers");
            assert_eq!(u32::from_be_bytes(echoed), i);
        }
        for mut stream in streams {
            stream.shutdown(Shutdown::Write).expect("it is connected");
            assert_ended(&mut stream);
        }
    });
    assert_kernel_content(&net, End::Client, &before);
    server.stop();
}

#[test]
fn tiny_writes_and_urgent_octets_stay_in_order() {
    let Some(net) = Net::up("tiny") else { return };
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo"]);
        let before = net.kernel_counters(End::Client);
        net.at(End::Client, || {
            let mut stream = connect(server.addr);
            stream.set_nodelay(true).expect("TCP has it");
            let text: Vec<u8> = (0..3_000u32).map(|i| i.to_le_bytes()[0]).collect();
            for octet in &text {
                stream.write_all(&[*octet]).expect("the peer reads");
            }
            let mut echoed = vec![0; text.len()];
            stream.read_exact(&mut echoed).expect("the peer answers");
            assert_eq!(echoed, text);

            stream.write_all(b"before").expect("the peer reads");
            let sent = send(stream.as_raw_fd(), b"!", MsgFlags::MSG_OOB);
            assert_eq!(sent.map_err(io::Error::from).expect("it is connected"), 1);
            stream.write_all(b"after").expect("the peer reads");
            let mut echoed = [0; 12];
            stream.read_exact(&mut echoed).expect("the urgent octet is one of the stream (RFC 6093)");
            assert_eq!(&echoed, b"before!after");
        });
        assert_kernel_content(&net, End::Client, &before);
        server.stop();
    }
}

#[test]
fn a_kernel_server_sees_ringroads_client_come_and_go_in_peace() {
    let Some(net) = Net::up("active") else { return };
    for (address, close) in SERVER.into_iter().flat_map(|address| [(address, "client"), (address, "server")])
    {
        let listener = net.at(End::Server, || TcpListener::bind(format!("{address}:0"))).expect("an address");
        let to = listener.local_addr().expect("it is bound");
        let before = net.kernel_counters(End::Server);
        let server = thread::spawn(move || serve_echoes(&listener, close == "server"));
        let options = ["--app", "echo", "--close", close, "--connections", "2", "--duration", "0.5"];
        let report = net.load(End::Client, &to.to_string(), &options);
        assert_eq!(report["errors"], serde_json::json!({}), "{address}, {close} first: {report}");
        assert!(report["connections_total"].as_u64().is_some_and(|n| n > 10), "{report}");
        assert_kernel_content(&net, End::Server, &before);
        // The one that makes the server end.
        reset(net.at(End::Client, || connect(to)));
        server.join().expect("the server saw nothing odd");
    }
}

/// Echoes 64 octets on one connection after another, until one is reset.
fn serve_echoes(listener: &TcpListener, close_first: bool) {
    loop {
        let mut stream = patient(listener.accept().expect("a connection").0);
        let mut text = [0; 64];
        match stream.read_exact(&mut text) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            // The generator's time was over before it used the connection.
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
                continue;
            }
        }
        stream.write_all(&text).expect("the peer reads");
        if close_first {
            stream.shutdown(Shutdown::Write).expect("it is connected");
        }
        assert_ended(&mut stream);
    }
}
