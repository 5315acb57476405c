//! DescribeTopicPartitions (key 75): topics and their partitions, a page at a time (KIP-966).
//!
//! Version 0 only.

use std::borrow::Cow;

use uuid::Uuid;

use super::error::ErrorCode;
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
