//! SEGMENT ARRIVES as RFC 9293 §3.10.7 has it, with RFC 5961, and with what ADR 7 and ADR 9 say we do otherwise.
//!
//! With timestamps RFC 7323 §5.3 and RFC 6191 apply. It answers at once where the RFC allows a delay.

use ringroad::tcp::{CloseReason, Report};
use ringroad::wire::Control;

use crate::host::Phase;

/// The variables of RFC 9293 §3.3.1 before the segment arrives.
#[derive(Clone, Copy, Debug)]
pub struct Before {
    pub phase: Phase,
    /// SYN-RECEIVED remembers how it came about (MUST-11).
    pub active: bool,
    /// Whether somebody listens on the socket.
    pub listening: bool,
    pub iss: u32,
    pub una: u32,
    pub nxt: u32,
    /// MAX.SND.WND.
    pub max_wnd: u32,
    pub irs: u32,
    pub rcv_nxt: u32,
    pub rcv_wnd: u32,
    /// TS.Recent, where timestamps were agreed on.
    pub recent: Option<u32>,
}

/// The segment.
#[derive(Clone, Copy, Debug)]
pub struct Seg {
    pub ctl: Control,
    pub seq: u32,
    pub ack: u32,
    pub text: u32,
    pub up: u16,
    /// SEG.TSval.
    pub stamp: Option<u32>,
}

/// What we send because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `<SEQ=..><ACK=..><CTL=ACK>`
    Ack { seq: u32, ack: u32 },
    /// `<SEQ=..><CTL=RST>`
    Rst { seq: u32 },
    /// `<SEQ=0><ACK=..><CTL=RST,ACK>`
    RstAck { ack: u32 },
    /// `<SEQ=..><ACK=..><CTL=SYN,ACK>`
    SynAck { seq: u32, ack: u32 },
    /// The same with an initial sequence number that is new: so far beyond a number of the connection
    /// before, at least, if there was one.
    NewSynAck { beyond: Option<(u32, u32)>, ack: u32 },
}

/// What the user is told because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum News {
    Opened,
    Text(u32),
    Fin,
    Urgent(u32),
    Closed(&'static str),
}

impl News {
    pub fn of_report(report: Report) -> Option<Self> {
        if let Report::Urgent { ahead } = report { Some(Self::Urgent(ahead)) } else { None }
    }

    pub fn of_reason(why: CloseReason) -> Option<Self> {
        Some(Self::Closed(match why {
            CloseReason::Finished => "finished",
            CloseReason::Reset => "reset",
            CloseReason::Refused => "refused",
            _ => return None,
        }))
    }
}

/// What comes of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub replies: Vec<Reply>,
    /// TSecr of the reply, if it has timestamps.
    pub echo: Option<u32>,
    pub phase: Phase,
    pub news: Vec<News>,
}

/// `a < b` in sequence space.
fn less(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

/// `a =< b` in sequence space.
fn at_most(a: u32, b: u32) -> bool {
    !less(b, a)
}

impl Seg {
    fn has(&self, bit: Control) -> bool {
        self.ctl.contains(bit)
    }

    /// SEG.LEN.
    fn len(&self) -> u32 {
        self.text + u32::from(self.has(Control::SYN)) + u32::from(self.has(Control::FIN))
    }

    /// SYN and no other control bit.
    fn is_only_syn(&self) -> bool {
        self.ctl == Control::SYN
    }

    /// §3.10.7.1: the answer to a segment that belongs to no connection.
    fn reset(&self) -> Option<Reply> {
        if self.has(Control::RST) {
            None
        } else if self.has(Control::ACK) {
            Some(Reply::Rst { seq: self.ack })
        } else {
            Some(Reply::RstAck { ack: self.seq.wrapping_add(self.len()) })
        }
    }
}

/// SEGMENT ARRIVES.
pub fn arrives(before: &Before, seg: &Seg) -> Outcome {
    match before.phase {
        Phase::Closed => closed(before, seg),
        Phase::Listen => listen(seg),
        Phase::SynSent => syn_sent(before, seg),
        Phase::TimeWait => time_wait(before, seg),
        _ => otherwise(before, seg),
    }
}

fn outcome(phase: Phase, reply: Option<Reply>, news: &[News]) -> Outcome {
    Outcome { replies: reply.into_iter().collect(), echo: None, phase, news: news.to_vec() }
}

impl Outcome {
    /// The same with timestamps on the reply; not on a reset, says ADR 7.
    fn echoing(self, stamp: Option<u32>) -> Self {
        let bears = |reply: &Reply| !matches!(reply, Reply::Rst { .. } | Reply::RstAck { .. });
        Self { echo: stamp.filter(|_| self.replies.iter().any(bears)), ..self }
    }
}

/// §3.10.7.1. ADR 7: SYN with FIN or RST is nothing that any TCP sends, and not answered.
fn closed(before: &Before, seg: &Seg) -> Outcome {
    let reply = if seg.ctl == Control::SYN | Control::FIN { None } else { seg.reset() };
    outcome(before.phase, reply, &[])
}

/// §3.10.7.2.
fn listen(seg: &Seg) -> Outcome {
    let stays = |reply| outcome(Phase::Listen, reply, &[]);
    // First, RST: "An incoming RST should be ignored."
    if seg.has(Control::RST) {
        return stays(None);
    }
    // Second, ACK: "Any acknowledgment is bad if it arrives on a connection still in the LISTEN state."
    if seg.has(Control::ACK) {
        return stays(Some(Reply::Rst { seq: seg.ack }));
    }
    // Third, SYN. ADR 7: not one with FIN.
    if seg.is_only_syn() {
        let ack = seg.seq.wrapping_add(1);
        let reply = Reply::NewSynAck { beyond: None, ack };
        return outcome(Phase::SynReceived, Some(reply), &[]);
    }
    // Fourth: "Drop the segment and return."
    stays(None)
}

/// §3.10.7.3.
fn syn_sent(before: &Before, seg: &Seg) -> Outcome {
    let stays = |reply| outcome(Phase::SynSent, reply, &[]);
    // First, ACK: "If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set)".
    let acks = seg.has(Control::ACK);
    if acks && (at_most(seg.ack, before.iss) || less(before.nxt, seg.ack)) {
        return stays(seg.reset());
    }
    // Second, RST: only with an acceptable ACK.
    if seg.has(Control::RST) {
        let closed = outcome(Phase::Closed, None, &[News::Closed("refused")]);
        return if acks { closed } else { stays(None) };
    }
    // Fourth, SYN.
    let rcv_nxt = seg.seq.wrapping_add(1);
    if seg.has(Control::SYN) && acks {
        let ack = Reply::Ack { seq: before.nxt, ack: rcv_nxt };
        return outcome(Phase::Established, Some(ack), &[News::Opened]);
    }
    if seg.has(Control::SYN) {
        // A FIN with it is not taken: it was not acknowledged, and will come again.
        let syn_ack = Reply::SynAck { seq: before.iss, ack: rcv_nxt };
        return outcome(Phase::SynReceived, Some(syn_ack), &[]);
    }
    // Fifth: "if neither of the SYN or RST bits is set, then drop the segment and return."
    stays(None)
}

/// ADR 9.
fn time_wait(before: &Before, seg: &Seg) -> Outcome {
    let stays = |reply| outcome(Phase::TimeWait, reply, &[]).echoing(before.recent);
    let ack = Some(Reply::Ack { seq: before.nxt, ack: before.rcv_nxt });
    if seg.has(Control::RST) {
        let exact = seg.seq == before.rcv_nxt;
        let after = if before.listening { Phase::Listen } else { Phase::Closed };
        return if exact { outcome(after, None, &[]) } else { stays(None) };
    }
    if seg.is_only_syn() {
        let later = at_most(before.rcv_nxt, seg.seq);
        // RFC 6191 §2.
        let newer = match (before.recent, seg.stamp) {
            (Some(recent), Some(stamp)) if stamp != recent => less(recent, stamp),
            _ => later,
        };
        if !newer || !before.listening {
            return stays(ack);
        }
        let ack = seg.seq.wrapping_add(1);
        let reply = Reply::NewSynAck { beyond: Some((before.nxt, 1 << 16)), ack };
        return outcome(Phase::SynReceived, Some(reply), &[]).echoing(seg.stamp);
    }
    if before.recent.is_some_and(|recent| seg.stamp.is_none_or(|stamp| less(stamp, recent))) {
        return stays(ack);
    }
    // Empty segments are not answered, but for a keep-alive probe.
    let probe = seg.seq.wrapping_add(1) == before.rcv_nxt;
    if seg.len() == 0 && !probe {
        return stays(None);
    }
    // "Text and FIN that come again in TIME-WAIT" have the latest timestamp.
    let old = at_most(seg.seq.wrapping_add(seg.len()), before.rcv_nxt);
    let again = old && seg.len() > 0 && !seg.has(Control::SYN);
    let recent = if again { before.recent.and(seg.stamp) } else { before.recent };
    outcome(Phase::TimeWait, ack, &[]).echoing(recent)
}

/// §3.10.7.4: the steps in the RFC's order.
fn otherwise(before: &Before, seg: &Seg) -> Outcome {
    let mut steps = Steps { before: *before, phase: before.phase, news: Vec::new(), ack_owed: false };
    let reply = steps.take(*seg);
    let rcv_nxt = steps.before.rcv_nxt;
    let owed = steps.ack_owed.then_some(Reply::Ack { seq: before.nxt, ack: rcv_nxt });
    let is_new = matches!(reply, Some(Reply::NewSynAck { .. }));
    let echo = if is_new { seg.stamp } else { steps.before.recent };
    outcome(steps.phase, reply.or(owed), &steps.news).echoing(echo)
}

struct Steps {
    before: Before,
    phase: Phase,
    news: Vec<News>,
    ack_owed: bool,
}

impl Steps {
    fn edge(&self) -> u32 {
        self.before.rcv_nxt.wrapping_add(self.before.rcv_wnd)
    }

    fn in_window(&self, seq: u32) -> bool {
        at_most(self.before.rcv_nxt, seq) && less(seq, self.edge())
    }

    /// The table of the first check.
    fn is_acceptable(&self, seg: &Seg) -> bool {
        match (seg.len(), self.before.rcv_wnd) {
            (0, 0) => seg.seq == self.before.rcv_nxt,
            (0, _) => self.in_window(seg.seq),
            (_, 0) => false,
            (len, _) => self.in_window(seg.seq) || self.in_window(seg.seq.wrapping_add(len - 1)),
        }
    }

    /// Drops the segment and sends `<SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>`.
    fn ack(&mut self) -> Option<Reply> {
        self.ack_owed = true;
        None
    }

    fn close(&mut self, why: &'static str) -> Option<Reply> {
        self.phase = if self.before.listening { Phase::Listen } else { Phase::Closed };
        self.news.push(News::Closed(why));
        self.ack_owed = false;
        None
    }

    fn take(&mut self, mut seg: Seg) -> Option<Reply> {
        let half_open = self.phase == Phase::SynReceived;
        if half_open && seg.has(Control::SYN) && seg.seq == self.before.irs {
            if seg.is_only_syn() && !self.before.active {
                // ADR 7: the peer did not hear our SYN-ACK, so it goes again.
                return Some(Reply::SynAck { seq: self.before.iss, ack: self.before.rcv_nxt });
            }
            if seg.has(Control::ACK) {
                // Figure 8: the SYN is old, its ACK is what opens.
                seg.ctl = seg.ctl.without(Control::SYN);
                seg.seq = seg.seq.wrapping_add(1);
            }
        }
        let begins_anew = half_open && !self.before.active && seg.is_only_syn();
        if !self.has_good_stamp(&seg, begins_anew) {
            return None;
        }
        // First, check sequence number.
        if !self.is_acceptable(&seg) {
            let allowance = self.before.rcv_wnd == 0 && seg.seq == self.before.rcv_nxt;
            if !seg.has(Control::RST) {
                self.ack_owed = true;
            }
            if !allowance || seg.has(Control::SYN) {
                return None;
            }
            // "special allowance should be made to accept valid ACKs, URGs, and RSTs" (MUST-66).
            seg.text = 0;
            seg.ctl = seg.ctl.without(Control::FIN);
        }
        // Second, check the RST bit.
        if seg.has(Control::RST) {
            return self.reset(&seg);
        }
        // Fourth, check the SYN bit.
        if seg.has(Control::SYN) {
            if begins_anew {
                // ADR 7: back to LISTEN, and on from there with this SYN.
                let ack = seg.seq.wrapping_add(1);
                return Some(Reply::NewSynAck { beyond: Some((self.before.iss, 0)), ack });
            }
            return self.ack();
        }
        // Fifth, check the ACK field.
        if !seg.has(Control::ACK) {
            return None;
        }
        if let Some(end) = self.acknowledge(&seg) {
            return end;
        }
        // RFC 7323 §5.3 R3; ADR 7 has the order, so that only what was accepted counts.
        if at_most(seg.seq, self.before.rcv_nxt) {
            self.before.recent = self.before.recent.and(seg.stamp);
        }
        self.urgent(&seg);
        self.text_and_fin(&seg);
        None
    }

    /// RFC 7323 §5.3 R1, and §3.2 for a segment without timestamps.
    fn has_good_stamp(&mut self, seg: &Seg, begins_anew: bool) -> bool {
        let Some(recent) = self.before.recent.filter(|_| !seg.has(Control::RST)) else { return true };
        match seg.stamp {
            // A connection that begins anew agrees on them anew.
            None => begins_anew && self.in_window(seg.seq),
            Some(stamp) if less(stamp, recent) => {
                self.ack_owed = true;
                false
            }
            Some(_) => true,
        }
    }

    /// RFC 5961 §3.2.
    fn reset(&mut self, seg: &Seg) -> Option<Reply> {
        if seg.seq != self.before.rcv_nxt {
            return self.ack();
        }
        match self.phase {
            Phase::SynReceived if !self.before.active => {
                self.phase = Phase::Listen;
                None
            }
            Phase::SynReceived => self.close("refused"),
            // "CLOSING, LAST-ACK, TIME-WAIT": no "connection reset" for the user.
            Phase::Closing | Phase::LastAck => self.close("finished"),
            _ => self.close("reset"),
        }
    }

    /// Fifth. `Some` ends the matter.
    fn acknowledge(&mut self, seg: &Seg) -> Option<Option<Reply>> {
        let Before { una, nxt, max_wnd, .. } = self.before;
        let acks_new = less(una, seg.ack) && at_most(seg.ack, nxt);
        if self.phase == Phase::SynReceived {
            if !acks_new {
                return Some(Some(Reply::Rst { seq: seg.ack }));
            }
            self.phase = Phase::Established;
            self.news.push(News::Opened);
            return None;
        }
        // RFC 5961 §5.2.
        if less(seg.ack, una.wrapping_sub(max_wnd)) || less(nxt, seg.ack) {
            return Some(self.ack());
        }
        // All that can be outstanding in these cells is our FIN.
        match self.phase {
            Phase::FinWait1 if acks_new => self.phase = Phase::FinWait2,
            Phase::Closing if acks_new => {
                self.phase = Phase::TimeWait;
                self.news.push(News::Closed("finished"));
                return Some(None);
            }
            Phase::LastAck if acks_new => return Some(self.close("finished")),
            _ => {}
        }
        None
    }

    fn may_receive(&self) -> bool {
        matches!(self.phase, Phase::Established | Phase::FinWait1 | Phase::FinWait2)
    }

    /// Sixth.
    fn urgent(&mut self, seg: &Seg) {
        let up = seg.seq.wrapping_add(seg.up.into());
        if seg.has(Control::URG) && self.may_receive() && less(self.before.rcv_nxt, up) {
            self.news.push(News::Urgent(up.wrapping_sub(self.before.rcv_nxt)));
        }
    }

    /// Seventh and eighth. ADR 7: what seems to follow the peer's FIN is ignored.
    fn text_and_fin(&mut self, seg: &Seg) {
        let occupies = seg.text > 0 || seg.has(Control::FIN);
        if !occupies || !self.may_receive() {
            return;
        }
        // In order or not, it is acknowledged at once (RFC 5681 §4.2; here without delay).
        self.ack_owed = true;
        let nxt = self.before.rcv_nxt;
        let end = seg.seq.wrapping_add(seg.text);
        let fin_fits = seg.has(Control::FIN) && less(end, self.edge());
        if less(nxt, seg.seq) {
            return;
        }
        let new = if less(nxt, end) { end.wrapping_sub(nxt).min(self.before.rcv_wnd) } else { 0 };
        if new > 0 {
            self.news.push(News::Text(new));
        }
        self.before.rcv_nxt = nxt.wrapping_add(new);
        if fin_fits && end == self.before.rcv_nxt {
            self.before.rcv_nxt = end.wrapping_add(1);
            self.news.push(News::Fin);
            self.phase = match self.phase {
                Phase::Established => Phase::CloseWait,
                Phase::FinWait1 => Phase::Closing,
                _ => {
                    self.news.push(News::Closed("finished"));
                    Phase::TimeWait
                }
            };
        }
    }
}
