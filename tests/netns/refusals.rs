//! What bad input gets: one sentence, an exit code, and nothing left behind.

use std::fs;
use std::net::TcpListener;
use std::time::Instant;

use ringroad::cli::lab::{End, Lab};

use super::lab::{Net, RINGROAD, sources};
use super::program::{Ended, PATIENCE};

const LISTEN: &str = "10.77.0.1:7";

/// A command line that cannot work, and words of the sentence that says so: what is wrong, and the cure.
struct Refusal {
    args: &'static [&'static str],
    says: &'static [&'static str],
}

/// Runs each at the server's end, where nothing else of ringroad runs.
fn assert_refused(net: &Net, refusals: &[Refusal]) {
    for Refusal { args, says } in refusals {
        let sentence = net.run(End::Server, &[&[RINGROAD], *args].concat()).failure();
        assert_says(&sentence, says, &format!("{args:?}"));
        net.assert_clean(End::Server, LISTEN);
    }
}

fn assert_says(sentence: &str, says: &[&str], what: &str) {
    for words in says {
        assert!(sentence.contains(words), "{what}: {words:?} in {sentence:?}");
    }
}

fn set_link(net: &Net, end: End, words: &[&str]) {
    net.run(end, &[&["ip", "link", "set", Lab::INTERFACE], words].concat()).success();
}

#[test]
fn a_server_that_cannot_serve_says_why_and_leaves_nothing() {
    let Some(net) = Net::up("bad-serve") else { return };
    let serve = |args: &'static [&'static str], says| Refusal { args, says };
    assert_refused(
        &net,
        &[
            serve(&["serve", "--dev", "rr9", "--listen", LISTEN], &["no interface rr9", "ip link"]),
            serve(&["serve", "--listen", LISTEN], &["needs an interface", "--dev"]),
            serve(&["serve", "--dev", "rr0", "--listen", "10.77.0.1:0"], &["needs a port", "--listen"]),
            serve(
                &["serve", "--dev", "rr0", "--listen", LISTEN, "--workers", "2"],
                &["rr0 receives on 1 queues and 2 workers", "--workers 1", "ethtool -L"],
            ),
            serve(
                &["serve", "--dev", "rr0", "--listen", "10.77.0.99:7"],
                &["10.77.0.99 is not an address of rr0", "ip address add"],
            ),
            serve(
                &["serve", "--dev", "rr0", "--listen", "[fd77::99]:7"],
                &["fd77::99 is not an address of rr0", "ip address add"],
            ),
            serve(
                &["serve", "--dev", "rr0", "--listen", LISTEN, "--cpus", "4000"],
                &["CPU 4000 cannot be used", "--cpus"],
            ),
            serve(
                &["serve", "--dev", "rr0", "--listen", LISTEN, "--mode", "zero-copy"],
                &["rr0 does not support zero-copy", "native"],
            ),
            serve(
                &["serve", "--dev", "rr0", "--listen", LISTEN, "--root", "/no/such/directory"],
                &["/no/such/directory"],
            ),
            serve(&["serve", "--backend", "kernel", "--listen", "10.77.0.99:7"], &["10.77.0.99"]),
        ],
    );
}

#[test]
fn words_that_are_no_addresses_or_cpus_are_refused_with_the_usage() {
    let Some(net) = Net::up("bad-words") else { return };
    for (args, says) in [
        (["serve", "--dev", "rr0", "--listen", "nonsense"], "--listen <IP:PORT"),
        (["serve", "--dev", "rr0", "--listen", "10.77.0.1:99999"], "--listen <IP:PORT"),
        (["serve", "--listen", LISTEN, "--cpus", "all"], "--cpus <LIST>"),
        (["load", "--dev", "rr0", "--target", "10.77.0.1"], "--target <IP:PORT"),
        (["load", "--target", LISTEN, "--source", "10.77.1.0/4"], "--source <A,B|PREFIX>"),
    ] {
        let Ended { status, err, .. } = net.run(End::Server, &[&[RINGROAD], &args[..]].concat());
        assert_eq!(status.code(), Some(2), "{args:?}: {err}");
        assert!(err.starts_with("error: invalid value") && err.contains(says), "{args:?}: {err}");
    }
}

#[test]
fn a_generator_that_reaches_nobody_says_why_and_leaves_nothing() {
    let Some(net) = Net::up("bad-load") else { return };
    for (target, more, says) in [
        ("10.77.0.1:81", [].as_slice(), ["refused every connection", "is a server listening"]),
        ("[fd77::1]:81", &[], ["refused every connection", "is a server listening"]),
        ("192.0.2.1:7", &[], ["192.0.2.1:7 cannot be reached", "ip route get"]),
        ("[2001:db8::1]:7", &[], ["cannot be reached", "ip route get"]),
        (
            "10.77.200.200:7",
            &["--connect-timeout", "1"],
            ["10.77.200.200:7 answered no SYN", "is the machine up"],
        ),
        (LISTEN, &["--source", "10.77.9.9"], ["10.77.9.9 is not an address of rr0", "ip address add"]),
        (LISTEN, &["--source-ports", "40000-41000"], ["source ports 40000-41000", "--source-ports"]),
        (LISTEN, &["--source", "fd77::1:1"], ["--source and --target", "families"]),
    ] {
        let options = ["--app", "echo", "--connections", "2", "--duration", "1.5"];
        let start = Instant::now();
        let ended = net.run(End::Client, &Net::load_argv(target, &[&options[..], more].concat()));
        assert_says(&ended.failure(), &says, target);
        assert!(start.elapsed() < PATIENCE / 2, "{target}");
        net.assert_clean(End::Client, "10.77.1.1:7");
    }
    for target in ["10.77.0.1:81", "192.0.2.1:7"] {
        let options = ["--backend", "kernel", "--app", "echo", "--connections", "2", "--duration", "0.5"];
        net.run(End::Client, &Net::load_argv(target, &options)).failure();
    }
}

#[test]
fn an_interface_that_is_down_and_one_with_too_large_packets_are_refused() {
    let Some(net) = Net::up("bad-link") else { return };
    set_link(&net, End::Server, &["down"]);
    let args = &["serve", "--dev", "rr0", "--listen", LISTEN];
    assert_refused(&net, &[Refusal { args, says: &["interface rr0 is down", "ip link set rr0 up"] }]);
    set_link(&net, End::Server, &["up"]);
    for end in End::ALL {
        set_link(&net, end, &["mtu", "9300"]);
    }
    let says = &["MTU of interface rr0 is 9300", "ip link set rr0 mtu 9216"];
    assert_refused(&net, &[Refusal { args, says }]);
    set_link(&net, End::Server, &["mtu", "1500"]);
    let args = &["serve", "--dev", "rr0", "--listen", LISTEN, "--mode", "native"];
    let says = &["MTU of the peer of interface rr0 is too large", "9216", "generic mode"];
    assert_refused(&net, &[Refusal { args, says }]);
    for end in End::ALL {
        set_link(&net, end, &["mtu", "9216"]);
    }
    net.serve(End::Server, LISTEN, &["--app", "echo"]).stop();
}

#[test]
fn a_port_or_an_interface_that_somebody_has_stays_his() {
    let Some(net) = Net::up("taken") else { return };
    let serve = [RINGROAD, "serve", "--dev", Lab::INTERFACE, "--listen"];

    let listener = net.at(End::Server, || TcpListener::bind(LISTEN)).expect("an address of the lab");
    let sentence = net.run(End::Server, &[&serve[..], &[LISTEN]].concat()).failure();
    assert_says(&sentence, &[LISTEN, "another program", "choose another port"], "a kernel's port");
    assert!(!net.has_program(End::Server));
    drop(listener);

    let server = net.serve(End::Server, LISTEN, &["--app", "echo"]);
    let taken = net.at(End::Server, || TcpListener::bind(LISTEN)).map_err(|error| error.kind());
    assert_eq!(taken.err(), Some(std::io::ErrorKind::AddrInUse), "ringroad holds its port");
    let sentence = net.run(End::Server, &[&serve[..], &[LISTEN]].concat()).failure();
    assert_says(&sentence, &[LISTEN, "another program"], "the same port");
    let sentence = net.run(End::Server, &[&serve[..], &["10.77.0.1:8"]].concat()).failure();
    assert_says(&sentence, &["another XDP program is attached to interface rr0"], "another port");
    net.at(End::Server, || TcpListener::bind("10.77.0.1:8")).expect("it is not held");
    // The first one has not noticed.
    let options = ["--backend", "kernel", "--app", "echo", "--duration", "0.3"];
    let report = net.load(End::Client, LISTEN, &options);
    assert_eq!(report["errors"], serde_json::json!({}), "{report}");
    server.stop();
}

#[test]
fn without_privileges_the_missing_ones_are_named() {
    let Some(net) = Net::up("nobody") else { return };
    // Where the build lies, nobody but its owner may be allowed to look.
    let binary = net.path("ringroad");
    fs::copy(RINGROAD, &binary).expect("there is room for it");
    let nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", &binary];
    for (action, addr, capability) in [
        ("--listen", LISTEN, "CAP_NET_BIND_SERVICE"),
        ("--listen", "10.77.0.1:7000", "CAP_NET_ADMIN"),
        ("--target", "10.77.1.1:7", "CAP_NET_ADMIN"),
    ] {
        let command = if action == "--listen" { "serve" } else { "load" };
        let args = [command, "--dev", Lab::INTERFACE, action, addr];
        let sentence = net.run(End::Server, &[&nobody[..], &args].concat()).failure();
        assert_says(&sentence, &["no permission to", "run as root", capability], command);
        net.assert_clean(End::Server, if command == "serve" { addr } else { LISTEN });
    }
}

#[test]
fn modes_are_obtained_as_asked_for_and_said() {
    let Some(net) = Net::up("modes") else { return };
    for (mode, obtained) in [("auto", "native"), ("native", "native"), ("generic", "generic")] {
        let server = net.serve(End::Server, LISTEN, &["--app", "echo", "--mode", mode]);
        let options = ["--app", "echo", "--duration", "0.5", "--connections", "4", "--mode", mode];
        let from = ["--source", sources(LISTEN)];
        let report = net.load(End::Client, LISTEN, &[&options[..], &from].concat());
        assert_eq!(report["errors"], serde_json::json!({}), "{mode}: {report}");
        assert!(report["connections_total"].as_u64().is_some_and(|n| n > 10), "{mode}: {report}");
        let said = report["environment"]["mode"].as_str().expect("a mode");
        assert!(said.starts_with(obtained), "{mode}: {said}");
        server.stop();
    }
}
