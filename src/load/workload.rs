//! What one exchange consists of: profile, application protocol, sizes, and who closes.
#![forbid(unsafe_code)]

use std::format;
use std::net::SocketAddr;
use std::string::String;
use std::vec::Vec;

use clap::ValueEnum;
use serde::Serialize;

/// How exchanges and connections relate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Connect, one request, one reply, close.
    Crr,
    /// Requests one after another on connections that stay open.
    Rr,
    /// Throughput on connections that stay open.
    Bulk,
}

/// The protocol spoken on the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AppKind {
    /// HTTP/1.1; a reply ends at Content-Length or at the end of the stream.
    Http,
    /// A reply ends after as many octets as were agreed.
    Echo,
}

/// The side that sends the first FIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum CloseSide {
    /// The generator, and TIME-WAIT stays with it.
    Client,
    /// The server, and TIME-WAIT stays with that.
    Server,
}

/// Where the octets of a bulk transfer go, seen from the generator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// From the generator to the server.
    Up,
    /// From the server to the generator.
    Down,
}

/// One kind of exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// How exchanges and connections relate.
    pub profile: Profile,
    /// The protocol.
    pub app: AppKind,
    /// Who closes first, for [`Profile::Crr`].
    pub close: CloseSide,
    /// Where bulk octets go.
    pub direction: Direction,
    /// Octets of an echo request.
    pub request_size: usize,
    /// Octets after which an echo reply has ended.
    pub reply_size: u64,
    /// The path of an HTTP request.
    pub path: String,
}

impl Workload {
    /// The octets of one request to `target`.
    pub fn request(&self, target: SocketAddr) -> Vec<u8> {
        match self.app {
            AppKind::Echo => pattern(self.request_size),
            AppKind::Http => self.http_request(target).into_bytes(),
        }
    }

    /// Whether the transfer is a stream without requests: bulk over echo.
    pub fn is_stream(&self) -> bool {
        self.profile == Profile::Bulk && self.app == AppKind::Echo
    }

    /// Whether the octets that count are those sent.
    pub fn is_upwards(&self) -> bool {
        self.is_stream() && self.direction == Direction::Up
    }

    fn http_request(&self, target: SocketAddr) -> String {
        let host = if target.port() == 80 {
            match target {
                SocketAddr::V4(v4) => format!("{}", v4.ip()),
                SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
            }
        } else {
            format!("{target}")
        };
        let server_closes = self.profile == Profile::Crr && self.close == CloseSide::Server;
        let connection = if server_closes { "Connection: close\r\n" } else { "" };
        format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringroad/{}\r\nAccept: */*\r\n{connection}\r\n",
            self.path,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// `len` octets of printable text that are not all alike, so that a shift would be seen.
pub(super) fn pattern(len: usize) -> Vec<u8> {
    (b' '..=b'~').cycle().take(len).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(profile: Profile, close: CloseSide) -> Workload {
        Workload {
            profile,
            app: AppKind::Http,
            close,
            direction: Direction::Down,
            request_size: 64,
            reply_size: 64,
            path: "/x".into(),
        }
    }

    #[test]
    fn only_a_short_connection_that_the_server_closes_asks_for_it() {
        let target = "[fd00::1]:8080".parse().unwrap();
        for (profile, close, asks) in [
            (Profile::Crr, CloseSide::Server, true),
            (Profile::Crr, CloseSide::Client, false),
            (Profile::Rr, CloseSide::Server, false),
        ] {
            let request = String::from_utf8(http(profile, close).request(target)).unwrap();
            assert!(request.starts_with("GET /x HTTP/1.1\r\nHost: [fd00::1]:8080\r\n"), "{request}");
            assert!(request.ends_with("\r\n\r\n"), "{request}");
            assert_eq!(request.contains("Connection: close"), asks, "{profile:?} {close:?}");
        }
    }

    #[test]
    fn the_default_port_is_not_named_in_host() {
        let request = http(Profile::Rr, CloseSide::Client).request("10.0.0.1:80".parse().unwrap());
        assert!(String::from_utf8(request).unwrap().contains("\r\nHost: 10.0.0.1\r\n"));
    }
}
