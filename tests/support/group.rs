//! Members of consumer groups that send their own frames.

use super::wire::*;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::*;
use std::net::SocketAddr;

/// So long that no test ends by it.
pub const VERY_LONG_MS: i32 = 600_000;

pub const NONE: i16 = 0;
pub const ILLEGAL_GENERATION: i16 = 22;
pub const INVALID_GROUP_ID: i16 = 24;
pub const UNKNOWN_MEMBER_ID: i16 = 25;
pub const REBALANCE_IN_PROGRESS: i16 = 27;
pub const GROUP_ID_NOT_FOUND: i16 = 69;
pub const MEMBER_ID_REQUIRED: i16 = 79;

/// The newest versions.
pub const JOIN_GROUP: i16 = 9;
pub const SYNC_GROUP: i16 = 5;
pub const HEARTBEAT: i16 = 4;
pub const LEAVE_GROUP: i16 = 5;
pub const OFFSET_COMMIT: i16 = 9;
pub const OFFSET_FETCH: i16 = 9;

pub fn group_id(name: &str) -> GroupId {
    GroupId(text(name))
}

/// A consumer that has subscribed to the topic `t` joins; `member_id` is empty the first time.
pub fn join(group: &str, member_id: &str) -> JoinGroupRequest {
    JoinGroupRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member_id))
        .with_session_timeout_ms(VERY_LONG_MS)
        .with_rebalance_timeout_ms(VERY_LONG_MS)
        .with_protocol_type(text("consumer"))
        .with_protocols(vec![protocol("range", subscription(&["t"]))])
}

pub fn protocol(name: &str, metadata: Bytes) -> JoinGroupRequestProtocol {
    JoinGroupRequestProtocol::default()
        .with_name(text(name))
        .with_metadata(metadata)
}

/// What consumers put into their protocols' metadata, in its version 0.
pub fn subscription(topics: &[&str]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

pub fn sync(
    group: &str,
    member_id: &str,
    generation: i32,
    assignments: &[(&str, &[u8])],
) -> SyncGroupRequest {
    let assignment = |(member_id, assignment): &(&str, &[u8])| {
        SyncGroupRequestAssignment::default()
            .with_member_id(text(member_id))
            .with_assignment(Bytes::copy_from_slice(assignment))
    };
    SyncGroupRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member_id))
        .with_generation_id(generation)
        .with_assignments(assignments.iter().map(assignment).collect())
}

pub fn heartbeat(group: &str, member_id: &str, generation: i32) -> HeartbeatRequest {
    HeartbeatRequest::default()
        .with_group_id(group_id(group))
        .with_member_id(text(member_id))
        .with_generation_id(generation)
}

/// As each version wants it: from version 3 a list of members.
pub fn leave(group: &str, member_id: &str, version: i16) -> LeaveGroupRequest {
    let request = LeaveGroupRequest::default().with_group_id(group_id(group));
    match version {
        0..=2 => request.with_member_id(text(member_id)),
        _ => request.with_members(vec![
            MemberIdentity::default().with_member_id(text(member_id)),
        ]),
    }
}

/// Offsets of partitions of one topic, committed by somebody who is no member.
pub fn commit(group: &str, topic: &str, offsets: &[(i32, i64)]) -> OffsetCommitRequest {
    let partition = |(index, offset): &(i32, i64)| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text("")))
    };
    let topic = OffsetCommitRequestTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(offsets.iter().map(partition).collect());
    OffsetCommitRequest::default()
        .with_group_id(group_id(group))
        .with_generation_id_or_member_epoch(-1)
        .with_topics(vec![topic])
}

/// The error of the first partition.
pub fn commit_error(response: &OffsetCommitResponse) -> i16 {
    response.topics[0].partitions[0].error_code
}

/// A committed offset as OffsetFetch tells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Committed {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub metadata: String,
}

/// What OffsetFetch says of one group in any version; no topics asks for all.
pub fn fetch_offsets(
    wire: &mut Wire,
    group: &str,
    topics: Option<&[(&str, &[i32])]>,
    version: i16,
) -> (i16, Vec<Committed>) {
    if version >= 8 {
        let mut response = wire.call(&fetch_offsets_of(&[(group, topics)]), version);
        return taken_apart(response.groups.remove(0));
    }
    let topic = |(name, partitions): &(&str, &[i32])| {
        OffsetFetchRequestTopic::default()
            .with_name(topic_name(name))
            .with_partition_indexes(partitions.to_vec())
    };
    let request = OffsetFetchRequest::default()
        .with_group_id(group_id(group))
        .with_topics(topics.map(|topics| topics.iter().map(topic).collect()));
    let response = wire.call(&request, version);
    let mut offsets = Vec::new();
    for topic in &response.topics {
        for partition in &topic.partitions {
            assert_eq!(partition.error_code, NONE);
            offsets.push(Committed {
                topic: topic.name.to_string(),
                partition: partition.partition_index,
                offset: partition.committed_offset,
                metadata: partition.metadata.as_deref().unwrap().to_owned(),
            });
        }
    }
    (response.error_code, offsets)
}

type Wanted<'a> = (&'a str, Option<&'a [(&'a str, &'a [i32])]>);

/// One request for many groups, from version 8.
pub fn fetch_offsets_of(groups: &[Wanted<'_>]) -> OffsetFetchRequest {
    let topic = |(name, partitions): &(&str, &[i32])| {
        OffsetFetchRequestTopics::default()
            .with_name(topic_name(name))
            .with_partition_indexes(partitions.to_vec())
    };
    let group = |(group, topics): &Wanted<'_>| {
        OffsetFetchRequestGroup::default()
            .with_group_id(group_id(group))
            .with_topics(topics.map(|topics| topics.iter().map(topic).collect()))
    };
    OffsetFetchRequest::default().with_groups(groups.iter().map(group).collect())
}

pub fn taken_apart(
    group: offset_fetch_response::OffsetFetchResponseGroup,
) -> (i16, Vec<Committed>) {
    let mut offsets = Vec::new();
    for topic in &group.topics {
        for partition in &topic.partitions {
            assert_eq!(partition.error_code, NONE);
            offsets.push(Committed {
                topic: topic.name.to_string(),
                partition: partition.partition_index,
                offset: partition.committed_offset,
                metadata: partition.metadata.as_deref().unwrap().to_owned(),
            });
        }
    }
    (group.error_code, offsets)
}

/// The committed offset of one partition, -1 when there is none.
pub fn committed(wire: &mut Wire, group: &str, topic: &str, partition: i32) -> i64 {
    let (error, offsets) = fetch_offsets(wire, group, Some(&[(topic, &[partition])]), OFFSET_FETCH);
    assert_eq!(error, NONE);
    offsets[0].offset
}

/// A group's state and the number of its members.
pub fn describe(wire: &mut Wire, group: &str) -> (String, usize) {
    let request = DescribeGroupsRequest::default().with_groups(vec![group_id(group)]);
    let described = wire.call(&request, 5).groups.remove(0);
    (described.group_state.to_string(), described.members.len())
}

/// One member on a connection of its own.
pub struct Member {
    pub wire: Wire,
    pub group: String,
    pub id: String,
    pub generation: i32,
    pub leader: String,
    pub request: JoinGroupRequest,
}

impl Member {
    /// Not yet joined.
    pub fn new(broker: SocketAddr, group: &str) -> Member {
        Member {
            wire: Wire::connect(broker),
            group: group.to_owned(),
            id: String::new(),
            generation: -1,
            leader: String::new(),
            request: join(group, ""),
        }
    }

    /// Asks for its id, which dynamic members need before they join.
    pub fn get_id(&mut self) {
        let response = self.wire.call(&self.request, JOIN_GROUP);
        assert_eq!(response.error_code, MEMBER_ID_REQUIRED, "{response:?}");
        self.adopt(&response);
    }

    pub fn send_join(&mut self) {
        self.wire.send(&self.request, JOIN_GROUP);
    }

    pub fn receive_join(&mut self) -> JoinGroupResponse {
        let response = self.wire.receive::<JoinGroupRequest>(JOIN_GROUP);
        if response.error_code == NONE {
            self.adopt(&response);
            self.generation = response.generation_id;
            self.leader = response.leader.to_string();
        }
        response
    }

    fn adopt(&mut self, response: &JoinGroupResponse) {
        self.id = response.member_id.to_string();
        self.request.member_id = response.member_id.clone();
    }

    pub fn sync(&mut self, assignments: &[(&str, &[u8])]) -> SyncGroupResponse {
        let request = sync(&self.group, &self.id, self.generation, assignments);
        self.wire.call(&request, SYNC_GROUP)
    }

    /// The error code.
    pub fn heartbeat(&mut self) -> i16 {
        let request = heartbeat(&self.group, &self.id, self.generation);
        self.wire.call(&request, HEARTBEAT).error_code
    }

    /// Waits until it is told to join again.
    pub fn await_rebalance(&mut self) {
        super::eventually("a rebalance begins", || match self.heartbeat() {
            NONE => false,
            REBALANCE_IN_PROGRESS => true,
            error => panic!("a heartbeat is answered with {error}"),
        });
    }

    /// The error code.
    pub fn leave(&mut self) -> i16 {
        let request = leave(&self.group, &self.id, LEAVE_GROUP);
        let response = self.wire.call(&request, LEAVE_GROUP);
        assert_eq!(response.error_code, NONE);
        response.members[0].error_code
    }

    /// The error code of a commit as a member.
    pub fn commit(&mut self, topic: &str, offsets: &[(i32, i64)]) -> i16 {
        let request = commit(&self.group, topic, offsets)
            .with_member_id(text(&self.id))
            .with_generation_id_or_member_epoch(self.generation);
        commit_error(&self.wire.call(&request, OFFSET_COMMIT))
    }

    /// Joins and joins again, as clients do, until the group has settled with so many members.
    /// Whoever leads assigns to each the number of members.
    pub fn settle(&mut self, members: usize) {
        if self.id.is_empty() && self.request.group_instance_id.is_none() {
            self.get_id();
        }
        loop {
            self.send_join();
            let joined = self.receive_join();
            assert_eq!(joined.error_code, NONE, "{joined:?}");
            let count = (joined.members.len() as u32).to_be_bytes();
            let assignments: Vec<(&str, &[u8])> = joined
                .members
                .iter()
                .map(|member| (member.member_id.as_str(), &count[..]))
                .collect();
            let synced = self.sync(&assignments);
            match synced.error_code {
                NONE if synced.assignment.clone().get_u32() as usize == members => return,
                NONE => self.await_rebalance(),
                REBALANCE_IN_PROGRESS => {}
                error => panic!("SyncGroup is answered with {error}"),
            }
        }
    }
}

/// All of them settle as one group.
pub fn settle(members: &mut [Member]) {
    let count = members.len();
    std::thread::scope(|scope| {
        for member in members {
            scope.spawn(move || member.settle(count));
        }
    });
}

/// A settled group of so many members.
pub fn group_of(broker: SocketAddr, group: &str, count: usize) -> Vec<Member> {
    let mut members: Vec<Member> = (0..count).map(|_| Member::new(broker, group)).collect();
    settle(&mut members);
    members
}
