//! What keeps `__consumer_offsets` small: offsets that nobody uses expire, and compaction.

use super::{FLAGS, broker_with};
use crate::support::group::*;
use crate::support::wire::*;
use crate::support::{Broker, eventually};
use kafka_protocol::messages::alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::*;

const OFFSETS_TOPIC: &str = "__consumer_offsets";

fn groups(wire: &mut Wire) -> Vec<String> {
    let listed = wire.call(&ListGroupsRequest::default(), 5).groups;
    let names = listed.into_iter().map(|group| group.group_id.to_string());
    names.collect()
}

fn commit_as_nobody(wire: &mut Wire, group: &str, topic: &str, offsets: &[(i32, i64)]) {
    let response = wire.call(&commit(group, topic, offsets), OFFSET_COMMIT);
    assert_eq!(commit_error(&response), NONE);
}

#[test]
fn offsets_that_nobody_uses_expire_and_their_groups_with_them() {
    let soon = [
        "--offsets-retention-ms",
        "1",
        "--offsets-retention-check-interval-ms",
        "20",
    ];
    let (dir, broker, mut wire) = broker_with(&[]);
    wire.create_topic("u", 1);
    let mut member = group_of(broker.kafka, "left", 1).remove(0);
    assert_eq!(member.commit("t", &[(0, 5)]), NONE);
    assert_eq!(member.leave(), NONE);
    commit_as_nobody(&mut wire, "simple", "t", &[(0, 6)]);
    assert_eq!(groups(&mut wire), ["left", "simple"]);

    // What was committed long ago is still so after a restart.
    broker.stop();
    let broker = Broker::with(dir.path(), &[&FLAGS[..], &soon].concat());
    let mut wire = Wire::connect(broker.kafka);
    eventually("both are gone", || groups(&mut wire).is_empty());
    assert_eq!(committed(&mut wire, "left", "t", 0), -1);

    // A group with members keeps what it is subscribed to, and only that.
    let mut member = group_of(broker.kafka, "stable", 1).remove(0);
    assert_eq!(member.commit("t", &[(0, 7)]), NONE);
    assert_eq!(member.commit("u", &[(0, 8)]), NONE);
    eventually("the offset of the other topic is gone", || {
        committed(&mut wire, "stable", "u", 0) == -1
    });
    assert_eq!(committed(&mut wire, "stable", "t", 0), 7);
    assert_eq!(member.leave(), NONE);
    eventually("the group is gone", || groups(&mut wire).is_empty());

    broker.kill_9();
    let broker = Broker::with(dir.path(), &FLAGS);
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(groups(&mut wire), Vec::<String>::new());
    assert_eq!(committed(&mut wire, "stable", "t", 0), -1);
}

fn alter(wire: &mut Wire, topic: &str, configs: &[(&str, &str)]) {
    let config = |(name, value): &(&str, &str)| {
        AlterableConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let resource = AlterConfigsResource::default()
        .with_resource_type(2)
        .with_resource_name(text(topic))
        .with_configs(configs.iter().map(config).collect());
    let request = AlterConfigsRequest::default().with_resources(vec![resource]);
    assert_eq!(wire.call(&request, 2).responses[0].error_code, NONE);
}

/// The records in the one partition of the offsets' topic.
fn stored_records(wire: &mut Wire) -> i64 {
    let batches = wire.read_from(OFFSETS_TOPIC, 0, 0);
    let counts = batches.iter().map(|batch| i64::from(batch.record_count));
    counts.sum()
}

#[test]
fn many_commits_of_few_offsets_shrink_to_one_record_each_and_are_all_there() {
    const PARTITIONS: i32 = 100;
    const GROUPS: usize = 3;
    const ROUNDS: i64 = 150;
    let flags = [
        "--offsets-topic-num-partitions",
        "1",
        "--group-initial-rebalance-delay-ms",
        "0",
        "--checkpoint-bytes",
        "65536",
        "--log-cleaner-backoff-ms",
        "20",
    ];
    let small = [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("min.cleanable.dirty.ratio", "0"),
    ];
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    wire.create_topic("wide", PARTITIONS);
    let group = |number: usize| format!("g{number}");
    let offsets = |round: i64| -> Vec<(i32, i64)> {
        let partitions = 0..PARTITIONS;
        partitions
            .map(|index| (index, round * 1000 + i64::from(index)))
            .collect()
    };
    for round in 0..=ROUNDS {
        for number in 0..GROUPS {
            commit_as_nobody(&mut wire, &group(number), "wide", &offsets(round));
        }
        if round == 0 {
            alter(&mut wire, OFFSETS_TOPIC, &small);
        }
    }
    let distinct = GROUPS as i64 * i64::from(PARTITIONS);
    let written = distinct * (ROUNDS + 1);
    assert_eq!(wire.offset(OFFSETS_TOPIC, 0, -1), written);
    eventually("what was closed is compacted", || {
        stored_records(&mut wire) < written
    });

    // All but the last commit is in closed segments now, and a clean stop leaves a checkpoint behind
    // them.
    alter(
        &mut wire,
        OFFSETS_TOPIC,
        &[&small[..], &[("segment.ms", "1")]].concat(),
    );
    commit_as_nobody(&mut wire, "last", "wide", &[(0, 1)]);
    broker.stop();
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    eventually("one record is left of each", || {
        stored_records(&mut wire) == distinct + 1
    });

    broker.kill_9();
    let broker = Broker::with(dir.path(), &flags);
    let mut wire = Wire::connect(broker.kafka);
    for number in 0..GROUPS {
        let (error, found) = fetch_offsets(&mut wire, &group(number), None, OFFSET_FETCH);
        assert_eq!(error, NONE);
        let found: Vec<(i32, i64)> = found
            .iter()
            .map(|one| (one.partition, one.offset))
            .collect();
        assert_eq!(found, offsets(ROUNDS));
    }
    commit_as_nobody(&mut wire, "last", "wide", &[(0, 2)]);
    let end = wire.offset(OFFSETS_TOPIC, 0, -1);
    assert_eq!(end, written + 2, "offsets go on");
}
