//! Version 2: topics, partitions and records.

pub mod produce;
pub mod read;
pub mod topics;
