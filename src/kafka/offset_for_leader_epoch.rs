//! OffsetForLeaderEpoch (key 23): where a leader epoch ends, for clients that check whether records
//! they have read were taken back (KIP-320).
//!
//! Versions: 3 adds the replica id, 4 is flexible.

use crate::engine::Engine;
use crate::engine::fetch::{LEADER_EPOCH, check_leader_epoch};
use crate::engine::offsets::OffsetSpec;
use std::borrow::Cow;
use std::rc::Rc;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_REPLICA_ID: i16 = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// -1 for a consumer, -2 if unknown. From version 3.
    pub replica_id: i32,
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
    /// -1 skips the check.
    pub current_leader_epoch: i32,
    /// The epoch whose end is asked for.
    pub leader_epoch: i32,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        replica_id: if version >= FIRST_VERSION_WITH_REPLICA_ID {
            r.i32()?
        } else {
            -2
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
        current_leader_epoch: r.i32()?,
        leader_epoch: r.i32()?,
    };
    r.skip_tagged_fields()?;
    Ok(partition)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionResponse {
    pub error_code: ErrorCode,
    pub index: i32,
    /// The largest epoch known that is not above the one asked for; -1 if there is none.
    pub leader_epoch: i32,
    /// The offset after the last one of that epoch; -1 if unknown.
    pub end_offset: i64,
}

impl Default for PartitionResponse {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            index: 0,
            leader_epoch: -1,
            end_offset: -1,
        }
    }
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.error_code(partition.error_code);
    w.i32(partition.index);
    w.i32(partition.leader_epoch);
    w.i64(partition.end_offset);
    w.no_tagged_fields();
}

/// There is one epoch, and it has not ended: its end is the high watermark.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let found = find(context.engine, topic.name, partition).await;
            partitions.push(found.unwrap_or_else(|error_code| PartitionResponse {
                error_code,
                index: partition.index,
                ..PartitionResponse::default()
            }));
        }
        topics.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions,
        });
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn find(
    engine: &Rc<Engine>,
    topic: &str,
    request: &PartitionRequest,
) -> Result<PartitionResponse, ErrorCode> {
    let key = engine.key_of(topic, request.index);
    let key = key.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(request.current_leader_epoch).map_err(|error| ErrorCode::from(&error))?;
    let mut response = PartitionResponse {
        index: request.index,
        ..PartitionResponse::default()
    };
    // Of an epoch that never was, Kafka too says -1 and no error.
    if request.leader_epoch == LEADER_EPOCH {
        let end = engine.find_offset(key, OffsetSpec::Latest).await;
        response.end_offset = end.map_err(|error| ErrorCode::from(&error))?.offset;
        response.leader_epoch = LEADER_EPOCH;
    }
    Ok(response)
}
