//! The generator and the servers on two engines, joined by a wire in memory.
#![forbid(unsafe_code)]

use super::*;
use crate::base::{Counter, HashKey};
use crate::load::{AppKind, CloseSide, Direction, Profile, Recorder, ServeApp, Server, Site, Workload};
use crate::stack::{Engine, EngineConfig, Limits, Listen, Owners, Route, Routes, TxBatch};
use crate::tcp::TcpConfig;
use crate::wire::Mac;
use std::net::IpAddr;

#[derive(Default)]
struct Wire {
    frame: Vec<u8>,
    sent: Vec<Vec<u8>>,
}

impl TxBatch for Wire {
    fn reserve(&mut self) -> Option<&mut [u8]> {
        self.frame.resize(2_048, 0);
        Some(&mut self.frame)
    }

    fn commit(&mut self, len: usize) {
        self.sent.push(self.frame[..len].to_vec());
    }
}

const CLIENT: &str = "10.0.0.1";
const SERVER: &str = "10.0.0.2";

fn engine(own: &str, mac: u8, peer: &str, peer_mac: u8) -> Engine {
    let own: IpAddr = own.parse().unwrap();
    let on_link = Route { destination: own, prefix_len: 24, gateway: None, source: None };
    let limits = Limits {
        flows_max: 64,
        half_open_max: 64,
        time_wait_max: 1 << 14,
        listeners_max: 1,
        neighbours_max: 4,
        send_chunks: 1_024,
        recv_chunks: 1_024,
        reassembly_max: 16,
        ..Limits::default()
    };
    let config = EngineConfig {
        limits,
        tcp: TcpConfig::default(),
        mac: Mac([2, 0, 0, 0, 0, mac]),
        mtu: 1_500,
        routes: Routes { addresses: Vec::from([own]), routes: Vec::from([on_link]) },
        source_ports: 10_000..=30_000,
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        secret: HashKey::new(u64::from(mac), 7),
    };
    let mut engine = Engine::new(config, Instant::ZERO);
    engine.set_neighbour(peer.parse().unwrap(), Mac([2, 0, 0, 0, 0, peer_mac]));
    engine
}

/// Runs the workload for 200 ms of virtual time; the generator's measurements and its engine's counters.
fn run(workload: Workload, serve: ServeApp) -> (Recorder, crate::base::Counters) {
    run_until(workload, serve, Instant::NEVER)
}

/// The same with an engine that is told to drain at some time, as Ctrl-C does, and ends with its last connection.
fn run_until(workload: Workload, serve: ServeApp, drain_at: Instant) -> (Recorder, crate::base::Counters) {
    let plan = Plan {
        workload,
        targets: Vec::from([SocketAddr::new(SERVER.parse().unwrap(), 7)]),
        sources: Vec::new(),
        connections: 4,
        rate: None,
        warmup: Duration::ZERO,
        duration: Duration::from_millis(200),
        connect_timeout: Duration::from_secs(1),
        workers: 1,
    };
    let control = Arc::new(Control::default());
    let mut client = Client::new(Arc::new(plan), Arc::clone(&control), FlowOptions::default());
    let mut server = Server::new(serve, 64);
    let mut ends = [engine(CLIENT, 1, SERVER, 2), engine(SERVER, 2, CLIENT, 1)];
    ends[1].listen(&Listen::new(SERVER.parse().unwrap(), 7)).unwrap();
    let (mut up, mut down) = (Wire::default(), Wire::default());
    let (mut now, mut draining) = (Instant::ZERO, false);
    ends[0].start(now, &mut client, &mut up);
    ends[1].start(now, &mut server, &mut down);
    // Three seconds are more than the end of the run may take.
    while !ends[0].is_stopping() && now < Instant::from_millis(3_000) {
        now = now.plus_micros(50);
        let (to_server, to_client) = (std::mem::take(&mut up.sent), std::mem::take(&mut down.sent));
        ends[1].on_batch(now, to_server.as_slice(), &mut server, &mut down);
        ends[1].on_timers(now, 64, &mut server, &mut down);
        ends[0].on_batch(now, to_client.as_slice(), &mut client, &mut up);
        ends[0].on_timers(now, 64, &mut client, &mut up);
        if !draining && drain_at <= now {
            draining = true;
            ends[0].drain(now, &mut client, &mut up);
        }
        if draining && ends[0].flow_count() == 0 {
            break;
        }
    }
    assert!(ends[0].is_stopping(), "the generator ends by itself");
    (control.merged().unwrap(), ends[0].counters().clone())
}

fn workload(profile: Profile, app: AppKind, close: CloseSide) -> Workload {
    let (request_size, path) = (100, "/".into());
    Workload { profile, app, close, direction: Direction::Up, request_size, reply_size: 100, path }
}

#[test]
fn short_connections_work_whoever_closes_first() {
    for (app, close) in [
        (AppKind::Echo, CloseSide::Client),
        (AppKind::Echo, CloseSide::Server),
        (AppKind::Http, CloseSide::Client),
        (AppKind::Http, CloseSide::Server),
    ] {
        let serve = match app {
            AppKind::Echo => ServeApp::Echo { close_after: (close == CloseSide::Server).then_some(100) },
            AppKind::Http => ServeApp::Http(Site::generated(5_000)),
        };
        let (recorder, counters) = run(workload(Profile::Crr, app, close), serve);
        let why = std::format!("{app:?} {close:?}");
        assert!(recorder.connections > 100, "{why}: {}", recorder.connections);
        assert_eq!(recorder.errors_seen, 0, "{why}: {:?}", recorder.errors());
        assert_eq!(counters.get(Counter::RstsOut) + counters.get(Counter::RstsIn), 0, "{why}");
    }
}

#[test]
fn requests_on_open_connections_work() {
    for (app, serve) in [
        (AppKind::Echo, ServeApp::Echo { close_after: None }),
        (AppKind::Http, ServeApp::Http(Site::generated(400_000))),
    ] {
        let (recorder, _) = run(workload(Profile::Rr, app, CloseSide::Client), serve);
        assert!(recorder.requests > 10, "{app:?}: {}", recorder.requests);
        assert_eq!((recorder.established, recorder.errors_seen), (4, 0), "{app:?} {:?}", recorder.errors());
    }
}

#[test]
fn a_stream_flows_upwards() {
    let (recorder, _) = run(workload(Profile::Bulk, AppKind::Echo, CloseSide::Client), ServeApp::Discard);
    assert!(recorder.sent > 1_000_000, "{}", recorder.sent);
    assert_eq!(recorder.errors_seen, 0, "{:?}", recorder.errors());
}

#[test]
fn a_run_that_is_told_to_stop_keeps_its_results() {
    for profile in [Profile::Crr, Profile::Rr] {
        let stop_at = Instant::from_micros(50_025);
        let echo = ServeApp::Echo { close_after: None };
        let (recorder, _) = run_until(workload(profile, AppKind::Echo, CloseSide::Client), echo, stop_at);
        assert!(recorder.requests > 10, "{profile:?}: {}", recorder.requests);
        assert_eq!(recorder.errors_seen, 0, "{profile:?}: {:?}", recorder.errors());
        assert!(recorder.window().to < Instant::from_millis(51), "{profile:?}: {:?}", recorder.window());
    }
}
