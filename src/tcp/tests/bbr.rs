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

fn blocks(host: &mut Host, ack: u32, block: (u32, u32)) {
    use super::segments::ISS;
    host.recv(a(1, ack).option(|options| options.sack.push(ISS + block.0, ISS + block.1)));
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

/// Numbers that a closed scoreboard knew are ahead again when 2^31 octets more are acknowledged.
#[test]
fn what_arrived_long_ago_is_not_what_arrived_last() {
    let mut host = bbr(true);
    host.send(5_000);
    host.wait_ms(20);
    blocks(&mut host, 1, (1_001, 5_001));
    host.wait_ms(20);
    host.recv(a(1, 5_001));
    let far = (1 << 31) + 10;
    for number in [&mut host.tcb.snd.una, &mut host.tcb.snd.nxt, &mut host.tcb.snd.cursor] {
        *number += far;
    }
    let cold = host.tcb.cold(&host.lent.shared).expect("it has a record");
    assert_eq!(host.tcb.highest(cold), host.tcb.snd.una);
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

/// Nagle's algorithm holds the end of each reply back until the rest is acknowledged, and that is no rate of the path.
#[test]
fn the_short_end_of_a_reply_does_not_say_that_the_path_is_full() {
    let mut host = bbr(true);
    let mut sent = 0;
    for _ in 0..8 {
        host.send(4_300);
        host.wait_ms(20);
        host.recv(a(1, 1 + sent + 4_000));
        host.wait_ms(20);
        sent += 4_300;
        host.recv(a(1, 1 + sent));
    }
    assert_eq!(host.info().unacknowledged, 0);
    let model = host.tcb.model(&mut host.lent.shared).expect("a model");
    assert_eq!(std::format!("{:?}", model.state()), "Startup");
}
