//! AlterPartitionReassignments (key 45): move partitions to other brokers, or stop that (KIP-455).
//!
//! Version 1 can forbid that the number of replicas changes (KIP-860).

use crate::kafka::topics::{PartitionError, TopicRequest, TopicResponse, for_each};
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    AlterPartitionReassignments 0..=1, flexible 0..;

    Request<'a> {
        timeout_ms: i32,
        /// Whether a partition may have another number of replicas afterwards.
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<TopicRequest<'a, PartitionRequest>>,
    }

    PartitionRequest {
        index: i32,
        /// The brokers to hold it from now on; null stops a reassignment.
        replicas: Option<Vec<i32>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        /// As the request said.
        allow_replication_factor_change: bool [1..] = true,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        topics: Vec<TopicResponse<'a, PartitionError<'a>>>,
    }
}

/// A partition may go where it is, which is done at once, and nowhere else.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let topics = for_each(&request.topics, |topic, partition| {
        PartitionError::of(partition.index, check(context, topic, partition))
    })
    .await;
    Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        topics,
        ..Response::default()
    }
}

fn check(context: &Context<'_>, topic: &str, partition: &PartitionRequest) -> Result<(), ApiError> {
    context.key_of(topic, partition.index)?;
    match partition.replicas.as_deref() {
        None => Err(ErrorCode::NoReassignmentInProgress.into()),
        Some([one]) if *one == context.engine.config.node_id => Ok(()),
        Some(_) => Err(ApiError::new(
            ErrorCode::InvalidReplicaAssignment,
            "there is one broker, and each partition has its one replica there",
        )),
    }
}
