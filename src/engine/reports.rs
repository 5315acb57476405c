//! Reports about the shards for operators and monitors: counters, sizes, producers, the data directory. Nothing
//! here changes anything.

use super::partition::Partition;
use super::producers::ProducerState;
use super::stats::{ShardReport, TopicReport};
use super::{Engine, EngineError, PartitionKey};
use crate::io::file::{self, Volume};
use crate::io::reactor::{self, Slice};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;

/// The data directory and the file system that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirReport {
    /// Absolute.
    pub path: PathBuf,
    pub volume: Volume,
}

/// All shards' counters, by shard. Those of a shard that has stopped are missing.
pub async fn of_all_shards(engine: &Rc<Engine>) -> Vec<ShardReport> {
    let mut reports = Vec::new();
    for shard in 0..engine.mailboxes.shard_count() {
        let report = engine.call(shard, |engine| async move { of_shard(&engine).await });
        reports.extend(report.await);
    }
    reports
}

/// The counters of each topic, of all shards together.
pub async fn by_topic(shards: &[ShardReport]) -> BTreeMap<&str, TopicReport> {
    let mut topics: BTreeMap<&str, TopicReport> = BTreeMap::new();
    let mut slice = Slice::new();
    for (name, report) in shards.iter().flat_map(|shard| &shard.topics) {
        topics.entry(name).or_default().add(report);
        slice.rest().await;
    }
    topics
}

/// Returns when every shard has answered.
pub async fn reach_all_shards(engine: &Rc<Engine>) {
    for shard in 0..engine.mailboxes.shard_count() {
        // One that has stopped is not expected to answer.
        let _ = engine.call(shard, |_| async {}).await;
    }
}

/// One shard's counters, and those of its partitions added up by topic.
async fn of_shard(engine: &Engine) -> ShardReport {
    let mut report = engine.stats.report(engine.shard);
    report.turns = reactor::turns();
    report.inflight_bytes = engine.memory.used();
    report.mailbox_depth = engine.mailboxes.depth(engine.shard) as u64;
    {
        let sessions = engine.fetch_sessions.borrow();
        report.fetch_sessions = sessions.count() as u64;
        let indexes = &engine.index_memory;
        report.dedup_bytes = indexes.dedup.used() as u64;
        report.dedup_forgotten = indexes.dedup.dropped();
        report.key_index_bytes = indexes.keys.used() as u64;
        report.key_index_dropped = indexes.keys.dropped();
        report.fetch_session_partitions = sessions.partition_count() as u64;
        report.fetch_session_evictions = sessions.evictions();
    }
    let mut slice = Slice::new();
    for partition in engine.partitions() {
        {
            let partition = partition.borrow();
            partition.report_compaction(&mut report);
            let found = of_partition(&partition);
            match report.topics.get_mut(&partition.topic.name) {
                Some(topic) => topic.add(&found),
                None => drop(report.topics.insert(partition.topic.name.clone(), found)),
            }
        }
        slice.rest().await;
    }
    report
}

fn of_partition(partition: &Partition) -> TopicReport {
    let damaged_offsets = partition.damaged_offsets();
    TopicReport {
        partitions: 1,
        poisoned_partitions: u64::from(partition.log.is_poisoned()),
        offline_partitions: u64::from(partition.log.is_offline()),
        damaged_partitions: u64::from(damaged_offsets > 0),
        damaged_offsets,
        log_bytes: partition.log.size_bytes(),
        segments: partition.log.segment_count() as u64,
        producers: partition.producer_count() as u64,
        ..TopicReport::from(&partition.counters)
    }
}

/// Bytes of records in every partition of every shard.
///
/// # Errors
/// `Stopping` when a shard does not answer any more.
pub async fn partition_sizes(
    engine: &Rc<Engine>,
) -> Result<HashMap<PartitionKey, u64>, EngineError> {
    let mut sizes = HashMap::new();
    for shard in 0..engine.mailboxes.shard_count() {
        let sizes_here = |engine: Rc<Engine>| async move {
            let partitions = engine.partitions();
            let mut sizes = Vec::with_capacity(partitions.len());
            let mut slice = Slice::new();
            for partition in partitions {
                {
                    let partition = partition.borrow();
                    sizes.push((partition.key(), partition.log.size_bytes()));
                }
                slice.rest().await;
            }
            sizes
        };
        let mut slice = Slice::new();
        for (key, size) in engine.call(shard, sizes_here).await? {
            sizes.insert(key, size);
            slice.rest().await;
        }
    }
    Ok(sizes)
}

/// The producers that a partition remembers, by id.
///
/// # Errors
/// When there is no such partition any more.
pub async fn producers_of(
    engine: &Rc<Engine>,
    key: PartitionKey,
) -> Result<Vec<ProducerState>, EngineError> {
    let look = move |engine: Rc<Engine>| async move {
        let partition = engine.partition(key);
        partition.map(|partition| partition.borrow().producers())
    };
    let found = engine.call(engine.owner_of(key), look).await?;
    found.ok_or(EngineError::UnknownTopicOrPartition)
}

/// The data directory's path and its free space.
pub async fn data_dir(engine: &Engine) -> io::Result<DataDirReport> {
    let path = absolute_data_dir(engine)?;
    let look = move || {
        let volume = file::volume(&path)?;
        Ok(DataDirReport { path, volume })
    };
    engine.workers.run(look).await
}

/// The data directory's absolute path, as written: links are not followed.
pub fn absolute_data_dir(engine: &Engine) -> io::Result<PathBuf> {
    std::path::absolute(&engine.config.data_dir)
}
