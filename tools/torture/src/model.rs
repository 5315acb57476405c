//! What the broker has promised so far: shared by all workers, and the measure of every check.

use crate::clock::Clock;
use crate::history::History;
use crate::ledger::{Ledger, Upkeep};
use crate::record::Shape;
use crate::violation::{Violation, violated};
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// A topic as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    pub partitions: i32,
    /// Those that were set for the topic.
    pub configs: BTreeMap<String, String>,
}

/// A topic that records are sent to.
#[derive(Debug)]
pub struct Topic {
    pub name: String,
    pub created: Instant,
    pub upkeep: Upkeep,
    pub shape: Shape,
    pub partitions: Mutex<Vec<Arc<Mutex<Ledger>>>>,
    /// The workers of the load leave it alone: nothing is sent to it but what one check sends.
    pub apart: bool,
    /// Whether its deletion was asked for, so that any request may say that it is unknown.
    pub doomed: AtomicBool,
}

impl Topic {
    pub fn new(name: &str, upkeep: Upkeep, shape: Shape, partitions: i32) -> Topic {
        let topic = Topic {
            name: name.to_owned(),
            created: Instant::now(),
            upkeep,
            shape,
            partitions: Mutex::default(),
            apart: false,
            doomed: AtomicBool::new(false),
        };
        topic.grow(partitions);
        topic
    }

    /// Sees to it that there is a ledger for each of so many partitions.
    pub fn grow(&self, partitions: i32) {
        let mut ledgers = lock(&self.partitions);
        while ledgers.len() < partitions as usize {
            ledgers.push(Arc::new(Mutex::new(Ledger::new(self.upkeep))));
        }
    }

    /// Forgets the partitions above so many: their creation was answered at the moment of a power cut, and
    /// did not outlive it.
    pub fn shrink(&self, partitions: i32) {
        lock(&self.partitions).truncate(partitions as usize);
    }

    fn fork(&self) -> Topic {
        let ledger = |ledger: &Arc<Mutex<Ledger>>| Arc::new(Mutex::new(lock(ledger).clone()));
        Topic {
            name: self.name.clone(),
            created: self.created,
            upkeep: self.upkeep,
            shape: self.shape,
            partitions: Mutex::new(lock(&self.partitions).iter().map(ledger).collect()),
            apart: self.apart,
            doomed: AtomicBool::new(self.doomed.load(Ordering::SeqCst)),
        }
    }

    pub fn ledgers(&self) -> Vec<Arc<Mutex<Ledger>>> {
        lock(&self.partitions).clone()
    }

    pub fn ledger(&self, partition: i32) -> Option<Arc<Mutex<Ledger>>> {
        lock(&self.partitions).get(partition as usize).cloned()
    }
}

/// A group, a topic and a partition.
pub type CommitKey = (String, String, i32);

/// All that was promised.
#[derive(Debug)]
pub struct Model {
    pub topics: Mutex<BTreeMap<String, Arc<Topic>>>,
    /// All topics by name, `None` for one that does not exist.
    pub catalog: Mutex<BTreeMap<String, History<Option<TopicState>>>>,
    /// Committed offsets; -1 for none.
    pub commits: Mutex<BTreeMap<CommitKey, History<i64>>>,
    pub clock: Clock,
    producer_ids: Mutex<HashSet<i64>>,
    next_worker: AtomicU32,
    cuts: AtomicU64,
    struck: AtomicBool,
    may_refuse: AtomicBool,
    medium_failed: AtomicBool,
    resting: AtomicBool,
    violation: Mutex<Option<Violation>>,
    pub tally: Tally,
}

/// Counts of the whole run.
#[derive(Debug, Default)]
pub struct Tally {
    pub sent: AtomicU64,
    pub acknowledged: AtomicU64,
    pub seen: AtomicU64,
    pub checked: AtomicU64,
    pub commits: AtomicU64,
    pub catalog_changes: AtomicU64,
}

impl Model {
    pub fn new(clock: Clock) -> Model {
        Model {
            topics: Mutex::default(),
            catalog: Mutex::default(),
            commits: Mutex::default(),
            clock,
            producer_ids: Mutex::default(),
            next_worker: AtomicU32::new(1),
            cuts: AtomicU64::new(0),
            struck: AtomicBool::new(false),
            may_refuse: AtomicBool::new(false),
            medium_failed: AtomicBool::new(false),
            resting: AtomicBool::new(false),
            violation: Mutex::default(),
            tally: Tally::default(),
        }
    }

    /// The same promises, which from now on change apart from these. Counts begin anew.
    pub fn fork(&self) -> Model {
        let topics = lock(&self.topics);
        let topics = topics.iter();
        let topics = topics.map(|(name, topic)| (name.clone(), Arc::new(topic.fork())));
        Model {
            topics: Mutex::new(topics.collect()),
            catalog: Mutex::new(lock(&self.catalog).clone()),
            commits: Mutex::new(lock(&self.commits).clone()),
            producer_ids: Mutex::new(lock(&self.producer_ids).clone()),
            next_worker: AtomicU32::new(self.next_worker.load(Ordering::SeqCst)),
            cuts: AtomicU64::new(self.cuts()),
            ..Model::new(self.clock.fork())
        }
    }

    /// A number that no worker had before.
    pub fn new_worker(&self) -> u32 {
        self.next_worker.fetch_add(1, Ordering::Relaxed)
    }

    /// How often the power was cut. To be read after the answer that it is kept with.
    pub fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::SeqCst)
    }

    /// The power is about to be cut; the number of this cut.
    pub fn cut(&self) -> u64 {
        self.cuts.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// From now on connections may end (or, from `false` on, not any more).
    pub fn strike(&self, struck: bool) {
        self.struck.store(struck, Ordering::SeqCst);
    }

    pub fn is_struck(&self) -> bool {
        self.struck.load(Ordering::SeqCst)
    }

    /// From now on writes may be refused, for want of space (or, from `false` on, not any more).
    pub fn allow_refusals(&self, may_refuse: bool) {
        self.may_refuse.store(may_refuse, Ordering::SeqCst);
    }

    pub fn may_refuse(&self) -> bool {
        self.may_refuse.load(Ordering::SeqCst) || self.medium_has_failed()
    }

    /// From now on the medium has refused writes in this life of the broker (or, from `false` on, not
    /// yet): what it is to keep for good may be refused until its next start.
    pub fn medium_failed(&self, failed: bool) {
        self.medium_failed.store(failed, Ordering::SeqCst);
    }

    pub fn medium_has_failed(&self) -> bool {
        self.medium_failed.load(Ordering::SeqCst)
    }

    /// From now on workers end what they do and nothing is under way (or, from `false` on, they may
    /// work).
    pub fn rest(&self, resting: bool) {
        self.resting.store(resting, Ordering::SeqCst);
    }

    pub fn is_resting(&self) -> bool {
        self.resting.load(Ordering::SeqCst)
    }

    /// Keeps the first violation.
    pub fn report(&self, violation: Violation) {
        lock(&self.violation).get_or_insert(violation);
    }

    pub fn violation(&self) -> Option<Violation> {
        lock(&self.violation).clone()
    }

    /// Takes note of a producer id that was given out, which must be a new one.
    pub fn new_producer_id(&self, id: i64) -> Result<(), Violation> {
        if !lock(&self.producer_ids).insert(id) {
            violated!(Catalog, "producer id {id} was given out twice");
        }
        Ok(())
    }

    pub fn topics(&self) -> Vec<Arc<Topic>> {
        lock(&self.topics).values().cloned().collect()
    }

    /// Nothing is promised any more: the disk was replaced by an empty one.
    pub fn forget_all(&self) {
        lock(&self.topics).clear();
        lock(&self.catalog).clear();
        lock(&self.commits).clear();
        lock(&self.producer_ids).clear();
        self.clock.forget_latest();
    }

    /// Forgets a topic that is gone, with all that is known of it.
    pub fn forget(&self, topic: &str) {
        lock(&self.topics).remove(topic);
        lock(&self.commits).retain(|(_, of, _), _| of != topic);
    }
}

/// Counts one up.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

/// What a counter has come to.
pub fn count(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// A worker that panicked leaves nothing half done: whatever it held is still sound.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
