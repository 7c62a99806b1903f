//! What an application sees: the callbacks it gets, and the context in which it answers.
#![forbid(unsafe_code)]

use core::net::{SocketAddr, SocketAddrV6};
use core::time::Duration;

use super::core::Core;
use super::flows::FlowSlot;
use super::listener::{Listen, ListenError, ListenerId};
use crate::base::{Counters, FlowId, Instant};
use crate::tcp::{CloseReason, FlowInfo, FlowOptions, Report, State};

/// An application: one object per worker, driven by callbacks on the worker's thread.
///
/// Callbacks must not block. Only [`App::on_data`] has no default.
#[allow(unused_variables)]
pub trait App {
    /// The worker is about to begin; connections may be opened.
    fn on_start(&mut self, cx: &mut Cx<'_>) {}

    /// A passive open reached ESTABLISHED.
    fn on_accept(&mut self, flow: &mut Flow<'_>) {}

    /// An active open ([`Cx::connect`]) reached ESTABLISHED.
    fn on_connect(&mut self, flow: &mut Flow<'_>) {}

    /// In-order text, borrowed where it lies; returns how many octets were consumed.
    ///
    /// Consuming less than `data.len()` pauses reading as [`Flow::pause`] does: the rest is kept, the
    /// window closes as it fills, and it is offered again after [`Flow::resume`].
    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize;

    /// The peer sent FIN and every octet before it was consumed. The default closes.
    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        flow.close();
    }

    /// There is room again after a [`Flow::send`] that took less than it was given.
    fn on_writable(&mut self, flow: &mut Flow<'_>) {}

    /// Something the user may be told of while the connection lives on (RFC 9293 §3.9.1.8).
    fn on_report(&mut self, flow: &mut Flow<'_>, report: Report) {}

    /// The timer of [`Flow::set_timer`] fired.
    fn on_timer(&mut self, flow: &mut Flow<'_>) {}

    /// The connection is over, or never came to be: the last callback for this flow. `why` tells an abort from an end
    /// (RFC 9293 MUST-12).
    ///
    /// A connection that enters TIME-WAIT is over for its user.
    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {}

    /// The timer of [`Cx::set_timer`] fired.
    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {}

    /// Another thread called the worker's waker.
    fn on_wake(&mut self, cx: &mut Cx<'_>) {}

    /// The worker is shutting down: listeners are gone, and connections have until the deadline.
    fn on_drain(&mut self, cx: &mut Cx<'_>) {}
}

/// What to connect to, and how.
#[derive(Clone, Debug)]
pub struct Connect {
    /// The peer's socket.
    pub remote: SocketAddr,
    /// Our address, when the application wants to choose (RFC 9293 MUST-43); port 0 leaves the port to the engine.
    pub local: Option<SocketAddr>,
    /// Per-connection settings.
    pub options: FlowOptions,
    /// The connection's user word, [`Flow::user`].
    pub user: u64,
}

/// Why a connection could not even be begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// Every source port towards that socket is in use, or in a TIME-WAIT that cannot end early; wait, or add
    /// addresses or ports.
    PortsExhausted,
    /// That four-tuple is already a connection.
    InUse,
    /// The flow table is full; raise `Limits::flows_max`.
    TableFull,
    /// TIME-WAIT could not take one more connection in, and [`TimeWaitFull::RefuseOpens`] was chosen; raise
    /// `Limits::time_wait_max`.
    ///
    /// [`TimeWaitFull::RefuseOpens`]: crate::tcp::TimeWaitFull::RefuseOpens
    TimeWaitFull,
    /// No route leads there, or no local address of that family is configured.
    NoRoute,
    /// The worker is draining.
    Draining,
    /// The remote address is no host's (RFC 9293 MUST-46), or the local one is not ours.
    BadAddress,
    /// The port given belongs to another worker, which would get what the peer answers.
    OtherWorker,
    /// Connections use as many different sets of options as there may be; raise `Limits::options_max`.
    TooManyOptions,
}

/// One callback's view of the worker.
#[derive(Debug)]
pub struct Cx<'a> {
    core: &'a mut Core,
}

impl<'a> Cx<'a> {
    pub(super) const fn new(core: &'a mut Core) -> Self {
        Self { core }
    }

    /// The instant of this turn of the worker's loop.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// This worker's number, from zero.
    pub fn worker(&self) -> u16 {
        self.core.config.worker
    }

    /// Begins an active open. The outcome comes as [`App::on_connect`] or [`App::on_close`].
    ///
    /// # Errors
    ///
    /// When not even a SYN can be made ready: see [`ConnectError`].
    pub fn connect(&mut self, connect: &Connect) -> Result<FlowId, ConnectError> {
        self.core.connect(connect)
    }

    /// Makes a listener.
    ///
    /// # Errors
    ///
    /// When the socket is taken or there are too many: see [`ListenError`].
    pub fn listen(&mut self, listen: &Listen) -> Result<ListenerId, ListenError> {
        self.core.listen(listen)
    }

    /// Lets established connections of `listener` wait, up to its backlog; the rest stay half-open.
    pub fn pause_accept(&mut self, listener: ListenerId) {
        self.core.listeners[usize::from(listener.0)].paused = true;
    }

    /// Announces what waited, and what comes, with [`App::on_accept`].
    pub fn resume_accept(&mut self, listener: ListenerId) {
        let at = usize::from(listener.0);
        self.core.listeners[at].paused = false;
        for nth in 0..self.core.listeners[at].waiting.len() {
            let index = self.core.listeners[at].waiting[nth];
            self.core.mark_ready(index);
        }
    }

    /// The listeners, less those that were closed.
    pub fn listeners(&self) -> impl Iterator<Item = ListenerId> + '_ {
        let live = (0u16..).zip(&self.core.listeners).filter(|(_, listener)| !listener.draining);
        live.map(|(at, _)| ListenerId(at))
    }

    /// Ends `listener`: SYNs to it are refused from now on. What is half-open or waits still comes.
    pub fn close_listener(&mut self, listener: ListenerId) {
        self.core.listeners[usize::from(listener.0)].draining = true;
    }

    /// The connection `id`, unless it is over.
    pub fn flow(&mut self, id: FlowId) -> Option<Flow<'_>> {
        self.core.flows.get(id)?;
        Some(Flow { core: self.core, index: id.index() })
    }

    /// Calls [`App::on_worker_timer`] once, `after` from now; replaces the timer set before.
    pub fn set_timer(&mut self, after: Duration) {
        self.core.worker_timer = self.core.now + after;
    }

    /// Takes the worker's timer back.
    pub fn cancel_timer(&mut self) {
        self.core.worker_timer = Instant::NEVER;
    }

    /// What the engine has counted so far.
    pub fn counters(&self) -> &Counters {
        &self.core.counters
    }

    /// Asks the worker to end after this turn: connections that are left are aborted.
    pub fn stop(&mut self) {
        self.core.stop = true;
    }
}

/// One callback's view of one connection.
#[derive(Debug)]
pub struct Flow<'a> {
    core: &'a mut Core,
    index: u32,
}

impl<'a> Flow<'a> {
    pub(super) const fn new(core: &'a mut Core, index: u32) -> Self {
        Self { core, index }
    }

    fn slot(&self) -> &FlowSlot {
        self.core.flows.at(self.index)
    }

    fn slot_mut(&mut self) -> &mut FlowSlot {
        self.core.slot(self.index)
    }

    /// The handle, valid until [`App::on_close`] returns.
    pub fn id(&self) -> FlowId {
        self.core.flows.id_of(self.index)
    }

    /// The worker this connection lives on.
    pub fn cx(&mut self) -> Cx<'_> {
        Cx { core: self.core }
    }

    /// The instant of this turn of the worker's loop.
    pub fn now(&self) -> Instant {
        self.core.now
    }

    /// The application's word for this connection; zero at first for passive opens.
    pub fn user(&self) -> u64 {
        self.slot().user
    }

    /// Sets the application's word.
    pub fn set_user(&mut self, user: u64) {
        self.slot_mut().user = user;
    }

    /// Queues text to send; returns how many octets were taken.
    ///
    /// Less than `data.len()` means the send buffer is full: [`App::on_writable`] follows when there is
    /// room. Zero also when the connection can no longer send.
    #[inline(always)]
    pub fn send(&mut self, data: &[u8]) -> usize {
        let Core { flows, shared, .. } = &mut *self.core;
        let slot = flows.at_mut(self.index);
        let taken = slot.tcb.send(data, shared);
        if taken < data.len() && shared.send.free_count() == 0 {
            self.core.mark_starved(self.index);
        }
        self.core.mark_ready(self.index);
        taken
    }

    /// Octets that [`Flow::send`] would take now, as far as the connection's own buffer goes.
    pub fn send_room(&self) -> usize {
        self.slot().tcb.send_room(&self.core.shared) as usize
    }

    /// Half-close: a FIN follows the text queued so far; receiving goes on.
    pub fn shutdown(&mut self) {
        self.slot_mut().tcb.shutdown();
        self.core.mark_ready(self.index);
    }

    /// Closes: a FIN follows the text queued so far, and nothing more is read.
    ///
    /// Text not yet consumed, or arriving later, makes it a reset (RFC 9293 §3.6.1, SHLD-3).
    pub fn close(&mut self) {
        let Core { flows, counters, config, now, shared, .. } = &mut *self.core;
        let slot = flows.at_mut(self.index);
        slot.tcb.close(*now, &config.tcp, shared, counters);
        self.core.mark_ready(self.index);
    }

    /// Aborts with a RST; [`App::on_close`] follows with [`CloseReason::Aborted`].
    pub fn abort(&mut self) {
        let Core { flows, counters, .. } = &mut *self.core;
        let slot = flows.at_mut(self.index);
        slot.tcb.abort(counters);
        self.core.mark_ready(self.index);
    }

    /// Stops [`App::on_data`]; arriving text is kept until the receive buffer is full.
    pub fn pause(&mut self) {
        self.slot_mut().tcb.set_paused(true);
    }

    /// Starts [`App::on_data`] again, first with what was kept.
    pub fn resume(&mut self) {
        self.slot_mut().tcb.set_paused(false);
        self.core.mark_ready(self.index);
    }

    /// The connection's state.
    pub fn state(&self) -> State {
        self.slot().tcb.state()
    }

    /// Round-trip time, windows, counts: a copy.
    pub fn info(&self) -> FlowInfo {
        self.slot().tcb.info(&self.core.shared)
    }

    /// Our socket.
    pub fn local(&self) -> SocketAddr {
        with_scope(self.core.flows.key(self.index).local_addr(), self.core.flows.scope_id(self.index))
    }

    /// The peer's socket.
    pub fn remote(&self) -> SocketAddr {
        with_scope(self.core.flows.key(self.index).remote_addr(), self.core.flows.scope_id(self.index))
    }

    /// The listener it came from; `None` for active opens.
    pub fn listener(&self) -> Option<ListenerId> {
        self.slot().listener()
    }

    /// Calls [`App::on_timer`] once, `after` from now, or never when that is 24 days or more; replaces the
    /// timer set before.
    pub fn set_timer(&mut self, after: Duration) {
        let now = self.core.now;
        self.slot_mut().tcb.set_app_timer(after, now);
        self.core.mark_ready(self.index);
    }

    /// Takes the connection's timer back.
    pub fn cancel_timer(&mut self) {
        self.slot_mut().tcb.cancel_app_timer();
    }

    /// Replaces the connection's settings from now on; `false`, and nothing changes, when there is no room for
    /// one more set (`Limits::options_max`).
    ///
    /// Congestion control, `connect_timeout`, `mss`, `vlan` and `scope_id` stay what they were when it was
    /// opened, and a window that was offered is not taken back.
    pub fn set_options(&mut self, options: &FlowOptions) -> bool {
        let Core { flows, shared, .. } = &mut *self.core;
        let Some(settings) = shared.settings.intern(options) else { return false };
        flows.at_mut(self.index).tcb.set_settings(settings, shared);
        self.core.mark_ready(self.index);
        true
    }

    /// Switches Nagle's algorithm (on by default; RFC 9293 MUST-17).
    pub fn set_nagle(&mut self, on: bool) {
        self.slot_mut().tcb.set_nagle(on);
        self.core.mark_ready(self.index);
    }
}

/// A link-local socket is only a name together with its scope (RFC 4007 §11).
fn with_scope(addr: SocketAddr, scope_id: u32) -> SocketAddr {
    match addr {
        SocketAddr::V6(v6) if v6.ip().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.ip(), v6.port(), 0, scope_id).into()
        }
        _ => addr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_link_local_socket_carries_its_scope() {
        for (addr, want, why) in [
            ("[fe80::1]:80", "[fe80::1%3]:80", "means nothing without"),
            ("[febf::1]:80", "[febf::1%3]:80", "the last of fe80::/10"),
            ("[fd00::1]:80", "[fd00::1]:80", "unique already"),
            ("10.0.0.1:80", "10.0.0.1:80", "IPv4 knows none"),
        ] {
            let named = with_scope(addr.parse().expect("a socket"), 3);
            assert_eq!(named, want.parse().expect("a socket"), "{why}");
        }
    }
}
