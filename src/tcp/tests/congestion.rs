//! What congestion control remembers of a connection, what it measures, and when it forgets.
#![forbid(unsafe_code)]

use std::vec;
use std::vec::Vec;

use super::host::Host;
use super::{a, sa};
use crate::base::Counter;
use crate::tcp::{CongestionAlgorithm, Memory};
use crate::wire::Timestamps;

/// A connection with CUBIC and a large window.
fn cubic(timestamps: bool) -> Host {
    let syn_ack = sa().scale(6);
    Host::open(
        |config, options| {
            (config.timestamps, config.window_scale) = (timestamps, true);
            (options.congestion, options.send_buffer) = (CongestionAlgorithm::Cubic, 1 << 20);
        },
        if timestamps { syn_ack.stamp(100) } else { syn_ack },
    )
}

/// Everything in flight is acknowledged segment by segment after `ms`, and as much sent again as may be.
fn round(host: &mut Host, ms: u64) {
    host.take(&vec![0; 1 << 20]);
    host.drain();
    let sent: Vec<_> = host.sent.drain(..).filter(|sent| sent.out.text_len > 0).collect();
    host.wait_ms(ms);
    for sent in sent {
        let end = sent.out.seq.since(super::segments::ISS) + sent.out.text_len;
        let ack = a(1, end).wnd(u16::MAX);
        host.recv(match sent.options.timestamps {
            Some(Timestamps { val: ecr, .. }) => {
                ack.option(|options| options.timestamps = Some(Timestamps { val: 100, ecr }))
            }
            None => ack,
        });
    }
}

fn memory(host: &Host) -> Option<Memory> {
    host.tcb.cold(&host.lent.shared).map(|cold| cold.congestion)
}

/// RFC 9406 §4.2: round trips grow, and slow start ends without a loss. RFC 7323 §4.1 measures them.
#[test]
fn with_timestamps_every_acknowledgment_measures_so_that_slow_start_ends_in_time() {
    for (timestamps, ms, ends, why) in [
        (true, 25, true, "five milliseconds more"),
        (true, 20, false, "no more than before"),
        (false, 25, false, "one measurement in a round trip is too few"),
    ] {
        let mut host = cubic(timestamps);
        (0..3).for_each(|_| round(&mut host, 20));
        (0..7).for_each(|_| round(&mut host, ms));
        let info = host.info();
        assert_eq!(info.ssthresh < 1 << 29, ends, "{why}: {info:?}");
        assert_eq!(matches!(memory(&host), Some(Memory::Avoidance(_))), ends, "{why}");
        assert_eq!(host.count(Counter::Retransmits), 0, "{why}");
    }
}

#[test]
fn what_is_remembered_is_forgotten_with_the_last_octet_acknowledged() {
    let mut host = cubic(false);
    assert!(memory(&host).is_none());
    host.send(10_000);
    assert!(matches!(memory(&host), Some(Memory::Nothing)));
    host.recv(a(1, 5_001));
    assert!(matches!(memory(&host), Some(Memory::SlowStart(_))));
    host.recv(a(1, 10_001));
    assert!(memory(&host).is_none());
    host.send(10_000);
    (0..3).for_each(|_| host.recv(a(1, 10_001)));
    assert!(matches!(memory(&host), Some(Memory::Reduced { .. })));
    assert_eq!(host.info().ssthresh, 7_000);
    host.recv(a(1, 20_001));
    assert!(memory(&host).is_none());
    assert_eq!((host.cwnd(), host.info().ssthresh), (7_000, 7_000), "the window is not forgotten");
}

#[test]
fn an_idle_connection_forgets_though_something_else_is_kept() {
    let mut host = cubic(false);
    host.set_urgent_end(100);
    host.send(5_000);
    host.recv(a(1, 5_001));
    assert!(matches!(memory(&host), Some(Memory::SlowStart(_))), "it is kept for the urgent data");
    host.wait_ms(1_000);
    host.send(1_000);
    assert!(matches!(memory(&host), Some(Memory::Nothing)));
}
