//! Packet scripts and the matrix: one connection against a scripted peer, in virtual time.
mod any_text;
#[path = "../corpus/mod.rs"]
mod corpus;
mod host;
mod language;
mod matrix;
mod run;
mod script;
mod scripts;
mod wire;
mod words;
