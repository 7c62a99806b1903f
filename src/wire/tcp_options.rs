//! TCP options: parsed once, written in the customary layouts.
#![forbid(unsafe_code)]

use crate::base::Seq;

/// The timestamps option (RFC 7323 §3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamps {
    /// TSval: the sender's clock.
    pub val: u32,
    /// TSecr: the echo; meaningful with ACK.
    pub ecr: u32,
}

/// Up to four SACK blocks (RFC 2018), each from its left edge to one past its right edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SackBlocks {
    /// The first `len` are meant.
    pub blocks: [(Seq, Seq); 4],
    /// How many there are.
    pub len: u8,
}

impl SackBlocks {
    /// The blocks.
    pub fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.len)]
    }
}

/// The options of one segment that mean something here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size; on a SYN only.
    pub mss: Option<u16>,
    /// Window scale shift, clamped to 14 (RFC 7323 §2.3); on a SYN only.
    pub window_scale: Option<u8>,
    /// SACK-permitted; on a SYN only.
    pub sack_permitted: bool,
    /// Timestamps.
    pub timestamps: Option<Timestamps>,
    /// Selective acknowledgments.
    pub sack: SackBlocks,
}
