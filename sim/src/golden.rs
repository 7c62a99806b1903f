//! The golden table: goodput of flows on many paths in virtual time, so that a change in behaviour is a diff.
#![forbid(unsafe_code)]

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ringroad::tcp::CongestionAlgorithm;

use crate::path::{Bulk, Path};

/// Congestion control, by the names that `--cc` knows.
const ALGORITHMS: [(&str, CongestionAlgorithm); 3] = [
    ("cubic", CongestionAlgorithm::Cubic),
    ("newreno", CongestionAlgorithm::NewReno),
    ("bbr", CongestionAlgorithm::Bbr),
];
const RATES_MBIT: [u32; 2] = [10, 1_000];
const RTTS_US: [u32; 5] = [100, 1_000, 20_000, 100_000, 300_000];
/// In tenths of what is on its way.
const QUEUES: [u32; 3] = [1, 10, 40];
/// Per million.
const LOSSES: [u32; 5] = [0, 100, 1_000, 10_000, 50_000];

/// A short flow: octets, how many of them, and the loss.
const SHORT: (u32, usize, u32) = (10_000, 2_000, 10_000);

/// What the first lines of the table say.
const HEAD: &str = "\
# Flows of ringroad to ringroad in virtual time, from `ringroad-sim golden`.
#
# Bulk: Mbit/s that the application got of one flow, its slow start included, and how often its retransmission timer
# expired, at a loss of 0, 0.01, 0.1, 1 and 5 % of the frames in each direction; the queue in terms of rate times
# round trip. 60 s at 10 Mbit/s; at 1000 Mbit/s 2 s, with 20 ms 10 s, with 100 ms 20 s, with 300 ms 30 s. Of the rate
# headers leave 95.6 %.
# Short: ms from SYN to the last octet of a request of 64 octets and a reply of 10,000 on a connection of its own, one
# after another, at a loss of 1 %, the queue as long as rate times round trip: the median, 9 of 10, 99 of 100, the worst.
#
";

/// One line of the table.
#[derive(Clone, Copy, Debug)]
struct Row {
    name: &'static str,
    algorithm: CongestionAlgorithm,
    rate_mbit: u32,
    rtt_us: u32,
    /// `None` for short flows.
    queue: Option<u32>,
}

/// One measurement.
#[derive(Debug)]
enum Cell {
    Bulk(Path, CongestionAlgorithm, OnceLock<Bulk>),
    Short(Path, CongestionAlgorithm, OnceLock<Vec<Duration>>),
}

/// Which rows to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    All,
    /// Those that take little time.
    Quick,
}

fn rows(part: Part) -> Vec<Row> {
    let mut rows = Vec::new();
    for (name, algorithm) in ALGORITHMS {
        for rate_mbit in RATES_MBIT {
            for rtt_us in RTTS_US {
                for queue in QUEUES.map(Some).into_iter().chain([None]) {
                    rows.push(Row { name, algorithm, rate_mbit, rtt_us, queue });
                }
            }
        }
    }
    rows.retain(|row| part == Part::All || row.is_quick());
    rows
}

impl Row {
    /// Long enough to see what comes after slow start, and short enough to wait for.
    fn time(&self) -> Duration {
        Duration::from_secs(match (self.rate_mbit, self.rtt_us) {
            (..1_000, _) => 60,
            (_, ..20_000) => 2,
            (_, ..100_000) => 10,
            (_, ..300_000) => 20,
            _ => 30,
        })
    }

    fn is_quick(&self) -> bool {
        self.path(0).frames(self.time()) < 200_000
    }

    fn path(&self, loss: u32) -> Path {
        Path { rate_mbit: self.rate_mbit, rtt_us: self.rtt_us, loss, queue: self.queue.unwrap_or(10) }
    }

    fn cells(&self) -> Vec<Cell> {
        match self.queue {
            Some(_) => LOSSES
                .iter()
                .map(|&loss| Cell::Bulk(self.path(loss), self.algorithm, OnceLock::new()))
                .collect(),
            None => vec![Cell::Short(self.path(SHORT.2), self.algorithm, OnceLock::new())],
        }
    }

    /// What the row begins with, and no other.
    fn key(&self) -> String {
        let Self { name, rate_mbit, rtt_us, queue, .. } = *self;
        let rtt = format!("{}.{}", rtt_us / 1_000, rtt_us % 1_000 / 100);
        let queue = match queue {
            Some(queue) => format!("{}.{} BDP", queue / 10, queue % 10),
            None => "short".to_owned(),
        };
        format!("{name:<8}{rate_mbit:>5} Mbit/s {rtt:>5} ms {queue:>8} |")
    }

    fn line(&self, cells: &[Cell]) -> String {
        let mut line = self.key();
        let mut timeouts = " |".to_owned();
        for cell in cells {
            match cell {
                Cell::Bulk(.., outcome) => {
                    let bulk = outcome.get().expect("it was measured");
                    let kbit_s = bulk.received * 8 / u64::try_from(self.time().as_millis()).expect("seconds");
                    write!(line, "{:>9}", thousandths(kbit_s)).expect("into a string");
                    write!(timeouts, "{:>5}", bulk.timeouts).expect("into a string");
                }
                Cell::Short(.., took) => {
                    let took = took.get().expect("it was measured");
                    let nth = |of_1_000: usize| took[(took.len() - 1) * of_1_000 / 1_000];
                    for took in [500, 900, 990, 1_000].map(nth) {
                        let us = u64::try_from(took.as_micros()).expect("seconds");
                        write!(line, "{:>10}", thousandths(us)).expect("into a string");
                    }
                }
            }
        }
        if self.queue.is_some() { line + &timeouts } else { line }
    }
}

impl Cell {
    /// Frames that the link carries at most: what it costs to measure it.
    fn cost(&self, time: Duration) -> u64 {
        match self {
            Self::Bulk(path, ..) => {
                path.frames(time) / (1 + u64::from(path.loss) * u64::from(path.rtt_us) / 1_000_000)
            }
            Self::Short(..) => 50_000,
        }
    }

    fn measure(&self, time: Duration) {
        match self {
            Self::Bulk(path, algorithm, outcome) => {
                outcome.get_or_init(|| path.bulk(*algorithm, time));
            }
            Self::Short(path, algorithm, took) => {
                took.get_or_init(|| path.short(*algorithm, SHORT.0, SHORT.1));
            }
        }
    }
}

/// Measures that part of the table on so many threads; the lines without the head.
pub fn lines(part: Part, threads: usize) -> Vec<String> {
    let rows: Vec<_> = rows(part).into_iter().map(|row| (row, row.cells())).collect();
    let mut cells: Vec<_> =
        rows.iter().flat_map(|(row, cells)| cells.iter().map(|cell| (cell, row.time()))).collect();
    // Whatever takes longest comes first, or the last one keeps everybody waiting.
    cells.sort_by_key(|(cell, time)| std::cmp::Reverse(cell.cost(*time)));
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((cell, time)) = cells.get(next.fetch_add(1, Ordering::Relaxed)) {
                    cell.measure(*time);
                }
            });
        }
    });
    rows.iter().map(|(row, cells)| row.line(cells)).collect()
}

/// The table as it is committed.
pub fn table(lines: &[String]) -> String {
    lines.iter().fold(HEAD.to_owned(), |table, line| table + line + "\n")
}

/// How `lines` differ from the table `known`, one difference a line; empty where they do not.
pub fn differences(known: &str, lines: &[String], part: Part) -> String {
    let here: HashSet<&str> = lines.iter().map(String::as_str).collect();
    let there: HashSet<&str> = known.lines().filter(|line| !line.starts_with('#')).collect();
    let key = |line: &str| line.split_inclusive('|').next().map(str::to_owned);
    let keys: HashSet<_> = lines.iter().map(|line| key(line)).collect();
    let mut said = String::new();
    let is_gone = |line: &&str| !here.contains(line) && (part == Part::All || keys.contains(&key(line)));
    for gone in known.lines().filter(|line| !line.starts_with('#')).filter(is_gone) {
        writeln!(said, "- {gone}").expect("into a string");
    }
    for new in lines.iter().filter(|line| !there.contains(line.as_str())) {
        writeln!(said, "+ {new}").expect("into a string");
    }
    said
}

/// Thousandths, with a point.
fn thousandths(n: u64) -> String {
    format!("{}.{:03}", n / 1_000, n % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_a_key_of_its_own_and_the_quick_ones_are_some_of_them() {
        let keys = |part| rows(part).iter().map(Row::key).collect::<HashSet<_>>();
        let all = ALGORITHMS.len() * RATES_MBIT.len() * RTTS_US.len() * (QUEUES.len() + 1);
        assert_eq!(keys(Part::All).len(), all);
        assert!(keys(Part::Quick).is_subset(&keys(Part::All)) && keys(Part::Quick).len() > all / 2);
    }

    #[test]
    fn what_changed_is_said_and_what_was_not_measured_is_not() {
        let lines = |text: &[&str]| text.iter().map(|&line| line.to_owned()).collect::<Vec<_>>();
        let known = "# a head\na | 1\nb | 2\nc | 3\n";
        for (now, part, want, why) in [
            (&["a | 1", "b | 2", "c | 3"][..], Part::All, "", "the same"),
            (&["a | 1", "b | 2"], Part::All, "- c | 3\n", "one less"),
            (&["a | 1", "b | 2"], Part::Quick, "", "one not measured"),
            (&["a | 1", "b | 4"], Part::Quick, "- b | 2\n+ b | 4\n", "one changed"),
            (&["d | 1"], Part::Quick, "+ d | 1\n", "one that is new"),
        ] {
            assert_eq!(differences(known, &lines(now), part), want, "{why}");
        }
    }
}
