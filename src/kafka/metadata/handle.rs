//! Metadata: this one broker, and topics; a topic that is missing may be created on the way.

use super::{Broker, Partition, Request, Response, Topic, TopicRequest};
use crate::engine::Engine;
use crate::engine::catalog;
use crate::engine::catalog::changes::{self, AdminError, NewTopic};
use crate::io::rate_limited::{self, RateLimited};
use crate::kafka::context::Context;
use crate::kafka::error::ErrorCode;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

/// The operations on a topic that Kafka knows, as bits (KIP-430): without an authorizer a client may
/// do all of them. Read 3, write 4, create 5, delete 6, alter 7, describe 8, describe configs 10,
/// alter configs 11.
pub const TOPIC_OPERATIONS: i32 = 0b1101_1111_1000;
/// On the cluster: create 5, alter 7, describe 8, cluster action 9, describe configs 10, alter
/// configs 11, idempotent write 12.
pub const CLUSTER_OPERATIONS: i32 = 0b1_1111_1010_0000;

pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut topics = Vec::new();
    match request.asked_topics(context.version) {
        None => {
            let known: Vec<_> = context
                .engine
                .with_catalog(|all| all.topics().cloned().collect());
            topics.extend(
                known
                    .iter()
                    .map(|topic| describe(context.engine, topic, request)),
            );
        }
        Some(asked) => {
            // Kafka too answers once for a topic that is named twice. It is also what keeps the reply
            // in proportion to the catalog and the request.
            let mut seen = HashSet::new();
            let first = |topic: &&TopicRequest<'a>| seen.insert((topic.name, topic.topic_id));
            for topic in asked.iter().filter(first) {
                topics.push(find(context.engine, topic, request).await);
            }
        }
    }
    let advertised = context.engine.config.advertised();
    let cluster_operations = request.include_cluster_authorized_operations;
    Response {
        brokers: vec![Broker {
            node_id: context.engine.config.node_id,
            host: Cow::Owned(advertised.host.clone()),
            port: i32::from(advertised.port),
            rack: None,
        }],
        cluster_id: Some(Cow::Owned(context.engine.cluster_id.to_string())),
        controller_id: context.engine.config.node_id,
        topics,
        cluster_authorized_operations: match cluster_operations {
            true => CLUSTER_OPERATIONS,
            false => super::OPERATIONS_NOT_REQUESTED,
        },
        ..Response::default()
    }
}

async fn find<'a>(
    engine: &Rc<Engine>,
    asked: &TopicRequest<'a>,
    request: &Request<'a>,
) -> Topic<'a> {
    // The Java client, when it asks by id, leaves the name empty instead of null.
    let by_id = !asked.topic_id.is_nil();
    let Some(name) = asked.name.filter(|_| !by_id) else {
        return match engine.topic_by_id(asked.topic_id) {
            Some(topic) => describe(engine, &topic, request),
            None => Topic {
                error_code: ErrorCode::UnknownTopicId,
                topic_id: asked.topic_id,
                ..Topic::default()
            },
        };
    };
    let found = match engine.topic(name) {
        Some(topic) => Ok(topic),
        None if catalog::check_topic_name(name).is_err() => Err(ErrorCode::InvalidTopicException),
        None if request.allow_auto_topic_creation && engine.config.auto_create_topics => {
            auto_create(engine, name).await
        }
        None => Err(ErrorCode::UnknownTopicOrPartition),
    };
    match found {
        Ok(topic) => describe(engine, &topic, request),
        Err(error_code) => Topic {
            error_code,
            name: Some(Cow::Borrowed(name)),
            ..Topic::default()
        },
    }
}

async fn auto_create(engine: &Rc<Engine>, name: &str) -> Result<Arc<catalog::Topic>, ErrorCode> {
    if catalog::INTERNAL_TOPICS.contains(&name) {
        return Err(ErrorCode::UnknownTopicOrPartition);
    }
    let new = NewTopic {
        name: name.to_owned(),
        partitions: engine.config.num_partitions,
        configs: BTreeMap::new(),
    };
    match changes::create_topic(engine, new, false).await {
        Ok(topic) => Ok(topic),
        // Another client was faster.
        Err(AdminError::TopicExists(_)) => {
            engine.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
        }
        // Whoever asks for many could fill the log.
        Err(error @ AdminError::LimitReached { .. }) => Err((&error).into()),
        Err(error) => {
            static LINE: RateLimited = RateLimited::new(rate_limited::WHILE_FULL);
            if let Some(kept_back) = LINE.admit() {
                tracing::warn!(topic = name, %error, kept_back, "a topic could not be created on demand");
            }
            Err((&error).into())
        }
    }
}

fn describe<'a>(engine: &Engine, topic: &catalog::Topic, request: &Request<'_>) -> Topic<'a> {
    let node = engine.config.node_id;
    let partition = |index| Partition {
        error_code: ErrorCode::None,
        index,
        leader_id: node,
        leader_epoch: 0,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        offline_replicas: Vec::new(),
    };
    Topic {
        error_code: ErrorCode::None,
        name: Some(Cow::Owned(topic.name.clone())),
        topic_id: topic.id,
        is_internal: topic.is_internal(),
        partitions: (0..topic.partitions as i32).map(partition).collect(),
        topic_authorized_operations: match request.include_topic_authorized_operations {
            true => TOPIC_OPERATIONS,
            false => super::OPERATIONS_NOT_REQUESTED,
        },
    }
}
