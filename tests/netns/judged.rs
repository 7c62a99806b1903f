//! Runs between ringroad and a kernel that are recorded at the kernel's end and judged from outside.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use ringroad::cli::lab::End;
use serde_json::json;

use super::judge::{Followed, Recorded, Recording, ZERO_WINDOW_PROBES, sha256_of};
use super::lab::{CLIENT, Net, SERVER, connect, sha256};
use super::stream::{exchange_with_a_kernel, noise, send_and_compare};

/// Octets each way in one connection, some windows full; the judges take longer than the transfer.
const OCTETS: usize = 8_000_000;
const CONNECTIONS: usize = 200;

/// Asserts that a connection carried `up` and `down`, by tshark's account of it.
fn assert_carried(stream: &Followed, up: &[u8], down: &[u8], what: &str) {
    for (direction, seen, sent) in [("up", &stream.up, up), ("down", &stream.down, down)] {
        assert_eq!(seen.len(), sent.len(), "{what}, {direction}");
        assert_eq!(sha256_of(seen), sha256_of(sent), "{what}, {direction}");
    }
}

#[test]
fn bulk_each_way_with_a_kernel_client_is_blameless() {
    let Some(net) = Net::up("j-serve") else { return };
    for address in SERVER {
        let server =
            net.serve(End::Server, &format!("{address}:7"), &["--app", "echo", "--no-tail-loss-probes"]);
        let recording = Recording::start(&net, End::Client, "bulk");
        net.at(End::Client, || send_and_compare(connect(server.addr), OCTETS, Duration::ZERO));
        let recorded = recording.stop();
        server.stop();
        // An echo that cannot send stops reading.
        recorded.assert_blameless(&ZERO_WINDOW_PROBES);
        let sent = noise(OCTETS);
        assert_carried(&recorded.streams(1..=1)[0], &sent, &sent, address);
    }
}

#[test]
fn bulk_each_way_with_a_kernel_server_is_blameless() {
    let Some(net) = Net::up("j-connect") else { return };
    for address in CLIENT {
        let recording = Recording::start(&net, End::Client, "bulk");
        exchange_with_a_kernel(&net, address, OCTETS);
        let recorded = recording.stop();
        // The kernel's echo reads only while it can send.
        recorded.assert_blameless(&ZERO_WINDOW_PROBES);
        let sent = noise(OCTETS);
        assert_carried(&recorded.streams(1..=1)[0], &sent, &sent, address);
    }
}

/// Sends text of its own to an echo and reads it back; FIN comes from the client, or first from the server.
fn echo_shortly(to: SocketAddr, n: usize, close_first: bool) -> Vec<u8> {
    let mut stream = connect(to);
    let mut text = format!("connection {n}: ").into_bytes();
    text.resize(64, b'.');
    stream.write_all(&text).expect("a new connection takes that much");
    let mut echoed = vec![0; text.len()];
    stream.read_exact(&mut echoed).expect("the echo");
    assert_eq!(echoed, text);
    if close_first {
        stream.shutdown(Shutdown::Write).expect("it is connected");
    }
    assert_eq!(stream.read(&mut [0; 1]).expect("FIN, not RST"), 0);
    text
}

#[test]
fn short_connections_of_a_kernel_client_are_blameless_whoever_closes_first() {
    let Some(net) = Net::up("j-short") else { return };
    for address in SERVER {
        for close in ["client", "server"] {
            let what = format!("{address}, {close} first");
            let options = ["--app", "echo", "--close", close, "--request-size", "64"];
            let server = net.serve(End::Server, &format!("{address}:7"), &options);
            let recording = Recording::start(&net, End::Client, "short");
            let texts: Vec<_> = net.at(End::Client, || {
                (0..CONNECTIONS).map(|n| echo_shortly(server.addr, n, close == "client")).collect()
            });
            let recorded = recording.stop();
            server.stop();
            recorded.assert_blameless(&[]);
            for (stream, text) in recorded.streams(CONNECTIONS..=CONNECTIONS).iter().zip(&texts) {
                assert_carried(stream, text, text, &what);
            }
        }
    }
}

#[test]
fn short_connections_to_a_kernel_server_are_blameless_whoever_closes_first() {
    let Some(net) = Net::up("j-load") else { return };
    for address in CLIENT {
        for close in ["client", "server"] {
            let what = format!("{address}, {close} first");
            let listen = format!("{address}:7");
            let both = ["--app", "echo", "--close", close, "--request-size", "64"];
            let server = net.serve_kernel(End::Client, &listen, &both);
            let recording = Recording::start(&net, End::Client, "load");
            let rate = ["--profile", "crr", "--connections", "8", "--rate", "200", "--duration", "1"];
            let report = net.load(End::Server, &listen, &[&both[..], &rate].concat());
            let recorded = recording.stop();
            server.stop();
            assert_eq!(report["errors"], json!({}), "{what}: {report}");
            recorded.assert_blameless(&[]);
            let opened = report["connections_total"].as_u64().expect("a number");
            let opened = usize::try_from(opened).expect("some hundred");
            // The one that is not over when the time is does not count.
            let streams = recorded.streams(opened..=opened + 1);
            assert!(streams.len() > 100, "{what}: {report}");
            for Followed { up, down } in &streams {
                assert_eq!((up.len(), down.len()), (64, 64), "{what}");
                assert_eq!(sha256_of(up), sha256_of(down), "{what}");
            }
        }
    }
}

#[test]
fn curl_and_the_http_server_are_blameless() {
    let Some(net) = Net::up("j-curl") else { return };
    let (root, got) = (net.path("root"), net.path("got"));
    fs::create_dir_all(&root).expect("a directory");
    let file = noise(5_000_000);
    fs::write(format!("{root}/file"), &file).expect("there is room for it");
    for address in SERVER {
        let server =
            net.serve(End::Server, &format!("{address}:80"), &["--root", &root, "--no-tail-loss-probes"]);
        let recording = Recording::start(&net, End::Client, "curl");
        let url = format!("http://{}/file", server.addr);
        let argv = [
            "curl",
            "--silent",
            "--show-error",
            "--globoff",
            "--noproxy",
            "*",
            "-o",
            &got,
            "-o",
            "/dev/null",
        ];
        for more in [["--max-time", "50"], ["--header", "Connection: close"]] {
            net.run(End::Client, &[&argv[..], &more, &[&url, &url]].concat()).success();
            assert_eq!(sha256(&got), sha256_of(&file), "{address}");
        }
        let recorded = recording.stop();
        server.stop();
        recorded.assert_blameless(&[]);
        let streams = recorded.streams(3..=3);
        assert_eq!(streams.iter().map(|stream| bodies(&stream.down, file.len()).len()).sum::<usize>(), 4);
        for body in streams.iter().flat_map(|stream| bodies(&stream.down, file.len())) {
            assert_eq!(sha256_of(body), sha256_of(&file), "{address}");
        }
    }
}

/// The bodies of `len` octets in a stream of HTTP replies.
fn bodies(mut stream: &[u8], len: usize) -> Vec<&[u8]> {
    let mut bodies = Vec::new();
    while let Some(end) = stream.windows(4).position(|window| window == b"\r\n\r\n") {
        let (body, rest) = stream[end + 4..].split_at(len);
        bodies.push(body);
        stream = rest;
    }
    bodies
}

/// Writes the capture again as `change` makes it from its packets, each with its header in the file.
fn changed(recorded: &Recorded, change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Recorded {
    let octets = fs::read(&recorded.file).expect("it was recorded");
    let (header, mut rest) = octets.split_at(24);
    let mut packets = Vec::new();
    while let Some(len) = rest.get(8..12) {
        let len = u32::from_ne_bytes(len.try_into().expect("four octets"));
        let (packet, more) = rest.split_at(16 + usize::try_from(len).expect("64 bits"));
        packets.push(packet.to_vec());
        rest = more;
    }
    change(&mut packets);
    let file = format!("{}.changed", recorded.file);
    fs::write(&file, [header, &packets.concat()].concat()).expect("there is room for it");
    Recorded { file }
}

/// The judge's own trial: each fault put into a blameless capture is found.
#[test]
fn faults_put_into_a_blameless_capture_are_found() {
    let Some(net) = Net::up("j-judge") else { return };
    let server = net.serve(End::Server, &format!("{}:7", SERVER[0]), &["--app", "echo"]);
    let recording = Recording::start(&net, End::Client, "judge");
    let octets = 100_000;
    net.at(End::Client, || send_and_compare(connect(server.addr), octets, Duration::ZERO));
    let recorded = recording.stop();
    server.stop();
    recorded.assert_blameless(&[]);

    let is_full = |packet: &Vec<u8>| packet.len() > 1_400;
    let full = |packets: &[Vec<u8>]| packets.iter().rposition(is_full).expect("text");
    let lost = changed(&recorded, |packets| drop(packets.remove(full(packets))));
    assert!(!lost.complaints(&[]).is_empty(), "a segment is missing");
    assert_ne!(lost.streams(1..=1)[0].down.len() + lost.streams(1..=1)[0].up.len(), 2 * octets);
    let twice = changed(&recorded, |packets| packets.push(packets[full(packets)].clone()));
    assert!(!twice.complaints(&[]).is_empty(), "a segment comes again");
    let damaged = changed(&recorded, |packets| {
        let at = full(packets);
        *packets[at].last_mut().expect("text") ^= 1;
    });
    assert_eq!(damaged.complaints(&[]).len(), 1, "a checksum is wrong");
    let swapped = changed(&recorded, |packets| {
        let at = packets.iter().position(is_full).expect("text");
        let next = at + 1 + packets[at + 1..].iter().position(is_full).expect("more");
        packets.swap(at, next);
    });
    assert!(!swapped.complaints(&[]).is_empty(), "segments have changed places");
    let silent = changed(&recorded, |packets| {
        // Of the server's segments only the first is left: its SYN, ACK. Nothing opens its window again.
        let sent_from = |packet: &Vec<u8>| u16::from_be_bytes([packet[16 + 34], packet[16 + 35]]);
        let mut first = true;
        packets.retain(|packet| sent_from(packet) != 7 || std::mem::take(&mut first));
    });
    assert!(!silent.window_violations().is_empty(), "text past the window");
}
