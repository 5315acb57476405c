//! Which records of a batch are kept, and the batch that holds only them.
//!
//! Kafka's rules (`Cleaner.shouldRetainRecord`): a record is dropped when a later one has its key, when it
//! has no key, or when it is a tombstone whose time is over (KIP-534). Offsets never change.

use super::map::OffsetMap;
use crate::log::batch::{BatchHeader, Codec};
use crate::log::compress;
use crate::log::records::{self, Record, Records, RecordsError};

/// What the records of one batch may unpack to (bytes). What producers send to a compacted topic is
/// held to less.
pub const UNPACKED_BYTES_MAX: usize = 256 << 20;

/// What decides whether a record is kept.
pub struct Rules<'a> {
    pub map: &'a OffsetMap,
    /// Below this offset `map` knows of every key that has a record at or above the first dirty one.
    pub map_end: i64,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
}

/// The result for one batch.
#[derive(Debug, PartialEq, Eq)]
pub struct CleanedBatch {
    pub batch: Rewritten,
    pub records_dropped: u64,
    /// When the tombstones that are kept may go (ms).
    pub horizon_ms: Option<i64>,
}

/// A batch without the records that go.
#[derive(Debug, PartialEq, Eq)]
pub enum Rewritten {
    /// All of them stay.
    Same,
    Changed(Vec<u8>),
    /// None of them does.
    Emptied,
}

/// Calls `note` with the key and offset of every record that has a key. A batch that no client can
/// read has no keys; see [`apply`].
///
/// # Errors
/// `TooLarge` when the records unpack to more than memory is set aside for.
pub fn for_each_key(
    header: &BatchHeader,
    batch: &[u8],
    mut note: impl FnMut(&[u8], i64),
) -> Result<(), RecordsError> {
    if is_left_alone(header) {
        return Ok(());
    }
    let unpacked = unpack(header, batch)?;
    let records = unpacked.as_ref().and_then(|it| read_all(header, it));
    for (record, _) in records.into_iter().flatten() {
        if let Some(key) = record.key {
            note(key, record.offset);
        }
    }
    Ok(())
}

/// Decides about the records of a batch.
///
/// A batch that cannot be read though its checksum matches is as its producer sent it; it is kept.
/// So are transactional and control batches: whether their records count is not known here.
///
/// # Errors
/// `TooLarge` when the records unpack to more than memory is set aside for.
pub fn apply(
    rules: &Rules<'_>,
    header: &BatchHeader,
    batch: &[u8],
) -> Result<CleanedBatch, RecordsError> {
    let cleaned = |batch, records_dropped, horizon_ms| {
        Ok(CleanedBatch {
            batch,
            records_dropped,
            horizon_ms,
        })
    };
    if header.base_offset >= rules.map_end || is_left_alone(header) {
        return cleaned(Rewritten::Same, 0, None);
    }
    if header.record_count == 0 {
        return cleaned(Rewritten::Emptied, 0, None);
    }
    let unpacked = unpack(header, batch)?;
    let Some(mut records) = unpacked.as_ref().and_then(|it| read_all(header, it)) else {
        return cleaned(Rewritten::Same, 0, None);
    };
    let before = records.len();
    let known = header.delete_horizon_ms();
    let tombstones_go = known.is_some_and(|horizon_ms| rules.now_ms >= horizon_ms);
    records.retain(|(record, _)| is_kept(rules, record, tombstones_go));
    let dropped = (before - records.len()) as u64;
    if records.is_empty() {
        return cleaned(Rewritten::Emptied, dropped, None);
    }
    let has_tombstones = records.iter().any(|(record, _)| record.value.is_none());
    let horizon_ms = has_tombstones
        .then(|| known.unwrap_or(rules.now_ms.saturating_add(rules.delete_retention_ms)));
    if dropped == 0 && (known.is_some() || !has_tombstones) {
        return cleaned(Rewritten::Same, 0, horizon_ms);
    }
    match rewrite(header, horizon_ms.filter(|_| known.is_none()), &records) {
        Some(batch) => cleaned(Rewritten::Changed(batch), dropped, horizon_ms),
        None => cleaned(Rewritten::Same, 0, None),
    }
}

/// The batch without any records: its header still has its producer's sequence and its offsets.
pub fn emptied(header: &BatchHeader) -> Vec<u8> {
    let header = BatchHeader {
        // No codec, and no time: lookups by time pass it by.
        attributes: header.attributes & !7 & !(1 << 6),
        base_timestamp: -1,
        max_timestamp: -1,
        record_count: 0,
        ..*header
    };
    header.with_records(&[])
}

fn is_left_alone(header: &BatchHeader) -> bool {
    header.is_control() || header.is_transactional()
}

fn is_kept(rules: &Rules<'_>, record: &Record<'_>, tombstones_go: bool) -> bool {
    let Some(key) = record.key else {
        return false;
    };
    let is_newest = rules
        .map
        .newest(key)
        .is_none_or(|newest| record.offset >= newest);
    is_newest && (record.value.is_some() || !tombstones_go)
}

/// `None` when no client can unpack them either.
fn unpack<'a>(header: &BatchHeader, batch: &'a [u8]) -> Result<Option<Records<'a>>, RecordsError> {
    match Records::unpack(*header, batch, UNPACKED_BYTES_MAX) {
        Ok(unpacked) => Ok(Some(unpacked)),
        Err(error @ RecordsError::TooLarge(_)) => Err(error),
        Err(_) => Ok(None),
    }
}

/// All records with their bytes; `None` unless every one is well formed and its offset lies in the
/// batch, behind the one before.
fn read_all<'a>(
    header: &BatchHeader,
    unpacked: &'a Records<'_>,
) -> Option<Vec<(Record<'a>, &'a [u8])>> {
    let mut records = Vec::new();
    let mut iter = unpacked.iter();
    let mut next = header.base_offset;
    while let Some(found) = iter.next_with_bytes() {
        let (record, bytes) = found.ok()?;
        if record.offset < next || record.offset > header.last_offset() {
            return None;
        }
        next = record.offset + 1;
        records.push((record, bytes));
    }
    Some(records)
}

/// The batch with those of its records that `keep` says, by their places.
///
/// # Errors
/// When its records cannot be read, or unpack to more than `limit` bytes.
pub fn with_only(
    header: &BatchHeader,
    batch: &[u8],
    limit: usize,
    keep: impl Fn(usize) -> bool,
) -> Result<Vec<u8>, RecordsError> {
    let unpacked = Records::unpack(*header, batch, limit)?;
    let records = read_all(header, &unpacked).ok_or(RecordsError::Malformed(0))?;
    let kept = records
        .into_iter()
        .enumerate()
        .filter(|(place, _)| keep(*place));
    let kept: Vec<_> = kept.map(|(_, record)| record).collect();
    rewrite(header, None, &kept).ok_or(RecordsError::Malformed(0))
}

/// The batch with these of its records only. `None` when its timestamps cannot be counted from the
/// new horizon, or its codec fails.
fn rewrite(
    header: &BatchHeader,
    new_horizon_ms: Option<i64>,
    records: &[(Record<'_>, &[u8])],
) -> Option<Vec<u8>> {
    let mut header = *header;
    let codec = header.codec().unwrap_or(Codec::None);
    header.record_count = records.len() as i32;
    let newest = records.iter().map(|(record, _)| record.timestamp).max();
    header.max_timestamp = newest.unwrap_or(-1);
    let mut bytes = Vec::new();
    for (record, raw) in records {
        match new_horizon_ms {
            None => bytes.extend_from_slice(raw),
            Some(horizon_ms) => {
                let delta = record.timestamp.checked_sub(horizon_ms)?;
                bytes.extend(records::with_timestamp_delta(raw, delta)?);
            }
        }
    }
    if let Some(horizon_ms) = new_horizon_ms {
        header.set_delete_horizon(horizon_ms);
    }
    let packed = compress::compress(codec, &bytes).ok()?;
    Some(header.with_records(&packed))
}
