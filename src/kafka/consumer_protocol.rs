//! What consumers put into JoinGroup's metadata and SyncGroup's assignments when the group's
//! protocol type is "consumer": opaque to the protocol, and read here to know which topics a group
//! consumes.
//!
//! Both begin with their version, and no version is flexible. A version newer than we know is read
//! as the newest that we know, as Kafka's own consumers do: versions only add fields at the end.

use bytes::Bytes;

use crate::wire::{Reader, WireError};

/// The protocol type of groups whose members speak this.
pub const PROTOCOL_TYPE: &str = "consumer";

const FIRST_VERSION_WITH_OWNED_PARTITIONS: i16 = 1;
const FIRST_VERSION_WITH_GENERATION: i16 = 2;
const FIRST_VERSION_WITH_RACK: i16 = 3;

/// What a member wants, from JoinGroup (ConsumerProtocolSubscription).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription<'a> {
    pub topics: Vec<&'a str>,
    /// For the assignor alone.
    pub user_data: Option<Bytes>,
    /// What the member has now. From version 1.
    pub owned_partitions: Vec<TopicPartitions<'a>>,
    /// The generation in which it got them; -1 if unknown. From version 2.
    pub generation_id: i32,
    /// From version 3.
    pub rack_id: Option<&'a str>,
}

/// What a member gets, from SyncGroup (ConsumerProtocolAssignment).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment<'a> {
    pub assigned_partitions: Vec<TopicPartitions<'a>>,
    /// For the assignor alone.
    pub user_data: Option<Bytes>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions<'a> {
    pub topic: &'a str,
    pub partitions: Vec<i32>,
}

/// Reads a member's metadata. A decoding takes no more memory than
/// [`Reader::array_budget_bytes`] of its size.
pub fn decode_subscription(metadata: &Bytes) -> Result<Subscription<'_>, WireError> {
    let (mut r, version) = open(metadata)?;
    Ok(Subscription {
        topics: r.array(Reader::string)?,
        user_data: r.nullable_bytes()?,
        owned_partitions: if version >= FIRST_VERSION_WITH_OWNED_PARTITIONS {
            r.array(decode_topic)?
        } else {
            Vec::new()
        },
        generation_id: if version >= FIRST_VERSION_WITH_GENERATION {
            r.i32()?
        } else {
            -1
        },
        rack_id: if version >= FIRST_VERSION_WITH_RACK {
            r.nullable_string()?
        } else {
            None
        },
    })
}

/// Reads a member's assignment. An empty one, which members without any partition may get, is not
/// one of these: it has not even a version.
pub fn decode_assignment(assignment: &Bytes) -> Result<Assignment<'_>, WireError> {
    let (mut r, _) = open(assignment)?;
    Ok(Assignment {
        assigned_partitions: r.array(decode_topic)?,
        user_data: r.nullable_bytes()?,
    })
}

/// A reader behind the version, and the version.
fn open(content: &Bytes) -> Result<(Reader<'_>, i16), WireError> {
    let mut r = Reader::new(content, false);
    let version = r.i16()?;
    if version < 0 {
        return Err(WireError::NegativeVersion(version));
    }
    Ok((r, version))
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicPartitions<'a>, WireError> {
    Ok(TopicPartitions {
        topic: r.string()?,
        partitions: r.array(Reader::i32)?,
    })
}
