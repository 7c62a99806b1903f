//! Windows that grow with what is read, and give back what others need more.
#![forbid(unsafe_code)]

use std::vec::Vec;

use super::*;
use crate::base::Counter;
use crate::tcp::flags::Flags;
use crate::tcp::window::{INITIAL_WINDOW, Offer};

/// A reader over a path whose round trip seems to take 20 ms at most, and how far its peer has come.
struct Reader {
    host: Host,
    next: u32,
}

impl Reader {
    fn new() -> Self {
        let mut host = Host::opening_with(|config, _| config.window_scale = true);
        host.expect("S 0+0");
        host.wait_ms(10);
        host.recv(sa().scale(7));
        host.expect("A 1+0 ack 1");
        Self { host, next: 1 }
    }

    /// So many segments of 1000 octets arrive, 20 ms after those before; the right edge never moves back, and never
    /// beyond what is accounted for.
    fn arrive(&mut self, segments: u32) {
        self.host.wait_ms(20);
        for _ in 0..segments {
            let edge = self.host.tcb.rcv.edge;
            self.host.recv(pa(self.next, 1, 1_000));
            self.next += 1_000;
            assert!(edge.at_or_before(self.host.tcb.rcv.edge), "{:?}", self.host.tcb);
            let shared = &self.host.lent.shared;
            assert!(self.host.tcb.keeps_to_its_promise(shared), "{:?}", self.host.tcb);
            assert_eq!(self.promised(), u64::from(self.host.tcb.extra_window(shared)));
        }
        self.host.sent.clear();
    }

    fn promised(&self) -> u64 {
        self.host.lent.recv.promises.made()
    }

    fn window(&self) -> u32 {
        self.host.tcb.recv_window(&self.host.lent.shared)
    }

    /// One whose window has grown to what a pool of 1 MiB lets one connection have.
    fn wide() -> Self {
        let mut reader = Self::new();
        reader.arrive(60);
        (0..4).for_each(|_| reader.arrive(250));
        assert_eq!(reader.window(), INITIAL_WINDOW + (768 << 10) / 4 * 3);
        reader
    }
}

#[test]
fn a_window_may_begin_with_more_than_a_syn_can_say() {
    for (buffer, initial, want, why) in [
        (256 << 10, u32::MAX, 256 << 10, "all that the buffer holds"),
        (256 << 10, 100_000, 100_000, "what was asked for"),
        (256 << 10, 1, INITIAL_WINDOW, "what the SYN said stands"),
        (3_000, u32::MAX, 3_000, "there is no more"),
        (4 << 20, u32::MAX, INITIAL_WINDOW + (768 << 10) / 4 * 3, "as much as a pool of 1 MiB lets one have"),
    ] {
        let mut host = Host::opening_with(|config, options| {
            config.window_scale = true;
            (options.recv_buffer, options.recv_initial) = (buffer, initial);
        });
        host.expect("S 0+0");
        host.recv(sa().scale(7));
        host.expect("A 1+0 ack 1");
        let shared = &host.lent.shared;
        assert_eq!(host.tcb.rcv.wnd(), want, "{why}");
        assert!(host.tcb.keeps_to_its_promise(shared) && host.tcb.recv_window(shared) == want, "{why}");
        assert_eq!(host.lent.recv.promises.made(), u64::from(want.saturating_sub(INITIAL_WINDOW)), "{why}");
    }
    let mut host = Host::opening_with(|_, options| options.recv_initial = u32::MAX);
    host.expect("S 0+0");
    host.recv(sa());
    host.expect("A 1+0 ack 1");
    assert_eq!(host.tcb.rcv.wnd(), INITIAL_WINDOW, "without a scale there is no more");
}

#[test]
fn a_window_grows_to_a_few_times_what_is_read_in_a_round_trip_and_no_further() {
    /// It is looked at every so many octets, so that a round may begin and end so far apart in two bursts.
    const LOOK: u32 = 1 << 14;
    for (segments, least, most, why) in [
        (15, INITIAL_WINDOW, INITIAL_WINDOW, "less than two sevenths of it are read"),
        (60, 7 * 60_000 / 2, 8 * (60_000 + LOOK), "more is"),
        (100, 7 * 100_000 / 2, 8 * (100_000 + LOOK), "much more is"),
    ] {
        let mut reader = Reader::new();
        (0..20).for_each(|_| reader.arrive(segments));
        assert!((least..=most).contains(&reader.window()), "{why}: {}", reader.window());
    }
}

#[test]
fn what_a_window_was_promised_is_given_back_as_it_is_used_when_memory_is_short() {
    let mut reader = Reader::wide();
    let promised = reader.promised();
    // Others keep text: all but 256 KiB.
    let chunks: Vec<u32> = (0..1_536).map_while(|_| reader.host.lent.recv.chunks.alloc()).collect();
    reader.arrive(100);
    assert!(promised - 110_000 < reader.promised() && reader.promised() < promised - 80_000);
    (0..20).for_each(|_| reader.arrive(100));
    let fair = (256 << 10) / 4 * 3;
    assert!((fair - 50_000..=fair + fair / 8).contains(&reader.promised()), "{}", reader.promised());
    let refused = reader.host.count(Counter::WindowGrowthRefused);
    assert!(refused > 0, "it would have use for more");
    chunks.into_iter().for_each(|chunk| reader.host.lent.recv.chunks.free(chunk));
    (0..4).for_each(|_| reader.arrive(250));
    assert_eq!(reader.promised(), promised);
}

#[test]
fn nothing_is_promised_any_more_after_fin_or_the_end() {
    let mut reader = Reader::wide();
    reader.host.recv(fa(reader.next, 1));
    assert_eq!((reader.promised(), reader.host.lent.shared.offers.len()), (0, 0));
    let mut reader = Reader::wide();
    let lent = &mut reader.host.lent;
    reader.host.tcb.release(&mut lent.recv, &mut lent.shared);
    assert_eq!((reader.promised(), reader.host.lent.shared.offers.len()), (0, 0));
}

#[test]
fn a_connection_that_reads_little_has_no_record_of_its_window() {
    let mut reader = Reader::new();
    let mut with = 0;
    for _ in 0..40 {
        reader.arrive(10);
        with += u32::from(reader.host.tcb.has_offer(&reader.host.lent.shared));
    }
    // From one look to the next, 16 KiB later, which is when it shows that there is no need for it.
    assert!((1..30).contains(&with), "{with} times of 40");
    assert_eq!((reader.window(), reader.promised()), (INITIAL_WINDOW, 0));
}

#[test]
fn where_no_record_is_left_a_window_stays_as_it_is() {
    let mut reader = Reader::new();
    while reader.host.lent.shared.offers.insert(Offer::default()).is_some() {}
    (0..5).for_each(|_| reader.arrive(60));
    assert_eq!((reader.window(), reader.promised()), (INITIAL_WINDOW, 0));
    assert!(reader.host.count(Counter::WindowGrowthRefused) > 0);
}

#[test]
fn a_gap_takes_the_record_along_and_brings_it_back() {
    let mut reader = Reader::wide();
    let window = reader.window();
    let (gap, next) = (reader.next, reader.next + 1_000);
    reader.host.recv(pa(next, 1, 1_000));
    assert!(reader.host.tcb.flags.any(Flags::ATTACHED));
    assert_eq!(reader.window(), window);
    reader.host.recv(pa(gap, 1, 1_000));
    assert!(!reader.host.tcb.flags.any(Flags::ATTACHED));
    assert_eq!(reader.window(), window);
    reader.next += 2_000;
    reader.arrive(250);
    assert_eq!(reader.window(), window);
}
