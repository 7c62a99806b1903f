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

fn lost(host: &Host) -> u32 {
    host.tcb.cold(&host.lent.shared).expect("it has a record").loss.total
}

#[test]
fn only_who_hears_what_arrives_has_a_model() {
    for sack in [true, false] {
        let mut host = bbr(sack);
        assert_eq!(host.tcb.model(&mut host.lent.shared).is_some(), sack);
    }
}

/// RFC 8985 §7.4.2: a loss that only the probe repaired is a loss.
#[test]
fn the_model_hears_of_a_loss_that_a_probe_repaired() {
    let mut host = bbr(true);
    host.send(3_000);
    host.wait_ms(20);
    host.recv(a(1, 1_001));
    while host.count(crate::base::Counter::TailLossProbes) == 0 {
        host.fire();
    }
    host.send(1_000);
    host.wait_ms(20);
    assert_eq!(lost(&host), 0);
    host.recv(a(1, 4_001));
    assert_eq!(lost(&host), 1_000);
}
