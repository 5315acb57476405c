//! ListPartitionReassignments (key 46): the reassignments under way (KIP-455).
//!
//! Version 0 only.

use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub timeout_ms: i32,
    /// Null: all.
    pub topics: Option<Vec<TopicRequest<'a>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partition_indexes: Vec<i32>,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        timeout_ms: r.i32()?,
        topics: r.nullable_array(decode_topic)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partition_indexes: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionResponse {
    pub index: i32,
    pub replicas: Vec<i32>,
    pub adding_replicas: Vec<i32>,
    pub removing_replicas: Vec<i32>,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
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

fn encode_partition(w: &mut Writer, partition: &PartitionResponse) {
    w.i32(partition.index);
    w.array(&partition.replicas, |w, one| w.i32(*one));
    w.array(&partition.adding_replicas, |w, one| w.i32(*one));
    w.array(&partition.removing_replicas, |w, one| w.i32(*one));
    w.no_tagged_fields();
}

/// Partitions do not move: there is nowhere to go.
pub async fn handle(_context: &Context<'_>, _request: &Request<'_>) -> Response<'static> {
    Response::default()
}
