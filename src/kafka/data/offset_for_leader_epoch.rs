//! OffsetForLeaderEpoch (key 23): where a leader epoch ends, for clients that check whether records
//! they have read were taken back (KIP-320).

use crate::engine::fetch::{LEADER_EPOCH, check_leader_epoch};
use crate::engine::offsets::{self, OffsetSpec};
use crate::kafka::topics::{TopicRequest, TopicResponse, await_each};
use crate::kafka::{Context, ErrorCode, message};

message! {
    OffsetForLeaderEpoch 2..=4, flexible 4..;

    Request<'a> {
        /// -1 for a consumer, -2 if unknown.
        replica_id: i32 [3..] = -2,
        topics: Vec<TopicRequest<'a, PartitionRequest>>,
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
        topics: Vec<TopicResponse<'a, PartitionResponse>>,
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
    let topics = await_each(&request.topics, async |topic, partition| {
        let found = find(context, topic, partition).await;
        found.unwrap_or_else(|error_code| PartitionResponse {
            error_code,
            index: partition.index,
            ..PartitionResponse::default()
        })
    });
    Response {
        topics: topics.await,
        ..Response::default()
    }
}

async fn find(
    context: &Context<'_>,
    topic: &str,
    request: &PartitionRequest,
) -> Result<PartitionResponse, ErrorCode> {
    let key = context.key_of(topic, request.index)?;
    check_leader_epoch(request.current_leader_epoch)?;
    let mut response = PartitionResponse {
        index: request.index,
        ..PartitionResponse::default()
    };
    // For an epoch that never existed, Kafka also answers -1 and no error.
    if request.leader_epoch == LEADER_EPOCH {
        let end = offsets::find(context.engine, key, OffsetSpec::Latest).await?;
        response.end_offset = end.offset;
        response.leader_epoch = LEADER_EPOCH;
    }
    Ok(response)
}
