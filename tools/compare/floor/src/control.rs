//! The requests that come before the load: which versions, which topics, from where to where.

use anyhow::Context;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{
    ApiKey, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, StrBytes};

use crate::log::{Partition, Topics};
use crate::wire::{FETCH, FETCH_VERSION, PRODUCE, PRODUCE_VERSION, Start};

const UNKNOWN_SERVER_ERROR: i16 = -1;
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const UNSUPPORTED_VERSION: i16 = 35;
const TOPIC_ALREADY_EXISTS: i16 = 36;
/// Asks for the first offset.
const EARLIEST: i64 = -2;

/// What is served, in which versions.
const SERVED: [(i16, i16, i16); 7] = [
    (PRODUCE, PRODUCE_VERSION, PRODUCE_VERSION),
    (FETCH, FETCH_VERSION, FETCH_VERSION),
    (ApiKey::ListOffsets as i16, 1, 6),
    (ApiKey::Metadata as i16, 1, 12),
    (ApiKey::ApiVersions as i16, 0, 3),
    (ApiKey::CreateTopics as i16, 2, 6),
    (ApiKey::DeleteTopics as i16, 1, 5),
];

/// Makes as many partitions as it is asked for.
pub type MakePartitions = Box<dyn FnMut(usize) -> anyhow::Result<Vec<Partition>>>;

/// What the answers depend on.
pub struct Control<'a> {
    pub topics: &'a mut Topics,
    pub make: &'a mut MakePartitions,
    pub port: u16,
}

impl Control<'_> {
    /// The reply to a whole frame, both with their sizes.
    pub fn answer(&mut self, frame: &[u8]) -> anyhow::Result<BytesMut> {
        let Start {
            api_key, version, ..
        } = Start::read(frame);
        let served = SERVED
            .iter()
            .any(|(key, min, max)| *key == api_key && (*min..=*max).contains(&version));
        let api = ApiKey::try_from(api_key)
            .ok()
            .filter(|api| served || *api == ApiKey::ApiVersions);
        let api = api.with_context(|| {
            format!("a client asked for API {api_key} in version {version}; only `millstream perf` is served")
        })?;
        let mut bytes = Bytes::copy_from_slice(&frame[4..]);
        let header = RequestHeader::decode(&mut bytes, api.request_header_version(version))?;
        let id = header.correlation_id;
        match api {
            ApiKey::ApiVersions => api_versions(id, version, served),
            ApiKey::Metadata => reply(
                id,
                version,
                &self.metadata(&MetadataRequest::decode(&mut bytes, version)?),
            ),
            ApiKey::CreateTopics => reply(
                id,
                version,
                &self.create(CreateTopicsRequest::decode(&mut bytes, version)?),
            ),
            ApiKey::DeleteTopics => reply(
                id,
                version,
                &self.delete(DeleteTopicsRequest::decode(&mut bytes, version)?),
            ),
            _ => reply(
                id,
                version,
                &self.offsets(ListOffsetsRequest::decode(&mut bytes, version)?),
            ),
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let topics = match &request.topics {
            None => self
                .topics
                .all()
                .iter()
                .map(|topic| self.topic(&topic.name))
                .collect(),
            Some(topics) => {
                let names = topics.iter().filter_map(|topic| topic.name.as_ref());
                names.map(|name| self.topic(name)).collect()
            }
        };
        let broker = MetadataResponseBroker::default()
            .with_host(StrBytes::from_static_str("127.0.0.1"))
            .with_port(i32::from(self.port));
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_controller_id(0.into())
            .with_topics(topics)
    }

    fn topic(&self, name: &str) -> MetadataResponseTopic {
        let topic = MetadataResponseTopic::default().with_name(Some(topic_name(name)));
        let Some(found) = self.topics.find(name) else {
            return topic.with_error_code(UNKNOWN_TOPIC_OR_PARTITION);
        };
        let partition = |index| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(0.into())
                .with_replica_nodes(vec![0.into()])
                .with_isr_nodes(vec![0.into()])
        };
        topic.with_partitions((0..found.partitions.len() as i32).map(partition).collect())
    }

    fn create(&mut self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut results = Vec::new();
        for topic in request.topics {
            let code = match self.topics.find(&topic.name) {
                Some(_) => TOPIC_ALREADY_EXISTS,
                None => self.make(&topic.name, topic.num_partitions.max(1) as usize),
            };
            let result = CreatableTopicResult::default().with_name(topic.name);
            results.push(
                result
                    .with_error_code(code)
                    .with_num_partitions(topic.num_partitions),
            );
        }
        CreateTopicsResponse::default().with_topics(results)
    }

    fn make(&mut self, name: &str, partitions: usize) -> i16 {
        match (self.make)(partitions) {
            Ok(partitions) => {
                self.topics.add(name, partitions);
                0
            }
            Err(error) => {
                eprintln!("millstream-floor: cannot create topic {name}: {error:#}");
                UNKNOWN_SERVER_ERROR
            }
        }
    }

    fn delete(&mut self, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
        let result = |name: TopicName| {
            let code = match self.topics.remove(&name) {
                true => 0,
                false => UNKNOWN_TOPIC_OR_PARTITION,
            };
            DeletableTopicResult::default()
                .with_name(Some(name))
                .with_error_code(code)
        };
        let results = request.topic_names.into_iter().map(result).collect();
        DeleteTopicsResponse::default().with_responses(results)
    }

    fn offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let mut topics = Vec::new();
        for topic in request.topics {
            let partition =
                |asked: kafka_protocol::messages::list_offsets_request::ListOffsetsPartition| {
                    let response = ListOffsetsPartitionResponse::default()
                        .with_partition_index(asked.partition_index);
                    match self.topics.partition(&topic.name, asked.partition_index) {
                        None => response.with_error_code(UNKNOWN_TOPIC_OR_PARTITION),
                        Some(partition) if asked.timestamp == EARLIEST => {
                            response.with_offset(partition.borrow().start())
                        }
                        Some(partition) => response.with_offset(partition.borrow().high_watermark),
                    }
                };
            let partitions = topic.partitions.into_iter().map(partition).collect();
            topics.push(
                ListOffsetsTopicResponse::default()
                    .with_name(topic.name.clone())
                    .with_partitions(partitions),
            );
        }
        ListOffsetsResponse::default().with_topics(topics)
    }
}

fn api_versions(correlation_id: i32, version: i16, served: bool) -> anyhow::Result<BytesMut> {
    let api = |(key, min, max)| {
        ApiVersion::default()
            .with_api_key(key)
            .with_min_version(min)
            .with_max_version(max)
    };
    let response = ApiVersionsResponse::default().with_api_keys(SERVED.map(api).to_vec());
    match served {
        true => reply(correlation_id, version, &response),
        // KIP-511: in version 0, whatever was asked for.
        false => reply(
            correlation_id,
            0,
            &response.with_error_code(UNSUPPORTED_VERSION),
        ),
    }
}

fn reply<R: Encodable + HeaderVersion>(
    correlation_id: i32,
    version: i16,
    response: &R,
) -> anyhow::Result<BytesMut> {
    let mut out = BytesMut::new();
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation_id);
    header.encode(&mut out, R::header_version(version))?;
    response.encode(&mut out, version)?;
    let bytes = (out.len() - 4) as i32;
    out[..4].copy_from_slice(&bytes.to_be_bytes());
    Ok(out)
}

fn topic_name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}
