//! What all consumers do: fetch from where they are, and hold what comes against what is known.

use super::{Context, End};
use crate::ledger::{Ledger, Upkeep};
use crate::model::{Topic, add, lock};
use crate::record::{self, Batch};
use crate::requests::{self, FETCH, NONE, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use bytes::Bytes;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

/// How far a partition was read.
pub struct Position {
    pub topic: Arc<Topic>,
    pub index: i32,
    ledger: Arc<Mutex<Ledger>>,
    pub next: i64,
}

impl Position {
    pub fn new(topic: &Arc<Topic>, index: i32, next: i64) -> Option<Position> {
        Some(Position {
            topic: Arc::clone(topic),
            index,
            ledger: topic.ledger(index)?,
            next,
        })
    }

    /// Where it is, for messages.
    fn place(&self) -> String {
        format!(
            "at offset {} of {}-{}",
            self.next, self.topic.name, self.index
        )
    }
}

/// Fetches once from all positions and moves them on; those of topics that are gone are dropped.
pub fn poll(
    context: &Context,
    wire: &mut Wire,
    positions: &mut Vec<Position>,
    max_wait_ms: i32,
) -> Result<(), End> {
    let wanted: Vec<(&str, i32, i64)> = positions
        .iter()
        .map(|position| (position.topic.name.as_str(), position.index, position.next))
        .collect();
    let response = wire.call(&requests::fetch(&wanted, max_wait_ms), FETCH)?;
    let cuts = context.model.cuts();
    let mut gone = Vec::new();
    for topic in response.responses {
        for data in topic.partitions {
            let own = |position: &&mut Position| {
                *position.topic.name == *topic.topic.0 && position.index == data.partition_index
            };
            let Some(position) = positions.iter_mut().find(own) else {
                continue;
            };
            match data.error_code {
                NONE => {
                    let records = data.records.unwrap_or_default();
                    let new = advance(position, records, cuts)
                        .map_err(|violation| violation.at(position.place()))?;
                    add(&context.model.tally.seen, new);
                }
                OFFSET_OUT_OF_RANGE => follow_start(wire, position)?,
                UNKNOWN_TOPIC_OR_PARTITION if position.topic.doomed.load(Ordering::SeqCst) => {
                    gone.push((topic.topic.clone(), data.partition_index));
                }
                error => return Err(refused(position, error)),
            }
        }
    }
    positions.retain(|position| {
        let is_it = |(topic, index): &(kafka_protocol::messages::TopicName, i32)| {
            *position.topic.name == *topic.0 && position.index == *index
        };
        !gone.iter().any(is_it)
    });
    Ok(())
}

/// Returns how many records no consumer had seen before.
fn advance(position: &mut Position, records: Bytes, cuts: u64) -> Result<u64, Violation> {
    let place = (position.topic.name.as_str(), position.index);
    let batches = record::decode(place, records).or_else(|what| violated!(Changed, "{what}"))?;
    check_order(position, &batches)?;
    let new = lock(&position.ledger).seen(&batches, cuts)?;
    if let Some(last) = batches.last() {
        position.next = last.last + 1;
    }
    Ok(new)
}

/// What is fetched begins where it was asked for, and has no gap.
fn check_order(position: &Position, batches: &[Batch]) -> Result<(), Violation> {
    let compacted = matches!(position.topic.upkeep, Upkeep::Compact { .. });
    let mut next = position.next;
    for (number, batch) in batches.iter().enumerate() {
        let (base, last) = (batch.base, batch.last);
        let begins = match number {
            0 => (base <= next || compacted) && last >= next,
            _ => base == next || (compacted && base > next),
        };
        if !begins {
            violated!(Gap, "fetched offsets {base} to {last} where {next} is next");
        }
        next = last + 1;
    }
    Ok(())
}

/// The position is not in the log: only because the log starts later now.
fn follow_start(wire: &mut Wire, position: &mut Position) -> Result<(), End> {
    let found = requests::list_offset(wire, &position.topic.name, position.index, false)?;
    let start = match found {
        Ok(start) => start,
        // The next fetch will say so.
        Err(UNKNOWN_TOPIC_OR_PARTITION) => return Ok(()),
        Err(error) => return Err(refused(position, error)),
    };
    if start > position.next && position.topic.upkeep != Upkeep::Keep {
        position.next = start;
        return Ok(());
    }
    let gone = || {
        violated!(
            Unseen,
            "it was read up to there, and now it is out of range; the log starts at {start}"
        )
    };
    gone().map_err(|violation: Violation| violation.at(position.place()).into())
}

fn refused(position: &Position, error: i16) -> End {
    End::Refused(error, format!("a fetch {}", position.place()))
}
