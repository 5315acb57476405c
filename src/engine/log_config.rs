//! The configuration of one log.

use crate::config::{Config, TopicConfig};
use crate::io::process;
use crate::log::compact::CompactionConfig;
use crate::log::{LogConfig, NOT_DURABLE_BYTES_MAX};
use std::ops::RangeInclusive;

/// Bytes between two index entries, whatever a topic's configuration says: with fewer, the index
/// takes too much memory; with more, a read walks too far on the shard's thread.
const INDEX_INTERVAL_BYTES: RangeInclusive<usize> = 1024..=(256 << 10);

/// What the log needs of a topic's configuration and the broker's.
pub fn log_config(config: &Config, topic: &TopicConfig) -> LogConfig {
    let deletes = topic.cleanup_policy.deletes();
    // What is being appended to is not compacted, so it must close in time.
    let segment_ms = if topic.cleanup_policy.compacts() {
        topic.segment_ms.min(topic.max_compaction_lag_ms)
    } else {
        topic.segment_ms
    };
    LogConfig {
        segment_bytes: topic.segment_bytes as usize,
        segment_ms: segment_ms - jitter_ms(topic.segment_jitter_ms.min(segment_ms)),
        index_interval_bytes: (topic.index_interval_bytes as usize)
            .clamp(*INDEX_INTERVAL_BYTES.start(), *INDEX_INTERVAL_BYTES.end()),
        retention_ms: if deletes { topic.retention_ms } else { -1 },
        retention_bytes: if deletes { topic.retention_bytes } else { -1 },
        compaction: topic.cleanup_policy.compacts().then_some(CompactionConfig {
            delete_retention_ms: topic.delete_retention_ms,
            min_dirty_ratio: topic.min_cleanable_dirty_ratio.value(),
            // What compaction takes away has no message id any more.
            min_lag_ms: topic.min_compaction_lag_ms.max(topic.dedup_window_ms),
            max_lag_ms: topic.max_compaction_lag_ms,
        }),
        reserve_step_bytes_max: config.segment_grow_bytes_max,
        checkpoint_bytes: config.checkpoint_bytes,
        not_durable_bytes_max: NOT_DURABLE_BYTES_MAX,
    }
}

/// How much earlier than `segment.ms` a log rolls, so that the logs of a topic do not all roll at
/// once (`segment.jitter.ms`).
fn jitter_ms(most: i64) -> i64 {
    (process::random_u64() >> 1) as i64 % most.saturating_add(1).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TopicDefaults;
    use std::collections::BTreeMap;

    #[test]
    fn a_topic_without_a_cleanup_policy_keeps_all_records() {
        let of = |policy: &str| {
            let limits = [("retention.ms", "1"), ("retention.bytes", "1")];
            let own = limits.into_iter().chain([("cleanup.policy", policy)]);
            let own: BTreeMap<_, _> = own
                .map(|(name, value)| (name.into(), value.into()))
                .collect();
            let topic = TopicConfig::resolve(&TopicDefaults::default(), &own).unwrap();
            let log = log_config(&Config::default(), &topic);
            (
                log.retention_ms,
                log.retention_bytes,
                log.compaction.is_some(),
            )
        };
        assert_eq!(of(""), (-1, -1, false));
        assert_eq!(of("delete"), (1, 1, false));
        assert_eq!(of("compact"), (-1, -1, true));
        assert_eq!(of("delete,compact"), (1, 1, true));
    }
}
