//! OffsetDelete (key 47): forget how far a group has read in some partitions (KIP-496).
//!
//! Version 0 only, which is not flexible.

use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashMap;

message! {
    OffsetDelete 0..=0;

    Request<'a> {
        group_id: &'a str,
        topics: Vec<TopicRequest<'a>>,
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<PartitionRequest>,
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
    }

    Response<'a> {
        /// An error of the group, which answers for all its partitions.
        error_code: ErrorCode,
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        name: Cow<'a, str>,
        partitions: Vec<PartitionResponse>,
    }

    #[derive(Copy)]
    PartitionResponse {
        index: i32,
        error_code: ErrorCode,
    }
}

/// Deletes committed offsets of topics that the group is not subscribed to.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut keys = Vec::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            keys.extend(
                context
                    .engine
                    .key_of(topic.name, partition.index)
                    .map(|key| (topic.name.to_owned(), key)),
            );
        }
    }
    let deleted = context
        .groups
        .delete_offsets(request.group_id.to_owned(), keys)
        .await;
    let results: HashMap<_, _> = match deleted {
        Ok(results) => results.into_iter().collect(),
        Err(error) => {
            return Response {
                error_code: (&error).into(),
                throttle_time_ms: 0,
                topics: Vec::new(),
            };
        }
    };
    let topics = request.topics.iter().map(|topic| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| PartitionResponse {
                index: partition.index,
                error_code: match context
                    .engine
                    .key_of(topic.name, partition.index)
                    .and_then(|key| results.get(&key))
                {
                    None => ErrorCode::UnknownTopicOrPartition,
                    Some(result) => result
                        .as_ref()
                        .err()
                        .map(ErrorCode::from)
                        .unwrap_or_default(),
                },
            })
            .collect(),
    });
    Response {
        error_code: ErrorCode::None,
        throttle_time_ms: 0,
        topics: topics.collect(),
    }
}
