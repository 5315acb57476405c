//! Responses of the APIs for groups and their offsets. As in [`super::responses`].

use bytes::Bytes;
use kafka_protocol::messages::{self as theirs, GroupId};
use kafka_protocol::messages::{
    delete_groups_response as dlg, describe_groups_response as dg, join_group_response as jg,
    leave_group_response as lg, list_groups_response as lgs, offset_commit_response as oc,
    offset_delete_response as od, offset_fetch_response as of,
};
use millstream::kafka::api::ApiKey;
use millstream::kafka::error::ErrorCode;
use millstream::kafka::group::{
    delete_groups, describe_groups, heartbeat, join_group, leave_group, list_groups, offset_commit,
    offset_delete, offset_fetch, sync_group,
};
use millstream::kafka::topics;
use millstream::wire::Wire;

use super::{reply, text, topic_name, versions};

#[test]
fn join_group_responses() {
    let member = join_group::Member {
        member_id: "member 1".into(),
        group_instance_id: Some("instance 1".into()),
        metadata: Bytes::from_static(b"metadata"),
    };
    let ours = join_group::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::UnknownMemberId,
        generation_id: 33,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        leader: "member 2".into(),
        skip_assignment: true,
        member_id: "member 1".into(),
        members: vec![member, join_group::Member::default()],
    };
    for version in versions(ApiKey::JoinGroup) {
        let mut member = jg::JoinGroupResponseMember::default()
            .with_member_id(text("member 1"))
            .with_metadata(Bytes::from_static(b"metadata"));
        if version >= 5 {
            member.group_instance_id = Some(text("instance 1"));
        }
        let plain_member = jg::JoinGroupResponseMember::default();
        let mut expected = theirs::JoinGroupResponse::default()
            .with_error_code(25)
            .with_generation_id(33)
            .with_protocol_name(Some(text("range")))
            .with_leader(text("member 2"))
            .with_member_id(text("member 1"))
            .with_members(vec![member, plain_member]);
        if version >= 2 {
            expected.throttle_time_ms = 32;
        }
        if version >= 7 {
            expected.protocol_type = Some(text("consumer"));
        }
        if version >= 9 {
            expected.skip_assignment = true;
        }
        let read: theirs::JoinGroupResponse = reply(ApiKey::JoinGroup, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn sync_group_responses() {
    let ours = sync_group::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::UnknownMemberId,
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignment: Bytes::from_static(b"assignment"),
    };
    for version in versions(ApiKey::SyncGroup) {
        let mut expected = theirs::SyncGroupResponse::default()
            .with_error_code(25)
            .with_assignment(Bytes::from_static(b"assignment"));
        if version >= 1 {
            expected.throttle_time_ms = 32;
        }
        if version >= 5 {
            expected.protocol_type = Some(text("consumer"));
            expected.protocol_name = Some(text("range"));
        }
        let read: theirs::SyncGroupResponse = reply(ApiKey::SyncGroup, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn heartbeat_responses() {
    let ours = heartbeat::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::UnknownMemberId,
    };
    for version in versions(ApiKey::Heartbeat) {
        let mut expected = theirs::HeartbeatResponse::default().with_error_code(25);
        if version >= 1 {
            expected.throttle_time_ms = 32;
        }
        let read: theirs::HeartbeatResponse = reply(ApiKey::Heartbeat, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn offset_commit_responses() {
    let partition = topics::PartitionCode {
        index: 33,
        error_code: ErrorCode::UnknownMemberId,
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition],
    };
    let ours = offset_commit::Response {
        throttle_time_ms: 32,
        topics: vec![topic],
    };
    for version in versions(ApiKey::OffsetCommit) {
        let partition = oc::OffsetCommitResponsePartition::default()
            .with_partition_index(33)
            .with_error_code(25);
        let topic = oc::OffsetCommitResponseTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let mut expected = theirs::OffsetCommitResponse::default().with_topics(vec![topic]);
        if version >= 3 {
            expected.throttle_time_ms = 32;
        }
        let read: theirs::OffsetCommitResponse = reply(ApiKey::OffsetCommit, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn offset_delete_responses() {
    let partition = topics::PartitionCode {
        index: 33,
        error_code: ErrorCode::GroupSubscribedToTopic,
    };
    let topic = topics::TopicResponse {
        name: "orders".into(),
        partitions: vec![partition],
    };
    let ours = offset_delete::Response {
        error_code: ErrorCode::NonEmptyGroup,
        throttle_time_ms: 32,
        topics: vec![topic],
    };
    for version in versions(ApiKey::OffsetDelete) {
        let partition = od::OffsetDeleteResponsePartition::default()
            .with_partition_index(33)
            .with_error_code(86);
        let topic = od::OffsetDeleteResponseTopic::default()
            .with_name(topic_name("orders"))
            .with_partitions(vec![partition]);
        let expected = theirs::OffsetDeleteResponse::default()
            .with_error_code(68)
            .with_throttle_time_ms(32)
            .with_topics(vec![topic]);
        let read: theirs::OffsetDeleteResponse = reply(ApiKey::OffsetDelete, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn describe_groups_responses() {
    let member = describe_groups::Member {
        member_id: "member 1".into(),
        group_instance_id: Some("instance 1".into()),
        client_id: "client 1".into(),
        client_host: "/127.0.0.1".into(),
        member_metadata: Bytes::from_static(b"member metadata"),
        member_assignment: Bytes::from_static(b"member assignment"),
    };
    let group = describe_groups::Group {
        error_code: ErrorCode::GroupIdNotFound,
        error_message: Some("what".into()),
        group_id: "group a".into(),
        group_state: "Stable".into(),
        protocol_type: "consumer".into(),
        protocol_data: "range".into(),
        members: vec![member, describe_groups::Member::default()],
        authorized_operations: 33,
    };
    let ours = describe_groups::Response {
        throttle_time_ms: 32,
        groups: vec![group, describe_groups::Group::default()],
    };
    for version in versions(ApiKey::DescribeGroups) {
        let mut member = dg::DescribedGroupMember::default()
            .with_member_id(text("member 1"))
            .with_client_id(text("client 1"))
            .with_client_host(text("/127.0.0.1"))
            .with_member_metadata(Bytes::from_static(b"member metadata"))
            .with_member_assignment(Bytes::from_static(b"member assignment"));
        if version >= 4 {
            member.group_instance_id = Some(text("instance 1"));
        }
        let plain_member = dg::DescribedGroupMember::default();
        let mut group = dg::DescribedGroup::default()
            .with_error_code(69)
            .with_group_id(GroupId(text("group a")))
            .with_group_state(text("Stable"))
            .with_protocol_type(text("consumer"))
            .with_protocol_data(text("range"))
            .with_members(vec![member, plain_member]);
        if version >= 6 {
            group.error_message = Some(text("what"));
        }
        if version >= 3 {
            group.authorized_operations = 33;
        }
        let plain_group = dg::DescribedGroup::default();
        let mut expected =
            theirs::DescribeGroupsResponse::default().with_groups(vec![group, plain_group]);
        if version >= 1 {
            expected.throttle_time_ms = 32;
        }
        let read: theirs::DescribeGroupsResponse = reply(ApiKey::DescribeGroups, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn list_groups_responses() {
    let group = list_groups::Group {
        group_id: "group a".into(),
        protocol_type: "consumer".into(),
        group_state: "Stable".into(),
        group_type: "classic".into(),
    };
    let ours = list_groups::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::CoordinatorLoadInProgress,
        groups: vec![group],
    };
    for version in versions(ApiKey::ListGroups) {
        let mut group = lgs::ListedGroup::default()
            .with_group_id(GroupId(text("group a")))
            .with_protocol_type(text("consumer"));
        if version >= 4 {
            group.group_state = text("Stable");
        }
        if version >= 5 {
            group.group_type = text("classic");
        }
        let mut expected = theirs::ListGroupsResponse::default()
            .with_error_code(14)
            .with_groups(vec![group]);
        if version >= 1 {
            expected.throttle_time_ms = 32;
        }
        let read: theirs::ListGroupsResponse = reply(ApiKey::ListGroups, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn delete_groups_responses() {
    let group = delete_groups::GroupResponse {
        group_id: "group a".into(),
        error_code: ErrorCode::NonEmptyGroup,
    };
    let ours = delete_groups::Response {
        throttle_time_ms: 32,
        results: vec![group],
    };
    for version in versions(ApiKey::DeleteGroups) {
        let group = dlg::DeletableGroupResult::default()
            .with_group_id(GroupId(text("group a")))
            .with_error_code(68);
        let expected = theirs::DeleteGroupsResponse::default()
            .with_throttle_time_ms(32)
            .with_results(vec![group]);
        let read: theirs::DeleteGroupsResponse = reply(ApiKey::DeleteGroups, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn a_join_group_response_without_a_protocol_has_the_empty_name_before_version_7() {
    let ours = join_group::Response::default();
    for version in versions(ApiKey::JoinGroup) {
        let read: theirs::JoinGroupResponse = reply(ApiKey::JoinGroup, version, |w| {
            ours.encode(w, version);
        });
        let empty = (version < 7).then(|| text(""));
        assert_eq!(read.protocol_name, empty, "v{version}");
    }
}

#[test]
fn leave_group_responses() {
    let member = leave_group::MemberResponse {
        member_id: "member 1".into(),
        group_instance_id: Some("instance 1".into()),
        error_code: ErrorCode::FencedInstanceId,
    };
    let ours = leave_group::Response {
        throttle_time_ms: 32,
        error_code: ErrorCode::NotCoordinator,
        members: vec![member, leave_group::MemberResponse::default()],
    };
    for version in versions(ApiKey::LeaveGroup) {
        let mut expected = theirs::LeaveGroupResponse::default().with_error_code(16);
        if version >= 1 {
            expected.throttle_time_ms = 32;
        }
        if version >= 3 {
            expected.members = vec![
                lg::MemberResponse::default()
                    .with_member_id(text("member 1"))
                    .with_group_instance_id(Some(text("instance 1")))
                    .with_error_code(82),
                lg::MemberResponse::default().with_group_instance_id(None),
            ];
        }
        let read: theirs::LeaveGroupResponse = reply(ApiKey::LeaveGroup, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

#[test]
fn an_old_leave_group_response_says_the_only_members_error() {
    let member = leave_group::MemberResponse {
        error_code: ErrorCode::UnknownMemberId,
        ..leave_group::MemberResponse::default()
    };
    for version in versions(ApiKey::LeaveGroup) {
        let ours = leave_group::Response::of(vec![member.clone()], version);
        let read: theirs::LeaveGroupResponse = reply(ApiKey::LeaveGroup, version, |w| {
            ours.encode(w, version);
        });
        let expected = if version < 3 { 25 } else { 0 };
        assert_eq!(read.error_code, expected, "v{version}");
    }
}

#[test]
fn offset_fetch_responses() {
    let partition = offset_fetch::PartitionResponse {
        index: 3,
        committed_offset: 1 << 40,
        committed_leader_epoch: 7,
        metadata: Some("noted".into()),
        error_code: ErrorCode::UnstableOffsetCommit,
    };
    let without = offset_fetch::PartitionResponse {
        metadata: None,
        ..offset_fetch::PartitionResponse::default()
    };
    let groups = vec![
        offset_fetch::GroupResponse {
            group_id: "group a".into(),
            topics: vec![topics::TopicResponse {
                name: "orders".into(),
                partitions: vec![
                    partition,
                    without,
                    offset_fetch::PartitionResponse::default(),
                ],
            }],
            error_code: ErrorCode::NotCoordinator,
        },
        offset_fetch::GroupResponse {
            group_id: "group b".into(),
            ..offset_fetch::GroupResponse::default()
        },
    ];
    for version in versions(ApiKey::OffsetFetch) {
        let mut expected = if version >= 8 {
            expected_offsets_of_groups()
        } else {
            expected_offsets_of_one_group(version)
        };
        if version >= 3 {
            expected.throttle_time_ms = 32;
        }
        let ours = offset_fetch::Response {
            throttle_time_ms: 32,
            ..offset_fetch::Response::of(groups.clone(), version)
        };
        let read: theirs::OffsetFetchResponse = reply(ApiKey::OffsetFetch, version, |w| {
            ours.encode(w, version);
        });
        assert_eq!(read, expected, "v{version}");
    }
}

fn expected_offsets_of_groups() -> theirs::OffsetFetchResponse {
    let none = of::OffsetFetchResponsePartitions::default().with_committed_offset(-1);
    let partitions = vec![
        of::OffsetFetchResponsePartitions::default()
            .with_partition_index(3)
            .with_committed_offset(1 << 40)
            .with_committed_leader_epoch(7)
            .with_metadata(Some(text("noted")))
            .with_error_code(88),
        none.clone().with_metadata(None),
        none,
    ];
    let topic = of::OffsetFetchResponseTopics::default()
        .with_name(topic_name("orders"))
        .with_partitions(partitions);
    theirs::OffsetFetchResponse::default().with_groups(vec![
        of::OffsetFetchResponseGroup::default()
            .with_group_id(GroupId(text("group a")))
            .with_topics(vec![topic])
            .with_error_code(16),
        of::OffsetFetchResponseGroup::default().with_group_id(GroupId(text("group b"))),
    ])
}

/// Version 1 says the group's error in the partitions that have none of their own.
fn expected_offsets_of_one_group(version: i16) -> theirs::OffsetFetchResponse {
    let none = of::OffsetFetchResponsePartition::default()
        .with_committed_offset(-1)
        .with_error_code(if version == 1 { 16 } else { 0 });
    let mut partition = of::OffsetFetchResponsePartition::default()
        .with_partition_index(3)
        .with_committed_offset(1 << 40)
        .with_metadata(Some(text("noted")))
        .with_error_code(88);
    if version >= 5 {
        partition.committed_leader_epoch = 7;
    }
    let topic = of::OffsetFetchResponseTopic::default()
        .with_name(topic_name("orders"))
        .with_partitions(vec![partition, none.clone().with_metadata(None), none]);
    theirs::OffsetFetchResponse::default()
        .with_topics(vec![topic])
        .with_error_code(if version >= 2 { 16 } else { 0 })
}
