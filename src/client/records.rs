//! Record batches (format version 2) to bytes and back.
//!
//! The bytes are the broker's own to write and to read ([`crate::log::batch::build`],
//! [`crate::log::records`]) and not a crate's: `kafka_protocol::records` keeps headers in a map, which loses
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
    /// Its own, behind those that all records get.
    pub headers: Vec<Header>,
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
        + record.headers.iter().map(headers_bytes).sum::<usize>()
}

/// Encodes `records`, which must not be empty, as one batch of `producer`; all get `headers` before their own.
///
/// # Errors
/// Only those of the codec.
pub fn encode(
    records: &[NewRecord],
    headers: &[Header],
    producer: &BatchBuilder,
    codec: Codec,
) -> io::Result<Bytes> {
    let builder = BatchBuilder {
        base_timestamp: records.first().map_or(-1, |record| record.timestamp_ms),
        ..*producer
    };
    let headers: Vec<HeaderRef<'_>> = headers.iter().map(header_ref).collect();
    let all_headers = |record| own_and(&headers, record);
    let own: Vec<Vec<HeaderRef<'_>>> = records.iter().map(all_headers).collect();
    let records = records.iter().zip(&own).map(|(record, own)| RecordRef {
        timestamp_ms: record.timestamp_ms,
        key: record.key.as_deref(),
        value: Some(&record.value),
        headers: if own.is_empty() { &headers } else { own },
    });
    let records: Vec<RecordRef<'_>> = records.collect();
    builder.encode(codec, &records).map(Bytes::from)
}

type HeaderRef<'a> = (&'a [u8], Option<&'a [u8]>);

/// What a record with headers of its own has in all; nothing for one without.
fn own_and<'a>(headers: &[HeaderRef<'a>], record: &'a NewRecord) -> Vec<HeaderRef<'a>> {
    if record.headers.is_empty() {
        return Vec::new();
    }
    let own = record.headers.iter().map(header_ref);
    headers.iter().copied().chain(own).collect()
}

fn header_ref((name, value): &Header) -> HeaderRef<'_> {
    (name, value.as_deref())
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
