//! The SIOCETHTOOL request for transmit checksum offload, `ethtool -K IF tx on|off`.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::ptr;

use super::root_hint;

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
#[derive(Debug)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// ETHTOOL_GTXCSUM of linux/ethtool.h.
const GET_TX_CHECKSUM: u32 = 0x16;
/// ETHTOOL_STXCSUM of linux/ethtool.h.
const SET_TX_CHECKSUM: u32 = 0x17;

/// Why a device's offloads could not be read or set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EthtoolError {
    /// The name is empty or longer than the kernel's 15 octets.
    #[error("{0:?} cannot be the name of an interface: it must have 1 to 15 octets")]
    Name(String),
    /// The kernel refused.
    #[error("cannot {action} on {interface}: {source}{}", root_hint(source))]
    Refused {
        /// What was asked for.
        action: &'static str,
        /// The interface's name.
        interface: String,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Switches transmit checksum offload; without it the kernel does not keep TSO on either.
///
/// With the offload on, a kernel sender on veth leaves partial checksums in its packets, which an AF_XDP
/// receiver must take for corrupt ones.
///
/// # Errors
///
/// When there is no such interface in this network namespace, or without CAP_NET_ADMIN.
pub fn set_tx_checksum(interface: &str, on: bool) -> Result<(), EthtoolError> {
    let mut value = EthtoolValue { command: SET_TX_CHECKSUM, data: u32::from(on) };
    request(interface, &mut value, "set transmit checksum offload")
}

/// Whether transmit checksum offload is on.
///
/// # Errors
///
/// When there is no such interface in this network namespace.
pub fn tx_checksum(interface: &str) -> Result<bool, EthtoolError> {
    let mut value = EthtoolValue { command: GET_TX_CHECKSUM, data: 0 };
    request(interface, &mut value, "read transmit checksum offload")?;
    Ok(value.data != 0)
}

fn request(interface: &str, value: &mut EthtoolValue, action: &'static str) -> Result<(), EthtoolError> {
    let refused = |source| EthtoolError::Refused { action, interface: interface.to_owned(), source };
    let mut request = libc::ifreq {
        ifr_name: interface_name(interface)?,
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: ptr::from_mut(value).cast() },
    };
    // Any IPv4 socket will do: the ioctl only needs one to find the network namespace.
    let socket = UdpSocket::bind("0.0.0.0:0").map_err(refused)?;
    // SAFETY: `socket` is open for the length of the call. SIOCETHTOOL reads and writes one `ifreq`, which
    // `request` is, and one `ethtool_value` behind `ifr_data` for the two commands used here; that points to
    // `value`, borrowed exclusively until this function returns.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &mut request) };
    if status < 0 { Err(refused(io::Error::last_os_error())) } else { Ok(()) }
}

fn interface_name(interface: &str) -> Result<[libc::c_char; libc::IFNAMSIZ], EthtoolError> {
    let mut name = [0; libc::IFNAMSIZ];
    // The last octet stays zero: the kernel reads a terminated string.
    if interface.is_empty() || interface.len() >= name.len() {
        return Err(EthtoolError::Name(interface.to_owned()));
    }
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_1_to_15_octets_are_accepted() {
        for (name, good, why) in [
            ("", false, "empty"),
            ("a", true, "shortest"),
            ("abcdefghijklmno", true, "15 octets leave room for the terminator"),
            ("abcdefghijklmnop", false, "16 octets do not"),
        ] {
            assert_eq!(interface_name(name).is_ok(), good, "{why}");
        }
    }

    #[test]
    fn an_interface_that_is_not_there_is_named_in_the_error() {
        let error = tx_checksum("rr-none").expect_err("no such interface");
        assert!(error.to_string().contains("rr-none"), "{error}");
    }
}
