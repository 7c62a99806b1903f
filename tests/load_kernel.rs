//! The `ringroad` command with the kernel's TCP at both ends, over loopback.
#![cfg(feature = "cli")]
#![forbid(unsafe_code)]

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

const RINGROAD: &str = env!("CARGO_BIN_EXE_ringroad");

/// A server that ends with the test.
struct Serve {
    child: Child,
    addr: String,
}

impl Serve {
    fn start(args: &[&str]) -> Self {
        let mut child = Command::new(RINGROAD)
            .args(["serve", "--backend", "kernel", "--listen", "127.0.0.1:0", "--max-connections", "1024"])
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("it says something");
        let addr = line.trim().strip_prefix("ready on ").expect("it is ready").to_string();
        Self { child, addr }
    }

    /// Asks it to end, and waits.
    fn stop(mut self) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("it runs");
        let status = self.child.wait().expect("it was started");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // It has ended already where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn scratch(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("ringroad-{name}-{}", std::process::id()))
}

fn load(target: &str, args: &[&str]) -> Output {
    Command::new(RINGROAD)
        .args(["load", "--backend", "kernel", "--target", target, "--warmup", "0.05", "--duration", "0.3"])
        .args(args)
        .output()
        .expect("the generator starts")
}

/// A run against a server of its own; its JSON object.
fn measure(name: &str, serve: &[&str], args: &[&str]) -> Value {
    let server = Serve::start(serve);
    let file = scratch(name);
    let out = load(&server.addr, &[args, &["--json", file.to_str().expect("UTF-8")]].concat());
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{name}: {text}");
    let json = std::fs::read(&file).expect("the report was written");
    std::fs::remove_file(&file).expect("it is there");
    server.stop();
    serde_json::from_slice(&json).expect("it is JSON")
}

#[test]
fn short_connections_work_whoever_closes_first() {
    for (app, close) in [("echo", "client"), ("echo", "server"), ("http", "client"), ("http", "server")] {
        let name = format!("crr-{app}-{close}");
        let serve: &[&str] =
            if app == "echo" { &["--app", "echo", "--close", close] } else { &["--app", "http"] };
        let args = ["--profile", "crr", "--app", app, "--close", close, "--connections", "8"];
        let json = measure(&name, serve, &args);
        assert_eq!(json["errors"], serde_json::json!({}), "{name}");
        assert!(json["connections_total"].as_u64().expect("a count") > 10, "{name}: {json}");
        assert!(json["latency_us"]["p50"].as_f64().expect("a latency") > 0.0, "{name}");
        assert!(json["packets_per_connection"].as_f64().expect("a figure") >= 6.0, "{name}");
    }
}

#[test]
fn requests_on_open_connections_work_in_both_loops() {
    for (app, sizes) in [("echo", ["--request-size", "200k"]), ("http", ["--request-size", "64"])] {
        for rate in [None, Some("500")] {
            let name = format!("rr-{app}-{}", rate.unwrap_or("closed"));
            let mut args = vec!["--profile", "rr", "--app", app, "--connections", "6", "--workers", "2"];
            args.extend(sizes);
            args.extend(rate.iter().flat_map(|rate| ["--rate", rate]));
            let json = measure(&name, &["--app", app, "--body-size", "100k", "--workers", "2"], &args);
            assert_eq!(json["errors"], serde_json::json!({}), "{name}");
            assert_eq!(json["connections_total"], 6, "{name}");
            assert!(json["requests_per_second"].as_f64().expect("a rate") > 0.0, "{name}");
        }
    }
}

#[test]
fn octets_flow_both_ways() {
    for (app, serve, direction) in [
        ("echo", "discard", "up"),
        ("echo", "chargen", "down"),
        ("echo", "echo", "up"),
        ("http", "http", "down"),
    ] {
        let name = format!("bulk-{serve}-{direction}");
        let args = ["--profile", "bulk", "--app", app, "--direction", direction, "--connections", "2"];
        let json = measure(&name, &["--app", serve, "--body-size", "10m"], &args);
        assert_eq!(json["errors"], serde_json::json!({}), "{name}");
        assert!(json["bytes_per_second"].as_f64().expect("a rate") > 1e5, "{name}");
        assert!(json["latency_us"].is_null(), "{name}");
    }
}

#[test]
fn a_refused_connection_is_an_error_in_one_sentence() {
    let server = Serve::start(&["--app", "echo"]);
    let addr = server.addr.clone();
    server.stop();
    let out = load(&addr, &["--app", "echo"]);
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success());
    assert!(text.contains("refused every connection; is a server listening there?"), "{text}");
    assert_eq!(text.trim().lines().count(), 1, "{text}");
}

#[test]
fn two_servers_cannot_have_one_address() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let addr = taken.local_addr().expect("it is bound").to_string();
    let out = Command::new(RINGROAD)
        .args(["serve", "--backend", "kernel", "--listen", &addr])
        .output()
        .expect("the server starts");
    let text = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && text.contains("is in use by another program"), "{text}");
}

#[test]
fn the_histogram_log_and_the_source_address_are_used() {
    let server = Serve::start(&["--app", "echo"]);
    let file = scratch("hdr");
    let path = file.to_str().expect("UTF-8");
    let out = load(&server.addr, &["--app", "echo", "--source", "127.0.0.8/29", "--hdr", path]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let text = std::fs::read_to_string(&file).expect("the log was written");
    std::fs::remove_file(&file).expect("it is there");
    assert!(text.contains("Tag=exchange"), "{text}");
    server.stop();
}

#[test]
fn the_server_leaves_a_report() {
    let file = scratch("serve");
    let server = Serve::start(&["--app", "echo", "--json", file.to_str().expect("UTF-8")]);
    server.stop();
    let json: Value = serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    std::fs::remove_file(&file).expect("it is there");
    assert!(json["cpu_seconds"].is_number() && json["environment"]["kernel"].is_string(), "{json}");
}

/// What curl prints, without its progress.
fn curl(args: &[&str]) -> String {
    let child = Command::new("curl")
        .args(["-sS", "--max-time", "10", "--noproxy", "*"])
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let out = child.wait_with_output().expect("it was started");
    assert!(out.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("UTF-8")
}

#[test]
fn curl_gets_pages_files_and_errors() {
    let root = scratch("root");
    std::fs::create_dir_all(root.join("sub")).expect("a directory");
    std::fs::write(root.join("sub/page.html"), "<p>page</p>").expect("a file");
    let server = Serve::start(&["--app", "http", "--root", root.to_str().expect("UTF-8")]);
    std::fs::remove_dir_all(&root).expect("it was read at start");
    let url = |path: &str| format!("http://{}{path}", server.addr);
    assert_eq!(curl(&[&url("/sub/page.html")]), "<p>page</p>");
    assert!(curl(&["-I", &url("/sub/page.html")]).contains("Content-Type: text/html"));
    for (path, args, status) in [
        ("/none", &[][..], "404"),
        ("/../etc/passwd", &["--path-as-is"], "404"),
        ("/sub/page.html", &["-d", "body"], "405"),
        ("/sub/page.html", &["--http1.0"], "200"),
        ("/sub/page.html", &["-H", "Connection: close"], "200"),
    ] {
        let (format, url) = (["-o", "/dev/null", "-w", "%{http_code}"], url(path));
        assert_eq!(curl(&[&format[..], args, &[&url]].concat()), status, "{path} {args:?}");
    }
    let (one, format) = (url("/sub/page.html"), ["-w", "%{num_connects} "]);
    let out = curl(&[&format[..], &["-o", "/dev/null", &one, "-o", "/dev/null", &one]].concat());
    assert_eq!(out, "1 0 ", "the second request uses the same connection");
    server.stop();
}

#[test]
fn curl_gets_a_large_generated_body() {
    let server = Serve::start(&["--app", "http", "--body-size", "20m"]);
    let mut child = Command::new("curl")
        .args(["-sS", "--max-time", "20", "--noproxy", "*", &format!("http://{}/", server.addr)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut body = Vec::new();
    child.stdout.take().expect("it is piped").read_to_end(&mut body).expect("it can be read");
    assert!(child.wait().expect("it was started").success());
    assert_eq!(body.len(), 20 << 20);
    let block: Vec<u8> = (b' '..=b'~').cycle().take(64 * 1024).collect();
    assert!(body.chunks(block.len()).all(|chunk| chunk == &block[..chunk.len()]));
    server.stop();
}
