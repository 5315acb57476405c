//! Requests of the APIs for groups and their offsets. As in [`super::requests`].

use bytes::Bytes;
use kafka_protocol::messages::{self as theirs, GroupId};
use kafka_protocol::messages::{
    join_group_request as jg, leave_group_request as lg, offset_commit_request as oc,
    offset_delete_request as od, offset_fetch_request as of, sync_group_request as sg,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::group::{
    delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups, offset_commit,
    offset_delete, offset_fetch, sync_group,
};
use millstream::kafka::topics;
use millstream::wire::Wire;
use millstream::wire::WireError;

use super::{frame, future, open, text, topic_name, versions};

pub fn join_group_request(version: i16) -> theirs::JoinGroupRequest {
    let protocol = jg::JoinGroupRequestProtocol::default()
        .with_name(text("name"))
        .with_metadata(Bytes::from_static(b"metadata"))
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::JoinGroupRequest::default()
        .with_group_id(GroupId(text("group a")))
        .with_session_timeout_ms(12)
        .with_member_id(text("member 1"))
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol])
        .with_unknown_tagged_field(9, future());
    if version >= 1 {
        request.rebalance_timeout_ms = 13;
    }
    if version >= 5 {
        request.group_instance_id = Some(text("instance 1"));
    }
    if version >= 8 {
        request.reason = Some(text("leaving"));
    }
    request
}

#[test]
fn join_group_requests() {
    for version in versions(ApiKey::JoinGroup) {
        let theirs = join_group_request(version);
        let frame = frame(ApiKey::JoinGroup, version, &theirs);
        let mut r = open(&frame, ApiKey::JoinGroup, version);
        let protocol = join_group::Protocol {
            name: "name",
            metadata: Bytes::from_static(b"metadata"),
        };
        let expected = join_group::Request {
            group_id: "group a",
            session_timeout_ms: 12,
            rebalance_timeout_ms: if version >= 1 { 13 } else { -1 },
            member_id: "member 1",
            group_instance_id: (version >= 5).then_some("instance 1"),
            protocol_type: "consumer",
            protocols: vec![protocol],
            reason: (version >= 8).then_some("leaving"),
        };
        let request = join_group::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn sync_group_request(version: i16) -> theirs::SyncGroupRequest {
    let assignment = sg::SyncGroupRequestAssignment::default()
        .with_member_id(text("member 1"))
        .with_assignment(Bytes::from_static(b"assignment"))
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::SyncGroupRequest::default()
        .with_group_id(GroupId(text("group a")))
        .with_generation_id(12)
        .with_member_id(text("member 1"))
        .with_assignments(vec![assignment])
        .with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.group_instance_id = Some(text("instance 1"));
    }
    if version >= 5 {
        request.protocol_type = Some(text("consumer"));
        request.protocol_name = Some(text("range"));
    }
    request
}

#[test]
fn sync_group_requests() {
    for version in versions(ApiKey::SyncGroup) {
        let theirs = sync_group_request(version);
        let frame = frame(ApiKey::SyncGroup, version, &theirs);
        let mut r = open(&frame, ApiKey::SyncGroup, version);
        let assignment = sync_group::Assignment {
            member_id: "member 1",
            assignment: Bytes::from_static(b"assignment"),
        };
        let expected = sync_group::Request {
            group_id: "group a",
            generation_id: 12,
            member_id: "member 1",
            group_instance_id: (version >= 3).then_some("instance 1"),
            protocol_type: (version >= 5).then_some("consumer"),
            protocol_name: (version >= 5).then_some("range"),
            assignments: vec![assignment],
        };
        let request = sync_group::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn heartbeat_request(version: i16) -> theirs::HeartbeatRequest {
    let mut request = theirs::HeartbeatRequest::default()
        .with_group_id(GroupId(text("group a")))
        .with_generation_id(12)
        .with_member_id(text("member 1"))
        .with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.group_instance_id = Some(text("instance 1"));
    }
    request
}

#[test]
fn heartbeat_requests() {
    for version in versions(ApiKey::Heartbeat) {
        let theirs = heartbeat_request(version);
        let frame = frame(ApiKey::Heartbeat, version, &theirs);
        let mut r = open(&frame, ApiKey::Heartbeat, version);
        let expected = heartbeat::Request {
            group_id: "group a",
            generation_id: 12,
            member_id: "member 1",
            group_instance_id: (version >= 3).then_some("instance 1"),
        };
        let request = heartbeat::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn offset_commit_request(version: i16) -> theirs::OffsetCommitRequest {
    let mut partition = oc::OffsetCommitRequestPartition::default()
        .with_partition_index(14)
        .with_committed_offset(1 << 45)
        .with_committed_metadata(Some(text("noted")))
        .with_unknown_tagged_field(9, future());
    if version >= 6 {
        partition.committed_leader_epoch = 16;
    }
    let topic = oc::OffsetCommitRequestTopic::default()
        .with_name(topic_name("orders"))
        .with_partitions(vec![
            partition.clone(),
            partition.with_committed_metadata(None),
        ])
        .with_unknown_tagged_field(9, future());
    let mut request = theirs::OffsetCommitRequest::default()
        .with_group_id(GroupId(text("group a")))
        .with_generation_id_or_member_epoch(12)
        .with_member_id(text("member 1"))
        .with_topics(vec![topic])
        .with_unknown_tagged_field(9, future());
    if version >= 7 {
        request.group_instance_id = Some(text("instance 1"));
    }
    if version <= 4 {
        request.retention_time_ms = 1 << 43;
    }
    request
}

#[test]
fn offset_commit_requests() {
    for version in versions(ApiKey::OffsetCommit) {
        let theirs = offset_commit_request(version);
        let frame = frame(ApiKey::OffsetCommit, version, &theirs);
        let mut r = open(&frame, ApiKey::OffsetCommit, version);
        let partition = offset_commit::PartitionRequest {
            index: 14,
            committed_offset: 1 << 45,
            committed_leader_epoch: if version >= 6 { 16 } else { -1 },
            committed_metadata: Some("noted"),
        };
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![
                partition,
                offset_commit::PartitionRequest {
                    committed_metadata: None,
                    ..partition
                },
            ],
        };
        let expected = offset_commit::Request {
            group_id: "group a",
            generation_id_or_member_epoch: 12,
            member_id: "member 1",
            group_instance_id: (version >= 7).then_some("instance 1"),
            retention_time_ms: if version <= 4 { 1 << 43 } else { -1 },
            topics: vec![topic],
        };
        let request = offset_commit::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn offset_delete_request(_version: i16) -> theirs::OffsetDeleteRequest {
    let partition = od::OffsetDeleteRequestPartition::default().with_partition_index(12);
    let topic = od::OffsetDeleteRequestTopic::default()
        .with_name(topic_name("orders"))
        .with_partitions(vec![partition]);
    theirs::OffsetDeleteRequest::default()
        .with_group_id(GroupId(text("group a")))
        .with_topics(vec![topic])
}

#[test]
fn offset_delete_requests() {
    for version in versions(ApiKey::OffsetDelete) {
        let theirs = offset_delete_request(version);
        let frame = frame(ApiKey::OffsetDelete, version, &theirs);
        let mut r = open(&frame, ApiKey::OffsetDelete, version);
        let partition = 12;
        let topic = topics::TopicRequest {
            name: "orders",
            partitions: vec![partition],
        };
        let expected = offset_delete::Request {
            group_id: "group a",
            topics: vec![topic],
        };
        let request = offset_delete::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn describe_groups_request(version: i16) -> theirs::DescribeGroupsRequest {
    let mut request = theirs::DescribeGroupsRequest::default()
        .with_groups(vec![GroupId(text("group a"))])
        .with_unknown_tagged_field(9, future());
    if version >= 3 {
        request.include_authorized_operations = true;
    }
    request
}

#[test]
fn describe_groups_requests() {
    for version in versions(ApiKey::DescribeGroups) {
        let theirs = describe_groups_request(version);
        let frame = frame(ApiKey::DescribeGroups, version, &theirs);
        let mut r = open(&frame, ApiKey::DescribeGroups, version);
        let expected = describe_groups::Request {
            groups: vec!["group a"],
            include_authorized_operations: version >= 3,
        };
        let request = describe_groups::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn list_groups_request(version: i16) -> theirs::ListGroupsRequest {
    let mut request = theirs::ListGroupsRequest::default().with_unknown_tagged_field(9, future());
    if version >= 4 {
        request.states_filter = vec![text("Stable")];
    }
    if version >= 5 {
        request.types_filter = vec![text("classic")];
    }
    request
}

#[test]
fn list_groups_requests() {
    for version in versions(ApiKey::ListGroups) {
        let theirs = list_groups_request(version);
        let frame = frame(ApiKey::ListGroups, version, &theirs);
        let mut r = open(&frame, ApiKey::ListGroups, version);
        let expected = list_groups::Request {
            states_filter: if version >= 4 { vec!["Stable"] } else { vec![] },
            types_filter: if version >= 5 {
                vec!["classic"]
            } else {
                vec![]
            },
        };
        let request = list_groups::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn delete_groups_request(_version: i16) -> theirs::DeleteGroupsRequest {
    theirs::DeleteGroupsRequest::default()
        .with_groups_names(vec![GroupId(text("group a"))])
        .with_unknown_tagged_field(9, future())
}

#[test]
fn delete_groups_requests() {
    for version in versions(ApiKey::DeleteGroups) {
        let theirs = delete_groups_request(version);
        let frame = frame(ApiKey::DeleteGroups, version, &theirs);
        let mut r = open(&frame, ApiKey::DeleteGroups, version);
        let expected = delete_groups::Request {
            groups: vec!["group a"],
        };
        let request = delete_groups::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn leave_group_request(version: i16) -> theirs::LeaveGroupRequest {
    let request = theirs::LeaveGroupRequest::default()
        .with_group_id(GroupId(text("group a")))
        .with_unknown_tagged_field(9, future());
    if version < 3 {
        return request.with_member_id(text("member 1"));
    }
    let mut by_both = lg::MemberIdentity::default()
        .with_member_id(text("member 1"))
        .with_group_instance_id(Some(text("instance 1")))
        .with_unknown_tagged_field(9, future());
    if version >= 5 {
        by_both.reason = Some(text("leaving"));
    }
    let by_id = lg::MemberIdentity::default().with_member_id(text("member 2"));
    request.with_members(vec![by_both, by_id])
}

#[test]
fn leave_group_requests() {
    for version in versions(ApiKey::LeaveGroup) {
        let theirs = leave_group_request(version);
        let frame = frame(ApiKey::LeaveGroup, version, &theirs);
        let mut r = open(&frame, ApiKey::LeaveGroup, version);
        let mut members = vec![leave_group::MemberRequest {
            member_id: "member 1",
            group_instance_id: (version >= 3).then_some("instance 1"),
            reason: (version >= 5).then_some("leaving"),
        }];
        if version >= 3 {
            members.push(leave_group::MemberRequest {
                member_id: "member 2",
                group_instance_id: None,
                reason: None,
            });
        }
        let expected = leave_group::Request {
            group_id: "group a",
            member_id: if version >= 3 { "" } else { "member 1" },
            members: if version >= 3 {
                members.clone()
            } else {
                vec![]
            },
        };
        let request = leave_group::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(request.members(version), members, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

pub fn offset_fetch_request(version: i16) -> theirs::OffsetFetchRequest {
    let mut request = theirs::OffsetFetchRequest::default().with_unknown_tagged_field(9, future());
    if version >= 7 {
        request.require_stable = true;
    }
    if version < 8 {
        let topic = of::OffsetFetchRequestTopic::default()
            .with_name(topic_name("orders"))
            .with_partition_indexes(vec![3, 4])
            .with_unknown_tagged_field(9, future());
        return request
            .with_group_id(GroupId(text("group a")))
            .with_topics(Some(vec![topic]));
    }
    let topic = of::OffsetFetchRequestTopics::default()
        .with_name(topic_name("orders"))
        .with_partition_indexes(vec![3, 4])
        .with_unknown_tagged_field(9, future());
    let mut group = of::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("group a")))
        .with_topics(Some(vec![topic]))
        .with_unknown_tagged_field(9, future());
    if version >= 9 {
        group.member_id = Some(text("member 1"));
        group.member_epoch = 12;
    }
    let all_topics = of::OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text("group b")))
        .with_topics(None);
    request.with_groups(vec![group, all_topics])
}

#[test]
fn offset_fetch_requests() {
    for version in versions(ApiKey::OffsetFetch) {
        let theirs = offset_fetch_request(version);
        let frame = frame(ApiKey::OffsetFetch, version, &theirs);
        let mut r = open(&frame, ApiKey::OffsetFetch, version);
        let topics = vec![topics::TopicRequest {
            name: "orders",
            partitions: vec![3, 4],
        }];
        let of_group_a = ("group a", Some(&topics[..]));
        let (expected, asked) = if version >= 8 {
            let group_a = offset_fetch::GroupRequest {
                group_id: "group a",
                member_id: (version >= 9).then_some("member 1"),
                member_epoch: if version >= 9 { 12 } else { -1 },
                topics: Some(topics.clone()),
            };
            let group_b = offset_fetch::GroupRequest {
                group_id: "group b",
                member_id: None,
                member_epoch: -1,
                topics: None,
            };
            let request = offset_fetch::Request {
                groups: vec![group_a, group_b],
                require_stable: true,
                ..offset_fetch::Request::default()
            };
            (request, vec![of_group_a, ("group b", None)])
        } else {
            let request = offset_fetch::Request {
                group_id: "group a",
                topics: Some(topics.clone()),
                groups: vec![],
                require_stable: version >= 7,
            };
            (request, vec![of_group_a])
        };
        let request = offset_fetch::Request::decode(&mut r, version).unwrap();
        assert_eq!(request, expected, "v{version}");
        assert_eq!(request.groups(version), asked, "v{version}");
        assert_eq!(r.remaining(), 0, "v{version}");
    }
}

#[test]
fn an_offset_fetch_of_all_topics_is_an_error_in_version_1() {
    for version in 1..=7 {
        let request = theirs::OffsetFetchRequest::default().with_topics(None);
        let frame = frame(ApiKey::OffsetFetch, version, &request);
        let mut r = open(&frame, ApiKey::OffsetFetch, version);
        let topics = offset_fetch::Request::decode(&mut r, version).map(|request| request.topics);
        let expected = match version {
            1 => Err(WireError::UnexpectedNull),
            _ => Ok(None),
        };
        assert_eq!(topics, expected, "v{version}");
    }
}

#[test]
fn metadata_and_assignments_share_the_frame() {
    let joining = frame(ApiKey::JoinGroup, 9, &join_group_request(9));
    let request =
        join_group::Request::decode(&mut open(&joining, ApiKey::JoinGroup, 9), 9).unwrap();
    let metadata = request.protocols[0].metadata.as_ptr();
    assert!(joining.as_ptr_range().contains(&metadata));

    let syncing = frame(ApiKey::SyncGroup, 5, &sync_group_request(5));
    let request =
        sync_group::Request::decode(&mut open(&syncing, ApiKey::SyncGroup, 5), 5).unwrap();
    let assignment = request.assignments[0].assignment.as_ptr();
    assert!(syncing.as_ptr_range().contains(&assignment));
}
