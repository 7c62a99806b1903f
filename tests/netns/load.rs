//! The generator against nginx and against the kernel, ten thousand connections at a time and more.

use std::fs;

use ringroad::cli::lab::End;
use serde_json::{Value, json};

use super::lab::{Net, RINGROAD, SERVER, assert_kernel_content, read_json, sources, wait_until_it_listens};
use super::program::{Program, wait_for};

const SHORT_CONNECTIONS: u64 = 10_000;

/// nginx at the server's end, as one process that ends with the test.
fn nginx(net: &Net) -> Program {
    let root = net.path("www");
    fs::create_dir_all(&root).expect("a directory");
    fs::write(format!("{root}/index.html"), "x".repeat(512)).expect("a file");
    let directory = net.path("");
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {directory}{name};"))
        .concat();
    let listen = SERVER.map(|address| format!("listen {address}:80 backlog=4096;")).concat();
    let config = format!(
        "daemon off; master_process off; pid {directory}nginx.pid; error_log {directory}error.log;
         events {{ worker_connections 2048; }}
         http {{ access_log off; {temporary} keepalive_requests 1000000000;
           server {{ {listen} root {root}; }} }}"
    );
    let file = net.path("nginx.conf");
    fs::write(&file, config).expect("a file");
    let log = net.path("error.log");
    let nginx = net.start(End::Server, &["/usr/sbin/nginx", "-p", &directory, "-e", &log, "-c", &file]);
    wait_until_it_listens(net, End::Server, target(SERVER[0], 80).parse().expect("an address"));
    nginx
}

fn target(address: &str, port: u16) -> String {
    format!("{address}:{port}")
}

fn assert_no_errors(report: &Value, what: &str) {
    assert_eq!(report["errors"], json!({}), "{what}: {report}");
}

#[test]
fn nginx_serves_the_generator() {
    let Some(net) = Net::up("nginx") else { return };
    let mut nginx = nginx(&net);
    for address in SERVER {
        let before = net.kernel_counters(End::Server);
        for (profile, close) in [("crr", "client"), ("crr", "server"), ("rr", "client")] {
            let what = format!("{address}, {profile}, {close} closes first");
            let options = ["--app", "http", "--connections", "16", "--duration", "1"];
            let more = ["--profile", profile, "--close", close, "--path", "/index.html"];
            let from = ["--source", sources(address)];
            let report = net.load(End::Client, &target(address, 80), &[&options[..], &more, &from].concat());
            assert_no_errors(&report, &what);
            assert!(
                report["requests_per_second"].as_f64().is_some_and(|rate| rate > 100.0),
                "{what}: {report}"
            );
        }
        assert_kernel_content(&net, End::Server, &before);
    }
    assert!(nginx.is_running());
    let complaints = fs::read_to_string(net.path("error.log")).expect("nginx made it");
    assert_eq!(complaints, "", "nginx saw nothing odd");
}

#[test]
fn nginx_and_ringroad_answer_a_missing_page_with_an_error_that_counts() {
    let Some(net) = Net::up("missing") else { return };
    let nginx = nginx(&net);
    let options = ["--app", "http", "--path", "/none", "--connections", "2", "--duration", "0.3"];
    let (target, json) = (target(SERVER[0], 80), net.path("load.json"));
    let argv = [&Net::load_argv(&target, &options), ["--json", &json].as_slice()].concat();
    let ended = net.run(End::Client, &argv);
    assert_eq!(ended.status.code(), Some(1), "nothing succeeded: {}", ended.err);
    let report = read_json(&json);
    let kinds: Vec<_> = report["errors"].as_object().expect("a map").keys().collect();
    assert_eq!(kinds, ["http_status"], "{report}");
    drop(nginx);
}

/// Repeats a second of short connections until there were enough; no exchange may fail.
fn ten_thousand(net: &Net, what: &str, target: &str, options: &[&str]) {
    /// Enough for a machine a hundred times slower than any.
    const RUNS: u32 = 30;
    let mut connections = 0;
    for _ in 0..RUNS {
        let common = ["--profile", "crr", "--app", "echo", "--connections", "32", "--duration", "1"];
        let from = ["--source", sources(target)];
        let report = net.load(End::Client, target, &[&common, &from[..], options].concat());
        assert_no_errors(&report, what);
        connections += report["connections_total"].as_u64().expect("a count");
        if connections >= SHORT_CONNECTIONS {
            return;
        }
    }
    panic!("{what}: only {connections} connections");
}

#[test]
fn ten_thousand_short_connections_of_the_kernel_to_ringroad() {
    let Some(net) = Net::up("to-us") else { return };
    for (address, close) in SERVER.into_iter().zip(["client", "server"]) {
        let listen = target(address, 7);
        let server = net.serve(End::Server, &listen, &["--app", "echo", "--close", close]);
        let before = net.kernel_counters(End::Client);
        let what = format!("{address}, {close} closes first");
        ten_thousand(&net, &what, &listen, &["--backend", "kernel", "--close", close]);
        assert_kernel_content(&net, End::Client, &before);
        server.stop();
    }
}

#[test]
fn ten_thousand_short_connections_of_ringroad_to_the_kernel() {
    let Some(net) = Net::up("from-us") else { return };
    for (address, close) in SERVER.into_iter().zip(["server", "client"]) {
        let listen = target(address, 7);
        let server = net.serve_kernel(End::Server, &listen, &["--app", "echo", "--close", close]);
        let before = net.kernel_counters(End::Server);
        let what = format!("{address}, {close} closes first");
        ten_thousand(&net, &what, &listen, &["--close", close]);
        assert_kernel_content(&net, End::Server, &before);
        server.stop();
    }
}

#[test]
fn ten_thousand_short_connections_past_both_kernels() {
    let Some(net) = Net::up("both") else { return };
    for (address, close) in SERVER.into_iter().zip(["client", "server"]) {
        let listen = target(address, 7);
        let server = net.serve(End::Server, &listen, &["--app", "echo", "--close", close]);
        let before = [End::Client, End::Server].map(|end| net.kernel_counters(end));
        ten_thousand(&net, &format!("{address}, {close} closes first"), &listen, &["--close", close]);
        for (end, before) in [End::Client, End::Server].into_iter().zip(before) {
            let grown = net.kernel_counters(end).since(&before);
            assert_eq!(grown.get("TcpInSegs"), None, "the kernels saw nothing of it: {grown:?}");
        }
        server.stop();
    }
}

#[test]
fn a_rate_a_source_and_a_range_of_ports_are_kept_to() {
    let Some(net) = Net::up("rate") else { return };
    const RANGE: &str = "10.77.0.1:7000-7003";
    let argv = [RINGROAD, "serve", "--backend", "kernel", "--listen", RANGE, "--app", "echo"];
    let mut server = net.start(End::Server, &argv);
    assert_eq!(server.wait_for_line("ready on "), RANGE);
    let options = ["--app", "echo", "--profile", "rr", "--connections", "8", "--rate", "400"];
    let more = ["--source", "10.77.1.5,10.77.1.6", "--duration", "3", "--json", &net.path("load.json")];
    let load = net.start(End::Client, &Net::load_argv(RANGE, &[&options[..], &more].concat()));
    let pairs = wait_for("eight connections", || {
        let sockets = net.run(End::Server, &["ss", "-Htn", "state", "established"]).success();
        (sockets.lines().count() == 8).then_some(sockets)
    });
    for text in [":7000", ":7001", ":7002", ":7003", "10.77.1.5:", "10.77.1.6:"] {
        let used = pairs.matches(text).count();
        assert_eq!(used, if text.starts_with(':') { 2 } else { 4 }, "{text} in {pairs}");
    }
    load.end().success();
    let report = read_json(net.path("load.json"));
    assert_no_errors(&report, "rate");
    assert_eq!((&report["rate"], &report["connections_total"]), (&json!(400), &json!(8)));
    let requests = report["requests_per_second"].as_f64().expect("a rate");
    assert!(requests <= 440.0, "no more than was asked for: {requests}");
    drop(server);
}
