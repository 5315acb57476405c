//! What keeps a shard's partitions in order over time: opening, retention, idle files, closing.

use super::{Engine, EngineError, PartitionKey, SharedPartition, log_config};
use crate::config::Config;
use crate::engine::catalog::{Catalog, Entry, OFFSETS_TOPIC, Topic};
use crate::engine::catalog_log::CatalogLog;
use crate::engine::partition::Partition;
use crate::io::worker::Worker;
use crate::io::{clock, file};
use crate::log::damage::DamageList;
use crate::log::{LogError, LogErrorKind, Retention};
use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use uuid::Uuid;

/// Files and mappings that nobody used for this long are closed.
const IDLE_MS: i64 = 60_000;
/// Directories that are synced side by side at start.
const DIR_SYNCS_AT_ONCE: usize = 16;
/// New partitions that are opened without a pause.
const OPENED_AT_ONCE: u32 = 64;
/// How the name of a directory ends whose removal is under way.
const DOOMED_SUFFIX: &str = "-delete";

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

impl Engine {
    /// Opens all partitions that this shard owns. Blocks: at start only. One that cannot be opened is
    /// taken offline: the others are served.
    pub fn open_partitions(self: &Rc<Self>) -> OpenReport {
        let topics: Vec<Arc<Topic>> =
            self.with_catalog(|catalog| catalog.topics().cloned().collect());
        let mut report = OpenReport::default();
        for topic in topics {
            for index in 0..topic.partitions {
                if let Err(error) = self.open_partition(&topic, index, &mut report) {
                    self.take_offline(&topic, index, &error);
                }
            }
        }
        for error in sync_dirs(&std::mem::take(&mut report.dirs)) {
            for partition in self.partitions() {
                let (topic, index) = match partition.borrow() {
                    inner if inner.log.dir() == error.dir => {
                        (Arc::clone(&inner.topic), inner.index)
                    }
                    _ => continue,
                };
                self.take_offline(&topic, index, &error);
            }
        }
        report
    }

    fn take_offline(&self, topic: &Arc<Topic>, index: u32, error: &LogError) {
        tracing::error!(topic = topic.name, partition = index, %error,
            "this partition cannot be opened and is offline; the others are served. Mend it, then restart");
        let config = log_config(&self.config, &topic.config);
        let dir = self.partition_dir(topic, index);
        let partition = Partition::offline(Arc::clone(topic), index, dir, config);
        let key = partition.key();
        self.partitions
            .borrow_mut()
            .insert(key, Rc::new(RefCell::new(partition)));
    }

    fn open_partition(
        self: &Rc<Self>,
        topic: &Arc<Topic>,
        index: u32,
        report: &mut OpenReport,
    ) -> Result<(), LogError> {
        let key = PartitionKey {
            topic_id: topic.id,
            index,
        };
        if !self.owns(key) || self.partition(key).is_some() {
            return Ok(());
        }
        let dir = self.partition_dir(topic, index);
        let config = log_config(&self.config, &topic.config);
        let open = || {
            Partition::open(
                Arc::clone(topic),
                index,
                dir.clone(),
                config.clone(),
                self.config.partition_producers_max,
            )
        };
        let (mut partition, mut recovered) = open()?;
        if recovered.foreign {
            // Left by a deleted topic of the same name.
            let at = |error| LogError::new(&dir, LogErrorKind::Io(error));
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
            self.queue_flush(&partition);
        }
        self.partitions.borrow_mut().insert(key, partition);
        Ok(())
    }

    fn partition_dir(&self, topic: &Topic, index: u32) -> PathBuf {
        self.config.data_dir.join(topic.dir_name(index))
    }

    /// Takes in a change of the catalog: opens, closes and reconfigures this shard's partitions.
    /// Returns when the files and the offsets of a deleted topic are out of the way of a new one.
    ///
    /// # Errors
    /// When a new partition's directory is there already and cannot be opened, or what is left of a
    /// deleted topic is still in the way.
    pub async fn apply(self: &Rc<Self>, entry: Arc<Entry>) -> Result<(), EngineError> {
        let before = match &*entry {
            Entry::TopicDeleted { id } => self.topic_by_id(*id),
            _ => None,
        };
        self.catalog.borrow_mut().apply(&entry);
        match &*entry {
            Entry::TopicCreated { id, .. } | Entry::PartitionsSet { id, .. } => {
                let topic = self.topic_by_id(*id);
                match topic {
                    Some(topic) => self.add_partitions(&topic).await,
                    None => Ok(()),
                }
            }
            Entry::ConfigsSet { id, .. } => {
                if let Some(topic) = self.topic_by_id(*id) {
                    self.reconfigure(&topic);
                }
                Ok(())
            }
            Entry::TopicDeleted { .. } => match before {
                Some(topic) => {
                    let forgotten = self.forget_offsets_of(&topic).await;
                    self.drop_partitions(&topic).await.and(forgotten)
                }
                None => Ok(()),
            },
            Entry::TopicPurged { .. } | Entry::ProducerIdsReserved { .. } => Ok(()),
        }
    }

    /// A new partition has no directory until its first append, so opening one here costs a look
    /// into the data directory and no more. With very many of them, requests pass in between.
    async fn add_partitions(self: &Rc<Self>, topic: &Arc<Topic>) -> Result<(), EngineError> {
        self.reconfigure(topic);
        for index in 0..topic.partitions {
            let mut report = OpenReport::default();
            let opened = self.open_partition(topic, index, &mut report);
            let opened = opened.and_then(|()| sync_dirs(&report.dirs).pop().map_or(Ok(()), Err));
            opened.map_err(|error| {
                tracing::error!(%error, "a new partition cannot be opened");
                EngineError::StorageFailed
            })?;
            if index % OPENED_AT_ONCE == OPENED_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    fn reconfigure(&self, topic: &Arc<Topic>) {
        for partition in self.partitions_of(topic) {
            let mut inner = partition.borrow_mut();
            inner
                .log
                .set_config(log_config(&self.config, &topic.config));
            inner.topic = Arc::clone(topic);
        }
    }

    fn partitions_of(&self, topic: &Topic) -> Vec<SharedPartition> {
        let key = |index| PartitionKey {
            topic_id: topic.id,
            index,
        };
        (0..topic.partitions)
            .filter_map(|index| self.partition(key(index)))
            .collect()
    }

    /// Closes the partitions of a deleted topic and moves their files out of the way; removing them
    /// takes its time, on a thread of its own.
    async fn drop_partitions(self: &Rc<Self>, topic: &Topic) -> Result<(), EngineError> {
        let mut moves = Vec::new();
        let mut removals = 0;
        let mut is_compacting = false;
        for partition in self.partitions_of(topic) {
            let mut inner = partition.borrow_mut();
            inner.close();
            removals += inner.removals;
            is_compacting |= inner.log.is_compacting();
            let key = PartitionKey {
                topic_id: topic.id,
                index: inner.index,
            };
            self.partitions.borrow_mut().remove(&key);
            moves.push((inner.log.dir().to_owned(), doomed_dir(&self.config, key)));
        }
        if removals > 0 {
            // They name files by their path, where a new topic of the same name will have its own.
            // Each is in the janitor's queue already, so what is handed over now comes after them.
            self.janitor.run(|| ()).await;
        }
        if is_compacting {
            // So does a compaction. It was told to end; its step that runs has ended after this.
            self.cleaner.finish_step().await;
        }
        let doomed: Vec<PathBuf> = moves.iter().map(|(_, to)| to.clone()).collect();
        let data_dir = self.config.data_dir.clone();
        // Jobs of these logs that wait in the worker's queue come first, so none of them writes
        // into a directory that is gone.
        let moved = self.run_blocking(move || {
            for (from, to) in &moves {
                if from.exists() {
                    file::rename(from, to)?;
                }
            }
            file::sync_dir(&data_dir)
        });
        moved.await.map_err(|error| {
            tracing::error!(topic = topic.name, %error,
                "the files of a deleted topic cannot be moved away; the next start tries again");
            EngineError::StorageFailed
        })?;
        self.janitor.start_job(move || remove_dirs(&doomed));
        Ok(())
    }

    /// One round of upkeep: retention, producers' expiry, idle files.
    pub async fn upkeep(self: &Rc<Self>) {
        let producer_idle_ms = self.config.producer_id_expiration_ms as i64;
        for partition in self.partitions() {
            partition.borrow_mut().expire_producers(producer_idle_ms);
            self.enforce_retention(&partition).await;
            // With very many partitions a round is long: let requests pass in between.
            tokio::task::yield_now().await;
        }
    }

    /// Closes what was idle for a while.
    pub async fn close_idle(self: &Rc<Self>) {
        for partition in self.partitions() {
            let sealed = partition
                .borrow_mut()
                .log
                .close_idle(clock::now_ms(), IDLE_MS);
            match sealed {
                Ok(Some(job)) => self.seal(&partition, job),
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "an idle segment cannot be closed"),
            }
            tokio::task::yield_now().await;
        }
    }

    /// Does what retention asks of one partition, until it asks for nothing more.
    pub async fn enforce_retention(self: &Rc<Self>, partition: &SharedPartition) {
        loop {
            let step = match partition.borrow_mut() {
                inner if inner.is_closed() => Retention::Nothing,
                mut inner => inner.log.retention(clock::now_ms()),
            };
            match step {
                Retention::Nothing => break,
                Retention::Load(job) => {
                    if self.load(partition, job).await.is_err() {
                        return;
                    }
                }
                Retention::Roll(job) => {
                    self.make_room(partition, job);
                    break;
                }
                Retention::Delete(job) => {
                    let dir = partition.borrow().log.dir().to_owned();
                    let segments = job.bases.len();
                    partition.borrow_mut().removals += 1;
                    let deleted = self.janitor.run(move || job.run()).await;
                    partition.borrow_mut().removals -= 1;
                    match deleted.unwrap_or(Ok(())) {
                        Ok(()) => {
                            tracing::info!(dir = %dir.display(), segments, "deleted old segments")
                        }
                        Err(error) => {
                            tracing::error!(dir = %dir.display(), %error, "old segments cannot be removed")
                        }
                    }
                }
            }
        }
        let needs_flush = partition.borrow().log.needs_flush();
        if needs_flush {
            self.queue_flush(partition);
        }
    }
}

/// Makes the names in directories durable; returns what failed. One sync waits for the disk and for
/// nothing else, so many at once take little longer than one.
fn sync_dirs(dirs: &[PathBuf]) -> Vec<LogError> {
    let sync = |dir: &PathBuf| {
        let synced = file::sync_dir(dir);
        synced
            .err()
            .map(|error| LogError::new(dir, LogErrorKind::Io(error)))
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

/// Where a deleted partition's files wait for their removal.
fn doomed_dir(config: &Config, key: PartitionKey) -> PathBuf {
    let name = format!("{}-{}{DOOMED_SUFFIX}", key.topic_id.simple(), key.index);
    config.data_dir.join(name)
}

/// Whether a directory of this name waits for its removal.
pub fn is_doomed(path: &Path) -> bool {
    path.to_string_lossy().ends_with(DOOMED_SUFFIX)
}

/// Removes directories; what cannot be removed is told and tried again at the next start.
fn remove_dirs(dirs: &[PathBuf]) {
    for dir in dirs {
        if let Err(error) = file::remove_dir(dir) {
            tracing::error!(dir = %dir.display(), %error, "a deleted partition's files cannot be removed");
        }
    }
}

/// Finishes deletions that a stop interrupted: moves the files of deleted topics away and removes
/// all that were moved. From then on their names are free, unless committed offsets of theirs may come
/// back. Blocks: at start only, before partitions
/// are opened.
///
/// # Errors
/// When a directory cannot be moved away.
pub fn finish_deletions(
    config: &Config,
    catalog: &mut Catalog,
    catalog_log: &mut CatalogLog,
    janitor: &Worker,
) -> io::Result<()> {
    for topic in catalog.deleting() {
        for index in 0..topic.partitions {
            let key = PartitionKey {
                topic_id: topic.id,
                index,
            };
            // While the name is taken, a directory of that name can only be this topic's, whether its
            // checkpoint says so or is damaged. Left there it would become the next topic's.
            let dir = config.data_dir.join(topic.dir_name(index));
            if dir.exists() {
                let doomed = doomed_dir(config, key);
                file::remove_dir(&doomed)?;
                file::rename(&dir, &doomed)?;
            }
        }
    }
    file::sync_dir(&config.data_dir)?;
    if catalog.deleting().next().is_some() && offsets_are_damaged(config, catalog) {
        tracing::warn!(
            "{OFFSETS_TOPIC} is damaged: the names of deleted topics stay taken, lest new ones inherit offsets"
        );
    } else {
        purge(catalog, catalog_log);
    }
    let mut doomed = Vec::new();
    for entry in std::fs::read_dir(&config.data_dir)? {
        let path = entry?.path();
        if is_doomed(&path) {
            doomed.push(path);
        }
    }
    janitor.start_job(move || remove_dirs(&doomed));
    Ok(())
}

/// Whether offsets of deleted topics may be among what cannot be read now, and be there again when it
/// is mended.
fn offsets_are_damaged(config: &Config, catalog: &Catalog) -> bool {
    catalog.by_name(OFFSETS_TOPIC).is_some_and(|topic| {
        (0..topic.partitions).any(|index| {
            let dir = config.data_dir.join(topic.dir_name(index));
            DamageList::read(&dir).map_or(true, |damage| !damage.is_empty())
        })
    })
}

/// Frees the names of deleted topics whose files are out of the way. On a full disk they stay taken
/// until the next start.
fn purge(catalog: &mut Catalog, catalog_log: &mut CatalogLog) {
    let ids: Vec<Uuid> = catalog.deleting().map(|topic| topic.id).collect();
    for id in ids {
        let entry = Entry::TopicPurged { id };
        match catalog_log.append(&entry) {
            Ok(()) => catalog.apply(&entry),
            Err(error) => {
                tracing::error!(%error, "the end of a topic's deletion cannot be written");
                return;
            }
        }
    }
}
