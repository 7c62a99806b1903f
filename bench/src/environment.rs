//! What a result depends on: the machine, the compiler, and memory as the kernel counts it.
#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::Serialize;

/// Memory that is left to the machine, octets.
pub const SPARE: u64 = 512 << 20;

/// Where a result comes from.
#[derive(Clone, Debug, Serialize)]
pub struct Environment {
    pub cpu: String,
    cores: usize,
    memory_bytes: u64,
    kernel: String,
    transparent_huge_pages: String,
    rustc: &'static str,
}

impl Environment {
    /// This machine; what it does not tell stays empty.
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu: field(&text("/proc/cpuinfo"), "model name").unwrap_or_default().to_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: field(&text("/proc/meminfo"), "MemTotal").and_then(kilobytes).unwrap_or_default(),
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            transparent_huge_pages: bracketed(&text("/sys/kernel/mm/transparent_hugepage/enabled")),
            rustc: env!("BENCH_RUSTC"),
        }
    }
}

/// Memory that could be used without swapping, octets.
pub fn available_bytes() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    field(&text, "MemAvailable").and_then(kilobytes).context("/proc/meminfo has no MemAvailable")
}

/// Fails when less than [`SPARE`] is left, after `done` of `count` were made.
pub fn check_spare(done: u32, count: u32) -> anyhow::Result<()> {
    let spare = available_bytes()?;
    ensure!(spare > SPARE, "memory is short after {done} of {count}: {} MB are left", spare >> 20);
    Ok(())
}

/// Memory that this process has in RAM now, octets. Some kernels count in lots of a few hundred pages.
pub fn resident_bytes() -> anyhow::Result<u64> {
    let text = fs::read_to_string("/proc/self/statm").context("cannot read /proc/self/statm")?;
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    Ok(pages.context("/proc/self/statm has no second number")? * rustix::param::page_size() as u64)
}

/// Writes `report` to the file that `--json` names, if any.
pub fn write_json(path: Option<&PathBuf>, report: &impl Serialize) -> anyhow::Result<()> {
    let Some(path) = path.map(PathBuf::as_path) else { return Ok(()) };
    let cannot = |path: &Path| format!("cannot write {}", path.display());
    fs::write(path, serde_json::to_vec_pretty(report)?).with_context(|| cannot(path))
}

/// The value of the first line `name: value`.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = text.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(key, _)| key.trim() == name).map(|(_, value)| value.trim())
}

/// Octets of a value such as `12 kB`.
fn kilobytes(value: &str) -> Option<u64> {
    let number: u64 = value.strip_suffix("kB")?.trim().parse().ok()?;
    number.checked_mul(1_024)
}

/// The choice that is in force, out of `always [madvise] never`.
fn bracketed(text: &str) -> String {
    let inside = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inside.map(|(choice, _)| choice.to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_writes_is_understood() {
        let text = "MemTotal:       24684012 kB\nMemAvailable:   12 kB\nOdd: 7\n";
        assert_eq!(field(text, "MemAvailable").and_then(kilobytes), Some(12 * 1_024));
        assert_eq!(field(text, "Odd").and_then(kilobytes), None, "no unit");
        assert_eq!(field(text, "Mem"), None, "only part of a name");
        assert_eq!(bracketed("always [madvise] never\n"), "madvise");
        assert_eq!(bracketed(""), "");
    }

    #[test]
    fn memory_in_use_is_seen_to_grow() {
        let before = resident_bytes().expect("statm");
        let octets = std::hint::black_box(vec![1u8; 64 << 20]);
        let grown = resident_bytes().expect("statm").saturating_sub(before);
        assert!(grown > 32 << 20, "{grown} of {} octets", octets.len());
        assert!(available_bytes().expect("meminfo") > 0);
    }
}
