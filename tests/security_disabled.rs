//! What a Kafka without security answers to administrators who ask for security, and for transactions.

use crate::support::broker;
use crate::support::wire::*;
use kafka_protocol::messages::create_acls_request::AclCreation;
use kafka_protocol::messages::delete_acls_request::DeleteAclsFilter;
use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::*;

const ILLEGAL_SASL_STATE: i16 = 34;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REQUEST: i16 = 42;
const SECURITY_DISABLED: i16 = 54;
const RESOURCE_NOT_FOUND: i16 = 91;
const DUPLICATE_RESOURCE: i16 = 92;
const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;

#[test]
fn acls_are_security_disabled() {
    let (_dir, _broker, mut wire) = broker();
    for version in 1..=3 {
        let described = wire.call(&DescribeAclsRequest::default(), version);
        assert_eq!(described.error_code, SECURITY_DISABLED);
        assert!(described.error_message.unwrap().contains("authorizer"));
        assert_eq!(described.resources, []);
        let creations = vec![AclCreation::default(), AclCreation::default()];
        let request = CreateAclsRequest::default().with_creations(creations);
        let created = wire.call(&request, version).results;
        let codes: Vec<i16> = created.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [SECURITY_DISABLED; 2]);
        let filters = vec![DeleteAclsFilter::default(), DeleteAclsFilter::default()];
        let request = DeleteAclsRequest::default().with_filters(filters);
        let deleted = wire.call(&request, version).filter_results;
        let codes: Vec<i16> = deleted.iter().map(|result| result.error_code).collect();
        assert_eq!(codes, [SECURITY_DISABLED; 2]);
    }
}

#[test]
fn there_are_no_quotas_and_filters_are_checked_as_kafka_checks_them() {
    const NAMED: i8 = 0;
    const DEFAULT: i8 = 1;
    const ANY: i8 = 2;
    let (_dir, _broker, mut wire) = broker();
    let mut ask = |components: &[(&'static str, i8, Option<&'static str>)]| {
        let component = |(kind, matches, name): &(&'static str, i8, Option<&'static str>)| {
            ComponentData::default()
                .with_entity_type(text(kind))
                .with_match_type(*matches)
                .with_match(name.map(text))
        };
        let components = components.iter().map(component).collect();
        let request = DescribeClientQuotasRequest::default().with_components(components);
        let of_version = |wire: &mut Wire, version| {
            let response = wire.call(&request, version);
            (response.error_code, response.entries)
        };
        let answers = [of_version(&mut wire, 0), of_version(&mut wire, 1)];
        assert_eq!(answers[0], answers[1]);
        answers[0].clone()
    };
    let none = (0, Some(Vec::new()));
    assert_eq!(ask(&[]), none);
    assert_eq!(
        ask(&[("user", ANY, None), ("client-id", DEFAULT, None)]),
        none
    );
    assert_eq!(ask(&[("ip", NAMED, Some("127.0.0.1"))]), none);
    let invalid = (INVALID_REQUEST, None);
    assert_eq!(ask(&[("", ANY, None)]), invalid);
    assert_eq!(ask(&[("user", NAMED, None)]), invalid);
    assert_eq!(ask(&[("user", ANY, Some("me"))]), invalid);
    assert_eq!(ask(&[("user", 3, None)]), invalid);
    assert_eq!(ask(&[("user", ANY, None), ("user", ANY, None)]), invalid);
    assert_eq!(ask(&[("user", ANY, None), ("ip", ANY, None)]), invalid);
    assert_eq!(ask(&[("group", ANY, None)]), (UNSUPPORTED_VERSION, None));
}

#[test]
fn no_user_has_scram_credentials() {
    let (_dir, _broker, mut wire) = broker();
    for everybody in [None, Some(Vec::new())] {
        let request = DescribeUserScramCredentialsRequest::default().with_users(everybody);
        let response = wire.call(&request, 0);
        assert_eq!((response.error_code, response.results), (0, Vec::new()));
    }
    let users = ["me", "you", "me"].map(|name| UserName::default().with_name(text(name)));
    let request = DescribeUserScramCredentialsRequest::default().with_users(Some(users.into()));
    let results = wire.call(&request, 0).results;
    let mut answers: Vec<(&str, i16)> = results
        .iter()
        .map(|result| (result.user.as_str(), result.error_code))
        .collect();
    answers.sort();
    let expected = [("me", DUPLICATE_RESOURCE), ("you", RESOURCE_NOT_FOUND)];
    assert_eq!(answers, expected);
}

#[test]
fn sasl_on_a_listener_without_it_is_refused_and_the_connection_stays() {
    let (_dir, _broker, mut wire) = broker();
    for version in 0..=1 {
        let request = SaslHandshakeRequest::default().with_mechanism(text("PLAIN"));
        let response = wire.call(&request, version);
        assert_eq!(response.error_code, ILLEGAL_SASL_STATE);
        assert!(response.mechanisms.is_empty());
    }
    for version in 0..=2 {
        let response = wire.call(&SaslAuthenticateRequest::default(), version);
        assert_eq!(response.error_code, ILLEGAL_SASL_STATE);
    }
    wire.create_topic("t", 1);
}

#[test]
fn there_are_no_transactions_to_list_or_describe() {
    let (_dir, _broker, mut wire) = broker();
    for version in 0..=2 {
        let states = ["Ongoing", "PrepareEpochFence", "Odd"].map(text);
        let request = ListTransactionsRequest::default().with_state_filters(states.into());
        let response = wire.call(&request, version);
        assert_eq!(response.error_code, 0);
        assert_eq!(response.transaction_states, []);
        assert_eq!(response.unknown_state_filters, [text("Odd")]);
    }
    let ids = ["a", "b"].map(|id| TransactionalId(text(id)));
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids.into());
    let states = wire.call(&request, 0).transaction_states;
    let answers: Vec<(&str, i16)> = states
        .iter()
        .map(|state| (state.transactional_id.as_str(), state.error_code))
        .collect();
    let expected = ["a", "b"].map(|id| (id, TRANSACTIONAL_ID_NOT_FOUND));
    assert_eq!(answers, expected);
}
