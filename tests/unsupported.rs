//! What there is not says so, with an error that ends the attempt instead of prolonging it.

use crate::support::batch::Batch;
use crate::support::wire::*;
use crate::support::{HANG, broker};
use kafka_protocol::messages::*;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, Producer};

const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const INVALID_TXN_STATE: i16 = 48;
const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: i16 = 53;
const TRANSACTIONAL: i16 = 1 << 4;

#[test]
fn every_way_into_a_transaction_is_refused_in_every_version() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    for version in 0..=5 {
        let id = TransactionalId(text("x"));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(id))
            .with_transaction_timeout_ms(60_000);
        let response = wire.call(&request, version);
        assert_eq!(response.error_code, UNSUPPORTED_VERSION);
        assert_eq!(response.producer_id.0, -1);
    }
    for version in 1..=6 {
        let request = FindCoordinatorRequest::default().with_key_type(1);
        let (error, message) = match version {
            ..4 => {
                let response = wire.call(&request.with_key(text("x")), version);
                (response.error_code, response.error_message)
            }
            _ => {
                let request = request.with_coordinator_keys(vec![text("x")]);
                let response = wire.call(&request, version).coordinators.remove(0);
                (response.error_code, response.error_message)
            }
        };
        let expected = match version {
            ..3 => TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
            _ => INVALID_REQUEST,
        };
        assert_eq!(error, expected, "version {version}");
        assert!(message.unwrap().contains("transactions"));
    }
    let plain = Batch::of(["x"]).by(1, 0, 0);
    let mut transactional = plain.clone();
    transactional.attributes = TRANSACTIONAL;
    let refused = wire.produce("t", 0, transactional.encode());
    assert_eq!(refused.error_code, INVALID_TXN_STATE);
    let named =
        produce("t", 0, -1, plain.encode()).with_transactional_id(Some(TransactionalId(text("x"))));
    let refused = partition_of(wire.call(&named, PRODUCE));
    assert_eq!(refused.error_code, INVALID_TXN_STATE);
    assert_eq!(wire.offset("t", 0, -1), 0);
}

#[test]
fn a_transactional_producer_of_librdkafka_is_told_at_once_and_why() {
    let (_dir, broker, _wire) = broker();
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("transactional.id", "x")
        .create()
        .unwrap();
    let Err(KafkaError::Transaction(error)) = producer.init_transactions(HANG) else {
        panic!("there are no transactions");
    };
    assert_eq!(
        error.code(),
        RDKafkaErrorCode::TransactionalIdAuthorizationFailed,
        "{error}"
    );
    assert!(
        error.is_fatal() && error.string().contains("no transactions"),
        "{error}"
    );
}
