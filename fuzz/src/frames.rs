//! Frames of any octets: every view stays within them, and an engine survives them and says nothing odd.

use ringroad::base::DropReason;
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Cx, EngineConfig, Flow, Listen};
use ringroad::wire::{
    EthernetView, Ipv4View, Ipv6View, Mac, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, Sum, TcpOptions,
    TcpView, ethernet, icmp, ip,
};

use super::host::{CLEAN, address, config, see};
use super::input::Input;

struct Echo;

impl App for Echo {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.listen(&Listen::new(address(1), 80)).expect("a listener");
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        flow.send(data)
    }

    fn on_writable(&mut self, flow: &mut Flow<'_>) {
        flow.resume();
    }
}

/// Frames one after another: a length of two octets, then so many octets.
///
/// With the first octet even, IPv4's header checksum is made right, which chance hardly ever does.
///
/// # Panics
///
/// Where the property does not hold.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let repairs = input.octet().is_multiple_of(2);
    let mut net = SimNet::new(1);
    net.add(EngineConfig { verify_checksums: false, ..config(1) }, Echo, CLEAN);
    net.host_mut(0).engine.set_neighbour(address(9), Mac([2, 0, 0, 0, 0, 9]));
    net.capture();
    net.start();
    while !input.is_empty() {
        let len = usize::from(input.number() % 1_600);
        let mut frame = input.take(len).to_vec();
        if repairs {
            repair(&mut frame);
        }
        for start in 0..frame.len().min(60) {
            views(&frame[start..]);
        }
        let _: Result<_, _> = upwards(&frame);
        net.inject(0, &frame);
        for _ in 0..20 {
            net.step();
        }
    }
    for sent in net.captured() {
        see(&sent.frame);
    }
    net.abort_all(0);
    assert_eq!(net.host(0).engine.flow_count(), 0);
}

fn repair(frame: &mut [u8]) {
    let Some(header) = frame.get_mut(ethernet::HEADER_LEN..ethernet::HEADER_LEN + 20) else { return };
    if header[0] == 0x45 {
        header[10..12].fill(0);
        let mut sum = Sum::new();
        sum.add(header);
        let sum = sum.finish().to_be_bytes();
        header[10..12].copy_from_slice(&sum);
    }
}

/// Whether `part` is a part of `whole` and not of anything else.
fn lies_within(part: &[u8], whole: &[u8]) -> bool {
    let (part, whole) = (part.as_ptr_range(), whole.as_ptr_range());
    whole.start <= part.start && part.end <= whole.end
}

/// Gives `octets` to every parser; whatever a view lends lies in them.
fn views(octets: &[u8]) {
    if let Ok(view) = EthernetView::parse(octets) {
        assert!(lies_within(view.payload, octets) && view.vlan.is_none_or(|vid| vid < 4096));
    }
    if let Ok(view) = Ipv4View::parse(octets) {
        assert!(lies_within(view.payload, octets) && view.header.total_len() <= octets.len());
    }
    if let Ok(view) = Ipv6View::parse(octets) {
        assert!(lies_within(view.payload, octets) && view.payload.len() <= view.header.payload_len());
    }
    if let Ok(view) = TcpView::parse(octets) {
        assert!(lies_within(view.options, octets) && lies_within(view.payload, octets));
        assert_eq!(view.data_offset() + view.payload.len(), octets.len());
        assert_eq!(TcpOptions::timestamps(view.options), TcpOptions::parse(view.options).timestamps);
    }
    if let Ok(error) = icmp::parse_v4(octets) {
        assert!(error.quoted.src.is_ipv4() && error.quoted.dst.is_ipv4());
    }
}

/// Goes up the layers as the stack does.
fn upwards(frame: &[u8]) -> Result<(), DropReason> {
    let link = EthernetView::parse(frame)?;
    let packet = ip::parse(link.ether_type, link.payload)?;
    assert!(lies_within(packet.payload, frame));
    match packet.protocol {
        PROTOCOL_TCP => TcpView::parse(packet.payload).map(drop),
        PROTOCOL_ICMP => icmp::parse_v4(packet.payload).map(drop),
        PROTOCOL_ICMPV6 => icmp::parse_v6(packet.payload, &packet.addrs).map(drop),
        _ => Ok(()),
    }
}
