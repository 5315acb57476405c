//! Metadata (key 3): the brokers, and the topics with their partitions.
//!
//! Versions: 1 adds racks, the controller and internal topics, 2 the cluster id, 3 the throttle
//! time, 4 auto-creation, 5 offline replicas (KIP-112), 7 the leader epoch (KIP-320), 8 authorized
//! operations (KIP-430), 9 is flexible, 10 adds topic ids, 11 drops the cluster's authorized
//! operations (KIP-700), 12 allows asking by id alone (KIP-516), 13 adds the top-level error.

mod handle;

pub use handle::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS, handle};

use std::borrow::Cow;

use uuid::Uuid;

use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

/// What the authorized operations say when they were not asked for.
pub const OPERATIONS_NOT_REQUESTED: i32 = i32::MIN;

const FIRST_VERSION_WITH_CLUSTER_ID: i16 = 2;
const FIRST_VERSION_WITH_THROTTLE: i16 = 3;
const FIRST_VERSION_WITH_AUTO_CREATION: i16 = 4;
const FIRST_VERSION_WITH_OFFLINE_REPLICAS: i16 = 5;
const FIRST_VERSION_WITH_LEADER_EPOCH: i16 = 7;
const FIRST_VERSION_WITH_OPERATIONS: i16 = 8;
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 10;
const LAST_VERSION_WITH_CLUSTER_OPERATIONS: i16 = 10;
const FIRST_VERSION_WITH_NULL_NAME: i16 = 12;
const FIRST_VERSION_WITH_ERROR: i16 = 13;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    /// `None`: every topic. Version 0 says that with an empty array, which is read as `None` so
    /// that one rule holds for all versions.
    pub topics: Option<Vec<TopicRequest<'a>>>,
    /// True before version 4, which made it a choice.
    pub allow_auto_topic_creation: bool,
    /// Versions 8 to 10.
    pub include_cluster_authorized_operations: bool,
    /// From version 8.
    pub include_topic_authorized_operations: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    /// Nil before version 10, and where the topic is asked for by name.
    pub topic_id: Uuid,
    /// Null only from version 10 on, where the topic is asked for by id. Kafka itself answers
    /// such a request from version 12 on.
    pub name: Option<&'a str>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let has_operations = version >= FIRST_VERSION_WITH_OPERATIONS;
    let request = Request {
        topics: decode_topics(r, version)?,
        allow_auto_topic_creation: version < FIRST_VERSION_WITH_AUTO_CREATION || r.bool()?,
        include_cluster_authorized_operations: has_operations
            && version <= LAST_VERSION_WITH_CLUSTER_OPERATIONS
            && r.bool()?,
        include_topic_authorized_operations: has_operations && r.bool()?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topics<'a>(
    r: &mut Reader<'a>,
    version: i16,
) -> Result<Option<Vec<TopicRequest<'a>>>, WireError> {
    if version > 0 {
        return r.nullable_array(|r| decode_topic(r, version));
    }
    let topics = r.array(|r| decode_topic(r, version))?;
    Ok(Some(topics).filter(|topics| !topics.is_empty()))
}

fn decode_topic<'a>(r: &mut Reader<'a>, version: i16) -> Result<TopicRequest<'a>, WireError> {
    let topic = if version >= FIRST_VERSION_WITH_TOPIC_ID {
        TopicRequest {
            topic_id: r.uuid()?,
            name: r.nullable_string()?,
        }
    } else {
        TopicRequest {
            topic_id: Uuid::nil(),
            name: Some(r.string()?),
        }
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response<'a> {
    /// From version 3.
    pub throttle_time_ms: i32,
    pub brokers: Vec<Broker<'a>>,
    /// From version 2.
    pub cluster_id: Option<Cow<'a, str>>,
    /// Must be one of `brokers`, or -1. From version 1.
    pub controller_id: i32,
    pub topics: Vec<Topic<'a>>,
    /// Versions 8 to 10.
    pub cluster_authorized_operations: i32,
    /// From version 13.
    pub error_code: ErrorCode,
}

impl Default for Response<'_> {
    fn default() -> Self {
        Self {
            throttle_time_ms: 0,
            brokers: Vec::new(),
            cluster_id: None,
            controller_id: -1,
            topics: Vec::new(),
            cluster_authorized_operations: OPERATIONS_NOT_REQUESTED,
            error_code: ErrorCode::None,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broker<'a> {
    pub node_id: i32,
    pub host: Cow<'a, str>,
    pub port: i32,
    /// From version 1.
    pub rack: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic<'a> {
    pub error_code: ErrorCode,
    /// `None` where an unknown id was asked for; before version 12, which cannot say null, it is
    /// written as the empty string.
    pub name: Option<Cow<'a, str>>,
    /// From version 10.
    pub topic_id: Uuid,
    /// From version 1.
    pub is_internal: bool,
    pub partitions: Vec<Partition>,
    /// From version 8.
    pub topic_authorized_operations: i32,
}

impl Default for Topic<'_> {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            name: None,
            topic_id: Uuid::nil(),
            is_internal: false,
            partitions: Vec::new(),
            topic_authorized_operations: OPERATIONS_NOT_REQUESTED,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub error_code: ErrorCode,
    pub index: i32,
    pub leader_id: i32,
    /// -1 if unknown. From version 7.
    pub leader_epoch: i32,
    pub replica_nodes: Vec<i32>,
    pub isr_nodes: Vec<i32>,
    /// From version 5.
    pub offline_replicas: Vec<i32>,
}

impl Default for Partition {
    fn default() -> Self {
        Self {
            error_code: ErrorCode::None,
            index: 0,
            leader_id: -1,
            leader_epoch: -1,
            replica_nodes: Vec::new(),
            isr_nodes: Vec::new(),
            offline_replicas: Vec::new(),
        }
    }
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    if version >= FIRST_VERSION_WITH_THROTTLE {
        w.i32(response.throttle_time_ms);
    }
    w.array(&response.brokers, |w, broker| {
        encode_broker(w, broker, version);
    });
    if version >= FIRST_VERSION_WITH_CLUSTER_ID {
        w.nullable_string(response.cluster_id.as_deref());
    }
    if version >= 1 {
        w.i32(response.controller_id);
    }
    w.array(&response.topics, |w, topic| encode_topic(w, topic, version));
    if (FIRST_VERSION_WITH_OPERATIONS..=LAST_VERSION_WITH_CLUSTER_OPERATIONS).contains(&version) {
        w.i32(response.cluster_authorized_operations);
    }
    if version >= FIRST_VERSION_WITH_ERROR {
        w.i16(response.error_code.code());
    }
    w.no_tagged_fields();
}

fn encode_broker(w: &mut Writer, broker: &Broker<'_>, version: i16) {
    w.i32(broker.node_id);
    w.string(&broker.host);
    w.i32(broker.port);
    if version >= 1 {
        w.nullable_string(broker.rack.as_deref());
    }
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &Topic<'_>, version: i16) {
    w.i16(topic.error_code.code());
    let name = topic.name.as_deref();
    if version >= FIRST_VERSION_WITH_NULL_NAME {
        w.nullable_string(name);
    } else {
        w.string(name.unwrap_or_default());
    }
    if version >= FIRST_VERSION_WITH_TOPIC_ID {
        w.uuid(topic.topic_id);
    }
    if version >= 1 {
        w.bool(topic.is_internal);
    }
    w.array(&topic.partitions, |w, partition| {
        encode_partition(w, partition, version);
    });
    if version >= FIRST_VERSION_WITH_OPERATIONS {
        w.i32(topic.topic_authorized_operations);
    }
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &Partition, version: i16) {
    w.i16(partition.error_code.code());
    w.i32(partition.index);
    w.i32(partition.leader_id);
    if version >= FIRST_VERSION_WITH_LEADER_EPOCH {
        w.i32(partition.leader_epoch);
    }
    w.array(&partition.replica_nodes, |w, node| w.i32(*node));
    w.array(&partition.isr_nodes, |w, node| w.i32(*node));
    if version >= FIRST_VERSION_WITH_OFFLINE_REPLICAS {
        w.array(&partition.offline_replicas, |w, node| w.i32(*node));
    }
    w.no_tagged_fields();
}
