//! What the records of a batch say of themselves on the way in: message ids, keys, conditions.

use super::Looks;
use super::known::Known;
use crate::log::key_hash::KeyHash;
use crate::log::records::Record;
use thiserror::Error;

/// The header of a batch's first record that says at which offset it is to be appended.
pub const EXPECTED_OFFSET: &[u8] = b"millstream-expected-offset";
/// The header of a record that says where the newest record of its key is; -1 where there is none.
pub const EXPECTED_KEY_OFFSET: &[u8] = b"millstream-expected-key-offset";
/// A CloudEvent's id is its own among those of one source.
const CLOUD_EVENT_ID: &[u8] = b"ce_id";
const CLOUD_EVENT_SOURCE: &[u8] = b"ce_source";

/// A condition that cannot be understood.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadCondition {
    #[error("record {0} of the batch expects an offset that is no number")]
    NoNumber(u32),
    #[error("record {0} of the batch expects something of its key, and has none")]
    NoKey(u32),
}

/// Of the records of one batch, by their places in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// What was looked at. The topic's configuration may be another by the time of the append.
    pub looks: Option<Looks>,
    pub ids: Vec<(u32, KeyHash)>,
    pub keys: Vec<KeyMark>,
    pub key_conditions: Vec<KeyCondition>,
    /// The offset that the batch is to have.
    pub expected_offset: Option<i64>,
    /// Those of its records that were taken out of the batch, for they were known.
    pub known: Option<Known>,
}

/// A record with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyMark {
    pub place: u32,
    pub key: KeyHash,
    pub is_tombstone: bool,
}

/// The newest record of a key is to be at this offset; -1: there is to be none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyCondition {
    pub place: u32,
    pub key: KeyHash,
    pub expected: i64,
}

/// What a caller expects of a batch of one record, beside what the record says itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// This is the offset that it will have.
    Offset(i64),
    /// The newest record of this key is at this offset; -1: there is none.
    Key(KeyHash, i64),
}

impl Marks {
    /// None yet, of a batch of which this is looked at.
    pub fn new(looks: Looks) -> Marks {
        Marks {
            looks: Some(looks),
            ..Marks::default()
        }
    }

    /// Adds what the caller expects.
    pub fn expect(&mut self, expected: Expected) {
        match expected {
            Expected::Offset(offset) => self.expected_offset = Some(offset),
            Expected::Key(key, expected) => self.key_conditions.push(KeyCondition {
                place: 0,
                key,
                expected,
            }),
        }
    }

    /// Notes what a record says.
    ///
    /// # Errors
    /// When a condition cannot be understood: to append in spite of it would be what it is to prevent.
    pub fn note(
        &mut self,
        looks: &Looks,
        place: u32,
        record: &Record<'_>,
    ) -> Result<(), BadCondition> {
        let is_of_interest = looks.wanted.keys || looks.conditions;
        let key = record.key.filter(|_| is_of_interest).map(KeyHash::of);
        if let Some(key) = key
            && looks.wanted.keys
        {
            self.keys.push(KeyMark {
                place,
                key,
                is_tombstone: record.value.is_none(),
            });
        }
        if looks.wanted.dedup
            && let Some(id) = id_of(looks.id_header.as_str().as_bytes(), record)
        {
            self.ids.push((place, id));
        }
        if !looks.conditions {
            return Ok(());
        }
        if place == 0
            && let Some(expected) = header(record, EXPECTED_OFFSET)
        {
            let expected = number(expected).ok_or(BadCondition::NoNumber(place))?;
            self.expected_offset = Some(expected);
        }
        if let Some(expected) = header(record, EXPECTED_KEY_OFFSET) {
            self.key_conditions.push(KeyCondition {
                place,
                key: key.ok_or(BadCondition::NoKey(place))?,
                expected: number(expected).ok_or(BadCondition::NoNumber(place))?,
            });
        }
        Ok(())
    }
}

/// Whether a header of this name says what its record expects.
pub fn is_condition(name: &[u8]) -> bool {
    [EXPECTED_OFFSET, EXPECTED_KEY_OFFSET]
        .iter()
        .any(|known| name.eq_ignore_ascii_case(known))
}

/// Names as HTTP has them: their case does not matter.
fn header<'r>(record: &Record<'r>, name: &[u8]) -> Option<&'r [u8]> {
    let mut headers = record.headers.iter();
    let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.and_then(|(_, value)| *value)
}

fn id_of(name: &[u8], record: &Record<'_>) -> Option<KeyHash> {
    let id = header(record, name).filter(|id| !id.is_empty())?;
    if name.eq_ignore_ascii_case(CLOUD_EVENT_ID)
        && let Some(source) = header(record, CLOUD_EVENT_SOURCE)
    {
        return Some(KeyHash::of_two(source, id));
    }
    Some(KeyHash::of(id))
}

fn number(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.trim().parse().ok()?;
    (number >= -1).then_some(number)
}
