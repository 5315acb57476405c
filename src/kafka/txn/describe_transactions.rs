//! DescribeTransactions (key 65): the state of transactional ids (KIP-664).

use crate::kafka::topics::TopicResponse;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    DescribeTransactions 0..=0, flexible 0..;

    Request<'a> {
        transactional_ids: Vec<&'a str>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        transaction_states: Vec<TransactionState<'a>>,
    }

    TransactionState<'a> {
        error_code: ErrorCode,
        transactional_id: Cow<'a, str>,
        transaction_state: Cow<'a, str>,
        transaction_timeout_ms: i32,
        /// Milliseconds since the epoch.
        transaction_start_time_ms: i64,
        producer_id: i64,
        producer_epoch: i16,
        /// Topics and their partitions that take part.
        topics: Vec<TopicResponse<'a, i32>>,
    }
}

/// There are no transactions, so no id is known.
pub async fn handle<'a>(_context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let unknown = |id: &&'a str| TransactionState {
        error_code: ErrorCode::TransactionalIdNotFound,
        transactional_id: Cow::Borrowed(*id),
        ..TransactionState::default()
    };
    Response {
        transaction_states: request.transactional_ids.iter().map(unknown).collect(),
        ..Response::default()
    }
}
