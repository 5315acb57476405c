//! Files, mappings, the ring, the clock and fault injection: the only room with `unsafe`.

pub mod clock;
pub mod fault;
pub mod file;
pub mod map;
pub mod process;
pub mod reactor;
pub mod ring;
pub mod sabotage;
pub mod seldom;
pub mod worker;
