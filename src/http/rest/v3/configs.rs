//! The configs of topics.

use super::links::{Links, done, shown};
use crate::config::{ConfigChange, Entry, Source, TopicConfig};
use crate::engine::Engine;
use crate::engine::catalog::{Topic, changes};
use crate::http::answer::Answer;
use crate::http::problem::Problem;
use crate::http::reading;
use crate::http::request::Asked;
use crate::http::rest::error::constraint;
use crate::http::rest::json::{self, Read};
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::rc::Rc;

/// `GET /v3/clusters/{cluster}/topics/{topic}/configs`.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[1])?;
    let entries = entries(engine, &topic).into_iter();
    let data = entries.map(|entry| described(&links, &topic, &entry));
    let path = ["topics", topic.name.as_str(), "configs"];
    Ok(links.list("KafkaTopicConfigList", &path, data.collect()))
}

/// `GET /v3/clusters/{cluster}/topics/{topic}/configs/{name}`.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[1])?;
    let name = &asked.params[2];
    let mut entries = entries(engine, &topic).into_iter();
    let entry = entries.find(|entry| entry.name == *name);
    let entry = entry.ok_or_else(|| {
        let detail = format!("Config {name} cannot be found for topic {}.", topic.name);
        Problem::new(StatusCode::NOT_FOUND, "unknown-config", detail)
    })?;
    Ok(shown(&described(&links, &topic, &entry)))
}

fn entries(engine: &Engine, topic: &Topic) -> Vec<Entry> {
    engine.with_catalog(|catalog| TopicConfig::describe(catalog.defaults(), &topic.configs))
}

fn described(links: &Links, topic: &Topic, entry: &Entry) -> Value {
    let synonyms = entry.synonyms.iter().map(|synonym| {
        json!({
            "name": synonym.name,
            "value": synonym.value,
            "source": source(synonym.source),
        })
    });
    let more = json!({
        "topic_name": topic.name,
        "name": entry.name,
        "value": entry.value,
        "is_default": entry.is_default,
        "is_read_only": entry.read_only,
        "is_sensitive": entry.is_sensitive,
        "source": source(entry.source),
        "synonyms": synonyms.collect::<Vec<_>>(),
    });
    let path = ["topics", topic.name.as_str(), "configs", &entry.name];
    let names = [("topic", topic.name.as_str()), ("config", &entry.name)];
    links.item("KafkaTopicConfig", &path, &names, more)
}

fn source(source: Source) -> &'static str {
    match source {
        Source::DynamicTopic => "DYNAMIC_TOPIC_CONFIG",
        Source::DynamicBroker => "DYNAMIC_BROKER_CONFIG",
        Source::DynamicDefaultBroker => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        Source::StaticBroker => "STATIC_BROKER_CONFIG",
        Source::Default => "DEFAULT_CONFIG",
        Source::DynamicBrokerLogger => "DYNAMIC_BROKER_LOGGER_CONFIG",
    }
}

#[derive(Deserialize)]
struct Set {
    value: Option<String>,
}

/// `PUT /v3/clusters/{cluster}/topics/{topic}/configs/{name}`.
pub async fn set(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let set: Set = json::parsed(&read.body)?;
    let change = set.value.map_or(ConfigChange::Delete, ConfigChange::Set);
    let name = read.params[2].clone();
    change_all(&read, vec![(name, change)], false).await
}

/// `DELETE /v3/clusters/{cluster}/topics/{topic}/configs/{name}`: back to the default.
pub async fn reset(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let name = read.params[2].clone();
    change_all(&read, vec![(name, ConfigChange::Delete)], false).await
}

#[derive(Deserialize)]
struct Alterations {
    #[serde(deserialize_with = "json::list")]
    data: Vec<Alteration>,
    #[serde(default)]
    validate_only: bool,
}

#[derive(Deserialize)]
struct Alteration {
    name: String,
    value: Option<String>,
    operation: Option<String>,
}

/// `POST /v3/clusters/{cluster}/topics/{topic}/configs:alter`: all of the changes, or none.
pub async fn alter(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let wanted: Alterations = json::parsed(&read.body)?;
    let changes = wanted.data.into_iter().map(|change| {
        let operation = change.operation.as_deref().unwrap_or("SET");
        let to = match (operation.to_ascii_uppercase().as_str(), change.value) {
            ("DELETE", _) | ("SET", None) => ConfigChange::Delete,
            ("SET", Some(value)) => ConfigChange::Set(value),
            _ => {
                let detail = format!("an operation is SET or DELETE, not {operation:?}");
                return Err(constraint(detail));
            }
        };
        Ok((change.name, to))
    });
    let changes = changes.collect::<Result<_, _>>()?;
    change_all(&read, changes, wanted.validate_only).await
}

async fn change_all(
    read: &Read,
    changes: Vec<(String, ConfigChange)>,
    only_check: bool,
) -> Result<Answer, Problem> {
    Links::check_read(read)?;
    let engine: &Rc<Engine> = &read.services.engine;
    let topic = reading::topic(engine, &read.params[1])?;
    changes::alter_topic_configs(engine, topic.id, changes, only_check).await?;
    Ok(done())
}
