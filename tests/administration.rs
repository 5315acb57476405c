//! What administrators' tools ask, frame by frame.

use crate::support::batch::Batch;
use crate::support::configs::*;
use crate::support::wire::*;
use crate::support::{Broker, broker, group};
use kafka_protocol::messages::alter_partition_reassignments_request as reassign;
use kafka_protocol::messages::alter_replica_log_dirs_request as replica_dirs;
use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_producers_request::TopicRequest as ProducersOf;
use kafka_protocol::messages::describe_quorum_request as quorum;
use kafka_protocol::messages::describe_topic_partitions_request as topic_partitions;
use kafka_protocol::messages::elect_leaders_request::TopicPartitions;
use kafka_protocol::messages::offset_for_leader_epoch_request as epoch;
use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::*;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const MESSAGE_TOO_LARGE: i16 = 10;
const INVALID_TOPIC: i16 = 17;
const UNSUPPORTED_VERSION: i16 = 35;
const INVALID_REPLICA_ASSIGNMENT: i16 = 39;
const INVALID_CONFIG: i16 = 40;
const INVALID_REQUEST: i16 = 42;
const LOG_DIR_NOT_FOUND: i16 = 57;
const FENCED_LEADER_EPOCH: i16 = 74;
const UNKNOWN_LEADER_EPOCH: i16 = 75;
const ELECTION_NOT_NEEDED: i16 = 84;
const NO_REASSIGNMENT_IN_PROGRESS: i16 = 85;
const INVALID_UPDATE_VERSION: i16 = 95;

#[test]
fn altered_configs_hold_at_once_and_after_kill_9() {
    let (dir, broker, mut wire) = broker();
    wire.try_create_topic("t", 3, &[("retention.ms", "1000")]);
    let large = || Batch::of([vec![b'x'; 2000]]);
    for index in 0..3 {
        assert_eq!(wire.append("t", index, &large()), 0);
    }
    let what = [
        ("max.message.bytes", SET, Some("1000")),
        ("retention.ms", DELETE, None),
        ("segment.ms", SET, Some("7777")),
    ];
    assert_eq!(alter(&mut wire, TOPIC, "t", &what).0, 0);
    let expected = pairs(&[("max.message.bytes", "1000"), ("segment.ms", "7777")]);
    assert_eq!(own_configs(&mut wire, "t"), expected);
    for index in 0..3 {
        let refused = wire.produce("t", index, large().encode());
        assert_eq!(refused.error_code, MESSAGE_TOO_LARGE);
    }
    broker.kill_9();
    let broker = Broker::start(dir.path());
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(own_configs(&mut wire, "t"), expected);
    let refused = wire.produce("t", 0, large().encode());
    assert_eq!(refused.error_code, MESSAGE_TOO_LARGE);
    assert_eq!(wire.append("t", 0, &Batch::of(["small"])), 1);
}

#[test]
fn every_config_tells_its_value_its_default_its_type_and_what_it_is_for() {
    const DEFAULT: i8 = 5;
    let (_dir, _broker, mut wire) = broker();
    wire.try_create_topic("t", 1, &[("retention.ms", "1000")]);
    for (kind, name, least) in [(TOPIC, "t", 17), (BROKER, "1", 50)] {
        let configs = described(&mut wire, kind, name).configs;
        assert!(configs.len() >= least, "{}", configs.len());
        for config in configs {
            assert!(config.value.is_some(), "{config:?}");
            assert!((1..=9).contains(&config.config_type), "{config:?}");
            assert!(config.documentation.unwrap().len() > 10);
            let sources: Vec<i8> = config.synonyms.iter().map(|one| one.source).collect();
            assert_eq!(sources.first(), Some(&config.config_source));
            assert_eq!(sources.last(), Some(&DEFAULT));
        }
    }
}

#[test]
fn what_would_lose_the_offsets_of_groups_is_refused() {
    const OFFSETS: &str = "__consumer_offsets";
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    wire.call(&group::commit("g", "t", &[(0, 7)]), group::OFFSET_COMMIT);
    assert_eq!(wire.set_partitions(OFFSETS, 100, false), INVALID_TOPIC);
    for change in [
        ("cleanup.policy", SET, Some("delete")),
        ("cleanup.policy", APPEND, Some("delete")),
        ("cleanup.policy", DELETE, None),
    ] {
        let (error, message) = alter(&mut wire, TOPIC, OFFSETS, &[change]);
        assert_eq!(error, INVALID_CONFIG);
        assert!(message.contains("cleanup.policy"), "{message}");
    }
    assert_eq!(
        replace(&mut wire, OFFSETS, &[("segment.ms", "7")]),
        INVALID_CONFIG
    );
    let faster = [("min.cleanable.dirty.ratio", SET, Some("0.1"))];
    assert_eq!(alter(&mut wire, TOPIC, OFFSETS, &faster).0, 0);
    assert_eq!(group::committed(&mut wire, "g", "t", 0), 7);
}

#[test]
fn a_topics_configs_change_together_or_not_at_all() {
    let (_dir, _broker, mut wire) = broker();
    wire.try_create_topic("t", 1, &[("retention.ms", "1000")]);
    let before = own_configs(&mut wire, "t");
    let good: Change = ("retention.ms", SET, Some("5"));
    for (bad, code) in [
        (("retention.bytes", SET, Some("much")), INVALID_CONFIG),
        (("no.such.config", SET, Some("1")), INVALID_CONFIG),
        (("segment.ms", APPEND, Some("1")), INVALID_CONFIG),
        (
            ("cleanup.policy", APPEND, Some("sometimes")),
            INVALID_CONFIG,
        ),
        (("segment.ms", SET, None), INVALID_REQUEST),
        (("retention.ms", DELETE, None), INVALID_REQUEST),
        (("segment.ms", 9, Some("1")), INVALID_REQUEST),
    ] {
        let (found, message) = alter(&mut wire, TOPIC, "t", &[good, bad]);
        assert_eq!(found, code, "{bad:?}: {message}");
        let told = message.contains(bad.0) || bad.1 == 9;
        assert!(told, "{bad:?}: {message}");
        assert_eq!(own_configs(&mut wire, "t"), before);
    }
    let nothing = [("not.set.anywhere", DELETE, None)];
    assert_eq!(alter(&mut wire, TOPIC, "t", &nothing).0, 0);
    let missing = alter(&mut wire, TOPIC, "missing", &[good]).0;
    assert_eq!(missing, UNKNOWN_TOPIC_OR_PARTITION);

    let twice = vec![changes(TOPIC, "t", &[good]), changes(TOPIC, "t", &[good])];
    let request = IncrementalAlterConfigsRequest::default().with_resources(twice);
    for response in wire.call(&request, 1).responses {
        assert_eq!(response.error_code, INVALID_REQUEST);
    }
    let only_checked = IncrementalAlterConfigsRequest::default()
        .with_resources(vec![changes(TOPIC, "t", &[good])])
        .with_validate_only(true);
    assert_eq!(wire.call(&only_checked, 1).responses[0].error_code, 0);
    assert_eq!(own_configs(&mut wire, "t"), before);
}

#[test]
fn words_are_added_to_lists_once_and_taken_out() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let append = [("cleanup.policy", APPEND, Some("delete"))];
    assert_eq!(alter(&mut wire, TOPIC, "t", &append).0, 0);
    let expected = pairs(&[("cleanup.policy", "delete")]);
    assert_eq!(own_configs(&mut wire, "t"), expected);
    let subtract = [("cleanup.policy", SUBTRACT, Some("compact"))];
    assert_eq!(alter(&mut wire, TOPIC, "t", &subtract).0, 0);
    assert_eq!(own_configs(&mut wire, "t"), expected);
}

#[test]
fn alter_configs_replaces_all_that_was_set() {
    let (_dir, _broker, mut wire) = broker();
    wire.try_create_topic("t", 1, &[("retention.ms", "1000")]);
    assert_eq!(replace(&mut wire, "t", &[("segment.ms", "9")]), 0);
    assert_eq!(own_configs(&mut wire, "t"), pairs(&[("segment.ms", "9")]));
    let bad = replace(&mut wire, "t", &[("segment.ms", "soon")]);
    assert_eq!(bad, INVALID_CONFIG);
    assert_eq!(own_configs(&mut wire, "t"), pairs(&[("segment.ms", "9")]));
    assert_eq!(replace(&mut wire, "t", &[]), 0);
    assert_eq!(own_configs(&mut wire, "t"), []);
}

#[test]
fn the_brokers_own_settings_are_read_only_and_other_resources_have_none() {
    let (_dir, _broker, mut wire) = broker();
    let set: Change = ("num.partitions", SET, Some("5"));
    for name in ["", "1"] {
        let (code, message) = alter(&mut wire, BROKER, name, &[set]);
        assert_eq!(code, INVALID_REQUEST);
        assert!(message.contains("while the broker runs"), "{message}");
        let clean_up = [("leader.replication.throttled.rate", DELETE, None)];
        assert_eq!(alter(&mut wire, BROKER, name, &clean_up).0, 0);
    }
    assert_eq!(alter(&mut wire, BROKER, "9", &[set]).0, INVALID_REQUEST);
    for kind in [0, 16, GROUP] {
        assert_eq!(alter(&mut wire, kind, "1", &[set]).0, INVALID_REQUEST);
    }
    // It has loggers as its configs, and this is none.
    assert_eq!(
        alter(&mut wire, BROKER_LOGGER, "1", &[set]).0,
        INVALID_CONFIG
    );
}

#[test]
fn the_one_leader_epoch_ends_at_the_high_watermark() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 2);
    wire.append("t", 1, &Batch::of(["a", "b"]));
    let mut ask = |index: i32, current: i32, asked: i32| {
        let partition = epoch::OffsetForLeaderPartition::default()
            .with_partition(index)
            .with_current_leader_epoch(current)
            .with_leader_epoch(asked);
        let topic = epoch::OffsetForLeaderTopic::default()
            .with_topic(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let found = wire.call(&request, 4).topics.remove(0).partitions.remove(0);
        (found.error_code, found.leader_epoch, found.end_offset)
    };
    assert_eq!(ask(1, -1, 0), (0, 0, 2));
    assert_eq!(ask(0, 0, 0), (0, 0, 0));
    assert_eq!(ask(1, 0, 1), (0, -1, -1), "an epoch that never was");
    assert_eq!(ask(1, 1, 0), (UNKNOWN_LEADER_EPOCH, -1, -1));
    assert_eq!(ask(1, -2, 0), (FENCED_LEADER_EPOCH, -1, -1));
    assert_eq!(ask(2, -1, 0), (UNKNOWN_TOPIC_OR_PARTITION, -1, -1));
}

#[test]
fn log_dirs_tell_the_bytes_of_each_partition_and_of_the_volume() {
    let (dir, _broker, mut wire) = broker();
    wire.create_topic("t", 3);
    let batch = Batch::of(["some bytes"]);
    wire.append("t", 2, &batch);
    let all = DescribeLogDirsRequest::default().with_topics(None);
    let mut found = wire.call(&all, 4);
    let log_dir = found.results.remove(0);
    assert_eq!((found.error_code, found.results.len()), (0, 0));
    let path = log_dir.log_dir.to_string();
    assert_eq!(path, dir.path().to_str().unwrap());
    assert!(log_dir.total_bytes >= log_dir.usable_bytes && log_dir.usable_bytes > 0);
    let sizes = |topic: &describe_log_dirs_response::DescribeLogDirsTopic| {
        let partitions = topic.partitions.iter();
        let sizes = partitions.map(|found| (found.partition_index, found.partition_size));
        sizes.collect::<Vec<_>>()
    };
    let written = batch.encode().len() as i64;
    assert_eq!(sizes(&log_dir.topics[0]), [(0, 0), (1, 0), (2, written)]);

    let asked = |name: &str, partitions: &[i32]| {
        DescribableLogDirTopic::default()
            .with_topic(topic_name(name))
            .with_partitions(partitions.to_vec())
    };
    let some = vec![asked("t", &[2, 9, 2]), asked("missing", &[0])];
    let some = DescribeLogDirsRequest::default().with_topics(Some(some));
    let found = wire.call(&some, 1).results.remove(0).topics;
    assert_eq!(found.len(), 1);
    assert_eq!(sizes(&found[0]), [(2, written)]);

    let mut move_to = |path: &str, index: i32| {
        let topic = replica_dirs::AlterReplicaLogDirTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![index]);
        let dir = replica_dirs::AlterReplicaLogDir::default()
            .with_path(text(path))
            .with_topics(vec![topic]);
        let request = AlterReplicaLogDirsRequest::default().with_dirs(vec![dir]);
        wire.call(&request, 2).results[0].partitions[0].error_code
    };
    assert_eq!(move_to(&path, 0), 0);
    assert_eq!(move_to(&path, 3), UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(move_to("/elsewhere", 0), LOG_DIR_NOT_FOUND);
}

#[test]
fn topic_partitions_come_in_pages_that_leave_none_out_and_repeat_none() {
    let (_dir, _broker, mut wire) = broker();
    for (name, partitions) in [("a", 2), ("b", 5), ("c", 1)] {
        wire.create_topic(name, partitions);
    }
    for limit in [1, 2, 3, 7, 8, 100] {
        let mut request =
            DescribeTopicPartitionsRequest::default().with_response_partition_limit(limit);
        let mut seen = Vec::new();
        loop {
            let page = wire.call(&request, 0);
            let mut count = 0;
            for topic in page.topics {
                assert_eq!(topic.error_code, 0);
                let name = topic.name.unwrap().to_string();
                count += topic.partitions.len() as i32;
                let partitions = topic.partitions.into_iter();
                seen.extend(partitions.map(|found| (name.clone(), found.partition_index)));
            }
            assert!((1..=limit).contains(&count));
            let Some(next) = page.next_cursor else { break };
            let cursor = topic_partitions::Cursor::default()
                .with_topic_name(next.topic_name)
                .with_partition_index(next.partition_index);
            request.cursor = Some(cursor);
        }
        let expected = [("a", 2), ("b", 5), ("c", 1)];
        let expected = expected
            .into_iter()
            .flat_map(|(name, count)| (0..count).map(move |index| (name.to_owned(), index)));
        assert_eq!(seen, expected.collect::<Vec<_>>(), "limit {limit}");
    }
    let named = |name: &str| topic_partitions::TopicRequest::default().with_name(topic_name(name));
    let request = DescribeTopicPartitionsRequest::default()
        .with_topics(vec![named("missing"), named("b")])
        .with_response_partition_limit(100);
    let found = wire.call(&request, 0).topics;
    assert_eq!((found[0].error_code, found[0].partitions.len()), (0, 5));
    assert_eq!(found[1].error_code, UNKNOWN_TOPIC_OR_PARTITION);
    let elsewhere = topic_partitions::Cursor::default()
        .with_topic_name(topic_name("a"))
        .with_partition_index(0);
    let refused = wire.call(&request.with_cursor(Some(elsewhere)), 0).topics;
    assert!(
        refused
            .iter()
            .all(|topic| topic.error_code == INVALID_REQUEST)
    );
}

#[test]
fn resources_with_configs_are_the_topics_the_broker_and_its_loggers() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let mut list = |kinds: &[i8], version: i16| {
        let request = ListConfigResourcesRequest::default().with_resource_types(kinds.to_vec());
        let found = wire.call(&request, version);
        let resources = found.config_resources.into_iter();
        let named = resources.map(|one| (one.resource_type, one.resource_name.to_string()));
        (found.error_code, named.collect::<Vec<_>>())
    };
    let topic = (TOPIC, "t".to_owned());
    let this = (BROKER, "1".to_owned());
    let loggers = (BROKER_LOGGER, "1".to_owned());
    let all = vec![topic.clone(), this.clone(), loggers.clone()];
    assert_eq!(list(&[], 1), (0, all));
    assert_eq!(list(&[BROKER_LOGGER], 1), (0, vec![loggers]));
    assert_eq!(list(&[TOPIC], 1), (0, vec![topic]));
    assert_eq!(list(&[BROKER, 16, 32], 1), (0, vec![this]));
    assert_eq!(list(&[99], 1), (UNSUPPORTED_VERSION, vec![]));
    assert_eq!(list(&[], 0), (0, vec![]), "client metrics");
}

#[test]
fn the_producers_of_a_partition_are_told() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 2);
    let id = wire.new_producer_id();
    wire.append("t", 1, &Batch::of(["a", "b"]).by(id, 0, 0));
    wire.append("t", 1, &Batch::of(["c"]).by(id, 0, 2));
    let topic = ProducersOf::default()
        .with_name(topic_name("t"))
        .with_partition_indexes(vec![0, 1, 2, 1]);
    let request = DescribeProducersRequest::default().with_topics(vec![topic]);
    let found = wire.call(&request, 0).topics.remove(0).partitions;
    let codes: Vec<i16> = found.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [0, 0, UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST]);
    assert!(found[0].active_producers.is_empty());
    let [producer] = &found[1].active_producers[..] else {
        panic!("{found:?}");
    };
    assert_eq!(producer.producer_id, ProducerId(id));
    assert_eq!((producer.producer_epoch, producer.last_sequence), (0, 2));
    assert!(producer.last_timestamp > 1_600_000_000_000);
    assert_eq!(producer.current_txn_start_offset, -1);
}

#[test]
fn leaders_need_no_election_and_partitions_stay_where_they_are() {
    let (_dir, _broker, mut wire) = broker();
    wire.create_topic("t", 1);
    let topic = TopicPartitions::default()
        .with_topic(topic_name("t"))
        .with_partitions(vec![0, 1]);
    let some = ElectLeadersRequest::default().with_topic_partitions(Some(vec![topic]));
    let found = &wire.call(&some, 2).replica_election_results[0].partition_result;
    let codes: Vec<i16> = found.iter().map(|one| one.error_code).collect();
    assert_eq!(codes, [ELECTION_NOT_NEEDED, UNKNOWN_TOPIC_OR_PARTITION]);
    let all = ElectLeadersRequest::default().with_topic_partitions(None);
    let found = wire.call(&all, 2);
    assert_eq!(
        (found.error_code, found.replica_election_results.len()),
        (0, 0)
    );

    let mut reassign = |index: i32, replicas: Option<Vec<i32>>| {
        let replicas = replicas.map(|nodes| nodes.into_iter().map(BrokerId).collect());
        let partition = reassign::ReassignablePartition::default()
            .with_partition_index(index)
            .with_replicas(replicas);
        let topic = reassign::ReassignableTopic::default()
            .with_name(topic_name("t"))
            .with_partitions(vec![partition]);
        let request = AlterPartitionReassignmentsRequest::default().with_topics(vec![topic]);
        wire.call(&request, 1).responses[0].partitions[0].error_code
    };
    assert_eq!(reassign(0, Some(vec![1])), 0);
    assert_eq!(reassign(0, Some(vec![2])), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(0, Some(vec![1, 2])), INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(reassign(0, None), NO_REASSIGNMENT_IN_PROGRESS);
    assert_eq!(reassign(1, Some(vec![1])), UNKNOWN_TOPIC_OR_PARTITION);
    let all = ListPartitionReassignmentsRequest::default().with_topics(None);
    let found = wire.call(&all, 0);
    assert_eq!((found.error_code, found.topics.len()), (0, 0));
}

#[test]
fn the_quorum_is_this_broker_and_features_stay_at_level_0() {
    let (_dir, broker, mut wire) = broker();
    let mut ask = |name: &str| {
        let partition = quorum::PartitionData::default().with_partition_index(0);
        let topic = quorum::TopicData::default()
            .with_topic_name(topic_name(name))
            .with_partitions(vec![partition]);
        let request = DescribeQuorumRequest::default().with_topics(vec![topic]);
        let mut found = wire.call(&request, 2);
        assert_eq!(found.error_code, 0);
        (found.topics.remove(0).partitions.remove(0), found.nodes)
    };
    let (found, nodes) = ask("__cluster_metadata");
    assert_eq!((found.error_code, found.leader_id), (0, BrokerId(1)));
    assert_eq!(found.current_voters.len(), 1);
    assert_eq!(found.current_voters[0].replica_id, BrokerId(1));
    assert_eq!(nodes[0].listeners[0].port, broker.kafka.port());
    assert_eq!(ask("t").0.error_code, UNKNOWN_TOPIC_OR_PARTITION);

    let mut update = |level: i16, version: i16| {
        let feature = FeatureUpdateKey::default()
            .with_feature(text("group.version"))
            .with_max_version_level(level);
        let request = UpdateFeaturesRequest::default().with_feature_updates(vec![feature]);
        let found = wire.call(&request, version);
        let of_feature = found.results.first().map(|one| one.error_code);
        (found.error_code, of_feature)
    };
    assert_eq!(update(1, 1), (0, Some(INVALID_UPDATE_VERSION)));
    assert_eq!(update(1, 2), (INVALID_UPDATE_VERSION, None));
    assert_eq!(update(0, 1), (0, Some(0)));
    assert_eq!(update(0, 2), (0, None));
    let none = UpdateFeaturesRequest::default();
    assert_eq!(wire.call(&none, 2).error_code, 0);
}
