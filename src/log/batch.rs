//! The record batch, format v2, as Kafka's clients send it and as it lies on disk.
//!
//! Layout (big endian): base offset 0, length 8, leader epoch 12, magic 16, CRC 17, attributes 21,
//! last offset delta 23, base timestamp 27, max timestamp 35, producer id 43, producer epoch 51,
//! base sequence 53, record count 57, records 61. The CRC-32C covers byte 21 to the end
//! (Kafka's `DefaultRecordBatch`), so base offset and leader epoch can be set without touching it.

pub mod build;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use thiserror::Error;

/// Bytes of a batch before its records.
pub const HEADER_BYTES: usize = 61;
/// Bytes of base offset and length, which the length field does not count.
pub const LENGTH_END: usize = 12;
const CRC_AT: usize = 17;
const CRC_FROM: usize = 21;
const MAGIC: i8 = 2;
const CODEC: i16 = 7;
const LOG_APPEND_TIME: i16 = 1 << 3;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;
const DELETE_HORIZON: i16 = 1 << 6;

const _: () = assert!(HEADER_BYTES > CRC_FROM && CRC_FROM == CRC_AT + 4);

/// Why bytes are not a record batch, or not one that a producer may send.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BatchError {
    #[error("the batch is cut short")]
    Truncated,
    #[error("the batch claims a length of {0} bytes")]
    BadLength(i32),
    #[error("the batch has format {0}; only format 2 is stored")]
    BadMagic(i8),
    #[error("the batch's CRC-32C does not match its bytes")]
    BadCrc,
    #[error("the batch has {0} bytes, more than this topic's max.message.bytes allows")]
    TooLarge(usize),
    #[error("the records are not one well-formed batch: {0}")]
    Invalid(&'static str),
}

/// What a partition keeps to recognise a producer's batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerMark {
    pub producer_id: i64,
    pub epoch: i16,
    pub base_sequence: i32,
}

/// The header of a batch, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    /// Bytes after the length field.
    pub length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    /// Milliseconds since the epoch, or -1.
    pub base_timestamp: i64,
    /// Milliseconds since the epoch, or -1.
    pub max_timestamp: i64,
    /// -1 when the producer is not idempotent.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

/// How a batch's records are compressed (attributes, bits 0 to 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes` and checks that it can be one: format 2, a length
    /// that holds a header, offsets and counts that are not negative.
    ///
    /// # Errors
    /// See [`BatchError`]; the CRC is not looked at ([`crc_matches`]).
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        if bytes.len() < HEADER_BYTES {
            return Err(BatchError::Truncated);
        }
        let header = BatchHeader {
            base_offset: i64_at(bytes, 0),
            length: i32_at(bytes, 8),
            leader_epoch: i32_at(bytes, 12),
            magic: bytes[16] as i8,
            crc: i32_at(bytes, CRC_AT) as u32,
            attributes: i16_at(bytes, 21),
            last_offset_delta: i32_at(bytes, 23),
            base_timestamp: i64_at(bytes, 27),
            max_timestamp: i64_at(bytes, 35),
            producer_id: i64_at(bytes, 43),
            producer_epoch: i16_at(bytes, 51),
            base_sequence: i32_at(bytes, 53),
            record_count: i32_at(bytes, 57),
        };
        // Formats 0 and 1 have their magic at the same place but another layout around it.
        if header.magic != MAGIC {
            return Err(BatchError::BadMagic(header.magic));
        }
        if header.length < (HEADER_BYTES - LENGTH_END) as i32 {
            return Err(BatchError::BadLength(header.length));
        }
        if header.base_offset < 0 || header.base_offset > i64::MAX - i64::from(i32::MAX) - 1 {
            return Err(BatchError::Invalid("the base offset is out of range"));
        }
        if header.last_offset_delta < 0 || header.record_count < 0 {
            return Err(BatchError::Invalid("a count is negative"));
        }
        Ok(header)
    }

    /// Bytes of the whole batch, header included.
    pub fn size(&self) -> usize {
        LENGTH_END + self.length as usize
    }

    /// The offset of the last record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// The offset that the batch after this one starts at.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// The codec, or `None` for a number that no codec has.
    pub fn codec(&self) -> Option<Codec> {
        match self.attributes & CODEC {
            0 => Some(Codec::None),
            1 => Some(Codec::Gzip),
            2 => Some(Codec::Snappy),
            3 => Some(Codec::Lz4),
            4 => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// Makes `codec` the one that the records are compressed with.
    pub fn set_codec(&mut self, codec: Codec) {
        self.attributes = self.attributes & !CODEC | codec as i16;
    }

    /// Whether the max timestamp cannot be one: it is below the first record's. Producers that leave it at -1
    /// (sarama up to 1.45.1) do that. Where the base timestamp is no record's, there is nothing to doubt.
    pub fn claims_no_time_for_all(&self) -> bool {
        let has_first = self.delete_horizon_ms().is_none() && !self.is_log_append_time();
        has_first && self.record_count > 0 && self.max_timestamp < self.base_timestamp
    }

    /// The highest timestamp (ms) that the header is believed to have; its records may have a higher one
    /// where the header [cannot be right](Self::claims_no_time_for_all).
    pub fn known_max_timestamp(&self) -> i64 {
        if self.claims_no_time_for_all() {
            self.base_timestamp
        } else {
            self.max_timestamp
        }
    }

    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }

    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When the tombstones in the batch may go (ms), once a compaction has kept them for the first
    /// time; the base timestamp is that time then (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Makes `horizon_ms` the time when the batch's tombstones may go, and with it the time that the
    /// records' timestamps count from.
    pub fn set_delete_horizon(&mut self, horizon_ms: i64) {
        self.attributes |= DELETE_HORIZON;
        self.base_timestamp = horizon_ms;
    }

    /// A whole batch of this header and `records` (compressed as the header says): its length and
    /// CRC are made to fit.
    pub fn with_records(&self, records: &[u8]) -> Vec<u8> {
        let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
        self.put(&mut batch, records.len());
        seal(&mut batch, records);
        batch.extend_from_slice(records);
        batch
    }

    /// Writes the header of a batch with so many bytes of records, without their CRC.
    fn put(&self, batch: &mut Vec<u8>, records_bytes: usize) {
        batch.extend_from_slice(&self.base_offset.to_be_bytes());
        let length = (HEADER_BYTES - LENGTH_END + records_bytes) as i32;
        batch.extend_from_slice(&length.to_be_bytes());
        batch.extend_from_slice(&self.leader_epoch.to_be_bytes());
        batch.push(MAGIC as u8);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&self.attributes.to_be_bytes());
        batch.extend_from_slice(&self.last_offset_delta.to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp.to_be_bytes());
        batch.extend_from_slice(&self.producer_id.to_be_bytes());
        batch.extend_from_slice(&self.producer_epoch.to_be_bytes());
        batch.extend_from_slice(&self.base_sequence.to_be_bytes());
        batch.extend_from_slice(&self.record_count.to_be_bytes());
    }

    /// The producer's mark, when the batch comes from an idempotent producer.
    pub fn producer(&self) -> Option<ProducerMark> {
        (self.producer_id >= 0).then_some(ProducerMark {
            producer_id: self.producer_id,
            epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
        })
    }
}

/// How many of the first `most` bytes of `batches`, whole ones in a row, are whole batches.
pub fn whole_batches_within(batches: &[u8], most: usize) -> usize {
    let mut end = 0;
    while let Ok(header) = BatchHeader::parse(&batches[end..]) {
        if end + header.size() > most.min(batches.len()) {
            break;
        }
        end += header.size();
    }
    end
}

/// The offset behind `batches` when compaction has left none of their records.
pub fn end_of_hollow(batches: &[u8]) -> Option<i64> {
    let mut at = 0;
    let mut end = None;
    while let Ok(header) = BatchHeader::parse(&batches[at..]) {
        if header.record_count > 0 {
            return None;
        }
        at = batches.len().min(at + header.size());
        end = Some(header.next_offset());
    }
    end
}

/// Whether the CRC-32C in the header matches. `batch` is one whole batch.
pub fn crc_matches(batch: &[u8]) -> bool {
    batch.len() >= HEADER_BYTES
        && crc_fast::crc32_iscsi(&batch[CRC_FROM..]) == i32_at(batch, CRC_AT) as u32
}

/// Whether the checksums of all whole batches match.
pub fn all_crcs_match(mut batches: &[u8]) -> bool {
    while let Ok(header) = BatchHeader::parse(batches) {
        let Some((batch, rest)) = batches.split_at_checked(header.size()) else {
            break;
        };
        if !crc_matches(batch) {
            return false;
        }
        batches = rest;
    }
    true
}

/// Checks what a producer sent for one partition: exactly one sound batch, as Kafka's
/// `LogValidator` requires (the records inside are not checked).
///
/// # Errors
/// See [`BatchError`]. `max_bytes` is the topic's `max.message.bytes`.
pub fn check_produced(records: &[u8], max_bytes: usize) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(records)?;
    if records.len() < header.size() {
        return Err(BatchError::Truncated);
    }
    if records.len() > header.size() {
        return Err(BatchError::Invalid("there is more than one batch"));
    }
    if records.len() > max_bytes {
        return Err(BatchError::TooLarge(records.len()));
    }
    if !crc_matches(records) {
        return Err(BatchError::BadCrc);
    }
    if header.base_offset != 0 {
        return Err(BatchError::Invalid("the base offset is not 0"));
    }
    if header.record_count == 0 {
        return Err(BatchError::Invalid("there are no records"));
    }
    if header.last_offset_delta != header.record_count - 1 {
        return Err(BatchError::Invalid(
            "the last offset delta is not the record count less one",
        ));
    }
    if header.is_control() {
        return Err(BatchError::Invalid("control batches are the broker's own"));
    }
    if header.codec().is_none() {
        return Err(BatchError::Invalid("the compression codec is unknown"));
    }
    if header.producer_id >= 0 && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return Err(BatchError::Invalid(
            "an idempotent producer's sequence or epoch is negative",
        ));
    }
    Ok(header)
}

/// Sets base offset and leader epoch, which the CRC does not cover.
pub fn patch_position(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

/// The batch with another max timestamp (ms) in its header, and a CRC that fits.
pub fn with_max_timestamp(batch: &[u8], max_timestamp: i64) -> Bytes {
    let mut changed = batch.to_vec();
    let (head, records) = changed.split_at_mut(HEADER_BYTES);
    head[35..43].copy_from_slice(&max_timestamp.to_be_bytes());
    seal(head, records);
    changed.into()
}

/// Makes every record's timestamp `now_ms`, as `message.timestamp.type=LogAppendTime` asks
/// (KIP-32), and computes a new CRC. `head` is the batch's header, `records` what follows it.
pub fn patch_append_time(head: &mut [u8], records: &[u8], now_ms: i64) {
    let attributes = i16_at(head, 21) | LOG_APPEND_TIME;
    head[21..23].copy_from_slice(&attributes.to_be_bytes());
    head[35..43].copy_from_slice(&now_ms.to_be_bytes());
    seal(head, records);
}

/// The header that a batch is stored with: at its place, and stamped with the time of its append if
/// there is one.
pub fn stored_header(
    batch: &[u8],
    base_offset: i64,
    leader_epoch: i32,
    append_time_ms: Option<i64>,
) -> [u8; HEADER_BYTES] {
    let mut head = array_at(batch, 0);
    patch_position(&mut head, base_offset, leader_epoch);
    if let Some(now_ms) = append_time_ms {
        patch_append_time(&mut head, &batch[HEADER_BYTES..], now_ms);
    }
    head
}

/// Computes the CRC of a whole batch again.
fn seal(head: &mut [u8], records: &[u8]) {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&head[CRC_FROM..]);
    digest.update(records);
    let crc = digest.finalize() as u32;
    head[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(array_at(bytes, at))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(array_at(bytes, at))
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(array_at(bytes, at))
}

/// The `N` bytes at a position, which must be there.
pub(super) fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

#[cfg(test)]
mod tests {
    use super::build::{BatchBuilder, seal};
    use super::*;

    fn batch() -> Vec<u8> {
        BatchBuilder::default().build(&["one", "two", "three"])
    }

    #[test]
    fn a_sound_batch_is_accepted_and_its_header_read() {
        let header = check_produced(&batch(), 1000).unwrap();
        assert_eq!(header.record_count, 3);
        assert_eq!(header.size(), batch().len());
        assert_eq!(header.max_timestamp, 1_700_000_000_002);
        assert_eq!(header.producer(), None);
    }

    #[test]
    fn a_flipped_bit_anywhere_under_the_crc_is_found() {
        for at in CRC_FROM..batch().len() {
            let mut bad = batch();
            bad[at] ^= 0x10;
            assert!(!crc_matches(&bad), "byte {at}");
        }
    }

    #[test]
    fn what_a_producer_may_not_send_is_refused_with_the_reason() {
        let refuse = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bad = batch();
            change(&mut bad);
            check_produced(&bad, 1000).unwrap_err()
        };
        assert_eq!(refuse(&|b| b.truncate(60)), BatchError::Truncated);
        assert_eq!(refuse(&|b| b.truncate(80)), BatchError::Truncated);
        assert_eq!(refuse(&|b| b[16] = 1), BatchError::BadMagic(1));
        assert_eq!(refuse(&|b| b[80] ^= 1), BatchError::BadCrc);
        assert_eq!(
            refuse(&|b| b[8..12].copy_from_slice(&(-5i32).to_be_bytes())),
            BatchError::BadLength(-5)
        );
        assert_eq!(
            check_produced(&batch(), 70).unwrap_err(),
            BatchError::TooLarge(batch().len())
        );
        let invalid = |change: &dyn Fn(&mut Vec<u8>)| {
            let error = refuse(&|b| {
                change(b);
                if b.len() == batch().len() {
                    seal(b);
                }
            });
            assert!(matches!(error, BatchError::Invalid(_)), "{error}");
        };
        invalid(&|b| b[7] = 1);
        invalid(&|b| b.extend_from_slice(&batch()));
        invalid(&|b| b[57..61].copy_from_slice(&0i32.to_be_bytes()));
        invalid(&|b| b[57..61].copy_from_slice(&2i32.to_be_bytes()));
        invalid(&|b| b[22] |= 0x20);
        invalid(&|b| b[22] |= 0x07);
        invalid(&|b| b[43..51].copy_from_slice(&7i64.to_be_bytes()));
    }

    #[test]
    fn position_is_patched_outside_the_crc_and_append_time_inside() {
        let mut stored = batch();
        patch_position(&mut stored, 41, 0);
        assert!(crc_matches(&stored));
        let (head, records) = stored.split_at_mut(HEADER_BYTES);
        patch_append_time(head, records, 99);
        assert!(crc_matches(&stored));
        let head = stored_header(&batch(), 41, 0, Some(99));
        assert_eq!(head, stored[..HEADER_BYTES]);
        let header = BatchHeader::parse(&stored).unwrap();
        assert!(header.is_log_append_time());
        assert_eq!((header.base_offset, header.max_timestamp), (41, 99));
        assert_eq!(header.next_offset(), 44);
    }
}
