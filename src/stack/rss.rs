//! Which worker owns a flow: a function of the four-tuple alone.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::base::{AddrPair, FlowKey, Rng};

/// How flows are divided among workers.
#[derive(Clone, Debug)]
pub enum Owners {
    /// One worker has them all.
    One,
    /// By our own hash, the same seen from both ends: for interfaces without RSS, such as veth.
    Hash {
        /// How many workers.
        workers: u16,
    },
    /// As the NIC does it, by Toeplitz hash and indirection table.
    Toeplitz {
        /// The NIC's key, 40 octets or more.
        key: Vec<u8>,
        /// Receive queue, which is the worker, for each value of the hash's low bits.
        indirection: Vec<u16>,
    },
}

impl Owners {
    /// The worker that owns `key`.
    #[expect(clippy::cast_possible_truncation, reason = "multiplied by a 16-bit count, then shifted by 32")]
    pub fn owner(&self, key: &FlowKey) -> u16 {
        match self {
            Self::One => 0,
            Self::Hash { workers } => ((u64::from(symmetric(key)) * u64::from(*workers)) >> 32) as u16,
            Self::Toeplitz { key: secret, indirection } => {
                let hash = toeplitz(secret, key) as usize;
                indirection[hash % indirection.len()]
            }
        }
    }
}

/// A hash that does not change when the two ends change places.
#[expect(clippy::cast_possible_truncation, reason = "the halves of an address are folded")]
fn symmetric(key: &FlowKey) -> u32 {
    let fold = |bits: u128| (bits ^ (bits >> 64)) as u64;
    let addrs = match key.addrs {
        AddrPair::V4 { local, remote } => u64::from(local.to_bits()).wrapping_add(remote.to_bits().into()),
        AddrPair::V6 { local, remote } => fold(local.to_bits()).wrapping_add(fold(remote.to_bits())),
    };
    let (local_port, remote_port) = (u64::from(key.local_port), u64::from(key.remote_port));
    let ports = (local_port ^ remote_port) << 32 | (local_port + remote_port);
    let seed = addrs ^ ports.rotate_left(13);
    (Rng::new(seed).next_u64() >> 32) as u32
}

/// The Toeplitz hash of a received packet's source, destination and ports, as NICs compute it.
fn toeplitz(secret: &[u8], key: &FlowKey) -> u32 {
    let mut input = [0u8; 36];
    let mut len = 0;
    let mut put = |octets: &[u8]| {
        input[len..len + octets.len()].copy_from_slice(octets);
        len += octets.len();
    };
    // The packet's source is our remote end.
    for addr in [key.remote(), key.local()] {
        match addr {
            IpAddr::V4(v4) => put(&v4.octets()),
            IpAddr::V6(v6) => put(&v6.octets()),
        }
    }
    put(&key.remote_port.to_be_bytes());
    put(&key.local_port.to_be_bytes());

    let at = |i: usize| u64::from(secret.get(i).copied().unwrap_or(0));
    let mut window = (0..8).fold(0u64, |window, i| window << 8 | at(i));
    let mut hash = 0u32;
    for (i, &octet) in input[..len].iter().enumerate() {
        for bit in (0..8).rev() {
            if octet >> bit & 1 == 1 {
                hash ^= (window >> 32) as u32;
            }
            window <<= 1;
        }
        window |= at(i + 8);
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use std::{format, vec};

    /// The key and vectors of Microsoft's RSS specification ("Verifying the RSS Hash Calculation").
    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0,
        0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42,
        0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn key(remote: &str, remote_port: u16, local: &str, local_port: u16) -> FlowKey {
        let socket = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port);
        FlowKey::new(socket(local, local_port), socket(remote, remote_port)).expect("one family")
    }

    #[test]
    fn toeplitz_gives_the_published_vectors() {
        for (key, want) in [
            (key("66.9.149.187", 2794, "161.142.100.80", 1766), 0x51cc_c178),
            (key("199.92.111.2", 14230, "65.69.140.83", 4739), 0xc626_b0ea),
            (key("3ffe:2501:200:1fff::7", 2794, "3ffe:2501:200:3::1", 1766), 0x4020_7d3d),
        ] {
            assert_eq!(toeplitz(&KEY, &key), want, "{key:?}");
        }
    }

    #[test]
    fn both_ends_agree_on_the_owner_and_all_workers_get_some() {
        let owners = Owners::Hash { workers: 3 };
        let mut count = [0; 3];
        for port in 1..3_000 {
            let ours = key("10.0.0.2", port, "10.0.0.1", 80);
            let theirs = key("10.0.0.1", 80, "10.0.0.2", port);
            assert_eq!(owners.owner(&ours), owners.owner(&theirs));
            count[usize::from(owners.owner(&ours))] += 1;
        }
        assert!(count.iter().all(|&n| n > 800), "{count:?}");
    }

    #[test]
    fn hosts_of_one_network_are_spread() {
        let owners = Owners::Hash { workers: 3 };
        let mut count = [0; 3];
        for host in 1..3_000 {
            let key = key(&format!("fd00::{host:x}"), 4_000, "fd00::", 80);
            count[usize::from(owners.owner(&key))] += 1;
        }
        assert!(count.iter().all(|&n| n > 800), "{count:?}");
    }

    #[test]
    fn the_indirection_table_names_the_worker() {
        let owners = Owners::Toeplitz { key: KEY.to_vec(), indirection: vec![7; 128] };
        assert_eq!(owners.owner(&key("1.2.3.4", 5, "6.7.8.9", 10)), 7);
    }
}
