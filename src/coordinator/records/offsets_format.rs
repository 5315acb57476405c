//! The records of the topic `__consumer_offsets`, byte for byte as Kafka writes them: committed
//! offsets and the classic groups that committed them.
//!
//! A record's key begins with a version (an i16) that says what kind of record it is; its value,
//! which is absent when the key was deleted, begins with a version of its own. Values are flexible
//! (KIP-482) from version 4 on; older values and all keys are not. Kafka writes values of version 3, and
//! offsets of version 4 once they carry topic ids.

mod key;
#[cfg(test)]
mod tests;

pub use key::{GroupKey, Key, OffsetKey};

use crate::wire::schema::structures;
use crate::wire::{Reader, Wire, WireError, Writer};
use thiserror::Error;
use uuid::Uuid;

/// The version of values that is written, as by Kafka.
pub const VALUE_VERSION: i16 = 3;
/// The newest version of values that is read.
pub const VALUE_VERSION_MAX: i16 = 4;
const FIRST_FLEXIBLE_VALUE_VERSION: i16 = 4;

/// Why a record cannot be read or written.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FormatError {
    #[error("version {0} is not known")]
    UnknownVersion(i16),
    #[error(transparent)]
    Wire(#[from] WireError),
}

structures! {
    versions 0..=4, flexible 4..;

    /// An offset that was committed (OffsetCommitValue).
    #[derive(Copy)]
    OffsetValue<'a> {
        /// The next offset to be read.
        offset: i64,
        /// Leader epoch of the record before; -1 if unknown.
        leader_epoch: i32 [3..] = -1,
        /// The client's note.
        metadata: &'a str,
        /// Milliseconds since the epoch.
        commit_timestamp: i64,
        /// Milliseconds since the epoch; -1: as the broker is configured.
        expire_timestamp: i64 [1] = -1,
        /// Nil if unknown.
        topic_id: Uuid [4.., tag 0],
    }

    /// A classic group (GroupMetadataValue).
    GroupValue<'a> {
        protocol_type: &'a str,
        generation: i32,
        /// Null while the group has no members.
        protocol: Option<&'a str>,
        /// Null while the group has no members.
        leader: Option<&'a str>,
        /// When the group came into its state, in milliseconds since the epoch; -1 if unknown.
        current_state_timestamp: i64 [2..] = -1,
        members: Vec<MemberValue<'a>>,
    }

    /// A member of a classic group (MemberMetadata).
    #[derive(Copy)]
    MemberValue<'a> {
        member_id: &'a str,
        group_instance_id: Option<&'a str> [3..],
        client_id: &'a str,
        client_host: &'a str,
        rebalance_timeout_ms: i32 [1..],
        session_timeout_ms: i32,
        /// The member's metadata for the chosen protocol.
        subscription: &'a [u8],
        /// The assignment that the leader gave it.
        assignment: &'a [u8],
    }
}

/// Reads a record's value: an [`OffsetValue`] or a [`GroupValue`]. Allocates for no more members than
/// the value has bytes for.
///
/// # Errors
/// When there is no such version, or the value is malformed.
pub fn decode_value<'a, T: Wire<'a>>(value: &'a [u8]) -> Result<T, FormatError> {
    let mut r = Reader::over(value, false);
    let version = r.i16()?;
    r.set_flexible(is_flexible(version)?);
    Ok(T::decode(&mut r, version)?)
}

/// A record's value. Fields that are not in `version` are left out.
///
/// # Errors
/// When a string is too long, or there is no such version.
pub fn encode_value<'a>(value: &impl Wire<'a>, version: i16) -> Result<Vec<u8>, FormatError> {
    let mut w = Writer::new(is_flexible(version)?);
    w.i16(version);
    value.encode(&mut w, version);
    Ok(w.into_vec()?)
}

fn is_flexible(version: i16) -> Result<bool, FormatError> {
    match version {
        0..=VALUE_VERSION_MAX => Ok(version >= FIRST_FLEXIBLE_VALUE_VERSION),
        _ => Err(FormatError::UnknownVersion(version)),
    }
}
