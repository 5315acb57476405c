//! What is asked of the records in a batch: in a compacted topic each has a key; where
//! `message.validation` is `records`, or the header's max timestamp cannot be true, all of it.
//!
//! The only place where records are read on the way in. An uncompressed batch is walked where it is,
//! which is bounded by `max.message.bytes`. A compressed one is unpacked on the worker thread; the
//! caller awaits that before the next batch, so order is kept.

use super::Refusal;
use crate::config::{MessageValidation, TimestampType, TopicConfig};
use crate::engine::Engine;
use crate::engine::catalog::Topic;
use crate::log::batch::{BatchHeader, Codec};
use crate::log::compact;
use crate::log::records::{Records, RecordsError};
use bytes::Bytes;
use std::io;

/// A batch may unpack to this many times `max.message.bytes`, to `UNPACKED_BYTES_MIN` in any case,
/// and never to more than compaction can hold.
const UNPACKED_FACTOR: usize = 64;
const UNPACKED_BYTES_MIN: usize = 16 << 20;
/// The most records that a refusal names; the others are refused with them.
const NAMED_MAX: usize = 100;

/// The timestamps of a batch's records (ms).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Times {
    pub min: i64,
    pub max: i64,
}

/// Whether the batch's header is not enough.
pub(super) fn are_needed(config: &TopicConfig, header: &BatchHeader) -> bool {
    config.cleanup_policy.compacts()
        || config.message_validation == MessageValidation::Records
        || (config.message_timestamp_type == TimestampType::CreateTime
            && header.claims_no_time_for_all())
}

/// Reads all records of a batch: they have the count and the offsets that the header says, and keys
/// where the topic is compacted.
pub(super) async fn check(
    engine: &Engine,
    topic: &Topic,
    batch: &Bytes,
    header: &BatchHeader,
) -> Result<Times, Refusal> {
    let needs_keys = topic.config.cleanup_policy.compacts();
    let limit = (topic.config.max_message_bytes as usize)
        .saturating_mul(UNPACKED_FACTOR)
        .clamp(UNPACKED_BYTES_MIN, compact::UNPACKED_BYTES_MAX);
    if header.codec() == Some(Codec::None) {
        return check_records(header, batch, needs_keys, limit);
    }
    let (batch, header) = (batch.clone(), *header);
    let checked = engine
        .workers
        .worker
        .run(move || check_records(&header, &batch, needs_keys, limit));
    checked.await.unwrap_or_else(|| {
        let failed = io::Error::other("the worker thread failed");
        Err(RecordsError::Decompress(failed).into())
    })
}

fn check_records(
    header: &BatchHeader,
    batch: &[u8],
    needs_keys: bool,
    limit: usize,
) -> Result<Times, Refusal> {
    let records = Records::unpack(*header, batch, limit)?;
    let mut without_key = Vec::new();
    let mut times = Times {
        min: i64::MAX,
        max: i64::MIN,
    };
    let mut iter = records.iter();
    for index in 0..header.record_count as usize {
        let record = iter.next().ok_or(RecordsError::Malformed(index))??;
        times.min = times.min.min(record.timestamp);
        times.max = times.max.max(record.timestamp);
        if record.offset != header.base_offset + index as i64 {
            return Err(Refusal::RecordOffset(index));
        }
        if needs_keys && record.key.is_none() && without_key.len() < NAMED_MAX {
            without_key.push(index as i32);
        }
    }
    if iter.bytes_left() > 0 {
        return Err(RecordsError::Malformed(header.record_count as usize).into());
    }
    if without_key.is_empty() {
        Ok(times)
    } else {
        Err(Refusal::WithoutKey(without_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::build::BatchBuilder;

    fn check(codec: Codec, keys: &[Option<&str>], limit: usize) -> Result<Times, Refusal> {
        let records: Vec<_> = keys.iter().map(|key| (*key, Some("value"))).collect();
        let batch = BatchBuilder::default().build_keyed(codec, &records);
        check_records(&BatchHeader::parse(&batch).unwrap(), &batch, true, limit)
    }

    #[test]
    fn records_without_a_key_are_named_whatever_the_codec() {
        for codec in [
            Codec::None,
            Codec::Gzip,
            Codec::Snappy,
            Codec::Lz4,
            Codec::Zstd,
        ] {
            assert!(check(codec, &[Some("a"), Some("")], 1000).is_ok());
            let refusal = check(codec, &[Some("a"), None, None], 1000).unwrap_err();
            let Refusal::WithoutKey(named) = refusal else {
                panic!("{refusal}");
            };
            assert_eq!(named, [1, 2]);
        }
    }

    #[test]
    fn a_batch_that_unpacks_to_too_much_is_too_large() {
        let refusal = check(Codec::Zstd, &[Some("a"); 100], 500).unwrap_err();
        assert!(matches!(
            refusal,
            Refusal::Records(RecordsError::TooLarge(500))
        ));
    }
}
