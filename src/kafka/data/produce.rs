//! Produce (key 0), served from version 3: append record batches to partitions.
//!
//! Versions: 5 adds the log start offset, 8 record errors (KIP-467), 9 is flexible, 10 adds the
//! current leader (KIP-951), 13 names topics by id (KIP-516). 4, 6, 7, 11 and 12 change only what
//! may be asked for: 7 allows zstd (KIP-110), 12 transactions v2 (KIP-890).

use crate::engine::append::{Appender, Appending, Policy, Refusal};
use crate::engine::partition::AckWhen;
use crate::kafka::answer::{Answer, CloseReason, Outcome};
use crate::kafka::{Context, ErrorCode};
use crate::wire::{Reader, WireError, Writer};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use uuid::Uuid;

const FIRST_VERSION_WITH_LOG_START_OFFSET: i16 = 5;
const FIRST_VERSION_WITH_ZSTD: i16 = 7;
const FIRST_VERSION_WITH_RECORD_ERRORS: i16 = 8;
const FIRST_VERSION_WITH_CURRENT_LEADER: i16 = 10;
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 13;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub transactional_id: Option<&'a str>,
    /// Replicas to wait for: -1 all in sync, 1 the leader, 0 none and no reply.
    pub acks: i16,
    pub timeout_ms: i32,
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    /// Empty from version 13 on.
    pub name: &'a str,
    /// Nil before version 13.
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionRequest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRequest {
    pub index: i32,
    /// The record batch, a slice of the frame.
    pub records: Option<Bytes>,
}

pub fn decode<'a>(r: &mut Reader<'a>, version: i16) -> Result<Request<'a>, WireError> {
    let request = Request {
        transactional_id: r.nullable_string()?,
        acks: r.i16()?,
        timeout_ms: r.i32()?,
        topics: r.array(|r| decode_topic(r, version))?,
    };
    r.skip_tagged_fields()?;
    Ok(request)
}

fn decode_topic<'a>(r: &mut Reader<'a>, version: i16) -> Result<TopicRequest<'a>, WireError> {
    let by_id = version >= FIRST_VERSION_WITH_TOPIC_ID;
    let topic = TopicRequest {
        name: if by_id { "" } else { r.string()? },
        topic_id: if by_id { r.uuid()? } else { Uuid::nil() },
        partitions: r.array(|r| {
            let partition = PartitionRequest {
                index: r.i32()?,
                records: r.nullable_bytes()?,
            };
            r.skip_tagged_fields()?;
            Ok(partition)
        })?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub topics: Vec<TopicResponse<'a>>,
    pub throttle_time_ms: i32,
    /// Where the leaders named in [`PartitionResponse::current_leader`] are. From version 10.
    pub node_endpoints: Vec<NodeEndpoint<'a>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicResponse<'a> {
    /// Written before version 13.
    pub name: Cow<'a, str>,
    /// Written from version 13 on.
    pub topic_id: Uuid,
    pub partitions: Vec<PartitionResponse<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionResponse<'a> {
    pub index: i32,
    pub error_code: ErrorCode,
    /// Offset of the first record appended; -1 on error.
    pub base_offset: i64,
    /// When the broker appended, in milliseconds since the epoch, if the topic's timestamps are
    /// the broker's; else -1.
    pub log_append_time_ms: i64,
    /// From version 5; -1 if unknown.
    pub log_start_offset: i64,
    /// The records that made the batch fail. From version 8.
    pub record_errors: Vec<RecordError<'a>>,
    /// From version 8.
    pub error_message: Option<Cow<'a, str>>,
    /// Said when the error is that we do not lead the partition. From version 10.
    pub current_leader: Option<LeaderIdAndEpoch>,
}

impl Default for PartitionResponse<'_> {
    fn default() -> Self {
        Self {
            index: 0,
            error_code: ErrorCode::None,
            base_offset: -1,
            log_append_time_ms: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }
}

/// One record that was refused (KIP-467).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordError<'a> {
    /// Place of the record in its batch.
    pub batch_index: i32,
    pub message: Option<Cow<'a, str>>,
}

/// A partition's leader, for clients that asked the wrong broker (KIP-951). Also used by Fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// Where a broker listens (KIP-951). Also used by Fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint<'a> {
    pub node_id: i32,
    pub host: Cow<'a, str>,
    pub port: i32,
    pub rack: Option<Cow<'a, str>>,
}

pub fn encode(response: &Response<'_>, version: i16, w: &mut Writer) {
    w.array(&response.topics, |w, topic| encode_topic(w, topic, version));
    w.i32(response.throttle_time_ms);
    w.tagged_fields(|fields| {
        let endpoints = &response.node_endpoints;
        if version >= FIRST_VERSION_WITH_CURRENT_LEADER && !endpoints.is_empty() {
            fields.field(0, |w| w.array(endpoints, NodeEndpoint::encode));
        }
    });
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>, version: i16) {
    if version >= FIRST_VERSION_WITH_TOPIC_ID {
        w.uuid(topic.topic_id);
    } else {
        w.string(&topic.name);
    }
    w.array(&topic.partitions, |w, partition| {
        encode_partition(w, partition, version);
    });
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse<'_>, version: i16) {
    w.i32(partition.index);
    w.i16(partition.error_code.code());
    w.i64(partition.base_offset);
    w.i64(partition.log_append_time_ms);
    if version >= FIRST_VERSION_WITH_LOG_START_OFFSET {
        w.i64(partition.log_start_offset);
    }
    if version >= FIRST_VERSION_WITH_RECORD_ERRORS {
        w.array(&partition.record_errors, encode_record_error);
        w.nullable_string(partition.error_message.as_deref());
    }
    w.tagged_fields(|fields| {
        if let (Some(leader), FIRST_VERSION_WITH_CURRENT_LEADER..) =
            (partition.current_leader, version)
        {
            fields.field(0, |w| leader.encode(w));
        }
    });
}

fn encode_record_error(w: &mut Writer, error: &RecordError<'_>) {
    w.i32(error.batch_index);
    w.nullable_string(error.message.as_deref());
    w.no_tagged_fields();
}

impl LeaderIdAndEpoch {
    pub(super) fn encode(self, w: &mut Writer) {
        w.i32(self.leader_id);
        w.i32(self.leader_epoch);
        w.no_tagged_fields();
    }
}

impl NodeEndpoint<'_> {
    pub(super) fn encode(w: &mut Writer, endpoint: &Self) {
        w.i32(endpoint.node_id);
        w.string(&endpoint.host);
        w.i32(endpoint.port);
        w.nullable_string(endpoint.rack.as_deref());
        w.no_tagged_fields();
    }
}

/// A topic of a request whose batches were taken in or refused.
struct Topic {
    name: String,
    topic_id: Uuid,
    partitions: Vec<Partition>,
}

struct Partition {
    index: i32,
    /// An error when the engine was not asked.
    appending: Result<Appending, ErrorCode>,
}

/// Hands the batches to the engine, in order. The answer comes when they are appended (acks=1) or
/// durable (acks=all).
pub async fn handle(context: &Context<'_>, request: Request<'_>) -> Outcome {
    let Context {
        engine,
        version,
        throttle_time_ms,
        ..
    } = *context;
    let acks = request.acks;
    let mut appender = Appender::new(engine, policy(&request, version));
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(add(context, &mut appender, acks, topic).await);
    }
    appender.send().await;
    let engine = Rc::clone(engine);
    let mut writer = context.reply();
    Outcome::Later(Box::pin(async move {
        let response = Response {
            topics: respond(topics).await,
            throttle_time_ms,
            ..Response::default()
        };
        let mut errors = errors(&response);
        if acks == 0 {
            // The only way to say that something went wrong is to close the connection.
            let first = errors.next();
            return first.map_or(Answer::Nothing, |error| {
                Answer::Close(CloseReason::UnansweredError(error.name()))
            });
        }
        errors.for_each(|error| engine.stats.error(error.name()));
        encode(&response, version, &mut writer);
        Answer::of(writer)
    }))
}

fn policy(request: &Request<'_>, version: i16) -> Policy {
    Policy {
        ack: if request.acks == -1 {
            AckWhen::Durable
        } else {
            AckWhen::Appended
        },
        zstd: version >= FIRST_VERSION_WITH_ZSTD,
        transactional: request.transactional_id.is_some(),
    }
}

async fn add(
    context: &Context<'_>,
    appender: &mut Appender<'_>,
    acks: i16,
    request: TopicRequest<'_>,
) -> Topic {
    let by_id = context.version >= FIRST_VERSION_WITH_TOPIC_ID;
    let found = if by_id {
        let found = context.engine.topic_by_id(request.topic_id);
        found.ok_or(ErrorCode::UnknownTopicId)
    } else {
        let found = context.engine.topic(request.name);
        found.ok_or(ErrorCode::UnknownTopicOrPartition)
    };
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for PartitionRequest { index, records } in request.partitions {
        let appending = match &found {
            Err(code) => Err(*code),
            Ok(_) if !(-1..=1).contains(&acks) => Err(ErrorCode::InvalidRequiredAcks),
            Ok(topic) => Ok(appender
                .add(topic, index, records.unwrap_or_default())
                .await),
        };
        partitions.push(Partition { index, appending });
    }
    Topic {
        name: request.name.to_owned(),
        topic_id: request.topic_id,
        partitions,
    }
}

async fn respond(topics: Vec<Topic>) -> Vec<TopicResponse<'static>> {
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push(respond_partition(partition).await);
        }
        responses.push(TopicResponse {
            name: Cow::Owned(topic.name),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    responses
}

async fn respond_partition(partition: Partition) -> PartitionResponse<'static> {
    let index = partition.index;
    let refused = |error_code| PartitionResponse {
        index,
        error_code,
        ..PartitionResponse::default()
    };
    let appending = match partition.appending {
        Ok(appending) => appending,
        Err(code) => return refused(code),
    };
    match appending.outcome().await {
        Ok(appended) => PartitionResponse {
            index,
            base_offset: appended.base_offset,
            log_append_time_ms: appended.append_time_ms,
            log_start_offset: appended.log_start_offset,
            ..PartitionResponse::default()
        },
        Err(refusal) => PartitionResponse {
            error_message: Some(Cow::Owned(refusal.to_string())),
            record_errors: record_errors(&refusal),
            ..refused((&refusal).into())
        },
    }
}

/// The records that are to blame (KIP-467).
fn record_errors(refusal: &Refusal) -> Vec<RecordError<'static>> {
    let Refusal::WithoutKey(places) = refusal else {
        return Vec::new();
    };
    let error = |place: &i32| RecordError {
        batch_index: *place,
        message: Some(Cow::Borrowed(
            "Compacted topic cannot accept message without key.",
        )),
    };
    places.iter().map(error).collect()
}

fn errors(response: &Response<'_>) -> impl Iterator<Item = ErrorCode> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    codes.filter(|code| code.is_error())
}
