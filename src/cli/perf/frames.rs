//! The frames of Produce and Fetch, in versions that every broker of the last years serves: Produce 7 (the
//! first with zstd) and Fetch 11.

use super::plan::Consumers;
use crate::client::fetch::{self as requests, Limits};
use crate::client::producer::Acks;
use crate::client::records::{self, NewRecord};
use crate::client::{Topic, decode, encode_frame, kafka_error};
use crate::kafka::api::{Api, ApiKey};
use crate::kafka::data::{fetch, produce};
use crate::log::batch::build::BatchBuilder;
use crate::log::batch::{Codec, HEADER_BYTES};
use crate::wire::Wire;
use anyhow::{Context, anyhow, bail};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const PRODUCE_VERSION: i16 = 7;
const FETCH_VERSION: i16 = 11;
pub const CLIENT_ID: &str = "millstream-perf";
/// How long the broker may take to store a batch.
const TIMEOUT_MS: i32 = 30_000;
/// Behind the size, the API's key and its version.
const CORRELATION_AT: usize = 8;
/// In a reply, behind the size.
const REPLY_CORRELATION_AT: usize = 4;
const REPLY_BYTES_MAX: usize = 1 << 30;
const CLOSED: &str = "the broker closed a connection";

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
            headers: Vec::new(),
        };
        let each = records::record_bytes_max(&record(0), &[]);
        let count = (batch_bytes.saturating_sub(HEADER_BYTES) / each).max(1) as u64;
        let records: Vec<NewRecord> = (0..count).map(record).collect();
        let batch = records::encode(&records, &[], &BatchBuilder::default(), codec);
        Ok(Load {
            batch: batch.context("cannot compress the batch")?,
            records: count,
            value_bytes: count * record_bytes as u64,
        })
    }
}

/// Random letters: a codec makes about three quarters of them.
fn text(bytes: usize, seed: u64) -> Bytes {
    const LETTERS: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/";
    let mut random = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let letters = (0..bytes).map(|_| LETTERS[(next_random(&mut random) >> 58) as usize]);
    letters.collect::<Vec<u8>>().into()
}

/// Xorshift.
pub fn next_random(random: &mut u64) -> u64 {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    *random
}

/// A Produce request, to be sent many times with other correlation ids.
pub struct ProduceFrame {
    head: BytesMut,
    /// The batch, if it is large; else the head has it.
    batch: Option<Bytes>,
}

impl ProduceFrame {
    pub fn new(
        topic: &Topic,
        index: i32,
        acks: Acks,
        batch: &Bytes,
    ) -> anyhow::Result<ProduceFrame> {
        let partition = produce::PartitionRequest {
            index,
            records: Some(batch.clone()),
        };
        let topic = produce::TopicRequest {
            name: &topic.name,
            topic_id: topic.id,
            partitions: vec![partition],
        };
        let request = produce::Request {
            transactional_id: None,
            acks: acks.on_the_wire(),
            timeout_ms: TIMEOUT_MS,
            topics: vec![topic],
        };
        let mut parts = encode_frame(&request, PRODUCE_VERSION, 0, CLIENT_ID)?.parts;
        let batch = (parts.len() > 1).then(|| parts.remove(1));
        let head = BytesMut::from(&parts.concat()[..]);
        Ok(ProduceFrame { head, batch })
    }

    /// The frame in up to two parts.
    pub fn with_id(&self, correlation_id: i32) -> (BytesMut, Option<Bytes>) {
        let mut head = self.head.clone();
        head[CORRELATION_AT..][..4].copy_from_slice(&correlation_id.to_be_bytes());
        (head, self.batch.clone())
    }
}

/// A Fetch request for partitions with the offsets to read from.
pub fn fetch_frame(
    topic: &Topic,
    partitions: &[(i32, i64)],
    how: &Consumers,
    correlation_id: i32,
) -> anyhow::Result<Vec<u8>> {
    let limits = Limits {
        max_wait_ms: how.max_wait_ms,
        min_bytes: how.min_bytes,
        max_bytes: how.max_bytes,
        partition_max_bytes: how.partition_max_bytes,
    };
    let request = requests::request(topic, partitions.iter().copied(), limits);
    Ok(encode_frame(&request, FETCH_VERSION, correlation_id, CLIENT_ID)?.to_vec())
}

/// Reads a Produce reply, without its size: what it says of its one batch.
pub fn produced(reply: &Bytes) -> anyhow::Result<produce::PartitionResponse<'_>> {
    let reply = decode::<produce::Request>(reply, PRODUCE_VERSION).map_err(unusable)?;
    let mut partitions = reply.topics.into_iter().flat_map(|topic| topic.partitions);
    partitions
        .next()
        .context("a reply of the broker has no partition")
}

/// Reads a Fetch reply, without its size.
pub fn fetched(reply: &Bytes) -> anyhow::Result<Vec<fetch::PartitionResponse>> {
    let reply = decode::<fetch::Request>(reply, FETCH_VERSION).map_err(unusable)?;
    if reply.error_code.is_error() {
        bail!(
            "the broker refused a fetch: {}",
            kafka_error(reply.error_code)
        );
    }
    let topics = reply.topics.into_iter();
    Ok(topics.flat_map(|topic| topic.partitions).collect())
}

fn unusable(why: String) -> anyhow::Error {
    anyhow!("a reply of the broker cannot be used: {why}")
}

/// A Produce reply of one partition without an error.
pub fn answer(correlation_id: [u8; 4]) -> Vec<u8> {
    let response = produce::Response {
        topics: vec![produce::TopicResponse {
            partitions: vec![produce::PartitionResponse::default()],
            ..produce::TopicResponse::default()
        }],
        ..produce::Response::default()
    };
    let api = Api::find(ApiKey::Produce.code()).expect("in the table");
    let mut writer = api.reply(PRODUCE_VERSION, i32::from_be_bytes(correlation_id));
    response.encode(&mut writer, PRODUCE_VERSION);
    writer.finish().expect("a short reply").to_vec()
}

/// The frames that come from a stream.
pub struct Frames<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub fn new(stream: R) -> Frames<R> {
        let buffer = BytesMut::with_capacity(64 << 10);
        Frames { stream, buffer }
    }

    /// The next frame without its size, and the correlation id at its start. Loses nothing when it is
    /// dropped before it is done.
    pub async fn next(&mut self) -> anyhow::Result<(i32, Bytes)> {
        loop {
            let needed = self.needed()?;
            if self.buffer.len() >= needed {
                let frame = self
                    .buffer
                    .split_to(needed)
                    .freeze()
                    .slice(REPLY_CORRELATION_AT..);
                return Ok(((&frame[..]).get_i32(), frame));
            }
            self.buffer.reserve(needed - self.buffer.len());
            if self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .context(CLOSED)?
                == 0
            {
                bail!(CLOSED);
            }
        }
    }

    /// Bytes of the frame at the buffer's start, its size included, as far as that is known.
    fn needed(&self) -> anyhow::Result<usize> {
        let Some(size) = self.buffer.first_chunk() else {
            return Ok(REPLY_CORRELATION_AT);
        };
        let size = usize::try_from(i32::from_be_bytes(*size)).unwrap_or(usize::MAX);
        if !(4..=REPLY_BYTES_MAX).contains(&size) {
            bail!("the broker announced a reply of {size} bytes");
        }
        Ok(REPLY_CORRELATION_AT + size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::dispatch::RequestHeader;
    use crate::kafka::error::ErrorCode;

    fn topic() -> Topic {
        Topic {
            name: "t".to_owned(),
            ..Topic::default()
        }
    }

    #[test]
    fn a_produce_request_reads_as_it_was_meant() {
        for batch_bytes in [1000, 100_000] {
            let load = Load::new(100, batch_bytes, Codec::None).expect("a batch");
            assert_eq!(load.value_bytes, load.records * 100);
            let frame = ProduceFrame::new(&topic(), 3, Acks::All, &load.batch).expect("a frame");
            let (head, batch) = frame.with_id(77);
            let frame = Bytes::from([&head[..], &batch.unwrap_or_default()].concat());
            assert_eq!((&frame[..]).get_i32() as usize, frame.len() - 4);
            let frame = frame.slice(4..);
            let (header, mut reader) = RequestHeader::decode(&frame).expect("a header");
            assert_eq!((header.api_key, header.correlation_id), (0, 77));
            let request = produce::Request::decode(&mut reader, header.api_version);
            let request = request.expect("a request");
            assert_eq!(reader.remaining(), 0);
            let partition = &request.topics[0].partitions[0];
            assert_eq!((request.acks, partition.index), (-1, 3));
            assert_eq!(partition.records.as_ref(), Some(&load.batch));
        }
    }

    #[test]
    fn a_fetch_request_reads_as_it_was_meant() {
        let (partitions, how) = ([(0, 5), (2, 9)], Consumers::tail(1));
        let frame = Bytes::from(fetch_frame(&topic(), &partitions, &how, 77).expect("a frame"));
        assert_eq!((&frame[..]).get_i32() as usize, frame.len() - 4);
        let frame = frame.slice(4..);
        let (header, mut reader) = RequestHeader::decode(&frame).expect("a header");
        assert_eq!((header.api_key, header.correlation_id), (1, 77));
        let request = fetch::Request::decode(&mut reader, header.api_version);
        let request = request.expect("a request");
        assert_eq!(reader.remaining(), 0);
        let asked = request.topics[0].partitions.iter();
        let asked: Vec<_> = asked.map(|p| (p.index, p.fetch_offset)).collect();
        assert_eq!(asked, partitions);
        assert_eq!((request.session_epoch, request.max_wait_ms), (-1, 500));
    }

    #[tokio::test]
    async fn frames_come_whole_however_they_arrive() {
        let answers = [answer([0, 0, 0, 7]), answer([0, 0, 0, 8])].concat();
        let (mut peer, stream) = tokio::io::duplex(3);
        let writing = async {
            use tokio::io::AsyncWriteExt;
            peer.write_all(&answers).await.expect("written");
            drop(peer);
        };
        let mut frames = Frames::new(stream);
        let reading = async {
            for id in [7, 8] {
                let (correlation_id, reply) = frames.next().await.expect("a frame");
                assert_eq!(correlation_id, id);
                assert_eq!(
                    produced(&reply).expect("a reply").error_code,
                    ErrorCode::None
                );
                for cut in 0..reply.len() {
                    assert!(produced(&reply.slice(..cut)).is_err(), "cut at {cut}");
                }
            }
            assert!(frames.next().await.is_err());
        };
        tokio::join!(writing, reading);
    }
}
