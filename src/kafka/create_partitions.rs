//! CreatePartitions (key 37): grow topics (KIP-195).
//!
//! Versions: 2 is flexible. Nothing else changes on the wire; 3 allows throttling by quota
//! (KIP-599).

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
    w.i16(topic.error_code.code());
    w.nullable_string(topic.error_message.as_deref());
    w.no_tagged_fields();
}

/// Gives topics more partitions.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let grown = grow(context.engine, topic, request.validate_only).await;
        let (error_code, message) = grown.err().unzip();
        topics.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            error_code: error_code.unwrap_or_default(),
            error_message: message.map(Cow::Owned),
        });
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn grow(
    engine: &Rc<Engine>,
    request: &TopicRequest<'_>,
    only_check: bool,
) -> Result<(), (ErrorCode, String)> {
    let unknown = (
        ErrorCode::UnknownTopicOrPartition,
        "there is no such topic".to_owned(),
    );
    let topic = engine.topic(request.name).ok_or(unknown)?;
    let bad_count = (
        ErrorCode::InvalidPartitions,
        format!("a topic cannot have {} partitions", request.count),
    );
    let count = u32::try_from(request.count).map_err(|_| bad_count)?;
    if let Some(assignments) = &request.assignments {
        let here = |assignment: &Assignment| assignment.broker_ids == [engine.config.node_id];
        let new = count.saturating_sub(topic.partitions) as usize;
        if assignments.len() != new || !assignments.iter().all(here) {
            let message = format!(
                "each of the {new} new partitions must be on broker {} alone",
                engine.config.node_id
            );
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    let grown = engine.set_partitions(topic.id, count, only_check).await;
    grown.map_err(|error| ((&error).into(), error.to_string()))
}
