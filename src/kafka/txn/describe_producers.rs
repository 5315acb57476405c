//! DescribeProducers (key 61): the producers that partitions remember (KIP-664).
//!
//! Version 0 only.

use crate::engine::producers::ProducerState;
use crate::engine::{Engine, reports};
use crate::kafka::{Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;
use std::rc::Rc;

message! {
    DescribeProducers 0..=0, flexible 0..;

    Request<'a> {
        topics: Vec<TopicRequest<'a>>,
    }

    TopicRequest<'a> {
        name: &'a str,
        partition_indexes: Vec<i32>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a>>,
    }

    TopicResponse<'a> {
        name: Cow<'a, str>,
        partitions: Vec<PartitionResponse<'a>>,
    }

    PartitionResponse<'a> {
        index: i32,
        error_code: ErrorCode,
        error_message: Option<Cow<'a, str>>,
        active_producers: Vec<Producer>,
    }

    #[derive(Copy)]
    Producer {
        producer_id: i64,
        producer_epoch: i32,
        /// -1 if there is none.
        last_sequence: i32 = -1,
        /// Milliseconds since the epoch; -1 if there is none.
        last_timestamp: i64 = -1,
        coordinator_epoch: i32,
        /// -1 if no transaction is open.
        current_txn_start_offset: i64 = -1,
    }
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
    let producers = reports::producers_of(engine, key).await;
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
