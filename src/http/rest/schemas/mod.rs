//! Keys and values that have a schema in a registry: Avro, JSON Schema and Protobuf.
//!
//! There is one [`Schemas`] for all shards, if a registry is configured. It has two threads: one asks the registry, one
//! encodes and decodes. So a registry that hangs, and a schema that takes long, hold up neither a shard nor its disk.
//! `registry` is the client and its cache, `schema` what it finds, which is in one of `avro`, `json_schema` and
//! `protobuf`. On the wire a value is a zero, four bytes of the schema's id, and the payload.

mod avro;
mod bounded;
mod cache;
mod json_schema;
pub mod kind;
mod protobuf;
mod registry;
mod schema;

use super::embedded::{Format, no_registry};
use super::error::refusal;
use crate::config::Config;
use crate::http::problem::Problem;
use crate::http::records::Record;
use crate::io::worker::Worker;
use bytes::Bytes;
use hyper::StatusCode;
use kind::Kind;
use registry::{Failure, Registry};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

pub use registry::{Found, Subject, Wanted};

/// Jobs that may wait for each of the two threads.
const JOBS_MAX: usize = 256;
/// Their stacks: validators and parsers call themselves for what stands in one another.
const STACK_BYTES: usize = 64 << 20;
/// The longest JSON or payload of a kind that is made a tree of.
const TREE_BYTES_MAX: usize = 2 << 20;
/// What is encoded on the shard's own thread, if it can be in one pass.
const ENCODED_HERE_BYTES_MAX: usize = 4 << 10;
/// The most JSON that records of one answer are decoded to.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// A zero and the id.
const HEADER_BYTES: usize = 5;

/// The schemas of a registry, and what encodes and decodes by them.
pub struct Schemas {
    registry: Registry,
    timeout: Duration,
    asking: Thread,
    coding: Thread,
}

/// A thread with a bounded queue.
struct Thread {
    worker: Worker,
    waiting: Arc<AtomicUsize>,
}

/// A job's place in a queue.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Thread {
    fn start(name: &str) -> io::Result<Thread> {
        Ok(Thread {
            worker: Worker::start_deep(name, STACK_BYTES)?,
            waiting: Arc::default(),
        })
    }

    /// Runs a job behind those that wait.
    ///
    /// # Errors
    /// 503 where too many wait, and when the job panicked.
    async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&self.waiting));
        if before >= JOBS_MAX {
            let detail = format!("{JOBS_MAX} requests wait for schemas already: try again");
            return Err(Problem::unavailable("too-many-schemas", detail));
        }
        let job = move || {
            let done = job();
            drop(place);
            done
        };
        let done = self.worker.run(job).await;
        done.ok_or_else(|| Problem::unavailable("schemas-failed", "the thread of schemas failed"))
    }
}

/// Records of which those at the beginning are decoded.
pub struct Decoded {
    pub records: Vec<Record>,
    /// Why the next one is not; none where all are, or where it is enough for an answer.
    pub failure: Option<Undecoded>,
}

/// Why a record is not decoded.
pub enum Undecoded {
    /// It is none of a schema of this kind.
    Record(String),
    /// The registry cannot be asked.
    Registry(Problem),
}

impl Undecoded {
    /// What a read is refused with whose first record this is.
    pub fn problem(self, topic: &str, partition: i32, offset: i64) -> Problem {
        match self {
            Undecoded::Registry(problem) => problem,
            Undecoded::Record(why) => {
                let detail = format!(
                    "the record at offset {offset} of partition {partition} of {topic:?} cannot be decoded: {why}; go on behind it by offset or with positions, or read it as binary"
                );
                refusal("undecodable", &detail)
            }
        }
    }
}

impl Schemas {
    /// Starts the threads, if a registry is configured.
    ///
    /// # Errors
    /// EAGAIN when the system has no thread to give.
    pub fn start(config: &Config) -> io::Result<Option<Arc<Schemas>>> {
        let Some(url) = &config.schema_registry_url else {
            return Ok(None);
        };
        let timeout = Duration::from_millis(config.schema_registry_timeout_ms);
        Ok(Some(Arc::new(Schemas {
            registry: Registry::new(url.clone(), timeout),
            timeout,
            asking: Thread::start("registry")?,
            coding: Thread::start("schemas")?,
        })))
    }

    /// Finds a schema in the registry.
    ///
    /// # Errors
    /// 503 where the registry does not answer in time; 422 where it has no such schema, or where that is none.
    pub async fn find(self: &Arc<Self>, wanted: Wanted) -> Result<Found, Problem> {
        wanted.check().map_err(problem)?;
        if let Some(known) = self.registry.known(&wanted) {
            return known.map_err(problem);
        }
        let until = Instant::now() + self.timeout;
        let schemas = Arc::clone(self);
        let ask = self.asking.run(move || {
            // Nobody waits any more.
            if Instant::now() >= until {
                return Err(Failure::Unavailable(schemas.registry.too_late()));
            }
            schemas.registry.find(&wanted, until)
        });
        match tokio::time::timeout_at(until.into(), ask).await {
            Ok(found) => found?.map_err(problem),
            Err(_) => Err(problem(Failure::Unavailable(self.registry.too_late()))),
        }
    }

    /// Encodes a value that stands as JSON, with its schema's id before it.
    ///
    /// # Errors
    /// As [`encoded`], and 503 where too many wait.
    pub async fn encode(self: &Arc<Self>, found: &Found, json: &str) -> Result<Bytes, Problem> {
        let is_small = json.len() <= ENCODED_HERE_BYTES_MAX;
        if is_small && found.schema.kind() == Kind::Avro {
            return encoded(found, json);
        }
        let (found, json) = (found.clone(), json.to_owned());
        self.run(move || encoded(&found, &json)).await?
    }

    /// Runs what encodes on its thread.
    ///
    /// # Errors
    /// 503 where too many wait.
    pub async fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        self.coding.run(job).await
    }

    /// Decodes records to JSON, one after the other, up to one that is not of this kind of schema or whose schema
    /// cannot be had.
    pub async fn decode(self: &Arc<Self>, kind: Kind, records: Vec<Record>) -> Decoded {
        if records.is_empty() {
            return Decoded {
                records,
                failure: None,
            };
        }
        let parts = records.iter();
        let parts = parts.flat_map(|record| [record.key.as_ref(), record.value.as_ref()]);
        let ids: HashSet<i32> = parts.flatten().filter_map(|part| id_of(part)).collect();
        let until = Instant::now() + self.timeout;
        let mut schemas: HashMap<i32, Result<Found, Problem>> = HashMap::new();
        for id in ids {
            let find = tokio::time::timeout_at(until.into(), self.find(Wanted::Id(id)));
            let late = || Err(problem(Failure::Unavailable(self.registry.too_late())));
            let found = find.await.unwrap_or_else(|_| late());
            schemas.insert(id, found);
        }
        let decoded = self.run(move || decode_all(kind, records, &schemas)).await;
        decoded.unwrap_or_else(|problem| Decoded {
            records: Vec::new(),
            failure: Some(Undecoded::Registry(problem)),
        })
    }
}

/// The kind of schemas that a format needs, and where they are; none where it needs none.
///
/// # Errors
/// 422 where there is no registry.
pub fn needed(
    format: Format,
    schemas: Option<&Arc<Schemas>>,
) -> Result<Option<(Kind, Arc<Schemas>)>, Problem> {
    let Some(kind) = format.schema_kind() else {
        return Ok(None);
    };
    let schemas = schemas.ok_or_else(no_registry)?;
    Ok(Some((kind, Arc::clone(schemas))))
}

impl Found {
    /// # Errors
    /// 422 where it is of another kind.
    pub fn check_kind(&self, kind: Kind) -> Result<(), Problem> {
        let own = self.schema.kind();
        if own == kind {
            return Ok(());
        }
        let (own, kind) = (own.type_name(), kind.type_name());
        let id = self.id;
        let detail = format!("Invalid schema: schema {id} is of the kind {own}, not {kind}");
        Err(refusal("invalid-schema", &detail))
    }
}

/// Encodes a value that stands as JSON, with its schema's id before it.
///
/// # Errors
/// 422 where it does not fit the schema; 413 where it is too long to be compared with it.
pub fn encoded(found: &Found, json: &str) -> Result<Bytes, Problem> {
    check_tree(found.schema.kind(), json.len())?;
    let payload = found.schema.encode(json);
    let payload = payload.map_err(|why| {
        let detail = format!("Conversion of JSON to Object failed: {why}");
        refusal("conversion", &detail)
    })?;
    let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
    out.push(0);
    out.extend(found.id.to_be_bytes());
    out.extend(payload);
    Ok(out.into())
}

fn check_tree(kind: Kind, bytes: usize) -> Result<(), Problem> {
    if kind == Kind::Avro || bytes <= TREE_BYTES_MAX {
        return Ok(());
    }
    let kind = kind.type_name();
    let detail =
        format!("a value with a schema of the kind {kind} has at most {TREE_BYTES_MAX} bytes");
    let status = StatusCode::PAYLOAD_TOO_LARGE;
    Err(Problem::new(status, "too-large", detail))
}

fn decode_all(
    kind: Kind,
    mut records: Vec<Record>,
    schemas: &HashMap<i32, Result<Found, Problem>>,
) -> Decoded {
    let (mut bytes, mut failure, mut count) = (0, None, 0);
    for record in &mut records {
        match decoded_parts(kind, record, schemas) {
            Ok((key, value)) => {
                let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
                bytes += part(&key) + part(&value);
                if bytes > ANSWER_BYTES_MAX && count > 0 {
                    break;
                }
                (record.key, record.value) = (key, value);
                count += 1;
            }
            Err(why) => {
                failure = Some(why);
                break;
            }
        }
    }
    records.truncate(count);
    Decoded { records, failure }
}

type Parts = (Option<Bytes>, Option<Bytes>);

fn decoded_parts(
    kind: Kind,
    record: &Record,
    schemas: &HashMap<i32, Result<Found, Problem>>,
) -> Result<Parts, Undecoded> {
    let part = |name: &str, part: Option<&Bytes>| {
        let decoded = part.map(|part| decoded(kind, part, schemas));
        decoded.transpose().map_err(|why| match why {
            Undecoded::Record(why) => Undecoded::Record(format!("its {name}: {why}")),
            other => other,
        })
    };
    let key = part("key", record.key.as_ref())?;
    Ok((key, part("value", record.value.as_ref())?))
}

fn decoded(
    kind: Kind,
    part: &Bytes,
    schemas: &HashMap<i32, Result<Found, Problem>>,
) -> Result<Bytes, Undecoded> {
    let none = || Undecoded::Record("it does not begin with a schema's id".to_owned());
    let id = id_of(part).ok_or_else(none)?;
    let found = match schemas.get(&id) {
        Some(Ok(found)) => found,
        Some(Err(problem)) if problem.is_retriable => {
            return Err(Undecoded::Registry(problem.clone()));
        }
        Some(Err(problem)) => return Err(Undecoded::Record(problem.to_string())),
        None => return Err(none()),
    };
    if found.schema.kind() != kind {
        let (other, kind) = (found.schema.kind().type_name(), kind.type_name());
        let why = format!("schema {id} is of the kind {other}, not {kind}");
        return Err(Undecoded::Record(why));
    }
    let payload = &part[HEADER_BYTES..];
    check_tree(kind, payload.len()).map_err(|problem| Undecoded::Record(problem.to_string()))?;
    let json = found.schema.decode(payload).map_err(Undecoded::Record)?;
    Ok(json.into())
}

/// The id of the schema that a value begins with.
fn id_of(part: &[u8]) -> Option<i32> {
    let header: [u8; HEADER_BYTES] = part.get(..HEADER_BYTES)?.try_into().ok()?;
    let [0, id @ ..] = header else {
        return None;
    };
    Some(i32::from_be_bytes(id))
}

fn problem(failure: Failure) -> Problem {
    match failure {
        Failure::Unavailable(why) => Problem::unavailable("registry-unavailable", why),
        Failure::Refused(why) => refusal(
            "serialization",
            &format!("Error serializing message. {why}"),
        ),
        Failure::Invalid(why) => refusal("invalid-schema", &format!("Invalid schema: {why}")),
    }
}
