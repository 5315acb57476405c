//! DeleteRecords (key 21): move the start of partitions forward (KIP-107).

use crate::engine::offsets;
use crate::kafka::topics::{TopicRequest, TopicResponse, await_each};
use crate::kafka::{Context, ErrorCode, message};

message! {
    DeleteRecords 0..=2, flexible 2..;

    Request<'a> {
        topics: Vec<TopicRequest<'a, PartitionRequest>>,
        timeout_ms: i32,
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
        /// Records before it go; -1 stands for the high watermark.
        offset: i64,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a, PartitionResponse>>,
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
    let topics = await_each(&request.topics, async |topic, partition| {
        let deleted = delete(context, topic, partition).await;
        PartitionResponse {
            index: partition.index,
            low_watermark: deleted.unwrap_or(-1),
            error_code: deleted.err().unwrap_or_default(),
        }
    });
    Response {
        topics: topics.await,
        ..Response::default()
    }
}

async fn delete(
    context: &Context<'_>,
    topic: &str,
    request: &PartitionRequest,
) -> Result<i64, ErrorCode> {
    let key = context.key_of(topic, request.index)?;
    let topic = context.topic(topic)?;
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException);
    }
    // Records of a topic that is only compacted go when their key has a newer one, not before.
    if !topic.config.cleanup_policy.deletes() {
        return Err(ErrorCode::PolicyViolation);
    }
    Ok(offsets::delete_records(context.engine, key, request.offset).await?)
}
