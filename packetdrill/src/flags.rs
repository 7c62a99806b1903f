//! What `--so_flags` says: `name=value`, separated by commas or spaces.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ringroad::tcp::{CongestionAlgorithm, FlowOptions, KeepAlive, TcpConfig};

/// Octets of a socket's buffers, unless something else is said.
const BUFFER: u32 = 256 * 1_024;

/// How the stack is set up.
#[derive(Clone, Debug)]
pub struct Flags {
    /// Addresses known before any `bind`.
    pub local: Vec<IpAddr>,
    /// The link's MTU, octets.
    pub mtu: u16,
    /// Protocol constants.
    pub tcp: TcpConfig,
    /// What sockets begin with.
    pub options: FlowOptions,
    /// Keep-alive times of sockets for which it is on.
    pub keep: KeepAlive,
    /// Source ports of active opens.
    pub ports: RangeInclusive<u16>,
    /// How long a packet is waited for, virtual seconds.
    pub receive_s: u64,
    /// Where the state dump goes.
    pub state: Option<PathBuf>,
}

impl Default for Flags {
    fn default() -> Self {
        Self {
            local: Vec::new(),
            mtu: 1_500,
            tcp: TcpConfig { quick_acks: 0, ..TcpConfig::default() },
            options: FlowOptions {
                // What is worked out in scripts is RFC 5681.
                congestion: CongestionAlgorithm::NewReno,
                // Windows are what the buffer holds, from the first to the last.
                recv_buffer: BUFFER,
                recv_initial: u32::MAX,
                send_buffer: BUFFER,
                ..FlowOptions::default()
            },
            keep: KeepAlive::default(),
            ports: 32_768..=60_999,
            // Longer than the two hours before the first keep-alive probe.
            receive_s: 3 * 3_600,
            state: None,
        }
    }
}

impl Flags {
    /// Reads the flags.
    ///
    /// # Errors
    ///
    /// A sentence about the first flag that is unknown, has no such value, or asks for what the engine cannot do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut flags = Self::default();
        let (mut shift, mut rcvbuf) = (None, None);
        let words = text.split(|c: char| c == ',' || c == ';' || c.is_whitespace());
        for word in words.filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, "1"));
            let told = match name {
                "rcvbuf" => number(value).map(|octets| rcvbuf = Some(octets)),
                "ws" => window_scale(value).map(|(on, least)| {
                    flags.tcp.window_scale = on;
                    shift = least;
                }),
                _ => flags.set(name, value),
            };
            told.map_err(|why| format!("{name}={value}: {why}"))?;
        }
        flags.set_window(rcvbuf, shift)?;
        Ok(flags)
    }

    /// A shift follows from the buffer, so one that is asked for is the buffer's, or sets it.
    fn set_window(&mut self, rcvbuf: Option<u32>, shift: Option<u8>) -> Result<(), String> {
        if let Some(octets) = rcvbuf.or(shift.map(|shift| u32::from(u16::MAX) << shift)) {
            self.options.recv_buffer = octets;
        }
        let needed = (0..=14).find(|shift| self.options.recv_buffer >> shift <= u32::from(u16::MAX));
        match (shift, needed) {
            (Some(wanted), Some(needed)) if wanted != needed => Err(format!(
                "ws={wanted}: a receive buffer of {} octets has shift {needed}; leave one of rcvbuf and ws out",
                self.options.recv_buffer
            )),
            (_, None) => Err("rcvbuf: a window is below 2^30 octets".to_owned()),
            _ => Ok(()),
        }
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "local" => self.local.push(number::<Ipv4Addr>(value)?.into()),
            "local6" => self.local.push(number::<Ipv6Addr>(value)?.into()),
            "mtu" => self.mtu = at_least(value, 576)?,
            "mss" => self.options.mss = Some(at_least(value, 64)?),
            "sndbuf" => self.options.send_buffer = at_least(value, 1)?,
            "nagle" => self.options.nagle = switch(value)?,
            "ttl" => self.options.ttl = at_least(value, 1)?,
            "user_timeout_ms" => self.options.user_timeout = Some(millis(value)?),
            "keepalive" => self.options.keep_alive = switch(value)?.then_some(self.keep),
            "keepidle_ms" => self.set_keep(KeepAlive { idle: millis(value)?, ..self.keep }),
            "keepintvl_ms" => self.set_keep(KeepAlive { interval: millis(value)?, ..self.keep }),
            "keepcnt" => self.set_keep(KeepAlive { probes: at_least(value, 1)?, ..self.keep }),
            "ports" => self.ports = ports(value)?,
            "receive_s" => self.receive_s = at_least(value, 1)?,
            "state" => self.state = Some(value.into()),
            _ => self.set_protocol(name, value)?,
        }
        Ok(())
    }

    fn set_keep(&mut self, keep: KeepAlive) {
        self.keep = keep;
        self.options.keep_alive = self.options.keep_alive.map(|_| keep);
    }

    fn set_protocol(&mut self, name: &str, value: &str) -> Result<(), String> {
        let tcp = &mut self.tcp;
        match name {
            "sack" => tcp.sack = switch(value)?,
            "ts" => tcp.timestamps = switch(value)?,
            "delack_ms" => tcp.delayed_ack = millis(value)?,
            "quickacks" => tcp.quick_acks = number(value)?,
            "iw" => tcp.initial_window = at_least(value, 1)?,
            "rto_init_ms" => tcp.rto.initial_us = micros(value)?,
            "rto_min_ms" => tcp.rto.min_us = micros(value)?,
            "rto_max_ms" => tcp.rto.max_us = micros(value)?,
            "msl_ms" => tcp.time_wait = 2 * millis(value)?,
            "fin_wait_2_ms" => tcp.fin_wait_2 = millis(value)?,
            "r1" => tcp.r1 = at_least(value, 1)?,
            "r2_ms" => tcp.r2 = millis(value)?,
            "r2_syn_ms" => tcp.r2_syn = millis(value)?,
            "synack_retries" => tcp.syn_ack_retries = number(value)?,
            "challenge_acks" => tcp.challenge_acks_per_second = number(value)?,
            "rfc1337" => tcp.rfc1337 = switch(value)?,
            "rfc5961" if switch(value)? => {}
            "rfc5961" => return Err("the engine cannot do without RFC 5961".to_owned()),
            "ecn" => self.options.ecn = switch(value)?,
            "cc" => match congestion(value.as_bytes()) {
                Some(algorithm) => self.options.congestion = algorithm,
                None => return Err("the engine has newreno, cubic and bbr".to_owned()),
            },
            _ => return Err("no such flag".to_owned()),
        }
        Ok(())
    }
}

/// Congestion control by its name, here or in the kernel.
pub fn congestion(name: &[u8]) -> Option<CongestionAlgorithm> {
    match name {
        b"bbr" => Some(CongestionAlgorithm::Bbr),
        b"cubic" => Some(CongestionAlgorithm::Cubic),
        b"newreno" | b"reno" => Some(CongestionAlgorithm::NewReno),
        _ => None,
    }
}

fn number<T: FromStr<Err: ToString>>(value: &str) -> Result<T, String> {
    value.parse().map_err(|error: T::Err| error.to_string())
}

fn at_least<T>(value: &str, least: T) -> Result<T, String>
where
    T: FromStr<Err: ToString> + PartialOrd + ToString,
{
    let number: T = number(value)?;
    if number < least { Err(format!("{} is the least", least.to_string())) } else { Ok(number) }
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "1" | "on" | "yes" | "true" => Ok(true),
        "0" | "off" | "no" | "false" => Ok(false),
        _ => Err("1 or 0".to_owned()),
    }
}

/// Whether to scale, and the shift if one is asked for. One says "on", as it does for the other options.
fn window_scale(value: &str) -> Result<(bool, Option<u8>), String> {
    match value.parse() {
        Ok(shift @ 2..=14) => Ok((true, Some(shift))),
        _ => Ok((switch(value).map_err(|_| "1, 0, or a shift from 2 to 14")?, None)),
    }
}

fn millis(value: &str) -> Result<Duration, String> {
    number(value).map(Duration::from_millis)
}

/// So many milliseconds, as microseconds in four octets.
fn micros(value: &str) -> Result<u32, String> {
    let ms: u32 = at_least(value, 1)?;
    ms.checked_mul(1_000).ok_or_else(|| "71 minutes are the most".to_owned())
}

fn ports(value: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = value.split_once('-').unwrap_or((value, value));
    let range = at_least(first, 1)?..=at_least(last, 1)?;
    if range.is_empty() { Err("the first port comes first".to_owned()) } else { Ok(range) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_set_what_they_name() {
        let flags = Flags::parse(
            "local=192.168.0.1,local6=fd3d::1;mss=1000 ws=7,ts=off,sack=0,msl_ms=500,rto_init_ms=300,\
             keepidle_ms=5000,keepalive,keepcnt=2,quickacks=3,ecn=1,cc=cubic,ports=40000-40010,iw=2",
        )
        .expect("every flag is known");
        assert_eq!(flags.local, ["192.168.0.1".parse::<IpAddr>().unwrap(), "fd3d::1".parse().unwrap()]);
        assert_eq!((flags.options.mss, flags.options.recv_buffer), (Some(1_000), 65_535 << 7));
        assert_eq!((flags.tcp.timestamps, flags.tcp.sack, flags.tcp.window_scale), (false, false, true));
        assert_eq!((flags.tcp.time_wait, flags.tcp.initial_window), (Duration::from_secs(1), 2));
        assert_eq!(flags.tcp.quick_acks, 3);
        assert_eq!((flags.tcp.rto.initial_us, flags.ports), (300_000, 40_000..=40_010));
        assert_eq!((flags.options.ecn, flags.options.congestion), (true, CongestionAlgorithm::Cubic));
        let keep = flags.options.keep_alive.expect("it is on");
        assert_eq!((keep.idle, keep.probes), (Duration::from_secs(5), 2), "whatever comes first");
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        for (text, part, why) in [
            ("colour=red", "no such flag", "unknown"),
            ("cc=vegas", "newreno, cubic and bbr", "not in the engine"),
            ("rfc5961=0", "RFC 5961", "not in the engine"),
            ("mss=abc", "invalid digit", "no number"),
            ("mss=10", "64 is the least", "too small"),
            ("ts=2", "1 or 0", "no switch"),
            ("ws=15", "2 to 14", "RFC 7323 §2.3"),
            ("rcvbuf=65535,ws=7", "has shift 0", "the window would be rounded"),
            ("ports=9-1", "comes first", "empty"),
        ] {
            let told = Flags::parse(text).expect_err(why);
            assert!(told.contains(part), "{text}: {told}");
        }
    }

    #[test]
    fn nothing_said_means_customary_values() {
        let flags = Flags::parse(" ,").expect("nothing is wrong");
        assert_eq!((flags.tcp.rto.initial_us, flags.tcp.rto.min_us), (1_000_000, 200_000));
        assert_eq!((flags.tcp.delayed_ack, flags.tcp.initial_window), (Duration::from_millis(40), 10));
        assert_eq!(flags.tcp.quick_acks, 0);
        assert_eq!((flags.mtu, flags.options.keep_alive, flags.options.mss), (1_500, None, None));
    }
}
