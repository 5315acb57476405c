//! The limits and delays of groups.

use crate::config::Config;

/// The limits and delays of groups. Names and defaults are Kafka's unless said otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// How long the first rebalance of an empty group waits for more members
    /// (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i64,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: i64,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: i64,
    /// Longest rebalance timeout; clients that ask for more get this.
    pub rebalance_timeout_max_ms: i64,
    /// How long a new member waits for the answer to its first join.
    pub new_member_join_timeout_ms: i64,
    /// Members of one group, and as many pending ones (`group.max.size`; unlimited in Kafka).
    pub group_max_size: usize,
    /// Protocols of one member.
    pub group_protocols_max: usize,
    /// Bytes of memory of all members of one group together.
    pub group_metadata_bytes_max: usize,
    /// Bytes of a group's record (in Kafka: `max.message.bytes` of the topic).
    pub group_record_bytes_max: usize,
    /// Bytes of memory of all groups of all shards together.
    pub groups_bytes_max: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_bytes_max: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offset_retention_ms: i64,
}

impl GroupConfig {
    pub fn of_broker(config: &Config) -> GroupConfig {
        GroupConfig {
            initial_rebalance_delay_ms: config.group_initial_rebalance_delay_ms as i64,
            session_timeout_min_ms: config.group_min_session_timeout_ms as i64,
            session_timeout_max_ms: config.group_max_session_timeout_ms as i64,
            rebalance_timeout_max_ms: config.group_max_rebalance_timeout_ms as i64,
            group_max_size: config.group_max_size,
            group_protocols_max: config.group_protocols_max,
            group_metadata_bytes_max: config.group_metadata_bytes_max,
            group_record_bytes_max: config.group_record_bytes_max,
            groups_bytes_max: config.groups_bytes_max,
            offset_metadata_bytes_max: config.offset_metadata_bytes_max,
            offset_retention_ms: config.offsets_retention_ms as i64,
            ..GroupConfig::default()
        }
    }

    /// The longest session timeout and the longest rebalance timeout (ms).
    pub fn timeouts_max_ms(&self) -> (i64, i64) {
        (self.session_timeout_max_ms, self.rebalance_timeout_max_ms)
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            initial_rebalance_delay_ms: 3_000,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 30 * 60 * 1_000,
            rebalance_timeout_max_ms: 60 * 60 * 1_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            group_max_size: 10_000,
            group_protocols_max: 64,
            group_metadata_bytes_max: 16 << 20,
            group_record_bytes_max: 1 << 20,
            groups_bytes_max: 512 << 20,
            offset_metadata_bytes_max: 4_096,
            offset_retention_ms: 7 * 24 * 60 * 60 * 1_000,
        }
    }
}
