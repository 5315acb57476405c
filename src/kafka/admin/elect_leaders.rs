//! ElectLeaders (key 43): have partitions led by their preferred replica, or by any that lives.
//!
//! Versions: 1 adds the election type and an error for the whole (KIP-460), 2 is flexible.

use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    ElectLeaders 0..=2, flexible 2..;

    Request<'a> {
        /// 0 the preferred replica, 1 any live one, even if records are lost.
        election_type: i8 [1..],
        /// Null: all.
        topics: Option<Vec<TopicRequest<'a>>>,
        timeout_ms: i32,
    }

    TopicRequest<'a> {
        name: &'a str,
        partitions: Vec<i32>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode [1..],
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

const ELECTION_PREFERRED: i8 = 0;
const ELECTION_UNCLEAN: i8 = 1;

/// Every partition has the one leader it can have. Where all were asked for, only those are told that
/// took part in an election: none.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    if !matches!(request.election_type, ELECTION_PREFERRED | ELECTION_UNCLEAN) {
        return Response {
            error_code: ErrorCode::InvalidRequest,
            ..Response::default()
        };
    }
    let partition = |topic: &str, index: i32| PartitionResponse {
        index,
        error_code: match context.engine.key_of(topic, index) {
            Some(_) => ErrorCode::ElectionNotNeeded,
            None => ErrorCode::UnknownTopicOrPartition,
        },
        error_message: None,
    };
    let topic = |topic: &TopicRequest<'a>| TopicResponse {
        name: Cow::Borrowed(topic.name),
        partitions: topic
            .partitions
            .iter()
            .map(|index| partition(topic.name, *index))
            .collect(),
    };
    Response {
        topics: request.topics.iter().flatten().map(topic).collect(),
        ..Response::default()
    }
}
