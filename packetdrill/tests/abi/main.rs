//! The library through its interface: scripts played by a small player, calls made by hand, and packetdrill
//! itself where `$PACKETDRILL` names it.

mod calls;
mod library;
mod packet;
mod player;
mod script;
mod scripts;
