//! What else goes over the interface while ringroad works on it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto, setsockopt,
    socket, sockopt,
};
use nix::sys::time::TimeVal;
use ringroad::cli::lab::{End, Lab};
use serde_json::json;

use super::lab::{CLIENT, Net, SERVER, assert_kernel_content, connect, read_json, sources};
use super::program::PATIENCE;

/// An ICMP or ICMPv6 echo from the calling thread's namespace, as ping sends it.
fn ping(to: SocketAddr) {
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").expect("root may");
    let (family, protocol, request, reply) = match to {
        SocketAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, 8, 0),
        SocketAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, 128, 129),
    };
    let socket = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, protocol).expect("root may ping");
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(10, 0)).expect("a timeout");
    let echo = [&[request, 0, 0, 0, 0, 0, 0, 1], b"are you there?".as_slice()].concat();
    sendto(socket.as_raw_fd(), &echo, &SockaddrStorage::from(to), MsgFlags::empty()).expect("it is sent");
    let mut answer = [0; 64];
    let n = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("an answer");
    assert_eq!((answer[0], &answer[8..n]), (reply, &echo[8..]), "{to}");
}

/// A datagram there and back.
fn udp_echo(net: &Net, address: IpAddr) {
    let any: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let bind = |end, ip| net.at(end, || UdpSocket::bind((ip, 0))).expect("an address of the lab");
    let (server, client) = (bind(End::Server, address), bind(End::Client, any));
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    client.send_to(b"datagram", server.local_addr().expect("it is bound")).expect("it is sent");
    let mut text = [0; 16];
    let (n, from) = server.recv_from(&mut text).expect("it arrives");
    server.send_to(&text[..n], from).expect("it is sent");
    assert_eq!(client.recv(&mut text).expect("it comes back"), 8, "{address}");
}

/// A shell-like conversation: small lines, one at a time.
fn converse(stream: &mut TcpStream) {
    stream.set_nodelay(true).expect("TCP has it");
    for line in ["ls\n", "cat /etc/hostname\n", "exit\n"] {
        stream.write_all(line.as_bytes()).expect("the peer reads");
        let mut answer = vec![0; line.len()];
        stream.read_exact(&mut answer).expect("the peer answers");
        assert_eq!(answer, line.as_bytes());
    }
}

/// Answers every line of every connection, as long as the process lives.
fn shell(listener: TcpListener) {
    let answer = |mut stream: TcpStream| {
        let mut chunk = [0; 512];
        while let Ok(n @ 1..) = stream.read(&mut chunk) {
            stream.write_all(&chunk[..n]).expect("the peer reads");
        }
    };
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
}

/// Conversations on a connection that lasts, and on new ones, with everything else that a machine says.
fn live_beside(net: &Net, to: SocketAddr) {
    let mut lasting = net.at(End::Client, || connect(to));
    for _ in 0..10 {
        converse(&mut lasting);
        converse(&mut net.at(End::Client, || connect(to)));
        udp_echo(net, to.ip());
        net.at(End::Client, || ping(SocketAddr::new(to.ip(), 0)));
        for end in End::ALL {
            net.run(end, &["ip", "neigh", "flush", "dev", Lab::INTERFACE]).success();
        }
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn other_ports_and_protocols_do_not_notice_ringroad() {
    let Some(net) = Net::up("beside") else { return };
    for address in SERVER {
        let before = End::ALL.map(|end| net.kernel_counters(end));
        // An address's ssh, from before ringroad came until after it went.
        let bind = || TcpListener::bind(format!("{address}:22")).expect("an address of the lab");
        let listener = net.at(End::Server, bind);
        let to = listener.local_addr().expect("it is bound");
        shell(listener);
        let mut lasting = net.at(End::Client, || connect(to));
        converse(&mut lasting);

        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo"]);
        let json = net.path("load.json");
        let options = ["--app", "echo", "--rate", "2000", "--connections", "8", "--duration", "4"];
        let more = ["--json", &json, "--source", sources(address)];
        let target = server.addr.to_string();
        let load = net.start(End::Client, &Net::load_argv(&target, &[&options[..], &more].concat()));
        converse(&mut lasting);
        live_beside(&net, to);
        load.end().success();
        let report = read_json(&json);
        assert_eq!(report["errors"], json!({}), "{report}");
        server.stop();
        converse(&mut lasting);
        for (end, before) in End::ALL.into_iter().zip(&before) {
            assert_kernel_content(&net, end, before);
        }
    }
}

#[test]
fn a_neighbour_that_is_not_known_yet_is_asked_for() {
    let Some(net) = Net::up("neigh") else { return };
    for (address, own) in SERVER.into_iter().zip(CLIENT) {
        let server = net.serve_kernel(End::Server, &format!("{address}:7"), &["--app", "echo"]);
        for end in End::ALL {
            net.run(end, &["ip", "neigh", "flush", "dev", Lab::INTERFACE]).success();
        }
        let bare = own.trim_matches(['[', ']']);
        // Longer than the second after which the kernel asks again.
        let pace = ["--rate", "200", "--duration", "3"];
        let options = [&["--app", "echo", "--connections", "4", "--source", bare], &pace[..]].concat();
        let report = net.load(End::Client, &server.addr.to_string(), &options);
        assert_eq!(report["errors"], json!({}), "{report}");
        assert!(report["connections_total"].as_u64().is_some_and(|n| n > 0), "{report}");
        server.stop();
    }
}
