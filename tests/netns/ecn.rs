//! Explicit congestion notification with a kernel over a link that marks (RFC 3168): each side agrees, echoes and hears.

use std::fs;
use std::time::Duration;

use ringroad::cli::lab::{End, LinkArgs};
use ringroad::io::link::Mark;
use serde_json::Value;

use super::lab::{Net, SERVER, assert_kernel_content, connect, read_json};
use super::stream::send_and_compare;

const OCTETS: usize = 4_000_000;
/// In each direction.
const MARKING: LinkArgs = LinkArgs {
    delay: Some(Duration::from_millis(1)),
    rate: Some(200_000_000),
    ecn: Some(Mark::Share(10_000)),
    seed: Some(7),
    ..LinkArgs::NONE
};

/// The kernel at this end asks for ECN, too, and not only agrees to it.
fn let_the_kernel_ask(net: &Net, end: End) {
    net.at(end, || fs::write("/proc/sys/net/ipv4/tcp_ecn", "1")).expect("root may");
}

/// Asserts that at least one of each happened.
fn assert_counted(counters: &Value, names: &[&str]) {
    for name in names {
        assert!(counters[name].as_u64().is_some_and(|n| n > 0), "{name} in {counters}");
    }
}

/// What the kernel counts of packets that came with ECT(0), and with a mark, over this version of IP.
fn packets_in(address: &str) -> [&'static str; 2] {
    if address.starts_with('[') {
        ["Ip6InECT0Pkts", "Ip6InCEPkts"]
    } else {
        ["IpExtInECT0Pkts", "IpExtInCEPkts"]
    }
}

#[test]
fn a_kernel_that_asks_and_ringroad_hear_each_others_echoes() {
    let Some(net) = Net::with_link("ecnin", MARKING) else { return };
    let_the_kernel_ask(&net, End::Client);
    let json = net.path("serve.json");
    for address in SERVER {
        let server =
            net.serve(End::Server, &format!("{address}:7"), &["--app", "echo", "--ecn", "--json", &json]);
        let before = net.kernel_counters(End::Client);
        let open = net.at(End::Client, || connect(server.addr));
        let told = net.run(End::Client, &["ss", "-Htoin", "dport", "=", ":7"]).success();
        assert!(told.split_whitespace().any(|word| word == "ecn"), "{address}: {told}");
        drop(open);
        net.at(End::Client, || send_and_compare(connect(server.addr), OCTETS, Duration::ZERO));
        assert_kernel_content(&net, End::Client, &before);
        let grown = serde_json::json!(net.kernel_counters(End::Client).since(&before));
        assert_counted(&grown, &packets_in(address));
        assert_counted(&grown, &["TcpExtTCPDeliveredCE"]);
        server.stop();
        let counters = read_json(&json)["counters"].clone();
        assert_eq!(counters["ecn_agreed"], 2, "{address}: {counters}");
        assert_counted(&counters, &["ecn_marks", "ecn_reductions"]);
    }
    // Nothing was lost on the link, so that nothing but marks has told anybody to slow down.
    let link = net.link_counts();
    for direction in ["to_server", "to_client"] {
        let count = |what: &str| link[direction][what].as_u64().expect("a count");
        assert!(count("marked") > 0 && count("lost") + count("queue_full") == 0, "{direction}: {link}");
    }
}

#[test]
fn ringroad_asks_and_a_kernel_agrees() {
    let Some(net) = Net::with_link("ecnout", MARKING) else { return };
    let_the_kernel_ask(&net, End::Server);
    for address in SERVER {
        for (app, direction, ours, theirs) in [
            ("discard", "up", "ecn_reductions", packets_in(address)[1]),
            ("chargen", "down", "ecn_marks", "TcpExtTCPDeliveredCE"),
        ] {
            let listen = format!("{address}:9");
            let server = net.serve_kernel(End::Server, &listen, &["--app", app]);
            let before = net.kernel_counters(End::Server);
            let more = ["--ecn", "--profile", "bulk", "--app", "echo", "--direction", direction];
            let report = net.load(
                End::Client,
                &listen,
                &[&more[..], &["--connections", "2", "--duration", "1"]].concat(),
            );
            assert_eq!(report["errors"], serde_json::json!({}), "{listen}, {direction}: {report}");
            assert_counted(&report["counters"], &["ecn_agreed", ours]);
            let grown = serde_json::json!(net.kernel_counters(End::Server).since(&before));
            assert_counted(&grown, &[theirs]);
            server.stop();
        }
    }
}
