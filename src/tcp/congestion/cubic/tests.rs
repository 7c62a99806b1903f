//! CUBIC against tables worked from RFC 9438's formulas, and against a model of it in floating point.
#![forbid(unsafe_code)]

use super::*;
use crate::tcp::CongestionAlgorithm;
use proptest::prelude::*;
use std::vec;
use std::vec::Vec;

const MSS: u32 = 1_000;

/// One sender, whose round trip does not change unless a test says so.
#[derive(Clone, Copy, Debug)]
struct Flow {
    window: Congestion,
    memory: Memory,
    now: Micros32,
    rtt_us: u32,
}

impl Flow {
    /// In the first slow start with a window of `segments`.
    fn new(segments: u32, rtt_us: u32) -> Self {
        Self {
            window: Congestion::new(CongestionAlgorithm::Cubic, segments * MSS),
            memory: Memory::default(),
            now: Micros32::default(),
            rtt_us,
        }
    }

    /// Has just lost something with a window of `segments`, all of it in flight.
    fn reduced(segments: u32, rtt_us: u32) -> Self {
        let mut flow = Self::new(segments, rtt_us);
        flow.lose();
        flow
    }

    fn lose(&mut self) {
        self.window.on_loss(self.window.cwnd(), MSS, Some(&mut self.memory));
    }

    fn time_out(&mut self, first: bool) {
        self.window.on_timeout(self.window.cwnd(), MSS, first, Some(&mut self.memory));
    }

    fn acked(&self, octets: u32) -> Acked {
        Acked {
            octets,
            flight: self.window.cwnd().max(octets + 1),
            window_limited: true,
            mss: MSS,
            now: self.now,
            rtt_us: Some(self.rtt_us),
            srtt_us: self.rtt_us,
        }
    }

    /// `octets` are acknowledged now.
    fn ack(&mut self, octets: u32) {
        self.window.on_ack(&self.acked(octets), Some(&mut self.memory));
    }

    /// So much time passes, and acknowledgments of two segments come as the round trip brings them.
    fn run(&mut self, us: u32) {
        let mut left_us = us;
        while left_us > 0 {
            let gap_us = (u64::from(self.rtt_us) * u64::from(2 * MSS) / u64::from(self.window.cwnd())).max(1);
            let gap_us = u32::try_from(gap_us).expect("not that long").min(left_us);
            left_us -= gap_us;
            self.now = self.now.plus(gap_us);
            self.ack(2 * MSS);
        }
    }

    /// One acknowledgment of a whole window.
    fn round(&mut self) {
        self.now = self.now.plus(self.rtt_us);
        self.ack(self.window.cwnd());
    }

    fn epoch(&self) -> Epoch {
        match self.memory {
            Memory::Avoidance(epoch) => epoch,
            other => panic!("no avoidance: {other:?}"),
        }
    }
}

/// RFC 9438 (2): K = cubert((W_max - cwnd_epoch) / C), C = 0.4.
#[test]
fn k_is_that_of_equation_2() {
    for (missing, mss, want, why) in [
        (0, 1_000, 0, "at W_max"),
        (400, 1_000, 1_024, "0.4 segments: 1 s"),
        (3_200, 1_000, 2_048, "3.2 segments: 2 s"),
        (30_000, 1_000, 4_318, "30 segments: 4.217 s"),
        (438_000, 1_460, 9_303, "300 segments: 9.086 s"),
        ((1 << 30) - 1, 64, 355_784, "the largest window of the smallest segments: 347.46 s"),
        ((1 << 30) - 1, 1, 1_423_136, "nothing overflows"),
    ] {
        assert_eq!(inflection(missing, mss), want, "{why}");
    }
}

/// RFC 9438 (1): W_cubic(t) = C (t - K)^3 + W_max, with W_max of 100 segments, cwnd_epoch of 70, K of 4.217 s.
#[test]
fn the_window_is_that_of_equation_1() {
    let mut flow = Flow::reduced(100, 1_000);
    flow.ack(1);
    let epoch = flow.epoch();
    assert_eq!((epoch.k, epoch.w_max, epoch.cwnd_prior), (4_318, 100_000, 100_000));
    for (t_us, want, why) in [
        (0, 70_008, "begins at cwnd_epoch, but for a rounded K"),
        (1_000_000, 86_686, "concave"),
        (4_216_797, 100_000, "K"),
        (6_000_000, 102_268, "convex"),
        (10_000_000, 177_368, "far out"),
    ] {
        assert_eq!(epoch.window_at(t_us, MSS), want, "{why}");
    }
    assert!(epoch.window_at(u32::MAX, MSS) > Congestion::CWND_MAX, "nothing wraps");
    assert!(epoch.window_at(u32::MAX, u32::from(u16::MAX)) > Congestion::CWND_MAX, "nothing wraps");
    let low = Epoch { w_max: 10_000, ..epoch };
    assert_eq!(low.window_at(0, MSS), 0, "below nothing there is nothing");
}

/// RFC 9438 §4.6, §4.7.
#[test]
fn a_loss_leaves_seven_tenths_and_a_second_one_below_w_max_makes_room() {
    let mut flow = Flow::reduced(100, 100_000);
    assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (70_000, 70_000));
    flow.run(500_000);
    let cwnd = flow.window.cwnd();
    assert!((78_000..84_000).contains(&cwnd), "{cwnd}");
    flow.lose();
    let Memory::Reduced { w_max, cwnd_prior } = flow.memory else { panic!("{:?}", flow.memory) };
    assert_eq!((cwnd_prior, w_max), (cwnd, u32::try_from(u64::from(cwnd) * 85 / 100).expect("less")));
    flow.run(20_000_000);
    let cwnd = flow.window.cwnd();
    assert!(cwnd > 100_000);
    flow.lose();
    assert!(
        matches!(flow.memory, Memory::Reduced { w_max, .. } if w_max == cwnd),
        "beyond W_max it is as it was"
    );
}

#[test]
fn the_threshold_follows_what_was_in_flight_not_the_window() {
    let mut flow = Flow::new(100, 1_000);
    flow.window.on_loss(10 * MSS, MSS, Some(&mut flow.memory));
    assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (7_000, 7_000));
}

/// RFC 9438 §4.4, §4.5: fast far from `W_max`, slowly near it, and fast again beyond.
#[test]
fn after_a_loss_the_window_comes_back_to_w_max_at_k_and_goes_beyond_as_far() {
    let mut flow = Flow::reduced(1_000, 100_000);
    // K = cubert(300 / 0.4) = 9.086 s; the target is that of a round trip later.
    for (after_us, want, why) in [
        (0, 700_000, "cwnd_epoch"),
        (4_543_000, 962_500, "K / 2: seven eighths of 300 are won back"),
        (4_543_000, 1_000_000, "K"),
        (9_086_000, 1_300_000, "2 K"),
    ] {
        flow.run(after_us);
        let cwnd = flow.window.cwnd();
        assert!(cwnd.abs_diff(want) < 3_000, "{why}: {cwnd}, not {want}");
    }
}

/// RFC 9438 §4.3: alpha is 9/17 until `cwnd_prior` is reached, then 1.
#[test]
fn small_windows_grow_as_those_of_reno_would() {
    let mut flow = Flow::reduced(10, 10_000);
    for (rounds, want) in [(1, 7_529), (1, 8_058), (3, 9_647), (1, 10_176), (1, 11_176), (4, 15_176)] {
        (0..rounds).for_each(|_| flow.round());
        assert_eq!(flow.window.cwnd(), want);
    }
}

/// RFC 9438 §4.2: the target is at most half a window more.
#[test]
fn no_round_trip_adds_more_than_half_a_window() {
    let mut flow = Flow::reduced(100, 1_000);
    flow.ack(1);
    flow.now = flow.now.plus(3_000_000_000);
    for _ in 0..3 {
        let cwnd = flow.window.cwnd();
        flow.ack(cwnd);
        assert_eq!(flow.window.cwnd(), cwnd + cwnd / 2);
        flow.ack(u32::MAX - 1);
        assert_eq!(flow.window.cwnd(), (cwnd + cwnd / 2) / 2 * 3, "though much more were acknowledged");
    }
}

/// RFC 9438 §4.8.
#[test]
fn after_a_timeout_slow_start_leads_to_a_new_beginning() {
    let mut flow = Flow::new(100, 10_000);
    flow.time_out(true);
    assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (MSS, 70_000));
    flow.time_out(false);
    assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (MSS, 70_000), "once for one loss");
    for want in 2..=70 {
        flow.ack(2 * MSS);
        assert_eq!(flow.window.cwnd(), want * MSS, "RFC 3465 §2.3: L = 1");
    }
    flow.round();
    let epoch = flow.epoch();
    assert_eq!((epoch.k, epoch.w_max, epoch.cwnd_prior), (0, 70_000, 100_000));
    assert_eq!(flow.window.cwnd(), 70_529, "alpha is 9/17 until 100 segments are reached");
}

/// RFC 9438 §5.8.
#[test]
fn time_in_which_the_window_was_not_used_does_not_count() {
    let mut flow = Flow::reduced(100, 1_000);
    flow.run(1_000_000);
    let before = flow;
    for _ in 0..100 {
        flow.now = flow.now.plus(100_000);
        let acked = Acked { window_limited: false, ..flow.acked(2 * MSS) };
        flow.window.on_ack(&acked, Some(&mut flow.memory));
    }
    assert_eq!(
        (flow.window.cwnd(), flow.epoch().elapsed_us),
        (before.window.cwnd(), before.epoch().elapsed_us)
    );
    // Nor does silence, but for the round trip at its end.
    let acked = Acked { flight: 2 * MSS, ..flow.acked(2 * MSS) };
    flow.window.on_ack(&acked, Some(&mut flow.memory));
    flow.now = flow.now.plus(20_000_000);
    flow.ack(2 * MSS);
    assert_eq!(flow.epoch().elapsed_us, before.epoch().elapsed_us + 1_000);
    flow.now = flow.now.plus(3_000);
    flow.ack(2 * MSS);
    assert_eq!(flow.epoch().elapsed_us, before.epoch().elapsed_us + 4_000);
}

/// RFC 9438 §4.10: without a loss before it, avoidance begins with K = 0 at the window of that moment.
#[test]
fn memory_that_is_new_begins_at_the_window_as_it_is() {
    let mut flow = Flow::reduced(100, 100_000);
    flow.run(1_000_000);
    let cwnd = flow.window.cwnd();
    flow.memory = Memory::default();
    flow.ack(1);
    let epoch = flow.epoch();
    assert_eq!((epoch.k, epoch.w_max, epoch.cwnd_prior), (0, cwnd, cwnd));
    flow.run(2_000_000);
    assert!(flow.window.cwnd() > cwnd + 15 * MSS, "by a segment in a round trip at least");
}

#[test]
fn without_memory_the_window_grows_as_that_of_reno_and_falls_as_that_of_cubic() {
    let mut window = Congestion::new(CongestionAlgorithm::Cubic, 10 * MSS);
    let flow = Flow::new(10, 1_000);
    (0..5).for_each(|_| window.on_ack(&flow.acked(2 * MSS), None));
    assert_eq!(window.cwnd(), 20 * MSS, "slow start");
    window.on_loss(20 * MSS, MSS, None);
    assert_eq!((window.cwnd(), window.ssthresh()), (14 * MSS, 14 * MSS));
    (0..7).for_each(|_| window.on_ack(&flow.acked(2 * MSS), None));
    assert_eq!(window.cwnd(), 15 * MSS, "a segment for a window");
    window.on_timeout(15 * MSS, MSS, true, None);
    assert_eq!((window.cwnd(), window.ssthresh()), (MSS, 10_500));
    window.on_idle(10 * MSS, None);
    assert_eq!(window.cwnd(), MSS);
}

#[test]
fn an_idle_connection_forgets_and_begins_with_the_initial_window() {
    let mut flow = Flow::reduced(100, 1_000);
    flow.run(1_000_000);
    flow.window.on_idle(10 * MSS, Some(&mut flow.memory));
    assert_eq!((flow.window.cwnd(), flow.window.ssthresh()), (10 * MSS, 70 * MSS));
    assert!(matches!(flow.memory, Memory::Nothing));
    flow.ack(2 * MSS);
    assert_eq!(flow.window.cwnd(), 12 * MSS, "slow start up to the threshold");
}

/// RFC 9406 §4.2, in the window: doubled, then a quarter more for five rounds, then avoidance.
#[test]
fn a_longer_round_trip_ends_the_first_slow_start_without_a_loss() {
    let mut flow = Flow::new(10, 20_000);
    let round = |flow: &mut Flow| {
        (0..flow.window.cwnd() / MSS).for_each(|_| flow.ack(MSS));
        flow.window.cwnd() / MSS
    };
    assert_eq!([round(&mut flow), round(&mut flow), round(&mut flow)], [20, 40, 80]);
    flow.rtt_us = 24_000;
    // A round may have begun with the last of the shorter round trips, and the next begins a little early.
    let mut windows = vec![round(&mut flow)];
    while flow.window.ssthresh() == Congestion::CWND_MAX {
        windows.push(round(&mut flow));
    }
    assert!((5..=7).contains(&windows.len()), "{windows:?}");
    let slow =
        windows.windows(2).skip(1).filter(|pair| (pair[1] - pair[0]).abs_diff(pair[0] / 4) <= 2).count();
    assert!(slow >= 3, "{windows:?}");
    assert!(flow.window.cwnd() - flow.window.ssthresh() < MSS, "avoidance");
    assert_eq!((flow.epoch().k, flow.epoch().w_max), (0, flow.window.ssthresh()));
}

#[test]
fn what_a_loss_changed_is_taken_back_with_a_copy() {
    let mut flow = Flow::reduced(100, 20_000);
    flow.run(2_000_000);
    let (mut other, saved) = (flow, (flow.window, flow.memory));
    flow.lose();
    (flow.window, flow.memory) = saved;
    flow.run(3_000_000);
    other.run(3_000_000);
    assert_eq!(
        (flow.window.cwnd(), flow.epoch().elapsed_us),
        (other.window.cwnd(), other.epoch().elapsed_us)
    );
}

/// RFC 9438 in segments and seconds, as its text has it.
#[derive(Debug, Default)]
struct Model {
    cwnd: f64,
    ssthresh: f64,
    w_max: f64,
    cwnd_prior: f64,
    /// t, K and `W_est`.
    stage: Option<(f64, f64, f64)>,
}

impl Model {
    const C: f64 = 0.4;
    const BETA: f64 = 0.7;

    fn new(cwnd: f64) -> Self {
        Self { cwnd, ssthresh: f64::INFINITY, ..Self::default() }
    }

    fn lose(&mut self) {
        self.cwnd_prior = self.cwnd;
        self.w_max = if self.cwnd < self.w_max { self.cwnd * (1.0 + Self::BETA) / 2.0 } else { self.cwnd };
        self.ssthresh = (self.cwnd * Self::BETA).max(2.0);
        self.cwnd = self.ssthresh;
        self.stage = None;
    }

    fn time_out(&mut self) {
        self.cwnd_prior = self.cwnd;
        self.ssthresh = (self.cwnd * Self::BETA).max(2.0);
        (self.cwnd, self.w_max, self.stage) = (1.0, 0.0, None);
    }

    fn ack(&mut self, segments: f64, gap: f64, rtt: f64) {
        if self.cwnd < self.ssthresh {
            self.cwnd += segments.min(1.0);
            return;
        }
        let (t, k, w_est) = match self.stage {
            Some((t, k, w_est)) => (t + gap, k, w_est),
            None => {
                self.w_max = self.w_max.max(self.cwnd);
                (0.0, ((self.w_max - self.cwnd) / Self::C).cbrt(), self.cwnd)
            }
        };
        let w_cubic = |t: f64| Self::C * (t - k).powi(3) + self.w_max;
        let alpha = if w_est < self.cwnd_prior { 3.0 * (1.0 - Self::BETA) / (1.0 + Self::BETA) } else { 1.0 };
        let w_est = w_est + alpha * segments / self.cwnd;
        self.cwnd = if w_cubic(t) < w_est {
            self.cwnd.max(w_est)
        } else {
            let target = w_cubic(t + rtt).clamp(self.cwnd, 1.5 * self.cwnd);
            self.cwnd + (target - self.cwnd) / self.cwnd * segments
        };
        self.cwnd = self.cwnd.min(f64::from(Congestion::CWND_MAX) / f64::from(MSS));
        self.stage = Some((t, k, w_est));
    }
}

/// How far integers may be from the model with a window of `cwnd` segments.
fn tolerance(cwnd: f64) -> f64 {
    0.5 + cwnd * 0.005
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// So many round trips pass.
    Rounds(u32),
    Loss,
    Timeout,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        6 => (1..60u32).prop_map(Event::Rounds),
        3 => Just(Event::Loss),
        1 => Just(Event::Timeout),
    ];
    prop::collection::vec(event, 1..20)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn integers_follow_the_model_and_only_losses_make_the_window_smaller(
        segments in 4..3_000u32,
        rtt_us in 100..300_000u32,
        events in events(),
    ) {
        let (mut flow, mut model) = (Flow::new(segments, rtt_us), Model::new(f64::from(segments)));
        flow.lose();
        model.lose();
        for event in events {
            match event {
                // As much as the last time, or less, is a matter of rounding here, and decides about W_max
                // (RFC 9438 §4.7).
                Event::Loss if (model.cwnd - model.w_max).abs() <= tolerance(model.cwnd) => break,
                Event::Loss => (flow.lose(), model.lose()).0,
                Event::Timeout => (flow.time_out(true), model.time_out()).0,
                Event::Rounds(rounds) => for _ in 0..rounds * 20 {
                    // Twenty acknowledgments in a round trip, each of a twentieth of the window.
                    let (octets, gap_us, before) = (flow.window.cwnd().div_ceil(20), rtt_us / 20, flow.window.cwnd());
                    flow.now = flow.now.plus(gap_us);
                    let slow = before < flow.window.ssthresh();
                    flow.ack(octets);
                    let segments_now = f64::from(flow.window.cwnd()) / f64::from(MSS);
                    if slow {
                        // Which acknowledgment ends it is a matter of rounding, and worth a segment.
                        model.cwnd = segments_now;
                        if flow.window.cwnd() >= flow.window.ssthresh() {
                            model.ssthresh = model.ssthresh.min(segments_now);
                        }
                    } else {
                        model.ack(
                            f64::from(octets) / f64::from(MSS),
                            f64::from(gap_us) / 1e6,
                            f64::from(rtt_us) / 1e6,
                        );
                    }
                    prop_assert!(flow.window.cwnd() >= before, "{:?}", flow);
                },
            }
            let cwnd = f64::from(flow.window.cwnd()) / f64::from(MSS);
            prop_assert!((cwnd - model.cwnd).abs() <= tolerance(model.cwnd), "{} {:?}", cwnd, model);
            let least = if matches!(event, Event::Timeout) { MSS } else { flow.window.cwnd().min(2 * MSS) };
            prop_assert!(flow.window.cwnd() >= least && flow.window.ssthresh() >= 2 * MSS);
        }
    }

    #[test]
    fn the_cube_root_is_the_largest_whose_cube_is_not_more(of in 0..1u64 << 63) {
        let root = u128::from(cube_root(of));
        prop_assert!(root.pow(3) <= u128::from(of) && u128::from(of) < (root + 1).pow(3));
    }
}
