//! One segment, as it arrives and as it leaves: sequence space and text, no addresses.
#![forbid(unsafe_code)]

use crate::base::Seq;
use crate::wire::{Control, SackBlocks, TcpOptions, Timestamps};

/// A segment received: SEG.SEQ, SEG.ACK, SEG.WND, SEG.UP and the control bits of RFC 9293 §3.3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment<'a> {
    /// SEG.SEQ: of the first octet, or of SYN.
    pub seq: Seq,
    /// SEG.ACK; meaningful with [`Control::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub ctl: Control,
    /// SEG.WND as on the wire, not scaled.
    pub wnd: u16,
    /// SEG.UP; meaningful with [`Control::URG`].
    pub up: u16,
    /// Its packet was marked on the way: "congestion experienced" (RFC 3168 §5).
    pub ce: bool,
    /// The timestamps option, which nearly every segment has; also among `options`.
    pub stamps: Option<Timestamps>,
    /// The octets of all options.
    pub options: &'a [u8],
    /// The octets of text.
    pub text: &'a [u8],
}

impl Segment<'_> {
    /// SEG.LEN: octets of text, and one each for SYN and FIN.
    pub fn len(&self) -> u32 {
        self.text_len() + u32::from(self.has(Control::SYN)) + u32::from(self.has(Control::FIN))
    }

    /// Whether it occupies no sequence space.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Octets of text.
    #[expect(clippy::cast_possible_truncation, reason = "a packet is shorter than 2^16 octets")]
    pub const fn text_len(&self) -> u32 {
        self.text.len() as u32
    }

    /// Whether it has options beside timestamps in their usual layout.
    #[inline(always)]
    pub const fn has_more_options(&self) -> bool {
        self.options.len() != if self.stamps.is_some() { Timestamps::ALIGNED_LEN } else { 0 }
    }

    /// Whether any of these control bits is set.
    pub const fn has(&self, bits: Control) -> bool {
        self.ctl.intersects(bits)
    }

    /// The sequence number that FIN has, or would have.
    pub fn fin_seq(&self) -> Seq {
        self.seq + u32::from(self.has(Control::SYN)) + self.text_len()
    }
}

/// Options to send beside timestamps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MoreOptions {
    /// None: nearly every segment.
    #[default]
    None,
    /// Those of a SYN, and of no other segment (RFC 9293 MUST-65).
    Syn {
        /// Maximum segment size.
        mss: u16,
        /// Window scale shift.
        window_scale: Option<u8>,
        /// SACK-permitted.
        sack_permitted: bool,
    },
    /// So many SACK blocks, at most four; [`Tcb::sack_blocks`](super::Tcb::sack_blocks) has them.
    Sack(u8),
}

/// A segment to send; its text lies in the send buffer, its SACK blocks in the receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// SEG.SEQ.
    pub seq: Seq,
    /// SEG.ACK; zero without [`Control::ACK`].
    pub ack: Seq,
    /// Control bits.
    pub ctl: Control,
    /// SEG.WND, already scaled for the wire.
    pub wnd: u16,
    /// The ECN field of its packet (RFC 3168 §5): zero, or ECT(0).
    pub ecn: u8,
    /// Timestamps.
    pub stamps: Option<Timestamps>,
    /// Other options.
    pub more: MoreOptions,
    /// Where the text begins in the send buffer.
    pub text_offset: u32,
    /// Octets of text.
    pub text_len: u32,
}

impl Outgoing {
    /// A segment without text or options.
    pub fn bare(seq: Seq, ack: Seq, ctl: Control) -> Self {
        let (stamps, more) = (None, MoreOptions::None);
        Self { seq, ack, ctl, wnd: 0, ecn: 0, stamps, more, text_offset: 0, text_len: 0 }
    }

    /// All its options; `sack` are its SACK blocks, if it has such.
    pub fn options(&self, sack: SackBlocks) -> TcpOptions {
        let timestamps = self.stamps;
        match self.more {
            MoreOptions::None => TcpOptions { timestamps, ..TcpOptions::default() },
            MoreOptions::Sack(_) => TcpOptions { timestamps, sack, ..TcpOptions::default() },
            MoreOptions::Syn { mss, window_scale, sack_permitted } => TcpOptions {
                mss: Some(mss),
                window_scale,
                sack_permitted,
                timestamps,
                sack: SackBlocks::default(),
            },
        }
    }
}

/// The reset that answers a segment for which there is no connection (RFC 9293 §3.10.7.1), or an ACK that
/// acknowledges what was never sent. `None` for a RST, which is never answered.
pub fn reset_for(seg: &Segment<'_>) -> Option<Outgoing> {
    if seg.has(Control::RST) {
        return None;
    }
    if seg.has(Control::ACK) {
        return Some(Outgoing::bare(seg.ack, Seq::default(), Control::RST));
    }
    Some(Outgoing::bare(Seq::default(), seg.seq + seg.len(), Control::RST | Control::ACK))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(ctl: Control, text: &[u8]) -> Segment<'_> {
        Segment {
            seq: Seq::new(u32::MAX),
            ack: Seq::new(77),
            ctl,
            wnd: 1,
            up: 0,
            ce: false,
            stamps: None,
            options: &[],
            text,
        }
    }

    #[test]
    fn syn_and_fin_count_one_octet_each() {
        for (ctl, text, len, fin_seq) in [
            (Control::ACK, &b""[..], 0, u32::MAX),
            (Control::SYN, b"", 1, 0),
            (Control::FIN | Control::ACK, b"", 1, u32::MAX),
            (Control::SYN | Control::FIN, b"abc", 5, 3),
            (Control::ACK, b"abc", 3, 2),
        ] {
            let seg = segment(ctl, text);
            assert_eq!((seg.len(), seg.fin_seq()), (len, Seq::new(fin_seq)), "{ctl:?}");
        }
    }

    /// RFC 9293 §3.10.7.1, the three forms of the answer.
    #[test]
    fn resets_are_believable_to_whoever_gets_them() {
        assert_eq!(reset_for(&segment(Control::RST, b"")), None);
        let with_ack = reset_for(&segment(Control::ACK | Control::SYN, b"")).expect("a reset");
        assert_eq!((with_ack.seq, with_ack.ctl), (Seq::new(77), Control::RST));
        let without = reset_for(&segment(Control::SYN, b"ab")).expect("a reset");
        assert_eq!((without.seq, without.ack), (Seq::new(0), Seq::new(2)));
        assert_eq!(without.ctl, Control::RST | Control::ACK);
    }
}
