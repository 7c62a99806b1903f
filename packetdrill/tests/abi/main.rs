//! The library through its interface: scripts played by a small player, calls made by hand, and packetdrill
//! itself where `$PACKETDRILL` names it.

#![expect(clippy::cast_possible_truncation, reason = "packets, scripts and constants are small")]
mod calls;
mod library;
mod packet;
mod player;
mod script;
mod scripts;
