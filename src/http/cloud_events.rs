//! CloudEvents 1.0 over HTTP, and as the Kafka protocol binding has them in records.

use super::problem::Problem;
use super::split::Item;
use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use serde::Deserialize;
use serde_json::value::RawValue;

const PREFIX: &str = "ce-";
const STRUCTURED: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const ANY: &str = "application/cloudevents";
const VERSION: &str = "1.0";
/// What every event has.
const REQUIRED: [&str; 4] = ["ce-specversion", "ce-id", "ce-source", "ce-type"];
const PARTITION_KEY: &str = "ce-partitionkey";

/// How the events of a request are written.
#[derive(Debug, PartialEq, Eq)]
pub enum Mode {
    /// Attributes in headers, the data as body: what each record of the request gets of it.
    Binary {
        headers: Vec<(Bytes, Bytes)>,
        key: Option<String>,
    },
    /// The body is an event.
    Structured,
    /// The body is an array of events.
    Batch,
}

/// The mode of a request; `None` where it has no events.
///
/// # Errors
/// 415 for a format other than JSON, 400 where an attribute is missing that every event has.
pub fn mode(headers: &HeaderMap) -> Result<Option<Mode>, Problem> {
    let kind = headers.get(CONTENT_TYPE).map(|value| value.as_bytes());
    let kind = String::from_utf8_lossy(kind.unwrap_or_default()).to_ascii_lowercase();
    match kind.split(';').next().unwrap_or_default().trim() {
        STRUCTURED => return Ok(Some(Mode::Structured)),
        BATCH => return Ok(Some(Mode::Batch)),
        other if other.starts_with(ANY) => {
            let detail = format!("{other} is not supported: send {STRUCTURED}");
            let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
            return Err(Problem::new(status, "unsupported-media-type", detail));
        }
        _ => {}
    }
    if !headers.contains_key(REQUIRED[0]) {
        return Ok(None);
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(missing) = REQUIRED
        .iter()
        .find(|name| text(name).is_none_or(str::is_empty))
    {
        return Err(wrong(&format!("the header {missing} is missing")));
    }
    if text(REQUIRED[0]) != Some(VERSION) {
        return Err(wrong("ce-specversion is not 1.0"));
    }
    let mut own = Vec::new();
    for (name, value) in headers {
        if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
            // The HTTP binding encodes what headers cannot hold.
            let value = percent_encoding::percent_decode(value.as_bytes()).collect::<Vec<u8>>();
            own.push((format!("ce_{attribute}").into(), value.into()));
        }
    }
    if let Some(kind) = headers.get(CONTENT_TYPE) {
        let name = Bytes::from_static(b"content-type");
        own.push((name, Bytes::copy_from_slice(kind.as_bytes())));
    }
    let key = headers.get(PARTITION_KEY).map(|key| {
        let key = percent_encoding::percent_decode(key.as_bytes()).decode_utf8();
        key.map(String::from)
            .map_err(|_| wrong("ce-partitionkey is not UTF-8"))
    });
    Ok(Some(Mode::Binary {
        headers: own,
        key: key.transpose()?,
    }))
}

/// The attributes of an event in JSON that mean something here.
#[derive(Deserialize)]
struct Attributes {
    specversion: String,
    id: String,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    partitionkey: Option<String>,
}

/// The record of an event in JSON: the whole event is its value, and its headers have what it is told from others by.
///
/// # Errors
/// 400 for what is no event.
pub fn record(event: &Bytes) -> Result<Item, Problem> {
    let read: Attributes =
        serde_json::from_slice(event).map_err(|error| wrong(&error.to_string()))?;
    if read.specversion != VERSION {
        return Err(wrong("its specversion is not 1.0"));
    }
    let headers = [
        ("content-type", format!("{STRUCTURED}; charset=UTF-8")),
        ("ce_specversion", read.specversion),
        ("ce_id", read.id),
        ("ce_source", read.source),
        ("ce_type", read.kind),
    ];
    if headers.iter().any(|(_, value)| value.is_empty()) {
        return Err(wrong("its id, source or type is empty"));
    }
    let headers = headers.into_iter();
    Ok(Item {
        key: read.partitionkey.map(Bytes::from),
        value: Some(event.clone()),
        headers: headers
            .map(|(name, value)| (name.into(), Some(value.into())))
            .collect(),
        ..Item::default()
    })
}

/// The records of an array of events, or why one of them is none.
///
/// # Errors
/// 400 for what is no array.
pub fn records(body: &Bytes) -> Result<Vec<Result<Item, Problem>>, Problem> {
    let events: Vec<&RawValue> =
        serde_json::from_slice(body).map_err(|error| wrong(&error.to_string()))?;
    let each = events.into_iter();
    Ok(each
        .map(|event| record(&body.slice_ref(event.get().as_bytes())))
        .collect())
}

fn wrong(why: &str) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "no-cloud-event",
        format!("this is no CloudEvent: {why}"),
    )
}
