//! Has the reply begun, and has it ended? Fed with octets in any pieces.
#![forbid(unsafe_code)]

use super::heads::{Gathered, HeadBytes, PartialHead};
use super::http::parse_reply;
use super::{AppKind, HeadSlab, Workload};

/// One connection's reply, between [`ReplyParser::begin`] and its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReplyParser {
    stage: Stage,
    partial: PartialHead,
    status: u16,
    keep_alive: bool,
}

#[derive(Clone, Copy, Debug, Default)]
enum Stage {
    Head,
    Body(u64),
    UntilEof,
    #[default]
    Done,
}

/// How far the octets given have led.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All were taken and the reply goes on.
    More,
    /// The reply ended after so many of them.
    Complete(usize),
    /// This is no reply that can be understood.
    Bad,
}

impl ReplyParser {
    /// Expects a new reply.
    pub fn begin(&mut self, workload: &Workload) {
        self.keep_alive = true;
        self.status = 200;
        self.stage = match workload.app {
            AppKind::Echo => Stage::Body(workload.reply_size),
            AppKind::Http => Stage::Head,
        };
    }

    /// Takes the next octets.
    pub fn feed(&mut self, data: &[u8], heads: &mut HeadSlab) -> Progress {
        let mut used = 0;
        loop {
            let rest = &data[used..];
            match self.stage {
                Stage::Done => return Progress::Complete(used),
                Stage::UntilEof => return Progress::More,
                Stage::Body(left) => {
                    let take = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    used += take;
                    let left = left - take as u64;
                    self.stage = if left == 0 { Stage::Done } else { Stage::Body(left) };
                    if left > 0 {
                        return Progress::More;
                    }
                }
                Stage::Head if rest.is_empty() => return Progress::More,
                Stage::Head => match self.head(rest, heads) {
                    Ok(taken) => used += taken,
                    Err(progress) => return progress,
                },
            }
        }
    }

    /// One head, interim ones too; how many octets it took.
    fn head(&mut self, data: &[u8], heads: &mut HeadSlab) -> Result<usize, Progress> {
        let (parsed, taken) = match heads.gather(&mut self.partial, data) {
            Gathered::More => return Err(Progress::More),
            Gathered::TooLong | Gathered::NoBuffer => return Err(Progress::Bad),
            Gathered::Whole(HeadBytes::InPlace, taken) => (parse_reply(&data[..taken]), taken),
            Gathered::Whole(HeadBytes::Buffered, taken) => (parse_reply(heads.bytes(self.partial)), taken),
        };
        heads.release(&mut self.partial);
        let head = parsed.ok_or(Progress::Bad)?;
        // An interim reply (1xx) is followed by the real one.
        if head.status >= 200 {
            self.status = head.status;
            self.keep_alive = head.keep_alive;
            self.stage = head.body_len.map_or(Stage::UntilEof, Stage::Body);
        }
        Ok(taken)
    }

    /// The stream ended; whether that ended the reply as it should.
    pub fn on_eof(&mut self) -> bool {
        let ended = matches!(self.stage, Stage::UntilEof | Stage::Done);
        self.stage = Stage::Done;
        ended
    }

    /// Whether another request may follow on this connection.
    pub fn keep_alive(&self) -> bool {
        self.keep_alive
    }

    /// Whether the status tells of success: always, for echo.
    pub fn is_success(&self) -> bool {
        self.status < 400
    }

    /// Gives back what a reply that will not end still holds.
    pub fn reset(&mut self, heads: &mut HeadSlab) {
        heads.release(&mut self.partial);
        self.stage = Stage::Done;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{CloseSide, Direction, Profile};

    fn workload(app: AppKind) -> Workload {
        Workload {
            profile: Profile::Rr,
            app,
            close: CloseSide::Client,
            direction: Direction::Down,
            request_size: 4,
            reply_size: 4,
            path: "/".into(),
        }
    }

    fn feed_split(app: AppKind, text: &[u8], split: usize) -> (Progress, Progress, ReplyParser) {
        let mut heads = HeadSlab::new(1);
        let mut parser = ReplyParser::default();
        parser.begin(&workload(app));
        let first = parser.feed(&text[..split], &mut heads);
        let second = if first == Progress::More { parser.feed(&text[split..], &mut heads) } else { first };
        (first, second, parser)
    }

    #[test]
    fn an_http_reply_ends_at_its_length_at_every_split() {
        let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        for split in 1..text.len() {
            let (first, second, parser) = feed_split(AppKind::Http, text, split);
            assert_eq!(first, Progress::More, "{split}");
            assert_eq!(second, Progress::Complete(text.len() - split), "{split}");
            assert!(parser.keep_alive() && parser.is_success());
        }
    }

    #[test]
    fn an_echo_ends_after_its_octets_and_leaves_the_rest() {
        for split in 1..4 {
            let (first, second, _) = feed_split(AppKind::Echo, b"abcdX", split);
            assert_eq!((first, second), (Progress::More, Progress::Complete(4 - split)));
        }
        assert_eq!(feed_split(AppKind::Echo, b"abcdX", 5).0, Progress::Complete(4));
    }

    #[test]
    fn the_end_of_the_stream_ends_only_replies_without_length() {
        for (text, ends, why) in [
            ("HTTP/1.1 200 OK\r\n\r\nabc", true, "no length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", false, "six octets are missing"),
            ("HTTP/1.1 200 OK\r\n", false, "in the head"),
        ] {
            let (.., mut parser) = feed_split(AppKind::Http, text.as_bytes(), 1);
            assert_eq!(parser.on_eof(), ends, "{why}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_bad() {
        for text in ["HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "SSH-2.0-x\r\n\r\n"] {
            assert_eq!(feed_split(AppKind::Http, text.as_bytes(), 1).1, Progress::Bad, "{text}");
        }
    }
}
