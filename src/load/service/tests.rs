//! The servers against a connection that takes as little as it likes.
#![forbid(unsafe_code)]

use super::*;
use std::string::String;

/// A connection in memory that takes at most `room` octets until it is given more.
#[derive(Default)]
struct Wire {
    out: Vec<u8>,
    room: usize,
    ended: Option<&'static str>,
    resumed: bool,
}

impl Conn for Wire {
    fn send(&mut self, data: &[u8]) -> usize {
        let taken = data.len().min(self.room);
        self.out.extend_from_slice(&data[..taken]);
        self.room -= taken;
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

    fn resume(&mut self) {
        self.resumed = true;
    }
}

/// Feeds `text` cut at `split`, giving `step` octets of room at a time, as a transport would.
fn serve(app: &ServeApp, text: &[u8], split: usize, step: usize) -> (String, Option<&'static str>) {
    let mut service = Service::new(app.clone(), 1);
    let mut wire = Wire { room: step, ..Wire::default() };
    service.on_accept(0, &mut wire);
    for piece in [&text[..split], &text[split..]] {
        let mut rest = piece;
        while !rest.is_empty() {
            let used = service.on_data(0, rest, &mut wire);
            rest = &rest[used..];
            wire.resumed = false;
            while !rest.is_empty() && !wire.resumed {
                wire.room = step;
                service.on_writable(0, &mut wire);
            }
        }
    }
    for _ in 0..10_000 {
        wire.room = step;
        service.on_writable(0, &mut wire);
    }
    service.on_closed(0);
    (String::from_utf8_lossy(&wire.out).into_owned(), wire.ended)
}

fn site() -> ServeApp {
    ServeApp::Http(Site::generated(5))
}

fn statuses(out: &str) -> Vec<&str> {
    out.match_indices("HTTP/1.1 ").map(|(at, _)| &out[at + 9..at + 12]).collect()
}

#[test]
fn pipelined_requests_are_answered_in_order_at_every_split() {
    let text = b"GET / HTTP/1.1\r\nHost: x\r\n\r\nHEAD / HTTP/1.1\r\nHost: x\r\n\r\n\
                 GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET / HTTP/1.0\r\n\r\n";
    let (whole, ended) = serve(&site(), text, 1, usize::MAX);
    assert_eq!(statuses(&whole), ["200"; 4]);
    assert_eq!(whole.matches("\r\n\r\n !\"#$").count(), 3, "HEAD has no body: {whole}");
    assert_eq!(ended, Some("close"), "1.0 closes");
    for split in 0..text.len() {
        for step in [1, 7, 1_000_000] {
            assert_eq!(serve(&site(), text, split, step).0, whole, "split {split}, step {step}");
        }
    }
}

#[test]
fn the_connection_ends_as_the_request_says() {
    let long = std::format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(9_000));
    for (text, status, ended, why) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200", None, "stays open"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200", Some("close"), "asked to"),
        ("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nmore", "200", Some("shutdown"), "unread"),
        ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", "405", Some("shutdown"), "its body may follow"),
        ("GET / HTTP/3.0\r\n\r\n", "505", Some("shutdown"), "version"),
        ("nonsense\r\n\r\n", "400", Some("shutdown"), "no request"),
        (long.as_str(), "431", Some("shutdown"), "head too large"),
    ] {
        let (out, got) = serve(&site(), text.as_bytes(), 3, usize::MAX);
        assert_eq!((statuses(&out), got), (Vec::from([status]), ended), "{why}");
    }
}

#[test]
fn a_reply_under_way_outlives_the_clients_fin() {
    let mut service = Service::new(ServeApp::Http(Site::generated(100)), 1);
    let mut wire = Wire { room: 10, ..Wire::default() };
    service.on_accept(0, &mut wire);
    service.on_data(0, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &mut wire);
    service.on_fin(0, &mut wire);
    assert_eq!(wire.ended, None);
    wire.room = usize::MAX;
    service.on_writable(0, &mut wire);
    assert_eq!(wire.ended, Some("close"));
    assert_eq!(wire.out.len() as u64, Site::generated(100).page(8).len(false, false));
}

#[test]
fn echo_sends_back_every_octet_whatever_fits() {
    for step in [1, 3, 1_000] {
        let (out, ended) = serve(&ServeApp::Echo { close_after: None }, b"0123456789", 4, step);
        assert_eq!((out.as_str(), ended), ("0123456789", None));
    }
}

#[test]
fn echo_closes_first_after_as_many_octets_as_it_was_told() {
    let mut service = Service::new(ServeApp::Echo { close_after: Some(8) }, 1);
    let mut wire = Wire { room: 100, ..Wire::default() };
    service.on_accept(0, &mut wire);
    assert_eq!((service.on_data(0, b"01234", &mut wire), wire.ended), (5, None));
    assert_eq!((service.on_data(0, b"567rest", &mut wire), wire.ended), (3, Some("close")));
    assert_eq!(wire.out, b"01234567");
}

#[test]
fn discard_reads_everything_and_chargen_sends_whatever_fits() {
    let (out, ended) = serve(&ServeApp::Discard, b"0123456789", 4, 100);
    assert_eq!((out.as_str(), ended), ("", None));

    let mut service = Service::new(ServeApp::Chargen, 1);
    let mut wire = Wire { room: 70_000, ..Wire::default() };
    service.on_accept(0, &mut wire);
    assert_eq!((wire.out.len(), service.on_data(0, b"x", &mut wire)), (70_000, 1));
    wire.room = 5;
    service.on_writable(0, &mut wire);
    assert_eq!(wire.out.len(), 70_005);
    service.on_fin(0, &mut wire);
    assert_eq!(wire.ended, Some("close"));
}

#[test]
fn lingering_is_bounded() {
    let mut service = Service::new(site(), 1);
    let mut wire = Wire { room: usize::MAX, ..Wire::default() };
    service.on_accept(0, &mut wire);
    service.on_data(0, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", &mut wire);
    let megabyte = vec![0; 1 << 20];
    assert_eq!(service.on_data(0, &megabyte, &mut wire), megabyte.len());
    assert_eq!(wire.ended, Some("abort"));
}
