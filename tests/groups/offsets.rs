//! Committed offsets: who may commit, what is told, and what outlives the broker.

use super::{after_kill_9, broker};
use crate::support::batch::Batch;
use crate::support::group::*;
use crate::support::wire::*;
use crate::support::{Broker, HANG, eventually};
use kafka_protocol::messages::*;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const OFFSET_METADATA_TOO_LARGE: i16 = 12;
const INVALID_TOPIC: i16 = 17;

fn offset(topic: &str, partition: i32, offset: i64, metadata: &str) -> Committed {
    Committed {
        topic: topic.to_owned(),
        partition,
        offset,
        metadata: metadata.to_owned(),
    }
}

#[test]
fn who_is_no_member_commits_and_fetches_in_every_version() {
    let (_dir, _broker, mut wire) = broker();
    for version in 2..=OFFSET_COMMIT {
        let group = format!("g{version}");
        let request = commit(&group, "t", &[(0, 10), (2, i64::from(version))]);
        let response = wire.call(&request, version);
        assert_eq!(response.topics.len(), 1);
        let answers = response.topics[0].partitions.iter();
        let answers: Vec<_> = answers.map(|p| (p.partition_index, p.error_code)).collect();
        assert_eq!(answers, [(0, NONE), (2, NONE)], "version {version}");
    }
    for version in 1..=OFFSET_FETCH {
        for commit_version in 2..=OFFSET_COMMIT {
            let group = format!("g{commit_version}");
            let wanted: &[(&str, &[i32])] = &[("t", &[2, 1]), ("nowhere", &[0])];
            let found = fetch_offsets(&mut wire, &group, Some(wanted), version);
            let expected = vec![
                offset("t", 2, i64::from(commit_version), ""),
                offset("t", 1, -1, ""),
                offset("nowhere", 0, -1, ""),
            ];
            assert_eq!(found, (NONE, expected), "version {version}");
            if version >= 2 {
                let all = fetch_offsets(&mut wire, &group, None, version);
                let expected = vec![
                    offset("t", 0, 10, ""),
                    offset("t", 2, i64::from(commit_version), ""),
                ];
                assert_eq!(all, (NONE, expected), "version {version}");
            }
        }
        let none = fetch_offsets(&mut wire, "no group", Some(&[("t", &[0])]), version);
        assert_eq!(none, (NONE, vec![offset("t", 0, -1, "")]));
    }
}

#[test]
fn many_groups_are_fetched_at_once() {
    let (_dir, _broker, mut wire) = broker();
    for (place, group) in ["a", "b", "c"].into_iter().enumerate() {
        wire.call(&commit(group, "t", &[(0, place as i64), (1, 7)]), 9);
    }
    for version in 8..=OFFSET_FETCH {
        let request = fetch_offsets_of(&[
            ("c", Some(&[("t", &[1, 0])])),
            ("a", None),
            ("nobody", None),
            ("b", Some(&[])),
        ]);
        let response = wire.call(&request.with_require_stable(true), version);
        let groups: Vec<_> = response
            .groups
            .into_iter()
            .map(|group| (group.group_id.to_string(), taken_apart(group)))
            .collect();
        let expected = [
            ("c", vec![offset("t", 1, 7, ""), offset("t", 0, 2, "")]),
            ("a", vec![offset("t", 0, 0, ""), offset("t", 1, 7, "")]),
            ("nobody", vec![]),
            ("b", vec![]),
        ];
        let expected = expected.map(|(group, offsets)| (group.to_owned(), (NONE, offsets)));
        assert_eq!(groups, expected);
    }
}

#[test]
fn metadata_comes_back_and_has_a_limit_and_unknown_partitions_are_refused_one_by_one() {
    let (dir, broker, mut wire) = broker();
    let longest = "m".repeat(4096);
    let mut request = commit("g", "t", &[(0, 1), (1, 2), (2, 3), (4, 4), (-1, 5)]);
    let partitions = &mut request.topics[0].partitions;
    partitions[0].committed_metadata = Some(text(&longest));
    partitions[1].committed_metadata = Some(text(&"m".repeat(4097)));
    partitions[2].committed_metadata = None;
    request
        .topics
        .push(commit("g", "nowhere", &[(0, 1)]).topics.remove(0));
    let response = wire.call(&request, OFFSET_COMMIT);
    let topics = response.topics.iter();
    let errors: Vec<i16> = topics
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code)
        .collect();
    let unknown = UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(
        errors,
        [
            NONE,
            OFFSET_METADATA_TOO_LARGE,
            NONE,
            unknown,
            unknown,
            unknown
        ]
    );
    let expected = (
        NONE,
        vec![offset("t", 0, 1, &longest), offset("t", 2, 3, "")],
    );
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), expected);
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), expected);
}

#[test]
fn who_is_no_member_commits_to_groups_without_members_only() {
    let (_dir, broker, mut wire) = broker();
    for version in 2..=OFFSET_COMMIT {
        let with_generation = commit("missing", "t", &[(0, 1)])
            .with_member_id(text("somebody"))
            .with_generation_id_or_member_epoch(3);
        let expected = match version {
            9 => GROUP_ID_NOT_FOUND,
            _ => ILLEGAL_GENERATION,
        };
        let response = wire.call(&with_generation, version);
        assert_eq!(commit_error(&response), expected, "version {version}");
    }
    let mut member = group_of(broker.kafka, "g", 1).remove(0);
    assert_eq!(member.commit("t", &[(0, 5)]), NONE);
    let simple = commit("g", "t", &[(0, 6)]);
    for version in 2..=OFFSET_COMMIT {
        let response = wire.call(&simple, version);
        assert_eq!(
            commit_error(&response),
            UNKNOWN_MEMBER_ID,
            "version {version}"
        );
    }
    member.generation += 1;
    assert_eq!(member.commit("t", &[(0, 7)]), ILLEGAL_GENERATION);
    member.generation -= 1;
    assert_eq!(committed(&mut wire, "g", "t", 0), 5);
    assert_eq!(member.leave(), NONE);
    assert_eq!(member.commit("t", &[(0, 8)]), UNKNOWN_MEMBER_ID);
    assert_eq!(commit_error(&wire.call(&simple, OFFSET_COMMIT)), NONE);
    assert_eq!(committed(&mut wire, "g", "t", 0), 6);
}

#[test]
fn refused_commits_do_not_come_to_light_after_kill_9() {
    let (dir, broker, mut wire) = broker();
    let mut member = group_of(broker.kafka, "g", 1).remove(0);
    assert_eq!(member.commit("t", &[(0, 5)]), NONE);
    member.generation += 1;
    assert_eq!(member.commit("t", &[(0, 6)]), ILLEGAL_GENERATION);
    let simple = wire.call(&commit("g", "t", &[(0, 7)]), OFFSET_COMMIT);
    assert_eq!(commit_error(&simple), UNKNOWN_MEMBER_ID);
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    assert_eq!(committed(&mut wire, "g", "t", 0), 5);
}

#[test]
fn a_group_and_its_offsets_outlive_kill_9() {
    let (dir, broker, _wire) = broker();
    let mut members = group_of(broker.kafka, "g", 3);
    assert_eq!(members[1].commit("t", &[(0, 10), (3, 13)]), NONE);
    let address = broker.kafka;
    broker.kill_9();
    let broker = Broker::at(address, dir.path(), &super::FLAGS);
    let mut wire = Wire::connect(broker.kafka);
    assert_eq!(describe(&mut wire, "g"), ("Stable".to_owned(), 3));
    // Its members go on as if nothing had happened.
    for member in &mut members {
        member.wire = Wire::connect(broker.kafka);
        assert_eq!(member.heartbeat(), NONE);
        assert_eq!(member.sync(&[]).assignment[..], 3_u32.to_be_bytes());
    }
    assert_eq!(members[2].commit("t", &[(3, 14)]), NONE);
    let expected = vec![offset("t", 0, 10, ""), offset("t", 3, 14, "")];
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), (NONE, expected));
}

#[test]
fn the_offsets_of_a_deleted_topic_are_gone_for_good() {
    let (dir, broker, mut wire) = broker();
    wire.create_topic("u", 2);
    wire.call(&commit("g", "t", &[(0, 1)]), OFFSET_COMMIT);
    wire.call(&commit("g", "u", &[(0, 2), (1, 3)]), OFFSET_COMMIT);
    assert_eq!(wire.delete_topic("u"), NONE);
    let left = (NONE, vec![offset("t", 0, 1, "")]);
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), left);
    wire.create_topic("u", 2);
    assert_eq!(committed(&mut wire, "g", "u", 1), -1, "it is another topic");
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), left);
    assert_eq!(committed(&mut wire, "g", "u", 1), -1);
}

#[test]
fn a_thousand_groups_commit_and_all_is_there_after_kill_9() {
    const GROUPS: i64 = 1000;
    let (dir, broker, mut wire) = broker();
    for number in 0..GROUPS {
        let request = commit(&format!("g{number}"), "t", &[(0, number), (1, number + 1)]);
        wire.send(&request, OFFSET_COMMIT);
    }
    for _ in 0..GROUPS {
        let response = wire.receive::<OffsetCommitRequest>(OFFSET_COMMIT);
        assert_eq!(commit_error(&response), NONE);
    }
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    for number in 0..GROUPS {
        let found = fetch_offsets(&mut wire, &format!("g{number}"), None, OFFSET_FETCH);
        let expected = vec![offset("t", 0, number, ""), offset("t", 1, number + 1, "")];
        assert_eq!(found, (NONE, expected));
    }
    let listed = wire.call(&ListGroupsRequest::default(), 5);
    assert_eq!(listed.groups.len(), GROUPS as usize);
}

/// Takes Kafka's big-endian fields apart.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count);
        self.0 = rest;
        bytes
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.bytes(2).try_into().unwrap())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.bytes(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.bytes(8).try_into().unwrap())
    }

    fn string(&mut self) -> String {
        let length = self.i16() as usize;
        String::from_utf8(self.bytes(length).to_vec()).unwrap()
    }
}

#[test]
fn the_offsets_topic_is_in_kafkas_format_and_nobody_else_writes_it() {
    const TOPIC: &str = "__consumer_offsets";
    let (_dir, broker, mut wire) = broker();
    let mut member = group_of(broker.kafka, "members", 1).remove(0);
    assert_eq!(member.commit("t", &[(2, 20)]), NONE);
    let mut request = commit("simple", "t", &[(1, 11)]);
    request.topics[0].partitions[0].committed_leader_epoch = 5;
    request.topics[0].partitions[0].committed_metadata = Some(text("note"));
    wire.call(&request, OFFSET_COMMIT);
    assert_eq!(wire.describe_topic(TOPIC).partitions.len(), 8);
    assert!(wire.describe_topic(TOPIC).is_internal);
    let refused = wire.produce(TOPIC, 0, Batch::of(["x"]).encode());
    assert_eq!(refused.error_code, INVALID_TOPIC);

    let mut expected: i64 = (0..8).map(|index| wire.offset(TOPIC, index, -1)).sum();
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", broker.bootstrap())
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for index in 0..8 {
        list.add_partition_offset(TOPIC, index, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut offsets = BTreeMap::new();
    let mut groups = BTreeMap::new();
    let until = Instant::now() + HANG;
    while expected > 0 {
        assert!(Instant::now() < until, "{expected} records are missing");
        let Some(message) = consumer.poll(Duration::from_millis(100)) else {
            continue;
        };
        let message = message.unwrap();
        expected -= 1;
        let mut key = Fields(message.key().unwrap());
        let mut value = Fields(message.payload().unwrap());
        match (key.i16(), value.i16()) {
            (1, 3) => {
                let key_of = (key.string(), key.string(), key.i32());
                let value_of = (value.i64(), value.i32(), value.string());
                assert!(value.i64() > 1_600_000_000_000, "when it was committed");
                offsets.insert(key_of, value_of);
            }
            (2, 3) => {
                let group = key.string();
                groups.insert(group, (value.string(), value.i32(), value.string()));
            }
            versions => panic!("versions {versions:?}"),
        }
        assert!(key.0.is_empty());
    }
    let place = |group: &str, index| (group.to_owned(), "t".to_owned(), index);
    assert_eq!(offsets[&place("members", 2)], (20, -1, String::new()));
    assert_eq!(offsets[&place("simple", 1)], (11, 5, "note".to_owned()));
    assert_eq!(offsets.len(), 2);
    let group = ("consumer".to_owned(), 1, "range".to_owned());
    assert_eq!(groups["members"], group);
    assert_eq!(groups.len(), 1);
}

#[test]
fn kill_9_in_the_middle_of_a_rebalance_leaves_a_group_that_forms_again() {
    let (dir, broker, mut wire) = broker();
    let mut members = group_of(broker.kafka, "g", 2);
    assert_eq!(members[0].commit("t", &[(0, 1)]), NONE);
    let mut third = Member::new(broker.kafka, "g");
    third.get_id();
    third.send_join();
    members[0].await_rebalance();
    assert_eq!(members[0].commit("t", &[(1, 2)]), NONE);
    assert_eq!(describe(&mut wire, "g").0, "PreparingRebalance");
    let generation = members[0].generation;

    let address = broker.kafka;
    broker.kill_9();
    let broker = Broker::at(address, dir.path(), &super::FLAGS);
    let mut wire = Wire::connect(broker.kafka);
    let expected = vec![offset("t", 0, 1, ""), offset("t", 1, 2, "")];
    assert_eq!(fetch_offsets(&mut wire, "g", None, 9), (NONE, expected));
    // The newcomer was not yet a member, so it starts over; the others keep their places.
    members.push(Member::new(broker.kafka, "g"));
    for member in &mut members {
        member.wire = Wire::connect(broker.kafka);
    }
    std::thread::scope(|scope| {
        for member in &mut members {
            scope.spawn(|| {
                if !member.id.is_empty() {
                    member.await_rebalance();
                }
                member.settle(3);
            });
        }
    });
    assert!(members[0].generation > generation);
    eventually("it is stable", || {
        describe(&mut wire, "g") == ("Stable".to_owned(), 3)
    });
    assert_eq!(members[0].commit("t", &[(0, 3)]), NONE);
    assert_eq!(committed(&mut wire, "g", "t", 0), 3);
}
