//! Version 3: clusters, topics and their configs, partitions, consumer groups, records.

pub mod clusters;
pub mod configs;
pub mod groups;
pub mod links;
pub mod produce;
mod record;
pub mod topics;
