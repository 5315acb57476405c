//! DescribeProducers (key 61): the producers that partitions remember (KIP-664).

use crate::engine::producers::ProducerState;
use crate::engine::reports;
use crate::kafka::topics::{TopicRequest, TopicResponse, await_each};
use crate::kafka::{ApiError, Context, ErrorCode, message};
use std::borrow::Cow;
use std::collections::HashSet;

message! {
    DescribeProducers 0..=0, flexible 0..;

    Request<'a> {
        topics: Vec<TopicRequest<'a, i32>>,
    }

    Response<'a> {
        throttle_time_ms: i32,
        topics: Vec<TopicResponse<'a, PartitionResponse<'a>>>,
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

/// Answers with the producers that each partition remembers. There are no transactions.
pub async fn handle<'a>(context: &Context<'_>, request: &Request<'a>) -> Response<'a> {
    let mut left = PRODUCERS_PER_REPLY_MAX;
    let named = request.topics.iter().map(|topic| topic.partitions.len());
    let mut asked = HashSet::with_capacity(named.sum());
    let topics = await_each(&request.topics, async |topic, index| {
        let found = if asked.insert((topic, *index)) {
            find(context, topic, *index, &mut left).await
        } else {
            let message = "named more than once";
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        };
        let mut response = PartitionResponse {
            index: *index,
            ..PartitionResponse::default()
        };
        match found {
            Ok(producers) => response.active_producers = producers,
            Err(error) => {
                (response.error_code, response.error_message) = (error.code, error.message);
            }
        }
        response
    });
    Response {
        topics: topics.await,
        ..Response::default()
    }
}

async fn find(
    context: &Context<'_>,
    topic: &str,
    index: i32,
    left: &mut usize,
) -> Result<Vec<Producer>, ApiError> {
    let key = context.key_of(topic, index)?;
    let producers = reports::producers_of(context.engine, key).await?;
    let too_many = || {
        let message = "too many producers for one reply; ask for fewer partitions";
        ApiError::new(ErrorCode::InvalidRequest, message)
    };
    *left = left.checked_sub(producers.len()).ok_or_else(too_many)?;
    let producer = |producer: ProducerState| Producer {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.last_ms,
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    };
    Ok(producers.into_iter().map(producer).collect())
}
