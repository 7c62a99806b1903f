//! What ICMP errors do to a connection (RFC 9293 §3.9.2.2, RFC 5927, RFC 1191, RFC 8201).
#![forbid(unsafe_code)]

use super::flags::Flags;
use super::tcb::{Env, Tcb};
use super::{CloseReason, Report, State};
use crate::base::{Counter, DropReason, Seq};

/// An ICMP error in TCP's terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IcmpMeaning {
    /// Port or protocol unreachable: nobody there wants to talk.
    Refused {
        /// ICMP or ICMPv6 type.
        icmp_type: u8,
        /// ICMP or ICMPv6 code.
        code: u8,
    },
    /// A path or host that may come back (MUST-56).
    Soft {
        /// ICMP or ICMPv6 type.
        icmp_type: u8,
        /// ICMP or ICMPv6 code.
        code: u8,
    },
    /// The path carries segments of so much text and TCP options only.
    TooBig {
        /// Octets of text and options that fit.
        mss: u16,
    },
}

impl Tcb {
    /// Path MTU discovery never goes below this: less would only serve an attacker (RFC 5927 §7.2).
    pub(super) const MSS_MIN: u16 = 512;

    /// An ICMP error quotes a segment of ours that began at `seq`.
    ///
    /// # Errors
    ///
    /// The drop reason, when nothing in flight has that sequence number (RFC 5927 §4.1).
    pub fn on_icmp(
        &mut self,
        meaning: IcmpMeaning,
        seq: Seq,
        env: &mut Env<'_>,
    ) -> Result<Option<Report>, DropReason> {
        if !seq.in_window(self.snd.una, self.snd.flight()) {
            return Err(DropReason::IcmpUnmatched);
        }
        env.counters.add(Counter::IcmpApplied);
        Ok(match meaning {
            IcmpMeaning::Refused { .. } if self.state == State::SynSent => {
                self.finish(CloseReason::Refused);
                None
            }
            // RFC 5927 §5.2: past SYN-SENT even a hard error ends nothing; R2 will if it lasts.
            IcmpMeaning::Refused { icmp_type, code } => Some(Report::SoftError { icmp_type, code }),
            IcmpMeaning::Soft { icmp_type, code } => {
                if self.state == State::SynSent {
                    self.flags.set(Flags::UNREACHABLE);
                }
                Some(Report::SoftError { icmp_type, code })
            }
            // A SYN fits every path, and SMSS begins anew with its answer.
            IcmpMeaning::TooBig { .. } if self.state == State::SynSent => None,
            IcmpMeaning::TooBig { mss } => {
                self.on_too_big(mss, seq, env);
                None
            }
        })
    }
}
