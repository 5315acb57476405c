//! Changes of some configs of a resource.

use std::collections::BTreeMap;

use super::broker::Config;
use super::derived;
use super::error::{ConfigError, Origin};
use super::nearest::nearest;
use super::topic::{TopicConfig, TopicDefaults, bad_value, normal};
use super::value::Kind;

/// A change of one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    Set(String),
    /// Back to the default; one that is not set stays as it is.
    Delete,
    /// Adds words to a list that are not in it.
    Append(String),
    /// Takes words out of a list.
    Subtract(String),
}

/// Whose configs change, which decides by what names they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Topic,
    Broker,
}

impl Owner {
    /// A value as it is stored.
    ///
    /// # Errors
    /// When there is no such config, it cannot change, or it does not take the value.
    pub fn normal(self, name: &str, value: &str) -> Result<String, ConfigError> {
        match self {
            Owner::Topic => TopicConfig::normal(name, value),
            Owner::Broker => Config::normal_dynamic(name, value),
        }
    }

    /// Changes one of `configs`; `defaults` say what a list has that is not set.
    ///
    /// # Errors
    /// As [`normal`](Self::normal), and for words of what is no list.
    pub fn change(
        self,
        configs: &mut BTreeMap<String, String>,
        defaults: &TopicDefaults,
        name: String,
        change: ConfigChange,
    ) -> Result<(), ConfigError> {
        let value = match change {
            ConfigChange::Set(value) => value,
            ConfigChange::Delete => {
                configs.remove(&name);
                return Ok(());
            }
            ConfigChange::Append(words) => {
                let list = self.list_of(configs, defaults, &name)?;
                // What is stored has each word once.
                let all = list_words(&list).chain(list_words(&words));
                all.collect::<Vec<_>>().join(",")
            }
            ConfigChange::Subtract(words) => {
                let list = self.list_of(configs, defaults, &name)?;
                let kept =
                    list_words(&list).filter(|kept| list_words(&words).all(|word| word != *kept));
                kept.collect::<Vec<_>>().join(",")
            }
        };
        let value = self.normal(&name, &value)?;
        configs.insert(name, value);
        Ok(())
    }

    /// The value in force of a config that is a list.
    fn list_of(
        self,
        configs: &BTreeMap<String, String>,
        defaults: &TopicDefaults,
        name: &str,
    ) -> Result<String, ConfigError> {
        let knob = match self {
            Owner::Topic => TopicConfig::knob(name),
            Owner::Broker => TopicConfig::knob_of_broker(name),
        };
        let Some(knob) = knob else {
            // Whatever the value: the name is refused.
            return Ok(String::new());
        };
        if !matches!(knob.kind, Kind::List(_) | Kind::Replicas) {
            return Err(ConfigError::NotAList(name.to_owned()));
        }
        let own = configs.get(name).cloned();
        Ok(own.unwrap_or_else(|| defaults.value(knob)))
    }
}

/// The words of a list, as Kafka writes one: separated by commas.
fn list_words(list: &str) -> impl Iterator<Item = &str> {
    let words = list.split(',').map(str::trim);
    words.filter(|word| !word.is_empty())
}

impl Config {
    /// The broker's `value` for the config `name` as it is stored when it is set while the broker runs.
    ///
    /// # Errors
    /// When there is no such config, it cannot change, or it does not take the value.
    pub fn normal_dynamic(name: &str, value: &str) -> Result<String, ConfigError> {
        if let Some(knob) = TopicConfig::knob_of_broker(name) {
            let normal = normal(knob, value);
            return normal.ok_or_else(|| bad_value(knob, name, value, Origin::Broker));
        }
        let is_own = Config::KNOBS.iter().any(|knob| knob.broker_name() == name);
        if is_own || derived::names().any(|derived| derived == name) {
            return Err(ConfigError::ReadOnly(name.to_owned()));
        }
        let knobs = TopicConfig::all_knobs();
        let known = knobs.clone().filter_map(|knob| knob.kafka);
        Err(ConfigError::Unknown {
            name: name.to_owned(),
            origin: Origin::Broker,
            nearest: nearest(name, knobs, known.map(str::to_owned).collect()),
        })
    }
}
