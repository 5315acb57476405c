//! What became of the records of a request.

use super::problem::Problem;
use super::read;
use crate::engine::Engine;
use crate::engine::append::Appending;
use crate::engine::catalog::Topic;
use crate::log::key_hash::KeyHash;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::rc::Rc;

/// Where a record went.
pub struct Stored {
    partition: i32,
    offset: i64,
    timestamp_ms: i64,
    /// It was there before, under its message id.
    is_duplicate: bool,
}

impl Stored {
    pub fn to_json(&self, topic: &Topic) -> Value {
        json!({
            "topic": topic.name,
            "partition": self.partition,
            "offset": self.offset,
            "timestamp": self.timestamp_ms,
            "duplicate": self.is_duplicate,
        })
    }
}

/// What became of a record.
pub type Outcome = Result<Stored, Box<Problem>>;

/// The records of one batch on their way.
pub struct OnItsWay {
    pub partition: i32,
    pub records: Vec<Sent>,
    pub appending: Appending,
}

/// What is kept of a record that was sent.
pub struct Sent {
    /// Which it is of the request.
    pub place: usize,
    pub timestamp_ms: i64,
    pub payload: Payload,
}

/// A record's key and value, where its message id may be there already; else nothing.
pub type Payload = Option<(Option<KeyHash>, Option<KeyHash>)>;

pub fn payload(key: Option<&[u8]>, value: Option<&[u8]>) -> Payload {
    Some((key.map(KeyHash::of), value.map(KeyHash::of)))
}

/// Waits for a batch, and notes what became of its records.
pub async fn settle(
    engine: &Rc<Engine>,
    topic: &Topic,
    batch: OnItsWay,
    outcomes: &mut [Option<Outcome>],
) {
    let partition = batch.partition;
    let appended = match batch.appending.outcome().await {
        Ok(appended) => appended,
        Err(refusal) => {
            let problem = Problem::from(refusal);
            for sent in batch.records {
                outcomes[sent.place] = Some(Err(Box::new(problem.clone())));
            }
            return;
        }
    };
    for (at, sent) in batch.records.into_iter().enumerate() {
        let offset = appended.offset_of(at);
        let known = appended.known.as_ref().and_then(|known| known.at(at));
        let outcome = match known {
            Some(_) => duplicate(engine, topic, partition, offset, &sent).await,
            None => Ok(Stored {
                partition,
                offset,
                timestamp_ms: match appended.append_time_ms {
                    -1 => sent.timestamp_ms,
                    append_time_ms => append_time_ms,
                },
                is_duplicate: false,
            }),
        };
        outcomes[sent.place] = Some(outcome);
    }
}

/// The outcome of a record whose message id was there before.
async fn duplicate(
    engine: &Rc<Engine>,
    topic: &Topic,
    partition: i32,
    offset: i64,
    sent: &Sent,
) -> Outcome {
    let first = read::record(engine, topic, partition, offset, None).await;
    // Where it cannot be read (any more) it cannot be another.
    let first = first.ok().flatten();
    if first
        .as_ref()
        .is_some_and(|first| sent.payload != payload(first.key.as_deref(), first.value.as_deref()))
    {
        let detail = format!(
            "the record with this message id at offset {offset} of partition {partition} has another key or value"
        );
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Box::new(Problem::new(status, "other-payload", detail)));
    }
    Ok(Stored {
        partition,
        offset,
        timestamp_ms: first.map_or(sent.timestamp_ms, |first| first.timestamp_ms),
        is_duplicate: true,
    })
}
