//! Segments of one stream in any order, overlapping, repeated and torn: the stream comes out, and nothing else.

use ringroad::base::Seq;
use ringroad::io::sim::SimNet;
use ringroad::stack::{App, Cx, Flow, Listen};
use ringroad::tcp::RecvPools;
use ringroad::wire::{Control, Mac, TcpOptions};

use super::host::{CLEAN, LIMITS, address, config, see, segment};
use super::input::Input;

/// How many pieces out of order there is room for: an eighth of those that they leave. One more is forgotten.
const RANGES_MAX: usize = RecvPools::ranges(LIMITS.reassembly_max) as usize / 9;
/// Octets of the stream.
const LEN: usize = 8_000;
/// The peer's initial sequence number: the stream crosses zero.
const ISS: u32 = u32::MAX - 3_000;

fn stream() -> Vec<u8> {
    (0..LEN).map(|at| u8::try_from(at % 251).expect("below 251")).collect()
}

/// Keeps all that arrives; reads in small bites while told to.
#[derive(Default)]
struct Reader {
    text: Vec<u8>,
    bite: Option<usize>,
    fin: bool,
}

impl App for Reader {
    fn on_start(&mut self, cx: &mut Cx<'_>) {
        cx.listen(&Listen::new(address(1), 80)).expect("a listener");
    }

    fn on_data(&mut self, flow: &mut Flow<'_>, data: &[u8]) -> usize {
        assert!(!self.fin, "text after FIN");
        let taken = self.bite.unwrap_or(usize::MAX).min(data.len());
        self.text.extend(&data[..taken]);
        flow.set_timer(std::time::Duration::from_millis(1));
        taken
    }

    fn on_timer(&mut self, flow: &mut Flow<'_>) {
        flow.resume();
    }

    fn on_fin(&mut self, flow: &mut Flow<'_>) {
        self.fin = true;
        flow.close();
    }
}

/// The peer: what it has sent, and with it a slow model of what the engine keeps of that.
struct Peer {
    net: SimNet<Reader>,
    stream: Vec<u8>,
    kept: Vec<bool>,
    /// What the next answer has to report as received twice.
    again: Option<(usize, usize)>,
    ack: u32,
}

impl Peer {
    /// A connection whose handshake is over.
    fn new() -> Self {
        let mut net = SimNet::new(1);
        net.add(config(1), Reader::default(), CLEAN);
        net.host_mut(0).engine.set_neighbour(address(9), Mac([2, 0, 0, 0, 0, 9]));
        net.capture();
        net.start();
        net.inject(0, &segment(ISS, 0, Control::SYN, &[]));
        let answer = net.take_captured();
        let iss = see(&answer.first().expect("SYN, ACK").frame).seq();
        let ack = iss.raw().wrapping_add(1);
        let mut peer = Self { net, stream: stream(), kept: vec![false; LEN], again: None, ack };
        peer.send(0, 0, Control::ACK);
        assert_eq!(peer.net.host(0).engine.flow_count(), 1);
        peer
    }

    /// Sends `len` octets of the stream from `at` on, and looks at the answers.
    fn send(&mut self, at: usize, len: usize, ctl: Control) {
        let end = (at + len).min(LEN);
        let seq = ISS.wrapping_add(1).wrapping_add(u32::try_from(at).expect("small"));
        self.again = self.kept_before(at, end);
        self.keep(at, end);
        self.net.inject(0, &segment(seq, self.ack, ctl, &self.stream[at..end]));
        let until = self.net.now().plus_micros(10_000);
        assert!(self.net.run(until, 10_000));
        self.look();
    }

    /// The first stretch of a segment that is there already (RFC 2883 §4).
    fn kept_before(&self, at: usize, end: usize) -> Option<(usize, usize)> {
        let start = at + self.kept[at..end].iter().position(|&kept| kept)?;
        let len = self.kept[start..end].iter().position(|&kept| !kept).unwrap_or(end - start);
        Some((start, start + len))
    }

    /// The model: a segment is kept whole unless it would make one piece more than there may be.
    fn keep(&mut self, at: usize, end: usize) {
        let mut kept = self.kept.clone();
        kept[at..end].fill(true);
        let pieces = |kept: &[bool]| kept.chunk_by(|a, b| a == b).filter(|piece| piece[0]).count();
        // The first piece is no piece out of order once the stream has begun with it.
        if pieces(&kept) <= RANGES_MAX + usize::from(kept[0]) || pieces(&kept) <= pieces(&self.kept) {
            self.kept = kept;
        }
    }

    /// How much of the stream is there without a gap.
    fn in_order(&self) -> usize {
        self.kept.iter().position(|&kept| !kept).unwrap_or(LEN)
    }

    /// What was delivered is the stream's beginning; ACKs and SACK blocks name just what the model keeps.
    fn look(&mut self) {
        let text = &self.net.host(0).app.text;
        assert!(self.stream.starts_with(text), "the stream as it was sent");
        assert!(text.len() <= self.in_order(), "nothing that was not sent");
        assert!(text.len() == self.in_order() || self.net.host(0).app.bite.is_some(), "read at once");
        let mut again = self.again.take();
        for answer in self.net.take_captured() {
            let view = see(&answer.frame);
            assert!(!view.ctl().contains(Control::RST));
            // FIN, which comes last, counts for one.
            assert_eq!(self.position(view.ack()).min(LEN), self.in_order(), "acknowledged");
            let sack = TcpOptions::parse(view.options).sack;
            let mut blocks =
                sack.as_slice().iter().map(|&(left, right)| (self.position(left), self.position(right)));
            if let Some(again) = again.take() {
                assert_eq!(blocks.next(), Some(again), "received twice");
            }
            for (left, right) in blocks {
                assert!(
                    self.in_order() < left && left < right && right <= LEN,
                    "out of order: {left}..{right}, {}",
                    self.in_order()
                );
                assert!(self.kept[left..right].iter().all(|&kept| kept), "{left} to {right} is kept");
                let is_whole = !self.kept[left - 1] && !self.kept.get(right).is_some_and(|&kept| kept);
                assert!(is_whole, "{left} to {right} is a whole piece");
            }
        }
    }

    fn position(&self, seq: Seq) -> usize {
        usize::try_from(seq.raw().wrapping_sub(ISS.wrapping_add(1))).expect("64 bits")
    }
}

/// Four octets a segment: where it begins and how long it is; longer than 1400 octets is an order to the reader.
///
/// # Panics
///
/// Where the property does not hold.
pub fn check(data: &[u8]) {
    let mut input = Input(data);
    let mut peer = Peer::new();
    while !input.is_empty() {
        let (at, len) = (usize::from(input.number()) % LEN, usize::from(input.number() % 1_500));
        match len.checked_sub(1_400) {
            None => peer.send(at, len, Control::ACK),
            Some(bite) => peer.net.host_mut(0).app.bite = (bite > 0).then_some(bite * 8),
        }
    }
    // Then all of it in order, as a sender does that goes back to the beginning; and FIN.
    peer.net.host_mut(0).app.bite = None;
    for at in (0..LEN).step_by(1_000) {
        peer.send(at, 1_000, Control::ACK);
    }
    assert_eq!(peer.net.host(0).app.text.len(), LEN, "all of it arrived");
    peer.send(LEN, 0, Control::ACK | Control::FIN);
    assert!(peer.net.host(0).app.fin);
}
