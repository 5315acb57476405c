//! Changes of the catalog. The first shard makes them for all: it checks the change, writes it to
//! the catalog's log, has every shard apply it, and then answers.

use super::{Entry, Topic, TopicNameError, apply};
use crate::config::{
    BrokerScope, CleanupPolicy, ConfigChange, ConfigError, Owner, REMOVED, TopicConfig,
    TopicDefaults,
};
use crate::engine::catalog_log::CatalogLog;
use crate::engine::{Engine, EngineError};
use crate::io::limits;
use crate::io::rate_limited::{self, RateLimited};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::MutexGuard;
use uuid::Uuid;

/// The shard that writes the catalog.
pub const ADMIN_SHARD: usize = 0;
/// Producer ids are given out in blocks, so that not every producer costs a write.
const PRODUCER_ID_BLOCK: i64 = 1000;

/// Why the catalog was not changed.
#[derive(Debug, Error)]
pub enum AdminError {
    #[error("topic {0:?} exists already")]
    TopicExists(String),
    #[error(
        "a topic {0:?} was deleted, and what it left is not gone yet; try again. After a failure of the disk it goes at the next start"
    )]
    StillDeleting(String),
    #[error("there is no such topic")]
    UnknownTopic,
    #[error(transparent)]
    BadName(#[from] TopicNameError),
    #[error("{0:?} collides with topic {1:?}: in metric names `.` and `_` are the same")]
    NameCollision(String, String),
    #[error("{0} is an internal topic")]
    InternalTopic(String),
    #[error("a topic has at least one partition")]
    NoPartitions,
    #[error("topic {name:?} has {current} partitions; {wanted} is not more")]
    NotMorePartitions {
        name: String,
        current: u32,
        wanted: u32,
    },
    #[error("{0}")]
    BadConfig(ConfigError),
    #[error("the limit of {limit} {what} is reached; raise {knob} to allow more")]
    LimitReached {
        what: &'static str,
        limit: usize,
        knob: &'static str,
    },
    #[error(
        "`cleanup.policy` of {0} must be compact: with another, the broker's own records would be deleted"
    )]
    MustCompact(String),
    #[error("the catalog cannot be written: {0}")]
    NotWritten(std::io::Error),
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// The one writer of the catalog.
pub struct Admin {
    /// Held over a whole change, so that changes happen one after the other.
    changing: tokio::sync::Mutex<()>,
    /// Locked by the worker thread only, while it writes.
    log: Arc<Mutex<CatalogLog>>,
    /// Deleted topics whose files are out of the way, though the catalog does not say so yet.
    purgeable: RefCell<Vec<Uuid>>,
    /// Makes the ids of new topics.
    new_id: RefCell<Box<dyn FnMut() -> Uuid + Send>>,
}

impl Admin {
    pub fn new(log: CatalogLog) -> Admin {
        Admin {
            changing: tokio::sync::Mutex::new(()),
            log: Arc::new(Mutex::new(log)),
            purgeable: RefCell::default(),
            new_id: RefCell::new(Box::new(Uuid::new_v4)),
        }
    }

    /// Topics get ids from `new_id`, so that a test can choose the shard that owns them.
    #[cfg(any(test, feature = "faults"))]
    pub fn with_ids(self, new_id: impl FnMut() -> Uuid + Send + 'static) -> Admin {
        Admin {
            new_id: RefCell::new(Box::new(new_id)),
            ..self
        }
    }
}

/// Producer ids that a shard may give out.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProducerIdBlock {
    next: i64,
    end: i64,
}

/// A topic to create.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    pub partitions: u32,
    pub configs: BTreeMap<String, String>,
}

/// Creates a topic, or with `only_check` says whether it could be.
///
/// # Errors
/// See [`AdminError`].
pub async fn create_topic(
    engine: &Rc<Engine>,
    new: NewTopic,
    only_check: bool,
) -> Result<Arc<Topic>, AdminError> {
    create(engine, new, only_check, false).await
}

/// The topic of this name, created with the broker's defaults if there is none and
/// `auto_create_topics` allows it.
///
/// # Errors
/// `UnknownTopic` where it may not be created; else as for [`create_topic`].
pub async fn find_or_create_topic(
    engine: &Rc<Engine>,
    name: &str,
) -> Result<Arc<Topic>, AdminError> {
    if let Some(topic) = engine.topic(name) {
        return Ok(topic);
    }
    super::check_topic_name(name)?;
    if !engine.config.auto_create_topics || super::INTERNAL_TOPICS.contains(&name) {
        return Err(AdminError::UnknownTopic);
    }
    let new = NewTopic {
        name: name.to_owned(),
        partitions: engine.config.num_partitions,
        configs: BTreeMap::new(),
    };
    let created = create_topic(engine, new, false).await;
    match created {
        // Another client was faster.
        Err(AdminError::TopicExists(_)) => {
            return engine.topic(name).ok_or(AdminError::UnknownTopic);
        }
        // No line: a client that asks for many topics could fill the log.
        Ok(_) | Err(AdminError::LimitReached { .. }) => {}
        Err(ref error) => {
            static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
            if let Some(kept_back) = LINE.admit() {
                tracing::warn!(topic = name, %error, kept_back, "a topic could not be created on demand");
            }
        }
    }
    created
}

/// Creates a topic of the broker's own.
///
/// # Errors
/// See [`AdminError`].
pub async fn create_internal_topic(
    engine: &Rc<Engine>,
    new: NewTopic,
) -> Result<Arc<Topic>, AdminError> {
    create(engine, new, false, true).await
}

async fn create(
    engine: &Rc<Engine>,
    new: NewTopic,
    only_check: bool,
    internal: bool,
) -> Result<Arc<Topic>, AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        change.purge().await;
        let topic = change.check_new_topic(&new, internal)?;
        if only_check {
            return Ok(Arc::new(topic));
        }
        let id = topic.id;
        let created = Entry::TopicCreated {
            id,
            name: topic.name,
            partitions: topic.partitions,
            configs: topic.configs,
        };
        change.commit(created).await?;
        tracing::info!(
            topic = new.name,
            partitions = new.partitions,
            "created a topic"
        );
        engine.topic_by_id(id).ok_or(AdminError::UnknownTopic)
    })
    .await
}

/// Deletes a topic. When this returns, its files are gone, or will be at the next start.
///
/// # Errors
/// See [`AdminError`].
pub async fn delete_topic(engine: &Rc<Engine>, id: Uuid) -> Result<(), AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        let topic = engine.topic_by_id(id).ok_or(AdminError::UnknownTopic)?;
        if topic.is_internal() {
            return Err(AdminError::InternalTopic(topic.name.clone()));
        }
        change.commit(Entry::TopicDeleted { id }).await?;
        tracing::info!(topic = topic.name, "deleted a topic");
        change.admin.purgeable.borrow_mut().push(id);
        change.purge().await;
        Ok(())
    })
    .await
}

/// Frees names that could not be freed when their topics were deleted. Only the shard that writes the
/// catalog has any.
pub async fn retry_purge(engine: &Rc<Engine>) {
    let is_due = |admin: &Admin| !admin.purgeable.borrow().is_empty();
    if engine.admin.as_ref().is_some_and(is_due)
        && let Ok(change) = Change::begin(engine).await
    {
        change.purge().await;
    }
}

/// Gives a topic more partitions.
///
/// # Errors
/// See [`AdminError`].
pub async fn set_partitions(
    engine: &Rc<Engine>,
    id: Uuid,
    partitions: u32,
    only_check: bool,
) -> Result<(), AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        let topic = engine.topic_by_id(id).ok_or(AdminError::UnknownTopic)?;
        if topic.is_internal() {
            // The partition of a name follows from their number.
            return Err(AdminError::InternalTopic(topic.name.clone()));
        }
        if partitions <= topic.partitions {
            return Err(AdminError::NotMorePartitions {
                name: topic.name.clone(),
                current: topic.partitions,
                wanted: partitions,
            });
        }
        change.check_limits(0, (partitions - topic.partitions) as usize)?;
        if only_check {
            return Ok(());
        }
        change.commit(Entry::PartitionsSet { id, partitions }).await
    })
    .await
}

/// Replaces the configurations that were set for a topic.
///
/// # Errors
/// See [`AdminError`].
pub async fn set_topic_configs(
    engine: &Rc<Engine>,
    id: Uuid,
    configs: BTreeMap<String, String>,
    only_check: bool,
) -> Result<(), AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        let topic = engine.topic_by_id(id).ok_or(AdminError::UnknownTopic)?;
        let configs = stored_form(&topic.name, configs)?;
        change.set_configs(&topic, configs, only_check).await
    })
    .await
}

/// Changes some of the configurations that were set for a topic, all or none of them. No other
/// change comes between what is read and what is written.
///
/// # Errors
/// See [`AdminError`].
pub async fn alter_topic_configs(
    engine: &Rc<Engine>,
    id: Uuid,
    changes: Vec<(String, ConfigChange)>,
    only_check: bool,
) -> Result<(), AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        let topic = engine.topic_by_id(id).ok_or(AdminError::UnknownTopic)?;
        let mut configs = topic.configs.clone();
        for (name, one) in changes {
            if is_ignored(&topic.name, &name) {
                continue;
            }
            let changed = engine.with_catalog(|catalog| {
                Owner::Topic.change(&mut configs, catalog.defaults(), name, one)
            });
            changed.map_err(AdminError::BadConfig)?;
        }
        change.set_configs(&topic, configs, only_check).await
    })
    .await
}

/// Replaces what was set of the broker's configs while it ran.
///
/// # Errors
/// See [`AdminError`].
pub async fn set_broker_configs(
    engine: &Rc<Engine>,
    scope: BrokerScope,
    configs: BTreeMap<String, String>,
    only_check: bool,
) -> Result<(), AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        let normal = configs.into_iter().map(|(name, value)| {
            let value = Owner::Broker.normal(&name, &value)?;
            Ok((name, value))
        });
        let configs = normal
            .collect::<Result<_, _>>()
            .map_err(AdminError::BadConfig)?;
        change.set_broker_configs(scope, configs, only_check).await
    })
    .await
}

/// Changes some of the broker's configs while it runs, all or none of them.
///
/// # Errors
/// See [`AdminError`].
pub async fn alter_broker_configs(
    engine: &Rc<Engine>,
    scope: BrokerScope,
    changes: Vec<(String, ConfigChange)>,
    only_check: bool,
) -> Result<(), AdminError> {
    administer(engine, move |engine| async move {
        let change = Change::begin(&engine).await?;
        let defaults = engine.with_catalog(|catalog| catalog.defaults().clone());
        let mut configs = defaults.dynamic.of(scope).clone();
        for (name, one) in changes {
            let changed = Owner::Broker.change(&mut configs, &defaults, name, one);
            changed.map_err(AdminError::BadConfig)?;
        }
        change.set_broker_configs(scope, configs, only_check).await
    })
    .await
}

/// A producer id that was never given out before, in this run or an earlier one.
///
/// # Errors
/// When the block it comes from cannot be made durable.
pub async fn new_producer_id(engine: &Rc<Engine>) -> Result<i64, AdminError> {
    if let Some(id) = engine.producer_ids.borrow_mut().take() {
        return Ok(id);
    }
    let reserve = |engine: Rc<Engine>| async move {
        let change = Change::begin(&engine).await?;
        let next = engine.with_catalog(|catalog| catalog.next_producer_id());
        let end = next + PRODUCER_ID_BLOCK;
        change
            .commit(Entry::ProducerIdsReserved { next: end })
            .await?;
        Ok(ProducerIdBlock { next, end })
    };
    let block = administer(engine, reserve).await?;
    // Another request may have brought a block meanwhile; the rest of that one is given up.
    let mut current = engine.producer_ids.borrow_mut();
    *current = block;
    current
        .take()
        .ok_or(AdminError::Engine(EngineError::Stopping))
}

/// Runs a change on the shard that writes the catalog.
async fn administer<T, F>(
    engine: &Rc<Engine>,
    change: impl FnOnce(Rc<Engine>) -> F + Send + 'static,
) -> Result<T, AdminError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, AdminError>> + 'static,
{
    engine.call(ADMIN_SHARD, change).await?
}

/// A change under way. No other begins until it is dropped.
struct Change<'a> {
    engine: &'a Rc<Engine>,
    admin: &'a Admin,
    _alone: MutexGuard<'a, ()>,
}

impl Change<'_> {
    /// Waits for the change before this one to end.
    async fn begin(engine: &Rc<Engine>) -> Result<Change<'_>, AdminError> {
        let admin = engine.admin.as_ref().filter(|_| !engine.is_stopping());
        let admin = admin.ok_or(EngineError::Stopping)?;
        Ok(Change {
            engine,
            admin,
            _alone: admin.changing.lock().await,
        })
    }

    fn check_new_topic(&self, new: &NewTopic, internal: bool) -> Result<Topic, AdminError> {
        super::check_topic_name(&new.name)?;
        if !internal && super::INTERNAL_TOPICS.contains(&new.name.as_str()) {
            return Err(AdminError::InternalTopic(new.name.clone()));
        }
        if new.partitions == 0 {
            return Err(AdminError::NoPartitions);
        }
        let configs = stored_form(&new.name, new.configs.clone())?;
        self.engine.with_catalog(|catalog| {
            if catalog.by_name(&new.name).is_some() {
                return Err(AdminError::TopicExists(new.name.clone()));
            }
            let is_held = catalog.held_names().has(&new.name);
            if is_held || catalog.deleting().any(|topic| topic.name == new.name) {
                return Err(AdminError::StillDeleting(new.name.clone()));
            }
            self.check_limits(1, new.partitions as usize)?;
            let plain = |byte: u8| if byte == b'.' { b'_' } else { byte };
            let has_either = new.name.contains(['.', '_']);
            let same = |topic: &&Arc<Topic>| {
                let (new, other) = (new.name.bytes().map(plain), topic.name.bytes().map(plain));
                topic.name.len() == new.len() && other.eq(new)
            };
            if let Some(other) = catalog.topics().filter(|_| has_either).find(same) {
                let (new, other) = (new.name.clone(), other.name.clone());
                return Err(AdminError::NameCollision(new, other));
            }
            let config = checked(catalog.defaults(), &configs)?;
            Ok(Topic {
                id: (self.admin.new_id.borrow_mut())(),
                name: new.name.clone(),
                partitions: new.partitions,
                configs,
                config,
            })
        })
    }

    fn check_limits(&self, topics: usize, partitions: usize) -> Result<(), AdminError> {
        let catalog = self.engine.catalog.borrow();
        if catalog.topic_count() + topics > self.engine.config.topics_max {
            limits::TOPICS.reached("no topic was created");
            return Err(AdminError::LimitReached {
                what: "topics",
                limit: self.engine.config.topics_max,
                knob: "topics_max",
            });
        }
        if catalog.partition_count().saturating_add(partitions) > self.engine.config.partitions_max
        {
            limits::PARTITIONS.reached(format_args!("no {partitions} more were created"));
            return Err(AdminError::LimitReached {
                what: "partitions",
                limit: self.engine.config.partitions_max,
                knob: "partitions_max",
            });
        }
        Ok(())
    }

    /// Frees the names of deleted topics whose files are out of the way. On a full disk that cannot be
    /// written down, and is tried again.
    async fn purge(&self) {
        let next = || self.admin.purgeable.borrow().first().copied();
        while let Some(id) = next() {
            if self.commit(Entry::TopicPurged { id }).await.is_err() {
                return;
            }
            let purgeable = &self.admin.purgeable;
            purgeable.borrow_mut().retain(|other| *other != id);
        }
    }

    async fn set_configs(
        &self,
        topic: &Topic,
        configs: BTreeMap<String, String>,
        only_check: bool,
    ) -> Result<(), AdminError> {
        let config = self
            .engine
            .with_catalog(|catalog| checked(catalog.defaults(), &configs))?;
        if topic.is_internal() && config.cleanup_policy != CleanupPolicy::Compact {
            return Err(AdminError::MustCompact(topic.name.clone()));
        }
        if only_check || configs == topic.configs {
            return Ok(());
        }
        let id = topic.id;
        self.commit(Entry::ConfigsSet { id, configs }).await?;
        tracing::info!(topic = topic.name, "changed the configuration of a topic");
        Ok(())
    }

    async fn set_broker_configs(
        &self,
        scope: BrokerScope,
        configs: BTreeMap<String, String>,
        only_check: bool,
    ) -> Result<(), AdminError> {
        let mut defaults = self
            .engine
            .with_catalog(|catalog| catalog.defaults().clone());
        let is_same = *defaults.dynamic.of(scope) == configs;
        defaults.dynamic.set(scope, configs.clone());
        let in_force = defaults.in_force();
        in_force.check().map_err(AdminError::BadConfig)?;
        if only_check || is_same {
            return Ok(());
        }
        self.commit(Entry::BrokerConfigsSet { scope, configs })
            .await?;
        tracing::info!(?scope, "changed the configuration of the broker");
        Ok(())
    }

    /// Makes an entry durable, then has every shard apply it.
    async fn commit(&self, entry: Entry) -> Result<(), AdminError> {
        let engine = self.engine;
        if engine.is_stopping() {
            return Err(EngineError::Stopping.into());
        }
        let entry = Arc::new(entry);
        let log = Arc::clone(&self.admin.log);
        let written = Arc::clone(&entry);
        let written = engine.workers.run(move || {
            let mut log = log.lock().map_err(|_| std::io::Error::other("poisoned"))?;
            log.append(&written)?;
            Ok(log.is_long())
        });
        let is_long = written.await.map_err(|error| {
            static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
            if let Some(kept_back) = LINE.admit() {
                tracing::error!(%error, kept_back, "the catalog cannot be written");
            }
            AdminError::NotWritten(error)
        })?;
        // The entry is in force: a shard that cannot open or move its files must not keep the others
        // from knowing it.
        let mut applied = Ok(());
        for shard in 0..engine.mailboxes.shard_count() {
            let entry = Arc::clone(&entry);
            let here = engine.call(
                shard,
                |engine| async move { apply::apply(&engine, entry).await },
            );
            applied = applied.and(here.await.flatten());
        }
        if is_long {
            self.rewrite().await;
        }
        Ok(applied?)
    }

    /// Rewrites the catalog's file with the entries that are in force, so that it does not grow for ever.
    /// If that fails, the next change tries again.
    async fn rewrite(&self) {
        let log = Arc::clone(&self.admin.log);
        let entries = self.engine.with_catalog(|catalog| catalog.entries());
        let rewritten = self.engine.workers.run(move || {
            let mut log = log.lock().map_err(|_| std::io::Error::other("poisoned"))?;
            log.rewrite(&entries)
        });
        if let Err(error) = rewritten.await {
            static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
            if let Some(kept_back) = LINE.admit() {
                tracing::error!(%error, kept_back, "the catalog's file cannot be shortened; the next change tries again");
            }
        }
    }
}

/// The configurations of a topic as they are stored.
fn stored_form(
    topic: &str,
    configs: BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, AdminError> {
    let kept = configs
        .into_iter()
        .filter(|(name, _)| !is_ignored(topic, name));
    let stored = kept.map(|(name, value)| {
        let value = TopicConfig::normal(&name, &value).map_err(AdminError::BadConfig)?;
        Ok((name, value))
    });
    stored.collect()
}

/// Whether a config is one that Kafka 4.0 removed.
fn is_ignored(topic: &str, config: &str) -> bool {
    static LINE: RateLimited = RateLimited::new(Duration::from_secs(1));
    let is_removed = REMOVED.contains(&config);
    if is_removed && let Some(kept_back) = LINE.admit() {
        tracing::warn!(
            topic,
            config,
            kept_back,
            "a topic config that Kafka 4.0 removed is ignored"
        );
    }
    is_removed
}

/// What is in force of a topic's configurations, which must not contradict each other.
fn checked(
    defaults: &TopicDefaults,
    configs: &BTreeMap<String, String>,
) -> Result<TopicConfig, AdminError> {
    let config = TopicConfig::resolve(defaults, configs).map_err(AdminError::BadConfig)?;
    config.check().map_err(AdminError::BadConfig)?;
    Ok(config)
}

impl ProducerIdBlock {
    fn take(&mut self) -> Option<i64> {
        let id = (self.next < self.end).then_some(self.next);
        self.next += i64::from(id.is_some());
        id
    }
}
