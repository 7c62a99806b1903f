//! The records of connections in SYN-RECEIVED by passive open, and where to answer them.
#![forbid(unsafe_code)]

use super::ingress::Link;
use super::keys::{SlotKey, WideAddrs};
use super::listener::ListenerId;
use crate::base::{FlowKey, Slab, Slot};
use crate::tcp::HalfOpen;
use crate::wire::Mac;

/// No VLAN.
const NONE: u16 = u16::MAX;

/// A half-open connection, and where to answer.
#[derive(Debug)]
pub(super) struct HalfOpenSlot {
    /// Its `owner` is the listener.
    pub half: HalfOpen,
    key: SlotKey,
    mac: Mac,
    vlan: u16,
}

const _: () = assert!(size_of::<HalfOpenSlot>() == 44);

impl HalfOpenSlot {
    /// Where its peer is.
    pub const fn link(&self) -> Link {
        Link { mac: self.mac, vlan: if self.vlan == NONE { None } else { Some(self.vlan) } }
    }

    /// Whose SYN it was.
    pub const fn listener(&self) -> ListenerId {
        ListenerId(self.half.owner())
    }
}

impl Slot for HalfOpenSlot {
    fn set_next_free(&mut self, next: u32) {
        self.half.end(next);
    }

    fn next_free(&self) -> u32 {
        self.half.left()
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct HalfOpens {
    slots: Slab<HalfOpenSlot>,
    wide: WideAddrs,
}

impl HalfOpens {
    /// Room for `capacity` of them; the only allocation there is.
    pub fn with_capacity(capacity: u32) -> Self {
        Self { slots: Slab::with_capacity(capacity), wide: WideAddrs::new(capacity) }
    }

    /// Octets of `capacity` of them, IPv6 addresses apart.
    pub const fn octets(capacity: u32) -> u64 {
        Slab::<HalfOpenSlot>::octets(capacity)
    }

    /// Takes one in and says where; `None` when there is no room.
    #[inline(always)]
    pub fn insert(&mut self, half: HalfOpen, key: &FlowKey, link: Link) -> Option<u32> {
        let (mac, vlan) = (link.mac, link.vlan.unwrap_or(NONE));
        let index = self.slots.insert(HalfOpenSlot { half, key: SlotKey::new(key), mac, vlan })?;
        self.wide.set(index, key, 0);
        Some(index)
    }

    /// Slot `index` is free from now on.
    pub fn remove(&mut self, index: u32) {
        self.slots.remove(index);
    }

    /// The one in a slot that is in use.
    #[inline]
    pub fn at(&self, index: u32) -> &HalfOpenSlot {
        self.slots.at(index).expect("tables name slots in use")
    }

    /// Like [`HalfOpens::at`], to change it.
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> &mut HalfOpenSlot {
        self.slots.at_mut(index).expect("tables name slots in use")
    }

    /// Whether the one in slot `index` has this tuple.
    #[inline]
    pub fn has_key(&self, index: u32, key: &FlowKey) -> bool {
        let slot = self.at(index);
        slot.key.is(slot.half.is_ipv4(), &self.wide, index, key)
    }

    /// The tuple of the one in slot `index`.
    pub fn key(&self, index: u32) -> FlowKey {
        let slot = self.at(index);
        slot.key.get(slot.half.is_ipv4(), &self.wide, index)
    }

    /// How many there are.
    pub const fn len(&self) -> u32 {
        self.slots.len()
    }

    /// Whether there can be no more.
    pub const fn is_full(&self) -> bool {
        self.slots.len() == self.slots.capacity()
    }

    /// Slots below this one were in use at some time.
    pub const fn touched(&self) -> u32 {
        self.slots.touched()
    }

    /// Whether one is in slot `index`.
    pub fn in_use(&self, index: u32) -> bool {
        self.slots.at(index).is_some_and(|slot| !slot.half.is_over())
    }
}
