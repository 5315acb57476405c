//! Records as requests.

use super::book::{Condition, Content, id_of};
use super::http::Request;
use super::sender::At;
use crate::record::now_ms;
use crate::wire::text;
use bytes::{Bytes, BytesMut};
use kafka_protocol::records::{
    Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType,
};
use serde_json::{Map, Value, json};

fn parameters(at: At<'_>, durable: bool) -> String {
    let (topic, partition) = at;
    let acks = if durable { "" } else { "&acks=1" };
    format!("/t/{}?partition={partition}{acks}", topic.name)
}

/// The body is the record.
pub fn single(at: At<'_>, number: u64, content: &Content, durable: bool) -> Request {
    let mut path = parameters(at, durable);
    if let Some(key) = &content.key {
        path += &format!("&key={key}");
    }
    let mut headers = vec![("Kafka-Header-Number", number.to_string())];
    if at.0.rules.window_ms.is_some() {
        headers.push(("Idempotency-Key", id_of(number)));
    }
    match content.condition {
        Condition::None => {}
        Condition::Next(0) | Condition::Newest(-1) if number.is_multiple_of(2) => {
            headers.push(("If-None-Match", "*".to_owned()));
        }
        Condition::Next(next) => headers.push(("If-Match", format!("\"p:{next}\""))),
        Condition::Newest(newest) => headers.push(("If-Match", format!("\"k:{newest}\""))),
    }
    Request {
        method: "POST",
        path,
        headers,
        body: content.value.clone().unwrap_or_default().into_bytes(),
    }
}

/// The headers of a record that say everything themselves.
fn record_headers(at: At<'_>, number: u64, content: &Content) -> Vec<(&'static str, String)> {
    let mut headers = vec![("number", number.to_string())];
    if at.0.rules.window_ms.is_some() {
        headers.push(("idempotency-key", id_of(number)));
    }
    match content.condition {
        Condition::None => {}
        Condition::Next(next) => headers.push(("millstream-expected-offset", next.to_string())),
        Condition::Newest(newest) => {
            headers.push(("millstream-expected-key-offset", newest.to_string()));
        }
    }
    headers
}

/// NDJSON.
pub fn lines(at: At<'_>, records: &[(u64, Content)], durable: bool) -> Request {
    let line = |(number, content): &(u64, Content)| {
        let headers = record_headers(at, *number, content).into_iter();
        let headers: Map<String, Value> = headers
            .map(|(name, value)| (name.to_owned(), value.into()))
            .collect();
        let mut line = json!({ "value": content.value, "headers": headers });
        if let Some(key) = &content.key {
            line["key"] = key.as_str().into();
        }
        format!("{line}\n")
    };
    Request {
        method: "POST",
        path: parameters(at, durable),
        headers: vec![("Content-Type", "application/x-ndjson".to_owned())],
        body: records.iter().map(line).collect::<String>().into_bytes(),
    }
}

/// As a Kafka client sends them; an idempotent producer has an id and a sequence.
pub fn batch(at: At<'_>, records: &[(u64, Content)], producer: Option<(i64, i32)>) -> Bytes {
    let timestamp = now_ms();
    let record = |(delta, (number, content)): (i64, &(u64, Content))| {
        let headers = record_headers(at, *number, content).into_iter();
        let headers = headers.map(|(name, value)| (text(name), Some(Bytes::from(value))));
        Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: producer.map_or(-1, |(id, _)| id),
            producer_epoch: producer.map_or(-1, |_| 0),
            timestamp_type: TimestampType::Creation,
            offset: delta,
            sequence: producer.map_or(-1, |(_, sequence)| sequence) + delta as i32,
            timestamp,
            key: content.key.clone().map(Bytes::from),
            value: content.value.clone().map(Bytes::from),
            headers: headers.collect(),
        }
    };
    let all: Vec<Record> = (0..).zip(records).map(record).collect();
    let compression = match records[0].0 % 3 {
        0 => Compression::Lz4,
        1 => Compression::Zstd,
        _ => Compression::None,
    };
    let options = RecordEncodeOptions {
        version: 2,
        compression,
    };
    let mut batch = BytesMut::new();
    RecordBatchEncoder::encode(&mut batch, &all, &options).expect("records that fit");
    batch.freeze()
}
