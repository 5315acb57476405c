//! Connections as streams of bytes: listening, accepting, reading, writing, and what each may take.
//! Knows no protocol.

pub mod addresses;
pub mod budget;
pub mod connections;
pub mod counters;
pub mod listener;
pub mod stream;
