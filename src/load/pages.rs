//! What the HTTP server answers with, made ready at start so that a request costs a lookup.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::format;
use std::fs;
use std::path::Path;
use std::string::{String, ToString};
use std::sync::Arc;
use std::vec::Vec;

use anyhow::{Context, bail};

use super::workload::pattern;

/// Octets of all files under a root together; they are read at start and kept.
const ROOT_MAX: u64 = 256 * 1024 * 1024;
/// How much of the body lies behind the head, so that a short reply goes out in one piece.
const JOINED_MAX: u64 = 64 * 1024;
/// The generated body repeats after this many octets.
const REPEAT: usize = 64 * 1024;

/// One ready reply.
#[derive(Debug)]
pub struct Page {
    /// Head and front of the body; first for a connection that stays open, then for one that closes.
    front: [Vec<u8>; 2],
    head_len: [usize; 2],
    body: Body,
    body_len: u64,
}

#[derive(Debug)]
enum Body {
    Repeat,
    Octets(Vec<u8>),
}

impl Page {
    fn new(status: &str, content_type: &str, extra: &str, body: Body, body_len: u64, block: &[u8]) -> Self {
        let head = |connection: &str| {
            format!(
                "HTTP/1.1 {status}\r\nServer: ringroad\r\nContent-Type: {content_type}\r\n\
                 Content-Length: {body_len}\r\n{extra}{connection}\r\n"
            )
            .into_bytes()
        };
        let mut front = [head(""), head("Connection: close\r\n")];
        let head_len = [front[0].len(), front[1].len()];
        let joined = usize::try_from(body_len.min(JOINED_MAX)).expect("64 KiB fit");
        for octets in &mut front {
            octets.extend_from_slice(match &body {
                Body::Repeat => &block[..joined],
                Body::Octets(all) => &all[..joined],
            });
        }
        Self { front, head_len, body, body_len }
    }

    /// Octets of the whole reply.
    pub fn len(&self, closes: bool, is_head: bool) -> u64 {
        let head = self.head_len[usize::from(closes)] as u64;
        if is_head { head } else { head + self.body_len }
    }

    /// Some octets of the reply from `at` on, at least one where `at` is below [`Page::len`].
    fn octets<'a>(&'a self, closes: bool, at: u64, block: &'a [u8]) -> &'a [u8] {
        let front = &self.front[usize::from(closes)];
        if let Some(rest) = usize::try_from(at).ok().and_then(|at| front.get(at..)).filter(|r| !r.is_empty())
        {
            return rest;
        }
        let in_body = at - self.head_len[usize::from(closes)] as u64;
        match &self.body {
            Body::Repeat => {
                let into = usize::try_from(in_body % REPEAT as u64).expect("64 KiB fit");
                &block[into..]
            }
            Body::Octets(all) => {
                usize::try_from(in_body).ok().and_then(|from| all.get(from..)).unwrap_or(&[])
            }
        }
    }
}

/// All replies of one server; shared by its workers.
#[derive(Debug)]
pub struct Site {
    pages: Vec<Page>,
    by_path: Option<HashMap<String, u32>>,
    block: Vec<u8>,
}

/// The statuses other than 200, and where a client is told something more.
const STATUSES: [(u16, &str, &str); 8] = [
    (400, "400 Bad Request", ""),
    (404, "404 Not Found", ""),
    (405, "405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
    (431, "431 Request Header Fields Too Large", ""),
    (500, "500 Internal Server Error", ""),
    (501, "501 Not Implemented", ""),
    (503, "503 Service Unavailable", ""),
    (505, "505 HTTP Version Not Supported", ""),
];
/// The generated body's place in the table, behind the statuses.
const BODY_PAGE: u32 = 8;

impl Site {
    /// Answers every path with `body_size` octets.
    pub fn generated(body_size: u64) -> Arc<Self> {
        let mut site = Self::errors_only();
        let page = Page::new("200 OK", "text/plain", "", Body::Repeat, body_size, &site.block);
        site.pages.push(page);
        Arc::new(site)
    }

    /// Answers with the files below `root`, read now; `index.html` answers for its directory.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or all together exceed 256 MiB. Symbolic links are left out.
    pub fn from_root(root: &Path) -> anyhow::Result<Arc<Self>> {
        let mut site = Self::errors_only();
        let mut by_path = HashMap::new();
        let mut budget = ROOT_MAX;
        site.read_dir(root, "/", &mut by_path, &mut budget)?;
        site.by_path = Some(by_path);
        Ok(Arc::new(site))
    }

    fn errors_only() -> Self {
        let block = pattern(REPEAT);
        let page = |&(_, line, extra): &(u16, &str, &str)| {
            let body = format!("{line}\n").into_bytes();
            let len = body.len() as u64;
            Page::new(line, "text/plain", extra, Body::Octets(body), len, &block)
        };
        Self { pages: STATUSES.iter().map(page).collect(), by_path: None, block }
    }

    fn read_dir(
        &mut self,
        dir: &Path,
        prefix: &str,
        by_path: &mut HashMap<String, u32>,
        budget: &mut u64,
    ) -> anyhow::Result<()> {
        let entries =
            fs::read_dir(dir).with_context(|| format!("cannot read the directory {}", dir.display()))?;
        for entry in entries {
            let entry = entry.with_context(|| format!("cannot read the directory {}", dir.display()))?;
            let kind = entry.file_type()?;
            // A name that is not UTF-8 cannot be asked for, and a link might lead out of the root.
            let Some(name) = entry.file_name().to_str().map(ToString::to_string) else { continue };
            if kind.is_dir() {
                self.read_dir(&entry.path(), &format!("{prefix}{name}/"), by_path, budget)?;
            } else if kind.is_file() {
                let index = self.read_file(&entry.path(), &name, budget)?;
                by_path.insert(format!("{prefix}{name}"), index);
                if name == "index.html" {
                    by_path.insert(prefix.to_string(), index);
                }
            }
        }
        Ok(())
    }

    fn read_file(&mut self, path: &Path, name: &str, budget: &mut u64) -> anyhow::Result<u32> {
        let shown = path.display();
        let len = fs::metadata(path).with_context(|| format!("cannot look at {shown}"))?.len();
        *budget = match budget.checked_sub(len) {
            Some(left) => left,
            None => bail!("the files below --root exceed 256 MiB; serve a smaller directory"),
        };
        let octets = fs::read(path).with_context(|| format!("cannot read {shown}"))?;
        let len = octets.len() as u64;
        let page = Page::new("200 OK", content_type(name), "", Body::Octets(octets), len, &self.block);
        self.pages.push(page);
        u32::try_from(self.pages.len() - 1).context("too many files below --root")
    }

    /// The reply for `path`, as an index for [`Site::page`]; 404 when there is none.
    ///
    /// A path is only ever compared with names read at start, so no path leads out of the root.
    pub fn find(&self, path: &str) -> u32 {
        let Some(by_path) = &self.by_path else { return BODY_PAGE };
        let found = by_path.get(path).copied().or_else(|| by_path.get(&percent_decoded(path)?).copied());
        found.unwrap_or_else(|| Self::status(404))
    }

    /// The reply for an error status.
    pub fn status(status: u16) -> u32 {
        let at = STATUSES.iter().position(|&(code, ..)| code == status);
        // 500 stands in for a status that has no page.
        u32::try_from(at.unwrap_or(4)).expect("the table is short")
    }

    /// A reply by its index.
    pub fn page(&self, index: u32) -> &Page {
        &self.pages[index as usize]
    }

    /// Some octets of a reply from `at` on, and not beyond `end`.
    pub fn octets(&self, page: u32, closes: bool, at: u64, end: u64) -> &[u8] {
        let octets = self.page(page).octets(closes, at, &self.block);
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        &octets[..octets.len().min(left)]
    }
}

/// `None` when nothing is encoded, or wrongly.
fn percent_decoded(path: &str) -> Option<String> {
    let mut octets = Vec::with_capacity(path.len());
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16);
            let value = digit()? * 16 + digit()?;
            octets.push(u8::try_from(value).ok()?);
        } else {
            octets.push(byte);
        }
    }
    String::from_utf8(octets).ok()
}

fn content_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map_or("", |(_, ext)| ext) {
        "html" | "htm" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "json" => "application/json",
        "txt" | "md" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "pdf" => "application/pdf",
        "wasm" => "application/wasm",
        "xml" => "application/xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(site: &Site, page: u32, closes: bool, is_head: bool) -> Vec<u8> {
        let end = site.page(page).len(closes, is_head);
        let mut out = Vec::new();
        while (out.len() as u64) < end {
            let piece = site.octets(page, closes, out.len() as u64, end);
            assert!(!piece.is_empty());
            out.extend_from_slice(piece);
        }
        out
    }

    #[test]
    fn a_generated_body_has_its_length_and_its_pattern_at_every_size() {
        for size in [0, 1, 65_535, 65_536, 65_537, 200_000] {
            let site = Site::generated(size);
            let reply = whole(&site, site.find("/any"), false, false);
            let head_len = usize::try_from(site.page(BODY_PAGE).len(false, true)).unwrap();
            assert!(reply[..head_len].ends_with(format!("Content-Length: {size}\r\n\r\n").as_bytes()));
            let (body, block) = (&reply[head_len..], pattern(REPEAT));
            assert_eq!(body.len() as u64, size);
            assert!(body.iter().enumerate().all(|(i, &b)| b == block[i % REPEAT]), "{size}");
        }
    }

    #[test]
    fn a_root_is_served_by_exact_name_and_nothing_else_is() {
        let dir = std::env::temp_dir().join(format!("ringroad-site-{}", std::process::id()));
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("index.html"), "top").unwrap();
        fs::write(dir.join("sub/a b.css"), "x".repeat(100_000)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", dir.join("link")).unwrap();
        let site = Site::from_root(&dir).unwrap();
        fs::remove_dir_all(&dir).unwrap();

        let missing = Site::status(404);
        for (path, found, why) in [
            ("/", true, "the index answers for its directory"),
            ("/index.html", true, "by name"),
            ("/sub/a%20b.css", true, "encoded"),
            ("/sub/a%2b.css", false, "another name"),
            ("/sub/", false, "no index there"),
            ("/link", false, "links are left out"),
            ("/../etc/passwd", false, "out of the root"),
            ("/sub/../index.html", false, "not a name that was read"),
            ("/%2e%2e/etc/passwd", false, "encoded dots"),
            ("/%zz", false, "not an encoding"),
        ] {
            assert_eq!(site.find(path) != missing, found, "{path}: {why}");
        }
        let css = whole(&site, site.find("/sub/a%20b.css"), true, false);
        assert!(css.ends_with(&[b'x'; 100_000]));
        let head = String::from_utf8(whole(&site, site.find("/sub/a%20b.css"), true, true)).unwrap();
        assert!(head.contains("text/css") && head.contains("Connection: close"), "{head}");
    }
}
