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
    let format = Format::of_body(&asked.headers)?;
    let topic = changes::find_or_create_topic(&engine, &asked.params[0]).await?;
    store(asked, topic, format, None).await
}

/// `POST /topics/{topic}/partitions/{partition}`: stores records in one partition.
pub async fn to_partition(asked: Asked) -> Result<Answer, Problem> {
    let format = Format::of_body(&asked.headers)?;
    let topic = reading::topic(&asked.services.engine, &asked.params[0])?;
    let key = key_of(&topic, &asked.params[1])?;
    store(asked, topic, format, Some(key.index as i32)).await
}

async fn store(
    asked: Asked,
    topic: Arc<Topic>,
    format: Format,
    partition: Option<i32>,
) -> Result<Answer, Problem> {
    if topic.is_internal() {
        let detail = format!("clients may not write to the internal topic {}", topic.name);
        return Err(refusal("internal-topic", &detail));
    }
    let limit = asked.services.engine.config.frame_bytes_max;
    let read = json::read(asked, limit).await?;
    let (engine, mut memory) = (Rc::clone(&read.services.engine), read.memory);
    let bytes = read.body.len();
    let mut items = if bytes <= PARSED_HERE_BYTES_MAX {
        items_of(&read.body, format)?
    } else {
        let body = read.body;
        let items = engine.workers.worker.run(move || items_of(&body, format));
        items.await.ok_or(EngineError::Stopping)??
    };
    for item in &mut items {
        item.partition = partition.or(item.partition);
    }
    memory.grow(2 * bytes + items.len() * ITEM_BYTES).await;
    let mut sending = Sending::new(&engine, topic, AckWhen::Durable, OfAll::default());
    let outcomes = sending.send_all(items).await;
    let body = body_of(&outcomes).await?;
    let mut answer = answer::of(StatusCode::OK, kind_accepted(&read.headers), body);
    answer.body_mut().hold(memory);
    Ok(answer)
}

/// What became of each record: 200 even where some failed, for each tells it.
///
/// # Errors
/// 413 where none is stored, and the first is too large.
async fn body_of(outcomes: &[Outcome]) -> Result<Vec<u8>, Problem> {
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
    body.extend_from_slice(b",\"key_schema_id\":null,\"value_schema_id\":null}");
    Ok(body)
}

/// What a record takes beside its bytes, with its outcome.
const ITEM_BYTES: usize = size_of::<Item>() + size_of::<Outcome>() + 128;

/// The records of a body.
fn items_of(body: &Bytes, format: Format) -> Result<Vec<Item>, Problem> {
    let Body { records } = json::parsed(body)?;
    if records.is_empty() {
        return Err(constraint("records may not be empty"));
    }
    let part = |raw: Option<&RawValue>| raw.map(|raw| format.bytes_of(raw)).transpose();
    let items = records.into_iter().map(|record| {
        let headers = record.headers.into_iter().map(|header| {
            let value = header.value.as_deref().map(base64).transpose()?;
            Ok((header.key.into(), value))
        });
        Ok(Item {
            key: part(record.key)?,
            value: part(record.value)?,
            headers: headers.collect::<Result<_, Problem>>()?,
            partition: record.partition,
            timestamp_ms: record.timestamp,
        })
    });
    items.collect()
}
