//! The records inside a batch: for lookups by time, `consume`, `dump` and `verify`. Never on the two
//! walks.
//!
//! A compressed batch can claim any size, so decompression stops at the caller's limit.

use super::batch::{BatchHeader, Codec, HEADER_BYTES};
use smallvec::SmallVec;
use std::borrow::Cow;
use std::io::{self, Read};
use thiserror::Error;

/// The largest window that a zstd frame may ask its reader to keep, as a power of two: 128 MiB, which
/// the highest level asks for and clients take. A frame can ask for terabytes.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
/// What has been unpacked is copied, while its buffer grows, up to this size: then all of the limit is reserved.
/// To grow once more would take half as much again, and what nothing was written to is not memory.
const COPIED_BYTES_MAX: usize = 1 << 20;

/// Why a batch's records cannot be read.
#[derive(Debug, Error)]
pub enum RecordsError {
    #[error("the records cannot be decompressed: {0}")]
    Decompress(io::Error),
    #[error("the records cannot be compressed: {0}")]
    Compress(io::Error),
    #[error("the records unpack to more than {0} bytes")]
    TooLarge(usize),
    #[error("record {0} of the batch is malformed")]
    Malformed(usize),
    #[error("the batch names a codec that does not exist")]
    UnknownCodec,
}

/// The headers of a record: names, and values that may be null. Two need no memory of their own.
pub type Headers<'a> = SmallVec<[(&'a [u8], Option<&'a [u8]>); 2]>;

/// One record, borrowed from a batch's unpacked bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub offset: i64,
    /// Milliseconds since the epoch; the batch's for LogAppendTime.
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: Headers<'a>,
}

/// A batch's records, unpacked: [`iter`](Records::iter) reads them.
pub struct Records<'a> {
    header: BatchHeader,
    bytes: Cow<'a, [u8]>,
}

impl<'a> Records<'a> {
    /// Unpacks the records of a whole batch to at most `limit` bytes.
    ///
    /// # Errors
    /// See [`RecordsError`].
    pub fn unpack(
        header: BatchHeader,
        batch: &'a [u8],
        limit: usize,
    ) -> Result<Records<'a>, RecordsError> {
        let packed = batch.get(HEADER_BYTES..).unwrap_or_default();
        let bytes = match header.codec().ok_or(RecordsError::UnknownCodec)? {
            Codec::None => return Ok(Records::new(header, packed.into())),
            Codec::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(packed), limit)?,
            Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(packed), limit)?,
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(packed)
                    .map_err(RecordsError::Decompress)?;
                let bounded = decoder.window_log_max(ZSTD_WINDOW_LOG_MAX);
                bounded.map_err(RecordsError::Decompress)?;
                read_bounded(decoder, limit)?
            }
            Codec::Snappy => unpack_snappy(packed, limit)?,
        };
        Ok(Records::new(header, bytes.into()))
    }

    fn new(header: BatchHeader, bytes: Cow<'a, [u8]>) -> Records<'a> {
        Records { header, bytes }
    }

    /// The records as they are without compression.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The records in order; the first malformed one ends the iteration with an error.
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter {
            header: &self.header,
            rest: &self.bytes,
            index: 0,
        }
    }
}

/// The place of a record in its batch, for coming back to it.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    offset: i64,
    index: u32,
    /// Bytes of records from it on.
    bytes_left: u32,
}

impl Mark {
    /// The record's offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }
}

/// Iterates over a batch's records.
#[derive(Clone)]
pub struct RecordIter<'a> {
    header: &'a BatchHeader,
    rest: &'a [u8],
    index: usize,
}

impl<'a> RecordIter<'a> {
    /// The next record with the bytes it is made of, its length included.
    pub fn next_with_bytes(&mut self) -> Option<Result<(Record<'a>, &'a [u8]), RecordsError>> {
        let before = self.rest;
        let record = self.next()?;
        let bytes = &before[..before.len() - self.rest.len()];
        Some(record.map(|record| (record, bytes)))
    }

    /// Passes over the records below `offset`, of which nothing else is read. One that is malformed comes next.
    pub fn skip_below(&mut self, offset: i64) {
        while self.index < self.header.record_count as usize {
            let mut rest = self.rest;
            let delta = offset_delta(&mut rest);
            let found = delta.and_then(|delta| self.header.base_offset.checked_add(delta));
            if found.is_none_or(|found| found >= offset) {
                return;
            }
            self.rest = rest;
            self.index += 1;
        }
    }

    /// Where the next record is; `None` at the end, and for one that is malformed.
    pub fn mark(&self) -> Option<Mark> {
        if self.index >= self.header.record_count as usize {
            return None;
        }
        let delta = offset_delta(&mut &*self.rest)?;
        Some(Mark {
            offset: self.header.base_offset.checked_add(delta)?,
            index: u32::try_from(self.index).ok()?,
            bytes_left: u32::try_from(self.rest.len()).ok()?,
        })
    }

    /// Moves on to a record behind the next one, marked in the same batch.
    pub fn go_to(&mut self, mark: &Mark) {
        let passed = self.rest.len().saturating_sub(mark.bytes_left as usize);
        self.rest = &self.rest[passed..];
        self.index = mark.index as usize;
    }

    /// Passes over so many records. One that is malformed comes next.
    pub fn pass_over(&mut self, records: usize) {
        for _ in 0..records {
            let mut rest = self.rest;
            let is_next = self.index < self.header.record_count as usize;
            if !is_next || offset_delta(&mut rest).is_none() {
                return;
            }
            self.rest = rest;
            self.index += 1;
        }
    }

    /// Bytes behind the records that were read so far: none after the last, in a well-formed batch.
    pub fn bytes_left(&self) -> usize {
        self.rest.len()
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordsError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.record_count as usize {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let record = parse_record(&mut self.rest, self.header);
        if record.is_none() {
            self.index = usize::MAX;
        }
        Some(record.ok_or(RecordsError::Malformed(index)))
    }
}

fn parse_record<'a>(rest: &mut &'a [u8], header: &BatchHeader) -> Option<Record<'a>> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let mut body = take(rest, length)?;
    let body = &mut body;
    let _attributes = take(body, 1)?;
    let timestamp_delta = varint(body)?;
    let offset_delta = varint(body)?;
    let key = nullable(body)?;
    let value = nullable(body)?;
    let count = usize::try_from(varint(body)?).ok()?;
    // A header takes two bytes at least, so a lying count is found before it is believed.
    let mut headers = Headers::with_capacity(count.min(body.len() / 2));
    for _ in 0..count {
        headers.push((nullable(body)??, nullable(body)?));
    }
    if !body.is_empty() {
        return None;
    }
    let timestamp = if header.is_log_append_time() {
        header.max_timestamp
    } else {
        header.base_timestamp.checked_add(timestamp_delta)?
    };
    Some(Record {
        offset: header.base_offset.checked_add(offset_delta)?,
        timestamp,
        key,
        value,
        headers,
    })
}

/// How far a record's offset is from its batch's base offset; takes the record off.
fn offset_delta(rest: &mut &[u8]) -> Option<i64> {
    let length = usize::try_from(varint(rest)?).ok()?;
    let body = &mut take(rest, length)?;
    let _attributes = take(body, 1)?;
    let _timestamp_delta = varint(body)?;
    varint(body)
}

fn nullable<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint(rest)? {
        -1 => Some(None),
        length => take(rest, usize::try_from(length).ok()?).map(Some),
    }
}

fn take<'a>(rest: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(length)?;
    *rest = left;
    Some(taken)
}

/// A record's `bytes` with another timestamp, counted from the batch's base timestamp (ms).
pub(super) fn with_timestamp_delta(bytes: &[u8], delta: i64) -> Option<Vec<u8>> {
    let rest = &mut &bytes[..];
    let _length = varint(rest)?;
    let attributes = take(rest, 1)?;
    let _delta = varint(rest)?;
    let mut body = attributes.to_vec();
    put_varint(&mut body, delta);
    body.extend_from_slice(rest);
    let mut record = Vec::with_capacity(body.len() + 5);
    put_varint(&mut record, body.len() as i64);
    record.extend_from_slice(&body);
    Some(record)
}

/// Writes a zigzag varint.
pub(super) fn put_varint(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

/// What [`put_varint`] writes, in bytes.
pub(super) fn varint_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (u64::BITS - (zigzag | 1).leading_zeros()).div_ceil(7) as usize
}

/// A zigzag varint of at most ten bytes, as Kafka's records use it.
fn varint(rest: &mut &[u8]) -> Option<i64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = take(rest, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1) as i64 ^ -((value & 1) as i64));
        }
    }
    None
}

fn read_bounded(mut reader: impl Read, limit: usize) -> Result<Vec<u8>, RecordsError> {
    let mut bytes = Vec::new();
    for most in [COPIED_BYTES_MAX.min(limit), limit + 1] {
        if bytes.len() >= COPIED_BYTES_MAX {
            bytes.reserve_exact(most - bytes.len());
        }
        let more = (most - bytes.len()) as u64;
        let read = reader.by_ref().take(more).read_to_end(&mut bytes);
        read.map_err(RecordsError::Decompress)?;
    }
    if bytes.len() > limit {
        return Err(RecordsError::TooLarge(limit));
    }
    Ok(bytes)
}

/// Snappy data has one of two forms: Java's clients write chunks behind a magic (xerial's
/// `SnappyOutputStream`), others write one raw block.
fn unpack_snappy(packed: &[u8], limit: usize) -> Result<Vec<u8>, RecordsError> {
    const XERIAL: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
    const XERIAL_HEADER_BYTES: usize = 16;
    if !packed.starts_with(XERIAL) {
        return unpack_snappy_block(packed, limit);
    }
    let mut rest = packed.get(XERIAL_HEADER_BYTES..).unwrap_or_default();
    let mut bytes = Vec::new();
    while !rest.is_empty() {
        let cut = || RecordsError::Decompress(io::ErrorKind::UnexpectedEof.into());
        let length = take(&mut rest, 4).ok_or_else(cut)?;
        let length = u32::from_be_bytes([length[0], length[1], length[2], length[3]]) as usize;
        let block = take(&mut rest, length).ok_or_else(cut)?;
        let block = unpack_snappy_block(block, limit - bytes.len())?;
        if bytes.len() >= COPIED_BYTES_MAX {
            bytes.reserve_exact(limit - bytes.len());
        }
        bytes.extend(block);
    }
    Ok(bytes)
}

fn unpack_snappy_block(block: &[u8], limit: usize) -> Result<Vec<u8>, RecordsError> {
    let broken = |error: snap::Error| RecordsError::Decompress(error.into());
    if snap::raw::decompress_len(block).map_err(broken)? > limit {
        return Err(RecordsError::TooLarge(limit));
    }
    snap::raw::Decoder::new()
        .decompress_vec(block)
        .map_err(broken)
}

/// The first record of a batch, from `from_offset` on, that is at least as late as `timestamp` (ms): its offset and
/// timestamp.
///
/// # Errors
/// When the records cannot be read, or unpack to more than `limit` bytes.
pub fn first_at_or_after(
    batch: &[u8],
    timestamp: i64,
    from_offset: i64,
    limit: usize,
) -> Result<Option<(i64, i64)>, RecordsError> {
    let header = BatchHeader::parse(batch).map_err(|_| RecordsError::Malformed(0))?;
    let records = Records::unpack(header, batch, limit)?;
    for record in records.iter() {
        let record = record?;
        if record.timestamp >= timestamp && record.offset >= from_offset {
            return Ok(Some((record.offset, record.timestamp)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::batch::build::BatchBuilder;
    use super::*;
    use kafka_protocol::indexmap::IndexMap;
    use kafka_protocol::records as oracle;

    /// Miri interprets no C, in which the oracle has the last two.
    const CODECS: &[oracle::Compression] = if cfg!(miri) {
        &[oracle::Compression::Gzip, oracle::Compression::Snappy]
    } else {
        &[
            oracle::Compression::Gzip,
            oracle::Compression::Snappy,
            oracle::Compression::Lz4,
            oracle::Compression::Zstd,
        ]
    };

    #[test]
    fn a_varint_is_as_long_as_is_said() {
        let powers = (0..63).map(|bit| 1i64 << bit);
        let around = powers.flat_map(|power| [power - 1, power, -power, -power - 1]);
        for value in around.chain([0, i64::MAX, i64::MIN]) {
            let mut written = Vec::new();
            put_varint(&mut written, value);
            assert_eq!(written.len(), varint_bytes(value), "{value}");
        }
    }

    #[test]
    fn records_below_an_offset_are_passed_over_and_a_malformed_one_is_not() {
        let batch = encoded(oracle::Compression::None);
        let header = BatchHeader::parse(&batch).unwrap();
        let all = Records::unpack(header, &batch, 1 << 20).unwrap();
        let expected: Vec<Record<'_>> = all.iter().map(Result::unwrap).collect();
        for (offset, first) in [
            (-5, 0),
            (0, 0),
            (1, 1),
            (7, 7),
            (19, 19),
            (20, 20),
            (99, 20),
        ] {
            let mut records = all.iter();
            records.skip_below(offset);
            let left: Vec<Record<'_>> = records.map(Result::unwrap).collect();
            assert_eq!(left, expected[first..], "{offset}");
        }
        for cut in HEADER_BYTES..batch.len() {
            let all = Records::unpack(header, &batch[..cut], 1 << 20).unwrap();
            let mut records = all.iter();
            records.skip_below(i64::MAX);
            assert!(
                matches!(records.next(), Some(Err(RecordsError::Malformed(_)))),
                "{cut}"
            );
        }
    }

    fn encoded(compression: oracle::Compression) -> Vec<u8> {
        let records: Vec<oracle::Record> = (0..20)
            .map(|index| oracle::Record {
                transactional: false,
                control: false,
                delete_horizon: false,
                partition_leader_epoch: 0,
                producer_id: -1,
                producer_epoch: -1,
                timestamp_type: oracle::TimestampType::Creation,
                offset: index,
                sequence: index as i32,
                timestamp: 1000 + index * 10,
                key: (index % 2 == 0).then(|| format!("key-{index}").into()),
                value: (index % 3 != 0).then(|| vec![index as u8; 100].into()),
                headers: IndexMap::from([("h".into(), Some("v".into())), ("n".into(), None)]),
            })
            .collect();
        let options = oracle::RecordEncodeOptions {
            version: 2,
            compression,
        };
        let mut bytes = bytes::BytesMut::new();
        oracle::RecordBatchEncoder::encode(&mut bytes, &records, &options).unwrap();
        bytes.to_vec()
    }

    #[test]
    fn records_of_every_codec_are_read_as_another_implementation_wrote_them() {
        for compression in [oracle::Compression::None].iter().chain(CODECS) {
            let batch = encoded(*compression);
            let header = BatchHeader::parse(&batch).unwrap();
            let records = Records::unpack(header, &batch, 1 << 20).unwrap();
            let records: Vec<_> = records.iter().map(Result::unwrap).collect();
            assert_eq!(records.len(), 20, "{compression:?}");
            assert_eq!(records[4].offset, 4);
            assert_eq!(records[4].timestamp, 1040);
            assert_eq!(records[4].key, Some(&b"key-4"[..]));
            assert_eq!(records[5].key, Option::None);
            assert_eq!(records[6].value, Option::None);
            assert_eq!(records[4].headers[1], (&b"n"[..], Option::None));
            let found = first_at_or_after(&batch, 1041, 0, 1 << 20).unwrap();
            assert_eq!(found, Some((5, 1050)));
            let found = first_at_or_after(&batch, 0, 7, 1 << 20).unwrap();
            assert_eq!(found, Some((7, 1070)));
            assert_eq!(
                first_at_or_after(&batch, 5000, 0, 1 << 20).unwrap(),
                Option::None
            );
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "zstd is written in C")]
    fn a_zstd_frame_that_asks_for_a_huge_window_is_refused() {
        let plain = encoded(oracle::Compression::Zstd);
        let header = BatchHeader::parse(&plain).unwrap();
        // A frame header without a content size: magic, descriptor, window (2^(10 + n)); then one last
        // raw block of one byte.
        let with_window = |log: u8| {
            let frame = [0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3, 9, 0, 0, b'x'];
            let mut batch = plain[..HEADER_BYTES].to_vec();
            batch.extend(frame);
            Records::unpack(header, &batch, 1 << 20).map(|records| records.bytes.len())
        };
        assert!(matches!(with_window(27), Ok(1)));
        for log in [28, 31, 41] {
            assert!(matches!(with_window(log), Err(RecordsError::Decompress(_))));
        }
    }

    #[test]
    fn a_compressed_bomb_stops_at_the_limit() {
        for compression in CODECS {
            let batch = encoded(*compression);
            let header = BatchHeader::parse(&batch).unwrap();
            let error = Records::unpack(header, &batch, 500).err().unwrap();
            assert!(
                matches!(error, RecordsError::TooLarge(500)),
                "{compression:?}"
            );
        }
    }

    /// `batch` with other records, and the attributes that name their codec.
    fn repacked(batch: &[u8], codec: u8, packed: &[u8]) -> Vec<u8> {
        let mut repacked = [&batch[..HEADER_BYTES], packed].concat();
        repacked[22] = codec;
        repacked
    }

    #[test]
    fn snappy_is_read_bare_and_in_javas_blocks() {
        let plain = BatchBuilder::default().build(&["hello hello hello", "two"]);
        let records = &plain[HEADER_BYTES..];
        let pack = |data| snap::raw::Encoder::new().compress_vec(data).unwrap();
        let mut blocks = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01".to_vec();
        for half in records.chunks(records.len() / 2 + 1) {
            blocks.extend((pack(half).len() as u32).to_be_bytes());
            blocks.extend(pack(half));
        }
        for packed in [pack(records), blocks] {
            let batch = repacked(&plain, 2, &packed);
            let header = BatchHeader::parse(&batch).unwrap();
            let records = Records::unpack(header, &batch, 1000).unwrap();
            let values: Vec<_> = records.iter().map(|r| r.unwrap().value.unwrap()).collect();
            assert_eq!(values, [&b"hello hello hello"[..], b"two"]);
        }
        // A block that claims 4 GB and holds 5 bytes.
        let bomb = repacked(&plain, 2, &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        let header = BatchHeader::parse(&bomb).unwrap();
        let error = Records::unpack(header, &bomb, 1000).err().unwrap();
        assert!(matches!(error, RecordsError::TooLarge(1000)));
    }

    #[test]
    fn torn_compressed_data_and_unknown_codecs_are_errors() {
        for compression in CODECS {
            let mut batch = encoded(*compression);
            batch.truncate(HEADER_BYTES + (batch.len() - HEADER_BYTES) / 2);
            let header = BatchHeader::parse(&batch).unwrap();
            let error = Records::unpack(header, &batch, 1 << 20).err().unwrap();
            assert!(
                matches!(error, RecordsError::Decompress(_)),
                "{compression:?}"
            );
        }
        let batch = repacked(&encoded(oracle::Compression::Gzip), 5, b"x");
        let header = BatchHeader::parse(&batch).unwrap();
        let error = Records::unpack(header, &batch, 1000).err().unwrap();
        assert!(matches!(error, RecordsError::UnknownCodec));
    }

    #[test]
    fn a_record_that_is_shorter_than_its_length_says_is_malformed() {
        let mut batch = BatchBuilder::default().build(&["one"]);
        batch[HEADER_BYTES] += 2; // zigzag: one byte more
        batch.push(0);
        let header = BatchHeader::parse(&batch).unwrap();
        let records = Records::unpack(header, &batch, 1000).unwrap();
        assert!(records.iter().next().unwrap().is_err());
    }

    #[test]
    fn malformed_records_are_an_error_wherever_they_are_cut() {
        let whole = BatchBuilder::default().build(&["one", "two"]);
        for length in HEADER_BYTES..whole.len() {
            let cut = &whole[..length];
            let header = BatchHeader::parse(cut).unwrap();
            let records = Records::unpack(header, cut, 1000).unwrap();
            assert!(
                records.iter().any(|record| record.is_err()),
                "cut at {length}"
            );
        }
    }
}
