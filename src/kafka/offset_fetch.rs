//! OffsetFetch (key 9): how far groups have read.
//!
//! Versions: 2 allows null for all topics and adds an error for the group, 3 adds the throttle
//! time, 5 the leader epoch (KIP-320), 6 is flexible, 7 adds `require_stable` (KIP-447), 8 asks
//! for many groups at once (KIP-709), 9 names the member (KIP-848). 4 changes nothing on the wire.

use crate::coordinator::groups::offsets::CommittedOffset;
use crate::engine::{Engine, PartitionKey};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::context::Context;
use super::error::ErrorCode;
use super::reply_budget::ReplyBudget;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_ALL_TOPICS: i16 = 2;
const FIRST_VERSION_WITH_GROUP_ERROR: i16 = 2;
const FIRST_VERSION_WITH_THROTTLE: i16 = 3;
const FIRST_VERSION_WITH_LEADER_EPOCH: i16 = 5;
const FIRST_VERSION_WITH_REQUIRE_STABLE: i16 = 7;
const FIRST_VERSION_WITH_MANY_GROUPS: i16 = 8;
const FIRST_VERSION_WITH_MEMBER: i16 = 9;

/// What a partition takes of a reply, its metadata aside.
const PARTITION_BYTES: usize = 24;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// Before version 8 exactly one.
    pub groups: Vec<GroupRequest<'a>>,
    /// Whether to answer UNSTABLE_OFFSET_COMMIT where an open transaction may still change the
    /// offset. From version 7.
    pub require_stable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupRequest<'a> {
    pub group_id: &'a str,
    /// The member of KIP-848 that asks. From version 9.
    pub member_id: Option<&'a str>,
    /// -1 if no member of KIP-848 asks. From version 9.
    pub member_epoch: i32,
    /// Null, from version 2: all for which there are offsets.
    pub topics: Option<Vec<TopicRequest<'a>>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partition_indexes: Vec<i32>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        groups: if version >= FIRST_VERSION_WITH_MANY_GROUPS {
            r.array(|r| decode_group(r, version))?
        } else {
            vec![decode_only_group(r, version)?]
        },
        require_stable: version >= FIRST_VERSION_WITH_REQUIRE_STABLE && r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_group<'a>(r: &mut Reader<'a>, version: i16) -> Result<GroupRequest<'a>, WireError> {
    let names_member = version >= FIRST_VERSION_WITH_MEMBER;
    let group = GroupRequest {
        group_id: r.string()?,
        member_id: if names_member {
            r.nullable_string()?
        } else {
            None
        },
        member_epoch: if names_member { r.i32()? } else { -1 },
        topics: r.nullable_array(decode_topic)?,
    };
    r.skip_tagged_fields()?;
    Ok(group)
}

fn decode_only_group<'a>(r: &mut Reader<'a>, version: i16) -> Result<GroupRequest<'a>, WireError> {
    Ok(GroupRequest {
        group_id: r.string()?,
        member_id: None,
        member_epoch: -1,
        topics: if version >= FIRST_VERSION_WITH_ALL_TOPICS {
            r.nullable_array(decode_topic)?
        } else {
            Some(r.array(decode_topic)?)
        },
    })
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
    /// From version 3.
    pub throttle_time_ms: i32,
    /// One for each group. Versions before 8 hold one: the first is written.
    pub groups: Vec<GroupResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupResponse<'a> {
    /// From version 8.
    pub group_id: Cow<'a, str>,
    pub topics: Vec<TopicResponse<'a>>,
    /// Version 1 has no place for it: there it is written into each partition that has no error of
    /// its own, so the partitions that were asked for must be listed.
    pub error_code: ErrorCode,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResponse<'a> {
    pub index: i32,
    /// The next offset to be read; -1 if none is stored.
    pub committed_offset: i64,
    /// Leader epoch of the record before; -1 if unknown. From version 5.
    pub committed_leader_epoch: i32,
    /// The note that was committed with the offset; empty if none is stored.
    pub metadata: Option<Cow<'a, str>>,
    pub error_code: ErrorCode,
}

impl Default for PartitionResponse<'_> {
    /// What Kafka answers when nothing is stored.
    fn default() -> Self {
        Self {
            index: 0,
            committed_offset: -1,
            committed_leader_epoch: -1,
            metadata: Some(Cow::Borrowed("")),
            error_code: ErrorCode::None,
        }
    }
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    if version >= FIRST_VERSION_WITH_MANY_GROUPS {
        w.array(&response.groups, |w, group| encode_group(w, group, version));
    } else {
        encode_only_group(w, response, version);
    }
    w.no_tagged_fields();
}

fn encode_group(w: &mut Writer, group: &GroupResponse<'_>, version: i16) {
    w.string(&group.group_id);
    encode_topics(w, group, version);
    w.error_code(group.error_code);
    w.no_tagged_fields();
}

fn encode_only_group(w: &mut Writer, response: &Response<'_>, version: i16) {
    let nothing = GroupResponse::default();
    let group = response.groups.first().unwrap_or(&nothing);
    encode_topics(w, group, version);
    if version >= FIRST_VERSION_WITH_GROUP_ERROR {
        w.error_code(group.error_code);
    }
}

fn encode_topics(w: &mut Writer, group: &GroupResponse<'_>, version: i16) {
    let fallback = if version >= FIRST_VERSION_WITH_GROUP_ERROR {
        ErrorCode::None
    } else {
        group.error_code
    };
    w.array(&group.topics, |w, topic| {
        w.string(&topic.name);
        w.array(&topic.partitions, |w, partition| {
            encode_partition(w, partition, version, fallback);
        });
        w.no_tagged_fields();
    });
}

/// Writes a partition; `fallback` is its error if it has none of its own.
fn encode_partition(
    w: &mut Writer,
    partition: &PartitionResponse<'_>,
    version: i16,
    fallback: ErrorCode,
) {
    w.i32(partition.index);
    w.i64(partition.committed_offset);
    if version >= FIRST_VERSION_WITH_LEADER_EPOCH {
        w.i32(partition.committed_leader_epoch);
    }
    w.nullable_string(partition.metadata.as_deref());
    w.error_code(if partition.error_code.is_error() {
        partition.error_code
    } else {
        fallback
    });
    w.no_tagged_fields();
}

/// Tells the offsets that groups committed.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut groups = Vec::with_capacity(request.groups.len());
    let mut budget = ReplyBudget::new();
    for group in &request.groups {
        let (topics, error_code) = match fetch(context, group, &mut budget).await {
            Ok(topics) => (topics, ErrorCode::None),
            Err(error_code) => (refused_topics(group, context.version), error_code),
        };
        groups.push(GroupResponse {
            group_id: Cow::Borrowed(group.group_id),
            topics,
            error_code,
        });
        // Of many groups, others have their turn in between.
        tokio::task::yield_now().await;
    }
    Response {
        throttle_time_ms: 0,
        groups,
    }
}

async fn fetch<'a>(
    context: &Context<'_>,
    request: &GroupRequest<'a>,
    budget: &mut ReplyBudget<'a>,
) -> Result<Vec<TopicResponse<'a>>, ErrorCode> {
    budget.begin(request.group_id)?;
    let engine = context.engine;
    let topics = request.topics.as_ref();
    let keys = topics.map(|topics| keys_of(engine, topics));
    let group_id = request.group_id.to_owned();
    let found = context
        .groups
        .fetch_offsets(group_id, keys, budget.left_bytes());
    let found = found.await.map_err(|error| ErrorCode::from(&error))?;
    match topics {
        Some(topics) => {
            let found = found.into_iter().collect();
            let topics = topics.iter();
            topics
                .map(|topic| of_topic(engine, topic, &found, budget))
                .collect()
        }
        None => all_topics(engine, &found, budget),
    }
}

fn keys_of(engine: &Engine, topics: &[TopicRequest<'_>]) -> BTreeSet<PartitionKey> {
    let mut keys = BTreeSet::new();
    for request in topics {
        if let Some(topic) = engine.topic(request.name) {
            let indexes = request.partition_indexes.iter();
            keys.extend(indexes.filter_map(|index| topic.key_of(*index)));
        }
    }
    keys
}

/// Version 1 has no place for the error but in the partitions.
fn refused_topics<'a>(request: &GroupRequest<'a>, version: i16) -> Vec<TopicResponse<'a>> {
    if version >= FIRST_VERSION_WITH_GROUP_ERROR {
        return Vec::new();
    }
    let refused = |index: &i32| PartitionResponse {
        index: *index,
        ..PartitionResponse::default()
    };
    let topics = request.topics.iter().flatten().map(|topic| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic.partition_indexes.iter().map(refused).collect(),
    });
    topics.collect()
}

fn of_topic<'a>(
    engine: &Engine,
    request: &TopicRequest<'a>,
    found: &HashMap<PartitionKey, CommittedOffset>,
    budget: &mut ReplyBudget<'a>,
) -> Result<TopicResponse<'a>, ErrorCode> {
    let topic = engine.topic(request.name);
    let partitions = request.partition_indexes.iter().map(|index| {
        let key = topic.as_ref().and_then(|topic| topic.key_of(*index));
        respond(*index, key.and_then(|key| found.get(&key)), budget)
    });
    Ok(TopicResponse {
        name: Cow::Borrowed(request.name),
        partitions: partitions.collect::<Result<_, _>>()?,
    })
}

fn all_topics<'a>(
    engine: &Engine,
    found: &[(PartitionKey, CommittedOffset)],
    budget: &mut ReplyBudget<'_>,
) -> Result<Vec<TopicResponse<'a>>, ErrorCode> {
    let mut by_topic: BTreeMap<String, Vec<PartitionResponse<'a>>> = BTreeMap::new();
    for (key, offset) in found {
        if let Some(topic) = engine.topic_by_id(key.topic_id) {
            let partition = respond(key.index as i32, Some(offset), budget)?;
            let partitions = by_topic.entry(topic.name.clone()).or_default();
            partitions.push(partition);
        }
    }
    let topics = by_topic.into_iter().map(|(name, mut partitions)| {
        partitions.sort_by_key(|partition| partition.index);
        TopicResponse {
            name: Cow::Owned(name),
            partitions,
        }
    });
    Ok(topics.collect())
}

fn respond(
    index: i32,
    offset: Option<&CommittedOffset>,
    budget: &mut ReplyBudget<'_>,
) -> Result<PartitionResponse<'static>, ErrorCode> {
    let Some(offset) = offset else {
        budget.take(PARTITION_BYTES)?;
        return Ok(PartitionResponse {
            index,
            ..PartitionResponse::default()
        });
    };
    budget.take(PARTITION_BYTES + offset.metadata.len())?;
    Ok(PartitionResponse {
        index,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch,
        metadata: Some(Cow::Owned(offset.metadata.clone())),
        error_code: ErrorCode::None,
    })
}
