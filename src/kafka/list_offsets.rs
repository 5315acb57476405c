//! ListOffsets (key 2): which offset a point in time, or a special timestamp, stands for.
//!
//! Versions: 2 adds the isolation level and the throttle time (KIP-98), 4 the leader epoch
//! (KIP-320), 6 is flexible, 10 adds the timeout (KIP-1075). 7, 8 and 9 only allow more special
//! timestamps: -3 the highest timestamp (KIP-734), -4 and -5 for tiered storage (KIP-405,
//! KIP-1005).

use super::context::Context;
use crate::engine::Engine;
use crate::engine::fetch::check_leader_epoch;
use crate::engine::offsets::OffsetSpec;
use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_ISOLATION_LEVEL: i16 = 2;
const FIRST_VERSION_WITH_THROTTLE: i16 = 2;
const FIRST_VERSION_WITH_LEADER_EPOCH: i16 = 4;
const FIRST_VERSION_WITH_TIMEOUT: i16 = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// -1 for a consumer.
    pub replica_id: i32,
    /// 0 read uncommitted, 1 read committed. From version 2.
    pub isolation_level: i8,
    pub topics: Vec<TopicRequest<'a>>,
    /// How long a look into remote storage may take. From version 10, else 0.
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
    /// -1 skips the check. From version 4.
    pub current_leader_epoch: i32,
    /// Milliseconds since the epoch, or a special value below 0.
    pub timestamp: i64,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        replica_id: r.i32()?,
        isolation_level: if version >= FIRST_VERSION_WITH_ISOLATION_LEVEL {
            r.i8()?
        } else {
            0
        },
        topics: r.array(|r| decode_topic(r, version))?,
        timeout_ms: if version >= FIRST_VERSION_WITH_TIMEOUT {
            r.i32()?
        } else {
            0
        },
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>, version: i16) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partitions: r.array(|r| decode_partition(r, version))?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_partition(r: &mut Reader<'_>, version: i16) -> Result<PartitionRequest, WireError> {
    let partition = PartitionRequest {
        index: r.i32()?,
        current_leader_epoch: if version >= FIRST_VERSION_WITH_LEADER_EPOCH {
            r.i32()?
        } else {
            -1
        },
        timestamp: r.i64()?,
    };
    r.skip_tagged_fields()?;
    Ok(partition)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 2.
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
    pub error_code: ErrorCode,
    /// Timestamp of the record found, in milliseconds since the epoch; -1 if none, or if the
    /// request asked for an end of the log.
    pub timestamp: i64,
    /// -1 if nothing was found.
    pub offset: i64,
    /// Leader epoch of the record found; -1 if unknown. From version 4.
    pub leader_epoch: i32,
}

impl Default for PartitionResponse {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: ErrorCode::None,
            timestamp: -1,
            offset: -1,
            leader_epoch: -1,
        }
    }
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    w.array(&response.topics, |w, topic| encode_topic(w, topic, version));
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>, version: i16) {
    w.string(&topic.name);
    w.array(&topic.partitions, |w, partition| {
        encode_partition(w, partition, version);
    });
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse, version: i16) {
    w.i32(partition.index);
    w.error_code(partition.error_code);
    w.i64(partition.timestamp);
    w.i64(partition.offset);
    if version >= FIRST_VERSION_WITH_LEADER_EPOCH {
        w.i32(partition.leader_epoch);
    }
    w.no_tagged_fields();
}

/// What the negative timestamps stand for, and the version that brought each.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const FIRST_VERSION_WITH_MAX_TIMESTAMP: i16 = 7;
const FIRST_VERSION_WITH_EARLIEST_LOCAL: i16 = 8;
const FIRST_VERSION_WITH_LATEST_TIERED: i16 = 9;

/// Finds offsets by time, or the ends of the log.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut asked = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let again = !asked.insert((topic.name, partition.index));
            let found = match again {
                true => Err(ErrorCode::InvalidRequest),
                false => find(context.engine, topic.name, partition, context.version).await,
            };
            partitions.push(found.unwrap_or_else(|error_code| PartitionResponse {
                index: partition.index,
                error_code,
                timestamp: -1,
                offset: -1,
                leader_epoch: -1,
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
    version: i16,
) -> Result<PartitionResponse, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let key = engine.key_of(topic, request.index).ok_or(unknown)?;
    check_leader_epoch(request.current_leader_epoch).map_err(|error| ErrorCode::from(&error))?;
    let mut response = PartitionResponse {
        index: request.index,
        error_code: ErrorCode::None,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    };
    if let Some(spec) = spec_of(request.timestamp, version)? {
        let found = engine.find_offset(key, spec).await;
        let found = found.map_err(|error| ErrorCode::from(&error))?;
        response.timestamp = found.timestamp;
        response.offset = found.offset;
        response.leader_epoch = if found.offset < 0 { -1 } else { 0 };
    }
    Ok(response)
}

/// `None` where there can be no such offset: nothing is tiered here.
fn spec_of(timestamp: i64, version: i16) -> Result<Option<OffsetSpec>, ErrorCode> {
    let spec = match timestamp {
        LATEST => OffsetSpec::Latest,
        EARLIEST => OffsetSpec::Earliest,
        MAX_TIMESTAMP if version >= FIRST_VERSION_WITH_MAX_TIMESTAMP => OffsetSpec::MaxTimestamp,
        EARLIEST_LOCAL if version >= FIRST_VERSION_WITH_EARLIEST_LOCAL => OffsetSpec::Earliest,
        LATEST_TIERED if version >= FIRST_VERSION_WITH_LATEST_TIERED => return Ok(None),
        ..0 => return Err(ErrorCode::UnsupportedVersion),
        _ => OffsetSpec::AtTime(timestamp),
    };
    Ok(Some(spec))
}
