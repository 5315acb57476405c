//! DeleteRecords (key 21): move the start of partitions forward (KIP-107).
//!
//! Versions: 2 is flexible. Nothing else changes.

use crate::engine::Engine;
use std::borrow::Cow;
use std::rc::Rc;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub topics: Vec<TopicRequest<'a>>,
    pub timeout_ms: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
    /// Records before it go; -1 stands for the high watermark.
    pub offset: i64,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        topics: r.array(decode_topic)?,
        timeout_ms: r.i32()?,
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
        offset: r.i64()?,
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
    pub index: i32,
    /// The partition's new start; -1 on error.
    pub low_watermark: i64,
    pub error_code: ErrorCode,
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
    w.i32(partition.index);
    w.i64(partition.low_watermark);
    w.i16(partition.error_code.code());
    w.no_tagged_fields();
}

/// Moves log start offsets up; the answer comes when that survives a crash.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let deleted = delete(context.engine, topic.name, partition).await;
            partitions.push(PartitionResponse {
                index: partition.index,
                low_watermark: *deleted.as_ref().unwrap_or(&-1),
                error_code: deleted.err().unwrap_or_default(),
            });
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

async fn delete(
    engine: &Rc<Engine>,
    topic: &str,
    request: &PartitionRequest,
) -> Result<i64, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let topic = engine.topic(topic).ok_or(unknown)?;
    let key = topic.key_of(request.index).ok_or(unknown)?;
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException);
    }
    // Records of a topic that is only compacted go when their key has a newer one, not before.
    if !topic.config.cleanup_policy.deletes() {
        return Err(ErrorCode::PolicyViolation);
    }
    let deleted = engine.delete_records(key, request.offset).await;
    deleted.map_err(|error| ErrorCode::from(&error))
}
