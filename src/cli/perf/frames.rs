//! The bytes of Produce and Fetch requests, and what is read of their replies.
//!
//! Versions that every broker of the last years serves, and that are not flexible: Produce 7 (the
//! first with zstd) and Fetch 11.

use anyhow::{Context, bail};
use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::client::records::{self, NewRecord, Producer};
use crate::log::batch::{Codec, HEADER_BYTES};

use super::plan::{Acks, Consumers};

const PRODUCE: i16 = 0;
const PRODUCE_VERSION: i16 = 7;
const FETCH: i16 = 1;
const FETCH_VERSION: i16 = 11;
pub const CLIENT_ID: &str = "millstream-perf";
/// How long the broker may take to store a batch.
const TIMEOUT_MS: i32 = 30_000;
const CORRELATION_AT: usize = 8;

/// A batch that is sent again and again.
#[derive(Debug)]
pub struct Load {
    pub batch: Bytes,
    pub records: u64,
    /// Bytes of the records' values.
    pub value_bytes: u64,
}

impl Load {
    /// As many records as fit in `batch_bytes` before compression, one at least.
    pub fn new(record_bytes: usize, batch_bytes: usize, codec: Codec) -> anyhow::Result<Load> {
        let record = |number: u64| NewRecord {
            timestamp_ms: crate::io::clock::now_ms(),
            key: None,
            value: text(record_bytes, number),
        };
        let each = records::record_bytes_max(&record(0), &[]);
        let count = (batch_bytes.saturating_sub(HEADER_BYTES) / each).max(1) as u64;
        let records: Vec<NewRecord> = (0..count).map(record).collect();
        let batch = records::encode(&records, &[], Producer::NONE, codec);
        Ok(Load {
            batch: batch.context("cannot compress the batch")?,
            records: count,
            value_bytes: count * record_bytes as u64,
        })
    }
}

/// Letters as they come: a codec makes about three quarters of them.
fn text(bytes: usize, seed: u64) -> Bytes {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
    let mut state = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        LETTERS[(state >> 58) as usize]
    };
    (0..bytes).map(|_| next()).collect::<Vec<u8>>().into()
}

/// What stands before the batch in a Produce request, with correlation id 0.
pub fn produce_head(topic: &str, partition: i32, acks: Acks, batch_bytes: usize) -> BytesMut {
    let mut head = request(PRODUCE, PRODUCE_VERSION);
    head.put_i16(-1); // transactional_id
    head.put_i16(acks.on_the_wire());
    head.put_i32(TIMEOUT_MS);
    head.put_i32(1);
    put_string(&mut head, topic);
    head.put_i32(1);
    head.put_i32(partition);
    head.put_i32(batch_bytes as i32);
    finish(head, batch_bytes)
}

/// A Fetch request for partitions with the offsets to read from, with correlation id 0.
pub fn fetch(topic: &str, partitions: &[(i32, i64)], how: &Consumers) -> BytesMut {
    let mut frame = request(FETCH, FETCH_VERSION);
    frame.put_i32(-1); // replica_id
    frame.put_i32(how.max_wait_ms);
    frame.put_i32(how.min_bytes);
    frame.put_i32(how.max_bytes);
    frame.put_i8(0); // isolation_level
    frame.put_i32(0); // session_id
    frame.put_i32(-1); // session_epoch: no session
    frame.put_i32(1);
    put_string(&mut frame, topic);
    frame.put_i32(partitions.len() as i32);
    for (partition, offset) in partitions {
        frame.put_i32(*partition);
        frame.put_i32(-1); // current_leader_epoch
        frame.put_i64(*offset);
        frame.put_i64(-1); // log_start_offset
        frame.put_i32(how.partition_max_bytes);
    }
    frame.put_i32(0); // forgotten topics
    put_string(&mut frame, ""); // rack_id
    finish(frame, 0)
}

pub fn set_correlation_id(frame: &mut [u8], id: i32) {
    frame[CORRELATION_AT..CORRELATION_AT + 4].copy_from_slice(&id.to_be_bytes());
}

fn request(api_key: i16, version: i16) -> BytesMut {
    let mut frame = BytesMut::new();
    frame.put_i32(0); // size
    frame.put_i16(api_key);
    frame.put_i16(version);
    frame.put_i32(0); // correlation_id
    put_string(&mut frame, CLIENT_ID);
    frame
}

fn finish(mut frame: BytesMut, following: usize) -> BytesMut {
    let bytes = (frame.len() - 4 + following) as i32;
    frame[..4].copy_from_slice(&bytes.to_be_bytes());
    frame
}

fn put_string(frame: &mut BytesMut, text: &str) {
    frame.put_i16(text.len() as i16);
    frame.put_slice(text.as_bytes());
}

/// What a Produce reply says of its one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub correlation_id: i32,
    pub error: i16,
    pub base_offset: i64,
}

/// Reads a Produce reply, without its size.
pub fn produced(mut reply: &[u8]) -> anyhow::Result<Produced> {
    need(reply, 4 + 4 + 2)?;
    let correlation_id = reply.get_i32();
    one(reply.get_i32())?;
    skip_string(&mut reply)?;
    need(reply, 4 + 4 + 2 + 8)?;
    one(reply.get_i32())?;
    reply.advance(4); // partition
    Ok(Produced {
        correlation_id,
        error: reply.get_i16(),
        base_offset: reply.get_i64(),
    })
}

/// What a Fetch reply says of a partition.
#[derive(Debug, PartialEq, Eq)]
pub struct Fetched<'a> {
    pub partition: i32,
    pub error: i16,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records: &'a [u8],
}

/// Reads a Fetch reply, without its size, partition by partition. Returns its correlation id.
pub fn fetched(mut reply: &[u8], mut each: impl FnMut(Fetched<'_>)) -> anyhow::Result<i32> {
    need(reply, 4 + 4 + 2 + 4 + 4)?;
    let correlation_id = reply.get_i32();
    reply.advance(4); // throttle_time_ms
    let error = reply.get_i16();
    if error != 0 {
        bail!(
            "the broker refused a fetch: {}",
            crate::client::codes::kafka_error(error)
        );
    }
    reply.advance(4); // session_id
    for _ in 0..reply.get_i32() {
        skip_string(&mut reply)?;
        need(reply, 4)?;
        for _ in 0..reply.get_i32() {
            each(partition(&mut reply)?);
        }
    }
    Ok(correlation_id)
}

fn partition<'a>(reply: &mut &'a [u8]) -> anyhow::Result<Fetched<'a>> {
    need(reply, 4 + 2 + 8 + 8 + 8 + 4)?;
    let partition = reply.get_i32();
    let error = reply.get_i16();
    let high_watermark = reply.get_i64();
    reply.advance(8); // last_stable_offset
    let log_start_offset = reply.get_i64();
    let aborted = reply.get_i32().max(0) as usize * 16;
    need(reply, aborted + 4 + 4)?;
    reply.advance(aborted + 4); // and preferred_read_replica
    let bytes = reply.get_i32().max(0) as usize;
    need(reply, bytes)?;
    let (records, rest) = reply.split_at(bytes);
    *reply = rest;
    Ok(Fetched {
        partition,
        error,
        high_watermark,
        log_start_offset,
        records,
    })
}

fn need(reply: &[u8], bytes: usize) -> anyhow::Result<()> {
    if reply.len() < bytes {
        bail!("a reply of the broker ends too soon");
    }
    Ok(())
}

fn one(count: i32) -> anyhow::Result<()> {
    if count != 1 {
        bail!("a reply of the broker tells of {count} partitions instead of one");
    }
    Ok(())
}

fn skip_string(reply: &mut &[u8]) -> anyhow::Result<()> {
    need(reply, 2)?;
    let bytes = reply.get_i16().max(0) as usize;
    need(reply, bytes)?;
    reply.advance(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Fetched, Load, fetch, fetched, produce_head, produced, set_correlation_id};
    use crate::cli::perf::plan::{Acks, Consumers};
    use crate::log::batch::Codec;
    use bytes::{Bytes, BytesMut};
    use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
    use kafka_protocol::messages::produce_response::{
        PartitionProduceResponse, TopicProduceResponse,
    };
    use kafka_protocol::messages::{
        FetchRequest, FetchResponse, ProduceRequest, ProduceResponse, RequestHeader,
    };
    use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

    fn header_of(frame: &mut Bytes) -> RequestHeader {
        let bytes = frame.split_to(4);
        assert_eq!(
            i32::from_be_bytes(bytes[..].try_into().expect("four")) as usize,
            frame.len()
        );
        RequestHeader::decode(frame, 1).expect("a header")
    }

    #[test]
    fn a_produce_request_reads_as_it_was_meant() {
        let load = Load::new(100, 1000, Codec::None).expect("a batch");
        assert_eq!((load.records, load.value_bytes), (6, 600));
        let mut frame = produce_head("t", 3, Acks::All, load.batch.len());
        set_correlation_id(&mut frame, 77);
        frame.extend_from_slice(&load.batch);
        let mut frame = frame.freeze();
        let header = header_of(&mut frame);
        assert_eq!((header.request_api_key, header.correlation_id), (0, 77));
        let request =
            ProduceRequest::decode(&mut frame, header.request_api_version).expect("a request");
        assert!(frame.is_empty());
        let partition = &request.topic_data[0].partition_data[0];
        assert_eq!((request.acks, partition.index), (-1, 3));
        assert_eq!(partition.records.as_ref().expect("records"), &load.batch);
    }

    #[test]
    fn a_fetch_request_reads_as_it_was_meant() {
        let mut frame = fetch("t", &[(0, 5), (2, 9)], &Consumers::tail(1)).freeze();
        let header = header_of(&mut frame);
        let request =
            FetchRequest::decode(&mut frame, header.request_api_version).expect("a request");
        assert!(frame.is_empty());
        let asked: Vec<_> = request.topics[0]
            .partitions
            .iter()
            .map(|p| (p.partition, p.fetch_offset))
            .collect();
        assert_eq!(asked, [(0, 5), (2, 9)]);
        assert_eq!((request.session_epoch, request.max_wait_ms), (-1, 500));
    }

    fn reply(response: &impl Encodable, version: i16) -> BytesMut {
        let mut bytes = BytesMut::from(&7i32.to_be_bytes()[..]);
        response.encode(&mut bytes, version).expect("encoded");
        bytes
    }

    #[test]
    fn replies_are_read() {
        let partition = PartitionProduceResponse::default()
            .with_index(3)
            .with_error_code(9)
            .with_base_offset(42);
        let topic = TopicProduceResponse::default()
            .with_name(StrBytes::from_static_str("t").into())
            .with_partition_responses(vec![partition]);
        let bytes = reply(&ProduceResponse::default().with_responses(vec![topic]), 7);
        let found = produced(&bytes).expect("a reply");
        assert_eq!(
            (found.correlation_id, found.error, found.base_offset),
            (7, 9, 42)
        );
        for cut in 0..bytes.len() - 20 {
            assert!(produced(&bytes[..cut]).is_err(), "cut at {cut}");
        }

        let partition = PartitionData::default()
            .with_partition_index(1)
            .with_high_watermark(10)
            .with_log_start_offset(4)
            .with_records(Some(Bytes::from_static(b"records")));
        let topic = FetchableTopicResponse::default()
            .with_topic(StrBytes::from_static_str("t").into())
            .with_partitions(vec![partition]);
        let bytes = reply(&FetchResponse::default().with_responses(vec![topic]), 11);
        let mut seen = 0;
        fetched(&bytes, |found| {
            seen += 1;
            let want = Fetched {
                partition: 1,
                error: 0,
                high_watermark: 10,
                log_start_offset: 4,
                records: b"records",
            };
            assert_eq!(found, want);
        })
        .expect("a reply");
        assert_eq!(seen, 1);
        for cut in 0..bytes.len() {
            assert!(fetched(&bytes[..cut], |_| ()).is_err(), "cut at {cut}");
        }
    }
}
