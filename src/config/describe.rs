//! The same table as Kafka's DescribeConfigs shows it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::broker::Config;
use super::knob::Knob;
use super::topic::{TopicConfig, TopicDefaults};
use super::value::Kind;

/// Where the value in force was set. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    DynamicTopic = 1,
    /// Set for this broker while it ran.
    DynamicBroker = 2,
    /// Set for all brokers while they ran.
    DynamicDefaultBroker = 3,
    StaticBroker = 4,
    Default = 5,
    DynamicBrokerLogger = 6,
}

impl Source {
    pub fn code(self) -> i8 {
        self as i8
    }
}

/// One config as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    pub value: String,
    pub source: Source,
    /// Kafka's code: BOOLEAN 1, STRING 2, INT 3, LONG 5, LIST 7.
    pub type_code: i8,
    pub documentation: Cow<'static, str>,
    /// Every place that gives a value, the one in force first.
    pub synonyms: Vec<Synonym>,
    /// It cannot be altered while the broker runs.
    pub read_only: bool,
    pub is_default: bool,
    pub is_sensitive: bool,
}

/// One of the places that give a config its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: String,
    pub value: String,
    pub source: Source,
}

impl TopicConfig {
    /// Every config of a topic with these `overrides`, for DescribeConfigs and CreateTopics.
    pub fn describe(defaults: &TopicDefaults, overrides: &BTreeMap<String, String>) -> Vec<Entry> {
        let describe = |knob: &Knob| {
            let name = knob.topic_name();
            let own = overrides
                .get(&name)
                .map(|value| synonym(&name, value, Source::DynamicTopic));
            let synonyms = own.into_iter().chain(defaults.synonyms(knob)).collect();
            entry(&name, knob, synonyms, false)
        };
        let shown =
            |knob: &&Knob| !knob.is_internal() || overrides.contains_key(&knob.topic_name());
        Self::all_knobs().filter(shown).map(describe).collect()
    }
}

impl Config {
    /// The settings that are numbers, by the knob's name.
    pub fn numbers(&self) -> BTreeMap<&'static str, f64> {
        let number = |knob: &Knob| {
            let value = as_kafka(knob, &self.show(knob));
            Some((knob.field, value.parse().ok()?))
        };
        Self::KNOBS.iter().filter_map(number).collect()
    }

    pub(super) fn broker_synonyms(&self, knob: &Knob) -> Vec<Synonym> {
        let name = knob.broker_name();
        let value = match knob.field {
            "advertise" => self.advertised().to_string(),
            _ => self.show(knob),
        };
        if self.given.contains(knob.field) {
            vec![
                synonym(name, &as_kafka(knob, &value), Source::StaticBroker),
                synonym(name, &as_kafka(knob, &(knob.default)()), Source::Default),
            ]
        } else {
            vec![synonym(name, &as_kafka(knob, &value), Source::Default)]
        }
    }
}

impl TopicDefaults {
    /// What was set for all brokers while they ran, for DescribeConfigs.
    pub fn describe_cluster(&self) -> Vec<Entry> {
        let set = self.dynamic.cluster.keys();
        set.filter_map(|name| {
            let knob = TopicConfig::knob_of_broker(name)?;
            let mut synonyms = self.synonyms(knob);
            synonyms.retain(|synonym| synonym.source != Source::DynamicBroker);
            Some(entry(name, knob, synonyms, false))
        })
        .collect()
    }

    /// The default in force, as plain text.
    pub(super) fn value(&self, knob: &Knob) -> String {
        let mut synonyms = self.synonyms(knob).into_iter();
        synonyms
            .next()
            .map(|synonym| synonym.value)
            .unwrap_or_default()
    }

    pub(super) fn synonyms(&self, knob: &Knob) -> Vec<Synonym> {
        let name = knob.kafka.map_or_else(|| knob.topic_name(), str::to_owned);
        let set = |configs: &BTreeMap<String, String>, source| {
            let value = configs.get(&name);
            value.map(|value| synonym(&name, value, source))
        };
        let given = self.given.contains(knob.field);
        let given = given.then(|| synonym(&name, &self.config.show(knob), Source::StaticBroker));
        let default = synonym(&name, &(knob.default)(), Source::Default);
        set(&self.dynamic.node, Source::DynamicBroker)
            .into_iter()
            .chain(set(&self.dynamic.cluster, Source::DynamicDefaultBroker))
            .chain(given)
            .chain([default])
            .collect()
    }
}

impl Entry {
    /// One that no table of knobs has. `None` without a synonym.
    pub(super) fn read_only(
        type_code: i8,
        documentation: Cow<'static, str>,
        synonyms: Vec<Synonym>,
    ) -> Option<Entry> {
        let first = synonyms.first()?.clone();
        Some(Entry {
            name: first.name,
            value: first.value,
            source: first.source,
            type_code,
            documentation,
            synonyms,
            read_only: true,
            is_default: first.source == Source::Default,
            is_sensitive: false,
        })
    }
}

/// Kafka writes the addresses of its listeners with the security protocol in front.
fn as_kafka(knob: &Knob, value: &str) -> String {
    match (knob.kind, value) {
        (Kind::Address, address) if !address.is_empty() => format!("PLAINTEXT://{address}"),
        _ => value.to_owned(),
    }
}

fn synonym(name: &str, value: &str, source: Source) -> Synonym {
    Synonym {
        name: name.to_owned(),
        value: value.to_owned(),
        source,
    }
}

/// The first synonym is the value in force; there is always the default.
pub(super) fn entry(name: &str, knob: &Knob, synonyms: Vec<Synonym>, read_only: bool) -> Entry {
    let (value, source) = synonyms.first().map_or_else(
        || ((knob.default)(), Source::Default),
        |first| (first.value.clone(), first.source),
    );
    Entry {
        name: name.to_owned(),
        value,
        source,
        type_code: knob.kind.type_code(),
        documentation: knob.documentation(),
        synonyms,
        read_only,
        is_default: source == Source::Default,
        is_sensitive: false,
    }
}
