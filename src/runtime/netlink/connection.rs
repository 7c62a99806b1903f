//! One rtnetlink socket: a request goes out, and all messages of its answer come back.
#![forbid(unsafe_code)]

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use crate::runtime::root_hint;

/// Why the kernel's network configuration could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// There is no rtnetlink here.
    #[error("cannot talk to the kernel over netlink: {0}")]
    Socket(#[source] io::Error),
    /// No interface has that name in this network namespace.
    #[error("there is no interface {0} in this network namespace; `ip link` lists those there are")]
    NoInterface(String),
    /// The interface has no six-octet hardware address.
    #[error("{0} is not an Ethernet interface; choose one that has a MAC address")]
    NotEthernet(String),
    /// The kernel refused.
    #[error("cannot {action}: {source}{}", root_hint(source))]
    Refused {
        /// What was asked for.
        action: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The answer is not one this version can read.
    #[error("the kernel's answer over netlink cannot be read: {0}")]
    Malformed(String),
}

impl NetlinkError {
    /// The kernel's error number, if it was the kernel that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Socket(source) => source.raw_os_error(),
            _ => None,
        }
    }
}

/// A socket for requests, one at a time.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    sequence: u32,
}

impl Connection {
    pub(super) fn open() -> Result<Self, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(NetlinkError::Socket)?;
        socket.bind_auto().map_err(NetlinkError::Socket)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(NetlinkError::Socket)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Asks for a list; `action` completes "cannot ..." if the kernel refuses.
    pub(super) fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        action: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP, action)
    }

    /// Asks for one thing, or for a change made with the additional `flags`.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags, action)
    }

    fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: &str,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.sequence += 1;
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map_err(NetlinkError::Socket)?;
        self.answer(action)
    }

    /// Reads until the message that ends every answer: an acknowledgement, an error, or the end of a list.
    fn answer(&self, action: &str) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut answer = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full().map_err(NetlinkError::Socket)?;
            for message in messages(&datagram)? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => answer.push(inner),
                    NetlinkPayload::Done(_) => return Ok(answer),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answer),
                    NetlinkPayload::Error(error) => {
                        return Err(NetlinkError::Refused {
                            action: action.to_owned(),
                            source: error.to_io(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The messages in one datagram.
pub(super) fn messages(
    mut datagram: &[u8],
) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
    /// Octets of `struct nlmsghdr`.
    const HEADER_LEN: usize = 16;

    let mut messages = Vec::new();
    while datagram.len() >= HEADER_LEN {
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram)
            .map_err(|error| NetlinkError::Malformed(error.to_string()))?;
        // Messages are padded to four octets; `deserialize` has checked the length against the datagram's.
        let len = message.header.length as usize;
        datagram = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
        messages.push(message);
    }
    Ok(messages)
}

#[cfg(test)]
mod tests {
    use super::*;
    use netlink_packet_route::link::LinkMessage;

    fn noop() -> Vec<u8> {
        let payload = NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        let mut message = NetlinkMessage::new(NetlinkHeader::default(), payload);
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn every_message_of_a_datagram_is_read() {
        let datagram = [noop(), noop(), noop()].concat();
        assert_eq!(messages(&datagram).expect("well formed").len(), 3);
    }

    #[test]
    fn a_message_longer_than_its_datagram_is_malformed() {
        let datagram = noop();
        let cut = &datagram[..datagram.len() - 1];
        assert!(matches!(messages(cut), Err(NetlinkError::Malformed(_))));
    }

    #[test]
    fn a_length_that_would_stand_still_is_malformed() {
        assert!(matches!(messages(&[0; 16]), Err(NetlinkError::Malformed(_))));
    }
}
