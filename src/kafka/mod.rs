//! Kafka's protocol: the table of APIs, error codes, and one file per API.
//!
//! An API file declares the messages of its API with `message!` (`schema.rs`) and has their handler. A handler
//! gets the request and a [`context::Context`]: what serves the request, who asks, and in which version.
//! `client` reads and writes the same messages in the other direction.
//!
//! No frame makes the broker allocate more than a small multiple of the frame's size: strings borrow from
//! the frame, byte fields share it, and all arrays draw on one budget ([`crate::wire::Reader`]). Decoders
//! never panic.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod answer;
pub mod api;
pub mod api_versions;
pub mod codes;
pub mod connection;
pub mod consumer_protocol;
pub mod context;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_log_dirs;
pub mod describe_producers;
pub mod describe_quorum;
pub mod describe_topic_partitions;
pub mod dispatch;
pub mod elect_leaders;
pub mod error;
pub mod fetch;
pub mod find_coordinator;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_config_resources;
pub mod list_groups;
pub mod list_offsets;
pub mod list_partition_reassignments;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
mod reply_budget;
mod schema;
pub mod sync_group;
pub mod update_features;
