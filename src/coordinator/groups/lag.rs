//! Consumer lag: how far groups are behind the ends of partitions, in records and in time.
//!
//! Each shard measures its own groups at intervals and keeps the result, so that monitors that ask cost
//! nothing. One measurement goes through all committed offsets and asks other shards in parts, so that
//! requests pass in between. The time of a record is looked up once and kept as long as the group's
//! oldest record is the same.

mod history;

pub use history::{History, Sample};

use super::Groups;
use super::error::GroupError;
use super::offsets::GroupOffsets;
use crate::engine::catalog::Topic;
use crate::engine::{Engine, EngineError, PartitionKey, SharedPartition, fetch};
use crate::io::clock;
use crate::io::reactor::yield_now;
use crate::log::batch::BatchHeader;
use crate::log::records;
use bytes::Bytes;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Partitions that one call asks about.
const ASKED_AT_ONCE: usize = 256;
/// Groups whose offsets are looked at without a pause.
const GROUPS_AT_ONCE: usize = 256;
/// Groups with longer names are left out: names are labels, and Kafka does not limit them.
const GROUP_NAME_BYTES_MAX: usize = 255;
/// One read of this many bytes finds most batches whole.
const READ_BYTES: usize = 64 << 10;
/// The most bytes that a batch may unpack to when the time of one of its records is looked up.
const UNPACKED_BYTES_MAX: usize = 32 << 20;
/// Batches without records, as compaction leaves them, that one lookup passes over.
const BATCHES_PASSED_MAX: usize = 16;

/// Consumer lag as of a shard's last measurement.
#[derive(Clone, Debug, Default)]
pub struct LagReport {
    pub shard: usize,
    /// By group name, topic id and partition; at most `lag_series_max`.
    pub lags: Vec<GroupLag>,
    /// Committed offsets that were left out.
    pub left_out: u64,
    /// When the measurement ended (ms since the epoch); 0 before the first.
    pub last_run_ms: u64,
    pub last_duration: Duration,
}

/// How far a group is behind in one partition.
#[derive(Clone, Debug)]
pub struct GroupLag {
    pub group: Arc<str>,
    pub topic: Arc<Topic>,
    pub partition: u32,
    pub lag: Lag,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Records that are there between the committed offset and the high watermark, by their offsets.
    pub records: i64,
    /// Age of the oldest record not yet committed; 0 when there is none, `None` when not known.
    pub seconds: Option<f64>,
    /// The record that `seconds` is the age of.
    oldest: Option<OldestRecord>,
}

/// The time of the oldest record that a group has not committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct OldestRecord {
    /// The record is the first at or after this offset.
    from: i64,
    /// The log's era at that time.
    era: u64,
    /// Milliseconds since the epoch; -1 if the producer gave none.
    timestamp: i64,
}

/// An offset that a group of this shard committed.
struct Committed {
    group: Arc<str>,
    topic: Arc<Topic>,
    key: PartitionKey,
    offset: i64,
}

/// What the shard of a partition is asked.
struct Question {
    key: PartitionKey,
    committed: i64,
    known: Option<OldestRecord>,
}

/// The records between a committed offset and the end. Those below the log's start are deleted.
pub fn records_behind(committed: i64, start: i64, end: i64) -> i64 {
    end.saturating_sub(committed.max(start)).max(0)
}

/// How old a record is, in seconds: 0 for a timestamp ahead of the clock, `None` without a timestamp.
pub fn age_seconds(timestamp_ms: i64, now_ms: i64) -> Option<f64> {
    (timestamp_ms >= 0).then(|| now_ms.saturating_sub(timestamp_ms).max(0) as f64 / 1000.0)
}

/// The first `most` lags of all shards, by group name, and how many are left out.
pub fn first_by_group(reports: &[Arc<LagReport>], most: usize) -> (Vec<&GroupLag>, u64) {
    let left_out: u64 = reports.iter().map(|report| report.left_out).sum();
    let mut lists: Vec<&[GroupLag]> = reports.iter().map(|report| &*report.lags).collect();
    let mut first = Vec::new();
    while first.len() < most {
        let nonempty = lists.iter_mut().filter(|list| !list.is_empty());
        let Some(list) = nonempty.min_by(|a, b| a[0].group.cmp(&b[0].group)) else {
            break;
        };
        // A group lives on one shard, so all of it is here.
        let group = &list[0].group;
        let length = list.partition_point(|lag| lag.group <= *group);
        let (run, rest) = list.split_at(length.min(most - first.len()));
        first.extend(run);
        *list = rest;
    }
    let rest: usize = lists.iter().map(|list| list.len()).sum();
    (first, left_out + rest as u64)
}

/// How far a group is behind in these of its partitions together: records, and the age of the oldest one, where it is
/// known of any.
pub fn in_all<'a>(lags: impl Iterator<Item = &'a GroupLag> + Clone) -> (i64, Option<f64>) {
    let records = lags.clone().map(|one| one.lag.records);
    let seconds = lags.filter_map(|one| one.lag.seconds);
    (
        records.fold(0, i64::saturating_add),
        seconds.reduce(f64::max),
    )
}

impl LagReport {
    pub(super) fn before_the_first(shard: usize) -> LagReport {
        LagReport {
            shard,
            ..LagReport::default()
        }
    }

    /// What it has of a group.
    pub fn of(&self, group: &str) -> &[GroupLag] {
        let before = self.lags.partition_point(|lag| &*lag.group < group);
        let own = &self.lags[before..];
        &own[..own.partition_point(|lag| &*lag.group == group)]
    }

    /// The oldest record that this report has for a group and partition.
    fn known(&self, group: &str, key: PartitionKey) -> Option<OldestRecord> {
        let order = |lag: &GroupLag| (&*lag.group, lag.key()).cmp(&(group, key));
        let found = self.lags.binary_search_by(order);
        self.lags[found.ok()?].lag.oldest
    }
}

impl GroupLag {
    pub fn key(&self) -> PartitionKey {
        PartitionKey {
            topic_id: self.topic.id,
            index: self.partition,
        }
    }
}

impl Groups {
    /// The last report of each shard, by shard. Shards that have stopped are left out.
    pub async fn lag_reports(self: &Rc<Self>) -> Vec<Arc<LagReport>> {
        let report = |groups: &Groups| Arc::clone(&groups.lag.borrow());
        self.runtime.ask_all(self, report).await
    }

    /// How far a group was behind in the last hour, the oldest first; empty where that is not known.
    ///
    /// # Errors
    /// When its shard cannot be asked.
    pub async fn lag_history(self: &Rc<Self>, group_id: String) -> Result<Vec<Sample>, GroupError> {
        let look = {
            let group_id = group_id.clone();
            move |groups: Rc<Groups>| async move { Ok(groups.lag_history.borrow().of(&group_id)) }
        };
        self.at_home(&group_id, Ok(Vec::new()), look).await
    }

    /// Measures the lag of this shard's groups and keeps the report. A stop of the broker cancels it.
    pub(super) async fn measure_lag(self: &Rc<Self>) {
        let started = Instant::now();
        let (committed, left_out) = self.committed_offsets().await;
        let Ok(lags) = self.lags_of(&committed).await else {
            return;
        };
        if self.engine().is_stopping() {
            return;
        }
        let with_lag = |(committed, lag): (Committed, Option<Lag>)| {
            Some(GroupLag {
                group: committed.group,
                topic: committed.topic,
                partition: committed.key.index,
                lag: lag?,
            })
        };
        let lags = committed.into_iter().zip(lags).filter_map(with_lag);
        let lags: Vec<GroupLag> = lags.collect();
        let now_ms = clock::now_ms() as u64;
        self.lag_history.borrow_mut().note(&lags, now_ms);
        *self.lag.borrow_mut() = Arc::new(LagReport {
            shard: self.engine().shard,
            lags,
            left_out,
            last_run_ms: now_ms,
            last_duration: started.elapsed(),
        });
    }

    /// The first `lag_series_max` committed offsets of this shard's groups, in the order of a report, and
    /// how many more there are.
    async fn committed_offsets(&self) -> (Vec<Committed>, u64) {
        let (mut committed, mut left_out) = (Vec::new(), 0);
        let mut after = None;
        loop {
            after = self.look_at_offsets(after.as_deref(), GROUPS_AT_ONCE, |group, offsets| {
                left_out += self.add_committed(group, offsets, &mut committed);
            });
            if after.is_none() {
                return (committed, left_out);
            }
            yield_now().await;
        }
    }

    /// Adds as many of a group's offsets as there is room for; returns how many were left out.
    fn add_committed(&self, group: &str, offsets: &GroupOffsets, to: &mut Vec<Committed>) -> u64 {
        let engine = self.engine();
        let room = if group.len() > GROUP_NAME_BYTES_MAX {
            0
        } else {
            engine.config.lag_series_max.saturating_sub(to.len())
        };
        let group: Arc<str> = group.into();
        for (key, offset) in offsets.iter().take(room) {
            let Some(topic) = engine.topic_by_id(key.topic_id) else {
                // The topic is being deleted, and its offsets with it.
                continue;
            };
            // Clients commit a negative offset to say "nothing committed".
            if offset.offset >= 0 {
                to.push(Committed {
                    group: Arc::clone(&group),
                    topic,
                    key,
                    offset: offset.offset,
                });
            }
        }
        offsets.len().saturating_sub(room) as u64
    }

    /// The lag of each, in their order; `None` for partitions that are gone.
    async fn lags_of(&self, committed: &[Committed]) -> Result<Vec<Option<Lag>>, EngineError> {
        let engine = self.engine();
        let before = Arc::clone(&self.lag.borrow());
        let mut by_shard = vec![Vec::new(); self.runtime.shard_count()];
        for (place, offset) in committed.iter().enumerate() {
            by_shard[engine.owner_of(offset.key)].push(place);
        }
        let mut lags = vec![None; committed.len()];
        for (shard, places) in by_shard.iter().enumerate() {
            for places in places.chunks(ASKED_AT_ONCE) {
                let ask = |place: &usize| committed[*place].question(&before);
                let questions: Vec<Question> = places.iter().map(ask).collect();
                let answer =
                    |engine: Rc<Engine>| async move { lags_here(&engine, &questions).await };
                let answers = engine.call(shard, answer).await?;
                for (place, lag) in places.iter().zip(answers) {
                    lags[*place] = lag;
                }
                yield_now().await;
            }
        }
        Ok(lags)
    }
}

/// The lag in partitions of one shard, whose engine this is.
async fn lags_here(engine: &Rc<Engine>, questions: &[Question]) -> Vec<Option<Lag>> {
    let mut lags = Vec::with_capacity(questions.len());
    for question in questions {
        lags.push(match engine.partition(question.key) {
            Some(partition) if !engine.is_stopping() => {
                Some(lag_in(engine, question, &partition).await)
            }
            _ => None,
        });
    }
    lags
}

async fn lag_in(engine: &Rc<Engine>, question: &Question, partition: &SharedPartition) -> Lag {
    let (offsets, era) = {
        let inner = partition.borrow();
        (inner.offsets(), inner.log.era())
    };
    // Records below the log start are deleted and have no age.
    let from = question.committed.max(offsets.start);
    let is_known = |known: &OldestRecord| (known.from, known.era) == (from, era);
    let oldest = if from >= offsets.durable {
        Ok(None)
    } else if let Some(known) = question.known.filter(is_known) {
        Ok(Some(known))
    } else {
        oldest_record(engine, partition, from, era).await
    };
    Lag {
        records: records_behind(question.committed, offsets.start, offsets.durable),
        seconds: match &oldest {
            Ok(Some(record)) => age_seconds(record.timestamp, clock::now_ms()),
            Ok(None) => Some(0.0),
            Err(_) => None,
        },
        // The next measurement tries again to read what could not be read.
        oldest: oldest.unwrap_or(None),
    }
}

/// The first durable record at or after `from`, or the best estimate; `None` when there is none.
async fn oldest_record(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    from: i64,
    era: u64,
) -> Result<Option<OldestRecord>, EngineError> {
    let (mut next, mut passed) = (from, 0);
    while let Some((header, batch)) = batch_from(engine, partition, next).await? {
        let first = move || records::first_at_or_after(&batch, i64::MIN, from, UNPACKED_BYTES_MAX);
        let timestamp = match engine.workers.worker.run(first).await {
            Some(Ok(Some((_, timestamp)))) => timestamp,
            Some(Ok(None)) if passed < BATCHES_PASSED_MAX => {
                (next, passed) = (header.next_offset(), passed + 1);
                continue;
            }
            _ => earliest_timestamp(&header),
        };
        return Ok(Some(OldestRecord {
            from,
            era,
            timestamp,
        }));
    }
    Ok(None)
}

/// The first durable batch with an offset at or after `offset`, whole and in memory.
async fn batch_from(
    engine: &Rc<Engine>,
    partition: &SharedPartition,
    offset: i64,
) -> Result<Option<(BatchHeader, Bytes)>, EngineError> {
    // The index leads to a position at most this many bytes before the batch.
    let interval = partition.borrow().log.config().index_interval_bytes;
    let mut bytes = interval + READ_BYTES;
    loop {
        let found = fetch::read_partition(engine, partition, offset, bytes, true).await?;
        if found.records.is_empty() {
            return Ok(None);
        }
        let header = BatchHeader::parse(&found.records)
            .map_err(|_| EngineError::Corrupt { asked: offset })?;
        let needed = interval + header.size();
        if needed <= bytes {
            return Ok(Some((header, found.records.slice(..header.size()))));
        }
        bytes = needed;
    }
}

impl Committed {
    fn question(&self, before: &LagReport) -> Question {
        Question {
            key: self.key,
            committed: self.offset,
            known: before.known(&self.group, self.key),
        }
    }
}

/// For a batch whose records cannot be read: a timestamp that is not later than that of any record. After
/// a compaction the base timestamp can be later than all of them (KIP-534), the maximum cannot.
fn earliest_timestamp(header: &BatchHeader) -> i64 {
    header.base_timestamp.min(header.max_timestamp)
}

#[cfg(test)]
mod tests;
