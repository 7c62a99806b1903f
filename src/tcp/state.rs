//! The state machine of RFC 9293 Figure 5 as one pure function.
#![forbid(unsafe_code)]

/// The states of RFC 9293 §3.3.2. LISTEN and CLOSED own no TCB here, so they are not among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// A SYN was sent.
    #[default]
    SynSent,
    /// A SYN was sent and one received.
    SynReceived,
    /// Open both ways.
    Established,
    /// We closed; our FIN is not yet acknowledged.
    FinWait1,
    /// Our FIN is acknowledged; the peer may still send.
    FinWait2,
    /// The peer closed; we may still send.
    CloseWait,
    /// Both closed at once; our FIN is not yet acknowledged.
    Closing,
    /// The peer closed first, then we did.
    LastAck,
    /// Both FINs are acknowledged; old segments die out for 2 MSL.
    TimeWait,
}

/// What can move a connection from one state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The user closed, or half-closed.
    Close,
    /// The peer's FIN, in order.
    Fin,
    /// A SYN without an acceptable ACK.
    Syn,
    /// Our SYN was acknowledged.
    SynAcked,
    /// Our FIN was acknowledged.
    FinAcked,
    /// 2 MSL have passed.
    TwoMsl,
    /// A valid RST, or an abort.
    Reset,
}

/// Where an input leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// No transition.
    Stay,
    /// To another state.
    Move(State),
    /// To CLOSED: the TCB goes.
    Free,
}

impl State {
    /// Every state, in the order of the RFC's figure.
    pub const ALL: [Self; 9] = [
        Self::SynSent,
        Self::SynReceived,
        Self::Established,
        Self::FinWait1,
        Self::FinWait2,
        Self::CloseWait,
        Self::Closing,
        Self::LastAck,
        Self::TimeWait,
    ];

    /// The transition of RFC 9293 Figure 5.
    pub const fn next(self, input: Input) -> Next {
        use Input::*;
        use Next::*;
        use State::*;
        match (self, input) {
            (_, Reset) => Free,

            (SynSent, Close) => Free,
            (SynSent, Syn) => Move(SynReceived),
            (SynSent | SynReceived, SynAcked) => Move(Established),

            (SynReceived | Established, Close) => Move(FinWait1),
            (SynReceived | Established, Fin) => Move(CloseWait),
            (CloseWait, Close) => Move(LastAck),

            (FinWait1, FinAcked) => Move(FinWait2),
            (FinWait1, Fin) => Move(Closing),
            (FinWait2, Fin) | (Closing, FinAcked) => Move(TimeWait),

            (LastAck, FinAcked) | (TimeWait, TwoMsl) => Free,

            // The test spells out every pair that falls through to here.
            _ => Stay,
        }
    }

    /// Whether the connection is past its handshake (RFC 9293 §3.3.2 "synchronized").
    pub const fn is_synchronized(self) -> bool {
        !matches!(self, Self::SynSent | Self::SynReceived)
    }

    /// Whether the peer's FIN may still come, so text may still be received.
    pub const fn may_receive(self) -> bool {
        matches!(self, Self::Established | Self::FinWait1 | Self::FinWait2)
    }

    /// Whether the user may still hand over text to send.
    pub const fn may_send(self) -> bool {
        matches!(self, Self::SynSent | Self::SynReceived | Self::Established | Self::CloseWait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;
    use std::string::ToString;

    /// RFC 9293 Figure 5, one row per state, one column per input.
    /// `.` stays, `x` frees the TCB; otherwise the state moved to.
    const FIGURE_5: &str = "
        |             Close     Fin        Syn          SynAcked     FinAcked  TwoMsl  Reset
        | SynSent     x         .          SynReceived  Established  .         .       x
        | SynReceived FinWait1  CloseWait  .            Established  .         .       x
        | Established FinWait1  CloseWait  .            .            .         .       x
        | FinWait1    .         Closing    .            .            FinWait2  .       x
        | FinWait2    .         TimeWait   .            .            .         .       x
        | CloseWait   LastAck   .          .            .            .         .       x
        | Closing     .         .          .            .            TimeWait  .       x
        | LastAck     .         .          .            .            x         .       x
        | TimeWait    .         .          .            .            .         x       x
    ";

    #[test]
    fn transitions_are_exactly_those_of_figure_5() {
        use Input::*;
        let inputs = [Close, Fin, Syn, SynAcked, FinAcked, TwoMsl, Reset];
        let mut rows = FIGURE_5.lines().filter_map(|line| line.trim().strip_prefix('|')).skip(1);
        for from in State::ALL {
            let mut cells = rows.next().expect("a row per state").split_whitespace();
            assert_eq!(cells.next(), Some(format!("{from:?}").as_str()));
            for input in inputs {
                let got = match from.next(input) {
                    Next::Stay => ".".to_string(),
                    Next::Free => "x".to_string(),
                    Next::Move(to) => format!("{to:?}"),
                };
                assert_eq!(cells.next(), Some(got.as_str()), "{from:?} on {input:?}");
            }
        }
        assert_eq!(rows.next(), None);
    }
}
