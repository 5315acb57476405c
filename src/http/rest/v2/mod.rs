//! Version 2: topics, partitions, records and consumers.

pub mod consumers;
pub mod offsets;
pub mod produce;
pub mod read;
pub mod topics;
