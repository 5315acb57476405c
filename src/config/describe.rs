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
    StaticBroker = 4,
    Default = 5,
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
            let synonyms = own
                .into_iter()
                .chain(topic_default(defaults, knob))
                .collect();
            entry(&name, knob, synonyms, false)
        };
        let shown =
            |knob: &&Knob| !knob.is_internal() || overrides.contains_key(&knob.topic_name());
        Self::all_knobs().filter(shown).map(describe).collect()
    }
}

impl Config {
    /// Every config of the broker, for DescribeConfigs: its own knobs and the defaults of topics.
    pub fn describe(&self) -> Vec<Entry> {
        let own = Config::KNOBS
            .iter()
            .map(|knob| (knob, self.broker_synonyms(knob)));
        let topics = TopicConfig::all_knobs()
            .filter(|knob| knob.kafka.is_some())
            .map(|knob| (knob, topic_default(&self.topic_defaults, knob)));
        own.chain(topics)
            .map(|(knob, synonyms)| entry(knob.broker_name(), knob, synonyms, true))
            .collect()
    }

    fn broker_synonyms(&self, knob: &Knob) -> Vec<Synonym> {
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

fn topic_default(defaults: &TopicDefaults, knob: &Knob) -> Vec<Synonym> {
    let name = knob.kafka.map_or_else(|| knob.topic_name(), str::to_owned);
    let given = defaults
        .given
        .contains(knob.field)
        .then(|| synonym(&name, &defaults.config.show(knob), Source::StaticBroker));
    given
        .into_iter()
        .chain([synonym(&name, &(knob.default)(), Source::Default)])
        .collect()
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
fn entry(name: &str, knob: &Knob, synonyms: Vec<Synonym>, read_only: bool) -> Entry {
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
