//! BBR on a line with one bottleneck, phase by phase.
#![forbid(unsafe_code)]

mod line;

use super::*;
use crate::base::Instant;
use crate::tcp::CongestionAlgorithm;
use line::{Line, MSS, SECOND, line_in};

#[test]
fn finds_the_rate_and_the_round_trip_and_keeps_the_queue_short() {
    let mut line = Line::new();
    line.run(2 * SECOND);
    line.most = 0;
    let rate = line.run(2 * SECOND);
    assert!((950_000..=1_000_000).contains(&rate), "{rate} octets a second");
    assert_eq!(line.model.min_rtt_us, 20_000, "known before");
    assert!(line.most <= 2 * 21_000 + 4 * MSS, "{} in flight", line.most);
    assert_eq!(line.drops, 0, "twice what the pipe holds has room");
}

#[test]
fn goes_from_phase_to_phase() {
    use State::{Cruise, Down, Drain, Refill, Startup, Up};
    let mut line = Line::new();
    line.run(4 * SECOND);
    assert_eq!(line.names()[..7], [Startup, Drain, Cruise, Refill, Up, Down, Cruise]);
    let at = |state| line.states.iter().find(|(is, _)| *is == state).expect("it was there").1;
    assert!(at(Drain) < 10 * 20_000, "doubles in each round trip, and sees in three that this is all");
    let rounds = (at(Refill) - at(Cruise)) / 20_000;
    assert!((15..=26).contains(&rounds), "as often as Reno with 21 segments would lose one: {rounds}");
    assert!(at(Up) - at(Refill) < 2 * 21_000, "a round trip");
}

/// Each time that less than the round trip is seen the clock begins anew, so the probe is due five seconds after
/// the last.
#[test]
fn looks_for_the_round_trip_with_little_in_flight_every_five_seconds() {
    let mut line = Line::new();
    line.run(12 * SECOND);
    let probes: Vec<_> = line
        .states
        .windows(2)
        .filter(|pair| pair[0].0 == State::ProbeRtt)
        .map(|pair| (pair[0].1, pair[1]))
        .collect();
    assert!((1..=2).contains(&probes.len()), "{:?}", line.states);
    for (begun, (next, ended)) in probes {
        assert!((200_000..300_000).contains(&(ended - begun)), "lasted {} us", ended - begun);
        assert_eq!(next, State::Cruise);
    }
    // A longer path is believed when ten seconds have shown nothing shorter.
    line.rtt_us = 30_000;
    line.run(21 * SECOND);
    assert_eq!(line.model.min_rtt_us / 1_000, 31);
}

#[test]
fn a_path_that_delivers_more_is_found_within_seconds_and_one_that_delivers_less_is_not_flooded() {
    let mut line = Line::new();
    line.run(3 * SECOND);
    line.rate = 3_000;
    line.run(5 * SECOND);
    let rate = line.run(SECOND);
    assert!(rate > 2_500_000, "{rate} octets a second of three million");
    line.rate = 1_000;
    line.run(4 * SECOND);
    (line.drops, line.tries) = (0, 0);
    let rate = line.run(3 * SECOND);
    assert!(rate > 850_000, "{rate} octets a second of a million");
    assert!(line.drops * 25 < line.tries, "{} of {} dropped", line.drops, line.tries);
}

/// The filter spans two probes: a round trip after one the rate of the one before is forgotten.
#[test]
fn each_probe_moves_the_filter_of_rates_on() {
    let mut line = line_in(State::Down, 4);
    line.model.rates[0] = 2_000_000;
    line.run(100_000);
    assert!(line.model.rates[0] <= 1_000_000, "{:?}", line.model.rates);
}

/// Ten segments in a round trip of 21 ms, times the gain of STARTUP.
#[test]
fn the_first_round_trip_sets_the_pace() {
    let mut line = Line::new();
    line.model = Model::new(10 * MSS, 0, Seq::new(7), 0, Micros32::default());
    line.run(21_500);
    assert!((1_300_000..1_350_000).contains(&line.model.pacing_rate), "{}", line.model.pacing_rate);
}

#[test]
fn probes_are_two_to_three_seconds_apart_and_never_at_times_that_all_share() {
    let mut model = Line::new().model;
    let mut waits: Vec<u32> = (0..100)
        .map(|_| {
            model.go_down(Micros32::default());
            model.probe_wait_us
        })
        .collect();
    assert!(waits.iter().all(|wait| (2_000_000..3_000_000).contains(wait)), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 90, "{waits:?}");
}

/// A queue of a quarter of the pipe: a loss-based sender would lose something in each probe, and so does this; but it
/// learns where the bound is.
#[test]
fn a_short_queue_sets_a_bound() {
    let mut line = Line::new();
    line.queue = 5_000;
    line.run(3 * SECOND);
    assert_ne!(line.model.bounds.hi, bounds::NONE);
    (line.drops, line.tries) = (0, 0);
    let rate = line.run(10 * SECOND);
    assert!(rate > 850_000, "{rate} octets a second");
    assert!(line.drops * 50 < line.tries, "{} of {} dropped: less than 2 %", line.drops, line.tries);
}

/// Two in a hundred is what it takes for the network's fault, and not for a queue's.
#[test]
fn one_loss_in_a_hundred_and_fifty_slows_nothing_down() {
    let mut line = Line::new();
    line.lost_each = 150;
    line.run(2 * SECOND);
    let rate = line.run(10 * SECOND);
    assert!(rate > 800_000, "{rate} octets a second");
}

#[test]
fn an_application_that_sends_little_does_not_make_the_path_slow() {
    let mut line = Line::new();
    line.run(3 * SECOND);
    let known = line.model.max_rate();
    assert!((900_000..=1_000_000).contains(&known), "{known} octets a second");
    // A segment each 100 ms, for four seconds.
    for _ in 0..40 {
        line.now += 100_000;
        while line.answers.front().is_some_and(|&(at, _)| at <= line.now) {
            line.answer();
        }
        line.send(true);
    }
    assert!(line.model.max_rate() >= known / 10 * 9, "{}", line.model.max_rate());
    assert!(line.window.cwnd() >= 20 * MSS, "{}", line.window.cwnd());
    // And text that comes then does not leave all at once.
    line.now += 100_000;
    while line.answers.front().is_some_and(|&(at, _)| at <= line.now) {
        line.answer();
    }
    let begun = line.now;
    line.run(5_000);
    assert!(line.now - begun == 5_000 && line.in_flight <= 8 * MSS, "{} in 5 ms", line.in_flight);
}

#[test]
fn pacing_makes_up_for_little_lateness_only() {
    let mut model = Line::new().model;
    model.pacing_rate = 1_000_000;
    let at = |us| Micros32::floor(Instant::from_micros(us));
    let left = |in_flight, us| Left {
        end: Seq::new(in_flight),
        octets: MSS,
        new: true,
        in_flight,
        dry: false,
        srtt_us: 20_000,
        mss: MSS,
        now: at(us),
    };
    model.sent(&left(MSS, 500));
    assert_eq!(model.due(), at(1_500), "the first of a flight leaves when it likes");
    model.sent(&left(2 * MSS, 1_600));
    assert_eq!(model.due(), at(2_500), "from when it was due");
    model.sent(&left(3 * MSS, 9_500));
    assert_eq!(model.due(), at(9_500 - 2_000 + 1_000), "two segments at most at once");
    let mut late = model;
    let five_minutes = 300 * SECOND;
    late.sent(&left(4 * MSS, five_minutes));
    assert_eq!(late.due(), at(five_minutes - 2_000 + 1_000), "however late");
    model.hold_back();
    model.sent(&left(3 * MSS, 17_500));
    assert_eq!(model.due(), at(9_500), "a timer was late by nine milliseconds");
    model.sent(&left(3 * MSS, 39_500));
    assert_eq!(model.due(), at(39_500 - 10_000 + 1_000), "more than half a round trip");
    model.sent(&Left { dry: true, ..left(3 * MSS, 39_500) });
    model.sent(&left(3 * MSS, 59_500));
    assert_eq!(model.due(), at(59_500 - 2_000 + 1_000), "nobody wanted to send");
    // Half a microsecond is not forgotten.
    model.pacing_rate = 2_000_000_000;
    let due = model.due();
    for n in 4..34 {
        model.sent(&left(n * MSS, 58_500));
    }
    assert_eq!(model.due(), due.plus(15));
}

#[test]
fn what_was_not_lost_after_all_leaves_no_bound() {
    let mut line = Line::new();
    line.run(3 * SECOND);
    let (hi, cwnd) = (line.model.bounds.hi, line.window.cwnd());
    line.lost += 5 * MSS;
    line.in_flight -= 5 * MSS;
    let at = line.at();
    let heard = |line: &Line, repairing| Heard {
        arrived: line.arrived,
        highest: Seq::new(line.arrived),
        lost: line.lost,
        in_flight: line.in_flight,
        repairing,
        dry: false,
        mss: MSS,
        now: at,
    };
    let during = heard(&line, true);
    line.model.heard(&mut line.window, &during);
    assert!(line.window.cwnd() <= cwnd - 5 * MSS && line.model.bounds.hi < hi, "{:?}", line.model.bounds);
    line.model.undo(&mut line.window);
    assert_eq!((line.model.bounds.hi, line.window.cwnd()), (hi, cwnd));
    assert_eq!(line.model.bounds.rate_lo, u64::MAX);
}

#[test]
fn a_timeout_is_judged_by_what_was_in_flight_and_not_by_what_is_sent_after_it() {
    let mut line = line_in(State::Up, 4);
    line.run(10_000);
    let (flight, cwnd) = (line.in_flight, line.window.cwnd());
    assert!(line.model.state() == State::Up && flight >= 20 * MSS, "{:?} {flight}", line.model.state());
    line.now += 300_000;
    line.model.due = line.at().plus(1_000_000);
    line.window.on_timeout(flight, MSS, true, Some(&mut Memory::Model(0)));
    line.in_flight = 0;
    let heard = line.heard(flight, true);
    line.model.timed_out(&heard);
    assert_eq!(line.model.due(), heard.now, "what is lost goes again at once");
    // One segment goes again, and is answered.
    line.lost += flight - MSS;
    let again = Left {
        end: Seq::new(line.arrived + MSS),
        octets: MSS,
        new: false,
        in_flight: MSS,
        dry: false,
        srtt_us: 20_000,
        mss: MSS,
        now: line.at(),
    };
    line.model.sent(&again);
    (line.now, line.arrived, line.lost) = (line.now + 20_000, line.arrived + MSS, line.lost + MSS);
    let heard = Heard { highest: again.end, ..line.heard(0, true) };
    line.model.heard(&mut line.window, &heard);
    assert!(line.model.bounds.hi >= 14 * MSS, "seven tenths of twenty: {}", line.model.bounds.hi);
    assert!(line.window.cwnd() <= 2 * MSS, "{}", line.window.cwnd());
    line.model.heard(&mut line.window, &Heard { arrived: heard.arrived + MSS, repairing: false, ..heard });
    assert!(line.window.cwnd() >= line.model.bounds.hi.min(cwnd), "{} {cwnd}", line.window.cwnd());
}

#[test]
fn the_search_for_the_round_trip_ends_however_long_the_connection_was_idle() {
    for (minutes, why) in
        [(1, "soon"), (5, "beyond the farthest deadline"), (70, "before microseconds begin anew")]
    {
        let mut line = line_in(State::ProbeRtt, 8);
        line.run(100_000);
        assert!(line.model.probe_rtt_done.is_some() && line.model.state() == State::ProbeRtt);
        line.idle(minutes * 60 * SECOND);
        line.send(true);
        assert_eq!(line.model.state(), State::Cruise, "{minutes} minutes: {why}");
    }
}

#[test]
fn who_only_receives_does_not_probe() {
    let mut line = Line::new();
    line.run(3 * SECOND);
    line.idle(SECOND);
    let (state, cwnd) = (line.model.state(), line.window.cwnd());
    for _ in 0..600 {
        line.now += SECOND;
        let heard = line.heard(0, false);
        line.model.heard(&mut line.window, &heard);
        assert_eq!((line.model.state(), line.window.cwnd()), (state, cwnd), "after {} us", line.now);
    }
    let rate = line.run(SECOND);
    assert!(rate > 900_000, "{rate} octets a second");
}

/// A rate of a hundred gigabits, and an answer after forty minutes.
#[test]
fn no_rate_and_no_time_is_too_much_for_a_product() {
    let mut line = Line::new();
    line.run(SECOND);
    line.model.rates = [12_500_000_000; 2];
    line.now += 40 * 60 * SECOND;
    line.answer();
    line.model.rates = [1_u64 << 52; 2];
    line.answer();
    assert!(line.window.cwnd() >= MIN_PIPE * MSS);
}

#[test]
fn a_queue_that_does_not_drain_is_left_after_three_round_trips() {
    let mut line = Line::new();
    line.queue = 400_000;
    while line.model.state() == State::Startup {
        line.run(1_000);
    }
    assert_eq!(line.model.state(), State::Drain);
    // Somebody else has come: half of what was measured is still more than what is left.
    line.rate = 200;
    line.run(2 * SECOND);
    assert_ne!(line.model.state(), State::Drain, "a round trip takes 220 ms now");
}

#[test]
fn without_a_model_it_is_reno() {
    let mut window = Congestion::new(CongestionAlgorithm::Bbr, 10 * MSS);
    let mut reno = Congestion::new(CongestionAlgorithm::NewReno, 10 * MSS);
    for flow in [&mut window, &mut reno] {
        flow.on_loss(20 * MSS, MSS, None);
    }
    assert_eq!((window.cwnd(), window.ssthresh()), (reno.cwnd(), reno.ssthresh()));
    for flow in [&mut window, &mut reno] {
        flow.on_timeout(20 * MSS, MSS, true, Some(&mut Memory::Nothing));
        flow.on_idle(10 * MSS, None);
    }
    assert_eq!((window.cwnd(), window.ssthresh()), (reno.cwnd(), reno.ssthresh()));
    let mut modelled = Congestion::new(CongestionAlgorithm::Bbr, 10 * MSS);
    modelled.on_loss(20 * MSS, MSS, Some(&mut Memory::Model(0)));
    assert_eq!(modelled.cwnd(), 10 * MSS, "the model decides");
}
