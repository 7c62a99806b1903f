//! What the stack asks the kernel: an interface, its routes, its neighbours.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkMessage, LinkXdp, XdpAttached,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::connection::{Connection, NetlinkError};

/// A link and its addresses, as they were when asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The index, unique within the network namespace.
    pub index: u32,
    /// The name.
    pub name: String,
    /// The Ethernet address.
    pub mac: [u8; 6],
    /// The largest IP packet, in octets.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// How many receive queues it was made with.
    pub rx_queues: u32,
    /// How many transmit queues it was made with.
    pub tx_queues: u32,
    /// Whether an XDP program is attached.
    pub xdp_attached: bool,
    /// Each address with the length of its prefix.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// A unicast route of the main table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The first address of the destination.
    pub destination: IpAddr,
    /// The length of the destination's prefix.
    pub prefix_len: u8,
    /// The next hop; `None` when the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The source address to use; `None` when the route does not say.
    pub preferred_source: Option<IpAddr>,
    /// Among equally long prefixes the lowest metric wins.
    pub metric: u32,
}

/// The interface called `name`, with its addresses.
///
/// # Errors
///
/// When there is none, or it is not an Ethernet interface.
pub fn interface(name: &str) -> Result<Interface, NetlinkError> {
    let mut connection = Connection::open()?;
    let mut ask = LinkMessage::default();
    ask.attributes =
        vec![LinkAttribute::IfName(name.to_owned()), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    let answer = connection
        .request(RouteNetlinkMessage::GetLink(ask), 0, &format!("find the interface {name}"))
        .map_err(|error| match error.errno() {
            // The kernel says ERANGE or EINVAL to names that no interface can have.
            Some(libc::ENODEV | libc::ERANGE | libc::EINVAL) => NetlinkError::NoInterface(name.to_owned()),
            _ => error,
        })?;
    let link = answer
        .into_iter()
        .find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })
        .ok_or_else(|| NetlinkError::NoInterface(name.to_owned()))?;
    let mut interface = from_link(&link, name)?;
    interface.addresses = addresses(&mut connection, interface.index)?;
    Ok(interface)
}

fn from_link(link: &LinkMessage, name: &str) -> Result<Interface, NetlinkError> {
    let mut mac = None;
    let mut interface = Interface {
        index: link.header.index,
        name: name.to_owned(),
        mac: [0; 6],
        mtu: 0,
        up: link.header.flags.contains(LinkFlags::Up),
        rx_queues: 1,
        tx_queues: 1,
        xdp_attached: false,
        addresses: Vec::new(),
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(address) => mac = <[u8; 6]>::try_from(address.as_slice()).ok(),
            LinkAttribute::Mtu(mtu) => interface.mtu = *mtu,
            LinkAttribute::NumRxQueues(queues) => interface.rx_queues = *queues,
            LinkAttribute::NumTxQueues(queues) => interface.tx_queues = *queues,
            LinkAttribute::Xdp(xdp) => {
                interface.xdp_attached = xdp
                    .iter()
                    .any(|info| matches!(info, LinkXdp::Attached(how) if *how != XdpAttached::None));
            }
            _ => {}
        }
    }
    interface.mac = mac.ok_or_else(|| NetlinkError::NotEthernet(name.to_owned()))?;
    Ok(interface)
}

fn addresses(connection: &mut Connection, index: u32) -> Result<Vec<(IpAddr, u8)>, NetlinkError> {
    let ask = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let answer = connection.dump(ask, "list addresses")?;
    Ok(answer
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(address) if address.header.index == index => address_of(address),
            _ => None,
        })
        .collect())
}

/// Our own address: on point-to-point links IFA_ADDRESS is the peer's, and IFA_LOCAL is ours.
fn address_of(message: &AddressMessage) -> Option<(IpAddr, u8)> {
    let mut found = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(address) => return Some((*address, message.header.prefix_len)),
            AddressAttribute::Address(address) => found = Some((*address, message.header.prefix_len)),
            _ => {}
        }
    }
    found
}

/// The main table's unicast routes that leave through the interface `index`, of both families.
///
/// A route with several next hops counts with the first that leaves through the interface.
///
/// # Errors
///
/// When the kernel's answer cannot be had or read.
pub fn routes(index: u32) -> Result<Vec<Route>, NetlinkError> {
    let mut connection = Connection::open()?;
    let mut routes = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut ask = RouteMessage::default();
        ask.header.address_family = family;
        for message in connection.dump(RouteNetlinkMessage::GetRoute(ask), "list routes")? {
            if let RouteNetlinkMessage::NewRoute(route) = message {
                routes.extend(route_through(&route, index));
            }
        }
    }
    Ok(routes)
}

fn route_through(message: &RouteMessage, index: u32) -> Option<Route> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut route = Route {
        destination: match header.address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return None,
        },
        prefix_len: header.destination_prefix_length,
        gateway: None,
        preferred_source: None,
        metric: 0,
    };
    let mut ours = apply(&mut route, &message.attributes, index);
    for hop in message.attributes.iter().flat_map(next_hops) {
        if !ours && hop.interface_index == index {
            apply(&mut route, &hop.attributes, index);
            ours = true;
        }
    }
    ours.then_some(route)
}

/// Takes over what `attributes` say; returns whether they name the interface `index`.
fn apply(route: &mut Route, attributes: &[RouteAttribute], index: u32) -> bool {
    let mut ours = false;
    for attribute in attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                route.destination = ip(address).unwrap_or(route.destination);
            }
            RouteAttribute::Gateway(address) => route.gateway = ip(address),
            RouteAttribute::PrefSource(address) => route.preferred_source = ip(address),
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::Oif(oif) => ours = *oif == index,
            _ => {}
        }
    }
    ours
}

fn next_hops(attribute: &RouteAttribute) -> &[RouteNextHop] {
    match attribute {
        RouteAttribute::MultiPath(hops) => hops,
        _ => &[],
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// The neighbours on the interface `index` whose Ethernet address is known and not known to be wrong.
///
/// # Errors
///
/// When the kernel's answer cannot be had or read.
pub fn neighbours(index: u32) -> Result<Vec<(IpAddr, [u8; 6])>, NetlinkError> {
    let answer = Connection::open()?
        .dump(RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default()), "list neighbours")?;
    Ok(answer
        .iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) if neighbour.header.ifindex == index => {
                let (address, mac) = neighbour_of(neighbour)?;
                Some((address, mac?))
            }
            _ => None,
        })
        .collect())
}

/// A neighbour's IP address, and its Ethernet address while that may be used.
pub(super) fn neighbour_of(message: &NeighbourMessage) -> Option<(IpAddr, Option<[u8; 6]>)> {
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::V4(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some(IpAddr::V6(*ip)),
            NeighbourAttribute::LinkLocalAddress(octets) => {
                mac = <[u8; 6]>::try_from(octets.as_slice()).ok();
            }
            _ => {}
        }
    }
    let usable = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    Some((address?, mac.filter(|_| usable)))
}

/// Makes the kernel resolve `next_hop` on `interface`: the answer appears among [`neighbours`] soon after.
///
/// It does so by sending one octet to the discard port, for which the kernel needs the neighbour.
///
/// # Errors
///
/// When there is no such interface, or nothing can be sent through it.
pub fn resolve(next_hop: IpAddr, interface: &Interface) -> Result<(), NetlinkError> {
    /// The discard service of RFC 863.
    const DISCARD: u16 = 9;
    let send = || -> io::Result<()> {
        let (any, to): (IpAddr, SocketAddr) = match next_hop {
            IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), SocketAddr::new(next_hop, DISCARD)),
            // The scope matters for link-local addresses, and is ignored for others.
            IpAddr::V6(address) => {
                (Ipv6Addr::UNSPECIFIED.into(), SocketAddrV6::new(address, DISCARD, 0, interface.index).into())
            }
        };
        let socket = UdpSocket::bind((any, 0))?;
        let device = std::ffi::OsString::from(&interface.name);
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::BindToDevice, &device)?;
        socket.send_to(&[0], to).map(drop)
    };
    send().map_err(|source| NetlinkError::Refused {
        action: format!("ask for the neighbour {next_hop} on {}", interface.name),
        source,
    })
}
