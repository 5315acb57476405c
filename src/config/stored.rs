//! Kafka's topic configs that have no effect here. They are checked as Kafka checks them, stored and shown,
//! so that tools which set them, and mirrors of topics which have them, work.

use super::knob::{Knob, Scope};
use super::value::{INT_MAX, Kind, LONG_MAX, bytes, count, millis};

/// Topic configs that Kafka 4.0 removed. Old scripts still set them; they are ignored.
pub const REMOVED: &[&str] = &[
    "message.downconversion.enable",
    "message.format.version",
    "message.timestamp.difference.max.ms",
];

const ONE_REPLICA: &str = "every partition has one replica";
const NO_TIERS: &str = "all segments are local";

/// A row is `field = default, kind, Kafka's name of the broker's default or nothing, why without effect`.
macro_rules! stored {
    ($($(#[doc = $help:literal])+ $field:ident = $default:expr, $kind:expr, $kafka:expr, $why:expr;)+) => {
        pub(super) const STORED: &[Knob] = &[$(Knob {
            field: stringify!($field),
            scope: Scope::Topic,
            section: "Topic defaults",
            kind: $kind,
            kafka: $kafka,
            default: || $default.to_string(),
            help: concat!($($help),+),
            shown: None,
            why: None,
            without_effect: Some($why),
        },)+];
    };
}

stored! {
    /// Level of lz4 where `compression.type` is `lz4`.
    compression_lz4_level = 9, count(1, 17), Some("compression.lz4.level"), "lz4 is always written at its fastest level";
    /// Records after which a log is flushed.
    flush_messages = i64::MAX, count(1, LONG_MAX), Some("log.flush.interval.messages"), "a flush comes before every acknowledgement";
    /// Time after which a log is flushed.
    flush_ms = i64::MAX, millis(0, LONG_MAX), Some("log.flush.interval.ms"), "a flush comes before every acknowledgement";
    /// Largest size of a segment's index.
    segment_index_bytes = 10_485_760, bytes(4, INT_MAX), Some("log.index.size.max.bytes"), "indexes grow as they need to";
    /// How long a deleted segment's file is kept.
    file_delete_delay_ms = 60_000, millis(0, LONG_MAX), Some("log.segment.delete.delay.ms"), "deleted segments go at once";
    /// Whether a segment's file gets its whole size when it is created.
    preallocate = false, Kind::Bool, Some("log.preallocate"), "disk space is reserved in steps for every segment";
    /// Whether a replica that is behind may lead a partition.
    unclean_leader_election_enable = false, Kind::Bool, Some("unclean.leader.election.enable"), ONE_REPLICA;
    /// Replicas whose replication is throttled where they lead.
    leader_replication_throttled_replicas = "", Kind::Replicas, None, ONE_REPLICA;
    /// Replicas whose replication is throttled where they follow.
    follower_replication_throttled_replicas = "", Kind::Replicas, None, ONE_REPLICA;
    /// Whether closed segments also go to remote storage.
    remote_storage_enable = false, Kind::Bool, None, NO_TIERS;
    /// How long segments that are in remote storage stay here too; -2: as long as `retention.ms` says.
    local_retention_ms = -2, millis(-2, LONG_MAX), Some("log.local.retention.ms"), NO_TIERS;
    /// Bytes of segments in remote storage that stay here too; -2: as many as `retention.bytes` says.
    local_retention_bytes = -2, bytes(-2, LONG_MAX), Some("log.local.retention.bytes"), NO_TIERS;
    /// Whether no more segments go to remote storage.
    remote_log_copy_disable = false, Kind::Bool, None, NO_TIERS;
    /// Whether remote segments are deleted when remote storage is turned off.
    remote_log_delete_on_disable = false, Kind::Bool, None, NO_TIERS;
    /// How long a closed segment waits before it goes to remote storage.
    remote_copy_lag_ms = 0, millis(-1, LONG_MAX), None, NO_TIERS;
    /// Bytes behind the end of the log that do not go to remote storage yet.
    remote_copy_lag_bytes = 0, bytes(-1, LONG_MAX), None, NO_TIERS;
    /// Whether share groups may use the topic for records that could not be delivered.
    errors_deadletterqueue_group_enable = false, Kind::Bool, None, "there are no share groups";
    /// Size of a segment in tests of Kafka's own.
    internal_segment_bytes = "", count(1, INT_MAX), None, "`segment.bytes` has this effect";
}
