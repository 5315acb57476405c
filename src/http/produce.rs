//! Records in.

use super::answer::{self, Answer};
use super::problem::Problem;
use super::query;
use super::request::Asked;
use crate::engine::append::{Appender, Policy};
use crate::engine::catalog::{Topic, changes};
use crate::engine::partition::AckWhen;
use crate::io::clock;
use crate::log::batch::Codec;
use crate::log::batch::build::{BatchBuilder, Header, RecordRef};
use crate::net::budget::Share;
use crate::wire::partitioner::{Sticky, partition_for_key};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use serde_json::json;
use std::rc::Rc;

/// Request headers that begin like this become headers of the record.
const RECORD_HEADER: &str = "kafka-header-";
/// Bodies that mean more than one record, or more than their bytes: to store them as they are would be
/// wrong.
const OTHER_KINDS: &[&str] = &[
    "application/x-ndjson",
    "application/cloudevents",
    "application/vnd.",
    "multipart/",
];

/// `POST /t/{topic}`: the body is the value of one record.
///
/// Parameters: `key`, `partition`, `timestamp` (ms, or RFC 3339), `acks` (`all`, the default, or `1`).
pub async fn one(mut asked: Asked) -> Result<Answer, Problem> {
    let engine = Rc::clone(&asked.services.engine);
    let key = asked.query.text("key");
    let partition = asked.query.number("partition")?;
    let form = "milliseconds since 1970, or a time as in 2026-01-31T10:00:00Z";
    let timestamp = asked.query.take("timestamp", form, query::moment)?;
    let acks = asked.query.take("acks", "all or 1", |text| match text {
        "all" | "-1" => Some(AckWhen::Durable),
        "1" => Some(AckWhen::Appended),
        _ => None,
    })?;
    asked.query.end()?;
    check_kind(&asked.headers)?;
    let topic = changes::find_or_create_topic(&engine, &asked.params[0]).await?;
    // Held until the record is on its way.
    let mut memory = engine.memory.share();
    let limit = topic.config.max_message_bytes as usize;
    let value = whole(asked.body, limit, &mut memory).await?;

    let timestamp_ms = timestamp.unwrap_or_else(clock::now_ms);
    let record = RecordRef {
        timestamp_ms,
        key: key.as_deref().map(str::as_bytes),
        value: Some(&value),
    };
    let builder = BatchBuilder {
        base_timestamp: timestamp_ms,
        ..BatchBuilder::default()
    };
    let headers = record_headers(&asked.headers);
    // In memory, and without a codec, nothing fails.
    let batch = builder.encode(Codec::None, &[record], &headers);
    let batch = batch.map_err(|error| Problem::bad_request(error.to_string()))?;
    let index = partition.unwrap_or_else(|| partition_of(&topic, key.as_deref()));
    let policy = Policy {
        ack: acks.unwrap_or(AckWhen::Durable),
        zstd: true,
        transactional: false,
    };
    let mut appender = Appender::new(&engine, policy);
    let appending = appender.add(&topic, index, batch.into()).await;
    appender.send().await;
    let appended = appending.outcome().await?;
    let timestamp_ms = match appended.append_time_ms {
        -1 => timestamp_ms,
        by_the_broker => by_the_broker,
    };
    let body = json!({
        "topic": topic.name,
        "partition": index,
        "offset": appended.base_offset,
        "timestamp": timestamp_ms,
        "duplicate": false,
    });
    Ok(answer::of(
        StatusCode::OK,
        answer::JSON,
        format!("{body}\n"),
    ))
}

/// # Errors
/// 415 for what one record is not.
fn check_kind(headers: &HeaderMap) -> Result<(), Problem> {
    let refuse = |detail| {
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(Problem::new(status, "unsupported-media-type", detail))
    };
    let text = |name| {
        let value = headers.get(name).map(|value| value.as_bytes());
        String::from_utf8_lossy(value.unwrap_or_default()).to_ascii_lowercase()
    };
    let kind = text(CONTENT_TYPE);
    if OTHER_KINDS.iter().any(|other| kind.starts_with(other)) {
        return refuse(format!(
            "{kind} is not supported: send one record, of any other type"
        ));
    }
    let coding = text(CONTENT_ENCODING);
    if !coding.is_empty() && coding != "identity" {
        return refuse(format!(
            "a body with Content-Encoding {coding} is not supported"
        ));
    }
    Ok(())
}

/// Reads a body, and takes memory for it as it comes.
///
/// # Errors
/// 413 for more than `limit` bytes; 400 when the client breaks off.
async fn whole(mut body: Incoming, limit: usize, memory: &mut Share) -> Result<Bytes, Problem> {
    let too_large = || {
        let detail = format!("the body has more than the {limit} bytes of max.message.bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
    };
    if body.size_hint().lower() > limit as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::bad_request("the body broke off"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let bytes = whole.len() + data.len();
        if bytes > limit {
            return Err(too_large());
        }
        // Twice: once here, once in the batch.
        memory.grow(2 * bytes).await;
        if whole.is_empty() && body.is_end_stream() {
            return Ok(data);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

/// `Kafka-Header-<name>: value`, in the order in which they came. HTTP's names have no case: these are small.
fn record_headers(headers: &HeaderMap) -> Vec<Header<'_>> {
    let named = headers.iter().filter_map(|(name, value)| {
        let name = name.as_str().strip_prefix(RECORD_HEADER)?;
        Some((name.as_bytes(), Some(value.as_bytes())))
    });
    named.collect()
}

/// As Kafka's clients choose: by the key, else any.
fn partition_of(topic: &Topic, key: Option<&str>) -> i32 {
    let partitions = topic.partitions as i32;
    match key {
        Some(key) => partition_for_key(key.as_bytes(), partitions),
        None => Sticky::new(partitions).current(),
    }
}
