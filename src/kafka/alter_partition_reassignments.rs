//! AlterPartitionReassignments (key 45): move partitions to other brokers, or stop that (KIP-455).
//!
//! Versions: 1 can forbid that the number of replicas changes (KIP-860).

use crate::engine::Engine;
use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_REPLICATION_FACTOR_CHANGE: i16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub timeout_ms: i32,
    /// Whether a partition may have another number of replicas afterwards. From version 1.
    pub allow_replication_factor_change: bool,
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
    /// The brokers to hold it from now on; null stops a reassignment.
    pub replicas: Option<Vec<i32>>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        timeout_ms: r.i32()?,
        allow_replication_factor_change: if version >= FIRST_VERSION_WITH_REPLICATION_FACTOR_CHANGE
        {
            r.bool()?
        } else {
            true
        },
        topics: r.array(decode_topic)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partitions: r.array(decode_partition)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_partition(r: &mut Reader<'_>) -> Result<PartitionRequest, WireError> {
    let partition = PartitionRequest {
        index: r.i32()?,
        replicas: r.nullable_array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(partition)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    /// As the request said. From version 1.
    pub allow_replication_factor_change: bool,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    pub topics: Vec<TopicResponse<'a>>,
}

impl Default for Response<'_> {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            allow_replication_factor_change: true,
            error_code: ErrorCode::None,
            error_message: None,
            topics: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionResponse<'a> {
    pub index: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    if version >= FIRST_VERSION_WITH_REPLICATION_FACTOR_CHANGE {
        w.bool(response.allow_replication_factor_change);
    }
    w.i16(response.error_code.code());
    w.nullable_string(response.error_message.as_deref());
    w.array(&response.topics, encode_topic);
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse<'_>) {
    w.i32(partition.index);
    w.i16(partition.error_code.code());
    w.nullable_string(partition.error_message.as_deref());
    w.no_tagged_fields();
}

/// A partition may go where it is, which is done at once, and nowhere else.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let partition = |topic: &str, partition: &PartitionRequest| {
        let (error_code, message) = check(context.engine, topic, partition).err().unzip();
        PartitionResponse {
            index: partition.index,
            error_code: error_code.unwrap_or_default(),
            error_message: message.flatten().map(Cow::Borrowed),
        }
    };
    let topic = |topic: &TopicRequest<'a>| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|one| partition(topic.name, one))
            .collect(),
    };
    Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        topics: request.topics.iter().map(topic).collect(),
        ..Response::default()
    }
}

fn check(
    engine: &Engine,
    topic: &str,
    partition: &PartitionRequest,
) -> Result<(), (ErrorCode, Option<&'static str>)> {
    if engine.key_of(topic, partition.index).is_none() {
        return Err((ErrorCode::UnknownTopicOrPartition, None));
    }
    match partition.replicas.as_deref() {
        None => Err((ErrorCode::NoReassignmentInProgress, None)),
        Some([one]) if *one == engine.config.node_id => Ok(()),
        Some(_) => Err((
            ErrorCode::InvalidReplicaAssignment,
            Some("there is one broker, and each partition has its one replica there"),
        )),
    }
}
