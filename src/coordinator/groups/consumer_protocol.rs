//! What consumers put into JoinGroup's metadata and SyncGroup's assignments when the group's
//! protocol type is "consumer": opaque to the protocol, and read here to know which topics a group
//! consumes.
//!
//! Both begin with their version, and no version is flexible. A version newer than we know is read
//! as the newest that we know, as Kafka's own consumers do: versions only add fields at the end.

use crate::wire::Wire;
use crate::wire::schema::structures;
use crate::wire::{Reader, WireError, Writer};
use bytes::Bytes;

/// The protocol type of groups whose members speak this.
pub const PROTOCOL_TYPE: &str = "consumer";

structures! {
    versions 0..=3;

    /// What a member wants, from JoinGroup (ConsumerProtocolSubscription).
    Subscription<'a> {
        topics: Vec<&'a str>,
        /// For the assignor alone.
        user_data: Option<Bytes>,
        /// What the member has now.
        owned_partitions: Vec<TopicPartitions<'a>> [1..],
        /// The generation in which it got them; -1 if unknown.
        generation_id: i32 [2..] = -1,
        rack_id: Option<&'a str> [3..],
    }

    /// What a member gets, from SyncGroup (ConsumerProtocolAssignment).
    Assignment<'a> {
        assigned_partitions: Vec<TopicPartitions<'a>>,
        /// For the assignor alone.
        user_data: Option<Bytes>,
    }

    TopicPartitions<'a> {
        topic: &'a str,
        partitions: Vec<i32>,
    }
}

/// Reads a member's metadata. A decoding takes no more memory than
/// [`Reader::array_budget_bytes`] of its size.
pub fn decode_subscription(metadata: &Bytes) -> Result<Subscription<'_>, WireError> {
    let (mut r, version) = open(metadata)?;
    Subscription::decode(&mut r, version)
}

/// Reads a member's assignment. An empty one, which members without any partition may get, is not
/// one of these: it has not even a version.
pub fn decode_assignment(assignment: &Bytes) -> Result<Assignment<'_>, WireError> {
    let (mut r, version) = open(assignment)?;
    Assignment::decode(&mut r, version)
}

/// Writes a member's metadata, in the format's first version.
///
/// # Errors
/// `StringTooLong` for a topic's name that no topic can have.
pub fn encode_subscription(subscription: &Subscription<'_>) -> Result<Bytes, WireError> {
    encode(subscription)
}

/// Writes a member's assignment, in the format's first version.
///
/// # Errors
/// As [`encode_subscription`].
pub fn encode_assignment(assignment: &Assignment<'_>) -> Result<Bytes, WireError> {
    encode(assignment)
}

fn encode<'a>(content: &impl Wire<'a>) -> Result<Bytes, WireError> {
    let mut w = Writer::new(false);
    w.i16(0);
    content.encode(&mut w, 0);
    Ok(w.into_vec()?.into())
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
