//! The keys of these records: their version says what the record describes.

use super::FormatError;
use crate::wire::schema::structures;
use crate::wire::{Reader, Wire, Writer};

/// Versions 0 and 1 are the same: both name a committed offset.
const OFFSET_KEY_VERSIONS: std::ops::RangeInclusive<i16> = 0..=1;
const OFFSET_KEY_VERSION: i16 = 1;
const GROUP_KEY_VERSION: i16 = 2;

/// What a record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key<'a> {
    Offset(OffsetKey<'a>),
    Group(GroupKey<'a>),
    /// Another kind of record, with its version: groups of KIP-848 and share groups have theirs.
    Other(i16),
}

structures! {
    versions 0..=2;

    /// Names an offset that was committed (OffsetCommitKey).
    #[derive(Copy)]
    OffsetKey<'a> {
        group: &'a str,
        topic: &'a str,
        partition: i32,
    }

    /// Names a group (GroupMetadataKey).
    #[derive(Copy)]
    GroupKey<'a> {
        group: &'a str,
    }
}

impl<'a> Key<'a> {
    /// Reads a record's key.
    ///
    /// # Errors
    /// See [`FormatError`].
    pub fn decode(key: &'a [u8]) -> Result<Key<'a>, FormatError> {
        let mut r = Reader::over(key, false);
        match r.i16()? {
            version if OFFSET_KEY_VERSIONS.contains(&version) => {
                Ok(Key::Offset(Wire::decode(&mut r, version)?))
            }
            GROUP_KEY_VERSION => Ok(Key::Group(Wire::decode(&mut r, GROUP_KEY_VERSION)?)),
            version if version < 0 => Err(FormatError::UnknownVersion(version)),
            version => Ok(Key::Other(version)),
        }
    }

    /// The record's key.
    ///
    /// # Errors
    /// When a string is too long.
    pub fn encode(&self) -> Result<Vec<u8>, FormatError> {
        let mut w = Writer::new(false);
        match self {
            Key::Offset(key) => {
                w.i16(OFFSET_KEY_VERSION);
                key.encode(&mut w, OFFSET_KEY_VERSION);
            }
            Key::Group(key) => {
                w.i16(GROUP_KEY_VERSION);
                key.encode(&mut w, GROUP_KEY_VERSION);
            }
            Key::Other(version) => return Err(FormatError::UnknownVersion(*version)),
        }
        Ok(w.into_vec()?)
    }
}
