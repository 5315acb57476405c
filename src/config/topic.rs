//! The topic configs, under Kafka's own names. Those that have no effect here are in `stored.rs`.

use std::collections::{BTreeMap, BTreeSet};

use super::dynamic::Dynamic;
use super::error::{ConfigError, Origin};
use super::header_name::HeaderName;
use super::knob::{Knob, table};
use super::nearest::nearest;
use super::stored::STORED;
use super::value::{
    CleanupPolicy, CompressionType, GIB, GzipLevel, INT_MAX, Kind, LONG_MAX, MIB,
    MessageValidation, Ratio, TimestampType, bytes, count, millis,
};

table! {
    /// A topic's configuration, resolved: its own overrides over the broker's defaults. Durations are
    /// `i64` milliseconds, like Kafka's timestamps.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct TopicConfig of Topic

    "Topic defaults" {
        /// What happens to old records: `delete` drops whole segments by age and size, `compact` keeps
        /// the newest record of each key, `compact,delete` does both, nothing keeps all records.
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
        /// How batches are compressed on disk: `producer` keeps what the producer chose, `uncompressed` and
        /// the codecs compress again what has another codec. That costs the worker thread's time.
        compression_type: CompressionType = CompressionType::Producer, Kind::OneOf(CompressionType::NAMES),
            kafka "compression.type";
        /// Level of gzip where `compression.type` is `gzip`; -1 is gzip's own default.
        compression_gzip_level: GzipLevel = GzipLevel(None), count(-1, 9),
            kafka "compression.gzip.level", why "0 would not compress";
        /// Level of zstd where `compression.type` is `zstd`.
        compression_zstd_level: i32 = 3, count(-131_072, 22), kafka "compression.zstd.level";
        /// How long a partition remembers the message ids of its records, from when it saw each first. A record
        /// whose id it remembers is not stored again: its producer is told where the first one is. 0 is off.
        dedup_window_ms: i64 = 0, millis(0, LONG_MAX), kafka "log.dedup.window.ms";
        /// The most message ids that a partition remembers; the oldest are forgotten before their time.
        dedup_max_ids: u32 = 1_000_000, count(1, 100_000_000), kafka "log.dedup.max.ids";
        /// The header of a record that has its message id. Its case does not matter. With `ce_id` an id is its own
        /// among those of its `ce_source`.
        dedup_header: HeaderName = HeaderName::IDEMPOTENCY_KEY, Kind::Header, kafka "log.dedup.header";
        /// Whether a record may say in its headers what it expects: `millstream-expected-offset`, the offset at which
        /// its batch is to be appended, and `millstream-expected-key-offset`, the offset of the newest record of its
        /// key (-1: there is none). Where that is not so the batch is refused.
        conditional_append: bool = false, Kind::Bool, kafka "log.conditional.append";
        /// Whether each partition knows where the newest record of each key is, for who asks over HTTP. It takes
        /// some 40 bytes of memory for each key.
        key_index: bool = false, Kind::Bool, kafka "log.key.index";
        /// Replicas that must have a batch before acks=all is answered, at most as many as there are.
        min_insync_replicas: u32 = 1, count(1, INT_MAX),
            kafka "min.insync.replicas", without_effect "every partition has one replica";
    }
}

/// The defaults of a topic's configuration.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TopicDefaults {
    /// As of the start: flags, variables, file.
    pub config: TopicConfig,
    /// The fields an operator has set then, even if to the default.
    pub given: BTreeSet<&'static str>,
    /// What was set while the broker ran.
    pub dynamic: Dynamic,
}

impl TopicConfig {
    /// The broker's defaults with the topic's own `overrides` (name to value, as [`normal`]
    /// accepts them) on top.
    ///
    /// [`normal`]: TopicConfig::normal
    pub fn resolve(
        defaults: &TopicDefaults,
        overrides: &BTreeMap<String, String>,
    ) -> Result<Self, ConfigError> {
        let mut config = defaults.in_force();
        for (name, value) in overrides {
            config.set_override(name, value)?;
        }
        Ok(config)
    }

    /// A topic's `value` for the config `name` (Kafka's, such as `retention.ms`) as it is stored: without
    /// spaces around it, each word of a list once. Suffixes such as `7d` are refused: what is stored is what
    /// clients read back.
    ///
    /// # Errors
    /// When there is no such config, or it does not take the value.
    pub fn normal(name: &str, value: &str) -> Result<String, ConfigError> {
        let knob = Self::knob(name).ok_or_else(|| unknown(name))?;
        let normal = normal(knob, value);
        normal.ok_or_else(|| bad_value(knob, name, value, Origin::Topic))
    }

    /// Checks what no single config's range can say, of all configs in force.
    ///
    /// # Errors
    /// When two contradict each other.
    pub fn check(&self) -> Result<(), ConfigError> {
        let (min, max) = (self.min_compaction_lag_ms, self.max_compaction_lag_ms);
        if min > max {
            return Err(ConfigError::Conflict(format!(
                "min.compaction.lag.ms ({min}) is more than max.compaction.lag.ms ({max})"
            )));
        }
        let window = self.dedup_window_ms;
        if window > max && self.cleanup_policy.compacts() {
            return Err(ConfigError::Conflict(format!(
                "dedup.window.ms ({window}) is more than max.compaction.lag.ms ({max}): message ids are in records"
            )));
        }
        Ok(())
    }

    /// Every config that a topic may have, those without effect too.
    pub fn all_knobs() -> impl Iterator<Item = &'static Knob> + Clone {
        Self::KNOBS.iter().chain(STORED)
    }

    /// The row of the tables for a topic config, by Kafka's name.
    pub fn knob(name: &str) -> Option<&'static Knob> {
        Self::all_knobs().find(|knob| knob.topic_name() == name)
    }

    /// The row of the tables for the default of a topic config, by the broker's name.
    pub fn knob_of_broker(name: &str) -> Option<&'static Knob> {
        Self::all_knobs().find(|knob| knob.kafka == Some(name))
    }

    /// One that has no effect changes nothing.
    fn set_override(&mut self, name: &str, value: &str) -> Result<(), ConfigError> {
        let knob = Self::knob(name).ok_or_else(|| unknown(name))?;
        let set = if is_stored_only(knob) {
            knob.kind.normal(value).map(drop)
        } else {
            self.set(knob, value)
        };
        set.ok_or_else(|| bad_value(knob, name, value, Origin::Topic))
    }
}

impl TopicDefaults {
    /// The defaults with what was set while the broker ran. A stored value that this version does not take any
    /// more changes nothing.
    pub fn in_force(&self) -> TopicConfig {
        let mut config = self.config;
        for (name, value) in self.dynamic.cluster.iter().chain(&self.dynamic.node) {
            if let Some(knob) = TopicConfig::knob_of_broker(name) {
                let _ = config.set(knob, value);
            }
        }
        config
    }
}

/// A value of a knob of topics as it is stored.
pub(super) fn normal(knob: &Knob, value: &str) -> Option<String> {
    if is_stored_only(knob) {
        return knob.kind.normal(value);
    }
    let mut config = TopicConfig::default();
    config.set(knob, value)?;
    Some(config.show(knob))
}

/// Whether a knob has no field of [`TopicConfig`].
fn is_stored_only(knob: &Knob) -> bool {
    STORED.iter().any(|stored| stored.field == knob.field)
}

pub(super) fn bad_value(knob: &Knob, name: &str, value: &str, origin: Origin) -> ConfigError {
    ConfigError::BadValue {
        name: name.to_owned(),
        value: value.to_owned(),
        origin,
        permitted: knob.permitted(),
    }
}

fn unknown(name: &str) -> ConfigError {
    let knobs = TopicConfig::all_knobs();
    ConfigError::Unknown {
        name: name.to_owned(),
        origin: Origin::Topic,
        nearest: nearest(name, knobs.clone(), knobs.map(Knob::topic_name).collect()),
    }
}
