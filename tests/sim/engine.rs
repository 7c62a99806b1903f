//! What an engine promises its owner and its application, on a network of two: limits, addresses, timers.
use std::time::Duration;

use super::common::{
    Bulk, CLEAN, CUT, Crafted, Ev, LIMITS, Script, after, assert_nothing_left, config, connect, icmp_about,
    on, pair, run, see, v4,
};
use ringroad::base::{Counter, DropReason};
use ringroad::io::link::LinkConfig;
use ringroad::io::sim::SimNet;
use ringroad::stack::{Connect, ConnectError, Cx, EngineConfig, Limits, Listen, Owners};
use ringroad::tcp::{CloseReason, FlowOptions, KeepAlive, Report, State, TcpConfig, TimeWaitFull};
use ringroad::wire::{Control, Mac};

/// An application that connects `n` times to host 2, port 80.
fn dial(app: Script, n: usize) -> Script {
    app.then(move |cx| {
        (0..n).for_each(|_| {
            cx.connect(&connect(v4(2), 80)).expect("a connection");
        })
    })
}

/// An application that listens on port 80 of host 2.
fn serve(app: Script, listen: impl FnOnce(Listen) -> Listen + 'static) -> Script {
    app.then(move |cx| {
        cx.listen(&listen(Listen::new(v4(2), 80))).expect("a listener");
    })
}

/// Sends `hello` as soon as it can, and closes when the peer does.
fn greeter() -> Script {
    Script::new(|flow, event| match event {
        Ev::Connect => flow.send(b"hello"),
        Ev::Data(text) => text.len(),
        Ev::Fin => {
            flow.close();
            0
        }
        _ => 0,
    })
}

fn echo() -> Script {
    Script::new(|flow, event| match event {
        Ev::Data(text) => flow.send(text),
        Ev::Fin => {
            flow.close();
            0
        }
        _ => 0,
    })
}

/// Greets on `count` connections, and leaves them open.
fn greeter_to(count: u32) -> Script {
    greeter().then(move |cx| {
        for _ in 0..count {
            cx.connect(&connect(v4(2), 80)).expect("a connection");
        }
    })
}

fn started(client: Script, server: Script) -> SimNet<Script> {
    let mut net = pair(1, client, server, CLEAN);
    net.capture();
    net.start();
    net
}

fn counted(net: &SimNet<Script>, host: usize, counter: Counter) -> u64 {
    net.host(host).engine.counters().get(counter)
}

fn dropped(net: &SimNet<Script>, host: usize, reason: DropReason) -> u64 {
    net.host(host).engine.counters().drops(reason)
}

#[test]
fn idle_established_connections_hold_no_chunk_and_no_record() {
    let mut net = started(greeter_to(16), serve(echo(), |listen| listen));
    run(&mut net, 5);
    for host in 0..2 {
        let engine = &net.host(host).engine;
        assert_eq!((engine.flow_count(), engine.half_open_count()), (16, 0));
        assert_eq!((engine.chunks_in_use(), engine.busy_count()), ((0, 0), 0), "host {host}");
    }
    assert_eq!(net.host(0).app.text(), b"hello".repeat(16), "each had text both ways");
}

#[test]
fn two_actives_that_meet_open_one_connection() {
    let meet = |from: u8, to: u8| {
        greeter().then(move |cx| {
            let local = Some((v4(from), 5_000).into());
            cx.connect(&Connect { local, ..connect(v4(to), 5_000) }).expect("a connection");
        })
    };
    let mut net = started(meet(1, 2), meet(2, 1));
    run(&mut net, 10);
    for host in [0, 1] {
        let app = &net.host(host).app;
        assert_eq!((app.count(&Ev::Connect), app.text().as_slice()), (1, &b"hello"[..]));
        assert_eq!(net.host(host).engine.flow_count(), 1);
        assert_eq!(counted(&net, host, Counter::Established), 1);
    }
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    run(&mut net, 100);
    assert_nothing_left(&net, 2);
}

#[test]
fn syns_beyond_the_half_open_limit_are_dropped_and_the_rest_expires() {
    let mut net =
        started(Script::passive(), serve(Script::passive(), |listen| Listen { half_open_max: 2, ..listen }));
    for port in 1..=5 {
        let syn = Crafted { from: (1, port), to: (2, 80), seq: 9, ack: 0, ctl: Control::SYN, text: b"" };
        net.set_link(1, CUT);
        net.inject(1, &syn.frame());
    }
    assert_eq!(net.host(1).engine.half_open_count(), 2);
    assert_eq!(dropped(&net, 1, DropReason::HalfOpenFull), 3);
    run(&mut net, 300);
    assert_eq!(counted(&net, 1, Counter::HalfOpenExpired), 2);
    assert_nothing_left(&net, 2);
}

#[test]
fn a_paused_listener_keeps_its_backlog_and_the_rest_half_open() {
    for early_text in [false, true] {
        let client = if early_text { greeter() } else { Script::passive() };
        let server = echo().then(|cx: &mut Cx<'_>| {
            let listener = cx.listen(&Listen { backlog: 2, ..Listen::new(v4(2), 80) }).expect("a listener");
            cx.pause_accept(listener);
            cx.set_timer(Duration::from_secs(8));
        });
        let mut net = started(dial(client, 4), server);
        run(&mut net, 7);
        assert_eq!(net.host(0).app.count(&Ev::Connect), 4, "the SYN-ACKs came");
        assert_eq!((net.host(1).engine.flow_count(), net.host(1).engine.half_open_count()), (2, 2));
        assert!(net.host(1).app.log.is_empty(), "{:?}", net.host(1).app.log);
        assert!(dropped(&net, 1, DropReason::BacklogFull) > 0);

        // One that waits ends before it is accepted: its place is free again.
        let first = net.host(0).app.ids[0];
        on(&mut net, 0, move |cx| cx.flow(first).expect("it lives").abort());
        run(&mut net, 12);
        assert_eq!(net.host(1).engine.flow_count(), 2, "one of the half-open took its place");
        assert_eq!(counted(&net, 1, Counter::Established), 3);

        on(&mut net, 1, |cx| {
            let listener = cx.listen(&Listen::new(v4(2), 81)).expect("the next number");
            cx.close_listener(listener);
        });
        net.host_mut(1).app.on_worker_timer = Box::new(|_| ());
        resume_first_listener(&mut net);
        run(&mut net, 60);
        assert_eq!(net.host(1).app.count(&Ev::Accept), 3);
        let heard = net.host(1).app.text();
        assert_eq!(heard.len(), if early_text { 15 } else { 0 }, "early text was kept");
        net.abort_all(0);
        run(&mut net, 100);
        assert_nothing_left(&net, 2);
    }
}

/// Resumes the listener of the first connection that the server knows.
fn resume_first_listener(net: &mut SimNet<Script>) {
    on(net, 1, |cx| {
        let listener = cx.listeners().next().expect("there is one");
        cx.resume_accept(listener);
    });
}

#[test]
fn full_tables_say_so_at_both_ends() {
    let small = |n: u8| EngineConfig { limits: Limits { flows_max: 2, ..LIMITS }, ..config(n) };
    let client = dial(greeter(), 2).then(|cx| {
        assert_eq!(cx.connect(&connect(v4(2), 80)), Err(ConnectError::TableFull));
    });
    let mut net = SimNet::new(1);
    net.add(small(1), client, CLEAN);
    net.add(small(2), serve(echo(), |listen| listen), CLEAN);
    net.add(config(3), dial(greeter(), 1), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 5);
    assert!(net.host(1).engine.counters().drops(DropReason::FlowTableFull) > 0);
    assert_eq!(net.host(1).engine.chunks_in_use(), (0, 0), "what was refused keeps nothing");
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    run(&mut net, 30);
    assert_eq!(net.host(2).app.text(), b"hello", "the third had its turn when there was room");
}

#[test]
fn source_ports_run_out_and_come_back_after_time_wait() {
    let client = Script::passive().then(|cx| {
        (0..2).for_each(|_| {
            cx.connect(&connect(v4(2), 80)).expect("a connection");
        });
        assert_eq!(cx.connect(&connect(v4(2), 80)), Err(ConnectError::PortsExhausted));
        assert!(cx.connect(&connect(v4(2), 81)).is_ok(), "another destination has its own ports");
    });
    let mut net = SimNet::new(1);
    // With timestamps ports need not wait.
    let tcp = TcpConfig { timestamps: false, ..TcpConfig::default() };
    net.add(EngineConfig { source_ports: 100..=101, tcp, ..config(1) }, client, CLEAN);
    net.add(config(2), serve(Script::passive(), |listen| Listen { ports: 80..=81, ..listen }), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 1);
    for id in net.host(0).app.ids.clone() {
        on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    }
    run(&mut net, 30);
    assert_eq!(net.host(0).engine.time_wait_count(), 3);
    on(&mut net, 0, |cx| {
        assert_eq!(cx.connect(&connect(v4(2), 80)), Err(ConnectError::PortsExhausted));
    });
    run(&mut net, 60);
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("TIME-WAIT is over");
    });
    assert_eq!(counted(&net, 0, Counter::PortsExhausted), 2);
}

#[test]
fn nobody_at_the_port_refuses() {
    let mut net = started(dial(Script::passive(), 1), Script::passive());
    run(&mut net, 1);
    assert_eq!(net.host(0).app.log, [Ev::Close(CloseReason::Refused)]);
    assert_nothing_left(&net, 2);
}

#[test]
fn a_syn_waits_for_its_neighbour_and_gives_up_in_the_end() {
    let options = FlowOptions { connect_timeout: Some(Duration::from_secs(5)), ..FlowOptions::default() };
    let dial = move |cx: &mut Cx<'_>| {
        cx.connect(&Connect { options, ..connect(v4(2), 80) }).expect("a connection");
    };
    let mut net = SimNet::new(1);
    net.capture();
    net.add(config(1), Script::passive().then(dial), CLEAN);
    net.add(config(2), serve(Script::passive(), |listen| listen), CLEAN);
    net.start();
    run(&mut net, 10);
    assert_eq!(net.host(0).app.log, [Ev::Close(CloseReason::ConnectTimedOut)]);
    assert!(net.captured().is_empty(), "there was nobody to send to");
    assert_eq!(net.host_mut(0).engine.take_wanted_neighbour(), Some(v4(2)));

    on(&mut net, 0, dial);
    run(&mut net, 3);
    net.host_mut(0).engine.set_neighbour(v4(2), Mac([2, 0, 0, 0, 0, 2]));
    assert_eq!(net.host_mut(0).engine.take_wanted_neighbour(), None);
    run(&mut net, 1);
    assert_eq!(net.host(0).app.count(&Ev::Connect), 1);
    // The peer moves: what we opened follows.
    net.host_mut(0).engine.set_neighbour(v4(2), Mac([2, 0, 0, 0, 0, 9]));
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| {
        cx.flow(id).expect("it lives").send(b"x");
    });
    let last = net.captured().last().expect("a frame");
    assert_eq!(see(&last.frame).eth.dst, Mac([2, 0, 0, 0, 0, 9]));
}

#[test]
fn time_wait_answers_restarts_and_lets_a_newer_syn_in() {
    let local = Some((v4(1), 7_000).into());
    let dial = move |cx: &mut Cx<'_>| {
        cx.connect(&Connect { local, ..connect(v4(2), 80) }).expect("a connection");
    };
    let server = Script::new(|flow, event| match event {
        Ev::Data(text) => {
            flow.close();
            text.len()
        }
        _ => 0,
    });
    let mut net = started(greeter().then(dial), serve(server, |listen| listen));
    run(&mut net, 30);
    assert_eq!(net.host(1).engine.time_wait_count(), 1, "the server closed first");
    let fin = net
        .captured()
        .iter()
        .rfind(|sent| sent.from == 0 && see(&sent.frame).tcp.ctl().contains(Control::FIN));
    let fin = fin.expect("the client's FIN").frame.clone();
    // Or the client, which has forgotten the connection, would answer the answer with a reset.
    net.set_link(1, CUT);
    net.inject(1, &fin);
    let answer = see(&net.captured().last().expect("an answer").frame);
    assert_eq!((answer.tcp.ctl(), answer.tcp.ack()), (Control::ACK, see(&fin).tcp.seq() + 1));
    run(&mut net, 50);
    assert_eq!(net.host(1).engine.time_wait_count(), 1, "2 MSL began anew");
    net.set_link(1, CLEAN);

    on(&mut net, 0, dial);
    run(&mut net, 1);
    assert_eq!(net.host(0).app.count(&Ev::Connect), 2);
    assert_eq!(counted(&net, 1, Counter::TimeWaitReusedByTimestamp), 1);
    run(&mut net, 100);
    assert_eq!(counted(&net, 1, Counter::TimeWaitExpired), 1);
    assert_nothing_left(&net, 2);
}

#[test]
fn a_full_time_wait_table_gives_the_oldest_up() {
    let server = Script::new(|flow, event| match event {
        Ev::Data(text) => {
            flow.close();
            text.len()
        }
        _ => 0,
    });
    let mut net = SimNet::new(1);
    net.add(config(1), dial(greeter(), 10), CLEAN);
    let limits = Limits { time_wait_max: 4, ..LIMITS };
    net.add(EngineConfig { limits, ..config(2) }, serve(server, |listen| listen), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 1);
    assert_eq!(net.host(1).engine.time_wait_count(), 4);
    assert_eq!(counted(&net, 1, Counter::TimeWaitEvicted), 6);
    run(&mut net, 61);
    assert_nothing_left(&net, 2);
}

#[test]
fn a_client_that_was_challenged_gets_through_whatever_the_rate_limit_says() {
    for rfc1337 in [false, true] {
        // Text of which the client's sequence numbers run ahead of its clock, all in one tick of timestamps.
        let client = Script::new(|flow, event| match event {
            Ev::Connect => flow.send(&[7; 3_000]),
            Ev::Data(text) => text.len(),
            Ev::Fin => {
                flow.close();
                0
            }
            Ev::Close(_) => {
                flow.cx().set_timer(Duration::from_micros(1));
                0
            }
            _ => 0,
        });
        let mut heard = 0;
        let server = Script::new(move |flow, event| match event {
            Ev::Data(text) => {
                heard += text.len();
                if heard.is_multiple_of(3_000) {
                    flow.close();
                }
                text.len()
            }
            _ => 0,
        });
        let tcp = TcpConfig { challenge_acks_per_second: 0, rfc1337, ..TcpConfig::default() };
        let mut net = SimNet::new(1);
        net.add(EngineConfig { source_ports: 100..=100, ..config(1) }, dial(client, 1), CLEAN);
        net.add(EngineConfig { tcp, ..config(2) }, serve(server, |listen| listen), CLEAN);
        net.host_mut(0).app.on_worker_timer = Box::new(|cx| {
            cx.connect(&connect(v4(2), 80)).expect("the port is free: the server closed first");
        });
        net.introduce();
        net.start();
        let until = net.now().plus_micros(900_000);
        while net.now() < until {
            net.step();
        }
        assert!(counted(&net, 1, Counter::TimeWaitRefused) > 0, "RFC 1337: {rfc1337}");
        assert_eq!(counted(&net, 1, Counter::TimeWaitReset) > 0, !rfc1337);
        // Who is refused waits for 10 ms, nobody for a second.
        let app = &net.host(0).app;
        assert!(app.count(&Ev::Connect) > 5, "{:?}", app.log);
        assert!(app.count(&Ev::Close(CloseReason::Finished)) + 1 >= app.count(&Ev::Connect), "{:?}", app.log);
    }
}

#[test]
fn connects_wait_for_room_in_time_wait_where_that_is_wished() {
    let full = TcpConfig { time_wait_full: TimeWaitFull::RefuseOpens, ..TcpConfig::default() };
    let limits = Limits { time_wait_max: 4, ..LIMITS };
    let mut net = SimNet::new(1);
    net.add(EngineConfig { tcp: full, limits, ..config(1) }, dial(Script::passive(), 3), CLEAN);
    net.add(config(2), serve(Script::passive(), |listen| listen), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 1);
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("the fourth");
        assert_eq!(cx.connect(&connect(v4(2), 80)), Err(ConnectError::TimeWaitFull));
    });
    run(&mut net, 1);
    for id in net.host(0).app.ids.clone() {
        on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    }
    run(&mut net, 1);
    assert_eq!(net.host(0).engine.time_wait_count(), 4);
    on(&mut net, 0, |cx| {
        assert_eq!(cx.connect(&connect(v4(2), 80)), Err(ConnectError::TimeWaitFull));
    });
    run(&mut net, 60);
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("2 MSL have passed");
    });
    assert_eq!(counted(&net, 0, Counter::TimeWaitOpensRefused), 2);
    assert_eq!(counted(&net, 0, Counter::TimeWaitEvicted), 0);
}

#[test]
fn a_record_that_was_followed_makes_room_for_the_next_connect() {
    let from = |port| Connect { local: Some((v4(1), port).into()), ..connect(v4(2), 80) };
    let client = Script::passive().then(move |cx| {
        for port in 5_000..5_004 {
            cx.connect(&from(port)).expect("a connection");
        }
    });
    let tcp = TcpConfig { time_wait_full: TimeWaitFull::RefuseOpens, ..TcpConfig::default() };
    let limits = Limits { time_wait_max: 5, ..LIMITS };
    let mut net = SimNet::new(1);
    net.add(EngineConfig { tcp, limits, ..config(1) }, client, CLEAN);
    net.add(config(2), serve(Script::passive(), |listen| listen), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 1);
    for id in net.host(0).app.ids.clone() {
        on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    }
    run(&mut net, 2);
    assert_eq!(net.host(0).engine.time_wait_count(), 4);
    on(&mut net, 0, move |cx| {
        cx.connect(&from(5_000)).expect("the fifth place is left for it");
        cx.connect(&from(5_004)).expect("that of its predecessor is left");
        assert_eq!(cx.connect(&from(5_005)), Err(ConnectError::TimeWaitFull));
    });
    run(&mut net, 1);
    assert_eq!(counted(&net, 0, Counter::TimeWaitOpensRefused), 1);
}

#[test]
fn a_connect_that_is_refused_leaves_its_predecessor_in_time_wait() {
    let client = Script::passive().then(|cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    let mut net = SimNet::new(1);
    net.capture();
    net.add(EngineConfig { source_ports: 100..=100, ..config(1) }, client, CLEAN);
    net.add(config(2), serve(Script::passive(), |listen| listen), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 1);
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| cx.flow(id).expect("it lives").close());
    run(&mut net, 1);
    on(&mut net, 1, |cx| {
        let listener = cx.listeners().next().expect("a listener");
        cx.close_listener(listener);
    });
    let mut isns = Vec::new();
    for _ in 0..3 {
        on(&mut net, 0, |cx| {
            cx.connect(&connect(v4(2), 80)).expect("the port may be used again");
        });
        run(&mut net, 1);
        assert_eq!(net.host(0).app.log.last(), Some(&Ev::Close(CloseReason::Refused)));
        assert_eq!(net.host(0).engine.time_wait_count(), 1, "what had to be remembered has not become less");
        isns.push(see(&net.captured().iter().rfind(|sent| sent.from == 0).expect("a SYN").frame).tcp.seq());
    }
    assert!(isns.windows(2).all(|pair| pair[1].since(pair[0]) >= 65_536), "{isns:?}");
    assert_eq!(counted(&net, 0, Counter::TimeWaitReusedActively), 3);
    assert_eq!(counted(&net, 0, Counter::TimeWaitCreated), 4);
}

#[test]
fn draining_refuses_what_is_new_and_abort_ends_the_rest() {
    let mut net = started(dial(greeter(), 3), serve(echo(), |listen| listen));
    run(&mut net, 1);
    net.drain(1);
    assert_eq!(net.host(1).app.drains, 1);
    on(&mut net, 1, |cx| assert_eq!(cx.connect(&connect(v4(1), 1)), Err(ConnectError::Draining)));
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    run(&mut net, 1);
    assert_eq!(net.host(0).app.count(&Ev::Close(CloseReason::Refused)), 1);
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| {
        cx.flow(id).expect("it lives").send(b" again");
    });
    run(&mut net, 1);
    assert!(net.host(0).app.text().ends_with(b" again"), "open connections go on");
    net.abort_all(1);
    run(&mut net, 1);
    assert_eq!(net.host(0).app.count(&Ev::Close(CloseReason::Reset)), 3);
    assert_eq!(net.host(1).app.count(&Ev::Close(CloseReason::Aborted)), 3);
    assert_nothing_left(&net, 2);
}

#[test]
fn a_closed_listener_refuses_and_its_socket_can_be_had_again() {
    let mut net = started(Script::passive(), serve(echo(), |listen| listen));
    on(&mut net, 1, |cx| {
        let listener = cx.listeners().next().expect("there is one");
        cx.close_listener(listener);
    });
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    run(&mut net, 1);
    assert_eq!(net.host(0).app.log, [Ev::Close(CloseReason::Refused)]);
    on(&mut net, 1, |cx| {
        cx.listen(&Listen::new(v4(2), 80)).expect("it is free");
    });
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    run(&mut net, 1);
    assert_eq!(net.host(0).app.count(&Ev::Connect), 1);
}

#[test]
fn frames_on_the_wrong_worker_find_the_right_one() {
    let worker = |n: u16| EngineConfig { worker: n, owners: Owners::Hash { workers: 2 }, ..config(2) };
    let server = || {
        serve(echo(), |listen| listen).then(|cx| {
            (0..4).for_each(|_| {
                cx.connect(&connect(v4(1), 90)).expect("a port that is ours");
            });
        })
    };
    let client = dial(greeter(), 20).then(|cx| {
        cx.listen(&Listen::new(v4(1), 90)).expect("a listener");
    });
    let mut net = SimNet::new(1);
    net.add(config(1), client, CLEAN);
    net.add(worker(0), server(), CLEAN);
    net.add(worker(1), server(), CLEAN);
    net.introduce();
    net.start();
    run(&mut net, 10);
    assert_eq!(net.host(0).app.text(), b"hello".repeat(20));
    assert_eq!(net.host(0).app.count(&Ev::Accept), 8);
    for host in [1, 2] {
        assert!(net.host(host).app.count(&Ev::Accept) > 2, "both have their share");
        assert_eq!(net.host(host).app.count(&Ev::Connect), 4);
        assert!(counted(&net, host, Counter::HandedOver) > 0);
        assert_eq!(counted(&net, host, Counter::RstsOut), 0, "no stray is answered");
    }
}

#[test]
fn icmp_errors_are_believed_only_for_what_is_in_flight() {
    let mut net = started(Script::passive(), Script::passive());
    net.set_link(0, CUT);
    on(&mut net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    let syn = net.captured()[0].frame.clone();
    let mut stranger = syn.clone();
    stranger[14 + 20 + 4] ^= 1;
    net.inject(0, &icmp_about(&stranger, 2, 1, 3, 3, 0));
    assert_eq!(dropped(&net, 0, DropReason::IcmpUnmatched), 1, "another sequence number");
    net.inject(0, &icmp_about(&syn, 2, 1, 3, 1, 0));
    assert_eq!(net.host(0).app.log, [Ev::Report(Report::SoftError { icmp_type: 3, code: 1 })]);
    net.inject(0, &icmp_about(&syn, 2, 1, 3, 3, 0));
    assert_eq!(net.host(0).app.log.last(), Some(&Ev::Close(CloseReason::Refused)));
    assert_nothing_left(&net, 2);
}

#[test]
fn a_smaller_path_mtu_makes_segments_smaller_at_once() {
    let sender = Script::new(|flow, event| match event {
        Ev::Connect => flow.send(&[1; 14_000]),
        _ => 0,
    });
    let mut net = started(dial(sender, 1), serve(Script::passive(), |listen| listen));
    while net.captured().last().is_none_or(|sent| sent.frame.len() < 1_500) {
        assert!(net.step());
    }
    let full = net.captured().last().expect("a full segment").frame.clone();
    assert_eq!(full.len(), 14 + 1_500);
    let before = net.captured().len();
    net.inject(0, &icmp_about(&full, 2, 1, 3, 4, 1_000));
    run(&mut net, 10);
    let later = net.captured()[before..].iter().filter(|sent| sent.from == 0);
    assert_eq!(later.map(|sent| sent.frame.len()).max(), Some(14 + 1_000));
    assert_eq!(net.host(1).app.text(), [1; 14_000]);
}

#[test]
fn options_are_seen_on_the_wire() {
    let dial = |cx: &mut Cx<'_>| {
        let options = FlowOptions { vlan: Some(42), ttl: 7, dscp: 10, ..FlowOptions::default() };
        cx.connect(&Connect { options, user: 77, ..connect(v4(2), 80) }).expect("a connection");
    };
    let server = serve(echo(), |listen| {
        let options = FlowOptions { ttl: 9, dscp: 12, recv_buffer: 5_000, ..FlowOptions::default() };
        Listen { options, ..listen }
    });
    let client = Script::new(|flow, event| {
        assert_eq!(flow.user(), if *event == Ev::Connect { 77 } else { 78 });
        flow.set_user(78);
        match event {
            Ev::Connect => flow.send(b"x"),
            Ev::Data(text) => {
                flow.close();
                text.len()
            }
            _ => 0,
        }
    });
    let mut net = started(client.then(dial), server);
    run(&mut net, 10);
    assert!(matches!(net.host(0).app.log.last(), Some(Ev::Close(CloseReason::Finished))));
    for sent in net.captured() {
        let seen = see(&sent.frame);
        let header = ringroad::wire::Ipv4View::parse(seen.eth.payload).expect("IPv4").header;
        assert_eq!(seen.eth.vlan, Some(42), "the answer has the tag too");
        // The last ACK of the client comes from its TIME-WAIT record, which keeps no options.
        let want = if sent.from == 0 { (7, 10) } else { (9, 12) };
        assert_eq!((header.ttl(), header.dscp()), want);
        if sent.from == 1 {
            assert!(seen.tcp.wnd() <= 5_000);
        }
    }
}

#[test]
fn timers_fire_once_when_they_are_due() {
    let client = Script::new(|flow, event| {
        match event {
            Ev::Connect => flow.set_timer(Duration::from_millis(1_500)),
            Ev::Timer if flow.user() < 2 => {
                flow.set_user(flow.user() + 1);
                flow.set_timer(Duration::from_secs(60));
                if flow.user() == 2 {
                    flow.cancel_timer();
                }
            }
            _ => (),
        }
        0
    });
    let client = client.then(|cx| cx.set_timer(Duration::from_secs(3)));
    let mut net = started(dial(client, 1), serve(Script::passive(), |listen| listen));
    net.host_mut(0).app.on_worker_timer = Box::new(|cx| cx.set_timer(Duration::from_secs(3)));
    let start = net.now();
    for (ms, timers, worker_timers) in
        [(1_400, 0, 0), (1_600, 1, 0), (3_100, 1, 1), (61_000, 1, 20), (62_000, 2, 20)]
    {
        assert!(net.run(start.plus_micros(ms * 1_000), 10_000));
        let app = &net.host(0).app;
        assert_eq!((app.count(&Ev::Timer), app.worker_timers), (timers, worker_timers), "after {ms} ms");
    }
    run(&mut net, 500);
    assert_eq!(net.host(0).app.count(&Ev::Timer), 2, "the third was taken back");
}

#[test]
fn a_paused_reader_closes_the_window_and_probes_keep_it_alive() {
    let sender = Script::new(|flow, event| match event {
        Ev::Connect | Ev::Writable => {
            let left = 1_000_000 - flow.user();
            let taken = flow.send(&vec![3; usize::try_from(left).expect("a million")]);
            flow.set_user(flow.user() + taken as u64);
            0
        }
        _ => 0,
    });
    let reader = Script::new(|flow, event| match event {
        Ev::Accept => {
            flow.pause();
            0
        }
        Ev::Data(text) => text.len(),
        _ => 0,
    });
    let mut net = started(dial(sender, 1), serve(reader, |listen| listen));
    run(&mut net, 1_000);
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| {
        let flow = cx.flow(id).expect("it lives");
        assert_eq!((flow.info().snd_wnd, flow.state()), (0, State::Established));
    });
    let probes = counted(&net, 0, Counter::WindowProbes);
    assert!((10..60).contains(&probes), "{probes} probes at growing intervals");
    assert!(net.host(1).app.text().is_empty());

    let id = net.host(1).app.ids[0];
    on(&mut net, 1, move |cx| cx.flow(id).expect("it lives").resume());
    let until = after(&net, 2);
    assert!(net.run(until, 1_000_000));
    assert_eq!(net.host(1).app.text(), vec![3; 1_000_000], "and quickly, without waiting for a probe");
}

#[test]
fn a_reader_that_paused_reads_on_after_both_fins() {
    let reader = Script::new(|flow, event| match event {
        Ev::Connect => {
            flow.pause();
            flow.shutdown();
            flow.set_timer(Duration::from_secs(30));
            0
        }
        Ev::Timer => {
            flow.resume();
            0
        }
        Ev::Data(text) => text.len(),
        _ => 0,
    });
    let sender = Script::new(|flow, event| match event {
        Ev::Fin => {
            flow.send(&[5; 9_000]);
            flow.close();
            0
        }
        _ => 0,
    });
    let mut net = started(dial(reader, 1), serve(sender, |listen| listen));
    run(&mut net, 200);
    assert_eq!(net.host(0).app.text(), [5; 9_000]);
    let log = &net.host(0).app.log;
    assert_eq!(log[log.len() - 2..], [Ev::Fin, Ev::Close(CloseReason::Finished)]);
    assert_nothing_left(&net, 2);
}

#[test]
fn closing_from_within_kept_text_is_orderly_if_all_of_it_was_read() {
    for (leave, want) in [(0, CloseReason::Finished), (1, CloseReason::Aborted)] {
        for pause in [false, true] {
            let reader = Script::new(move |flow, event| match event {
                Ev::Accept if pause => {
                    flow.pause();
                    flow.set_timer(Duration::from_secs(1));
                    0
                }
                Ev::Timer => {
                    flow.resume();
                    0
                }
                Ev::Data(text) => {
                    flow.close();
                    text.len() - leave
                }
                _ => 0,
            });
            let mut net = started(dial(greeter(), 1), serve(reader, |listen| listen));
            run(&mut net, 200);
            assert_eq!(net.host(1).app.log.last(), Some(&Ev::Close(want)), "{leave} left, paused: {pause}");
            let theirs = if leave == 0 { CloseReason::Finished } else { CloseReason::Reset };
            assert_eq!(net.host(0).app.log.last(), Some(&Ev::Close(theirs)), "{leave} left, paused: {pause}");
            assert_nothing_left(&net, 2);
        }
    }
}

#[test]
fn keep_alive_asks_for_hours_and_gives_a_silent_peer_up() {
    let dial = |cx: &mut Cx<'_>| {
        let options = FlowOptions { keep_alive: Some(KeepAlive::default()), ..FlowOptions::default() };
        cx.connect(&Connect { options, ..connect(v4(2), 80) }).expect("a connection");
    };
    let mut net = started(Script::passive().then(dial), serve(Script::passive(), |listen| listen));
    run(&mut net, 7 * 3_600);
    assert_eq!(counted(&net, 0, Counter::KeepAliveProbes), 3, "every two hours");
    assert_eq!(net.host(0).app.log, [Ev::Connect]);
    net.set_link(1, CUT);
    run(&mut net, 2 * 3_600);
    assert_eq!(net.host(0).app.log, [Ev::Connect, Ev::Close(CloseReason::TimedOut)]);
    assert_eq!(counted(&net, 0, Counter::KeepAliveProbes), 3 + 10);
}

#[test]
fn senders_share_a_pool_that_is_too_small_and_none_is_forgotten() {
    let limits = Limits { send_chunks: 3, ..LIMITS };
    let client = |n: u8| Bulk {
        to: Some(connect(v4(9), 80)),
        send: 50_000,
        streams: (u64::from(n), 0),
        ..Bulk::default()
    };
    let mut net = SimNet::new(1);
    let listen = Some(Listen::new(v4(9), 80));
    net.add(EngineConfig { limits, ..config(9) }, Bulk { listen, send: 200_000, ..Bulk::default() }, CLEAN);
    for n in 1..=5 {
        net.add(config(n), Bulk { send: 0, ..client(n) }, CLEAN);
    }
    net.introduce();
    net.start();
    run(&mut net, 200);
    for host in 1..=5 {
        let done = &net.host(host).app.done;
        assert_eq!(
            done.first().map(|(transfer, why)| (transfer.received, *why)),
            Some((200_000, CloseReason::Finished))
        );
    }
    assert_nothing_left(&net, 6);
}

#[test]
fn a_transmit_ring_of_one_frame_is_slow_but_complete() {
    let to = Some(connect(v4(2), 80));
    let client = Bulk { to, send: 300_000, streams: (1, 2), ..Bulk::default() };
    let server =
        Bulk { listen: Some(Listen::new(v4(2), 80)), send: 200_000, streams: (2, 1), ..Bulk::default() };
    let mut net = pair(1, client, server, LinkConfig { loss: 10_000, ..CLEAN });
    (0..2).for_each(|host| net.host_mut(host).limit_tx(1));
    net.start();
    run(&mut net, 2_000);
    assert_eq!(net.host(0).app.done[0].0.received, 200_000);
    assert_eq!(net.host(1).app.done[0].0.received, 300_000);
    assert_nothing_left(&net, 2);
}

#[test]
fn whoever_does_not_answer_is_given_up_after_r2_with_a_report_before() {
    let sender = greeter();
    let mut net = started(dial(sender, 1), serve(echo(), |listen| listen));
    run(&mut net, 1);
    net.set_link(1, CUT);
    let id = net.host(0).app.ids[0];
    on(&mut net, 0, move |cx| {
        cx.flow(id).expect("it lives").send(b"are you there?");
    });
    run(&mut net, 200);
    let log = &net.host(0).app.log;
    assert_eq!(log[log.len() - 2..], [Ev::Report(Report::R1), Ev::Close(CloseReason::TimedOut)]);
}
