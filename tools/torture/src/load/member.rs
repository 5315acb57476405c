//! Members of consumer groups, which commit what they have read.

use super::consumer::{Position, poll};
use super::session::Session;
use super::{Context, End};
use crate::history::History;
use crate::model::{CommitKey, Model, add, lock};
use crate::requests::{
    self, ILLEGAL_GENERATION, NONE, OFFSET_COMMIT, REBALANCE_IN_PROGRESS, UNKNOWN_MEMBER_ID,
    UNKNOWN_TOPIC_OR_PARTITION,
};
use crate::rng::Rng;
use crate::wire::{Wire, text};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    GroupId, HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest,
};

const MEMBER_ID_REQUIRED: i16 = 79;
/// Longer than a broker is away between two cycles.
const SESSION_TIMEOUT_MS: i32 = 3_000;
/// Longer than a member can be held up, so that none may be thrown out.
const PATIENT_TIMEOUT_MS: i32 = 30_000;
const FETCH_WAIT_MS: i32 = 10;
/// A member commits after one poll in so many.
const COMMIT_IN: usize = 3;

/// One member; goes on from cycle to cycle.
pub struct Member {
    group: &'static str,
    id: String,
    generation: i32,
    /// What it was assigned in this generation.
    assigned: Vec<(String, i32)>,
    /// Whether it must not be thrown out, once it has joined at a broker.
    stays: bool,
    has_joined: bool,
}

/// Whether to go on in this generation.
#[derive(PartialEq, Eq)]
enum Standing {
    Stays,
    Rejoins,
}

impl Member {
    /// One that `stays` has so much patience that its broker may not throw it out.
    pub fn new(group: &'static str, stays: bool) -> Member {
        Member {
            stays,
            has_joined: false,
            group,
            id: String::new(),
            generation: -1,
            assigned: Vec::new(),
        }
    }

    pub fn run(&mut self, context: &Context, rng: &mut Rng) -> Result<(), End> {
        let mut wire = Wire::connect(context.broker)?;
        self.has_joined = false;
        // Sometimes it goes on as if the broker had never been away.
        let mut joined = self.generation >= 0 && rng.one_in(2);
        while !context.model.is_resting() {
            if joined && self.heartbeat(&mut wire)? == Standing::Stays {
                self.consume(context, &mut wire, rng)?;
            }
            if !context.model.is_resting() {
                self.join(context, &mut wire)?;
            }
            joined = true;
        }
        Ok(())
    }

    /// Reads and commits until it has to join again.
    fn consume(&mut self, context: &Context, wire: &mut Wire, rng: &mut Rng) -> Result<(), End> {
        let mut positions = self.positions(context, wire)?;
        let mut session = Session::draw(rng);
        while !context.model.is_resting() {
            if positions.is_empty() {
                std::thread::sleep(std::time::Duration::from_millis(FETCH_WAIT_MS as u64));
            } else {
                poll(context, wire, &mut session, &mut positions, FETCH_WAIT_MS)?;
            }
            let commits = rng.one_in(COMMIT_IN) && !positions.is_empty();
            if commits && self.commit(context, wire, &positions)? == Standing::Rejoins {
                return Ok(());
            }
            if self.heartbeat(wire)? == Standing::Rejoins {
                return Ok(());
            }
        }
        Ok(())
    }

    /// From the committed offsets, or the start.
    fn positions(&self, context: &Context, wire: &mut Wire) -> Result<Vec<Position>, End> {
        let committed = requests::committed(wire, self.group)?;
        let committed = committed.map_err(|error| End::Refused(error, "OffsetFetch".to_owned()))?;
        let topics = lock(&context.model.topics).clone();
        let mut positions = Vec::new();
        for (name, index) in &self.assigned {
            let committed = committed.get(&(name.clone(), *index));
            let next = committed.map_or(0, |(offset, _)| (*offset).max(0));
            if let Some(topic) = topics.get(name) {
                positions.extend(Position::new(topic, *index, next));
            }
        }
        Ok(positions)
    }

    fn commit(
        &mut self,
        context: &Context,
        wire: &mut Wire,
        positions: &[Position],
    ) -> Result<Standing, End> {
        let model = &context.model;
        let offsets: Vec<(String, i32, i64)> = positions
            .iter()
            .map(|position| (position.topic.name.clone(), position.index, position.next))
            .collect();
        for (topic, index, offset) in &offsets {
            let key = self.key(topic, *index);
            let mut commits = lock(&model.commits);
            let history = commits.entry(key).or_insert_with(|| History::new(-1));
            history.asked(*offset);
        }
        let request = requests::commit(self.group, (&self.id, self.generation), &offsets);
        let response = wire.call(&request, OFFSET_COMMIT)?;
        let cuts = model.cuts();
        let mut standing = Standing::Stays;
        for topic in &response.topics {
            for partition in &topic.partitions {
                let name = topic.name.to_string();
                let index = partition.partition_index;
                let offset = offsets
                    .iter()
                    .find(|(of, at, _)| *of == name && *at == index);
                let Some((_, _, offset)) = offset else {
                    continue;
                };
                let key = self.key(&name, index);
                let error = partition.error_code;
                settle(model, key, *offset, error, cuts);
                match error {
                    // Of a topic that is being deleted: the next poll drops it.
                    NONE | UNKNOWN_TOPIC_OR_PARTITION => {}
                    error => standing = self.fenced("OffsetCommit", error)?,
                }
            }
        }
        Ok(standing)
    }

    fn key(&self, topic: &str, index: i32) -> CommitKey {
        (self.group.to_owned(), topic.to_owned(), index)
    }

    fn heartbeat(&mut self, wire: &mut Wire) -> Result<Standing, End> {
        let request = HeartbeatRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_member_id(text(&self.id))
            .with_generation_id(self.generation);
        match wire.call(&request, 4)?.error_code {
            NONE => Ok(Standing::Stays),
            error => self.fenced("Heartbeat", error),
        }
    }

    /// Errors that mean no more than that it has to join again.
    fn fenced(&mut self, api: &str, error: i16) -> Result<Standing, End> {
        match error {
            REBALANCE_IN_PROGRESS | ILLEGAL_GENERATION => {}
            UNKNOWN_MEMBER_ID if self.stays && self.has_joined => {
                let what = format!(
                    "{api} of `{}`, whose member was heard of all the time,",
                    self.group
                );
                return Err(End::Refused(error, what));
            }
            UNKNOWN_MEMBER_ID => self.id.clear(),
            error => {
                return Err(End::Refused(error, format!("{api} of `{}`", self.group)));
            }
        }
        Ok(Standing::Rejoins)
    }

    /// Joins until it has an assignment.
    fn join(&mut self, context: &Context, wire: &mut Wire) -> Result<(), End> {
        loop {
            let joined = wire.call(&self.join_request(), 9)?;
            match joined.error_code {
                NONE => {}
                MEMBER_ID_REQUIRED => {
                    self.id = joined.member_id.to_string();
                    continue;
                }
                error => {
                    self.fenced("JoinGroup", error)?;
                    continue;
                }
            }
            self.id = joined.member_id.to_string();
            self.generation = joined.generation_id;
            let synced = wire.call(&self.sync_request(&joined, &context.model), 5)?;
            match synced.error_code {
                NONE => {
                    self.assigned = decode_assignment(synced.assignment);
                    self.has_joined = true;
                    return Ok(());
                }
                error => self.fenced("SyncGroup", error)?,
            };
        }
    }

    fn join_request(&self) -> JoinGroupRequest {
        let timeout_ms = match self.stays {
            true => PATIENT_TIMEOUT_MS,
            false => SESSION_TIMEOUT_MS,
        };
        let protocol = JoinGroupRequestProtocol::default()
            .with_name(text("range"))
            .with_metadata(Bytes::from_static(&[0, 0, 0, 0, 0, 0, 255, 255, 255, 255]));
        JoinGroupRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_member_id(text(&self.id))
            .with_session_timeout_ms(timeout_ms)
            .with_rebalance_timeout_ms(timeout_ms)
            .with_protocol_type(text("consumer"))
            .with_protocols(vec![protocol])
    }

    /// The leader deals all partitions out in turn.
    fn sync_request(&self, joined: &JoinGroupResponse, model: &Model) -> SyncGroupRequest {
        let members = joined.members.len();
        let mut partitions = Vec::new();
        for topic in model.topics() {
            let count = topic.ledgers().len() as i32;
            partitions.extend((0..count).map(|index| (topic.name.clone(), index)));
        }
        let dealt = joined.members.iter().enumerate().map(|(place, member)| {
            let own = partitions.iter().skip(place).step_by(members);
            SyncGroupRequestAssignment::default()
                .with_member_id(member.member_id.clone())
                .with_assignment(encode_assignment(own))
        });
        SyncGroupRequest::default()
            .with_group_id(GroupId(text(self.group)))
            .with_member_id(text(&self.id))
            .with_generation_id(self.generation)
            .with_assignments(dealt.collect())
    }
}

/// The broker's answer to the commit of an offset.
fn settle(model: &Model, key: CommitKey, offset: i64, error: i16, cuts: u64) {
    let mut commits = lock(&model.commits);
    // Without a history the topic is gone.
    let Some(history) = commits.get_mut(&key) else {
        return;
    };
    match error {
        NONE => {
            history.answered(&offset, cuts);
            add(&model.tally.commits, 1);
        }
        ILLEGAL_GENERATION | UNKNOWN_MEMBER_ID | REBALANCE_IN_PROGRESS => history.refused(&offset),
        // It may be there, or come to be.
        _ => {}
    }
}

/// Our own form: what is assigned is opaque to the broker.
fn encode_assignment<'a>(partitions: impl Iterator<Item = &'a (String, i32)>) -> Bytes {
    let mut bytes = BytesMut::new();
    for (topic, index) in partitions {
        bytes.put_u8(topic.len() as u8);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(*index);
    }
    bytes.freeze()
}

fn decode_assignment(mut bytes: Bytes) -> Vec<(String, i32)> {
    let mut partitions = Vec::new();
    while bytes.has_remaining() {
        let length = bytes.get_u8() as usize;
        let topic = bytes.split_to(length);
        let index = bytes.get_i32();
        partitions.push((String::from_utf8_lossy(&topic).into_owned(), index));
    }
    partitions
}
