//! Paths that are narrower than the interfaces, told of by ICMP or by nobody, and interfaces with jumbo frames.

use std::fs;

use std::time::Duration;

use ringroad::cli::lab::{End, LinkArgs};
use ringroad::runtime::netns;
use serde_json::Value;

use super::lab::{Net, SERVER, connect, read_json, sha256};
use super::stream::{Noise, exchange_with_an_echo, send_and_compare};

/// A third namespace behind the client's, which is the router; removed when dropped.
struct Far<'a> {
    net: &'a Net,
    name: String,
}

impl<'a> Far<'a> {
    /// Packets to it have 1300 octets at most, and its own interface does not know: nor does its MSS.
    fn behind(net: &'a Net) -> Self {
        let far = Self { net, name: format!("rr-far-{}", std::process::id()) };
        netns::create(&far.name).expect("root can make a namespace");
        for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            let path = format!("/proc/sys/net/{setting}");
            net.at(End::Client, || fs::write(path, "1")).expect("root may");
        }
        far.ip(End::Client, &format!("link add rr1 type veth peer name rr0 netns {}", far.name));
        for (end, words) in [
            (End::Client, "address add 10.78.0.1/24 dev rr1"),
            (End::Client, "address add fd78::1/64 dev rr1 nodad"),
            (End::Client, "link set rr1 up"),
            (End::Server, "route add 10.78.0.0/24 via 10.77.1.1"),
            (End::Server, "-6 route add fd78::/64 via fd77::1:1"),
        ] {
            far.ip(end, words);
        }
        let inside = format!("-n {}", far.name);
        for words in [
            "address add 10.78.0.2/24 dev rr0",
            "address add fd78::2/64 dev rr0 nodad",
            "link set rr0 up",
            "route add default via 10.78.0.1",
            "-6 route add default via fd78::1",
        ] {
            far.ip(End::Client, &format!("{inside} {words}"));
        }
        far.ip(End::Client, "route add 10.78.0.2/32 dev rr1 mtu lock 1300");
        far.ip(End::Client, "-6 route add fd78::2/128 dev rr1 mtu lock 1300");
        far
    }

    fn ip(&self, end: End, words: &str) {
        let argv: Vec<_> = ["ip"].into_iter().chain(words.split(' ')).collect();
        self.net.run(end, &argv).success();
    }

    fn curl(&self, args: &[&str]) -> String {
        let argv = ["ip", "netns", "exec", &self.name, "curl", "-sS", "--globoff", "--noproxy", "*"];
        self.net.run(End::Client, &[&argv, &["--max-time", "50"][..], args].concat()).success()
    }
}

impl Drop for Far<'_> {
    fn drop(&mut self) {
        // What fails here must not hide what failed before.
        drop(netns::remove(&self.name));
    }
}

#[test]
fn a_router_that_needs_smaller_packets_is_believed() {
    let Some(net) = Net::up("pmtu") else { return };
    let far = Far::behind(&net);
    let (root, json, got) = (net.path("root"), net.path("serve.json"), net.path("got"));
    let file = write_file(&root);
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:80"), &["--root", &root, "--json", &json]);
        far.curl(&["-o", &got, &format!("http://{}/file", server.addr)]);
        assert_eq!(sha256(&got), sha256(&file), "{address}");
        server.stop();
        let counters: Value = read_json(&json)["counters"].clone();
        assert!(counters["icmp_applied"].as_u64().is_some_and(|n| n > 0), "{address}: {counters}");
    }
}

/// A file of noise in a directory of its own.
fn write_file(root: &str) -> String {
    fs::create_dir_all(root).expect("a directory");
    let file = format!("{root}/file");
    fs::write(&file, Noise::new(9).take(400_000).flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
        .expect("there is room for it");
    file
}

#[test]
fn a_path_that_swallows_large_packets_is_found_out() {
    let link = LinkArgs { path_mtu: Some(1_300), delay: Some(Duration::from_millis(1)), ..LinkArgs::NONE };
    let Some(net) = Net::with_link("hole", link) else { return };
    let (root, json, got) = (net.path("root"), net.path("serve.json"), net.path("got"));
    let file = write_file(&root);
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:80"), &["--root", &root, "--json", &json]);
        let url = format!("http://{}/file", server.addr);
        let curl = ["curl", "-sS", "--globoff", "--noproxy", "*", "--max-time", "50", "-o", &got, &url];
        net.run(End::Client, &curl).success();
        assert_eq!(sha256(&got), sha256(&file), "{address}");
        server.stop();
        let counters: Value = read_json(&json)["counters"].clone();
        let count = |name: &str| counters[name].as_u64().unwrap_or(0);
        assert_eq!((count("path_black_holes"), count("icmp_applied")), (1, 0), "{address}: {counters}");
        assert!(count("path_probes") > 0, "{address}: {counters}");
    }
    assert!(net.link_counts()["to_client"]["too_large"].as_u64().is_some_and(|n| n > 0));
}

#[test]
fn jumbo_frames_carry_streams_between_ringroad_and_kernels() {
    const OCTETS: usize = 2_000_000;
    let Some(net) = Net::up("jumbo") else { return };
    for end in End::ALL {
        net.run(end, &["ip", "link", "set", "rr0", "mtu", "9000"]).success();
    }
    for address in SERVER {
        let json = net.path("serve.json");
        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo", "--json", &json]);
        net.at(End::Client, || send_and_compare(connect(server.addr), OCTETS, Duration::ZERO));
        exchange_with_an_echo(&net, End::Client, server.addr, OCTETS);
        server.stop();
        let counters: Value = read_json(&json)["counters"].clone();
        let count = |name: &str| counters[name].as_u64().unwrap_or(0);
        // Both streams went both ways, 8,948 octets at a time in three descriptors each, but for the last of a send.
        for (frames, descriptors) in [("frames_in", "xsk_rx_frames"), ("frames_out", "xsk_tx_frames")] {
            let more = count(descriptors) - count(frames);
            assert!(more >= 2 * OCTETS as u64 / 8_948, "{address}: {frames}, {counters}");
        }
        let text = count("text_out") / count("segments_out");
        assert!(text > 1_460, "{address}: {text} octets a segment, {counters}");
    }
}
