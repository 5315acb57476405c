//! Loads on the group coordinator.

use super::scene::Scene;
use crate::requests::{self, Configs, NONE, OFFSET_COMMIT};
use crate::violation::{Kind, Violation};
use crate::wire::{Wire, frame, text, topic_name};
use anyhow::ensure;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    DescribeGroupsRequest, GroupId, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use std::time::{Duration, Instant};

const GROUPS: usize = 1_000;
const HEARTBEAT_THREADS: usize = 4;
const HEARTBEAT_EVERY: Duration = Duration::from_secs(1);
const SESSION_MS: i32 = 60_000;

const PROTOCOLS: usize = 150_000;
const LONG_NAME: usize = 32_000;
const MEMBER_ID_REQUIRED: i16 = 79;
const LONG_SESSION_MS: i32 = 1_800_000;

const PARKED_JOINS: usize = 5;
const PARKED_BYTES: usize = 58 << 20;
const PARKED_PAUSE: Duration = Duration::from_millis(500);

const NOTED_TOPIC: &str = "noted";
const NOTED_GROUP: &str = "noted";
const NOTES: i32 = 10_000;
const NOTES_AT_ONCE: i32 = 2_000;
const NOTE_BYTES: usize = 4_000;
const UNREAD_CONNECTIONS: usize = 60;
const OFFSET_FETCH: i16 = 9;

const SUBSCRIBED_TOPICS: i32 = 2_000;
const DELETED_PARTITIONS: i32 = 2_000;
const DESCRIBED: usize = 400_000;
/// A client that asks for much asks again after this time.
const ASK_PAUSE: Duration = Duration::from_millis(20);

/// A member that is alone in its group.
struct Member {
    wire: Wire,
    group: GroupId,
    id: kafka_protocol::protocol::StrBytes,
    generation: i32,
}

impl Member {
    /// Joins with this subscription, as version 2 lets it: without being given an id first.
    fn join(scene: &Scene, group: &str, subscription: Bytes) -> anyhow::Result<Member> {
        let mut wire = scene.wire()?;
        let joined = wire.call(&join(group, SESSION_MS, vec![("range", subscription)]), 2)?;
        ensure!(
            joined.error_code == NONE,
            "JoinGroup: error {}",
            joined.error_code
        );
        let mut member = Member {
            wire,
            group: GroupId(text(group)),
            id: joined.member_id,
            generation: joined.generation_id,
        };
        member.sync()?;
        Ok(member)
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        let assignment = SyncGroupRequestAssignment::default()
            .with_member_id(self.id.clone())
            .with_assignment(Bytes::from_static(b"nothing"));
        let request = SyncGroupRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_generation_id(self.generation)
            .with_assignments(vec![assignment]);
        let error = self.wire.call(&request, 3)?.error_code;
        ensure!(error == NONE, "SyncGroup: error {error}");
        Ok(())
    }

    fn heartbeat(&mut self) -> anyhow::Result<()> {
        let request = HeartbeatRequest::default()
            .with_group_id(self.group.clone())
            .with_member_id(self.id.clone())
            .with_generation_id(self.generation);
        let error = self.wire.call(&request, 4)?.error_code;
        ensure!(error == NONE, "Heartbeat: error {error}");
        Ok(())
    }
}

fn join(group: &str, timeout_ms: i32, protocols: Vec<(&str, Bytes)>) -> JoinGroupRequest {
    let protocol = |(name, metadata): (&str, Bytes)| {
        JoinGroupRequestProtocol::default()
            .with_name(text(name))
            .with_metadata(metadata)
    };
    JoinGroupRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_session_timeout_ms(timeout_ms)
        .with_rebalance_timeout_ms(timeout_ms)
        .with_protocol_type(text("consumer"))
        .with_protocols(protocols.into_iter().map(protocol).collect())
}

/// Members that are well: an error of theirs is a violation as one of the probe is.
pub fn heartbeats(scene: &Scene) -> anyhow::Result<String> {
    let sent = std::thread::scope(|scope| {
        let part = |thread| move || heartbeats_of(scene, thread);
        let threads: Vec<_> = (0..HEARTBEAT_THREADS)
            .map(|thread| scope.spawn(part(thread)))
            .collect();
        let sent = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        sent.sum::<anyhow::Result<u64>>()
    });
    match sent {
        Ok(sent) => Ok(format!("{sent} heartbeats")),
        Err(error) => Err(Violation::new(Kind::Broker, format!("a member: {error:#}")).into()),
    }
}

fn heartbeats_of(scene: &Scene, thread: usize) -> anyhow::Result<u64> {
    let mut members = Vec::new();
    for number in (thread..GROUPS).step_by(HEARTBEAT_THREADS) {
        if scene.goes_on() {
            members.push(Member::join(
                scene,
                &format!("group-{number}"),
                Bytes::new(),
            )?);
        }
    }
    let mut sent = 0;
    while scene.goes_on() {
        let started = Instant::now();
        for member in &mut members {
            member.heartbeat()?;
            sent += 1;
        }
        scene.pause(HEARTBEAT_EVERY.saturating_sub(started.elapsed()));
    }
    Ok(sent)
}

/// A JoinGroup that no broker should take.
pub fn many_protocols(scene: &Scene) -> anyhow::Result<String> {
    let names: Vec<String> = (0..PROTOCOLS)
        .map(|number| format!("{number:012}"))
        .collect();
    let protocols = names.iter().map(|name| (name.as_str(), Bytes::new()));
    let request = join("protocols", SESSION_MS, protocols.collect());
    let asked = scene.repeat(&frame(&request, 2, 1), ASK_PAUSE);
    let error = join_error(&asked.last);
    if asked.replies > 0 && error == Some(NONE) {
        let text = format!("a JoinGroup with {PROTOCOLS} names of protocols is taken");
        return Err(Violation::new(Kind::Broker, text).into());
    }
    let error = error.unwrap_or(NONE);
    Ok(format!("{} refusals with error {error}", asked.replies))
}

/// The error of a JoinGroup's reply of version 2: it follows the correlation id and the throttle time.
fn join_error(reply: &[u8]) -> Option<i16> {
    let bytes = reply.get(8..10)?;
    Some(i16::from_be_bytes(bytes.try_into().ok()?))
}

/// Takes ids of members and gives them back.
pub fn join_and_leave(scene: &Scene) -> anyhow::Result<String> {
    let mut wire = scene.wire()?;
    let group = "g".repeat(LONG_NAME);
    let request = join(&group, LONG_SESSION_MS, vec![("range", Bytes::new())]);
    let mut pairs: u64 = 0;
    while scene.goes_on() {
        let joined = wire.call(&request, 4)?;
        let error = joined.error_code;
        ensure!(error == MEMBER_ID_REQUIRED, "JoinGroup: error {error}");
        let leave = LeaveGroupRequest::default()
            .with_group_id(GroupId(text(&group)))
            .with_member_id(joined.member_id);
        let error = wire.call(&leave, 2)?.error_code;
        ensure!(error == NONE, "LeaveGroup: error {error}");
        pairs += 1;
    }
    Ok(format!("{pairs} pairs"))
}

/// Large members that wait for one that does not join again. One that is refused tries again.
pub fn parked_joins(scene: &Scene) -> anyhow::Result<String> {
    let metadata = Bytes::from(vec![b'x'; PARKED_BYTES]);
    let answered = std::thread::scope(|scope| {
        let parked = |number: usize| {
            let metadata = metadata.clone();
            move || -> anyhow::Result<(u64, Option<i16>)> {
                let group = format!("parked-{number}");
                let _first = Member::join(scene, &group, Bytes::new())?;
                let request = join(&group, LONG_SESSION_MS, vec![("range", metadata)]);
                let asked = scene.repeat(&frame(&request, 2, 1), PARKED_PAUSE);
                Ok((asked.replies, join_error(&asked.last)))
            }
        };
        let threads: Vec<_> = (0..PARKED_JOINS)
            .map(|number| scope.spawn(parked(number)))
            .collect();
        let answers = threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"));
        answers.collect::<anyhow::Result<Vec<_>>>()
    })?;
    let replies: u64 = answered.iter().map(|(replies, _)| replies).sum();
    Ok(match answered.iter().find_map(|(_, error)| *error) {
        Some(error) => format!("{replies} answers, with error {error}"),
        None => "none is answered".to_owned(),
    })
}

/// Gives a group offsets with long notes.
pub fn commit_notes(scene: &Scene) -> anyhow::Result<()> {
    let mut wire = scene.wire()?;
    let error = requests::create_topic(&mut wire, NOTED_TOPIC, NOTES, &Configs::new())?;
    ensure!(
        error == NONE,
        "topic `{NOTED_TOPIC}` is refused with {error}"
    );
    let note = text(&"m".repeat(NOTE_BYTES));
    let partition = |index| {
        OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_offset(5)
            .with_committed_metadata(Some(note.clone()))
    };
    for from in (0..NOTES).step_by(NOTES_AT_ONCE as usize) {
        let topic = OffsetCommitRequestTopic::default()
            .with_name(topic_name(NOTED_TOPIC))
            .with_partitions((from..from + NOTES_AT_ONCE).map(partition).collect());
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(text(NOTED_GROUP)))
            .with_generation_id_or_member_epoch(-1)
            .with_topics(vec![topic]);
        let reply = wire.call(&request, OFFSET_COMMIT)?;
        let error = reply.topics[0].partitions[0].error_code;
        ensure!(error == NONE, "OffsetCommit: error {error}");
    }
    Ok(())
}

/// Connections that ask for the notes and do not read. One that the broker closes stays closed.
pub fn unread_replies(scene: &Scene) -> anyhow::Result<String> {
    let wanted = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(NOTED_GROUP)))
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
    let frame = frame(&request, OFFSET_FETCH, 1);
    let mut connections = Vec::new();
    for _ in 0..UNREAD_CONNECTIONS {
        let mut stream = scene.unread_stream(scene.kafka)?;
        scene.push(&mut stream, &frame)?;
        connections.push(stream);
    }
    scene.wait();
    Ok(format!("{} connections", connections.len()))
}

pub fn delete_offsets(scene: &Scene) -> anyhow::Result<String> {
    let _member = Member::join(scene, "subscriber", subscription())?;
    let partition = |index| OffsetDeleteRequestPartition::default().with_partition_index(index);
    let topic = OffsetDeleteRequestTopic::default()
        .with_name(topic_name("many-0"))
        .with_partitions((0..DELETED_PARTITIONS).map(partition).collect());
    let request = OffsetDeleteRequest::default()
        .with_group_id(GroupId(text("subscriber")))
        .with_topics(vec![topic]);
    let asked = scene.repeat(&frame(&request, 0, 1), ASK_PAUSE);
    Ok(asked.to_string())
}

/// A consumer's subscription, version 0, to topics that need not be there.
fn subscription() -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(SUBSCRIBED_TOPICS);
    for number in 0..SUBSCRIBED_TOPICS {
        let name = format!("topic-number-{number:06}");
        bytes.put_i16(name.len() as i16);
        bytes.put_slice(name.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

pub fn describe_many(scene: &Scene) -> anyhow::Result<String> {
    let names = (0..DESCRIBED).map(|number| GroupId(text(&format!("g{number:06}"))));
    let request = DescribeGroupsRequest::default().with_groups(names.collect());
    let asked = scene.repeat(&frame(&request, 0, 1), ASK_PAUSE);
    Ok(asked.to_string())
}
