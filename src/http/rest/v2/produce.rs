//! Records in.

use super::topics::key_of;
use crate::engine::EngineError;
use crate::engine::catalog::{Topic, changes};
use crate::engine::partition::AckWhen;
use crate::http::answer::{self, Answer};
use crate::http::problem::Problem;
use crate::http::reading;
use crate::http::request::Asked;
use crate::http::rest::embedded::{Format, base64};
use crate::http::rest::error::{constraint, kind_accepted, refusal};
use crate::http::rest::json;
use crate::http::rest::schemas::kind::Kind;
use crate::http::rest::schemas::{self, Found, Schemas, Subject, Wanted};
use crate::http::sending::{OfAll, Outcome, Sending};
use crate::http::split::Item;
use bytes::Bytes;
use hyper::StatusCode;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use std::rc::Rc;
use std::sync::Arc;

/// Larger bodies are read apart on the worker thread.
const PARSED_HERE_BYTES_MAX: usize = 64 << 10;

/// The body of a request.
#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow, deserialize_with = "json::list")]
    records: Vec<Record<'a>>,
}

/// What a body says of the schemas of its records.
#[derive(Default, Deserialize)]
struct Schemed {
    key_schema: Option<String>,
    key_schema_id: Option<i32>,
    value_schema: Option<String>,
    value_schema_id: Option<i32>,
}

/// How keys and values become bytes.
#[derive(Clone)]
enum Coding {
    /// As their format says.
    Plain(Format),
    /// By schemas, so far as there are some.
    Schemas {
        key: Option<Found>,
        value: Option<Found>,
    },
}

impl Coding {
    fn key(&self, raw: &RawValue) -> Result<Bytes, Problem> {
        match self {
            Coding::Plain(format) => format.bytes_of(raw),
            Coding::Schemas { key: Some(key), .. } => schemas::encoded(key, raw.get()),
            Coding::Schemas { key: None, .. } => Err(refusal("no-key-schema", "no key schema")),
        }
    }

    fn value(&self, raw: &RawValue) -> Result<Bytes, Problem> {
        match self {
            Coding::Plain(format) => format.bytes_of(raw),
            Coding::Schemas {
                value: Some(value), ..
            } => schemas::encoded(value, raw.get()),
            Coding::Schemas { value: None, .. } => {
                Err(refusal("no-value-schema", "no value schema"))
            }
        }
    }

    /// The ids of the schemas of keys and of values.
    fn ids(&self) -> (Option<i32>, Option<i32>) {
        match self {
            Coding::Plain(_) => (None, None),
            Coding::Schemas { key, value } => {
                let id = |found: &Option<Found>| found.as_ref().map(|found| found.id);
                (id(key), id(value))
            }
        }
    }
}

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow, default)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    value: Option<&'a RawValue>,
    partition: Option<i32>,
    /// Milliseconds since 1970 (Strimzi's).
    timestamp: Option<i64>,
    /// Strimzi's.
    #[serde(default, deserialize_with = "json::list")]
    headers: Vec<Header>,
}

/// A header of a record, its value in base64.
#[derive(Deserialize)]
struct Header {
    key: String,
    value: Option<String>,
}

/// `POST /topics/{topic}`: stores records.
pub async fn to_topic(asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let format = format_of(&asked)?;
    let topic = changes::find_or_create_topic(&engine, &asked.params[0]).await?;
    store(asked, topic, format, None).await
}

/// `POST /topics/{topic}/partitions/{partition}`: stores records in one partition.
pub async fn to_partition(asked: Asked) -> Result<Answer, Problem> {
    let format = format_of(&asked)?;
    let topic = reading::topic(&asked.services.engine, &asked.params[0])?;
    let key = key_of(&topic, &asked.params[1])?;
    store(asked, topic, format, Some(key.index as i32)).await
}

type Formatted = (Format, Option<(Kind, Arc<Schemas>)>);

/// The format of a request's records, and what it needs.
fn format_of(asked: &Asked) -> Result<Formatted, Problem> {
    let format = Format::of_body(&asked.headers)?;
    let needed = schemas::needed(format, asked.services.schemas.as_ref())?;
    Ok((format, needed))
}

async fn store(
    asked: Asked,
    topic: Arc<Topic>,
    (format, needed): Formatted,
    partition: Option<i32>,
) -> Result<Answer, Problem> {
    if topic.is_internal() {
        let detail = format!("clients may not write to the internal topic {}", topic.name);
        return Err(refusal("internal-topic", &detail));
    }
    let limit = asked.services.engine.config.frame_bytes_max;
    let read = json::read(asked, limit).await?;
    let (engine, mut memory) = (Rc::clone(&read.services.engine), read.memory);
    let (body, bytes) = (read.body.clone(), read.body.len());
    let (mut items, ids) = match needed {
        Some((kind, schemas)) => {
            let coding = coding(&schemas, kind, &topic.name, &body).await?;
            let ids = coding.ids();
            let items = schemas.run(move || items_of(&body, &coding));
            (items.await??, ids)
        }
        None => {
            let coding = Coding::Plain(format);
            let items = if bytes <= PARSED_HERE_BYTES_MAX {
                items_of(&body, &coding)?
            } else {
                let items = move || items_of(&body, &coding);
                let items = engine.workers.worker.run(items).await;
                items.ok_or(EngineError::Stopping)??
            };
            (items, (None, None))
        }
    };
    for item in &mut items {
        item.partition = partition.or(item.partition);
    }
    memory.grow(2 * bytes + items.len() * ITEM_BYTES).await;
    let mut sending = Sending::new(&engine, topic, AckWhen::Durable, OfAll::default());
    let outcomes = sending.send_all(items).await;
    let body = body_of(&outcomes, ids).await?;
    let mut answer = answer::of(StatusCode::OK, kind_accepted(&read.headers), body);
    answer.body_mut().hold(memory);
    Ok(answer)
}

/// What became of each record: 200 even where some failed, for each tells it.
///
/// # Errors
/// 413 where none is stored, and the first is too large.
async fn body_of(
    outcomes: &[Outcome],
    (key_id, value_id): (Option<i32>, Option<i32>),
) -> Result<Vec<u8>, Problem> {
    let is_all_refused = outcomes.iter().all(Outcome::is_err);
    if let Some(Err(problem)) = outcomes.first()
        && is_all_refused
        && problem.status == StatusCode::PAYLOAD_TOO_LARGE
    {
        return Err(*problem.clone());
    }
    let offsets = outcomes.iter().map(|outcome| match outcome {
        Ok(stored) => json!({
            "partition": stored.partition,
            "offset": stored.offset,
            "error_code": null,
            "error": null,
        }),
        Err(problem) => json!({
            "partition": null,
            "offset": null,
            "error_code": if problem.is_retriable { 50003 } else { 50002 },
            "error": problem.to_string(),
        }),
    });
    let mut body = b"{\"offsets\":".to_vec();
    body.extend(json::array(offsets).await);
    let (key_id, value_id) = (json!(key_id), json!(value_id));
    let ids = format!(",\"key_schema_id\":{key_id},\"value_schema_id\":{value_id}}}");
    body.extend_from_slice(ids.as_bytes());
    Ok(body)
}

/// How the records of a body are encoded whose format needs schemas of this kind.
async fn coding(
    schemas: &Arc<Schemas>,
    kind: Kind,
    topic: &str,
    body: &Bytes,
) -> Result<Coding, Problem> {
    let parsed: Schemed = if body.len() <= PARSED_HERE_BYTES_MAX {
        json::parsed(body)?
    } else {
        let body = body.clone();
        schemas.run(move || json::parsed(&body)).await??
    };
    let find = |id: Option<i32>, text: Option<String>, part: &'static str| {
        let subject = Subject::Named(format!("{topic}-{part}"));
        async move {
            let wanted = match (id, text) {
                (None, None) => return Ok(None),
                (Some(id), None) => Wanted::IdIn(id, subject),
                (None, Some(text)) => Wanted::Text(kind, text.into(), subject),
                (Some(_), Some(_)) => {
                    let detail = format!("{part}_schema and {part}_schema_id exclude each other");
                    return Err(Problem::bad_request(detail));
                }
            };
            let found = schemas.find(wanted).await?;
            found.check_kind(kind)?;
            Ok(Some(found))
        }
    };
    Ok(Coding::Schemas {
        key: find(parsed.key_schema_id, parsed.key_schema, "key").await?,
        value: find(parsed.value_schema_id, parsed.value_schema, "value").await?,
    })
}

/// What a record takes beside its bytes, with its outcome.
const ITEM_BYTES: usize = size_of::<Item>() + size_of::<Outcome>() + 128;

/// The records of a body.
fn items_of(body: &Bytes, coding: &Coding) -> Result<Vec<Item>, Problem> {
    let Body { records } = json::parsed(body)?;
    if records.is_empty() {
        return Err(constraint("records may not be empty"));
    }
    let items = records.into_iter().map(|record| {
        let headers = record.headers.into_iter().map(|header| {
            let value = header.value.as_deref().map(base64).transpose()?;
            Ok((header.key.into(), value))
        });
        Ok(Item {
            key: record.key.map(|raw| coding.key(raw)).transpose()?,
            value: record.value.map(|raw| coding.value(raw)).transpose()?,
            headers: headers.collect::<Result<_, Problem>>()?,
            partition: record.partition,
            timestamp_ms: record.timestamp,
        })
    });
    items.collect()
}
