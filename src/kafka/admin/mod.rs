//! What administrators and their tools ask: topics, configs, replicas, the cluster.

pub mod alter_configs;
pub mod alter_partition_reassignments;
pub mod alter_replica_log_dirs;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_log_dirs;
pub mod describe_quorum;
pub mod elect_leaders;
pub mod incremental_alter_configs;
pub mod list_config_resources;
pub mod list_partition_reassignments;
mod loggers;
mod resources;
pub mod update_features;
