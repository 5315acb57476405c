//! OffsetCommit (key 8): store how far a group has read.
//!
//! Versions: 3 adds the throttle time, 5 drops the retention time, 6 adds the leader epoch
//! (KIP-320), 7 static members (KIP-345), 8 is flexible. 4 and 9 change nothing on the wire: 9
//! allows the members of KIP-848.

use crate::coordinator::groups::classic::messages::CommitRequest;
use crate::coordinator::groups::error::GroupError;
use crate::coordinator::groups::offsets::CommittedOffset;
use crate::engine::PartitionKey;
use crate::io::clock;
use std::borrow::Cow;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_THROTTLE: i16 = 3;
const LAST_VERSION_WITH_RETENTION_TIME: i16 = 4;
const FIRST_VERSION_WITH_LEADER_EPOCH: i16 = 6;
const FIRST_VERSION_WITH_GROUP_INSTANCE_ID: i16 = 7;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub group_id: &'a str,
    /// The generation, or the member epoch of KIP-848; -1 if it does not come from a member.
    pub generation_id_or_member_epoch: i32,
    /// Empty if it does not come from a member.
    pub member_id: &'a str,
    /// What a static member calls itself across restarts (KIP-345). From version 7.
    pub group_instance_id: Option<&'a str>,
    /// -1: as the broker is configured. Up to version 4.
    pub retention_time_ms: i64,
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<PartitionRequest<'a>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest<'a> {
    pub index: i32,
    /// The next offset to be read.
    pub committed_offset: i64,
    /// Leader epoch of the record before; -1 if unknown. From version 6.
    pub committed_leader_epoch: i32,
    /// A note of the client's, returned as it came.
    pub committed_metadata: Option<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        group_id: r.string()?,
        generation_id_or_member_epoch: r.i32()?,
        member_id: r.string()?,
        group_instance_id: if version >= FIRST_VERSION_WITH_GROUP_INSTANCE_ID {
            r.nullable_string()?
        } else {
            None
        },
        retention_time_ms: if version <= LAST_VERSION_WITH_RETENTION_TIME {
            r.i64()?
        } else {
            -1
        },
        topics: r.array(|r| decode_topic(r, version))?,
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

fn decode_partition<'a>(
    r: &mut Reader<'a>,
    version: i16,
) -> Result<PartitionRequest<'a>, WireError> {
    let partition = PartitionRequest {
        index: r.i32()?,
        committed_offset: r.i64()?,
        committed_leader_epoch: if version >= FIRST_VERSION_WITH_LEADER_EPOCH {
            r.i32()?
        } else {
            -1
        },
        committed_metadata: r.nullable_string()?,
    };
    r.skip_tagged_fields()?;
    Ok(partition)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 3.
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

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
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
    w.error_code(partition.error_code);
    w.no_tagged_fields();
}

const FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 9;

/// Stores offsets; answered when they are durable.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut commits = Vec::new();
    let mut topics: Vec<TopicResponse<'a>> = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let partitions = topic.partitions.iter().map(|partition| {
            let taken = take(context, request, topic.name, partition);
            let error_code = taken.as_ref().err().copied().unwrap_or_default();
            commits.extend(taken.ok());
            PartitionResponse {
                index: partition.index,
                error_code,
            }
        });
        topics.push(TopicResponse {
            partitions: partitions.collect(),
            name: Cow::Borrowed(topic.name),
        });
    }
    let committer = CommitRequest {
        member_id: request.member_id.to_owned(),
        instance_id: request.group_instance_id.map(str::to_owned),
        generation: request.generation_id_or_member_epoch,
        transactional: false,
    };
    let committed = context
        .groups
        .commit_offsets(request.group_id.to_owned(), committer, commits)
        .await;
    let partitions = topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let taken = partitions.filter(|partition| !partition.error_code.is_error());
    match committed {
        Ok(results) => {
            for (partition, result) in taken.zip(&results) {
                partition.error_code = result
                    .as_ref()
                    .err()
                    .map(ErrorCode::from)
                    .unwrap_or_default();
            }
        }
        Err(error) => {
            let error_code = refusal(&error, context.version);
            taken.for_each(|partition| partition.error_code = error_code);
        }
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

fn refusal(error: &GroupError, version: i16) -> ErrorCode {
    match ErrorCode::from(error) {
        // Older versions have no word for a group that is not there.
        ErrorCode::GroupIdNotFound if version < FIRST_VERSION_WITH_GROUP_ID_NOT_FOUND => {
            ErrorCode::IllegalGeneration
        }
        code => code,
    }
}

fn take(
    context: &Context<'_>,
    request: &Request<'_>,
    topic: &str,
    partition: &PartitionRequest<'_>,
) -> Result<(PartitionKey, CommittedOffset), ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let key = context.engine.key_of(topic, partition.index);
    let key = key.ok_or(unknown)?;
    let now_ms = clock::stamp_ms();
    let note = partition.committed_metadata.unwrap_or_default().to_owned();
    let mut offset = context
        .groups
        .new_committed_offset(
            partition.committed_offset,
            partition.committed_leader_epoch,
            note,
            now_ms,
        )
        .map_err(|error| ErrorCode::from(&error))?;
    if request.retention_time_ms >= 0 {
        offset.expire_ms = Some(now_ms.saturating_add(request.retention_time_ms));
    }
    Ok((key, offset))
}
