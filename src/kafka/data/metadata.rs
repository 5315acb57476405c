//! Metadata (key 3): the brokers, and the topics with their partitions.
//!
//! Versions: 4 adds auto-creation, 5 offline replicas (KIP-112), 7 the leader epoch (KIP-320), 8
//! authorized operations (KIP-430), 11 drops those of the cluster (KIP-700), 12 allows asking by id
//! alone (KIP-516).

use crate::engine::catalog;
use crate::engine::catalog::changes;
use crate::engine::fetch::LEADER_EPOCH;
use crate::io::reactor::Slice;
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;
use uuid::Uuid;

/// What the authorized operations say when they were not asked for.
pub const OPERATIONS_NOT_REQUESTED: i32 = i32::MIN;
/// The operations on a topic that Kafka knows, as bits (KIP-430): without an authorizer a client may
/// do all of them. Read 3, write 4, create 5, delete 6, alter 7, describe 8, describe configs 10,
/// alter configs 11.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// On the cluster: create 5, alter 7, describe 8, cluster action 9, describe configs 10, alter
/// configs 11, idempotent write 12.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

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

/// What a described topic takes with its name, and each of its partitions: here and as it is written.
const TOPIC_BYTES: usize = 512;
const PARTITION_BYTES: usize = size_of::<Partition>() + 128;

/// What the reply takes at most, in bytes.
pub fn reply_bytes(context: &Context<'_>, request: &Request<'_>) -> usize {
    let (topics, partitions) = match request.asked_topics(context.version) {
        None => context
            .engine
            .with_catalog(|all| (all.topic_count(), all.partition_count())),
        Some(asked) => {
            let found = asked.iter().map(|one| match one.name {
                Some(name) => context.engine.topic(name),
                None => context.engine.topic_by_id(one.topic_id),
            });
            let partitions = found.flatten().map(|topic| topic.partitions as usize);
            (asked.len(), partitions.sum())
        }
    };
    topics * TOPIC_BYTES + partitions * PARTITION_BYTES
}

/// Describes this one broker, and topics; a topic that is missing may be created on the way.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let engine = context.engine;
    let mut topics = Vec::new();
    let mut slice = Slice::new();
    match request.asked_topics(context.version) {
        None => {
            let all: Vec<_> = engine.with_catalog(|all| all.topics().cloned().collect());
            for topic in all {
                topics.push(describe(context, &topic, request));
                slice.rest().await;
            }
        }
        Some(asked) => {
            // Kafka too answers once for a topic that is named twice. It is also what keeps the reply
            // in proportion to the catalog and the request.
            let mut seen = HashSet::with_capacity(asked.len());
            let first = |topic: &&TopicRequest<'a>| seen.insert((topic.name, topic.topic_id));
            for topic in asked.iter().filter(first) {
                topics.push(answer(context, topic, request).await);
                slice.rest().await;
            }
        }
    }
    let advertised = engine.config.advertised();
    Response {
        brokers: vec![Broker {
            node_id: engine.config.node_id,
            host: Cow::Owned(advertised.host.clone()),
            port: i32::from(advertised.port),
            rack: None,
        }],
        cluster_id: Some(Cow::Owned(engine.cluster_id.to_string())),
        controller_id: engine.config.node_id,
        topics,
        cluster_authorized_operations: operations(
            request.include_cluster_authorized_operations,
            CLUSTER_OPERATIONS,
        ),
        ..Response::default()
    }
}

/// Authorized operations as a reply has them.
pub fn operations(requested: bool, operations: i32) -> i32 {
    if requested {
        operations
    } else {
        OPERATIONS_NOT_REQUESTED
    }
}

/// The code for a topic that does not exist.
pub fn unknown_topic(name: &str) -> ErrorCode {
    if catalog::check_topic_name(name).is_ok() {
        ErrorCode::UnknownTopicOrPartition
    } else {
        ErrorCode::InvalidTopicException
    }
}

async fn answer<'a>(
    context: &Context<'_>,
    asked: &TopicRequest<'a>,
    request: &Request<'a>,
) -> Topic<'a> {
    // The Java client, when it asks by id, leaves the name empty instead of null.
    let name = asked.name.filter(|_| asked.topic_id.is_nil());
    let found = match name {
        Some(name) => find_or_create(context, name, request).await,
        None => {
            let found = context.engine.topic_by_id(asked.topic_id);
            found.ok_or(ErrorCode::UnknownTopicId)
        }
    };
    match found {
        Ok(topic) => describe(context, &topic, request),
        Err(error_code) => Topic {
            error_code,
            name: name.map(Cow::Borrowed),
            topic_id: asked.topic_id,
            ..Topic::default()
        },
    }
}

async fn find_or_create(
    context: &Context<'_>,
    name: &str,
    request: &Request<'_>,
) -> Result<Arc<catalog::Topic>, ErrorCode> {
    let found = context.topic(name);
    if found.is_ok() {
        return found;
    }
    if !request.allow_auto_topic_creation {
        return Err(unknown_topic(name));
    }
    let created = changes::find_or_create_topic(context.engine, name).await;
    created.map_err(|error| ErrorCode::from(&error))
}

fn describe<'a>(context: &Context<'_>, topic: &catalog::Topic, request: &Request<'_>) -> Topic<'a> {
    let node = context.engine.config.node_id;
    let partition = |index| Partition {
        index,
        leader_id: node,
        leader_epoch: LEADER_EPOCH,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        ..Partition::default()
    };
    Topic {
        error_code: ErrorCode::None,
        name: Some(Cow::Owned(topic.name.clone())),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: (0..topic.partitions as i32).map(partition).collect(),
        topic_authorized_operations: operations(
            request.include_topic_authorized_operations,
            TOPIC_OPERATIONS,
        ),
    }
}
