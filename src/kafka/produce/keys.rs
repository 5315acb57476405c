//! What a compacted topic asks of the records: every one has a key.
//!
//! The only place where records are read on the way in. An uncompressed batch is walked where it is,
//! which is bounded by `max.message.bytes`; a compressed one is unpacked on the worker thread, and the
//! connection's next request waits for it, so that order is kept.

use super::RecordError;
use super::handle::Refusal;
use crate::engine::Engine;
use crate::engine::catalog::Topic;
use crate::kafka::error::ErrorCode;
use crate::log::batch::{BatchHeader, Codec};
use crate::log::compact;
use crate::log::records::{Records, RecordsError};
use bytes::Bytes;
use std::borrow::Cow;

/// A batch may unpack to so many times `max.message.bytes`, but to `UNPACKED_BYTES_MIN` in any case
/// and never to more than compaction can hold.
const UNPACKED_FACTOR: usize = 64;
const UNPACKED_BYTES_MIN: usize = 16 << 20;
/// As many records are named in a reply; the others are refused with them.
const RECORD_ERRORS_MAX: usize = 100;

/// Refuses a batch with a record that has no key.
pub(super) async fn check(
    engine: &Engine,
    topic: &Topic,
    batch: &Bytes,
    header: &BatchHeader,
) -> Result<(), Refusal> {
    let limit = (topic.config.max_message_bytes as usize)
        .saturating_mul(UNPACKED_FACTOR)
        .clamp(UNPACKED_BYTES_MIN, compact::UNPACKED_BYTES_MAX);
    if header.codec() == Some(Codec::None) {
        return check_records(header, batch, limit);
    }
    let (batch, header) = (batch.clone(), *header);
    let checked = engine
        .worker
        .run(move || check_records(&header, &batch, limit));
    let failed = || {
        Refusal::new(
            ErrorCode::InvalidRecord,
            "the records cannot be decompressed",
        )
    };
    checked.await.unwrap_or_else(|| Err(failed()))
}

fn check_records(header: &BatchHeader, batch: &[u8], limit: usize) -> Result<(), Refusal> {
    let records = Records::unpack(*header, batch, limit).map_err(|error| unreadable(&error))?;
    let mut without_key = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let record = record.map_err(|error| unreadable(&error))?;
        if record.offset != header.base_offset + index as i64 {
            let message = format!("record {index} of the batch has another offset");
            return Err(Refusal::new(ErrorCode::InvalidRecord, &message));
        }
        if record.key.is_none() && without_key.len() < RECORD_ERRORS_MAX {
            without_key.push(RecordError {
                batch_index: index as i32,
                message: Some(Cow::Borrowed(
                    "Compacted topic cannot accept message without key.",
                )),
            });
        }
    }
    match without_key.is_empty() {
        true => Ok(()),
        false => Err(Refusal {
            record_errors: without_key,
            ..Refusal::new(
                ErrorCode::InvalidRecord,
                "one or more records have no key; this topic is compacted",
            )
        }),
    }
}

fn unreadable(error: &RecordsError) -> Refusal {
    let code = match error {
        RecordsError::TooLarge(_) => ErrorCode::MessageTooLarge,
        _ => ErrorCode::InvalidRecord,
    };
    Refusal::new(code, &error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::build::BatchBuilder;

    fn check(codec: Codec, keys: &[Option<&str>], limit: usize) -> Result<(), Refusal> {
        let records: Vec<_> = keys.iter().map(|key| (*key, Some("value"))).collect();
        let batch = BatchBuilder::default().build_keyed(codec, &records);
        check_records(&BatchHeader::parse(&batch).unwrap(), &batch, limit)
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
            assert_eq!(refusal.code, ErrorCode::InvalidRecord);
            let named: Vec<i32> = refusal
                .record_errors
                .iter()
                .map(|e| e.batch_index)
                .collect();
            assert_eq!(named, [1, 2]);
        }
    }

    #[test]
    fn a_batch_that_unpacks_to_too_much_is_too_large() {
        let refusal = check(Codec::Zstd, &[Some("a"); 100], 500).unwrap_err();
        assert_eq!(refusal.code, ErrorCode::MessageTooLarge);
    }
}
