//! Files, mappings, the ring, the clock and fault injection: the only room with `unsafe`. And what every
//! room needs below it: counters and limits, log lines that are rare, the signal to stop.

pub mod clock;
pub mod counters;
pub mod fault;
pub mod file;
pub mod limits;
pub mod log_levels;
pub mod map;
pub mod memory;
pub mod process;
pub mod rate_limited;
pub mod reactor;
pub mod ring;
pub mod sabotage;
pub mod socket;
pub mod stop;
pub mod worker;
