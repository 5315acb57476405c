//! Opening a shard's partitions: at start, and when the catalog brings new ones.

use crate::engine::catalog::Topic;
use crate::engine::log_config::log_config;
use crate::engine::partition::Partition;
use crate::engine::{Engine, PartitionKey};
use crate::io::file;
use crate::log::LogError;
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

/// Directories that are synced side by side at start.
const DIR_SYNCS_AT_ONCE: usize = 16;

/// What opening a shard's partitions found.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// The partitions' directories, to be synced before anything is served.
    dirs: Vec<PathBuf>,
    pub partitions: usize,
    /// Bytes after the checkpoints that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes of torn tails that were cut; nothing in them was acknowledged.
    pub cut_bytes: u64,
}

/// Opens all partitions that this shard owns. Blocks: at start only. One that cannot be opened is
/// taken offline: the others are served.
pub fn open_all(engine: &Engine) -> OpenReport {
    let topics: Vec<Arc<Topic>> =
        engine.with_catalog(|catalog| catalog.topics().cloned().collect());
    let mut report = OpenReport::default();
    for topic in topics {
        for index in 0..topic.partitions {
            if let Err(error) = open_partition(engine, &topic, index, &mut report) {
                take_offline(engine, &topic, index, &error);
            }
        }
    }
    for error in sync_dirs(&std::mem::take(&mut report.dirs)) {
        for partition in engine.partitions() {
            let (topic, index) = match partition.borrow() {
                inner if inner.log.dir() == error.dir => (Arc::clone(&inner.topic), inner.index),
                _ => continue,
            };
            take_offline(engine, &topic, index, &error);
        }
    }
    report
}

fn take_offline(engine: &Engine, topic: &Arc<Topic>, index: u32, error: &LogError) {
    tracing::error!(topic = topic.name, partition = index, %error,
        "this partition cannot be opened and is offline; the others are served. Mend it, then restart");
    let config = log_config(&engine.config, &topic.config);
    let dir = partition_dir(engine, topic, index);
    let partition = Partition::offline(Arc::clone(topic), index, dir, config);
    let key = partition.key();
    engine
        .partitions
        .insert(key, Rc::new(RefCell::new(partition)));
}

fn open_partition(
    engine: &Engine,
    topic: &Arc<Topic>,
    index: u32,
    report: &mut OpenReport,
) -> Result<(), LogError> {
    let key = PartitionKey {
        topic_id: topic.id,
        index,
    };
    if !engine.owns(key) || engine.partition(key).is_some() {
        return Ok(());
    }
    let dir = partition_dir(engine, topic, index);
    let config = log_config(&engine.config, &topic.config);
    let open = || {
        Partition::open(
            Arc::clone(topic),
            index,
            dir.clone(),
            config.clone(),
            engine.config.partition_producers_max,
        )
    };
    let (mut partition, mut recovered) = open()?;
    if recovered.foreign {
        // Left by a deleted topic of the same name.
        let at = |error| LogError::new(&dir, error);
        file::remove_dir(&dir).map_err(at)?;
        (partition, recovered) = open()?;
    }
    report.partitions += 1;
    report.dirs.extend(recovered.has_dir.then_some(dir.clone()));
    report.scanned_bytes += recovered.scanned_bytes;
    report.cut_bytes += recovered.cut_bytes;
    partition.tell_recovered(&recovered);
    let partition = Rc::new(RefCell::new(partition));
    if partition.borrow().log.needs_flush() {
        engine.dirty.queue(&partition);
    }
    engine.partitions.insert(key, partition);
    Ok(())
}

fn partition_dir(engine: &Engine, topic: &Topic, index: u32) -> PathBuf {
    engine.config.data_dir.join(topic.dir_name(index))
}

/// Opens a partition that the catalog has brought. The name of its directory, if it has one, is durable
/// then.
///
/// # Errors
/// When there is a directory that cannot be opened or synced.
pub fn open_new(engine: &Engine, topic: &Arc<Topic>, index: u32) -> Result<(), LogError> {
    let mut report = OpenReport::default();
    open_partition(engine, topic, index, &mut report)?;
    sync_dirs(&report.dirs).pop().map_or(Ok(()), Err)
}

/// Makes the names in directories durable; returns what failed. One sync waits for the disk and for
/// nothing else, so many of them at once take little longer than one.
fn sync_dirs(dirs: &[PathBuf]) -> Vec<LogError> {
    let sync = |dir: &PathBuf| {
        let synced = file::sync_dir(dir);
        synced.err().map(|error| LogError::new(dir, error))
    };
    if dirs.len() < DIR_SYNCS_AT_ONCE {
        return dirs.iter().filter_map(sync).collect();
    }
    std::thread::scope(|scope| {
        let parts = dirs.chunks(dirs.len().div_ceil(DIR_SYNCS_AT_ONCE));
        let threads: Vec<_> = parts
            .map(|part| scope.spawn(move || part.iter().filter_map(sync).collect::<Vec<_>>()))
            .collect();
        let results = threads.into_iter().map(|thread| thread.join());
        results
            .flat_map(|result| result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
