//! What the stack reads over rtnetlink, in a lab made for the test. Needs root.

use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ringroad::cli::lab::{End, Lab, LabConfig};
use ringroad::runtime::netlink::{NeighbourMonitor, NetlinkError, interface, neighbours, resolve, routes};

/// Runs `test` at the client's end of a new lab, if it may; on CI it must.
fn at_client(name: &str, test: impl FnOnce(&Lab) + Send) {
    if !nix::unistd::geteuid().is_root() {
        assert!(std::env::var_os("CI").is_none(), "the namespace tests need root, and CI must run them");
        println!("skipped: needs root");
        return;
    }
    let name = format!("test-{name}-{}", std::process::id());
    let lab = Lab::up(&LabConfig { name: Some(name.clone()), queues: 2, mtu: 1500, ..LabConfig::default() })
        .expect("a new lab");
    let result = thread::scope(|scope| {
        scope.spawn(|| lab.run_at(End::Client, || test(&lab)).expect("the lab is up")).join()
    });
    Lab::down(Some(&name)).expect("the lab is up");
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

#[test]
fn an_interface_is_read_with_its_addresses() {
    at_client("interface", |_| {
        let found = interface(Lab::INTERFACE).expect("it is there");
        assert!(found.up && !found.xdp_attached);
        assert_eq!((found.mtu, found.rx_queues, found.tx_queues), (1500, 2, 2));
        for address in End::Client.addresses() {
            assert!(found.addresses.contains(&address), "{address:?} in {:?}", found.addresses);
        }
        let sysfs = std::fs::read_to_string("/sys/class/net/rr0/address").expect("sysfs shows the namespace");
        let mac: Vec<_> = found.mac.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(sysfs.trim(), mac.join(":"));
    });
}

#[test]
fn a_missing_interface_is_named() {
    at_client("missing", |_| {
        for name in ["rr9", "a-name-longer-than-fifteen"] {
            let error = interface(name).expect_err("there is none");
            assert!(matches!(&error, NetlinkError::NoInterface(missing) if missing == name), "{error}");
        }
    });
}

#[test]
fn routes_of_both_families_are_read_with_gateway_and_metric() {
    at_client("routes", |_| {
        for route in [
            "add default via 10.77.0.1 metric 7 src 10.77.1.2",
            "-6 add 2001:db8::/32 via fd77::1",
            "add 192.0.2.0/24 nexthop via 10.77.0.1 nexthop via 10.77.0.1 dev lo onlink",
            "add blackhole 198.51.100.0/24",
        ] {
            let mut words: Vec<&str> = route.split(' ').collect();
            words.insert(usize::from(words[0] == "-6"), "route");
            let status = std::process::Command::new("ip").args(&words).status().expect("iproute2");
            assert!(status.success(), "ip {words:?}");
        }
        let index = interface(Lab::INTERFACE).expect("it is there").index;
        let routes = routes(index).expect("routes");
        let find = |destination: &str, prefix_len| {
            routes.iter().find(|r| r.destination == ip(destination) && r.prefix_len == prefix_len).copied()
        };
        let connected = find("10.77.0.0", 16).expect("the connected route");
        assert_eq!(connected.gateway, None);
        assert_eq!(connected.preferred_source, Some(ip("10.77.1.1")));
        let default = find("0.0.0.0", 0).expect("the default route");
        assert_eq!((default.gateway, default.metric), (Some(ip("10.77.0.1")), 7));
        assert_eq!(default.preferred_source, Some(ip("10.77.1.2")));
        assert_eq!(find("2001:db8::", 32).expect("the IPv6 route").gateway, Some(ip("fd77::1")));
        assert_eq!(find("192.0.2.0", 24).expect("the first next hop").gateway, Some(ip("10.77.0.1")));
        assert_eq!(find("fd77::", 64).expect("the connected IPv6 route").gateway, None);
        assert_eq!(find("198.51.100.0", 24), None);
        assert!(
            routes.iter().all(|route| route.destination != ip("10.77.1.1")),
            "no local routes: {routes:?}"
        );
    });
}

#[test]
fn resolving_makes_a_neighbour_known_and_announced() {
    at_client("resolve", |lab| {
        let here = interface(Lab::INTERFACE).expect("it is there");
        let there = lab.interface(End::Server).expect("it is there").mac;
        let mut monitor = NeighbourMonitor::open(here.index).expect("a socket");
        for address in [ip("10.77.0.1"), ip("fd77::1")] {
            resolve(address, &here).expect("a datagram can be sent");
            let known = eventually(|| {
                neighbours(here.index).expect("a table").into_iter().find(|(known, _)| *known == address)
            });
            assert_eq!(known, (address, there));
        }
        let mut announced = Vec::new();
        eventually(|| {
            announced.extend(monitor.poll().expect("changes"));
            let has = |address| announced.iter().any(|c| c.address == address && c.mac == Some(there));
            (has(ip("10.77.0.1")) && has(ip("fd77::1"))).then_some(())
        });
    });
}

#[test]
fn a_deleted_neighbour_is_announced_as_unusable() {
    at_client("deleted", |_| {
        let here = interface(Lab::INTERFACE).expect("it is there");
        let neigh = |action: &str, more: &[&str]| {
            let words = [&["neigh", action, "10.77.0.9", "dev", Lab::INTERFACE], more].concat();
            let status = std::process::Command::new("ip").args(&words).status().expect("iproute2");
            assert!(status.success(), "ip {words:?}");
        };
        let mut monitor = NeighbourMonitor::open(here.index).expect("a socket");
        neigh("add", &["lladdr", "02:00:00:00:00:09"]);
        assert!(neighbours(here.index).expect("a table").contains(&(ip("10.77.0.9"), [2, 0, 0, 0, 0, 9])));
        neigh("del", &[]);
        let last =
            eventually(|| monitor.poll().expect("changes").last().copied().filter(|c| c.mac.is_none()));
        assert_eq!(last.address, ip("10.77.0.9"));
        assert_eq!(neighbours(here.index).expect("a table"), []);
    });
}

/// Asks again and again, for ten seconds at most.
fn eventually<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "ten seconds have passed");
        thread::sleep(Duration::from_millis(5));
    }
}
