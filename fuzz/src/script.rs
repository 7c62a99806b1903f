//! Packet scripts of any text: the property lies beside the reader, in tests/pkt, which replays the corpus too.

#[path = "../../tests/pkt/any_text.rs"]
mod any_text;
#[path = "../../tests/pkt/host.rs"]
pub mod host;
#[path = "../../tests/pkt/run.rs"]
pub mod run;
#[path = "../../tests/pkt/script.rs"]
pub mod script;
#[path = "../../tests/pkt/wire.rs"]
pub mod wire;
#[path = "../../tests/pkt/words.rs"]
pub mod words;

pub use any_text::check;
