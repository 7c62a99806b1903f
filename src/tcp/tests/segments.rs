//! Segments as the scenarios write and read them: numbers relative to the initial ones.
#![forbid(unsafe_code)]

use std::format;
use std::string::String;
use std::vec::Vec;

use crate::base::Seq;
use crate::tcp::Segment;
use crate::tcp::segment::Outgoing;
use crate::wire::{Control, SackBlocks, TcpOptions, Timestamps};

/// Our initial sequence number: every scenario crosses the wrap after 50 octets.
pub const ISS: Seq = Seq::new(u32::MAX - 50);
/// The peer's: every scenario crosses the middle of sequence space.
pub const IRS: Seq = Seq::new((1 << 31) - 60);

/// The octet of text at a sequence number relative to the initial one.
pub fn octet(relative: u32) -> u8 {
    u8::try_from(relative % 251).expect("below 251")
}

/// A stretch of text whose first octet has the relative number `seq`.
pub fn text(seq: u32, len: u32) -> Vec<u8> {
    (seq..seq + len).map(octet).collect()
}

/// A segment from the peer: `seq` relative to IRS, `ack` to ISS.
#[derive(Clone, Debug)]
pub struct Seg {
    pub seq: u32,
    pub ack: u32,
    pub ctl: Control,
    pub wnd: u16,
    pub up: u16,
    pub ce: bool,
    pub options: Vec<u8>,
    pub text: Vec<u8>,
}

/// Options as they are on the wire.
fn octets_of(options: &TcpOptions) -> Vec<u8> {
    let mut octets = vec![0; options.len()];
    options.emit(&mut octets);
    octets
}

impl Seg {
    fn new(ctl: Control, seq: u32, ack: u32) -> Self {
        let (wnd, up, options, text) = (u16::MAX, 0, Vec::new(), Vec::new());
        Self { seq, ack, ctl, wnd, up, ce: false, options, text }
    }

    pub fn text(mut self, len: u32) -> Self {
        let first = self.seq.wrapping_add(u32::from(self.ctl.intersects(Control::SYN)));
        self.text = (0..len).map(|i| octet(first.wrapping_add(i))).collect();
        self
    }

    pub fn with(mut self, ctl: Control) -> Self {
        self.ctl |= ctl;
        self
    }

    pub fn wnd(mut self, wnd: u16) -> Self {
        self.wnd = wnd;
        self
    }

    pub fn urg(mut self, up: u16) -> Self {
        self.ctl |= Control::URG;
        self.up = up;
        self
    }

    pub fn ce(mut self) -> Self {
        self.ce = true;
        self
    }

    pub fn option(mut self, set: impl FnOnce(&mut TcpOptions)) -> Self {
        let mut options = TcpOptions::parse(&self.options);
        set(&mut options);
        self.options = octets_of(&options);
        self
    }

    pub fn mss(self, mss: u16) -> Self {
        self.option(|options| options.mss = Some(mss))
    }

    pub fn scale(self, shift: u8) -> Self {
        self.option(|options| options.window_scale = Some(shift))
    }

    pub fn stamp(self, val: u32) -> Self {
        self.option(|options| options.timestamps = Some(Timestamps { val, ecr: 0 }))
    }

    pub fn sack(self) -> Self {
        self.option(|options| options.sack_permitted = true)
    }

    pub fn segment(&self) -> Segment<'_> {
        Segment {
            seq: IRS + self.seq,
            ack: ISS + self.ack,
            ctl: self.ctl,
            wnd: self.wnd,
            up: self.up,
            ce: self.ce,
            stamps: TcpOptions::timestamps(&self.options),
            options: &self.options,
            text: &self.text,
        }
    }
}

/// SYN.
pub fn s() -> Seg {
    Seg::new(Control::SYN, 0, 0).mss(1_000)
}

/// SYN-ACK of our SYN.
pub fn sa() -> Seg {
    Seg::new(Control::SYN | Control::ACK, 0, 1).mss(1_000)
}

/// ACK.
pub fn a(seq: u32, ack: u32) -> Seg {
    Seg::new(Control::ACK, seq, ack)
}

/// ACK with text.
pub fn pa(seq: u32, ack: u32, len: u32) -> Seg {
    Seg::new(Control::ACK | Control::PSH, seq, ack).text(len)
}

/// FIN with ACK.
pub fn fa(seq: u32, ack: u32) -> Seg {
    Seg::new(Control::FIN | Control::ACK, seq, ack)
}

/// RST.
pub fn r(seq: u32) -> Seg {
    Seg::new(Control::RST, seq, 0)
}

/// RST with ACK.
pub fn ra(seq: u32, ack: u32) -> Seg {
    Seg::new(Control::RST | Control::ACK, seq, ack)
}

/// A segment that we sent, with its text.
#[derive(Clone, Debug)]
pub struct Sent {
    pub out: Outgoing,
    /// It was marked on the way.
    pub ce: bool,
    pub options: TcpOptions,
    pub octets: Vec<u8>,
    pub text: Vec<u8>,
}

impl Sent {
    pub fn new(out: Outgoing, sack: SackBlocks, text: Vec<u8>) -> Self {
        let options = out.options(sack);
        Self { out, ce: false, options, octets: octets_of(&options), text }
    }

    /// One that has neither SACK blocks nor text.
    pub fn bare(out: Outgoing) -> Self {
        Self::new(out, SackBlocks::default(), Vec::new())
    }

    /// In one line: control bits, first number and octets of text, acknowledgment.
    pub fn line(&self, iss: Seq, irs: Seq) -> String {
        let names = [
            (Control::SYN, 'S'),
            (Control::FIN, 'F'),
            (Control::RST, 'R'),
            (Control::PSH, 'P'),
            (Control::ACK, 'A'),
            (Control::ECE, 'E'),
            (Control::CWR, 'W'),
        ];
        let ctl: String =
            names.iter().filter(|(bit, _)| self.out.ctl.intersects(*bit)).map(|&(_, name)| name).collect();
        let seq = if self.out.ctl == Control::RST | Control::ACK && self.out.seq == Seq::default() {
            0
        } else {
            self.out.seq.since(iss)
        };
        let ack = if self.out.ctl.intersects(Control::ACK) {
            format!(" ack {}", self.out.ack.since(irs))
        } else {
            String::new()
        };
        format!("{ctl} {seq}+{}{ack}", self.out.text_len)
    }

    pub fn segment(&self) -> Segment<'_> {
        let Outgoing { seq, ack, ctl, wnd, stamps, .. } = self.out;
        Segment { seq, ack, ctl, wnd, up: 0, ce: self.ce, stamps, options: &self.octets, text: &self.text }
    }
}
