//! What one engine may hold. Everything is allocated from these numbers at start.
#![forbid(unsafe_code)]

/// Hard limits of one engine; full is a counted outcome, never growth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections that own a TCB.
    pub flows_max: u32,
    /// Half-open connections, all listeners together.
    pub half_open_max: u32,
    /// TIME-WAIT records; when they are full the oldest is given up.
    pub time_wait_max: u32,
    /// Listeners.
    pub listeners_max: u16,
    /// Neighbours remembered.
    pub neighbours_max: u16,
    /// Octets of one chunk of a send or receive buffer: a power of two.
    pub chunk_len: u32,
    /// Chunks of all send buffers.
    pub send_chunks: u32,
    /// Chunks of all receive buffers: windows beyond the initial ones promise three quarters of them at most.
    pub recv_chunks: u32,
    /// Connections that may have gaps in what they received at the same time.
    pub reassembly_max: u32,
    /// Connections that may have more than the least at the same time: text not yet read, gaps, a loss being
    /// repaired, urgent data, or text to send beyond one chunk. Without such a record text is dropped as
    /// without a chunk, and losses are repaired when the retransmission timer says so. As many connections may have
    /// windows beyond the initial one.
    pub busy_max: u32,
    /// Connections whose congestion control is a model of the path (BBR) at the same time. Each also counts among
    /// those of `busy_max` from its beginning to its end. Those beyond have RFC 5681's.
    pub models_max: u32,
    /// Different sets of per-connection options in use at the same time.
    pub options_max: u16,
    /// Segments one connection sends before the next has its turn.
    pub output_burst: u32,
}

impl Default for Limits {
    /// A busy server's core: memory is touched only as it is used.
    fn default() -> Self {
        Self {
            flows_max: 1 << 17,
            half_open_max: 1 << 15,
            time_wait_max: 1 << 20,
            listeners_max: 256,
            neighbours_max: 1_024,
            chunk_len: 2_048,
            send_chunks: 1 << 17,
            recv_chunks: 1 << 17,
            reassembly_max: 1 << 14,
            busy_max: 1 << 17,
            models_max: 1 << 13,
            options_max: 1_024,
            output_burst: 64,
        }
    }
}
