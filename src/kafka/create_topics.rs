//! CreateTopics (key 19).
//!
//! Versions: 5 is flexible and answers with the new topic's configuration (KIP-525), 7 adds the
//! topic id. 3, 4 and 6 change nothing on the wire: 4 allows the broker's defaults (KIP-464), 6
//! throttling by quota (KIP-599).

use crate::config::TopicConfig;
use crate::engine::Engine;
use crate::engine::admin::NewTopic;
use crate::engine::catalog;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use uuid::Uuid;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_CONFIGS: i16 = 5;
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub topics: Vec<TopicRequest<'a>>,
    pub timeout_ms: i32,
    /// Check only, create nothing.
    pub validate_only: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    /// -1: the broker's default, or as many as `assignments` says.
    pub num_partitions: i32,
    /// -1: the broker's default, or as many as `assignments` says.
    pub replication_factor: i16,
    /// Which brokers hold which partition; empty leaves it to the broker.
    pub assignments: Vec<Assignment>,
    pub configs: Vec<ConfigRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub partition_index: i32,
    pub broker_ids: Vec<i32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigRequest<'a> {
    pub name: &'a str,
    pub value: Option<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        topics: r.array(decode_topic)?,
        timeout_ms: r.i32()?,
        validate_only: r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        num_partitions: r.i32()?,
        replication_factor: r.i16()?,
        assignments: r.array(decode_assignment)?,
        configs: r.array(decode_config)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_assignment(r: &mut Reader<'_>) -> Result<Assignment, WireError> {
    let assignment = Assignment {
        partition_index: r.i32()?,
        broker_ids: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(assignment)
}

fn decode_config<'a>(r: &mut Reader<'a>) -> Result<ConfigRequest<'a>, WireError> {
    let config = ConfigRequest {
        name: r.string()?,
        value: r.nullable_string()?,
    };
    r.skip_tagged_fields()?;
    Ok(config)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    /// From version 7.
    pub topic_id: Uuid,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    /// Why `configs` is null although the topic was created. From version 5, tagged.
    pub topic_config_error_code: ErrorCode,
    /// -1 if it may not be told. From version 5.
    pub num_partitions: i32,
    /// -1 if it may not be told. From version 5.
    pub replication_factor: i16,
    /// Null if it may not be told. From version 5.
    pub configs: Option<Vec<ConfigResponse<'a>>>,
}

impl Default for TopicResponse<'_> {
    fn default() -> Self {
        Self {
            name: Cow::Borrowed(""),
            topic_id: Uuid::nil(),
            error_code: ErrorCode::None,
            error_message: None,
            topic_config_error_code: ErrorCode::None,
            num_partitions: -1,
            replication_factor: -1,
            configs: Some(Vec::new()),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigResponse<'a> {
    pub name: Cow<'a, str>,
    pub value: Option<Cow<'a, str>>,
    pub read_only: bool,
    /// As in [`describe_configs`](super::describe_configs).
    pub config_source: i8,
    pub is_sensitive: bool,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, |w, topic| encode_topic(w, topic, version));
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>, version: i16) {
    w.string(&topic.name);
    if version >= FIRST_VERSION_WITH_TOPIC_ID {
        w.uuid(topic.topic_id);
    }
    w.i16(topic.error_code.code());
    w.nullable_string(topic.error_message.as_deref());
    if version >= FIRST_VERSION_WITH_CONFIGS {
        w.i32(topic.num_partitions);
        w.i16(topic.replication_factor);
        w.nullable_array(topic.configs.as_deref(), encode_config);
    }
    w.tagged_fields(|fields| {
        if topic.topic_config_error_code.is_error() {
            fields.field(0, |w| w.i16(topic.topic_config_error_code.code()));
        }
    });
}

fn encode_config(w: &mut Writer, config: &ConfigResponse<'_>) {
    w.string(&config.name);
    w.nullable_string(config.value.as_deref());
    w.bool(config.read_only);
    w.i8(config.config_source);
    w.bool(config.is_sensitive);
    w.no_tagged_fields();
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
    let created = engine.create_topic(new, only_check).await;
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
