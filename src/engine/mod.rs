//! What a shard owns: its copy of the catalog, its partitions, and the door to the other shards.
//!
//! An [`Engine`] lives on one shard's thread. Its callers name partitions; whether one is the
//! shard's own or another's is settled here.

pub mod append;
pub mod catalog;
pub mod catalog_log;
pub mod damage;
pub mod data_dir;
pub mod dirty;
pub mod events;
pub mod fetch;
pub mod fetch_sessions;
pub mod flush;
pub mod indexes;
pub mod log_config;
pub mod mailbox;
pub mod offsets;
pub mod pace;
pub mod partition;
pub mod partitions;
pub mod producers;
pub mod repair;
pub mod replay;
pub mod reports;
pub mod stats;
pub mod upkeep;
pub mod verify;
pub mod wake;
pub mod workers;

use crate::config::Config;
use crate::io::reactor;
use crate::io::stop::Stop;
use crate::io::worker::Worker;
use crate::io::{clock, limits};
use crate::log::ReadError;
use crate::log::jobs::{RoomJob, SealJob};
use crate::net::budget::Budget;
use catalog::changes::{Admin, ProducerIdBlock};
use catalog::{Catalog, Topic};
use dirty::DirtyList;
use events::Listeners;
use fetch_sessions::FetchSessions;
use indexes::IndexMemory;
use indexes::rewrite::RewriteJob;
use mailbox::Mailboxes;
use pace::Pace;
use partition::{Due, Partition};
use partitions::Partitions;
use stats::Stats;
use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use thiserror::Error;
use upkeep::compaction::Cleaner;
use upkeep::retention;
use uuid::Uuid;
use workers::Workers;

/// Why the engine could not do what it was asked. The protocol's codes for these are in `kafka`.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum EngineError {
    #[error("there is no such topic or partition")]
    UnknownTopicOrPartition,
    #[error("there is no topic with this id")]
    UnknownTopicId,
    #[error("the topic of this name has another id")]
    InconsistentTopicId,
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
    #[error("leader epoch {0} is over")]
    FencedLeaderEpoch(i32),
    #[error("leader epoch {0} has not begun")]
    UnknownLeaderEpoch(i32),
    #[error("{0}")]
    Changed(indexes::judge::Changed),
    #[error("where the newest record of a key is, is not known (yet); see key_index_bytes_max")]
    NoKeyIndex,
    #[error("the topic's configuration was changed while this was on its way; send it again")]
    Reconfigured,
    #[error("the broker is stopping")]
    Stopping,
}

impl From<indexes::judge::Refused> for EngineError {
    fn from(refused: indexes::judge::Refused) -> Self {
        match refused {
            indexes::judge::Refused::Changed(changed) => EngineError::Changed(changed),
            indexes::judge::Refused::NoIndex => EngineError::NoKeyIndex,
        }
    }
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
    pub mailboxes: Mailboxes<Engine>,
    /// Run what may block.
    pub workers: Workers,
    /// How fast cold pages are read; shared by all shards.
    pub pace: Arc<Pace>,
    /// Removes files, which can take long; shared by all shards.
    pub janitor: Worker,
    /// Compacts; shared by all shards.
    pub cleaner: Cleaner,
    catalog: RefCell<Catalog>,
    partitions: Partitions,
    /// What the commit loop takes.
    pub dirty: DirtyList,
    /// Writes the catalog; only the first shard has it.
    admin: Option<Admin>,
    producer_ids: RefCell<ProducerIdBlock>,
    /// The code that keeps state about this shard's topics.
    pub listeners: Listeners,
    /// The fetch sessions that this shard's connections opened.
    pub fetch_sessions: RefCell<FetchSessions>,
    /// What the partitions' indexes take.
    pub index_memory: IndexMemory,
    /// For the requests of the shard's connections; parked fetches give theirs back when it is short.
    pub memory: Budget,
    pub stop: Rc<Stop>,
    /// The logs are being closed: every append is refused.
    pub appends_ended: Cell<bool>,
}

/// What an engine is made of.
pub struct EngineParts {
    pub shard: usize,
    pub config: Arc<Config>,
    pub cluster_id: Arc<str>,
    pub mailboxes: Mailboxes<Engine>,
    pub worker: Worker,
    pub reader: Worker,
    pub pace: Arc<Pace>,
    pub janitor: Worker,
    pub cleaner: Cleaner,
    pub catalog: Catalog,
    pub admin: Option<Admin>,
}

impl Engine {
    /// Makes a shard's engine without opening its partitions; see [`upkeep::opening`].
    pub fn new(parts: EngineParts) -> Rc<Engine> {
        let memory_bytes = parts.config.inflight_bytes_max / parts.mailboxes.shard_count();
        let shards = parts.mailboxes.shard_count();
        let index_memory = IndexMemory::new(
            parts.config.dedup_bytes_max / shards,
            parts.config.key_index_bytes_max / shards,
        );
        let memory = Budget::new(memory_bytes, &limits::INFLIGHT_BYTES);
        Rc::new(Engine {
            listeners: Listeners::default(),
            fetch_sessions: RefCell::new(FetchSessions::new(session_limits(&parts))),
            shard: parts.shard,
            config: parts.config,
            cluster_id: parts.cluster_id,
            stats: Stats::default(),
            mailboxes: parts.mailboxes,
            workers: Workers::new(parts.worker, parts.reader),
            pace: parts.pace,
            janitor: parts.janitor,
            cleaner: parts.cleaner,
            catalog: RefCell::new(parts.catalog),
            partitions: Partitions::default(),
            dirty: DirtyList::default(),
            admin: parts.admin,
            producer_ids: RefCell::default(),
            index_memory,
            memory,
            stop: Rc::default(),
            appends_ended: Cell::default(),
        })
    }

    // ---- catalog ----

    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.catalog.borrow().by_name(name).cloned()
    }

    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.catalog.borrow().by_id(id).cloned()
    }

    /// The key of a partition as clients name it, if there is one.
    pub fn key_of(&self, topic: &str, index: i32) -> Option<PartitionKey> {
        self.topic(topic)?.key_of(index)
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

    /// Runs `call` on a shard, this one included, and returns its answer.
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
        self.mailboxes.call(self, shard, call).await
    }

    // ---- partitions ----

    /// One of this shard's own partitions.
    pub fn partition(&self, key: PartitionKey) -> Option<SharedPartition> {
        self.partitions.get(key)
    }

    /// All of this shard's own partitions.
    pub fn partitions(&self) -> Vec<SharedPartition> {
        self.partitions.all()
    }

    /// Sees to what a partition needs after a call.
    pub fn mark_due(self: &Rc<Self>, partition: &SharedPartition, due: Due) {
        if due.flush {
            self.dirty.queue(partition);
        }
        if let Some(job) = due.room {
            self.make_room(partition, job);
        }
        if let Some(job) = due.rewrite {
            self.rewrite(partition, job);
        }
        if due.indexes {
            indexes::attach(self, partition);
        }
    }

    /// Takes records out of the batch that waits first, on the worker thread, and appends it.
    fn rewrite(self: &Rc<Self>, partition: &SharedPartition, job: Box<RewriteJob>) {
        let (engine, partition) = (Rc::clone(self), Rc::clone(partition));
        let rewritten = self.workers.worker.run(move || job.run());
        reactor::spawn(async move {
            // Without a worker thread the process has ended.
            let Some(rewritten) = rewritten.await else {
                return;
            };
            let due = partition.borrow_mut().rewritten(rewritten, clock::now_ms());
            engine.mark_due(&partition, due);
        });
    }

    /// Runs a job that makes room for appends, and what follows from it.
    pub fn make_room(self: &Rc<Self>, partition: &SharedPartition, job: RoomJob) {
        let engine = Rc::clone(self);
        let partition = Rc::clone(partition);
        let floor = self.free_bytes_min(&partition);
        let result = self.workers.run(move || {
            let is_enough = job.leaves_free(floor)?;
            if is_enough {
                job.run()
            } else {
                limits::FREE_BYTES.reached("an append that needs disk space is refused");
                Err(std::io::ErrorKind::StorageFull.into())
            }
        });
        reactor::spawn(async move {
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
            engine.mark_due(&partition, due);
            if is_rolled && partition.borrow().log.is_over_size() {
                retention::enforce(&engine, &partition).await;
            }
        });
    }

    /// What an append must leave free on the disk. The broker's own topics may use that.
    fn free_bytes_min(&self, partition: &SharedPartition) -> u64 {
        if partition.borrow().topic.is_internal() {
            0
        } else {
            self.config.free_bytes_min
        }
    }

    /// Runs the job that puts a sealed segment into its final form.
    pub fn seal(self: &Rc<Self>, partition: &SharedPartition, job: SealJob) {
        let engine = Rc::clone(self);
        let partition = Rc::clone(partition);
        let result = self.workers.run(move || job.run());
        reactor::spawn(async move {
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
                engine.dirty.queue(&partition);
            }
        });
    }

    // ---- stopping ----

    pub fn is_stopping(&self) -> bool {
        self.stop.is_set()
    }
}

/// This shard's share of the limits of fetch sessions.
fn session_limits(parts: &EngineParts) -> fetch_sessions::Limits {
    let shards = parts.mailboxes.shard_count();
    let part = |whole: usize| whole / shards + usize::from(parts.shard < whole % shards);
    fetch_sessions::Limits {
        sessions: part(parts.config.fetch_sessions_max),
        partitions: part(parts.config.fetch_session_partitions_max),
        eviction_ms: parts.config.fetch_session_eviction_ms as i64,
    }
}

#[cfg(test)]
pub(crate) mod tests;
