//! curl, and the kernel's TCP below it, against the HTTP server.

use std::fs;

use ringroad::cli::lab::End;

use super::lab::{Net, SERVER, assert_kernel_content, sha256};

const BODY: &str = "1000";

/// What curl says, in the client's namespace.
fn curl(net: &Net, args: &[&str]) -> String {
    let argv = ["curl", "--silent", "--show-error", "--globoff", "--noproxy", "*", "--max-time", "50"];
    net.run(End::Client, &[&argv, args].concat()).success()
}

/// For each of three requests in one call: its status, connections made for it, and octets of its body.
fn three_times(net: &Net, url: &str, more: &[&str]) -> String {
    let [one, two, three] = ["1", "2", "3"].map(|n| net.path(n));
    let outputs = ["-o", &one, "-o", &two, "-o", &three, url, url, url];
    let format = ["--write-out", "%{http_code} %{num_connects} %{size_download}\n"];
    curl(net, &[&format, more, &outputs].concat())
}

#[test]
fn curl_keeps_a_connection_and_closes_when_it_says_so() {
    let Some(net) = Net::up("curl") else { return };
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:80"), &["--body-size", BODY]);
        let url = format!("http://{}/", server.addr);
        let before = net.kernel_counters(End::Client);

        assert_eq!(three_times(&net, &url, &[]), "200 1 1000\n200 0 1000\n200 0 1000\n", "{address}");
        let close = ["--header", "Connection: close"];
        assert_eq!(three_times(&net, &url, &close), "200 1 1000\n".repeat(3), "{address}");
        let body = fs::read(net.path("1")).expect("curl wrote it");
        assert_eq!(body.len(), 1_000);

        let head = curl(&net, &["--head", &url]).to_lowercase();
        assert!(head.starts_with("http/1.1 200") && head.contains("content-length: 1000"), "{head}");
        let version = curl(&net, &["--http1.0", "-o", &net.path("1"), "-w", "%{http_code}", &url]);
        assert_eq!(version, "200", "a request that closes by its version");

        assert_kernel_content(&net, End::Client, &before);
        server.stop();
    }
}

#[test]
fn curl_gets_files_whole_and_is_told_what_is_missing() {
    let Some(net) = Net::up("files") else { return };
    let root = net.path("root");
    fs::create_dir_all(format!("{root}/sub")).expect("a directory");
    fs::write(format!("{root}/sub/page.html"), "<p>page</p>").expect("a file");
    let file = format!("{root}/big");
    write_noise(&file, 100_000_000);
    for address in SERVER {
        let server = net.serve(End::Server, &format!("{address}:80"), &["--root", &root]);
        let url = format!("http://{}", server.addr);
        let before = net.kernel_counters(End::Client);

        assert_eq!(curl(&net, &[&format!("{url}/sub/page.html")]), "<p>page</p>");
        let got = net.path("got");
        curl(&net, &["-o", &got, &format!("{url}/big")]);
        assert_eq!(sha256(&got), sha256(&file), "{address}");
        let status = ["-o", &net.path("none"), "-w", "%{http_code}"];
        for missing in ["/none", "/sub/none.html"] {
            assert_eq!(
                curl(&net, &[&status, [format!("{url}{missing}").as_str()].as_slice()].concat()),
                "404"
            );
        }

        assert_kernel_content(&net, End::Client, &before);
        server.stop();
    }
}

/// Writes a file that no compression or repetition hides an error in.
fn write_noise(path: &str, octets: usize) {
    let words = super::stream::Noise::new(7).take(octets / 8);
    fs::write(path, words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>()).expect("there is room for it");
}
