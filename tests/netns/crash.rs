//! What is left when ringroad is killed or interrupted.

use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringroad::cli::lab::{End, Lab};
use serde_json::json;

use super::lab::{Net, RINGROAD, SERVER, connect, read_json, sources};
use super::program::{PATIENCE, wait_for};

const LISTEN: &str = "10.77.0.1:7";

#[test]
fn a_killed_server_leaves_the_interface_usable_and_the_next_one_starts_at_once() {
    let Some(net) = Net::up("kill") else { return };
    for address in SERVER {
        let listen = format!("{address}:7");
        let server = net.serve(End::Server, &listen, &["--app", "echo"]);
        let argv = Net::load_argv(&listen, &["--backend", "kernel", "--app", "echo", "--duration", "60"]);
        let load = net.start(End::Client, &argv);
        wait_for("connections", || {
            let established = net.run(End::Client, &["ss", "-Htn", "state", "established"]).success();
            (!established.is_empty()).then_some(())
        });
        assert!(net.has_program(End::Server));

        server.program.signal(Signal::SIGKILL);
        assert!(!server.program.end().status.success());
        // The kernel's TCP works at once, whether the program is detached yet or not.
        net.assert_kernels_talk();
        drop(load);

        let next = net.serve(End::Server, &listen, &["--app", "echo"]);
        let report =
            net.load(End::Client, &listen, &["--backend", "kernel", "--app", "echo", "--duration", "0.3"]);
        assert_eq!(report["errors"], json!({}), "{report}");
        next.program.signal(Signal::SIGKILL);
        next.program.end();
        net.assert_clean(End::Server, &listen);
    }
}

#[test]
fn a_killed_generator_leaves_the_interface_usable_and_the_next_one_starts_at_once() {
    let Some(net) = Net::up("killload") else { return };
    let server = net.serve_kernel(End::Server, LISTEN, &["--app", "echo"]);
    let load = net.start(End::Client, &Net::load_argv(LISTEN, &["--app", "echo", "--duration", "60"]));
    wait_for("the generator", || net.has_program(End::Client).then_some(()));
    load.signal(Signal::SIGKILL);
    assert!(!load.end().status.success());
    net.assert_kernels_talk();
    let report = net.load(End::Client, LISTEN, &["--app", "echo", "--duration", "0.3"]);
    assert_eq!(report["errors"], json!({}), "{report}");
    net.assert_clean(End::Client, "10.77.1.1:7");
    server.stop();
}

#[test]
fn ctrl_c_ends_a_run_with_its_results_so_far() {
    let Some(net) = Net::up("ctrlc") else { return };
    let report = net.path("serve.json");
    for (backend, client_backend) in
        [("xdp", "xdp"), ("xdp", "kernel"), ("kernel", "xdp"), ("kernel", "kernel")]
    {
        let what = format!("{client_backend} to {backend}");
        let options = ["--app", "echo", "--json", report.as_str()];
        let server = match backend {
            "xdp" => net.serve(End::Server, LISTEN, &options),
            _ => net.serve_kernel(End::Server, LISTEN, &options),
        };
        let json = net.path(&format!("{backend}-{client_backend}.json"));
        let more = ["--app", "echo", "--duration", "600", "--json", &json, "--backend", client_backend];
        let from = ["--source", sources(LISTEN)];
        let mut load = net.start(End::Client, &Net::load_argv(LISTEN, &[&more[..], &from].concat()));
        if client_backend == "xdp" {
            // From when it is ready, which with a sanitizer takes as long as what follows.
            load.wait_for_err_line("mode: ");
        }
        thread::sleep(Duration::from_secs(1));

        let asked = Instant::now();
        load.signal(Signal::SIGINT);
        let said = load.end().success();
        assert!(asked.elapsed() < PATIENCE / 2, "{what}");
        assert!(said.contains("no errors"), "{what}: {said}");
        let results = read_json(&json);
        assert!(results["connections_total"].as_u64().is_some_and(|n| n > 0), "{what}: {results}");
        assert_eq!(results["errors"], json!({}), "{what}: {results}");
        let measured = results["duration_s"].as_f64().expect("a time");
        assert!(measured > 0.1 && measured < 60.0, "{what}: the time that it ran, not {measured}");

        server.stop();
        assert!(read_json(&report)["cpu_seconds"].as_f64().is_some_and(|s| s > 0.0), "{what}");
        net.assert_clean(End::Server, LISTEN);
        net.assert_clean(End::Client, "10.77.1.1:7");
    }
}

#[test]
fn ctrl_c_ends_connections_that_are_open() {
    let Some(net) = Net::up("open") else { return };
    let server = net.serve(End::Server, LISTEN, &["--app", "echo"]);
    let mut stream = net.at(End::Client, || connect(server.addr));
    server.stop();
    net.assert_clean(End::Server, LISTEN);
    let mut rest = Vec::new();
    // FIN or RST: it is told, and does not wait for ever.
    let told = stream.read_to_end(&mut rest);
    assert!(matches!(&told, Ok(0)) || told.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
}

#[test]
fn a_server_that_ends_leaves_the_one_at_the_other_end() {
    let Some(net) = Net::up("beside") else { return };
    let server = net.serve(End::Server, LISTEN, &["--app", "echo"]);
    let other = [RINGROAD, "serve", "--dev", Lab::INTERFACE, "--listen", "10.77.1.1:7", "--app", "echo"];
    let mut beside = net.start(End::Client, &[&other[..], &["--idle", "adaptive"]].concat());
    beside.wait_for_line("ready on ");
    server.stop();
    assert!(net.has_program(End::Client), "the one that goes leaves the other's program");
    beside.signal(Signal::SIGTERM);
    beside.end().success();
}
