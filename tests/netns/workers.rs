//! Two workers on two queues, where the wire has no idea which flow belongs to which.

use std::time::Duration;

use ringroad::cli::lab::End;
use serde_json::{Value, json};

use super::lab::{Net, SERVER, assert_kernel_content, connect, read_json, sources};
use super::stream::send_and_compare;

/// Short and long connections to a server; the report of each run.
fn loads(net: &Net, listen: &str, more: &[&str]) -> Vec<Value> {
    let from = ["--source", sources(listen)];
    let runs = ["crr", "rr"].map(|profile| {
        let options = ["--app", "echo", "--profile", profile, "--connections", "32", "--duration", "1"];
        let report = net.load(End::Client, listen, &[&options[..], more, &from].concat());
        assert_eq!(report["errors"], json!({}), "{profile}: {report}");
        assert!(report["requests_per_second"].as_f64().is_some_and(|rate| rate > 100.0), "{report}");
        report
    });
    Vec::from(runs)
}

#[test]
fn flows_of_a_kernel_that_land_on_the_wrong_worker_are_handed_over() {
    let Some(net) = Net::with_queues("q-kern", 2) else { return };
    let json = net.path("serve.json");
    for address in SERVER {
        let listen = format!("{address}:7");
        let options = ["--app", "echo", "--workers", "2", "--json", &json];
        let server = net.serve(End::Server, &listen, &options);
        let before = net.kernel_counters(End::Client);
        loads(&net, &listen, &["--backend", "kernel"]);
        net.at(End::Client, || {
            for _ in 0..4 {
                send_and_compare(connect(server.addr), 5_000_000, Duration::ZERO);
            }
        });
        assert_kernel_content(&net, End::Client, &before);
        server.stop();
        let counters = &read_json(&json)["counters"];
        assert!(counters["handed_over"].as_u64().is_some_and(|n| n > 0), "{address}: {counters}");
    }
}

#[test]
fn a_generator_with_two_workers_gets_its_answers_from_a_kernel() {
    let Some(net) = Net::with_queues("q-load", 2) else { return };
    for address in SERVER {
        let listen = format!("{address}:7");
        let server = net.serve_kernel(End::Server, &listen, &["--app", "echo"]);
        let before = net.kernel_counters(End::Server);
        let reports = loads(&net, &listen, &["--workers", "2"]);
        assert_kernel_content(&net, End::Server, &before);
        let handed_over = |report: &Value| report["counters"]["handed_over"].as_u64().is_some_and(|n| n > 0);
        assert!(reports.iter().any(handed_over), "{address}: {reports:?}");
        server.stop();
    }
}

#[test]
fn two_workers_at_both_ends_need_no_handing_over() {
    let Some(net) = Net::with_queues("q-both", 2) else { return };
    let json = net.path("serve.json");
    for address in SERVER {
        let listen = format!("{address}:7");
        let options = ["--app", "echo", "--workers", "2", "--json", &json];
        let server = net.serve(End::Server, &listen, &options);
        for report in loads(&net, &listen, &["--workers", "2"]) {
            assert_eq!(report["counters"]["handed_over"], Value::Null, "{address}: both ends use one hash");
        }
        server.stop();
        assert_eq!(
            read_json(&json)["counters"]["handed_over"],
            Value::Null,
            "{address}: both ends use one hash"
        );
    }
}
