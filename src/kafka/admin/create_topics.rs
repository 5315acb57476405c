//! CreateTopics (key 19).
//!
//! Versions: 5 is flexible and answers with the new topic's configuration (KIP-525), 7 adds the
//! topic id. 3, 4 and 6 change nothing on the wire: 4 allows the broker's defaults (KIP-464), 6
//! throttling by quota (KIP-599).

use crate::config::TopicConfig;
use crate::engine::Engine;
use crate::engine::catalog;
use crate::engine::catalog::changes::{self, NewTopic};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
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

    #[derive(Copy)]
    ConfigRequest<'a> {
        name: &'a str,
        value: Option<&'a str>,
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

type Refusal = (ErrorCode, String);

/// Creates topics, one after the other; each is durable before it is answered.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    for topic in &request.topics {
        *times.entry(topic.name).or_default() += 1;
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let created = match times.remove(topic.name) {
            Some(1) => create(context.engine, topic, request.validate_only).await,
            // Named twice: answered once, as an error, as Kafka does.
            Some(_) => Err((
                ErrorCode::InvalidRequest,
                "the request names the topic more than once".to_owned(),
            )),
            None => continue,
        };
        topics.push(respond(context.engine, topic.name, created));
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn create(
    engine: &Rc<Engine>,
    request: &TopicRequest<'_>,
    only_check: bool,
) -> Result<std::sync::Arc<catalog::Topic>, Refusal> {
    let mut configs = BTreeMap::new();
    for config in &request.configs {
        let value = config.value.ok_or_else(|| {
            let message = format!("the config {} has no value", config.name);
            (ErrorCode::InvalidConfig, message)
        })?;
        configs.insert(config.name.to_owned(), value.to_owned());
    }
    let new = NewTopic {
        name: request.name.to_owned(),
        partitions: partition_count(engine, request)?,
        configs,
    };
    let created = changes::create_topic(engine, new, only_check).await;
    created.map_err(|error| ((&error).into(), error.to_string()))
}

/// How many partitions are asked for; checks the replicas on the way, of which there is one.
fn partition_count(engine: &Engine, request: &TopicRequest<'_>) -> Result<u32, Refusal> {
    if !request.assignments.is_empty() {
        return assigned_partitions(engine, request);
    }
    let replication = request.replication_factor;
    let clamp = engine.config.clamp_replication_factor && replication > 1;
    if !matches!(replication, -1 | 1) && !clamp {
        let message = format!("replication factor {replication} with 1 broker");
        return Err((ErrorCode::InvalidReplicationFactor, message));
    }
    match request.num_partitions {
        -1 => Ok(engine.config.num_partitions),
        count if count > 0 => Ok(count as u32),
        count => Err((
            ErrorCode::InvalidPartitions,
            format!("a topic cannot have {count} partitions"),
        )),
    }
}

fn assigned_partitions(engine: &Engine, request: &TopicRequest<'_>) -> Result<u32, Refusal> {
    if request.num_partitions != -1 || request.replication_factor != -1 {
        let message = "with assignments, partitions and replication factor must be -1";
        return Err((ErrorCode::InvalidRequest, message.to_owned()));
    }
    let mut indexes: Vec<i32> = request
        .assignments
        .iter()
        .map(|assignment| assignment.partition_index)
        .collect();
    indexes.sort_unstable();
    let here = |assignment: &Assignment| assignment.broker_ids == [engine.config.node_id];
    let in_sequence = indexes.iter().copied().eq(0..indexes.len() as i32);
    if !in_sequence || !request.assignments.iter().all(here) {
        let message = format!(
            "partitions must count up from 0, each on broker {} alone",
            engine.config.node_id
        );
        return Err((ErrorCode::InvalidReplicaAssignment, message));
    }
    Ok(indexes.len() as u32)
}

fn respond<'a>(
    engine: &Engine,
    name: &'a str,
    created: Result<std::sync::Arc<catalog::Topic>, Refusal>,
) -> TopicResponse<'a> {
    let name = Cow::Borrowed(name);
    match created {
        Err((error_code, message)) => TopicResponse {
            name,
            error_code,
            error_message: Some(Cow::Owned(message)),
            ..TopicResponse::default()
        },
        Ok(topic) => TopicResponse {
            name,
            topic_id: topic.id,
            num_partitions: topic.partitions as i32,
            replication_factor: 1,
            configs: Some(describe(engine, &topic)),
            ..TopicResponse::default()
        },
    }
}

fn describe(engine: &Engine, topic: &catalog::Topic) -> Vec<ConfigResponse<'static>> {
    let entries = TopicConfig::describe(&engine.config.topic_defaults, &topic.configs);
    entries
        .into_iter()
        .map(|entry| ConfigResponse {
            name: Cow::Owned(entry.name),
            value: Some(Cow::Owned(entry.value)),
            read_only: entry.read_only,
            config_source: entry.source.code(),
            is_sensitive: entry.is_sensitive,
        })
        .collect()
}
