//! Which runs a comparison is made of, in which order, and the command lines of each.
#![forbid(unsafe_code)]

use std::fmt;

use super::network::{End, Lab};
use crate::io::xdp::XdpMode;

/// A TCP implementation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backend {
    Kernel,
    Ringroad,
}

impl Backend {
    /// The value of `--backend`.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Ringroad => "xdp",
        }
    }
}

/// Whose TCP is at which end, and how a kernel end waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pairing {
    pub(super) client: Backend,
    pub(super) server: Backend,
    /// Kernel ends poll without sleeping. ringroad always does.
    pub(super) spin: bool,
}

impl Pairing {
    /// What all others are compared with.
    pub(super) const BASE: Self = Self::new(Backend::Kernel, Backend::Kernel);

    const fn new(client: Backend, server: Backend) -> Self {
        Self { client, server, spin: false }
    }

    /// A kernel may leave checksums and segmentation to the device only when its peer is a kernel too.
    pub(super) fn offloads(self) -> bool {
        self.client == Backend::Kernel && self.server == Backend::Kernel
    }

    const fn backend(self, end: End) -> Backend {
        match end {
            End::Client => self.client,
            End::Server => self.server,
        }
    }
}

impl fmt::Display for Pairing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |backend| match backend {
            Backend::Kernel => "kernel",
            Backend::Ringroad => "ringroad",
        };
        let how = if self.spin { ", spinning" } else { "" };
        write!(f, "{} -> {}{how}", word(self.client), word(self.server))
    }
}

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// Connect, one request, one reply, close; the word says who closes first.
    ShortConnections { close: &'static str },
    /// Requests on connections that stay open.
    Requests,
    /// Throughput in one direction.
    Bulk { direction: &'static str },
}

impl Profile {
    /// The value of `--profile`.
    pub(super) const fn flag(self) -> &'static str {
        match self {
            Self::ShortConnections { .. } => "crr",
            Self::Requests => "rr",
            Self::Bulk { .. } => "bulk",
        }
    }
}

/// One line of work that all pairings do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Workload {
    pub(super) title: &'static str,
    pub(super) profile: Profile,
    pub(super) connections: u32,
}

/// The workloads of every comparison.
pub(super) const WORKLOADS: [Workload; 4] = [
    Workload {
        title: "short connections, client closes first",
        profile: Profile::ShortConnections { close: "client" },
        connections: 64,
    },
    Workload {
        title: "short connections, server closes first",
        profile: Profile::ShortConnections { close: "server" },
        connections: 64,
    },
    Workload { title: "requests on 64 connections", profile: Profile::Requests, connections: 64 },
    Workload { title: "requests on 1 connection", profile: Profile::Requests, connections: 1 },
];

/// The workloads that `--bulk` adds.
pub(super) const BULK: [Workload; 2] = [
    Workload {
        title: "bulk, server to client",
        profile: Profile::Bulk { direction: "down" },
        connections: 4,
    },
    Workload { title: "bulk, client to server", profile: Profile::Bulk { direction: "up" }, connections: 4 },
];

impl Workload {
    /// The pairings to measure, the base first.
    fn pairings(self) -> Vec<Pairing> {
        use Backend::{Kernel, Ringroad};
        let mut pairings = vec![
            Pairing::BASE,
            Pairing::new(Ringroad, Ringroad),
            Pairing::new(Ringroad, Kernel),
            Pairing::new(Kernel, Ringroad),
        ];
        // One connection measures latency, and a sleeping kernel's is mostly the cost of waking up.
        if self.connections == 1 {
            pairings.insert(1, Pairing { spin: true, ..Pairing::BASE });
        }
        pairings
    }
}

/// One server and one generator, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) workload: Workload,
    pub(super) pairing: Pairing,
    /// From zero.
    pub(super) repeat: u32,
    /// The server's first port.
    pub(super) port: u16,
}

/// How the runs are made, the same for all.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) repeat: u32,
    pub(super) duration_s: f64,
    pub(super) warmup_s: f64,
    pub(super) workers: u32,
    pub(super) bulk: bool,
    /// How ringroad's ends get their frames.
    pub(super) mode: XdpMode,
    /// The cores of the client's workers and of the server's, as `--cpus` takes them.
    pub(super) client_cpus: String,
    pub(super) server_cpus: String,
}

/// Ports a server listens on, so that short connections do not run out of four-tuples.
const PORTS: u16 = 16;

/// All runs, interleaved so that a slow minute of the machine strikes every pairing alike.
///
/// Each run has ports of its own, so none meets the TIME-WAIT of another.
pub(super) fn runs(settings: &Settings) -> Vec<Run> {
    const FIRST_PORT: u16 = 8000;
    let workloads = WORKLOADS.iter().chain(BULK.iter().filter(|_| settings.bulk));
    let mut runs = Vec::new();
    for repeat in 0..settings.repeat {
        for workload in workloads.clone() {
            for pairing in workload.pairings() {
                runs.push(Run { workload: *workload, pairing, repeat, port: 0 });
            }
        }
    }
    // After some 1,400 runs the ports come round again; TIME-WAIT is long over by then.
    let ports = (FIRST_PORT..31_000).step_by(PORTS.into()).cycle();
    for (run, port) in runs.iter_mut().zip(ports) {
        run.port = port;
    }
    runs
}

impl Run {
    /// The arguments of `ringroad` at an end, without `--json`.
    pub(super) fn arguments(&self, end: End, settings: &Settings) -> Vec<String> {
        let endpoint = format!("10.77.0.1:{}-{}", self.port, self.port + PORTS - 1);
        let (command, endpoint_flag, cpus) = match end {
            End::Server => ("serve", "--listen", &settings.server_cpus),
            End::Client => ("load", "--target", &settings.client_cpus),
        };
        let mut line = vec![command.to_owned()];
        let mut add = |flag: &str, value: &str| line.extend([flag.to_owned(), value.to_owned()]);
        add("--dev", Lab::INTERFACE);
        add(endpoint_flag, &endpoint);
        add("--app", self.app(end));
        add("--backend", self.pairing.backend(end).flag());
        add("--workers", &settings.workers.to_string());
        add("--cpus", cpus);
        if self.pairing.backend(end) == Backend::Ringroad {
            add("--mode", settings.mode.label());
        }
        if let Profile::ShortConnections { close } = self.workload.profile {
            add("--close", close);
        }
        if !matches!(self.workload.profile, Profile::Bulk { .. }) {
            add("--request-size", "64");
        }
        if end == End::Client {
            self.add_load(settings, add);
        }
        if self.pairing.spin {
            line.extend(["--idle".to_owned(), "spin".to_owned()]);
        }
        line
    }

    fn add_load(&self, settings: &Settings, mut add: impl FnMut(&str, &str)) {
        add("--profile", self.workload.profile.flag());
        add("--connections", &self.workload.connections.to_string());
        add("--source", &sources());
        match self.workload.profile {
            Profile::Bulk { direction } => add("--direction", direction),
            _ => add("--reply-size", "64"),
        }
        add("--duration", &settings.duration_s.to_string());
        add("--warmup", &settings.warmup_s.to_string());
    }

    const fn app(&self, end: End) -> &'static str {
        match (self.workload.profile, end) {
            (Profile::Bulk { direction }, End::Server) => match direction.as_bytes() {
                b"down" => "chargen",
                _ => "discard",
            },
            _ => "echo",
        }
    }
}

/// The client's IPv4 addresses, separated by commas.
fn sources() -> String {
    let addresses = End::Client.addresses();
    let v4: Vec<_> = addresses.iter().filter(|(ip, _)| ip.is_ipv4()).map(|(ip, _)| ip.to_string()).collect();
    v4.join(",")
}

/// Splits the cores between the ends: the first half serves, the second half asks, at most `workers` each.
///
/// A single core is shared.
pub(super) fn split_cpus(cores: &[usize], workers: usize) -> [String; 2] {
    let (server, client) = match cores {
        [_] => (cores, cores),
        _ => cores.split_at(cores.len() / 2),
    };
    [server, client].map(|half| {
        let ids: Vec<_> = half.iter().take(workers).map(ToString::to_string).collect();
        ids.join(",")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn settings() -> Settings {
        Settings {
            repeat: 5,
            duration_s: 3.0,
            warmup_s: 0.5,
            workers: 1,
            bulk: false,
            mode: XdpMode::ZeroCopy,
            client_cpus: "1".to_owned(),
            server_cpus: "0".to_owned(),
        }
    }

    /// What follows `flag` on a command line.
    fn value<'a>(line: &'a [String], flag: &str) -> Option<&'a str> {
        let at = line.iter().position(|word| word == flag)?;
        Some(&line[at + 1])
    }

    #[test]
    fn every_repeat_measures_every_pairing_before_the_next() {
        let runs = runs(&settings());
        assert_eq!(runs.len(), 5 * (4 * 4 + 1));
        assert!(runs.is_sorted_by_key(|run| run.repeat));
    }

    #[test]
    fn no_two_runs_share_a_port() {
        let runs = runs(&settings());
        let ports: HashSet<_> = runs.iter().flat_map(|run| run.port..run.port + PORTS).collect();
        assert_eq!(ports.len(), runs.len() * usize::from(PORTS));
    }

    #[test]
    fn ports_lie_below_the_kernels_ephemeral_range_however_many_runs_there_are() {
        let runs = runs(&Settings { repeat: 1000, ..settings() });
        assert!(runs.iter().all(|run| (8000..32_768 - PORTS).contains(&run.port)));
    }

    #[test]
    fn both_ends_agree_and_are_what_the_pairing_says() {
        for run in runs(&Settings { bulk: true, ..settings() }) {
            let server = run.arguments(End::Server, &settings());
            let client = run.arguments(End::Client, &settings());
            assert_eq!(value(&server, "--listen"), value(&client, "--target"));
            assert_eq!(value(&server, "--close"), value(&client, "--close"));
            assert_eq!(value(&server, "--backend"), Some(run.pairing.server.flag()));
            assert_eq!(value(&client, "--backend"), Some(run.pairing.client.flag()));
            for (line, backend) in [(&server, run.pairing.server), (&client, run.pairing.client)] {
                let mode = (backend == Backend::Ringroad).then_some("zero-copy");
                assert_eq!(value(line, "--mode"), mode, "{backend:?}");
            }
        }
    }

    #[test]
    fn offloads_are_for_kernels_among_themselves() {
        for pairing in WORKLOADS[3].pairings() {
            let kernels = pairing.client == pairing.server && pairing.client == Backend::Kernel;
            assert_eq!(pairing.offloads(), kernels, "{pairing}");
        }
    }

    #[test]
    fn cores_are_split_between_the_ends() {
        for (cores, workers, server, client, why) in [
            (&[0, 1][..], 1, "0", "1", "two cores, one each"),
            (&[3], 1, "3", "3", "a single core is shared"),
            (&[0, 1, 2, 3], 1, "0", "2", "no more cores than workers"),
            (&[0, 1, 2, 3], 2, "0,1", "2,3", "half and half"),
            (&[0, 1], 2, "0", "1", "workers that outnumber cores share them"),
        ] {
            assert_eq!(split_cpus(cores, workers), [server, client], "{why}");
        }
    }
}
