//! Record batches (format version 2) to bytes and back.
//!
//! The bytes are the broker's own to write and to read ([`crate::log::batch::build`],
//! [`crate::log::records`]) and not `kafka_protocol::records`: that one keeps headers in a map, which loses
//! repeated ones, and believes the counts that a batch claims.

use std::io;

use bytes::Bytes;

use crate::log::batch::build::{BatchBuilder, RecordRef};
use crate::log::batch::{self, BatchError, BatchHeader, Codec};
use crate::log::records::{Records, RecordsError};

/// What the records of one batch may decompress to, in bytes, before it is taken for a bomb.
pub const UNPACKED_BYTES_MAX: usize = 512 << 20;

const MAGIC_AT: usize = 16;
const VARINT_BYTES_MAX: usize = 5;
/// Bounds on what one record adds to a batch beside key, value and headers: its length, attributes,
/// timestamp and offset deltas, key and value lengths and header count, as varints.
const RECORD_OVERHEAD_BYTES_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;

/// A header of a record: a name, and a value that may be null.
pub type Header = (Bytes, Option<Bytes>);

/// One record to be written.
#[derive(Clone, Debug)]
pub struct NewRecord {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// None is Kafka's null.
    pub key: Option<Bytes>,
    /// Never null: what a line of text gives.
    pub value: Bytes,
}

/// What the batch's header says of an idempotent producer; [`Producer::NONE`] of any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Producer {
    /// The id from InitProducerId.
    pub id: i64,
    /// The epoch from InitProducerId.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub base_sequence: i32,
}

impl Producer {
    /// Not idempotent.
    pub const NONE: Producer = Producer {
        id: -1,
        epoch: -1,
        base_sequence: -1,
    };
}

/// Why a batch cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Written by a Kafka before 0.11 and never converted.
    #[error("message format {0} (older than Kafka 0.11) is not read by this client")]
    OldFormat(i8),
    /// The checksum does not match.
    #[error("the batch at offset {0} is corrupt: its checksum does not match")]
    Checksum(i64),
    /// Its header makes no sense.
    #[error("a batch is corrupt: {0}")]
    Header(#[from] BatchError),
    /// Its records cannot be decompressed or make no sense.
    #[error("the batch at offset {0} is corrupt: {1}")]
    Records(i64, RecordsError),
}

/// An upper bound on what a record adds to a batch, in bytes before compression.
pub fn record_bytes_max(record: &NewRecord, headers: &[Header]) -> usize {
    let headers_bytes = |(name, value): &Header| {
        name.len() + value.as_ref().map_or(0, Bytes::len) + 2 * VARINT_BYTES_MAX
    };
    RECORD_OVERHEAD_BYTES_MAX
        + record.key.as_ref().map_or(0, Bytes::len)
        + record.value.len()
        + headers.iter().map(headers_bytes).sum::<usize>()
}

/// Encodes `records`, which must not be empty, as one batch; all get the same `headers`.
///
/// # Errors
/// Only those of the codec.
pub fn encode(
    records: &[NewRecord],
    headers: &[Header],
    producer: Producer,
    codec: Codec,
) -> io::Result<Bytes> {
    let builder = BatchBuilder {
        base_timestamp: records.first().map_or(-1, |record| record.timestamp_ms),
        producer_id: producer.id,
        producer_epoch: producer.epoch,
        base_sequence: producer.base_sequence,
    };
    let records = records.iter().map(|record| RecordRef {
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: Some(&record.value),
    });
    let records: Vec<RecordRef<'_>> = records.collect();
    let headers = headers
        .iter()
        .map(|(name, value)| (&name[..], value.as_deref()));
    let headers: Vec<_> = headers.collect();
    builder.encode(codec, &records, &headers).map(Bytes::from)
}

/// One batch, as it came in a Fetch reply.
#[derive(Debug)]
pub struct Batch {
    header: BatchHeader,
    bytes: Bytes,
}

impl Batch {
    /// Takes the next batch off the front of `data`; None at the end or where the rest is an
    /// incomplete batch, as it is where a broker cut its reply at a size.
    pub fn take(data: &mut Bytes) -> Result<Option<Batch>, Error> {
        if let Some(&magic) = data.get(MAGIC_AT).filter(|&&magic| magic != 2) {
            return Err(Error::OldFormat(magic as i8));
        }
        let header = match BatchHeader::parse(data) {
            Err(BatchError::Truncated) => return Ok(None),
            other => other?,
        };
        if data.len() < header.size() {
            return Ok(None);
        }
        let bytes = data.split_to(header.size());
        if !batch::crc_matches(&bytes) {
            return Err(Error::Checksum(header.base_offset));
        }
        Ok(Some(Batch { header, bytes }))
    }

    /// The offset after its last record.
    pub fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// Whether it holds a transaction's marker instead of records.
    pub fn is_control(&self) -> bool {
        self.header.is_control()
    }

    /// Unpacks the records.
    pub fn records(&self) -> Result<Records<'_>, Error> {
        Records::unpack(self.header, &self.bytes, UNPACKED_BYTES_MAX)
            .map_err(|error| self.unreadable(error))
    }

    /// What to say when a record cannot be read.
    pub fn unreadable(&self, error: RecordsError) -> Error {
        Error::Records(self.header.base_offset, error)
    }
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::RecordBatchDecoder;

    use super::{Batch, Error, NewRecord, Producer, encode, record_bytes_max};
    use crate::log::batch::{Codec, HEADER_BYTES};

    const CODECS: [Codec; 5] = [
        Codec::None,
        Codec::Gzip,
        Codec::Snappy,
        Codec::Lz4,
        Codec::Zstd,
    ];

    fn sample() -> (Vec<NewRecord>, Vec<super::Header>) {
        let record = |timestamp_ms, key: Option<&'static str>, value: &'static str| NewRecord {
            timestamp_ms,
            key: key.map(Bytes::from),
            value: value.into(),
        };
        let records = vec![
            record(1_700_000_000_000, None, ""),
            record(1_700_000_000_500, Some("k"), "hello"),
            record(
                1_699_999_999_000,
                Some(""),
                "a longer value, a longer value, a longer value",
            ),
        ];
        (
            records,
            vec![("h".into(), Some("1".into())), ("h".into(), None)],
        )
    }

    #[test]
    fn what_was_encoded_is_read_back_with_every_codec() {
        let (mut records, headers) = sample();
        // More than one block of any codec.
        records.push(NewRecord {
            value: b"0123456789abcdef".repeat(20_000).into(),
            ..records[1].clone()
        });
        let producer = Producer {
            id: 7,
            epoch: 1,
            base_sequence: 41,
        };
        for codec in CODECS {
            let mut data = encode(&records, &headers, producer, codec).expect("encodes");
            let batch = Batch::take(&mut data).expect("whole").expect("one batch");
            assert!(data.is_empty() && !batch.is_control());
            assert_eq!(batch.next_offset(), 4);
            let unpacked = batch.records().expect("decodes");
            assert_eq!(unpacked.iter().count(), 4);
            for (at, (read, wrote)) in unpacked.iter().zip(&records).enumerate() {
                let read = read.expect("well-formed");
                assert_eq!(read.offset, at as i64);
                assert_eq!(read.timestamp, wrote.timestamp_ms);
                assert_eq!(read.key, wrote.key.as_deref());
                assert_eq!(read.value, Some(&wrote.value[..]));
                let repeated = [(&b"h"[..], Some(&b"1"[..])), (b"h", None)];
                assert_eq!(read.headers, repeated, "repeated headers survive");
            }
        }
    }

    /// Another implementation agrees on the bytes.
    #[test]
    fn kafka_protocol_reads_what_we_write() {
        let (records, _) = sample();
        let headers = [("h".into(), Some("1".into()))];
        let producer = Producer {
            id: 7,
            epoch: 1,
            base_sequence: 41,
        };
        for codec in CODECS {
            let mut data = encode(&records, &headers, producer, codec).expect("encodes");
            let set = RecordBatchDecoder::decode(&mut data).expect("the other one decodes");
            assert_eq!(set.records.len(), 3);
            let last = &set.records[2];
            assert_eq!(
                (last.producer_id, last.producer_epoch, last.sequence),
                (7, 1, 43)
            );
            assert_eq!(last.value.as_ref(), Some(&records[2].value));
            assert_eq!(last.headers.len(), 1);
        }
    }

    #[test]
    fn the_bound_on_a_record_holds() {
        let (records, headers) = sample();
        let bound: usize = records
            .iter()
            .map(|record| record_bytes_max(record, &headers))
            .sum();
        let batch = encode(&records, &headers, Producer::NONE, Codec::None).expect("encodes");
        assert!(batch.len() <= bound + HEADER_BYTES);
    }

    #[test]
    fn a_reply_cut_inside_a_batch_gives_the_whole_batches_before_it() {
        let (records, headers) = sample();
        let batch = encode(&records, &headers, Producer::NONE, Codec::None).expect("encodes");
        for cut in 0..batch.len() {
            let mut data = BytesMut::from(&batch[..]);
            data.extend_from_slice(&batch[..cut]);
            let mut data = data.freeze();
            assert!(Batch::take(&mut data).expect("whole").is_some());
            assert!(
                Batch::take(&mut data).expect("cut").is_none(),
                "cut at {cut}"
            );
        }
    }

    #[test]
    fn damage_is_found() {
        let (records, headers) = sample();
        let batch = encode(&records, &headers, Producer::NONE, Codec::None).expect("encodes");
        let mut flipped = batch.to_vec();
        flipped[70] ^= 1;
        assert!(matches!(
            Batch::take(&mut flipped.into()),
            Err(Error::Checksum(0))
        ));
        let mut old = batch.to_vec();
        old[super::MAGIC_AT] = 1;
        assert!(matches!(
            Batch::take(&mut old.into()),
            Err(Error::OldFormat(1))
        ));
        let mut short = batch.to_vec();
        short[8..12].copy_from_slice(&3i32.to_be_bytes());
        assert!(matches!(
            Batch::take(&mut short.into()),
            Err(Error::Header(_))
        ));
    }
}
