//! DescribeProducers (key 61): the producers that partitions remember (KIP-664).
//!
//! Version 0 only.

use crate::engine::Engine;
use crate::engine::producers::ProducerState;
use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

use super::context::Context;
use super::error::ErrorCode;
use crate::wire::{Reader, WireError, Writer};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<'a> {
    pub topics: Vec<TopicRequest<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRequest<'a> {
    pub name: &'a str,
    pub partition_indexes: Vec<i32>,
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
        partition_indexes: r.array(Reader::i32)?,
    };
    r.skip_tagged_fields()?;
    Ok(topic)
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Response<'a> {
    pub throttle_time_ms: i32,
    pub topics: Vec<TopicResponse<'a>>,
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
    pub error_message: Option<Cow<'a, str>>,
    pub active_producers: Vec<Producer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Producer {
    pub producer_id: i64,
    pub producer_epoch: i32,
    /// -1 if there is none.
    pub last_sequence: i32,
    /// Milliseconds since the epoch; -1 if there is none.
    pub last_timestamp: i64,
    pub coordinator_epoch: i32,
    /// -1 if no transaction is open.
    pub current_txn_start_offset: i64,
}

impl Default for Producer {
    fn default() -> Self {
        Self {
            producer_id: 0,
            producer_epoch: 0,
            last_sequence: -1,
            last_timestamp: -1,
            coordinator_epoch: 0,
            current_txn_start_offset: -1,
        }
    }
}

pub fn encode(response: &Response<'_>, _version: i16, w: &mut Writer) {
    w.i32(response.throttle_time_ms);
    w.array(&response.topics, encode_topic);
    w.no_tagged_fields();
}

fn encode_topic(w: &mut Writer, topic: &TopicResponse<'_>) {
    w.string(&topic.name);
    w.array(&topic.partitions, encode_partition);
    w.no_tagged_fields();
}

fn encode_partition(w: &mut Writer, partition: &PartitionResponse<'_>) {
    w.i32(partition.index);
    w.i16(partition.error_code.code());
    w.nullable_string(partition.error_message.as_deref());
    w.array(&partition.active_producers, encode_producer);
    w.no_tagged_fields();
}

fn encode_producer(w: &mut Writer, producer: &Producer) {
    w.i64(producer.producer_id);
    w.i32(producer.producer_epoch);
    w.i32(producer.last_sequence);
    w.i64(producer.last_timestamp);
    w.i32(producer.coordinator_epoch);
    w.i64(producer.current_txn_start_offset);
    w.no_tagged_fields();
}

/// The most producers in one reply: a partition may remember many, and it is named in a few bytes.
const PRODUCERS_PER_REPLY_MAX: usize = 500_000;

/// Tells which producers each partition remembers. There are no transactions.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut left = PRODUCERS_PER_REPLY_MAX;
    let mut asked = HashSet::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for index in &topic.partition_indexes {
            let producers = match asked.insert((topic.name, *index)) {
                true => producers(context.engine, topic.name, *index, &mut left).await,
                false => Err((ErrorCode::InvalidRequest, Some("named more than once"))),
            };
            partitions.push(respond(*index, producers));
        }
        topics.push(TopicResponse {
            name: Cow::Borrowed(topic.name),
            partitions,
        });
    }
    Response {
        throttle_time_ms: 0,
        topics,
    }
}

type Refusal = (ErrorCode, Option<&'static str>);

async fn producers(
    engine: &Rc<Engine>,
    topic: &str,
    index: i32,
    left: &mut usize,
) -> Result<Vec<ProducerState>, Refusal> {
    let unknown = (ErrorCode::UnknownTopicOrPartition, None);
    let key = engine.key_of(topic, index).ok_or(unknown)?;
    let producers = engine.producers_of(key).await;
    let producers = producers.map_err(|error| (ErrorCode::from(&error), None))?;
    *left = left.checked_sub(producers.len()).ok_or((
        ErrorCode::InvalidRequest,
        Some("too many producers for one reply; ask for fewer partitions"),
    ))?;
    Ok(producers)
}

fn respond<'a>(
    index: i32,
    producers: Result<Vec<ProducerState>, Refusal>,
) -> PartitionResponse<'a> {
    let (producers, error_code, message) = match producers {
        Ok(producers) => (producers, ErrorCode::None, None),
        Err((error_code, message)) => (Vec::new(), error_code, message),
    };
    let producer = |producer: ProducerState| Producer {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_ms,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    };
    PartitionResponse {
        index,
        error_code,
        error_message: message.map(Cow::Borrowed),
        active_producers: producers.into_iter().map(producer).collect(),
    }
}
