//! Calls made by hand, where a script cannot say it.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::thread;

use super::library::Library;
use super::packet::{ACK, Packet, SYN};

const LOCAL: &str = "192.168.0.1:8080";
const REMOTE: &str = "192.0.2.1:40000";

fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn packet(flags: u8, seq: u32, ack: u32, text: &[u8]) -> Vec<u8> {
    let (from, to, options) = (addr(REMOTE), addr(LOCAL), Vec::new());
    Packet { from, to, seq, ack, flags, window: 65_535, options, text: text.to_vec() }.to_octets()
}

/// A listening socket, an accepted one, and our initial sequence number.
fn accepted(library: &Library, domain: i32) -> (i32, i32, u32) {
    let fd = library.socket(domain, libc::SOCK_STREAM, 0).expect("a socket");
    let local = if domain == libc::AF_INET { LOCAL } else { "[::ffff:192.168.0.1]:8080" };
    library.bind(fd, addr(local)).expect("an address of ours");
    library.listen(fd, 5).expect("nobody else listens");
    library.inject(&packet(SYN, 100, 0, &[])).expect("a packet");
    let (octets, _) = library.next_sent().expect("a SYN-ACK");
    let isn = Packet::parse(&octets).seq;
    library.inject(&packet(ACK, 101, isn.wrapping_add(1), &[])).expect("a packet");
    (fd, library.accept(fd).expect("it is complete"), isn)
}

#[test]
fn text_comes_out_as_it_went_in_whatever_the_buffers() {
    let library = Library::new("");
    let (_, fd, isn) = accepted(&library, libc::AF_INET);
    library.inject(&packet(ACK, 101, isn.wrapping_add(1), b"hello, world")).expect("a packet");
    assert_eq!(library.ioctl(fd, libc::FIONREAD, 0), Ok(12));
    assert_eq!(library.recv(fd, 5, libc::MSG_PEEK), Ok(b"hello".to_vec()), "it stays");
    let (len, parts) = library.readv(fd, [5, 100]).expect("there is text");
    assert_eq!((len, &parts[0][..], &parts[1][..7]), (12, &b"hello"[..], &b", world"[..]));
    assert_eq!(library.sendmsg(fd, [b"good", b"bye"]), Ok(7));
    let (octets, _) = library.next_sent().expect("text");
    assert_eq!(Packet::parse(&octets).text, b"goodbye");
    assert_eq!(library.ioctl(fd, libc::TIOCOUTQ, 0), Ok(7));
}

#[test]
fn ipv4_reaches_an_ipv6_socket_under_a_mapped_address() {
    let library = Library::new("");
    let (_, fd, isn) = accepted(&library, libc::AF_INET6);
    library.inject(&packet(ACK, 101, isn.wrapping_add(1), b"x")).expect("a packet");
    assert_eq!(library.recv(fd, 5, 0), Ok(b"x".to_vec()));
}

#[test]
fn what_is_wrong_is_told_by_errno() {
    let library = Library::new("");
    let (listening, fd, _) = accepted(&library, libc::AF_INET);
    let second = library.socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_TCP).expect("a socket");
    for (got, errno, why) in [
        (library.socket(libc::AF_UNIX, libc::SOCK_STREAM, 0), libc::EAFNOSUPPORT, "no such family"),
        (library.socket(libc::AF_INET, libc::SOCK_DGRAM, 0), libc::EPROTONOSUPPORT, "TCP only"),
        (library.bind(second, addr(LOCAL)), libc::EADDRINUSE, "it is taken"),
        (library.bind(second, addr("[::1]:80")), libc::EAFNOSUPPORT, "another family"),
        (library.accept(fd), libc::EINVAL, "it does not listen"),
        (library.listen(fd, 1), libc::EINVAL, "it is connected"),
        (library.connect(listening, addr(REMOTE)), libc::EISCONN, "it listens"),
        (library.close(9_999), libc::EBADF, "no such socket"),
        (
            library.set_option(fd, libc::IPPROTO_TCP, libc::TCP_CORK, &[1, 0, 0, 0]),
            libc::ENOPROTOOPT,
            "not here",
        ),
        (library.set_option(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"vegas"), libc::ENOENT, "not here"),
        (library.set_option(fd, libc::SOL_SOCKET, libc::SO_KEEPALIVE, &[1]), libc::EINVAL, "too short"),
        (library.shutdown(fd, 9), libc::EINVAL, "no such way"),
        (library.fcntl(fd, libc::F_SETOWN, 1), libc::EINVAL, "not here"),
        (library.inject(&[0x50; 40]), libc::EINVAL, "neither IPv4 nor IPv6"),
        (library.epoll_create(), libc::ENOSYS, "not here"),
    ] {
        assert_eq!(got, Err(errno), "{why}");
    }
    assert_eq!(library.recv(fd, 5, libc::MSG_OOB), Err(libc::EINVAL), "nothing is urgent");
    assert_eq!(library.send(fd, b"x", libc::MSG_MORE), Err(libc::EOPNOTSUPP), "not here");
}

#[test]
fn flags_that_ask_for_too_much_leave_no_socket() {
    for flags in ["rfc5961=0", "cc=vegas", "colour=red"] {
        let library = Library::new(flags);
        assert_eq!(library.socket(libc::AF_INET, libc::SOCK_STREAM, 0), Err(libc::EINVAL), "{flags}");
        assert!(library.next_sent().is_none() && library.now() < library.now());
    }
}

#[test]
fn nothing_comes_out_where_nothing_is_due() {
    let library = Library::new("receive_s=100");
    let (_, fd, isn) = accepted(&library, libc::AF_INET);
    assert!(library.next_sent().is_none());
    let before = library.now();
    library.usleep(1_000_000);
    assert!((1_000_000..1_001_000).contains(&(library.now() - before)));
    library.inject(&packet(ACK, 101, isn.wrapping_add(1), b"x")).expect("a packet");
    let (octets, at) = library.next_sent().expect("an ACK");
    assert_eq!(Packet::parse(&octets).ack, 102);
    assert!((40_000..42_000).contains(&(at - before - 1_000_000)), "it is stamped when it left");
    assert_eq!(library.close(fd), Ok(0));
}

#[test]
fn the_clock_after_a_blocking_call_is_that_of_its_end() {
    let library = Library::new("");
    let (_, fd, isn) = accepted(&library, libc::AF_INET);
    thread::scope(|scope| {
        let reader = scope.spawn(|| (library.recv(fd, 5, 0), library.now()));
        library.usleep(500_000);
        library.inject(&packet(ACK, 101, isn.wrapping_add(1), b"x")).expect("a packet");
        let sent = library.now();
        library.usleep(60_000_000);
        let (text, woken) = reader.join().expect("the reader");
        assert_eq!(text, Ok(b"x".to_vec()));
        assert!((woken - sent).abs() < 1_000, "{woken} {sent}");
    });
}

#[test]
fn tcp_info_has_the_figures() {
    let library = Library::new("");
    let (listening, fd, _) = accepted(&library, libc::AF_INET);
    let info = library.option(fd, libc::IPPROTO_TCP, libc::TCP_INFO).expect("it has");
    let word = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().expect("four"));
    assert_eq!((info.len(), info[0], word(16), word(80)), (104, 1, 536, 10), "ESTABLISHED, MSS, window");
    let info = library.option(listening, libc::IPPROTO_TCP, libc::TCP_INFO).expect("it has");
    assert_eq!(info[0], 10, "LISTEN");
    library.close(fd).expect("it is open");
    assert_eq!(library.option(fd, libc::SOL_SOCKET, libc::SO_ERROR), Err(libc::EBADF));
}

#[test]
fn the_state_dump_shows_half_open_connections_too() {
    let file = std::env::temp_dir().join(format!("ringroad-packetdrill-{}", std::process::id()));
    let library = Library::new(&format!("state={}", file.display()));
    let says = |what: &str| {
        let text = std::fs::read_to_string(&file).expect("it is written");
        assert!(text.contains(what), "{what}:\n{text}");
    };
    let fd = library.socket(libc::AF_INET, libc::SOCK_STREAM, 0).expect("a socket");
    library.bind(fd, addr(LOCAL)).expect("an address of ours");
    library.listen(fd, 5).expect("nobody else listens");
    says(&format!("root ringroad {} {fd} tcp4 {LOCAL} *:* LISTEN\n", std::process::id()));
    library.inject(&packet(SYN, 100, 0, &[])).expect("a packet");
    says(&format!("? tcp4 {LOCAL} {REMOTE} SYN_RCVD\n"));
    let isn = Packet::parse(&library.next_sent().expect("a SYN-ACK").0).seq;
    library.inject(&packet(ACK, 101, isn.wrapping_add(1), &[])).expect("a packet");
    let accepted = library.accept(fd).expect("it is complete");
    says(&format!(" {accepted} tcp4 {LOCAL} {REMOTE} ESTABLISHED\n"));
    library.close(accepted).expect("it is open");
    says(&format!("? tcp4 {LOCAL} {REMOTE} FIN_WAIT_1\n"));
    std::fs::remove_file(&file).expect("it is there");
}
