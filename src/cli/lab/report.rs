//! From results to one table and to one list of JSON objects.
#![forbid(unsafe_code)]

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::{Value, json};

use super::plan::{Pairing, Profile, Run, Workload};

/// What one run gave.
#[derive(Clone, Debug)]
pub(super) struct Measurement {
    pub(super) run: Run,
    /// The load generator's JSON.
    pub(super) load: Value,
    /// The server's JSON.
    pub(super) server: Value,
    /// How many CPUs of the whole machine worked on average; `None` if the run was too short to tell.
    pub(super) cpus_busy: Option<f64>,
}

impl Measurement {
    /// Connections, requests or octets per second, as the workload counts.
    fn rate(&self) -> Option<f64> {
        self.number(match self.run.workload.profile {
            Profile::ShortConnections { .. } => "connections_per_second",
            Profile::Requests => "requests_per_second",
            Profile::Bulk { .. } => "bytes_per_second",
        })
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.load.get(key)?.as_f64()
    }

    fn latency_us(&self, percentile: &str) -> Option<f64> {
        self.load.get("latency_us")?.get(percentile)?.as_f64()
    }

    /// CPU seconds of the whole machine for a million connections, requests, or megabytes.
    fn cpu_seconds_per_million(&self) -> Option<f64> {
        let units = match self.run.workload.profile {
            Profile::Bulk { .. } => self.rate()? / 1e6,
            _ => self.rate()?,
        };
        (units > 0.0).then_some(self.cpus_busy? / units * 1e6)
    }

    fn errors(&self) -> u64 {
        let kinds = self.load.get("errors").and_then(Value::as_object);
        kinds.map_or(0, |kinds| kinds.values().filter_map(Value::as_u64).sum())
    }
}

/// One run's rate, for the line that is printed when it ends.
pub(super) fn rate_in_words(measurement: &Measurement) -> String {
    let profile = measurement.run.workload.profile;
    let rate = measurement.rate().map_or_else(|| "no rate".to_owned(), |rate| format_rate(profile, rate));
    match measurement.errors() {
        0 => rate,
        errors => format!("{rate}, {errors} errors"),
    }
}

/// All repeats of one workload and pairing, as medians.
#[derive(Clone, Debug, PartialEq)]
struct Row {
    workload: Workload,
    pairing: Pairing,
    rate: Option<f64>,
    /// The slowest and the fastest repeat.
    spread: Option<(f64, f64)>,
    p50_us: Option<f64>,
    p99_us: Option<f64>,
    packets: Option<f64>,
    cpu_seconds: Option<f64>,
    errors: u64,
    /// The rate compared with the sleeping kernel at both ends.
    ratio: Option<f64>,
}

/// One row for each workload and pairing, in the order in which they were first measured.
fn rows(measurements: &[Measurement]) -> Vec<Row> {
    let mut groups: Vec<Vec<&Measurement>> = Vec::new();
    for measurement in measurements {
        let run = &measurement.run;
        let same = |group: &&mut Vec<&Measurement>| {
            group[0].run.workload == run.workload && group[0].run.pairing == run.pairing
        };
        match groups.iter_mut().find(same) {
            Some(group) => group.push(measurement),
            None => groups.push(vec![measurement]),
        }
    }
    let mut rows: Vec<Row> = groups.iter().map(|group| row(group)).collect();
    let bases: Vec<_> =
        rows.iter().filter(|row| row.pairing == Pairing::BASE).map(|row| (row.workload, row.rate)).collect();
    for row in &mut rows {
        let base = bases.iter().find(|(workload, _)| *workload == row.workload).and_then(|(_, rate)| *rate);
        row.ratio = base.filter(|base| *base > 0.0).zip(row.rate).map(|(base, rate)| rate / base);
    }
    rows
}

fn row(group: &[&Measurement]) -> Row {
    let median_of = |value: fn(&Measurement) -> Option<f64>| median(group.iter().filter_map(|m| value(m)));
    let rates = || group.iter().filter_map(|m| m.rate());
    Row {
        workload: group[0].run.workload,
        pairing: group[0].run.pairing,
        rate: median_of(Measurement::rate),
        spread: rates().reduce(f64::min).zip(rates().reduce(f64::max)),
        p50_us: median_of(|m| m.latency_us("p50")),
        p99_us: median_of(|m| m.latency_us("p99")),
        packets: median_of(|m| m.number("packets_per_connection")),
        cpu_seconds: median_of(Measurement::cpu_seconds_per_million),
        errors: group.iter().map(|m| m.errors()).sum(),
        ratio: None,
    }
}

/// The middle value, or the mean of the two in the middle; `None` of nothing.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

/// The table of a comparison.
pub(super) fn table(measurements: &[Measurement]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header([
        "workload",
        "client -> server",
        "per second",
        "slowest - fastest",
        "p50 us",
        "p99 us",
        "packets/conn",
        "CPU s/million",
        "errors",
        "ratio",
    ]);
    for row in rows(measurements) {
        let profile = row.workload.profile;
        let rate = |rate| format_rate(profile, rate);
        table.add_row([
            Cell::new(row.workload.title),
            Cell::new(row.pairing),
            number(row.rate.map(rate)),
            number(row.spread.map(|(least, most)| format!("{} - {}", rate(least), rate(most)))),
            number(row.p50_us.map(|us| format!("{us:.1}"))),
            number(row.p99_us.map(|us| format!("{us:.1}"))),
            number(row.packets.filter(|_| counts_packets(profile)).map(|packets| format!("{packets:.1}"))),
            number(row.cpu_seconds.map(|seconds| format!("{seconds:.1}"))),
            number(Some(row.errors.to_string())),
            number(row.ratio.map(|ratio| format!("{ratio:.2}"))),
        ]);
    }
    table
}

/// Packets per connection say something only of connections that do one thing.
const fn counts_packets(profile: Profile) -> bool {
    matches!(profile, Profile::ShortConnections { .. })
}

fn number(text: Option<String>) -> Cell {
    Cell::new(text.unwrap_or_else(|| "-".to_owned())).set_alignment(CellAlignment::Right)
}

fn format_rate(profile: Profile, rate: f64) -> String {
    match profile {
        Profile::Bulk { .. } => format!("{:.2} Gbit/s", rate * 8.0 / 1e9),
        _ if rate < 1000.0 => format!("{rate:.0}"),
        _ => format!("{:.1} k", rate / 1000.0),
    }
}

/// The load generator's objects, each with what only the comparison knows.
pub(super) fn json(measurements: &[Measurement]) -> Value {
    measurements.iter().map(object).collect()
}

fn object(measurement: &Measurement) -> Value {
    let run = &measurement.run;
    let mut object = measurement.load.clone();
    if let Some(fields) = object.as_object_mut() {
        let mut add = |key: &str, value: Value| fields.insert(key.to_owned(), value);
        add("workload", json!(run.workload.title));
        add("repeat", json!(run.repeat + 1));
        add("server_backend", json!(run.pairing.server.flag()));
        add("kernel_spins", json!(run.pairing.spin));
        add("offloads", json!(run.pairing.offloads()));
        add("cpus_busy", json!(measurement.cpus_busy));
        add("cpu_seconds_per_million", json!(measurement.cpu_seconds_per_million()));
        add("server_cpu_seconds", measurement.server.get("cpu_seconds").cloned().unwrap_or_default());
        add("server", measurement.server.clone());
    }
    object
}

#[cfg(test)]
mod tests {
    use super::super::plan::{Backend, Settings, runs};
    use super::*;
    use crate::io::xdp::XdpMode;

    fn settings(repeat: u32) -> Settings {
        Settings {
            repeat,
            duration_s: 1.0,
            warmup_s: 0.0,
            workers: 1,
            bulk: false,
            mode: XdpMode::Generic,
            client_cpus: "1".to_owned(),
            server_cpus: "0".to_owned(),
        }
    }

    /// ringroad at both ends is five times as fast, and every repeat is 10 % faster than the one before.
    fn measurements(repeat: u32) -> Vec<Measurement> {
        runs(&settings(repeat))
            .into_iter()
            .map(|run| {
                let fast = run.pairing.client == Backend::Ringroad && run.pairing.server == Backend::Ringroad;
                let rate = if fast { 5.0 } else { 1.0 } * 20_000.0 * (1.0 + 0.1 * f64::from(run.repeat));
                let load = json!({
                    "connections_per_second": rate,
                    "requests_per_second": rate,
                    "latency_us": {"p50": 10.0, "p99": 20.0},
                    "packets_per_connection": 6.0,
                    "errors": {"timeout": 1, "reset": 2},
                });
                Measurement { run, load, server: json!({"cpu_seconds": 0.5}), cpus_busy: Some(2.0) }
            })
            .collect()
    }

    #[test]
    fn repeats_of_a_pairing_become_one_row_of_medians() {
        let rows = rows(&measurements(3));
        assert_eq!(rows.len(), 17);
        let base = &rows[0];
        assert_eq!((base.pairing, base.rate, base.errors), (Pairing::BASE, Some(22_000.0), 9));
        assert_eq!(base.spread, Some((20_000.0, 24_000.0)));
        assert_eq!(base.cpu_seconds.map(f64::round), Some(91.0));
    }

    #[test]
    fn ratios_are_to_the_sleeping_kernel_at_the_same_workload() {
        let mut measurements = measurements(1);
        // Another workload's kernel is no base for the others.
        measurements[4].load["connections_per_second"] = json!(1.0);
        let rows = rows(&measurements);
        assert_eq!(rows[1].ratio, Some(5.0));
        assert_eq!(rows[5].ratio, Some(100_000.0));
    }

    #[test]
    fn without_a_kernel_run_there_is_no_ratio() {
        let measurements = measurements(1);
        assert_eq!(rows(&measurements[1..2])[0].ratio, None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        for (values, expected) in [(&[][..], None), (&[3.0], Some(3.0)), (&[9.0, 1.0, 4.0, 2.0], Some(3.0))] {
            assert_eq!(median(values.iter().copied()), expected, "{values:?}");
        }
    }

    #[test]
    fn the_table_shows_rate_latency_packets_and_ratio() {
        let table = table(&measurements(1)).to_string();
        let line = table.lines().find(|line| line.contains("ringroad -> ringroad")).expect("a row");
        for word in ["100.0 k", "10.0", "20.0", "6.0", "20.0", "5.00"] {
            assert!(line.contains(word), "{word} in {line}");
        }
    }

    #[test]
    fn what_a_run_did_not_report_is_a_dash() {
        let mut measurement = measurements(1).remove(0);
        measurement.load = json!({});
        measurement.cpus_busy = None;
        let table = table(&[measurement]).to_string();
        let dashes =
            table.lines().last().expect("a row").split('|').filter(|cell| cell.trim() == "-").count();
        assert_eq!(dashes, 7, "{table}");
    }

    #[test]
    fn json_keeps_the_generators_keys_and_adds_the_servers() {
        let list = json(&measurements(1));
        let first = &list[0];
        assert_eq!(first["connections_per_second"], json!(20_000.0));
        assert_eq!(first["server_backend"], json!("kernel"));
        assert_eq!(first["server_cpu_seconds"], json!(0.5));
        assert_eq!(first["repeat"], json!(1));
    }
}
