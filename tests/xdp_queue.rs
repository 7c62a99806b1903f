//! AF_XDP queues on a veth pair in a namespace of the test's own (root).
#![cfg(feature = "xdp")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, FromRawFd};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ringroad::io::xdp::{Attached, Nic, Queue, QueueOptions, Steering, XdpError, XdpMode};
use ringroad::stack::{RxBatch, TxBatch};

/// No test waits longer for anything.
const PATIENCE: Duration = Duration::from_secs(20);

const PORT: u16 = 80;

/// One end of the pair: its program and a socket on queue 0.
struct End {
    steering: Steering,
    queue: Queue,
}

impl End {
    fn open(interface: &str, addr: Ipv4Addr, mode: XdpMode) -> Self {
        let nic = Nic::open(interface).unwrap();
        let mut steering = Steering::load_for(&nic).unwrap();
        steering.add_endpoint(addr.into(), PORT).unwrap();
        let attached = steering.attach(&nic, mode).unwrap();
        let queue = Queue::open(&nic, QueueOptions::new(0, mode, attached)).unwrap();
        steering.set_xsk(0, queue.as_fd()).unwrap();
        Self { steering, queue }
    }

    /// Sends up to 20 numbered frames from `next` on, while there are any before `end`: one turn receives them, though each
    /// take three descriptors.
    fn send(&mut self, next: &mut u32, end: u32, to: Ipv4Addr, payload: usize) {
        let (_, mut tx) = self.queue.turn();
        for _ in 0..20.min(end - *next) {
            let Some(octets) = tx.reserve() else { break };
            let frame = frame(to, PORT, *next, payload);
            octets[..frame.len()].copy_from_slice(&frame);
            tx.commit(frame.len());
            *next += 1;
        }
        drop(tx);
        self.queue.flush().unwrap();
    }

    /// The numbers of the frames that have arrived; each is compared with what was sent.
    fn receive(&mut self, addr: Ipv4Addr, payload: usize) -> Vec<u32> {
        let (rx, _) = self.queue.turn();
        let number = |octets: &[u8]| u32::from_be_bytes(octets[38..42].try_into().unwrap());
        (0..rx.len())
            .map(|i| {
                let octets = rx.frame(i);
                assert_eq!(octets, frame(addr, PORT, number(octets), payload));
                number(octets)
            })
            .collect()
    }
}

const A: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const B: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

#[test]
fn frames_cross_a_pair_natively() {
    in_namespace(|| exchange(XdpMode::Native, XdpMode::Native, 100));
}

#[test]
fn frames_cross_a_pair_in_generic_mode() {
    in_namespace(|| exchange(XdpMode::Generic, XdpMode::Generic, 100));
}

#[test]
fn auto_is_native_on_veth_and_carries_full_frames() {
    in_namespace(|| exchange(XdpMode::Auto, XdpMode::Native, 1500 - 28));
}

#[test]
fn jumbo_frames_cross_a_pair_in_several_parts() {
    let (auto, native, generic) = (XdpMode::Auto, XdpMode::Native, XdpMode::Generic);
    for (mtu, payload, parts, asked, obtained) in [
        (9000, 9000 - 28, 3, auto, native),
        (9216, 9216 - 28, 3, native, native),
        (4000, 4000 - 28, 2, native, native),
        (9000, 100, 1, native, native),
        (9000, 9000 - 28, 3, generic, generic),
    ] {
        in_namespace(move || {
            set_mtu(mtu);
            exchange_in(asked, obtained, payload, parts);
        });
    }
}

/// A turn takes 64 descriptors, which end within a packet of three.
#[test]
fn a_jumbo_frame_may_come_in_two_turns() {
    in_namespace(|| {
        set_mtu(9000);
        let mut a = End::open("rr-a", A, XdpMode::Native);
        let mut b = End::open("rr-b", B, XdpMode::Native);
        let mut next = 0;
        for _ in 0..10 {
            a.send(&mut next, u32::MAX, B, 8_000);
        }
        let (mut arrived, start) = (Vec::new(), Instant::now());
        while arrived.len() < next as usize {
            assert!(start.elapsed() < PATIENCE, "{} of {next} arrived", arrived.len());
            arrived.extend(b.receive(B, 8_000));
        }
        assert!(arrived.iter().copied().eq(0..next), "in order, once each");
    });
}

#[test]
fn two_busy_workers_never_run_out_of_room_in_a_ring() {
    const COUNT: u32 = 300_000;
    in_namespace(|| {
        let mut a = End::open("rr-a", A, XdpMode::Native);
        let mut b = End::open("rr-b", B, XdpMode::Native);
        let sender = thread::spawn(move || {
            let mut next = 0;
            while next < COUNT {
                a.send(&mut next, COUNT, B, 64);
            }
            a
        });
        // The receiver may lose frames while it has no core, but not their order.
        let (mut arrived, start) = (Vec::new(), Instant::now());
        while !sender.is_finished() {
            assert!(start.elapsed() < PATIENCE, "{} arrived", arrived.len());
            arrived.extend(b.receive(B, 64));
            b.queue.flush().unwrap();
        }
        let a = sender.join().unwrap();
        loop {
            let rest = b.receive(B, 64);
            if rest.is_empty() {
                break;
            }
            arrived.extend(rest);
        }
        assert!(arrived.is_sorted_by(|earlier, later| earlier < later));
        let (a, b) = (a.queue.stats().unwrap(), b.queue.stats().unwrap());
        assert_eq!(b.rx_frames, arrived.len() as u64);
        assert!(b.rx_frames + b.rx_dropped + b.fill_ring_empty + a.busy >= u64::from(COUNT), "{a:?} {b:?}");
        assert_eq!((a.invalid_descs, b.invalid_descs), (0, 0));
    });
}

/// Twenty thousand frames each way: every frame of both pools is used more than once.
fn exchange(asked: XdpMode, obtained: XdpMode, payload: usize) {
    exchange_in(asked, obtained, payload, 1);
}

/// The same with frames that take so many descriptors each.
fn exchange_in(asked: XdpMode, obtained: XdpMode, payload: usize, parts: u64) {
    const COUNT: u32 = 20_000;
    /// Frames on their way at once: fewer than veth queues while the receiver's softirq has no core.
    const UNDERWAY: u32 = 64;
    let mut a = End::open("rr-a", A, asked);
    let mut b = End::open("rr-b", B, asked);
    assert_eq!((a.queue.mode(), b.queue.mode()), (obtained, obtained));
    assert!(!a.queue.is_busy_polled(), "there is nothing to poll in copy mode");

    let (mut from_a, mut from_b) = (0, 0);
    let (mut at_a, mut at_b) = (Vec::new(), Vec::new());
    let start = Instant::now();
    let limit = |arrived: &Vec<u32>| COUNT.min(u32::try_from(arrived.len()).unwrap() + UNDERWAY);
    while at_a.len() + at_b.len() < 2 * COUNT as usize {
        assert!(start.elapsed() < PATIENCE, "{} and {} arrived", at_a.len(), at_b.len());
        a.send(&mut from_a, limit(&at_b), B, payload);
        at_b.extend(b.receive(B, payload));
        b.send(&mut from_b, limit(&at_a), A, payload);
        at_a.extend(a.receive(A, payload));
    }
    assert!(at_a.iter().copied().eq(0..COUNT), "in order, once each");
    assert!(at_b.iter().copied().eq(0..COUNT), "in order, once each");

    let stats = a.queue.stats().unwrap();
    let descriptors = u64::from(COUNT) * parts;
    assert_eq!((stats.tx_frames, stats.rx_frames), (descriptors, descriptors));
    assert_eq!((stats.rx_dropped, stats.rx_ring_full, stats.invalid_descs), (0, 0, 0));
    let redirected = a.steering.verdict_counters().unwrap()[0];
    assert_eq!(redirected, ("steer_redirect", u64::from(COUNT)));
}

#[test]
fn a_received_frame_is_read_while_its_reply_is_written() {
    in_namespace(|| {
        let mut a = End::open("rr-a", A, XdpMode::Native);
        let mut b = End::open("rr-b", B, XdpMode::Native);
        a.send(&mut 0, 1, B, 64);
        let start = Instant::now();
        loop {
            assert!(start.elapsed() < PATIENCE);
            let (rx, mut tx) = b.queue.turn();
            if rx.is_empty() {
                continue;
            }
            let request = rx.frame(0);
            let reply = tx.reserve().unwrap();
            let again = reply.as_ptr();
            reply[..request.len()].copy_from_slice(request);
            reply[30..34].copy_from_slice(&A.octets());
            assert_eq!(tx.reserve().unwrap().as_ptr(), again, "the same frame until it is committed");
            tx.commit(request.len());
            break;
        }
        b.queue.flush().unwrap();
        assert!(a.queue.wait(PATIENCE, None).unwrap().by_frames);
        assert_eq!(a.receive(A, 64), [0]);
    });
}

#[test]
fn an_event_wakes_a_waiting_queue() {
    in_namespace(|| {
        let a = End::open("rr-a", A, XdpMode::Native);
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: a new descriptor that nobody else owns.
        let mut event = unsafe { File::from_raw_fd(fd) };
        let woken = a.queue.wait(Duration::from_millis(1), Some(event.as_fd())).unwrap();
        assert!(!woken.by_event && !woken.by_frames, "the time was up");
        event.write_all(&1u64.to_ne_bytes()).unwrap();
        let woken = a.queue.wait(PATIENCE, Some(event.as_fd())).unwrap();
        assert!(woken.by_event && !woken.by_frames);
    });
}

#[test]
fn what_is_not_ours_reaches_the_kernel() {
    in_namespace(|| {
        ip("address add 192.0.2.2/24 dev rr-b");
        let mut a = End::open("rr-a", A, XdpMode::Native);
        let b = End::open("rr-b", B, XdpMode::Native);
        let (_, mut tx) = a.queue.turn();
        let foreign = frame(B, 22, 0, 64);
        tx.reserve().unwrap()[..foreign.len()].copy_from_slice(&foreign);
        tx.commit(foreign.len());
        drop(tx);
        a.queue.flush().unwrap();
        let passed = || b.steering.verdict_counters().unwrap().contains(&("steer_pass_not_ours", 1));
        let start = Instant::now();
        while !passed() {
            assert!(start.elapsed() < PATIENCE, "{:?}", b.steering.verdict_counters());
        }
    });
}

#[test]
fn a_second_program_is_refused_until_the_first_is_dropped() {
    in_namespace(|| {
        let nic = Nic::open("rr-a").unwrap();
        let mut first = Steering::load().unwrap();
        assert_eq!(first.attach(&nic, XdpMode::Native).unwrap(), Attached::Native);
        for mode in [XdpMode::Auto, XdpMode::Native, XdpMode::Generic] {
            let error = Steering::load().unwrap().attach(&nic, mode).unwrap_err();
            assert!(matches!(error, XdpError::AlreadyAttached { .. }), "{mode}: {error}");
            assert!(
                error.to_string().contains("another XDP program is attached to interface rr-a"),
                "{error}"
            );
        }
        drop(first);
        Steering::load().unwrap().attach(&nic, XdpMode::Generic).expect("detached when dropped");
    });
}

#[test]
fn a_queue_has_one_socket_at_a_time() {
    in_namespace(|| {
        let a = End::open("rr-a", A, XdpMode::Native);
        let nic = Nic::open("rr-a").unwrap();
        let options = QueueOptions::new(0, XdpMode::Native, Attached::Native);
        let start = Instant::now();
        let error = Queue::open(&nic, options).unwrap_err();
        assert!(matches!(error, XdpError::QueueInUse { queue: 0, .. }), "{error}");
        assert!(start.elapsed() >= Duration::from_secs(2), "it was tried again");
        // It comes free while the next one waits for it.
        let holder = thread::spawn(move || {
            thread::sleep(Duration::from_millis(200));
            drop(a);
        });
        Queue::open(&nic, options).unwrap();
        holder.join().unwrap();
    });
}

#[test]
fn a_program_started_meanwhile_does_not_keep_the_queue() {
    in_namespace(|| {
        let a = End::open("rr-a", A, XdpMode::Native);
        let mut program = Command::new("sleep").arg("60").spawn().unwrap();
        drop(a);
        let nic = Nic::open("rr-a").unwrap();
        let reopened = Queue::open(&nic, QueueOptions::new(0, XdpMode::Native, Attached::Native));
        program.kill().unwrap();
        program.wait().unwrap();
        reopened.expect("nobody has it");
    });
}

#[test]
fn what_cannot_work_is_said_in_a_sentence() {
    in_namespace(|| {
        let open = |queue, mode| {
            let options = QueueOptions::new(queue, mode, Attached::Native);
            Queue::open(&Nic::open("rr-a").unwrap(), options).unwrap_err().to_string()
        };
        let attach = |mode| {
            Steering::load().unwrap().attach(&Nic::open("rr-a").unwrap(), mode).unwrap_err().to_string()
        };
        assert!(Nic::open("rr-none").unwrap_err().to_string().starts_with("there is no interface rr-none"));
        let zero_copy = open(0, XdpMode::ZeroCopy);
        assert!(zero_copy.contains("does not support zero-copy"), "{zero_copy}");
        let queue = open(2, XdpMode::Native);
        assert!(queue.contains("has 2 queues, so there is no queue 2"), "{queue}");
        ip("link set rr-a mtu 9217");
        let mtu = open(0, XdpMode::Native);
        assert!(mtu.contains("is 9217 octets, and packets have 9216 at most"), "{mtu}");
        ip("link set rr-b mtu 9000");
        let peer = attach(XdpMode::Native);
        assert!(peer.contains("the MTU of the peer of interface rr-a is too large"), "{peer}");
        ip("link set rr-a down");
        let down = attach(XdpMode::Native);
        assert!(down.contains("interface rr-a is down"), "{down}");
    });
}

#[test]
fn frames_that_the_kernel_did_not_take_are_not_slept_over() {
    in_namespace(|| {
        let (mut a, mut b) = (End::open("rr-a", A, XdpMode::Native), End::open("rr-b", B, XdpMode::Native));
        ip("link set rr-a down");
        let mut next = 0;
        a.send(&mut next, 1, B, 64);
        assert_eq!(a.queue.stats().unwrap().net_down, 1);
        let start = Instant::now();
        let woken = a.queue.wait(PATIENCE, None).unwrap();
        assert!(!woken.by_frames && start.elapsed() < PATIENCE, "{woken:?} after {:?}", start.elapsed());
        ip("link set rr-a up");
        a.queue.flush().unwrap();
        // The frame that was left, and it alone.
        let arrived = b.receive(B, 64);
        assert_eq!(arrived, [0], "{:?}", a.queue.stats());
    });
}

#[test]
fn an_idle_queue_finds_out_what_became_of_its_interface() {
    in_namespace(|| {
        let mut a = End::open("rr-a", A, XdpMode::Native);
        a.queue.check().unwrap();
        ip("link set rr-a down");
        assert!(matches!(a.queue.check(), Err(XdpError::InterfaceDown { .. })));
        let (start, pause) = (Instant::now(), Duration::from_millis(50));
        a.queue.wait(pause, None).unwrap();
        assert!(start.elapsed() >= pause, "there is nothing to try again");
        ip("link set rr-a up");
        a.queue.check().unwrap();
        ip("link delete rr-a");
        assert!(matches!(a.queue.check(), Err(XdpError::InterfaceGone { .. })));
        let (_, mut tx) = a.queue.turn();
        tx.reserve().unwrap();
        tx.commit(64);
        drop(tx);
        assert!(matches!(a.queue.flush(), Err(XdpError::InterfaceGone { .. })));
    });
}

#[test]
fn fewer_rx_queues_than_the_peers_tx_queues_are_refused() {
    in_namespace(|| {
        ip("link add rr-c numrxqueues 1 numtxqueues 1 type veth peer name rr-d numrxqueues 4 numtxqueues 4");
        ip("link set rr-c up");
        let error =
            Steering::load().unwrap().attach(&Nic::open("rr-c").unwrap(), XdpMode::Native).unwrap_err();
        assert!(matches!(error, XdpError::TooFewRxQueues { .. }), "{error}");
    });
}

#[test]
fn a_pair_is_described() {
    in_namespace(|| {
        let nic = Nic::open("rr-a").unwrap();
        assert_eq!((nic.driver.as_str(), nic.mtu, nic.is_up), ("veth", 1500, true));
        assert_eq!((nic.rx_queues, nic.tx_queues, nic.rss), (2, 2, None));
        let listed = Command::new("ip").args(["-oneline", "link", "show", "rr-a"]).output().unwrap().stdout;
        let mac = nic.mac.map(|octet| format!("{octet:02x}")).join(":");
        assert!(String::from_utf8(listed).unwrap().contains(&mac), "{mac}");
        ip("link set rr-a down");
        assert!(!Nic::open("rr-a").unwrap().is_up);
    });
}

#[test]
fn a_killed_process_leaves_no_program_behind() {
    if let Ok(mode) = std::env::var("RR_HOLD") {
        return hold_the_program(&mode);
    }
    in_namespace(|| {
        for mode in ["native", "generic"] {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "a_killed_process_leaves_no_program_behind", "--nocapture"])
                .env("RR_HOLD", mode)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let is_attached = lines.any(|line| line.unwrap().contains("attached"));
            let nic = Nic::open("rr-a").unwrap();
            let busy = Steering::load().unwrap().attach(&nic, XdpMode::Native);
            child.kill().unwrap();
            child.wait().unwrap();
            assert!(is_attached);
            assert!(matches!(busy, Err(XdpError::AlreadyAttached { .. })), "{busy:?}");
            // The kernel closes the link soon after, not before `wait` returns.
            let start = Instant::now();
            while let Err(error) = Steering::load().unwrap().attach(&nic, XdpMode::Native) {
                assert!(start.elapsed() < PATIENCE, "{mode}: {error}");
            }
        }
    });
}

/// What the other process of the test above does: attaches, says so, and waits to be killed.
fn hold_the_program(mode: &str) {
    let mode = if mode == "generic" { XdpMode::Generic } else { XdpMode::Native };
    let nic = Nic::open("rr-a").unwrap();
    let mut steering = Steering::load().unwrap();
    let attached = steering.attach(&nic, mode).unwrap();
    let _queue = Queue::open(&nic, QueueOptions::new(0, mode, attached)).unwrap();
    println!("attached");
    thread::sleep(PATIENCE);
}

/// Runs `test` in a new network namespace with the pair rr-a and rr-b of two queues. The namespace
/// ends with the thread, the pair with the namespace.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("skipped: needs root");
        return;
    }
    let thread = thread::spawn(|| {
        // SAFETY: takes no pointers, and concerns this thread only.
        let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        ip("link add rr-a numtxqueues 2 numrxqueues 2 type veth peer name rr-b numtxqueues 2 numrxqueues 2");
        ip("link set rr-a up");
        ip("link set rr-b up");
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn set_mtu(mtu: u32) {
    ip(&format!("link set rr-a mtu {mtu}"));
    ip(&format!("link set rr-b mtu {mtu}"));
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("the tests need iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A TCP segment to `addr` and `port` whose sequence number is `number`, with a patterned text.
fn frame(addr: Ipv4Addr, port: u16, number: u32, payload: usize) -> Vec<u8> {
    let len = u16::try_from(28 + payload).unwrap().to_be_bytes();
    let text = number.to_be_bytes().into_iter().cycle().take(payload - 4);
    let ethernet = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 0];
    let ip = [0x45, 0, len[0], len[1], 0, 0, 0, 0, 64, 6, 0, 0, 192, 0, 2, 9];
    let mut frame = [&ethernet[..], &ip, &addr.octets(), &[4, 0], &port.to_be_bytes()].concat();
    frame.extend(number.to_be_bytes());
    frame.extend(text);
    frame
}
