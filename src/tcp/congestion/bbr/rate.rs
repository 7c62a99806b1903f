//! How fast the path delivers, measured by what left and what arrived between two segments
//! (draft-ietf-ccwg-bbr, "Delivery Rate Samples").
#![forbid(unsafe_code)]

use super::Left;
use crate::base::{Micros32, Seq};

/// What is remembered of the moment in which a segment left.
#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    /// One past its last octet.
    end: Seq,
    at: Micros32,
    /// Octets delivered until then, and when the last of them were.
    delivered: u32,
    delivered_at: Micros32,
    /// When the segment left that was delivered last.
    first_sent: Micros32,
    /// Octets lost until then.
    lost: u32,
    /// Octets in flight, with its own.
    in_flight: u32,
    limited: bool,
    again: bool,
}

const _: () = assert!(size_of::<Mark>() == 32);

/// What a segment that was delivered says of the path between when it left and now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Octets delivered in a second; `None` where the time was too short to say.
    pub rate: Option<u64>,
    /// From when it left until now, microseconds; `None` where that was not the first time (Karn).
    pub rtt_us: Option<u32>,
    /// Octets delivered in that time.
    pub delivered: u32,
    /// Octets that had been delivered when it left, modulo 2^32.
    pub prior: u32,
    /// Octets in flight when it had left.
    pub in_flight: u32,
    /// Octets lost since then.
    pub lost: u32,
    /// The rate is that of the application, or of a window, and not of the path.
    pub limited: bool,
}

/// Counts what arrives, and marks segments to measure by.
///
/// Not every segment has a mark: those that left less than 1/32 of SRTT after the last mark have none.
#[derive(Clone, Copy, Debug)]
pub struct Sampler {
    marks: [Mark; Self::MARKS as usize],
    first: u8,
    len: u8,
    delivered: u32,
    delivered_at: Micros32,
    first_sent: Micros32,
    lost: u32,
    /// The highest octet that was delivered.
    highest: Option<Seq>,
    /// What is delivered up to here was sent with nothing more to send.
    limited_until: Option<u32>,
}

impl Sampler {
    const MARKS: u8 = 64;

    /// Nothing was sent.
    pub fn new(now: Micros32) -> Self {
        Self {
            marks: [Mark::default(); Self::MARKS as usize],
            first: 0,
            len: 0,
            delivered: 0,
            delivered_at: now,
            first_sent: now,
            lost: 0,
            highest: None,
            limited_until: None,
        }
    }

    /// Octets delivered, modulo 2^32.
    pub const fn delivered(&self) -> u32 {
        self.delivered
    }

    /// Octets left; `grain_us` is how close two marks may be, microseconds.
    pub fn sent(&mut self, left: &Left, grain_us: u32) {
        let &Left { end, in_flight, now, .. } = left;
        if left.is_alone() {
            // Time in which nothing was on its way says nothing of the path.
            (self.delivered_at, self.first_sent) = (now, now);
        }
        let last = self.len.checked_sub(1).map(|last| self.marks[self.place(last)]);
        let close = last.is_some_and(|last| now.since(last.at) < grain_us || !last.end.before(end));
        // What was sent again in the middle, its answer tells nothing: more has arrived than it.
        let passed = self.highest.is_some_and(|highest| end.at_or_before(highest));
        if close || passed || self.len == Self::MARKS {
            return;
        }
        let at = self.place(self.len);
        self.marks[at] = Mark {
            end,
            at: now,
            delivered: self.delivered,
            delivered_at: self.delivered_at,
            first_sent: self.first_sent,
            lost: self.lost,
            in_flight,
            limited: self.limited_until.is_some(),
            again: !left.new,
        };
        self.len += 1;
    }

    /// Nothing more is to be sent, though more could be in flight than the `in_flight` octets that are.
    pub const fn ran_dry(&mut self, in_flight: u32) {
        self.limited_until = Some(self.delivered.wrapping_add(in_flight));
    }

    /// In all `octets` more have arrived, up to `end` the highest, and `lost` more were lost. Returns what the
    /// last of the marked segments among them tells.
    pub fn heard(
        &mut self,
        octets: u32,
        lost: u32,
        end: Seq,
        min_rtt_us: u32,
        now: Micros32,
    ) -> Option<Sample> {
        self.lost = self.lost.wrapping_add(lost);
        if octets == 0 {
            return None;
        }
        self.delivered = self.delivered.wrapping_add(octets);
        self.delivered_at = now;
        self.highest = Some(self.highest.map_or(end, |highest| highest.later(end)));
        // Counts modulo 2^32: no more than 2^30 octets are ever in flight.
        let passed = |until: &u32| self.delivered.wrapping_sub(*until).wrapping_sub(1) < 1 << 31;
        if self.limited_until.as_ref().is_some_and(passed) {
            self.limited_until = None;
        }
        let mut mark = None;
        while self.len > 0 && self.marks[self.place(0)].end.at_or_before(end) {
            mark = Some(self.marks[self.place(0)]);
            self.first = (self.first + 1) % Self::MARKS;
            self.len -= 1;
        }
        let mark = mark?;
        self.first_sent = mark.at;
        let (sending, arriving) = (mark.at.since(mark.first_sent), now.since(mark.delivered_at));
        let interval_us = sending.max(arriving);
        let delivered = self.delivered.wrapping_sub(mark.delivered);
        // Less than the least round trip: the answer was to something else.
        let rate = (interval_us > 0 && interval_us >= min_rtt_us)
            .then(|| u64::from(delivered) * 1_000_000 / u64::from(interval_us));
        Some(Sample {
            rate,
            rtt_us: (!mark.again).then(|| now.since(mark.at)),
            delivered,
            prior: mark.delivered,
            in_flight: mark.in_flight,
            lost: self.lost.wrapping_sub(mark.lost),
            limited: mark.limited,
        })
    }

    /// Everything in flight is lost, and its marks with it; `lost` octets of that were not known to be.
    pub const fn lost_all(&mut self, lost: u32) {
        self.lost = self.lost.wrapping_add(lost);
        self.len = 0;
    }

    const fn place(&self, nth: u8) -> usize {
        ((self.first + nth) % Self::MARKS) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Instant;

    const MS: u64 = 1_000;

    fn us(us: u64) -> Micros32 {
        // Micros32 begins anew on the way.
        Micros32::floor(Instant::from_micros((1 << 32) - 5_000 + us))
    }

    fn seq(n: u32) -> Seq {
        Seq::new(u32::MAX - 2_500) + n
    }

    fn left(end: u32, in_flight: u32, at: u64) -> Left {
        let now = us(at);
        let octets = 1_000;
        Left { end: seq(end), octets, new: true, in_flight, dry: false, srtt_us: 0, mss: 1_000, now }
    }

    /// Ten segments of 1,000 octets, one each millisecond from 0 on.
    fn ten_sent() -> Sampler {
        let mut sampler = Sampler::new(us(0));
        for n in 0..10u32 {
            let end = 1_000 * (n + 1);
            sampler.sent(&left(end, end, MS * u64::from(n)), 100);
        }
        sampler
    }

    #[test]
    fn the_rate_is_that_at_which_octets_arrive() {
        let mut sampler = ten_sent();
        // The link delivers one each two milliseconds, from 20 ms on.
        for n in 0..10u32 {
            let now = us(20 * MS + 2 * MS * u64::from(n));
            let sample = sampler.heard(1_000, 0, seq(1_000 * (n + 1)), 0, now).expect("each has a mark");
            let arrived = 1_000 * (n + 1);
            assert_eq!((sample.delivered, sample.prior), (arrived, 0), "all left before anything arrived");
            assert_eq!(sample.rtt_us, Some(20_000 + 1_000 * n));
            let rate = u64::from(arrived) * 1_000 / (20 + 2 * u64::from(n));
            assert_eq!(sample.rate, Some(rate), "in the time since the first left");
            assert_eq!(sample.in_flight, arrived);
        }
    }

    #[test]
    fn acknowledgments_that_come_all_at_once_do_not_make_a_path_fast() {
        let mut sampler = ten_sent();
        let first = sampler.heard(5_000, 0, seq(5_000), 0, us(20 * MS)).expect("a sample");
        assert_eq!(first.rate, Some(5_000 * 1_000 / 20));
        // One more left after that, and is delivered with the other five.
        sampler.sent(&left(11_000, 6_000, 20 * MS), 100);
        let second = sampler.heard(6_000, 0, seq(11_000), 0, us(40 * MS)).expect("a sample");
        assert_eq!((second.rate, second.prior), (Some(6_000 * 1_000 / 20), 5_000));
    }

    #[test]
    fn what_was_sent_slowly_did_not_arrive_fast() {
        let mut sampler = Sampler::new(us(0));
        sampler.sent(&left(1_000, 1_000, 0), 100);
        sampler.heard(1_000, 0, seq(1_000), 0, us(MS)).expect("a sample");
        sampler.sent(&left(2_000, 2_000, 9 * MS), 100);
        let sample = sampler.heard(1_000, 0, seq(2_000), 0, us(10 * MS)).expect("a sample");
        assert_eq!(sample.rate, Some(1_000 * 1_000 / 9), "nine milliseconds between the two");
    }

    #[test]
    fn an_answer_sooner_than_any_can_be_measures_no_rate() {
        for (min_rtt_us, rate) in [(20_000, Some(50_000)), (20_001, None)] {
            let mut sampler = ten_sent();
            let sample = sampler.heard(1_000, 0, seq(1_000), min_rtt_us, us(20 * MS)).expect("a sample");
            assert_eq!(sample.rate, rate);
        }
    }

    #[test]
    fn a_rate_is_the_applications_until_what_was_in_flight_when_it_ran_dry_has_arrived() {
        let mut sampler = ten_sent();
        sampler.ran_dry(10_000);
        sampler.sent(&left(11_000, 11_000, 10 * MS), 100);
        let sample = sampler.heard(10_000, 0, seq(10_000), 0, us(20 * MS)).expect("a sample");
        assert!(!sample.limited, "all of it left before");
        sampler.sent(&left(12_000, 2_000, 20 * MS), 100);
        assert!(sampler.heard(1_000, 0, seq(11_000), 0, us(30 * MS)).expect("a sample").limited);
        sampler.sent(&left(13_000, 2_000, 30 * MS), 100);
        assert!(sampler.heard(1_000, 0, seq(12_000), 0, us(40 * MS)).expect("a sample").limited);
        assert!(!sampler.heard(1_000, 0, seq(13_000), 0, us(50 * MS)).expect("a sample").limited);
    }

    #[test]
    fn losses_are_counted_from_when_a_segment_left() {
        let mut sampler = ten_sent();
        assert_eq!(
            sampler.heard(1_000, 2_000, seq(1_000), 0, us(20 * MS)).map(|sample| sample.lost),
            Some(2_000)
        );
        sampler.sent(&left(11_000, 8_000, 21 * MS), 100);
        let sample = sampler.heard(6_000, 1_000, seq(11_000), 0, us(41 * MS)).expect("a sample");
        assert_eq!(sample.lost, 1_000, "the two before were lost before it left");
        assert_eq!(sampler.heard(1_000, 0, seq(11_000), 0, us(42 * MS)), None, "sent again: no mark is left");
    }

    #[test]
    fn what_was_sent_again_measures_no_round_trip_and_in_the_middle_nothing() {
        let mut sampler = ten_sent();
        sampler.heard(1_000, 0, seq(3_000), 0, us(20 * MS)).expect("a sample");
        sampler.lost_all(7_000);
        sampler.sent(&Left { new: false, ..left(3_000, 1_000, 90 * MS) }, 100);
        sampler.sent(&Left { new: false, ..left(4_000, 2_000, 90 * MS) }, 100);
        assert_eq!(sampler.heard(1_000, 0, seq(3_000), 0, us(91 * MS)), None, "it is known to be there");
        let sample = sampler.heard(1_000, 0, seq(4_000), 0, us(110 * MS)).expect("a sample");
        assert_eq!((sample.rtt_us, sample.rate), (None, Some(2_000 * 1_000 / 20)));
    }

    #[test]
    fn marks_keep_their_distance_and_are_bounded() {
        let mut sampler = Sampler::new(us(0));
        for n in 0..500u32 {
            sampler.sent(&left(10 * (n + 1), 2_000, 10 * u64::from(n)), 50);
        }
        let mut ends = std::vec::Vec::new();
        for n in 0..500u32 {
            if sampler.heard(10, 0, seq(10 * (n + 1)), 0, us(10 * MS + u64::from(n))).is_some() {
                ends.push(n);
            }
        }
        let want: std::vec::Vec<_> = (0..64).map(|n| 5 * n).collect();
        assert_eq!(ends, want, "one in five, until there is no place");
    }
}
