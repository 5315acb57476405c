//! Committed offsets: who may commit, what is told, and what outlives the broker.

use super::{after_kill_9, broker};
use crate::support::HANG;
use crate::support::batch::Batch;
use crate::support::group::*;
use crate::support::wire::*;
use kafka_protocol::messages::DescribeGroupsRequest;
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
fn what_is_asked_for_again_and_again_is_told_once() {
    const INVALID_REQUEST: i16 = 42;
    let (_dir, broker, mut wire) = broker();
    let longest = "m".repeat(4096);
    let mut request = commit("g", "t", &[(0, 1)]);
    request.topics[0].partitions[0].committed_metadata = Some(text(&longest));
    assert_eq!(commit_error(&wire.call(&request, OFFSET_COMMIT)), NONE);

    let response = wire.call(&fetch_offsets_of(&[("g", None); 1000]), OFFSET_FETCH);
    let mut groups = response.groups.into_iter().map(taken_apart);
    let once = vec![offset("t", 0, 1, &longest)];
    assert_eq!(groups.next(), Some((NONE, once.clone())));
    assert!(groups.all(|group| group == (INVALID_REQUEST, Vec::new())));

    // The same partition, so often that the reply would have 80 MiB.
    let indexes = vec![0; 20_000];
    let often: &[(&str, &[i32])] = &[("t", &indexes[1..]), ("t", &indexes[..1])];
    for version in 1..=OFFSET_FETCH {
        let told = fetch_offsets(&mut wire, "g", Some(often), version);
        assert_eq!(told, (NONE, once.clone()), "version {version}");
    }
    assert_eq!(committed(&mut wire, "g", "t", 0), 1);

    group_of(broker.kafka, "members", 1);
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id("members"); 2]);
    let groups = wire.call(&request, 5).groups;
    let told = groups
        .iter()
        .map(|group| (group.error_code, group.members.len()));
    assert_eq!(told.collect::<Vec<_>>(), [(NONE, 1), (INVALID_REQUEST, 0)]);
}

#[test]
fn a_partition_that_is_committed_many_times_at_once_is_stored_once_with_the_last_offset() {
    let (_dir, broker, mut wire) = broker();
    wire.call(&commit("g", "t", &[(1, 1)]), OFFSET_COMMIT);
    let stored = || {
        broker.metric(
            "millstream_topic_appended_records_total",
            "__consumer_offsets",
        )
    };
    let before = stored();
    let offsets: Vec<(i32, i64)> = (0..10_000)
        .map(|offset| (offset as i32 % 2, offset))
        .collect();
    let mut request = commit("g", "t", &offsets);
    request.topics.push(request.topics[0].clone());
    request.topics[1].partitions.truncate(1);
    // In between one that there is not.
    request.topics[0].partitions[500].partition_index = 99;
    let response = wire.call(&request, OFFSET_COMMIT);
    let topics = response.topics.iter();
    let codes: Vec<i16> = topics
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.error_code)
        .collect();
    let mut expected = vec![NONE; 10_001];
    expected[500] = UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, expected);
    assert_eq!(stored() - before, 2.0, "a record for each partition");
    assert_eq!(committed(&mut wire, "g", "t", 0), 0);
    assert_eq!(committed(&mut wire, "g", "t", 1), 9_999);
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
