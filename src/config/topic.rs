//! The topic configs, under Kafka's own names.
//!
//! Only what the broker honours stands here. Kafka's `flush.messages`, `flush.ms`,
//! `segment.index.bytes` and `file.delete.delay.ms` are left out: a flush comes before every
//! acknowledgement, indexes grow by themselves, and deleted segments go at once. Setting one of
//! them is refused like any unknown name.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ConfigError, Origin};
use super::knob::{Knob, table};
use super::nearest::nearest;
use super::value::{
    CleanupPolicy, CompressionType, GIB, INT_MAX, Kind, LONG_MAX, MIB, MessageValidation, Ratio,
    TimestampType, bytes, count, millis,
};

table! {
    /// A topic's configuration, resolved: its own overrides over the broker's defaults. Durations are
    /// `i64` milliseconds, like Kafka's timestamps.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TopicConfig of Topic

    "Topic defaults" {
        /// What happens to old records: `delete` drops whole segments by age and size, `compact` keeps
        /// the newest record of each key, `compact,delete` does both.
        cleanup_policy: CleanupPolicy = CleanupPolicy::Delete, Kind::List(CleanupPolicy::NAMES),
            kafka "log.cleanup.policy";
        /// How long a tombstone (a record without a value, which deletes its key) is kept after its first
        /// compaction. A consumer that reads the whole topic within this time sees all tombstones.
        delete_retention_ms: i64 = 86_400_000, millis(0, LONG_MAX), kafka "log.cleaner.delete.retention.ms";
        /// A partition is compacted when at least this share of its bytes is not compacted yet.
        min_cleanable_dirty_ratio: Ratio = Ratio::HALF, Kind::Ratio, kafka "log.cleaner.min.cleanable.ratio";
        /// How long a record stays before compaction may remove it.
        min_compaction_lag_ms: i64 = 0, millis(0, LONG_MAX), kafka "log.cleaner.min.compaction.lag.ms";
        /// How long a record may wait for compaction, whatever the share of bytes not compacted yet.
        /// A segment is closed at this age even if `segment.ms` is longer.
        max_compaction_lag_ms: i64 = i64::MAX, millis(1, LONG_MAX), kafka "log.cleaner.max.compaction.lag.ms";
        /// How long records are kept. -1 keeps them for ever.
        retention_ms: i64 = 604_800_000, millis(-1, LONG_MAX), kafka "log.retention.ms";
        /// Bytes a partition may grow to before its oldest segments are deleted. -1 is no limit.
        retention_bytes: i64 = -1, bytes(-1, LONG_MAX), kafka "log.retention.bytes";
        /// Size at which a segment is closed and the next begun. A batch that is larger is refused.
        segment_bytes: u32 = GIB as u32, bytes(MIB, INT_MAX), kafka "log.segment.bytes";
        /// Age at which a segment is closed even if it is not full.
        segment_ms: i64 = 604_800_000, millis(1, LONG_MAX), kafka "log.roll.ms";
        /// The most by which `segment.ms` is shortened at random, so that segments are not all closed at once.
        segment_jitter_ms: i64 = 0, millis(0, LONG_MAX), kafka "log.roll.jitter.ms";
        /// Bytes of records between two entries of a segment's indexes.
        index_interval_bytes: u32 = 4096, bytes(0, INT_MAX), kafka "log.index.interval.bytes";
        /// The largest record batch a producer may send, as compressed by it.
        max_message_bytes: u32 = 1_048_588, bytes(0, INT_MAX), kafka "message.max.bytes";
        /// Whose clock a record's timestamp is: the producer's, or the broker's when it is appended.
        message_timestamp_type: TimestampType = TimestampType::CreateTime, Kind::OneOf(TimestampType::NAMES),
            kafka "log.message.timestamp.type";
        /// How far a producer's timestamp may lie before the broker's clock.
        message_timestamp_before_max_ms: i64 = i64::MAX, millis(0, LONG_MAX),
            kafka "log.message.timestamp.before.max.ms";
        /// How far a producer's timestamp may lie after the broker's clock.
        message_timestamp_after_max_ms: i64 = 3_600_000, millis(0, LONG_MAX),
            kafka "log.message.timestamp.after.max.ms";
        /// What is checked of the batches that producers send: their `header` and checksum, or all `records`
        /// (they are unpacked, counted, and have the offsets and timestamps that the header says).
        message_validation: MessageValidation = MessageValidation::Header, Kind::OneOf(MessageValidation::NAMES),
            kafka "log.message.validation";
        /// How batches are compressed on disk: `producer` keeps what the producer chose.
        compression_type: CompressionType = CompressionType::Producer, Kind::OneOf(CompressionType::NAMES),
            kafka "compression.type", why "batches are stored as their producer compressed them";
        /// Replicas that must have a batch before acks=all is answered: there is one.
        min_insync_replicas: u32 = 1, count(1, 1),
            kafka "min.insync.replicas", why "every partition has one replica";
    }
}

/// The defaults of a topic's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicDefaults {
    pub config: TopicConfig,
    /// The fields an operator has set, even if to the default.
    pub given: BTreeSet<&'static str>,
}

impl TopicConfig {
    /// The broker's defaults with the topic's own `overrides` (name to value, as [`validate_override`]
    /// accepts them) on top.
    ///
    /// [`validate_override`]: TopicConfig::validate_override
    pub fn resolve(
        defaults: &TopicDefaults,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut config = defaults.config;
        for (name, value) in overrides {
            config.set_override(name, value)?;
        }
        Ok(config)
    }

    /// Whether a topic may have `value` for the config `name` (Kafka's, such as `retention.ms`).
    /// Suffixes such as `7d` are refused here: what is stored is what clients read back.
    pub fn validate_override(name: &str, value: &str) -> Result<(), ConfigError> {
        Self::default().set_override(name, value)
    }

    /// The row of the table for a topic config, by Kafka's name.
    pub fn knob(name: &str) -> Option<&'static Knob> {
        Self::KNOBS.iter().find(|knob| knob.topic_name() == name)
    }

    fn set_override(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let knob = Self::knob(name).ok_or_else(|| unknown(name))?;
        self.set(knob, value).ok_or_else(|| ConfigError::BadValue {
            name: name.to_owned(),
            value: value.to_owned(),
            origin: Origin::Topic,
            permitted: knob.permitted(),
        })
    }
}

fn unknown(name: &str) -> ConfigError {
    let knobs = TopicConfig::KNOBS.iter();
    ConfigError::Unknown {
        name: name.to_owned(),
        origin: Origin::Topic,
        nearest: nearest(name, knobs.clone(), knobs.map(Knob::topic_name).collect()),
    }
}
