//! The records of connections that own a TCB, and the handles that outlive them.
#![forbid(unsafe_code)]

use core::mem::offset_of;

use super::egress::Path;
use super::ingress::Link;
use super::keys::{SlotKey, WideAddrs};
use super::listener::ListenerId;
use crate::base::{FlowId, FlowKey, Slab, Slot};
use crate::tcp::{Shared, Tcb};
use crate::wire::Mac;

/// One bit of a [`FlowSlot`]'s state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Mark {
    /// Its addresses are IPv6.
    Ipv6 = 1,
    /// Its neighbour's link address is known.
    Resolved = 1 << 1,
    /// The application knows of it.
    Announced = 1 << 2,
    /// It is in its listener's queue, accepting being paused.
    Waiting = 1 << 3,
    /// It is in the queue of flows to serve, or being served.
    Queued = 1 << 4,
    /// It is in the queue of flows that the send buffers had no chunk for.
    Starved = 1 << 5,
    /// It may use explicit congestion notification.
    Ecn = 1 << 6,
}

/// One connection: the TCB, and what the stack knows of it.
#[derive(Debug, Default)]
#[repr(C, align(64))]
pub(super) struct FlowSlot {
    key: SlotKey,
    mac: Mac,
    vlan: u16,
    /// The listener it came from, or [`NONE`] for active opens.
    listener: u16,
    marks: u16,
    pub tcb: Tcb,
    /// Odd while the slot is in use.
    generation: u32,
    pub user: u64,
}

const _: () = assert!(size_of::<FlowSlot>() == 192);
// Two cache lines hold what every segment of an established connection touches.
const _: () = assert!(offset_of!(FlowSlot, tcb) + Tcb::HOT_OCTETS == 128);

/// No VLAN, or no listener.
const NONE: u16 = u16::MAX;

/// What a [`FlowSlot`] is made from, its TCB apart.
#[derive(Debug)]
pub(super) struct NewFlow<'a> {
    pub key: &'a FlowKey,
    pub link: Link,
    /// IPv6 scope of a link-local peer.
    pub scope_id: u32,
    pub listener: Option<ListenerId>,
    pub user: u64,
    pub resolved: bool,
    pub announced: bool,
}

impl FlowSlot {
    /// Begins anew, all but the TCB.
    #[inline(always)]
    fn renew(&mut self, new: &NewFlow<'_>) {
        self.key = SlotKey::new(new.key);
        self.follow(new.link);
        self.listener = new.listener.map_or(NONE, |ListenerId(at)| at);
        self.marks = 0;
        self.set(Mark::Ipv6, !new.key.is_ipv4());
        self.set(Mark::Resolved, new.resolved);
        self.set(Mark::Announced, new.announced);
        self.generation = self.generation.wrapping_add(1);
        self.user = new.user;
    }

    /// Whether `mark` is set.
    pub const fn is(&self, mark: Mark) -> bool {
        self.marks & mark as u16 != 0
    }

    /// Sets or clears `mark`.
    pub const fn set(&mut self, mark: Mark, on: bool) {
        self.marks = if on { self.marks | mark as u16 } else { self.marks & !(mark as u16) };
    }

    /// Sets or clears `mark`; returns what it was.
    pub const fn replace(&mut self, mark: Mark, on: bool) -> bool {
        let was = self.is(mark);
        self.set(mark, on);
        was
    }

    /// The listener it came from; `None` for active opens.
    pub const fn listener(&self) -> Option<ListenerId> {
        if self.listener == NONE { None } else { Some(ListenerId(self.listener)) }
    }

    /// What its packets have in their link and network headers.
    #[inline]
    pub fn path(&self, shared: &Shared) -> Path {
        let vlan = if self.vlan == NONE { None } else { Some(self.vlan) };
        let settings = shared.settings.get(self.tcb.settings());
        Path { link: Link { mac: self.mac, vlan }, ttl: settings.ttl, dscp: settings.dscp }
    }

    /// It answers to there from now on.
    #[inline]
    pub fn follow(&mut self, link: Link) {
        self.mac = link.mac;
        self.vlan = link.vlan.unwrap_or(NONE);
    }

    /// Its neighbour's link address is this one from now on.
    pub const fn resolve(&mut self, mac: Mac) {
        self.mac = mac;
        self.set(Mark::Resolved, true);
    }

    const fn in_use(&self) -> bool {
        self.generation % 2 == 1
    }
}

impl Slot for FlowSlot {
    fn set_next_free(&mut self, next: u32) {
        self.user = next.into();
    }

    #[expect(clippy::cast_possible_truncation, reason = "it was a u32")]
    fn next_free(&self) -> u32 {
        self.user as u32
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Flows {
    slots: Slab<FlowSlot>,
    wide: WideAddrs,
}

impl Flows {
    /// Room for `capacity` connections; the only allocation there is.
    pub fn with_capacity(capacity: u32) -> Self {
        Self { slots: Slab::with_capacity(capacity), wide: WideAddrs::new(capacity) }
    }

    /// Octets of `capacity` connections, IPv6 addresses apart.
    pub const fn octets(capacity: u32) -> u64 {
        Slab::<FlowSlot>::octets(capacity)
    }

    /// Takes a connection in, whose TCB the caller makes where it is; `None` when there is no room.
    ///
    /// Made elsewhere it would be copied, in wide pieces just after it was written in narrow ones: the processor waits
    /// for each.
    #[inline(always)]
    pub fn insert(&mut self, new: &NewFlow<'_>) -> Option<(FlowId, &mut Tcb)> {
        let (index, slot) = self.slots.take(FlowSlot::default)?;
        slot.renew(new);
        self.wide.set(index, new.key, new.scope_id);
        Some((FlowId { index, generation: slot.generation }, &mut slot.tcb))
    }

    /// The connection is over: its handle names nothing from now on, and its slot is free.
    ///
    /// A handle can only come to life again after its slot was reused 2^31 times.
    pub fn remove(&mut self, index: u32) {
        let slot = self.slots.at_mut(index).expect("tables name slots in use");
        debug_assert!(slot.in_use(), "slot {index} is free already");
        slot.generation = slot.generation.wrapping_add(1);
        self.slots.remove(index);
    }

    /// The connection that `id` names, unless it is over.
    pub fn get(&self, id: FlowId) -> Option<&FlowSlot> {
        self.slots.at(id.index).filter(|slot| slot.generation == id.generation)
    }

    /// The connection in a slot that is in use.
    #[inline]
    pub fn at(&self, index: u32) -> &FlowSlot {
        self.slots.at(index).expect("tables name slots in use")
    }

    /// Like [`Flows::at`], to change it.
    #[inline]
    pub fn at_mut(&mut self, index: u32) -> &mut FlowSlot {
        self.slots.at_mut(index).expect("tables name slots in use")
    }

    /// The handle of the connection in a slot that is in use.
    pub fn id_of(&self, index: u32) -> FlowId {
        FlowId { index, generation: self.at(index).generation }
    }

    /// Whether the connection in slot `index` has this tuple.
    #[inline]
    pub fn has_key(&self, index: u32, key: &FlowKey) -> bool {
        let slot = self.at(index);
        slot.key.is(!slot.is(Mark::Ipv6), &self.wide, index, key)
    }

    /// The tuple of the connection in slot `index`.
    #[inline]
    pub fn key(&self, index: u32) -> FlowKey {
        let slot = self.at(index);
        slot.key.get(!slot.is(Mark::Ipv6), &self.wide, index)
    }

    /// IPv6 scope of the peer, if it has one: not on the wire, but part of its socket's name.
    pub fn scope_id(&self, index: u32) -> u32 {
        if self.at(index).is(Mark::Ipv6) { self.wide.get(index).1 } else { 0 }
    }

    /// Whether there are so many that looking ahead costs less than waiting for memory. What is in TIME-WAIT
    /// does not count: hardly a frame is for it.
    #[inline]
    pub const fn outgrow_caches(&self) -> bool {
        self.len() >= 1 << 14
    }

    /// Reads every cache line of slot `index`, so that it is there when it is wanted; the number means nothing.
    #[inline]
    pub fn touch(&self, index: u32) -> u32 {
        let touched = |slot: &FlowSlot| u32::from(slot.marks) ^ slot.tcb.state() as u32 ^ slot.generation;
        self.slots.at(index).map_or(0, touched)
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

    /// Whether a connection is in slot `index`.
    pub fn in_use(&self, index: u32) -> bool {
        self.slots.at(index).is_some_and(FlowSlot::in_use)
    }

    /// All connections and where they are, in the order of slots.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &FlowSlot)> {
        self.slots.iter().filter(|(_, slot)| slot.in_use())
    }
}
