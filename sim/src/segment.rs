//! A TCP segment in its frame, taken apart and put together again, whatever it says.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::IpAddr;

use ringroad::base::AddrPair;
use ringroad::wire::ethernet::{self, ETHER_TYPE_IPV4, ETHER_TYPE_IPV6};
use ringroad::wire::{
    EthernetView, Ipv4Fields, Ipv6Fields, Mac, PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, Sum, TcpFields,
    TcpView, checksum, ip, ipv4, ipv6, tcp,
};

/// Everything that matters of a frame with a segment.
#[derive(Clone, PartialEq, Eq)]
pub struct Crafted {
    pub to: Mac,
    pub from: Mac,
    /// As whoever receives it sees them.
    pub addrs: AddrPair,
    /// The ECN field of the IP header.
    pub ecn: u8,
    pub fields: TcpFields,
    /// Whole words.
    pub options: Vec<u8>,
    pub text: Vec<u8>,
}

impl fmt::Debug for Crafted {
    /// Without the text, which would hide what is wrong.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, from, addrs, ecn, fields, options, text } = self;
        write!(
            f,
            "{from} to {to}, {addrs:?}, ecn {ecn}, {fields:?}, options {options:02x?}, {} octets",
            text.len()
        )
    }
}

impl Crafted {
    /// Takes a frame apart; an error says what is wrong with it.
    pub fn parse(frame: &[u8]) -> Result<Self, &'static str> {
        let link = EthernetView::parse(frame).map_err(|reason| reason.label())?;
        let packet = ip::parse(link.ether_type, link.payload).map_err(|reason| reason.label())?;
        if packet.protocol != PROTOCOL_TCP {
            return Err("not TCP");
        }
        if !checksum::verify(&packet.addrs, PROTOCOL_TCP, packet.payload) {
            return Err("wrong checksum");
        }
        let view = TcpView::parse(packet.payload).map_err(|reason| reason.label())?;
        let fields = TcpFields {
            src_port: view.src_port(),
            dst_port: view.dst_port(),
            seq: view.seq(),
            ack: view.ack(),
            ctl: view.ctl(),
            wnd: view.wnd(),
            urg: view.urg(),
        };
        Ok(Self {
            to: link.dst,
            from: link.src,
            addrs: packet.addrs,
            ecn: packet.ecn,
            fields,
            options: view.options.to_vec(),
            text: view.payload.to_vec(),
        })
    }

    /// The octets, with right lengths and checksums.
    pub fn frame(&self) -> Vec<u8> {
        let mut segment = vec![0; tcp::HEADER_LEN];
        tcp::emit(&mut segment, &self.fields, self.options.len());
        segment.extend_from_slice(&self.options);
        segment.extend_from_slice(&self.text);
        let mut sum = checksum::pseudo_header(&self.addrs, PROTOCOL_TCP, segment.len());
        sum.add(&segment);
        tcp::set_checksum(&mut segment, sum.finish());
        packet((self.to, self.from), &self.addrs, self.ecn, PROTOCOL_TCP, &segment)
    }
}

/// A frame, to and from these link addresses, with an IP packet around `payload`.
fn packet((to, from): (Mac, Mac), addrs: &AddrPair, ecn: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let payload_len = u16::try_from(payload.len()).expect("it fits a packet");
    let mut frame = vec![0; ethernet::HEADER_LEN + ipv6::HEADER_LEN];
    let header_len = match (addrs.remote(), addrs.local()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let at = ethernet::emit(&mut frame, to, from, None, ETHER_TYPE_IPV4);
            let fields = Ipv4Fields { src, dst, dscp: 0, ecn, ttl: 64, protocol, payload_len };
            ipv4::emit(&mut frame[at..], &fields)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let at = ethernet::emit(&mut frame, to, from, None, ETHER_TYPE_IPV6);
            let (traffic_class, flow_label, hop_limit) = (ecn, 0, 64);
            let fields = Ipv6Fields { src, dst, traffic_class, flow_label, hop_limit, protocol, payload_len };
            ipv6::emit(&mut frame[at..], &fields)
        }
        _ => unreachable!("a pair is of one family"),
    };
    frame.truncate(ethernet::HEADER_LEN + header_len);
    frame.extend_from_slice(payload);
    frame
}

/// An ICMP error about `frame`, to its sender; `None` when there is no packet in it.
///
/// `rest` is the second word: the MTU, where there is one.
pub fn icmp_about(frame: &[u8], icmp_type: u8, code: u8, rest: u32) -> Option<Vec<u8>> {
    let link = EthernetView::parse(frame).ok()?;
    let about = ip::parse(link.ether_type, link.payload).ok()?.addrs;
    // Who was to receive it complains to whoever sent it.
    let addrs = AddrPair::new(about.remote(), about.local())?;
    let mut message = vec![icmp_type, code, 0, 0];
    message.extend(rest.to_be_bytes());
    let quoted = if about.local().is_ipv4() { ipv4::HEADER_LEN } else { ipv6::HEADER_LEN } + 8;
    message.extend(link.payload.get(..quoted)?);
    let (protocol, mut sum) = if about.local().is_ipv4() {
        (PROTOCOL_ICMP, Sum::new())
    } else {
        (PROTOCOL_ICMPV6, checksum::pseudo_header(&addrs, PROTOCOL_ICMPV6, message.len()))
    };
    sum.add(&message);
    let sum = sum.finish().to_be_bytes();
    message[2..4].copy_from_slice(&sum);
    Some(packet((link.src, link.dst), &addrs, 0, protocol, &message))
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::scenario::{addresses, mac};
    use ringroad::base::Seq;
    use ringroad::wire::{Control, icmp};

    /// A segment from machine 0 to machine 1.
    pub fn example(v6: bool) -> Crafted {
        let [from, to] = [0, 1].map(|machine| addresses(machine)[usize::from(v6)]);
        Crafted {
            to: mac(1),
            from: mac(0),
            addrs: AddrPair::new(to, from).expect("one family"),
            ecn: 2,
            fields: TcpFields {
                src_port: 20_000,
                dst_port: 80,
                seq: Seq::new(1_000),
                ack: Seq::new(2_000),
                ctl: Control::ACK,
                wnd: 100,
                urg: 0,
            },
            options: vec![1, 1, 1, 0],
            text: b"text".to_vec(),
        }
    }

    #[test]
    fn what_is_put_together_is_found_when_it_is_taken_apart() {
        for v6 in [false, true] {
            let crafted = example(v6);
            let mut frame = crafted.frame();
            assert_eq!(Crafted::parse(&frame).as_ref(), Ok(&crafted));
            let last = frame.len() - 1;
            frame[last] ^= 1;
            assert_eq!(Crafted::parse(&frame), Err("wrong checksum"));
        }
    }

    #[test]
    fn icmp_errors_go_to_the_sender_and_quote_the_segment() {
        for (v6, icmp_type) in [(false, 3), (true, 1)] {
            let about = example(v6);
            let frame = icmp_about(&about.frame(), icmp_type, 1, 0).expect("there is a packet in it");
            let link = EthernetView::parse(&frame).expect("Ethernet");
            let packet = ip::parse(link.ether_type, link.payload).expect("IP");
            assert_eq!((link.dst, packet.addrs.local()), (about.from, about.addrs.remote()));
            let error = if v6 {
                icmp::parse_v6(packet.payload, &packet.addrs)
            } else {
                icmp::parse_v4(packet.payload)
            };
            let quoted = error.expect("an error").quoted;
            assert_eq!((quoted.src_port, quoted.seq), (20_000, Seq::new(1_000)));
        }
    }
}
