//! Kafka's protocol: the table of APIs, wire primitives, error codes, and one file per API.
//!
//! Every codec is written by hand, so that no frame makes the broker allocate more than a small
//! multiple of the frame's size: strings borrow from the frame, byte fields share it, and all
//! arrays draw on one budget. Decoders never panic.
//!
//! Every API file has the same shape: the request's structures, `decode`, the response's
//! structures, `encode`. A field that a version lacks gets the default that the protocol gives it.
//! Tagged fields nobody reads are skipped.

pub mod api;
pub mod api_versions;
pub mod codes;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_records;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod dispatch;
pub mod error;
pub mod fetch;
pub mod find_coordinator;
pub mod header;
pub mod init_producer_id;
pub mod list_offsets;
pub mod metadata;
pub mod produce;
pub mod wire;
