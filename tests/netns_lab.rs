//! The lab as its users meet it: `ringroad lab up`, `exec` and `down`, on real namespaces. Needs root.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use ringroad::cli::lab::{End, Lab, LabConfig};

/// A lab of the test's own, removed whatever happens.
struct Named(String);

impl Named {
    fn new(name: &str) -> Self {
        Self(format!("test-{name}-{}", std::process::id()))
    }

    fn up(&self, more: &[&str]) -> Output {
        ringroad(&[&["lab", "up", "--name", &self.0], more].concat())
    }

    fn down(&self) -> Output {
        ringroad(&["lab", "down", "--name", &self.0])
    }

    fn exec(&self, end: &str, command: &[&str]) -> Output {
        ringroad(&[&["lab", "exec", end, "--name", &self.0, "--"], command].concat())
    }

    /// Asserts that the kernel's TCP gets from the client to the server's `address`.
    fn assert_carries(&self, address: &str) {
        let lab = Lab::open(Some(&self.0)).expect("the lab is up");
        let at_server = || TcpListener::bind((address, 0));
        let listener =
            lab.run_at(End::Server, at_server).expect("the lab is up").expect("an address to bind");
        let to = listener.local_addr().expect("it is bound");
        let at_client = || TcpStream::connect_timeout(&to, Duration::from_secs(5));
        let mut client = lab.run_at(End::Client, at_client).expect("the lab is up").expect("a connection");
        client.write_all(b"over the wire").expect("a new connection takes that much");
        drop(client);
        let mut text = String::new();
        listener.accept().expect("the connection").0.read_to_string(&mut text).expect("its text");
        assert_eq!(text, "over the wire");
    }

    /// What the file system knows of the lab's namespaces.
    fn names(&self) -> Vec<String> {
        let names = ["client", "server", "link"].map(|end| format!("rr-{}-{end}", self.0));
        names.into_iter().filter(|name| Path::new("/run/netns").join(name).exists()).collect()
    }
}

impl Named {
    /// What the link has done to packets for the server, of one kind.
    fn to_server(&self, what: &str) -> u64 {
        let told = assert_success(&ringroad(&["lab", "link", "--name", &self.0]));
        let counts: serde_json::Value = serde_json::from_str(&told).expect("an object");
        counts["to_server"][what].as_u64().unwrap_or_else(|| panic!("{what} in {counts}"))
    }

    /// The processes that forward for this lab.
    fn forwarders(&self) -> Vec<i32> {
        let wanted = format!("lab\0forward\0--name\0{}\0", self.0);
        let processes = std::fs::read_dir("/proc").expect("it is mounted").filter_map(Result::ok);
        let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let forwards = |id: &i32| {
            std::fs::read(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&wanted))
        };
        ids.filter(forwards).collect()
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        self.down();
    }
}

fn ringroad(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringroad")).args(arguments).output().expect("the binary was built")
}

/// Both outputs of a program, for a message.
fn told(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn assert_success(output: &Output) -> String {
    let told = told(output);
    assert!(output.status.success(), "{}: {told}", output.status);
    told
}

/// Whether the test can run; on CI, where it matters, being unable to is a failure.
fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        assert!(std::env::var_os("CI").is_none(), "the namespace tests need root, and CI must run them");
        println!("skipped: needs root");
    }
    root
}

#[test]
fn two_labs_live_side_by_side_and_carry_both_families() {
    if !is_root() {
        return;
    }
    let labs = [Named::new("a"), Named::new("b")];
    for lab in &labs {
        assert_success(&lab.up(&["--queues", "2"]));
    }
    for lab in &labs {
        for address in ["10.77.0.1", "fd77::1"] {
            lab.assert_carries(address);
        }
    }
    // The first lab's end must not take the second with it.
    assert_success(&labs[0].down());
    labs[1].assert_carries("10.77.0.1");
}

#[test]
fn down_leaves_nothing_and_says_when_there_was_nothing() {
    if !is_root() {
        return;
    }
    let lab = Named::new("down");
    assert_success(&lab.up(&[]));
    assert_eq!(lab.names().len(), 2);
    assert!(assert_success(&lab.down()).contains("is down"));
    assert_eq!(lab.names(), Vec::<String>::new());
    assert!(assert_success(&lab.down()).contains("was not up"));
}

#[test]
fn up_twice_says_that_it_is_up_and_changes_nothing() {
    if !is_root() {
        return;
    }
    let lab = Named::new("twice");
    assert_success(&lab.up(&[]));
    let again = lab.up(&[]);
    assert!(!again.status.success());
    assert!(told(&again).contains("is up already"), "{}", told(&again));
    lab.assert_carries("10.77.0.1");
}

#[test]
fn up_that_fails_half_way_leaves_nothing() {
    if !is_root() {
        return;
    }
    let lab = Named::new("half");
    // The namespaces are made first, and then no veth takes such packets.
    let config = LabConfig { name: Some(lab.0.clone()), queues: 1, mtu: 70_000, ..LabConfig::default() };
    let error = Lab::up(&config).expect_err("an IP packet has at most 65535 octets");
    assert!(error.to_string().contains("veth pair"), "{error}");
    assert_eq!(lab.names(), Vec::<String>::new());
}

#[test]
fn half_a_lab_is_not_taken_for_a_whole_one() {
    if !is_root() {
        return;
    }
    let lab = Named::new("other");
    assert_success(&lab.up(&[]));
    let client = format!("rr-{}-client", lab.0);
    let status = Command::new("ip").args(["netns", "del", &client]).status().expect("iproute2 is installed");
    assert!(status.success());
    assert!(told(&lab.up(&[])).contains("without its other end"));
    assert!(told(&lab.exec("client", &["true"])).contains("is not up"));
    assert_success(&lab.down());
    assert_eq!(lab.names(), Vec::<String>::new());
}

#[test]
fn exec_passes_the_exit_code_and_shows_the_namespaces_devices() {
    if !is_root() {
        return;
    }
    let lab = Named::new("exec");
    assert_success(&lab.up(&[]));
    assert_eq!(lab.exec("server", &["sh", "-c", "exit 42"]).status.code(), Some(42));
    let devices = assert_success(&lab.exec("client", &["ls", "/sys/class/net"]));
    assert_eq!(devices.split_whitespace().collect::<Vec<_>>(), ["lo", "rr0"]);
    let missing = lab.exec("client", &["/no/such/program"]);
    assert!(told(&missing).contains("/no/such/program"), "{}", told(&missing));
    assert!(!missing.status.success());
}

#[test]
fn the_pair_has_its_queues_and_real_checksums() {
    if !is_root() {
        return;
    }
    let lab = Named::new("pair");
    assert_success(&lab.up(&["--queues", "3", "--mtu", "1400"]));
    for end in ["client", "server"] {
        let link = assert_success(&lab.exec(end, &["ip", "-d", "link", "show", "rr0"]));
        for word in ["numtxqueues 3", "numrxqueues 3", "mtu 1400", "state UP"] {
            assert!(link.contains(word), "{word} in {link}");
        }
        assert_offloads(&lab, end, "off");
    }
}

#[test]
fn kernels_among_themselves_get_checksum_offload_and_segmentation() {
    if !is_root() {
        return;
    }
    let lab = Named::new("offloads");
    assert_success(&lab.up(&[]));
    let handle = Lab::open(Some(&lab.0)).expect("the lab is up");
    for (kernel_peer, expected) in [(true, "on"), (false, "off")] {
        handle.set_offloads(End::Server, kernel_peer).expect("veth can");
        assert_offloads(&lab, "server", expected);
        assert_offloads(&lab, "client", "off");
    }
}

/// What the demo does, in short: every pairing of every workload once, and the objects that describe them.
#[test]
fn run_measures_every_pairing_and_leaves_nothing() {
    if !is_root() {
        return;
    }
    let json = std::env::temp_dir().join(format!("ringroad-lab-run-{}.json", std::process::id()));
    let path = json.to_str().expect("a readable name");
    let told = assert_success(&ringroad(&["lab", "run", "--quick", "--duration", "0.2", "--json", path]));
    let objects = std::fs::read(&json).expect("the results were written");
    std::fs::remove_file(&json).expect("they are ours");
    let objects: Vec<serde_json::Value> = serde_json::from_slice(&objects).expect("a list of objects");
    let pairing = |o: &serde_json::Value| (o["backend"].to_string(), o["server_backend"].to_string());
    let short = objects.iter().filter(|o| o["profile"] == "crr" && o["close"] == "client");
    let pairings: std::collections::BTreeSet<_> = short.map(pairing).collect();
    assert_eq!(pairings.len(), 4, "kernel and ringroad at either end: {told}");
    for object in &objects {
        assert_eq!(object["repeat"], 1, "{object}");
        assert_eq!(object["errors"], serde_json::json!({}), "{object}");
        assert!(object["requests_per_second"].as_f64().is_some_and(|rate| rate > 0.0), "{object}");
        assert!(object["server"]["cpu_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{object}");
    }
    assert!(told.contains("ringroad -> ringroad"), "the table names the pairings: {told}");
    let left = std::fs::read_dir("/run/netns").map(|names| {
        names
            .filter_map(Result::ok)
            .filter(|n| n.file_name().to_string_lossy().starts_with("rr-run-"))
            .count()
    });
    assert_eq!(left.unwrap_or(0), 0, "the lab is gone");
}

#[test]
fn a_link_delays_packets_each_way_and_lets_neighbours_be_found() {
    if !is_root() {
        return;
    }
    let lab = Named::new("delay");
    assert_success(&lab.up(&["--delay", "20ms", "--queues", "2"]));
    assert_eq!((lab.names().len(), lab.forwarders().len()), (3, 1));
    let handle = Lab::open(Some(&lab.0)).expect("the lab is up");
    for address in ["10.77.0.1", "fd77::1"] {
        lab.assert_carries(address);
        // Nobody listens: the answer to a SYN is a reset, one round trip later.
        let refused = || {
            let start = Instant::now();
            TcpStream::connect((address, 9)).expect_err("nobody listens there");
            start.elapsed()
        };
        let took = handle.run_at(End::Client, refused).expect("the lab is up");
        assert!(took >= Duration::from_millis(40), "{address}: {took:?}");
    }
    // What is between the ends sees packets as they would be on a wire, whoever the peer is.
    handle.set_offloads(End::Server, true).expect("veth can");
    assert_offloads(&lab, "server", "off");
    assert!(assert_success(&lab.down()).contains("is down"));
    assert_eq!((lab.names().len(), lab.forwarders().len()), (0, 0));
}

#[test]
fn a_link_loses_as_much_as_it_should_and_accounts_for_every_packet() {
    if !is_root() {
        return;
    }
    const PACKETS: u64 = 20_000;
    let lab = Named::new("loss");
    assert_success(&lab.up(&["--delay", "1ms", "--loss", "1%", "--duplicate", "2%", "--seed", "3"]));
    let handle = Lab::open(Some(&lab.0)).expect("the lab is up");
    let send = || {
        let socket = UdpSocket::bind("10.77.1.1:0").expect("an address of the client's");
        for packet in 0..PACKETS {
            // Nobody listens, and some say so.
            let _ = socket.send_to(&[0; 100], "10.77.0.1:9");
            if packet % 500 == 499 {
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    };
    handle.run_at(End::Client, send).expect("the lab is up");
    let start = Instant::now();
    while lab.to_server("offered") < PACKETS || lab.to_server("held") > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", lab.to_server("offered"));
        std::thread::sleep(Duration::from_millis(20));
    }
    let [offered, lost, duplicated, delivered] =
        ["offered", "lost", "duplicated", "delivered"].map(|what| lab.to_server(what));
    assert_eq!(offered + duplicated, lost + delivered);
    let share = |of: u64| 1_000 * of / offered;
    assert!((8..=12).contains(&share(lost)) && (17..=23).contains(&share(duplicated)), "{lost} {duplicated}");
}

#[test]
fn a_forwarder_that_was_killed_is_told_of_and_down_removes_the_rest() {
    if !is_root() {
        return;
    }
    let lab = Named::new("killed");
    assert_success(&lab.up(&["--delay", "0ms"]));
    lab.assert_carries("10.77.0.1");
    let [forwarder] = lab.forwarders()[..] else { panic!("{:?}", lab.forwarders()) };
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(forwarder), nix::sys::signal::Signal::SIGKILL)
        .expect("it is ours");
    let start = Instant::now();
    while !lab.forwarders().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "it does not die");
    }
    let asked = ringroad(&["lab", "link", "--name", &lab.0]);
    assert!(!asked.status.success() && told(&asked).contains("does not answer"), "{}", told(&asked));
    assert!(assert_success(&lab.down()).contains("is down"));
    assert_eq!(lab.names(), Vec::<String>::new());
}

#[test]
fn a_forwarder_ends_with_its_interfaces() {
    if !is_root() {
        return;
    }
    let lab = Named::new("gone");
    assert_success(&lab.up(&["--delay", "1ms"]));
    assert_success(&lab.exec("client", &["ip", "link", "delete", "rr0"]));
    let start = Instant::now();
    while !lab.forwarders().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "it goes on without an interface");
    }
}

#[test]
fn a_value_that_makes_no_link_is_told_in_a_sentence() {
    for (flags, sentence) in [
        (&["--delay", "20"][..], "a time is a number with a unit"),
        (&["--delay", "2m"], "a time is a number with a unit"),
        (&["--delay", "61s"], "a link delays by 60s at most"),
        (&["--rate", "1g"], "a rate is a number with a unit"),
        (&["--rate", "1bit"], "a rate is between 1kbit and 1000gbit"),
        (&["--loss", "0.1"], "a share is a percentage"),
        (&["--loss", "101%"], "a share is 100% at most"),
        (&["--loss-burst", "3"], "--loss <SHARE>"),
        (&["--rate", "1gbit", "--queue", "long"], "a queue is a number of packets"),
        (&["--ecn", "often"], "marks are for a share"),
    ] {
        let refused = ringroad(&[&["lab", "up", "--name", "never"], flags].concat());
        assert!(
            !refused.status.success() && told(&refused).contains(sentence),
            "{flags:?}: {}",
            told(&refused)
        );
    }
}

fn assert_offloads(lab: &Named, end: &str, expected: &str) {
    let features = assert_success(&lab.exec(end, &["ethtool", "-k", "rr0"]));
    for feature in ["tx-checksum-ip-generic", "tx-tcp-segmentation", "tx-tcp6-segmentation"] {
        assert!(features.contains(&format!("{feature}: {expected}")), "{feature} {expected} in {features}");
    }
}
