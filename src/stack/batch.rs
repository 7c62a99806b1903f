//! Frames in and out, as the engine sees them: batches of octets, whatever carries them.
#![forbid(unsafe_code)]

/// A batch of received Ethernet frames, lent for one call.
pub trait RxBatch {
    /// Frames in the batch.
    fn len(&self) -> usize;

    /// The octets of frame `i`, for `i` below [`RxBatch::len`].
    fn frame(&self, i: usize) -> &[u8];

    /// Whether there is nothing in it.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<F: AsRef<[u8]>> RxBatch for [F] {
    fn len(&self) -> usize {
        <[F]>::len(self)
    }

    fn frame(&self, i: usize) -> &[u8] {
        self[i].as_ref()
    }
}

/// Where frames to send are written, and where another worker's frames go.
pub trait TxBatch {
    /// An empty frame, large enough for the MTU and a link header with a VLAN tag, 18 octets; `None` when none
    /// is free now.
    ///
    /// Calling it again without [`TxBatch::commit`] gives the same frame.
    fn reserve(&mut self) -> Option<&mut [u8]>;

    /// Queues the first `len` octets of the frame reserved last.
    fn commit(&mut self, len: usize);

    /// Hands a received frame to the worker that owns its flow; `false` when its ring is full.
    fn hand_over(&mut self, worker: u16, frame: &[u8]) -> bool {
        let _ = (worker, frame);
        false
    }
}
