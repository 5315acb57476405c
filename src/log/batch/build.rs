//! Records to batches: for what the broker writes itself (`__consumer_offsets`), for the client, and for tests.

use super::{BatchHeader, Codec, HEADER_BYTES, MAGIC};
use crate::log::compress;
use crate::log::records::{put_varint, varint_bytes};
use std::io;

/// A header of a record: a name, and a value that may be null.
pub type Header<'a> = (&'a [u8], Option<&'a [u8]>);

/// A record to be written, by reference. `None` is Kafka's null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordRef<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [Header<'a>],
}

/// Builds batches with base offset 0 and without a leader epoch: both are for the log to say.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Milliseconds since 1970.
    pub base_timestamp: i64,
    /// -1 unless the producer is idempotent; epoch and sequence too.
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        BatchBuilder {
            base_timestamp: 1_700_000_000_000,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }
}

impl BatchBuilder {
    /// An uncompressed record for each value; the timestamps go up by a millisecond from record to record.
    pub fn build<V: AsRef<[u8]>>(&self, values: &[V]) -> Vec<u8> {
        let records = values.iter().map(|value| (None, Some(value.as_ref())));
        self.in_sequence(Codec::None, records)
    }

    /// A record for each key with its value, none for a tombstone, compressed with `codec`; the timestamps
    /// go up by a millisecond from record to record.
    pub fn build_keyed<B: AsRef<[u8]>>(
        &self,
        codec: Codec,
        records: &[(Option<B>, Option<B>)],
    ) -> Vec<u8> {
        fn bytes<B: AsRef<[u8]>>(part: &Option<B>) -> Option<&[u8]> {
            part.as_ref().map(AsRef::as_ref)
        }
        let records = records
            .iter()
            .map(|(key, value)| (bytes(key), bytes(value)));
        self.in_sequence(codec, records)
    }

    fn in_sequence<'a>(
        &self,
        codec: Codec,
        records: impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)>,
    ) -> Vec<u8> {
        let records = (self.base_timestamp..).zip(records);
        let records = records.map(|(timestamp_ms, (key, value))| RecordRef {
            timestamp_ms,
            key,
            value,
            headers: &[],
        });
        let records: Vec<RecordRef<'a>> = records.collect();
        let batch = self.encode(codec, &records);
        batch.expect("compressing in memory does not fail")
    }

    /// A batch of `records`, compressed with `codec`.
    ///
    /// # Errors
    /// Only those of the codec.
    pub fn encode(&self, codec: Codec, records: &[RecordRef<'_>]) -> io::Result<Vec<u8>> {
        let count = records.len() as i32;
        let latest = records.iter().map(|record| record.timestamp_ms).max();
        let header = BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            magic: MAGIC,
            crc: 0,
            attributes: codec as i16,
            last_offset_delta: count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: latest.unwrap_or(-1),
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: count,
        };
        let deltas = |(place, record): (usize, &RecordRef<'_>)| {
            let timestamp_delta = record.timestamp_ms.wrapping_sub(self.base_timestamp);
            (timestamp_delta, place as i64)
        };
        let sizes = records
            .iter()
            .enumerate()
            .map(|at| bytes_of(at.1, deltas(at)));
        let sizes: Vec<usize> = sizes.collect();
        let framed = sizes.iter().map(|size| varint_bytes(*size as i64) + size);
        let records_bytes = framed.sum();
        let put_records = |into: &mut Vec<u8>| {
            for (at, size) in records.iter().enumerate().zip(&sizes) {
                put_varint(into, *size as i64);
                put_record(into, at.1, deltas(at));
            }
        };
        if codec == Codec::None {
            let mut batch = Vec::with_capacity(HEADER_BYTES + records_bytes);
            header.put(&mut batch, records_bytes);
            put_records(&mut batch);
            debug_assert_eq!(batch.len(), HEADER_BYTES + records_bytes);
            seal(&mut batch);
            return Ok(batch);
        }
        let mut plain = Vec::with_capacity(records_bytes);
        put_records(&mut plain);
        Ok(header.with_records(&compress::compress(codec, &plain)?))
    }
}

/// Writes a record behind its length. The deltas are those of its timestamp and its offset.
fn put_record(into: &mut Vec<u8>, record: &RecordRef<'_>, (timestamp, offset): (i64, i64)) {
    // The attributes of a record have no meaning yet.
    into.push(0);
    put_varint(into, timestamp);
    put_varint(into, offset);
    put_bytes(into, record.key);
    put_bytes(into, record.value);
    put_varint(into, record.headers.len() as i64);
    for (name, value) in record.headers {
        put_bytes(into, Some(name));
        put_bytes(into, *value);
    }
}

/// What [`put_record`] writes, in bytes.
fn bytes_of(record: &RecordRef<'_>, (timestamp, offset): (i64, i64)) -> usize {
    let part = |bytes: Option<&[u8]>| varint_bytes(length_of(bytes)) + bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.iter();
    let headers = headers.map(|(name, value)| part(Some(name)) + part(*value));
    let numbers = [timestamp, offset, record.headers.len() as i64];
    let numbers = numbers.into_iter().map(varint_bytes);
    1 + numbers.sum::<usize>() + part(record.key) + part(record.value) + headers.sum::<usize>()
}

/// Computes the CRC of a batch whose bytes were changed.
pub fn seal(batch: &mut [u8]) {
    let (head, records) = batch.split_at_mut(HEADER_BYTES);
    super::seal(head, records);
}

fn put_bytes(into: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varint(into, length_of(bytes));
    into.extend_from_slice(bytes.unwrap_or_default());
}

/// As it is written: -1 for null.
fn length_of(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
}
