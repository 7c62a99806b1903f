//! The steering program's verdict on single frames, without an interface (root).
#![cfg(feature = "xdp")]

use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::{fs, iter};

use std::os::fd::AsFd;

use ringroad::io::xdp::{Action, Steering};

const OURS_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const OURS_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);
const PORT: u16 = 80;
const RANGE: (u16, u16) = (20_000, 20_999);
const FOREIGN: u16 = 22;

const ETH_IPV4: u16 = 0x0800;
const ETH_IPV6: u16 = 0x86dd;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AH: u8 = 51;
const DESTINATION: u8 = 60;

/// A frame, the verdict on it, and why.
type Row = (Vec<u8>, &'static str, &'static str);

#[test]
fn every_frame_gets_its_verdict() {
    let Some(mut steering) = steering() else { return };
    let xsk = xsk();
    steering.set_xsk(0, xsk.as_fd()).unwrap();
    let rows = [plain(), link_layer(), fragments(), extensions(), errors(), truncated()].concat();
    let mut seen = Vec::new();
    for (frame, expected, why) in rows {
        let (verdict, action) = run(&steering, &frame);
        assert_eq!(verdict, expected, "{why}");
        assert_eq!(action, action_of(expected), "{why}");
        seen.push(verdict);
    }
    let unseen: Vec<_> = counters(&steering).into_iter().filter(|(name, _)| !seen.contains(name)).collect();
    assert_eq!(unseen, [("steer_drop_no_socket", 0)], "the tables have a frame for each verdict but one");
}

#[test]
fn a_frame_of_ours_without_a_socket_is_dropped_and_never_passed() {
    let Some(steering) = steering() else { return };
    for frame in [ethernet(ETH_IPV4, &segment_v4(PORT)), ethernet(ETH_IPV4, &unreachable_v4(PORT, TCP))] {
        assert_eq!(run(&steering, &frame), ("steer_drop_no_socket", Action::Drop));
    }
}

#[test]
fn removed_endpoints_are_the_kernels_again() {
    let Some(mut steering) = steering() else { return };
    steering.remove_endpoint(OURS_V4.into(), PORT).unwrap();
    steering.remove_range(OURS_V4.into(), RANGE.0, RANGE.1).unwrap();
    for port in [PORT, RANGE.0] {
        assert_eq!(run(&steering, &ethernet(ETH_IPV4, &segment_v4(port))).0, "steer_pass_not_ours");
        assert_eq!(run(&steering, &ethernet(ETH_IPV6, &segment_v6(port))).0, "steer_drop_no_socket");
    }
    steering.remove_endpoint(OURS_V4.into(), PORT).expect("removing twice is no error");
}

#[test]
fn an_address_has_eight_ranges_and_no_more() {
    let Some(mut steering) = steering() else { return };
    for i in 1..8 {
        steering.add_range(OURS_V4.into(), i * 100, i * 100 + 9).unwrap();
    }
    assert_eq!(run(&steering, &ethernet(ETH_IPV4, &segment_v4(709))).0, "steer_drop_no_socket");
    assert_eq!(run(&steering, &ethernet(ETH_IPV4, &segment_v4(710))).0, "steer_pass_not_ours");
    let error = steering.add_range(OURS_V4.into(), 800, 809).unwrap_err();
    assert!(error.to_string().contains("no room for ports 800 to 809"), "{error}");
    steering.add_range(OURS_V4.into(), 100, 109).expect("a range that is there takes no room");
}

fn plain() -> Vec<Row> {
    let v4 = |port| ethernet(ETH_IPV4, &segment_v4(port));
    let v6 = |port| ethernet(ETH_IPV6, &segment_v6(port));
    let mut elsewhere = segment_v4(PORT);
    elsewhere[19] = 99;
    let mut options = ipv4(TCP, 0, &segment(1234, PORT));
    options.splice(20..20, [1u8; 40]);
    options[0] = 0x4f;
    vec![
        (v4(PORT), "steer_redirect", "the endpoint"),
        (v6(PORT), "steer_redirect", "the endpoint"),
        (v4(FOREIGN), "steer_pass_not_ours", "ssh survives us"),
        (v6(FOREIGN), "steer_pass_not_ours", "ssh survives us"),
        (v4(RANGE.0), "steer_redirect", "first of the range"),
        (v4(RANGE.1), "steer_redirect", "last of the range"),
        (v4(RANGE.0 - 1), "steer_pass_not_ours", "before the range"),
        (v4(RANGE.1 + 1), "steer_pass_not_ours", "after the range"),
        (v6(RANGE.1), "steer_redirect", "last of the range"),
        (v6(RANGE.1 + 1), "steer_pass_not_ours", "after the range"),
        (ethernet(ETH_IPV4, &elsewhere), "steer_pass_not_ours", "our port on another address"),
        (ethernet(ETH_IPV4, &options), "steer_redirect", "IPv4 options before the ports"),
        (ethernet(ETH_IPV4, &ipv4(UDP, 0, &segment(1, PORT))), "steer_pass_not_tcp", "UDP to a port of ours"),
        (
            ethernet(ETH_IPV4, &ipv4(ICMPV6, 0, &[1; 64])),
            "steer_pass_not_tcp",
            "ICMPv6 within IPv4 is nothing",
        ),
        (ethernet(ETH_IPV6, &ipv6(ICMP, &[3; 64])), "steer_pass_not_tcp", "ICMP within IPv6 is nothing"),
    ]
}

fn link_layer() -> Vec<Row> {
    let packet = segment_v4(PORT);
    let tagged = |tags: &[u16]| {
        let mut frame = ethernet(*tags.first().unwrap(), &[]);
        for next in tags[1..].iter().copied().chain([ETH_IPV4]) {
            frame.extend([0, 7]);
            frame.extend(next.to_be_bytes());
        }
        frame.extend(&packet);
        frame
    };
    let mut version = packet.clone();
    version[0] = 0x65;
    let mut short = packet.clone();
    short[0] = 0x44;
    vec![
        (tagged(&[0x8100]), "steer_redirect", "one VLAN tag"),
        (tagged(&[0x88a8, 0x8100]), "steer_redirect", "two VLAN tags"),
        (tagged(&[0x88a8, 0x8100, 0x8100]), "steer_pass_not_ip", "three VLAN tags"),
        (ethernet(0x0806, &[0; 46]), "steer_pass_not_ip", "ARP"),
        (ethernet(0x88cc, &[0; 46]), "steer_pass_not_ip", "LLDP"),
        (ethernet(ETH_IPV4, &version), "steer_pass_malformed", "IPv4 that says it is version 6"),
        (
            ethernet(ETH_IPV6, &segment_v4(PORT).repeat(2)),
            "steer_pass_malformed",
            "IPv6 that says it is version 4",
        ),
        (ethernet(ETH_IPV4, &short), "steer_pass_malformed", "a header of 16 octets"),
    ]
}

fn fragments() -> Vec<Row> {
    const MORE: u16 = 0x2000;
    const DO_NOT: u16 = 0x4000;
    let v4 = |port, bits| ethernet(ETH_IPV4, &ipv4(TCP, bits, &segment(1234, port)));
    let v6 = |port, bits: u16| ethernet(ETH_IPV6, &ipv6(FRAGMENT, &chain(&[(fragment(bits), TCP)], port)));
    vec![
        (v4(PORT, DO_NOT), "steer_redirect", "what every TCP sends"),
        (v4(PORT, MORE), "steer_drop_fragment", "the kernel would reassemble it and answer with RST"),
        (v4(FOREIGN, MORE), "steer_pass_not_ours", "the first fragment of another's segment"),
        (v4(PORT, MORE | 100), "steer_pass_fragment", "the middle: no ports"),
        (v4(PORT, 100), "steer_pass_fragment", "the end: no ports"),
        (v6(PORT, 1), "steer_drop_fragment", "the first"),
        (v6(FOREIGN, 1), "steer_pass_not_ours", "another's first"),
        (v6(PORT, 8), "steer_pass_fragment", "the end, eight octets in"),
        (v6(PORT, 0), "steer_redirect", "an atomic fragment is a whole packet"),
        (ethernet(ETH_IPV4, &ipv4(ICMP, MORE, &[3; 64])), "steer_pass_fragment", "an error in parts"),
    ]
}

fn extensions() -> Vec<Row> {
    let options = || vec![0, 0, 1, 4, 0, 0, 0, 0];
    let long = || [vec![0, 3], vec![0; 30]].concat();
    let frame = |headers: &[(Vec<u8>, u8)], first| ethernet(ETH_IPV6, &ipv6(first, &chain(headers, PORT)));
    let source_route = |left| vec![0, 2, 4, left, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let many = |count| iter::repeat_n((options(), DESTINATION), count).collect::<Vec<_>>();
    let ended = |count| {
        let mut headers = many(count);
        headers.last_mut().unwrap().1 = TCP;
        headers
    };
    let mut to_udp = many(2);
    to_udp[1].1 = UDP;
    vec![
        (frame(&[(options(), TCP)], HOP_BY_HOP), "steer_redirect", "hop-by-hop options"),
        (frame(&[(long(), TCP)], DESTINATION), "steer_redirect", "32 octets of destination options"),
        (frame(&[(options(), DESTINATION), (options(), TCP)], HOP_BY_HOP), "steer_redirect", "two headers"),
        (frame(&[(source_route(0), TCP)], ROUTING), "steer_redirect", "a route at its end"),
        (frame(&[(source_route(1), TCP)], ROUTING), "steer_pass_malformed", "a route that goes on from here"),
        (
            frame(&[([vec![0, 4], vec![0; 22]].concat(), TCP)], AH),
            "steer_redirect",
            "authentication counts in words",
        ),
        (
            frame(&[(options(), FRAGMENT), (fragment(1), TCP)], HOP_BY_HOP),
            "steer_drop_fragment",
            "options, then a part",
        ),
        (frame(&ended(6), DESTINATION), "steer_redirect", "the longest chain that is followed"),
        (frame(&ended(7), DESTINATION), "steer_pass_malformed", "one header more"),
        (frame(&to_udp, DESTINATION), "steer_pass_not_tcp", "something else behind the options"),
        (
            frame(&[(vec![0, 255, 0, 0, 0, 0, 0, 0], TCP)], DESTINATION),
            "steer_pass_truncated",
            "past the frame's end",
        ),
    ]
}

fn errors() -> Vec<Row> {
    let v4 = |port, protocol| ethernet(ETH_IPV4, &unreachable_v4(port, protocol));
    let icmp_v4 = |kind, quoted: &[u8]| ethernet(ETH_IPV4, &ipv4(ICMP, 0, &icmp(kind, quoted)));
    let icmp_v6 = |kind, quoted: &[u8]| ethernet(ETH_IPV6, &ipv6(ICMPV6, &icmp(kind, quoted)));
    let sent_v4 = sent_v4(PORT, TCP);
    let sent_v6 = |headers: &[(Vec<u8>, u8)], first| {
        let mut packet = ipv6(first, &chain(headers, 1234));
        packet[8..24].copy_from_slice(&OURS_V6.octets());
        packet[24..40].copy_from_slice(&PEER_V6.octets());
        let ports = packet.len() - 20;
        packet[ports..ports + 2].copy_from_slice(&PORT.to_be_bytes());
        packet
    };
    let simple_v6 = sent_v6(&[], TCP);
    let mut received = sent_v4.clone();
    received[12..16].copy_from_slice(&PEER_V4.octets());
    received[16..20].copy_from_slice(&OURS_V4.octets());
    let mut later = sent_v4.clone();
    later[7] = 1;
    vec![
        (v4(PORT, TCP), "steer_redirect_icmp", "port unreachable, for a segment of ours"),
        (v4(RANGE.0, TCP), "steer_redirect_icmp", "from a port of the range"),
        (v4(FOREIGN, TCP), "steer_pass_not_ours", "for another's segment"),
        (v4(PORT, UDP), "steer_pass_not_tcp", "for a datagram"),
        (icmp_v4(3, &received), "steer_pass_not_ours", "quotes a segment to us, which we did not send"),
        (icmp_v4(3, &later), "steer_pass_fragment", "quotes a later fragment"),
        (icmp_v4(3, &sent_v4[..24]), "steer_redirect_icmp", "quotes the ports and no more"),
        (icmp_v4(3, &sent_v4[..23]), "steer_pass_truncated", "quotes less than the ports"),
        (icmp_v4(3, &simple_v6), "steer_pass_malformed", "quotes another family"),
        (icmp_v4(4, &sent_v4), "steer_redirect_icmp", "source quench"),
        (icmp_v4(11, &sent_v4), "steer_redirect_icmp", "time exceeded"),
        (icmp_v4(12, &sent_v4), "steer_redirect_icmp", "parameter problem"),
        (icmp_v4(8, &sent_v4), "steer_pass_not_tcp", "echo request"),
        (icmp_v4(5, &sent_v4), "steer_pass_not_tcp", "redirect: the kernel's routes"),
        (icmp_v6(1, &simple_v6), "steer_redirect_icmp", "unreachable"),
        (icmp_v6(2, &simple_v6), "steer_redirect_icmp", "packet too big"),
        (icmp_v6(1, &sent_v6(&[(vec![0; 8], TCP)], DESTINATION)), "steer_redirect_icmp", "quotes options"),
        (
            icmp_v6(1, &sent_v6(&[(fragment(1), TCP)], FRAGMENT)),
            "steer_redirect_icmp",
            "quotes a first fragment",
        ),
        (icmp_v6(128, &simple_v6), "steer_pass_not_tcp", "echo request"),
        (icmp_v6(135, &simple_v6), "steer_pass_not_tcp", "neighbour solicitation"),
        (icmp_v6(1, &simple_v6[..43]), "steer_pass_truncated", "quotes less than the ports"),
    ]
}

fn truncated() -> Vec<Row> {
    let v4 = ethernet(ETH_IPV4, &segment_v4(PORT));
    let v6 = ethernet(ETH_IPV6, &segment_v6(PORT));
    let vlan = ethernet(0x8100, &[0, 7, 8]);
    vec![
        (v4[..14 + 19].to_vec(), "steer_pass_truncated", "one octet less than an IPv4 header"),
        (v4[..14 + 23].to_vec(), "steer_pass_truncated", "one octet less than the ports"),
        (v4[..14 + 24].to_vec(), "steer_redirect", "the ports are there: ours, so never the kernel's"),
        (v6[..14 + 39].to_vec(), "steer_pass_truncated", "one octet less than an IPv6 header"),
        (v6[..14 + 43].to_vec(), "steer_pass_truncated", "one octet less than the ports"),
        (v6[..14 + 44].to_vec(), "steer_redirect", "the ports are there"),
        (vlan, "steer_pass_truncated", "half a VLAN tag"),
        (ethernet(ETH_IPV4, &[]), "steer_pass_truncated", "an Ethernet header alone"),
        (ethernet(ETH_IPV4, &ipv4(ICMP, 0, &[3; 7])), "steer_pass_truncated", "less than an ICMP header"),
    ]
}

/// A loaded program with the endpoints of the tables, or `None` where this may not load one.
fn steering() -> Option<Steering> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("skipped: needs root");
        return None;
    }
    let mut steering = Steering::load().unwrap();
    for addr in [OURS_V4.into(), OURS_V6.into()] {
        steering.add_endpoint(addr, PORT).unwrap();
        steering.add_range(addr, RANGE.0, RANGE.1).unwrap();
    }
    Some(steering)
}

/// An AF_XDP socket, bound to nothing: the map of sockets takes it, and a test run sends it nothing.
fn xsk() -> OwnedFd {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The verdict that was counted for `frame`, and what was done.
fn run(steering: &Steering, frame: &[u8]) -> (&'static str, Action) {
    let before = counters(steering);
    let action = steering.test_run(frame).unwrap();
    let after = counters(steering);
    let counted: Vec<_> = iter::zip(before, after).filter(|(before, after)| before.1 != after.1).collect();
    assert_eq!(counted.len(), 1, "one frame is counted once: {counted:?}");
    assert_eq!(counted[0].0.1 + 1, counted[0].1.1);
    (counted[0].1.0, action)
}

fn counters(steering: &Steering) -> Vec<(&'static str, u64)> {
    steering.verdict_counters().unwrap()
}

fn action_of(verdict: &str) -> Action {
    match verdict.split('_').nth(1) {
        Some("redirect") => Action::Redirect,
        Some("drop") => Action::Drop,
        _ => Action::Pass,
    }
}

fn ethernet(protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], &protocol.to_be_bytes()[..], payload].concat()
}

fn segment(source: u16, dest: u16) -> Vec<u8> {
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&source.to_be_bytes());
    segment[2..4].copy_from_slice(&dest.to_be_bytes());
    segment[12] = 5 << 4;
    segment
}

fn segment_v4(dest: u16) -> Vec<u8> {
    ipv4(TCP, 0, &segment(1234, dest))
}

fn segment_v6(dest: u16) -> Vec<u8> {
    ipv6(TCP, &segment(1234, dest))
}

/// From the peer to us.
fn ipv4(protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    let [high, low] = fragment.to_be_bytes();
    let header = [0x45, 0, len[0], len[1], 0, 0, high, low, 64, protocol, 0, 0];
    [&header[..], &PEER_V4.octets(), &OURS_V4.octets(), payload].concat()
}

/// From the peer to us.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let len = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let header = [0x60, 0, 0, 0, len[0], len[1], next, 64];
    [&header[..], &PEER_V6.octets(), &OURS_V6.octets(), payload].concat()
}

/// Extension headers, each with the kind of what follows it, and a segment to `dest`.
fn chain(headers: &[(Vec<u8>, u8)], dest: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    for (header, next) in headers {
        let start = octets.len();
        octets.extend(header);
        octets[start] = *next;
    }
    octets.extend(segment(1234, dest));
    octets
}

/// An IPv6 fragment header with these bits of offset and flag.
fn fragment(bits: u16) -> Vec<u8> {
    let [high, low] = bits.to_be_bytes();
    vec![0, 0, high, low, 0, 0, 0, 1]
}

fn icmp(kind: u8, quoted: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0], quoted].concat()
}

/// A packet from our `source` to the peer.
fn sent_v4(source: u16, protocol: u8) -> Vec<u8> {
    let mut packet = ipv4(protocol, 0, &segment(source, 1234));
    packet[12..16].copy_from_slice(&OURS_V4.octets());
    packet[16..20].copy_from_slice(&PEER_V4.octets());
    packet
}

fn unreachable_v4(source: u16, protocol: u8) -> Vec<u8> {
    ipv4(ICMP, 0, &icmp(3, &sent_v4(source, protocol)))
}
