//! Records as HTTP shows them: out of batches, and into text and JSON.

use crate::engine::{Engine, EngineError};
use crate::log::batch::{BatchHeader, Codec};
use crate::log::records;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde_json::{Map, Value, json};

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

    /// Everything that a record has.
    pub fn to_json(&self, partition: i32) -> Value {
        json!({
            "partition": partition,
            "offset": self.offset,
            "timestamp": self.timestamp_ms,
            "key": text_or_base64(self.key.as_ref()),
            "value": text_or_base64(self.value.as_ref()),
            "headers": self.headers_by_name(),
        })
    }
}

/// Bytes that are text as text, others as `{"base64": …}`: nothing is lost, and nothing is taken for what
/// it is not.
fn text_or_base64(bytes: Option<&Bytes>) -> Value {
    let Some(bytes) = bytes else {
        return Value::Null;
    };
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": BASE64.encode(bytes) }),
    }
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
    from(engine, header, batch, i64::MIN, usize::MAX).await
}

/// The record of a batch that has this offset, if it is there. Those before it are passed over.
///
/// # Errors
/// As [`of_batch`].
pub async fn of_offset(
    engine: &Engine,
    header: BatchHeader,
    batch: Bytes,
    offset: i64,
) -> Result<Option<Record>, EngineError> {
    let mut found = from(engine, header, batch, offset, 1).await?;
    Ok(found.pop().filter(|record| record.offset == offset))
}

/// Up to `most` records of a batch, from this offset on.
async fn from(
    engine: &Engine,
    header: BatchHeader,
    batch: Bytes,
    offset: i64,
    most: usize,
) -> Result<Vec<Record>, EngineError> {
    if header.is_control() {
        return Ok(Vec::new());
    }
    let corrupt = || EngineError::Corrupt {
        asked: header.base_offset,
    };
    if header.codec() == Some(Codec::None) {
        let own = |part: &[u8]| batch.slice_ref(part);
        return unpacked(&header, &batch, own, offset, most).ok_or_else(corrupt);
    }
    let unpack = move || unpacked(&header, &batch, Bytes::copy_from_slice, offset, most);
    let found = engine.workers.worker.run(unpack).await;
    found.flatten().ok_or_else(corrupt)
}

fn unpacked(
    header: &BatchHeader,
    batch: &[u8],
    own: impl Fn(&[u8]) -> Bytes,
    offset: i64,
    most: usize,
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
    records.skip_below(offset);
    let wanted = records.take(most);
    wanted.map(|found| found.ok().map(record)).collect()
}
