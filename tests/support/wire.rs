//! A client that speaks the protocol frame by frame, on the connection of [`millstream::client`] with the
//! `kafka-protocol` crate as its codec: it retries nothing and hides nothing, and any error ends the test.

use super::HANG;
use super::batch::{self, Fetched};
use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_records_response::DeleteRecordsPartitionResult;
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::list_offsets_response::ListOffsetsPartitionResponse;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::PartitionProduceResponse;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};
use millstream::client::{self, Connection};
use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};

/// The version that each request is sent in where a test does not say otherwise.
pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 12;
pub const LIST_OFFSETS: i16 = 10;
pub const METADATA: i16 = 12;

/// The id that requests have.
const CLIENT_ID: &str = "test";

/// One connection. Unlike the commands' it negotiates no versions: each call says which it wants.
pub struct Wire {
    connection: Connection,
    last_correlation_id: i32,
    unanswered: VecDeque<i32>,
}

impl Wire {
    pub fn connect(address: SocketAddr) -> Wire {
        let connection = Connection::connect(&address.to_string(), CLIENT_ID, HANG).unwrap();
        Wire {
            connection,
            last_correlation_id: 0,
            unanswered: VecDeque::new(),
        }
    }

    /// The socket, for bytes that are no request.
    pub fn stream(&mut self) -> &mut TcpStream {
        self.connection.stream()
    }

    /// Sends a request and reads its reply.
    pub fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        self.send(request, version);
        self.receive::<R>(version)
    }

    /// Sends a request; replies are read with [`Wire::receive`], in the same order.
    pub fn send<R: Request>(&mut self, request: &R, version: i16) {
        self.send_unanswered(request, version);
        self.unanswered.push_back(self.last_correlation_id);
    }

    /// Sends a request that has no reply.
    pub fn send_unanswered<R: Request>(&mut self, request: &R, version: i16) {
        self.last_correlation_id += 1;
        let frame = frame(request, version, self.last_correlation_id);
        self.stream().write_all(&frame).unwrap();
    }

    pub fn receive<R: Request>(&mut self, version: i16) -> R::Response {
        let reply = self.try_receive::<R>(version);
        reply.expect("a reply, but the connection ended")
    }

    /// The next reply, or `None` when the broker has closed the connection.
    pub fn try_receive<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let mut frame = self.receive_frame()?;
        let header = ResponseHeader::decode(&mut frame, R::Response::header_version(version));
        let id = header.unwrap().correlation_id;
        assert_eq!(self.unanswered.pop_front(), Some(id), "replies in order");
        let response = R::Response::decode(&mut frame, version).unwrap();
        assert!(frame.is_empty(), "{} bytes are left over", frame.len());
        Some(response)
    }

    /// The next frame without its size, or `None` when the broker has closed the connection.
    pub fn receive_frame(&mut self) -> Option<Bytes> {
        unless_closed(self.connection.receive_frame())
    }

    /// Whether the broker has closed the connection; waits until it has or has answered.
    pub fn is_closed_by_broker(&mut self) -> bool {
        self.receive_frame().is_none()
    }

    // ---- the calls that most tests make ----

    pub fn create_topic(&mut self, name: &str, partitions: i32) {
        let result = self.try_create_topic(name, partitions, &[]);
        assert_eq!(result.error_code, 0, "{result:?}");
    }

    pub fn try_create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> CreatableTopicResult {
        let request = create_topic(name, partitions, configs);
        self.call(&request, 7).topics.remove(0)
    }

    /// Kafka's error code.
    pub fn delete_topic(&mut self, name: &str) -> i16 {
        let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
        let request = DeleteTopicsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        self.call(&request, 6).responses[0].error_code
    }

    /// Kafka's error code.
    pub fn set_partitions(&mut self, name: &str, count: i32, validate_only: bool) -> i16 {
        let topic = CreatePartitionsTopic::default()
            .with_name(topic_name(name))
            .with_count(count)
            .with_assignments(None);
        let request = CreatePartitionsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000)
            .with_validate_only(validate_only);
        self.call(&request, 3).results[0].error_code
    }

    /// What Metadata says of one topic, which is not created by asking.
    pub fn describe_topic(&mut self, name: &str) -> MetadataResponseTopic {
        let topic = MetadataRequestTopic::default().with_name(Some(topic_name(name)));
        let request = MetadataRequest::default()
            .with_topics(Some(vec![topic]))
            .with_allow_auto_topic_creation(false);
        self.call(&request, METADATA).topics.remove(0)
    }

    /// All topics' names, in order.
    pub fn topics(&mut self) -> Vec<String> {
        let request = MetadataRequest::default().with_topics(None);
        let topics = self.call(&request, METADATA).topics.into_iter();
        let mut names: Vec<String> = topics
            .map(|topic| topic.name.unwrap().to_string())
            .collect();
        names.sort();
        names
    }

    pub fn new_producer_id(&mut self) -> i64 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        let response = self.call(&request, 4);
        assert_eq!((response.error_code, response.producer_epoch), (0, 0));
        response.producer_id.0
    }

    /// Produces with acks=all; what the broker says of the partition.
    pub fn produce(&mut self, topic: &str, index: i32, batch: Vec<u8>) -> PartitionProduceResponse {
        let response = self.call(&produce(topic, index, -1, batch), PRODUCE);
        partition_of(response)
    }

    /// Produces with acks=all, which must succeed; the base offset.
    pub fn append(&mut self, topic: &str, index: i32, batch: &batch::Batch) -> i64 {
        let response = self.produce(topic, index, batch.encode());
        assert_eq!(response.error_code, 0, "{response:?}");
        response.base_offset
    }

    /// Fetches from one partition without waiting.
    pub fn fetch(&mut self, topic: &str, index: i32, offset: i64) -> PartitionData {
        let request = fetch(topic, &[(index, offset)]);
        fetched_partition(self.call(&request, FETCH))
    }

    /// Every batch of a partition from an offset to the high watermark.
    pub fn read_from(&mut self, topic: &str, index: i32, mut offset: i64) -> Vec<Fetched> {
        let mut all = Vec::new();
        loop {
            let data = self.fetch(topic, index, offset);
            assert_eq!(data.error_code, 0, "{data:?}");
            let batches = batch::split(&data.records.unwrap_or_default());
            let Some(last) = batches.last() else {
                assert!(
                    offset >= data.high_watermark,
                    "an empty fetch below the end"
                );
                return all;
            };
            offset = last.next_offset();
            all.extend(batches);
        }
    }

    /// The values of all (uncompressed) records of a partition.
    pub fn values(&mut self, topic: &str, index: i32) -> Vec<Vec<u8>> {
        let start = self.offset(topic, index, -2);
        let batches = self.read_from(topic, index, start);
        batches.iter().flat_map(Fetched::values).collect()
    }

    /// What ListOffsets finds for a timestamp or one of its negative stand-ins.
    pub fn offset(&mut self, topic: &str, index: i32, timestamp: i64) -> i64 {
        let found = self.list_offset(topic, index, timestamp, LIST_OFFSETS);
        assert_eq!(found.error_code, 0, "{found:?}");
        found.offset
    }

    pub fn list_offset(
        &mut self,
        topic: &str,
        index: i32,
        timestamp: i64,
        version: i16,
    ) -> ListOffsetsPartitionResponse {
        let partition = ListOffsetsPartition::default()
            .with_partition_index(index)
            .with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_topics(vec![topic]);
        let mut response = self.call(&request, version);
        response.topics.remove(0).partitions.remove(0)
    }

    pub fn delete_records(
        &mut self,
        topic: &str,
        index: i32,
        offset: i64,
    ) -> DeleteRecordsPartitionResult {
        let partition = DeleteRecordsPartition::default()
            .with_partition_index(index)
            .with_offset(offset);
        let topic = DeleteRecordsTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition]);
        let request = DeleteRecordsRequest::default()
            .with_topics(vec![topic])
            .with_timeout_ms(30_000);
        let mut response = self.call(&request, 2);
        response.topics.remove(0).partitions.remove(0)
    }
}

/// `None` when the broker has closed the connection between two frames. A hang is a failure, and so is
/// half a frame.
fn unless_closed<T>(received: client::Result<T>) -> Option<T> {
    use std::io::ErrorKind::{ConnectionReset, UnexpectedEof};
    match received {
        Ok(received) => Some(received),
        Err(client::Error::Lost { why, .. })
            if why.get_ref().is_none() && matches!(why.kind(), UnexpectedEof | ConnectionReset) =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A whole request frame, its size included.
pub fn frame<R: Request>(request: &R, version: i16, correlation_id: i32) -> Vec<u8> {
    let mut body = Vec::new();
    RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(text(CLIENT_ID)))
        .encode(&mut body, R::header_version(version))
        .unwrap();
    request.encode(&mut body, version).unwrap();
    sized(&body)
}

/// `content` with its size before it.
pub fn sized(content: &[u8]) -> Vec<u8> {
    let mut frame = (content.len() as i32).to_be_bytes().to_vec();
    frame.extend(content);
    frame
}

pub fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

pub fn create_topic(name: &str, partitions: i32, configs: &[(&str, &str)]) -> CreateTopicsRequest {
    let config = |(name, value): &(&str, &str)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(30_000)
}

pub fn produce(topic: &str, index: i32, acks: i16, batch: Vec<u8>) -> ProduceRequest {
    let partition = PartitionProduceData::default()
        .with_index(index)
        .with_records(Some(batch.into()));
    let topic = TopicProduceData::default()
        .with_name(topic_name(topic))
        .with_partition_data(vec![partition]);
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![topic])
}

pub fn partition_of(mut response: ProduceResponse) -> PartitionProduceResponse {
    response.responses.remove(0).partition_responses.remove(0)
}

/// A fetch of partitions from offsets that does not wait.
pub fn fetch(topic: &str, partitions: &[(i32, i64)]) -> FetchRequest {
    let partition = |(index, offset): &(i32, i64)| {
        FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(8 << 20)
    };
    let topic = FetchTopic::default()
        .with_topic(topic_name(topic))
        .with_partitions(partitions.iter().map(partition).collect());
    FetchRequest::default()
        .with_max_wait_ms(0)
        .with_min_bytes(1)
        .with_max_bytes(32 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub fn fetched_partition(mut response: FetchResponse) -> PartitionData {
    assert_eq!(response.error_code, 0);
    response.responses.remove(0).partitions.remove(0)
}
