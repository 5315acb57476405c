//! The records of the topic `__consumer_offsets`, byte for byte as Kafka writes them: committed
//! offsets and the classic groups that committed them.
//!
//! A record's key begins with a version (an i16) that tells what kind of record it is; its value,
//! which is absent when the key was deleted, begins with a version of its own. All integers are big
//! endian. Values are flexible (KIP-482) from version 4 on; older values and all keys are not. Kafka
//! writes values of version 3, and offsets of version 4 once they carry topic ids.
//!
//! Versions of an offset's value: 1 has an expiry of its own, 3 adds the leader epoch, 4 is flexible
//! and may carry the topic's id. Versions of a group's value: 1 adds the rebalance timeout, 2 the
//! time of the state, 3 static members, 4 is flexible.

mod bytes;
#[cfg(test)]
mod tests;

use bytes::{Reader, Writer};
use thiserror::Error;
use uuid::Uuid;

/// The version of values that is written, as by Kafka.
pub const VALUE_VERSION: i16 = 3;
/// The newest version of values that is read.
pub const VALUE_VERSION_MAX: i16 = 4;

const FIRST_OFFSET_VERSION_WITH_LEADER_EPOCH: i16 = 3;
const ONLY_OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
const TOPIC_ID_TAG: u32 = 0;

const FIRST_GROUP_VERSION_WITH_REBALANCE_TIMEOUT: i16 = 1;
const FIRST_GROUP_VERSION_WITH_STATE_TIMESTAMP: i16 = 2;
const FIRST_GROUP_VERSION_WITH_INSTANCE_ID: i16 = 3;

/// Versions 0 and 1 of the key are the same: both name a committed offset.
const OFFSET_KEY_VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;

/// Lower bound for the bytes of a member in any version: its session timeout, and a length byte for each
/// of five strings and byte fields.
const MEMBER_BYTES_MIN: usize = 9;

/// Why a record cannot be read or written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    #[error("the record ends before its content does")]
    Truncated,
    #[error("version {0} is not known")]
    UnknownVersion(i16),
    #[error("length {0} is negative, in a field that cannot be null")]
    BadLength(i32),
    #[error("a length has more bits than it may")]
    BadVarint,
    #[error("a string is not valid UTF-8")]
    InvalidUtf8,
    #[error("a string of {0} bytes is longer than the format allows")]
    StringTooLong(usize),
}

/// What a record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Offset(OffsetKey<'a>),
    Group(GroupKey<'a>),
    /// Another kind of record, with its version: groups of KIP-848 and share groups have theirs.
    Other(i16),
}

/// Names an offset that was committed (OffsetCommitKey).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetKey<'a> {
    pub group: &'a str,
    pub topic: &'a str,
    pub partition: i32,
}

/// Names a group (GroupMetadataKey).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupKey<'a> {
    pub group: &'a str,
}

impl<'a> Key<'a> {
    /// Reads a record's key.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn decode(key: &'a [u8]) -> Result<Key<'a>, FormatError> {
        let mut r = Reader::new(key);
        match r.i16()? {
            version if OFFSET_KEY_VERSIONS.contains(&version) => Ok(Key::Offset(OffsetKey {
                group: r.string()?,
                topic: r.string()?,
                partition: r.i32()?,
            })),
            GROUP_KEY_VERSION => Ok(Key::Group(GroupKey { group: r.string()? })),
            version if version < 0 => Err(FormatError::UnknownVersion(version)),
            version => Ok(Key::Other(version)),
        }
    }
}

impl OffsetKey<'_> {
    /// The record's key.
    ///
    /// # Errors
    /// When a string is too long.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut w = Writer::new(OFFSET_KEY_VERSION, false);
        w.string(self.group)?;
        w.string(self.topic)?;
        w.i32(self.partition);
        Ok(w.finish())
    }
}

impl GroupKey<'_> {
    /// The record's key.
    ///
    /// # Errors
    /// When a string is too long.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut w = Writer::new(GROUP_KEY_VERSION, false);
        w.string(self.group)?;
        Ok(w.finish())
    }
}

/// An offset that was committed (OffsetCommitValue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OffsetValue<'a> {
    /// The next offset to be read.
    pub offset: i64,
    /// Leader epoch of the record before; -1 if unknown. From version 3.
    pub leader_epoch: i32,
    /// The client's note.
    pub metadata: &'a str,
    /// Milliseconds since the epoch.
    pub commit_timestamp: i64,
    /// Milliseconds since the epoch; -1: as the broker is configured. In version 1 only.
    pub expire_timestamp: i64,
    /// Nil if unknown. From version 4.
    pub topic_id: Uuid,
}

impl<'a> OffsetValue<'a> {
    /// Reads a record's value.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn decode(value: &'a [u8]) -> Result<OffsetValue<'a>, FormatError> {
        let (mut r, version) = open_value(value)?;
        let mut offset = OffsetValue {
            offset: r.i64()?,
            leader_epoch: if version >= FIRST_OFFSET_VERSION_WITH_LEADER_EPOCH {
                r.i32()?
            } else {
                -1
            },
            metadata: r.string()?,
            commit_timestamp: r.i64()?,
            expire_timestamp: if version == ONLY_OFFSET_VERSION_WITH_EXPIRY {
                r.i64()?
            } else {
                -1
            },
            topic_id: Uuid::nil(),
        };
        r.tagged_fields(|tag, field| {
            if tag == TOPIC_ID_TAG {
                offset.topic_id = field.uuid()?;
            }
            Ok(())
        })?;
        Ok(offset)
    }

    /// The record's value. Fields that are not in `version` are left out.
    ///
    /// # Errors
    /// When a string is too long, or there is no such version.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, FormatError> {
        let mut w = start_value(version)?;
        w.i64(self.offset);
        if version >= FIRST_OFFSET_VERSION_WITH_LEADER_EPOCH {
            w.i32(self.leader_epoch);
        }
        w.string(self.metadata)?;
        w.i64(self.commit_timestamp);
        if version == ONLY_OFFSET_VERSION_WITH_EXPIRY {
            w.i64(self.expire_timestamp);
        }
        if self.topic_id.is_nil() {
            w.no_tagged_fields();
        } else {
            w.only_tagged_field(TOPIC_ID_TAG, self.topic_id.as_bytes());
        }
        Ok(w.finish())
    }
}

/// A classic group (GroupMetadataValue).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupValue<'a> {
    pub protocol_type: &'a str,
    pub generation: i32,
    /// Null while the group has no members.
    pub protocol: Option<&'a str>,
    /// Null while the group has no members.
    pub leader: Option<&'a str>,
    /// When the group came into its state, in milliseconds since the epoch; -1 if unknown. From
    /// version 2.
    pub current_state_timestamp: i64,
    pub members: Vec<MemberValue<'a>>,
}

/// A member of a classic group (MemberMetadata).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberValue<'a> {
    pub member_id: &'a str,
    /// From version 3.
    pub group_instance_id: Option<&'a str>,
    pub client_id: &'a str,
    pub client_host: &'a str,
    /// From version 1, else 0.
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata for the chosen protocol.
    pub subscription: &'a [u8],
    /// The assignment that the leader gave it.
    pub assignment: &'a [u8],
}

impl<'a> GroupValue<'a> {
    /// Reads a record's value. Allocates for no more members than the value has bytes for.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn decode(value: &'a [u8]) -> Result<GroupValue<'a>, FormatError> {
        let (mut r, version) = open_value(value)?;
        let group = GroupValue {
            protocol_type: r.string()?,
            generation: r.i32()?,
            protocol: r.nullable_string()?,
            leader: r.nullable_string()?,
            current_state_timestamp: if version >= FIRST_GROUP_VERSION_WITH_STATE_TIMESTAMP {
                r.i64()?
            } else {
                -1
            },
            members: decode_members(&mut r, version)?,
        };
        r.tagged_fields(|_, _| Ok(()))?;
        Ok(group)
    }

    /// The record's value. Fields that are not in `version` are left out.
    ///
    /// # Errors
    /// When a string is too long, or there is no such version.
    pub fn encode(&self, version: i16) -> Result<Vec<u8>, FormatError> {
        let mut w = start_value(version)?;
        w.string(self.protocol_type)?;
        w.i32(self.generation);
        w.nullable_string(self.protocol)?;
        w.nullable_string(self.leader)?;
        if version >= FIRST_GROUP_VERSION_WITH_STATE_TIMESTAMP {
            w.i64(self.current_state_timestamp);
        }
        w.length(self.members.len());
        for member in &self.members {
            encode_member(&mut w, member, version)?;
        }
        w.no_tagged_fields();
        Ok(w.finish())
    }
}

fn decode_members<'a>(
    r: &mut Reader<'a>,
    version: i16,
) -> Result<Vec<MemberValue<'a>>, FormatError> {
    let count = r.length()?;
    if count > r.remaining() / MEMBER_BYTES_MIN {
        return Err(FormatError::Truncated);
    }
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        members.push(decode_member(r, version)?);
    }
    Ok(members)
}

fn decode_member<'a>(r: &mut Reader<'a>, version: i16) -> Result<MemberValue<'a>, FormatError> {
    let member = MemberValue {
        member_id: r.string()?,
        group_instance_id: if version >= FIRST_GROUP_VERSION_WITH_INSTANCE_ID {
            r.nullable_string()?
        } else {
            None
        },
        client_id: r.string()?,
        client_host: r.string()?,
        rebalance_timeout_ms: if version >= FIRST_GROUP_VERSION_WITH_REBALANCE_TIMEOUT {
            r.i32()?
        } else {
            0
        },
        session_timeout_ms: r.i32()?,
        subscription: r.bytes()?,
        assignment: r.bytes()?,
    };
    r.tagged_fields(|_, _| Ok(()))?;
    Ok(member)
}

fn encode_member(
    w: &mut Writer,
    member: &MemberValue<'_>,
    version: i16,
) -> Result<(), FormatError> {
    w.string(member.member_id)?;
    if version >= FIRST_GROUP_VERSION_WITH_INSTANCE_ID {
        w.nullable_string(member.group_instance_id)?;
    }
    w.string(member.client_id)?;
    w.string(member.client_host)?;
    if version >= FIRST_GROUP_VERSION_WITH_REBALANCE_TIMEOUT {
        w.i32(member.rebalance_timeout_ms);
    }
    w.i32(member.session_timeout_ms);
    w.bytes(member.subscription);
    w.bytes(member.assignment);
    w.no_tagged_fields();
    Ok(())
}

const FIRST_FLEXIBLE_VALUE_VERSION: i16 = 4;

/// A reader of what follows the value's version, and the version.
fn open_value(value: &[u8]) -> Result<(Reader<'_>, i16), FormatError> {
    let mut r = Reader::new(value);
    let version = checked(r.i16()?)?;
    r.set_flexible(version >= FIRST_FLEXIBLE_VALUE_VERSION);
    Ok((r, version))
}

fn start_value(version: i16) -> Result<Writer, FormatError> {
    let flexible = checked(version)? >= FIRST_FLEXIBLE_VALUE_VERSION;
    Ok(Writer::new(version, flexible))
}

fn checked(version: i16) -> Result<i16, FormatError> {
    match version {
        0..=VALUE_VERSION_MAX => Ok(version),
        _ => Err(FormatError::UnknownVersion(version)),
    }
}
