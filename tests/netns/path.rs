//! A path that becomes narrow behind the first router, which only ICMP tells of.

use std::fs;

use ringroad::cli::lab::End;
use ringroad::runtime::netns;
use serde_json::Value;

use super::lab::{Net, read_json, sha256};
use super::stream::Noise;

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
    fs::create_dir_all(&root).expect("a directory");
    let file = format!("{root}/file");
    fs::write(&file, Noise::new(9).take(400_000).flat_map(u64::to_le_bytes).collect::<Vec<u8>>())
        .expect("there is room for it");
    for address in super::lab::SERVER {
        let server = net.serve(End::Server, &format!("{address}:80"), &["--root", &root, "--json", &json]);
        far.curl(&["-o", &got, &format!("http://{}/file", server.addr)]);
        assert_eq!(sha256(&got), sha256(&file), "{address}");
        server.stop();
        let counters: Value = read_json(&json)["counters"].clone();
        assert!(counters["icmp_applied"].as_u64().is_some_and(|n| n > 0), "{address}: {counters}");
    }
}
