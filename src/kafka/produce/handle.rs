//! Produce: checks batches, puts them into their partitions, answers when they are safe.

use super::keys;
use super::{
    PartitionRequest, PartitionResponse, RecordError, Request, Response, TopicRequest,
    TopicResponse,
};
use crate::config::TimestampType;
use crate::engine::catalog::Topic;
use crate::engine::partition::{AckWhen, Append, Appended};
use crate::engine::{Engine, EngineError, PartitionKey};
use crate::io::clock;
use crate::kafka::context::Context;
use crate::kafka::dispatch::{Answer, CloseReason, Outcome};
use crate::kafka::error::ErrorCode;
use crate::log::batch::{self, BatchHeader, Codec};
use crate::wire::Writer;
use bytes::Bytes;
use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::oneshot;
use uuid::Uuid;

/// zstd may be sent from this version on (KIP-110).
const FIRST_VERSION_WITH_ZSTD: i16 = 7;

type Answered = oneshot::Receiver<Result<Appended, EngineError>>;

/// One partition of the request, on its way.
struct Slot {
    index: i32,
    state: State,
}

/// Why a batch is not appended.
#[derive(Default)]
pub(super) struct Refusal {
    pub code: ErrorCode,
    pub message: Option<String>,
    /// The records that are to blame (KIP-467).
    pub record_errors: Vec<RecordError<'static>>,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: &str) -> Refusal {
        Refusal {
            code,
            message: Some(message.to_owned()),
            ..Refusal::default()
        }
    }
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Refusal {
        Refusal {
            code,
            ..Refusal::default()
        }
    }
}

enum State {
    Refused(Refusal),
    Waiting(Answered),
}

struct TopicSlots {
    name: String,
    topic_id: Uuid,
    partitions: Vec<Slot>,
}

/// Puts the batches into their partitions, in order; the answer comes when they are appended
/// (acks=1) or durable (acks=all).
pub async fn handle(context: &Context<'_>, request: Request<'_>) -> Outcome {
    let acks = request.acks;
    let version = context.version;
    let mut intake = Intake {
        engine: context.engine,
        version,
        acks,
        now_ms: clock::now_ms(),
        transactional: request.transactional_id.is_some(),
        appends: Vec::new(),
    };
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        topics.push(intake.topic(topic).await);
    }
    context.engine.append(intake.appends).await;
    let engine = Rc::clone(context.engine);
    let throttle_time_ms = context.throttle_time_ms;
    let writer = context.reply();
    Outcome::Later(Box::pin(async move {
        match acks {
            0 => finish_unanswered(topics).await,
            _ => finish(&engine, topics, version, throttle_time_ms, writer).await,
        }
    }))
}

/// Takes a request apart: what may be appended goes to `appends`, the rest is refused.
struct Intake<'e> {
    engine: &'e Rc<Engine>,
    version: i16,
    acks: i16,
    now_ms: i64,
    transactional: bool,
    appends: Vec<(PartitionKey, Append)>,
}

impl Intake<'_> {
    async fn topic(&mut self, request: TopicRequest<'_>) -> TopicSlots {
        let by_id = !request.topic_id.is_nil();
        let topic = match by_id {
            true => self.engine.topic_by_id(request.topic_id),
            false => self.engine.topic(request.name),
        };
        let unknown = match by_id {
            true => ErrorCode::UnknownTopicId,
            false => ErrorCode::UnknownTopicOrPartition,
        };
        let mut partitions = Vec::with_capacity(request.partitions.len());
        for partition in request.partitions {
            let index = partition.index;
            let state = match &topic {
                Some(topic) => self.partition(topic, partition).await,
                None => State::Refused(unknown.into()),
            };
            partitions.push(Slot { index, state });
        }
        TopicSlots {
            partitions,
            name: request.name.to_owned(),
            topic_id: request.topic_id,
        }
    }

    async fn partition(&mut self, topic: &Arc<Topic>, request: PartitionRequest) -> State {
        let Some(key) = topic.key_of(request.index) else {
            return State::Refused(ErrorCode::UnknownTopicOrPartition.into());
        };
        let mut checked = self.check(topic, request.records.unwrap_or_default());
        if let Ok((batch, header)) = &checked
            && topic.config.cleanup_policy.compacts()
            && let Err(refusal) = keys::check(self.engine, topic, batch, header).await
        {
            checked = Err(refusal);
        }
        match checked {
            Err(refusal) => State::Refused(refusal),
            Ok((batch, header)) => {
                let (reply, answered) = oneshot::channel();
                let ack = match self.acks {
                    -1 => AckWhen::Durable,
                    _ => AckWhen::Appended,
                };
                let append = Append {
                    batch,
                    header,
                    ack,
                    reply,
                };
                self.appends.push((key, append));
                State::Waiting(answered)
            }
        }
    }

    fn check(&self, topic: &Topic, records: Bytes) -> Result<(Bytes, BatchHeader), Refusal> {
        let refuse = |code, message: &str| Err(Refusal::new(code, message));
        if !(-1..=1).contains(&self.acks) {
            return Err(ErrorCode::InvalidRequiredAcks.into());
        }
        if topic.is_internal() {
            return refuse(
                ErrorCode::InvalidTopicException,
                "clients may not write to internal topics",
            );
        }
        if records.is_empty() {
            return refuse(ErrorCode::InvalidRecord, "there is no record batch");
        }
        let max_bytes = topic.config.max_message_bytes as usize;
        let header = batch::check_produced(&records, max_bytes)
            .map_err(|error| Refusal::new((&error).into(), &error.to_string()))?;
        if header.codec() == Some(Codec::Zstd) && self.version < FIRST_VERSION_WITH_ZSTD {
            return refuse(
                ErrorCode::UnsupportedCompressionType,
                "zstd needs Produce version 7 or higher",
            );
        }
        if self.transactional || header.is_transactional() {
            return refuse(
                ErrorCode::InvalidTxnState,
                "this broker does not support transactions",
            );
        }
        self.check_timestamps(topic, &header)?;
        Ok((records, header))
    }

    /// `message.timestamp.before.max.ms` and `.after.max.ms` (KIP-937), held against the batch's own
    /// first and highest timestamp rather than against each record's.
    fn check_timestamps(&self, topic: &Topic, header: &BatchHeader) -> Result<(), Refusal> {
        let config = &topic.config;
        let wrong = match config.message_timestamp_type {
            TimestampType::LogAppendTime => header
                .is_log_append_time()
                .then_some("the batch claims the broker's own timestamps"),
            TimestampType::CreateTime if header.is_log_append_time() => {
                Some("the batch claims the broker's own timestamps")
            }
            TimestampType::CreateTime => {
                let age = self.now_ms.saturating_sub(header.base_timestamp);
                let lead = header.max_timestamp.saturating_sub(self.now_ms);
                let too_old =
                    header.base_timestamp >= 0 && age > config.message_timestamp_before_max_ms;
                let too_new = lead > config.message_timestamp_after_max_ms;
                (too_old || too_new).then_some(
                    "a timestamp is further from the broker's clock than the topic allows",
                )
            }
        };
        wrong.map_or(Ok(()), |message| {
            Err(Refusal::new(ErrorCode::InvalidTimestamp, message))
        })
    }
}

async fn finish(
    engine: &Engine,
    topics: Vec<TopicSlots>,
    version: i16,
    throttle_time_ms: i32,
    mut writer: Writer,
) -> Answer {
    let mut response = Response {
        topics: Vec::with_capacity(topics.len()),
        throttle_time_ms,
        ..Response::default()
    };
    for topic in topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for slot in topic.partitions {
            let partition = finish_partition(slot).await;
            if partition.error_code.is_error() {
                engine.stats.error(partition.error_code.name());
            }
            partitions.push(partition);
        }
        response.topics.push(TopicResponse {
            name: Cow::Owned(topic.name),
            topic_id: topic.topic_id,
            partitions,
        });
    }
    super::encode(&response, version, &mut writer);
    Answer::of(writer)
}

async fn finish_partition(slot: Slot) -> PartitionResponse<'static> {
    let refused = |code, message: Option<String>| PartitionResponse {
        index: slot.index,
        error_code: code,
        error_message: message.map(Cow::Owned),
        ..PartitionResponse::default()
    };
    match slot.state {
        State::Refused(refusal) => PartitionResponse {
            record_errors: refusal.record_errors,
            ..refused(refusal.code, refusal.message)
        },
        State::Waiting(answered) => match answered.await.unwrap_or(Err(EngineError::Stopping)) {
            Err(error) => refused((&error).into(), Some(error.to_string())),
            Ok(appended) => PartitionResponse {
                index: slot.index,
                base_offset: appended.base_offset,
                log_append_time_ms: appended.append_time_ms,
                log_start_offset: appended.log_start_offset,
                ..PartitionResponse::default()
            },
        },
    }
}

/// Without acknowledgement the only way to say that something went wrong is to close the connection.
async fn finish_unanswered(topics: Vec<TopicSlots>) -> Answer {
    for slot in topics.into_iter().flat_map(|topic| topic.partitions) {
        let code = finish_partition(slot).await.error_code;
        if code.is_error() {
            return Answer::Close(CloseReason::UnansweredError(code.name()));
        }
    }
    Answer::Nothing
}
