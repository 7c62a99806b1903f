//! The servers as an application of ringroad's own stack.
#![forbid(unsafe_code)]

use super::{ServeApp, Service};
use crate::stack::{App, Flow};
use crate::tcp::CloseReason;

/// One worker's server; the slot is the flow's index.
#[derive(Debug)]
pub struct Server {
    service: Service,
}

impl Server {
    /// A server on an engine whose flow table holds `flows_max` connections.
    pub fn new(app: ServeApp, flows_max: u32) -> Self {
        Self { service: Service::new(app, flows_max as usize) }
    }
}

impl App for Server {
    fn on_accept(&mut self, flow: &mut Flow<'_>) {
        self.service.on_accept(flow.id().index(), flow);
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.service.on_data(flow.id().index(), data, flow)
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.service.on_fin(flow.id().index(), flow);
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        self.service.on_writable(flow.id().index(), flow);
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, _why: CloseReason) {
        self.service.on_closed(flow.id().index());
    }
}
