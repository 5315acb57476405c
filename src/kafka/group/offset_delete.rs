//! OffsetDelete (key 47): forget how far a group has read in some partitions (KIP-496).

use crate::engine::PartitionKey;
use crate::io::reactor::Slice;
use crate::kafka::topics::{PartitionCode, TopicRequest, TopicResponse, for_each};
use crate::kafka::{Context, ErrorCode, message};
use std::collections::{BTreeMap, BTreeSet};

message! {
    OffsetDelete 0..=0;

    Request<'a> {
        group_id: &'a str,
        topics: Vec<TopicRequest<'a, i32>>,
    }

    Response<'a> {
        /// An error of the group, which answers for all its partitions.
        error_code: ErrorCode,
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a, PartitionCode>>,
    }
}

/// Deletes committed offsets of topics that the group is not subscribed to. A partition that is named twice is
/// deleted once.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut keys: BTreeMap<String, BTreeSet<PartitionKey>> = BTreeMap::new();
    let mut slice = Slice::new();
    for topic in &request.topics {
        let mut known = BTreeSet::new();
        for index in &topic.partitions {
            known.extend(context.engine.key_of(topic.name, *index));
            slice.rest().await;
        }
        if !known.is_empty() {
            keys.entry(topic.name.to_owned())
                .or_default()
                .append(&mut known);
        }
    }
    let group_id = request.group_id.to_owned();
    let results = match context.groups.delete_offsets(group_id, keys).await {
        Ok(results) => results,
        Err(error) => {
            return Response {
                error_code: error.into(),
                ..Response::default()
            };
        }
    };
    let topics = for_each(&request.topics, |topic, index| {
        let known = context.engine.key_of(topic, *index);
        let result = known.and_then(|_| results.get(topic));
        PartitionCode {
            index: *index,
            error_code: result.map_or(ErrorCode::UnknownTopicOrPartition, ErrorCode::of),
        }
    })
    .await;
    Response {
        topics,
        ..Response::default()
    }
}
