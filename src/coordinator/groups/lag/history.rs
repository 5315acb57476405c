//! How far groups were behind in the last hour, for a picture of it: gone with the process.

use super::{GroupLag, in_all};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// How long it is remembered, in milliseconds.
const KEPT_MS: u64 = 3_600_000;
/// What was measured sooner after the last sample is left out, in milliseconds.
const INTERVAL_MS: u64 = 30_000;
/// Groups of a shard that are remembered: each takes some kilobytes.
const GROUPS_MAX: usize = 1_000;

/// How far a group was behind in all its partitions together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Milliseconds since 1970.
    pub timestamp_ms: u64,
    pub records: i64,
    /// Age of the oldest record that was not committed; `None` where none was known.
    pub seconds: Option<f64>,
}

/// The last hour of one shard's groups.
#[derive(Debug, Default)]
pub struct History {
    by_group: HashMap<Arc<str>, VecDeque<Sample>>,
    last_ms: u64,
}

impl History {
    /// Notes what was measured, by group.
    pub fn note(&mut self, lags: &[GroupLag], now_ms: u64) {
        let is_too_soon = (self.last_ms..self.last_ms + INTERVAL_MS).contains(&now_ms);
        if is_too_soon {
            return;
        }
        if !lags.is_empty() {
            self.last_ms = now_ms;
        }
        for own in lags.chunk_by(|one, other| one.group == other.group) {
            let group = &own[0].group;
            if self.by_group.len() >= GROUPS_MAX && !self.by_group.contains_key(group) {
                continue;
            }
            let samples = self.by_group.entry(Arc::clone(group)).or_default();
            let (records, seconds) = in_all(own.iter());
            samples.push_back(Sample {
                timestamp_ms: now_ms,
                records,
                seconds,
            });
        }
        // A clock that was set back leaves samples that are ahead of it.
        let is_recent = |sample: &Sample| {
            sample.timestamp_ms <= now_ms && now_ms - sample.timestamp_ms <= KEPT_MS
        };
        self.by_group.retain(|_, samples| {
            while samples.front().is_some_and(|oldest| !is_recent(oldest)) {
                samples.pop_front();
            }
            !samples.is_empty()
        });
    }

    /// The samples of a group, the oldest first.
    pub fn of(&self, group: &str) -> Vec<Sample> {
        let found = self.by_group.get(group);
        found.map_or_else(Vec::new, |samples| samples.iter().copied().collect())
    }
}
