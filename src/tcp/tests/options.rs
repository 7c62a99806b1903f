//! What both ends agree on in their SYNs: MSS, window scale, SACK, timestamps.
#![forbid(unsafe_code)]

use super::host::opening;
use super::segments::Sent;
use super::*;
use crate::tcp::{FlowOptions, HalfOpen, TcpConfig};

fn all(config: &mut TcpConfig, _: &mut FlowOptions) {
    *config = TcpConfig::default();
}

#[test]
fn a_syn_offers_everything_and_a_plain_answer_takes_it_all_away() {
    let mut host = Host::opening_with(all);
    let syn = host.expect("S 0+0");
    assert_eq!((syn.options.mss, syn.options.window_scale), (Some(1_000), Some(7)));
    assert!(syn.options.sack_permitted);
    assert_eq!(syn.options.timestamps.map(|ts| (ts.val, ts.ecr)), Some((5_000 + 7_000, 0)));
    assert_eq!(syn.out.wnd, u16::MAX, "not scaled");
    let plain = sa().wnd(100).option(|options| options.mss = None);
    host.recv(plain);
    let ack = host.expect("A 1+0 ack 1");
    assert_eq!(ack.options, crate::wire::TcpOptions::default());
    let info = host.info();
    assert_eq!((info.mss, info.snd_wnd, ack.out.wnd), (536, 100, u16::MAX));
    host.recv(pa(1, 1, 10));
    host.recv(pa(21, 1, 10));
    assert_eq!(host.expect("A 1+0 ack 11").options, crate::wire::TcpOptions::default());
}

#[test]
fn a_full_answer_agrees_on_everything() {
    let mut host = Host::opening_with(all);
    host.expect("S 0+0");
    host.recv(sa().mss(900).scale(2).sack().stamp(40).wnd(500));
    let ack = host.expect("A 1+0 ack 1");
    assert_eq!(host.info().snd_wnd, 500, "the window of a SYN is not scaled");
    assert_eq!(host.info().mss, 900 - 12);
    assert_eq!(ack.options.timestamps.map(|ts| (ts.val, ts.ecr)), Some((12_000, 40)));
    assert_eq!(u32::from(ack.out.wnd) << 7, 65_408, "what the scale lets it say of 65,535");
    host.recv(a(1, 1).wnd(500).stamp(41));
    assert_eq!(host.info().snd_wnd, 2_000);
    host.recv(pa(11, 1, 10).stamp(42));
    let blocks = host.expect("A 1+0 ack 1").options.sack;
    let (from, to) = (super::segments::IRS + 11, super::segments::IRS + 21);
    assert_eq!(blocks.as_slice(), [(from, to)]);
}

#[test]
fn what_is_switched_off_is_neither_offered_nor_accepted() {
    let mut host = Host::opening_with(|_, _| {});
    let syn = host.expect("S 0+0").options;
    assert_eq!((syn.window_scale, syn.timestamps, syn.sack_permitted), (None, None, false));
    host.recv(sa().scale(5).stamp(3).sack().wnd(700));
    let ack = host.expect("A 1+0 ack 1");
    assert_eq!(ack.options.timestamps, None);
    host.recv(a(1, 1).wnd(700));
    assert_eq!(host.info().snd_wnd, 700);
    host.recv(pa(11, 1, 10));
    assert_eq!(host.expect("A 1+0 ack 1").options.sack.len, 0);
}

/// A SYN-ACK repeats what the SYN offered and we want.
#[test]
fn a_syn_ack_agrees_to_what_was_offered_only() {
    let config = TcpConfig::default();
    let now = crate::base::Instant::from_millis(9);
    let answer = |syn: Seg| {
        let half = HalfOpen::new(&syn.segment(), super::segments::ISS, now);
        Sent::bare(half.syn_ack(&opening(super::segments::ISS, now), &FlowOptions::default(), &config))
    };
    let full = answer(s().scale(7).sack().stamp(44));
    assert_eq!((full.options.mss, full.options.window_scale), (Some(1_000), Some(7)));
    assert!(full.options.sack_permitted);
    assert_eq!(full.options.timestamps.map(|ts| (ts.val, ts.ecr)), Some((7_009, 44)));
    assert_eq!((full.out.wnd, full.out.ack), (u16::MAX, super::segments::IRS + 1));
    let plain = answer(s()).options;
    assert_eq!((plain.window_scale, plain.sack_permitted, plain.timestamps), (None, false, None));
    assert_eq!(plain.mss, Some(1_000));
}

#[test]
fn a_half_open_connection_remembers_what_was_agreed() {
    let mut host = Host::half_open(&s().mss(800).scale(4).sack().stamp(9), all);
    host.recv(a(1, 1).wnd(100).stamp(10));
    let info = host.info();
    assert_eq!((info.mss, info.snd_wnd), (788, 1_600));
    host.send(1);
    let sent = host.expect("PA 1+1 ack 1");
    assert_eq!(sent.options.timestamps.map(|ts| ts.ecr), Some(10));
    assert_eq!(u32::from(sent.out.wnd) << 7, 65_408, "what the scale lets it say of 65,535");
}

#[test]
fn the_smallest_mss_anyone_can_announce_still_leaves_room_for_text() {
    for (theirs, ours, stamps, want) in [
        (1, 1_000, false, 64),
        (1, 1_000, true, 52),
        (u16::MAX, 1_000, true, 988),
        (536, 12, true, 1),
        (536, 5, true, 1),
        (536, 40, false, 40),
    ] {
        let mut host = Host::opening_with(|config, _| config.timestamps = stamps);
        host.tcb.mss_most = ours;
        host.recv(if stamps { sa().mss(theirs).stamp(1) } else { sa().mss(theirs) });
        host.sent.clear();
        assert_eq!(host.info().mss, want, "{theirs} and {ours}");
        host.send(100);
        assert_eq!(host.sent[0].text.len(), usize::from(want).min(100));
    }
}

#[test]
fn sack_blocks_take_no_room_that_full_segments_need() {
    let mut host = Host::open(all, sa().scale(2).sack().stamp(40));
    host.arrive(&pa(101, 1, 10).stamp(41).segment());
    host.send(2_000);
    host.expect("A 1+0 ack 1");
    let full = host.expect("A 1+988 ack 1");
    assert!(full.options.len() + full.text.len() <= 1_000, "{full:?}");
    assert_eq!(full.options.sack.len, 0);
}

#[test]
fn a_small_segment_carries_the_blocks_that_fit() {
    let mut host = Host::open(
        |c, o| {
            all(c, o);
            o.nagle = false;
        },
        sa().scale(2).sack().stamp(40),
    );
    for seq in [101, 201, 301] {
        host.recv(pa(seq, 1, 10).stamp(41));
    }
    host.sent.clear();
    for (len, blocks) in [(100, 3), (988 - 28, 3), (988 - 27, 2), (988 - 12, 1), (988 - 11, 0)] {
        host.send(len);
        let sent = host.sent.pop_front().expect("text");
        assert_eq!((sent.out.text_len, sent.options.sack.len), (len, blocks));
    }
}

#[test]
fn without_scaling_no_window_beyond_the_field_is_offered_or_taken() {
    let host = Host::open(|_, options| options.recv_buffer = 1 << 20, sa());
    assert_eq!(host.info().rcv_wnd, 65_535);
}

#[test]
fn the_largest_buffer_is_offered_in_full() {
    let mut host = Host::open(
        |config, options| {
            config.window_scale = true;
            options.recv_buffer = u32::MAX;
        },
        sa().scale(14).wnd(u16::MAX),
    );
    assert!(host.info().rcv_wnd < 1 << 30);
    host.recv(a(1, 1));
    assert_eq!(host.info().snd_wnd, 65_535 << 14);
    host.send(1_000);
    host.expect("PA 1+1000 ack 1");
}
