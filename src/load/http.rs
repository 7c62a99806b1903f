//! HTTP/1.1 message heads (RFC 9112): what the server and the generator need to know of one.
#![forbid(unsafe_code)]

use std::mem::MaybeUninit;

/// Header fields looked at; a head with more is refused.
const FIELDS_MAX: usize = 64;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct RequestHead<'a> {
    /// Whether the reply has no body: HEAD.
    pub is_head: bool,
    /// Path of the target, without query.
    pub path: &'a str,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
    /// Octets of body that follow and are not looked at.
    pub body_len: u64,
}

/// How a reply goes on after its head.
#[derive(Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// The status code.
    pub status: u16,
    /// Content-Length; `None` means that the end of the stream ends it.
    pub body_len: Option<u64>,
    /// Whether the connection stays open afterwards.
    pub keep_alive: bool,
}

/// Where the head that starts `data` ends, looked for from `from` on: after the first empty line.
pub(super) fn head_end(data: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while let Some(found) = data.get(at..)?.iter().position(|&b| b == b'\n') {
        let newline = at + found;
        match data.get(newline + 1..)? {
            [b'\n', ..] => return Some(newline + 2),
            [b'\r', b'\n', ..] => return Some(newline + 3),
            _ => at = newline + 1,
        }
    }
    None
}

/// The fields of a head that matter to either side.
#[derive(Debug, Default)]
struct Fields {
    content_length: Option<u64>,
    transfer_encoding: bool,
    close: bool,
    keep_alive: bool,
    host: bool,
}

impl Fields {
    /// `None` when a field contradicts itself.
    fn read(headers: &[httparse::Header<'_>]) -> Option<Self> {
        let mut fields = Self::default();
        for header in headers {
            if header.name.eq_ignore_ascii_case("content-length") {
                let text = str::from_utf8(header.value).ok()?;
                // `parse` would take a plus sign, and request smuggling begins with such leniency.
                let len = text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())??;
                if fields.content_length.replace(len).is_some_and(|before| before != len) {
                    return None;
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                fields.transfer_encoding = true;
            } else if header.name.eq_ignore_ascii_case("connection") {
                for token in header.value.split(|&b| b == b',') {
                    fields.close |= token.trim_ascii().eq_ignore_ascii_case(b"close");
                    fields.keep_alive |= token.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
                }
            } else if header.name.eq_ignore_ascii_case("host") {
                fields.host = true;
            }
        }
        Some(fields)
    }

    /// RFC 9112 §9.3.
    fn stays_open(&self, minor: u8) -> bool {
        !self.close && (minor >= 1 || self.keep_alive)
    }
}

/// Reads a whole request head.
///
/// # Errors
///
/// The status to answer with: 400 for what is not HTTP/1, 405 for methods other than GET and HEAD, 501
/// for a body in an encoding, 505 for other versions.
pub fn parse_request(head: &[u8]) -> Result<RequestHead<'_>, u16> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(head, &mut headers) {
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::Version) if names_another_version(head) => return Err(505),
        Err(httparse::Error::TooManyHeaders) => return Err(431),
        Ok(httparse::Status::Partial) | Err(_) => return Err(400),
    }
    let is_head = match request.method {
        Some("GET") => false,
        Some("HEAD") => true,
        _ => return Err(405),
    };
    let fields = Fields::read(request.headers).ok_or(400u16)?;
    let minor = request.version.unwrap_or(0);
    // RFC 9112 §3.2: a request of HTTP/1.1 without Host is malformed.
    if minor >= 1 && !fields.host {
        return Err(400);
    }
    if fields.transfer_encoding {
        return Err(501);
    }
    Ok(RequestHead {
        is_head,
        path: path_of(request.path.unwrap_or("")).ok_or(400u16)?,
        keep_alive: fields.stays_open(minor),
        body_len: fields.content_length.unwrap_or(0),
    })
}

/// Whether the request line ends in `HTTP/` and a digit: a version, though not one of ours.
fn names_another_version(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\n').next().unwrap_or(&[]).trim_ascii_end();
    let last = line.rsplit(|&b| b == b' ').next().unwrap_or(&[]);
    last.strip_prefix(b"HTTP/").is_some_and(|v| v.first().is_some_and(u8::is_ascii_digit))
}

/// The path of an origin-form or absolute-form target (RFC 9112 §3.2).
fn path_of(target: &str) -> Option<&str> {
    let path = match target.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |at| &rest[at..]),
        None => target,
    };
    let path = path.split(['?', '#']).next()?;
    path.starts_with('/').then_some(path)
}

/// Reads a whole reply head; `None` when it is not one, or its body's end cannot be told.
pub fn parse_reply(head: &[u8]) -> Option<ReplyHead> {
    let mut headers = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut reply = httparse::Response::new(&mut []);
    let config = httparse::ParserConfig::default();
    let parsed = config.parse_response_with_uninit_headers(&mut reply, head, &mut headers);
    if !matches!(parsed, Ok(httparse::Status::Complete(_))) {
        return None;
    }
    let fields = Fields::read(reply.headers)?;
    if fields.transfer_encoding {
        return None;
    }
    let status = reply.code?;
    // RFC 9112 §6.3: these never have a body.
    let no_body = status < 200 || status == 204 || status == 304;
    let body_len = if no_body { Some(0) } else { fields.content_length };
    let keep_alive = body_len.is_some() && fields.stays_open(reply.version?);
    Some(ReplyHead { status, body_len, keep_alive })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::format;

    #[test]
    fn the_end_of_a_head_is_its_first_empty_line() {
        for (text, end, why) in [
            ("a\r\n\r\nb", Some(5), "as written"),
            ("a\n\nb", Some(3), "bare line feeds"),
            ("a\r\n\n", Some(4), "mixed"),
            ("a\r\nb\r\n\r", None, "the last line feed is missing"),
            ("a\r\nb\r\n", None, "no empty line"),
            ("", None, "nothing"),
        ] {
            assert_eq!(head_end(text.as_bytes(), 0), end, "{why}");
        }
    }

    #[test]
    fn requests_are_answered_by_what_they_ask() {
        let ok =
            |is_head, path, keep_alive, body_len| Ok(RequestHead { is_head, path, keep_alive, body_len });
        for (text, want, why) in [
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok(false, "/", true, 0), "1.1 stays open"),
            ("HEAD /a HTTP/1.1\r\nHost: x\r\n\r\n", ok(true, "/a", true, 0), "HEAD"),
            ("GET / HTTP/1.0\r\n\r\n", ok(false, "/", false, 0), "1.0 closes and needs no Host"),
            ("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", ok(false, "/", true, 0), "1.0 asks"),
            ("GET / HTTP/1.1\r\nhost:x\r\nconnection: foo, Close\r\n\r\n", ok(false, "/", false, 0), "token"),
            ("GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", ok(false, "/a", true, 0), "query cut"),
            ("GET http://x/a HTTP/1.1\r\nHost: x\r\n\r\n", ok(false, "/a", true, 0), "absolute form"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n", ok(false, "/", true, 7), "body"),
            ("GET / HTTP/1.1\r\n\r\n", Err(400), "no Host"),
            ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", Err(400), "two spaces"),
            ("GET a HTTP/1.1\r\nHost: x\r\n\r\n", Err(400), "no slash"),
            ("GET / HTTP/1.1\r\nHost : x\r\n\r\n", Err(400), "space before the colon"),
            ("GET / HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", Err(400), "folded line"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: +1\r\n\r\n", Err(400), "sign"),
            ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", Err(400), "two"),
            ("GET / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", Err(501), "chunked body"),
            ("POST / HTTP/1.1\r\nHost: x\r\n\r\n", Err(405), "method"),
            ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", Err(505), "version"),
            ("GET / FTP/1.1\r\nHost: x\r\n\r\n", Err(400), "not HTTP"),
            ("\u{16}\u{3}\u{1}\r\n\r\n", Err(400), "TLS"),
        ] {
            assert_eq!(parse_request(text.as_bytes()), want, "{why}");
        }
    }

    #[test]
    fn a_reply_head_says_where_the_body_ends() {
        let head = |status, body_len, keep_alive| Some(ReplyHead { status, body_len, keep_alive });
        for (fields, want, why) in [
            ("1.1 200 OK\r\nContent-Length: 5\r\n", head(200, Some(5), true), "length"),
            ("1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n", head(200, Some(5), false), "close"),
            ("1.1 200 OK\r\n", head(200, None, false), "until the end of the stream"),
            ("1.0 200 OK\r\nContent-Length: 5\r\n", head(200, Some(5), false), "1.0"),
            ("1.1 304 Not Modified\r\nContent-Length: 5\r\n", head(304, Some(0), true), "never a body"),
            ("1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", None, "chunked is not read"),
            ("1.1 2x0 OK\r\n", None, "no status"),
        ] {
            assert_eq!(parse_reply(format!("HTTP/{fields}\r\n").as_bytes()), want, "{why}");
        }
    }
}
