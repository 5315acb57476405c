//! CreatePartitions (key 37): grow topics (KIP-195).

use crate::engine::catalog::changes;
use crate::io::reactor::Slice;
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    CreatePartitions 0..=3, flexible 2..;

    Request<'a> {
        topics: Vec<TopicRequest<'a>>,
        timeout_ms: i32,
        /// Check only, create nothing.
        validate_only: bool,
    }

    TopicRequest<'a> {
        name: &'a str,
        /// How many partitions the topic is to have in all.
        count: i32,
        /// One for each new partition; null leaves it to the broker.
        assignments: Option<Vec<Assignment>>,
    }

    Assignment {
        broker_ids: Vec<i32>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        name: Cow<'a, str>,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
    }
}

/// Gives topics more partitions.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::with_capacity(request.topics.len());
    let mut slice = Slice::new();
    for topic in &request.topics {
        slice.rest().await;
        let grown = grow(context, topic, request.validate_only).await;
        let (error_code, error_message) = ApiError::fields(grown);
        topics.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            error_code,
            error_message,
        });
    }
    Response {
        topics,
        ..Response::default()
    }
}

async fn grow(
    context: &Context<'_>,
    request: &TopicRequest<'_>,
    only_check: bool,
) -> Result<(), ApiError> {
    let topic = context.topic(request.name);
    let topic = topic.map_err(|code| ApiError::new(code, "there is no such topic"))?;
    let count = u32::try_from(request.count).map_err(|_| {
        let message = format!("a topic cannot have {} partitions", request.count);
        ApiError::new(ErrorCode::InvalidPartitions, message)
    })?;
    if let Some(assignments) = &request.assignments {
        let node_id = context.engine.config.node_id;
        let here = |assignment: &Assignment| assignment.broker_ids == [node_id];
        let new = count.saturating_sub(topic.partitions) as usize;
        if assignments.len() != new || !assignments.iter().all(here) {
            let message =
                format!("each of the {new} new partitions must be on broker {node_id} alone");
            return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    Ok(changes::set_partitions(context.engine, topic.id, count, only_check).await?)
}
