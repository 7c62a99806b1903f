//! TCP segments in IP packets, written and read without the engine's own code.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// A segment with its sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub seq: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
    /// As they stand in the header.
    pub options: Vec<u8>,
    pub text: Vec<u8>,
}

impl Packet {
    pub fn to_octets(&self) -> Vec<u8> {
        assert_eq!(self.options.len() % 4, 0, "options fill whole words");
        let mut tcp = Vec::new();
        tcp.extend(self.from.port().to_be_bytes());
        tcp.extend(self.to.port().to_be_bytes());
        tcp.extend(self.seq.to_be_bytes());
        tcp.extend(self.ack.to_be_bytes());
        tcp.push(((20 + self.options.len()) * 4) as u8);
        tcp.push(self.flags);
        tcp.extend(self.window.to_be_bytes());
        tcp.extend([0; 4]);
        tcp.extend(&self.options);
        tcp.extend(&self.text);
        let sum = checksum(&[&pseudo_header(self.from.ip(), self.to.ip(), tcp.len())[..], &tcp].concat());
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        [ip_header(self.from.ip(), self.to.ip(), tcp.len()), tcp].concat()
    }

    /// Reads a packet of the stack; its checksums must be right.
    pub fn parse(octets: &[u8]) -> Self {
        let (from, to, tcp): (IpAddr, IpAddr, &[u8]) = match octets[0] >> 4 {
            4 => {
                assert_eq!(checksum(&octets[..20]), 0, "the IPv4 checksum is right");
                assert_eq!(usize::from(u16::from_be_bytes([octets[2], octets[3]])), octets.len());
                let addr = |at: usize| <[u8; 4]>::try_from(&octets[at..at + 4]).expect("four").into();
                (addr(12), addr(16), &octets[20..])
            }
            _ => {
                assert_eq!(usize::from(u16::from_be_bytes([octets[4], octets[5]])), octets.len() - 40);
                let addr = |at: usize| <[u8; 16]>::try_from(&octets[at..at + 16]).expect("sixteen").into();
                (addr(8), addr(24), &octets[40..])
            }
        };
        let sum = checksum(&[&pseudo_header(from, to, tcp.len())[..], tcp].concat());
        assert_eq!(sum, 0, "the TCP checksum is right");
        let half = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let word = |at: usize| u32::from(half(at)) << 16 | u32::from(half(at + 2));
        let header = usize::from(tcp[12] >> 4) * 4;
        Self {
            from: SocketAddr::new(from, half(0)),
            to: SocketAddr::new(to, half(2)),
            seq: word(4),
            ack: word(8),
            flags: tcp[13],
            window: half(14),
            options: tcp[20..header].to_vec(),
            text: tcp[header..].to_vec(),
        }
    }
}

fn ip_header(from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut header = vec![0x45, 0];
            header.extend(((20 + len) as u16).to_be_bytes());
            header.extend([0, 0, 0, 0, 255, 6, 0, 0]);
            header.extend([from.octets(), to.octets()].concat());
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            header
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut header = vec![0x60, 0, 0, 0];
            header.extend((len as u16).to_be_bytes());
            header.extend([6, 255]);
            header.extend([from.octets(), to.octets()].concat());
            header
        }
        _ => panic!("one family"),
    }
}

fn pseudo_header(from: IpAddr, to: IpAddr, len: usize) -> Vec<u8> {
    let addrs = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
        (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
        _ => panic!("one family"),
    };
    [addrs, (len as u32).to_be_bytes().to_vec(), vec![0, 0, 0, 6]].concat()
}

fn checksum(octets: &[u8]) -> u16 {
    let pairs = octets.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u32 = pairs.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
