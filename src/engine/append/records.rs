//! What is asked of the records in a batch: in a compacted topic each has a key; where
//! `message.validation` is `records`, the header's max timestamp cannot be true, or `compression.type` asks for
//! another codec, all of it.
//!
//! The only place where records are read on the way in. An uncompressed batch is walked where it is,
//! which is bounded by `max.message.bytes`. The worker thread unpacks and compresses; the
//! caller awaits that before the next batch, so order is kept.

use super::Refusal;
use crate::config::{CompressionType, MessageValidation, TimestampType, TopicConfig};
use crate::engine::Engine;
use crate::engine::catalog::Topic;
use crate::engine::indexes::Looks;
use crate::engine::indexes::marks::Marks;
use crate::log::batch::{BatchError, BatchHeader, Codec};
use crate::log::records::{Records, RecordsError};
use crate::log::{compact, compress};
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

/// A batch whose records were read.
pub(super) struct Checked {
    pub times: Times,
    /// What the records say of themselves, where the topic looks at that.
    pub marks: Option<Marks>,
    /// The batch compressed again, with the max timestamp of its records, where the topic wants another codec.
    pub recompressed: Option<Vec<u8>>,
}

/// A codec, and its level where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packing {
    codec: Codec,
    level: Option<i32>,
}

/// Whether the batch's header is not enough.
pub(super) fn are_needed(config: &TopicConfig, header: &BatchHeader) -> bool {
    config.cleanup_policy.compacts()
        || config.message_validation == MessageValidation::Records
        || (config.message_timestamp_type == TimestampType::CreateTime
            && header.claims_no_time_for_all())
        || new_packing(config, header).is_some()
        || Looks::of(config).is_some()
}

/// How the topic wants the batch compressed, where that is not how its producer did.
fn new_packing(config: &TopicConfig, header: &BatchHeader) -> Option<Packing> {
    let (codec, level) = match config.compression_type {
        CompressionType::Producer => return None,
        CompressionType::Uncompressed => (Codec::None, None),
        CompressionType::Gzip => {
            let level = config.compression_gzip_level.0;
            (Codec::Gzip, level.map(|level| level as i32))
        }
        CompressionType::Snappy => (Codec::Snappy, None),
        CompressionType::Lz4 => (Codec::Lz4, None),
        CompressionType::Zstd => (Codec::Zstd, Some(config.compression_zstd_level)),
    };
    (header.codec() != Some(codec)).then_some(Packing { codec, level })
}

/// Reads all records of a batch: they have the count and the offsets that the header says, and keys
/// where the topic is compacted. Compresses them again where the topic asks for another codec.
pub(super) async fn check(
    engine: &Engine,
    topic: &Topic,
    batch: &Bytes,
    header: &BatchHeader,
) -> Result<Checked, Refusal> {
    let needs_keys = topic.config.cleanup_policy.compacts();
    let bytes_max = topic.config.max_message_bytes as usize;
    let limit = bytes_max
        .saturating_mul(UNPACKED_FACTOR)
        .clamp(UNPACKED_BYTES_MIN, compact::UNPACKED_BYTES_MAX);
    let packing = new_packing(&topic.config, header);
    if header.codec() == Some(Codec::None) && packing.is_none() {
        let records = Records::unpack(*header, batch, limit)?;
        let looks = Looks::of(&topic.config);
        let (times, marks) = check_records(header, &records, needs_keys, looks)?;
        return Ok(Checked {
            times,
            marks,
            recompressed: None,
        });
    }
    let (batch, header, config) = (batch.clone(), *header, topic.config);
    let checked = engine.workers.worker.run(move || {
        let records = Records::unpack(header, &batch, limit)?;
        let looks = Looks::of(&config);
        let (times, marks) = check_records(&header, &records, needs_keys, looks)?;
        let recompressed = packing.map(|packing| {
            let header = BatchHeader {
                max_timestamp: times.max,
                ..header
            };
            recompress(header, &records, packing, bytes_max)
        });
        Ok(Checked {
            times,
            marks,
            recompressed: recompressed.transpose()?,
        })
    });
    checked.await.unwrap_or_else(|| {
        let failed = io::Error::other("the worker thread failed");
        Err(RecordsError::Decompress(failed).into())
    })
}

/// The whole batch again with another codec; it may have at most `bytes_max` bytes.
fn recompress(
    mut header: BatchHeader,
    records: &Records<'_>,
    packing: Packing,
    bytes_max: usize,
) -> Result<Vec<u8>, Refusal> {
    let packed = compress::compress_at(packing.codec, packing.level, records.bytes());
    let packed = packed.map_err(RecordsError::Compress)?;
    header.set_codec(packing.codec);
    let batch = header.with_records(&packed);
    if batch.len() > bytes_max {
        return Err(BatchError::TooLarge(batch.len()).into());
    }
    Ok(batch)
}

fn check_records(
    header: &BatchHeader,
    records: &Records<'_>,
    needs_keys: bool,
    looks: Option<Looks>,
) -> Result<(Times, Option<Marks>), Refusal> {
    let mut without_key = Vec::new();
    let mut marks = looks.map(Marks::new);
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
        if let (Some(looks), Some(marks)) = (&looks, &mut marks) {
            marks.note(looks, index as u32, &record)?;
        }
        if needs_keys && record.key.is_none() && without_key.len() < NAMED_MAX {
            without_key.push(index as i32);
        }
    }
    if iter.bytes_left() > 0 {
        return Err(RecordsError::Malformed(header.record_count as usize).into());
    }
    if without_key.is_empty() {
        Ok((times, marks))
    } else {
        Err(Refusal::WithoutKey(without_key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::build::BatchBuilder;
    use crate::log::batch::check_produced;

    fn check(codec: Codec, keys: &[Option<&str>], limit: usize) -> Result<Times, Refusal> {
        let records: Vec<_> = keys.iter().map(|key| (*key, Some("value"))).collect();
        let batch = BatchBuilder::default().build_keyed(codec, &records);
        let header = BatchHeader::parse(&batch).unwrap();
        let records = Records::unpack(header, &batch, limit)?;
        let (times, _) = check_records(&header, &records, true, None)?;
        Ok(times)
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
    fn every_codec_becomes_every_other_and_the_batch_stays_sound() {
        let codecs = [
            (Codec::None, CompressionType::Uncompressed),
            (Codec::Gzip, CompressionType::Gzip),
            (Codec::Snappy, CompressionType::Snappy),
            (Codec::Lz4, CompressionType::Lz4),
            (Codec::Zstd, CompressionType::Zstd),
        ];
        let producer = BatchBuilder {
            producer_id: 7,
            producer_epoch: 1,
            base_sequence: 9,
            ..BatchBuilder::default()
        };
        let keyed = [(Some("a"), Some("one")), (None, Some("two"))];
        for (from, _) in codecs {
            let batch = producer.build_keyed(from, &keyed);
            let header = BatchHeader::parse(&batch).unwrap();
            let records = Records::unpack(header, &batch, 1000).unwrap();
            for (to, compression_type) in codecs {
                let config = TopicConfig {
                    compression_type,
                    ..TopicConfig::default()
                };
                let Some(packing) = new_packing(&config, &header) else {
                    assert_eq!(from, to);
                    continue;
                };
                let again = recompress(header, &records, packing, 1000).unwrap();
                let made = check_produced(&again, 1000).unwrap();
                assert_eq!(made.codec(), Some(to));
                assert_eq!(made.producer(), header.producer());
                assert_eq!(made.max_timestamp, header.max_timestamp);
                let read = Records::unpack(made, &again, 1000).unwrap();
                assert_eq!(read.bytes(), records.bytes());
                let refusal = recompress(header, &records, packing, 60).unwrap_err();
                assert!(matches!(refusal, Refusal::Batch(BatchError::TooLarge(_))));
            }
        }
        let header = BatchHeader::parse(&producer.build_keyed(Codec::Gzip, &keyed)).unwrap();
        assert_eq!(new_packing(&TopicConfig::default(), &header), None);
    }

    #[test]
    fn a_higher_level_packs_tighter() {
        let text: Vec<String> = (0..2000)
            .map(|n| format!("{} and {}", n * 7919, n % 13))
            .collect();
        let records: Vec<_> = text
            .iter()
            .map(|value| (None, Some(value.as_str())))
            .collect();
        let batch = BatchBuilder::default().build_keyed(Codec::None, &records);
        let header = BatchHeader::parse(&batch).unwrap();
        let records = Records::unpack(header, &batch, 1 << 20).unwrap();
        for (codec, low, high) in [(Codec::Gzip, 1, 9), (Codec::Zstd, -5, 19)] {
            let size = |level| {
                let level = Some(level);
                recompress(header, &records, Packing { codec, level }, 1 << 20)
                    .unwrap()
                    .len()
            };
            assert!(size(high) < size(low), "{codec:?}");
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
