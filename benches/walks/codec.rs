//! Requests and replies of the two walks, in bytes.

use crate::log::{batch_of, both};
use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{
    FetchRequest, ProduceRequest, RequestHeader as TheirHeader, TopicName,
};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use millstream::kafka::api::ApiKey;
use millstream::kafka::data::{fetch, produce};
use millstream::kafka::dispatch::RequestHeader;
use millstream::wire::Wire;
use millstream::wire::types::Records;

/// The last versions that name topics by name.
const PRODUCE_VERSION: i16 = 12;
const FETCH_VERSION: i16 = 12;

/// A produce request as a client sends it, without its size prefix: one batch for each partition.
pub fn produce_frame(topic: &str, partitions: i32, batch: &Bytes) -> Bytes {
    produce_frame_with(topic, partitions, batch, -1)
}

/// The same, with a word on when it is answered.
pub fn produce_frame_with(topic: &str, partitions: i32, batch: &Bytes, acks: i16) -> Bytes {
    let partition = |index| {
        PartitionProduceData::default()
            .with_index(index)
            .with_records(Some(batch.clone()))
    };
    let data = TopicProduceData::default()
        .with_name(name(topic))
        .with_partition_data((0..partitions).map(partition).collect());
    let request = ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![data]);
    frame(ApiKey::Produce, PRODUCE_VERSION, &request)
}

pub fn fetch_frame(topic: &str, offset: i64, max_bytes: i32) -> Bytes {
    let partition = FetchPartition::default()
        .with_fetch_offset(offset)
        .with_partition_max_bytes(max_bytes);
    let data = FetchTopic::default()
        .with_topic(name(topic))
        .with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(max_bytes)
        .with_session_epoch(-1)
        .with_topics(vec![data]);
    frame(ApiKey::Fetch, FETCH_VERSION, &request)
}

pub fn frame<R: Encodable + HeaderVersion>(key: ApiKey, version: i16, request: &R) -> Bytes {
    let mut frame = BytesMut::new();
    TheirHeader::default()
        .with_request_api_key(key.code())
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(StrBytes::from_static_str("bench")))
        .encode(&mut frame, R::header_version(version))
        .expect("a header");
    request.encode(&mut frame, version).expect("a request");
    frame.freeze()
}

pub fn name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}

pub fn decode_produce(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode produce");
    let (batch, records) = batch_of(16 << 10);
    let batch = Bytes::from(batch);
    for partitions in [1, 100] {
        let frame = produce_frame("orders", partitions, &batch);
        group.throughput(both(records * partitions as usize, frame.len()));
        group.bench_function(BenchmarkId::new("partitions", partitions), |b| {
            b.iter(|| {
                let (header, mut reader) = RequestHeader::decode(&frame).expect("a header");
                produce::Request::decode(&mut reader, header.api_version).expect("a request")
            });
        });
    }
    group.finish();
}

pub fn encode_fetch(c: &mut Criterion) {
    let request = fetch_frame("orders", 0, 1 << 20);
    let mut group = c.benchmark_group("encode fetch");
    let (batch, records) = batch_of(16 << 10);
    let batch = Bytes::from(batch);
    for partitions in [1, 100] {
        let response = fetch_response(partitions, &batch);
        group.throughput(both(
            records * partitions as usize,
            batch.len() * partitions as usize,
        ));
        group.bench_function(BenchmarkId::new("partitions", partitions), |b| {
            b.iter(|| {
                let (header, _) = RequestHeader::decode(&request).expect("a header");
                let api = header.api().expect("an API");
                let mut writer = api.reply(header.api_version, header.correlation_id);
                response.encode(&mut writer, header.api_version);
                writer.finish().unwrap()
            });
        });
    }
    group.finish();
}

pub fn fetch_response(partitions: i32, batch: &Bytes) -> fetch::Response<'static> {
    let partition = |index| fetch::PartitionResponse {
        index,
        high_watermark: 1_000_000,
        last_stable_offset: 1_000_000,
        log_start_offset: 0,
        records: Records(batch.clone()),
        ..fetch::PartitionResponse::default()
    };
    let topic = fetch::TopicResponse {
        name: "orders".into(),
        partitions: (0..partitions).map(partition).collect(),
        ..fetch::TopicResponse::default()
    };
    fetch::Response {
        topics: vec![topic],
        ..fetch::Response::default()
    }
}
