//! ListOffsets (key 2): which offset a point in time, or a special timestamp, stands for.
//!
//! Versions: 2 adds the isolation level and the throttle time (KIP-98), 4 the leader epoch
//! (KIP-320), 6 is flexible, 10 adds the timeout (KIP-1075). 7, 8 and 9 only allow more special
//! timestamps: -3 the highest timestamp (KIP-734), -4 and -5 for tiered storage (KIP-405,
//! KIP-1005).

use crate::engine::Engine;
use crate::engine::fetch::check_leader_epoch;
use crate::engine::offsets::{self, OffsetSpec};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

message! {
    ListOffsets 1..=10, flexible 6..;

    Request<'a> {
        /// -1 for a consumer.
        replica_id: i32 = -1,
        /// 0 read uncommitted, 1 read committed.
        isolation_level: i8 [2..],
        topics: Vec<TopicRequest<'a>>,
        /// How long a look into remote storage may take.
        timeout_ms: i32 [10..],
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<PartitionRequest>,
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
    let mut asked = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let again = !asked.insert((topic.name, partition.index));
            let found = match again {
                true => Err(ErrorCode::InvalidRequest),
                false => find(context.engine, topic.name, partition, context.version).await,
            };
            partitions.push(found.unwrap_or_else(|error_code| PartitionResponse {
                index: partition.index,
                error_code,
                timestamp: -1,
                offset: -1,
                leader_epoch: -1,
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
    version: i16,
) -> Result<PartitionResponse, ErrorCode> {
    let unknown = ErrorCode::UnknownTopicOrPartition;
    let key = engine.key_of(topic, request.index).ok_or(unknown)?;
    check_leader_epoch(request.current_leader_epoch).map_err(|error| ErrorCode::from(&error))?;
    let mut response = PartitionResponse {
        index: request.index,
        error_code: ErrorCode::None,
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    };
    if let Some(spec) = spec_of(request.timestamp, version)? {
        let found = offsets::find(engine, key, spec).await;
        let found = found.map_err(|error| ErrorCode::from(&error))?;
        response.timestamp = found.timestamp;
        response.offset = found.offset;
        response.leader_epoch = if found.offset < 0 { -1 } else { 0 };
    }
    Ok(response)
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
