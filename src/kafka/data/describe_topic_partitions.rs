//! DescribeTopicPartitions (key 75): topics and their partitions, a page at a time (KIP-966).

use super::metadata::{OPERATIONS_NOT_REQUESTED, TOPIC_OPERATIONS, unknown_topic};
use crate::engine::Engine;
use crate::engine::catalog;
use crate::engine::fetch::LEADER_EPOCH;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;
use uuid::Uuid;

message! {
    DescribeTopicPartitions 0..=0, flexible 0..;

    Request<'a> {
        /// Empty: all.
        topics: Vec<TopicRequest<'a>>,
        /// The most partitions that one reply may hold.
        response_partition_limit: i32,
        /// Where the reply begins; null at the first topic.
        cursor: Option<CursorRequest<'a>>,
    }

    #[derive(Copy)]
    TopicRequest<'a> {
        name: &'a str,
    }

    #[derive(Copy)]
    CursorRequest<'a> {
        topic_name: &'a str,
        partition_index: i32,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
        /// Where the next page begins; null after the last one.
        next_cursor: Option<CursorResponse<'a>>,
    }

    TopicResponse<'a> {
        error_code: ErrorCode,
        name: Option<Cow<'a, str>>,
        topic_id: Uuid,
        is_internal: bool,
        partitions: Vec<PartitionResponse>,
        /// A bit for each operation.
        topic_authorized_operations: i32 = OPERATIONS_NOT_REQUESTED,
    }

    PartitionResponse {
        error_code: ErrorCode,
        index: i32,
        /// -1 if there is none.
        leader_id: i32,
        leader_epoch: i32 = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        /// Replicas that hold all that is committed though they are not in sync; null if not kept.
        eligible_leader_replicas: Option<Vec<i32>>,
        last_known_eligible_leader_replicas: Option<Vec<i32>>,
        offline_replicas: Vec<i32>,
    }

    CursorResponse<'a> {
        topic_name: Cow<'a, str>,
        partition_index: i32,
    }
}

/// The most partitions in one reply, whatever the client allows (`max.request.partition.size.limit`).
const PARTITIONS_PER_REPLY_MAX: usize = 2000;

/// What the reply takes at most, in bytes.
pub fn reply_bytes(_: &Context<'_>, request: &Request<'_>) -> usize {
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let entries = limit.clamp(1, PARTITIONS_PER_REPLY_MAX);
    entries * (size_of::<TopicResponse<'_>>() + size_of::<PartitionResponse>() + 256)
}

/// Describes topics in the order of their names, from the cursor on, as many partitions as allowed.
pub async fn handle(context: &Context<'_>, request: &Request<'_>) -> Response<'static> {
    let from = request.cursor.unwrap_or_default();
    let all = request.topics.is_empty();
    let is_among_asked = all || request.topics.iter().any(|one| one.name == from.topic_name);
    if from.partition_index < 0 || request.cursor.is_some() && !is_among_asked {
        return refuse(request, from);
    }
    let names = names_from(context.engine, request, from.topic_name);
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let mut left = limit.clamp(1, PARTITIONS_PER_REPLY_MAX) as u32;
    let mut response = Response::default();
    for name in names {
        let mut first = 0;
        if name == from.topic_name {
            first = from.partition_index as u32;
        }
        if left == 0 {
            response.next_cursor = cursor(name, first);
            break;
        }
        let Some(topic) = context.engine.topic(&name) else {
            // Where all were asked for, it was deleted meanwhile.
            if !all {
                response.topics.push(refused(unknown_topic(&name), &name));
                left -= 1;
            }
            continue;
        };
        let end = topic.partitions.min(first.saturating_add(left));
        left -= end.saturating_sub(first);
        let topic_response = describe(context.engine, &topic, first..end);
        response.topics.push(topic_response);
        if end < topic.partitions {
            response.next_cursor = cursor(name, end);
            break;
        }
    }
    response
}

/// The reply has a field for an error in its topics only.
fn refuse(request: &Request<'_>, from: CursorRequest<'_>) -> Response<'static> {
    let asked = request.topics.iter().map(|topic| topic.name);
    let mut names: BTreeSet<&str> = asked.collect();
    if names.is_empty() {
        names.insert(from.topic_name);
    }
    let refuse = |name| refused(ErrorCode::InvalidRequest, name);
    Response {
        topics: names.into_iter().map(refuse).collect(),
        ..Response::default()
    }
}

/// The topics that come at `from` or after it.
fn names_from(engine: &Engine, request: &Request<'_>, from: &str) -> BTreeSet<String> {
    if request.topics.is_empty() {
        return engine.with_catalog(|catalog| {
            let names = catalog.topics().map(|topic| &topic.name);
            // One more than a reply can hold, for its cursor.
            let names = names.filter(|name| name.as_str() >= from);
            names.take(PARTITIONS_PER_REPLY_MAX + 1).cloned().collect()
        });
    }
    let asked = request.topics.iter().map(|topic| topic.name);
    let names = asked.filter(|name| *name >= from);
    names.map(str::to_owned).collect()
}

fn cursor(topic_name: String, partition: u32) -> Option<CursorResponse<'static>> {
    Some(CursorResponse {
        topic_name: Cow::Owned(topic_name),
        partition_index: partition as i32,
    })
}

fn refused(error_code: ErrorCode, name: &str) -> TopicResponse<'static> {
    TopicResponse {
        error_code,
        name: Some(Cow::Owned(name.to_owned())),
        ..TopicResponse::default()
    }
}

fn describe(
    engine: &Engine,
    topic: &catalog::Topic,
    indexes: Range<u32>,
) -> TopicResponse<'static> {
    let node = engine.config.node_id;
    let partition = |index| PartitionResponse {
        index: index as i32,
        leader_id: node,
        leader_epoch: LEADER_EPOCH,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        // Empty rather than null, which the Java client cannot read.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_eligible_leader_replicas: Some(Vec::new()),
        ..PartitionResponse::default()
    };
    TopicResponse {
        error_code: ErrorCode::None,
        name: Some(Cow::Owned(topic.name.clone())),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: indexes.map(partition).collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}
