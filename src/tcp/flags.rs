//! What is true of a connection or not: one bit each, in one word of its TCB.
#![forbid(unsafe_code)]

use core::ops::BitOr;

/// A set of facts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(u32);

impl Flags {
    /// One bit for each timer that is set, by its number: see `timers`.
    pub const RETRANSMIT_SET: Self = Self(1);
    pub const DELAYED_ACK_SET: Self = Self(1 << 1);
    pub const IDLE_SET: Self = Self(1 << 2);
    pub const USER_SET: Self = Self(1 << 3);
    pub const APP_SET: Self = Self(1 << 4);
    /// The connection was aborted and the peer is to be told.
    pub const RESET_DUE: Self = Self(1 << 5);
    /// ICMP said, while opening, that the destination cannot be reached.
    pub const UNREACHABLE: Self = Self(1 << 6);
    /// Both sides agreed to use SACK (RFC 2018).
    pub const SACK: Self = Self(1 << 7);
    /// Both sides agreed to use timestamps (RFC 7323).
    pub const STAMPS: Self = Self(1 << 8);
    /// Send one segment from SND.UNA, whatever the window says.
    pub const REPAIR: Self = Self(1 << 9);
    /// Send at least one octet: a window probe, or the override of RFC 9293 §3.8.6.2.1 (4).
    pub const FORCE: Self = Self(1 << 10);
    /// A keep-alive probe is to be sent.
    pub const KEEP_ALIVE_DUE: Self = Self(1 << 11);
    /// The user closed: what still arrives has no reader.
    pub const READER_GONE: Self = Self(1 << 12);
    /// The user does not want text now.
    pub const PAUSED: Self = Self(1 << 13);
    /// The last [`Tcb::send`](super::Tcb::send) took less than it was given.
    pub const WANTS_ROOM: Self = Self(1 << 14);
    /// Nagle's algorithm is on.
    pub const NAGLE: Self = Self(1 << 15);
    /// A segment is being timed.
    pub const TIMED: Self = Self(1 << 16);
    /// A FIN follows the text of the segment that has just arrived.
    pub const FIN_NEXT: Self = Self(1 << 17);
    /// The peer's FIN was taken, everything before it having been received.
    pub const PEER_FIN: Self = Self(1 << 18);
    /// The user has been told of the peer's FIN.
    pub const FIN_TOLD: Self = Self(1 << 19);
    /// It has a `TcbCold`.
    pub const ATTACHED: Self = Self(1 << 20);
    /// Its `TcbCold` keeps text in order that the user has not read.
    pub const UNREAD: Self = Self(1 << 21);
    /// Its `TcbCold` keeps text out of order.
    pub const GAPS: Self = Self(1 << 22);
    /// Its settings have a user timeout.
    pub const USER_TIMEOUT: Self = Self(1 << 23);
    /// An active open of a tuple in TIME-WAIT: until the peer's SYN is here, SND.WL1, SND.WL2 and TS.Recent hold
    /// the old incarnation's SND.NXT, RCV.NXT and latest TSval.
    pub const FOLLOWS: Self = Self(1 << 24);

    /// What is in flight is on the scoreboard of its `TcbCold`.
    pub const BOARD: Self = Self(1 << 25);
    /// The retransmission timer waits for reordered segments (RFC 8985 §6.2).
    pub const REORDERING: Self = Self(1 << 26);
    /// The retransmission timer is that of a tail loss probe (RFC 8985 §7.2).
    pub const PROBING: Self = Self(1 << 27);
    /// A tail loss probe is to be sent.
    pub const TAIL_PROBE: Self = Self(1 << 28);

    /// The next ACK reports text that was received twice (RFC 2883).
    pub const DUPLICATE: Self = Self(1 << 29);
    /// It offers more than the initial window. Without it, what was promised beyond that is being taken back.
    pub const WIDE: Self = Self(1 << 31);

    /// Its congestion control has a model of the path, which also sets the pace.
    pub const MODEL: Self = Self(1 << 30);

    /// Whether any of `these` holds.
    #[inline]
    pub const fn any(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    /// `these` hold from now on.
    #[inline]
    pub const fn set(&mut self, these: Self) {
        self.0 |= these.0;
    }

    /// `these` hold no more.
    #[inline]
    pub const fn clear(&mut self, these: Self) {
        self.0 &= !these.0;
    }

    /// `these` hold or not.
    #[inline]
    pub const fn put(&mut self, these: Self, on: bool) {
        if on { self.set(these) } else { self.clear(these) }
    }

    /// Whether any of `these` held, which hold no more.
    #[inline]
    pub const fn take(&mut self, these: Self) -> bool {
        // They seldom do, and then nothing is written.
        let held = self.any(these);
        if held {
            self.clear(these);
        }
        held
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fact_is_changed_alone() {
        let mut flags = Flags::default();
        flags.set(Flags::NAGLE | Flags::SACK);
        flags.put(Flags::GAPS, true);
        assert!(flags.any(Flags::NAGLE) && flags.any(Flags::SACK | Flags::FORCE));
        assert!(flags.take(Flags::SACK) && !flags.take(Flags::SACK));
        flags.put(Flags::GAPS, false);
        assert_eq!(flags, Flags::NAGLE);
    }
}
