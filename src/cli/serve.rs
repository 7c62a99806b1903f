//! `ringroad serve`: an HTTP, echo, discard or chargen server on either stack.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;

use super::parse::{self, Backend, List};
use super::workers::{CpusFrom, Workers};
use super::xdp::run_xdp;
use crate::load::kernel::{self, Listener};
use crate::load::{CloseSide, Control, Environment, ServeApp, Server, Site, cpu_seconds};
use crate::runtime::RunConfig;
use crate::stack::Listen;

/// What the server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ServerKind {
    /// HTTP/1.1: GET and HEAD, keep-alive and pipelining.
    Http,
    /// Sends back what comes.
    Echo,
    /// Reads and forgets.
    Discard,
    /// Sends without end.
    Chargen,
}

/// Serve TCP connections, past the kernel (AF_XDP) or through it.
///
/// With --backend xdp the frames for the listening address and port go to ringroad, and everything else on
/// the interface stays the kernel's. The port is also held by a bound kernel socket that does not listen, so
/// that no other program can take it meanwhile; 0.0.0.0 and :: mean every address of the interface, as it is at
/// start. With --backend kernel the same server runs over epoll.
///
/// A worker spins by default: it wants a core for itself, which --cpus names. --idle adaptive sleeps when there
/// is nothing to do.
///
/// Prints `ready on ADDRESS` when connections are taken, and ends on Ctrl-C or SIGTERM.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  \
    ringroad serve --dev eth0 --listen 192.0.2.1:80 --app http --root /srv/www\n  \
    ringroad serve --backend kernel --listen 127.0.0.1:7000 --app echo")]
pub struct Args {
    /// Interface whose frames are taken; needed with --backend xdp
    #[arg(long, value_name = "IF")]
    pub dev: Option<String>,
    /// Address and port, or ports, to listen on; one of the interface's addresses
    #[arg(long, value_name = "IP:PORT[-PORT]", value_parser = parse::listen)]
    listen: List<SocketAddr>,
    /// What to speak
    #[arg(long, value_enum, default_value = "http")]
    pub app: ServerKind,
    /// Octets of every HTTP reply's body (64, 4k, 1m)
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse::size)]
    pub body_size: u64,
    /// Serve the files below this directory instead; read at start, 256 MiB at most
    #[arg(long, value_name = "DIR", conflicts_with = "body_size")]
    pub root: Option<PathBuf>,
    /// Echo: `server` closes first, after --request-size octets
    #[arg(long, value_enum, default_value = "client")]
    pub close: CloseSide,
    /// Echo with --close server: octets after which a connection is closed
    #[arg(long, value_name = "N", default_value = "64", value_parser = parse::size)]
    pub request_size: u64,
    #[command(flatten)]
    workers: Workers,
    /// Connections at a time that each worker has room for
    #[arg(long, value_name = "N", default_value_t = 65_536,
        value_parser = clap::value_parser!(u32).range(1..=67_108_864))]
    pub max_connections: u32,
    /// Write CPU time and counters to this file at the end
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

/// What `--json` writes when the server ends.
#[derive(Debug, Serialize)]
struct ServeReport {
    app: String,
    backend: &'static str,
    listen: SocketAddr,
    cpu_seconds: f64,
    counters: BTreeMap<String, u64>,
    environment: Environment,
}

/// Serves until it is told to end.
///
/// # Errors
///
/// One sentence on what is wrong and what to do about it.
pub fn run(args: Args) -> anyhow::Result<()> {
    if args.workers.print_plan(args.max_connections, args.listen.0[0].ip())? {
        return Ok(());
    }
    let app = args.serve_app()?;
    let control = stop_on_signal()?;
    let (backend, listen, mode) = match args.workers.backend {
        Backend::Kernel => {
            ("kernel", run_kernel(&args, &app, &control)?, args.workers.kernel_mode().to_string())
        }
        Backend::Xdp => ("xdp", args.listen.0[0], run_engine(&args, &app, &control)?),
    };
    let Some(path) = &args.json else { return Ok(()) };
    let report = ServeReport {
        app: std::format!("{:?}", args.app).to_lowercase(),
        backend,
        listen,
        cpu_seconds: cpu_seconds(),
        counters: control.all_counted().unwrap_or_default(),
        environment: Environment::read(&mode, args.dev.as_deref()),
    };
    write_file(path, &serde_json::to_vec_pretty(&report)?)
}

impl Args {
    fn serve_app(&self) -> anyhow::Result<ServeApp> {
        if self.close == CloseSide::Server && self.app != ServerKind::Echo {
            bail!("--close server is for --app echo; an HTTP server closes when the request asks for it");
        }
        if self.request_size == 0 {
            bail!("--request-size 0 would never be reached; use 1 or more");
        }
        Ok(match self.app {
            ServerKind::Http => ServeApp::Http(match &self.root {
                Some(root) => Site::from_root(root)?,
                None => Site::generated(self.body_size),
            }),
            ServerKind::Echo => {
                ServeApp::Echo { close_after: (self.close == CloseSide::Server).then_some(self.request_size) }
            }
            ServerKind::Discard => ServeApp::Discard,
            ServerKind::Chargen => ServeApp::Chargen,
        })
    }
}

fn run_kernel(args: &Args, app: &ServeApp, control: &Arc<Control>) -> anyhow::Result<SocketAddr> {
    let files = kernel::raise_file_limit();
    let slots = args.max_connections.min(u32::try_from(files).unwrap_or(u32::MAX));
    let mut addrs = args.listen.0.clone();
    let mut workers = Vec::new();
    let congestion = args.workers.kernel_congestion();
    for _ in 0..args.workers.count {
        let listeners = addrs.iter().map(|&addr| Listener::bind(addr)).collect::<Result<Vec<_>, _>>()?;
        if let Some(name) = &congestion {
            listeners.iter().try_for_each(|listener| listener.set_congestion(name))?;
        }
        // A port chosen by the kernel is chosen once, and the other workers share it.
        addrs = listeners.iter().map(Listener::addr).collect();
        workers.push(listeners);
    }
    say_ready(&addrs)?;
    let threads = args.workers.kernel_threads();
    kernel::on_threads(&threads, |worker, thread| {
        let outcome = kernel::run_server(app, &workers[usize::from(worker)], slots, control, thread);
        // Whoever fails takes the others along, or the server would live on with fewer workers unseen.
        control.stop();
        outcome
    })?;
    Ok(addrs[0])
}

fn run_engine(args: &Args, app: &ServeApp, control: &Arc<Control>) -> anyhow::Result<String> {
    let addrs = &args.listen.0;
    let ports = addrs[0].port()..=addrs[addrs.len() - 1].port();
    if ports.contains(&0) {
        bail!("--backend xdp needs a port: name one in --listen {}:PORT", addrs[0].ip());
    }
    let options = args.workers.options();
    let config = RunConfig {
        listen: Vec::from([Listen { ports, options, ..Listen::new(addrs[0].ip(), 0) }]),
        ..args.workers.run_config(
            args.dev.as_deref(),
            CpusFrom::First,
            args.max_connections,
            addrs[0].ip(),
        )?
    };
    let factory = |_| Server::new(app.clone(), args.max_connections);
    // Nothing depends on the line but the one who waits for it, and that one is gone if it fails.
    let on_ready = || drop(say_ready(addrs));
    run_xdp(&config, control, factory, on_ready)
}

fn say_ready(addrs: &[SocketAddr]) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    let range = match addrs {
        [_] => String::new(),
        _ => std::format!("-{}", addrs[addrs.len() - 1].port()),
    };
    writeln!(out, "ready on {}{range}", addrs[0])
        .and_then(|()| out.flush())
        .context("cannot write to standard output")
}

/// A control that Ctrl-C and SIGTERM stop; a second signal ends the process at once.
pub(super) fn stop_on_signal() -> anyhow::Result<Arc<Control>> {
    let control = Arc::new(Control::default());
    let on_signal = Arc::clone(&control);
    ctrlc::set_handler(move || {
        if on_signal.is_stopped() {
            std::process::exit(130);
        }
        on_signal.stop();
    })
    .context("cannot catch Ctrl-C")?;
    Ok(control)
}

/// Writes a result where it was asked for.
pub(super) fn write_file(path: &std::path::Path, octets: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, octets).with_context(|| std::format!("cannot write {}", path.display()))
}
