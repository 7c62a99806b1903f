//! What an engine shows of its connections, and what may change about them while they live.

use std::time::Duration;

use ringroad::base::Counter;
use ringroad::stack::{App, Cx, Flow, Listen};
use ringroad::tcp::{FlowOptions, KeepAlive, State};

use super::common::{CLEAN, Script, connect, on, pair, run, v4};

fn states(net: &ringroad::io::sim::SimNet<Script>, host: usize) -> Vec<State> {
    net.host(host).engine.connections().map(|shown| shown.state).collect()
}

fn client(options: FlowOptions) -> Script {
    Script::passive().then(move |cx| {
        cx.connect(&ringroad::Connect { options, ..connect(v4(2), 80) }).expect("a connection");
    })
}

fn server() -> Script {
    Script::passive().then(|cx| {
        cx.listen(&Listen::new(v4(2), 80)).expect("a listener");
    })
}

#[test]
fn a_connection_is_shown_until_time_wait_is_over() {
    let mut net = pair(1, client(FlowOptions::default()), server(), CLEAN);
    net.start();
    let until = net.now().plus_micros(60);
    assert!(net.run(until, 100), "the SYN arrives, and no more");
    assert_eq!((states(&net, 0), states(&net, 1)), (vec![State::SynSent], vec![State::SynReceived]));
    run(&mut net, 1);
    let shown = net.host(1).engine.connections().next().expect("one");
    assert_eq!((shown.local.ip(), shown.local.port(), shown.remote.ip()), (v4(2), 80, v4(1)));
    assert_eq!((states(&net, 0), shown.state), (vec![State::Established], State::Established));
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    run(&mut net, 1);
    assert_eq!((states(&net, 0), states(&net, 1)), (vec![State::TimeWait], vec![]));
    run(&mut net, 61);
    assert_eq!(states(&net, 0), []);
}

#[test]
fn an_open_connection_takes_other_settings() {
    let mut net = pair(1, client(FlowOptions::default()), server(), CLEAN);
    net.start();
    run(&mut net, 1);
    let id = net.host(0).app.ids[0];
    let seconds = Duration::from_secs;
    let keep = KeepAlive { idle: seconds(10), interval: seconds(1), probes: 3 };
    let with =
        move |keep_alive, send_buffer| FlowOptions { keep_alive, send_buffer, ..FlowOptions::default() };
    on(&mut net, 0, move |cx| {
        let mut flow = cx.flow(id).expect("it lives");
        assert_eq!(flow.send(&[0; 1_000]), 1_000);
        assert!(flow.set_options(&with(Some(keep), 100)));
        assert_eq!((flow.send_room(), flow.send(&[0])), (0, 0), "less than is queued already");
    });
    run(&mut net, 25);
    assert_eq!(net.host(0).engine.counters().get(Counter::KeepAliveProbes), 2);
    on(&mut net, 0, move |cx| {
        assert!(cx.flow(id).expect("it lives").set_options(&with(None, 100)));
    });
    run(&mut net, 60);
    assert_eq!(net.host(0).engine.counters().get(Counter::KeepAliveProbes), 2, "no more of them");
    net.host(0).engine.check_invariants();
}

#[test]
fn a_worker_stops_when_its_application_asks() {
    let mut net = pair(1, client(FlowOptions::default()), server(), CLEAN);
    net.start();
    run(&mut net, 1);
    assert!(!net.host(0).engine.is_stopping());
    on(&mut net, 0, |cx| cx.stop());
    run(&mut net, 1);
    assert!(net.host(0).engine.is_stopping() && !net.host(1).engine.is_stopping());
}

#[test]
fn a_listener_on_any_address_serves_those_of_its_host() {
    let any = Script::passive().then(|cx| {
        cx.listen(&Listen::new([0, 0, 0, 0].into(), 80)).expect("a listener");
    });
    let mut net = pair(1, client(FlowOptions::default()), any, CLEAN);
    net.start();
    run(&mut net, 1);
    assert_eq!(states(&net, 0), [State::Established]);
}

/// An application with what it must have, that half-closes what it opens.
struct Least {
    dials: bool,
}

impl App for Least {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        if self.dials {
            cx.connect(&connect(v4(2), 80)).expect("a connection");
        } else {
            cx.listen(&Listen::new(v4(2), 80)).expect("a listener");
        }
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        flow.shutdown();
    }

    fn on_data(&mut self, _: &mut Flow<'_>, data: &[u8]) -> usize {
        data.len()
    }
}

#[test]
fn whoever_says_nothing_of_a_fin_closes_when_the_peer_does() {
    let mut net = pair(1, Least { dials: true }, Least { dials: false }, CLEAN);
    net.start();
    run(&mut net, 1);
    assert_eq!(net.host(1).engine.counters().get(Counter::PassiveOpens), 1);
    assert_eq!((net.host(0).engine.flow_count(), net.host(1).engine.flow_count()), (0, 0));
    assert_eq!(net.host(0).engine.time_wait_count(), 1);
}

#[test]
fn an_mss_of_ones_own_is_announced_and_kept_to() {
    for (mss, want, why) in
        [(None, 1_448, "the MTU's"), (Some(1_000), 988, "less"), (Some(9_000), 1_448, "more")]
    {
        let mut net = pair(1, client(FlowOptions { mss, ..FlowOptions::default() }), server(), CLEAN);
        net.start();
        run(&mut net, 1);
        for host in 0..2 {
            let id = net.host(host).app.ids[0];
            on(&mut net, host, move |cx| {
                assert_eq!(cx.flow(id).expect("it lives").info().mss, want, "{why}: host {host}");
            });
        }
    }
}

#[test]
fn an_address_may_come_late() {
    let mut net = pair(1, Script::passive(), server(), CLEAN);
    net.start();
    let from = v4(77);
    let late = move |cx: &mut Cx<'_>| {
        let local = Some((from, 5_000).into());
        cx.connect(&ringroad::Connect { local, ..connect(v4(2), 80) })
    };
    on(&mut net, 0, move |cx| assert!(late(cx).is_err(), "it is not ours"));
    net.host_mut(0).engine.add_address(from);
    on(&mut net, 0, move |cx| assert!(late(cx).is_ok()));
    run(&mut net, 1);
    let shown = net.host(1).engine.connections().next().expect("the SYN has come");
    assert_eq!((shown.remote, shown.state), ((from, 5_000).into(), State::Established));
}
