//! Groups and their offsets as records of `__consumer_offsets`, in Kafka's own format, so that tools that
//! read that topic work.

use super::classic::messages::{GroupSnapshot, MemberSnapshot, Protocol};
use super::offsets::CommittedOffset;
use crate::coordinator::records::Record;
use crate::coordinator::records::offsets_format::{
    FormatError, GroupKey, GroupValue, Key, MemberValue, OffsetKey, OffsetValue, decode_value,
    encode_value,
};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

/// What Kafka 4 writes.
const OFFSET_VALUE_VERSION: i16 = 3;
/// The version that has a field for an expiry. It has none for the leader epoch, which clients that ask
/// for an expiry do not send.
const OFFSET_VALUE_VERSION_WITH_EXPIRY: i16 = 1;
const GROUP_VALUE_VERSION: i16 = 3;

/// The record of a committed offset; `None` deletes it.
///
/// # Errors
/// When a string is longer than the format can hold.
pub fn offset_record(
    group: &str,
    topic: &str,
    partition: u32,
    offset: Option<&CommittedOffset>,
) -> Result<Record, FormatError> {
    let key = Key::Offset(OffsetKey {
        group,
        topic,
        partition: partition as i32,
    });
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
    let value = value
        .map(|value| encode_value(&value, version))
        .transpose()?;
    Ok((Some(key.encode()?), value))
}

/// The record of a group; `None` deletes it.
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
        encode_value(&value, GROUP_VALUE_VERSION)
    };
    let value = snapshot.map(encode).transpose()?;
    Ok((Some(Key::Group(GroupKey { group }).encode()?), value))
}

/// The format has one subscription for a member: that of the protocol that was chosen.
fn subscription_of<'a>(member: &'a MemberSnapshot, protocol: Option<&str>) -> &'a [u8] {
    let chosen = member.protocols.iter();
    let mut chosen = chosen.filter(|known| Some(known.name.as_str()) == protocol);
    chosen.next().map_or(&[], |known| &known.metadata)
}

/// What the records of a home add up to.
#[derive(Debug, Default)]
pub struct StoredGroups {
    /// By group id.
    pub groups: HashMap<String, StoredGroup>,
}

#[derive(Debug, Default)]
pub struct StoredGroup {
    pub snapshot: Option<GroupSnapshot>,
    /// By topic and partition.
    pub offsets: BTreeMap<(String, u32), CommittedOffset>,
}

impl StoredGroups {
    /// Applies a record, in the order of their offsets. Records that make no sense are logged and skipped.
    pub fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        match Key::decode(key) {
            Ok(Key::Offset(key)) => self.apply_offset(&key, value),
            Ok(Key::Group(key)) => self.apply_group(&key, value),
            // Groups of newer kinds, which a Kafka wrote.
            Ok(Key::Other(_)) => {}
            // A version that this broker does not know, or no record of a group.
            Err(error) => tracing::warn!(%error, "a record of __consumer_offsets is skipped"),
        }
    }

    fn apply_offset(&mut self, key: &OffsetKey<'_>, value: Option<&[u8]>) {
        let group = self.groups.entry(key.group.to_owned()).or_default();
        let partition = (key.topic.to_owned(), key.partition as u32);
        match value.map(decode_value::<OffsetValue>) {
            None => {
                group.offsets.remove(&partition);
            }
            Some(Ok(value)) => {
                let offset = CommittedOffset {
                    offset: value.offset,
                    leader_epoch: value.leader_epoch,
                    metadata: value.metadata.into(),
                    commit_ms: value.commit_timestamp,
                    expire_ms: (value.expire_timestamp >= 0).then_some(value.expire_timestamp),
                };
                group.offsets.insert(partition, offset);
            }
            Some(Err(error)) => {
                tracing::error!(group = key.group, %error, "a committed offset is unreadable")
            }
        }
        self.drop_if_gone(key.group);
    }

    fn apply_group(&mut self, key: &GroupKey<'_>, value: Option<&[u8]>) {
        let group = self.groups.entry(key.group.to_owned()).or_default();
        match value.map(decode_value::<GroupValue>) {
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

    fn apply(stored: &mut StoredGroups, records: &[Record]) {
        for (key, value) in records {
            stored.apply(key.as_deref().unwrap(), value.as_deref());
        }
    }

    #[test]
    fn what_was_committed_is_loaded_and_the_last_word_counts() {
        let mut stored = StoredGroups::default();
        let first = offset_record("g", "t", 0, Some(&committed(5))).unwrap();
        let later = offset_record("g", "t", 0, Some(&committed(9))).unwrap();
        let other = offset_record("g", "t", 1, Some(&committed(1))).unwrap();
        apply(&mut stored, &[first, other.clone(), later]);
        let offsets = &stored.groups["g"].offsets;
        assert_eq!(offsets[&("t".to_owned(), 0)], committed(9));
        assert_eq!(offsets.len(), 2);
        let gone = [0, 1].map(|index| offset_record("g", "t", index, None).unwrap());
        apply(&mut stored, &gone);
        assert!(stored.groups.is_empty());
    }

    #[test]
    fn an_offset_keeps_the_time_that_its_client_gave_it() {
        let mut stored = StoredGroups::default();
        let offset = CommittedOffset {
            expire_ms: Some(1_234),
            ..committed(5)
        };
        apply(
            &mut stored,
            &[offset_record("g", "t", 0, Some(&offset)).unwrap()],
        );
        assert_eq!(stored.groups["g"].offsets[&("t".to_owned(), 0)], offset);
    }

    #[test]
    fn what_cannot_be_stored_is_not_taken_for_its_deletion() {
        let offset = CommittedOffset {
            metadata: "x".repeat(32_768).into(),
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
        let mut stored = StoredGroups::default();
        apply(&mut stored, &[group_record("g", Some(&snapshot)).unwrap()]);
        assert_eq!(stored.groups["g"].snapshot, Some(snapshot));
        apply(&mut stored, &[group_record("g", None).unwrap()]);
        assert!(stored.groups.is_empty());
    }

    #[test]
    fn records_that_make_no_sense_are_skipped() {
        let mut stored = StoredGroups::default();
        let good = offset_record("g", "t", 0, Some(&committed(5))).unwrap();
        let nonsense = (Some(b"nonsense".to_vec()), Some(b"x".to_vec()));
        apply(&mut stored, &[nonsense, good]);
        assert_eq!(stored.groups.len(), 1);
    }
}
