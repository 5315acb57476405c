//! ListPartitionReassignments (key 46): the reassignments under way (KIP-455).

use crate::kafka::topics::{TopicRequest, TopicResponse};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    ListPartitionReassignments 0..=0, flexible 0..;

    Request<'a> {
        timeout_ms: i32,
        /// Null: all.
        topics: Option<Vec<TopicRequest<'a, i32>>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        topics: Vec<TopicResponse<'a, PartitionResponse>>,
    }

    PartitionResponse {
        index: i32,
        replicas: Vec<i32>,
        adding_replicas: Vec<i32>,
        removing_replicas: Vec<i32>,
    }
}

/// Partitions do not move: there is nowhere to go.
pub async fn handle(_context: &Context<'_>, _request: &Request<'_>) -> Response<'static> {
    Response::default()
}
