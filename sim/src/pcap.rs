//! A capture file, as Wireshark and tcpdump read it.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use ringroad::base::Instant;

/// Writes the beginning of a file of Ethernet frames, with times in nanoseconds.
///
/// # Errors
///
/// Those of `to`.
pub fn begin(to: &mut impl Write) -> io::Result<()> {
    // Magic, version 2.4, two words that nobody uses, longest frame, Ethernet.
    let words: [u32; 6] = [0xa1b2_3c4d, 2 | 4 << 16, 0, 0, 65_535, 1];
    words.iter().try_for_each(|word| to.write_all(&word.to_le_bytes()))
}

/// Writes one frame.
///
/// # Errors
///
/// Those of `to`.
pub fn frame(to: &mut impl Write, at: Instant, frame: &[u8]) -> io::Result<()> {
    let (seconds, ns) = (at.as_nanos() / 1_000_000_000, at.as_nanos() % 1_000_000_000);
    let len = frame.len() as u64;
    for word in [seconds, ns, len, len] {
        // Virtual time does not last for 136 years, and a frame is short.
        to.write_all(&u32::try_from(word).unwrap_or(u32::MAX).to_le_bytes())?;
    }
    to.write_all(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_a_header_and_frames_with_their_times() {
        let mut file = Vec::new();
        begin(&mut file).expect("memory");
        frame(&mut file, Instant::from_nanos(3_000_000_007), b"frame").expect("memory");
        assert_eq!(file.len(), 24 + 16 + 5);
        assert_eq!(file[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
        assert_eq!(file[24..32], [3, 0, 0, 0, 7, 0, 0, 0]);
        assert!(file.ends_with(b"frame"));
    }
}
