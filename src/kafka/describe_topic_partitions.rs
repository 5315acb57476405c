//! DescribeTopicPartitions (key 75): topics and their partitions, a page at a time (KIP-966).
//!
//! Version 0 only.

use crate::engine::Engine;
use crate::engine::catalog;
use crate::engine::fetch::LEADER_EPOCH;
use std::borrow::Cow;
use std::collections::BTreeSet;

use uuid::Uuid;

use super::context::Context;
use super::error::ErrorCode;
use super::metadata::TOPIC_OPERATIONS;
use super::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Empty: all.
    pub topics: Vec<TopicRequest<'a>>,
    /// The most partitions that one reply may hold.
    pub response_partition_limit: i32,
    /// Where the reply begins; null at the first topic.
    pub cursor: Option<CursorRequest<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorRequest<'a> {
    pub topic_name: &'a str,
    pub partition_index: i32,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        topics: r.array(decode_topic)?,
        response_partition_limit: r.i32()?,
        cursor: match r.i8()? {
            ..0 => None,
            _ => Some(decode_cursor(r)?),
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest { name: r.string()? };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_cursor<'a>(r: &mut Reader<'a>) -> Result<CursorRequest<'a>, WireError> {
    let cursor = CursorRequest {
        topic_name: r.string()?,
        partition_index: r.i32()?,
    };
    r.skip_tagged_fields()?;
    Ok(cursor)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
    /// Where the next page begins; null after the last one.
    pub next_cursor: Option<CursorResponse<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub error_code: ErrorCode,
    pub name: Option<Cow<'a, str>>,
    pub topic_id: Uuid,
    pub is_internal: bool,
    pub partitions: Vec<PartitionResponse>,
    /// A bit for each operation; `i32::MIN` if unknown.
    pub topic_authorized_operations: i32,
}

impl Default for TopicResponse<'_> {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            name: None,
            topic_id: Uuid::nil(),
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: i32::MIN,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResponse {
    pub error_code: ErrorCode,
    pub index: i32,
    /// -1 if there is none.
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    /// Replicas that hold all that is committed though they are not in sync; null if not kept.
    pub eligible_leader_replicas: Option<Vec<i32>>,
    pub last_known_eligible_leader_replicas: Option<Vec<i32>>,
    pub offline_replicas: Vec<i32>,
}

impl Default for PartitionResponse {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            index: 0,
            leader_id: 0,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            eligible_leader_replicas: None,
            last_known_eligible_leader_replicas: None,
            offline_replicas: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CursorResponse<'a> {
    pub topic_name: Cow<'a, str>,
    pub partition_index: i32,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
    match &response.next_cursor {
        Some(cursor) => {
            w.i8(1);
            encode_cursor(w, cursor);
        }
        None => w.i8(-1),
    }
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.error_code(topic.error_code);
    w.nullable_string(topic.name.as_deref());
    w.uuid(topic.topic_id);
    w.bool(topic.is_internal);
    w.array(&topic.partitions, encode_partition);
    w.i32(topic.topic_authorized_operations);
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.error_code(partition.error_code);
    w.i32(partition.index);
    w.i32(partition.leader_id);
    w.i32(partition.leader_epoch);
    w.array(&partition.replica_nodes, |w, one| w.i32(*one));
    w.array(&partition.isr_nodes, |w, one| w.i32(*one));
    w.nullable_array(partition.eligible_leader_replicas.as_deref(), |w, one| {
        w.i32(*one)
    });
    w.nullable_array(
        partition.last_known_eligible_leader_replicas.as_deref(),
        |w, one| w.i32(*one),
    );
    w.array(&partition.offline_replicas, |w, one| w.i32(*one));
    w.no_tagged_fields();
}

fn encode_cursor(w: &mut Writer, cursor: &CursorResponse<'_>) {
    w.string(&cursor.topic_name);
    w.i32(cursor.partition_index);
    w.no_tagged_fields();
}

/// The most partitions in one reply, whatever the client allows (`max.request.partition.size.limit`).
const PARTITIONS_PER_REPLY_MAX: usize = 2000;

/// Tells of topics in the order of their names, from the cursor on, as many partitions as allowed.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let from = request.cursor.unwrap_or(CursorRequest {
        topic_name: "",
        partition_index: 0,
    });
    if !is_valid(request, from) {
        return refuse(request, from);
    }
    let (names, all) = names_from(context.engine, request, from.topic_name);
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, PARTITIONS_PER_REPLY_MAX);
    let mut response = Response::default();
    for name in names {
        let first = match name == from.topic_name {
            true => from.partition_index as u32,
            false => 0,
        };
        if left == 0 {
            response.next_cursor = cursor(name, first);
            break;
        }
        let Some(topic) = context.engine.topic(&name) else {
            // Where all were asked for, it was deleted meanwhile.
            if !all {
                response.topics.push(unknown(name));
                left -= 1;
            }
            continue;
        };
        let end = topic.partitions.min(first.saturating_add(left as u32));
        left -= end.saturating_sub(first) as usize;
        response
            .topics
            .push(describe(context.engine, &topic, first..end));
        if end < topic.partitions {
            response.next_cursor = cursor(name, end);
            break;
        }
    }
    response
}

/// A cursor must lie within what is asked for.
fn is_valid(request: &Request<'_>, from: CursorRequest<'_>) -> bool {
    let mut asked = request.topics.iter();
    let is_among = request.cursor.is_none()
        || request.topics.is_empty()
        || asked.any(|topic| topic.name == from.topic_name);
    is_among && from.partition_index >= 0
}

/// The reply has no place for an error but with the topics.
fn refuse(request: &Request<'_>, from: CursorRequest<'_>) -> Response<'static> {
    let asked = request.topics.iter().map(|topic| topic.name);
    let mut names: BTreeSet<&str> = asked.collect();
    if names.is_empty() {
        names.insert(from.topic_name);
    }
    let topic = |name: &str| TopicResponse {
        error_code: ErrorCode::InvalidRequest,
        name: Some(Cow::Owned(name.to_owned())),
        ..TopicResponse::default()
    };
    Response {
        topics: names.into_iter().map(topic).collect(),
        ..Response::default()
    }
}

/// The topics that come at `from` or after it, and whether all were asked for.
fn names_from(engine: &Engine, request: &Request<'_>, from: &str) -> (BTreeSet<String>, bool) {
    if request.topics.is_empty() {
        let names = engine.with_catalog(|catalog| {
            let names = catalog.topics().map(|topic| &topic.name);
            // One more than a reply can hold, for its cursor.
            let names = names.filter(|name| name.as_str() >= from);
            names.take(PARTITIONS_PER_REPLY_MAX + 1).cloned().collect()
        });
        return (names, true);
    }
    let asked = request.topics.iter().map(|topic| topic.name);
    let names = asked.filter(|name| *name >= from);
    (names.map(str::to_owned).collect(), false)
}

fn cursor(topic_name: String, partition: u32) -> Option<CursorResponse<'static>> {
    Some(CursorResponse {
        topic_name: Cow::Owned(topic_name),
        partition_index: partition as i32,
    })
}

fn unknown(name: String) -> TopicResponse<'static> {
    TopicResponse {
        error_code: match catalog::check_topic_name(&name) {
            Ok(()) => ErrorCode::UnknownTopicOrPartition,
            Err(_) => ErrorCode::InvalidTopicException,
        },
        name: Some(Cow::Owned(name)),
        ..TopicResponse::default()
    }
}

fn describe(
    engine: &Engine,
    topic: &catalog::Topic,
    partitions: std::ops::Range<u32>,
) -> TopicResponse<'static> {
    let node = engine.config.node_id;
    let partition = |index| PartitionResponse {
        error_code: ErrorCode::None,
        index: index as i32,
        leader_id: node,
        leader_epoch: LEADER_EPOCH,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        // Empty rather than null, which the Java client cannot read.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_eligible_leader_replicas: Some(Vec::new()),
        offline_replicas: Vec::new(),
    };
    TopicResponse {
        error_code: ErrorCode::None,
        name: Some(Cow::Owned(topic.name.clone())),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: partitions.map(partition).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}
