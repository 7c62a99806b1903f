//! What the kernel and the driver say about an interface, by ioctl.
//!
//! Not from sysfs: what is mounted there shows another network namespace than the thread's own.

use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use super::XdpError;

/// An interface of the calling thread's network namespace, as it was when it was opened.
#[derive(Clone, Debug)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its index in the namespace.
    pub ifindex: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The largest IP packet, in octets.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub is_up: bool,
    /// Queues that it receives on.
    pub rx_queues: u32,
    /// Queues that it sends on.
    pub tx_queues: u32,
    /// The driver's name; empty when it tells none.
    pub driver: String,
    /// How it spreads flows over its rx queues; `None` where the driver does not say, as on veth, or where it
    /// does so by another hash.
    pub rss: Option<RssConfig>,
    /// Whether it takes VLAN tags out of frames before a program sees them. Where true, frames of a VLAN look
    /// as if they had none. Never on veth: there the sender decides.
    pub strips_vlan_tags: bool,
}

/// Receive side scaling: rx queue = `indirection[toeplitz(key, tuple) % indirection.len()]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RssConfig {
    /// The Toeplitz key, 40 octets on most devices.
    pub key: Vec<u8>,
    /// The rx queue for each value of the low bits of the hash.
    pub indirection: Vec<u32>,
}

impl Nic {
    /// Asks about the interface `name`.
    ///
    /// # Errors
    ///
    /// [`XdpError::NoSuchInterface`], or [`XdpError::Os`].
    pub fn open(name: &str) -> Result<Self, XdpError> {
        let asker = Asker::new(name)?;
        let ifindex = asker.word(libc::SIOCGIFINDEX)?;
        let [mac @ .., _, _] = asker.octets::<8>(libc::SIOCGIFHWADDR, 2)?;
        let [low, high] = asker.octets::<2>(libc::SIOCGIFFLAGS, 0)?;
        let (rx_queues, tx_queues) = asker.queues();
        let driver = asker.driver();
        Ok(Self {
            name: name.to_string(),
            ifindex,
            mac,
            mtu: asker.word(libc::SIOCGIFMTU)?,
            is_up: i32::from(u16::from_ne_bytes([low, high])) & libc::IFF_UP != 0,
            rx_queues,
            tx_queues,
            rss: asker.rss(),
            strips_vlan_tags: driver != "veth" && asker.strips_vlan_tags(),
            driver,
        })
    }
}

/// A socket to ask through, and the name to ask about.
struct Asker {
    socket: OwnedFd,
    name: [u8; libc::IFNAMSIZ],
}

/// `struct ifreq` with its union as octets.
#[repr(C, align(8))]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    value: [u8; 24],
}

/// `struct ifreq` with a pointer in its union.
#[repr(C)]
struct PointerRequest {
    name: [u8; libc::IFNAMSIZ],
    data: *mut c_void,
    rest: [u64; 2],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());
const _: () = assert!(size_of::<PointerRequest>() == size_of::<libc::ifreq>());

impl Asker {
    fn new(interface: &str) -> Result<Self, XdpError> {
        let mut name = [0; libc::IFNAMSIZ];
        // One octet less: the kernel wants a terminator.
        if interface.is_empty() || interface.len() >= name.len() || interface.contains('\0') {
            return Err(XdpError::NoSuchInterface { interface: interface.to_string() });
        }
        name[..interface.len()].copy_from_slice(interface.as_bytes());
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers.
        let fd = unsafe { libc::socket(libc::AF_INET, kind, 0) };
        if fd < 0 {
            return Err(XdpError::os("open a socket", io::Error::last_os_error()));
        }
        // SAFETY: a new descriptor that nobody else owns.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { socket, name })
    }

    /// `N` octets of what `request` answers, from octet `skip` of the union on.
    fn octets<const N: usize>(&self, request: u64, skip: usize) -> Result<[u8; N], XdpError> {
        let mut asked = Request { name: self.name, value: [0; 24] };
        // SAFETY: the requests used here read and write one `struct ifreq`, which `asked` is.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), request as _, &raw mut asked) };
        if result < 0 {
            let source = io::Error::last_os_error();
            return Err(match source.raw_os_error() {
                Some(libc::ENODEV) => XdpError::NoSuchInterface { interface: self.interface() },
                _ => XdpError::os("ask about the interface", source),
            });
        }
        let mut octets = [0; N];
        octets.copy_from_slice(&asked.value[skip..skip + N]);
        Ok(octets)
    }

    fn word(&self, request: u64) -> Result<u32, XdpError> {
        self.octets(request, 0).map(u32::from_ne_bytes)
    }

    fn interface(&self) -> String {
        text(&self.name)
    }

    /// Runs one ethtool command, whose number is the first word; false where it is not supported.
    ///
    /// # Safety
    ///
    /// `words` is as long as the structure that the kernel writes for this command and the sizes
    /// given in it.
    unsafe fn ethtool(&self, words: &mut [u32]) -> bool {
        let mut asked =
            PointerRequest { name: self.name, data: words.as_mut_ptr().cast(), rest: Default::default() };
        let request = libc::SIOCETHTOOL as _;
        // SAFETY: one `struct ifreq`, whose pointer leads to memory as long as the caller promised.
        let result = unsafe { libc::ioctl(self.socket.as_raw_fd(), request, &raw mut asked) };
        result >= 0
    }

    /// Rx and tx queues in use; one of each where the driver does not say.
    fn queues(&self) -> (u32, u32) {
        const ETHTOOL_GCHANNELS: u32 = 0x3c;
        let mut words = [0; 9];
        words[0] = ETHTOOL_GCHANNELS;
        // SAFETY: `struct ethtool_channels` is nine words.
        if !unsafe { self.ethtool(&mut words) } {
            return (1, 1);
        }
        let [.., rx, tx, _, combined] = words;
        ((rx + combined).max(1), (tx + combined).max(1))
    }

    fn driver(&self) -> String {
        const ETHTOOL_GDRVINFO: u32 = 3;
        let mut words = [0; 49];
        words[0] = ETHTOOL_GDRVINFO;
        // SAFETY: `struct ethtool_drvinfo` is 196 octets.
        if !unsafe { self.ethtool(&mut words) } {
            return String::new();
        }
        // 32 octets after the command's number.
        text(&octets_of(&words[1..9]))
    }

    fn strips_vlan_tags(&self) -> bool {
        const ETHTOOL_GFLAGS: u32 = 0x25;
        const ETH_FLAG_RXVLAN: u32 = 1 << 8;
        let mut words = [ETHTOOL_GFLAGS, 0];
        // SAFETY: `struct ethtool_value` is two words.
        let answered = unsafe { self.ethtool(&mut words) };
        answered && words[1] & ETH_FLAG_RXVLAN != 0
    }

    fn rss(&self) -> Option<RssConfig> {
        const ETHTOOL_GRSSH: u32 = 0x46;
        /// Words of `struct ethtool_rxfh` before the table and the key.
        const HEADER: usize = 6;
        /// The word of it with the hash function.
        const HASH: usize = 4;
        /// Far beyond any device; what a driver says is not worth a larger allocation.
        const WORDS_MAX: u32 = 1 << 16;

        let mut sizes = [0; HEADER];
        sizes[0] = ETHTOOL_GRSSH;
        // SAFETY: with both sizes zero the kernel writes the header only.
        if !unsafe { self.ethtool(&mut sizes) } {
            return None;
        }
        let [_, _, entries, key_len, ..] = sizes;
        if entries == 0 || key_len == 0 || entries > WORDS_MAX || key_len > WORDS_MAX {
            return None;
        }
        let (entries, key_len) = (entries as usize, key_len as usize);
        let mut words = vec![0; HEADER + entries + key_len.div_ceil(4)];
        words[..4].copy_from_slice(&sizes[..4]);
        // SAFETY: the header, and room for the table and the key of the sizes given in it.
        if !unsafe { self.ethtool(&mut words) } || !is_toeplitz(words[HASH]) {
            return None;
        }
        let mut key = octets_of(&words[HEADER + entries..]);
        key.truncate(key_len);
        words.truncate(HEADER + entries);
        Some(RssConfig { key, indirection: words.split_off(HEADER) })
    }
}

/// Whether `hfunc` and `input_xfrm`, the first octets of this word, say Toeplitz of the tuple as it is.
const fn is_toeplitz(word: u32) -> bool {
    /// ETH_RSS_HASH_TOP of linux/ethtool.h.
    const TOEPLITZ: u8 = 1;
    let [function, transformation, ..] = word.to_ne_bytes();
    function == TOEPLITZ && transformation == 0
}

fn octets_of(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// The text before the terminator.
fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.split(|&octet| octet == 0).next().unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_described() {
        let nic = Nic::open("lo").unwrap();
        assert_eq!((nic.ifindex, nic.mac), (1, [0; 6]));
        assert!(nic.mtu >= 1280, "{}", nic.mtu);
        assert_eq!((nic.rx_queues, nic.rss), (1, None));
    }

    #[test]
    fn only_plain_toeplitz_is_computed_here() {
        for (hash, want, why) in [
            ([1, 0], true, "Toeplitz"),
            ([0, 0], false, "the driver does not say"),
            ([2, 0], false, "XOR"),
            ([4, 0], false, "CRC-32"),
            ([1, 1], false, "Toeplitz of a tuple made symmetric"),
        ] {
            assert_eq!(is_toeplitz(u32::from_ne_bytes([hash[0], hash[1], 0, 0])), want, "{why}");
        }
    }

    #[test]
    fn names_that_no_interface_has_are_said_to_be_missing() {
        for name in ["", "rr-none", "a-name-that-is-too-long-for-one", "lo\0"] {
            let error = Nic::open(name).unwrap_err();
            assert!(
                matches!(&error, XdpError::NoSuchInterface { interface } if interface == name),
                "{error}"
            );
        }
    }
}
