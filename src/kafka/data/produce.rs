//! Produce (key 0), served from version 3: append record batches to partitions.
//!
//! Versions: 8 adds record errors (KIP-467), 10 the current leader (KIP-951), 13 names topics by id
//! (KIP-516). Others change what may be asked for: 7 allows zstd (KIP-110), 12 transactions v2
//! (KIP-890).

use crate::engine::EngineError;
use crate::engine::append::{Appender, Appending, Policy, Refusal};
use crate::engine::indexes::judge::Changed;
use crate::engine::partition::AckWhen;
use crate::io::reactor::{STEPS_FEW, Slice};
use crate::kafka::answer::{Answer, CloseReason, Handled};
use crate::kafka::{Context, ErrorCode, message};
use crate::wire::{Reader, Wire, WireError, decode_long, encode_long};
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use uuid::Uuid;

message! {
    Produce 3..=13, flexible 9..;

    Request<'a> {
        transactional_id: Option<&'a str>,
        /// Replicas to wait for: -1 all in sync, 1 the leader, 0 none and no reply.
        acks: i16,
        timeout_ms: i32,
        topics: Vec<TopicRequest<'a>>,
    }

    TopicRequest<'a> {
        name: &'a str [3..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionRequest>,
    }

    PartitionRequest {
        index: i32,
        /// The record batch, a slice of the frame.
        records: Option<Bytes>,
    }

    Response<'a> {
        topics: Vec<TopicResponse<'a>>,
        throttle_time_ms: i32,
        /// Where the leaders named in [`PartitionResponse::current_leader`] are.
        node_endpoints: Vec<NodeEndpoint<'a>> [10.., tag 0],
    }

    TopicResponse<'a> {
        name: Cow<'a, str> [3..=12],
        topic_id: Uuid [13..],
        partitions: Vec<PartitionResponse<'a>>,
    }

    PartitionResponse<'a> {
        index: i32,
        error_code: ErrorCode,
        /// Offset of the first record appended; -1 on error.
        base_offset: i64 = -1,
        /// When the broker appended, in milliseconds since the epoch, if the topic's timestamps are
        /// the broker's; else -1.
        log_append_time_ms: i64 = -1,
        /// -1 if unknown.
        log_start_offset: i64 [5..] = -1,
        /// The records that made the batch fail.
        record_errors: Vec<RecordError<'a>> [8..],
        error_message: Option<Cow<'a, str>> [8..],
        /// Said when the error is that we do not lead the partition.
        current_leader: LeaderIdAndEpoch [10.., tag 0],
    }

    /// One record that was refused (KIP-467).
    RecordError<'a> {
        /// Index of the record in its batch.
        batch_index: i32,
        message: Option<Cow<'a, str>>,
    }

    /// A partition's leader, for clients that asked the wrong broker (KIP-951). Also used by Fetch.
    #[derive(Copy)]
    LeaderIdAndEpoch {
        leader_id: i32 = -1,
        leader_epoch: i32 = -1,
    }

    /// Where a broker listens (KIP-951). Also used by Fetch.
    NodeEndpoint<'a> {
        node_id: i32,
        host: Cow<'a, str>,
        port: i32,
        rack: Option<Cow<'a, str>>,
    }
}

/// A request of up to this many bytes, most of them records, is read in one go.
const PLAIN_BYTES: usize = 1 << 20;
const FIRST_VERSION_WITH_ZSTD: i16 = 7;
const FIRST_VERSION_WITH_TOPIC_ID: i16 = 13;

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
///
/// # Errors
/// When the body is malformed.
pub async fn handle(context: &Context<'_>, body: &mut Reader<'_>) -> Result<Handled, WireError> {
    let request = if body.remaining() > PLAIN_BYTES {
        decode_long(body, context.version).await?
    } else {
        Request::decode(body, context.version)?
    };
    let Context {
        engine,
        version,
        throttle_time_ms,
        ..
    } = *context;
    let acks = request.acks;
    let mut appender = Appender::new(engine, policy(&request, version));
    let named = request.topics.iter().map(|topic| topic.partitions.len());
    let named = named.sum();
    let mut slice = Slice::of(named);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(add(context, &mut appender, acks, topic, &mut slice).await);
    }
    appender.send().await;
    let engine = Rc::clone(engine);
    let mut writer = context.reply();
    Ok(Handled::Later(Box::pin(async move {
        let response = Response {
            topics: respond(topics, named).await,
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
        if named > STEPS_FEW {
            encode_long(response, &mut writer, version).await;
        } else {
            response.encode(&mut writer, version);
        }
        Answer::of(writer)
    })))
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
    slice: &mut Slice,
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
        if slice.is_over() {
            slice.rest().await;
        }
    }
    Topic {
        name: request.name.to_owned(),
        topic_id: request.topic_id,
        partitions,
    }
}

async fn respond(topics: Vec<Topic>, named: usize) -> Vec<TopicResponse<'static>> {
    let mut slice = Slice::of(named);
    let mut responses = Vec::with_capacity(topics.len());
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push(respond_partition(partition).await);
            if slice.is_over() {
                slice.rest().await;
            }
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
            base_offset: appended.reply_offset(),
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
    let error = |batch_index: i32, message: Cow<'static, str>| RecordError {
        batch_index,
        message: Some(message),
    };
    match refusal {
        Refusal::WithoutKey(indexes) => {
            let message = Cow::Borrowed("Compacted topic cannot accept message without key.");
            let errors = indexes.iter().map(|index| error(*index, message.clone()));
            errors.collect()
        }
        Refusal::Engine(EngineError::Changed(changed)) => {
            let place = match changed {
                Changed::Offset { .. } => 0,
                Changed::Key { place, .. } => *place as i32,
            };
            vec![error(place, changed.to_string().into())]
        }
        _ => Vec::new(),
    }
}

fn errors(response: &Response<'_>) -> impl Iterator<Item = ErrorCode> {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let codes = partitions.map(|partition| partition.error_code);
    codes.filter(|code| code.is_error())
}
