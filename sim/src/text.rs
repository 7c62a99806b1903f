//! The text of a stream: it begins with its sender's number, and every octet after that depends on it.
#![forbid(unsafe_code)]

use ringroad::base::Rng;

/// Octets of the sender's number, at the beginning.
pub const HEAD_LEN: u64 = 8;

/// Eight octets of the stream of `sender`, from `8 * block` on.
fn block(sender: u64, block: u64) -> [u8; 8] {
    if block == 0 {
        return sender.to_le_bytes();
    }
    Rng::new((sender << 32) ^ block).next_u64().to_le_bytes()
}

/// Fills `out` with the stream of `sender` from octet `at` on.
pub fn fill(sender: u64, at: u64, out: &mut [u8]) {
    let mut filled = 0;
    while filled < out.len() {
        let (number, offset) = position(at, filled);
        let piece = &block(sender, number)[offset..];
        let len = piece.len().min(out.len() - filled);
        out[filled..filled + len].copy_from_slice(&piece[..len]);
        filled += len;
    }
}

/// Where `text`, which should be the stream of `sender` from octet `at` on, is not.
pub fn difference(sender: u64, at: u64, text: &[u8]) -> Option<u64> {
    let mut checked = 0;
    while checked < text.len() {
        let (number, offset) = position(at, checked);
        let piece = &block(sender, number)[offset..];
        let len = piece.len().min(text.len() - checked);
        let mut pairs = piece.iter().zip(&text[checked..checked + len]);
        if let Some(wrong) = pairs.position(|(want, is)| want != is) {
            return Some(at + (checked + wrong) as u64);
        }
        checked += len;
    }
    None
}

/// The block in which octet `at + ahead` lies, and where in it.
const fn position(at: u64, ahead: usize) -> (u64, usize) {
    let octet = at + ahead as u64;
    (octet / 8, (octet % 8) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_filled_in_pieces_has_no_difference_and_anything_else_has() {
        let mut whole = [0; 100];
        fill(7, 0, &mut whole);
        assert_eq!(whole[..8], 7u64.to_le_bytes());
        for at in [1, 8, 13, 50] {
            let mut rest = vec![0; 100 - at];
            fill(7, at as u64, &mut rest);
            assert_eq!(rest, whole[at..]);
            assert_eq!(difference(7, at as u64, &rest), None);
            rest[20] ^= 1;
            assert_eq!(difference(7, at as u64, &rest), Some(at as u64 + 20));
        }
        assert_eq!(difference(8, 0, &whole), Some(0), "another sender");
        assert!(difference(8, 8, &whole[8..]).is_some(), "another sender, beyond the head");
        assert!(difference(7, 9, &whole[8..]).is_some(), "one octet further");
    }
}
