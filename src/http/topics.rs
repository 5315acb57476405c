//! Topics and groups, for people and scripts that look after them.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::reading;
use super::request::Asked;
use crate::config::{ConfigChange, TopicConfig};
use crate::engine::append::Refusal;
use crate::engine::catalog::Topic;
use crate::engine::catalog::changes::{self, NewTopic};
use crate::engine::offsets::{self, OffsetSpec};
use crate::engine::{Engine, EngineError, reports};
use crate::io::reactor::Slice;
use http_body_util::{BodyExt, Limited};
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The most bytes of a topic's description.
const BODY_BYTES_MAX: usize = 64 << 10;

/// `GET /api/topics`: all topics, by name.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let shards = reports::of_all_shards(engine).await;
    let topics = reports::by_topic(&shards).await;
    let mut slice = Slice::new();
    let mut list = Vec::with_capacity(topics.len());
    for (name, report) in topics {
        let Some(topic) = engine.topic(name) else {
            continue;
        };
        list.push(json!({
            "name": name,
            "partitions": topic.partitions,
            "internal": topic.is_internal(),
            "bytes": report.log_bytes,
        }));
        slice.rest().await;
    }
    Ok(shown(StatusCode::OK, &Value::from(list)))
}

/// `GET /api/topics/{topic}`: a topic, where its partitions begin and end, and the configs that are its own.
pub async fn describe(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let described = described(engine, &topic).await?;
    Ok(shown(StatusCode::OK, &described))
}

async fn described(engine: &Rc<Engine>, topic: &Topic) -> Result<Value, Problem> {
    let mut partitions = Vec::new();
    let mut slice = Slice::new();
    for key in topic.keys() {
        let start = reading::at(engine, key, OffsetSpec::Earliest).await?;
        let end = reading::at(engine, key, OffsetSpec::Latest).await?;
        partitions.push(json!({ "partition": key.index, "start": start, "end": end }));
        slice.rest().await;
    }
    Ok(json!({
        "name": topic.name,
        "id": topic.id,
        "internal": topic.is_internal(),
        "configs": topic.configs,
        "partitions": partitions,
    }))
}

/// What a topic is to be. What is not said is the broker's default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Wanted {
    partitions: Option<u32>,
    configs: BTreeMap<String, String>,
}

/// `PUT /api/topics/{topic}`: the topic is there, as the body says. 201 when it was created.
pub async fn put(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let name = &asked.params[0];
    let wanted: Wanted = parsed(asked.body).await?;
    let (status, topic) = match engine.topic(name) {
        Some(topic) => {
            let as_said = wanted
                .partitions
                .is_none_or(|count| count == topic.partitions)
                && wanted
                    .configs
                    .iter()
                    .all(|config| topic.configs.iter().any(|own| own == config));
            if !as_said {
                let detail = format!("there is a topic {name:?} already, and it is another");
                return Err(Problem::new(StatusCode::CONFLICT, "topic-exists", detail));
            }
            (StatusCode::OK, topic)
        }
        None => {
            let new = NewTopic {
                name: name.clone(),
                partitions: wanted.partitions.unwrap_or(engine.config.num_partitions),
                configs: wanted.configs,
            };
            let created = changes::create_topic(engine, new, false).await?;
            (StatusCode::CREATED, created)
        }
    };
    Ok(shown(status, &described(engine, &topic).await?))
}

/// What a body says; an empty one says nothing.
async fn parsed<T: Default + DeserializeOwned>(body: Incoming) -> Result<T, Problem> {
    let too_large = |_| {
        let detail = format!("the body broke off, or has more than {BODY_BYTES_MAX} bytes");
        Problem::bad_request(detail)
    };
    let body = Limited::new(body, BODY_BYTES_MAX).collect().await;
    let body = body.map_err(too_large)?.to_bytes();
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    let parsed = serde_json::from_slice(&body);
    parsed.map_err(|error| Problem::bad_request(format!("this describes no topic: {error}")))
}

/// What is to change of a topic; `null` for a config that goes back to the default.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Changes {
    partitions: Option<u32>,
    configs: BTreeMap<String, Option<String>>,
}

/// `PATCH /api/topics/{topic}`: more partitions, other configs. The configs change all or none; they come first.
pub async fn patch(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let changes: Changes = parsed(asked.body).await?;
    if !changes.configs.is_empty() {
        let configs = changes
            .configs
            .into_iter()
            .map(|(name, value)| (name, value.map_or(ConfigChange::Delete, ConfigChange::Set)));
        changes::alter_topic_configs(engine, topic.id, configs.collect(), false).await?;
    }
    if let Some(count) = changes.partitions
        && count != topic.partitions
    {
        changes::set_partitions(engine, topic.id, count, false).await?;
    }
    let topic = reading::topic(engine, &topic.name)?;
    Ok(shown(StatusCode::OK, &described(engine, &topic).await?))
}

/// `GET /api/topics/{topic}/configs`: every config that holds for a topic, and where it comes from.
pub async fn configs(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let entries =
        engine.with_catalog(|catalog| TopicConfig::describe(catalog.defaults(), &topic.configs));
    let entries = entries.into_iter().map(
        |entry| json!({ "name": entry.name, "value": entry.value, "default": entry.is_default }),
    );
    Ok(shown(
        StatusCode::OK,
        &Value::from(entries.collect::<Vec<_>>()),
    ))
}

/// `DELETE /t/{topic}?before=0:17`: deletes the records before these offsets of partitions.
pub async fn delete_records(mut asked: Asked) -> Result<Answer, Problem> {
    let form = "partitions and offsets, as in 0:17,1:9";
    let before = asked.query.take("before", form, reading::each)?;
    let before = before.ok_or_else(|| Problem::bad_request(format!("say ?before= and {form}")))?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    if topic.is_internal() {
        return Err(Refusal::InternalTopic.into());
    }
    let mut starts = Vec::with_capacity(before.len());
    for (index, offset) in before {
        let key = topic
            .key_of(index)
            .ok_or(EngineError::UnknownTopicOrPartition)?;
        let start = offsets::delete_records(engine, key, offset).await?;
        starts.push(json!({ "partition": index, "start": start }));
    }
    Ok(shown(StatusCode::OK, &Value::from(starts)))
}

/// `DELETE /api/topics/{topic}?confirm={topic}`: deletes a topic with its records.
pub async fn delete(mut asked: Asked) -> Result<Answer, Problem> {
    let confirmed = asked.query.text("confirm");
    let name = &asked.params[0];
    if confirmed.as_ref() != Some(name) {
        let detail = format!("this deletes all records of {name:?}: say ?confirm={name}");
        return Err(Problem::bad_request(detail));
    }
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, name)?;
    changes::delete_topic(engine, topic.id).await?;
    Ok(answer::of(StatusCode::NO_CONTENT, answer::JSON, ""))
}

fn shown(status: StatusCode, value: &Value) -> Answer {
    answer::of(status, answer::JSON, format!("{value}\n"))
}
