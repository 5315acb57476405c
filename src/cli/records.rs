//! Record batches (format version 2) to bytes and back.
//!
//! Own code rather than `kafka_protocol::records`: that one keeps headers in a map, which loses
//! repeated ones, and believes the counts that a batch claims.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use crc_fast::CrcAlgorithm::Crc32Iscsi;

use crate::cli::compress::{self, Codec};

/// The bytes of a batch before its first record.
const HEADER_BYTES: usize = 61;
/// The bytes of a batch up to and including its length field.
const LENGTH_END: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const CONTROL_BIT: i16 = 0x20;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
/// Bounds on what one record adds to a batch beside key, value and headers: its length, attributes,
/// timestamp and offset deltas, key and value lengths and header count, as varints.
const RECORD_OVERHEAD_BYTES_MAX: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;

/// A header of a record: a name, and a value that may be null.
pub type Header = (Bytes, Option<Bytes>);

/// One record, as read from a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1.
    pub timestamp_ms: i64,
    /// None is Kafka's null.
    pub key: Option<Bytes>,
    /// None is Kafka's null.
    pub value: Option<Bytes>,
    /// In their order; names may repeat.
    pub headers: Vec<Header>,
}

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
    /// Its parts do not fit together.
    #[error("the batch at offset {0} is corrupt: {1}")]
    Malformed(i64, &'static str),
    /// Its records cannot be decompressed.
    #[error("the batch at offset {0} holds {1}")]
    Compression(i64, #[source] compress::Error),
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
/// Fails only if the codec does.
pub fn encode(
    records: &[NewRecord],
    headers: &[Header],
    producer: Producer,
    codec: Codec,
) -> io::Result<Bytes> {
    let base_timestamp = records.first().map_or(-1, |record| record.timestamp_ms);
    let max_timestamp = records
        .iter()
        .map(|record| record.timestamp_ms)
        .max()
        .unwrap_or(-1);
    let body = encode_records(records, headers, base_timestamp);
    let body = if codec == Codec::None {
        body
    } else {
        codec.compress(&body)?
    };

    let mut batch = BytesMut::with_capacity(HEADER_BYTES + body.len());
    batch.put_i64(0); // base offset: the broker's to say
    batch.put_i32((HEADER_BYTES - LENGTH_END + body.len()) as i32);
    batch.put_i32(-1); // leader epoch: the broker's to say
    batch.put_i8(2);
    batch.put_u32(0); // CRC: below
    batch.put_i16(codec as i16);
    batch.put_i32(records.len() as i32 - 1);
    batch.put_i64(base_timestamp);
    batch.put_i64(max_timestamp);
    batch.put_i64(producer.id);
    batch.put_i16(producer.epoch);
    batch.put_i32(producer.base_sequence);
    batch.put_i32(records.len() as i32);
    debug_assert_eq!(batch.len(), HEADER_BYTES);
    batch.put_slice(&body);
    let crc = crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
    Ok(batch.freeze())
}

fn encode_records(records: &[NewRecord], headers: &[Header], base_timestamp: i64) -> Vec<u8> {
    let mut encoded_headers = Vec::new();
    put_varint(&mut encoded_headers, headers.len() as i64);
    for (name, value) in headers {
        put_bytes(&mut encoded_headers, Some(name));
        put_bytes(&mut encoded_headers, value.as_ref());
    }
    let capacity = records
        .iter()
        .map(|record| record_bytes_max(record, headers))
        .sum();
    let mut body = Vec::with_capacity(capacity);
    let mut front = Vec::new();
    for (delta, record) in records.iter().enumerate() {
        front.clear();
        front.push(0); // attributes
        put_varint(&mut front, record.timestamp_ms - base_timestamp);
        put_varint(&mut front, delta as i64);
        put_bytes(&mut front, record.key.as_ref());
        put_varint(&mut front, record.value.len() as i64);
        let length = front.len() + record.value.len() + encoded_headers.len();
        put_varint(&mut body, length as i64);
        body.extend_from_slice(&front);
        body.extend_from_slice(&record.value);
        body.extend_from_slice(&encoded_headers);
    }
    body
}

/// One batch, as it came in a Fetch reply.
#[derive(Debug)]
pub struct Batch {
    /// The offset of its first record (which compaction may have removed).
    pub base_offset: i64,
    /// The offset after its last record.
    pub next_offset: i64,
    attributes: i16,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    body: Bytes,
}

impl Batch {
    /// Takes the next batch off the front of `data`; None at the end or where the rest is an
    /// incomplete batch, as it is where a broker cut its reply at a size.
    pub fn take(data: &mut Bytes) -> Result<Option<Batch>, Error> {
        if data.len() <= MAGIC_AT {
            return Ok(None);
        }
        let base_offset = (&data[..]).get_i64();
        let length = (&data[LENGTH_END - 4..]).get_i32();
        let magic = data[MAGIC_AT] as i8;
        if magic != 2 {
            return Err(Error::OldFormat(magic));
        }
        let length = usize::try_from(length).unwrap_or(0) + LENGTH_END;
        if length < HEADER_BYTES {
            return Err(Error::Malformed(
                base_offset,
                "it is shorter than its header",
            ));
        }
        if data.len() < length {
            return Ok(None);
        }
        parse(data.split_to(length), base_offset).map(Some)
    }

    /// Whether it holds a transaction's marker instead of records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Decompresses and decodes the records.
    pub fn records(&self) -> Result<Vec<Record>, Error> {
        let compression = |error| Error::Compression(self.base_offset, error);
        let codec = Codec::from_attributes(self.attributes).map_err(compression)?;
        let mut body = match codec {
            Codec::None => self.body.clone(),
            codec => codec.decompress(&self.body).map_err(compression)?.into(),
        };
        let mut records = Vec::new();
        for _ in 0..self.count {
            let record = self.take_record(&mut body);
            records.push(record.ok_or(Error::Malformed(self.base_offset, "a record is torn"))?);
        }
        Ok(records)
    }

    fn take_record(&self, body: &mut Bytes) -> Option<Record> {
        let mut data = take_bytes(body)??;
        let _attributes = data.try_get_i8().ok()?;
        let timestamp_ms = self.base_timestamp.checked_add(take_varint(&mut data)?)?;
        let offset = self.base_offset.checked_add(take_varint(&mut data)?)?;
        let key = take_bytes(&mut data)?;
        let value = take_bytes(&mut data)?;
        let headers = take_headers(&mut data)?;
        let stamped_by_broker = self.attributes & LOG_APPEND_TIME_BIT != 0;
        let timestamp_ms = if stamped_by_broker {
            self.max_timestamp
        } else {
            timestamp_ms
        };
        Some(Record {
            offset,
            timestamp_ms,
            key,
            value,
            headers,
        })
    }
}

fn parse(data: Bytes, base_offset: i64) -> Result<Batch, Error> {
    let mut header = &data[CRC_AT..];
    if header.get_u32() != crc32c(&data[ATTRIBUTES_AT..]) {
        return Err(Error::Checksum(base_offset));
    }
    let attributes = header.get_i16();
    let last_offset_delta = header.get_i32();
    let base_timestamp = header.get_i64();
    let max_timestamp = header.get_i64();
    header.advance(8 + 2 + 4); // producer id, epoch, base sequence
    let count = header.get_i32();
    let next_offset = base_offset.checked_add(i64::from(last_offset_delta) + 1);
    let next_offset = next_offset.filter(|&next| next > base_offset);
    let next_offset =
        next_offset.ok_or(Error::Malformed(base_offset, "its offsets go backwards"))?;
    let body = data.slice(HEADER_BYTES..);
    Ok(Batch {
        base_offset,
        next_offset,
        attributes,
        base_timestamp,
        max_timestamp,
        count,
        body,
    })
}

fn take_headers(data: &mut Bytes) -> Option<Vec<Header>> {
    let count = take_varint(data)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((take_bytes(data)??, take_bytes(data)?));
    }
    Some(headers)
}

/// Bytes behind their length; a length of -1 is null. The outer None: `data` ends before they do.
fn take_bytes(data: &mut Bytes) -> Option<Option<Bytes>> {
    let length = take_varint(data)?;
    if length == -1 {
        return Some(None);
    }
    let length = usize::try_from(length)
        .ok()
        .filter(|&length| length <= data.len())?;
    Some(Some(data.split_to(length)))
}

fn take_varint(data: &mut Bytes) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let byte = data.try_get_u8().ok()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

const VARINT_BYTES_MAX: usize = 5;

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}

fn crc32c(data: &[u8]) -> u32 {
    crc_fast::checksum(Crc32Iscsi, data) as u32
}

#[cfg(test)]
mod tests {
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::records::RecordBatchDecoder;

    use super::{Batch, Error, NewRecord, Producer, encode, record_bytes_max};
    use crate::cli::compress::Codec;

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
        let (records, headers) = sample();
        let producer = Producer {
            id: 7,
            epoch: 1,
            base_sequence: 41,
        };
        for codec in CODECS {
            let mut data = encode(&records, &headers, producer, codec).expect("encodes");
            let batch = Batch::take(&mut data).expect("whole").expect("one batch");
            assert!(data.is_empty() && !batch.is_control());
            assert_eq!((batch.base_offset, batch.next_offset), (0, 3));
            let read = batch.records().expect("decodes");
            assert_eq!(read.len(), 3);
            for (at, (read, wrote)) in read.iter().zip(&records).enumerate() {
                assert_eq!(read.offset, at as i64);
                assert_eq!(read.timestamp_ms, wrote.timestamp_ms);
                assert_eq!(read.key, wrote.key);
                assert_eq!(read.value.as_ref(), Some(&wrote.value));
                assert_eq!(read.headers, headers, "repeated headers survive");
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
        assert!(batch.len() <= bound + super::HEADER_BYTES);
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
            Err(Error::Malformed(0, _))
        ));
    }
}
