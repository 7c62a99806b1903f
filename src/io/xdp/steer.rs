//! The steering program: loaded, told our endpoints, attached, and its verdicts read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::c_int;
use std::fs;
use std::io;
use std::mem::{self, MaybeUninit};
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::string::{String, ToString};
use std::vec::Vec;

use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{ErrorKind, MapCore, MapFlags, MapHandle, PrintLevel};

use super::{Nic, XdpError, XdpMode, umem};

#[allow(
    missing_docs,
    clippy::all,
    clippy::multiple_unsafe_ops_per_block,
    clippy::undocumented_unsafe_blocks,
    reason = "generated from bpf/steer.bpf.c"
)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/steer.skel.rs"));
}

/// Names of `enum steer_verdict` in bpf/steer.h, in its order.
const VERDICTS: [&str; 10] = [
    "steer_redirect",
    "steer_redirect_icmp",
    "steer_drop_no_socket",
    "steer_drop_fragment",
    "steer_pass_not_ip",
    "steer_pass_not_tcp",
    "steer_pass_fragment",
    "steer_pass_truncated",
    "steer_pass_malformed",
    "steer_pass_not_ours",
];

/// `STEER_RANGES_MAX` in bpf/steer.h.
const RANGES_MAX: usize = 8;

/// The first release with all that the program uses, and without RLIMIT_MEMLOCK for maps.
const KERNEL_NEEDED: ((u32, u32), &str) = ((5, 11), "5.11");

/// Where the program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// After the driver, on socket buffers.
    Generic,
}

/// What the program does with a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It goes to the kernel.
    Pass,
    /// It goes no further.
    Drop,
    /// It goes to a socket.
    Redirect,
    /// Another XDP action, by its number; not one of this program's.
    Other(u32),
}

/// The loaded program with its maps. Dropping it detaches it, as does the end of the process.
#[derive(Debug)]
pub struct Steering {
    program: OwnedFd,
    endpoints: MapHandle,
    /// The program's variable `has_endpoints`.
    has_endpoints: MapHandle,
    ranges: MapHandle,
    xsks: MapHandle,
    verdicts: MapHandle,
    /// What is in the map `ranges`: a range is added to those that its address has.
    ranges_by_address: HashMap<[u8; 16], Vec<(u16, u16)>>,
    /// `None` until it is attached. The kernel detaches the program when it is closed.
    link: Option<OwnedFd>,
}

impl Steering {
    /// Loads the program. It does nothing yet, and knows no endpoint.
    ///
    /// # Errors
    ///
    /// [`XdpError::KernelTooOld`], [`XdpError::NotPermitted`], [`XdpError::ProgramRefused`].
    pub fn load() -> Result<Self, XdpError> {
        Self::load_with(0)
    }

    /// The same for packets as large as those of `nic`, which may take several frames (Linux 6.6).
    ///
    /// # Errors
    ///
    /// As [`Steering::load`].
    pub fn load_for(nic: &Nic) -> Result<Self, XdpError> {
        // The headers that it looks at are in the first.
        Self::load_with(if umem::is_jumbo(nic.mtu) { libbpf_sys::BPF_F_XDP_HAS_FRAGS } else { 0 })
    }

    fn load_with(flags: u32) -> Result<Self, XdpError> {
        check_kernel(&fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())?;
        collect_log();
        let mut object = MaybeUninit::uninit();
        let mut open = skel::SteerSkelBuilder::default().open(&mut object).map_err(refused)?;
        open.progs.steer.set_flags(flags);
        let loaded = open.load().map_err(refused)?;
        // The descriptors keep program and maps alive; the rest of the object is not needed.
        let maps = &loaded.maps;
        Ok(Self {
            program: loaded
                .progs
                .steer
                .as_fd()
                .try_clone_to_owned()
                .map_err(|source| os("load the program", source))?,
            endpoints: MapHandle::try_from(&maps.endpoints).map_err(refused)?,
            has_endpoints: MapHandle::try_from(&maps.bss).map_err(refused)?,
            ranges: MapHandle::try_from(&maps.ranges).map_err(refused)?,
            xsks: MapHandle::try_from(&maps.xsks).map_err(refused)?,
            verdicts: MapHandle::try_from(&maps.verdicts).map_err(refused)?,
            ranges_by_address: HashMap::new(),
            link: None,
        })
    }

    /// Attaches the program to an interface, natively where `mode` allows it, else generically.
    ///
    /// # Errors
    ///
    /// [`XdpError::InterfaceDown`], [`XdpError::AlreadyAttached`], [`XdpError::NativeUnsupported`],
    /// [`XdpError::PeerMtuTooLarge`], [`XdpError::TooFewRxQueues`], [`XdpError::NotPermitted`].
    ///
    /// # Panics
    ///
    /// When it is attached already.
    pub fn attach(&mut self, nic: &Nic, mode: XdpMode) -> Result<Attached, XdpError> {
        assert!(self.link.is_none(), "the program is attached once");
        if !nic.is_up {
            return Err(XdpError::InterfaceDown { interface: nic.name.clone() });
        }
        let link = |attached| link_create(self.program.as_fd(), nic, attached);
        let (link, attached) = match mode {
            XdpMode::Generic => (link(Attached::Generic)?, Attached::Generic),
            XdpMode::Native | XdpMode::ZeroCopy => (link(Attached::Native)?, Attached::Native),
            XdpMode::Auto => match link(Attached::Native) {
                Ok(link) => (link, Attached::Native),
                Err(error @ (XdpError::AlreadyAttached { .. } | XdpError::NotPermitted { .. })) => {
                    return Err(error);
                }
                Err(_) => (link(Attached::Generic)?, Attached::Generic),
            },
        };
        self.link = Some(link);
        Ok(attached)
    }

    /// Takes segments to `addr` and `port` from the kernel.
    ///
    /// # Errors
    ///
    /// [`XdpError::EndpointsFull`].
    pub fn add_endpoint(&mut self, addr: IpAddr, port: u16) -> Result<(), XdpError> {
        let there = 1u32.to_ne_bytes();
        update(&self.endpoints, &endpoint_key(addr, port), &there).map_err(|source| {
            match source.raw_os_error() {
                Some(libc::E2BIG) => XdpError::EndpointsFull { addr, port },
                _ => os("add an endpoint", source),
            }
        })?;
        update(&self.has_endpoints, &0u32.to_ne_bytes(), &there)
            .map_err(|source| os("tell the steering program of an endpoint", source))
    }

    /// Gives segments to `addr` and `port` back to the kernel. Nothing happens if it had them.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`].
    pub fn remove_endpoint(&mut self, addr: IpAddr, port: u16) -> Result<(), XdpError> {
        delete(&self.endpoints, &endpoint_key(addr, port)).map_err(|source| os("remove an endpoint", source))
    }

    /// Takes segments to `addr` and ports `lo` to `hi`, both included, from the kernel.
    ///
    /// # Errors
    ///
    /// [`XdpError::RangesFull`].
    pub fn add_range(&mut self, addr: IpAddr, lo: u16, hi: u16) -> Result<(), XdpError> {
        let mut ranges = self.ranges_by_address.get(&octets(addr)).cloned().unwrap_or_default();
        if !ranges.contains(&(lo, hi)) {
            ranges.push((lo, hi));
        }
        if ranges.len() > RANGES_MAX {
            return Err(XdpError::RangesFull { addr, lo, hi });
        }
        self.write_ranges(addr, ranges).map_err(|source| match source.raw_os_error() {
            Some(libc::E2BIG) => XdpError::RangesFull { addr, lo, hi },
            _ => os("add a port range", source),
        })
    }

    /// Gives the range back to the kernel. Nothing happens unless exactly it was added.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`].
    pub fn remove_range(&mut self, addr: IpAddr, lo: u16, hi: u16) -> Result<(), XdpError> {
        let mut ranges = self.ranges_by_address.get(&octets(addr)).cloned().unwrap_or_default();
        ranges.retain(|range| *range != (lo, hi));
        self.write_ranges(addr, ranges).map_err(|source| os("remove a port range", source))
    }

    /// Sends frames of ours that arrive on rx queue `queue` to the socket `xsk`, bound to it.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`], for a descriptor that is no AF_XDP socket or more queues than the map has.
    pub fn set_xsk(&mut self, queue: u32, xsk: BorrowedFd<'_>) -> Result<(), XdpError> {
        update(&self.xsks, &queue.to_ne_bytes(), &xsk.as_raw_fd().to_ne_bytes())
            .map_err(|source| os("give the steering program its socket", source))
    }

    /// Frames since the program was loaded, by verdict, summed over the CPUs.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`].
    pub fn verdict_counters(&self) -> Result<Vec<(&'static str, u64)>, XdpError> {
        let count = |index: u32| -> libbpf_rs::Result<u64> {
            let values =
                self.verdicts.lookup_percpu(&index.to_ne_bytes(), MapFlags::ANY)?.unwrap_or_default();
            Ok(values
                .iter()
                .filter_map(|value| value.as_slice().try_into().ok())
                .map(u64::from_ne_bytes)
                .sum())
        };
        let counters = (0..).zip(VERDICTS).map(|(index, verdict)| Ok((verdict, count(index)?)));
        counters
            .collect::<libbpf_rs::Result<_>>()
            .map_err(|error| os("read the verdicts", io::Error::other(error)))
    }

    /// Runs the program once on `frame`, as if it came in on queue 0. Nothing is sent or received.
    ///
    /// # Errors
    ///
    /// [`XdpError::Os`], also for frames shorter than an Ethernet header.
    pub fn test_run(&self, frame: &[u8]) -> Result<Action, XdpError> {
        let mut run = libbpf_sys::bpf_test_run_opts {
            sz: size_of::<libbpf_sys::bpf_test_run_opts>() as libbpf_sys::size_t,
            data_in: frame.as_ptr().cast(),
            data_size_in: u32::try_from(frame.len()).unwrap_or(u32::MAX),
            repeat: 1,
            ..Default::default()
        };
        // SAFETY: `run` is a structure of the size it says, and points to `data_size_in` octets that
        // live through the call; nothing is written but `run`.
        let result = unsafe { libbpf_sys::bpf_prog_test_run_opts(self.program.as_raw_fd(), &raw mut run) };
        if result < 0 {
            return Err(os("run the steering program", io::Error::from_raw_os_error(-result)));
        }
        Ok(match run.retval {
            libbpf_sys::XDP_PASS => Action::Pass,
            libbpf_sys::XDP_DROP => Action::Drop,
            libbpf_sys::XDP_REDIRECT => Action::Redirect,
            other => Action::Other(other),
        })
    }

    fn write_ranges(&mut self, addr: IpAddr, ranges: Vec<(u16, u16)>) -> io::Result<()> {
        let key = octets(addr);
        if ranges.is_empty() {
            delete(&self.ranges, &key)?;
            self.ranges_by_address.remove(&key);
        } else {
            update(&self.ranges, &key, &ranges_value(&ranges))?;
            self.ranges_by_address.insert(key, ranges);
        }
        Ok(())
    }
}

/// `bpf_link_create`, for both modes alike: `attach_xdp` of libbpf takes no flags.
fn link_create(program: BorrowedFd<'_>, nic: &Nic, attached: Attached) -> Result<OwnedFd, XdpError> {
    let options = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as libbpf_sys::size_t,
        flags: match attached {
            Attached::Native => libbpf_sys::XDP_FLAGS_DRV_MODE,
            Attached::Generic => libbpf_sys::XDP_FLAGS_SKB_MODE,
        },
        ..Default::default()
    };
    let ifindex = c_int::try_from(nic.ifindex).expect("the kernel counts interfaces in an int");
    // SAFETY: `options` is a structure of the size it says, without pointers, that lives through the call.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex, libbpf_sys::BPF_XDP, &raw const options)
    };
    if fd < 0 {
        return Err(attach_error(nic, attached, io::Error::from_raw_os_error(-fd)));
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach_error(nic: &Nic, attached: Attached, source: io::Error) -> XdpError {
    let interface = nic.name.clone();
    match source.raw_os_error() {
        // EEXIST: a program of the other mode.
        Some(libc::EBUSY | libc::EEXIST) => XdpError::AlreadyAttached { interface },
        Some(libc::ENODEV) => XdpError::NoSuchInterface { interface },
        Some(libc::ERANGE) => XdpError::PeerMtuTooLarge { interface },
        Some(libc::ENOSPC) => XdpError::TooFewRxQueues { interface },
        Some(libc::EOPNOTSUPP) if attached == Attached::Native => XdpError::NativeUnsupported { interface },
        _ => os("attach the steering program", source),
    }
}

fn check_kernel(release: &str) -> Result<(), XdpError> {
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse().ok());
    let found = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    // A release that cannot be read is no reason to stop.
    if found == (0, 0) || found >= KERNEL_NEEDED.0 {
        return Ok(());
    }
    Err(XdpError::KernelTooOld { found: release.trim().to_string(), needed: KERNEL_NEEDED.1 })
}

/// IPv4 addresses are IPv4-mapped: the program has one table for both families.
fn octets(addr: IpAddr) -> [u8; 16] {
    match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => Ipv6Addr::from(addr.octets()),
    }
    .octets()
}

/// `struct steer_endpoint`.
fn endpoint_key(addr: IpAddr, port: u16) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&octets(addr));
    key[16..18].copy_from_slice(&port.to_be_bytes());
    key
}

/// `struct steer_ranges`.
fn ranges_value(ranges: &[(u16, u16)]) -> [u8; 4 + 4 * RANGES_MAX] {
    let mut value = [0; 4 + 4 * RANGES_MAX];
    let count = u32::try_from(ranges.len()).expect("at most RANGES_MAX");
    value[..4].copy_from_slice(&count.to_ne_bytes());
    for (place, (lo, hi)) in value[4..].chunks_exact_mut(4).zip(ranges) {
        place[..2].copy_from_slice(&lo.to_ne_bytes());
        place[2..].copy_from_slice(&hi.to_ne_bytes());
    }
    value
}

/// Writes an entry. The map type of libbpf-rs would not tell the errno.
fn update(map: &MapHandle, key: &[u8], value: &[u8]) -> io::Result<()> {
    assert_eq!((key.len(), value.len()), (map.key_size() as usize, map.value_size() as usize));
    let (fd, key, value) = (map.as_fd().as_raw_fd(), key.as_ptr().cast(), value.as_ptr().cast());
    // SAFETY: the kernel reads a key and a value, which are as long as the map's.
    let result = unsafe { libbpf_sys::bpf_map_update_elem(fd, key, value, libbpf_sys::BPF_ANY.into()) };
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

/// Deletes an entry, if there is one.
fn delete(map: &MapHandle, key: &[u8]) -> io::Result<()> {
    assert_eq!(key.len(), map.key_size() as usize);
    // SAFETY: the kernel reads a key, which is as long as the map's.
    let result = unsafe { libbpf_sys::bpf_map_delete_elem(map.as_fd().as_raw_fd(), key.as_ptr().cast()) };
    if result < 0 && result != -libc::ENOENT { Err(io::Error::from_raw_os_error(-result)) } else { Ok(()) }
}

thread_local! {
    /// What libbpf said on this thread, which it would print to standard error.
    static LOG: RefCell<String> = const { RefCell::new(String::new()) };
}

fn collect_log() {
    /// A verifier's log can be megabytes, and its end is what matters.
    const LOG_LEN_MAX: usize = 1 << 16;

    fn collect(_: PrintLevel, text: String) {
        LOG.with_borrow_mut(|log| {
            if log.len() + text.len() > LOG_LEN_MAX {
                log.clear();
            }
            log.push_str(&text);
        });
    }
    LOG.with_borrow_mut(String::clear);
    libbpf_rs::set_print(Some((PrintLevel::Warn, collect)));
}

fn refused(error: libbpf_rs::Error) -> XdpError {
    let log = LOG.with_borrow_mut(mem::take);
    match error.kind() {
        ErrorKind::PermissionDenied => XdpError::NotPermitted { action: "load the steering program" },
        _ => XdpError::ProgramRefused { log, source: io::Error::other(error) },
    }
}

fn os(action: &'static str, source: io::Error) -> XdpError {
    XdpError::os(action, source)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_11_are_refused() {
        for (release, is_enough) in [
            ("5.10.0-28-amd64", false),
            ("4.19.1", false),
            ("5.11.0", true),
            ("6.1-rc3", true),
            ("unreadable", true),
        ] {
            assert_eq!(check_kernel(release).is_ok(), is_enough, "{release}");
        }
    }

    #[test]
    fn keys_and_values_have_the_layout_of_the_header() {
        let key = endpoint_key("192.0.2.1".parse().unwrap(), 0x1234);
        assert_eq!(key, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0x12, 0x34, 0, 0]);
        let value = ranges_value(&[(1, 2), (3, 4)]);
        assert_eq!(value[..4], 2u32.to_ne_bytes());
        let words: Vec<u16> =
            value[4..].chunks(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]])).collect();
        assert_eq!(words, [1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
