//! Topics and partitions.

use super::links::{Links, done, shown};
use crate::engine::catalog::Topic;
use crate::engine::catalog::changes::{self, NewTopic};
use crate::engine::offsets::OffsetSpec;
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::http::reading;
use crate::http::request::Asked;
use crate::http::rest::json;
use crate::http::rest::v2::topics::{check_replication, key_of};
use crate::io::reactor::Slice;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::Arc;

/// `GET /v3/clusters/{cluster}/topics`.
pub async fn list(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topics: Vec<Arc<Topic>> =
        engine.with_catalog(|catalog| catalog.topics().cloned().collect());
    let mut data = Vec::with_capacity(topics.len());
    let mut slice = Slice::new();
    for topic in &topics {
        data.push(described(&links, topic));
        slice.rest().await;
    }
    Ok(links.list("KafkaTopicList", &["topics"], data))
}

/// `GET /v3/clusters/{cluster}/topics/{topic}`.
pub async fn one(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let topic = reading::topic(&asked.services.engine, &asked.params[1])?;
    Ok(shown(&described(&links, &topic)))
}

fn described(links: &Links, topic: &Topic) -> Value {
    let name = topic.name.as_str();
    let more = json!({
        "topic_name": name,
        "is_internal": topic.is_internal(),
        "replication_factor": 1,
        "partitions_count": topic.partitions,
        "partitions": links.related(&["topics", name, "partitions"]),
        "configs": links.related(&["topics", name, "configs"]),
        "partition_reassignments": links.related(&["topics", name, "partitions", "-", "reassignment"]),
        "authorized_operations": [],
    });
    links.item("KafkaTopic", &["topics", name], &[("topic", name)], more)
}

/// A topic to create.
#[derive(Deserialize)]
struct New {
    topic_name: String,
    partitions_count: Option<u32>,
    replication_factor: Option<i32>,
    #[serde(default)]
    configs: Vec<NewConfig>,
    #[serde(default)]
    validate_only: bool,
}

#[derive(Deserialize)]
struct NewConfig {
    name: String,
    value: Option<String>,
}

/// `POST /v3/clusters/{cluster}/topics`: 201 with the topic; 200 where it was to be checked only.
pub async fn create(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let links = Links::check_read(&read)?;
    let engine = &read.services.engine;
    let new: New = json::parsed(&read.body)?;
    check_replication(new.replication_factor)?;
    let configs = new.configs.into_iter();
    let configs = configs.filter_map(|config| Some((config.name, config.value?)));
    let wanted = NewTopic {
        name: new.topic_name,
        partitions: new.partitions_count.unwrap_or(engine.config.num_partitions),
        configs: configs.collect(),
    };
    let topic = changes::create_topic(engine, wanted, new.validate_only).await?;
    let status = if new.validate_only {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let body = described(&links, &topic).to_string();
    Ok(answer::of(status, answer::JSON, body))
}

#[derive(Deserialize)]
struct More {
    partitions_count: u32,
}

/// `PATCH /v3/clusters/{cluster}/topics/{topic}`: gives a topic more partitions.
pub async fn alter(asked: Asked) -> Result<Answer, Problem> {
    let read = json::read(asked, json::CONTROL_BYTES_MAX).await?;
    let links = Links::check_read(&read)?;
    let engine = &read.services.engine;
    let topic = reading::topic(engine, &read.params[1])?;
    let more: More = json::parsed(&read.body)?;
    changes::set_partitions(engine, topic.id, more.partitions_count, false).await?;
    let topic = reading::topic(engine, &read.params[1])?;
    Ok(shown(&described(&links, &topic)))
}

/// `DELETE /v3/clusters/{cluster}/topics/{topic}`.
pub async fn delete(asked: Asked) -> Result<Answer, Problem> {
    Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[1])?;
    changes::delete_topic(engine, topic.id).await?;
    Ok(done())
}

/// `GET /v3/clusters/{cluster}/topics/{topic}/partitions`.
pub async fn partitions(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[1])?;
    let mut data = Vec::new();
    let mut slice = Slice::new();
    for index in 0..topic.partitions {
        data.push(partition_item(&links, &topic, index, engine.config.node_id));
        slice.rest().await;
    }
    let path = ["topics", topic.name.as_str(), "partitions"];
    Ok(links.list("KafkaPartitionList", &path, data))
}

/// `GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}`.
pub async fn partition(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[1])?;
    let key = key_of(&topic, &asked.params[2])?;
    let item = partition_item(&links, &topic, key.index, engine.config.node_id);
    Ok(shown(&item))
}

fn partition_item(links: &Links, topic: &Topic, index: u32, node_id: i32) -> Value {
    let (name, partition) = (topic.name.as_str(), index.to_string());
    let path = ["topics", name, "partitions", &partition];
    let within = |last: &[&str]| links.related(&[&path, last].concat());
    let more = json!({
        "topic_name": name,
        "partition_id": index,
        "leader": within(&["replicas", &node_id.to_string()]),
        "replicas": within(&["replicas"]),
        "reassignment": within(&["reassignment"]),
    });
    let names = [("topic", name), ("partition", &partition)];
    links.item("KafkaPartition", &path, &names, more)
}

/// `GET /v3/clusters/{cluster}/topics/{topic}/partitions/{partition}/offset`: where it begins and ends.
pub async fn offset(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = &asked.services.engine;
    let topic = reading::topic(engine, &asked.params[1])?;
    let key = key_of(&topic, &asked.params[2])?;
    let (name, partition) = (topic.name.as_str(), key.index.to_string());
    let more = json!({
        "topic_name": name,
        "partition_id": key.index,
        "earliest_offset": reading::at(engine, key, OffsetSpec::Earliest).await?,
        "latest_offset": reading::at(engine, key, OffsetSpec::Latest).await?,
    });
    let path = ["topics", name, "partitions", &partition, "offset"];
    let names = [("topic", name), ("partition", &partition)];
    Ok(shown(&links.item(
        "KafkaPartitionOffset",
        &path,
        &names,
        more,
    )))
}
