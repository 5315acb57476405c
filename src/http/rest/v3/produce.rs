//! Records in: as a stream of JSON objects, and as a batch.

use super::links::Links;
use super::record::{New, Reading, Record, Sizes, refused, told};
use crate::engine::catalog::{Topic, changes};
use crate::engine::partition::AckWhen;
use crate::engine::{Engine, EngineError};
use crate::http::activity::Activity;
use crate::http::answer::{self, Answer};
use crate::http::body;
use crate::http::coding::Unpacker;
use crate::http::problem::Problem;
use crate::http::request::Asked;
use crate::http::rest::error::{self, constraint, refusal};
use crate::http::rest::json;
use crate::http::rest::schemas::Schemas;
use crate::http::sending::{OfAll, Sending};
use crate::http::split::{Malformed, Split, Splitter};
use crate::io::reactor::{self, Slice};
use crate::net::budget::Share;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Records of a stream that are stored together, at most.
const GROUP_RECORDS: usize = 1_000;
const GROUP_BYTES: usize = 512 << 10;
/// Groups whose outcomes wait for the client to take them.
const TOLD_AHEAD: usize = 16;
/// JSON may write a byte with this many.
const JSON_FACTOR: usize = 6;
/// Entries of a batch, and characters of what one is called.
const ENTRIES_MAX: usize = 50;
const ID_CHARS_MAX: usize = 80;

/// The topic that records are for.
async fn topic_for(engine: &Rc<Engine>, name: &str) -> Result<Arc<Topic>, Problem> {
    let topic = changes::find_or_create_topic(engine, name).await?;
    if topic.is_internal() {
        let detail = format!("clients may not write to the internal topic {name}");
        return Err(refusal("internal-topic", &detail));
    }
    Ok(topic)
}

/// `POST /v3/clusters/{cluster}/topics/{topic}/records`: stores records while they come, and tells of each, in their
/// order, in an object of its own.
pub async fn stream(asked: Asked) -> Result<Answer, Problem> {
    let links = Links::check(&asked)?;
    let engine = Rc::clone(&asked.services.engine);
    let topic = topic_for(&engine, &asked.params[1]).await?;
    let sending = Sending::new(&engine, topic, AckWhen::Durable, OfAll::default());
    let limit = sending.limit().saturating_mul(JSON_FACTOR);
    let mut records = Records {
        frame_bytes_min: engine.config.frame_bytes_min(),
        body: asked.body,
        unpacker: Unpacker::of(&asked.headers)?,
        splitter: Splitter::new(Split::Json, limit),
        topic: sending.topic.name.clone(),
        schemas: asked.services.schemas.clone(),
        activity: asked.activity,
        since_touched: 0,
        is_all: false,
        is_over: false,
        memory: engine.memory.share(),
    };
    let first = records.next().await;
    if first.is_empty() {
        let detail = "Payload error. Null input provided. Data is required.";
        return Err(refusal("empty-payload", detail));
    }
    let (sender, pieces) = mpsc::channel(TOLD_AHEAD);
    let streaming = Streaming {
        links,
        sending,
        records,
        sender,
    };
    reactor::spawn(streaming.run(first));
    Ok(answer::streamed(answer::JSON, pieces))
}

/// Records of a body, in groups, as they come.
struct Records {
    body: Incoming,
    unpacker: Unpacker,
    splitter: Splitter,
    topic: String,
    schemas: Option<Arc<Schemas>>,
    activity: Activity,
    frame_bytes_min: usize,
    since_touched: usize,
    /// The body has ended.
    is_all: bool,
    /// Nothing of it is read any more.
    is_over: bool,
    memory: Share,
}

type Group = Vec<Result<New, Problem>>;

impl Records {
    /// The records that are there, once there is one; none at the end.
    async fn next(&mut self) -> Group {
        let mut group = Group::new();
        let mut bytes = 0;
        let mut slice = Slice::new();
        let topic = self.topic.clone();
        let schemas = self.schemas.clone();
        let reading = Reading {
            topic: &topic,
            schemas: schemas.as_ref(),
        };
        while !self.is_over {
            while group.len() < GROUP_RECORDS
                && bytes < GROUP_BYTES
                && let Some(next) = self.splitter.next(self.is_all)
            {
                let record = match next {
                    Ok(item) => {
                        let json = item.value.unwrap_or_default();
                        bytes += json.len();
                        record_of(&json, &reading).await
                    }
                    Err(Malformed { why, is_end }) => {
                        self.is_over |= is_end;
                        Err(Problem::bad_request(why))
                    }
                };
                group.push(record);
                slice.rest().await;
            }
            // Each twice: as it came, and as a batch.
            let held = self.unpacker.bytes() + self.splitter.bytes_kept() + 2 * bytes;
            self.memory.grow(held).await;
            if !group.is_empty() {
                return group;
            }
            if self.is_all {
                self.is_over = true;
            } else if let Err(problem) = self.more().await {
                self.is_over = true;
                group.push(Err(problem));
            }
        }
        group
    }

    /// Takes what comes next of the body.
    async fn more(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.body.frame().await else {
            let rest = self.unpacker.end()?;
            self.splitter.push(rest);
            self.is_all = true;
            return Ok(());
        };
        let frame = frame.map_err(|_| Problem::broken_off(0))?;
        let Ok(data) = frame.into_data() else {
            return Ok(());
        };
        self.since_touched += data.len();
        if self.since_touched >= self.frame_bytes_min {
            self.since_touched = 0;
            self.activity.touch();
        }
        let mut packed = data;
        let mut slice = Slice::new();
        while !packed.is_empty() {
            let step = self.unpacker.step(&mut packed)?;
            self.splitter.push(step);
            let held = self.unpacker.bytes() + self.splitter.bytes_kept();
            self.memory.grow(held).await;
            slice.rest().await;
        }
        Ok(())
    }
}

async fn record_of(json: &[u8], reading: &Reading<'_>) -> Result<New, Problem> {
    json::parsed::<Record<'_>>(json)?.read(reading).await
}

/// A stream of records on its way.
struct Streaming {
    links: Links,
    sending: Sending,
    records: Records,
    sender: mpsc::Sender<answer::Pieces>,
}

impl Streaming {
    /// Ends with the body, or when the client takes no more.
    async fn run(mut self, first: Group) {
        let mut group = first;
        let mut memory = self.sending.engine.memory.share();
        let mut waiting: VecDeque<usize> = VecDeque::new();
        while !group.is_empty() {
            let piece = self.store(group).await;
            waiting.push_back(piece.len());
            if waiting.len() > TOLD_AHEAD {
                waiting.pop_front();
            }
            memory.grow(waiting.iter().sum()).await;
            if self.sender.send(Ok(piece.into())).await.is_err() {
                return;
            }
            if self.sending.engine.is_stopping() {
                return;
            }
            group = self.records.next().await;
        }
        drop(self.sender);
        if !self.records.is_all {
            body::discard(self.records.body).await;
        }
    }

    /// Stores some records, and returns what is told of them.
    async fn store(&mut self, group: Group) -> Vec<u8> {
        let topic = Arc::clone(&self.sending.topic);
        let told = store_all(&mut self.sending, &self.links, &topic.name, group).await;
        let mut piece = Vec::new();
        for told in told {
            let told = told.unwrap_or_else(|problem| {
                let (code, message) = refused(&problem);
                error::body(code, &message)
            });
            piece.extend_from_slice(told.to_string().as_bytes());
            piece.push(b'\n');
        }
        piece
    }
}

/// Stores those records that could be read; what is told of each, in their order.
async fn store_all(
    sending: &mut Sending,
    links: &Links,
    topic: &str,
    group: Group,
) -> Vec<Result<Value, Problem>> {
    let mut items = Vec::with_capacity(group.len());
    let mut read: Vec<Result<Sizes, Problem>> = Vec::with_capacity(group.len());
    for record in group {
        read.push(record.map(|(item, sizes)| {
            items.push(item);
            sizes
        }));
    }
    let mut outcomes = sending.send_all(items).await.into_iter();
    let mut all = Vec::with_capacity(read.len());
    let mut slice = Slice::new();
    for sizes in read {
        all.push(sizes.and_then(|sizes| {
            let outcome = outcomes.next();
            let outcome = outcome.unwrap_or_else(|| Err(Box::new(EngineError::Stopping.into())));
            told(links, topic, &outcome, &sizes)
        }));
        slice.rest().await;
    }
    all
}

/// A batch is read apart at once, on the shard's thread: many records are for `records`, one behind the other.
const BATCH_BYTES_MAX: usize = 1 << 20;

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow, deserialize_with = "json::list")]
    entries: Vec<Record<'a>>,
}

/// `POST /v3/clusters/{cluster}/topics/{topic}/records:batch`: stores some records, and tells which of them are stored.
pub async fn batch(asked: Asked) -> Result<Answer, Problem> {
    let limit = asked.services.engine.config.frame_bytes_max;
    let read = json::read(asked, limit.min(BATCH_BYTES_MAX)).await?;
    let links = Links::check_read(&read)?;
    let engine = &read.services.engine;
    let batch: Batch<'_> = json::parsed(&read.body)?;
    check_ids(&batch.entries)?;
    let topic = topic_for(engine, &read.params[1]).await?;
    let mut ids = Vec::with_capacity(batch.entries.len());
    let mut group = Group::new();
    let mut slice = Slice::new();
    let reading = Reading {
        topic: &topic.name,
        schemas: read.services.schemas.as_ref(),
    };
    for mut entry in batch.entries {
        ids.push(entry.id.take().unwrap_or_default());
        group.push(entry.read(&reading).await);
        slice.rest().await;
    }
    let name = topic.name.clone();
    let mut sending = Sending::new(engine, topic, AckWhen::Durable, OfAll::default());
    let told = store_all(&mut sending, &links, &name, group).await;
    let (mut successes, mut failures) = (Vec::new(), Vec::new());
    for (id, told) in ids.into_iter().zip(told) {
        match told {
            Ok(Value::Object(told)) => {
                let mut entry = serde_json::Map::new();
                entry.insert("id".to_owned(), id.into());
                entry.extend(told.into_iter().filter(|(name, _)| name != "error_code"));
                successes.push(Value::Object(entry));
            }
            Ok(_) => {}
            Err(problem) => {
                let (code, message) = refused(&problem);
                failures.push(json!({ "id": id, "error_code": code, "message": message }));
            }
        }
    }
    let body = json!({ "successes": successes, "failures": failures });
    let mut answer = answer::of(StatusCode::MULTI_STATUS, answer::JSON, body.to_string());
    answer.body_mut().hold(read.memory);
    Ok(answer)
}

/// # Errors
/// 422 where the entries are none, too many, or cannot be told apart.
fn check_ids(entries: &[Record<'_>]) -> Result<(), Problem> {
    let bad = |why: &str| Err(refusal("bad-batch", why));
    if entries.is_empty() {
        return bad("Batch must contain at least one entry.");
    }
    if entries.len() > ENTRIES_MAX {
        return bad(&format!("Batch has more than {ENTRIES_MAX} entries."));
    }
    let mut ids = HashSet::new();
    for entry in entries {
        let Some(id) = &entry.id else {
            return Err(constraint("every entry has an id"));
        };
        if id.is_empty() || id.chars().count() > ID_CHARS_MAX {
            return bad("Batch entry ID must have 1 to 80 characters.");
        }
        if !ids.insert(id) {
            return bad("Batch entry IDs must be distinct.");
        }
    }
    Ok(())
}
