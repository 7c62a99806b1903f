//! Cells generated in code; what is to come of each is derived from the RFCs, never from the engine.
mod cells;
mod icmp;
mod model;
mod reassembly;
