//! What must hold, and what is said when it does not.
#![forbid(unsafe_code)]

use std::fmt;

/// Everything that is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Rule {
    /// `Engine::check_invariants` after every turn, and the engine's own assertions.
    Engine,
    /// Each octet delivered is the one sent at its place.
    Text,
    /// Nothing is delivered that was not sent before.
    Causality,
    /// Two ends hear each other and nobody else: no old incarnation's text.
    Incarnation,
    /// Callbacks come in an order that makes sense, and each as often as it may.
    Callbacks,
    /// A connection ends for a reason that there was.
    Reason,
    /// Whoever was told `Finished` has lost nothing, in either direction.
    Complete,
    /// No frame vanishes or comes from nowhere.
    Frames,
    /// Nor does a connection, a half-open one, or a TIME-WAIT record.
    Records,
    /// Every frame sent is whole, has right checksums, and our addresses.
    Wire,
    /// Nothing is sent beyond the window, and nothing acknowledged that was never sent.
    Window,
    /// Only new text is ECN-capable, and only where both ends agreed.
    Ecn,
    /// Every connection goes on or ends.
    Liveness,
    /// When all is over nothing is left.
    Leak,
}

impl Rule {
    /// A word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Engine => "engine",
            Self::Text => "text",
            Self::Causality => "causality",
            Self::Incarnation => "incarnation",
            Self::Callbacks => "callbacks",
            Self::Reason => "reason",
            Self::Complete => "complete",
            Self::Frames => "frames",
            Self::Records => "records",
            Self::Wire => "wire",
            Self::Window => "window",
            Self::Ecn => "ecn",
            Self::Liveness => "liveness",
            Self::Leak => "leak",
        }
    }
}

/// A rule that did not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: Rule,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.what)
    }
}

/// `Ok` when `holds`; the message is only made when it does not.
pub fn check(rule: Rule, holds: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation { rule, what: what() }) }
}
