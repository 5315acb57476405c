//! ElectLeaders (key 43): have partitions led by their preferred replica, or by any that lives.
//!
//! Versions: 1 adds the election type and an error for the whole (KIP-460), 2 is flexible.

use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_ELECTION_TYPE: i16 = 1;
const FIRST_VERSION_WITH_ERROR_CODE: i16 = 1;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// 0 the preferred replica, 1 any live one, even if records are lost. From version 1.
    pub election_type: i8,
    /// Null: all.
    pub topics: Option<Vec<TopicRequest<'a>>>,
    pub timeout_ms: i32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<i32>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        election_type: if version >= FIRST_VERSION_WITH_ELECTION_TYPE {
            r.i8()?
        } else {
            0
        },
        topics: r.nullable_array(decode_topic)?,
        timeout_ms: r.i32()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partitions: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    /// From version 1.
    pub error_code: ErrorCode,
    pub topics: Vec<TopicResponse<'a>>,
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
    if version >= FIRST_VERSION_WITH_ERROR_CODE {
        w.i16(response.error_code.code());
    }
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

const ELECTION_PREFERRED: i8 = 0;
const ELECTION_UNCLEAN: i8 = 1;

/// Every partition has the one leader it can have. Where all were asked for, only those are told that
/// took part in an election: none.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    if !matches!(request.election_type, ELECTION_PREFERRED | ELECTION_UNCLEAN) {
        return Response {
            error_code: ErrorCode::InvalidRequest,
            ..Response::default()
        };
    }
    let partition = |topic: &str, index: i32| PartitionResponse {
        index,
        error_code: match context.engine.key_of(topic, index) {
            Some(_) => ErrorCode::ElectionNotNeeded,
            None => ErrorCode::UnknownTopicOrPartition,
        },
        error_message: None,
    };
    let topic = |topic: &TopicRequest<'a>| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|index| partition(topic.name, *index))
            .collect(),
    };
    Response {
        topics: request.topics.iter().flatten().map(topic).collect(),
        ..Response::default()
    }
}
