//! What all consumers do: fetch from where they are, and hold what comes against what is known.

use super::session::Session;
use super::{Context, End};
use crate::clock::Clock;
use crate::ledger::{Ledger, Upkeep};
use crate::model::{Topic, add, lock};
use crate::record::{self, Batch};
use crate::requests::{self, FETCH, NONE, OFFSET_OUT_OF_RANGE, UNKNOWN_TOPIC_OR_PARTITION};
use crate::violation::{Violation, violated};
use crate::wire::Wire;
use bytes::Bytes;
use kafka_protocol::messages::FetchResponse;
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

    pub fn key(&self) -> (String, i32) {
        (self.topic.name.clone(), self.index)
    }

    /// Its key, if somebody has read further: then there is something to fetch. Of a compacted topic
    /// it may be gone.
    fn due(&self) -> Option<(String, i32)> {
        let stays = !matches!(self.topic.upkeep, Upkeep::Compact { .. });
        let is_due = stays && lock(&self.ledger).seen_end() > self.next;
        is_due.then(|| self.key())
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
    session: &mut Session,
    positions: &mut Vec<Position>,
    max_wait_ms: i32,
) -> Result<(), End> {
    let due: Vec<(String, i32)> = positions.iter().filter_map(Position::due).collect();
    let response = wire.call(&session.request(positions, max_wait_ms), FETCH)?;
    session.answered(&response)?;
    check_due(&due, &response)?;
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
                    let new = advance(position, records, cuts, &context.model.clock)
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

/// Where there is something to fetch, the answer has it, or says why not.
fn check_due(due: &[(String, i32)], response: &FetchResponse) -> Result<(), Violation> {
    for (topic, index) in due {
        let of_topic = response
            .responses
            .iter()
            .filter(|of| *of.topic.0 == **topic);
        let mut answers = of_topic.flat_map(|of| &of.partitions);
        let told = answers.any(|data| {
            let records = data.records.as_ref().map_or(0, Bytes::len);
            data.partition_index == *index && (data.error_code != NONE || records > 0)
        });
        if !told {
            violated!(
                Gap,
                "a fetch brings nothing of {topic}-{index}, of which others have read more"
            );
        }
    }
    Ok(())
}

/// Returns how many records no consumer had seen before.
fn advance(
    position: &mut Position,
    records: Bytes,
    cuts: u64,
    clock: &Clock,
) -> Result<u64, Violation> {
    let place = (position.topic.name.as_str(), position.index);
    let batches = record::decode(place, records).or_else(|what| violated!(Changed, "{what}"))?;
    clock.check(&batches)?;
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
