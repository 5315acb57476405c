//! OffsetForLeaderEpoch (key 23): where a leader epoch ends, for clients that check whether records
//! they have read were taken back (KIP-320).
//!
//! Versions: 3 adds the replica id, 4 is flexible.

use crate::engine::Engine;
use crate::engine::fetch::{LEADER_EPOCH, check_leader_epoch};
use crate::engine::offsets::{self, OffsetSpec};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::rc::Rc;

message! {
    OffsetForLeaderEpoch 2..=4, flexible 4..;

    Request<'a> {
        /// -1 for a consumer, -2 if unknown.
        replica_id: i32 [3..] = -2,
        topics: Vec<TopicRequest<'a>>,
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<PartitionRequest>,
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
        /// -1 skips the check.
        current_leader_epoch: i32 = -1,
        /// The epoch whose end is asked for.
        leader_epoch: i32,
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
        error_code: ErrorCode,
        index: i32,
        /// The largest epoch known that is not above the one asked for; -1 if there is none.
        leader_epoch: i32 = -1,
        /// The offset after the last one of that epoch; -1 if unknown.
        end_offset: i64 = -1,
    }
}

/// There is one epoch, and it has not ended: its end is the high watermark.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let found = find(context.engine, topic.name, partition).await;
            partitions.push(found.unwrap_or_else(|error_code| PartitionResponse {
                error_code,
                index: partition.index,
                ..PartitionResponse::default()
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
) -> Result<PartitionResponse, ErrorCode> {
    let key = engine.key_of(topic, request.index);
    let key = key.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    check_leader_epoch(request.current_leader_epoch).map_err(|error| ErrorCode::from(&error))?;
    let mut response = PartitionResponse {
        index: request.index,
        ..PartitionResponse::default()
    };
    // Of an epoch that never was, Kafka too says -1 and no error.
    if request.leader_epoch == LEADER_EPOCH {
        let end = offsets::find(engine, key, OffsetSpec::Latest).await;
        response.end_offset = end.map_err(|error| ErrorCode::from(&error))?.offset;
        response.leader_epoch = LEADER_EPOCH;
    }
    Ok(response)
}
