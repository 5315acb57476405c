//! The broker's configs as DescribeConfigs shows them: the knobs, and those of Kafka's brokers that are no knobs
//! here but have a true value: fixed ones, and other names for knobs.

use std::borrow::Cow;

use super::broker::Config;
use super::describe::{Entry, Source, Synonym, entry};
use super::knob::Knob;
use super::topic::{TopicConfig, TopicDefaults};

const BOOLEAN: i8 = 1;
const STRING: i8 = 2;
const INT: i8 = 3;
const LIST: i8 = 7;

const ONE_BROKER: &str = "Replicas of a partition: there is one broker.";
const ONE_SECURITY: &str = "How connections are protected: there is one way.";

/// Name, value, type, help.
const FIXED: &[(&str, &str, i8, &str)] = &[
    (
        "controlled.shutdown.enable",
        "true",
        BOOLEAN,
        "Whether the broker brings its logs to a clean end when it stops.",
    ),
    ("default.replication.factor", "1", INT, ONE_BROKER),
    (
        "delete.topic.enable",
        "true",
        BOOLEAN,
        "Whether topics can be deleted.",
    ),
    (
        "group.coordinator.rebalance.protocols",
        "classic",
        LIST,
        "The protocols of groups that are served.",
    ),
    (
        "inter.broker.listener.name",
        "PLAINTEXT",
        STRING,
        "The listener that is advertised.",
    ),
    (
        "listener.security.protocol.map",
        "PLAINTEXT:PLAINTEXT",
        STRING,
        ONE_SECURITY,
    ),
    (
        "log.cleaner.enable",
        "true",
        BOOLEAN,
        "Whether compacted topics are compacted.",
    ),
    ("log.cleaner.threads", "1", INT, "Threads that compact."),
    ("offsets.topic.replication.factor", "1", INT, ONE_BROKER),
    (
        "process.roles",
        "broker,controller",
        LIST,
        "What this process is.",
    ),
    (
        "security.inter.broker.protocol",
        "PLAINTEXT",
        STRING,
        ONE_SECURITY,
    ),
];

/// Another name for a knob.
struct Alias {
    name: &'static str,
    /// The knob's name in DescribeConfigs.
    of: &'static str,
    type_code: i8,
    /// The knob's value in the alias' unit, if it can be told in it.
    convert: fn(&str) -> Option<String>,
}

const ALIASES: &[Alias] = &[
    alias("broker.id", "node.id", INT, same),
    alias("log.dir", "log.dirs", STRING, same),
    alias("log.retention.hours", "log.retention.ms", INT, hours),
    alias("log.retention.minutes", "log.retention.ms", INT, minutes),
    alias("log.roll.hours", "log.roll.ms", INT, hours),
    alias("log.roll.jitter.hours", "log.roll.jitter.ms", INT, hours),
    alias("num.io.threads", "cores", INT, same),
    alias("num.network.threads", "cores", INT, same),
    alias(
        "offsets.retention.minutes",
        "offsets_retention_ms",
        INT,
        minutes,
    ),
];

const fn alias(
    name: &'static str,
    of: &'static str,
    type_code: i8,
    convert: fn(&str) -> Option<String>,
) -> Alias {
    Alias {
        name,
        of,
        type_code,
        convert,
    }
}

impl Config {
    /// Every config of the broker, for DescribeConfigs: its own knobs, the `defaults` of topics in force, and
    /// what else Kafka's have that is true here.
    pub fn describe(&self, defaults: &TopicDefaults) -> Vec<Entry> {
        let own = Config::KNOBS.iter();
        let own = own.map(|knob| entry(knob.broker_name(), knob, self.broker_synonyms(knob), true));
        let topics = TopicConfig::all_knobs()
            .filter_map(|knob| knob.kafka.map(|name| (name, knob)))
            .map(|(name, knob)| entry(name, knob, defaults.synonyms(knob), false));
        own.chain(topics).chain(entries(self, defaults)).collect()
    }
}

/// The names of all of them.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let fixed = FIXED.iter().map(|(name, ..)| *name);
    fixed.chain(ALIASES.iter().map(|alias| alias.name))
}

/// The entries of all that can be told.
fn entries(config: &Config, defaults: &TopicDefaults) -> Vec<Entry> {
    let fixed = FIXED.iter().map(|(name, value, type_code, help)| {
        let value = |synonym_source| Synonym {
            name: (*name).to_owned(),
            value: (*value).to_owned(),
            source: synonym_source,
        };
        Entry::read_only(
            *type_code,
            Cow::Borrowed(help),
            vec![value(Source::Default)],
        )
    });
    let aliases = ALIASES
        .iter()
        .filter_map(|alias| alias.entry(config, defaults));
    fixed.flatten().chain(aliases).collect()
}

impl Alias {
    fn entry(&self, config: &Config, defaults: &TopicDefaults) -> Option<Entry> {
        let own = Config::KNOBS
            .iter()
            .find(|knob: &&Knob| knob.broker_name() == self.of);
        let synonyms = match own {
            Some(knob) => config.broker_synonyms(knob),
            None => defaults.synonyms(TopicConfig::knob_of_broker(self.of)?),
        };
        let renamed = synonyms.into_iter().map(|synonym| {
            let value = (self.convert)(&synonym.value)?;
            Some(Synonym {
                name: self.name.to_owned(),
                value,
                source: synonym.source,
            })
        });
        let renamed: Option<Vec<Synonym>> = renamed.collect();
        let help = format!("The same as `{}`.", self.of);
        Entry::read_only(self.type_code, Cow::Owned(help), renamed?)
    }
}

fn same(value: &str) -> Option<String> {
    Some(value.to_owned())
}

fn minutes(millis: &str) -> Option<String> {
    in_units_of(60_000, millis)
}

fn hours(millis: &str) -> Option<String> {
    in_units_of(3_600_000, millis)
}

/// -1 is no limit in every unit. What is no whole number is not told.
fn in_units_of(unit_ms: i64, millis: &str) -> Option<String> {
    match millis.parse::<i64>().ok()? {
        -1 => Some("-1".to_owned()),
        value if value % unit_ms == 0 => Some((value / unit_ms).to_string()),
        _ => None,
    }
}
