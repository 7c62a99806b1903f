//! What the link promises: its arithmetic as tables, and that no frame vanishes, whatever it is told to do.
#![forbid(unsafe_code)]

use std::vec;

use proptest::prelude::*;

use super::*;
use crate::base::Rng;
use crate::wire::{Ipv4Fields, Ipv4View, Mac, PROTOCOL_TCP, ethernet, ipv4};

const CLEAN: LinkConfig = LinkConfig::PERFECT;
/// A megabit a second: an octet takes 8 microseconds.
const SLOW: LinkConfig = LinkConfig { rate_bps: 1_000_000, ..CLEAN };

fn us(us: u64) -> Instant {
    Instant::from_micros(us)
}

/// When the frames of so many octets arrive that are offered at those microseconds; the number of each is in its
/// first octet.
fn arrivals(config: LinkConfig, offers: &[(u64, usize)]) -> (Vec<(u64, u8)>, LinkStats) {
    let (mut link, mut held, mut rng) = (Link::new(config), Held::default(), Rng::new(1));
    for (number, &(at, len)) in (0..).zip(offers) {
        let mut frame = vec![0; len];
        frame[0] = number;
        link.offer(us(at), frame, &mut rng, |due, frame| held.put(due, frame));
    }
    let mut arrived = Vec::new();
    while let Some(due) = held.next_due() {
        arrived.push((due.as_micros(), held.take_due(due).expect("it is due")[0]));
    }
    (arrived, link.stats())
}

#[test]
fn a_frame_is_sent_after_those_before_it_and_then_under_way() {
    let late = LinkConfig { delay_us: 500, ..SLOW };
    for (config, offers, want, why) in [
        (CLEAN, &[(5, 99), (5, 1)][..], &[(5, 0), (5, 1)][..], "a perfect link keeps nothing"),
        (SLOW, &[(0, 100)], &[(800, 0)], "a hundred octets are 800 bits"),
        (SLOW, &[(0, 100), (0, 50)], &[(800, 0), (1_200, 1)], "the second waits for the first"),
        (SLOW, &[(0, 100), (799, 50)], &[(800, 0), (1_200, 1)], "as long as it takes, and no longer"),
        (SLOW, &[(0, 100), (900, 50)], &[(800, 0), (1_300, 1)], "a link that rested has saved nothing"),
        (late, &[(0, 100), (0, 50)], &[(1_300, 0), (1_700, 1)], "the delay comes on top, for each"),
    ] {
        assert_eq!(arrivals(config, offers).0, want, "{why}");
    }
}

#[test]
fn what_finds_no_room_in_the_queue_is_lost() {
    use QueueLimit::{Octets, Packets};
    // Four at once, and one more when the first has been sent.
    let offers = [(0, 100), (0, 100), (0, 100), (0, 100), (800, 100)];
    for (queue, want, why) in [
        (Packets(9), &[0, 1, 2, 3, 4][..], "there is room for all"),
        (Packets(2), &[0, 1, 4], "the one being sent counts, until it has been"),
        (Packets(0), &[], "no room at all"),
        (Octets(200), &[0, 1, 4], "so many octets fit exactly"),
        (Octets(199), &[0, 4], "an octet too few"),
        (Octets(0), &[0, 4], "an idle link takes any frame"),
    ] {
        let (arrived, stats) = arrivals(LinkConfig { queue, ..SLOW }, &offers);
        let numbers: Vec<_> = arrived.iter().map(|(_, number)| *number).collect();
        assert_eq!(numbers, want, "{queue:?}: {why}");
        assert_eq!(stats.queue_full, (offers.len() - want.len()) as u64, "{queue:?}");
    }
}

#[test]
fn what_is_larger_than_the_link_carries_vanishes() {
    for (mtu, tag, len, passes, why) in [
        (0, 0, 9_000, true, "no limit"),
        (1_300, 0, 1_300, true, "the largest that it carries"),
        (1_300, 0, 1_301, false, "an octet more"),
        (1_300, 4, 1_300, true, "a VLAN tag is no part of the packet"),
        (1_300, 4, 1_301, false, "nor makes it smaller"),
    ] {
        let mut link = Link::new(LinkConfig { mtu, ..CLEAN });
        let mut frame = vec![0; 14 + tag + len];
        let ether_type = if tag > 0 { [0x81, 0x00, 0, 7, 8, 0] } else { [8, 0, 0, 0, 0, 0] };
        frame[12..18].copy_from_slice(&ether_type);
        let mut arrived = 0;
        link.offer(us(1), frame, &mut Rng::new(1), |_, _| arrived += 1);
        assert_eq!((arrived, link.stats().too_large), (usize::from(passes), u64::from(!passes)), "{why}");
    }
}

#[test]
fn divisions_leave_nothing_behind() {
    // 10,007 frames of one octet at 3 bits a second less than 3 Mbit/s: none takes whole nanoseconds.
    let config = LinkConfig { rate_bps: 2_999_997, queue: QueueLimit::Packets(u32::MAX), ..CLEAN };
    let (mut link, mut rng, mut last) = (Link::new(config), Rng::new(1), Instant::ZERO);
    for _ in 0..10_007 {
        link.offer(Instant::ZERO, vec![0], &mut rng, |due, _| last = due);
    }
    assert_eq!(last.as_nanos(), 10_007 * 8 * 1_000_000_000 / 2_999_997);
}

#[test]
fn accidents_happen_as_often_as_they_should() {
    let bursts = |loss, mean| LinkConfig { bursts: Some(Bursts::new(loss, mean)), ..CLEAN };
    let count = |config, what: fn(&LinkStats) -> u64| {
        let offers = vec![(0, 60); 200];
        let (mut link, mut rng) = (Link::new(config), Rng::new(7));
        for &(at, len) in offers.iter().cycle().take(100_000) {
            link.offer(us(at), tcp_frame(len), &mut rng, |_, _| ());
        }
        what(&link.stats())
    };
    for (config, what, want, why) in [
        (LinkConfig { loss: 10_000, ..CLEAN }, (|s| s.lost) as fn(&LinkStats) -> u64, 900..1_100, "1 %"),
        (LinkConfig { loss: 0, ..CLEAN }, |s| s.lost, 0..1, "never"),
        (LinkConfig { loss: CERTAIN, ..CLEAN }, |s| s.lost, 100_000..100_001, "always"),
        (LinkConfig { duplicate: 50_000, ..CLEAN }, |s| s.duplicated, 4_700..5_300, "5 %"),
        (LinkConfig { corrupt: 20_000, ..CLEAN }, |s| s.corrupted, 1_800..2_200, "2 %"),
        (LinkConfig { reorder: 50_000, ..CLEAN }, |s| s.reordered, 4_700..5_300, "5 %"),
        (LinkConfig { replay: 50_000, ..CLEAN }, |s| s.replayed, 4_700..5_300, "5 %"),
        (LinkConfig { mark: Mark::Share(50_000), ..CLEAN }, |s| s.marked, 4_700..5_300, "5 %"),
        (bursts(10_000, 1), |s| s.lost_in_bursts, 850..1_150, "1 %, one by one"),
        (bursts(10_000, 10), |s| s.lost_in_bursts, 700..1_300, "1 %, ten in a row"),
        (bursts(0, 10), |s| s.lost_in_bursts, 0..1, "never"),
        (bursts(CERTAIN, 10), |s| s.lost_in_bursts, 100_000..100_001, "always"),
    ] {
        let got = count(config, what);
        assert!(want.contains(&got), "{why}: {got} not in {want:?}, {config:?}");
    }
}

#[test]
fn bursts_have_their_mean_length() {
    for mean_len in [1, 3, 10] {
        let config = LinkConfig { bursts: Some(Bursts::new(50_000, mean_len)), ..CLEAN };
        let (mut link, mut rng, mut bursts, mut in_burst) = (Link::new(config), Rng::new(3), 0, false);
        for _ in 0..200_000 {
            let mut arrives = false;
            link.offer(Instant::ZERO, vec![0], &mut rng, |_, _| arrives = true);
            bursts += u64::from(!arrives && !in_burst);
            in_burst = !arrives;
        }
        // A burst may follow another at once, so what is seen is a little longer.
        let mean = link.stats().lost_in_bursts as f64 / bursts as f64;
        assert!((0.9..1.2).contains(&(mean / f64::from(mean_len))), "{mean} instead of {mean_len}");
    }
}

/// An Ethernet frame with an IPv4 packet of a transport that is ECN-capable.
fn tcp_frame(len: usize) -> Vec<u8> {
    framed(0b10, len)
}

fn framed(ecn: u8, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    let at = ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), None, ETHER_TYPE_IPV4);
    let fields = Ipv4Fields {
        src: [10, 0, 0, 1].into(),
        dst: [10, 255, 3, 2].into(),
        dscp: 5,
        ecn,
        ttl: 64,
        protocol: PROTOCOL_TCP,
        payload_len: u16::try_from(len - at - ipv4::HEADER_LEN).expect("short"),
    };
    ipv4::emit(&mut frame[at..], &fields);
    frame
}

#[test]
fn only_an_ecn_capable_transport_is_marked_and_checksums_stay_right() {
    for (ecn, want, is_new) in
        [(0b00, 0b00, false), (0b01, 0b11, true), (0b10, 0b11, true), (0b11, 0b11, false)]
    {
        let mut frame = framed(ecn, 60);
        assert_eq!(mark(&mut frame), is_new, "{ecn:02b}");
        let view = Ipv4View::parse(&frame[ethernet::HEADER_LEN..]).expect("its checksum is right");
        assert_eq!((view.header.ecn(), view.header.dscp()), (want, 5), "{ecn:02b}");

        // IPv6: version 6, traffic class 0x50 | ecn, flow label 0xabcde.
        let mut frame = vec![0; ethernet::HEADER_LEN + 40];
        ethernet::emit(&mut frame, Mac([2; 6]), Mac([4; 6]), None, ETHER_TYPE_IPV6);
        frame[14..18].copy_from_slice(&[0x65, ecn << 4 | 0x0a, 0xbc, 0xde]);
        assert_eq!(mark(&mut frame), is_new, "{ecn:02b}");
        assert_eq!(frame[14..18], [0x65, want << 4 | 0x0a, 0xbc, 0xde], "{ecn:02b}");
    }
}

#[test]
fn marks_begin_where_the_queue_is_long() {
    let config = LinkConfig { mark: Mark::Above(2), ..SLOW };
    let (mut link, mut rng, mut marks) = (Link::new(config), Rng::new(1), Vec::new());
    for _ in 0..4 {
        link.offer(us(0), tcp_frame(60), &mut rng, |_, frame| marks.push(frame[15] & 3 == 3));
    }
    assert_eq!(marks, [false, false, true, true], "the third finds two");
}

#[test]
fn damage_is_one_bit_of_an_ip_packet() {
    let config = LinkConfig { corrupt: CERTAIN, ..CLEAN };
    let (mut link, mut rng) = (Link::new(config), Rng::new(1));
    for _ in 0..200 {
        let before = tcp_frame(60);
        link.offer(us(0), before.clone(), &mut rng, |_, after| {
            let flipped: u32 = before.iter().zip(&after).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!((flipped, &before[..14]), (1, &after[..14]));
        });
    }
    let mut arp = vec![0x5a; 42];
    ethernet::emit(&mut arp, Mac([2; 6]), Mac([4; 6]), None, ethernet::ETHER_TYPE_ARP);
    for frame in [arp, tcp_frame(60)[..14].to_vec(), vec![1, 2, 3]] {
        link.offer(us(0), frame.clone(), &mut rng, |_, after| assert_eq!(frame, after, "nothing to damage"));
    }
}

#[test]
fn a_late_frame_is_overtaken() {
    let config = LinkConfig { delay_us: 1_000, reorder: 300_000, reorder_us: 250, ..CLEAN };
    let offers: Vec<_> = (0..100).map(|n| (n * 100, 60)).collect();
    let (arrived, stats) = arrivals(config, &offers);
    let late: Vec<_> = arrived.iter().map(|&(at, number)| at - u64::from(number) * 100).collect();
    assert!(late.iter().all(|&late| late == 1_000 || late == 1_250), "{late:?}");
    let overtaken = late.iter().filter(|&&late| late == 1_250).count() as u64;
    assert_eq!((overtaken, arrived.len()), (stats.reordered, 100));
    assert!(!arrived.is_sorted_by_key(|(_, number)| *number));
}

#[test]
fn the_lifetime_covers_the_queue_and_all_that_comes_after_it() {
    let wire = LinkConfig { delay_us: 10, jitter_us: 20, reorder_us: 30, replay_us: 40, ..SLOW };
    for (queue, want_us, why) in [
        (QueueLimit::Packets(3), 100 + 3 * 800, "three frames of 100 octets"),
        (QueueLimit::Octets(200), 100 + 1_600, "200 octets"),
        (QueueLimit::Octets(0), 100 + 800, "one frame all the same"),
    ] {
        let lifetime = LinkConfig { queue, ..wire }.lifetime_max(100);
        assert_eq!(lifetime, Duration::from_nanos(want_us * 1_000 + 1), "{why}");
    }
    assert_eq!(LinkConfig { rate_bps: 0, ..wire }.lifetime_max(100), Duration::from_micros(100));
}

fn chance() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 0..200_000u32, Just(CERTAIN)]
}

prop_compose! {
    fn any_link()(
        rate_bps in prop_oneof![Just(0), 1_000..1_000_000_000u64],
        queue in prop_oneof![
            (0..20u32).prop_map(QueueLimit::Packets),
            (0..20_000u64).prop_map(QueueLimit::Octets),
        ],
        mark in prop_oneof![
            Just(Mark::Never), (0..9u32).prop_map(Mark::Above), chance().prop_map(Mark::Share)
        ],
        mtu in prop_oneof![3 => Just(0), 1 => 20..1_500u16],
        wire in (0..5_000u32, 0..5_000u32, 0..5_000u32, 0..50_000u32),
        bursts in prop::option::of((chance(), 1..10u32).prop_map(|(loss, len)| Bursts::new(loss, len))),
        chances in [chance(), chance(), chance(), chance(), chance()],
    ) -> LinkConfig {
        let (delay_us, jitter_us, reorder_us, replay_us) = wire;
        let [loss, reorder, duplicate, corrupt, replay] = chances;
        LinkConfig {
            rate_bps, queue, mtu, mark, delay_us, jitter_us, loss, bursts, reorder, reorder_us, duplicate, corrupt,
            replay, replay_us,
        }
    }
}

proptest! {
    #[test]
    fn no_frame_vanishes_and_none_comes_early_or_too_late(
        config in any_link(),
        seed: u64,
        offers in prop::collection::vec((0..3_000u64, 34..1_514usize), 0..100),
    ) {
        let (mut link, mut held, mut rng) = (Link::new(config), Held::default(), Rng::new(seed));
        let (mut now, mut taken) = (0, 0);
        for (gap, len) in offers {
            now += gap;
            let least = us(now).plus_micros(config.delay_us.into());
            let most = us(now) + config.lifetime_max(1_514);
            let mut put = Vec::new();
            link.offer(us(now), tcp_frame(len), &mut rng, |due, frame| put.push((due, frame)));
            for (due, frame) in put {
                prop_assert!(least <= due && due <= most && frame.len() == len);
                held.put(due, frame);
            }
            while held.take_due(us(now)).is_some() {
                taken += 1;
            }
            prop_assert!(held.next_due().is_none_or(|due| due > us(now)));
            let stats = link.stats();
            prop_assert_eq!(stats.offered + stats.repeated(), stats.passed + stats.dropped());
            prop_assert_eq!(stats.passed, taken + held.len() as u64);
        }
    }

    #[test]
    fn the_order_is_kept_and_the_rate_too_over_any_window(
        config in any_link(),
        seed: u64,
        offers in prop::collection::vec((0..3_000u64, 34..1_514usize), 1..60),
    ) {
        // Whatever comes later than others may come beside others.
        let config = LinkConfig { jitter_us: 0, reorder: 0, replay: 0, ..config };
        let (mut link, mut rng, mut now) = (Link::new(config), Rng::new(seed), 0);
        let mut arrived = Vec::new();
        for (gap, len) in offers {
            now += gap;
            link.offer(us(now), tcp_frame(len), &mut rng, |due, frame| arrived.push((due, frame.len() as u128)));
        }
        prop_assert!(arrived.is_sorted_by_key(|(due, _)| *due));
        if config.rate_bps > 0 {
            for (first, (from, _)) in arrived.iter().enumerate() {
                let mut octets = 0;
                for (to, len) in &arrived[first + 1..] {
                    octets += len;
                    // Instants are whole nanoseconds.
                    let ns = to.since(*from).as_nanos() + 1;
                    prop_assert!(octets * 8 * 1_000_000_000 <= u128::from(config.rate_bps) * ns);
                }
            }
        }
    }

    #[test]
    fn the_seed_decides_everything(config in any_link(), seed: u64) {
        let run = || {
            let (mut link, mut rng, mut all) = (Link::new(config), Rng::new(seed), Vec::new());
            (0..20).for_each(|n| link.offer(us(n), tcp_frame(100), &mut rng, |due, frame| all.push((due, frame))));
            all
        };
        prop_assert_eq!(run(), run());
    }
}
