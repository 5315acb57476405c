//! OffsetFetch (key 9): how far groups have read.
//!
//! Versions: 2 allows null for all topics and adds an error for the group, 5 the leader epoch (KIP-320),
//! 7 `require_stable` (KIP-447), 8 asks for many groups at once (KIP-709), 9 names the member (KIP-848).

use super::reply_budget::ReplyBudget;
use crate::coordinator::groups::offsets::CommittedOffset;
use crate::engine::{Engine, PartitionKey};
use crate::kafka::topics::{TopicRequest, TopicResponse, for_each};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a partition takes of a reply, its metadata aside.
const PARTITION_BYTES: usize = 24;

message! {
    OffsetFetch 1..=9, flexible 6..;

    Request<'a> {
        group_id: &'a str [1..=7],
        /// Null: all for which there are offsets.
        topics: Option<Vec<TopicRequest<'a, i32>>> [1..=7, nullable 2..],
        groups: Vec<GroupRequest<'a>> [8..],
        /// Whether to answer UNSTABLE_OFFSET_COMMIT where an open transaction may still change the
        /// offset.
        require_stable: bool [7..],
    }

    GroupRequest<'a> {
        group_id: &'a str,
        /// The member of KIP-848 that asks.
        member_id: Option<&'a str> [9..],
        /// -1 if no member of KIP-848 asks.
        member_epoch: i32 [9..] = -1,
        /// Null: all for which there are offsets.
        topics: Option<Vec<TopicRequest<'a, i32>>>,
    }

    Response<'a> {
        throttle_time_ms: i32 [3..],
        topics: Vec<TopicResponse<'a, PartitionResponse<'a>>> [1..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<GroupResponse<'a>> [8..],
    }

    GroupResponse<'a> {
        group_id: Cow<'a, str>,
        topics: Vec<TopicResponse<'a, PartitionResponse<'a>>>,
        error_code: ErrorCode,
    }

    /// By default what Kafka answers when nothing is stored.
    PartitionResponse<'a> {
        index: i32,
        /// The next offset to be read; -1 if none is stored.
        committed_offset: i64 = -1,
        /// Leader epoch of the record before; -1 if unknown.
        committed_leader_epoch: i32 [5..] = -1,
        /// The note that was committed with the offset; empty if none is stored.
        metadata: Option<Cow<'a, str>> = Some(Cow::Borrowed("")),
        error_code: ErrorCode,
    }
}

const FIRST_VERSION_WITH_GROUP_ERROR: i16 = 2;
const FIRST_VERSION_WITH_MANY_GROUPS: i16 = 8;

/// A group that is asked for, and its topics; all of them if there is no list.
type Asked<'r, 'a> = (&'a str, Option<&'r [TopicRequest<'a, i32>]>);
type Topics<'a> = Vec<TopicResponse<'a, PartitionResponse<'a>>>;

impl<'a> Request<'a> {
    /// The groups that are asked for, in any version.
    pub fn groups(&self, version: i16) -> Vec<Asked<'_, 'a>> {
        if version < FIRST_VERSION_WITH_MANY_GROUPS {
            return vec![(self.group_id, self.topics.as_deref())];
        }
        let groups = self.groups.iter();
        groups
            .map(|group| (group.group_id, group.topics.as_deref()))
            .collect()
    }
}

impl<'a> Response<'a> {
    /// The answer for these groups. Old versions have room for the first, and version 1 has none for
    /// the group's error: there it goes into each partition that has no error of its own, so the
    /// partitions that were asked for must be listed.
    pub fn of(groups: Vec<GroupResponse<'a>>, version: i16) -> Self {
        if version >= FIRST_VERSION_WITH_MANY_GROUPS {
            return Self {
                groups,
                ..Self::default()
            };
        }
        let mut only = groups.into_iter().next().unwrap_or_default();
        if version < FIRST_VERSION_WITH_GROUP_ERROR {
            let topics = only.topics.iter_mut();
            let partitions = topics.flat_map(|topic| &mut topic.partitions);
            for partition in partitions.filter(|partition| !partition.error_code.is_error()) {
                partition.error_code = only.error_code;
            }
        }
        Self {
            topics: only.topics,
            error_code: only.error_code,
            ..Self::default()
        }
    }
}

/// Answers with the offsets that groups committed.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let asked = request.groups(context.version);
    let mut groups = Vec::with_capacity(asked.len());
    let mut budget = ReplyBudget::new();
    for group in asked {
        let (topics, error_code) = match fetch(context, group, &mut budget).await {
            Ok(topics) => (topics, ErrorCode::None),
            Err(error_code) => (refused_topics(group, context.version), error_code),
        };
        groups.push(GroupResponse {
            group_id: Cow::Borrowed(group.0),
            topics,
            error_code,
        });
        // A request may name many groups: let other tasks run in between.
        tokio::task::yield_now().await;
    }
    Response::of(groups, context.version)
}

async fn fetch<'a>(
    context: &Context<'_>,
    (group_id, topics): Asked<'_, 'a>,
    budget: &mut ReplyBudget<'a>,
) -> Result<Topics<'a>, ErrorCode> {
    budget.begin(group_id)?;
    let engine = context.engine;
    let keys = topics.map(|topics| keys_of(engine, topics));
    let group_id = group_id.to_owned();
    let left_bytes = budget.left_bytes();
    let found = context.groups.fetch_offsets(group_id, keys, left_bytes);
    let found = found.await?;
    let Some(topics) = topics else {
        return all_topics(engine, &found, budget);
    };
    let found: HashMap<_, _> = found.into_iter().collect();
    let topics = topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|index| {
            let key = engine.key_of(topic.name, *index);
            respond(*index, key.and_then(|key| found.get(&key)), budget)
        });
        Ok(TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions: partitions.collect::<Result<_, _>>()?,
        })
    });
    topics.collect()
}

fn keys_of(engine: &Engine, topics: &[TopicRequest<'_, i32>]) -> BTreeSet<PartitionKey> {
    let keys = topics.iter().flat_map(|topic| {
        let indexes = topic.partitions.iter();
        indexes.filter_map(|index| engine.key_of(topic.name, *index))
    });
    keys.collect()
}

/// Version 1 has a field for the error in its partitions only.
fn refused_topics<'a>((_, topics): Asked<'_, 'a>, version: i16) -> Topics<'a> {
    if version >= FIRST_VERSION_WITH_GROUP_ERROR {
        return Vec::new();
    }
    for_each(topics.unwrap_or_default(), |_, index| PartitionResponse {
        index: *index,
        ..PartitionResponse::default()
    })
}

fn all_topics<'a>(
    engine: &Engine,
    found: &[(PartitionKey, CommittedOffset)],
    budget: &mut ReplyBudget<'_>,
) -> Result<Topics<'a>, ErrorCode> {
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
    budget.take(PARTITION_BYTES + offset.map_or(0, |offset| offset.metadata.len()))?;
    let mut response = PartitionResponse {
        index,
        ..PartitionResponse::default()
    };
    if let Some(offset) = offset {
        response.committed_offset = offset.offset;
        response.committed_leader_epoch = offset.leader_epoch;
        response.metadata = Some(Cow::Owned(offset.metadata.clone()));
    }
    Ok(response)
}
