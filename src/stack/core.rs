//! What callbacks may touch: every table of one engine but the receive buffers.
#![forbid(unsafe_code)]

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;

use super::app::{Connect, ConnectError};
use super::egress::Path;
use super::flow_table::FlowTable;
use super::flows::{FlowSlot, Flows, Mark, NewFlow};
use super::half_open::HalfOpens;
use super::ingress::{Link, header_octets};
use super::limits::Limits;
use super::listener::{Listen, ListenError, Listener, ListenerId};
use super::neighbour::Neighbours;
use super::ports::Ports;
use super::route::Routes;
use super::rss::Owners;
use super::time_wait::TimeWaitTable;
use super::wheel::Wheel;
use crate::base::{Clock, Counter, Counters, DropReason, FlowId, FlowKey, HashKey, Instant, Seq, TableHash};
use crate::tcp::{
    ChallengeLimit, ChunkPool, FlowOptions, Opening, Origin, Outgoing, Predecessor, Secrets, Segment, Shared,
    TcpConfig, TimeWaitFull, reset_for,
};
use crate::wire::{Control, Mac};

/// Everything an engine is made from.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What it may hold.
    pub limits: Limits,
    /// Protocol constants.
    pub tcp: TcpConfig,
    /// Our link address.
    pub mac: Mac,
    /// The interface's MTU, octets.
    pub mtu: u16,
    /// Our addresses and routes.
    pub routes: Routes,
    /// Source ports of active opens.
    pub source_ports: RangeInclusive<u16>,
    /// This worker's number.
    pub worker: u16,
    /// Which worker owns which flow.
    pub owners: Owners,
    /// Verify TCP checksums on receipt (RFC 9293 MUST-3); off only where the path is trusted.
    pub verify_checksums: bool,
    /// The secret from which hashes, ISNs, timestamps and shares of challenge ACKs are derived.
    pub secret: HashKey,
}

/// What an active open must know of a tuple that may be opened.
#[derive(Clone, Copy, Debug)]
struct Free {
    hash: u64,
    /// The record of its incarnation in TIME-WAIT, which ends.
    rests: Option<(u32, Predecessor)>,
}

/// What a four-tuple leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Flow(u32),
    HalfOpen(u32),
    TimeWait(u32),
}

impl Found {
    /// Table values: two bits say which table, thirty say where.
    const INDEX_BITS: u32 = 30;

    pub const fn to_value(self) -> u32 {
        match self {
            Self::Flow(index) => index,
            Self::HalfOpen(index) => index | 1 << Self::INDEX_BITS,
            Self::TimeWait(index) => index | 2 << Self::INDEX_BITS,
        }
    }

    pub const fn from_value(value: u32) -> Self {
        let index = value & ((1 << Self::INDEX_BITS) - 1);
        match value >> Self::INDEX_BITS {
            0 => Self::Flow(index),
            1 => Self::HalfOpen(index),
            _ => Self::TimeWait(index),
        }
    }
}

/// The tables.
#[derive(Debug)]
pub(super) struct Core {
    pub now: Instant,
    /// The same instant, for what TCBs make of it.
    pub clock: Clock,
    pub config: EngineConfig,
    pub flows: Flows,
    pub half_open: HalfOpens,
    pub time_wait: TimeWaitTable,
    pub table: FlowTable,
    pub hash: TableHash,
    /// One node a flow, then one a half-open connection.
    pub wheel: Wheel,
    pub listeners: Vec<Listener>,
    /// What TCBs share.
    pub shared: Shared,
    /// Flows that have something to deliver or to send.
    pub ready: VecDeque<u32>,
    /// Flows whose text found no chunk to lie in, the first first.
    pub starved: VecDeque<u32>,
    pub counters: Counters,
    pub ports: Ports,
    pub neighbours: Neighbours,
    pub secrets: Secrets,
    pub worker_timer: Instant,
    pub draining: bool,
    pub stop: bool,
}

impl Core {
    pub fn new(config: EngineConfig, now: Instant) -> Self {
        let limits = config.limits;
        let entries = limits.flows_max + limits.half_open_max + limits.time_wait_max;
        assert!(entries < 1 << Found::INDEX_BITS, "limits add up to more entries than an index can name");
        Self {
            now,
            clock: Clock::new(now),
            flows: Flows::with_capacity(limits.flows_max),
            half_open: HalfOpens::with_capacity(limits.half_open_max),
            time_wait: TimeWaitTable::new(limits.time_wait_max, config.tcp.time_wait),
            table: FlowTable::new(entries),
            hash: TableHash::new(&config.secret.derive(1)),
            wheel: Wheel::new(limits.flows_max + limits.half_open_max, now),
            listeners: Vec::with_capacity(usize::from(limits.listeners_max)),
            shared: Shared::new(
                limits.options_max,
                limits.busy_max,
                limits.models_max,
                ChunkPool::new(limits.send_chunks, limits.chunk_len),
                ChallengeLimit::new(&config.secret.derive(4), config.worker, now),
            ),
            ready: VecDeque::with_capacity(limits.flows_max as usize),
            starved: VecDeque::with_capacity(limits.flows_max as usize),
            counters: Counters::new(),
            ports: Ports::new(config.source_ports.clone(), config.secret.derive(2)),
            neighbours: Neighbours::new(limits.neighbours_max),
            secrets: Secrets::new(&config.secret.derive(3)),
            worker_timer: Instant::NEVER,
            draining: false,
            stop: false,
            config,
        }
    }

    /// A turn begins.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
        self.clock = Clock::new(now);
    }

    /// The flow in a slot that the tables say is in use.
    pub fn slot(&mut self, index: u32) -> &mut FlowSlot {
        self.flows.at_mut(index)
    }

    /// What `key`, whose hash is `hash`, leads to.
    #[inline(always)]
    pub fn find(&self, key: &FlowKey, hash: u64) -> Option<Found> {
        // A loop, as the methods of iterators are not compiled into their caller.
        for value in self.table.candidates(hash) {
            if self.has_key(value, key) {
                return Some(Found::from_value(value));
            }
        }
        None
    }

    /// Whether the record that a value of the table names has this tuple.
    #[inline(always)]
    pub fn has_key(&self, value: u32, key: &FlowKey) -> bool {
        match Found::from_value(value) {
            Found::Flow(index) => self.flows.has_key(index, key),
            other => self.record_has_key(other, *key),
        }
    }

    /// The tuple comes by value, so that nothing refers to the one of a frame for a flow.
    #[inline(never)]
    fn record_has_key(&self, found: Found, key: FlowKey) -> bool {
        match found {
            Found::Flow(index) => self.flows.has_key(index, &key),
            Found::HalfOpen(index) => self.half_open.has_key(index, &key),
            Found::TimeWait(index) => self.time_wait.has_key(index, &key),
        }
    }

    /// The wheel's node of a half-open connection.
    pub fn half_open_node(&self, index: u32) -> u32 {
        self.config.limits.flows_max + index
    }

    /// Sees to it that the flow is served before the turn ends.
    pub fn mark_ready(&mut self, index: u32) {
        let slot = self.slot(index);
        if !slot.replace(Mark::Queued, true) {
            self.ready.push_back(index);
        }
    }

    /// The flow's text found no chunk: it is served again when there are some.
    pub fn mark_starved(&mut self, index: u32) {
        let slot = self.slot(index);
        if !slot.replace(Mark::Starved, true) {
            self.starved.push_back(index);
        }
    }

    /// Serves flows that found no chunk, now that there are some: no more of them than chunks.
    pub fn feed_starved(&mut self) {
        for _ in 0..self.shared.send.free_count() {
            let Some(index) = self.starved.pop_front() else { return };
            self.slot(index).set(Mark::Starved, false);
            self.mark_ready(index);
        }
    }

    /// The link address to send to `remote`; an unknown neighbour is wanted from now on.
    pub fn resolve(&mut self, remote: &IpAddr) -> Option<Mac> {
        let hop = self.config.routes.next_hop(remote)?;
        self.neighbours.find(hop.neighbour)
    }

    /// A neighbour's link address is known, or another than it was: the connections that we opened
    /// through it use it from now on. Those that a peer opened follow their peer's frames.
    pub fn on_neighbour(&mut self, addr: IpAddr, mac: Mac) {
        for index in 0..self.flows.touched() {
            if !self.flows.in_use(index) || self.flows.at(index).listener().is_some() {
                continue;
            }
            let remote = self.flows.key(index).remote();
            let hop = self.config.routes.next_hop(&remote);
            if hop.is_some_and(|hop| *hop.neighbour == addr) {
                self.slot(index).resolve(mac);
                self.mark_ready(index);
            }
        }
    }

    /// Whether a listener takes one more SYN.
    pub fn admits(&self, listener: ListenerId) -> Result<(), DropReason> {
        let listener = &self.listeners[usize::from(listener.0)];
        let full = listener.half_open >= listener.listen.half_open_max || self.half_open.is_full();
        if full { Err(DropReason::HalfOpenFull) } else { Ok(()) }
    }

    /// Whether a half-open connection of `listener` may become a connection.
    pub fn accepts(&self, listener: ListenerId) -> Result<(), DropReason> {
        let listener = &self.listeners[usize::from(listener.0)];
        if listener.paused && listener.waiting.len() >= listener.listen.backlog as usize {
            return Err(DropReason::BacklogFull);
        }
        if self.flows.is_full() {
            return Err(DropReason::FlowTableFull);
        }
        Ok(())
    }

    /// What a connection of this tuple begins with.
    pub fn opening(&self, key: &FlowKey, origin: Origin, options: &FlowOptions) -> Opening {
        let v4 = key.is_ipv4();
        let fits = self.config.mtu.saturating_sub(header_octets(v4));
        Opening {
            iss: origin.isn,
            // RFC 9293 MUST-67: what fits the largest packet that we take.
            mss: options.mss.map_or(fits, |most| most.min(fits)),
            // RFC 9293 MUST-15.
            mss_default: if v4 { 536 } else { 1_220 },
            timestamp_offset: origin.timestamp_offset,
            now: self.now,
        }
    }

    /// Makes a listener beside those there are (RFC 9293 MUST-41, MUST-42).
    pub fn listen(&mut self, listen: &Listen) -> Result<ListenerId, ListenError> {
        let live = |listener: &&Listener| !listener.draining;
        if self.listeners.iter().filter(live).any(|listener| listener.overlaps(listen)) {
            return Err(ListenError::InUse);
        }
        if self.listeners.len() >= usize::from(self.config.limits.listeners_max) {
            return Err(ListenError::TooMany);
        }
        let id = u16::try_from(self.listeners.len()).expect("bounded by a u16");
        let settings = self.shared.settings.intern(&listen.options).ok_or(ListenError::TooManyOptions)?;
        self.listeners.push(Listener::new(listen, settings));
        Ok(ListenerId(id))
    }

    /// The listener for a SYN to this socket.
    pub fn listener_for(&self, key: &FlowKey) -> Option<ListenerId> {
        let covers = |listener: &Listener| listener.covers(key);
        let live = |listener: &Listener| !listener.draining && covers(listener);
        let at = self.listeners.iter().position(live).or_else(|| self.listeners.iter().position(covers))?;
        let specific = key.addrs.has_local(&self.listeners[at].listen.address);
        (specific || self.config.routes.is_ours(key))
            .then(|| ListenerId(u16::try_from(at).expect("bounded by a u16")))
    }

    /// Whether a SYN to this socket would be welcome.
    pub fn is_listening(&self, key: &FlowKey) -> bool {
        self.listener_for(key).is_some_and(|ListenerId(at)| !self.listeners[usize::from(at)].draining)
    }

    /// The reset for a segment that belongs to no connection: CLOSED, or LISTEN, which drops what has neither
    /// SYN nor ACK (RFC 9293 §3.10.7.1, §3.10.7.2).
    pub fn refusal(&self, key: &FlowKey, seg: &Segment<'_>) -> Result<Option<Outgoing>, DropReason> {
        let lacks_all = !seg.has(Control::SYN | Control::ACK | Control::RST);
        if lacks_all && self.is_listening(key) { Err(DropReason::NoAck) } else { Ok(reset_for(seg)) }
    }

    /// Begins an active open (RFC 9293 §3.10.1).
    pub fn connect(&mut self, connect: &Connect) -> Result<FlowId, ConnectError> {
        if self.draining {
            return Err(ConnectError::Draining);
        }
        let remote = connect.remote.ip();
        if remote.is_unspecified() || remote.is_multicast() || is_broadcast(remote) {
            // RFC 9293 MUST-46.
            return Err(ConnectError::BadAddress);
        }
        let hop = self.config.routes.next_hop(&remote).ok_or(ConnectError::NoRoute)?;
        let given = connect.local.map(|local| local.ip()).filter(|ip| !ip.is_unspecified());
        // RFC 9293 MUST-44: routing says it. Connections keep it (MUST-45).
        let local = given.or(hop.source).ok_or(ConnectError::NoRoute)?;
        let neighbour = *hop.neighbour;
        let local_port = connect.local.map_or(0, |local| local.port());
        let mut key = FlowKey::new(SocketAddr::new(local, local_port), connect.remote)
            .filter(|key| self.config.routes.is_ours(key))
            .ok_or(ConnectError::BadAddress)?;
        if self.flows.is_full() {
            return Err(ConnectError::TableFull);
        }
        self.check_time_wait_room()?;
        let Free { hash, rests } = self.free_tuple(&mut key)?;
        let options = &connect.options;
        let settings = self.shared.settings.intern(options).ok_or(ConnectError::TooManyOptions)?;
        let mac = self.neighbours.find(&neighbour);
        let before = rests.map(|(_, before)| before);
        let opening = self.opening(&key, self.origin(&key, before.map(|before| before.floor)), options);
        let new = NewFlow {
            key: &key,
            link: Link { mac: mac.unwrap_or_default(), vlan: options.vlan },
            scope_id: options.scope_id,
            listener: None,
            user: connect.user,
            resolved: mac.is_some(),
            announced: true,
        };
        let (id, tcb) = self.flows.insert(&new).ok_or(ConnectError::TableFull)?;
        tcb.open(&opening, options, settings, &self.shared, &self.config.tcp);
        if let Some(before) = &before {
            tcb.follow(before);
        }
        self.slot(id.index()).set(Mark::Ecn, options.may_use_ecn());
        let value = Found::Flow(id.index()).to_value();
        if let Some((index, _)) = rests {
            self.counters.add(Counter::TimeWaitReusedActively);
            self.time_wait.remove(index);
            self.table.replace(hash, Found::TimeWait(index).to_value(), value);
        } else if !self.table.insert(hash, value) {
            // As good as never: no room within reach of its place, though elsewhere there is.
            self.shared.settings.release(settings);
            self.flows.remove(id.index());
            return Err(ConnectError::TableFull);
        }
        self.counters.add(Counter::ActiveOpens);
        self.mark_ready(id.index());
        Ok(id)
    }

    /// With [`TimeWaitFull::RefuseOpens`] every open connection must find room in TIME-WAIT when it ends.
    fn check_time_wait_room(&mut self) -> Result<(), ConnectError> {
        let refuses = self.config.tcp.time_wait_full == TimeWaitFull::RefuseOpens;
        // Dead records make room without shortening anybody's 2 MSL.
        while refuses && self.time_wait.room() <= self.flows.len() && self.time_wait.pop_dead() {}
        if refuses && self.time_wait.room() <= self.flows.len() {
            self.counters.add(Counter::TimeWaitOpensRefused);
            return Err(ConnectError::TimeWaitFull);
        }
        Ok(())
    }

    /// Sees whether the tuple may be opened, and chooses its source port where none was given.
    ///
    /// Candidates come in an order in which each is away for as long as possible, so the first that is free
    /// or may follow its incarnation in TIME-WAIT is as good as any: whoever looked for one that is entirely
    /// free would look at all of them once each has been used.
    fn free_tuple(&mut self, key: &mut FlowKey) -> Result<Free, ConnectError> {
        if key.local_port != 0 {
            if self.config.owners.owner(key) != self.config.worker {
                return Err(ConnectError::OtherWorker);
            }
            return self.usable(key).ok_or(ConnectError::InUse);
        }
        let mut candidates = self.ports.candidates(key);
        let chosen = candidates.find_map(|port| {
            key.local_port = port;
            let is_ours = self.config.owners.owner(key) == self.config.worker;
            if is_ours { self.usable(key) } else { None }
        });
        self.ports.settle(&candidates);
        if chosen.is_none() {
            self.counters.add(Counter::PortsExhausted);
        }
        chosen.ok_or(ConnectError::PortsExhausted)
    }

    /// What an active open must know of `key`; `None` when it may not be opened.
    #[inline(always)]
    fn usable(&self, key: &FlowKey) -> Option<Free> {
        let hash = self.hash.flow(key);
        let rests = match self.find(key, hash) {
            None => None,
            Some(Found::TimeWait(index)) => Some((index, self.time_wait.at(index).predecessor(self.now)?)),
            Some(Found::Flow(_) | Found::HalfOpen(_)) => return None,
        };
        Some(Free { hash, rests })
    }

    /// Where a connection's numbers begin: the ISN beyond `floor`, where an old incarnation set one.
    pub fn origin(&self, key: &FlowKey, floor: Option<Seq>) -> Origin {
        let origin = self.secrets.origin(key, self.now);
        Origin { isn: floor.map_or(origin.isn, |floor| origin.isn.later(floor)), ..origin }
    }
}

fn is_broadcast(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V4(v4) if v4.is_broadcast())
}

/// The headers of a segment of no flow with these options.
pub(super) const fn path(link: Link, options: &FlowOptions) -> Path {
    Path { link, ttl: options.ttl, dscp: options.dscp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_values_say_which_table_and_where() {
        for found in [Found::Flow(0), Found::HalfOpen(7), Found::TimeWait((1 << 30) - 1)] {
            assert_eq!(Found::from_value(found.to_value()), found);
        }
    }
}
