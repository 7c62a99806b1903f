//! The result of one run: a JSON object, a summary for people, a histogram log.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::string::{String, ToString};
use std::time::Duration;
use std::vec::Vec;

use anyhow::anyhow;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde::Serialize;

use super::{AppKind, CloseSide, Environment, NetSample, Plan, Profile, Recorder};
use crate::base::{Counter, Counters};

/// One run, as `--json` writes it.
#[derive(Clone, Debug, Serialize)]
pub struct RunReport {
    /// How exchanges and connections relate.
    pub profile: Profile,
    /// The protocol.
    pub app: AppKind,
    /// `xdp` or `kernel`.
    pub backend: String,
    /// Who closes first.
    pub close: CloseSide,
    /// Connections at a time, as configured.
    pub connections: u32,
    /// Short connections completed in the measured time; where they stay open, all that were established.
    pub connections_total: u64,
    /// The measured time, s.
    pub duration_s: f64,
    /// Which repetition this is, from 1.
    pub repeat: u32,
    /// Exchanges per second of the open loop; `None` is the closed loop.
    pub rate: Option<u64>,
    /// Short connections completed per second; zero where they stay open.
    pub connections_per_second: f64,
    /// Exchanges completed per second.
    pub requests_per_second: f64,
    /// Octets of text per second: received, or sent when it is a bulk transfer upwards.
    pub bytes_per_second: f64,
    /// The whole exchange; `None` for bulk.
    pub latency_us: Option<Latency>,
    /// The handshake; `None` when none fell into the measured time.
    pub connect_us: Option<Latency>,
    /// Until the reply began; `None` for bulk.
    pub first_byte_us: Option<Latency>,
    /// Packets both ways for one short connection; `None` for other profiles.
    pub packets_per_connection: Option<f64>,
    /// CPU time of this process in the measured time, s.
    pub cpu_seconds: f64,
    /// Failures by kind.
    pub errors: BTreeMap<String, u64>,
    /// Segments sent again.
    pub retransmits: u64,
    /// On the kernel: sockets in TIME-WAIT at the end. On ringroad: TIME-WAIT records made.
    pub time_wait: u64,
    /// What the engine, or the kernel in the measured time, has counted.
    pub counters: BTreeMap<String, u64>,
    /// The machine.
    pub environment: Environment,
}

/// Quantiles of a histogram, us.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90 of 100 are below.
    pub p90: f64,
    /// 99 of 100 are below.
    pub p99: f64,
    /// 999 of 1000 are below.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

impl Latency {
    /// `None` when nothing was recorded.
    pub fn of(ns: &Histogram<u64>) -> Option<Self> {
        let at = |q| to_f64(ns.value_at_quantile(q)) / 1e3;
        let max = to_f64(ns.max()) / 1e3;
        (!ns.is_empty()).then(|| Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max })
    }
}

/// What a report is made of.
#[derive(Debug)]
pub struct ReportInput<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// `xdp` or `kernel`.
    pub backend: &'a str,
    /// Which repetition.
    pub repeat: u32,
    /// All workers' measurements.
    pub recorder: &'a Recorder,
    /// CPU time spent in the measured time, s.
    pub cpu_seconds: f64,
    /// The engines' counters; `None` on the kernel.
    pub counters: Option<&'a Counters>,
    /// Everything that engines, queues and the steering program counted, by name; `None` on the kernel.
    pub all_counted: Option<BTreeMap<String, u64>>,
    /// The kernel's counters at the beginning and at the end of the measured time.
    pub net: (&'a NetSample, &'a NetSample),
    /// The machine.
    pub environment: Environment,
}

impl RunReport {
    /// Puts the report together.
    pub fn new(input: ReportInput<'_>) -> Self {
        let ReportInput { plan, recorder, .. } = input;
        let profile = plan.workload.profile;
        let duration_s = recorder.window().to.since(recorder.window().from).as_secs_f64();
        let per_second = |n: u64| if duration_s > 0.0 { to_f64(n) / duration_s } else { 0.0 };
        let is_crr = profile == Profile::Crr;
        let octets = if plan.workload.is_upwards() { recorder.sent } else { recorder.received };
        let timed = (profile != Profile::Bulk).then_some(recorder);
        let network = Network::new(&input);
        Self {
            profile,
            app: plan.workload.app,
            backend: input.backend.to_string(),
            close: plan.workload.close,
            connections: plan.connections,
            connections_total: if is_crr { recorder.connections } else { recorder.established },
            duration_s,
            repeat: input.repeat,
            rate: plan.rate,
            connections_per_second: if is_crr { per_second(recorder.connections) } else { 0.0 },
            requests_per_second: per_second(recorder.requests),
            bytes_per_second: per_second(octets),
            latency_us: timed.and_then(|r| Latency::of(&r.exchange)),
            connect_us: Latency::of(&recorder.connect),
            first_byte_us: timed.and_then(|r| Latency::of(&r.first_byte)),
            packets_per_connection: network.packets_per_connection.filter(|_| is_crr),
            cpu_seconds: input.cpu_seconds,
            errors: recorder.errors().into_iter().map(|(kind, n)| (kind.to_string(), n)).collect(),
            retransmits: network.retransmits,
            time_wait: network.time_wait,
            counters: network.counters,
            environment: input.environment,
        }
    }
}

/// The part of a report that each backend knows in its own way.
struct Network {
    packets_per_connection: Option<f64>,
    retransmits: u64,
    time_wait: u64,
    counters: BTreeMap<String, u64>,
}

impl Network {
    fn new(input: &ReportInput<'_>) -> Self {
        match input.counters {
            Some(counters) => Self::of_engine(counters, input.all_counted.clone().unwrap_or_default()),
            None => Self::of_kernel(input),
        }
    }

    fn of_engine(counters: &Counters, all_counted: BTreeMap<String, u64>) -> Self {
        let get = |counter| counters.get(counter);
        Self {
            packets_per_connection: ratio(
                get(Counter::SegmentsIn) + get(Counter::SegmentsOut),
                get(Counter::Established),
            ),
            retransmits: get(Counter::Retransmits),
            time_wait: get(Counter::TimeWaitCreated),
            counters: all_counted,
        }
    }

    fn of_kernel(input: &ReportInput<'_>) -> Self {
        let (before, after) = input.net;
        let both_ways = after.grown(before, "InSegs") + after.grown(before, "OutSegs");
        // On loopback both ends are counted here, and each packet is sent once and received once.
        let is_loopback = input.plan.targets.iter().all(|target| target.ip().is_loopback());
        let packets = if is_loopback { both_ways / 2 } else { both_ways };
        Self {
            packets_per_connection: ratio(packets, input.recorder.connections),
            retransmits: after.grown(before, "RetransSegs"),
            time_wait: after.time_wait,
            counters: after.all_grown(before),
        }
    }
}

fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| to_f64(a) / to_f64(b))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people; counts stay far below 2^53")]
fn to_f64(n: u64) -> f64 {
    n as f64
}

impl fmt::Display for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} connections, {:.2} s measured, {}",
            self.connections, self.duration_s, self.environment.mode
        )?;
        if self.profile == Profile::Crr {
            writeln!(f, "  connections  {:>12.0} /s", self.connections_per_second)?;
        }
        if self.requests_per_second > 0.0 {
            writeln!(f, "  requests     {:>12.0} /s", self.requests_per_second)?;
        }
        let megabits = self.bytes_per_second * 8.0 / 1e6;
        writeln!(f, "  text         {megabits:>12.1} Mbit/s")?;
        for (name, latency) in
            [("connect", self.connect_us), ("first byte", self.first_byte_us), ("exchange", self.latency_us)]
        {
            let Some(l) = latency else { continue };
            writeln!(
                f,
                "  {name:<12} p50 {:.1}  p90 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} us",
                l.p50, l.p90, l.p99, l.p999, l.max
            )?;
        }
        if let Some(packets) = self.packets_per_connection {
            writeln!(f, "  packets      {packets:>12.2} per connection")?;
        }
        writeln!(f, "  CPU          {:>12.2} s", self.cpu_seconds)?;
        writeln!(f, "  retransmits  {:>12}   TIME-WAIT {}", self.retransmits, self.time_wait)?;
        if self.errors.is_empty() {
            return write!(f, "  no errors");
        }
        write!(f, "  errors      ")?;
        self.errors.iter().try_for_each(|(kind, n)| write!(f, " {kind} {n}"))
    }
}

/// Writes the three histograms as one HdrHistogram V2 interval log, values in ns, tagged by what they time.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn write_hdr_log(out: &mut impl std::io::Write, recorder: &Recorder) -> anyhow::Result<()> {
    let now = std::time::SystemTime::now();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    let builder =
        builder.add_comment("[ringroad load, nanoseconds]").with_start_time(now).with_base_time(now);
    let mut log = builder.begin_log_with(out, &mut serializer)?;
    let length = recorder.window().to.since(recorder.window().from);
    let named: [(&str, &Histogram<u64>); 3] = [
        ("connect", &recorder.connect),
        ("first_byte", &recorder.first_byte),
        ("exchange", &recorder.exchange),
    ];
    for (name, histogram) in named {
        log.write_histogram(histogram, Duration::ZERO, length, Tag::new(name))
            .map_err(|error| anyhow!("cannot write the histogram log: {error}"))?;
    }
    Ok(())
}

impl RunReport {
    /// The JSON object, indented.
    ///
    /// # Errors
    ///
    /// None that can happen with these types; serde's signature has one.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;
    use crate::load::{Direction, Window, Workload};
    use serde_json::Value;

    fn report(profile: Profile, target: &str, net: (&str, &str)) -> (Value, String) {
        let plan = Plan {
            workload: Workload {
                profile,
                app: AppKind::Echo,
                close: CloseSide::Server,
                direction: Direction::Down,
                request_size: 64,
                reply_size: 64,
                path: "/".into(),
            },
            targets: Vec::from([target.parse().unwrap()]),
            sources: Vec::new(),
            connections: 64,
            rate: None,
            warmup: Duration::ZERO,
            duration: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
            workers: 1,
        };
        let mut recorder = Recorder::new(Window { from: Instant::ZERO, to: Instant::from_millis(2_000) });
        for ms in 1..=100 {
            let at = Instant::from_millis(ms);
            recorder.on_exchange(at, Instant::ZERO, Instant::from_micros(500));
            recorder.on_finished(at);
        }
        recorder.on_errors(Instant::from_millis(1), super::super::ErrorKind::Refused, 2);
        let sample = |text: &str| NetSample::parse(text);
        let (before, after) = (sample(net.0), sample(net.1));
        let made = RunReport::new(ReportInput {
            plan: &plan,
            backend: "kernel",
            repeat: 1,
            recorder: &recorder,
            cpu_seconds: 0.5,
            counters: None,
            all_counted: None,
            net: (&before, &after),
            environment: Environment::read("epoll", None),
        });
        (serde_json::from_slice(&made.to_json().unwrap()).unwrap(), made.to_string())
    }

    const NET: (&str, &str) = (
        "Tcp: InSegs OutSegs RetransSegs\nTcp: 0 0 1\n",
        "Tcp: InSegs OutSegs RetransSegs\nTcp: 500 500 4\n",
    );

    #[test]
    fn the_object_has_the_documented_keys() {
        let (json, text) = report(Profile::Crr, "10.0.0.1:7", NET);
        for key in [
            "profile",
            "app",
            "backend",
            "close",
            "connections",
            "connections_total",
            "duration_s",
            "repeat",
            "connections_per_second",
            "requests_per_second",
            "bytes_per_second",
            "latency_us",
            "packets_per_connection",
            "cpu_seconds",
            "errors",
            "environment",
            "connect_us",
            "first_byte_us",
            "retransmits",
            "time_wait",
            "counters",
        ] {
            assert!(json.get(key).is_some(), "{key} is missing");
        }
        assert_eq!(
            (&json["profile"], &json["app"], &json["close"]),
            (&"crr".into(), &"echo".into(), &"server".into())
        );
        assert_eq!(json["errors"], serde_json::json!({"refused": 2}));
        assert_eq!(json["connections_total"], 100);
        assert_eq!(json["connections_per_second"], 50.0);
        assert_eq!(json["retransmits"], 3);
        let keys: Vec<_> = json["latency_us"].as_object().unwrap().keys().collect();
        assert_eq!(keys, ["max", "p50", "p90", "p99", "p999"]);
        assert!((json["latency_us"]["p50"].as_f64().unwrap() - 50_000.0).abs() < 50.0);
        assert!(text.contains("refused 2") && text.contains("p99.9"), "{text}");
    }

    #[test]
    fn packets_are_per_short_connection_and_loopback_counts_them_once() {
        for (profile, target, packets) in [
            (Profile::Crr, "10.0.0.1:7", Some(10.0)),
            (Profile::Crr, "127.0.0.1:7", Some(5.0)),
            (Profile::Rr, "10.0.0.1:7", None),
        ] {
            assert_eq!(report(profile, target, NET).0["packets_per_connection"].as_f64(), packets);
        }
    }

    #[test]
    fn bulk_has_no_latency() {
        let (json, _) = report(Profile::Bulk, "10.0.0.1:7", NET);
        assert!(json["latency_us"].is_null() && json["first_byte_us"].is_null());
    }

    #[test]
    fn the_histogram_log_can_be_read_back() {
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
        let mut recorder = Recorder::new(Window { from: Instant::ZERO, to: Instant::from_millis(9) });
        recorder.on_established(Instant::from_millis(2), Instant::ZERO);
        let mut out = Vec::new();
        write_hdr_log(&mut out, &recorder).unwrap();
        let tags: Vec<_> = IntervalLogIterator::new(&out)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(one) => Some(one.tag().unwrap().as_str().to_string()),
                _ => None,
            })
            .collect();
        assert_eq!(tags, ["connect", "first_byte", "exchange"]);
    }
}
