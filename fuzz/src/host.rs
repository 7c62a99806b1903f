//! Small engines, quickly made, and frames for them.

use std::net::IpAddr;

use ringroad::base::{AddrPair, HashKey, Seq};
use ringroad::io::link::LinkConfig;
use ringroad::stack::{EngineConfig, Limits, Owners, Route, Routes};
use ringroad::tcp::TcpConfig;
use ringroad::wire::{
    Control, EthernetView, Mac, PROTOCOL_TCP, TcpFields, TcpView, checksum, ethernet, ipv4, tcp,
};

/// Tables so small that full ones are near.
pub const LIMITS: Limits = Limits {
    flows_max: 16,
    half_open_max: 8,
    time_wait_max: 16,
    listeners_max: 4,
    neighbours_max: 8,
    chunk_len: 1_024,
    send_chunks: 128,
    recv_chunks: 128,
    reassembly_max: 8,
    busy_max: 16,
    models_max: 4,
    options_max: 4,
    output_burst: 16,
};

/// A link as good as a cable: 50 us.
pub const CLEAN: LinkConfig = LinkConfig { delay_us: 50, ..LinkConfig::PERFECT };

pub fn address(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

/// The engine of host `n`, on a link with all the others.
pub fn config(n: u8) -> EngineConfig {
    let on_link = Route { destination: address(0), prefix_len: 24, gateway: None, source: None };
    EngineConfig {
        limits: LIMITS,
        tcp: TcpConfig::default(),
        mac: Mac([2, 0, 0, 0, 0, n]),
        mtu: 1_500,
        routes: Routes { addresses: vec![address(n)], routes: vec![on_link] },
        source_ports: 20_000..=20_999,
        worker: 0,
        owners: Owners::One,
        verify_checksums: true,
        secret: HashKey::new(u64::from(n), 7),
    }
}

/// A segment from host 9, port 999, to host 1, port 80.
pub fn segment(seq: u32, ack: u32, ctl: Control, text: &[u8]) -> Vec<u8> {
    let fields = TcpFields {
        src_port: 999,
        dst_port: 80,
        seq: Seq::new(seq),
        ack: Seq::new(ack),
        ctl,
        wnd: 65_535,
        urg: 0,
    };
    // SACK-permitted, and two octets of padding, on a SYN.
    let options: &[u8] = if ctl.contains(Control::SYN) { &[1, 1, 4, 2] } else { &[] };
    let mut segment = vec![0; tcp::HEADER_LEN];
    tcp::emit(&mut segment, &fields, options.len());
    segment.extend(options);
    segment.extend(text);
    let addrs = AddrPair::new(address(9), address(1)).expect("one family");
    let mut sum = checksum::pseudo_header(&addrs, PROTOCOL_TCP, segment.len());
    sum.add(&segment);
    tcp::set_checksum(&mut segment, sum.finish());

    let mut frame = vec![0; ethernet::HEADER_LEN + ipv4::HEADER_LEN];
    let macs = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 9]));
    let at = ethernet::emit(&mut frame, macs.0, macs.1, None, ethernet::ETHER_TYPE_IPV4);
    let fields = ipv4::Ipv4Fields {
        src: [10, 0, 0, 9].into(),
        dst: [10, 0, 0, 1].into(),
        dscp: 0,
        ecn: 0,
        ttl: 64,
        protocol: PROTOCOL_TCP,
        payload_len: u16::try_from(segment.len()).expect("short"),
    };
    ipv4::emit(&mut frame[at..], &fields);
    frame.extend(segment);
    frame
}

/// Takes a frame apart that an engine sent.
pub fn see(frame: &[u8]) -> TcpView<'_> {
    let link = EthernetView::parse(frame).expect("it sends Ethernet");
    let packet = ringroad::wire::ip::parse(link.ether_type, link.payload).expect("with IP in it");
    assert!(checksum::verify(&packet.addrs, packet.protocol, packet.payload), "and a right checksum");
    TcpView::parse(packet.payload).expect("and TCP in that")
}
