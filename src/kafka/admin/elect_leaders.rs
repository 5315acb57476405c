//! ElectLeaders (key 43): have partitions led by their preferred replica, or by any that lives
//! (KIP-460).

use crate::kafka::topics::{PartitionError, TopicRequest, TopicResponse, for_each};
use crate::kafka::{Context, ErrorCode, message};

message! {
    ElectLeaders 0..=2, flexible 2..;

    Request<'a> {
        /// 0 the preferred replica, 1 any live one, even if records are lost.
        election_type: i8 [1..],
        /// Null: all.
        topics: Option<Vec<TopicRequest<'a, i32>>>,
        timeout_ms: i32,
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode [1..],
        topics: Vec<TopicResponse<'a, PartitionError<'a>>>,
    }
}

const ELECTION_PREFERRED: i8 = 0;
const ELECTION_UNCLEAN: i8 = 1;

/// Every partition has the one leader it can have. Where all were asked for, the reply lists only those
/// that took part in an election: none.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    if !matches!(request.election_type, ELECTION_PREFERRED | ELECTION_UNCLEAN) {
        return Response {
            error_code: ErrorCode::InvalidRequest,
            ..Response::default()
        };
    }
    let topics = request.topics.as_deref().unwrap_or_default();
    let topics = for_each(topics, |topic, index| {
        let known = context.key_of(topic, *index);
        let error = known.err().unwrap_or(ErrorCode::ElectionNotNeeded);
        PartitionError::of(*index, Err(error.into()))
    })
    .await;
    Response {
        topics,
        ..Response::default()
    }
}
