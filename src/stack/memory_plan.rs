//! What an engine of some limits costs, known before anything is allocated.
#![forbid(unsafe_code)]

use super::flow_table::FlowTable;
use super::flows::Flows;
use super::half_open::HalfOpens;
use super::keys::WideAddrs;
use super::limits::Limits;
use super::time_wait::TimeWaitTable;
use super::wheel::Wheel;
use crate::tcp::{RecvPools, SettingsTable, Shared};

/// One table of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanItem {
    /// What it holds.
    pub name: &'static str,
    /// How many of these.
    pub count: u64,
    /// Octets that all of them take.
    pub octets: u64,
}

/// The memory of one engine, table by table.
///
/// All of it is reserved when the engine is made and none later. What was never used is not resident, as far
/// as the system gives out zeroed memory only when it is touched, which Linux does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlan {
    items: [PlanItem; 16],
}

impl MemoryPlan {
    /// The plan of an engine with these limits. Its IPv6 addresses count only where it has to do with `ipv6`.
    pub const fn new(limits: &Limits, ipv6: bool) -> Self {
        let (flows, half_open, time_wait) = (limits.flows_max, limits.half_open_max, limits.time_wait_max);
        let entries = flows + half_open + time_wait;
        let wide = if ipv6 { entries } else { 0 };
        let (send, recv) = (limits.send_chunks, limits.recv_chunks);
        let chunk = limits.chunk_len as u64 + size_of::<u32>() as u64;
        let items = [
            item("connections", flows, Flows::octets(flows)),
            item("half-open connections", half_open, HalfOpens::octets(half_open)),
            item("TIME-WAIT records", time_wait, TimeWaitTable::octets(time_wait)),
            item("entries of the index", entries, FlowTable::octets(entries)),
            item("IPv6 addresses", wide, WideAddrs::octets(wide)),
            item("timers", flows + half_open, Wheel::octets(flows + half_open)),
            // One queue of flows to serve, one of flows that wait for a chunk.
            item("places in queues", 2 * flows, 2 * flows as u64 * size_of::<u32>() as u64),
            item("chunks of send buffers", send, send as u64 * chunk),
            item("chunks of receive buffers", recv, recv as u64 * chunk),
            item("reassembly queues", limits.reassembly_max, RecvPools::queue_octets(limits.reassembly_max)),
            item(
                "ranges of text out of order",
                RecvPools::ranges(limits.reassembly_max),
                RecvPools::range_octets(limits.reassembly_max),
            ),
            item("records of busy connections", limits.busy_max, Shared::record_octets(limits.busy_max)),
            item("records of windows", limits.busy_max, Shared::offer_octets(limits.busy_max)),
            item(
                "runs of octets in flight",
                Shared::runs(limits.busy_max),
                Shared::run_octets(limits.busy_max),
            ),
            item("models of paths", limits.models_max, Shared::model_octets(limits.models_max)),
            item("sets of options", limits.options_max as u32, SettingsTable::octets(limits.options_max)),
        ];
        Self { items }
    }

    /// Table by table.
    pub const fn items(&self) -> &[PlanItem] {
        &self.items
    }

    /// Octets of all tables.
    pub fn octets(&self) -> u64 {
        self.items.iter().map(|item| item.octets).sum()
    }
}

const fn item(name: &'static str, count: u32, octets: u64) -> PlanItem {
    PlanItem { name, count: count as u64, octets }
}

impl Limits {
    /// The largest limits in these proportions whose plan takes at most `octets`; `None` where not even a
    /// thousandth of them fits.
    pub fn fitted(&self, octets: u64, ipv6: bool) -> Option<Self> {
        let fits = |limits: &Self| MemoryPlan::new(limits, ipv6).octets() <= octets;
        // A plan grows with its limits, so the largest share that fits is found by halving.
        let (mut least, mut most) = (0, Self::SHARES + 1);
        while most - least > 1 {
            let middle = u32::midpoint(least, most);
            *(if fits(&self.share(middle)) { &mut least } else { &mut most }) = middle;
        }
        (least > 0).then(|| self.share(least))
    }

    const SHARES: u32 = 1_000;

    fn share(&self, thousandths: u32) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "a part of a u32")]
        let part =
            |of: u32| (u64::from(of) * u64::from(thousandths)).div_ceil(u64::from(Self::SHARES)) as u32;
        Self {
            flows_max: part(self.flows_max),
            half_open_max: part(self.half_open_max),
            time_wait_max: part(self.time_wait_max),
            send_chunks: part(self.send_chunks),
            recv_chunks: part(self.recv_chunks),
            reassembly_max: part(self.reassembly_max),
            busy_max: part(self.busy_max),
            models_max: part(self.models_max),
            ..*self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn per(name: &str, limits: &Limits) -> u64 {
        let plan = MemoryPlan::new(limits, false);
        let item = plan.items().iter().find(|item| item.name == name).expect("an item");
        item.octets.div_ceil(item.count)
    }

    #[test]
    fn records_with_their_share_of_everything_keep_within_what_is_promised() {
        let limits = Limits { flows_max: 10_000_000, time_wait_max: 50_000_000, ..Limits::default() };
        let index = per("entries of the index", &limits);
        let (timer, queue) = (per("timers", &limits), per("places in queues", &limits));
        assert!(per("connections", &limits) + index + timer + 2 * queue <= 256);
        assert!(per("half-open connections", &limits) + index + timer <= 64);
        assert!(per("TIME-WAIT records", &limits) + index <= 40);
    }

    #[test]
    fn no_record_is_planned_smaller_than_what_it_must_hold() {
        let limits = Limits::default();
        for (name, least, why) in [
            ("TIME-WAIT records", 24, "a tuple, two numbers, two timestamps and a deadline"),
            ("reassembly queues", 8, "where the first range is, and RCV.NXT"),
            ("ranges of text out of order", 8, "two numbers"),
            ("records of windows", 8, "a number and a time"),
            (
                "records of busy connections",
                100,
                "a receive buffer, a scoreboard and what congestion control remembers",
            ),
            ("timers", 12, "a deadline and two neighbours"),
            ("entries of the index", 4, "a value"),
        ] {
            assert!(per(name, &limits) >= least, "{name}: {why}");
        }
    }

    #[test]
    fn the_largest_share_fits_and_the_next_does_not() {
        let limits = Limits::default();
        let all = MemoryPlan::new(&limits, true).octets();
        assert_eq!(limits.fitted(all, true), Some(limits));
        assert_eq!(limits.fitted(u64::MAX, true), Some(limits));
        let half = limits.fitted(all / 2, true).expect("half of it fits");
        assert!(MemoryPlan::new(&half, true).octets() <= all / 2);
        assert!(half.flows_max > limits.flows_max / 2 - limits.flows_max / 500);
        assert_eq!(limits.fitted(1_000, true), None);
    }

    #[test]
    fn ipv6_costs_addresses_and_nothing_else() {
        let limits = Limits::default();
        let (v4, v6) = (MemoryPlan::new(&limits, false), MemoryPlan::new(&limits, true));
        let differ: std::vec::Vec<_> =
            v4.items().iter().zip(v6.items()).filter(|(a, b)| a != b).map(|(a, _)| a.name).collect();
        assert_eq!(differ, ["IPv6 addresses"]);
    }
}
