//! What a connection with BBR tells its model, and when it has one.
#![forbid(unsafe_code)]

use super::host::Host;
use super::{a, sa};
use crate::tcp::CongestionAlgorithm;

/// A connection with BBR; with SACK or not.
fn bbr(sack: bool) -> Host {
    let syn_ack = if sack { sa().sack() } else { sa() };
    Host::open(
        |config, options| {
            config.sack = true;
            options.congestion = CongestionAlgorithm::Bbr;
        },
        syn_ack,
    )
}

#[test]
fn only_who_hears_what_arrives_has_a_model() {
    for sack in [true, false] {
        let mut host = bbr(sack);
        assert_eq!(host.tcb.model(&mut host.lent.shared).is_some(), sack);
    }
}
