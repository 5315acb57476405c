//! The requests that workers and checks send.

use crate::wire::{Wire, text, topic_name};
use bytes::Bytes;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsTopic,
};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestGroup;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::*;
use std::collections::BTreeMap;
use std::io;

pub const PRODUCE: i16 = 9;
pub const FETCH: i16 = 12;
pub const LIST_OFFSETS: i16 = 7;
pub const OFFSET_COMMIT: i16 = 9;

pub const NONE: i16 = 0;
pub const OFFSET_OUT_OF_RANGE: i16 = 1;
pub const CORRUPT_MESSAGE: i16 = 2;
pub const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
pub const ILLEGAL_GENERATION: i16 = 22;
pub const UNKNOWN_MEMBER_ID: i16 = 25;
pub const REBALANCE_IN_PROGRESS: i16 = 27;

/// Resource type "topic" of the config APIs.
const TOPIC: i8 = 2;
/// The source of a config that was set for the topic.
const DYNAMIC_TOPIC_CONFIG: i8 = 1;
const TIMEOUT_MS: i32 = 30_000;

pub type Configs = BTreeMap<String, String>;

pub fn produce(topic: &str, index: i32, acks: i16, batch: Bytes) -> ProduceRequest {
    produce_all(&[(topic, index, batch)], acks)
}

/// A batch for each of some partitions, in one request; answers come in the same order.
pub fn produce_all(batches: &[(&str, i32, Bytes)], acks: i16) -> ProduceRequest {
    let topic = |(topic, index, batch): &(&str, i32, Bytes)| {
        let partition = PartitionProduceData::default()
            .with_index(*index)
            .with_records(Some(batch.clone()));
        TopicProduceData::default()
            .with_name(topic_name(topic))
            .with_partition_data(vec![partition])
    };
    ProduceRequest::default()
        .with_acks(acks)
        .with_timeout_ms(TIMEOUT_MS)
        .with_topic_data(batches.iter().map(topic).collect())
}

/// The time that the broker gave the records, if it is the broker that does.
pub fn append_time(response: &ProduceResponse) -> Option<i64> {
    let time_ms = response.responses[0].partition_responses[0].log_append_time_ms;
    (time_ms >= 0).then_some(time_ms)
}

/// The error code and the base offset.
pub fn produced(response: &ProduceResponse) -> (i16, i64) {
    let partition = &response.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

/// A fetch from some partitions that waits up to `max_wait_ms` for the first byte.
pub fn fetch(positions: &[(&str, i32, i64)], max_wait_ms: i32) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (topic, index, offset) in positions {
        let partition = FetchPartition::default()
            .with_partition(*index)
            .with_fetch_offset(*offset)
            .with_partition_max_bytes(1 << 20);
        match topics.iter_mut().find(|known| *known.topic.0 == **topic) {
            Some(known) => known.partitions.push(partition),
            None => topics.push(
                FetchTopic::default()
                    .with_topic(topic_name(topic))
                    .with_partitions(vec![partition]),
            ),
        }
    }
    FetchRequest::default()
        .with_max_wait_ms(max_wait_ms)
        .with_min_bytes(1)
        .with_max_bytes(16 << 20)
        .with_session_epoch(-1)
        .with_topics(topics)
}

/// A new producer id, or the error code that is the answer.
pub fn producer_id(wire: &mut Wire) -> io::Result<Result<i64, i16>> {
    let request = InitProducerIdRequest::default().with_transactional_id(None);
    let response = wire.call(&request, 4)?;
    Ok(match response.error_code {
        NONE => Ok(response.producer_id.0),
        error => Err(error),
    })
}

/// The log start offset (or, with `end`, the high watermark); `None` when the topic is unknown.
pub fn list_offset(
    wire: &mut Wire,
    topic: &str,
    index: i32,
    end: bool,
) -> io::Result<Result<i64, i16>> {
    let partition = ListOffsetsPartition::default()
        .with_partition_index(index)
        .with_timestamp(if end { -1 } else { -2 });
    let topic = ListOffsetsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = ListOffsetsRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_topics(vec![topic]);
    let response = wire.call(&request, LIST_OFFSETS)?;
    let found = &response.topics[0].partitions[0];
    Ok(match found.error_code {
        NONE => Ok(found.offset),
        error => Err(error),
    })
}

/// The error code.
pub fn create_topic(
    wire: &mut Wire,
    name: &str,
    partitions: i32,
    configs: &Configs,
) -> io::Result<i16> {
    let config = |(name, value): (&String, &String)| {
        CreatableTopicConfig::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
    };
    let topic = CreatableTopic::default()
        .with_name(topic_name(name))
        .with_num_partitions(partitions)
        .with_replication_factor(1)
        .with_configs(configs.iter().map(config).collect());
    let request = CreateTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    Ok(wire.call(&request, 7)?.topics[0].error_code)
}

/// The error code.
pub fn delete_topic(wire: &mut Wire, name: &str) -> io::Result<i16> {
    let topic = DeleteTopicState::default().with_name(Some(topic_name(name)));
    let request = DeleteTopicsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    Ok(wire.call(&request, 6)?.responses[0].error_code)
}

/// The error code.
pub fn set_partitions(wire: &mut Wire, name: &str, count: i32) -> io::Result<i16> {
    let topic = CreatePartitionsTopic::default()
        .with_name(topic_name(name))
        .with_count(count)
        .with_assignments(None);
    let request = CreatePartitionsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    Ok(wire.call(&request, 3)?.results[0].error_code)
}

/// The error code.
pub fn set_config(wire: &mut Wire, topic: &str, name: &str, value: &str) -> io::Result<i16> {
    let config = AlterableConfig::default()
        .with_name(text(name))
        .with_config_operation(0)
        .with_value(Some(text(value)));
    let resource = AlterConfigsResource::default()
        .with_resource_type(TOPIC)
        .with_resource_name(text(topic))
        .with_configs(vec![config]);
    let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
    Ok(wire.call(&request, 1)?.responses[0].error_code)
}

/// The error code.
pub fn delete_records(wire: &mut Wire, topic: &str, index: i32, offset: i64) -> io::Result<i16> {
    let partition = DeleteRecordsPartition::default()
        .with_partition_index(index)
        .with_offset(offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(topic_name(topic))
        .with_partitions(vec![partition]);
    let request = DeleteRecordsRequest::default()
        .with_topics(vec![topic])
        .with_timeout_ms(TIMEOUT_MS);
    let response = wire.call(&request, 2)?;
    Ok(response.topics[0].partitions[0].error_code)
}

/// All topics but the broker's own, with their numbers of partitions.
pub fn topics(wire: &mut Wire) -> io::Result<BTreeMap<String, i32>> {
    let request = MetadataRequest::default().with_topics(None);
    let response = wire.call(&request, 12)?;
    let topics = response.topics.iter().filter(|topic| !topic.is_internal);
    let name = |topic: &metadata_response::MetadataResponseTopic| {
        topic
            .name
            .as_ref()
            .map_or(String::new(), |name| name.to_string())
    };
    Ok(topics
        .map(|topic| (name(topic), topic.partitions.len() as i32))
        .collect())
}

/// The configs that were set for each of these topics.
pub fn configs(wire: &mut Wire, topics: &[&String]) -> io::Result<BTreeMap<String, Configs>> {
    let resource = |topic: &&String| {
        DescribeConfigsResource::default()
            .with_resource_type(TOPIC)
            .with_resource_name(text(topic))
            .with_configuration_keys(None)
    };
    let request =
        DescribeConfigsRequest::default().with_resources(topics.iter().map(resource).collect());
    let response = wire.call(&request, 4)?;
    let described = response.results.iter().map(|result| {
        let set = result.configs.iter();
        let set = set.filter(|config| config.config_source == DYNAMIC_TOPIC_CONFIG);
        let set = set.map(|config| {
            let value = config.value.as_ref().map_or("", |value| value.as_str());
            (config.name.to_string(), value.to_owned())
        });
        (result.resource_name.to_string(), set.collect())
    });
    Ok(described.collect())
}

/// What a member (or, without a member id, anybody) commits: topic, partition, offset.
pub fn commit(
    group: &str,
    member: (&str, i32),
    offsets: &[(String, i32, i64)],
) -> OffsetCommitRequest {
    let topic = |(topic, index, offset): &(String, i32, i64)| {
        let partition = OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(*offset)
            .with_committed_metadata(Some(text(&note(*offset))));
        OffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![partition])
    };
    let (member_id, generation) = member;
    OffsetCommitRequest::default()
        .with_group_id(GroupId(text(group)))
        .with_member_id(text(member_id))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(offsets.iter().map(topic).collect())
}

/// The metadata that goes with a committed offset.
pub fn note(offset: i64) -> String {
    format!("read up to {offset}")
}

/// Offset and metadata by topic and partition.
pub type Committed = BTreeMap<(String, i32), (i64, String)>;

/// All that a group has committed, or the error code that is the answer.
pub fn committed(wire: &mut Wire, group: &str) -> io::Result<Result<Committed, i16>> {
    let wanted = OffsetFetchRequestGroup::default()
        .with_group_id(GroupId(text(group)))
        .with_topics(None);
    let request = OffsetFetchRequest::default().with_groups(vec![wanted]);
    let response = wire.call(&request, 9)?;
    let group = &response.groups[0];
    if group.error_code != NONE {
        return Ok(Err(group.error_code));
    }
    let mut offsets = Committed::new();
    for topic in &group.topics {
        for partition in &topic.partitions {
            let metadata = partition
                .metadata
                .as_ref()
                .map_or("", |metadata| metadata.as_str());
            offsets.insert(
                (topic.name.to_string(), partition.partition_index),
                (partition.committed_offset, metadata.to_owned()),
            );
        }
    }
    Ok(Ok(offsets))
}
