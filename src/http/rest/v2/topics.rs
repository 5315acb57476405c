//! Topics, partitions and brokers.

use crate::config::TopicConfig;
use crate::engine::catalog::Topic;
use crate::engine::catalog::changes::{self, NewTopic};
use crate::engine::offsets::OffsetSpec;
use crate::engine::{Engine, PartitionKey};
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::http::reading;
use crate::http::request::Asked;
use crate::http::rest::error::{kind_accepted, refusal};
use crate::http::rest::json;
use crate::io::reactor::Slice;
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// `GET /topics`: all names, in order.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let names: Vec<Value> = engine.with_catalog(|catalog| {
        let topics = catalog.topics();
        topics.map(|topic| topic.name.as_str().into()).collect()
    });
    Ok(shown(&asked.headers, &names.into()))
}

/// `GET /topics/{topic}`: a topic, all of its configs, its partitions.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let configs = engine
        .with_catalog(|catalog| TopicConfig::describe(catalog.defaults(), &topic.configs))
        .into_iter()
        .map(|entry| (entry.name, entry.value.into()));
    let described = json!({
        "name": topic.name,
        "configs": configs.collect::<Map<_, _>>(),
        "partitions": partitions_of(engine, &topic).await,
    });
    Ok(shown(&asked.headers, &described))
}

/// `GET /topics/{topic}/partitions`.
pub async fn partitions(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let partitions = partitions_of(engine, &topic).await;
    Ok(shown(&asked.headers, &partitions.into()))
}

async fn partitions_of(engine: &Engine, topic: &Topic) -> Vec<Value> {
    let mut partitions = Vec::new();
    let mut slice = Slice::new();
    for index in 0..topic.partitions {
        partitions.push(described(engine, index));
        slice.rest().await;
    }
    partitions
}

/// `GET /topics/{topic}/partitions/{partition}`.
pub async fn partition(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let key = key_of(&topic, &asked.params[1])?;
    Ok(shown(&asked.headers, &described(engine, key.index)))
}

/// There is one broker, and so it leads every partition.
fn described(engine: &Engine, index: u32) -> Value {
    let node_id = engine.config.node_id;
    json!({
        "partition": index,
        "leader": node_id,
        "replicas": [{ "broker": node_id, "leader": true, "in_sync": true }],
    })
}

/// `GET /topics/{topic}/partitions/{partition}/offsets`.
pub async fn offsets(asked: Asked) -> Result<Answer, Problem> {
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[0])?;
    let key = key_of(&topic, &asked.params[1])?;
    let offsets = json!({
        "beginning_offset": reading::at(engine, key, OffsetSpec::Earliest).await?,
        "end_offset": reading::at(engine, key, OffsetSpec::Latest).await?,
    });
    Ok(shown(&asked.headers, &offsets))
}

/// The partition that a path names.
///
/// # Errors
/// 404 where there is no such partition.
pub fn key_of(topic: &Topic, partition: &str) -> Result<PartitionKey, Problem> {
    let key = partition.parse().ok().and_then(|index| topic.key_of(index));
    let unknown = || format!("{} has no partition {partition:?}", topic.name);
    key.ok_or_else(|| refusal("unknown-partition", &unknown()))
}

/// `GET /brokers`.
pub async fn brokers(asked: Asked) -> Result<Answer, Problem> {
    let node_id = asked.services.engine.config.node_id;
    Ok(shown(&asked.headers, &json!({ "brokers": [node_id] })))
}

/// A topic to create, as Strimzi's bridge is told.
#[derive(Deserialize)]
struct New {
    topic_name: String,
    partitions_count: Option<u32>,
    replication_factor: Option<i32>,
}

/// `POST /admin/topics`: creates a topic.
pub async fn create(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let engine = &read.services.engine;
    let new: New = json::parsed(&read.body)?;
    check_replication(new.replication_factor)?;
    let new = NewTopic {
        name: new.topic_name,
        partitions: new.partitions_count.unwrap_or(engine.config.num_partitions),
        configs: BTreeMap::new(),
    };
    changes::create_topic(engine, new, false).await?;
    let kind = kind_accepted(&read.headers);
    Ok(answer::of(StatusCode::CREATED, kind, ""))
}

/// # Errors
/// 400 for more than one replica: there is one broker.
pub fn check_replication(factor: Option<i32>) -> Result<(), Problem> {
    if let Some(factor) = factor
        && !matches!(factor, 1 | -1)
    {
        let detail = format!("there is one broker: replication_factor is 1, not {factor}");
        return Err(refusal("invalid-partitions", &detail));
    }
    Ok(())
}

/// 200 with what is no record, in the type that is accepted.
pub fn shown(headers: &HeaderMap, value: &Value) -> Answer {
    answer::of(StatusCode::OK, kind_accepted(headers), value.to_string())
}
