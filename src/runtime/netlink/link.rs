//! Changes to links: what a lab is made of.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::{Connection, NetlinkError};

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// The interface's name.
    pub name: &'a str,
    /// The network namespace it is to live in.
    pub netns: BorrowedFd<'a>,
}

/// A veth pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct Veth<'a> {
    /// Both ends.
    pub ends: [VethEnd<'a>; 2],
    /// Receive queues and transmit queues of each end: XDP wants as many of one as of the other.
    pub queues: u32,
    /// The largest IP packet, in octets.
    pub mtu: u32,
}

/// Makes a veth pair, each end in its own network namespace, both down.
///
/// # Errors
///
/// When a name is taken, the kernel has no veth, or without CAP_NET_ADMIN.
pub fn create_veth(veth: &Veth<'_>) -> Result<(), NetlinkError> {
    let [mut near, far] = veth.ends.map(|end| veth_end(end, veth));
    near.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(far))),
    ]));
    let action = format!("make the veth pair {} and {}", veth.ends[0].name, veth.ends[1].name);
    let make = RouteNetlinkMessage::NewLink(near);
    Connection::open()?.request(make, NLM_F_CREATE | NLM_F_EXCL, &action).map(drop)
}

fn veth_end(end: VethEnd<'_>, veth: &Veth<'_>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName(end.name.to_owned()),
        LinkAttribute::NetNsFd(end.netns.as_raw_fd()),
        LinkAttribute::Mtu(veth.mtu),
        LinkAttribute::NumTxQueues(veth.queues),
        LinkAttribute::NumRxQueues(veth.queues),
    ];
    link
}

/// Sets the interface called `name` up.
///
/// # Errors
///
/// When there is none, or without CAP_NET_ADMIN.
pub fn set_up(name: &str) -> Result<(), NetlinkError> {
    let mut link = named(name);
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    let change = RouteNetlinkMessage::SetLink(link);
    Connection::open()?.request(change, 0, &format!("set {name} up")).map(drop)
}

/// Deletes the interface called `name`; the other end of a veth pair goes with it.
///
/// # Errors
///
/// When there is none, or without CAP_NET_ADMIN.
pub fn delete_link(name: &str) -> Result<(), NetlinkError> {
    let delete = RouteNetlinkMessage::DelLink(named(name));
    Connection::open()?.request(delete, 0, &format!("delete {name}")).map(drop)
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    link
}

/// Gives the interface `index` an address that can be used at once (no duplicate address detection).
///
/// # Errors
///
/// When the interface has it already, or without CAP_NET_ADMIN.
pub fn add_address(index: u32, address: IpAddr, prefix_len: u8) -> Result<(), NetlinkError> {
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = prefix_len;
    message.header.flags = AddressHeaderFlags::Nodad;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    let add = RouteNetlinkMessage::NewAddress(message);
    let action = format!("add the address {address}/{prefix_len}");
    Connection::open()?.request(add, NLM_F_CREATE | NLM_F_EXCL, &action).map(drop)
}
