//! What the link between the lab's ends is told to do: the flags, and what they mean.
#![forbid(unsafe_code)]

use std::fmt::Display;
use std::time::Duration;

use super::super::parse;
use crate::io::link::{Bursts, LinkConfig, Mark, QueueLimit};

/// How the packets between the ends are treated, in each direction for itself; with any of these flags a third
/// namespace holds a forwarder, and without one the ends are joined directly.
///
/// A frame may be duplicated, waits in the queue, is sent at the rate, and then meets with the wire: it is
/// lost or damaged, or arrives after the delay. All of it follows from the seed, but for the time at which
/// packets come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
#[command(next_help_heading = "The link between the ends")]
pub struct LinkArgs {
    /// How long a packet is under way, in each direction: 20ms make a round trip of 40 ms (us, ms or s)
    #[arg(long, value_name = "TIME", value_parser = parse::delay)]
    pub delay: Option<Duration>,
    /// Up to so much later, at random, each packet for itself, so that packets overtake each other
    #[arg(long, value_name = "TIME", value_parser = parse::delay)]
    pub jitter: Option<Duration>,
    /// Bits a second, of all octets from the Ethernet header on: 10mbit, 1gbit [default: no limit]
    #[arg(long, value_name = "RATE", value_parser = parse::rate)]
    pub rate: Option<u64>,
    /// What may wait to be sent, where there is a rate: 100 (packets), or 64k (octets, in powers of 1024)
    /// [default: 1000]
    #[arg(long, value_name = "N", value_parser = parse::queue, requires = "rate")]
    pub queue: Option<QueueLimit>,
    /// Packets larger than so many octets are lost without a word, as where a router drops them and its ICMP messages
    /// do not come through
    #[arg(long, value_name = "OCTETS", value_parser = clap::value_parser!(u16).range(576..))]
    pub path_mtu: Option<u16>,
    /// The share of packets that are lost: 0.1%
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    pub loss: Option<u32>,
    /// They are lost in bursts of so many packets on average (Gilbert-Elliott), not each for itself
    #[arg(long, value_name = "N", requires = "loss", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub loss_burst: Option<u32>,
    /// The share of packets that are late, so that those behind overtake them
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    pub reorder: Option<u32>,
    /// How late those are [default: 1ms]
    #[arg(long, value_name = "TIME", requires = "reorder", value_parser = parse::delay)]
    pub reorder_by: Option<Duration>,
    /// The share of packets that come twice
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    pub duplicate: Option<u32>,
    /// The share of packets with a bit flipped behind the Ethernet header
    #[arg(long, value_name = "SHARE", value_parser = parse::share)]
    pub corrupt: Option<u32>,
    /// Mark packets of ECN-capable transports "congestion experienced": a share of them (1%), or those that find
    /// so many packets waiting (20)
    #[arg(long, value_name = "SHARE|N", value_parser = parse::mark)]
    pub ecn: Option<Mark>,
    /// What all accidents follow from [default: 1]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

/// How late a packet is that others are to overtake, where nobody says.
const REORDER_BY: Duration = Duration::from_millis(1);

impl LinkArgs {
    /// No flag: nothing stands between the ends.
    pub const NONE: Self = Self {
        delay: None,
        jitter: None,
        rate: None,
        queue: None,
        path_mtu: None,
        loss: None,
        loss_burst: None,
        reorder: None,
        reorder_by: None,
        duplicate: None,
        corrupt: None,
        ecn: None,
        seed: None,
    };

    /// Whether that is so.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// What it means for each direction.
    pub fn config(&self) -> LinkConfig {
        let loss = self.loss.unwrap_or(0);
        LinkConfig {
            rate_bps: self.rate.unwrap_or(0),
            queue: self.queue.unwrap_or(LinkConfig::PERFECT.queue),
            mtu: self.path_mtu.unwrap_or(0),
            mark: self.ecn.unwrap_or(Mark::Never),
            delay_us: micros(self.delay.unwrap_or_default()),
            jitter_us: micros(self.jitter.unwrap_or_default()),
            loss: if self.loss_burst.is_some() { 0 } else { loss },
            bursts: self.loss_burst.map(|mean_len| Bursts::new(loss, mean_len)),
            reorder: self.reorder.unwrap_or(0),
            reorder_us: self.reorder.map_or(0, |_| micros(self.reorder_by.unwrap_or(REORDER_BY))),
            duplicate: self.duplicate.unwrap_or(0),
            corrupt: self.corrupt.unwrap_or(0),
            ..LinkConfig::PERFECT
        }
    }

    /// The flags that stand for it.
    pub fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut add = |flag: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([format!("--{flag}"), value]);
            }
        };
        let time = |time: Option<Duration>| time.map(|time| format!("{}us", time.as_micros()));
        let share = |share: Option<u32>| share.map(percent);
        add("delay", time(self.delay));
        add("jitter", time(self.jitter));
        add("rate", self.rate.map(|rate| format!("{rate}bit")));
        add(
            "queue",
            self.queue.map(|queue| match queue {
                QueueLimit::Packets(packets) => packets.to_string(),
                QueueLimit::Octets(octets) => format!("{octets}b"),
            }),
        );
        add("path-mtu", word(self.path_mtu));
        add("loss", share(self.loss));
        add("loss-burst", word(self.loss_burst));
        add("reorder", share(self.reorder));
        add("reorder-by", time(self.reorder_by));
        add("duplicate", share(self.duplicate));
        add("corrupt", share(self.corrupt));
        add(
            "ecn",
            self.ecn.and_then(|mark| match mark {
                Mark::Never => None,
                Mark::Above(packets) => Some(packets.to_string()),
                Mark::Share(share) => Some(percent(share)),
            }),
        );
        add("seed", word(self.seed));
        words
    }
}

fn word(value: Option<impl Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn percent(per_million: u32) -> String {
    format!("{}.{:04}%", per_million / 10_000, per_million % 10_000)
}

fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).expect("the flags take a minute at most")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        link: LinkArgs,
    }

    fn parsed<S: AsRef<str>>(words: &[S]) -> Result<LinkArgs, clap::Error> {
        let words = [""].into_iter().chain(words.iter().map(AsRef::as_ref));
        Command::try_parse_from(words).map(|command| command.link)
    }

    #[test]
    fn flags_mean_what_they_say() {
        let none = LinkConfig::PERFECT;
        for (line, want) in [
            ("--delay 20ms", LinkConfig { delay_us: 20_000, ..none }),
            (
                "--rate 1gbit --queue 64k",
                LinkConfig { rate_bps: 1_000_000_000, queue: QueueLimit::Octets(65_536), ..none },
            ),
            ("--path-mtu 1300", LinkConfig { mtu: 1_300, ..none }),
            ("--loss 0.1%", LinkConfig { loss: 1_000, ..none }),
            ("--loss 1% --loss-burst 4", LinkConfig { bursts: Some(Bursts::new(10_000, 4)), ..none }),
            ("--reorder 5%", LinkConfig { reorder: 50_000, reorder_us: 1_000, ..none }),
            ("--reorder 5% --reorder-by 250us", LinkConfig { reorder: 50_000, reorder_us: 250, ..none }),
            ("--ecn 20", LinkConfig { mark: Mark::Above(20), ..none }),
        ] {
            let args = parsed(&line.split(' ').collect::<Vec<_>>()).expect("good flags");
            assert_eq!(args.config(), want, "{line}");
        }
    }

    #[test]
    fn the_forwarder_is_told_what_the_user_said() {
        for line in [
            "--delay 20ms",
            "--seed 7",
            "--jitter 1500us --rate 10mbit --queue 64k --loss 0.0001% --loss-burst 3 --reorder 5% --reorder-by 2ms",
            "--duplicate 100% --corrupt 0.5% --ecn 1.25% --seed 18446744073709551615 --rate 1kbit --queue 4",
            "--ecn 20 --delay 0ms --path-mtu 576",
        ] {
            let args = parsed(&line.split(' ').collect::<Vec<_>>()).expect("good flags");
            assert!(!args.is_none());
            assert_eq!(parsed(&args.words()).expect("good flags"), args, "{line}: {:?}", args.words());
        }
        assert!(parsed::<&str>(&[]).expect("no flags").is_none());
    }

    #[test]
    fn flags_that_mean_nothing_alone_are_refused() {
        for line in ["--loss-burst 3", "--queue 10", "--reorder-by 1ms"] {
            assert!(parsed(&line.split(' ').collect::<Vec<_>>()).is_err(), "{line}");
        }
    }
}
