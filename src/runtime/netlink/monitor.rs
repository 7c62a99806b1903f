//! Neighbour changes as the kernel announces them.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::connection::{NetlinkError, messages};
use super::query::{neighbour_of, neighbours};

/// What became of one neighbour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourChange {
    /// The neighbour's address.
    pub address: IpAddr,
    /// Its Ethernet address; `None` when it can no longer be used.
    pub mac: Option<[u8; 6]>,
}

/// A subscription to the neighbour changes of one interface.
#[derive(Debug)]
pub struct NeighbourMonitor {
    socket: Socket,
    index: u32,
}

impl NeighbourMonitor {
    /// Subscribes to the changes on the interface `index` from now on.
    ///
    /// Read [`neighbours`] after this, not before, and no change is missed.
    ///
    /// # Errors
    ///
    /// When there is no netlink socket to be had.
    pub fn open(index: u32) -> Result<Self, NetlinkError> {
        /// RTNLGRP_NEIGH of linux/rtnetlink.h.
        const GROUP_NEIGHBOUR: u32 = 3;
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        socket.add_membership(GROUP_NEIGHBOUR).map_err(NetlinkError::Socket)?;
        socket.set_non_blocking(true).map_err(NetlinkError::Socket)?;
        Ok(Self { socket, index })
    }

    /// The changes since the last call, oldest first; does not wait.
    ///
    /// When the kernel had to drop some, the whole table is read instead.
    ///
    /// # Errors
    ///
    /// When the socket fails or the kernel's words cannot be read.
    pub fn poll(&mut self) -> Result<Vec<NeighbourChange>, NetlinkError> {
        let mut changes = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => self.read(&datagram, &mut changes)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(changes),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    let known = neighbours(self.index)?;
                    changes.extend(
                        known.into_iter().map(|(address, mac)| NeighbourChange { address, mac: Some(mac) }),
                    );
                }
                Err(error) => return Err(NetlinkError::Socket(error)),
            }
        }
    }

    fn read(&self, datagram: &[u8], changes: &mut Vec<NeighbourChange>) -> Result<(), NetlinkError> {
        for message in messages(datagram)? {
            let (neighbour, gone) = match message.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(neighbour)) => {
                    (neighbour, false)
                }
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(neighbour)) => {
                    (neighbour, true)
                }
                _ => continue,
            };
            if neighbour.header.ifindex != self.index {
                continue;
            }
            if let Some((address, mac)) = neighbour_of(&neighbour) {
                changes.push(NeighbourChange { address, mac: mac.filter(|_| !gone) });
            }
        }
        Ok(())
    }
}

impl AsRawFd for NeighbourMonitor {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
