//! Socket options: those that ordinary scripts use; any other is refused with ENOPROTOOPT.
#![forbid(unsafe_code)]

use std::time::Duration;

use ringroad::tcp::{CongestionAlgorithm, FlowInfo, State};

use crate::errno::{Errno, Outcome, fail};
use crate::flags::congestion;
use crate::socket::{Role, Sock};
use crate::world::World;

/// Linux's longest keep-alive times, seconds.
const KEEP_MAX: i32 = 32_767;
/// `TCP_CA_NAME_MAX`: the name of an algorithm has so many octets, the last ones zero.
const CONGESTION_NAME_LEN: usize = 16;

impl World {
    /// `setsockopt`.
    pub fn set_option(&mut self, fd: i32, level: i32, name: i32, value: &[u8]) -> Outcome<()> {
        let sock = self.sock(fd)?;
        let before = (sock.options, sock.v6_only);
        match level {
            libc::SOL_SOCKET => set_socket(sock, name, value)?,
            libc::IPPROTO_TCP => set_tcp(sock, name, value)?,
            libc::IPPROTO_IP if !sock.v6 => set_ip(sock, name, value)?,
            libc::IPPROTO_IPV6 if sock.v6 => set_ipv6(sock, name, value)?,
            _ => return fail(libc::ENOPROTOOPT),
        }
        let (options, role) = (sock.options, sock.role);
        if before == (options, sock.v6_only) {
            return Ok(());
        }
        sock.late_options |= matches!(role, Role::Listening(_));
        match role {
            Role::Connected(conn) => match self.flow(conn, |flow| flow.set_options(&options)) {
                Some(false) => fail(libc::ENOBUFS),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// `getsockopt`.
    pub fn option(&mut self, fd: i32, level: i32, name: i32) -> Outcome<Vec<u8>> {
        let role = self.sock(fd)?.role;
        match (level, name) {
            (libc::SOL_SOCKET, libc::SO_ERROR) => {
                let error = match role {
                    Role::Connected(conn) => self.conn(conn).error.take(),
                    _ => None,
                };
                Ok(int(error.map_or(0, |Errno(number)| number)))
            }
            (libc::IPPROTO_TCP, libc::TCP_INFO) => Ok(self.info(role)),
            (libc::IPPROTO_TCP, libc::TCP_MAXSEG) => {
                let asked = self.sock(fd)?.options.mss;
                let used = self.figures(role).map(|info| info.mss);
                Ok(int(used.or(asked).map_or(536, i32::from)))
            }
            _ => option(self.sock(fd)?, level, name),
        }
    }

    /// A connection's figures, now or when it ended.
    fn figures(&mut self, role: Role) -> Option<FlowInfo> {
        let Role::Connected(conn) = role else { return None };
        self.flow(conn, |flow| flow.info()).or(self.conn(conn).last)
    }

    /// `struct tcp_info`, as far as the engine knows it; the rest is zero.
    fn info(&mut self, role: Role) -> Vec<u8> {
        let figures = self.figures(role);
        let over = matches!(role, Role::Connected(conn) if self.conn(conn).over.is_some());
        let mut text = vec![0; 104];
        text[0] = match (&figures, role) {
            (_, Role::Listening(_)) => 10,
            (Some(info), _) if !over => state_number(info.state),
            _ => 7,
        };
        let Some(info) = figures else { return text };
        let mss = u32::from(info.mss).max(1);
        // As Linux: no threshold yet is the largest there is.
        let ssthresh = if info.ssthresh >= 1 << 30 { 0x7fff_ffff } else { info.ssthresh / mss };
        let micros = |duration: Duration| u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        for (offset, value) in [
            (8, micros(info.rto)),
            (16, u32::from(info.mss)),
            (68, info.srtt.map_or(0, micros)),
            (76, ssthresh),
            (80, info.cwnd / mss),
            (96, info.rcv_wnd),
            (100, info.retransmits),
        ] {
            text[offset..offset + 4].copy_from_slice(&u32::to_ne_bytes(value));
        }
        text
    }
}

fn set_socket(sock: &mut Sock, name: i32, value: &[u8]) -> Outcome<()> {
    match name {
        libc::SO_REUSEADDR => sock.reuse = number(value)? != 0,
        libc::SO_KEEPALIVE => {
            sock.options.keep_alive = (number(value)? != 0).then_some(sock.keep);
        }
        libc::SO_LINGER => {
            let (on, seconds) = (number(value)?, number(value.get(4..).unwrap_or_default())?);
            let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            sock.linger = (on != 0).then_some(seconds);
        }
        // The window is what was asked for, exactly.
        libc::SO_RCVBUF => sock.options.recv_buffer = octets(value)?,
        libc::SO_SNDBUF => sock.options.send_buffer = octets(value)?,
        libc::SO_RCVTIMEO => sock.timeouts[0] = timeout(value)?,
        libc::SO_SNDTIMEO => sock.timeouts[1] = timeout(value)?,
        _ => return fail(libc::ENOPROTOOPT),
    }
    Ok(())
}

fn set_tcp(sock: &mut Sock, name: i32, value: &[u8]) -> Outcome<()> {
    let number = number(value)?;
    let within =
        |max: i32| if (1..=max).contains(&number) { Ok(number.unsigned_abs()) } else { fail(libc::EINVAL) };
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    match name {
        libc::TCP_NODELAY => sock.options.nagle = number == 0,
        libc::TCP_MAXSEG => {
            sock.options.mss = match number {
                0 => None,
                88..=32_767 => u16::try_from(number).ok(),
                _ => return fail(libc::EINVAL),
            };
        }
        libc::TCP_KEEPIDLE => sock.keep.idle = seconds(within(KEEP_MAX)?),
        libc::TCP_KEEPINTVL => sock.keep.interval = seconds(within(KEEP_MAX)?),
        libc::TCP_KEEPCNT => sock.keep.probes = u8::try_from(within(127)?).unwrap_or(127),
        libc::TCP_USER_TIMEOUT => {
            let ms = u64::try_from(number).map_err(|_| Errno(libc::EINVAL))?;
            sock.options.user_timeout = (ms > 0).then(|| Duration::from_millis(ms));
        }
        libc::TCP_CONGESTION => {
            let name = value.split(|&octet| octet == 0).next().unwrap_or_default();
            sock.options.congestion = congestion(name).ok_or(Errno(libc::ENOENT))?;
        }
        _ => return fail(libc::ENOPROTOOPT),
    }
    let keep = sock.keep;
    sock.options.keep_alive = sock.options.keep_alive.map(|_| keep);
    Ok(())
}

fn set_ip(sock: &mut Sock, name: i32, value: &[u8]) -> Outcome<()> {
    match name {
        libc::IP_TOS => sock.options.dscp = dscp(value)?,
        libc::IP_TTL => sock.options.ttl = hops(value)?,
        _ => return fail(libc::ENOPROTOOPT),
    }
    Ok(())
}

fn set_ipv6(sock: &mut Sock, name: i32, value: &[u8]) -> Outcome<()> {
    match name {
        libc::IPV6_TCLASS => sock.options.dscp = dscp(value)?,
        libc::IPV6_UNICAST_HOPS => sock.options.ttl = hops(value)?,
        libc::IPV6_V6ONLY if sock.bound.is_some() => return fail(libc::EINVAL),
        libc::IPV6_V6ONLY => sock.v6_only = number(value)? != 0,
        _ => return fail(libc::ENOPROTOOPT),
    }
    Ok(())
}

fn option(sock: &Sock, level: i32, name: i32) -> Outcome<Vec<u8>> {
    let options = &sock.options;
    let seconds = |duration: Duration| i32::try_from(duration.as_secs()).unwrap_or(i32::MAX);
    let doubled = |octets: u32| i32::try_from(u64::from(octets) * 2).unwrap_or(i32::MAX);
    Ok(match (level, name) {
        (libc::SOL_SOCKET, libc::SO_TYPE) => int(libc::SOCK_STREAM),
        (libc::SOL_SOCKET, libc::SO_DOMAIN) => int(if sock.v6 { libc::AF_INET6 } else { libc::AF_INET }),
        (libc::SOL_SOCKET, libc::SO_PROTOCOL) => int(libc::IPPROTO_TCP),
        (libc::SOL_SOCKET, libc::SO_ACCEPTCONN) => flag(matches!(sock.role, Role::Listening(_))),
        (libc::SOL_SOCKET, libc::SO_REUSEADDR) => flag(sock.reuse),
        (libc::SOL_SOCKET, libc::SO_KEEPALIVE) => flag(options.keep_alive.is_some()),
        (libc::SOL_SOCKET, libc::SO_LINGER) => {
            [flag(sock.linger.is_some()), int(sock.linger.map_or(0, seconds))].concat()
        }
        // Linux tells twice what was asked for.
        (libc::SOL_SOCKET, libc::SO_RCVBUF) => int(doubled(options.recv_buffer)),
        (libc::SOL_SOCKET, libc::SO_SNDBUF) => int(doubled(options.send_buffer)),
        (libc::SOL_SOCKET, libc::SO_RCVTIMEO) => timeval(sock.timeouts[0]),
        (libc::SOL_SOCKET, libc::SO_SNDTIMEO) => timeval(sock.timeouts[1]),
        (libc::IPPROTO_TCP, libc::TCP_NODELAY) => flag(!options.nagle),
        (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) => int(seconds(sock.keep.idle)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL) => int(seconds(sock.keep.interval)),
        (libc::IPPROTO_TCP, libc::TCP_KEEPCNT) => int(sock.keep.probes.into()),
        (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) => {
            let ms = options.user_timeout.unwrap_or_default().as_millis();
            int(i32::try_from(ms).unwrap_or(i32::MAX))
        }
        (libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
            let name = match options.congestion {
                CongestionAlgorithm::Bbr => "bbr",
                CongestionAlgorithm::Cubic => "cubic",
                _ => "reno",
            };
            let mut padded = name.as_bytes().to_vec();
            padded.resize(CONGESTION_NAME_LEN, 0);
            padded
        }
        (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
            int(i32::from(options.dscp) << 2)
        }
        (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) => {
            int(options.ttl.into())
        }
        (libc::IPPROTO_IPV6, libc::IPV6_V6ONLY) => flag(sock.v6_only),
        _ => return fail(libc::ENOPROTOOPT),
    })
}

/// Linux's numbers of the states.
const fn state_number(state: State) -> u8 {
    match state {
        State::Established => 1,
        State::SynSent => 2,
        State::SynReceived => 3,
        State::FinWait1 => 4,
        State::FinWait2 => 5,
        State::TimeWait => 6,
        State::CloseWait => 8,
        State::LastAck => 9,
        State::Closing => 11,
    }
}

fn int(value: i32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

fn flag(value: bool) -> Vec<u8> {
    int(value.into())
}

fn number(value: &[u8]) -> Outcome<i32> {
    let octets = value.first_chunk().ok_or(Errno(libc::EINVAL))?;
    Ok(i32::from_ne_bytes(*octets))
}

fn octets(value: &[u8]) -> Outcome<u32> {
    u32::try_from(number(value)?).map(|octets| octets.max(1)).map_err(|_| Errno(libc::EINVAL))
}

/// The two bits of ECN are not the owner's, as on Linux.
fn dscp(value: &[u8]) -> Outcome<u8> {
    let class = u8::try_from(number(value)?).map_err(|_| Errno(libc::EINVAL))?;
    Ok(class >> 2)
}

fn hops(value: &[u8]) -> Outcome<u8> {
    match number(value)? {
        -1 => Ok(64),
        hops @ 1..=255 => u8::try_from(hops).map_err(|_| Errno(libc::EINVAL)),
        _ => fail(libc::EINVAL),
    }
}

/// A `struct timeval`; zero waits without end.
fn timeout(value: &[u8]) -> Outcome<Option<Duration>> {
    let part =
        |at: usize| value.get(at..).and_then(<[u8]>::first_chunk).map(|octets| i64::from_ne_bytes(*octets));
    let (seconds, micros) = part(0).zip(part(8)).ok_or(Errno(libc::EINVAL))?;
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let micros = u64::try_from(micros).ok().filter(|&micros| micros < 1_000_000).ok_or(Errno(libc::EDOM))?;
    let timeout = Duration::from_secs(seconds) + Duration::from_micros(micros);
    Ok(Some(timeout).filter(|timeout| !timeout.is_zero()))
}

fn timeval(timeout: Option<Duration>) -> Vec<u8> {
    let timeout = timeout.unwrap_or_default();
    let seconds = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
    [seconds, timeout.subsec_micros().into()].map(i64::to_ne_bytes).concat()
}
