//! ListOffsets (key 2): which offset a point in time, or a special timestamp, stands for.
//!
//! Versions 7, 8 and 9 only allow more special timestamps: -3 the highest timestamp (KIP-734), -4 and
//! -5 for tiered storage (KIP-405, KIP-1005).

use crate::engine::fetch::{LEADER_EPOCH, check_leader_epoch};
use crate::engine::offsets::{self, FoundOffset, OffsetSpec};
use crate::kafka::topics::{TopicRequest, TopicResponse, await_each};
use crate::kafka::{Context, ErrorCode, message};
use std::collections::HashSet;

message! {
    ListOffsets 1..=10, flexible 6..;

    Request<'a> {
        /// -1 for a consumer.
        replica_id: i32 = -1,
        /// 0 read uncommitted, 1 read committed.
        isolation_level: i8 [2..],
        topics: Vec<TopicRequest<'a, PartitionRequest>>,
        /// How long a look into remote storage may take.
        timeout_ms: i32 [10..],
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
        /// -1 skips the check.
        current_leader_epoch: i32 [4..] = -1,
        /// Milliseconds since the epoch, or a special value below 0.
        timestamp: i64,
    }

    Response<'a> {
        throttle_time_ms: i32 [2..],
        topics: Vec<TopicResponse<'a, PartitionResponse>>,
    }

    #[derive(Copy)]
    PartitionResponse {
        index: i32,
        error_code: ErrorCode,
        /// Timestamp of the record found, in milliseconds since the epoch; -1 if none, or if the
        /// request asked for an end of the log.
        timestamp: i64 = -1,
        /// -1 if nothing was found.
        offset: i64 = -1,
        /// Leader epoch of the record found; -1 if unknown.
        leader_epoch: i32 [4..] = -1,
    }
}

/// What the negative timestamps stand for, and the version that brought each.
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const FIRST_VERSION_WITH_MAX_TIMESTAMP: i16 = 7;
const FIRST_VERSION_WITH_EARLIEST_LOCAL: i16 = 8;
const FIRST_VERSION_WITH_LATEST_TIERED: i16 = 9;

/// Finds offsets by time, or the ends of the log.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let named = request.topics.iter().map(|topic| topic.partitions.len());
    let mut asked = HashSet::with_capacity(named.sum());
    let topics = await_each(&request.topics, async |topic, partition| {
        let found = if asked.insert((topic, partition.index)) {
            find(context, topic, partition).await
        } else {
            Err(ErrorCode::InvalidRequest)
        };
        let error_code = found.err().unwrap_or_default();
        let found = found.unwrap_or(FoundOffset::NONE);
        PartitionResponse {
            index: partition.index,
            error_code,
            timestamp: found.timestamp,
            offset: found.offset,
            leader_epoch: if found.offset < 0 { -1 } else { LEADER_EPOCH },
        }
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
) -> Result<FoundOffset, ErrorCode> {
    let key = context.key_of(topic, request.index)?;
    check_leader_epoch(request.current_leader_epoch)?;
    match spec_of(request.timestamp, context.version)? {
        Some(spec) => Ok(offsets::find(context.engine, key, spec).await?),
        None => Ok(FoundOffset::NONE),
    }
}

/// `None` where there can be no such offset: nothing is tiered here.
fn spec_of(timestamp: i64, version: i16) -> Result<Option<OffsetSpec>, ErrorCode> {
    let spec = match timestamp {
        LATEST => OffsetSpec::Latest,
        EARLIEST => OffsetSpec::Earliest,
        MAX_TIMESTAMP if version >= FIRST_VERSION_WITH_MAX_TIMESTAMP => OffsetSpec::MaxTimestamp,
        EARLIEST_LOCAL if version >= FIRST_VERSION_WITH_EARLIEST_LOCAL => OffsetSpec::Earliest,
        LATEST_TIERED if version >= FIRST_VERSION_WITH_LATEST_TIERED => return Ok(None),
        ..0 => return Err(ErrorCode::UnsupportedVersion),
        _ => OffsetSpec::AtTime(timestamp),
    };
    Ok(Some(spec))
}
