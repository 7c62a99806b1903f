//! The generator as an application of ringroad's own stack.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use std::vec;
use std::vec::Vec;

use super::{Conn, Control, ErrorKind, Generator, Open, Opener, Plan};
use crate::base::{FlowId, Instant};
use crate::stack::{App, Connect, ConnectError, Cx, Flow};
use crate::tcp::{CloseReason, FlowOptions};

/// One worker's generator; the slot is the connection's user word.
#[derive(Debug)]
pub struct Client {
    plan: Arc<Plan>,
    control: Arc<Control>,
    options: FlowOptions,
    /// `None` until the worker starts, for only then is the time known.
    generator: Option<Generator>,
    flows: Vec<Option<FlowId>>,
    timer_at: Instant,
    left: bool,
}

impl Client {
    /// The generator of one worker; `options` hold for every connection.
    pub fn new(plan: Arc<Plan>, control: Arc<Control>, options: FlowOptions) -> Self {
        let options = FlowOptions { connect_timeout: Some(plan.connect_timeout), ..options };
        Self {
            plan,
            control,
            options,
            generator: None,
            flows: Vec::new(),
            timer_at: Instant::NEVER,
            left: false,
        }
    }

    /// Lets the generator begin what is due, and sees to being called again.
    fn pump(&mut self, cx: &mut Cx<'_>) {
        let Some(generator) = &mut self.generator else { return };
        let now = cx.now();
        generator.pump(now, &mut EngineOpener { cx, flows: &mut self.flows, options: &self.options });
        if generator.is_done() {
            if !self.left {
                self.left = true;
                cx.stop();
            }
            return;
        }
        let deadline = generator.deadline();
        // The timer is only ever moved forward; one that fires too early costs less than setting it each time.
        if deadline < self.timer_at || self.timer_at <= now {
            self.timer_at = deadline;
            cx.set_timer(deadline.since(now).max(Duration::from_micros(1)));
        }
    }

    /// Runs `act` on the generator, unless the flow came before the start.
    fn with(&mut self, flow: &mut Flow<'_>, act: impl FnOnce(&mut Generator, u32, Instant, &mut Flow<'_>)) {
        let (slot, now) = (slot_of(flow), flow.now());
        if let Some(generator) = &mut self.generator {
            act(generator, slot, now, flow);
        }
    }
}

fn slot_of(flow: &Flow<'_>) -> u32 {
    u32::try_from(flow.user()).expect("the user word is a slot")
}

impl App for Client {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        let (plan, control) = (Arc::clone(&self.plan), Arc::clone(&self.control));
        self.flows = vec![None; plan.share(cx.worker()) as usize];
        self.generator = Some(Generator::new(plan, control, cx.worker(), cx.now()));
        self.pump(cx);
    }

    fn on_connect(&mut self, flow: &mut Flow<'_>) {
        self.with(flow, |generator, slot, now, flow| generator.on_open(slot, now, flow));
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        self.with(flow, |generator, slot, now, flow| generator.on_data(slot, now, data, flow));
        data.len()
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.with(flow, |generator, slot, now, flow| generator.on_fin(slot, now, flow));
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        self.with(flow, |generator, slot, now, flow| generator.on_writable(slot, now, flow));
    }

    fn on_close(&mut self, flow: &mut Flow<'_>, why: CloseReason) {
        self.flows[slot_of(flow) as usize] = None;
        self.with(flow, |generator, slot, now, _| generator.on_closed(slot, now, why));
        self.pump(&mut flow.cx());
    }

    fn on_worker_timer(&mut self, cx: &mut Cx<'_>) {
        self.timer_at = Instant::NEVER;
        self.pump(cx);
    }

    fn on_wake(&mut self, cx: &mut Cx<'_>) {
        self.pump(cx);
    }

    fn on_drain(&mut self, cx: &mut Cx<'_>) {
        self.control.stop();
        // The worker ends with its last connection: results must be left by then, and nothing opened any more.
        if let Some(generator) = &mut self.generator {
            generator.look_at_once(cx.now());
        }
        self.pump(cx);
    }
}

struct EngineOpener<'a, 'b> {
    cx: &'a mut Cx<'b>,
    flows: &'a mut [Option<FlowId>],
    options: &'a FlowOptions,
}

impl Opener for EngineOpener<'_, '_> {
    type Conn<'c>
        = Flow<'c>
    where
        Self: 'c;

    fn open(&mut self, slot: u32, open: &Open) -> Result<(), ErrorKind> {
        let connect = Connect {
            remote: open.remote,
            local: open.source.map(|ip| SocketAddr::new(ip, 0)),
            options: *self.options,
            user: slot.into(),
        };
        match self.cx.connect(&connect) {
            Ok(id) => {
                self.flows[slot as usize] = Some(id);
                Ok(())
            }
            Err(ConnectError::PortsExhausted) => Err(ErrorKind::PortsExhausted),
            Err(ConnectError::TableFull | ConnectError::TimeWaitFull) => Err(ErrorKind::TableFull),
            Err(ConnectError::NoRoute | ConnectError::BadAddress) => Err(ErrorKind::Unreachable),
            Err(
                ConnectError::InUse
                | ConnectError::Draining
                | ConnectError::OtherWorker
                | ConnectError::TooManyOptions,
            ) => Err(ErrorKind::Other),
        }
    }

    fn conn(&mut self, slot: u32) -> Option<Flow<'_>> {
        self.cx.flow(self.flows[slot as usize]?)
    }
}

impl Conn for Flow<'_> {
    fn send(&mut self, data: &[u8]) -> usize {
        Flow::send(self, data)
    }

    fn shutdown(&mut self) {
        Flow::shutdown(self);
    }

    fn close(&mut self) {
        Flow::close(self);
    }

    fn abort(&mut self) {
        Flow::abort(self);
    }

    fn resume(&mut self) {
        Flow::resume(self);
    }
}

#[cfg(test)]
mod tests;
