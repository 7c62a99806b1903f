//! Streams over a link that loses, repeats, damages and reorders: every octet once, and in its place.

use std::time::Duration;

use ringroad::cli::lab::{End, LinkArgs};

use super::lab::{CLIENT, Net, SERVER, connect};
use super::stream::{exchange_with_a_kernel, exchange_with_an_echo, send_and_compare};

const OCTETS: usize = 2_000_000;
/// In each direction.
const BAD: LinkArgs = LinkArgs {
    delay: Some(Duration::from_micros(500)),
    rate: Some(500_000_000),
    loss: Some(5_000),
    reorder: Some(20_000),
    reorder_by: Some(Duration::from_millis(2)),
    duplicate: Some(10_000),
    corrupt: Some(2_000),
    seed: Some(5),
    ..LinkArgs::NONE
};

#[test]
fn two_megabytes_come_back_over_a_bad_link_between_all_pairs_of_stacks() {
    let Some(net) = Net::with_link("badlink", BAD) else { return };
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:7"), &["--app", "echo"]);
        net.at(End::Client, || send_and_compare(connect(server.addr), OCTETS, Duration::ZERO));
        exchange_with_an_echo(&net, End::Client, server.addr, OCTETS);
        server.stop();
        let server = net.serve_kernel(End::Server, &format!("{address}:8"), &["--app", "echo"]);
        net.at(End::Client, || send_and_compare(connect(server.addr), OCTETS, Duration::ZERO));
        server.stop();
    }
    for address in CLIENT {
        exchange_with_a_kernel(&net, address, OCTETS);
    }
    let link = net.link_counts();
    for direction in ["to_server", "to_client"] {
        let count = |what: &str| link[direction][what].as_u64().expect("a count");
        for what in ["lost", "reordered", "duplicated", "corrupted"] {
            assert!(count(what) > 0, "{direction}: {what} in {link}");
        }
    }
}
