//! Requests and responses of the APIs that look at transactions. As in [`super::requests`] and
//! [`super::responses`].

use kafka_protocol::messages::{self as theirs, ProducerId, TransactionalId};
use kafka_protocol::messages::{
    describe_transactions_response as dts, list_transactions_response as lts,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::error::ErrorCode;
use millstream::kafka::topics;
use millstream::kafka::txn::{describe_transactions, list_transactions};
use millstream::wire::Wire;

use super::{frame, future, open, reply, text, topic_name, versions};

pub fn list_transactions_request(version: i16) -> theirs::ListTransactionsRequest {
    let mut request = theirs::ListTransactionsRequest::default()
        .with_state_filters(vec![text("Ongoing"), text("Empty")])
        .with_producer_id_filters(vec![ProducerId(1 << 34)])
        .with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.duration_filter = 1 << 35;
    }
    if version >= 2 {
        request.transactional_id_pattern = Some(text("pay.*"));
    }
    request
}

#[test]
fn list_transactions_requests() {
    for version in versions(ApiKey::ListTransactions) {
        let theirs = list_transactions_request(version);
        let frame = frame(ApiKey::ListTransactions, version, &theirs);
        let mut r = open(&frame, ApiKey::ListTransactions, version);
        let expected = list_transactions::Request {
            state_filters: vec!["Ongoing", "Empty"],
            producer_id_filters: vec![1 << 34],
            duration_filter: if version >= 1 { 1 << 35 } else { -1 },
            transactional_id_pattern: (version >= 2).then_some("pay.*"),
        };
        let request = list_transactions::Request::decode(&mut r, version).unwrap();
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn list_transactions_responses() {
    let state = list_transactions::TransactionState {
        transactional_id: "payments".into(),
        producer_id: 1 << 34,
        transaction_state: "Ongoing".into(),
    };
    let ours = list_transactions::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::InvalidRequest,
        unknown_state_filters: vec!["Odd".into()],
        transaction_states: vec![state],
    };
    for version in versions(ApiKey::ListTransactions) {
        let state = lts::TransactionState::default()
            .with_transactional_id(TransactionalId(text("payments")))
            .with_producer_id(ProducerId(1 << 34))
            .with_transaction_state(text("Ongoing"));
        let expected = theirs::ListTransactionsResponse::default()
            .with_throttle_time_ms(32)
            .with_error_code(42)
            .with_unknown_state_filters(vec![text("Odd")])
            .with_transaction_states(vec![state]);
        let key = ApiKey::ListTransactions;
        let read: theirs::ListTransactionsResponse = reply(key, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

pub fn describe_transactions_request(_version: i16) -> theirs::DescribeTransactionsRequest {
    theirs::DescribeTransactionsRequest::default()
        .with_transactional_ids(vec![TransactionalId(text("payments"))])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn describe_transactions_requests() {
    for version in versions(ApiKey::DescribeTransactions) {
        let theirs = describe_transactions_request(version);
        let frame = frame(ApiKey::DescribeTransactions, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeTransactions, version);
        let expected = describe_transactions::Request {
            transactional_ids: vec!["payments"],
        };
        let request = describe_transactions::Request::decode(&mut r, version).unwrap();
        assert_eq!((request, r.remaining()), (expected, 0), "v{version}");
    }
}

#[test]
fn describe_transactions_responses() {
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![3, 4],
    };
    let state = describe_transactions::TransactionState {
        error_code: ErrorCode::TransactionalIdNotFound,
        transactional_id: "payments".into(),
        transaction_state: "Ongoing".into(),
        transaction_timeout_ms: 33,
        transaction_start_time_ms: 1 << 35,
        producer_id: 1 << 34,
        producer_epoch: 36,
        topics: vec![topic],
    };
    let ours = describe_transactions::Response {
        throttle_time_ms: 32,
        transaction_states: vec![state],
    };
    for version in versions(ApiKey::DescribeTransactions) {
        let topic = dts::TopicData::default()
            .with_topic(topic_name("orders"))
            .with_partitions(vec![3, 4]);
        let state = dts::TransactionState::default()
            .with_error_code(105)
            .with_transactional_id(TransactionalId(text("payments")))
            .with_transaction_state(text("Ongoing"))
            .with_transaction_timeout_ms(33)
            .with_transaction_start_time_ms(1 << 35)
            .with_producer_id(ProducerId(1 << 34))
            .with_producer_epoch(36)
            .with_topics(vec![topic]);
        let expected = theirs::DescribeTransactionsResponse::default()
            .with_throttle_time_ms(32)
            .with_transaction_states(vec![state]);
        let key = ApiKey::DescribeTransactions;
        let read: theirs::DescribeTransactionsResponse = reply(key, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}
