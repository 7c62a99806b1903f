//! What a connection needs only at times: kept text, gaps, urgent data, repair of losses, long send queues.
#![forbid(unsafe_code)]

use super::challenge::ChallengeLimit;
use super::chunks::ChunkPool;
use super::congestion::{Memory, Model};
use super::flags::Flags;
use super::loss::Loss;
use super::recovery::Recovery;
use super::recv_buf::{RecvBuf, RecvPools};
use super::scoreboard::SentPool;
use super::send_buf::SendCursors;
use super::settings::SettingsTable;
use super::tcb::Tcb;
use super::window::Offer;
use crate::base::{Seq, Slab, Slot};

/// What all TCBs of one engine share, and borrow for each call.
#[derive(Debug)]
pub struct Shared {
    /// The settings of connections.
    pub settings: SettingsTable,
    /// The records of those that need one now.
    pub cold: Slab<TcbCold>,
    /// What became of octets in flight, of those that have scoreboards.
    pub sent: SentPool,
    /// The models of paths, of those whose congestion control is one.
    pub models: Slab<Model>,
    /// The windows of those that may need more than the initial one.
    pub offers: Slab<Offer>,
    /// Chunks of all send buffers.
    pub send: ChunkPool,
    /// The challenge ACKs left.
    pub challenge: ChallengeLimit,
}

impl Shared {
    /// At most `settings` different settings, `cold` connections at a time that need a [`TcbCold`], and `models`
    /// whose congestion control is a model of the path; the only allocation there is beside that of `send`.
    pub fn new(settings: u16, cold: u32, models: u32, send: ChunkPool, challenge: ChallengeLimit) -> Self {
        Self {
            send,
            challenge,
            settings: SettingsTable::new(settings),
            cold: Slab::with_capacity(cold),
            sent: SentPool::with_capacity(Self::runs(cold)),
            models: Slab::with_capacity(models),
            offers: Slab::with_capacity(cold),
        }
    }

    /// Octets of as many models.
    pub const fn model_octets(models: u32) -> u64 {
        Slab::<Model>::octets(models)
    }

    /// Octets of as many records.
    pub const fn record_octets(cold: u32) -> u64 {
        Slab::<TcbCold>::octets(cold)
    }

    /// How many runs there are for the scoreboards of so many connections.
    pub const fn runs(cold: u32) -> u32 {
        /// Of those that have much in flight few lose much of it at the same time.
        const EACH: u32 = 8;
        cold.saturating_mul(EACH).saturating_add(1 << 12)
    }

    /// Octets of the offers of as many.
    pub const fn offer_octets(cold: u32) -> u64 {
        Slab::<Offer>::octets(cold)
    }

    /// Octets of those.
    pub const fn run_octets(cold: u32) -> u64 {
        SentPool::octets(Self::runs(cold))
    }
}

/// The part of a TCB that is attached while it is in use.
#[derive(Debug, Default)]
pub struct TcbCold {
    /// Text that the user has not read, and text out of order.
    pub(super) recv_buf: RecvBuf,
    /// Losses, where SACK was agreed.
    pub(super) loss: Loss,
    /// Losses by duplicate acknowledgments, where it was not.
    pub(super) recovery: Recovery,
    /// What congestion control remembers beyond the window.
    pub(super) congestion: Memory,
    /// Where in a long send queue the last segments began.
    pub(super) cursors: SendCursors,
    /// RCV.UP, while it is ahead of RCV.NXT.
    pub(super) urgent: Option<Seq>,
    /// The sequence number of the peer's FIN, while text before it is missing.
    pub(super) fin: Option<Seq>,
    /// TSval of the segment that brought that FIN.
    pub(super) fin_stamp: u32,
    /// Text that was received twice; meaningful with [`Flags::DUPLICATE`].
    pub(super) duplicate: (Seq, Seq),
    /// Where the segment with CWR begins, while that is not acknowledged: [`Tcb::keeps_cwr`].
    pub(super) cwr: Seq,
    /// Where the connection's offer lies, if it has one.
    pub(super) offer: u32,
    /// Octets of kept text that the user is looking at: [`Tcb::front`] to [`Tcb::consumed`].
    pub(super) offered: u32,
}

const _: () = assert!(size_of::<TcbCold>() <= 296);

impl Slot for TcbCold {
    fn set_next_free(&mut self, next: u32) {
        self.offered = next;
    }

    fn next_free(&self) -> u32 {
        self.offered
    }
}

impl Tcb {
    /// What is attached, if anything is.
    #[inline]
    pub(super) fn cold<'a>(&self, shared: &'a Shared) -> Option<&'a TcbCold> {
        if !self.flags.any(Flags::ATTACHED) {
            return None;
        }
        shared.cold.at(self.cold)
    }

    /// Like [`Tcb::cold`], to change it.
    #[inline]
    pub(super) fn cold_mut<'a>(&self, shared: &'a mut Shared) -> Option<&'a mut TcbCold> {
        if !self.flags.any(Flags::ATTACHED) {
            return None;
        }
        shared.cold.at_mut(self.cold)
    }

    /// What is attached, attached now if nothing was; `None` when none is left.
    pub(super) fn attach<'a>(&mut self, shared: &'a mut Shared) -> Option<&'a mut TcbCold> {
        if !self.flags.any(Flags::ATTACHED) {
            self.cold = shared.cold.insert(TcbCold { offer: self.cold, ..TcbCold::default() })?;
            self.flags.set(Flags::ATTACHED);
        }
        shared.cold.at_mut(self.cold)
    }

    /// Gives back what is attached, if nothing of it is in use any more.
    #[inline]
    pub(super) fn detach_idle(&mut self, shared: &mut Shared) {
        if self.flags.any(Flags::ATTACHED) {
            self.detach_if_idle(shared);
        }
    }

    fn detach_if_idle(&mut self, shared: &mut Shared) {
        let rcv_nxt = self.rcv.nxt;
        let send_queue = self.send_buf.is_empty();
        let cwr = self.may_use_ecn() && self.cold(shared).is_some_and(|cold| self.keeps_cwr(cold.cwr));
        let Some(cold) = self.cold_mut(shared) else { return };
        cold.urgent = cold.urgent.filter(|&end| rcv_nxt.before(end));
        let idle = !self.flags.any(Flags::UNREAD | Flags::GAPS | Flags::DUPLICATE)
            && !self.flags.any(Flags::MODEL)
            && send_queue
            && cold.recovery.is_idle()
            && cold.loss.is_idle()
            && cold.urgent.is_none()
            && cold.fin.is_none()
            && cold.offered == 0
            && !cwr;
        if idle {
            self.detach(shared);
        }
    }

    fn detach(&mut self, shared: &mut Shared) {
        if self.flags.take(Flags::MODEL)
            && let Some(model) = self.model_at(shared)
        {
            shared.models.remove(model);
        }
        self.flags.clear(Flags::ATTACHED | Flags::UNREAD | Flags::GAPS | Flags::DUPLICATE);
        self.forget_cwr();
        let offer = shared.cold.at(self.cold).map_or(Offer::NOWHERE, |cold| cold.offer);
        shared.cold.remove(self.cold);
        self.cold = offer;
    }

    /// The receive buffer has changed.
    pub(super) fn note_kept(&mut self, unread: bool, gaps: bool) {
        self.flags.put(Flags::UNREAD, unread);
        self.flags.put(Flags::GAPS, gaps);
    }

    /// Octets in order that the user has not read.
    #[inline]
    pub(super) fn unread(&self, shared: &Shared) -> u32 {
        if !self.flags.any(Flags::UNREAD) {
            return 0;
        }
        self.cold(shared).map_or(0, |cold| cold.recv_buf.unread())
    }

    /// Octets between RCV.NXT and the end of urgent data, if any was announced and is still to come.
    pub fn urgent(&self, shared: &Shared) -> Option<u32> {
        let end = self.cold(shared)?.urgent.filter(|&end| self.rcv.nxt.before(end));
        end.map(|end| end.since(self.rcv.nxt))
    }

    /// Gives everything back that was lent to it; the TCB is then only good for dropping.
    pub fn release(&mut self, recv: &mut RecvPools, shared: &mut Shared) {
        self.send_buf.clear(&mut shared.send);
        if self.has_offer(shared) {
            self.end_promise(recv, shared);
        }
        if let Some(cold) = self.cold_mut(shared) {
            cold.recv_buf.clear(recv);
            self.close_board(shared);
            self.detach(shared);
        }
        shared.settings.release(self.settings);
    }

    /// Whether nothing is attached to it and no chunk is lent to its send buffer; for tests and simulations.
    pub const fn is_bare(&self) -> bool {
        !self.flags.any(Flags::ATTACHED) && self.send_buf.is_empty()
    }
}
