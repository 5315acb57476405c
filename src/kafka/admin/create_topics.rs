//! CreateTopics (key 19).
//!
//! Versions: 4 allows the broker's defaults (KIP-464), 5 answers with the new topic's configuration
//! (KIP-525).

use super::alter_configs::ConfigRequest;
use super::resources::times_named;
use crate::config::TopicConfig;
use crate::engine::catalog;
use crate::engine::catalog::changes::{self, NewTopic};
use crate::io::rate_limited::{self, RateLimited};
use crate::io::reactor::Slice;
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

message! {
    CreateTopics 2..=7, flexible 5..;

    Request<'a> {
        topics: Vec<TopicRequest<'a>>,
        timeout_ms: i32,
        /// Check only, create nothing.
        validate_only: bool,
    }

    TopicRequest<'a> {
        name: &'a str,
        /// -1: the broker's default, or as many as `assignments` says.
        num_partitions: i32,
        /// -1: the broker's default, or as many as `assignments` says.
        replication_factor: i16,
        /// Which brokers hold which partition; empty leaves it to the broker.
        assignments: Vec<Assignment>,
        configs: Vec<ConfigRequest<'a>>,
    }

    Assignment {
        partition_index: i32,
        broker_ids: Vec<i32>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        name: Cow<'a, str>,
        topic_id: Uuid [7..],
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        /// Why `configs` is null although the topic was created.
        topic_config_error_code: ErrorCode [5.., tag 0],
        /// -1 if it may not be told.
        num_partitions: i32 [5..] = -1,
        /// -1 if it may not be told.
        replication_factor: i16 [5..] = -1,
        /// Null if it may not be told.
        configs: Option<Vec<ConfigResponse<'a>>> [5..] = Some(Vec::new()),
    }

    ConfigResponse<'a> {
        name: Cow<'a, str>,
        value: Option<Cow<'a, str>>,
        read_only: bool,
        /// As in [`describe_configs`](super::describe_configs).
        config_source: i8 = -1,
        is_sensitive: bool,
    }
}

/// What a created topic takes with all its configs, here and as it is written.
const TOPIC_BYTES: usize = 12 << 10;

/// What the reply takes at most, in bytes.
pub fn reply_bytes(_: &Context<'_>, request: &Request<'_>) -> usize {
    request.topics.len() * TOPIC_BYTES
}

/// Creates topics, one after the other; each is durable before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut times = times_named(request.topics.iter().map(|topic| topic.name)).await;
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut slice = Slice::new();
    for topic in &request.topics {
        slice.rest().await;
        let created = match times.remove(topic.name) {
            Some(1) => create(context, topic, request.validate_only).await,
            // Named twice: answered once, as an error, as Kafka does.
            Some(_) => Err(ApiError::new(
                ErrorCode::InvalidRequest,
                "the request names the topic more than once",
            )),
            None => continue,
        };
        if let Err(error) = &created {
            log_refusal(context, topic.name, error);
        }
        topics.push(respond(context, topic.name, created));
    }
    Response {
        topics,
        ..Response::default()
    }
}

async fn create(
    context: &Context<'_>,
    request: &TopicRequest<'_>,
    only_check: bool,
) -> Result<Arc<catalog::Topic>, ApiError> {
    let mut configs = BTreeMap::new();
    for config in &request.configs {
        let value = config.value.ok_or_else(|| {
            let message = format!("the config {} has no value", config.name);
            ApiError::new(ErrorCode::InvalidConfig, message)
        })?;
        configs.insert(config.name.to_owned(), value.to_owned());
    }
    let new = NewTopic {
        name: request.name.to_owned(),
        partitions: partition_count(context, request)?,
        configs,
    };
    Ok(changes::create_topic(context.engine, new, only_check).await?)
}

fn log_refusal(context: &Context<'_>, topic: &str, error: &ApiError) {
    static LINE: RateLimited = RateLimited::new(rate_limited::REFUSALS);
    // Applications create their topics at each start, and this is how they learn that they are there.
    if error.code == ErrorCode::TopicAlreadyExists {
        return;
    }
    if let Some(kept_back) = LINE.admit() {
        tracing::warn!(
            topic, client_id = context.client_id, address = %context.address,
            why = error.to_string(), kept_back, "refused to create a topic"
        );
    }
}

/// How many partitions are asked for; also checks the replicas, of which there can be one.
fn partition_count(context: &Context<'_>, request: &TopicRequest<'_>) -> Result<u32, ApiError> {
    let config = &context.engine.config;
    if !request.assignments.is_empty() {
        return assigned_partitions(config.node_id, request);
    }
    let replication = request.replication_factor;
    let clamp = config.clamp_replication_factor && replication > 1;
    if !matches!(replication, -1 | 1) && !clamp {
        let message = format!("replication factor {replication} with 1 broker");
        return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
    }
    match request.num_partitions {
        -1 => Ok(config.num_partitions),
        count if count > 0 => Ok(count as u32),
        count => Err(ApiError::new(
            ErrorCode::InvalidPartitions,
            format!("a topic cannot have {count} partitions"),
        )),
    }
}

fn assigned_partitions(node_id: i32, request: &TopicRequest<'_>) -> Result<u32, ApiError> {
    if request.num_partitions != -1 || request.replication_factor != -1 {
        let message = "with assignments, partitions and replication factor must be -1";
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    let assignments = request.assignments.iter();
    let mut indexes: Vec<i32> = assignments.map(|one| one.partition_index).collect();
    indexes.sort_unstable();
    let count = indexes.len() as i32;
    let here = |assignment: &Assignment| assignment.broker_ids == [node_id];
    if !indexes.into_iter().eq(0..count) || !request.assignments.iter().all(here) {
        let message = format!("partitions must count up from 0, each on broker {node_id} alone");
        return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(count as u32)
}

fn respond<'a>(
    context: &Context<'_>,
    name: &'a str,
    created: Result<Arc<catalog::Topic>, ApiError>,
) -> TopicResponse<'a> {
    let mut response = TopicResponse {
        name: Cow::Borrowed(name),
        ..TopicResponse::default()
    };
    match created {
        Ok(topic) => {
            response.topic_id = topic.id;
            response.num_partitions = topic.partitions as i32;
            response.replication_factor = 1;
            response.configs = Some(describe(context, &topic));
        }
        Err(error) => {
            (response.error_code, response.error_message) = (error.code, error.message);
        }
    }
    response
}

fn describe(context: &Context<'_>, topic: &catalog::Topic) -> Vec<ConfigResponse<'static>> {
    let entries = context
        .engine
        .with_catalog(|catalog| TopicConfig::describe(catalog.defaults(), &topic.configs));
    let entries = entries.into_iter();
    entries
        .map(|entry| ConfigResponse {
            name: Cow::Owned(entry.name),
            value: Some(Cow::Owned(entry.value)),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.is_sensitive,
        })
        .collect()
}
