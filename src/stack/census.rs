//! Which connections there are, in whatever table: for whoever shows or checks them.
#![forbid(unsafe_code)]

use core::net::{IpAddr, SocketAddr};

use super::engine::Engine;
use crate::base::FlowKey;
use crate::tcp::State;

/// A connection as [`Engine::connections`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Our socket.
    pub local: SocketAddr,
    /// The peer's socket.
    pub remote: SocketAddr,
    /// Its state.
    pub state: State,
}

impl Connection {
    const fn new(key: &FlowKey, state: State) -> Self {
        Self { local: key.local_addr(), remote: key.remote_addr(), state }
    }
}

impl Engine {
    /// Every connection: those with a TCB, then half-open ones, then those in TIME-WAIT. It walks through whole
    /// tables.
    ///
    /// One that is over but waits for the application to read the rest is shown in its last state.
    pub fn connections(&self) -> impl Iterator<Item = Connection> + '_ {
        let flows = self.core.flows.iter();
        let flows = flows.map(|(at, slot)| Connection::new(&self.core.flows.key(at), slot.tcb.state()));
        let half_open = (0..self.core.half_open.touched()).filter(|&at| self.core.half_open.in_use(at));
        let half_open = half_open.map(|at| Connection::new(&self.core.half_open.key(at), State::SynReceived));
        let rests = self.core.time_wait.keys().map(|key| Connection::new(&key, State::TimeWait));
        flows.chain(half_open).chain(rests)
    }

    /// The interface has one more address: what comes to it is for us, and connections may begin there.
    pub fn add_address(&mut self, addr: IpAddr) {
        if !self.core.config.routes.is_local(addr) {
            self.core.config.routes.addresses.push(addr);
        }
    }
}
