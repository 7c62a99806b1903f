//! Four-tuples as the tables keep them: twelve octets in the record, IPv6 addresses in an array apart.
#![forbid(unsafe_code)]

use alloc::vec;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use crate::base::{AddrPair, FlowKey};

/// Both ports, and both addresses where they are IPv4; the record that holds it says whether they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(super) struct SlotKey {
    remote: [u8; 4],
    local: [u8; 4],
    local_port: u16,
    remote_port: u16,
}

const _: () = assert!(size_of::<SlotKey>() == 12);

impl SlotKey {
    /// What of `key` fits; the rest goes to [`WideAddrs::set`].
    pub const fn new(key: &FlowKey) -> Self {
        let (local, remote) = match key.addrs {
            AddrPair::V4 { local, remote } => (local.octets(), remote.octets()),
            AddrPair::V6 { .. } => ([0; 4], [0; 4]),
        };
        Self { local, remote, local_port: key.local_port, remote_port: key.remote_port }
    }

    /// The key of slot `index`, whose IPv6 addresses, if it has such, are in `wide`.
    #[inline]
    pub fn get(&self, ipv4: bool, wide: &WideAddrs, index: u32) -> FlowKey {
        let addrs = if ipv4 {
            AddrPair::V4 { local: self.local.into(), remote: self.remote.into() }
        } else {
            wide.get(index).0
        };
        FlowKey { addrs, local_port: self.local_port, remote_port: self.remote_port }
    }

    /// Whether `key` is the key of slot `index`.
    #[inline]
    pub fn is(&self, ipv4: bool, wide: &WideAddrs, index: u32, key: &FlowKey) -> bool {
        let ports = (self.local_port ^ key.local_port) | (self.remote_port ^ key.remote_port);
        match key.addrs {
            // In one number: compared side by side, both addresses would be read at once from where one after the
            // other was just written, which the processor waits for.
            AddrPair::V4 { local, remote } => {
                let differ =
                    |ours, theirs: Ipv4Addr| u32::from_ne_bytes(ours) ^ u32::from_ne_bytes(theirs.octets());
                ipv4 && differ(self.local, local) | differ(self.remote, remote) | u32::from(ports) == 0
            }
            AddrPair::V6 { .. } => !ipv4 && ports == 0 && wide.get(index).0 == key.addrs,
        }
    }
}

/// Two IPv6 addresses and the scope of a link-local peer for each slot.
///
/// Zeroed memory, which the system provides when it is touched: while all is IPv4, it costs nothing.
#[derive(Debug)]
pub(super) struct WideAddrs(Vec<u8>);

impl WideAddrs {
    const OCTETS: usize = 36;

    /// Room for `slots` slots; the only allocation there is.
    pub fn new(slots: u32) -> Self {
        // Octet by octet: of longer things the library does not know that zero is zero, and writes it.
        Self(vec![0; slots as usize * Self::OCTETS])
    }

    /// Octets of as many slots.
    pub const fn octets(slots: u32) -> u64 {
        slots as u64 * Self::OCTETS as u64
    }

    /// Remembers what of `key`, and of its peer's name, does not fit the slot.
    pub fn set(&mut self, index: u32, key: &FlowKey, scope_id: u32) {
        let AddrPair::V6 { local, remote } = key.addrs else { return };
        let entry = &mut self.0[index as usize * Self::OCTETS..][..Self::OCTETS];
        entry[..16].copy_from_slice(&local.octets());
        entry[16..32].copy_from_slice(&remote.octets());
        entry[32..].copy_from_slice(&scope_id.to_ne_bytes());
    }

    /// The addresses and the scope of slot `index`, which is in use by IPv6.
    pub fn get(&self, index: u32) -> (AddrPair, u32) {
        let entry = &self.0[index as usize * Self::OCTETS..][..Self::OCTETS];
        let (addrs, scope_id) = entry.split_last_chunk::<4>().expect("an entry is longer");
        let (local, remote) = addrs.split_first_chunk::<16>().expect("an entry is longer");
        let remote = remote.first_chunk::<16>().expect("an entry is longer");
        let pair = AddrPair::V6 { local: (*local).into(), remote: (*remote).into() };
        (pair, u32::from_ne_bytes(*scope_id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;

    #[test]
    fn a_key_comes_back_as_it_was_and_equals_no_other() {
        let sockets = ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.1:81", "0.0.0.0:80", "0.0.0.0:81"];
        let wide_sockets = ["[fd00::1]:80", "[fd00::2]:80", "[fd00::1]:81", "[::]:80", "[::]:81"];
        let mut keys = std::vec::Vec::new();
        for family in [sockets, wide_sockets] {
            let family: [SocketAddr; 5] = family.map(|socket| socket.parse().expect("a socket"));
            for local in family {
                keys.extend(family.map(|remote| FlowKey::new(local, remote).expect("one family")));
            }
        }
        let mut wide = WideAddrs::new(3);
        for key in &keys {
            let slot = SlotKey::new(key);
            wide.set(1, key, 7);
            assert_eq!(slot.get(key.is_ipv4(), &wide, 1), *key);
            assert!(key.is_ipv4() || wide.get(1).1 == 7, "{key:?}");
            for other in &keys {
                assert_eq!(slot.is(key.is_ipv4(), &wide, 1, other), key == other, "{key:?} {other:?}");
            }
        }
    }
}
