//! The machine a figure was taken on, and what its kernel counts meanwhile.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::format;
use std::fs;
use std::string::{String, ToString};

use serde::Serialize;

/// What a result depends on besides the program's arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Environment {
    /// Version of ringroad.
    pub ringroad: String,
    /// Release of the kernel.
    pub kernel: String,
    /// The processor's name.
    pub cpu: String,
    /// CPUs that this process may use.
    pub cores: usize,
    /// How the frames were carried: `epoll`, `epoll, spinning`, or an AF_XDP mode.
    pub mode: String,
    /// The interface; `None` where none was named.
    pub interface: Option<Interface>,
}

/// An interface as the kernel describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its driver; `None` for virtual interfaces, which have no device.
    pub driver: Option<String>,
    /// Its MTU, octets; `None` where it cannot be read.
    pub mtu: Option<u32>,
}

impl Environment {
    /// This machine, now.
    pub fn read(mode: &str, dev: Option<&str>) -> Self {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Self {
            ringroad: env!("CARGO_PKG_VERSION").to_string(),
            kernel: kernel.trim().to_string(),
            cpu: cpu_model(&cpu).unwrap_or("unknown").to_string(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            mode: mode.to_string(),
            interface: dev.map(Interface::read),
        }
    }
}

impl Interface {
    fn read(name: &str) -> Self {
        let dir = format!("/sys/class/net/{name}");
        let driver = fs::read_link(format!("{dir}/device/driver")).ok();
        Self {
            name: name.to_string(),
            driver: driver.and_then(|path| Some(path.file_name()?.to_str()?.to_string())),
            mtu: fs::read_to_string(format!("{dir}/mtu")).ok().and_then(|text| text.trim().parse().ok()),
        }
    }
}

fn cpu_model(cpuinfo: &str) -> Option<&str> {
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, name)| name.trim())
}

/// What the kernel's TCP of this network namespace has counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetSample {
    tcp: BTreeMap<String, u64>,
    /// Sockets in TIME-WAIT now.
    pub time_wait: u64,
}

impl NetSample {
    /// Now; what cannot be read is zero.
    pub fn read() -> Self {
        let snmp = fs::read_to_string("/proc/net/snmp").unwrap_or_default();
        let sockstat = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
        Self { time_wait: time_wait(&sockstat).unwrap_or(0), ..Self::parse(&snmp) }
    }

    /// The Tcp lines of `/proc/net/snmp`.
    pub(super) fn parse(snmp: &str) -> Self {
        Self { tcp: tcp_table(snmp), time_wait: 0 }
    }

    /// How much `name` of the Tcp lines of `/proc/net/snmp` has grown since `before`.
    pub fn grown(&self, before: &Self, name: &str) -> u64 {
        let of = |sample: &Self| sample.tcp.get(name).copied().unwrap_or(0);
        of(self).saturating_sub(of(before))
    }

    /// Everything that has grown since `before`, under the kernel's names.
    pub fn all_grown(&self, before: &Self) -> BTreeMap<String, u64> {
        let grown = self.tcp.keys().map(|name| (name.clone(), self.grown(before, name)));
        grown.filter(|&(_, n)| n > 0).collect()
    }
}

/// The two `Tcp:` lines, names and values.
fn tcp_table(snmp: &str) -> BTreeMap<String, u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    let pairs = names.split_whitespace().zip(values.split_whitespace());
    // CurrEstab is a level and not a count, and MaxConn may be negative: neither grows.
    let pairs = pairs.filter(|(name, _)| *name != "CurrEstab");
    pairs.filter_map(|(name, value)| Some((name.to_string(), value.parse().ok()?))).collect()
}

fn time_wait(sockstat: &str) -> Option<u64> {
    let mut words = sockstat.lines().find_map(|line| line.strip_prefix("TCP: "))?.split_whitespace();
    words.find(|&word| word == "tw")?;
    words.next()?.parse().ok()
}

/// CPU time of this process so far, user and system, all threads, s.
pub fn cpu_seconds() -> f64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |usage| {
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        #[expect(clippy::cast_precision_loss, reason = "exact for 285 years of CPU time")]
        let seconds = micros as f64 / 1e6;
        seconds
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_counters_are_read_by_name() {
        let text = |opens, cur| {
            format!(
                "Ip: A\nIp: 1\nTcp: MaxConn ActiveOpens CurrEstab\nTcp: -1 {opens} {cur}\nUdp: B\nUdp: 2\n"
            )
        };
        let before = NetSample::parse(&text(5, 1));
        let after = NetSample::parse(&text(9, 2));
        assert_eq!(after.all_grown(&before), BTreeMap::from([("ActiveOpens".to_string(), 4)]));
        assert_eq!(after.grown(&before, "NoSuch"), 0);
    }

    #[test]
    fn time_wait_is_read_wherever_it_stands() {
        assert_eq!(time_wait("sockets: used 1\nTCP: inuse 4 orphan 0 tw 123 alloc 5\n"), Some(123));
        assert_eq!(time_wait("TCP: inuse 4\n"), None);
    }

    #[test]
    fn this_machine_can_be_described() {
        let here = Environment::read("epoll", Some("lo"));
        assert!(!here.kernel.is_empty() && here.cores > 0);
        assert_eq!(here.interface.unwrap().driver, None, "loopback has no device");
        assert_eq!(cpu_model("processor : 0\nmodel name\t: X 1\n"), Some("X 1"));
    }
}
