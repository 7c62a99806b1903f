//! Somebody who sees frames go by and sends some of his own.
//!
//! He never sends what any TCP would have to take for its peer's word: other text in the window with an
//! acceptable acknowledgment, or an acknowledgment of what is still on its way. All else must cost nobody a
//! wrong octet; what it may cost is the connection, as a RST at exactly the expected number does.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use ringroad::base::{AddrPair, Rng, Seq};
use ringroad::wire::Control;

use crate::scenario::{FORGED_LATE_MAX, PORT, Scenario, addresses, any_size, mac};
use crate::segment::{Crafted, icmp_about};

/// The forger, with the frames that he saw last.
#[derive(Debug)]
pub struct Forger {
    rng: Rng,
    seen: VecDeque<Vec<u8>>,
}

impl Forger {
    const REMEMBERED: usize = 64;

    /// A forger whose every deed follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { rng: Rng::new(seed ^ 0xf0_4e << 32), seen: VecDeque::new() }
    }

    /// All that it saw is too old to be on its way still.
    pub fn forget(&mut self) {
        self.seen.clear();
    }

    /// A frame went by.
    pub fn see(&mut self, frame: &[u8]) {
        if self.seen.len() == Self::REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back(frame.to_vec());
    }

    /// One frame to send, and after how long; `None` when nothing was seen yet that it could be made of.
    pub fn forge(&mut self, scenario: &Scenario) -> Option<(Vec<u8>, Duration)> {
        let count = u32::try_from(self.seen.len()).expect("a few");
        let frame = self.seen.get(self.rng.below(count.max(1)) as usize)?.clone();
        let late = u32::try_from(FORGED_LATE_MAX.as_micros()).expect("milliseconds");
        let after = Duration::from_micros(u64::from(any_size(&mut self.rng, late)));
        let forged = match self.rng.below(8) {
            0 => self.noise(scenario),
            1 => self.damage(frame),
            2 => frame,
            3 => self.icmp(&frame)?,
            4 => self.syn(scenario),
            _ => self.segment(Crafted::parse(&frame).ok()?).frame(),
        };
        Some((forged, after))
    }

    /// Any octets behind a link address.
    fn noise(&mut self, scenario: &Scenario) -> Vec<u8> {
        let machines = u32::try_from(scenario.machines.len()).expect("a handful");
        let to = mac(self.rng.below(machines) as usize);
        let mut frame: Vec<u8> = (0..64).flat_map(|_| self.rng.next_u64().to_be_bytes()).collect();
        frame.truncate(6 + any_size(&mut self.rng, 500) as usize);
        frame[..6].copy_from_slice(&to.0);
        if frame.len() > 24 {
            frame[12..15].copy_from_slice(if self.rng.below(2) == 0 {
                &[8, 0, 0x45]
            } else {
                &[0x86, 0xdd, 0x60]
            });
        }
        frame
    }

    /// Bits flipped, or the end cut off. What the Internet checksum cannot see is not done: see `LinkConfig::corrupt`.
    fn damage(&mut self, mut frame: Vec<u8>) -> Vec<u8> {
        if self.rng.below(2) == 0 {
            let len = u32::try_from(frame.len()).expect("a frame is short");
            frame.truncate(6 + self.rng.below(len - 6) as usize);
            return frame;
        }
        let behind_link = u32::try_from(frame.len() - 14).expect("a frame is short");
        let bit = self.rng.below(behind_link * 8) as usize;
        frame[14 + bit / 8] ^= 1 << (bit % 8);
        frame
    }

    /// Any error about a segment that was sent.
    fn icmp(&mut self, frame: &[u8]) -> Option<Vec<u8>> {
        let v4 = frame.get(12) == Some(&8);
        let pick = self.rng.below(6) as usize;
        let (icmp_type, code) = if v4 {
            [(3, 0), (3, 1), (3, 3), (3, 4), (4, 0), (11, 0)][pick]
        } else {
            [(1, 0), (1, 1), (1, 4), (2, 0), (3, 0), (4, 1)][pick]
        };
        icmp_about(frame, icmp_type, code, any_size(&mut self.rng, 2_000))
    }

    /// A SYN from an address and port that may be anybody's, or nobody's.
    fn syn(&mut self, scenario: &Scenario) -> Vec<u8> {
        let machines = u32::try_from(scenario.machines.len()).expect("a handful");
        let to = self.rng.below(machines) as usize;
        // Numbers beyond the machines' are hosts that do not exist.
        let from = self.rng.below(machines + 20) as usize;
        let family = self.rng.below(2) as usize;
        let addrs = AddrPair::new(addresses(to)[family], addresses(from)[family]).expect("one family");
        let random = self.rng.next_u64().to_be_bytes();
        Crafted {
            to: mac(to),
            from: mac(from),
            addrs,
            ecn: 0,
            fields: ringroad::wire::TcpFields {
                src_port: u16::from_be_bytes([random[0], random[1]]) | 1,
                dst_port: PORT,
                seq: Seq::new(u32::from_be_bytes([random[2], random[3], random[4], random[5]])),
                ack: Seq::new(0),
                ctl: Control::SYN,
                wnd: u16::from_be_bytes([random[6], random[7]]),
                urg: 0,
            },
            options: Vec::new(),
            text: Vec::new(),
        }
        .frame()
    }

    /// A segment that was sent, with something changed.
    fn segment(&mut self, mut from: Crafted) -> Crafted {
        let near = any_size(&mut self.rng, 70_000);
        let fields = &mut from.fields;
        match self.rng.below(8) {
            // Near the window, or exactly there.
            0 => {
                let len = u32::try_from(from.text.len()).expect("a segment is short");
                fields.seq = fields.seq + len + near;
                fields.ctl = if self.rng.below(2) == 0 { Control::RST } else { Control::RST | Control::ACK };
                from.text.clear();
                from.options.clear();
            }
            1 => {
                fields.seq += near;
                fields.ctl = if self.rng.below(2) == 0 { Control::SYN } else { Control::SYN | Control::ACK };
                from.text.clear();
            }
            // Text, or a FIN, in the window, with an acknowledgment from the other side of the circle.
            2 => {
                fields.seq += near;
                fields.ack = fields.ack + (1 << 31) + near;
                fields.ctl = Control::ACK | if self.rng.below(2) == 0 { Control::FIN } else { Control::PSH };
                from.text = vec![0xee; near as usize % 1_000];
            }
            // An acknowledgment of what was never sent, or long ago.
            3 => {
                let far = (1 << 24) + near;
                fields.ack = if self.rng.below(2) == 0 { fields.ack + far } else { fields.ack - far };
                from.text.clear();
                fields.ctl = Control::ACK;
            }
            4 => fields.wnd = u16::try_from(near & 0xffff).expect("16 bits"),
            // Somebody else's numbers altogether.
            5 => {
                fields.seq = fields.seq + (1 << 31) + near;
                fields.ack = fields.ack + (1 << 31) + near;
            }
            6 => {
                fields.ctl |= Control::URG;
                fields.urg = u16::try_from(near & 0xffff).expect("16 bits");
            }
            // The same text in other pieces.
            _ => self.cut(&mut from),
        }
        from
    }

    fn cut(&mut self, from: &mut Crafted) {
        let len = u32::try_from(from.text.len()).expect("a segment is short");
        if len < 2 || from.fields.ctl.contains(Control::SYN) {
            return;
        }
        let (front, back) = (self.rng.below(len), self.rng.below(len));
        let (front, back) = (front.min(back), front.max(back) + 1);
        from.text = from.text[front as usize..back as usize].to_vec();
        from.fields.seq += front;
        if back < len {
            from.fields.ctl = from.fields.ctl.without(Control::FIN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Worlds;
    use crate::segment::tests::example;

    #[test]
    fn what_is_cut_is_the_same_text_at_its_own_place() {
        let mut forger = Forger::new(1);
        let mut whole = example(false);
        whole.text = (0..100).collect();
        whole.fields.ctl = Control::ACK | Control::FIN;
        for _ in 0..1_000 {
            let mut cut = whole.clone();
            forger.cut(&mut cut);
            let first = u32::from(cut.text[0]);
            assert_eq!(cut.fields.seq, whole.fields.seq + first);
            assert!(cut.text.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            assert_eq!(cut.fields.ctl.contains(Control::FIN), cut.text.ends_with(&[99]));
        }
    }

    /// Whoever could forge that could forge anything, and the text would be wrong for a good reason.
    #[test]
    fn new_text_never_comes_with_an_acknowledgment_that_is_acceptable() {
        let mut forger = Forger::new(2);
        for _ in 0..10_000 {
            let from = example(true);
            let forged = forger.segment(from.clone());
            let apart = |a: Seq, b: Seq| a.raw().wrapping_sub(b.raw());
            let offset = apart(forged.fields.seq, from.fields.seq);
            let is_own = from.text.get(offset as usize..).is_some_and(|text| text.starts_with(&forged.text));
            let far = apart(forged.fields.ack, from.fields.ack).wrapping_sub(1 << 20) < u32::MAX - (1 << 21);
            assert!(forged.text.is_empty() || is_own || far, "{forged:?}");
        }
    }

    #[test]
    fn all_that_is_forged_can_be_sent() {
        let mut forger = Forger::new(3);
        let scenario = Scenario::draw(1, Worlds::Any);
        assert_eq!(forger.forge(&scenario), None, "nothing was seen");
        for v6 in [false, true] {
            forger.see(&example(v6).frame());
        }
        let forged = (0..5_000).filter_map(|_| forger.forge(&scenario)).count();
        assert!(forged > 4_000, "{forged}");
    }
}
