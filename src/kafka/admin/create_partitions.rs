//! CreatePartitions (key 37): grow topics (KIP-195).
//!
//! Versions: 2 is flexible. Nothing else changes on the wire; 3 allows throttling by quota
//! (KIP-599).

use crate::engine::Engine;
use crate::engine::catalog::changes;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::rc::Rc;

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
    for topic in &request.topics {
        let grown = grow(context.engine, topic, request.validate_only).await;
        let (error_code, message) = grown.err().unzip();
        topics.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            error_code: error_code.unwrap_or_default(),
            error_message: message.map(Cow::Owned),
        });
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

async fn grow(
    engine: &Rc<Engine>,
    request: &TopicRequest<'_>,
    only_check: bool,
) -> Result<(), (ErrorCode, String)> {
    let unknown = (
        ErrorCode::UnknownTopicOrPartition,
        "there is no such topic".to_owned(),
    );
    let topic = engine.topic(request.name).ok_or(unknown)?;
    let bad_count = (
        ErrorCode::InvalidPartitions,
        format!("a topic cannot have {} partitions", request.count),
    );
    let count = u32::try_from(request.count).map_err(|_| bad_count)?;
    if let Some(assignments) = &request.assignments {
        let here = |assignment: &Assignment| assignment.broker_ids == [engine.config.node_id];
        let new = count.saturating_sub(topic.partitions) as usize;
        if assignments.len() != new || !assignments.iter().all(here) {
            let message = format!(
                "each of the {new} new partitions must be on broker {} alone",
                engine.config.node_id
            );
            return Err((ErrorCode::InvalidReplicaAssignment, message));
        }
    }
    let grown = changes::set_partitions(engine, topic.id, count, only_check).await;
    grown.map_err(|error| ((&error).into(), error.to_string()))
}
