//! OffsetFetch (key 9): how far groups have read.
//!
//! Versions: 2 allows null for all topics and adds an error for the group, 5 the leader epoch (KIP-320),
//! 7 `require_stable` (KIP-447), 8 asks for many groups at once (KIP-709), 9 names the member (KIP-848).

use super::reply_budget::{REPLY_BYTES_MAX, ReplyBudget};
use crate::coordinator::groups::offsets::CommittedOffset;
use crate::engine::{Engine, PartitionKey};
use crate::io::reactor::Slice;
use crate::kafka::topics::{TopicRequest, TopicResponse, for_each};
use crate::kafka::{Context, ErrorCode, message};
use bytestring::ByteString;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

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
        topics: Vec<TopicResponse<'a, PartitionResponse>> [1..=7],
        error_code: ErrorCode [2..=7],
        groups: Vec<GroupResponse<'a>> [8..],
    }

    GroupResponse<'a> {
        group_id: Cow<'a, str>,
        topics: Vec<TopicResponse<'a, PartitionResponse>>,
        error_code: ErrorCode,
    }

    /// By default what Kafka answers when nothing is stored.
    PartitionResponse {
        index: i32,
        /// The next offset to be read; -1 if none is stored.
        committed_offset: i64 = -1,
        /// Leader epoch of the record before; -1 if unknown.
        committed_leader_epoch: i32 [5..] = -1,
        /// The note that was committed with the offset; empty if none is stored.
        metadata: Option<ByteString> = Some(ByteString::new()),
        error_code: ErrorCode,
    }
}

const FIRST_VERSION_WITH_GROUP_ERROR: i16 = 2;
const FIRST_VERSION_WITH_MANY_GROUPS: i16 = 8;

/// A group that is asked for, and its topics; all of them if there is no list.
type Asked<'r, 'a> = (&'a str, Option<&'r [TopicRequest<'a, i32>]>);
type Topics<'a> = Vec<TopicResponse<'a, PartitionResponse>>;

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

/// What the reply takes at most, in bytes: it holds the notes, though it may not be the only one that does.
pub fn reply_bytes(context: &Context<'_>, request: &Request<'_>) -> usize {
    // A character takes up to three bytes for each unit of UTF-16.
    let note_bytes_max = 3 * context.engine.config.offset_metadata_bytes_max;
    let mut asked_bytes: usize = 0;
    for (_, topics) in request.groups(context.version) {
        let partitions = topics.map_or(usize::MAX, |topics| {
            topics.iter().map(|topic| topic.partitions.len()).sum()
        });
        asked_bytes = asked_bytes.saturating_add(partitions.saturating_mul(note_bytes_max));
    }
    let notes_bytes = asked_bytes.min(context.groups.all_bytes());
    notes_bytes.min(REPLY_BYTES_MAX)
}

/// Answers with the offsets that groups committed. A partition that is named twice is answered once.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let asked = request.groups(context.version);
    let mut groups = Vec::with_capacity(asked.len());
    let mut budget = ReplyBudget::new(asked.len());
    let mut slice = Slice::new();
    for group in asked {
        let (topics, error_code) = match fetch(context, group, &mut budget).await {
            Ok(topics) => (topics, ErrorCode::None),
            Err(error_code) => (refused_topics(group, context.version).await, error_code),
        };
        groups.push(GroupResponse {
            group_id: Cow::Borrowed(group.0),
            topics,
            error_code,
        });
        slice.rest().await;
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
    let keys = match topics {
        Some(topics) => Some(keys_of(engine, topics).await),
        None => None,
    };
    let group_id = group_id.to_owned();
    let left_bytes = budget.left_bytes();
    let found = context.groups.fetch_offsets(group_id, keys, left_bytes);
    let found = found.await?;
    let Some(topics) = topics else {
        return all_topics(engine, found, budget).await;
    };
    let mut found: HashMap<_, _> = found.into_iter().collect();
    let partitions = topics.iter().map(|topic| topic.partitions.len());
    let mut named = HashSet::with_capacity(partitions.sum());
    let mut answers = Vec::with_capacity(topics.len());
    let mut slice = Slice::new();
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for index in &topic.partitions {
            slice.rest().await;
            if named.insert((topic.name, *index)) {
                let key = engine.key_of(topic.name, *index);
                let offset = key.and_then(|key| found.remove(&key));
                partitions.push(respond(*index, offset, budget)?);
            }
        }
        answers.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions,
        });
    }
    Ok(answers)
}

async fn keys_of(engine: &Engine, topics: &[TopicRequest<'_, i32>]) -> BTreeSet<PartitionKey> {
    let mut keys = BTreeSet::new();
    let mut slice = Slice::new();
    for topic in topics {
        for index in &topic.partitions {
            keys.extend(engine.key_of(topic.name, *index));
            slice.rest().await;
        }
    }
    keys
}

/// Version 1 has a field for the error in its partitions only.
async fn refused_topics<'a>((_, topics): Asked<'_, 'a>, version: i16) -> Topics<'a> {
    if version >= FIRST_VERSION_WITH_GROUP_ERROR {
        return Vec::new();
    }
    for_each(topics.unwrap_or_default(), |_, index| PartitionResponse {
        index: *index,
        ..PartitionResponse::default()
    })
    .await
}

/// `found` has the partitions of a topic one behind the other, in order.
async fn all_topics<'a>(
    engine: &Engine,
    found: Vec<(PartitionKey, CommittedOffset)>,
    budget: &mut ReplyBudget<'_>,
) -> Result<Topics<'a>, ErrorCode> {
    let mut by_topic: BTreeMap<String, Vec<PartitionResponse>> = BTreeMap::new();
    let mut slice = Slice::new();
    let mut found = found.into_iter().peekable();
    while let Some((PartitionKey { topic_id, .. }, _)) = found.peek() {
        let topic_id = *topic_id;
        let topic = engine.topic_by_id(topic_id);
        let mut partitions = Vec::new();
        while let Some((key, offset)) = found.next_if(|(key, _)| key.topic_id == topic_id) {
            slice.rest().await;
            if topic.is_some() {
                partitions.push(respond(key.index as i32, Some(offset), budget)?);
            }
        }
        if let Some(topic) = topic {
            by_topic.insert(topic.name.clone(), partitions);
        }
    }
    let topics = by_topic
        .into_iter()
        .map(|(name, partitions)| TopicResponse {
            name: Cow::Owned(name),
            partitions,
        });
    Ok(topics.collect())
}

fn respond(
    index: i32,
    offset: Option<CommittedOffset>,
    budget: &mut ReplyBudget<'_>,
) -> Result<PartitionResponse, ErrorCode> {
    let note_bytes = offset.as_ref().map_or(0, |offset| offset.metadata.len());
    budget.take(PARTITION_BYTES + note_bytes)?;
    let mut response = PartitionResponse {
        index,
        ..PartitionResponse::default()
    };
    if let Some(offset) = offset {
        response.committed_offset = offset.offset;
        response.committed_leader_epoch = offset.leader_epoch;
        response.metadata = Some(offset.metadata);
    }
    Ok(response)
}
