//! `__consumer_offsets`: groups and their offsets as records in Kafka's own format, so that tools
//! that read that topic work.

use super::groups::messages::{GroupSnapshot, MemberSnapshot, Protocol};
use super::groups::offsets::CommittedOffset;
use super::offsets_format::{
    FormatError, GroupKey, GroupValue, Key, MemberValue, OffsetKey, OffsetValue,
};
use crate::io::seldom::{self, Seldom};
use crate::log::batch::build::BatchBuilder;
use crate::log::batch::{self, BatchHeader, Codec};
use crate::log::damage::is_of_medium;
use crate::log::records::Records;
use crate::log::{Log, Read};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;
use std::io;

/// What Kafka 4 writes.
const OFFSET_VALUE_VERSION: i16 = 3;
/// The one that has room for an expiry; it has none for the leader epoch, which clients that ask for
/// an expiry do not send.
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;
/// Bytes read at once while loading, and the most that one batch may unpack to.
const LOAD_BYTES: usize = 4 << 20;
const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// A record's key and value; no value deletes what the key names.
pub type Record = (Option<Vec<u8>>, Option<Vec<u8>>);

/// What distinguishes the topic from others, in Kafka as here.
pub fn topic_configs() -> BTreeMap<String, String> {
    [
        ("cleanup.policy", "compact"),
        ("segment.bytes", "104857600"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// The partition that a group is stored in: as Kafka computes it, from Java's hash of the name.
pub fn partition_of(group_id: &str, partitions: u32) -> u32 {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    (hash as u32 & 0x7fff_ffff) % partitions.max(1)
}

/// The record of a committed offset, or with `None` of its end.
///
/// # Errors
/// When a string is longer than the format can hold.
pub fn offset_record(
    group: &str,
    topic: &str,
    partition: u32,
    offset: Option<&CommittedOffset>,
) -> Result<Record, FormatError> {
    let key = OffsetKey {
        group,
        topic,
        partition: partition as i32,
    };
    let value = offset.map(|offset| OffsetValue {
        offset: offset.offset,
        leader_epoch: offset.leader_epoch,
        metadata: &offset.metadata,
        commit_timestamp: offset.commit_ms,
        expire_timestamp: offset.expire_ms.unwrap_or(-1),
        topic_id: uuid::Uuid::nil(),
    });
    let version = match offset.and_then(|offset| offset.expire_ms) {
        Some(_) => OFFSET_VALUE_VERSION_WITH_EXPIRY,
        None => OFFSET_VALUE_VERSION,
    };
    let value = value.map(|value| value.encode(version)).transpose()?;
    Ok((Some(key.encode()?), value))
}

/// The record of a group, or with `None` of its end.
///
/// # Errors
/// When a string is longer than the format can hold.
pub fn group_record(group: &str, snapshot: Option<&GroupSnapshot>) -> Result<Record, FormatError> {
    let encode = |snapshot: &GroupSnapshot| {
        let members = snapshot.members.iter().map(|member| MemberValue {
            member_id: &member.member_id,
            group_instance_id: member.instance_id.as_deref(),
            client_id: &member.client_id,
            client_host: &member.client_host,
            rebalance_timeout_ms: member.rebalance_timeout_ms as i32,
            session_timeout_ms: member.session_timeout_ms as i32,
            subscription: subscription_of(member, snapshot.protocol.as_deref()),
            assignment: &member.assignment,
        });
        let value = GroupValue {
            protocol_type: snapshot.protocol_type.as_deref().unwrap_or_default(),
            generation: snapshot.generation,
            protocol: snapshot.protocol.as_deref(),
            leader: snapshot.leader.as_deref(),
            current_state_timestamp: snapshot.state_since_ms,
            members: members.collect(),
        };
        value.encode(GROUP_VALUE_VERSION)
    };
    let value = snapshot.map(encode).transpose()?;
    Ok((Some(GroupKey { group }.encode()?), value))
}

/// The format has room for one subscription: that of the protocol that was chosen.
fn subscription_of<'a>(member: &'a MemberSnapshot, protocol: Option<&str>) -> &'a [u8] {
    let chosen = member.protocols.iter();
    let mut chosen = chosen.filter(|known| Some(known.name.as_str()) == protocol);
    chosen.next().map_or(&[], |known| &known.metadata)
}

/// A batch of these records.
pub fn batch_of(records: &[Record], now_ms: i64) -> Vec<u8> {
    let builder = BatchBuilder {
        base_timestamp: now_ms,
        ..BatchBuilder::default()
    };
    builder.build_keyed(Codec::None, records)
}

/// Groups as they were read.
#[derive(Debug, Default)]
pub struct Loaded {
    pub groups: HashMap<String, LoadedGroup>,
}

#[derive(Debug, Default)]
pub struct LoadedGroup {
    pub snapshot: Option<GroupSnapshot>,
    /// By topic and partition.
    pub offsets: BTreeMap<(String, u32), CommittedOffset>,
}

impl Loaded {
    /// Takes in one record, later than those before.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        match Key::decode(key) {
            Ok(Key::Offset(key)) => self.apply_offset(&key, value),
            Ok(Key::Group(key)) => self.apply_group(&key, value),
            // Groups of newer kinds, which a Kafka wrote.
            Ok(Key::Other(_)) => {}
            // A version that this broker does not know, or nobody's record: not a reason to stop.
            Err(error) => tracing::warn!(%error, "a record of __consumer_offsets is skipped"),
        }
    }

    fn apply_offset(&mut self, key: &OffsetKey<'_>, value: Option<&[u8]>) {
        let group = self.groups.entry(key.group.to_owned()).or_default();
        let place = (key.topic.to_owned(), key.partition as u32);
        match value.map(OffsetValue::decode) {
            None => {
                group.offsets.remove(&place);
            }
            Some(Ok(value)) => {
                let offset = CommittedOffset {
                    offset: value.offset,
                    leader_epoch: value.leader_epoch,
                    metadata: value.metadata.to_owned(),
                    commit_ms: value.commit_timestamp,
                    expire_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
                };
                group.offsets.insert(place, offset);
            }
            Some(Err(error)) => {
                tracing::error!(group = key.group, %error, "a committed offset is unreadable")
            }
        }
        self.drop_if_gone(key.group);
    }

    fn apply_group(&mut self, key: &GroupKey<'_>, value: Option<&[u8]>) {
        let group = self.groups.entry(key.group.to_owned()).or_default();
        match value.map(GroupValue::decode) {
            None => group.snapshot = None,
            Some(Ok(value)) => group.snapshot = Some(snapshot_of(&value)),
            Some(Err(error)) => {
                tracing::error!(group = key.group, %error, "a group's record is unreadable")
            }
        }
        self.drop_if_gone(key.group);
    }

    fn drop_if_gone(&mut self, group: &str) {
        let gone = self
            .groups
            .get(group)
            .is_some_and(|group| group.snapshot.is_none() && group.offsets.is_empty());
        if gone {
            self.groups.remove(group);
        }
    }
}

fn snapshot_of(value: &GroupValue<'_>) -> GroupSnapshot {
    let protocol = value.protocol.unwrap_or_default();
    let members = value.members.iter().map(|member| MemberSnapshot {
        member_id: member.member_id.to_owned(),
        instance_id: member.group_instance_id.map(str::to_owned),
        client_id: member.client_id.to_owned(),
        client_host: member.client_host.to_owned(),
        session_timeout_ms: i64::from(member.session_timeout_ms),
        rebalance_timeout_ms: i64::from(member.rebalance_timeout_ms),
        protocols: vec![Protocol {
            name: protocol.to_owned(),
            metadata: Bytes::copy_from_slice(member.subscription),
        }],
        assignment: Bytes::copy_from_slice(member.assignment),
    });
    let protocol_type = Some(value.protocol_type.to_owned());
    GroupSnapshot {
        protocol_type: protocol_type.filter(|name| !name.is_empty()),
        generation: value.generation,
        protocol: value.protocol.map(str::to_owned),
        leader: value.leader.map(str::to_owned),
        state_since_ms: value.current_state_timestamp,
        members: members.collect(),
    }
}

/// Reads a whole partition of the topic. Blocks: at start only.
///
/// # Errors
/// When a segment cannot be read, or is damaged. Records that make no sense are told and skipped.
pub fn load(log: &mut Log, loaded: &mut Loaded) -> io::Result<()> {
    let mut offset = log.offsets().start;
    let mut assume_resident = false;
    loop {
        let read = log.read(offset, LOAD_BYTES, true, assume_resident, 0);
        match read.map_err(io::Error::other)? {
            Read::Empty => return Ok(()),
            Read::Load(job) => match job.run() {
                Ok(loaded) => {
                    log.load_done(loaded, 0);
                    assume_resident = true;
                }
                Err(error) if is_of_medium(&error) && log.doubt(offset) => assume_resident = false,
                Err(error) => return Err(error),
            },
            Read::Data { records, .. } if !batch::all_crcs_match(&records) => {
                assume_resident = false;
                if !log.doubt(offset) {
                    return Err(io::ErrorKind::InvalidData.into());
                }
            }
            Read::Data { records, .. } => {
                assume_resident = false;
                offset = apply_batches(&records, loaded)
                    .unwrap_or(offset + 1)
                    .max(offset + 1);
            }
        }
    }
}

/// Takes in whole batches; returns the offset behind them.
fn apply_batches(mut batches: &[u8], loaded: &mut Loaded) -> Option<i64> {
    let mut next_offset = None;
    while let Ok(header) = BatchHeader::parse(batches) {
        let Some((batch, rest)) = batches.split_at_checked(header.size()) else {
            break;
        };
        batches = rest;
        next_offset = Some(header.next_offset());
        if header.is_control() {
            continue;
        }
        match Records::unpack(header, batch, UNPACKED_BYTES_MAX) {
            Ok(records) => {
                for record in records.iter().map_while(Result::ok) {
                    if let Some(key) = record.key {
                        loaded.apply(key, record.value);
                    }
                }
            }
            Err(error) => tracing::error!(
                offset = header.base_offset, %error,
                "a batch of __consumer_offsets is unreadable"
            ),
        }
    }
    next_offset
}

/// Says why a record of the topic was not written. With a full disk each commit would say so.
pub fn tell_not_written(error: &impl Display, what: &str) {
    static LINE: Seldom = Seldom::new(seldom::WHILE_FULL);
    if let Some(kept_back) = LINE.turn() {
        tracing::error!(%error, kept_back, "__consumer_offsets {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn committed(offset: i64) -> CommittedOffset {
        CommittedOffset {
            offset,
            leader_epoch: -1,
            metadata: "note".into(),
            commit_ms: 77,
            expire_ms: None,
        }
    }

    fn apply(loaded: &mut Loaded, records: &[Record]) {
        let batch = batch_of(records, 5);
        assert_eq!(apply_batches(&batch, loaded), Some(records.len() as i64));
    }

    #[test]
    fn groups_live_where_kafka_puts_them() {
        // Java: Math.abs("console-consumer-1".hashCode() & 0x7fffffff) % 50 and so on.
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("ab", 50), (97 * 31 + 98) % 50);
        assert_eq!(partition_of("", 50), 0);
    }

    #[test]
    fn what_was_committed_is_loaded_and_the_last_word_counts() {
        let mut loaded = Loaded::default();
        let first = offset_record("g", "t", 0, Some(&committed(5))).unwrap();
        let later = offset_record("g", "t", 0, Some(&committed(9))).unwrap();
        let other = offset_record("g", "t", 1, Some(&committed(1))).unwrap();
        apply(&mut loaded, &[first, other.clone(), later]);
        let offsets = &loaded.groups["g"].offsets;
        assert_eq!(offsets[&("t".to_owned(), 0)], committed(9));
        assert_eq!(offsets.len(), 2);
        let gone = [0, 1].map(|index| offset_record("g", "t", index, None).unwrap());
        apply(&mut loaded, &gone);
        assert!(loaded.groups.is_empty());
    }

    #[test]
    fn an_offset_keeps_the_time_that_its_client_gave_it() {
        let mut loaded = Loaded::default();
        let offset = CommittedOffset {
            expire_ms: Some(1_234),
            ..committed(5)
        };
        apply(
            &mut loaded,
            &[offset_record("g", "t", 0, Some(&offset)).unwrap()],
        );
        assert_eq!(loaded.groups["g"].offsets[&("t".to_owned(), 0)], offset);
    }

    #[test]
    fn what_cannot_be_stored_is_not_taken_for_its_deletion() {
        let offset = CommittedOffset {
            metadata: "x".repeat(32_768),
            ..committed(5)
        };
        assert!(offset_record("g", "t", 0, Some(&offset)).is_err());
    }

    #[test]
    fn a_group_is_loaded_as_it_was_stored() {
        let snapshot = GroupSnapshot {
            protocol_type: Some("consumer".into()),
            generation: 7,
            protocol: Some("range".into()),
            leader: Some("m1".into()),
            state_since_ms: 99,
            members: vec![MemberSnapshot {
                member_id: "m1".into(),
                instance_id: Some("i1".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                session_timeout_ms: 10_000,
                rebalance_timeout_ms: 60_000,
                protocols: vec![Protocol {
                    name: "range".into(),
                    metadata: Bytes::from_static(b"topics"),
                }],
                assignment: Bytes::from_static(b"partitions"),
            }],
        };
        let mut loaded = Loaded::default();
        apply(&mut loaded, &[group_record("g", Some(&snapshot)).unwrap()]);
        assert_eq!(loaded.groups["g"].snapshot, Some(snapshot));
        apply(&mut loaded, &[group_record("g", None).unwrap()]);
        assert!(loaded.groups.is_empty());
    }

    #[test]
    fn records_that_make_no_sense_are_skipped() {
        let mut loaded = Loaded::default();
        let good = offset_record("g", "t", 0, Some(&committed(5))).unwrap();
        let nonsense = (Some(b"nonsense".to_vec()), Some(b"x".to_vec()));
        apply(&mut loaded, &[nonsense, good]);
        assert_eq!(loaded.groups.len(), 1);
    }
}
