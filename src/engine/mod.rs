//! What a shard owns: its copy of the catalog, its partitions, and the door to the other shards.
//!
//! An [`Engine`] lives on one shard's thread. Its callers name partitions; whether one is the
//! shard's own or another's is settled here.

pub mod admin;
pub mod catalog;
pub mod catalog_log;
pub mod closing;
pub mod compaction;
pub mod coordinator;
pub mod damage;
pub mod fetch;
pub mod fetch_sessions;
pub mod flush;
pub mod groups;
pub mod inspect;
pub mod lag;
pub mod limits;
pub mod mailbox;
pub mod offsets;
pub mod offsets_format;
pub mod offsets_topic;
pub mod partition;
pub mod producers;
pub mod repair;
pub mod replay;
pub mod scrub;
pub mod stats;
pub mod upkeep;
pub mod verify;

use crate::config::{Config, TopicConfig};
use crate::io::worker::Worker;
use crate::io::{clock, process};
use crate::log::compact::CompactionConfig;
use crate::log::jobs::{RoomJob, SealJob};
use crate::log::{LogConfig, NOT_DURABLE_BYTES_MAX, ReadError};
use admin::Admin;
use catalog::{Catalog, Topic};
use compaction::Cleaner;
use fetch_sessions::FetchSessions;
use lag::LagReport;
use mailbox::Mailboxes;
use partition::{Append, Due, Partition};
use stats::{ShardReport, Stats, TopicReport};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// Why the engine could not do what it was asked. The protocol's codes for these are in `kafka`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    #[error("there is no such topic or partition")]
    UnknownTopicOrPartition,
    #[error("there is no topic with this id")]
    UnknownTopicId,
    #[error("the disk is full")]
    StorageFull,
    #[error("the partition's storage failed; see the broker's log")]
    StorageFailed,
    #[error("the batch is larger than a segment may be")]
    BatchTooLarge,
    #[error("{0}")]
    OutOfOrderSequence(producers::SequenceError),
    #[error("{0}")]
    StaleProducerEpoch(producers::SequenceError),
    #[error("offset {asked} is not between {start} and {end}")]
    OffsetOutOfRange { asked: i64, start: i64, end: i64 },
    #[error("the log is damaged near offset {asked}")]
    Corrupt { asked: i64 },
    #[error("the broker is stopping")]
    Stopping,
}

impl From<producers::SequenceError> for EngineError {
    fn from(error: producers::SequenceError) -> Self {
        match error {
            producers::SequenceError::OutOfOrder { .. } => EngineError::OutOfOrderSequence(error),
            producers::SequenceError::StaleEpoch { .. } => EngineError::StaleProducerEpoch(error),
        }
    }
}

impl From<ReadError> for EngineError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::OutOfRange { asked, start, end } => {
                EngineError::OffsetOutOfRange { asked, start, end }
            }
            ReadError::Corrupt { asked, .. } | ReadError::EndLost { asked } => {
                EngineError::Corrupt { asked }
            }
            ReadError::Unreadable { .. } | ReadError::Offline => EngineError::StorageFailed,
        }
    }
}

/// A partition's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    pub topic_id: Uuid,
    pub index: u32,
}

/// Which shard owns a partition. Computed, never stored: with another number of shards other
/// threads own the same files.
pub fn owner_of(key: PartitionKey, shards: usize) -> usize {
    let (high, low) = key.topic_id.as_u64_pair();
    let spread = (high ^ low).wrapping_add(u64::from(key.index));
    (spread % shards.max(1) as u64) as usize
}

pub type SharedPartition = Rc<RefCell<Partition>>;

/// One shard's engine.
pub struct Engine {
    pub shard: usize,
    pub config: Arc<Config>,
    /// The data directory's own id, which clients see as the cluster's.
    pub cluster_id: Arc<str>,
    pub stats: Stats,
    pub mailboxes: Mailboxes,
    /// Runs what may block. One for each shard, so that the jobs of one log run in order.
    pub worker: Worker,
    /// Reads what is not in memory. It gives way to the shard: a reader that is far behind must not slow
    /// producers down.
    reader: Worker,
    /// Run its jobs while the broker stops.
    closers: closing::Closers,
    /// Removes files, which can take long; shared by all shards.
    pub janitor: Worker,
    /// Compacts; shared by all shards.
    pub cleaner: Cleaner,
    catalog: RefCell<Catalog>,
    partitions: RefCell<HashMap<PartitionKey, SharedPartition>>,
    dirty: RefCell<Vec<SharedPartition>>,
    dirty_wake: Notify,
    /// Writes the catalog; only the first shard has it.
    admin: Option<Admin>,
    producer_ids: RefCell<admin::ProducerIdBlock>,
    /// The groups that live on this shard.
    pub groups: coordinator::Coordinator,
    /// The fetch sessions that this shard's connections opened.
    pub fetch_sessions: RefCell<FetchSessions>,
    /// How far they are behind, as the last round found.
    lag: RefCell<Arc<LagReport>>,
    /// Notified when requests have to wait for memory that parked fetches hold.
    pub memory_pressed: Rc<Notify>,
    stopping: Cell<bool>,
    stopped_wake: Notify,
}

/// What an engine is made of.
pub struct EngineParts {
    pub shard: usize,
    pub config: Arc<Config>,
    pub cluster_id: Arc<str>,
    pub mailboxes: Mailboxes,
    pub worker: Worker,
    pub reader: Worker,
    pub janitor: Worker,
    pub cleaner: Cleaner,
    pub catalog: Catalog,
    pub admin: Option<Admin>,
}

impl Engine {
    /// Makes a shard's engine without opening its partitions; see [`Engine::open_partitions`].
    pub fn new(parts: EngineParts) -> Rc<Engine> {
        Rc::new(Engine {
            groups: coordinator::Coordinator::new(&parts.config),
            fetch_sessions: RefCell::new(FetchSessions::new(session_limits(&parts))),
            shard: parts.shard,
            config: parts.config,
            cluster_id: parts.cluster_id,
            stats: Stats::default(),
            mailboxes: parts.mailboxes,
            worker: parts.worker,
            reader: parts.reader,
            closers: closing::Closers::default(),
            janitor: parts.janitor,
            cleaner: parts.cleaner,
            catalog: RefCell::new(parts.catalog),
            partitions: RefCell::default(),
            dirty: RefCell::default(),
            dirty_wake: Notify::new(),
            admin: parts.admin,
            producer_ids: RefCell::default(),
            lag: RefCell::default(),
            memory_pressed: Rc::default(),
            stopping: Cell::new(false),
            stopped_wake: Notify::new(),
        })
    }

    // ---- catalog ----

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.catalog.borrow().by_name(name).cloned()
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.catalog.borrow().by_id(id).cloned()
    }

    /// Looks at this shard's copy of the catalog.
    pub fn with_catalog<T>(&self, look: impl FnOnce(&Catalog) -> T) -> T {
        look(&self.catalog.borrow())
    }

    // ---- the other shards ----

    pub fn owner_of(&self, key: PartitionKey) -> usize {
        owner_of(key, self.mailboxes.shard_count())
    }

    pub fn owns(&self, key: PartitionKey) -> bool {
        self.owner_of(key) == self.shard
    }

    /// Runs `call` on a shard, this one included, and brings its answer.
    ///
    /// # Errors
    /// `Stopping` when that shard takes no calls any more.
    pub async fn call<T, F>(
        self: &Rc<Self>,
        shard: usize,
        call: impl FnOnce(Rc<Engine>) -> F + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        self.call_and(shard, call, |future, answer| async move {
            // Whoever asked may be gone.
            let _ = answer.send(future.await);
        })
        .await
    }

    /// As [`call`](Self::call), but the work on the other shard is dropped when its answer is not
    /// wanted any more: for what may wait for minutes.
    ///
    /// # Errors
    /// `Stopping` when that shard takes no calls any more.
    pub async fn call_while_wanted<T, F>(
        self: &Rc<Self>,
        shard: usize,
        call: impl FnOnce(Rc<Engine>) -> F + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
    {
        self.call_and(shard, call, |future, mut answer| async move {
            tokio::select! {
                result = future => {
                    let _ = answer.send(result);
                }
                () = answer.closed() => {}
            }
        })
        .await
    }

    /// Runs `call` on a shard; on another one, `bring` sees to it that its answer is sent.
    async fn call_and<T, F, B>(
        self: &Rc<Self>,
        shard: usize,
        call: impl FnOnce(Rc<Engine>) -> F + Send + 'static,
        bring: impl FnOnce(F, oneshot::Sender<T>) -> B + Send + 'static,
    ) -> Result<T, EngineError>
    where
        T: Send + 'static,
        F: Future<Output = T> + 'static,
        B: Future<Output = ()> + 'static,
    {
        if shard == self.shard {
            return Ok(call(Rc::clone(self)).await);
        }
        let (answer, answered) = oneshot::channel();
        let run = move |engine: &Rc<Engine>| {
            tokio::task::spawn_local(bring(call(Rc::clone(engine)), answer));
        };
        self.mailboxes.send(shard, Box::new(run)).await;
        answered.await.map_err(|_| EngineError::Stopping)
    }

    // ---- partitions ----

    /// One of this shard's own partitions.
    pub fn partition(&self, key: PartitionKey) -> Option<SharedPartition> {
        self.partitions.borrow().get(&key).cloned()
    }

    /// All of this shard's own partitions.
    pub fn partitions(&self) -> Vec<SharedPartition> {
        self.partitions.borrow().values().cloned().collect()
    }

    /// Puts checked batches into their partitions, each in its turn. Returns when all are on their
    /// way (a full mailbox of another shard is waited for); the answers come through the replies.
    pub async fn append(self: &Rc<Self>, appends: Vec<(PartitionKey, Append)>) {
        let mut remote: Vec<Vec<(PartitionKey, Append)>> = Vec::new();
        for (key, append) in appends {
            let owner = self.owner_of(key);
            if owner == self.shard {
                self.append_here(key, append);
                continue;
            }
            remote.resize_with(self.mailboxes.shard_count(), Vec::new);
            remote[owner].push((key, append));
        }
        for (shard, appends) in remote.into_iter().enumerate() {
            if appends.is_empty() {
                continue;
            }
            let run = move |engine: &Rc<Engine>| {
                for (key, append) in appends {
                    engine.append_here(key, append);
                }
            };
            self.mailboxes.send(shard, Box::new(run)).await;
        }
    }

    pub(super) fn append_here(self: &Rc<Self>, key: PartitionKey, append: Append) {
        let Some(partition) = self.partition(key) else {
            let _ = append.reply.send(Err(EngineError::UnknownTopicOrPartition));
            return;
        };
        let due = partition.borrow_mut().append(append, clock::now_ms());
        self.attend(&partition, due);
    }

    /// Sees to what a partition needs after a call.
    pub fn attend(self: &Rc<Self>, partition: &SharedPartition, due: Due) {
        if due.flush {
            self.queue_flush(partition);
        }
        if let Some(job) = due.room {
            self.make_room(partition, job);
        }
    }

    /// Runs a job that makes room for appends, and what follows from it.
    pub fn make_room(self: &Rc<Self>, partition: &SharedPartition, job: RoomJob) {
        let engine = Rc::clone(self);
        let partition = Rc::clone(partition);
        let floor = self.free_bytes_min(&partition);
        let result = self.run_blocking(move || {
            let is_enough = job.leaves_free(floor)?;
            match is_enough {
                true => job.run(),
                false => {
                    limits::FREE_BYTES.reached("an append that needs disk space is refused");
                    Err(std::io::ErrorKind::StorageFull.into())
                }
            }
        });
        tokio::task::spawn_local(async move {
            let result = result.await;
            if partition.borrow().is_closed() {
                // Its directory's name may belong to another topic soon.
                return;
            }
            let now_ms = clock::now_ms();
            let (seal, due) = partition.borrow_mut().room_done(result, now_ms);
            let is_rolled = seal.is_some();
            if let Some(seal) = seal {
                engine.seal(&partition, seal);
            }
            engine.attend(&partition, due);
            if is_rolled && partition.borrow().log.is_over_size() {
                engine.enforce_retention(&partition).await;
            }
        });
    }

    /// What an append must leave free on the disk. The broker's own topics may use that.
    fn free_bytes_min(&self, partition: &SharedPartition) -> u64 {
        match partition.borrow().topic.is_internal() {
            true => 0,
            false => self.config.free_bytes_min,
        }
    }

    /// Runs the job that puts a sealed segment into its final form.
    pub fn seal(self: &Rc<Self>, partition: &SharedPartition, job: SealJob) {
        let engine = Rc::clone(self);
        let partition = Rc::clone(partition);
        let result = self.run_blocking(move || job.run());
        tokio::task::spawn_local(async move {
            let result = result.await;
            let mut inner = partition.borrow_mut();
            if let Err(error) = &result {
                tracing::error!(dir = %inner.log.dir().display(), %error,
                    "a segment could not be completed on disk: this partition takes no more writes; \
                     check the disk, then restart");
            }
            inner.seal_done(&result);
            let needs_flush = inner.log.needs_flush();
            drop(inner);
            if needs_flush {
                engine.queue_flush(&partition);
            }
        });
    }

    /// Runs a blocking job on this shard's worker thread, after all that were handed over before.
    /// The job is in the worker's queue when this returns; the future brings its result.
    pub fn run_blocking<T, J>(&self, job: J) -> impl Future<Output = std::io::Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> std::io::Result<T> + Send + 'static,
    {
        self.run_on(&self.worker, job)
    }

    fn run_on<T, J>(
        &self,
        worker: &Worker,
        job: J,
    ) -> impl Future<Output = std::io::Result<T>> + use<T, J>
    where
        T: Send + 'static,
        J: FnOnce() -> std::io::Result<T> + Send + 'static,
    {
        let result = worker.run(job);
        async move {
            let result = result.await;
            result.unwrap_or_else(|| Err(std::io::Error::other("the worker thread failed")))
        }
    }

    // ---- flushing ----

    /// Puts a partition on the list of those to flush.
    pub fn queue_flush(&self, partition: &SharedPartition) {
        let mut inner = partition.borrow_mut();
        if inner.queued_for_flush || inner.is_closed() {
            return;
        }
        inner.queued_for_flush = true;
        self.dirty.borrow_mut().push(Rc::clone(partition));
        self.dirty_wake.notify_one();
    }

    /// Waits until partitions have something to flush and takes them all. Each counts as queued until
    /// its [`flush_begin`](Partition::flush_begin).
    pub async fn take_dirty(&self) -> Vec<SharedPartition> {
        loop {
            let dirty = std::mem::take(&mut *self.dirty.borrow_mut());
            if !dirty.is_empty() {
                return dirty;
            }
            self.dirty_wake.notified().await;
        }
    }

    // ---- counters ----

    /// This shard's counters.
    pub fn report(&self) -> ShardReport {
        let mut report = self.stats.report(self.shard);
        report.lag = Arc::clone(&self.lag.borrow());
        report.mailbox_depth = self.mailboxes.depth(self.shard) as u64;
        let sessions = self.fetch_sessions.borrow();
        report.fetch_sessions = sessions.count() as u64;
        report.fetch_session_partitions = sessions.partition_count() as u64;
        report.fetch_session_evictions = sessions.evictions();
        for partition in self.partitions.borrow().values() {
            let partition = partition.borrow();
            partition.report_compaction(&mut report.compaction);
            let counters = partition.counters;
            let topic = report
                .topics
                .entry(partition.topic.name.clone())
                .or_default();
            topic.add(&TopicReport {
                partitions: 1,
                poisoned_partitions: u64::from(partition.log.is_poisoned()),
                offline_partitions: u64::from(partition.log.is_offline()),
                damaged_partitions: u64::from(partition.damaged_offsets() > 0),
                damaged_offsets: partition
                    .log
                    .damage()
                    .offset_count(partition.offsets().start),
                appended_records: counters.appended_records,
                appended_batches: counters.appended_batches,
                appended_bytes: counters.appended_bytes,
                fetched_bytes: counters.fetched_bytes,
                log_bytes: partition.log.size_bytes(),
                segments: partition.log.segment_count() as u64,
                producers: partition.producer_count() as u64,
            });
        }
        report
    }

    /// All shards' counters, by shard.
    pub async fn reports(self: &Rc<Self>) -> Vec<ShardReport> {
        let mut reports = Vec::new();
        for shard in 0..self.mailboxes.shard_count() {
            let report = self.call(shard, |engine| async move { engine.report() });
            reports.extend(report.await);
        }
        reports
    }

    /// Returns when every shard has answered.
    pub async fn reach_all(self: &Rc<Self>) {
        for shard in 0..self.mailboxes.shard_count() {
            // One that has stopped is not expected to answer.
            let _ = self.call(shard, |_| async {}).await;
        }
    }

    /// Whether requests take so much of the shard's part of `inflight_bytes_max` that nobody may wait
    /// at leisure.
    pub fn memory_is_short(&self) -> bool {
        let most = self.config.inflight_bytes_max / self.mailboxes.shard_count();
        self.stats.inflight_bytes.get() > (most / 4 * 3) as u64
    }

    // ---- stopping ----

    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }

    /// From now on this shard is on its way out.
    pub fn set_stopping(&self) {
        self.stopping.set(true);
        self.stopped_wake.notify_waiters();
    }

    /// Returns when the shard is on its way out.
    pub async fn stopped(&self) {
        while !self.stopping.get() {
            self.stopped_wake.notified().await;
        }
    }
}

/// Bytes between two index entries, whatever a topic's configuration says: with fewer, the index
/// takes too much memory; with more, a read walks too far on the shard's thread.
const INDEX_INTERVAL_BYTES: std::ops::RangeInclusive<usize> = 1024..=(256 << 10);

/// How much earlier than `segment.ms` a log rolls, so that the logs of a topic do not all roll at
/// once (`segment.jitter.ms`).
fn jitter_ms(most: i64) -> i64 {
    (process::random_u64() >> 1) as i64 % most.saturating_add(1).max(1)
}

/// This shard's part of what all shards' sessions may take up.
fn session_limits(parts: &EngineParts) -> fetch_sessions::Limits {
    let shards = parts.mailboxes.shard_count();
    let part = |whole: usize| whole / shards + usize::from(parts.shard < whole % shards);
    fetch_sessions::Limits {
        sessions: part(parts.config.fetch_sessions_max),
        partitions: part(parts.config.fetch_session_partitions_max),
        eviction_ms: parts.config.fetch_session_eviction_ms as i64,
    }
}

/// What the log needs of a topic's configuration and the broker's.
fn log_config(config: &Config, topic: &TopicConfig) -> LogConfig {
    let deletes = topic.cleanup_policy.deletes();
    // What is being appended to is not compacted, so it must close in time.
    let segment_ms = match topic.cleanup_policy.compacts() {
        true => topic.segment_ms.min(topic.max_compaction_lag_ms),
        false => topic.segment_ms,
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
            min_lag_ms: topic.min_compaction_lag_ms,
            max_lag_ms: topic.max_compaction_lag_ms,
        }),
        reserve_step_bytes_max: config.segment_grow_bytes_max,
        checkpoint_bytes: config.checkpoint_bytes,
        not_durable_bytes_max: NOT_DURABLE_BYTES_MAX,
    }
}

#[cfg(test)]
pub(crate) mod tests;
