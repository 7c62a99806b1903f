//! What a command's tables take, and whether the machine has it: asked before anything is allocated.
#![forbid(unsafe_code)]

use std::fs;
use std::string::String;

use anyhow::bail;
use comfy_table::{CellAlignment, Table, presets};

use super::parse;
use crate::stack::{Limits, MemoryPlan};

/// How much each worker may hold.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Memory {
    /// TIME-WAIT records that each worker of --backend xdp has room for: closes per second times --time-wait
    #[arg(long, value_name = "N", default_value_t = 1_048_576,
        value_parser = clap::value_parser!(u32).range(1..=268_435_456))]
    max_time_wait: u32,
    /// Connections in the middle of a handshake that each worker of --backend xdp has room for
    #[arg(long, value_name = "N", default_value_t = 32_768,
        value_parser = clap::value_parser!(u32).range(1..=16_777_216))]
    max_half_open: u32,
    /// Octets of send buffers, and as many of receive buffers, of each worker of --backend xdp (256m); by
    /// default 256m, or a sixteenth of the memory that is free where that is less. Windows grow as far as these
    /// buffers can keep what they offer
    #[arg(long, value_name = "SIZE", value_parser = parse::size)]
    buffers: Option<u64>,
    /// Print what the tables of --backend xdp would take, and end
    #[arg(long)]
    pub plan: bool,
}

impl Memory {
    /// The limits of each of `workers` engines.
    ///
    /// # Errors
    ///
    /// When `--buffers` is more than can be counted.
    pub fn limits(&self, flows_max: u32, workers: u16) -> anyhow::Result<Limits> {
        let defaults = Limits::default();
        let customary = u64::from(defaults.send_chunks) * u64::from(defaults.chunk_len);
        let spare = available().map_or(u64::MAX, |octets| octets / 16 / u64::from(workers));
        let buffers = self.buffers.unwrap_or(customary.min(spare));
        let Ok(chunks) = u32::try_from(buffers.div_ceil(u64::from(defaults.chunk_len))) else {
            bail!("--buffers {buffers} is more than one worker can have; use 8192g or less");
        };
        Ok(Limits {
            flows_max,
            half_open_max: self.max_half_open,
            time_wait_max: self.max_time_wait,
            send_chunks: chunks.max(1),
            recv_chunks: chunks.max(1),
            ..defaults
        })
    }
}

/// Octets that programs can still have, as the kernel estimates it; `None` where it does not say.
fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1_024)
}

/// Refuses what the machine cannot hold.
///
/// # Errors
///
/// One sentence with the largest limits of these proportions that fit.
pub(super) fn check(limits: &Limits, workers: u16, ipv6: bool) -> anyhow::Result<()> {
    match available() {
        Some(octets) => fits(limits, workers, ipv6, octets),
        None => Ok(()),
    }
}

fn fits(limits: &Limits, workers: u16, ipv6: bool, available: u64) -> anyhow::Result<()> {
    let wanted = MemoryPlan::new(limits, ipv6).octets() * u64::from(workers);
    if wanted <= available {
        return Ok(());
    }
    let (wanted, has) = (in_words(wanted), in_words(available));
    match limits.fitted(available / u64::from(workers), ipv6) {
        Some(Limits { flows_max, half_open_max, time_wait_max, send_chunks, chunk_len, .. }) => bail!(
            "the tables take {wanted} and the machine has {has} left; per worker {flows_max} connections with \
             --max-half-open {half_open_max} --max-time-wait {time_wait_max} --buffers {} would fit (see --plan)",
            u64::from(send_chunks) * u64::from(chunk_len)
        ),
        None => bail!("the tables take {wanted} and the machine has only {has} left; use a larger machine"),
    }
}

/// The plan of all workers as a table.
pub(super) fn describe(limits: &Limits, workers: u16, ipv6: bool) -> String {
    let plan = MemoryPlan::new(limits, ipv6);
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["per worker", "count", "octets each", "in all"]);
    for item in plan.items().iter().filter(|item| item.count > 0) {
        let each = item.octets.div_ceil(item.count);
        table.add_row([item.name, &grouped(item.count), &grouped(each), &in_words(item.octets)]);
    }
    table.add_row(["one worker", "", "", &in_words(plan.octets())]);
    let all = in_words(plan.octets() * u64::from(workers));
    table.add_row([&*std::format!("{workers} in all"), "", "", &*all]);
    if let Some(octets) = available() {
        table.add_row(["the machine has left", "", "", &in_words(octets)]);
    }
    table.column_iter_mut().skip(1).for_each(|column| column.set_cell_alignment(CellAlignment::Right));
    std::format!("{table}")
}

/// `1.5 GiB`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
fn in_words(octets: u64) -> String {
    let (unit, name) = match octets {
        0x4000_0000.. => (1 << 30, "GiB"),
        0x10_0000.. => (1 << 20, "MiB"),
        _ => (1 << 10, "KiB"),
    };
    std::format!("{:.1} {name}", octets as f64 / f64::from(unit))
}

/// `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = std::format!("{n}");
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<std::vec::Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let limits = Limits::default();
        let all = MemoryPlan::new(&limits, false).octets();
        assert!(fits(&limits, 2, false, 2 * all).is_ok());
        let told = fits(&limits, 2, false, all).expect_err("it is half of what is needed").to_string();
        let fitted = limits.fitted(all / 2, false).expect("a half fits");
        for part in ["left; per worker", &fitted.flows_max.to_string(), &fitted.time_wait_max.to_string()] {
            assert!(told.contains(part), "{told}");
        }
        let told = fits(&limits, 1, false, 1_000).expect_err("nothing fits").to_string();
        assert!(told.ends_with("use a larger machine"), "{told}");
    }

    #[test]
    fn the_plan_is_a_table_with_a_sum() {
        let limits = Limits::default();
        let text = describe(&limits, 2, true);
        for part in ["connections", "131,072", "TIME-WAIT records", "1,048,576", "IPv6 addresses", "2 in all"]
        {
            assert!(text.contains(part), "{text}");
        }
        assert!(!describe(&limits, 1, false).contains("IPv6"));
    }

    #[test]
    fn numbers_are_told_in_words() {
        for (octets, want) in [(0, "0.0 KiB"), (1 << 20, "1.0 MiB"), (3 << 29, "1.5 GiB")] {
            assert_eq!(in_words(octets), want);
        }
        for (n, want) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(n), want);
        }
    }
}
