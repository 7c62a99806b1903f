//! Brings a stack up on an interface, runs it, and takes it down again.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, OwnedFd};
use std::string::String;
use std::sync::Arc;
use std::thread;
use std::vec::Vec;

use super::clock;
use super::config::RunConfig;
use super::control::{Handle, Mailbox};
use super::error::RunError;
use super::neighbours::Neighbours;
use super::netlink::{self, Interface, NeighbourMonitor};
use super::ports;
use super::secret;
use super::worker::{Worker, WorkerEnd};
use crate::io::xdp::{Nic, Queue, QueueOptions, Steering, XdpMode};
use crate::stack::{App, Engine, EngineConfig, ListenError, Owners, Route, Routes};
use crate::wire::Mac;

/// A stack that is about to run.
#[derive(Clone, Debug)]
pub struct Ready {
    /// The mode that was obtained.
    pub mode: XdpMode,
    /// Whether the frames lie on huge pages.
    pub huge_pages: bool,
    /// Whether the driver is busy-polled.
    pub busy_poll: bool,
    /// The source ports of active opens, where there are any.
    pub source_ports: Option<RangeInclusive<u16>>,
    /// For other threads.
    pub handle: Handle,
}

/// How a run ended.
#[derive(Clone, Debug)]
pub struct RunEnd {
    /// Each worker's end.
    pub workers: Vec<WorkerEnd>,
    /// The program's verdicts, by name.
    pub verdicts: Vec<(&'static str, u64)>,
}

/// Runs one application object per worker, made by `factory`, until each has asked to stop or
/// [`Handle::stop`] was called.
///
/// `on_ready` is called once, when every listener listens.
///
/// # Errors
///
/// One sentence on what is wrong and what to do about it; nothing is left behind on the interface.
pub fn run<A: App + Send>(
    config: &RunConfig,
    factory: impl Fn(u16) -> A,
    on_ready: impl FnOnce(&Ready),
) -> Result<RunEnd, RunError> {
    config.check()?;
    let interface = netlink::interface(&config.dev)?;
    let nic = Nic::open(&config.dev)?;
    let cpus = check(config, &interface, &nic)?;
    let _held = hold_ports(config, &interface)?;
    let source_ports = source_ports(config, &interface)?;
    let monitor = NeighbourMonitor::open(interface.index)?;

    let mut steering = Steering::load_for(&nic)?;
    let attached = steering.attach(&nic, config.mode)?;
    let queues = (0..u32::from(config.workers))
        .map(|queue| Queue::open(&nic, QueueOptions::new(queue, config.mode, attached)))
        .collect::<Result<Vec<Queue>, _>>()?;
    for queue in &queues {
        steering.set_xsk(queue.index(), queue.as_fd())?;
    }
    let handle = handle(config, &nic)?;
    let ready = Ready {
        mode: queues[0].mode(),
        huge_pages: queues.iter().all(Queue::is_huge),
        busy_poll: queues.iter().all(Queue::is_busy_polled),
        source_ports: config.connects.then(|| source_ports.clone()),
        handle: handle.clone(),
    };
    let engine_config = engine_config(config, &interface, &nic, source_ports.clone())?;
    let workers = make_workers(config, queues, &engine_config, &handle, yields(&cpus), factory)?;
    take_endpoints(config, &interface, &mut steering, &source_ports)?;
    on_ready(&ready);
    // The other half of the engines' tables is for those that connections will want.
    let most = usize::from(config.limits.neighbours_max / 2);
    let neighbours = Neighbours::new(&interface, monitor, &handle, most)?;
    let ends = work(workers, &cpus, neighbours, &handle)?;
    Ok(RunEnd { workers: ends, verdicts: steering.verdict_counters()? })
}

/// Whether workers, queues, addresses and CPUs go together; returns the CPU of each worker.
fn check(config: &RunConfig, interface: &Interface, nic: &Nic) -> Result<Vec<Option<usize>>, RunError> {
    if u32::from(config.workers) != nic.rx_queues {
        let (queues, workers) = (nic.rx_queues, config.workers);
        return Err(RunError::Queues { dev: config.dev.clone(), queues, workers });
    }
    if interface.addresses.is_empty() {
        return Err(RunError::NoAddress { dev: config.dev.clone() });
    }
    let listened = config.listen.iter().map(|listen| listen.address).filter(|addr| !addr.is_unspecified());
    for addr in listened.chain(config.sources.iter().copied()) {
        if !interface.addresses.iter().any(|&(own, _)| own == addr) {
            return Err(RunError::NotLocal { addr, dev: config.dev.clone() });
        }
    }
    let allowed: Vec<usize> =
        core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    if let Some(&cpu) = config.cpus.iter().find(|cpu| !allowed.contains(cpu)) {
        let allowed = allowed.iter().map(|cpu| std::format!("{cpu}")).collect::<Vec<String>>().join(",");
        return Err(RunError::NoSuchCpu { cpu, allowed });
    }
    let cpu = |worker: u16| config.cpus.get(usize::from(worker) % config.cpus.len().max(1)).copied();
    Ok((0..config.workers).map(cpu).collect())
}

/// The interface's addresses that a listener's address means.
fn addresses_of(address: IpAddr, interface: &Interface) -> Vec<IpAddr> {
    if !address.is_unspecified() {
        return Vec::from([address]);
    }
    let own = interface.addresses.iter().map(|&(own, _)| own);
    own.filter(|own| own.is_ipv4() == address.is_ipv4()).collect()
}

fn hold_ports(config: &RunConfig, interface: &Interface) -> Result<Vec<OwnedFd>, RunError> {
    let mut held = BTreeMap::new();
    for listen in &config.listen {
        for addr in addresses_of(listen.address, interface) {
            for port in listen.ports.clone() {
                let addr = ports::scoped(addr, port, interface.index);
                // Asked of the kernel it would seem to be somebody else's.
                if held.contains_key(&addr) {
                    return Err(RunError::ListenTwice { addr });
                }
                held.insert(addr, ports::hold(addr)?);
            }
        }
    }
    Ok(held.into_values().collect())
}

/// The addresses from which active opens are made.
fn sources(config: &RunConfig, interface: &Interface) -> Vec<IpAddr> {
    match config.sources.as_slice() {
        [] => interface.addresses.iter().map(|&(own, _)| own).collect(),
        sources => sources.to_vec(),
    }
}

fn source_ports(config: &RunConfig, interface: &Interface) -> Result<RangeInclusive<u16>, RunError> {
    if !config.connects {
        // Nothing is opened actively, so the range is empty.
        return Ok(RangeInclusive::new(1, 0));
    }
    let preferred = netlink::routes(interface.index)?.into_iter().filter_map(|route| route.preferred_source);
    let kernels = ports::chosen_by_kernel(&interface.addresses, preferred);
    // The others, named by the user, are the user's to give away.
    let exclusive =
        !config.sources.is_empty() && config.sources.iter().all(|source| !kernels.contains(source));
    ports::source_ports(config.source_ports.as_ref(), exclusive, &sources(config, interface))
}

fn handle(config: &RunConfig, nic: &Nic) -> Result<Handle, RunError> {
    // The MTU, and a link header with room for tags.
    let frame_len = usize::try_from(nic.mtu).expect("an MTU fits memory") + 32;
    let mailboxes = (0..config.workers).map(|_| Mailbox::new(frame_len)).collect::<Result<Vec<_>, _>>()?;
    Ok(Handle { mailboxes: Arc::new(mailboxes) })
}

fn engine_config(
    config: &RunConfig,
    interface: &Interface,
    nic: &Nic,
    source_ports: RangeInclusive<u16>,
) -> Result<EngineConfig, RunError> {
    let mut routes = netlink::routes(interface.index)?;
    // Of equally long prefixes the engine takes the last.
    routes.sort_by_key(|route| std::cmp::Reverse(route.metric));
    let routes = routes.into_iter().map(|route| Route {
        destination: route.destination,
        prefix_len: route.prefix_len,
        gateway: route.gateway,
        source: route.preferred_source,
    });
    Ok(EngineConfig {
        limits: config.limits,
        tcp: config.tcp,
        mac: Mac(nic.mac),
        mtu: u16::try_from(nic.mtu).unwrap_or(u16::MAX),
        routes: Routes {
            addresses: interface.addresses.iter().map(|&(own, _)| own).collect(),
            routes: routes.collect(),
        },
        source_ports,
        worker: 0,
        owners: owners(config, nic),
        verify_checksums: config.verify_checksums,
        secret: secret::boot_secret()?,
    })
}

fn owners(config: &RunConfig, nic: &Nic) -> Owners {
    match &nic.rss {
        _ if config.workers == 1 => Owners::One,
        Some(rss) if !rss.indirection.is_empty() => {
            let queue = |&queue: &u32| u16::try_from(queue).unwrap_or(0) % config.workers;
            let indirection = rss.indirection.iter().map(queue).collect();
            Owners::Toeplitz { key: rss.key.clone(), indirection }
        }
        _ => Owners::Hash { workers: config.workers },
    }
}

/// Whether spinning workers would keep each other, or everything else, from running.
fn yields(cpus: &[Option<usize>]) -> bool {
    let parallelism = thread::available_parallelism().map_or(1, usize::from);
    let pinned: BTreeSet<usize> = cpus.iter().flatten().copied().collect();
    let available = if pinned.is_empty() { parallelism } else { pinned.len() };
    parallelism == 1 || cpus.len() > available
}

fn make_workers<A: App>(
    config: &RunConfig,
    queues: Vec<Queue>,
    engine_config: &EngineConfig,
    handle: &Handle,
    yields: bool,
    factory: impl Fn(u16) -> A,
) -> Result<Vec<Worker<A>>, RunError> {
    let make = |(number, queue): (u16, Queue)| {
        let engine_config = EngineConfig { worker: number, ..engine_config.clone() };
        let mut engine = Engine::new(engine_config, clock::now());
        for listen in &config.listen {
            let addr = SocketAddr::new(listen.address, *listen.ports.start());
            engine.listen(listen).map_err(|error| match error {
                ListenError::InUse => RunError::ListenTwice { addr },
                ListenError::TooMany => {
                    RunError::Listeners { wanted: config.listen.len(), most: config.limits.listeners_max }
                }
                ListenError::TooManyOptions => RunError::ListenOptions { most: config.limits.options_max },
            })?;
        }
        let (handle, idle, drain) = (handle.clone(), config.idle, config.drain);
        Ok(Worker { queue, engine, app: factory(number), number, handle, idle, yields, drain })
    };
    (0..config.workers).zip(queues).map(make).collect()
}

/// From here on the kernel does not see our segments any more.
fn take_endpoints(
    config: &RunConfig,
    interface: &Interface,
    steering: &mut Steering,
    source_ports: &RangeInclusive<u16>,
) -> Result<(), RunError> {
    for listen in &config.listen {
        for addr in addresses_of(listen.address, interface) {
            match (*listen.ports.start(), *listen.ports.end()) {
                (first, last) if first == last => steering.add_endpoint(addr, first)?,
                (first, last) => steering.add_range(addr, first, last)?,
            }
        }
    }
    if config.connects {
        for addr in sources(config, interface) {
            steering.add_range(addr, *source_ports.start(), *source_ports.end())?;
        }
    }
    Ok(())
}

/// Runs the workers on their CPUs, and the neighbours' news on this thread, until all have ended.
fn work<A: App + Send>(
    workers: Vec<Worker<A>>,
    cpus: &[Option<usize>],
    neighbours: Neighbours<'_>,
    handle: &Handle,
) -> Result<Vec<WorkerEnd>, RunError> {
    thread::scope(|scope| {
        let start = |(worker, &cpu): (Worker<A>, &Option<usize>)| {
            let name = std::format!("ringroad-{}", worker.number);
            let run = move || run_pinned(worker, cpu);
            thread::Builder::new()
                .name(name)
                .spawn_scoped(scope, run)
                .map_err(|source| RunError::Os { action: "start a worker", source })
        };
        let threads: Result<Vec<_>, _> = workers.into_iter().zip(cpus).map(start).collect();
        let threads = threads.inspect_err(|_| {
            // Nobody waits for those that were not started.
            (0..handle.workers()).for_each(|worker| handle.leave(worker));
            handle.stop();
        })?;
        let is_over = || threads.iter().all(thread::ScopedJoinHandle::is_finished);
        let told = neighbours.run(is_over);
        let ends = threads.into_iter().map(|thread| thread.join().expect("a worker does not panic"));
        let ends = ends.collect::<Result<Vec<_>, _>>()?;
        told.map(|()| ends)
    })
}

/// Lets the others end however a worker's thread does.
struct Leaving {
    handle: Handle,
    worker: u16,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.handle.leave(self.worker);
    }
}

fn run_pinned<A: App>(worker: Worker<A>, cpu: Option<usize>) -> Result<WorkerEnd, RunError> {
    let handle = worker.handle.clone();
    let _leaving = Leaving { handle: handle.clone(), worker: worker.number };
    if let Some(id) = cpu {
        core_affinity::set_for_current(core_affinity::CoreId { id });
    }
    // Whoever fails takes the others along.
    worker.run().inspect_err(|_| handle.stop())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_that_share_a_cpu_yield() {
        assert!(yields(&[Some(0), Some(0)]), "two on one");
        assert!(yields(&[None; 4_096]), "more than there are");
        if thread::available_parallelism().is_ok_and(|cpus| cpus.get() > 1) {
            assert!(!yields(&[Some(0), Some(1)]), "each its own");
            assert!(!yields(&[None]), "one of several");
        }
    }
}
