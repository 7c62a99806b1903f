//! Packet memory shared with the kernel, and why it is as large as it is.

use core::num::NonZeroU32;
use core::ptr::{self, NonNull};
use std::io;
use std::vec::Vec;

use xsk_rs::FrameDesc;
use xsk_rs::config::{FrameSize, QueueSize, UmemConfig};

use super::XdpError;
use crate::io::{Frame, FramePool};

/// Frames to send from: these are all that can be between here and the far end, for a frame
/// completes only when the far end has freed it. Apart from those to receive into, so that neither
/// direction can starve the other.
pub(super) const TX_FRAMES: u32 = 4096;

/// Entries of a ring that the kernel reads. It passes a batch of frames on before it says that it
/// has read their entries, so each frame can seem to be there twice. With as many entries no frame
/// in hand is ever without a place.
pub(super) const fn kernel_reads(frames: u32) -> u32 {
    2 * frames
}

/// Entries of a ring that the kernel writes: all frames can be there before the worker looks.
pub(super) const fn kernel_writes(frames: u32) -> u32 {
    frames
}

/// Largest MTU with frames of 2048 octets: 256 are headroom, 14 the Ethernet header, 4 a VLAN tag, which a
/// passive flow takes over from its peer.
const MTU_MAX_SMALL: u32 = 1774;
/// Largest MTU with a frame of 4096 octets for each packet: measured, the kernel keeps some for itself. Native
/// XDP of one buffer ends at 3506 anyway.
const MTU_MAX_SINGLE: u32 = 3498;
/// Largest MTU there is, that of jumbo frames: three frames of 4096 octets for each packet.
pub(super) const MTU_MAX: u32 = 9216;
/// Octets of a packet in a frame of 4096: the kernel leaves headroom in each.
pub(super) const ROOM: u32 = 4096 - 256;

/// Whether packets of `mtu` octets take several frames, for which the program and the socket must be asked.
pub(super) const fn is_jumbo(mtu: u32) -> bool {
    mtu > MTU_MAX_SINGLE
}

/// Octets of the longest frame of the link, with a VLAN tag.
pub(super) const fn packet_len_max(mtu: u32) -> usize {
    mtu as usize + 18
}

/// Frames that one packet takes at most.
pub(super) const fn frames_a_packet(mtu: u32) -> usize {
    if is_jumbo(mtu) { packet_len_max(mtu).div_ceil(ROOM as usize) } else { 1 }
}

/// Octets of a frame for packets of `mtu` octets, or `None` when no frame is large enough.
pub(super) fn frame_size(mtu: u32, is_zero_copy: bool) -> Option<u32> {
    match mtu {
        // In zero-copy mode some drivers split packets over the half of a small frame unmarked.
        0..=MTU_MAX_SMALL if !is_zero_copy => Some(2048),
        0..=MTU_MAX => Some(4096),
        _ => None,
    }
}

/// One UMEM with its pool, and the frames of each direction with the descriptors that name them.
#[derive(Debug)]
pub(super) struct Umem {
    pub umem: xsk_rs::Umem,
    pub pool: FramePool,
    pub rx: Vec<(Frame, FrameDesc)>,
    pub tx: Vec<(Frame, FrameDesc)>,
    pub is_huge: bool,
}

impl Umem {
    /// Maps and registers the memory, on huge pages where there are enough.
    pub fn new(frame_size: u32, rx_frames: u32) -> Result<Self, XdpError> {
        let count = NonZeroU32::new(rx_frames + TX_FRAMES).expect("more than none");
        let octets = u64::from(count.get()) * u64::from(frame_size);
        let create = |is_huge| xsk_rs::Umem::new(config(frame_size, rx_frames), count, is_huge);
        let (created, is_huge) = match create(true) {
            Ok(created) => (Ok(created), true),
            Err(_) => (create(false), false),
        };
        let (umem, descs) = created.map_err(|error| umem_error(os_error(&error), octets))?;

        let base = base(&umem, &descs[0]);
        // SAFETY: the mapping is anonymous, so zeroed, of `count` frames of `frame_size`, and lives as
        // long as `umem`, which `Umem` and `Queue` keep beside the pool. Its only other users are
        // the kernel and the ring library, which looks at no frame unless asked to.
        let (pool, frames) = unsafe { FramePool::new(base, count.get(), frame_size) };
        let mut rx: Vec<_> = frames.into_iter().zip(descs).collect();
        let tx = rx.split_off(rx_frames as usize);
        Ok(Self { umem, pool, rx, tx, is_huge })
    }
}

/// Where the mapping starts, which the ring library tells only through a frame.
fn base(umem: &xsk_rs::Umem, first: &FrameDesc) -> NonNull<u8> {
    // SAFETY: the descriptor is of this UMEM, and no length is set, so the slice is empty.
    let data = unsafe { umem.data(first) };
    let start = data.contents().as_ptr().expose_provenance() - first.addr();
    // The kernel made the mapping, so its whole range is exposed to pointers made of integers.
    NonNull::new(ptr::with_exposed_provenance_mut(start)).expect("a mapping is not at address 0")
}

fn config(frame_size: u32, rx_frames: u32) -> UmemConfig {
    UmemConfig::builder()
        .frame_size(FrameSize::new(frame_size).expect("2048 or 4096"))
        .fill_queue_size(ring_size(kernel_reads(rx_frames)))
        .comp_queue_size(ring_size(kernel_writes(TX_FRAMES)))
        .build()
        .expect("a power of two, larger than the headroom")
}

pub(super) fn ring_size(entries: u32) -> QueueSize {
    QueueSize::new(entries).expect("ring sizes are powers of two")
}

fn umem_error(source: io::Error, octets: u64) -> XdpError {
    match source.raw_os_error() {
        Some(libc::ENOBUFS) => XdpError::LockedMemory { octets },
        Some(libc::ENOMEM) => XdpError::NoMemory { octets },
        _ => XdpError::os("register packet memory", source),
    }
}

/// The answer of the kernel within an error of the ring library.
pub(super) fn os_error(error: &dyn std::error::Error) -> io::Error {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source
        .and_then(io::Error::raw_os_error)
        .map_or_else(|| io::Error::other(std::format!("{error}")), io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_large_as_the_mtu_needs() {
        for (mtu, is_zero_copy, size, why) in [
            (1500, false, Some(2048), "the usual case"),
            (1774, false, Some(2048), "the last that fits beside the headroom, tagged"),
            (1775, false, Some(4096), "the first that does not"),
            (1500, true, Some(4096), "drivers that split over the half"),
            (3498, false, Some(4096), "the last that fits"),
            (9000, true, Some(4096), "jumbo frames take several"),
            (9217, false, None, "more than anybody calls jumbo"),
        ] {
            assert_eq!(frame_size(mtu, is_zero_copy), size, "{why}");
        }
        for (mtu, frames, why) in [
            (1500, 1, "the usual case"),
            (3498, 1, "the last that fits one"),
            (3499, 1, "not more than one for its own sake, but asked for as if"),
            (7662, 2, "the last that fits two, tagged"),
            (7663, 3, "the first that does not"),
            (9216, 3, "the largest of all"),
        ] {
            assert_eq!(frames_a_packet(mtu), frames, "{why}");
        }
    }
}
