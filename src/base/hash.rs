//! The keyed hash behind flow tables, ISNs and timestamp offsets.
#![forbid(unsafe_code)]

use core::hash::Hasher;
use core::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::FlowKey;

/// A 128-bit secret drawn at start; whoever does not know it cannot build collisions or guess ISNs.
#[derive(Clone, Copy)]
pub struct HashKey {
    k0: u64,
    k1: u64,
}

impl HashKey {
    /// The key made of these two halves; they come from the operating system's generator, or a test's seed.
    pub const fn new(k0: u64, k1: u64) -> Self {
        Self { k0, k1 }
    }

    /// A key for another purpose, so that no output of one table says anything of another.
    pub fn derive(&self, purpose: u64) -> Self {
        let half = |tweak: u64| {
            let mut hasher = SipHasher13::new_with_keys(self.k0, self.k1);
            hasher.write_u64(purpose);
            hasher.write_u64(tweak);
            hasher.finish()
        };
        Self::new(half(0), half(1))
    }

    /// SipHash-1-3 of the four-tuple.
    pub fn flow(&self, key: &FlowKey) -> u64 {
        // One call over one array: some 100 instructions, where feeding a hasher field by field takes 150.
        let hasher = SipHasher13::new_with_keys(self.k0, self.k1);
        let ports = u32::from(key.local_port) << 16 | u32::from(key.remote_port);
        match (key.local, key.remote) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let mut tuple = [0; 12];
                tuple[..4].copy_from_slice(&local.octets());
                tuple[4..8].copy_from_slice(&remote.octets());
                tuple[8..].copy_from_slice(&ports.to_ne_bytes());
                hasher.hash(&tuple)
            }
            (local, remote) => {
                // The length tells it from an IPv4 tuple.
                let mut tuple = [0; 36];
                tuple[..16].copy_from_slice(&octets(local));
                tuple[16..32].copy_from_slice(&octets(remote));
                tuple[32..].copy_from_slice(&ports.to_ne_bytes());
                hasher.hash(&tuple)
            }
        }
    }
}

/// Sixteen octets of any address; an IPv4 address only gets here beside an IPv6 one, which no packet can do.
fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

impl core::fmt::Debug for HashKey {
    /// Never prints the secret.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::net::IpAddr;

    fn key(local: &str, remote: &str, local_port: u16, remote_port: u16) -> FlowKey {
        let ip = |s: &str| s.parse::<IpAddr>().expect("address");
        FlowKey { local: ip(local), remote: ip(remote), local_port, remote_port }
    }

    #[test]
    fn every_part_of_the_tuple_and_of_the_key_counts() {
        let hash = HashKey::new(1, 2);
        for (a, b) in [
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.3", "10.0.0.2", 1, 2)),
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.1", "10.0.0.3", 1, 2)),
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.1", "10.0.0.2", 3, 2)),
            (key("10.0.0.1", "10.0.0.2", 1, 2), key("10.0.0.1", "10.0.0.2", 1, 3)),
            (key("fd00::1", "fd00::2", 1, 2), key("fd00::1", "fd00::2", 2, 1)),
            (key("fd00::1", "fd00::2", 1, 2), key("fd00::2", "fd00::1", 1, 2)),
        ] {
            assert_ne!(hash.flow(&a), hash.flow(&b), "{a:?} {b:?}");
            assert_ne!(hash.flow(&a), HashKey::new(1, 3).flow(&a));
            assert_ne!(hash.flow(&a), hash.derive(1).flow(&a));
            assert_eq!(hash.flow(&a), HashKey::new(1, 2).flow(&a));
        }
    }

    #[test]
    fn debug_output_keeps_the_secret() {
        assert_eq!(format!("{:?}", HashKey::new(11, 22)), "HashKey(..)");
    }
}
