//! HTTP of any octets, in any pieces: what is understood does not depend on where the pieces end.

use std::sync::Arc;

use ringroad::load::{
    AppKind, CloseSide, Conn, Direction, HeadSlab, Profile, Progress, ReplyParser, ServeApp, Service, Site,
    Workload, parse_reply, parse_request,
};

use super::input::Input;

/// A connection that takes everything, up to a bound.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pipe {
    sent: Vec<u8>,
    closed: bool,
    aborted: bool,
}

impl Conn for Pipe {
    fn send(&mut self, data: &[u8]) -> usize {
        assert!(!self.closed && !self.aborted, "nothing is sent after the end");
        self.sent.extend(data);
        data.len()
    }

    fn shutdown(&mut self) {
        self.closed = true;
    }

    fn close(&mut self) {
        self.closed = true;
    }

    fn abort(&mut self) {
        self.aborted = true;
    }

    fn resume(&mut self) {}
}

/// What the server answers to `data` given in pieces of `piece` octets.
fn serve(site: &Arc<Site>, data: &[u8], piece: usize) -> Pipe {
    let mut service = Service::new(ServeApp::Http(Arc::clone(site)), 1);
    let mut pipe = Pipe::default();
    service.on_accept(0, &mut pipe);
    for piece in data.chunks(piece) {
        if pipe.closed || pipe.aborted {
            break;
        }
        assert_eq!(service.on_data(0, piece, &mut pipe), piece.len(), "a pipe takes every reply");
    }
    service.on_closed(0);
    pipe
}

/// What a client makes of `data` given in pieces: how much of it is the reply, if it ends.
fn read_reply(data: &[u8], piece: usize) -> (Option<usize>, bool, bool) {
    let workload = Workload {
        profile: Profile::Rr,
        app: AppKind::Http,
        close: CloseSide::Client,
        direction: Direction::Down,
        request_size: 4,
        reply_size: 4,
        path: "/".into(),
    };
    let (mut heads, mut parser) = (HeadSlab::new(1), ReplyParser::default());
    parser.begin(&workload);
    let mut used = 0;
    for piece in data.chunks(piece) {
        match parser.feed(piece, &mut heads) {
            Progress::More => used += piece.len(),
            Progress::Complete(taken) => {
                return (Some(used + taken), parser.keep_alive(), parser.is_success());
            }
            Progress::Bad => return (None, false, false),
        }
    }
    let ended = parser.on_eof();
    parser.reset(&mut heads);
    (ended.then_some(used), parser.keep_alive(), parser.is_success())
}

/// The first octet is the length of the pieces, the rest is a request or a reply.
///
/// # Panics
///
/// Where the property does not hold.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let piece = usize::from(input.octet()).max(1);
    // Longer heads are refused, and when that is noticed depends on the pieces.
    let data = &input.0[..input.0.len().min(4_096)];
    if let Ok(request) = parse_request(data) {
        assert!(request.path.starts_with('/') && !request.path.contains(['?', '#']));
    }
    if let Some(reply) = parse_reply(data) {
        assert!(reply.body_len.is_some() || !reply.keep_alive, "a reply until the end of the stream");
    }
    let site = Site::generated(100);
    assert_eq!(serve(&site, data, piece), serve(&site, data, data.len().max(1)), "pieces of {piece}");
    assert_eq!(read_reply(data, piece), read_reply(data, data.len().max(1)), "pieces of {piece}");
}
