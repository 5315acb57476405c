//! ListTransactions (key 66): the transactions that the broker coordinates (KIP-664).
//!
//! Version 1 filters by duration (KIP-994), 2 by a pattern of transactional ids (KIP-1152).

use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;

message! {
    ListTransactions 0..=2, flexible 0..;

    Request<'a> {
        /// Empty: all states.
        state_filters: Vec<&'a str>,
        /// Empty: all producers.
        producer_id_filters: Vec<i64>,
        /// Milliseconds that a transaction runs at least; negative: any.
        duration_filter: i64 [1..] = -1,
        /// A regular expression; null or empty: all.
        transactional_id_pattern: Option<&'a str> [2..],
    }

    Response<'a> {
        throttle_time_ms: i32,
        error_code: ErrorCode,
        /// Filters that name no state.
        unknown_state_filters: Vec<Cow<'a, str>>,
        transaction_states: Vec<TransactionState<'a>>,
    }

    TransactionState<'a> {
        transactional_id: Cow<'a, str>,
        producer_id: i64,
        transaction_state: Cow<'a, str>,
    }
}

/// The states of a transaction, as Kafka spells them.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

/// There are no transactions.
pub async fn handle<'a>(_context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let filters = request.state_filters.iter();
    let unknown = filters.filter(|state| !STATES.contains(state));
    Response {
        unknown_state_filters: unknown.map(|state| Cow::Borrowed(*state)).collect(),
        ..Response::default()
    }
}
