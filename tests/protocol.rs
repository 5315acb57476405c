//! The protocol as a client sees it that sends its own frames.

use crate::support::batch::{Batch, seal, split};
use crate::support::wire::*;
use crate::support::{Broker, broker, broker_with, eventually};
use bytes::Bytes;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::Decodable;
use std::io::Write;
use uuid::Uuid;

/// A wait that no test would sit out: whoever waits less was woken by something else than the timer.
const VERY_LONG_MS: i32 = 3_600_000;

const OFFSET_OUT_OF_RANGE: i16 = 1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const INVALID_PARTITIONS: i16 = 37;
const INVALID_REPLICATION_FACTOR: i16 = 38;
const INVALID_CONFIG: i16 = 40;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;
const INVALID_PRODUCER_EPOCH: i16 = 47;
const UNKNOWN_TOPIC_ID: i16 = 100;

#[test]
fn api_versions_is_answered_in_every_version_and_told_apart_when_too_new() {
    let (_dir, _broker, mut wire) = broker();
    for version in 0..=4 {
        let request = ApiVersionsRequest::default()
            .with_client_software_name(text("test"))
            .with_client_software_version(text("1"));
        let response = wire.call(&request, version);
        let range_of = |key: i16| {
            let api = response.api_keys.iter().find(|api| api.api_key == key);
            api.map(|api| (api.min_version, api.max_version))
        };
        assert_eq!(response.error_code, 0);
        assert_eq!(range_of(0), Some((0, 13)), "Produce");
        assert_eq!(range_of(1), Some((4, 18)), "Fetch");
        assert_eq!(range_of(18), Some((0, 4)), "ApiVersions");
        assert_eq!(range_of(4), None, "LeaderAndIsr is between brokers");
    }
    // A client of the future: answered in version 0, with what it may ask in.
    let header = [0, 18, 0, 99, 0, 0, 0, 7, 0xff, 0xff, 0];
    wire.stream().write_all(&sized(&header)).unwrap();
    let mut reply = wire.receive_frame().unwrap();
    assert_eq!(reply.split_to(4)[..], [0, 0, 0, 7]);
    let response = ApiVersionsResponse::decode(&mut reply, 0).unwrap();
    assert_eq!(response.error_code, UNSUPPORTED_VERSION);
    let own = response.api_keys.iter().find(|api| api.api_key == 18);
    assert_eq!(own.map(|api| api.max_version), Some(4));
}

#[test]
fn metadata_tells_topics_by_name_by_id_all_or_none() {
    let (_dir, broker, mut wire) = broker();
    wire.create_topic("one", 3);
    wire.create_topic("two", 1);
    assert_eq!(wire.topics(), ["one", "two"]);

    let none = MetadataRequest::default().with_topics(Some(Vec::new()));
    let response = wire.call(&none, METADATA);
    assert_eq!(response.topics.len(), 0);
    let node = &response.brokers[0];
    assert_eq!(response.brokers.len(), 1);
    assert_eq!(response.controller_id, node.node_id);
    assert_eq!(
        format!("{}:{}", &*node.host, node.port),
        broker.bootstrap(),
        "clients are sent back to where they came from"
    );

    let one = wire.describe_topic("one");
    assert_eq!((one.error_code, one.partitions.len()), (0, 3));
    assert!(
        one.partitions
            .iter()
            .all(|partition| partition.leader_id == node.node_id)
    );
    // The name is null, as the protocol has it, or empty, as the Java client has it.
    for name in [None, Some(topic_name(""))] {
        let by_id = |id: Uuid| {
            let topic = MetadataRequestTopic::default()
                .with_topic_id(id)
                .with_name(name.clone());
            MetadataRequest::default().with_topics(Some(vec![topic]))
        };
        let found = wire.call(&by_id(one.topic_id), METADATA).topics.remove(0);
        assert_eq!(found.name, Some(topic_name("one")));
        assert_eq!(found.partitions.len(), 3);
        let unknown = Uuid::from_u128(5);
        let answer = wire.call(&by_id(unknown), METADATA).topics.remove(0);
        assert_eq!(
            (answer.error_code, answer.topic_id),
            (UNKNOWN_TOPIC_ID, unknown)
        );
    }

    // In version 0 an empty list asks for all.
    let response = wire.call(&none, 0);
    assert_eq!(response.topics.len(), 2);
}

#[test]
fn topics_are_created_by_asking_for_them_unless_that_is_turned_off() {
    let ask = |wire: &mut Wire, name: &str, allow: bool| {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(allow);
        let topic = wire.call(&request, METADATA).topics.remove(0);
        (topic.error_code, topic.partitions.len())
    };
    let (_dir, _broker, mut wire) = broker_with(&["--num-partitions", "3"]);
    let unknown = (UNKNOWN_TOPIC_OR_PARTITION, 0);
    assert_eq!(ask(&mut wire, "wanted", false), unknown);
    assert_eq!(ask(&mut wire, "wanted", true), (0, 3));
    assert_eq!(wire.append("wanted", 2, &Batch::of(["a"])), 0);
    assert_eq!(ask(&mut wire, "not/a/name", true), (INVALID_TOPIC, 0));

    let (_dir, _broker, mut wire) = broker_with(&["--auto-create-topics=false"]);
    assert_eq!(ask(&mut wire, "wanted", true), unknown);
    assert!(wire.topics().is_empty());
}

#[test]
fn create_topics_says_what_it_made_or_why_not() {
    let (_dir, _broker, mut wire) = broker_with(&["--num-partitions", "5"]);
    let made = wire.try_create_topic("made", 2, &[("retention.ms", "1234")]);
    assert_eq!((made.error_code, made.num_partitions), (0, 2));
    assert_eq!(made.replication_factor, 1);
    assert_eq!(made.topic_id, wire.describe_topic("made").topic_id);
    let configs = made.configs.unwrap();
    let retention = configs
        .iter()
        .find(|config| &*config.name == "retention.ms");
    assert_eq!(
        retention.and_then(|config| config.value.clone()),
        Some(text("1234"))
    );

    let mut code = |name: &str, partitions, configs: &[(&str, &str)]| {
        wire.try_create_topic(name, partitions, configs).error_code
    };
    assert_eq!(code("made", 1, &[]), TOPIC_ALREADY_EXISTS);
    assert_eq!(code("a", 0, &[]), INVALID_PARTITIONS);
    assert_eq!(code("a", -2, &[]), INVALID_PARTITIONS);
    assert_eq!(code("a/b", 1, &[]), INVALID_TOPIC);
    assert_eq!(code("", 1, &[]), INVALID_TOPIC);
    assert_eq!(code("..", 1, &[]), INVALID_TOPIC);
    assert_eq!(code(&"x".repeat(300), 1, &[]), INVALID_TOPIC);
    assert_eq!(code("a", 1, &[("retention.ms", "soon")]), INVALID_CONFIG);
    assert_eq!(code("a", 1, &[("no.such.config", "1")]), INVALID_CONFIG);
    assert_eq!(code("default", -1, &[]), 0);
    assert_eq!(wire.describe_topic("default").partitions.len(), 5);

    let replicated = CreatableTopic::default()
        .with_name(topic_name("a"))
        .with_num_partitions(1)
        .with_replication_factor(3);
    let request = CreateTopicsRequest::default()
        .with_topics(vec![replicated])
        .with_timeout_ms(30_000);
    let refused = wire.call(&request, 7).topics.remove(0);
    assert_eq!(refused.error_code, INVALID_REPLICATION_FACTOR);
    let only_checked = create_topic("checked", 1, &[]).with_validate_only(true);
    assert_eq!(wire.call(&only_checked, 7).topics[0].error_code, 0);
    assert_eq!(wire.topics(), ["default", "made"]);
}

#[test]
fn create_partitions_adds_partitions_that_work_at_once() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("growing", 2);
    assert_eq!(wire.append("growing", 1, &Batch::of(["before"])), 0);
    assert_eq!(wire.set_partitions("growing", 9, true), 0, "only checked");
    assert_eq!(wire.describe_topic("growing").partitions.len(), 2);
    assert_eq!(wire.set_partitions("growing", 5, false), 0);
    assert_eq!(wire.describe_topic("growing").partitions.len(), 5);
    for index in 2..5 {
        assert_eq!(wire.append("growing", index, &Batch::of(["new"])), 0);
    }
    assert_eq!(wire.values("growing", 1), [b"before"]);
    assert_eq!(
        wire.set_partitions("growing", 5, false),
        INVALID_PARTITIONS,
        "not more than before"
    );
    assert_eq!(
        wire.set_partitions("missing", 5, false),
        UNKNOWN_TOPIC_OR_PARTITION
    );
}

#[test]
fn describe_configs_tells_values_and_where_they_come_from() {
    const BROKER_RESOURCE: i8 = 4;
    const TOPIC_RESOURCE: i8 = 2;
    let (_dir, _broker, mut wire) =
        broker_with(&["--node-id", "7", "--log-retention-bytes", "5000"]);
    assert_eq!(
        wire.try_create_topic("t", 1, &[("retention.ms", "60000")])
            .error_code,
        0
    );
    let mut describe = |kind: i8, name: &str, keys: Option<Vec<&str>>| {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(kind)
            .with_resource_name(text(name))
            .with_configuration_keys(keys.map(|keys| keys.into_iter().map(text).collect()));
        let request = DescribeConfigsRequest::default().with_resources(vec![resource]);
        wire.call(&request, 4).results.remove(0)
    };
    let value = |result: &DescribeConfigsResult, name: &str| {
        let found = result.configs.iter().find(|config| &*config.name == name);
        found.map(|config| {
            (
                config.value.clone().unwrap().to_string(),
                config.config_source,
            )
        })
    };
    let of = |text: &str, source: i8| Some((text.to_owned(), source));
    let topic = describe(TOPIC_RESOURCE, "t", None);
    assert_eq!(topic.error_code, 0);
    assert_eq!(value(&topic, "retention.ms"), of("60000", 1), "the topic's");
    assert_eq!(
        value(&topic, "retention.bytes"),
        of("5000", 4),
        "the broker's, from its start"
    );
    assert_eq!(value(&topic, "segment.ms"), of("604800000", 5), "default");
    let one = describe(TOPIC_RESOURCE, "t", Some(vec!["segment.bytes"]));
    assert_eq!(one.configs.len(), 1);
    let broker = describe(BROKER_RESOURCE, "7", None);
    assert_eq!(value(&broker, "node.id"), of("7", 4));
    assert_eq!(value(&broker, "log.retention.bytes"), of("5000", 4));
    let missing = describe(TOPIC_RESOURCE, "missing", None);
    assert_eq!(missing.error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn describe_cluster_names_the_one_broker_and_an_id_that_outlives_restarts() {
    let (dir, broker, mut wire) = broker_with(&["--node-id", "42"]);
    let describe = |wire: &mut Wire| {
        let request = DescribeClusterRequest::default().with_endpoint_type(1);
        wire.call(&request, 1)
    };
    let first = describe(&mut wire);
    assert_eq!(first.error_code, 0);
    assert_eq!(first.controller_id, BrokerId(42));
    assert_eq!(first.brokers.len(), 1);
    assert_eq!(first.brokers[0].broker_id, BrokerId(42));
    assert_eq!(
        first.brokers[0].port,
        i32::from(broker.kafka.port()),
        "the port it listens on"
    );
    assert_eq!(first.cluster_id.len(), 22);
    broker.stop();
    let again = Broker::start(dir.path());
    let second = describe(&mut Wire::connect(again.kafka));
    assert_eq!(second.cluster_id, first.cluster_id);
    assert_ne!(second.controller_id, BrokerId(42), "a flag, not kept");
}

#[test]
fn acks_0_is_not_answered_acks_1_and_all_are_and_all_three_are_stored() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("acks", 1);
    for round in 0..10 {
        let batch = |acks: &str| Batch::of([format!("{acks} {round}")]).encode();
        wire.send_unanswered(&produce("acks", 0, 0, batch("none")), PRODUCE);
        wire.send(&produce("acks", 0, 1, batch("one")), PRODUCE);
        wire.send(&produce("acks", 0, -1, batch("all")), PRODUCE);
        for offset in 1..3 {
            // A reply to acks=0 would be taken for this one's, and have the wrong id.
            let response = partition_of(wire.receive::<ProduceRequest>(PRODUCE));
            assert_eq!(response.error_code, 0);
            assert_eq!(response.base_offset, round * 3 + offset);
        }
    }
    let expected: Vec<_> = (0..10)
        .flat_map(|round| ["none", "one", "all"].map(|acks| format!("{acks} {round}")))
        .map(String::into_bytes)
        .collect();
    assert_eq!(wire.values("acks", 0), expected);
}

#[test]
fn an_error_of_a_produce_without_acks_closes_the_connection() {
    let (_dir, broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let batch = Batch::of(["a"]).encode();
    wire.send_unanswered(&produce("missing", 0, 0, batch), PRODUCE);
    assert!(wire.is_closed_by_broker());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.append("t", 0, &Batch::of(["b"])), 0);
}

#[test]
fn replies_leave_in_the_order_of_the_requests() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("ordered", 4);
    // The first request waits for a record that the third brings: no reply may overtake it.
    let parked = fetch("ordered", &[(3, 0)])
        .with_max_wait_ms(1000)
        .with_min_bytes(1);
    wire.send(&parked, FETCH);
    wire.send(&MetadataRequest::default().with_topics(None), METADATA);
    for index in 0..4 {
        let batch = Batch::of(["x"]).encode();
        wire.send(&produce("ordered", index, -1, batch), PRODUCE);
    }
    wire.send(&fetch("ordered", &[(0, 0), (1, 0), (2, 0), (3, 0)]), FETCH);
    let first = fetched_partition(wire.receive::<FetchRequest>(FETCH));
    assert_eq!(
        split(&first.records.unwrap()).len(),
        1,
        "woken by what came later"
    );
    wire.receive::<MetadataRequest>(METADATA);
    for _ in 0..4 {
        let response = partition_of(wire.receive::<ProduceRequest>(PRODUCE));
        assert_eq!((response.error_code, response.base_offset), (0, 0));
    }
    wire.receive::<FetchRequest>(FETCH);
}

#[test]
fn a_waiting_fetch_is_woken_by_records_and_not_by_the_clock() {
    for cores in ["1", "2"] {
        let (_dir, broker, mut producer) = broker_with(&["--cores", cores]);
        producer.create_topic("quiet", 8);
        let mut waiting: Vec<Wire> = (0..8).map(|_| Wire::connect(broker.kafka)).collect();
        let all: Vec<(i32, i64)> = (0..8).map(|index| (index, 0)).collect();
        for wire in &mut waiting {
            let request = fetch("quiet", &all)
                .with_max_wait_ms(VERY_LONG_MS)
                .with_min_bytes(1);
            wire.send(&request, FETCH);
        }
        eventually("eight fetches are parked", || {
            broker.metric("millstream_parked_fetches", "") == 8.0
        });
        producer.append("quiet", 5, &Batch::of(["wake up"]));
        for wire in &mut waiting {
            let response = wire.receive::<FetchRequest>(FETCH);
            let partitions = &response.responses[0].partitions;
            let with_records: Vec<_> = partitions
                .iter()
                .filter(|partition| partition.records.as_ref().is_some_and(|r| !r.is_empty()))
                .map(|partition| partition.partition_index)
                .collect();
            assert_eq!((partitions.len(), with_records), (8, vec![5]));
        }
        eventually("nothing is parked", || {
            broker.metric("millstream_parked_fetches", "") == 0.0
        });
    }
}

#[test]
fn a_fetch_waits_until_min_bytes_are_there() {
    let (_dir, broker, mut producer) = broker();
    producer.create_topic("t", 1);
    let batch = Batch::of([[b'x'; 1000]]);
    let batch_bytes = batch.encode().len();
    let mut consumer = Wire::connect(broker.kafka);
    let request = fetch("t", &[(0, 0)])
        .with_max_wait_ms(VERY_LONG_MS)
        .with_min_bytes(3 * batch_bytes as i32);
    consumer.send(&request, FETCH);
    for _ in 0..3 {
        producer.append("t", 0, &batch);
    }
    let data = fetched_partition(consumer.receive::<FetchRequest>(FETCH));
    assert_eq!(split(&data.records.unwrap()).len(), 3);
}

#[test]
fn a_fetch_that_waits_in_vain_is_answered_empty_when_its_time_is_up() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let request = fetch("t", &[(0, 0)]).with_max_wait_ms(50);
    let data = fetched_partition(wire.call(&request, FETCH));
    assert_eq!((data.error_code, data.high_watermark), (0, 0));
    assert_eq!(data.records.unwrap_or_default(), Bytes::new());
}

#[test]
fn a_deleted_topic_ends_the_fetches_that_wait_for_it() {
    let (_dir, broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let mut consumer = Wire::connect(broker.kafka);
    consumer.send(&fetch("t", &[(0, 0)]).with_max_wait_ms(VERY_LONG_MS), FETCH);
    eventually("the fetch is parked", || {
        broker.metric("millstream_parked_fetches", "") == 1.0
    });
    assert_eq!(wire.delete_topic("t"), 0);
    let data = fetched_partition(consumer.receive::<FetchRequest>(FETCH));
    assert_eq!(data.error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn fetch_limits_are_kept_but_one_batch_always_comes() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 2);
    let batch = Batch::of([[b'x'; 10_000]]);
    let batch_bytes = batch.encode().len() as i32;
    for _ in 0..10 {
        wire.append("t", 0, &batch);
        wire.append("t", 1, &batch);
    }
    let mut batches = |max_bytes: i32, partition_max_bytes: i32| {
        let mut request = fetch("t", &[(0, 0), (1, 0)]).with_max_bytes(max_bytes);
        for partition in &mut request.topics[0].partitions {
            partition.partition_max_bytes = partition_max_bytes;
        }
        let response = wire.call(&request, FETCH);
        let partitions = response.responses[0].partitions.iter();
        let counts = partitions.map(|partition| {
            let records = partition.records.clone().unwrap_or_default();
            split(&records).len()
        });
        counts.collect::<Vec<_>>()
    };
    assert_eq!(batches(1, 1), [1, 0], "larger than both limits");
    assert_eq!(batches(i32::MAX, 3 * batch_bytes), [3, 3]);
    assert_eq!(batches(4 * batch_bytes, i32::MAX), [4, 0]);
    assert_eq!(batches(5 * batch_bytes, 3 * batch_bytes), [3, 2]);
    assert_eq!(batches(i32::MAX, i32::MAX), [10, 10]);
}

#[test]
fn fetch_offsets_inside_at_and_beyond_the_log() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    wire.append("t", 0, &Batch::of(["0", "1", "2"]));
    wire.append("t", 0, &Batch::of(["3", "4"]));
    let middle = wire.fetch("t", 0, 1);
    let batches = split(&middle.records.unwrap());
    assert_eq!(
        batches[0].base_offset, 0,
        "the whole batch that the offset lies in"
    );
    assert_eq!(batches.len(), 2);
    let end = wire.fetch("t", 0, 5);
    assert_eq!((end.error_code, end.high_watermark), (0, 5));
    assert!(end.records.unwrap_or_default().is_empty());
    assert_eq!(wire.fetch("t", 0, 6).error_code, OFFSET_OUT_OF_RANGE);
    assert_eq!(wire.fetch("t", 0, -1).error_code, OFFSET_OUT_OF_RANGE);
    let code = |data: kafka_protocol::messages::fetch_response::PartitionData| data.error_code;
    assert_eq!(code(wire.fetch("t", 1, 0)), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(wire.fetch("u", 0, 0)), UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn produce_and_fetch_work_in_every_version() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let id = wire.describe_topic("t").topic_id;
    for (offset, version) in (3..=13).enumerate() {
        let mut request = produce("t", 0, -1, Batch::of([version.to_string()]).encode());
        if version >= 13 {
            request.topic_data[0].name = topic_name("");
            request.topic_data[0].topic_id = id;
        }
        let response = partition_of(wire.call(&request, version));
        assert_eq!(response.error_code, 0, "version {version}");
        assert_eq!(response.base_offset, offset as i64);
    }
    for version in 4..=18 {
        let mut request = fetch("t", &[(0, 0)]);
        if version >= 13 {
            request.topics[0].topic = topic_name("");
            request.topics[0].topic_id = id;
        }
        let data = fetched_partition(wire.call(&request, version));
        assert_eq!(data.error_code, 0, "version {version}");
        assert_eq!(split(&data.records.unwrap()).len(), 11, "version {version}");
        if version >= 13 {
            request.topics[0].topic_id = Uuid::from_u128(9);
            let data = fetched_partition(wire.call(&request, version));
            assert_eq!(data.error_code, UNKNOWN_TOPIC_ID);
        }
    }
}

#[test]
fn list_offsets_finds_both_ends_the_latest_time_and_any_time() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    assert_eq!(wire.offset("t", 0, -1), 0);
    assert_eq!(wire.offset("t", 0, -2), 0);
    assert_eq!(wire.offset("t", 0, -3), -1, "no record, no latest one");
    assert_eq!(wire.offset("t", 0, 0), -1);
    // Times go up and down, within and across batches.
    wire.append("t", 0, &Batch::at_times(&[1000, 1010, 1020]));
    wire.append("t", 0, &Batch::at_times(&[5000, 1030]));
    wire.append("t", 0, &Batch::at_times(&[1040, 2000, 2000]));
    assert_eq!(wire.offset("t", 0, -1), 8);
    assert_eq!(wire.offset("t", 0, -2), 0);
    let latest = wire.list_offset("t", 0, -3, LIST_OFFSETS);
    assert_eq!((latest.offset, latest.timestamp), (3, 5000));
    for (time, offset, found) in [
        (0, 0, 1000),
        (1000, 0, 1000),
        (1001, 1, 1010),
        (1020, 2, 1020),
        (1021, 3, 5000),
        (5000, 3, 5000),
        (5001, -1, -1),
    ] {
        let response = wire.list_offset("t", 0, time, LIST_OFFSETS);
        assert_eq!(
            (response.error_code, response.offset, response.timestamp),
            (0, offset, found),
            "at {time}"
        );
    }
    for version in 1..=10 {
        assert_eq!(wire.list_offset("t", 0, 1015, version).offset, 2);
    }
    let unknown = wire.list_offset("t", 0, -9, LIST_OFFSETS);
    assert_eq!(unknown.error_code, UNSUPPORTED_VERSION);
    let missing = wire.list_offset("t", 1, -1, LIST_OFFSETS);
    assert_eq!(missing.error_code, UNKNOWN_TOPIC_OR_PARTITION);
}

const INVALID_TIMESTAMP: i16 = 32;
const INVALID_RECORD: i16 = 87;

/// A batch whose header says another max timestamp than its records have.
fn claiming(batch: &Batch, max_timestamp: i64) -> Vec<u8> {
    let mut bytes = batch.encode();
    bytes[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(&mut bytes);
    bytes
}

#[test]
fn a_max_timestamp_below_the_first_records_is_not_believed() {
    let (_dir, _broker, mut wire) = broker();
    let late = [("message.timestamp.after.max.ms", "1000")];
    assert_eq!(wire.try_create_topic("late", 1, &late).error_code, 0);
    wire.create_topic("t", 1);
    // sarama up to 1.45.1 leaves it at -1.
    for times in [[1000, 1050], [2000, 2050], [3000, 3050]] {
        let answer = wire.produce("t", 0, claiming(&Batch::at_times(&times), -1));
        assert_eq!(answer.error_code, 0);
    }
    let latest = wire.list_offset("t", 0, -3, LIST_OFFSETS);
    assert_eq!((latest.offset, latest.timestamp), (5, 3050));
    for (time, offset) in [
        (1000, 0),
        (1001, 1),
        (1051, 2),
        (2050, 3),
        (3001, 5),
        (3051, -1),
    ] {
        assert_eq!(wire.offset("t", 0, time), offset, "at {time}");
    }
    let stored = wire.fetch("t", 0, 0).records.unwrap();
    assert_eq!(stored[35..43], 1050_i64.to_be_bytes());
    let future = Batch::at_times(&[4_000_000_000_000]);
    let answer = wire.produce("late", 0, claiming(&future, -1));
    assert_eq!(answer.error_code, INVALID_TIMESTAMP);
}

#[test]
fn where_records_are_validated_a_batch_that_does_not_keep_its_word_is_refused() {
    let (_dir, _broker, mut wire) = broker();
    let all = [("message.validation", "records")];
    assert_eq!(wire.try_create_topic("all", 1, &all).error_code, 0);
    wire.create_topic("headers", 1);
    let good = Batch::of(["a", "b"]);
    let garbage = good.encode_with(b"these are no records");
    let mut long = good.encode();
    long.push(7);
    let length = (long.len() - 12) as i32;
    long[8..12].copy_from_slice(&length.to_be_bytes());
    seal(&mut long);
    for bytes in [garbage, long] {
        assert_eq!(
            wire.produce("all", 0, bytes.clone()).error_code,
            INVALID_RECORD
        );
        assert_eq!(wire.produce("headers", 0, bytes).error_code, 0);
    }
    assert_eq!(wire.append("all", 0, &good), 0);
    let lies = claiming(&Batch::at_times(&[1000, 2000]), 9000);
    assert_eq!(wire.produce("all", 0, lies).error_code, 0);
    let latest = wire.list_offset("all", 0, -3, LIST_OFFSETS);
    assert_eq!(latest.timestamp, 1_700_000_000_000);
    let stored = wire.fetch("all", 0, 2).records.unwrap();
    assert_eq!(stored[35..43], 2000_i64.to_be_bytes());
}

#[test]
fn the_brokers_clock_stamps_records_where_a_topic_says_so() {
    let (_dir, _broker, mut wire) = broker();
    let configs = [("message.timestamp.type", "LogAppendTime")];
    assert_eq!(wire.try_create_topic("t", 1, &configs).error_code, 0);
    let response = wire.produce("t", 0, Batch::at_times(&[1000, 2000]).encode());
    assert!(response.log_append_time_ms > 1_600_000_000_000);
    let latest = wire.list_offset("t", 0, -3, LIST_OFFSETS);
    assert_eq!(latest.timestamp, response.log_append_time_ms);
    let fetched = split(&wire.fetch("t", 0, 0).records.unwrap());
    assert_eq!(fetched[0].attributes & 8, 8);
}

#[test]
fn deleted_records_are_gone_for_every_reader_and_stay_gone_after_kill_9() {
    let (dir, broker, mut wire) = broker();
    wire.create_topic("t", 1);
    for value in 0..10 {
        wire.append("t", 0, &Batch::of([value.to_string()]));
    }
    let deleted = wire.delete_records("t", 0, 4);
    assert_eq!((deleted.error_code, deleted.low_watermark), (0, 4));
    let beyond = wire.delete_records("t", 0, 11);
    assert_eq!(beyond.error_code, OFFSET_OUT_OF_RANGE);
    let earlier = wire.delete_records("t", 0, 2);
    assert_eq!((earlier.error_code, earlier.low_watermark), (0, 4));
    broker.kill_9();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(wire.offset("t", 0, -2), 4);
    assert_eq!(wire.offset("t", 0, 0), 4, "by time too");
    assert_eq!(wire.fetch("t", 0, 3).error_code, OFFSET_OUT_OF_RANGE);
    assert_eq!(wire.fetch("t", 0, 4).log_start_offset, 4);
    assert_eq!(wire.values("t", 0).len(), 6);
    let all = wire.delete_records("t", 0, -1);
    assert_eq!((all.error_code, all.low_watermark), (0, 10));
    assert!(wire.values("t", 0).is_empty());
    assert_eq!(wire.append("t", 0, &Batch::of(["next"])), 10);
}

#[test]
fn a_retried_batch_is_stored_once_and_gaps_and_old_epochs_are_refused() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let id = wire.new_producer_id();
    let batch = |sequence: i32, epoch: i16| {
        let values = [format!("{sequence} a"), format!("{sequence} b")];
        Batch::of(values).by(id, epoch, sequence).encode()
    };
    for sequence in (0..14).step_by(2) {
        let response = wire.produce("t", 0, batch(sequence, 0));
        assert_eq!(response.error_code, 0);
        assert_eq!(response.base_offset, i64::from(sequence));
    }
    for sequence in (4..14).step_by(2) {
        let response = wire.produce("t", 0, batch(sequence, 0));
        let (code, offset) = (response.error_code, response.base_offset);
        assert_eq!((code, offset), (0, i64::from(sequence)), "a retry");
    }
    let mut code = |sequence, epoch| wire.produce("t", 0, batch(sequence, epoch)).error_code;
    assert_eq!(code(16, 0), OUT_OF_ORDER_SEQUENCE_NUMBER, "a gap");
    assert_eq!(
        code(0, 0),
        OUT_OF_ORDER_SEQUENCE_NUMBER,
        "more than five batches ago"
    );
    assert_eq!(
        code(3, 1),
        OUT_OF_ORDER_SEQUENCE_NUMBER,
        "a new epoch begins with 0"
    );
    assert_eq!(code(0, 1), 0);
    assert_eq!(code(14, 0), INVALID_PRODUCER_EPOCH);
    assert_eq!(wire.values("t", 0).len(), 16);
}

#[test]
fn requests_and_replies_of_many_megabytes_pass_whole_beside_small_ones() {
    const PARTITIONS: i32 = 24;
    let (_dir, broker, mut wire) = broker();
    wire.create_topic("large", PARTITIONS);
    let mut many = produce("large", 0, -1, Vec::new());
    many.topic_data[0].partition_data = (0..PARTITIONS)
        .map(|index| {
            let value = vec![index as u8; 1_000_000];
            PartitionProduceData::default()
                .with_index(index)
                .with_records(Some(Batch::of([value]).encode().into()))
        })
        .collect();
    let mut small = Wire::connect(broker.kafka);
    for round in 0..2 {
        wire.send(&many, PRODUCE);
        assert_eq!(small.topics(), ["large"]);
        let response = wire.receive::<ProduceRequest>(PRODUCE);
        let partitions = &response.responses[0].partition_responses;
        assert_eq!(partitions.len(), PARTITIONS as usize);
        for partition in partitions {
            assert_eq!((partition.error_code, partition.base_offset), (0, round));
        }
    }
    let all: Vec<(i32, i64)> = (0..PARTITIONS).map(|index| (index, 0)).collect();
    let request = fetch("large", &all).with_max_bytes(100 << 20);
    let response = wire.call(&request, FETCH);
    for partition in &response.responses[0].partitions {
        let batches = split(&partition.records.clone().unwrap());
        let value = vec![partition.partition_index as u8; 1_000_000];
        assert_eq!(batches.len(), 2);
        assert!(batches.iter().all(|batch| batch.values() == [&value[..]]));
    }
}
