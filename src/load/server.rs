//! The servers as an application of ringroad's own stack.
#![forbid(unsafe_code)]

use std::sync::Arc;

use super::{Control, ServeApp, Service};
use crate::stack::{App, Cx, Flow};
use crate::tcp::CloseReason;

/// One worker's server; the slot is the flow's index.
#[derive(Debug)]
pub struct Server {
    service: Service,
    control: Arc<Control>,
}

impl Server {
    /// A server on an engine whose flow table holds `flows_max` connections.
    pub fn new(app: ServeApp, flows_max: u32, control: Arc<Control>) -> Self {
        Self { service: Service::new(app, flows_max as usize), control }
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

    fn on_drain(&mut self, cx: &mut Cx<'_>) {
        self.control.leave_counters(cx.counters());
    }
}
