//! Segments as the scenarios write and read them: numbers relative to the initial ones.
#![forbid(unsafe_code)]

use std::format;
use std::string::String;
use std::vec::Vec;

use crate::base::Seq;
use crate::tcp::Segment;
use crate::tcp::segment::Outgoing;
use crate::wire::{Control, TcpOptions, Timestamps};

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
    pub options: TcpOptions,
    pub text: Vec<u8>,
}

impl Seg {
    fn new(ctl: Control, seq: u32, ack: u32) -> Self {
        let (wnd, up, options, text) = (u16::MAX, 0, TcpOptions::default(), Vec::new());
        Self { seq, ack, ctl, wnd, up, options, text }
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

    pub fn mss(mut self, mss: u16) -> Self {
        self.options.mss = Some(mss);
        self
    }

    pub fn scale(mut self, shift: u8) -> Self {
        self.options.window_scale = Some(shift);
        self
    }

    pub fn stamp(mut self, val: u32) -> Self {
        self.options.timestamps = Some(Timestamps { val, ecr: 0 });
        self
    }

    pub fn sack(mut self) -> Self {
        self.options.sack_permitted = true;
        self
    }

    pub fn segment(&self) -> Segment<'_> {
        Segment {
            seq: IRS + self.seq,
            ack: ISS + self.ack,
            ctl: self.ctl,
            wnd: self.wnd,
            up: self.up,
            options: self.options,
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
    pub text: Vec<u8>,
}

impl Sent {
    /// In one line: control bits, first number and octets of text, acknowledgment.
    pub fn line(&self, iss: Seq, irs: Seq) -> String {
        let names = [
            (Control::SYN, 'S'),
            (Control::FIN, 'F'),
            (Control::RST, 'R'),
            (Control::PSH, 'P'),
            (Control::ACK, 'A'),
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
        let Outgoing { seq, ack, ctl, wnd, options, .. } = self.out;
        Segment { seq, ack, ctl, wnd, up: 0, options, text: &self.text }
    }
}
