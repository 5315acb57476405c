//! Records and the topics that hold them: produce, fetch, offsets, metadata.

pub mod delete_records;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod list_offsets;
pub mod metadata;
pub mod offset_for_leader_epoch;
pub mod produce;
