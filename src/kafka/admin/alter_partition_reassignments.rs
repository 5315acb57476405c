//! AlterPartitionReassignments (key 45): move partitions to other brokers, or stop that (KIP-455).
//!
//! Versions: 1 can forbid that the number of replicas changes (KIP-860).

use crate::engine::Engine;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    AlterPartitionReassignments 0..=1, flexible 0..;

    Request<'a> {
        timeout_ms: i32,
        /// Whether a partition may have another number of replicas afterwards.
        allow_replication_factor_change: bool [1..] = true,
        topics: Vec<TopicRequest<'a>>,
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<PartitionRequest>,
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
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        name: Cow<'a, str>,
        partitions: Vec<PartitionResponse<'a>>,
    }

    PartitionResponse<'a> {
        index: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
    }
}

/// A partition may go where it is, which is done at once, and nowhere else.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let partition = |topic: &str, partition: &PartitionRequest| {
        let (error_code, message) = check(context.engine, topic, partition).err().unzip();
        PartitionResponse {
            index: partition.index,
            error_code: error_code.unwrap_or_default(),
            error_message: message.flatten().map(Cow::Borrowed),
        }
    };
    let topic = |topic: &TopicRequest<'a>| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|one| partition(topic.name, one))
            .collect(),
    };
    Response {
        allow_replication_factor_change: request.allow_replication_factor_change,
        topics: request.topics.iter().map(topic).collect(),
        ..Response::default()
    }
}

fn check(
    engine: &Engine,
    topic: &str,
    partition: &PartitionRequest,
) -> Result<(), (ErrorCode, Option<&'static str>)> {
    if engine.key_of(topic, partition.index).is_none() {
        return Err((ErrorCode::UnknownTopicOrPartition, None));
    }
    match partition.replicas.as_deref() {
        None => Err((ErrorCode::NoReassignmentInProgress, None)),
        Some([one]) if *one == engine.config.node_id => Ok(()),
        Some(_) => Err((
            ErrorCode::InvalidReplicaAssignment,
            Some("there is one broker, and each partition has its one replica there"),
        )),
    }
}
