//! Paths that carry less than the interfaces do: what that costs, and the way back.
use std::time::Duration;

use super::common::{Bulk, CLEAN, CUT, assert_nothing_left, config, connect, run, v4, v6};
use ringroad::base::{Counter, Instant};
use ringroad::io::link::{LinkConfig, QueueLimit};
use ringroad::io::sim::SimNet;
use ringroad::stack::Listen;
use ringroad::tcp::CloseReason;

/// 100 Mbit/s and a round trip of 20 ms.
const PATH: LinkConfig = LinkConfig { delay_us: 10_000, rate_bps: 100_000_000, ..CLEAN };
/// The same for packets of 1300 octets and less.
const NARROW: LinkConfig = LinkConfig { mtu: 1_300, ..PATH };
/// Ethernet's largest frame.
const FULL: usize = 1_514;

/// What connections agree on.
#[derive(Clone, Copy, Debug)]
struct Options {
    v6: bool,
    sack: bool,
    timestamps: bool,
}

const USUAL: Options = Options { v6: false, sack: true, timestamps: true };

/// A transfer from host 0 to host 1.
struct Sending {
    net: SimNet<Bulk>,
    octets: u64,
    start: Instant,
}

impl Sending {
    fn begin(octets: u64, options: Options, link: LinkConfig) -> Self {
        let to = if options.v6 { v6(2) } else { v4(2) };
        let client = Bulk { to: Some(connect(to, 80)), send: octets, streams: (1, 2), ..Bulk::default() };
        let server = Bulk { listen: Some(Listen::new(to, 80)), streams: (2, 1), ..Bulk::default() };
        let mut net = SimNet::new(1);
        for (host, app) in [(1, client), (2, server)] {
            let mut config = config(host);
            (config.tcp.sack, config.tcp.timestamps) = (options.sack, options.timestamps);
            net.add(config, app, link);
        }
        net.introduce();
        net.capture();
        net.start();
        let start = net.now();
        Self { net, octets, start }
    }

    /// Goes on until `after` the start, or the end; returns the longest frame in that time.
    fn until(&mut self, after: Duration) -> usize {
        let mut longest = 0;
        while self.net.host(0).app.done.is_empty() && self.took() < after {
            let step = self.net.now() + Duration::from_millis(10);
            assert!(self.net.run(step, 10_000_000), "it goes on for ever");
            let frames = self.net.take_captured();
            longest = frames.iter().map(|captured| captured.frame.len()).fold(longest, usize::max);
        }
        longest
    }

    fn took(&self) -> Duration {
        self.net.now().since(self.start)
    }

    fn counted(&self, counter: Counter) -> u64 {
        self.net.host(0).engine.counters().get(counter)
    }

    /// Everything arrived, and nothing is left of it; returns how long it took.
    fn end(mut self) -> Duration {
        self.until(Duration::from_secs(3_600));
        let took = self.took();
        run(&mut self.net, 200);
        assert_nothing_left(&self.net, 2);
        let (done, why) = &self.net.host(1).app.done[0];
        assert_eq!((done.received, *why), (self.octets, CloseReason::Finished));
        took
    }
}

#[test]
fn a_black_hole_costs_three_timeouts_and_little_else() {
    const OCTETS: u64 = 10_000_000;
    /// 200, 400 and 800 ms, and a probe of the tail before; then a window that begins as after any timeout, with
    /// a threshold below the initial window.
    const COST: Duration = Duration::from_millis(1_450 + 2_000);
    for v6 in [false, true] {
        for (sack, timestamps) in [(true, true), (true, false), (false, false), (false, true)] {
            let options = Options { v6, sack, timestamps };
            let clean = Sending::begin(OCTETS, options, PATH).end();
            let mut sending = Sending::begin(OCTETS, options, NARROW);
            assert_eq!(sending.until(Duration::from_millis(1_000)), FULL, "{options:?}: nobody says why");
            sending.until(Duration::from_millis(2_200));
            let longest = sending.until(Duration::from_secs(600));
            let (holes, timeouts) =
                (sending.counted(Counter::PathBlackHoles), sending.counted(Counter::RetransmitTimeouts));
            assert_eq!((holes, timeouts), (1, 3), "{options:?}");
            // The headers take more than a thirty-second of the path's 1300 octets: the search ends before it finds
            // the last of them.
            assert!((1_260..=1_314).contains(&longest), "{options:?}: {longest} octets a frame in the end");
            let took = sending.end();
            // Goodput is as before in the end, but for larger headers.
            assert!(took < clean * 23 / 20 + COST, "{options:?}: {took:?} instead of {clean:?}");
        }
    }
}

#[test]
fn after_an_outage_segments_are_soon_as_large_as_before() {
    for (seconds, timestamps) in [(2, true), (5, true), (20, true), (5, false)] {
        let path = LinkConfig { rate_bps: 10_000_000, queue: QueueLimit::Packets(50), ..PATH };
        let mut sending = Sending::begin(10_000_000, Options { timestamps, ..USUAL }, path);
        sending.until(Duration::from_millis(500));
        (0..2).for_each(|host| sending.net.set_link(host, CUT));
        sending.until(Duration::from_millis(500) + Duration::from_secs(seconds));
        assert!(
            sending.counted(Counter::PathBlackHoles) > 0,
            "{seconds} s: an outage looks like a black hole"
        );
        (0..2).for_each(|host| sending.net.set_link(host, path));
        while sending.counted(Counter::PathProbes) == 0 {
            sending.until(sending.took() + Duration::from_millis(100));
        }
        sending.until(sending.took() + Duration::from_millis(500));
        assert_eq!(sending.until(Duration::from_secs(600)), FULL, "{seconds} s, {timestamps}");
        let probes = (sending.counted(Counter::PathProbes), sending.counted(Counter::PathProbesLost));
        assert_eq!(probes, (1, 0), "{seconds} s, {timestamps}");
        sending.end();
    }
}

#[test]
fn a_path_that_becomes_wide_again_is_found_out_after_ten_minutes() {
    let slow = |link| LinkConfig { rate_bps: 1_000_000, queue: QueueLimit::Packets(20), ..link };
    let mut sending = Sending::begin(90_000_000, USUAL, slow(NARROW));
    sending.until(Duration::from_secs(60));
    let probes = sending.counted(Counter::PathProbes);
    (0..2).for_each(|host| sending.net.set_link(host, slow(PATH)));
    assert!(sending.until(Duration::from_secs(590)) <= 1_314, "the path is believed for ten minutes");
    assert_eq!(sending.counted(Counter::PathProbes), probes);
    sending.until(Duration::from_secs(620));
    assert_eq!(sending.counted(Counter::PathProbes), probes + 1, "and one probe is enough");
    assert_eq!(sending.until(Duration::from_secs(700)), FULL);
    sending.end();
}
