//! DescribeQuorum (key 55): the voters and observers of the metadata quorum (KIP-595).
//!
//! Versions: 1 adds times to the replicas (KIP-836), 2 error messages, directory ids and the nodes'
//! listeners (KIP-853).

use crate::engine::Engine;
use crate::engine::fetch::LEADER_EPOCH;
use crate::io::clock;
use std::borrow::Cow;

use uuid::Uuid;

use super::context::Context;
use super::error::ErrorCode;
use super::wire::{Reader, WireError, Writer};

const FIRST_VERSION_WITH_TIMES: i16 = 1;
const FIRST_VERSION_WITH_ERROR_MESSAGE: i16 = 2;
const FIRST_VERSION_WITH_DIRECTORY_ID: i16 = 2;
const FIRST_VERSION_WITH_NODES: i16 = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
}

pub fn decode<'a>(r: &mut Reader<'a>, _version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        topics: r.array(decode_topic)?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>) -> Result<TopicRequest<'a>, WireError> {
    let topic = TopicRequest {
        name: r.string()?,
        partitions: r.array(decode_partition)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

fn decode_partition(r: &mut Reader<'_>) -> Result<PartitionRequest, WireError> {
    let partition = PartitionRequest { index: r.i32()? };
    r.skip_tagged_fields()?;
    Ok(partition)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub error_code: ErrorCode,
    /// From version 2.
    pub error_message: Option<Cow<'a, str>>,
    pub topics: Vec<TopicResponse<'a>>,
    /// From version 2.
    pub nodes: Vec<Node<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    pub name: Cow<'a, str>,
    pub partitions: Vec<PartitionResponse<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionResponse<'a> {
    pub index: i32,
    pub error_code: ErrorCode,
    /// From version 2.
    pub error_message: Option<Cow<'a, str>>,
    /// -1 if there is none.
    pub leader_id: i32,
    pub leader_epoch: i32,
    pub high_watermark: i64,
    pub current_voters: Vec<Replica>,
    pub observers: Vec<Replica>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    pub replica_id: i32,
    /// From version 2.
    pub replica_directory_id: Uuid,
    /// -1 if unknown.
    pub log_end_offset: i64,
    /// When the replica last fetched, in milliseconds since the epoch; -1 for the leader, and if
    /// unknown. From version 1.
    pub last_fetch_timestamp: i64,
    /// When the replica last had all that the leader has; -1 if unknown. From version 1.
    pub last_caught_up_timestamp: i64,
}

impl Default for Replica {
    fn default() -> Self {
        Self {
            replica_id: 0,
            replica_directory_id: Uuid::nil(),
            log_end_offset: 0,
            last_fetch_timestamp: -1,
            last_caught_up_timestamp: -1,
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node<'a> {
    pub node_id: i32,
    pub listeners: Vec<Listener<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listener<'a> {
    pub name: Cow<'a, str>,
    pub host: Cow<'a, str>,
    pub port: u16,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.error_code(response.error_code);
    if version >= FIRST_VERSION_WITH_ERROR_MESSAGE {
        w.nullable_string(response.error_message.as_deref());
    }
    w.array(&response.topics, |w, topic| encode_topic(w, topic, version));
    if version >= FIRST_VERSION_WITH_NODES {
        w.array(&response.nodes, encode_node);
    }
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>, version: i16) {
    w.string(&topic.name);
    w.array(&topic.partitions, |w, partition| {
        encode_partition(w, partition, version)
    });
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse<'_>, version: i16) {
    w.i32(partition.index);
    w.error_code(partition.error_code);
    if version >= FIRST_VERSION_WITH_ERROR_MESSAGE {
        w.nullable_string(partition.error_message.as_deref());
    }
    w.i32(partition.leader_id);
    w.i32(partition.leader_epoch);
    w.i64(partition.high_watermark);
    w.array(&partition.current_voters, |w, replica| {
        encode_replica(w, replica, version)
    });
    w.array(&partition.observers, |w, replica| {
        encode_replica(w, replica, version)
    });
    w.no_tagged_fields();
}

fn encode_replica(w: &mut Writer, replica: &Replica, version: i16) {
    w.i32(replica.replica_id);
    if version >= FIRST_VERSION_WITH_DIRECTORY_ID {
        w.uuid(replica.replica_directory_id);
    }
    w.i64(replica.log_end_offset);
    if version >= FIRST_VERSION_WITH_TIMES {
        w.i64(replica.last_fetch_timestamp);
        w.i64(replica.last_caught_up_timestamp);
    }
    w.no_tagged_fields();
}

fn encode_node(w: &mut Writer, node: &Node<'_>) {
    w.i32(node.node_id);
    w.array(&node.listeners, encode_listener);
    w.no_tagged_fields();
}

fn encode_listener(w: &mut Writer, listener: &Listener<'_>) {
    w.string(&listener.name);
    w.string(&listener.host);
    w.u16(listener.port);
    w.no_tagged_fields();
}

/// The log of Kafka's metadata. There is none here, but a quorum of one that would write it.
const METADATA_TOPIC: &str = "__cluster_metadata";
const OFFSET_UNKNOWN: i64 = -1;

/// This broker is the one voter, and leads. The quorum has one partition, which is what may be asked
/// for.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let one = match &request.topics[..] {
        [topic] => match &topic.partitions[..] {
            [partition] => Some((topic.name, partition.index)),
            _ => None,
        },
        _ => None,
    };
    let Some((name, index)) = one else {
        return Response {
            error_code: ErrorCode::InvalidRequest,
            error_message: Some(Cow::Borrowed("the quorum has one partition: ask for one")),
            ..Response::default()
        };
    };
    let is_quorum = (name, index) == (METADATA_TOPIC, 0);
    let partition = match is_quorum {
        true => describe(context.engine.config.node_id),
        false => PartitionResponse {
            index,
            error_code: ErrorCode::UnknownTopicOrPartition,
            leader_id: -1,
            leader_epoch: -1,
            high_watermark: OFFSET_UNKNOWN,
            ..PartitionResponse::default()
        },
    };
    Response {
        topics: vec![TopicResponse {
            name: Cow::Borrowed(name),
            partitions: vec![partition],
        }],
        nodes: Vec::from_iter(is_quorum.then(|| node(context.engine))),
        ..Response::default()
    }
}

fn describe(node_id: i32) -> PartitionResponse<'static> {
    PartitionResponse {
        index: 0,
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
