//! `struct sockaddr` as octets.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::errno::{Errno, Outcome, fail};

/// Octets of `struct sockaddr_in` and `struct sockaddr_in6`.
const LEN: usize = 16;
const LEN_6: usize = 28;

/// What the octets say; `None` for AF_UNSPEC.
pub fn parse(octets: &[u8]) -> Outcome<Option<SocketAddr>> {
    let family = octets.first_chunk().ok_or(Errno(libc::EINVAL))?;
    let family = i32::from(u16::from_ne_bytes(*family));
    let (len, at) = match family {
        libc::AF_UNSPEC => return Ok(None),
        libc::AF_INET => (LEN, 4..8),
        libc::AF_INET6 => (LEN_6, 8..24),
        _ => return fail(libc::EAFNOSUPPORT),
    };
    let addr = octets.get(..len.min(octets.len().max(at.end))).ok_or(Errno(libc::EINVAL))?;
    let port = u16::from_be_bytes([addr[2], addr[3]]);
    let ip: IpAddr = match <[u8; 4]>::try_from(&addr[at.clone()]) {
        Ok(v4) => v4.into(),
        Err(_) => <[u8; 16]>::try_from(&addr[at]).map_err(|_| Errno(libc::EINVAL))?.into(),
    };
    Ok(Some(SocketAddr::new(ip, port)))
}

/// The octets of an address.
pub fn octets(addr: SocketAddr) -> Vec<u8> {
    let (family, len) = if addr.is_ipv4() { (libc::AF_INET, LEN) } else { (libc::AF_INET6, LEN_6) };
    let family = u16::try_from(family).expect("families are small numbers");
    let mut octets = [&family.to_ne_bytes()[..], &addr.port().to_be_bytes()].concat();
    match addr.ip() {
        IpAddr::V4(ip) => octets.extend(ip.octets()),
        IpAddr::V6(ip) => octets.extend([&[0; 4][..], &ip.octets()].concat()),
    }
    octets.resize(len, 0);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_back_as_they_were() {
        for (text, len) in [("192.0.2.1:8080", 16), ("[2001:db8::1]:443", 28)] {
            let addr: SocketAddr = text.parse().expect("an address");
            let octets = octets(addr);
            assert_eq!((octets.len(), parse(&octets)), (len, Ok(Some(addr))));
            assert_eq!(parse(&octets[..7]), fail(libc::EINVAL), "cut short");
        }
        assert_eq!(parse(&[0, 0]), Ok(None));
        assert_eq!(parse(&[77, 0, 0]), fail(libc::EAFNOSUPPORT));
        assert_eq!(parse(&[2]), fail(libc::EINVAL));
    }
}
