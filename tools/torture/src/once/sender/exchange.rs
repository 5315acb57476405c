//! A request with some records, and what its answer says of each of them.

use super::{At, Bench, STOPPING, Sender, Wrong, book, broken, wrong};
use crate::load::End;
use crate::model::lock;
use crate::once::Topic;
use crate::once::book::{Condition, Content};
use crate::once::form::{batch, lines, single};
use crate::once::http::{Reply, problem_kind};
use crate::requests::{self, PRODUCE};
use crate::rng::mix;
use crate::wire::Wire;
use serde_json::Value;
use std::collections::HashMap;

/// Error codes: KAFKA_STORAGE_ERROR where an index is not there yet, INVALID_RECORD where something has changed.
const NO_INDEX: i16 = 56;
const CHANGED: i16 = 87;

/// How records are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The body is the record.
    Single,
    /// NDJSON.
    Lines,
    Kafka,
}

/// What an answer says of a record.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    Stored {
        offset: i64,
        duplicate: Option<bool>,
    },
    /// What would have been right; Kafka's protocol does not say.
    Changed(Option<i64>),
    NoEffect,
    Doubt,
}

impl Sender {
    /// Sends a request; what its answer says of each record, and whether that was the last one.
    pub(super) fn exchange(
        &mut self,
        bench: &Bench<'_>,
        at: At<'_>,
        records: &[(u64, Content)],
        tries: &[u64],
        form: Form,
        durable: bool,
    ) -> Result<(Vec<Outcome>, Option<End>), End> {
        let reply = match form {
            Form::Single => {
                let (number, content) = &records[0];
                self.http(bench)?
                    .call(&single(at, *number, content, durable))?
            }
            Form::Lines => self.http(bench)?.call(&lines(at, records, durable))?,
            Form::Kafka => return self.produce(bench, at, records, tries, durable),
        };
        let body = reply.json();
        let each: Vec<Value> = match (form, reply.status) {
            (Form::Lines, 200 | 207) => body.as_array().cloned().unwrap_or_default(),
            _ => vec![body; records.len()],
        };
        if each.len() != records.len() {
            let (status, text) = (reply.status, reply.text());
            return broken(
                at,
                format!(
                    "{} records are answered with {status}: {text}",
                    records.len()
                ),
            );
        }
        let mut end = None;
        let outcomes = each
            .iter()
            .map(|one| outcome(bench, at, &reply, one, &mut end));
        let mut outcomes = outcomes.collect::<Result<Vec<Outcome>, End>>()?;
        if !matches!(reply.status, 200 | 207) {
            // Where none is stored the answer is the first one's: of the others it says that alone.
            let others = outcomes.iter_mut().skip(1);
            let changed = others.filter(|outcome| matches!(outcome, Outcome::Changed(_)));
            changed.for_each(|outcome| *outcome = Outcome::NoEffect);
        }
        Ok((outcomes, end))
    }

    fn produce(
        &mut self,
        bench: &Bench<'_>,
        at: At<'_>,
        records: &[(u64, Content)],
        tries: &[u64],
        durable: bool,
    ) -> Result<(Vec<Outcome>, Option<End>), End> {
        let (topic, partition) = at;
        let acks = if durable { -1 } else { 1 };
        if self.kafka.is_none() {
            self.kafka = Some(Wire::connect(bench.broker.kafka)?);
        }
        let wire = self.kafka.as_mut().expect("it was connected");
        let hash = mix(records[0].0.wrapping_add(records.len() as u64));
        // A refusal would leave a gap in its sequences.
        let is_free = records
            .iter()
            .all(|(_, content)| content.condition == Condition::None);
        let is_idempotent = topic.rules.for_ever && is_free && hash.is_multiple_of(2);
        let mut sequence = None;
        if is_idempotent {
            if self.producer.is_none() {
                let id = requests::producer_id(wire)?;
                let id = id.map_err(|error| End::Refused(error, "InitProducerId".to_owned()))?;
                self.producer = Some((id, HashMap::new()));
            }
            let (id, sequences) = self.producer.as_mut().expect("it has one");
            let next = sequences
                .entry((topic.name.clone(), partition))
                .or_insert(0);
            sequence = Some((*id, *next));
            *next += records.len() as i32;
        }
        let request = requests::produce(&topic.name, partition, acks, batch(at, records, sequence));
        let response = wire.call(&request, PRODUCE)?;
        let (error, mut base) = requests::produced(&response);
        if sequence.is_some() && error == requests::NONE && (hash >> 8).is_multiple_of(3) {
            // As if the answer had not come: the same sequence again.
            let (error, again) = requests::produced(&wire.call(&request, PRODUCE)?);
            if error != requests::NONE {
                return Err(End::Refused(error, "the same sequence again".to_owned()));
            }
            if base >= 0 && again != base {
                let what =
                    format!("a batch at {base} is said to be at {again} when it is sent again");
                return wrong(at, Wrong::Changed, what);
            }
            base = again;
        }
        let all = |outcome| vec![outcome; records.len()];
        match error {
            requests::NONE if base >= 0 => {
                let stored = (base..).take(records.len()).map(|offset| Outcome::Stored {
                    offset,
                    duplicate: None,
                });
                Ok((stored.collect(), None))
            }
            requests::NONE => {
                let book = lock(book(at));
                let mut seen = Vec::new();
                let has_old = records.iter().zip(tries).any(|((number, _), one)| {
                    let is_old = seen.contains(number) || book.may_be_stored(*number, *one);
                    seen.push(*number);
                    is_old
                });
                drop(book);
                match has_old {
                    true => Ok((all(Outcome::Doubt), None)),
                    false => broken(
                        at,
                        format!("new records {seen:?} are answered without an offset"),
                    ),
                }
            }
            CHANGED if records[0].1.condition != Condition::None => {
                Ok((all(Outcome::Changed(None)), None))
            }
            NO_INDEX if topic.kind.has_keys() => Ok((all(Outcome::NoEffect), None)),
            error => {
                let what = "a produce request".to_owned();
                Ok((all(Outcome::Doubt), Some(End::Refused(error, what))))
            }
        }
    }
}

/// The form in which these records can be sent to this topic.
pub fn fitting(topic: &Topic, records: &[(u64, Content)], form: Form) -> Form {
    let deletes = records.iter().any(|(_, content)| content.value.is_none());
    let has_condition = records
        .iter()
        .any(|(_, content)| content.condition != Condition::None);
    match form {
        Form::Lines | Form::Kafka if has_condition && !topic.conditional => Form::Single,
        Form::Single if deletes => Form::Lines,
        form => form,
    }
}

/// What one part of an answer says.
fn outcome(
    bench: &Bench<'_>,
    at: At<'_>,
    reply: &Reply,
    one: &Value,
    end: &mut Option<End>,
) -> Result<Outcome, End> {
    if let (200 | 207, Some(offset)) = (reply.status, one["offset"].as_i64()) {
        let duplicate = one["duplicate"].as_bool();
        if duplicate.is_none() || one["partition"].as_i64() != Some(i64::from(at.1)) {
            return broken(at, format!("a record is answered with {one}"));
        }
        return Ok(Outcome::Stored { offset, duplicate });
    }
    let status = one["status"].as_u64().unwrap_or_default();
    let had_no_effects = one["no_side_effects"] == Value::Bool(true);
    match (status, problem_kind(one).as_str()) {
        (412, "changed") if had_no_effects => Ok(Outcome::Changed(one["current"].as_i64())),
        (503, "no-key-index") if had_no_effects && at.0.kind.has_keys() => Ok(Outcome::NoEffect),
        (503, "stopping") if bench.model.is_struck() => {
            *end = Some(End::Refused(STOPPING, "a record".to_owned()));
            Ok(match had_no_effects {
                true => Outcome::NoEffect,
                false => Outcome::Doubt,
            })
        }
        _ => broken(
            at,
            format!("a record is answered with {} {one}", reply.status),
        ),
    }
}
