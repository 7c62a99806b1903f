//! Explicit congestion notification (RFC 3168): what was agreed, what is echoed, and how often marks are answered.
//!
//! The answer to a mark is that to a loss, at most once in a window: from the reduction until the segment with CWR,
//! which is the first with new text after it, is acknowledged.
#![forbid(unsafe_code)]

use super::State;
use super::cold::{Shared, TcbCold};
use super::flags::Flags;
use super::segment::{Outgoing, Segment};
use super::tcb::{Env, Tcb};
use crate::base::{Counter, Seq};
use crate::wire::{Control, ECT_0};

/// What is true of a connection or not, in one octet of its TCB; nothing is where its settings leave ECN off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ecn(u8);

impl Ecn {
    /// New text is sent with ECT(0), and ECE is heeded: our SYN and the peer's asked for ECN, and no other of ours did
    /// not (RFC 3168 §6.1.1). In SYN-SENT, as far as we can tell.
    const SENDER: Self = Self(1);
    /// Marks are echoed: our SYN and the peer's asked for ECN. In SYN-SENT, as far as we can tell.
    const RECEIVER: Self = Self(1 << 1);
    /// A mark has arrived, and no CWR since: every segment has ECE.
    const ECHO: Self = Self(1 << 2);
    /// The window was reduced, and no new text was sent since: the next has CWR.
    const CWR_DUE: Self = Self(1 << 3);
    /// `TcbCold::cwr` is where the segment with CWR begins, which is not acknowledged.
    const CWR_SENT: Self = Self(1 << 4);
    /// Marks are among the reasons for that reduction, so that it stands though a loss turns out to be none.
    const MARKED: Self = Self(1 << 5);

    const CWR: Self = Self(Self::CWR_DUE.0 | Self::CWR_SENT.0);

    const AGREED: Self = Self(Self::SENDER.0 | Self::RECEIVER.0);

    /// Of a connection whose SYNs both ask for it, or do not.
    pub const fn agreed(ecn: bool) -> Self {
        Self(Self::AGREED.0 * ecn as u8)
    }

    const fn any(self, these: Self) -> bool {
        self.0 & these.0 != 0
    }

    const fn set(&mut self, these: Self) {
        self.0 |= these.0;
    }

    const fn clear(&mut self, these: Self) {
        self.0 &= !these.0;
    }
}

/// Whether these control bits, of a SYN or a SYN-ACK, ask for ECN (RFC 3168 §6.1.1: an ECN-setup SYN).
///
/// One with the accurate ECN of RFC 9768 has both bits too, and takes this for an answer.
pub(super) fn asks(ctl: Control) -> bool {
    match ctl.intersects(Control::ACK) {
        false => ctl.contains(Control::ECE | Control::CWR),
        true => ctl.contains(Control::ECE) && !ctl.intersects(Control::CWR),
    }
}

impl Tcb {
    /// Whether new text is sent with ECT(0).
    pub(super) const fn is_ecn_sender(&self) -> bool {
        self.ecn.any(Ecn::SENDER)
    }

    /// Whether anything of it is in use, or may be once the peer's SYN is here. What never was never will be.
    #[inline]
    pub const fn may_use_ecn(&self) -> bool {
        self.ecn.0 != 0
    }

    /// The control bits of a SYN, or of a SYN-ACK; `first` when none was sent before.
    fn ask_for_ecn(&mut self, first: bool) -> Control {
        if self.state != State::SynSent {
            return if self.is_ecn_sender() { Control::ECE } else { Control::EMPTY };
        }
        if first {
            return Control::ECE | Control::CWR;
        }
        // RFC 3168 §6.1.1.1: somebody on the path may drop such SYNs. From now on no text of ours has ECT, but the answer
        // to the first may be on its way, and its sender uses ECN.
        self.ecn.clear(Ecn::SENDER);
        Control::EMPTY
    }

    /// The peer's SYN or SYN-ACK has these control bits.
    pub(super) fn agree_on_ecn(&mut self, syn: Control) {
        if self.may_use_ecn() && !asks(syn) {
            self.ecn = Ecn::default();
        }
    }

    /// What ECN has to say on `out`, which is being sent; SND.NXT was `nxt` before.
    #[inline(never)]
    pub(super) fn put_ecn(&mut self, out: &mut Outgoing, nxt: Seq, shared: &mut Shared) {
        if out.ctl.intersects(Control::SYN) {
            out.ctl |= self.ask_for_ecn(nxt == out.seq);
            return;
        }
        if self.ecn.any(Ecn::ECHO) && !out.ctl.intersects(Control::RST) {
            out.ctl |= Control::ECE;
        }
        // RFC 3168 §6.1.5 and §6.1.6: neither what goes again nor a window probe.
        let fresh =
            out.text_len > 0 && nxt.at_or_before(out.seq) && out.text_offset + out.text_len <= self.snd.wnd;
        if !fresh || !self.is_ecn_sender() {
            return;
        }
        out.ecn = ECT_0;
        if self.ecn.any(Ecn::CWR_DUE) {
            out.ctl |= Control::CWR;
            self.ecn.clear(Ecn::CWR);
            // Where no record is left, the echo of one mark may be answered again.
            if let Some(cold) = self.attach(shared) {
                cold.cwr = out.seq;
                self.ecn.set(Ecn::CWR_SENT);
            }
        }
    }

    /// A segment with text is in the window: CWR ends the echo of marks, another mark begins it (RFC 3168 §6.1.3).
    #[cold]
    pub(super) fn hear_mark(&mut self, seg: &Segment<'_>, env: &mut Env<'_>) {
        if seg.text.is_empty() || !self.ecn.any(Ecn::RECEIVER) {
            return;
        }
        if seg.has(Control::CWR) {
            self.ecn.clear(Ecn::ECHO);
        }
        if seg.ce {
            env.counters.add(Counter::EcnMarks);
            if !self.ecn.any(Ecn::ECHO) {
                // At once: a peer with a small window may be waiting for it.
                self.rcv.acks_owed = self.rcv.acks_owed.max(1);
            }
            self.ecn.set(Ecn::ECHO);
        }
    }

    /// Whether `seg`, an acceptable ACK, echoes a mark of text that we sent.
    pub(super) fn is_echo(&self, seg: &Segment<'_>) -> bool {
        seg.has(Control::ECE) && self.is_ecn_sender()
    }

    /// RFC 3168 §6.1.2: the peer echoes a mark. `flight` octets were outstanding when that arrived.
    ///
    /// A repair in the same window has reduced it already. If that turns out not to have been needed the marks are reason
    /// enough, so what it would go back to is reduced, too.
    #[cold]
    pub(super) fn hear_echo(&mut self, flight: u32, env: &mut Env<'_>) {
        let mss = u32::from(self.snd.mss);
        let answered = self.ecn.any(Ecn::CWR_DUE)
            || self.is_cwr_unacknowledged(env.shared)
            || self.is_repairing(env.shared);
        if answered && self.ecn.any(Ecn::MARKED) {
            return;
        }
        self.reduce_undo(flight, mss, env.shared);
        self.ecn.set(Ecn::MARKED);
        if answered {
            return;
        }
        let memory = self.cold_mut(env.shared).map(|cold| &mut cold.congestion);
        self.congestion.on_mark(flight, mss, memory);
        self.ecn.set(Ecn::CWR_DUE);
        env.counters.add(Counter::EcnReductions);
    }

    /// Whether a loss is being repaired.
    fn is_repairing(&self, shared: &Shared) -> bool {
        let sack = self.flags.any(Flags::SACK);
        let repairs =
            |cold: &TcbCold| if sack { cold.loss.is_repairing() } else { cold.recovery.is_repairing() };
        self.cold(shared).is_some_and(repairs)
    }

    fn is_cwr_unacknowledged(&self, shared: &Shared) -> bool {
        let sent = self.cold(shared).filter(|_| self.ecn.any(Ecn::CWR_SENT));
        sent.is_some_and(|cold| self.snd.una.at_or_before(cold.cwr))
    }

    /// Whether the window was reduced for marks since what is at SND.UNA was sent, so that its loss is of the same
    /// window (RFC 3168 §6.1.2).
    pub(super) fn is_reduced_for_marks(&self, shared: &Shared) -> bool {
        let sent = self.cold(shared).filter(|_| self.ecn.any(Ecn::CWR_SENT));
        let before = self.ecn.any(Ecn::CWR_DUE) || sent.is_some_and(|cold| self.snd.una.before(cold.cwr));
        self.ecn.any(Ecn::MARKED) && before
    }

    /// The window was reduced for a loss: CWR says so, too.
    pub(super) const fn reduced_for_loss(&mut self) {
        if self.is_ecn_sender() {
            self.ecn.clear(Ecn::MARKED);
            self.ecn.set(Ecn::CWR_DUE);
        }
    }

    /// A reduction for a loss was taken back.
    pub(super) const fn reduction_undone(&mut self) {
        if !self.ecn.any(Ecn::MARKED) {
            self.ecn.clear(Ecn::CWR);
        }
    }

    /// Whether `TcbCold::cwr` still means something.
    pub(super) fn keeps_cwr(&mut self, cwr: Seq) -> bool {
        if self.ecn.any(Ecn::CWR_SENT) && cwr.before(self.snd.una) {
            self.ecn.clear(Ecn::CWR_SENT);
        }
        self.ecn.any(Ecn::CWR_SENT)
    }

    /// What is attached goes.
    pub(super) const fn forget_cwr(&mut self) {
        self.ecn.clear(Ecn::CWR_SENT);
    }
}
