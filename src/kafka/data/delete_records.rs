//! DeleteRecords (key 21): move the start of partitions forward (KIP-107).
//!
//! Versions: 2 is flexible. Nothing else changes.

use crate::engine::Engine;
use crate::engine::offsets;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::rc::Rc;

message! {
    DeleteRecords 0..=2, flexible 2..;

    Request<'a> {
        topics: Vec<TopicRequest<'a>>,
        timeout_ms: i32,
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<PartitionRequest>,
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
        /// Records before it go; -1 stands for the high watermark.
        offset: i64,
    }

    Response<'a> {
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
        /// The partition's new start; -1 on error.
        low_watermark: i64,
        error_code: ErrorCode,
    }
}

/// Moves log start offsets up; the answer comes when that survives a crash.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let deleted = delete(context.engine, topic.name, partition).await;
            partitions.push(PartitionResponse {
                index: partition.index,
                low_watermark: *deleted.as_ref().unwrap_or(&-1),
                error_code: deleted.err().unwrap_or_default(),
            });
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

async fn delete(
    engine: &Rc<Engine>,
    topic: &str,
    request: &PartitionRequest,
) -> Result<i64, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let topic = engine.topic(topic).ok_or(unknown)?;
    let key = topic.key_of(request.index).ok_or(unknown)?;
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException);
    }
    // Records of a topic that is only compacted go when their key has a newer one, not before.
    if !topic.config.cleanup_policy.deletes() {
        return Err(ErrorCode::PolicyViolation);
    }
    let deleted = offsets::delete_records(engine, key, request.offset).await;
    deleted.map_err(|error| ErrorCode::from(&error))
}
