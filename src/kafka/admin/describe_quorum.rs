//! DescribeQuorum (key 55): the voters and observers of the metadata quorum (KIP-595).
//!
//! Versions: 1 adds times to the replicas (KIP-836), 2 error messages, directory ids and the nodes'
//! listeners (KIP-853).

use crate::engine::Engine;
use crate::engine::fetch::LEADER_EPOCH;
use crate::io::clock;
use crate::kafka::topics::{TopicRequest, TopicResponse};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use uuid::Uuid;

message! {
    DescribeQuorum 0..=2, flexible 0..;

    Request<'a> {
        topics: Vec<TopicRequest<'a, PartitionRequest>>,
    }

    #[derive(Copy)]
    PartitionRequest {
        index: i32,
    }

    Response<'a> {
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>> [2..],
        topics: Vec<TopicResponse<'a, PartitionResponse<'a>>>,
        nodes: Vec<Node<'a>> [2..],
    }

    PartitionResponse<'a> {
        index: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>> [2..],
        /// -1 if there is none.
        leader_id: i32,
        leader_epoch: i32,
        high_watermark: i64,
        current_voters: Vec<Replica>,
        observers: Vec<Replica>,
    }

    #[derive(Copy)]
    Replica {
        replica_id: i32,
        replica_directory_id: Uuid [2..],
        /// -1 if unknown.
        log_end_offset: i64,
        /// When the replica last fetched, in milliseconds since the epoch; -1 for the leader, and if
        /// unknown.
        last_fetch_timestamp: i64 [1..] = -1,
        /// When the replica last had all that the leader has; -1 if unknown.
        last_caught_up_timestamp: i64 [1..] = -1,
    }

    Node<'a> {
        node_id: i32,
        listeners: Vec<Listener<'a>>,
    }

    Listener<'a> {
        name: Cow<'a, str>,
        host: Cow<'a, str>,
        port: u16,
    }
}

/// The log of Kafka's metadata. There is none here, but a quorum of one that would write it.
const METADATA_TOPIC: &str = "__cluster_metadata";
const OFFSET_UNKNOWN: i64 = -1;

/// This broker is the one voter, and leads. The quorum has one partition, which is all that may be
/// asked for.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let [topic] = &request.topics[..] else {
        return refused();
    };
    let [partition] = &topic.partitions[..] else {
        return refused();
    };
    let is_quorum = (topic.name, partition.index) == (METADATA_TOPIC, 0);
    let partition = if is_quorum {
        describe(context.engine.config.node_id)
    } else {
        PartitionResponse {
            index: partition.index,
            error_code: ErrorCode::UnknownTopicOrPartition,
            leader_id: -1,
            leader_epoch: -1,
            high_watermark: OFFSET_UNKNOWN,
            ..PartitionResponse::default()
        }
    };
    Response {
        topics: vec![TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions: vec![partition],
        }],
        nodes: Vec::from_iter(is_quorum.then(|| node(context.engine))),
        ..Response::default()
    }
}

fn refused() -> Response<'static> {
    Response {
        error_code: ErrorCode::InvalidRequest,
        error_message: Some("the quorum has one partition: ask for one".into()),
        ..Response::default()
    }
}

fn describe(node_id: i32) -> PartitionResponse<'static> {
    PartitionResponse {
        leader_id: node_id,
        leader_epoch: LEADER_EPOCH,
        high_watermark: OFFSET_UNKNOWN,
        current_voters: vec![Replica {
            replica_id: node_id,
            log_end_offset: OFFSET_UNKNOWN,
            // The leader has all that it has.
            last_caught_up_timestamp: clock::now_ms(),
            ..Replica::default()
        }],
        ..PartitionResponse::default()
    }
}

fn node(engine: &Engine) -> Node<'static> {
    let advertised = engine.config.advertised();
    Node {
        node_id: engine.config.node_id,
        listeners: vec![Listener {
            name: Cow::Borrowed("PLAINTEXT"),
            host: Cow::Owned(advertised.host.clone()),
            port: advertised.port,
        }],
    }
}
