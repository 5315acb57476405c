//! CreatePartitions (key 37): grow topics (KIP-195).
//!
//! Versions: 2 is flexible. Nothing else changes on the wire; 3 allows throttling by quota
//! (KIP-599).

use std::borrow::Cow;

use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

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
    /// How many partitions the topic is to have in all.
    pub count: i32,
    /// One for each new partition; null leaves it to the broker.
    pub assignments: Option<Vec<Assignment>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub broker_ids: Vec<i32>,
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
        count: r.i32()?,
        assignments: r.nullable_array(decode_assignment)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_assignment(r: &mut Reader<'_>) -> Result<Assignment, WireError> {
    let assignment = Assignment {
        broker_ids: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(assignment)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub error_code: ErrorCode,
    pub error_message: Option<Cow<'a, str>>,
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.error_code(topic.error_code);
    w.nullable_string(topic.error_message.as_deref());
    w.no_tagged_fields();
}
