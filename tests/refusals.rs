//! What is refused leaves a line in the broker's log that says what, to whom, and why.

use crate::support::Broker;
use crate::support::wire::*;
use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::incremental_alter_configs_request as incremental;
use kafka_protocol::messages::*;

/// As [`Wire`] gives it.
const CLIENT: &str = "client_id=\"test\"";
const ADDRESS: &str = "address=127.0.0.1:";
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// The lines that a broker wrote with these words in them, after `ask` was answered and the broker stopped.
fn lines(words: &str, ask: impl FnOnce(&mut Wire)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    // Outgoing connections to any loopback address may start from 127.0.0.1.
    let broker = Broker::at("127.0.0.1:0".parse().unwrap(), dir.path(), &[]);
    ask(&mut Wire::connect(broker.kafka));
    broker.signal("TERM");
    let (_, log) = broker.wait();
    let lines = log.lines().filter(|line| line.contains(words));
    lines.map(str::to_owned).collect()
}

fn assert_one_warning(lines: &[String], parts: &[&str]) {
    let [line] = lines else {
        panic!("{lines:#?}");
    };
    for part in [" WARN "].iter().chain(parts) {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
}

#[test]
fn a_refused_topic_leaves_one_line_and_one_that_exists_leaves_none() {
    let found = lines("refused to create a topic", |wire| {
        wire.create_topic("there", 1);
        let again = create_topic("there", 1, &[]);
        assert_eq!(wire.call(&again, 7).topics[0].error_code, 36);
        let mut request = create_topic("thrice", 1, &[]);
        request.topics[0].replication_factor = 3;
        assert_eq!(wire.call(&request, 7).topics[0].error_code, 38);
    });
    let why = "replication factor 3 with 1 broker (INVALID_REPLICATION_FACTOR)";
    assert_one_warning(&found, &["topic=\"thrice\"", CLIENT, ADDRESS, why]);
}

#[test]
fn refused_configs_leave_a_line() {
    let odd = |wire: &mut Wire| {
        wire.create_topic("t", 1);
        let config = incremental::AlterableConfig::default()
            .with_name(text("retention.ms"))
            .with_value(Some(text("soon")));
        let resource = incremental::AlterConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text("t"))
            .with_configs(vec![config]);
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        assert_eq!(wire.call(&request, 1).responses[0].error_code, 40);
    };
    let found = lines("refused to change configs", odd);
    let why = "(INVALID_CONFIG)";
    assert_one_warning(
        &found,
        &["topic=\"t\"", CLIENT, ADDRESS, why, "retention.ms"],
    );
    let another_broker = |wire: &mut Wire| {
        let resource = alter::AlterConfigsResource::default()
            .with_resource_type(BROKER)
            .with_resource_name(text("77"));
        let request = AlterConfigsRequest::default().with_resources(vec![resource]);
        assert_ne!(wire.call(&request, 2).responses[0].error_code, 0);
    };
    let found = lines("refused to change configs", another_broker);
    assert_one_warning(&found, &["resource=\"77 of type 4\"", CLIENT, ADDRESS]);
}

#[test]
fn a_refused_transactional_producer_leaves_a_line() {
    let words = "refused a transactional producer";
    let parts = ["transactional_id=\"payments\"", CLIENT, ADDRESS];
    let found = lines(words, |wire| {
        let request = FindCoordinatorRequest::default()
            .with_key_type(1)
            .with_coordinator_keys(vec![text("payments")]);
        wire.call(&request, 6);
    });
    assert_one_warning(&found, &parts);
    let found = lines(words, |wire| {
        let id = TransactionalId(text("payments"));
        wire.call(
            &InitProducerIdRequest::default().with_transactional_id(Some(id)),
            5,
        );
    });
    assert_one_warning(&found, &parts);
}

#[test]
fn an_unknown_api_is_named() {
    let found = lines("closed a connection", |wire| {
        wire.send_unanswered(&AddPartitionsToTxnRequest::default(), 3);
        assert!(wire.is_closed_by_broker());
    });
    let parts = [
        "API key 24 (AddPartitionsToTxn) is not served",
        "client id \"test\"",
        "peer=127.0.0.1:",
    ];
    assert_one_warning(&found, &parts);
}
