//! Random and mutated frames into live engines: none panics, all invariants hold, good service goes on.
#![expect(clippy::cast_possible_truncation, reason = "random octets, and lengths of frames")]
use super::common::{CLEAN, Crafted, Ev, Script, assert_nothing_left, config, connect, on, run, see, v4, v6};
use ringroad::base::{AddrPair, Rng};
use ringroad::io::sim::SimNet;
use ringroad::stack::{EngineConfig, Listen};
use ringroad::wire::{Control, PROTOCOL_TCP, Sum, checksum, ethernet};

/// Frames thrown at the engines for one seed.
const FRAMES: u32 = 2_000;

/// An application whose connections are in every state: it answers each event in a random way.
fn erratic(seed: u64) -> Script {
    let mut rng = Rng::new(seed);
    Script::new(move |flow, event| {
        match rng.below(24) {
            0 => flow.pause(),
            1..5 => flow.resume(),
            5 => flow.shutdown(),
            6 => flow.close(),
            7 => flow.abort(),
            8 => flow.set_timer(std::time::Duration::from_millis(u64::from(rng.below(500)))),
            _ => {
                flow.send(&vec![1; rng.below(4_000) as usize]);
            }
        }
        match event {
            Ev::Data(text) if rng.below(4) == 0 => rng.below(text.len() as u32 + 1) as usize,
            Ev::Data(text) => text.len(),
            Ev::Fin => {
                flow.resume();
                flow.close();
                0
            }
            _ => 0,
        }
    })
}

/// Makes lengths and checksums of a TCP frame right again, whatever was done to it.
fn repair(frame: &mut [u8]) {
    let Some(packet) = frame.get_mut(ethernet::HEADER_LEN..) else { return };
    let len = u16::try_from(packet.len()).expect("short");
    let (head, addrs) = match packet.first().map(|first| first >> 4) {
        Some(4) if packet.len() >= 40 => {
            packet[0] = 0x45;
            packet[2..4].copy_from_slice(&len.to_be_bytes());
            packet[6..8].copy_from_slice(&[0x40, 0]);
            packet[9] = PROTOCOL_TCP;
            packet[10..12].fill(0);
            let mut sum = Sum::new();
            sum.add(&packet[..20]);
            packet[10..12].copy_from_slice(&sum.finish().to_be_bytes());
            let ip = |at: usize| <[u8; 4]>::try_from(&packet[at..at + 4]).expect("four").into();
            (20, AddrPair::new(ip(12), ip(16)))
        }
        Some(6) if packet.len() >= 60 => {
            packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
            packet[6] = PROTOCOL_TCP;
            let ip = |at: usize| <[u8; 16]>::try_from(&packet[at..at + 16]).expect("sixteen").into();
            (40, AddrPair::new(ip(8), ip(24)))
        }
        _ => return,
    };
    let segment = &mut packet[head..];
    segment[16..18].fill(0);
    let mut sum = checksum::pseudo_header(&addrs.expect("one family"), PROTOCOL_TCP, segment.len());
    sum.add(segment);
    segment[16..18].copy_from_slice(&sum.finish().to_be_bytes());
}

/// Moves a 32-bit number a little, a lot, or to somewhere else.
fn nudge(rng: &mut Rng, octets: &mut [u8]) {
    let old = u32::from_be_bytes(octets.try_into().expect("four"));
    let by = match rng.below(4) {
        0 => rng.below(3).wrapping_sub(1),
        1 => rng.below(3_000).wrapping_sub(1_500),
        2 => rng.below(600_000).wrapping_sub(300_000),
        _ => rng.next_u64() as u32,
    };
    octets.copy_from_slice(&old.wrapping_add(by).to_be_bytes());
}

/// Does one thing to a frame that was valid.
fn mutate(rng: &mut Rng, frame: &mut Vec<u8>) {
    let tcp = ethernet::HEADER_LEN + if frame.get(12) == Some(&0x86) { 40 } else { 20 };
    if frame.len() < tcp + 20 {
        return;
    }
    match rng.below(12) {
        0..2 => {
            for _ in 0..=rng.below(8) {
                let bit = rng.below(frame.len() as u32 * 8) as usize;
                frame[bit / 8] ^= 1 << (bit % 8);
            }
        }
        2 => frame.truncate(rng.below(frame.len() as u32 + 1) as usize),
        3 => frame.extend((0..rng.below(100)).map(|_| rng.next_u64() as u8)),
        4 => frame[tcp + 13] = rng.next_u64() as u8,
        5 => {
            let bits = [Control::SYN, Control::RST, Control::FIN, Control::ACK, Control::URG];
            frame[tcp + 13] ^= bits[rng.below(5) as usize].bits();
        }
        6 => nudge(rng, &mut frame[tcp + 4..tcp + 8]),
        7 => nudge(rng, &mut frame[tcp + 8..tcp + 12]),
        8 => frame[tcp + 14..tcp + 16].copy_from_slice(&(rng.next_u64() as u16).to_be_bytes()),
        9 => frame[tcp + 12] = rng.next_u64() as u8,
        10 => {
            let options = frame.len().min(tcp + 60);
            frame[tcp + 20..options].fill_with(|| rng.below(12) as u8);
        }
        _ => frame[tcp + 18..tcp + 20].copy_from_slice(&(rng.below(3_000) as u16).to_be_bytes()),
    }
}

/// A frame of noise behind headers that look like ours.
fn noise(rng: &mut Rng) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..rng.below(200)).map(|_| rng.next_u64() as u8).collect();
    let ether_type = [0x0800u16, 0x86dd, 0x8100, 0x0806][rng.below(4) as usize].to_be_bytes();
    if frame.len() > 34 {
        frame[12..14].copy_from_slice(&ether_type);
        frame[14] = if ether_type[0] == 8 { 0x45 } else { 0x60 };
        frame[23] = [1, 6, 58][rng.below(3) as usize];
        frame[30..34].copy_from_slice(&[10, 0, 0, 2]);
    }
    frame
}

fn attack(seed: u64, verify_checksums: bool) {
    let mut rng = Rng::new(seed);
    let listen = |cx: &mut ringroad::stack::Cx<'_>| {
        for address in [v4(0), v6(0)].map(|ip| if ip.is_ipv4() { [0; 4].into() } else { [0u16; 8].into() }) {
            cx.listen(&Listen::new(address, 80)).expect("a listener");
        }
    };
    let mut net = SimNet::new(seed);
    for n in [1, 2] {
        let app = erratic(seed + u64::from(n)).then(listen);
        net.add(EngineConfig { verify_checksums, ..config(n) }, app, CLEAN);
    }
    net.introduce();
    net.capture();
    net.start();
    for i in 0..FRAMES {
        if i % 50 == 0 {
            let (from, to) = if i % 100 == 0 { (0, 2) } else { (1, 1) };
            on(&mut net, from, move |cx| {
                for ip in [v4(to), v6(to)] {
                    // The table may be full by now.
                    let _ = cx.connect(&connect(ip, 80));
                }
            });
        }
        for _ in 0..rng.below(4) {
            net.step();
        }
        let recent = net.captured().len().min(200) as u32;
        let mut frame = noise(&mut rng);
        let mut to = rng.below(2) as usize;
        if recent > 0 && rng.below(8) > 0 {
            let sent = &net.captured()[net.captured().len() - 1 - rng.below(recent) as usize];
            (frame, to) = (sent.frame.clone(), 1 - sent.from);
            (0..=rng.below(3)).for_each(|_| mutate(&mut rng, &mut frame));
            if rng.below(8) > 0 {
                repair(&mut frame);
            }
        }
        net.inject(to, &frame);
    }
    // What is half-open expires, and whoever was cut off from its peer is ended.
    run(&mut net, 200);
    (0..2).for_each(|host| net.abort_all(host));
    run(&mut net, 100);
    assert_nothing_left(&net, 2);
    serve_well(&mut net);
}

/// A good connection gets good service.
fn serve_well(net: &mut SimNet<Script>) {
    net.host_mut(1).app.react = Box::new(|flow, event| match event {
        Ev::Data(text) => flow.send(text),
        Ev::Fin => {
            flow.close();
            0
        }
        _ => 0,
    });
    net.host_mut(0).app.react = Box::new(|flow, event| match event {
        Ev::Connect => flow.send(b"still there?"),
        Ev::Data(text) => {
            flow.close();
            text.len()
        }
        _ => 0,
    });
    net.host_mut(0).app.log.clear();
    on(net, 0, |cx| {
        cx.connect(&connect(v4(2), 80)).expect("a connection");
    });
    run(net, 100);
    assert_eq!(net.host(0).app.text(), b"still there?");
    assert_nothing_left(net, 2);
}

#[test]
fn no_frame_whatsoever_harms_an_engine() {
    let seeds = std::env::var("RINGROAD_SEEDS").map_or(60, |seeds| seeds.parse().expect("a number"));
    for seed in 0..seeds {
        for verify_checksums in [true, false] {
            let what = std::panic::AssertUnwindSafe(|| attack(seed, verify_checksums));
            if let Err(panic) = std::panic::catch_unwind(what) {
                eprintln!("seed {seed}, verify_checksums {verify_checksums}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Both SYNs come within one step of the clock behind ISNs.
#[test]
fn an_answer_to_the_first_of_two_syns_does_not_complete_the_second() {
    let server = Script::passive().then(|cx| {
        cx.listen(&Listen::new(v4(2), 80)).expect("a listener");
    });
    let mut net = SimNet::new(1);
    net.add(config(1), Script::passive(), CLEAN);
    net.add(config(2), server, CLEAN);
    net.introduce();
    net.capture();
    net.start();
    let segment = |seq, ack, ctl, text| {
        let (from, to) = ((1, 5_000), (2, 80));
        Crafted { from, to, seq, ack, ctl, text }.frame()
    };
    for seq in [1_000, 1_012] {
        net.inject(1, &segment(seq, 0, Control::SYN, b""));
    }
    let numbers: Vec<_> = net.captured().iter().map(|sent| see(&sent.frame).tcp.seq().raw()).collect();
    let [first, second] = numbers[..] else { panic!("one SYN-ACK each") };
    // Of this text the second handshake's connection would have left out the beginning.
    net.inject(1, &segment(1_001, first.wrapping_add(1), Control::ACK, b"twelve octets too many"));
    assert_eq!((net.host(1).app.log.as_slice(), first == second), ([].as_slice(), false));
    net.inject(1, &segment(1_013, second.wrapping_add(1), Control::ACK, b"text"));
    assert_eq!(net.host(1).app.text(), b"text");
}
