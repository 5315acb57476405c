//! OffsetDelete (key 47): forget how far a group has read in some partitions (KIP-496).
//!
//! Version 0 only, which is not flexible.

use std::borrow::Cow;
use std::collections::HashMap;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub group_id: &'a str,
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
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    Ok(Request {
        group_id: r.string()?,
        topics: r.array(decode_topic)?,
    })
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    Ok(TopicRequest {
        name: r.string()?,
        partitions: r.array(decode_partition)?,
    })
}

fn decode_partition(r: &mut Reader<'_>) -> Result<PartitionRequest, WireError> {
    Ok(PartitionRequest { index: r.i32()? })
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// An error of the group, which answers for all its partitions.
    pub error_code: ErrorCode,
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub error_code: ErrorCode,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.error_code(response.error_code);
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.i32(partition.index);
    w.error_code(partition.error_code);
}

/// Deletes committed offsets of topics that the group is not subscribed to.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut keys = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            keys.extend(
                context
                    .engine
                    .key_of(topic.name, partition.index)
                    .map(|key| (topic.name.to_owned(), key)),
            );
        }
    }
    let deleted = context
        .groups
        .delete_offsets(request.group_id.to_owned(), keys)
        .await;
    let results: HashMap<_, _> = match deleted {
        Ok(results) => results.into_iter().collect(),
        Err(error) => {
            return Response {
                error_code: (&error).into(),
                throttle_time_ms: 0,
                topics: Vec::new(),
            };
        }
    };
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionResponse {
                index: partition.index,
                error_code: match context
                    .engine
                    .key_of(topic.name, partition.index)
                    .and_then(|key| results.get(&key))
                {
                    None => ErrorCode::UnknownTopicOrPartition,
                    Some(result) => result
                        .as_ref()
                        .err()
                        .map(ErrorCode::from)
                        .unwrap_or_default(),
                },
            })
            .collect(),
    });
    Response {
        error_code: ErrorCode::None,
        throttle_time_ms: 0,
        topics: topics.collect(),
    }
}
