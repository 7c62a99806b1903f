//! TCP options of any octets: read as a slow reader reads them, and what was read can be written.

use ringroad::base::Seq;
use ringroad::wire::{TcpOptions, Timestamps, tcp};

/// The octets are an options field; only the 40 that there can be count for the model.
///
/// # Panics
///
/// Where the property does not hold.
pub fn check(data: &[u8]) {
    let options = TcpOptions::parse(data);
    assert_eq!(TcpOptions::timestamps(data), options.timestamps);
    assert_eq!(options, slowly(data), "as RFC 9293 §3.2 has it, an option at a time");

    let mut out = [0xaa; tcp::OPTIONS_LEN_MAX + 4];
    let len = options.len();
    assert!(len <= tcp::OPTIONS_LEN_MAX && len.is_multiple_of(4));
    options.emit(&mut out[..len]);
    assert_eq!(out[len..], [0xaa; tcp::OPTIONS_LEN_MAX + 4][len..], "nothing is written behind them");
    let again = TcpOptions::parse(&out[..len]);
    assert_eq!(TcpOptions { sack: options.sack, ..again }, options);
    assert!(options.sack.as_slice().starts_with(again.sack.as_slice()), "blocks that fit, the first ones");
}

/// A reader without shortcuts.
fn slowly(mut rest: &[u8]) -> TcpOptions {
    let mut options = TcpOptions::default();
    let mut values = Vec::new();
    while let Some((&kind, more)) = rest.split_first() {
        match (kind, more.first()) {
            (0, _) => break,
            (1, _) => rest = more,
            (_, Some(&len)) if len >= 2 && usize::from(len) <= rest.len() => {
                values.push((kind, &rest[2..usize::from(len)]));
                rest = &rest[usize::from(len)..];
            }
            _ => break,
        }
    }
    let number = |octets: &[u8]| octets.iter().fold(0, |sum, &octet| sum << 8 | u32::from(octet));
    // Later ones first, so that the first of a kind is the last word on it.
    for &(kind, value) in values.iter().rev() {
        match (kind, value.len()) {
            (2, 2) if number(value) != 0 => options.mss = u16::try_from(number(value)).ok(),
            (3, 1) => options.window_scale = Some(value[0].min(14)),
            (4, 0) => options.sack_permitted = true,
            (8, 8) => {
                options.timestamps = Some(Timestamps { val: number(&value[..4]), ecr: number(&value[4..]) });
            }
            (5, len) if len > 0 && len.is_multiple_of(8) => {
                options.sack = Default::default();
                for block in value.chunks_exact(8) {
                    options.sack.push(Seq::new(number(&block[..4])), Seq::new(number(&block[4..])));
                }
            }
            _ => (),
        }
    }
    options
}
