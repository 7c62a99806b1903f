//! Neighbours between the kernel and the workers: its news for all of them, their wishes for it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;
use std::vec::Vec;

use super::control::Handle;
use super::error::RunError;
use super::netlink::{self, Interface, NeighbourMonitor};
use crate::wire::Mac;

/// Between looks: short enough that a first SYN hardly waits, long enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Looks after which the kernel is asked anew: a second, after which it repeats itself, and three times before it gives
/// up.
const ASK_AFTER: u32 = 200;
/// How often it is asked before a wish is given up: for three minutes, as long as a SYN is sent again.
const ASK_MOST: u32 = 180;

/// Addresses that workers want and have not been told.
#[derive(Debug, Default)]
struct Wishes {
    pending: Vec<Wish>,
}

#[derive(Debug)]
struct Wish {
    addr: IpAddr,
    /// Looks since the kernel was asked last.
    looks: u32,
    asked: u32,
}

impl Wishes {
    fn add(&mut self, addr: IpAddr) {
        if !self.pending.iter().any(|wish| wish.addr == addr) {
            self.pending.push(Wish { addr, looks: 0, asked: 0 });
        }
    }

    /// Whether the kernel's table is worth reading now: at once and soon after asking, then ever less often, and after
    /// the first second only with each question, for the table may be long and the neighbour away.
    fn is_look_due(&self) -> bool {
        self.pending.iter().any(|wish| wish.looks == 0 || (wish.asked == 1 && wish.looks.is_power_of_two()))
    }

    /// Ends the wish for `addr`; returns whether there was one.
    fn fulfil(&mut self, addr: IpAddr) -> bool {
        let before = self.pending.len();
        self.pending.retain(|wish| wish.addr != addr);
        self.pending.len() < before
    }

    /// Those for which the kernel is to be asked now.
    fn unasked(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.pending.iter().filter(|wish| wish.looks == 0).map(|wish| wish.addr)
    }

    /// A look has passed. An answer may be lost, and come long after, so that a wish lasts as long as somebody may wait.
    fn grow_old(&mut self) {
        self.pending.retain_mut(|wish| {
            wish.asked += u32::from(wish.looks == 0);
            wish.looks = (wish.looks + 1) % ASK_AFTER;
            wish.asked < ASK_MOST
        });
    }
}

/// Passes on what the kernel knows and learns of neighbours, and asks it for those that workers want.
#[derive(Debug)]
pub(super) struct Neighbours<'a> {
    interface: &'a Interface,
    monitor: NeighbourMonitor,
    handle: &'a Handle,
    wishes: Wishes,
    /// The engines know these, and are told when they change; of others they hear when they want them, so
    /// that a long table of the kernel's does not fill theirs.
    told: BTreeSet<IpAddr>,
}

impl<'a> Neighbours<'a> {
    /// Tells the workers of up to `most` neighbours that the kernel knows already.
    pub fn new(
        interface: &'a Interface,
        monitor: NeighbourMonitor,
        handle: &'a Handle,
        most: usize,
    ) -> Result<Self, RunError> {
        let mut new =
            Self { interface, monitor, handle, wishes: Wishes::default(), told: BTreeSet::default() };
        for (addr, mac) in netlink::neighbours(interface.index)?.into_iter().take(most) {
            new.tell(addr, mac);
        }
        Ok(new)
    }

    /// Runs until `is_over`.
    pub fn run(mut self, is_over: impl Fn() -> bool) -> Result<(), RunError> {
        while !is_over() {
            self.look().inspect_err(|_| self.handle.stop())?;
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), RunError> {
        for change in self.monitor.poll()? {
            let Some(mac) = change.mac else { continue };
            if self.wishes.fulfil(change.address) || self.told.contains(&change.address) {
                self.tell(change.address, mac);
            }
        }
        for mailbox in self.handle.mailboxes.iter() {
            while let Some(addr) = mailbox.wanted.pop() {
                self.wishes.add(addr);
            }
        }
        // The kernel announces changes only: of a neighbour that it knows it says nothing when asked.
        if self.wishes.is_look_due() {
            for (addr, mac) in netlink::neighbours(self.interface.index)? {
                if self.wishes.fulfil(addr) {
                    self.tell(addr, mac);
                }
            }
        }
        for addr in self.wishes.unasked() {
            // An address that cannot be asked for stays unresolved, and the connection times out.
            let _ = netlink::resolve(addr, self.interface);
        }
        self.wishes.grow_old();
        Ok(())
    }

    fn tell(&mut self, addr: IpAddr, mac: [u8; 6]) {
        self.told.insert(addr);
        self.handle.mailboxes.iter().for_each(|mailbox| mailbox.tell_neighbour(addr, Mac(mac)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const A: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn a_wish_is_asked_once_however_often_it_is_made() {
        let mut wishes = Wishes::default();
        wishes.add(A);
        wishes.add(A);
        assert_eq!(wishes.unasked().collect::<Vec<_>>(), [A]);
        wishes.grow_old();
        wishes.add(A);
        wishes.add(B);
        assert_eq!(wishes.unasked().collect::<Vec<_>>(), [B]);
        assert!(wishes.fulfil(A) && !wishes.fulfil(A));
    }

    #[test]
    fn the_table_is_read_at_once_and_after_asking_and_ever_less_often() {
        let mut wishes = Wishes::default();
        assert!(!wishes.is_look_due(), "nobody wants anything");
        wishes.add(A);
        let mut looks = Vec::new();
        for look in 0..ASK_AFTER {
            if wishes.is_look_due() {
                looks.push(look);
            }
            wishes.grow_old();
        }
        assert_eq!(looks, [0, 1, 2, 4, 8, 16, 32, 64, 128]);
        let later = (0..ASK_AFTER).filter(|_| {
            let due = wishes.is_look_due();
            wishes.grow_old();
            due
        });
        assert_eq!(later.count(), 1, "when it is asked for anew");
    }

    /// The kernel's own second question, a second after the first, may be the one that is answered.
    #[test]
    fn a_wish_outlives_lost_answers_and_is_asked_anew_each_second() {
        let mut wishes = Wishes::default();
        wishes.add(A);
        let mut asked = Vec::new();
        for look in 0..10 * ASK_AFTER {
            if wishes.unasked().next().is_some() {
                asked.push(look);
            }
            wishes.grow_old();
        }
        assert_eq!(asked, (0..10).map(|second| second * ASK_AFTER).collect::<Vec<_>>());
        assert!(wishes.fulfil(A));
        wishes.add(A);
        (0..ASK_MOST * ASK_AFTER).for_each(|_| wishes.grow_old());
        assert!(!wishes.fulfil(A), "nobody waits for so long");
    }
}
