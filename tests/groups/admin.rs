//! What operators do with groups.

use super::{after_kill_9, broker};
use crate::support::group::*;
use crate::support::wire::*;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::*;

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NON_EMPTY_GROUP: i16 = 68;
const GROUP_SUBSCRIBED_TO_TOPIC: i16 = 86;

#[test]
fn every_version_finds_the_coordinator() {
    let (_dir, broker, mut wire) = broker();
    let address = |host: &str, port: i32| assert_eq!(format!("{host}:{port}"), broker.bootstrap());
    for version in 0..=3 {
        let request = FindCoordinatorRequest::default().with_key(text("g"));
        let response = wire.call(&request, version);
        assert_eq!(response.error_code, NONE);
        address(&response.host, response.port);
    }
    for version in 4..=6 {
        let request =
            FindCoordinatorRequest::default().with_coordinator_keys(vec![text("a"), text("b")]);
        let response = wire.call(&request, version);
        let keys: Vec<&str> = response
            .coordinators
            .iter()
            .map(|c| c.key.as_str())
            .collect();
        assert_eq!(keys, ["a", "b"]);
        for coordinator in &response.coordinators {
            assert_eq!(coordinator.error_code, NONE);
            address(&coordinator.host, coordinator.port);
        }
    }
}

#[test]
fn a_group_is_described_in_every_version() {
    let (_dir, broker, mut wire) = broker();
    let mut member = Member::new(broker.kafka, "g");
    member.request.group_instance_id = Some(text("instance"));
    member.settle(1);
    wire.call(&commit("simple", "t", &[(0, 1)]), OFFSET_COMMIT);
    for version in 0..=6 {
        let groups = ["g", "simple", "nobody", ""].map(group_id).to_vec();
        let request = DescribeGroupsRequest::default()
            .with_groups(groups)
            .with_include_authorized_operations(version >= 3);
        let groups = wire.call(&request, version).groups;
        let heads: Vec<_> = groups
            .iter()
            .map(|group| {
                let state = group.group_state.as_str();
                (group.error_code, state, group.protocol_type.as_str())
            })
            .collect();
        let missing = match version {
            6 => (GROUP_ID_NOT_FOUND, "Dead", ""),
            _ => (NONE, "Dead", ""),
        };
        let nameless = (INVALID_GROUP_ID, "", "");
        let expected = [
            (NONE, "Stable", "consumer"),
            (NONE, "Empty", ""),
            missing,
            nameless,
        ];
        assert_eq!(heads, expected, "version {version}");
        assert_eq!(groups[0].protocol_data, text("range"));
        assert_eq!(groups[0].authorized_operations > 0, version >= 3);
        let described = &groups[0].members[0];
        assert_eq!(described.member_id, text(&member.id));
        assert_eq!(described.client_id, text("test"));
        assert_eq!(described.client_host, text("/127.0.0.1"));
        assert_eq!(described.member_metadata, subscription(&["t"]));
        assert_eq!(described.member_assignment[..], 1_u32.to_be_bytes());
        let instance = (version >= 4).then(|| text("instance"));
        assert_eq!(described.group_instance_id, instance);
    }
}

#[test]
fn groups_are_listed_in_every_version_by_state_and_by_type() {
    let (_dir, broker, mut wire) = broker();
    let _stable = group_of(broker.kafka, "stable", 1);
    wire.call(&commit("simple", "t", &[(0, 1)]), OFFSET_COMMIT);
    let mut left = group_of(broker.kafka, "left", 1).remove(0);
    assert_eq!(left.commit("t", &[(0, 1)]), NONE);
    assert_eq!(left.leave(), NONE);
    let mut list = |states: &[&str], types: &[&str], version| {
        let request = ListGroupsRequest::default()
            .with_states_filter(states.iter().map(|state| text(state)).collect())
            .with_types_filter(types.iter().map(|kind| text(kind)).collect());
        let response = wire.call(&request, version);
        assert_eq!(response.error_code, NONE);
        let groups = response.groups.into_iter().map(|group| {
            let state = group.group_state.to_string();
            let kind = group.group_type.to_string();
            (
                group.group_id.to_string(),
                group.protocol_type.to_string(),
                state,
                kind,
            )
        });
        let mut groups: Vec<_> = groups.collect();
        groups.sort();
        groups
    };
    let names = |groups: Vec<(String, String, String, String)>| -> Vec<String> {
        groups.into_iter().map(|group| group.0).collect()
    };
    for version in 0..=5 {
        let state = |state: &str| match version {
            0..=3 => String::new(),
            _ => state.to_owned(),
        };
        let kind = match version {
            5 => "classic",
            _ => "",
        };
        let expected = [
            ("left", "consumer", "Empty"),
            ("simple", "", "Empty"),
            ("stable", "consumer", "Stable"),
        ];
        let expected = expected.map(|(group, protocol, is)| {
            (
                group.to_owned(),
                protocol.to_owned(),
                state(is),
                kind.to_owned(),
            )
        });
        assert_eq!(list(&[], &[], version), expected, "version {version}");
    }
    for version in 4..=5 {
        assert_eq!(names(list(&["Empty"], &[], version)), ["left", "simple"]);
        assert_eq!(names(list(&["stable"], &[], version)), ["stable"]);
        let both = names(list(&["Stable", "Empty"], &[], version));
        assert_eq!(both, ["left", "simple", "stable"]);
        assert!(list(&["PreparingRebalance"], &[], version).is_empty());
    }
    assert_eq!(names(list(&["Stable"], &["classic"], 5)), ["stable"]);
    assert!(list(&[], &["consumer"], 5).is_empty());
}

#[test]
fn only_groups_without_members_are_deleted_and_then_with_all_they_had() {
    let (dir, broker, mut wire) = broker();
    let mut member = group_of(broker.kafka, "g", 1).remove(0);
    for version in 0..=2 {
        let group = format!("simple{version}");
        wire.call(&commit(&group, "t", &[(0, 1)]), OFFSET_COMMIT);
        let names = ["g", &group, "nobody", &group].map(group_id).to_vec();
        let request = DeleteGroupsRequest::default().with_groups_names(names);
        let response = wire.call(&request, version);
        let errors: Vec<i16> = response
            .results
            .iter()
            .map(|group| group.error_code)
            .collect();
        let missing = GROUP_ID_NOT_FOUND;
        assert_eq!(errors, [NON_EMPTY_GROUP, NONE, missing, missing]);
        assert_eq!(describe(&mut wire, &group), ("Dead".to_owned(), 0));
        assert_eq!(committed(&mut wire, &group, "t", 0), -1);
    }
    assert_eq!(member.heartbeat(), NONE);
    assert_eq!(member.commit("t", &[(0, 5)]), NONE);
    assert_eq!(member.leave(), NONE);
    let request = DeleteGroupsRequest::default().with_groups_names(vec![group_id("g")]);
    assert_eq!(wire.call(&request, 2).results[0].error_code, NONE);
    assert_eq!(member.heartbeat(), UNKNOWN_MEMBER_ID);
    let nothing = |wire: &mut Wire| {
        assert!(
            wire.call(&ListGroupsRequest::default(), 5)
                .groups
                .is_empty()
        );
        assert_eq!(fetch_offsets(wire, "g", None, 9), (NONE, vec![]));
    };
    nothing(&mut wire);
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    nothing(&mut wire);
}

fn delete_offsets(group: &str, topics: &[(&str, &[i32])]) -> OffsetDeleteRequest {
    let partition =
        |index: &i32| OffsetDeleteRequestPartition::default().with_partition_index(*index);
    let topic = |(name, partitions): &(&str, &[i32])| {
        OffsetDeleteRequestTopic::default()
            .with_name(topic_name(name))
            .with_partitions(partitions.iter().map(partition).collect())
    };
    OffsetDeleteRequest::default()
        .with_group_id(group_id(group))
        .with_topics(topics.iter().map(topic).collect())
}

#[test]
fn offsets_of_topics_that_nobody_is_subscribed_to_are_deleted() {
    let (dir, broker, mut wire) = broker();
    wire.create_topic("u", 2);
    let mut member = group_of(broker.kafka, "g", 1).remove(0);
    assert_eq!(member.commit("t", &[(0, 1), (1, 2)]), NONE);
    assert_eq!(member.commit("u", &[(0, 3), (1, 4)]), NONE);
    let mut delete = |topics: &[(&str, &[i32])]| {
        let response = wire.call(&delete_offsets("g", topics), 0);
        assert_eq!(response.error_code, NONE);
        let topics = response.topics.iter();
        let errors = topics.flat_map(|topic| &topic.partitions);
        errors
            .map(|partition| partition.error_code)
            .collect::<Vec<_>>()
    };
    let errors = delete(&[("t", &[0]), ("u", &[0, 7]), ("nowhere", &[0])]);
    let unknown = UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(errors, [GROUP_SUBSCRIBED_TO_TOPIC, NONE, unknown, unknown]);
    assert_eq!(delete(&[("u", &[0])]), [NONE], "what is gone may go again");
    let twice = delete(&[("u", &[0, 0]), ("t", &[1]), ("u", &[0])]);
    assert_eq!(twice, [NONE, NONE, GROUP_SUBSCRIBED_TO_TOPIC, NONE]);
    let identity = MemberIdentity::default().with_member_id(text(&member.id));
    let request = LeaveGroupRequest::default()
        .with_group_id(group_id("g"))
        .with_members(vec![identity]);
    member.wire.call(&request, LEAVE_GROUP);
    assert_eq!(
        delete(&[("t", &[0])]),
        [NONE],
        "there is no subscriber any more"
    );

    let nobody = wire.call(&delete_offsets("nobody", &[("t", &[0])]), 0);
    assert_eq!(nobody.error_code, GROUP_ID_NOT_FOUND);
    let nameless = wire.call(&delete_offsets("", &[("t", &[0])]), 0);
    assert_eq!(nameless.error_code, INVALID_GROUP_ID);
    // What a group of another kind subscribes to is its own affair.
    let mut worker = Member::new(broker.kafka, "connect");
    worker.request.protocol_type = text("connect");
    worker.settle(1);
    assert_eq!(worker.commit("t", &[(0, 1)]), NONE);
    let busy = wire.call(&delete_offsets("connect", &[("t", &[0])]), 0);
    assert_eq!(busy.error_code, NON_EMPTY_GROUP);
    assert!(busy.topics.is_empty());
    let left = |wire: &mut Wire| {
        let (error, offsets) = fetch_offsets(wire, "g", None, 9);
        let offsets: Vec<_> = offsets
            .into_iter()
            .map(|offset| (offset.topic, offset.partition, offset.offset))
            .collect();
        assert_eq!(error, NONE);
        assert_eq!(offsets, [("t".to_owned(), 1, 2), ("u".to_owned(), 1, 4)]);
    };
    left(&mut wire);
    let (_broker, mut wire) = after_kill_9(&dir, broker);
    left(&mut wire);
}
