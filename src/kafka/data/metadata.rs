//! Metadata (key 3): the brokers, and the topics with their partitions.
//!
//! Versions: 1 adds racks, the controller and internal topics, 2 the cluster id, 3 the throttle
//! time, 4 auto-creation, 5 offline replicas (KIP-112), 7 the leader epoch (KIP-320), 8 authorized
//! operations (KIP-430), 9 is flexible, 10 adds topic ids, 11 drops the cluster's authorized
//! operations (KIP-700), 12 allows asking by id alone (KIP-516), 13 adds the top-level error.

mod handle;

pub use handle::{CLUSTER_OPERATIONS, TOPIC_OPERATIONS, handle};

use crate::kafka::{ErrorCode, message};
use std::borrow::Cow;
use uuid::Uuid;

/// What the authorized operations say when they were not asked for.
pub const OPERATIONS_NOT_REQUESTED: i32 = i32::MIN;

message! {
    Metadata 0..=13, flexible 9..;

    Request<'a> {
        /// `None`: every topic. Version 0 says that with an empty array: see
        /// [`Request::asked_topics`].
        topics: Option<Vec<TopicRequest<'a>>> [0.., nullable 1..],
        allow_auto_topic_creation: bool [4..] = true,
        include_cluster_authorized_operations: bool [8..=10],
        include_topic_authorized_operations: bool [8..],
    }

    TopicRequest<'a> {
        /// Nil where the topic is asked for by name.
        topic_id: Uuid [10..],
        /// Null where the topic is asked for by id. Kafka itself answers such a request from
        /// version 12 on.
        name: Option<&'a str> [0.., nullable 10..],
    }

    Response<'a> {
        throttle_time_ms: i32 [3..],
        brokers: Vec<Broker<'a>>,
        cluster_id: Option<Cow<'a, str>> [2..],
        /// Must be one of `brokers`, or -1.
        controller_id: i32 [1..] = -1,
        topics: Vec<Topic<'a>>,
        cluster_authorized_operations: i32 [8..=10] = OPERATIONS_NOT_REQUESTED,
        error_code: ErrorCode [13..],
    }

    Broker<'a> {
        node_id: i32,
        host: Cow<'a, str>,
        port: i32,
        rack: Option<Cow<'a, str>> [1..],
    }

    Topic<'a> {
        error_code: ErrorCode,
        /// `None` where an unknown id was asked for.
        name: Option<Cow<'a, str>> [0.., nullable 12..],
        topic_id: Uuid [10..],
        is_internal: bool [1..],
        partitions: Vec<Partition>,
        topic_authorized_operations: i32 [8..] = OPERATIONS_NOT_REQUESTED,
    }

    Partition {
        error_code: ErrorCode,
        index: i32,
        leader_id: i32 = -1,
        /// -1 if unknown.
        leader_epoch: i32 [7..] = -1,
        replica_nodes: Vec<i32>,
        isr_nodes: Vec<i32>,
        offline_replicas: Vec<i32> [5..],
    }
}

impl<'a> Request<'a> {
    /// The topics that are asked for; `None`: every topic.
    pub fn asked_topics(&self, version: i16) -> Option<&[TopicRequest<'a>]> {
        let topics = self.topics.as_deref();
        topics.filter(|topics| version > 0 || !topics.is_empty())
    }
}
