//! Records as HTTP shows them: out of batches, and into text and JSON.

use super::Services;
use super::marks::Marks;
use crate::engine::{Engine, EngineError};
use crate::log::batch::{BatchHeader, Codec};
use crate::log::records;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use uuid::Uuid;

/// The most bytes that the records of one batch may unpack to.
const UNPACKED_BYTES_MAX: usize = 64 << 20;

/// One record. What it has is a part of its batch's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub offset: i64,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A record, and the partition that it is in.
pub type Found = (i32, Record);

impl Record {
    /// About what it takes in memory, and without its escapes in an answer.
    pub fn bytes(&self) -> usize {
        let part = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers: usize = headers
            .map(|(name, value)| name.len() + part(value) + 64)
            .sum();
        part(&self.key) + part(&self.value) + headers + 128
    }

    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&Bytes> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.and_then(|(_, value)| value.as_ref())
    }

    /// Headers by name. Of those with the same name the last one counts, as for Kafka's clients.
    fn headers_by_name(&self) -> Map<String, Value> {
        let headers = self.headers.iter().map(|(name, value)| {
            let name = String::from_utf8_lossy(name).into_owned();
            (name, text_or_base64(value.as_ref()))
        });
        headers.collect()
    }

    /// Headers one by one, in their order.
    pub fn headers_json(&self) -> Vec<Value> {
        let headers = self.headers.iter().map(|(name, value)| {
            let name = String::from_utf8_lossy(name);
            json!({ "key": name, "value": text_or_base64(value.as_ref()) })
        });
        headers.collect()
    }

    /// Everything that a record has, as JSON.
    pub fn shown(&self, partition: i32) -> Shown<'_> {
        Shown {
            partition,
            offset: self.offset,
            timestamp: self.timestamp_ms,
            key: Part(self.key.as_ref()),
            value: Part(self.value.as_ref()),
            headers: Headers(self),
        }
    }
}

/// A record as JSON.
#[derive(Serialize)]
pub struct Shown<'a> {
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Part<'a>,
    value: Part<'a>,
    headers: Headers<'a>,
}

impl Shown<'_> {
    pub fn put(&self, into: &mut Vec<u8>) {
        // To memory, of what has no keys but text, nothing fails.
        let _ = serde_json::to_writer(into, self);
    }
}

/// Bytes that are text as text, others as `{"base64": …}`: nothing is lost, and nothing is taken for what
/// it is not.
struct Part<'a>(Option<&'a Bytes>);

impl Serialize for Part<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Some(bytes) = self.0 else {
            return serializer.serialize_none();
        };
        match str::from_utf8(bytes) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("base64", BASE64.encode(bytes))]),
        }
    }
}

struct Headers<'a>(&'a Record);

impl Serialize for Headers<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0.headers[..] {
            // A name that is there once needs no map.
            one @ ([] | [_]) => serializer.collect_map(
                one.iter()
                    .map(|(name, value)| (String::from_utf8_lossy(name), Part(value.as_ref()))),
            ),
            _ => self.0.headers_by_name().serialize(serializer),
        }
    }
}

fn text_or_base64(bytes: Option<&Bytes>) -> Value {
    // As with `put`, nothing fails.
    serde_json::to_value(Part(bytes)).unwrap_or_default()
}

/// Takes the first whole batch off `batches`. `None` when there is none.
pub fn next_batch(batches: &mut Bytes) -> Option<(BatchHeader, Bytes)> {
    let header = BatchHeader::parse(batches).ok()?;
    let size = header.size();
    (size <= batches.len()).then(|| (header, batches.split_to(size)))
}

/// The records of a batch, unpacked on the worker thread where they are compressed. None of a control batch.
///
/// # Errors
/// `Corrupt` where they cannot be read.
pub async fn of_batch(
    engine: &Engine,
    header: BatchHeader,
    batch: Bytes,
) -> Result<Vec<Record>, EngineError> {
    let all = Wanted {
        offset: i64::MIN,
        most: usize::MAX,
        marks: None,
    };
    from(engine, header, batch, all).await
}

/// The record of a batch that has this offset, if it is there. Those before it are passed over.
///
/// # Errors
/// As [`of_batch`].
pub async fn of_offset(
    services: &Services,
    of: (Uuid, i32),
    header: BatchHeader,
    batch: Bytes,
    offset: i64,
) -> Result<Option<Record>, EngineError> {
    let one = Wanted {
        offset,
        most: 1,
        marks: Some((&services.marks, of)),
    };
    let mut found = from(&services.engine, header, batch, one).await?;
    Ok(found.pop().filter(|record| record.offset == offset))
}

/// Up to `most` records of a batch, from an offset on.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    offset: i64,
    most: usize,
    /// With the topic's id and the partition.
    marks: Option<(&'a RefCell<Marks>, (Uuid, i32))>,
}

async fn from(
    engine: &Engine,
    header: BatchHeader,
    batch: Bytes,
    wanted: Wanted<'_>,
) -> Result<Vec<Record>, EngineError> {
    if header.is_control() {
        return Ok(Vec::new());
    }
    let corrupt = || EngineError::Corrupt {
        asked: header.base_offset,
    };
    if header.codec() == Some(Codec::None) {
        let own = |part: &[u8]| batch.slice_ref(part);
        return unpacked(&header, &batch, own, wanted).ok_or_else(corrupt);
    }
    let (offset, most) = (wanted.offset, wanted.most);
    let unpack = move || {
        let wanted = Wanted {
            offset,
            most,
            marks: None,
        };
        unpacked(&header, &batch, Bytes::copy_from_slice, wanted)
    };
    let found = engine.workers.worker.run(unpack).await;
    found.flatten().ok_or_else(corrupt)
}

fn unpacked(
    header: &BatchHeader,
    batch: &[u8],
    own: impl Fn(&[u8]) -> Bytes,
    wanted: Wanted<'_>,
) -> Option<Vec<Record>> {
    let records = records::Records::unpack(*header, batch, UNPACKED_BYTES_MAX).ok()?;
    let record = |record: records::Record<'_>| Record {
        offset: record.offset,
        timestamp_ms: record.timestamp,
        key: record.key.map(&own),
        value: record.value.map(&own),
        headers: record
            .headers
            .iter()
            .map(|(name, value)| (own(name), value.map(&own)))
            .collect(),
    };
    let mut records = records.iter();
    match wanted.marks {
        Some((marks, of)) => {
            let mut marks = marks.borrow_mut();
            marks.skip_below(of, header, &mut records, wanted.offset);
        }
        None => records.skip_below(wanted.offset),
    }
    let found = records.take(wanted.most);
    found.map(|found| found.ok().map(record)).collect()
}
