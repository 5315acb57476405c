//! The catalog: which topics there are, with their ids, partitions and configurations, and which
//! producer ids were given out.
//!
//! Every shard has a copy; all are fed with the same entries in the same order. The entries are kept
//! in a log of our own (`catalog_log`), which one shard writes.

pub mod apply;
pub mod changes;
pub mod deletions;
mod held;

use super::PartitionKey;
use crate::config::{BrokerScope, TopicConfig, TopicDefaults};
use held::HeldNames;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use thiserror::Error;
use uuid::Uuid;

/// The longest topic name, as in Kafka: with the partition's number it must be a file name.
pub(in crate::engine) const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Topics of the broker itself, some of them still to come. Clients may read but not write, create or
/// delete them.
pub const INTERNAL_TOPICS: &[&str] = &["__consumer_offsets", "__transaction_state"];

/// A change of the catalog.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Entry {
    TopicCreated {
        id: Uuid,
        name: String,
        partitions: u32,
        configs: BTreeMap<String, String>,
    },
    /// Clients do not see the topic any more; its files are not removed yet.
    TopicDeleted { id: Uuid },
    /// The files of a deleted topic are gone too.
    TopicPurged { id: Uuid },
    /// The topic has this many partitions now.
    PartitionsSet { id: Uuid, partitions: u32 },
    /// The topic has exactly these configurations of its own now.
    ConfigsSet {
        id: Uuid,
        configs: BTreeMap<String, String>,
    },
    /// Exactly these of the broker's configurations are set by clients now.
    BrokerConfigsSet {
        scope: BrokerScope,
        configs: BTreeMap<String, String>,
    },
    /// Producer ids below this were given out.
    ProducerIdsReserved { next: i64 },
}

/// A topic as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    pub id: Uuid,
    pub name: String,
    pub partitions: u32,
    /// The configurations that were set for this topic.
    pub configs: BTreeMap<String, String>,
    /// All configurations in force.
    pub config: TopicConfig,
}

impl Topic {
    /// Whether clients may not write to it.
    pub fn is_internal(&self) -> bool {
        INTERNAL_TOPICS.contains(&self.name.as_str())
    }

    /// The key of one of its partitions, as clients number them, if there is that one.
    pub fn key_of(&self, index: i32) -> Option<PartitionKey> {
        let index = u32::try_from(index).ok()?;
        (index < self.partitions).then_some(PartitionKey {
            topic_id: self.id,
            index,
        })
    }

    /// The keys of all its partitions, in their order.
    pub fn keys(&self) -> impl Iterator<Item = PartitionKey> + use<> {
        let topic_id = self.id;
        (0..self.partitions).map(move |index| PartitionKey { topic_id, index })
    }

    /// The directory's name of one of its partitions, as Kafka names it.
    pub fn dir_name(&self, partition: u32) -> String {
        format!("{}-{partition}", self.name)
    }
}

/// Why a topic name is not one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum TopicNameError {
    #[error("the topic name is empty")]
    Empty,
    #[error("the topic name `.` or `..` is not allowed")]
    Dots,
    #[error("the topic name has {0} characters; at most 249 are allowed")]
    TooLong(usize),
    #[error(
        "the topic name {0:?} has a character other than ASCII letters, digits, `.`, `_` and `-`"
    )]
    BadCharacter(String),
}

/// Checks a topic name by Kafka's rules.
pub fn check_topic_name(name: &str) -> Result<(), TopicNameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    match name {
        "" => Err(TopicNameError::Empty),
        "." | ".." => Err(TopicNameError::Dots),
        _ if name.len() > TOPIC_NAME_BYTES_MAX => Err(TopicNameError::TooLong(name.len())),
        _ if !name.bytes().all(allowed) => {
            let shown = name.chars().take(80).collect();
            Err(TopicNameError::BadCharacter(shown))
        }
        _ => Ok(()),
    }
}

/// One shard's copy of the catalog.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    defaults: TopicDefaults,
    by_name: BTreeMap<String, Arc<Topic>>,
    by_id: HashMap<Uuid, Arc<Topic>>,
    /// Deleted topics whose files may still be there.
    deleting: BTreeMap<Uuid, Arc<Topic>>,
    partition_count: usize,
    next_producer_id: i64,
    held_names: Arc<HeldNames>,
}

impl Catalog {
    pub fn new(defaults: TopicDefaults) -> Catalog {
        Catalog {
            defaults,
            ..Catalog::default()
        }
    }

    /// Names that no new topic may have yet; those of all copies.
    pub fn held_names(&self) -> &HeldNames {
        &self.held_names
    }

    /// Applies a change. Applying an entry to a catalog that does not know its topic does nothing.
    pub fn apply(&mut self, entry: &Entry) {
        match entry {
            Entry::TopicCreated {
                id,
                name,
                partitions,
                configs,
            } => self.insert(Topic {
                id: *id,
                name: name.clone(),
                partitions: *partitions,
                configs: configs.clone(),
                config: self.resolve(name, configs),
            }),
            Entry::TopicDeleted { id } => {
                if let Some(topic) = self.remove(*id) {
                    self.deleting.insert(*id, topic);
                }
            }
            Entry::TopicPurged { id } => {
                self.deleting.remove(id);
            }
            Entry::PartitionsSet { id, partitions } => self.change(*id, |topic| {
                topic.partitions = *partitions;
            }),
            Entry::ConfigsSet { id, configs } => {
                let name = self.by_id.get(id).map(|topic| topic.name.clone());
                let config = self.resolve(&name.unwrap_or_default(), configs);
                self.change(*id, |topic| {
                    topic.configs = configs.clone();
                    topic.config = config;
                });
            }
            Entry::BrokerConfigsSet { scope, configs } => {
                self.defaults.dynamic.set(*scope, configs.clone());
                for topic in self.by_id.values().cloned().collect::<Vec<_>>() {
                    let config = self.resolve(&topic.name, &topic.configs);
                    self.change(topic.id, |topic| topic.config = config);
                }
            }
            Entry::ProducerIdsReserved { next } => {
                self.next_producer_id = self.next_producer_id.max(*next);
            }
        }
    }

    /// A stored configuration that this version does not take any more must not keep the broker
    /// from starting: it is logged, and the defaults hold.
    fn resolve(&self, topic: &str, configs: &BTreeMap<String, String>) -> TopicConfig {
        TopicConfig::resolve(&self.defaults, configs).unwrap_or_else(|error| {
            tracing::error!(topic, %error, "stored topic configuration ignored");
            self.defaults.in_force()
        })
    }

    /// A name or an id that is taken stays with the topic that has it: no sound log gives it twice.
    fn insert(&mut self, topic: Topic) {
        if self.by_name.contains_key(&topic.name) || self.by_id.contains_key(&topic.id) {
            tracing::error!(topic = topic.name, id = %topic.id, "the catalog names a topic twice");
            return;
        }
        self.partition_count += topic.partitions as usize;
        let topic = Arc::new(topic);
        self.by_name.insert(topic.name.clone(), Arc::clone(&topic));
        self.by_id.insert(topic.id, topic);
    }

    fn remove(&mut self, id: Uuid) -> Option<Arc<Topic>> {
        let topic = self.by_id.remove(&id)?;
        self.by_name.remove(&topic.name);
        self.partition_count -= topic.partitions as usize;
        Some(topic)
    }

    fn change(&mut self, id: Uuid, change: impl FnOnce(&mut Topic)) {
        if let Some(topic) = self.remove(id) {
            let mut topic = Arc::unwrap_or_clone(topic);
            change(&mut topic);
            self.insert(topic);
        }
    }

    pub fn by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.by_name.get(name)
    }

    pub fn by_id(&self, id: Uuid) -> Option<&Arc<Topic>> {
        self.by_id.get(&id)
    }

    /// A topic that clients see, or that is on its way out.
    pub fn even_if_deleting(&self, id: Uuid) -> Option<Arc<Topic>> {
        let topic = self.by_id.get(&id).or_else(|| self.deleting.get(&id));
        topic.cloned()
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.by_name.values()
    }

    /// Deleted topics whose files may still be there.
    pub fn deleting(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.deleting.values()
    }

    pub fn topic_count(&self) -> usize {
        self.by_name.len()
    }

    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The first producer id that was not given out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    pub fn defaults(&self) -> &TopicDefaults {
        &self.defaults
    }

    /// The fewest entries that make this catalog.
    pub fn entries(&self) -> Vec<Entry> {
        let created = |topic: &Arc<Topic>| Entry::TopicCreated {
            id: topic.id,
            name: topic.name.clone(),
            partitions: topic.partitions,
            configs: topic.configs.clone(),
        };
        let mut entries = Vec::new();
        // First, so that each topic is resolved once.
        for scope in [BrokerScope::Cluster, BrokerScope::Node] {
            let configs = self.defaults.dynamic.of(scope).clone();
            if !configs.is_empty() {
                entries.push(Entry::BrokerConfigsSet { scope, configs });
            }
        }
        for topic in self.deleting.values() {
            entries.push(created(topic));
            entries.push(Entry::TopicDeleted { id: topic.id });
        }
        entries.extend(self.by_name.values().map(created));
        if self.next_producer_id > 0 {
            entries.push(Entry::ProducerIdsReserved {
                next: self.next_producer_id,
            });
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(id: u128, name: &str) -> Entry {
        Entry::TopicCreated {
            id: Uuid::from_u128(id),
            name: name.into(),
            partitions: 3,
            configs: BTreeMap::from([("retention.ms".into(), "1000".into())]),
        }
    }

    #[test]
    fn entries_make_the_catalog_and_the_catalog_makes_entries() {
        let mut catalog = Catalog::default();
        let id = Uuid::from_u128(1);
        catalog.apply(&created(1, "a"));
        catalog.apply(&created(2, "b"));
        catalog.apply(&Entry::PartitionsSet { id, partitions: 7 });
        catalog.apply(&Entry::TopicDeleted {
            id: Uuid::from_u128(2),
        });
        catalog.apply(&created(3, "b"));
        catalog.apply(&Entry::ProducerIdsReserved { next: 2000 });
        catalog.apply(&Entry::BrokerConfigsSet {
            scope: BrokerScope::Cluster,
            configs: BTreeMap::from([
                ("log.segment.bytes".into(), "2000000".into()),
                ("log.roll.ms".into(), "7".into()),
                ("log.retention.ms".into(), "5".into()),
            ]),
        });
        catalog.apply(&Entry::BrokerConfigsSet {
            scope: BrokerScope::Node,
            configs: BTreeMap::from([("log.roll.ms".into(), "8".into())]),
        });
        let mut again = Catalog::default();
        for entry in catalog.entries() {
            again.apply(&entry);
        }
        for catalog in [catalog, again] {
            assert_eq!(catalog.by_name("a").unwrap().partitions, 7);
            assert_eq!(catalog.by_name("a").unwrap().config.retention_ms, 1000);
            let config = catalog.by_name("a").unwrap().config;
            assert_eq!((config.segment_bytes, config.segment_ms), (2_000_000, 8));
            assert_eq!(catalog.by_name("b").unwrap().id, Uuid::from_u128(3));
            assert_eq!(catalog.partition_count(), 10);
            assert_eq!(catalog.deleting().count(), 1);
            assert_eq!(catalog.next_producer_id(), 2000);
        }
    }

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in ["a", "A.b_c-9", &"x".repeat(249)] {
            assert_eq!(check_topic_name(good), Ok(()));
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\0", &"x".repeat(300)] {
            assert!(check_topic_name(bad).is_err(), "{bad:?}");
        }
    }
}
