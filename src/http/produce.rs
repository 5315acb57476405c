//! Records in.

use super::activity::Activity;
use super::answer::{self, Answer};
use super::body::{self, Whole};
use super::cloud_events::{self, Mode};
use super::coding::Unpacker;
use super::precondition::Precondition;
use super::problem::Problem;
use super::producers;
use super::query;
use super::request::Asked;
use super::sending::{
    GROUP_BYTES, GROUP_RECORDS, GROUPS_AHEAD, MessageId, OfAll, OnItsWay, Outcome, Sending, Stored,
};
use super::split::{Item, Malformed, Split, Splitter};
use crate::engine::EngineError;
use crate::engine::catalog::{Topic, changes};
use crate::engine::indexes::Wanted;
use crate::engine::partition::AckWhen;
use crate::io::reactor::Slice;
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use serde::Serialize;
use std::collections::VecDeque;
use std::mem;
use std::rc::Rc;
use std::sync::Arc;

/// Request headers that begin like this become headers of the record.
const RECORD_HEADER: &str = "kafka-header-";
/// The request header that has the message id of its records.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const MESSAGE_ID_BYTES_MAX: usize = 1 << 10;
/// Bodies that mean more than one record, or more than their bytes: to store them as they are would be
/// wrong.
const OTHER_KINDS: &[&str] = &["application/vnd.", "multipart/"];
/// The most records of a body, and of them the most that cannot be read.
const RECORDS_MAX: usize = 1 << 20;
const MALFORMED_MAX: usize = 1_000;
/// A group is stored when so many bytes of the body were read for it, however little its records have of them: a record
/// is a slice of what came, and holds all of that.
const GROUP_READ_BYTES: usize = 2 * GROUP_BYTES;
/// About what is noted of one of those.
const MALFORMED_BYTES: usize = 512;
/// JSON may write a byte with this many.
const JSON_FACTOR: usize = 6;
/// What the outcome of a record takes in memory.
const OUTCOME_BYTES: usize = size_of::<Outcome>();

/// A request whose body is taken in.
struct Intake {
    sending: Sending,
    headers: HeaderMap,
    activity: Activity,
}

/// `POST /t/{topic}`: the body is the value of one record, or with `split`, or as NDJSON, many.
///
/// Parameters: `key`, `partition`, `timestamp` (ms, or RFC 3339), `acks` (`all`, the default, or `1`), `split` (`lines`
/// or `json`).
pub async fn post(mut asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let mut key = asked.query.text("key");
    let partition = asked.query.number("partition")?;
    let form = "milliseconds since 1970, or a time as in 2026-01-31T10:00:00Z";
    let timestamp_ms = asked.query.take("timestamp", form, query::moment)?;
    let acks = asked.query.take("acks", "all or 1", |text| match text {
        "all" | "-1" => Some(AckWhen::Durable),
        "1" => Some(AckWhen::Appended),
        _ => None,
    })?;
    let split = asked
        .query
        .take("split", "lines or json", |text| match text {
            "lines" => Some(Split::Lines),
            "json" => Some(Split::Json),
            _ => None,
        })?;
    let split = kind_of(&asked.headers, split)?;
    let events = cloud_events::mode(&asked.headers)?;
    if events.is_some() && split.is_some() {
        return Err(Problem::bad_request(
            "CloudEvents are not split: send an array of them",
        ));
    }
    let mut headers = record_headers(&asked.headers);
    let shape = match (events, split) {
        (None, None) => Shape::One,
        (None, Some(split)) => Shape::Many(split),
        (Some(Mode::Structured), _) => Shape::Event,
        (Some(Mode::Batch), _) => Shape::Events,
        (
            Some(Mode::Binary {
                headers: own,
                key: of_event,
            }),
            _,
        ) => {
            headers.extend(own);
            key = key.or(of_event);
            Shape::One
        }
    };
    let message_id = message_id(&asked.headers, shape)?;
    let precondition = Precondition::of(&asked.headers, key.is_some())?;
    if precondition.is_some() && shape.is_many() {
        let detail = "If-Match is about one record, and the body has many: their headers can say what they expect";
        return Err(Problem::bad_request(detail));
    }
    let producer = producers::of(&asked.headers)?;
    if producer.is_some() && shape.is_many() {
        return Err(Problem::bad_request(
            "Sequence is of one record, and the body has many",
        ));
    }
    let topic = changes::find_or_create_topic(&engine, &asked.params[0]).await?;
    if producer.is_some() && key.is_none() && partition.is_none() && topic.partitions > 1 {
        let detail = "a sequence is of one partition: say ?partition= or ?key=";
        return Err(Problem::bad_request(detail));
    }
    if let Some(precondition) = precondition {
        check(precondition, &topic, key.is_some() || partition.is_some())?;
    }
    let of_all = OfAll {
        key,
        partition,
        timestamp_ms,
        headers,
        message_id,
        precondition,
        producer,
    };
    let ack = acks.unwrap_or(AckWhen::Durable);
    let intake = Intake {
        sending: Sending::new(&engine, topic, ack, of_all),
        headers: asked.headers,
        activity: asked.activity,
    };
    match shape {
        Shape::One | Shape::Event => intake.one(asked.body, shape).await,
        Shape::Many(split) => intake.many(asked.body, split).await,
        Shape::Events => intake.events(asked.body).await,
    }
}

/// What a body is.
#[derive(Clone, Copy)]
enum Shape {
    /// The value of a record.
    One,
    Many(Split),
    /// A CloudEvent, with its attributes.
    Event,
    /// An array of those.
    Events,
}

impl Shape {
    fn is_many(self) -> bool {
        matches!(self, Shape::Many(_) | Shape::Events)
    }
}

/// Whether a topic can tell what is asked of it.
///
/// # Errors
/// 400 where it is not said of which partition, 422 where the topic does not know its keys.
fn check(precondition: Precondition, topic: &Topic, is_placed: bool) -> Result<(), Problem> {
    if !is_placed && topic.partitions > 1 {
        let detail = "If-Match is about a partition: say ?partition= or ?key=";
        return Err(Problem::bad_request(detail));
    }
    let knows_keys = Wanted::of(&topic.config).is_some_and(|wanted| wanted.keys);
    if matches!(precondition, Precondition::Key(_)) && !knows_keys {
        let detail = format!(
            "{} does not know its keys: set key.index or conditional.append to true",
            topic.name
        );
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(Problem::new(status, "no-key-index", detail));
    }
    Ok(())
}

/// # Errors
/// 400 for an id that is no text, or too long.
fn message_id(headers: &HeaderMap, shape: Shape) -> Result<Option<MessageId>, Problem> {
    let Some(id) = headers.get(IDEMPOTENCY_KEY) else {
        return Ok(None);
    };
    let id = id.to_str().ok().map(str::trim);
    let id = id.filter(|id| !id.is_empty() && id.len() <= MESSAGE_ID_BYTES_MAX);
    let wrong = || {
        let detail = format!("Idempotency-Key is a text of up to {MESSAGE_ID_BYTES_MAX} bytes");
        Problem::bad_request(detail)
    };
    let id = id.map(str::to_owned).ok_or_else(wrong)?;
    Ok(Some(if shape.is_many() {
        MessageId::Each(id)
    } else {
        MessageId::Whole(id)
    }))
}

/// The headers of a request that each of its records gets. HTTP's names have no case: these are small.
fn record_headers(headers: &HeaderMap) -> Vec<(Bytes, Bytes)> {
    let named = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(RECORD_HEADER)?;
        let value = Bytes::copy_from_slice(value.as_bytes());
        Some((Bytes::copy_from_slice(name.as_bytes()), value))
    });
    named.collect()
}

/// How a body is taken apart.
///
/// # Errors
/// 415 for what is neither one record nor many.
fn kind_of(headers: &HeaderMap, split: Option<Split>) -> Result<Option<Split>, Problem> {
    let refuse = |detail| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(Problem::new(status, "unsupported-media-type", detail))
    };
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).to_ascii_lowercase();
    if OTHER_KINDS.iter().any(|other| kind.starts_with(other)) {
        return refuse(format!("{kind} is not supported"));
    }
    let is_ndjson = kind.split(';').next().map(str::trim) == Some(answer::NDJSON);
    match split {
        None => Ok(is_ndjson.then_some(Split::NdJson)),
        Some(_) if is_ndjson => refuse(format!("{kind} is split already: leave split away")),
        Some(split) => Ok(Some(split)),
    }
}

/// Where a record went, as it is told.
#[derive(Serialize)]
struct Told<'a> {
    topic: &'a str,
    partition: i32,
    offset: i64,
    timestamp: i64,
    duplicate: bool,
}

fn put_json(stored: &Stored, topic: &Topic, into: &mut Vec<u8>) {
    let told = Told {
        topic: &topic.name,
        partition: stored.partition,
        offset: stored.offset,
        timestamp: stored.timestamp_ms,
        duplicate: stored.is_duplicate,
    };
    // To memory, of what has no keys but text, nothing fails.
    let _ = serde_json::to_writer(into, &told);
}

impl Intake {
    async fn one(mut self, body: Incoming, shape: Shape) -> Result<Answer, Problem> {
        // Held until the record is on its way.
        let mut memory = self.sending.engine.memory.share();
        let whole = Whole {
            limit: self.sending.limit(),
            limit_name: "max.message.bytes",
            frame_bytes_min: self.sending.engine.config.frame_bytes_min(),
            activity: &self.activity,
        };
        let body = whole.read(&self.headers, body, &mut memory).await?;
        let item = match shape {
            Shape::Event => self.read_apart(move || cloud_events::record(&body)).await?,
            _ => Item {
                value: Some(body),
                ..Item::default()
            },
        };
        let on_its_way = self.sending.send(vec![(0, item)]).await;
        let mut outcomes = vec![None];
        for batch in on_its_way {
            self.sending.settle(batch, &mut outcomes).await;
        }
        match outcomes.pop().flatten() {
            Some(Ok(stored)) => {
                let mut body = Vec::new();
                put_json(&stored, &self.sending.topic, &mut body);
                body.push(b'\n');
                Ok(answer::of(StatusCode::OK, answer::JSON, body))
            }
            Some(Err(problem)) => Err(*problem),
            None => Err(Problem::bad_request("there is no record")),
        }
    }

    /// Stores an array of CloudEvents.
    async fn events(mut self, body: Incoming) -> Result<Answer, Problem> {
        let mut memory = self.sending.engine.memory.share();
        let config = &self.sending.engine.config;
        let whole = Whole {
            limit: config.frame_bytes_max,
            limit_name: "frame_bytes_max",
            frame_bytes_min: config.frame_bytes_min(),
            activity: &self.activity,
        };
        let body = whole.read(&self.headers, body, &mut memory).await?;
        let events = self
            .read_apart(move || cloud_events::records(&body))
            .await?;
        let (mut items, mut refused) = (Vec::new(), Vec::new());
        for event in events {
            match event {
                Ok(item) => {
                    items.push(item);
                    refused.push(None);
                }
                Err(problem) => refused.push(Some(Err(Box::new(problem)))),
            }
        }
        let mut sent = self.sending.send_all(items).await.into_iter();
        let outcomes = refused
            .into_iter()
            .map(|refused| refused.or_else(|| sent.next()));
        let outcomes = outcomes.collect();
        let mut answer = self.answer(outcomes)?;
        answer.body_mut().hold(memory);
        Ok(answer)
    }

    /// Reads a body apart on the worker thread: it may be large.
    async fn read_apart<T: Send + 'static>(
        &self,
        read: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let read = self.sending.engine.workers.worker.run(read).await;
        read.unwrap_or_else(|| Err(EngineError::Stopping.into()))
    }

    /// Stores the records of a body group by group, while it comes in.
    async fn many(mut self, mut body: Incoming, split: Split) -> Result<Answer, Problem> {
        let mut memory = self.sending.engine.memory.share();
        let limit = self.sending.limit();
        let written = if split == Split::Lines {
            1
        } else {
            JSON_FACTOR
        };
        let mut splitter = Splitter::new(split, limit.saturating_mul(written));
        let mut outcomes: Vec<Option<Outcome>> = Vec::new();
        let mut on_their_way: VecDeque<(usize, Vec<OnItsWay>)> = VecDeque::new();
        let (mut ahead_bytes, mut malformed, mut is_ended) = (0, 0, false);
        let (mut group, mut group_bytes) = (Vec::new(), 0);
        // Of the body, since the group began: what its records may be slices of, and what has no record yet.
        let mut read_bytes = 0;
        let mut slice = Slice::new();
        let mut is_all = false;
        let mut since_touched = 0;
        let mut unpacker = Unpacker::of(&self.headers)?;
        let broken_off = |outcomes: &[Option<Outcome>]| Problem::broken_off(outcomes.len());
        while !is_all {
            let frame = body.frame().await.transpose();
            let frame = frame.map_err(|_| broken_off(&outcomes))?;
            let data = match frame.map(|frame| frame.into_data()) {
                Some(Ok(data)) => data,
                Some(Err(_)) => continue,
                None => {
                    is_all = true;
                    unpacker
                        .end()
                        .map_err(|problem| problem.after(outcomes.len()))?
                }
            };
            // A body may take as long as it comes fast enough.
            since_touched += data.len();
            if since_touched >= self.sending.engine.config.frame_bytes_min() {
                since_touched = 0;
                self.activity.touch();
            }
            let mut packed = data;
            loop {
                let unpacked = if is_all {
                    mem::take(&mut packed)
                } else {
                    let step = unpacker.step(&mut packed);
                    step.map_err(|problem| problem.after(outcomes.len()))?
                };
                if group.is_empty() {
                    read_bytes = splitter.bytes_kept();
                }
                read_bytes += unpacked.len();
                splitter.push(unpacked);
                let is_last = is_all && packed.is_empty();
                while let Some(next) = splitter.next(is_last) {
                    let place = outcomes.len();
                    match next {
                        Ok(item) => {
                            outcomes.push(None);
                            group_bytes += self.sending.bytes_of(&item);
                            group.push((place, item));
                        }
                        Err(Malformed { why, is_end }) => {
                            outcomes.push(Some(Err(Box::new(Problem::malformed(place, &why)))));
                            malformed += 1;
                            is_ended |= is_end;
                        }
                    }
                    if outcomes.len() >= RECORDS_MAX || malformed >= MALFORMED_MAX {
                        let why = format!(
                            "a body has at most {RECORDS_MAX} records, and {MALFORMED_MAX} that cannot be read"
                        );
                        let last = Problem::malformed(outcomes.len(), &why);
                        outcomes.push(Some(Err(Box::new(last))));
                        is_ended = true;
                    }
                    let is_full = group_bytes >= GROUP_BYTES || group.len() >= GROUP_RECORDS;
                    if is_full || (read_bytes >= GROUP_READ_BYTES && !group.is_empty()) {
                        read_bytes = splitter.bytes_kept();
                        let bytes = mem::take(&mut group_bytes);
                        ahead_bytes += bytes;
                        let sent = self.sending.send(mem::take(&mut group)).await;
                        on_their_way.push_back((bytes, sent));
                    }
                    if on_their_way.len() > GROUPS_AHEAD {
                        let (bytes, first) = on_their_way.pop_front().unwrap_or_default();
                        ahead_bytes -= bytes;
                        self.sending.settle_all(first, &mut outcomes).await;
                    }
                    slice.rest().await;
                    if is_ended {
                        break;
                    }
                }
                is_all |= is_ended;
                // Each group is there as it came, as records, where these are no slices of that, and as batches.
                let held = read_bytes + 2 * group_bytes + ahead_bytes;
                let noted = outcomes.len() * OUTCOME_BYTES + malformed * MALFORMED_BYTES;
                memory.grow(unpacker.bytes() + held + noted).await;
                slice.rest().await;
                if packed.is_empty() || is_all {
                    break;
                }
            }
        }
        on_their_way.push_back((0, self.sending.send(group).await));
        for (_, sent) in on_their_way {
            self.sending.settle_all(sent, &mut outcomes).await;
        }
        if is_ended {
            body::discard(body).await;
        }
        let mut answer = self.answer(outcomes)?;
        answer.body_mut().hold(memory);
        Ok(answer)
    }

    /// 200 when all records are stored, 207 when some are, else what is wrong with the first; that nothing happened
    /// it says only if that is true of all.
    fn answer(&self, outcomes: Vec<Option<Outcome>>) -> Result<Answer, Problem> {
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        let stored = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        if stored == 0 {
            let problems = outcomes.into_iter().filter_map(Result::err);
            let first = problems.reduce(|first, other| Box::new(first.beside(&other)));
            let none = || Problem::bad_request("there is no record in the body");
            return Err(first.map_or_else(none, |first| *first));
        }
        let status = if stored == outcomes.len() {
            StatusCode::OK
        } else {
            StatusCode::MULTI_STATUS
        };
        let topic = Arc::clone(&self.sending.topic);
        let pieces = answer::array(outcomes.into_iter(), move |outcome, piece| match outcome {
            Ok(stored) => put_json(&stored, &topic, piece),
            Err(problem) => piece.extend_from_slice(problem.to_json().to_string().as_bytes()),
        });
        Ok(answer::in_pieces(status, answer::JSON, pieces))
    }
}
