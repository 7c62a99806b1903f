//! Link addresses of neighbours, as the kernel resolved them; and those it should resolve.
#![forbid(unsafe_code)]

use alloc::vec::Vec;
use core::net::IpAddr;

use crate::wire::Mac;

/// A small table, sorted by address. The kernel answers and resolves; this is what it told us.
#[derive(Debug)]
pub struct Neighbours {
    known: Vec<(IpAddr, Mac)>,
    wanted: Vec<IpAddr>,
    max: usize,
}

impl Neighbours {
    /// Room for `max` neighbours.
    pub fn new(max: u16) -> Self {
        let max = usize::from(max);
        Self { known: Vec::with_capacity(max), wanted: Vec::with_capacity(max), max }
    }

    /// The link address of `addr`; an unknown one is wanted from now on.
    pub fn find(&mut self, addr: &IpAddr) -> Option<Mac> {
        match self.known.binary_search_by(|(known, _)| known.cmp(addr)) {
            Ok(at) => Some(self.known[at].1),
            Err(_) => {
                if !self.wanted.contains(addr) && self.wanted.len() < self.max {
                    self.wanted.push(*addr);
                }
                None
            }
        }
    }

    /// Learns, or learns anew; beyond its room the table keeps what it has. Returns whether it is news.
    pub fn set(&mut self, addr: IpAddr, mac: Mac) -> bool {
        self.wanted.retain(|&wanted| wanted != addr);
        match self.known.binary_search_by_key(&addr, |&(known, _)| known) {
            Ok(at) => core::mem::replace(&mut self.known[at].1, mac) != mac,
            Err(at) if self.known.len() < self.max => {
                self.known.insert(at, (addr, mac));
                true
            }
            Err(_) => false,
        }
    }

    /// Takes out a neighbour that something waits for. It is wanted anew when it is looked for again, as
    /// every SYN that is sent again does.
    pub fn take_wanted(&mut self) -> Option<IpAddr> {
        self.wanted.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    fn ip(last: u8) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, last))
    }

    #[test]
    fn an_unknown_neighbour_is_wanted_until_it_is_known() {
        let mut neighbours = Neighbours::new(2);
        assert_eq!(neighbours.find(&ip(9)), None);
        assert_eq!(neighbours.find(&ip(9)), None);
        assert_eq!((neighbours.take_wanted(), neighbours.take_wanted()), (Some(ip(9)), None));
        assert_eq!(neighbours.find(&ip(9)), None);
        assert!(neighbours.set(ip(9), Mac([9; 6])));
        assert!(!neighbours.set(ip(9), Mac([9; 6])), "no news");
        assert!(neighbours.set(ip(9), Mac([8; 6])), "it moved");
        assert_eq!(neighbours.find(&ip(9)), Some(Mac([8; 6])));
        assert_eq!(neighbours.take_wanted(), None, "known now");
    }

    #[test]
    fn a_full_table_keeps_what_it_has() {
        let mut neighbours = Neighbours::new(2);
        assert!(neighbours.set(ip(5), Mac([5; 6])) && neighbours.set(ip(3), Mac([3; 6])));
        assert!(!neighbours.set(ip(4), Mac([4; 6])));
        assert_eq!(neighbours.find(&ip(5)), Some(Mac([5; 6])));
        assert_eq!(neighbours.find(&ip(3)), Some(Mac([3; 6])));
    }
}
