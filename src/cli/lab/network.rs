//! The lab itself: two network namespaces, what joins them, addresses and the kernel's settings.
#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command};

use super::forward;
use super::link::LinkArgs;
use crate::runtime::ethtool::{self, EthtoolError};
use crate::runtime::netlink::{self, Interface, NetlinkError, Veth, VethEnd};
use crate::runtime::netns::{self, NetnsError};

/// One of the lab's two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum End {
    /// Where connections come from.
    Client,
    /// Where connections go.
    Server,
}

impl End {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Client, Self::Server];

    /// The word in names and on the command line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }

    /// The end's addresses with the lengths of their prefixes, IPv4 first.
    pub fn addresses(self) -> Vec<(IpAddr, u8)> {
        /// Enough source addresses that no run depends on the reuse of a four-tuple in TIME-WAIT.
        const CLIENT_ADDRESSES: u8 = 16;
        let (v4, v6): (Vec<_>, Vec<_>) = match self {
            Self::Server => (vec![Ipv4Addr::new(10, 77, 0, 1)], vec![ula(0, 1)]),
            Self::Client => (
                (1..=CLIENT_ADDRESSES).map(|host| Ipv4Addr::new(10, 77, 1, host)).collect(),
                (1..=CLIENT_ADDRESSES).map(|host| ula(1, host.into())).collect(),
            ),
        };
        let v4 = v4.into_iter().map(|address| (IpAddr::V4(address), 16));
        v4.chain(v6.into_iter().map(|address| (IpAddr::V6(address), 64))).collect()
    }
}

/// An address of the lab's unique local prefix, fd77::/64.
const fn ula(group: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, group, host)
}

/// What a lab is made from.
#[derive(Clone, Debug, Default)]
pub struct LabConfig {
    /// Part of the namespaces' names; `None` for the lab that needs no name.
    pub name: Option<String>,
    /// Receive queues, and as many transmit queues, at each end.
    pub queues: u32,
    /// The largest IP packet, in octets.
    pub mtu: u32,
    /// How the link between the ends treats packets; by default nothing stands between them.
    pub link: LinkArgs,
    /// The `ringroad` command, which forwards over such a link; `None` when that is this very program.
    pub program: Option<PathBuf>,
}

/// Why a lab could not be made, found, changed or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// Not a name.
    #[error("{0:?} cannot name a lab: use 1 to 32 lower-case letters, digits and hyphens")]
    Name(String),
    /// It is there already.
    #[error("the lab is up already ({0} and {1}); `ringroad lab down` removes it")]
    Up(String, String),
    /// Something of that name is there.
    #[error("{0} exists without its other end; `ringroad lab down` removes what is left of the lab")]
    Half(String),
    /// It is not there.
    #[error("the lab is not up: there is no network namespace {0}; `ringroad lab up` makes it")]
    Down(String),
    /// A setting was refused.
    #[error("cannot set {key} to {value:?}: {source}")]
    Sysctl {
        /// The setting's path below /proc/sys/net.
        key: String,
        /// The value.
        value: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// A program could not be started.
    #[error("cannot run {program}: {source}")]
    Spawn {
        /// Which.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// What is between the ends does not work.
    #[error("the forwarder of the lab's link did not start: {0}")]
    Forwarder(String),
    /// A namespace made trouble.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A link made trouble.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// An offload made trouble.
    #[error(transparent)]
    Ethtool(#[from] EthtoolError),
}

/// A lab that is up. It stays up when this value is dropped: [`Lab::down`] removes it.
#[derive(Clone, Debug)]
pub struct Lab {
    client: String,
    server: String,
    link: String,
}

impl Lab {
    /// The name of the veth interface in both namespaces.
    pub const INTERFACE: &'static str = "rr0";

    /// Makes the lab. When a step fails, what was made before it is removed.
    ///
    /// # Errors
    ///
    /// When it is up already, or the kernel refuses a step.
    pub fn up(config: &LabConfig) -> Result<Self, LabError> {
        let lab = Self::named(config.name.as_deref())?;
        match (netns::exists(&lab.client), netns::exists(&lab.server)) {
            (true, true) => return Err(LabError::Up(lab.client, lab.server)),
            (true, false) => return Err(LabError::Half(lab.client)),
            (false, true) => return Err(LabError::Half(lab.server)),
            (false, false) if netns::exists(&lab.link) => return Err(LabError::Half(lab.link)),
            (false, false) => {}
        }
        let mut made = Vec::new();
        let result = lab.make(config, &mut made);
        if let Err(error) = result {
            for netns in made {
                // The first error is the one to tell; pairs, and what forwards between them, go with the namespaces.
                drop(netns::remove(&netns));
            }
            return Err(error);
        }
        Ok(lab)
    }

    /// Finds a lab that is up.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn open(name: Option<&str>) -> Result<Self, LabError> {
        let lab = Self::named(name)?;
        for netns in End::ALL.map(|end| lab.netns(end)) {
            if !netns::exists(netns) {
                return Err(LabError::Down(netns.to_owned()));
            }
        }
        Ok(lab)
    }

    /// Removes the lab, or what is left of it; returns whether there was anything.
    ///
    /// Programs that still run in it go on in namespaces that have lost their names and the veth pair.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn down(name: Option<&str>) -> Result<bool, LabError> {
        let lab = Self::named(name)?;
        let mut found = false;
        if netns::exists(&lab.link) {
            forward::stop(&lab.link)?;
        }
        for end in End::ALL.map(|end| lab.netns(end)) {
            if !netns::exists(end) {
                continue;
            }
            // The pair may be gone already: with its other end, or because the lab never was whole.
            match netns::run_in(end, || netlink::delete_link(Self::INTERFACE)) {
                Ok(_) | Err(NetnsError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            found |= netns::remove(end)?;
        }
        found |= netns::remove(&lab.link)?;
        Ok(found)
    }

    /// The name of the namespace between the ends, which is there if their link is not perfect.
    pub(super) fn link_netns(&self) -> &str {
        &self.link
    }

    /// Whether something stands between the ends.
    pub(super) fn has_link(&self) -> bool {
        netns::exists(&self.link)
    }

    /// The name of an end's network namespace.
    pub fn netns(&self, end: End) -> &str {
        match end {
            End::Client => &self.client,
            End::Server => &self.server,
        }
    }

    /// Moves the calling thread to an end for good.
    ///
    /// # Errors
    ///
    /// When the lab is gone, or without CAP_SYS_ADMIN.
    pub fn enter(&self, end: End) -> Result<(), LabError> {
        Ok(netns::enter(self.netns(end))?)
    }

    /// Runs `work` on a new thread at an end, and waits for it.
    ///
    /// # Errors
    ///
    /// As [`Lab::enter`].
    pub fn run_at<T: Send>(&self, end: End, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        Ok(netns::run_in(self.netns(end), work)?)
    }

    /// Starts a program at an end.
    ///
    /// # Errors
    ///
    /// When the lab is gone or the program cannot be started.
    pub fn spawn(&self, end: End, command: &mut Command) -> Result<Child, LabError> {
        let program = command.get_program().to_string_lossy().into_owned();
        self.run_at(end, || command.spawn())?.map_err(|source| LabError::Spawn { program, source })
    }

    /// An end's interface as it is now.
    ///
    /// # Errors
    ///
    /// When the lab is gone.
    pub fn interface(&self, end: End) -> Result<Interface, LabError> {
        Ok(self.run_at(end, || netlink::interface(Self::INTERFACE))??)
    }

    /// Sets an end's transmit checksum offload, and TSO with it: on only when a kernel talks to a kernel, and
    /// nothing stands between them that must see packets as they would be on a wire.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_offloads(&self, end: End, kernel_peer: bool) -> Result<(), LabError> {
        let on = kernel_peer && !self.has_link();
        Ok(self.run_at(end, || ethtool::set_tx_checksum(Self::INTERFACE, on))??)
    }

    /// Lets the kernel at an end take its source ports from nearly all, or only from the customary range.
    ///
    /// A kernel client is best with many; ringroad's own ports lie outside the kernel's range.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn set_wide_ports(&self, end: End, wide: bool) -> Result<(), LabError> {
        let range = if wide { "1024 65535" } else { "32768 60999" };
        self.run_at(end, || sysctl("ipv4/ip_local_port_range", range))?
    }

    fn named(name: Option<&str>) -> Result<Self, LabError> {
        let infix = match name {
            None => String::new(),
            Some(name) if is_name(name) => format!("{name}-"),
            Some(name) => return Err(LabError::Name(name.to_owned())),
        };
        let [client, server, link] = ["client", "server", "link"].map(|part| format!("rr-{infix}{part}"));
        Ok(Self { client, server, link })
    }

    /// Notes in `made` each namespace that it makes.
    fn make(&self, config: &LabConfig, made: &mut Vec<String>) -> Result<(), LabError> {
        for end in End::ALL.map(|end| self.netns(end)) {
            netns::create(end)?;
            made.push(end.to_owned());
            netns::run_in(end, set_kernel_defaults)??;
        }
        if config.link.is_none() {
            self.join(config)?;
        } else {
            self.join_by_a_link(config, made)?;
        }
        for end in End::ALL {
            self.run_at(end, || configure(end))??;
        }
        Ok(())
    }

    /// One veth pair between the ends.
    fn join(&self, config: &LabConfig) -> Result<(), LabError> {
        pair(config, [&self.client, &self.server], [Self::INTERFACE; 2])
    }

    /// A veth pair from each end to a namespace between them, and the forwarder there.
    fn join_by_a_link(&self, config: &LabConfig, made: &mut Vec<String>) -> Result<(), LabError> {
        netns::create(&self.link)?;
        made.push(self.link.clone());
        // Its own interfaces have nothing to say.
        netns::run_in(&self.link, || sysctl("ipv6/conf/default/disable_ipv6", "1"))??;
        for end in End::ALL {
            pair(config, [self.netns(end), &self.link], [Self::INTERFACE, end.as_str()])?;
            netns::run_in(&self.link, || netlink::set_up(end.as_str()))??;
        }
        let program = config.program.clone().map_or_else(std::env::current_exe, Ok);
        let program = program.map_err(|source| LabError::Spawn { program: "ringroad".to_owned(), source })?;
        forward::start(&program, config.name.as_deref(), &config.link)
    }
}

fn pair(config: &LabConfig, namespaces: [&str; 2], names: [&str; 2]) -> Result<(), LabError> {
    let [one, other] = [netns::open(namespaces[0])?, netns::open(namespaces[1])?];
    let [one, other] =
        [(&one, names[0]), (&other, names[1])].map(|(netns, name)| VethEnd { name, netns: netns.as_fd() });
    Ok(netlink::create_veth(&Veth { ends: [one, other], queues: config.queues, mtu: config.mtu })?)
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
}

/// The kernel's best settings, made before the interface exists so that it starts with them.
fn set_kernel_defaults() -> Result<(), LabError> {
    for (key, value) in [
        // Without these an IPv6 address waits a second or two for duplicates of itself.
        ("ipv6/conf/all/accept_dad", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/router_solicitations", "0"),
        ("core/somaxconn", "65535"),
        ("ipv4/tcp_max_syn_backlog", "65535"),
        ("ipv4/tcp_max_tw_buckets", "2000000"),
        ("ipv4/tcp_tw_reuse", "1"),
        ("ipv4/tcp_timestamps", "1"),
    ] {
        sysctl(key, value)?;
    }
    // A kernel sender moves a flow to another queue when it sends a SYN again, and the receiver with it,
    // unless this is off. Kernels before 5.19 do not know it.
    match sysctl("core/txrehash", "0") {
        Err(LabError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn configure(end: End) -> Result<(), LabError> {
    netlink::set_up("lo")?;
    let index = netlink::interface(Lab::INTERFACE)?.index;
    for (address, prefix_len) in end.addresses() {
        netlink::add_address(index, address, prefix_len)?;
    }
    ethtool::set_tx_checksum(Lab::INTERFACE, false)?;
    Ok(netlink::set_up(Lab::INTERFACE)?)
}

/// Sets a network setting of the calling thread's namespace; `key` is its path below /proc/sys/net.
fn sysctl(key: &str, value: &str) -> Result<(), LabError> {
    fs::write(format!("/proc/sys/net/{key}"), value).map_err(|source| LabError::Sysctl {
        key: key.to_owned(),
        value: value.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_the_directory_of_namespaces() {
        for (name, good) in [("a", true), ("ci-2", true), ("", false), ("../x", false), ("A", false)] {
            assert_eq!(Lab::named(Some(name)).is_ok(), good, "{name:?}");
        }
    }

    #[test]
    fn labs_of_different_names_share_no_namespace() {
        let [plain, named] = [None, Some("x")].map(|name| Lab::named(name).expect("a good name"));
        assert_eq!(plain.netns(End::Client), "rr-client");
        assert_eq!(named.netns(End::Server), "rr-x-server");
    }

    #[test]
    fn the_client_has_16_addresses_of_each_family() {
        let addresses = End::Client.addresses();
        assert_eq!(addresses.iter().filter(|(address, _)| address.is_ipv4()).count(), 16);
        assert_eq!(addresses.iter().filter(|(address, _)| address.is_ipv6()).count(), 16);
        assert!(!addresses.contains(&End::Server.addresses()[0]));
    }
}
