//! What one seed stands for: hosts, limits, protocol settings, links, applications and accidents.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::time::Duration;

use ringroad::base::{HashKey, Rng};
use ringroad::io::link::{Bursts, LinkConfig, Mark, QueueLimit};
use ringroad::stack::{EngineConfig, Limits, Owners, Route, Routes};
use ringroad::tcp::{CongestionAlgorithm, FlowOptions, KeepAlive, RtoBounds, TcpConfig, TimeWaitFull};
use ringroad::wire::Mac;

/// The port that every host listens on; [`CLOSED_PORT`] is one that none does.
pub const PORT: u16 = 80;
/// A port on which nobody listens.
pub const CLOSED_PORT: u16 = 81;

/// How long a worker stalls at most: so much longer frames are on their way.
pub const STALL_MAX: Duration = Duration::from_secs(2);
/// How much later than what it is made of a forged frame comes, at most.
pub const FORGED_LATE_MAX: Duration = Duration::from_millis(20);

/// What kind of world it is, and so which of the stricter rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Links without faults, and nobody who means harm: whatever fails needs an application that wanted it.
    Calm,
    /// Links that lose, reorder, repeat and damage frames, all of it together and much of it; nothing else happens, and
    /// patience is long, so that nothing fails either.
    Lossy,
    /// Few source ports, used again at once, on links that repeat old segments.
    Reuse,
    /// Loss, damage, stalls, clocks that jump, restarts, tight tables.
    Rough,
    /// All of that, and somebody who forges segments.
    Hostile,
}

impl Kind {
    /// Whether nothing fails for which no application asked, and no table is full.
    pub const fn is_gentle(self) -> bool {
        matches!(self, Self::Calm | Self::Lossy)
    }
}

/// Which worlds seeds stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Worlds {
    /// Of all kinds but [`Kind::Lossy`].
    Any,
    /// Of that one.
    Lossy,
}

/// How often something happens, per million steps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    pub forge: u32,
    pub stall: u32,
    pub skip: u32,
    pub restart: u32,
    pub cut: u32,
    pub abort_all: u32,
    pub cross: u32,
}

/// How applications behave.
#[derive(Clone, Debug)]
pub struct Apps {
    /// Between two attempts to open connections on one worker, at most, microseconds.
    pub gap_us: u32,
    /// Connections that one worker keeps open by itself.
    pub live_max: u32,
    /// Octets that one end sends at most.
    pub longest: u32,
    /// Nobody aborts, closes early or leaves text unread.
    pub orderly: bool,
    /// Opens to a port where nobody listens, per million.
    pub to_closed_port: u32,
    /// Listeners that stop accepting for a while, per million of a worker's timers.
    pub pause_accept: u32,
    /// Half-open connections of one listener, and those that wait for it to accept.
    pub half_open_max: u32,
    pub backlog: u32,
    /// Sets of options to choose from.
    pub options: Vec<FlowOptions>,
}

/// One machine: its workers share a link address.
#[derive(Clone, Debug)]
pub struct Machine {
    pub workers: u16,
    pub limits: Limits,
    pub tcp: TcpConfig,
    pub mtu: u16,
    pub faults: LinkConfig,
    pub tx_room: usize,
    pub rx_ring: usize,
    /// How far its clock is ahead.
    pub ahead: Duration,
    pub secret: u64,
    pub ports: u16,
}

/// Everything that is drawn before the first step.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub kind: Kind,
    pub machines: Vec<Machine>,
    pub rates: Rates,
    pub apps: Apps,
    /// How long a frame may be on its way.
    pub lifetime: Duration,
    /// The link addresses of others must be asked for.
    pub asks_neighbours: bool,
}

/// One of `choices`.
pub fn pick<T: Copy>(rng: &mut Rng, choices: &[T]) -> T {
    let bound = u32::try_from(choices.len()).expect("a short list");
    choices[rng.below(bound) as usize]
}

/// A number up to `most`, small ones as often as large ones.
pub fn any_size(rng: &mut Rng, most: u32) -> u32 {
    let bits = 32 - most.leading_zeros();
    let below = 1u64 << rng.below(bits + 1);
    rng.below(u32::try_from(below.min(u64::from(most) + 1)).expect("no more than `most` and one"))
}

/// A number up to `most`, each as often.
pub fn up_to(rng: &mut Rng, most: u32) -> u32 {
    rng.below(most + 1)
}

/// Nothing, a little, or anything up to `most`.
fn some(rng: &mut Rng, most: u32) -> u32 {
    match rng.below(4) {
        0 => 0,
        1 => up_to(rng, most / 20),
        _ => up_to(rng, most),
    }
}

/// The largest MTU of all, with a tagged Ethernet header.
const FRAME_LEN_MAX: usize = 9_018;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

impl Scenario {
    /// The scenario of `seed` among `worlds`.
    pub fn draw(seed: u64, worlds: Worlds) -> Self {
        let mut rng = Rng::new(seed ^ 0x51_u64.rotate_right(8));
        let kinds =
            [Kind::Calm, Kind::Reuse, Kind::Reuse, Kind::Rough, Kind::Rough, Kind::Hostile, Kind::Hostile];
        let kind = match worlds {
            Worlds::Any => pick(&mut rng, &kinds),
            Worlds::Lossy => Kind::Lossy,
        };
        let timestamps = rng.below(4) > 0;
        let mut faults = draw_faults(&mut rng, kind, timestamps);
        if matches!(kind, Kind::Lossy | Kind::Rough | Kind::Hostile) {
            draw_path(&mut Rng::new(seed ^ 0x52_u64.rotate_right(8)), kind, &mut faults);
        }
        let rates = draw_rates(&mut rng, kind);
        let mut lifetime = faults.lifetime_max(FRAME_LEN_MAX) + ms(1);
        if rates.stall > 0 {
            lifetime += STALL_MAX;
        }
        if rates.forge > 0 {
            lifetime += FORGED_LATE_MAX;
        }
        let machines = (0..2 + rng.below(4))
            .map(|_| draw_machine(&mut rng, kind, timestamps, faults, lifetime))
            .collect();
        let mut apps = draw_apps(&mut rng, kind, timestamps);
        draw_ecn(&mut Rng::new(seed ^ 0x53_u64.rotate_right(8)), &mut apps.options);
        if kind != Kind::Reuse {
            draw_windows(&mut Rng::new(seed ^ 0x54_u64.rotate_right(8)), &mut apps);
        }
        Self { kind, machines, rates, apps, lifetime, asks_neighbours: rng.below(4) == 0 }
    }

    /// The workers in order: machine and worker.
    pub fn workers(&self) -> Vec<(usize, u16)> {
        let of = |(machine, drawn): (usize, &Machine)| {
            (0..drawn.workers).map(move |worker| (machine, worker)).collect::<Vec<_>>()
        };
        self.machines.iter().enumerate().flat_map(of).collect()
    }

    /// The engine of one worker, in its `life`th life.
    pub fn engine(&self, machine: usize, worker: u16, life: u64) -> EngineConfig {
        let drawn = &self.machines[machine];
        let on_link =
            |destination, prefix_len| Route { destination, prefix_len, gateway: None, source: None };
        let owners = if drawn.workers > 1 { Owners::Hash { workers: drawn.workers } } else { Owners::One };
        EngineConfig {
            limits: drawn.limits,
            tcp: drawn.tcp,
            mac: mac(machine),
            mtu: drawn.mtu,
            routes: Routes {
                addresses: addresses(machine).to_vec(),
                routes: vec![on_link([10, 0, 0, 0].into(), 24), on_link(v6(0), 64)],
            },
            source_ports: 20_000..=20_000 + drawn.ports - 1,
            worker,
            owners,
            verify_checksums: true,
            secret: HashKey::new(drawn.secret, life),
        }
    }
}

/// The link address of a machine.
pub fn mac(machine: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, host_octet(machine)])
}

fn host_octet(machine: usize) -> u8 {
    u8::try_from(machine + 1).expect("a handful of machines")
}

fn v6(n: u8) -> IpAddr {
    IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(n)])
}

/// The addresses of a machine: one of each family.
pub fn addresses(machine: usize) -> [IpAddr; 2] {
    let n = host_octet(machine);
    [[10, 0, 0, n].into(), v6(n)]
}

fn draw_faults(rng: &mut Rng, kind: Kind, timestamps: bool) -> LinkConfig {
    let delay_us = 10 + any_size(rng, 10_000);
    let jitter_us = any_size(rng, 10_000);
    match kind {
        Kind::Calm => LinkConfig { delay_us, jitter_us: any_size(rng, 1_000), ..LinkConfig::PERFECT },
        // Without timestamps nothing but the clock behind ISNs keeps two incarnations apart, so that a
        // connection must not be quicker than it.
        Kind::Reuse => LinkConfig {
            delay_us: if timestamps { any_size(rng, 1_500) } else { 1_500 } + 10,
            jitter_us: any_size(rng, 2_000),
            loss: some(rng, 20_000),
            duplicate: some(rng, 200_000),
            corrupt: some(rng, 20_000),
            replay: some(rng, 200_000),
            replay_us: pick(rng, &[10_000, 100_000, 1_000_000]),
            ..LinkConfig::PERFECT
        },
        Kind::Lossy => LinkConfig {
            delay_us,
            jitter_us,
            loss: 10_000 + up_to(rng, 290_000),
            duplicate: 10_000 + up_to(rng, 290_000),
            corrupt: 10_000 + up_to(rng, 40_000),
            replay: some(rng, 50_000),
            replay_us: any_size(rng, 1_000_000),
            ..LinkConfig::PERFECT
        },
        Kind::Rough | Kind::Hostile => LinkConfig {
            delay_us,
            jitter_us,
            loss: some(rng, 150_000),
            duplicate: some(rng, 150_000),
            corrupt: some(rng, 50_000),
            replay: some(rng, 50_000),
            replay_us: any_size(rng, 1_000_000),
            ..LinkConfig::PERFECT
        },
    }
}

/// What makes a link a long path through others' equipment, in half of the worlds; a lossy one always reorders.
fn draw_path(rng: &mut Rng, kind: Kind, link: &mut LinkConfig) {
    let is_long = rng.below(2) == 1;
    if kind == Kind::Lossy {
        (link.reorder, link.reorder_us) = (10_000 + up_to(rng, 290_000), 100 + any_size(rng, 20_000));
    }
    if !is_long {
        return;
    }
    link.rate_bps = 1_000_000 << rng.below(11);
    let in_100_ms = u32::try_from(link.rate_bps / 80).expect("a gigabit at most");
    link.queue = match rng.below(2) {
        0 => QueueLimit::Packets(4 + any_size(rng, 60)),
        _ => QueueLimit::Octets(u64::from(any_size(rng, in_100_ms))),
    };
    link.mark = match rng.below(3) {
        0 => Mark::Never,
        1 => Mark::Above(any_size(rng, 30)),
        _ => Mark::Share(up_to(rng, 200_000)),
    };
    if kind == Kind::Lossy {
        return;
    }
    link.bursts = (rng.below(2) == 0).then(|| Bursts::new(up_to(rng, 100_000), 1 + up_to(rng, 9)));
    link.reorder = some(rng, 100_000);
    link.reorder_us = any_size(rng, 20_000);
    // A black hole for full segments, and never for the least that connections fall back to.
    link.mtu = if rng.below(4) == 0 { 600 + u16::try_from(up_to(rng, 900)).expect("small") } else { 0 };
}

fn draw_machine(
    rng: &mut Rng,
    kind: Kind,
    timestamps: bool,
    faults: LinkConfig,
    lifetime: Duration,
) -> Machine {
    let reuse = kind == Kind::Reuse;
    // Near where clocks of 32 bits, in microseconds and milliseconds, turn over, or half over.
    let turns = [1 << 31, 1 << 32, 1_000 << 31, 1_000 << 32];
    let ahead_us = match rng.below(3) {
        0 => 0,
        1 => pick(rng, &turns) - 1_000_000 - u64::from(rng.below(5_000_000)).min(1_000_000),
        _ => rng.next_u64() >> 22,
    };
    Machine {
        workers: if rng.below(4) == 0 { 2 } else { 1 },
        limits: draw_limits(rng, kind),
        tcp: draw_tcp(rng, kind, timestamps, lifetime),
        mtu: pick(rng, &[1_280, 1_400, 1_500, 1_500, 9_000]),
        faults,
        // A SYN-ACK that finds no frame is as good as lost.
        tx_room: if kind.is_gentle() || rng.below(3) > 0 {
            usize::MAX
        } else {
            1 + any_size(rng, 64) as usize
        },
        rx_ring: 1 + any_size(rng, 1_024) as usize,
        ahead: Duration::from_micros(ahead_us),
        secret: rng.next_u64(),
        ports: if reuse { 1 + u16::try_from(any_size(rng, 15)).expect("small") } else { 20_000 },
    }
}

fn draw_limits(rng: &mut Rng, kind: Kind) -> Limits {
    let tight = !kind.is_gentle() && kind != Kind::Reuse && rng.below(2) == 0;
    let most = |rng: &mut Rng, most: u32| if tight { 1 + any_size(rng, most - 1) } else { most };
    // Of what a gentle world needs nothing runs out.
    let ample = if kind.is_gentle() { 512 } else { 0 };
    Limits {
        flows_max: 4 + most(rng, 60) + ample,
        half_open_max: 1 + most(rng, 31) + ample,
        time_wait_max: if kind == Kind::Reuse { 4_096 } else { most(rng, 64) + 32 * ample },
        listeners_max: 4,
        neighbours_max: 8,
        chunk_len: pick(rng, &[256, 512, 2_048]),
        send_chunks: 4 + most(rng, 1_020) + 8 * ample,
        recv_chunks: 4 + most(rng, 1_020) + 8 * ample,
        reassembly_max: most(rng, 64) + ample,
        busy_max: most(rng, 64) + ample,
        models_max: most(rng, 16) + ample,
        options_max: 6 + u16::try_from(rng.below(6)).expect("small"),
        output_burst: 1 + any_size(rng, 15),
    }
}

fn draw_tcp(rng: &mut Rng, kind: Kind, timestamps: bool, lifetime: Duration) -> TcpConfig {
    let two_msl = match kind {
        Kind::Reuse => lifetime * 2,
        // Longer than any FIN takes to come again.
        Kind::Calm => ms(10_000),
        Kind::Lossy => ms(600_000),
        Kind::Rough | Kind::Hostile => ms(u64::from(1 + any_size(rng, 60_000))),
    };
    let drawn = TcpConfig {
        initial_window: pick(rng, &[1, 2, 4, 10]),
        rto: RtoBounds {
            initial_us: pick(rng, &[100_000, 1_000_000, 3_000_000]),
            min_us: pick(rng, &[5_000, 200_000, 1_000_000]),
            max_us: pick(rng, &[4_000_000, 60_000_000]),
        },
        delayed_ack: ms(pick(rng, &[0, 1, 40, 200, 500])),
        quick_acks: pick(rng, &[0, 1, 15]),
        r1: pick(rng, &[1, 3]),
        r2: ms(pick(rng, &[10_000, 100_000])),
        r2_syn: ms(pick(rng, &[10_000, 180_000])),
        syn_ack_retries: u8::try_from(rng.below(6)).expect("small"),
        time_wait: two_msl,
        time_wait_full: pick(rng, &[TimeWaitFull::EvictOldest, TimeWaitFull::RefuseOpens]),
        rfc1337: rng.below(2) == 0,
        fin_wait_2: ms(pick(rng, &[1_000, 60_000])),
        challenge_acks_per_second: pick(rng, &[10, 100, 1_000]),
        timestamps: if kind == Kind::Reuse { timestamps } else { rng.below(4) > 0 },
        window_scale: rng.below(4) > 0,
        sack: rng.below(4) > 0,
        tail_loss_probes: true,
    };
    if kind != Kind::Lossy {
        return drawn;
    }
    // However often it takes: some three hundred attempts.
    let rto = RtoBounds { initial_us: 1_000_000, max_us: 4_000_000, ..drawn.rto };
    TcpConfig { rto, r2: ms(1_200_000), r2_syn: ms(1_200_000), syn_ack_retries: 255, ..drawn }
}

fn draw_rates(rng: &mut Rng, kind: Kind) -> Rates {
    let cross = some(rng, 5_000);
    if !matches!(kind, Kind::Rough | Kind::Hostile) {
        return Rates { cross, ..Rates::default() };
    }
    Rates {
        cross,
        forge: if kind == Kind::Hostile { 10_000 + up_to(rng, 290_000) } else { 0 },
        stall: some(rng, 5_000),
        skip: some(rng, 1_000),
        restart: some(rng, 2_000),
        cut: some(rng, 2_000),
        abort_all: some(rng, 500),
    }
}

fn draw_apps(rng: &mut Rng, kind: Kind, timestamps: bool) -> Apps {
    let orderly = matches!(kind, Kind::Lossy | Kind::Reuse) || rng.below(4) == 0;
    let longest = match (kind, timestamps) {
        (Kind::Reuse, true) => 3_000,
        (Kind::Reuse, false) => 600,
        // Long enough that one loss is not repaired when the next is found.
        (Kind::Lossy, _) => pick(rng, &[10_000, 100_000]),
        _ => pick(rng, &[10, 1_000, 10_000, 10_000, 100_000]),
    };
    Apps {
        gap_us: pick(rng, &[100, 1_000, 20_000]),
        live_max: 1 + up_to(rng, 11),
        longest,
        orderly,
        to_closed_port: if orderly { 0 } else { pick(rng, &[0, 0, 50_000]) },
        pause_accept: if kind == Kind::Reuse { 0 } else { pick(rng, &[0, 0, 20_000]) },
        half_open_max: if kind.is_gentle() { 512 } else { 1 + any_size(rng, 31) },
        backlog: if kind.is_gentle() { 512 } else { 1 + any_size(rng, 15) },
        options: (0..6).map(|_| draw_options(rng, kind)).collect(),
    }
}

/// In half of the worlds every second set of options uses explicit congestion notification.
fn draw_ecn(rng: &mut Rng, options: &mut [FlowOptions]) {
    if rng.below(2) == 0 {
        options.iter_mut().for_each(|options| options.ecn = rng.below(2) == 0);
    }
}

/// In one world of four there is so much to read that windows grow, more than the pools can keep.
fn draw_windows(rng: &mut Rng, apps: &mut Apps) {
    if rng.below(4) > 0 {
        return;
    }
    apps.longest = 1_000_000;
    for options in &mut apps.options {
        if rng.below(3) > 0 {
            (options.recv_buffer, options.send_buffer) = (100_000 << rng.below(6), 1 << 20);
            options.recv_initial = 65_535 << rng.below(4);
        }
    }
}

fn draw_options(rng: &mut Rng, kind: Kind) -> FlowOptions {
    let rare = |rng: &mut Rng| !matches!(kind, Kind::Lossy | Kind::Reuse) && rng.below(8) == 0;
    // Whoever waits for a peer that is gone would wait for ever without it.
    let keep_alive = KeepAlive {
        idle: ms(1_000 + u64::from(any_size(rng, 60_000))),
        interval: ms(500 + u64::from(any_size(rng, 10_000))),
        probes: pick(rng, &[2, 5]),
    };
    let buffers = [64, 536, 2_000, 16_384, 65_535, 65_536, 262_144];
    let algorithms = [CongestionAlgorithm::Cubic, CongestionAlgorithm::NewReno, CongestionAlgorithm::Bbr];
    FlowOptions {
        congestion: pick(rng, &algorithms),
        nagle: rng.below(2) == 0,
        keep_alive: match kind {
            // All probes may well be lost.
            Kind::Lossy => None,
            // As good as none, but for who waits for more from a peer whose one RST came to nothing.
            Kind::Calm if rng.below(2) == 1 => Some(KeepAlive { idle: ms(1_200_000), ..keep_alive }),
            _ => Some(keep_alive),
        },
        user_timeout: rare(rng).then(|| ms(5_000)),
        connect_timeout: rare(rng).then(|| ms(pick(rng, &[100, 5_000]))),
        linger: rare(rng).then(|| ms(pick(rng, &[0, 10, 1_000]))),
        recv_buffer: if kind == Kind::Reuse { 65_536 } else { pick(rng, &buffers) },
        send_buffer: if kind == Kind::Reuse { 65_536 } else { pick(rng, &buffers) },
        dscp: u8::try_from(rng.below(64)).expect("six bits"),
        ttl: pick(rng, &[1, 64, 255]),
        ..FlowOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lossy_worlds_have_every_fault_at_once_and_up_to_three_in_ten_lost() {
        let mut losses = Vec::new();
        for seed in 0..1_000 {
            let drawn = Scenario::draw(seed, Worlds::Lossy);
            let link = drawn.machines[0].faults;
            let faults = [link.loss, link.reorder, link.duplicate, link.corrupt];
            assert!(faults.iter().all(|&share| share >= 10_000), "seed {seed}: {link:?}");
            losses.push(link.loss);
        }
        losses.sort_unstable();
        assert!(losses[500] > 140_000 && (290_000..=300_000).contains(&losses[999]), "{losses:?}");
    }
}
