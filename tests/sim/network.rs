//! What the simulated network itself promises: stalls, power, clocks, and the sum of all frames.
use std::time::Duration;

use super::common::{CLEAN, CUT, Ev, Script, after, assert_nothing_left, config, connect, on, pair, run, v4};
use ringroad::io::link::{Bursts, LinkConfig, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::Listen;
use ringroad::tcp::CloseReason;

/// Host 0 has connected to host 1, which keeps the connection open.
fn connected(seed: u64, faults: LinkConfig) -> SimNet<Script> {
    let client = Script::new(|_, event| if let Ev::Data(text) = event { text.len() } else { 0 }).then(|cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    let server = Script::passive().then(|cx| {
        cx.listen(&Listen::new(v4(2), 80)).expect("a listener");
    });
    let mut net = pair(seed, client, server, faults);
    net.start();
    run(&mut net, 1);
    assert_eq!(net.host(0).app.log, [Ev::Connect]);
    net
}

/// Host 0 sends `count` segments of one octet.
fn say(net: &mut SimNet<Script>, count: usize) {
    let id = net.host(0).app.ids[0];
    on(net, 0, move |cx| {
        let mut flow = cx.flow(id).expect("it is open");
        flow.set_nagle(false);
    });
    for _ in 0..count {
        on(net, 0, move |cx| assert_eq!(cx.flow(id).expect("it is open").send(b"."), 1));
    }
}

#[test]
fn a_stalled_host_takes_its_frames_when_it_runs_again() {
    let mut net = connected(1, CLEAN);
    let until = net.now().plus_micros(100_000);
    net.stall(1, until);
    say(&mut net, 3);
    let just_before = until - Duration::from_nanos(1);
    assert!(net.run(just_before, 1_000));
    assert_eq!((net.host(1).app.text().len(), net.traffic().in_flight), (0, 3));
    assert!(net.run(until, 1_000));
    assert_eq!(net.host(1).app.text().len(), 3);
}

#[test]
fn frames_beyond_the_receive_ring_of_a_stalled_host_are_lost() {
    let mut net = connected(1, CLEAN);
    net.host_mut(1).limit_rx(2);
    let until = net.now().plus_micros(100_000);
    net.stall(1, until);
    say(&mut net, 5);
    assert!(net.run(until, 1_000));
    assert_eq!((net.host(1).app.text().len(), net.traffic().unreceived), (2, 3));
    run(&mut net, 10);
    assert_eq!(net.host(1).app.text().len(), 5, "they come again");
}

#[test]
fn a_host_without_power_hears_nothing_and_begins_anew() {
    let mut net = connected(1, CLEAN);
    net.power_off(1);
    say(&mut net, 2);
    run(&mut net, 1);
    assert!(net.traffic().unreceived >= 2 && net.host(1).app.text().is_empty());
    on_restart_listen(&mut net);
    // What comes again meets a host that knows of no connection.
    run(&mut net, 100);
    assert_eq!(net.host(0).app.log.last(), Some(&Ev::Close(CloseReason::Reset)));
    assert_nothing_left(&net, 2);
}

fn on_restart_listen(net: &mut SimNet<Script>) {
    let listen = Box::new(|cx: &mut ringroad::stack::Cx<'_>| {
        cx.listen(&Listen::new(v4(2), 80)).expect("its engine is new");
    });
    net.host_mut(1).app.tasks.push(listen);
    net.restart(1, config(2));
}

#[test]
fn a_clock_ahead_changes_nothing_and_one_that_jumps_makes_timers_due() {
    for (ahead, skip, want) in [(0, 0, 0), (77_777_777, 0, 0), (0, 5, 1), (77_777_777, 5, 1)] {
        let script = Script::passive().then(|cx| cx.set_timer(Duration::from_secs(5)));
        let mut net = SimNet::new(1);
        net.add_ahead(config(1), script, CLEAN, Duration::from_secs(ahead));
        net.start();
        net.skip_clock(0, Duration::from_secs(skip));
        run(&mut net, 4);
        assert_eq!(net.host(0).app.worker_timers, want, "{ahead} s ahead, a jump of {skip} s");
        run(&mut net, 1);
        assert_eq!(net.host(0).app.worker_timers, 1);
    }
}

#[test]
fn no_frame_vanishes_whatever_happens_to_it() {
    let faults = LinkConfig {
        jitter_us: 1_000,
        loss: 100_000,
        duplicate: 100_000,
        corrupt: 100_000,
        replay: 100_000,
        replay_us: 10_000,
        rate_bps: 10_000_000,
        queue: QueueLimit::Packets(10),
        bursts: Some(Bursts::new(50_000, 3)),
        reorder: 100_000,
        reorder_us: 3_000,
        ..CLEAN
    };
    let mut net = connected(3, CLEAN);
    net.set_link(0, faults);
    net.capture();
    say(&mut net, 50);
    let frame = net.captured()[0].frame.clone();
    net.forge(frame.clone(), Duration::from_millis(1));
    net.forge(vec![0xee; 60], Duration::ZERO);
    net.inject(1, &frame);
    let until = after(&net, 1);
    while net.next_event().is_some_and(|at| at < until) {
        net.step();
        assert!(net.traffic().is_conserved(), "{:?}", net.traffic());
    }
    let traffic = net.traffic();
    assert!(traffic.lost > 0 && traffic.repeated > 0, "{traffic:?}");
    assert_eq!((traffic.forged, traffic.unreceived), (3, 1));
    let (received, sent) = net.host(0).frames();
    let of_server = net.host(1).frames();
    assert_eq!((received + of_server.0, sent + of_server.1), (traffic.delivered, traffic.sent));
    net.set_link(0, CUT);
    say(&mut net, 1);
    assert!(net.traffic().lost > traffic.lost && net.traffic().is_conserved());
}
